//! The file that pages of states lie in while memory is short.
//!
//! It has no name in the directory and ends with the engine: states are rebuilt from the records when it is opened. A
//! page is written as a CRC-32C of its bytes and the bytes, into a slot of a power of two.

use crate::error::EngineError;
use parking_lot::Mutex;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const NAME: &str = "states.tmp";
const CRC: usize = 4;
/// The smallest slot has two to the power of this many bytes.
const SMALLEST: u32 = 9;

/// A place in the file, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Slot {
    offset: u64,
    power: u32,
    length: usize,
}

/// Free slots, by power of two.
#[derive(Debug, Default)]
struct Free {
    slots: Vec<Vec<u64>>,
    end: u64,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Swap {
    file: File,
    path: PathBuf,
    free: Mutex<Free>,
}

impl Swap {
    /// A new file on the file system of `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self, EngineError> {
        let path = dir.join(NAME);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| failed("creating", &path, source))?;
        fs::remove_file(&path).map_err(|source| failed("removing", &path, source))?;
        Ok(Self {
            file,
            path,
            free: Mutex::default(),
        })
    }

    /// Writes `bytes`, to `old` if that is large enough; `old` is free if it is not. If writing fails, `old` stays
    /// with the caller, but its content is lost.
    pub(crate) fn write(&self, bytes: &[u8], old: &mut Option<Slot>) -> Result<(), EngineError> {
        let length = bytes.len() + CRC;
        let power = length.next_power_of_two().ilog2().max(SMALLEST);
        if old.as_ref().is_none_or(|slot| slot.power != power) {
            let mut free = self.free.lock();
            let wanted = power as usize;
            if free.slots.len() <= wanted {
                free.slots.resize_with(wanted + 1, Vec::new);
            }
            let offset = free.slots[wanted].pop().unwrap_or(free.end);
            if offset == free.end {
                free.end += 1 << power;
            }
            let unused = old.replace(Slot {
                offset,
                power,
                length,
            });
            if let Some(unused) = unused {
                free.slots[unused.power as usize].push(unused.offset);
            }
        }
        let Some(slot) = old else { return Ok(()) };
        slot.length = length;
        let mut framed = Vec::with_capacity(length);
        framed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        framed.extend_from_slice(bytes);
        self.file
            .write_all_at(&framed, slot.offset)
            .map_err(|source| failed("writing", &self.path, source))
    }

    /// Reads back what was written to `slot`.
    pub(crate) fn read(&self, slot: &Slot) -> Result<Vec<u8>, EngineError> {
        let mut framed = vec![0; slot.length];
        self.file
            .read_exact_at(&mut framed, slot.offset)
            .map_err(|source| failed("reading", &self.path, source))?;
        match framed.split_first_chunk::<CRC>() {
            Some((crc, bytes)) if u32::from_le_bytes(*crc) == crc32c::crc32c(bytes) => {
                framed.drain(..CRC);
                Ok(framed)
            }
            _ => Err(self.damaged(slot)),
        }
    }

    /// The error of a slot that does not hold what was written to it.
    pub(crate) fn damaged(&self, slot: &Slot) -> EngineError {
        EngineError::Damaged {
            path: self.path.clone(),
            offset: slot.offset,
            what: "it does not hold the states that were written to it",
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> EngineError {
    EngineError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_what_was_written_and_are_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let swap = Swap::create(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let (mut one, mut two) = (None, None);
        swap.write(&[1; 100], &mut one).unwrap();
        swap.write(&[2; 5000], &mut two).unwrap();
        assert_eq!(swap.read(one.as_ref().unwrap()).unwrap(), [1; 100]);
        assert_eq!(swap.read(two.as_ref().unwrap()).unwrap(), [2; 5000]);
        let end = swap.free.lock().end;
        swap.write(&[3; 4000], &mut two).unwrap();
        let mut three = None;
        swap.write(&[4; 8000], &mut three).unwrap();
        assert_eq!(swap.read(two.as_ref().unwrap()).unwrap(), [3; 4000]);
        assert_eq!(swap.read(three.as_ref().unwrap()).unwrap(), [4; 8000]);
        assert_eq!(swap.free.lock().end, end + 4096);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let swap = Swap::create(dir.path()).unwrap();
        let mut slot = None;
        swap.write(&[7; 300], &mut slot).unwrap();
        for at in [0, 3, 4, 303] {
            swap.file.write_all_at(&[9], at).unwrap();
            let read = swap.read(slot.as_ref().unwrap());
            assert!(
                matches!(read, Err(EngineError::Damaged { .. })),
                "byte {at}"
            );
            swap.write(&[7; 300], &mut slot).unwrap();
        }
    }
}
