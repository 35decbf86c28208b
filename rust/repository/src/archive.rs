//! Archives: exported blocks in one file, compressed and encrypted if wanted.
//!
//! ```text
//! file = [age] [zstd] tar of: format.json, a file for each part of a block, manifest.json
//! ```
//!
//! So an archive, unpacked by `age`, `zstd` and `tar`, is a directory as a link is: Avro files of rows and a sealed manifest
//! with a SHA-256 for each. A file that was cut off at any place, or had a byte changed, is refused. What a file is, its
//! first bytes say.
//!
//! | module | holds |
//! |---|---|
//! | `contents` | the manifest |
//! | `pack` | files one after the other, as tar has them |
//! | `sink` | what one block holds, on its way into an archive |
//! | `read` | an archive from its beginning to its end |
//! | `old` | archives of earlier versions |
//! | `names` | what archives are called, and their order |
//!
//! Encryption is [age](https://age-encryption.org/v1): authenticated, and written as a stream. The key file holds an age
//! identity (`AGE-SECRET-KEY-1…`), or a passphrase on its first line.

mod contents;
mod names;
mod old;
mod pack;
mod read;
mod sink;

pub use names::{file_name, in_order, next_number};
pub use sink::BlockSink;

use age::secrecy::SecretString;
use model::sealed;
use rows::block::{BlockRows, NoBlockRows, RowsFile};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
};
use store::{FileEntry, atomic_file::directory, hex};

const AGE: &[u8] = b"age-encryption.org/";
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// No part of a block is longer, whether rows or what a host gave.
pub const LONGEST: u32 = 1 << 30;

/// Entries of blocks take no more bytes in a manifest, so that there is room beside them for files that are not used.
const MOST_ENTRIES_BYTES: u64 = read::LONGEST_MANIFEST / 2;

/// The cost of a guess at a passphrase: 2^15 rounds of scrypt, 32 MiB.
const WORK: u8 = 15;

/// An archive that can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// The key file can't be used.
    #[error("{path}: {problem}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong, and what to do. Never the key.
        problem: String,
    },
    /// The key does not fit.
    #[error("{path}: {problem}; give the key file that it was written with")]
    WrongKey {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The archive is not what was written.
    #[error("{path}: {problem}; take it from another copy, or export again")]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The archive has a format of another version.
    #[error("{path}: {problem}")]
    Format {
        /// The archive.
        path: PathBuf,
        /// Which one, and what to do.
        problem: String,
    },
    /// A block can't stand in an archive.
    #[error("block {block}: {problem}")]
    Block {
        /// Its id.
        block: u64,
        /// Why not.
        problem: String,
    },
}

/// What archives are encrypted with. Never shown.
#[derive(Clone)]
pub struct Key(Secret);

#[derive(Clone)]
enum Secret {
    Identity(age::x25519::Identity),
    Passphrase(SecretString),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a key file, which nobody but its owner may read.
    pub fn load(path: &Path) -> Result<Self, ArchiveError> {
        let problem = |problem: String| ArchiveError::Key {
            path: path.into(),
            problem,
        };
        let metadata = fs::metadata(path).map_err(|error| problem(error.to_string()))?;
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(problem(format!(
                "its mode is {:o}, so others may read the key; chmod 600 it",
                mode & 0o777
            )));
        }
        let mut text = String::new();
        let file = File::open(path).map_err(|error| problem(error.to_string()))?;
        file.take(1 << 16)
            .read_to_string(&mut text)
            .map_err(|_| problem("it is not UTF-8".to_owned()))?;
        let lines = text.lines().map(str::trim_end);
        let identity = lines
            .clone()
            .find(|line| line.starts_with("AGE-SECRET-KEY-"));
        if let Some(identity) = identity {
            return age::x25519::Identity::from_str(identity)
                .map(|identity| Self(Secret::Identity(identity)))
                .map_err(|_| problem("it holds a damaged age identity".to_owned()));
        }
        match lines.clone().next() {
            Some(line) if line.chars().count() >= 8 => Ok(Self(Secret::Passphrase(
                SecretString::from(line.to_owned()),
            ))),
            _ => Err(problem(
                "its first line holds less than 8 characters; write a passphrase there".to_owned(),
            )),
        }
    }
}

