//! Archives: exported blocks in one file, compressed and encrypted if wanted.
//!
//! ```text
//! file    = [age] [zstd] stream
//! stream  = "IBBLOCKS" version:u32  record…  end
//! record  = block:u64 wal:u64 time:i64 length:u32 data crc:u32
//! end     = count:u64 0:u64 0:i64 u32::MAX crc:u32
//! ```
//!
//! All numbers are little-endian. A record's CRC-32C is over the record, the last one over all records' CRCs; so a file
//! that was cut off at any place, or had a byte changed, is refused. What a file is, its first bytes say.
//!
//! Encryption is [age](https://age-encryption.org/v1): authenticated, and written as a stream. The key file holds an age
//! identity (`AGE-SECRET-KEY-1…`), or a passphrase on its first line.

use age::secrecy::SecretString;
use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
};
use store::atomic_file::directory;

const MAGIC: &[u8; 8] = b"IBBLOCKS";
const VERSION: u32 = 2;
const AGE: &[u8] = b"age-encryption.org/";
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// No block's data is so long: it ends the records.
const END: u32 = u32::MAX;

/// Longer data is no block's.
pub const LONGEST: u32 = 1 << 30;

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
    /// A block can't stand in an archive.
    #[error("block {block}: {problem}")]
    Block {
        /// Its id.
        block: u64,
        /// Why not.
        problem: &'static str,
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

/// One block in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedBlock {
    /// The block.
    pub block: u64,
    /// Its WAL position.
    pub wal: u64,
    /// The time of its mark, in ns since 1970.
    pub time: i64,
    /// Its data.
    pub data: Vec<u8>,
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
    count: u64,
    crc: u32,
}

impl fmt::Debug for ArchiveWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveWriter")
            .field("path", &self.path)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl ArchiveWriter {
    /// Begins an archive. What stands at the path stays there until [`Self::finish`].
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
            count: 0,
            crc: 0,
        };
        writer.write(&[MAGIC, &VERSION.to_le_bytes()])?;
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

    /// Adds a block.
    pub fn add(
        &mut self,
        block: u64,
        wal: u64,
        time: i64,
        data: &[u8],
    ) -> Result<(), ArchiveError> {
        let refuse = |problem| ArchiveError::Block { block, problem };
        let length = u32::try_from(data.len())
            .ok()
            .filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| refuse("its data is longer than 1 GiB"))?;
        let head = head(block, wal, time, length);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), data).to_le_bytes();
        self.crc = crc32c::crc32c_append(self.crc, &crc);
        self.count += 1;
        self.write(&[&head, data, &crc])
    }

    /// Ends the archive, makes it durable and gives it its name. Returns its length.
    pub fn finish(mut self) -> Result<u64, ArchiveError> {
        let (end, crc) = (head(self.count, 0, 0, END), self.crc.to_le_bytes());
        self.write(&[&end, &crc])?;
        let path = self.path;
        let io = |source| ArchiveError::Io {
            path: path.clone(),
            source,
        };
        self.layers.finish().map_err(io)?;
        let bytes = fs::metadata(&self.temporary).map_err(io)?.len();
        self.temporary
            .persist(&path)
            .map_err(|error| io(error.error))?;
        File::open(directory(&path))
            .and_then(|dir| dir.sync_all())
            .map_err(io)?;
        Ok(bytes)
    }
}

fn head(block: u64, wal: u64, time: i64, length: u32) -> [u8; 28] {
    let mut head = [0; 28];
    let numbers = [block.to_le_bytes(), wal.to_le_bytes(), time.to_le_bytes()];
    let (fixed, rest) = head.split_at_mut(24);
    fixed.copy_from_slice(numbers.as_flattened());
    rest.copy_from_slice(&length.to_le_bytes());
    head
}

/// Reads an archive from beginning to end, and calls `each` with every block. An error after some blocks means that
/// the archive can't be relied on: [`verify`] it first where that matters.
pub fn read(
    path: &Path,
    key: Option<&Key>,
    each: &mut dyn FnMut(ArchivedBlock),
) -> Result<u64, ArchiveError> {
    let damaged = |problem: String| ArchiveError::Damaged {
        path: path.into(),
        problem,
    };
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it is cut off".to_owned()),
        // Of the operating system's errors, only those of the device have a number.
        _ if source.raw_os_error().is_some() => ArchiveError::Io {
            path: path.into(),
            source,
        },
        _ => damaged(source.to_string()),
    };
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
    let mut magic = [0; 12];
    input.read_exact(&mut magic).map_err(io)?;
    if magic.get(..8) != Some(MAGIC.as_slice()) {
        return Err(damaged("it is no archive of blocks".to_owned()));
    }
    if magic.get(8..) != Some(VERSION.to_le_bytes().as_slice()) {
        return Err(damaged("its version is not known here".to_owned()));
    }
    let (mut count, mut all) = (0_u64, 0_u32);
    let said = loop {
        let block = u64::from_le_bytes(bytes(&mut input).map_err(io)?);
        let wal = u64::from_le_bytes(bytes(&mut input).map_err(io)?);
        let time = i64::from_le_bytes(bytes(&mut input).map_err(io)?);
        let length = u32::from_le_bytes(bytes(&mut input).map_err(io)?);
        if length == END {
            break (block, wal, time);
        }
        if length > LONGEST {
            return Err(damaged(format!("record {count} has an impossible length")));
        }
        // Grows as data comes, whatever the length says.
        let mut data = Vec::new();
        let read = (&mut input)
            .take(length.into())
            .read_to_end(&mut data)
            .map_err(io)?;
        if read != length as usize {
            return Err(damaged("it is cut off".to_owned()));
        }
        let crc: [u8; 4] = bytes(&mut input).map_err(io)?;
        let head = head(block, wal, time, length);
        if crc32c::crc32c_append(crc32c::crc32c(&head), &data).to_le_bytes() != crc {
            return Err(damaged(format!("record {count} does not fit its checksum")));
        }
        all = crc32c::crc32c_append(all, &crc);
        count += 1;
        each(ArchivedBlock {
            block,
            wal,
            time,
            data,
        });
    };
    let crc = u32::from_le_bytes(bytes(&mut input).map_err(io)?);
    if (said, crc) != ((count, 0, 0), all) {
        return Err(damaged(format!(
            "it holds {count} records, its end says {}",
            said.0
        )));
    }
    let mut beyond = [0];
    if input.read(&mut beyond).map_err(io)? != 0 {
        return Err(damaged("it goes on after its end".to_owned()));
    }
    Ok(count)
}

/// Reads an archive and checks all of it; returns how many blocks it holds.
pub fn verify(path: &Path, key: Option<&Key>) -> Result<u64, ArchiveError> {
    read(path, key, &mut |_| {})
}

fn bytes<const N: usize>(input: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
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
                data: format!("rows of block {n} ")
                    .repeat(n as usize)
                    .into_bytes(),
            })
            .collect()
    }

    fn write(path: &Path, compress: bool, key: Option<&Key>) -> u64 {
        let mut writer = ArchiveWriter::create(path, compress, key).unwrap();
        for b in blocks() {
            writer.add(b.block, b.wal, b.time, &b.data).unwrap();
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
    fn an_archive_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut writer = ArchiveWriter::create(&path, true, None).unwrap();
        writer.add(1, 2, 3, b"x").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
