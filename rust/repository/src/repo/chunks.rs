//! The form of objects: a header, then chunks, each of which is authenticated or has a checksum, so that any part can be read
//! alone.
//!
//! ```text
//! offset  bytes  holds
//!      0      8  "tdbackup"
//!      8      1  1, the format
//!      9      1  0 if it is not encrypted, 1 if it is
//!     10      2  0
//!     12      4  65536, the length of a chunk (little-endian)
//!     16     32  random bytes
//!     48         chunks: 65536 bytes each, the last one shorter or as long, each followed by its tag of 16 bytes
//! ```
//!
//! Encrypted, a chunk is that of ChaCha20-Poly1305 (RFC 8439) with the header as associated data, under a key of the object's
//! own: HKDF-SHA256 of the repository's key, with the random bytes as salt and "tdbackup object 1 NAME" as info. The nonce is
//! three zeros, the chunk's number (8 bytes, big-endian), and 1 for the last chunk, else 0: so chunks that were cut off,
//! exchanged or reordered are refused, and so is an object under another name.
//!
//! Not encrypted, the tag is the first half of the SHA-256 of NAME, a zero, the header, the same nonce and the chunk.

use super::RepoError;
use chacha20poly1305::{
    AeadInPlace as _, ChaCha20Poly1305, Key, KeyInit as _, Nonce, Tag, aead::generic_array,
};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{self, Write},
    ops::Range,
};
use store::{Store, StoreError, Upload};

const MAGIC: &[u8; 8] = b"tdbackup";
const FORMAT: u8 = 1;
const HEADER: usize = 48;
const TAG: usize = 16;

/// What a chunk holds.
pub(crate) const CHUNK: usize = 1 << 16;

/// The key of a repository, if it is encrypted.
#[derive(Clone)]
pub(crate) struct Cipher(pub(crate) Option<[u8; 32]>);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({})", if self.0.is_some() { "…" } else { "none" })
    }
}

/// What turns chunks of one object into what is stored, and back.
struct Sealer {
    name: String,
    header: [u8; HEADER],
    cipher: Option<ChaCha20Poly1305>,
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], RepoError> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(RepoError::Key(format!(
            "the system gives no random bytes: {error}"
        ))),
    }
}

impl Cipher {
    /// Bytes that follow from the key and this text, and from which the key does not follow.
    pub(crate) fn derive<const N: usize>(&self, salt: &[u8], info: &str) -> [u8; N] {
        let mut bytes = [0; N];
        // Only the length could be wrong, and HKDF gives up to 8160 bytes.
        let _ = Hkdf::<Sha256>::new(Some(salt), self.0.as_ref().map_or(&[], |key| key))
            .expand(info.as_bytes(), &mut bytes);
        bytes
    }

    fn sealer(&self, name: &str, header: [u8; HEADER]) -> Sealer {
        let salt = header.get(16..).unwrap_or_default();
        let key: [u8; 32] = self.derive(salt, &format!("tdbackup object 1 {name}"));
        Sealer {
            name: name.to_owned(),
            cipher: self.0.map(|_| ChaCha20Poly1305::new(Key::from_slice(&key))),
            header,
        }
    }

    fn new_object(&self, name: &str) -> Result<Sealer, RepoError> {
        let mut header = [0; HEADER];
        let mut rest = header.as_mut_slice();
        let parts: [&[u8]; 4] = [
            MAGIC,
            &[FORMAT, self.0.is_some().into(), 0, 0],
            &(CHUNK as u32).to_le_bytes(),
            &random::<32>()?,
        ];
        for part in parts {
            // It is as long as its parts.
            let _ = rest.write_all(part);
        }
        Ok(self.sealer(name, header))
    }

    /// An object whole.
    pub(crate) fn seal(&self, name: &str, content: &[u8]) -> Result<Vec<u8>, RepoError> {
        let sealer = self.new_object(name)?;
        let mut sealed = sealer.header.to_vec();
        let chunks: Vec<&[u8]> = match content.is_empty() {
            true => vec![content],
            false => content.chunks(CHUNK).collect(),
        };
        for (number, chunk) in chunks.iter().enumerate() {
            let is_last = number + 1 == chunks.len();
            sealed.extend(sealer.seal(number as u64, is_last, chunk.to_vec())?);
        }
        Ok(sealed)
    }