/// One block in an archive, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedBlock {
    /// The block.
    pub block: u64,
    /// Its WAL position.
    pub wal: u64,
    /// The time of its mark, in ns since 1970.
    pub time: i64,
    /// Which part it is, from 0 on. Only rows have more than one part, each with a window of its own.
    pub part: usize,
    /// What it holds.
    pub content: Content,
}

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// What a host's reader gave; in archives of earlier versions, rows too, in their binary form.
    Bytes(Vec<u8>),
    /// Rows.
    Rows(RowsFile),
}

impl ArchivedBlock {
    /// Its rows, if it has any.
    pub fn rows(&self) -> Result<BlockRows<'_>, NoBlockRows> {
        match &self.content {
            Content::Bytes(bytes) => BlockRows::decode(bytes),
            Content::Rows(rows) => rows.rows(),
        }
    }
}

/// A writer that has something to write at its end.
trait Layer: Write {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Layer for BufWriter<File> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()?;
        self.get_ref().sync_all()
    }
}

impl Layer for age::stream::StreamWriter<Box<dyn Layer>> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.finish()
    }
}

impl Layer for zstd::Encoder<'static, Box<dyn Layer>> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.finish()
    }
}

fn encrypted(inner: Box<dyn Layer>, key: &Key) -> io::Result<Box<dyn Layer>> {
    let recipient: Box<dyn age::Recipient> = match &key.0 {
        Secret::Identity(identity) => Box::new(identity.to_public()),
        Secret::Passphrase(passphrase) => {
            let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(WORK);
            Box::new(recipient)
        }
    };
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient.as_ref()))
        .map_err(io::Error::other)?;
    Ok(Box::new(encryptor.wrap_output(inner)?))
}

/// Writes an archive: under a temporary name, which becomes its own once everything is on disk.
pub struct ArchiveWriter {
    path: PathBuf,
    temporary: tempfile::TempPath,
    layers: Box<dyn Layer>,
    contents: contents::Contents,
    /// How long the entries of the blocks will be in the manifest, in bytes.
    entries_bytes: u64,
    files: u64,
}

impl fmt::Debug for ArchiveWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveWriter")
            .field("path", &self.path)
            .field("blocks", &self.blocks())
            .finish_non_exhaustive()
    }
}

