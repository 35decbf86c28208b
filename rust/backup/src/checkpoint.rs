//! The checkpoint: what the next run has to know about this one.
//!
//! A JSON file, sealed with a checksum, that holds for every vgroup the version to go on from and what the
//! vnode was like, and for the database the window width and the tables' numbers.

use crate::{
    atomic_file,
    plan::Ordinals,
    sealed::{self, NewerFormat},
    window::WindowWidth,
};
use capture::KnownVnode;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use tdfiles::{DbId, FileSetId, Precision, Uid, Version, VgId};

/// The only format there is.
const FORMAT: u32 = 1;

/// Where every vgroup of a database stood when a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The database.
    pub database: String,
    /// The unit of its keys.
    pub precision: Precision,
    /// The width of its windows.
    pub window: WindowWidth,
    /// By vgroup: the version to go on from, and what to recognise the vnode by.
    pub vgroups: BTreeMap<VgId, (Version, KnownVnode)>,
    /// The numbers of its tables.
    pub ordinals: Ordinals,
}

/// A checkpoint that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// It is not what this program wrote.
    #[error(
        "{path} is no usable checkpoint: {problem}; take another one, or start with a full backup"
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It is of a newer format.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
    /// It is of another database.
    #[error(
        "{path} is a checkpoint of database {found:?}, not of {wanted:?}; give that database's own"
    )]
    OtherDatabase {
        /// The file.
        path: PathBuf,
        /// Its database.
        found: String,
        /// The database of this run.
        wanted: String,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    database: String,
    precision: Precision,
    window: WindowWidth,
    vnodes: Vec<FileVnode>,
    /// Uids in the order of their ordinals.
    tables: Vec<Uid>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileVnode {
    vgroup: VgId,
    db_id: DbId,
    version: Version,
    hash_begin: i64,
    hash_end: i64,
    file_sets: Vec<FileSetState>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSetState {
    fid: FileSetId,
    last_compact: i64,
}

impl Checkpoint {
    /// Reads a checkpoint.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io {
            path: path.into(),
            source,
        })?;
        Self::parse(&bytes, path)
    }

    /// Parses a checkpoint's bytes; `path` is for messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let invalid = |problem: String| CheckpointError::Invalid {
            path: path.into(),
            problem,
        };
        let file: File = sealed::open(bytes, FORMAT).map_err(|e| e.of_file(path, invalid))?;
        let vgroups = file
            .vnodes
            .into_iter()
            .map(|vnode| {
                let compactions = vnode
                    .file_sets
                    .into_iter()
                    .map(|set| (set.fid, set.last_compact))
                    .collect();
                let hash_range = (vnode.hash_begin, vnode.hash_end);
                let known = KnownVnode {
                    db_id: vnode.db_id,
                    hash_range,
                    compactions,
                };
                (vnode.vgroup, (vnode.version, known))
            })
            .collect();
        Ok(Self {
            database: file.database,
            precision: file.precision,
            window: file.window,
            vgroups,
            ordinals: file.tables.into_iter().collect(),
        })
    }

    /// Writes the checkpoint, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), atomic_file::WriteError> {
        let vnodes = self
            .vgroups
            .iter()
            .map(|(vgroup, (version, known))| FileVnode {
                vgroup: *vgroup,
                db_id: known.db_id,
                version: *version,
                hash_begin: known.hash_range.0,
                hash_end: known.hash_range.1,
                file_sets: known
                    .compactions
                    .iter()
                    .map(|(fid, last_compact)| FileSetState {
                        fid: *fid,
                        last_compact: *last_compact,
                    })
                    .collect(),
            });
        let file = File {
            format: FORMAT,
            database: self.database.clone(),
            precision: self.precision,
            window: self.window,
            vnodes: vnodes.collect(),
            tables: self.ordinals.uids().to_vec(),
        };
        let bytes = sealed::seal(&file).map_err(|e| atomic_file::WriteError {
            path: path.into(),
            source: e.into(),
        })?;
        atomic_file::write(path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let known = KnownVnode {
            db_id: DbId(7),
            hash_range: (0, i64::MAX),
            compactions: [(FileSetId(-3), 0), (FileSetId(4), 1_795_242_061_747)].into(),
        };
        Checkpoint {
            database: "s\"db".to_owned(),
            precision: Precision::Nanoseconds,
            window: WindowWidth::from_ticks(i64::MAX).unwrap(),
            vgroups: [(VgId(2), (Version(25), known))].into(),
            ordinals: [Uid(i64::MIN), Uid(9)].into_iter().collect(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        checkpoint().save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint());
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        checkpoint().save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[20] ^= 4;
        for bytes in [&flipped[..], &good[..good.len() - 1], b"{}", b""] {
            std::fs::write(&path, bytes).unwrap();
            let error = Checkpoint::load(&path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_named_and_not_called_damaged() {
        let newer = serde_json::json!({"format": 2, "database": {"a": 1}, "something": "new"});
        let bytes = sealed::seal(&newer).unwrap();
        let error = Checkpoint::parse(&bytes, Path::new("c")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "c has format 2; this program reads up to 1: it was written by a newer version, use that one"
        );
    }
}