    /// Begins an object that is written piece by piece.
    pub(crate) fn writer(&self, store: &dyn Store, name: &str) -> Result<ChunkWriter, RepoError> {
        let sealer = self.new_object(name)?;
        let mut upload = store.upload(name)?;
        let written = upload.write_all(&sealer.header);
        written.map_err(StoreError::io(store.place(name)))?;
        Ok(ChunkWriter {
            upload,
            sealer,
            place: store.place(name),
            buffer: Vec::with_capacity(CHUNK),
            number: 0,
        })
    }

    /// Reads an object whole, which may hold so many bytes at most.
    pub(crate) fn get(
        &self,
        store: &dyn Store,
        name: &str,
        most: u64,
    ) -> Result<Vec<u8>, RepoError> {
        let reader = self.reader(store, name)?;
        match reader.length <= most {
            true => reader.read(store, 0..reader.length),
            false => Err(damaged(
                store,
                name,
                format!("it holds {} bytes, at most {most} are known", reader.length),
            )),
        }
    }

    /// Opens an object, of which nothing but its beginning is read yet.
    pub(crate) fn reader(&self, store: &dyn Store, name: &str) -> Result<ChunkReader, RepoError> {
        let stored = store.length(name)?;
        let wrong = |problem: &str| Err(damaged(store, name, problem.to_owned()));
        let tagged = (CHUNK + TAG) as u64;
        let Some(body) = stored
            .checked_sub(HEADER as u64)
            .filter(|body| *body >= TAG as u64)
        else {
            return wrong("it is cut off");
        };
        let chunks = body.div_ceil(tagged);
        // The last chunk has a tag, too.
        let Some(length) = body
            .checked_sub(chunks * TAG as u64)
            .filter(|length| *length > (chunks - 1) * CHUNK as u64 || chunks == 1)
        else {
            return wrong("it is cut off");
        };
        let bytes = store.get_range(name, 0..HEADER as u64)?;
        let Ok(header) = <[u8; HEADER]>::try_from(bytes.as_slice()) else {
            return wrong("it is cut off");
        };
        let Some(rest) = header.strip_prefix(MAGIC) else {
            return wrong("it is no object of a repository");
        };
        let known = [FORMAT, self.0.is_some().into(), 0, 0];
        match rest.first() {
            Some(&format) if format > FORMAT => {
                return Err(model::sealed::NewerFormat {
                    place: store.place(name),
                    found: format.into(),
                    known: FORMAT.into(),
                }
                .into());
            }
            _ => {}
        }
        match (rest.strip_prefix(&known), self.0.is_some()) {
            (Some(rest), _) if rest.starts_with(&(CHUNK as u32).to_le_bytes()) => {}
            (None, true) if rest.get(1) == Some(&0) => {
                return wrong("it is not encrypted, and everything in this repository is");
            }
            _ => return wrong("its header is none that is known"),
        }
        Ok(ChunkReader {
            sealer: self.sealer(name, header),
            chunks,
            length,
        })
    }
}

fn damaged(store: &dyn Store, name: &str, problem: String) -> RepoError {
    RepoError::Damaged {
        place: store.place(name),
        problem,
    }
}

impl Sealer {
    fn nonce(number: u64, is_last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        let mut rest = nonce.get_mut(3..).unwrap_or_default();
        let _ = rest.write_all(&number.to_be_bytes());
        let _ = rest.write_all(&[is_last.into()]);
        nonce
    }

    fn checksum(&self, nonce: [u8; 12], chunk: &[u8]) -> [u8; TAG] {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update([0]);
        hash.update(self.header);
        hash.update(nonce);
        hash.update(chunk);
        let whole: [u8; 32] = hash.finalize().into();
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }

