//! The manifest: which runs make up the engine's state. It is kept twice, so that damage to one copy costs nothing.
//!
//! Both copies are replaced before a run that only their predecessors name is removed. So each copy is a complete
//! state, and the newer one holds everything that was ever reported as durable.
//!
//! A copy is one line, `tdengine-bitmap-manifest <version> <CRC-32C of the rest, hex>`, and JSON. This engine
//! does not know what a newer one writes after the version, so it looks at the version before anything else.

use crate::damaged_range::DamagedRange;
use crate::disk::{Disk, FORMAT};
use crate::error::{EngineError, io_error};
use crate::stored_run::RunEntry;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

const COPIES: [&str; 2] = ["MANIFEST", "MANIFEST.copy"];
const MAGIC: &str = "tdengine-bitmap-manifest";
const LONGEST: u64 = 1 << 30;
/// No engine has written as many states or runs.
const MOST: u64 = 1 << 62;

/// One complete state of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Counts the states of the directory.
    pub(crate) generation: u64,
    pub(crate) next_serial: u64,
    pub(crate) damaged: Vec<DamagedRange>,
    /// Levels of runs, oldest first.
    pub(crate) records: Vec<Vec<RunEntry>>,
    pub(crate) by_time: Vec<Vec<RunEntry>>,
    pub(crate) by_wal: Vec<Vec<RunEntry>>,
}

/// What the directory held when it was opened.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: a new engine.
    Nothing,
    /// A state.
    State(Manifest),
    /// No manifest that can be read, and why the first one can't.
    Damaged(&'static str),
}

/// What one copy is.
enum Copy {
    Missing,
    State(Manifest),
    Damaged(&'static str),
    /// In a format with this version, which this engine does not know: it can't tell whether the copy is damaged.
    Unknown(u32),
}

impl Disk {
    /// Makes `manifest` the state of the directory.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<(), EngineError> {
        let json = serde_json::to_vec(manifest)
            .map_err(|error| io_error("encoding", self.path())(error.into()))?;
        let crc = crc32c::crc32c(&json);
        // The runs' names must be on disk before a manifest names them.
        self.sync_directory()?;
        for copy in COPIES {
            self.publish(&self.path().join(copy), |writer| {
                writeln!(writer, "{MAGIC} {FORMAT} {crc:08x}")?;
                writer.write_all(&json)
            })?;
        }
        self.sync_directory()
    }

    /// Reads the state of the directory. A copy of the manifest that is damaged or behind is written again.
    pub(crate) fn read_manifest(&self) -> Result<Found, EngineError> {
        let [first, second] = COPIES.map(|copy| read_copy(&self.path().join(copy)));
        let (first, second) = match (first, second) {
            // A copy that can't be read counts as damaged if the other one is whole.
            (Ok(state @ Copy::State(_)), Err(_)) | (Err(_), Ok(state @ Copy::State(_))) => {
                (state, Copy::Damaged("it can't be read"))
            }
            (first, second) => (first?, second?),
        };
        match (first, second) {
            (Copy::State(first), Copy::State(second)) if first == second => Ok(Found::State(first)),
            (Copy::State(first), Copy::State(second)) => {
                let newer = if first.generation < second.generation {
                    second
                } else {
                    first
                };
                self.write_manifest(&newer)?;
                Ok(Found::State(newer))
            }
            (Copy::State(whole), _) | (_, Copy::State(whole)) => {
                self.write_manifest(&whole)?;
                Ok(Found::State(whole))
            }
            (Copy::Unknown(found), _) | (_, Copy::Unknown(found)) => {
                Err(EngineError::UnknownFormat {
                    path: self.path().join(COPIES[0]),
                    found,
                    known: FORMAT,
                })
            }
            (Copy::Damaged(what), _) | (_, Copy::Damaged(what)) => Ok(Found::Damaged(what)),
            (Copy::Missing, Copy::Missing) if self.run_files()?.is_empty() => Ok(Found::Nothing),
            (Copy::Missing, Copy::Missing) => {
                Ok(Found::Damaged("it is missing, but runs are there"))
            }
        }
    }
}

fn read_copy(path: &Path) -> Result<Copy, EngineError> {
    match fs::metadata(path) {
        Ok(found) if found.len() > LONGEST => Ok(Copy::Damaged("it is too long")),
        Ok(_) => {
            let bytes = fs::read(path).map_err(io_error("reading", path))?;
            Ok(parse(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Copy::Missing),
        Err(error) => Err(io_error("reading", path)(error)),
    }
}

fn parse(bytes: &[u8]) -> Copy {
    let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
        return Copy::Damaged("its first line is cut off");
    };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else {
        return Copy::Damaged("its first line is not text");
    };
    let mut words = line.split(' ');
    let (Some(MAGIC), Some(version)) = (words.next(), words.next()) else {
        return Copy::Damaged("it does not start like a manifest");
    };
    let Ok(version) = version.parse::<u32>() else {
        return Copy::Damaged("its version is not a number");
    };
    if version > FORMAT {
        return Copy::Unknown(version);
    }
    let (Some(crc), None) = (words.next(), words.next()) else {
        return Copy::Damaged("it does not start like a manifest");
    };
    let json = &bytes[end + 1..];
    if crc != format!("{:08x}", crc32c::crc32c(json)) {
        return Copy::Damaged("its checksum does not match");
    }
    if version < FORMAT {
        return Copy::Unknown(version);
    }
    match serde_json::from_slice::<Manifest>(json) {
        Ok(manifest) if manifest.generation.max(manifest.next_serial) > MOST => {
            Copy::Damaged("its numbers are out of range")
        }
        Ok(manifest) => Copy::State(manifest),
        Err(_) => Copy::Damaged("it does not hold what a manifest holds"),
    }
}