impl ArchiveWriter {
    /// Begins an archive. There must be nothing at the path when it ends.
    pub fn create(path: &Path, compress: bool, key: Option<&Key>) -> Result<Self, ArchiveError> {
        let io = |source| ArchiveError::Io {
            path: path.into(),
            source,
        };
        let dir = directory(path);
        let file = tempfile::Builder::new()
            .prefix(".archive-")
            .suffix(".tmp")
            .tempfile_in(dir)
            .map_err(io)?;
        let (file, temporary) = file.into_parts();
        let mut layers: Box<dyn Layer> = Box::new(BufWriter::with_capacity(1 << 16, file));
        if let Some(key) = key {
            layers = encrypted(layers, key).map_err(io)?;
        }
        if compress {
            layers = Box::new(zstd::Encoder::new(layers, 3).map_err(io)?);
        }
        let mut writer = Self {
            path: path.into(),
            temporary,
            layers,
            contents: contents::Contents::default(),
            entries_bytes: 0,
            files: 0,
        };
        writer.pack_json(contents::FORMAT_FILE, &contents::Format::ours())?;
        Ok(writer)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), ArchiveError> {
        for part in parts {
            self.layers
                .write_all(part)
                .map_err(|source| ArchiveError::Io {
                    path: self.path.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    /// Adds a file.
    fn pack(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let length = bytes.len() as u64;
        let header = pack::header(name, length).ok_or_else(|| ArchiveError::Io {
            path: self.path.clone(),
            source: io::Error::other(format!("{name} has {length} bytes: that is too much")),
        })?;
        self.write(&[&header, bytes, pack::padding(length)])
    }

    fn pack_json<T: serde::Serialize>(
        &mut self,
        name: &str,
        value: &T,
    ) -> Result<(), ArchiveError> {
        let bytes = sealed::seal(value).map_err(|error| ArchiveError::Io {
            path: self.path.clone(),
            source: error.into(),
        })?;
        self.pack(name, &bytes)
    }

    fn next_name(&mut self, ending: &str) -> String {
        self.files += 1;
        format!("{:08}.{ending}", self.files)
    }

    /// Adds a file of bytes.
    fn data(&mut self, bytes: &[u8]) -> Result<FileEntry, ArchiveError> {
        let path = self.next_name("data");
        self.pack(&path, bytes)?;
        Ok(FileEntry {
            path,
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(bytes)),
            rows: 0,
        })
    }

    /// Names a block in the manifest, if there is room for it.
    fn add_entry(&mut self, entry: contents::BlockEntry) -> Result<(), ArchiveError> {
        let json = serde_json::to_vec(&entry).map_err(|error| ArchiveError::Io {
            path: self.path.clone(),
            source: error.into(),
        })?;
        let bytes = self.entries_bytes + json.len() as u64;
        if bytes > MOST_ENTRIES_BYTES {
            let files: Vec<_> = entry.files().cloned().collect();
            self.contents.unused.extend(files);
            return Err(ArchiveError::Block {
                block: entry.block,
                problem: format!(
                    "the archive is full: with the {} blocks before, what it says of them takes more than {} MiB; \
                     export again, and with a smaller batch_size",
                    self.blocks(),
                    MOST_ENTRIES_BYTES >> 20
                ),
            });
        }
        self.entries_bytes = bytes;
        self.contents.blocks.push(entry);
        Ok(())
    }

    /// Adds a block of bytes.
    pub fn add(
        &mut self,
        block: u64,
        wal: u64,
        time: i64,
        data: &[u8],
    ) -> Result<(), ArchiveError> {
        let mut sink = BlockSink::new(self, block, wal, time);
        // What it refuses, its failure says.
        let _ = sink.bytes(data);
        match sink.failure() {
            Some(error) => Err(error),
            None => sink.finish(),
        }
    }

    /// How many blocks there are in it.
    pub fn blocks(&self) -> usize {
        self.contents.blocks.len()
    }

    /// Ends the archive, makes it durable and gives it its name. Returns its length.
    pub fn finish(mut self) -> Result<u64, ArchiveError> {
        let contents = std::mem::take(&mut self.contents);
        self.pack_json(contents::MANIFEST_FILE, &contents)?;
        self.write(&[&pack::END])?;
        let path = self.path;
        let io = |source| ArchiveError::Io {
            path: path.clone(),
            source,
        };
        self.layers.finish().map_err(io)?;
        let bytes = fs::metadata(&self.temporary).map_err(io)?.len();
        self.temporary
            .persist_noclobber(&path)
            .map_err(|error| io(error.error))?;
        File::open(directory(&path))
            .and_then(|dir| dir.sync_all())
            .map_err(io)?;
        Ok(bytes)
    }
}

/// Checks all of an archive, then calls `each` with every block, a block of several parts part by part. An error after
/// some blocks means that the file was changed meanwhile. Returns how many blocks there are.
pub fn read(
    path: &Path,
    key: Option<&Key>,
    each: &mut dyn FnMut(ArchivedBlock),
) -> Result<u64, ArchiveError> {
    let io = |source| read_error(path, source);
    match checked(path, key)? {
        Checked::Old(_) => {
            let mut stream = Stream::open(path, key)?;
            old::each(&mut stream.input, each).map_err(io)
        }
        Checked::Contents(contents) => {
            let mut stream = Stream::open(path, key)?;
            read::each(&mut stream.input, &contents, each).map_err(io)?;
            Ok(contents.blocks.len() as u64)
        }
    }
}

/// Reads an archive and checks all of it; returns how many blocks it holds.
pub fn verify(path: &Path, key: Option<&Key>) -> Result<u64, ArchiveError> {
    Ok(match checked(path, key)? {
        Checked::Old(count) => count,
        Checked::Contents(contents) => contents.blocks.len() as u64,
    })
}

/// What an archive holds, all of which is as it was written.
enum Checked {
    /// So many blocks, in the form of earlier versions.
    Old(u64),
    Contents(contents::Contents),
}

fn checked(path: &Path, key: Option<&Key>) -> Result<Checked, ArchiveError> {
    let mut stream = Stream::open(path, key)?;
    let checked = match stream.is_old {
        true => old::each(&mut stream.input, &mut |_| {}).map(Checked::Old),
        false => read::check(&mut stream.input).map(Checked::Contents),
    };
    checked.map_err(|source| read_error(path, source))
}

/// An archive's content, decrypted and decompressed.
struct Stream {
    input: Box<dyn Read>,
    is_old: bool,
}

impl Stream {
    fn open(path: &Path, key: Option<&Key>) -> Result<Self, ArchiveError> {
        let io = |source| read_error(path, source);
        let file = File::open(path).map_err(|source| ArchiveError::Io {
            path: path.into(),
            source,
        })?;
        let mut input: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 16, file));
        let (begin, rest) = peek(input, AGE.len()).map_err(io)?;
        input = rest;
        if begin == AGE {
            input = decrypted(path, input, key)?;
        }
        let (begin, rest) = peek(input, ZSTD.len()).map_err(io)?;
        input = rest;
        if begin == ZSTD {
            input = Box::new(zstd::Decoder::new(input).map_err(io)?);
        }
        let (begin, input) = peek(input, old::MAGIC.len()).map_err(io)?;
        Ok(Self {
            input,
            is_old: begin == old::MAGIC,
        })
    }
}

fn read_error(path: &Path, source: io::Error) -> ArchiveError {
    let problem = match source.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        io::ErrorKind::Unsupported => {
            return ArchiveError::Format {
                path: path.into(),
                problem: source.to_string(),
            };
        }
        // Of the operating system's errors, only those of the device have a number.
        _ if source.raw_os_error().is_some() => {
            return ArchiveError::Io {
                path: path.into(),
                source,
            };
        }
        _ => source.to_string(),
    };
    ArchiveError::Damaged {
        path: path.into(),
        problem,
    }
}