    /// A chunk with its tag.
    fn seal(&self, number: u64, is_last: bool, mut chunk: Vec<u8>) -> Result<Vec<u8>, RepoError> {
        let nonce = Self::nonce(number, is_last);
        match &self.cipher {
            None => chunk.extend(self.checksum(nonce, &chunk)),
            Some(cipher) => {
                let tag = cipher
                    .encrypt_in_place_detached(Nonce::from_slice(&nonce), &self.header, &mut chunk)
                    .map_err(|_| RepoError::Key("a chunk can't be encrypted".to_owned()))?;
                chunk.extend_from_slice(&tag);
            }
        }
        Ok(chunk)
    }

    /// What [`Self::seal`] was given.
    fn open(&self, number: u64, is_last: bool, sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = Self::nonce(number, is_last);
        let (chunk, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let mut chunk = chunk.to_vec();
        match &self.cipher {
            None => (self.checksum(nonce, &chunk) == tag).then_some(chunk),
            Some(cipher) => {
                let tag: &Tag = generic_array::GenericArray::from_slice(tag);
                cipher
                    .decrypt_in_place_detached(
                        Nonce::from_slice(&nonce),
                        &self.header,
                        &mut chunk,
                        tag,
                    )
                    .is_ok()
                    .then_some(chunk)
            }
        }
    }
}

/// An object while it is written.
pub(crate) struct ChunkWriter {
    upload: Box<dyn Upload>,
    sealer: Sealer,
    place: String,
    buffer: Vec<u8>,
    number: u64,
}

impl fmt::Debug for ChunkWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkWriter({})", self.place)
    }
}

impl ChunkWriter {
    fn send(&mut self, is_last: bool) -> Result<(), RepoError> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK + TAG));
        let sealed = self.sealer.seal(self.number, is_last, chunk)?;
        self.number += 1;
        let written = self.upload.write_all(&sealed);
        Ok(written.map_err(StoreError::io(self.place.clone()))?)
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), RepoError> {
        while !bytes.is_empty() {
            // Whether a full chunk is the last one shows only when more comes.
            if self.buffer.len() == CHUNK {
                self.send(false)?;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the object; now it is there.
    pub(crate) fn finish(mut self) -> Result<(), RepoError> {
        self.send(true)?;
        Ok(self.upload.finish()?)
    }
}

/// An object that is read.
pub(crate) struct ChunkReader {
    sealer: Sealer,
    chunks: u64,
    /// How many bytes it holds.
    pub(crate) length: u64,
}

impl fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkReader({})", self.sealer.name)
    }
}

