//! What is known of a file that was written: its name, its length and its digest.

use crate::{Store, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _, Write};

/// A file of a link, as its manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it is, from the link's directory.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, as hexadecimal digits.
    pub sha256: String,
    /// The rows in it, for data and tags files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Hexadecimal digits of a digest.
pub fn hex(digest: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

/// Counts and hashes what is written through it.
#[derive(Debug)]
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    /// Hashes what goes to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// What was written through, and the entry for it.
    pub fn finish(self, path: String, rows: u64) -> (W, FileEntry) {
        let sha256 = hex(&self.hash.finalize());
        (
            self.inner,
            FileEntry {
                path,
                bytes: self.bytes,
                sha256,
                rows,
            },
        )
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Looks whether an object is there and as long as its entry says. What it holds is not read.
///
/// # Errors
/// It is not there, or it has another length ([`StoreError::Differs`]).
pub fn check_length(store: &dyn Store, entry: &FileEntry) -> Result<(), StoreError> {
    let bytes = store.length(&entry.path)?;
    if bytes == entry.bytes {
        return Ok(());
    }
    Err(StoreError::Differs {
        place: store.place(&entry.path),
        problem: other_length(bytes, entry),
    })
}

fn other_length(bytes: u64, entry: &FileEntry) -> String {
    format!("it has {bytes} bytes, the manifest says {}", entry.bytes)
}

/// Reads a whole object and checks it against its entry.
///
/// # Errors
/// It can't be read, or it is not what was written ([`StoreError::Differs`]).
pub fn check(store: &dyn Store, entry: &FileEntry) -> Result<(), StoreError> {
    let place = store.place(&entry.path);
    let mut object = store.open(&entry.path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0_u64;
    loop {
        let read = match object.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(source) => return Err(StoreError::Io { place, source }),
        };
        bytes += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
    let problem = if bytes != entry.bytes {
        other_length(bytes, entry)
    } else if hex(&hash.finalize()) != entry.sha256 {
        "its SHA-256 is not the one in the manifest".to_owned()
    } else {
        return Ok(());
    };
    Err(StoreError::Differs { place, problem })
}
