//! The checkpoint: what the next run has to know about this one.
//!
//! A JSON file, sealed with a checksum, that holds for every vgroup the version to go on from and what the
//! vnode was like, and for the database the window width and the tables' numbers.

use crate::{Ordinals, window::WindowWidth};
use capture::KnownVnode;
use model::{
    DbId, FileSetId, Precision, Uid, Version, VgId,
    sealed::{self, NewerFormat},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// Bytes that are no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// They are not what this program wrote.
    #[error(
        "{place} is no usable checkpoint: {problem}; take another one, or start with a full backup"
    )]
    Invalid {
        /// Where the bytes are from.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// They are of a newer format.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
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
    /// Parses a checkpoint's bytes; `place` says in messages where they are from.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self, CheckpointError> {
        let invalid = |problem: String| CheckpointError::Invalid {
            place: place.to_owned(),
            problem,
        };
        let file: File = sealed::open(bytes, FORMAT).map_err(|e| e.of_file(place, invalid))?;
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

    /// The bytes of the file.
    ///
    /// # Errors
    /// None that is known: JSON has a form for everything that a checkpoint holds.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
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
        sealed::seal(&file)
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
    fn what_is_written_is_read() {
        let bytes = checkpoint().to_bytes().unwrap();
        assert_eq!(Checkpoint::parse(&bytes, "c").unwrap(), checkpoint());
    }

    #[test]
    fn damaged_or_foreign_bytes_are_refused_with_the_name_of_their_place() {
        let good = checkpoint().to_bytes().unwrap();
        let mut flipped = good.clone();
        flipped[20] ^= 4;
        for bytes in [&flipped[..], &good[..good.len() - 1], b"{}", b""] {
            let error = Checkpoint::parse(bytes, "dir/c").unwrap_err().to_string();
            assert!(error.contains("dir/c"), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_named_and_not_called_damaged() {
        let newer = serde_json::json!({"format": 2, "database": {"a": 1}, "something": "new"});
        let bytes = sealed::seal(&newer).unwrap();
        let error = Checkpoint::parse(&bytes, "c").unwrap_err();
        assert_eq!(
            error.to_string(),
            "c has format 2; this program reads up to 1: it was written by a newer version, use that one"
        );
    }
}