impl ChunkReader {
    /// Reads some of its bytes.
    pub(crate) fn read(&self, store: &dyn Store, range: Range<u64>) -> Result<Vec<u8>, RepoError> {
        let name = &self.sealer.name;
        if range.end > self.length || range.start > range.end {
            let end = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(StoreError::io(store.place(name))(end).into());
        }
        let first = (range.start / CHUNK as u64).min(self.chunks - 1);
        // An empty object has a chunk, too.
        let last = (range.end.saturating_sub(1) / CHUNK as u64).clamp(first, self.chunks - 1);
        let tagged = (CHUNK + TAG) as u64;
        let stored_end = HEADER as u64 + self.length + self.chunks * TAG as u64;
        let from = HEADER as u64 + first * tagged;
        let to = (HEADER as u64 + (last + 1) * tagged).min(stored_end);
        let stored = store.get_range(name, from..to)?;
        let mut content = Vec::with_capacity(stored.len());
        for (number, sealed) in (first..).zip(stored.chunks(CHUNK + TAG)) {
            let is_last = number + 1 == self.chunks;
            let Some(chunk) = self.sealer.open(number, is_last, sealed) else {
                return Err(damaged(
                    store,
                    name,
                    format!("chunk {number} of {} is not what was written", self.chunks),
                ));
            };
            content.extend(chunk);
        }
        let skip = (range.start - first * CHUNK as u64) as usize;
        let length = (range.end - range.start) as usize;
        let wanted = content.get(skip..skip + length).map(<[u8]>::to_vec);
        wanted.ok_or_else(|| damaged(store, name, "it is cut off".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Directory;

    fn ciphers() -> [Cipher; 2] {
        [Cipher(None), Cipher(Some([7; 32]))]
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 7 / 3) as u8).collect()
    }

    #[test]
    fn any_part_of_an_object_of_any_length_is_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        for cipher in ciphers() {
            for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
                let content = content(length);
                let name = format!("{length} {}", cipher.0.is_some());
                let mut writer = cipher.writer(&store, &name).unwrap();
                content
                    .chunks(10_007)
                    .for_each(|part| writer.write(part).unwrap());
                writer.finish().unwrap();
                store
                    .put("whole", &cipher.seal("whole", &content).unwrap())
                    .unwrap();
                for name in [name.as_str(), "whole"] {
                    let found = cipher.get(&store, name, 1 << 20).unwrap();
                    assert!(found == content);
                    let reader = cipher.reader(&store, name).unwrap();
                    for range in [
                        0..length,
                        length / 2..length,
                        length / 3..length / 2,
                        0..0,
                        length..length,
                    ] {
                        let part = reader
                            .read(&store, range.start as u64..range.end as u64)
                            .unwrap();
                        assert!(part == content[range.clone()], "{length} {range:?}");
                    }
                    assert!(reader.read(&store, 0..length as u64 + 1).is_err());
                }
            }
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        for cipher in ciphers() {
            let sealed = cipher.seal("a", b"some rows").unwrap();
            for at in 0..sealed.len() {
                let mut other = sealed.clone();
                other[at] ^= 1;
                store.put("a", &other).unwrap();
                assert!(cipher.get(&store, "a", 100).is_err(), "byte {at}");
                store.put("a", &sealed[..at]).unwrap();
                assert!(cipher.get(&store, "a", 100).is_err(), "cut at {at}");
            }
            let more = [&sealed[..], b"x"].concat();
            store.put("a", &more).unwrap();
            assert!(cipher.get(&store, "a", 100).is_err());
            store.put("a", &sealed).unwrap();
            assert!(cipher.get(&store, "a", 8).is_err(), "more than is allowed");
            assert_eq!(cipher.get(&store, "a", 9).unwrap(), b"some rows");
        }
    }

    #[test]
    fn chunks_that_are_cut_off_exchanged_or_reordered_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        for cipher in ciphers() {
            let sealed = cipher.seal("a", &content(3 * CHUNK)).unwrap();
            let other = cipher.seal("a", &content(3 * CHUNK)).unwrap();
            let (header, body) = sealed.split_at(HEADER);
            let chunks: Vec<&[u8]> = body.chunks(CHUNK + TAG).collect();
            let foreign = &other[HEADER..][..CHUNK + TAG];
            for (what, wrong) in [
                ("the last is gone", vec![chunks[0], chunks[1]]),
                ("reordered", vec![chunks[1], chunks[0], chunks[2]]),
                ("twice", vec![chunks[0], chunks[0], chunks[2]]),
                ("of another object", vec![foreign, chunks[1], chunks[2]]),
                ("all are gone", vec![]),
            ] {
                let wrong = [&[header][..], &wrong].concat().concat();
                store.put("a", &wrong).unwrap();
                assert!(cipher.get(&store, "a", 1 << 20).is_err(), "{what}");
            }
            store.put("b", &sealed).unwrap();
            assert!(
                cipher.get(&store, "b", 1 << 20).is_err(),
                "exchanged objects"
            );
        }
    }

    #[test]
    fn an_object_of_another_key_or_without_encryption_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let [plain, key] = ciphers();
        let other = Cipher(Some([8; 32]));
        for (writes, reads) in [(&plain, &key), (&key, &plain), (&other, &key)] {
            store.put("a", &writes.seal("a", b"text").unwrap()).unwrap();
            assert!(reads.get(&store, "a", 100).is_err(), "{writes:?} {reads:?}");
        }
        assert!(!format!("{key:?}").contains('7'));
    }
}