/// The first bytes, fewer if there are no more, and everything from the beginning.
fn peek(mut input: Box<dyn Read>, count: usize) -> io::Result<(Vec<u8>, Box<dyn Read>)> {
    let mut begin = Vec::new();
    (&mut input).take(count as u64).read_to_end(&mut begin)?;
    let again = io::Cursor::new(begin.clone()).chain(input);
    Ok((begin, Box::new(again)))
}

fn decrypted(
    path: &Path,
    input: Box<dyn Read>,
    key: Option<&Key>,
) -> Result<Box<dyn Read>, ArchiveError> {
    let wrong = |problem: String| ArchiveError::WrongKey {
        path: path.into(),
        problem,
    };
    let Some(key) = key else {
        return Err(wrong("it is encrypted, and no key was given".to_owned()));
    };
    let identity: Box<dyn age::Identity> = match &key.0 {
        Secret::Identity(identity) => Box::new(identity.clone()),
        Secret::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(passphrase.clone());
            // A header that asks for more was not written here: it would only cost time.
            identity.set_max_work_factor(WORK);
            Box::new(identity)
        }
    };
    let damaged = |problem: String| ArchiveError::Damaged {
        path: path.into(),
        problem,
    };
    let decryptor =
        age::Decryptor::new(input).map_err(|error| damaged(format!("its header: {error}")))?;
    match decryptor.decrypt(std::iter::once(identity.as_ref())) {
        Ok(reader) => Ok(Box::new(reader)),
        Err(age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed) => {
            Err(wrong("the key does not fit it".to_owned()))
        }
        Err(error) => Err(damaged(format!("its header: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dir: &Path, name: &str, text: &str) -> Key {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Key::load(&path).unwrap()
    }

    fn keys(dir: &Path) -> [Option<Key>; 3] {
        use age::secrecy::ExposeSecret as _;
        let identity = age::x25519::Identity::generate().to_string();
        [
            None,
            Some(key(dir, "passphrase", "correct horse battery\n")),
            Some(key(
                dir,
                "identity",
                &format!("# a key\n{}\n", identity.expose_secret()),
            )),
        ]
    }

    fn blocks() -> Vec<ArchivedBlock> {
        (0..50_u64)
            .map(|n| ArchivedBlock {
                // Any id is a block's, the largest too.
                block: if n == 49 { u64::MAX } else { n << 32 | 7 },
                wal: n * 3,
                time: -(n as i64),
                part: 0,
                content: Content::Bytes(
                    format!("rows of block {n} ")
                        .repeat(n as usize)
                        .into_bytes(),
                ),
            })
            .collect()
    }

    fn write(path: &Path, compress: bool, key: Option<&Key>) -> u64 {
        let _ = fs::remove_file(path);
        let mut writer = ArchiveWriter::create(path, compress, key).unwrap();
        for b in blocks() {
            let Content::Bytes(data) = &b.content else {
                panic!("{b:?}");
            };
            writer.add(b.block, b.wal, b.time, data).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_compressed_or_not_encrypted_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for key in keys(dir.path()) {
            for compress in [false, true] {
                let bytes = write(&path, compress, key.as_ref());
                assert_eq!(bytes, fs::metadata(&path).unwrap().len());
                let mut found = Vec::new();
                let count = read(&path, key.as_ref(), &mut |block| found.push(block)).unwrap();
                assert_eq!((count, found), (50, blocks()));
                let file = fs::read(&path).unwrap();
                let plain = file.windows(7).any(|window| window == b"rows of");
                assert_eq!(
                    plain,
                    !compress && key.is_none(),
                    "encrypted is not readable"
                );
            }
        }
    }

    #[test]
    fn a_flipped_byte_or_a_cut_is_never_taken_for_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        // A passphrase costs time at each try.
        for key in [&keys(dir.path())[0], &keys(dir.path())[2]] {
            for compress in [false, true] {
                write(&path, compress, key.as_ref());
                let good = fs::read(&path).unwrap();
                let step = good.len() / 40 + 1;
                for at in (0..good.len()).step_by(step) {
                    let mut bad = good.clone();
                    bad[at] ^= 0x20;
                    fs::write(&path, &bad).unwrap();
                    if verify(&path, key.as_ref()).is_ok() {
                        // Only zstd's own header has bits that mean nothing; then every block is still right.
                        let mut found = Vec::new();
                        read(&path, key.as_ref(), &mut |block| found.push(block)).unwrap();
                        assert!(compress && found == blocks(), "byte {at}");
                    }
                    fs::write(&path, &good[..at]).unwrap();
                    assert!(verify(&path, key.as_ref()).is_err(), "cut at {at}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_key_is_told_from_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let [_, passphrase, identity] = keys(dir.path());
        let other = key(dir.path(), "other", "another passphrase");
        write(&path, true, passphrase.as_ref());
        for wrong in [None, Some(&other), identity.as_ref()] {
            let error = verify(&path, wrong).unwrap_err();
            assert!(matches!(error, ArchiveError::WrongKey { .. }), "{error}");
            assert!(!error.to_string().contains("passphrase"), "{error}");
        }
        assert_eq!(verify(&path, passphrase.as_ref()).unwrap(), 50);
        assert!(!format!("{passphrase:?}").contains("horse"));
    }

    #[test]
    fn a_key_file_that_others_may_read_or_that_holds_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let set = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Key::load(&path).unwrap_err().to_string()
        };
        assert!(set("correct horse battery", 0o644).contains("chmod 600"));
        assert!(set("short", 0o600).contains("8 characters"));
        assert!(set("", 0o600).contains("8 characters"));
        assert!(set("AGE-SECRET-KEY-1QQQ", 0o600).contains("damaged age identity"));
        assert!(
            Key::load(&dir.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("none")
        );
    }

    #[test]
    fn nothing_that_stands_at_the_path_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "another one").unwrap();
        let writer = ArchiveWriter::create(&path, true, None).unwrap();
        assert!(matches!(writer.finish(), Err(ArchiveError::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"another one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn archives_of_earlier_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let records: Vec<_> = blocks()
            .into_iter()
            .map(|b| match b.content {
                Content::Bytes(data) => (b.block, b.wal, b.time, data),
                Content::Rows(_) => panic!("there are none"),
            })
            .collect();
        let good = old::write(&records);
        for compress in [false, true] {
            let good = match compress {
                true => zstd::encode_all(good.as_slice(), 3).unwrap(),
                false => good.clone(),
            };
            fs::write(&path, &good).unwrap();
            let mut found = Vec::new();
            let count = read(&path, None, &mut |block| found.push(block)).unwrap();
            assert_eq!((count, found), (50, blocks()));
        }
        for at in (0..good.len()).step_by(97) {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            assert!(verify(&path, None).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(verify(&path, None).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_archive_of_a_newer_format_is_not_called_damaged_before_its_format_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let json = sealed::seal(&serde_json::json!({
            "archive": "blocks", "format": 4, "what nobody knows yet": true
        }));
        let json = json.unwrap();
        let length = json.len() as u64;
        let header = pack::header(contents::FORMAT_FILE, length).unwrap();
        fs::write(
            &path,
            [&header, json.as_slice(), pack::padding(length)].concat(),
        )
        .unwrap();
        let error = verify(&path, None).unwrap_err();
        assert!(matches!(error, ArchiveError::Format { .. }), "{error}");
        assert!(error.to_string().contains("format is 4"), "{error}");
        assert!(!error.to_string().contains("another copy"), "{error}");
    }

    #[test]
    fn a_column_of_an_unknown_type_is_found_before_any_block_is_handed_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let rows = |block: u64, columns: serde_json::Value| {
            serde_json::json!({
                "block": block, "wal": 1, "time": 1,
                "content": {"rows": {
                    "database": "d", "table": "t", "first": 0, "last": 9, "columns": columns, "parts": []
                }}
            })
        };
        let manifest = serde_json::json!({"blocks": [
            rows(1, serde_json::json!([{"name": "ts", "type": 9}])),
            rows(2, serde_json::json!([{"name": "ts", "type": 99}])),
        ]});
        let file = |name: &str, json: Vec<u8>| {
            let length = json.len() as u64;
            let header = pack::header(name, length).unwrap();
            [&header, json.as_slice(), pack::padding(length)].concat()
        };
        let format = file(
            contents::FORMAT_FILE,
            sealed::seal(&contents::Format::ours()).unwrap(),
        );
        let manifest = file(contents::MANIFEST_FILE, sealed::seal(&manifest).unwrap());
        fs::write(&path, [&format, &manifest, pack::END.as_slice()].concat()).unwrap();
        let mut given = 0;
        let error = read(&path, None, &mut |_| given += 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown type 99"), "{error}");
        assert_eq!(given, 0);
    }

    #[test]
    fn a_file_that_is_missing_or_exchanged_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, false, None);
        let good = fs::read(&path).unwrap();
        // A file of one of the last blocks, with what stands before and behind it.
        let name = b"00000040.data";
        let at = good.windows(name.len()).position(|w| w == name).unwrap();
        let next = at
            + good[at..]
                .windows(13)
                .position(|w| w == b"00000041.data")
                .unwrap();
        fs::write(&path, [&good[..at], &good[next..]].concat()).unwrap();
        let error = verify(&path, None).unwrap_err().to_string();
        assert!(error.contains("00000040.data is not in it"), "{error}");
        fs::write(&path, [&good[..next], &good[at..]].concat()).unwrap();
        let error = verify(&path, None).unwrap_err().to_string();
        assert!(error.contains("00000040.data is not the file"), "{error}");
    }

    #[test]
    fn an_archive_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut writer = ArchiveWriter::create(&path, true, None).unwrap();
        writer.add(1, 2, 3, b"x").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
