//! Where a follower stands: a sealed JSON file.
//!
//! It holds, for every vgroup, the offset to go on from; the tables' numbers and the width of windows, by which
//! block ids are made; and every table there was, so that those which vanish without a message are noticed.

use model::{
    Precision, Uid, VgId,
    sealed::{self, NewerFormat},
};
use plan::{Ordinals, window::WindowWidth};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
};
use store::{StoreError, atomic_file};

/// The only format there is.
const FORMAT: u32 = 1;
/// What tells it from other sealed files.
const SOURCE: &str = "tmq";

/// Where a follower stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The database.
    pub(crate) database: String,
    /// When it was created, ms since 1970: a database that was dropped and created again is another one.
    pub(crate) created: i64,
    /// The unit of its keys.
    pub(crate) precision: Precision,
    /// The width of its windows.
    pub(crate) window: WindowWidth,
    /// By vgroup: everything before this offset is told and safe.
    pub(crate) offsets: BTreeMap<VgId, i64>,
    /// The numbers of its tables.
    pub(crate) ordinals: Ordinals,
    /// The tables there were.
    pub(crate) tables: BTreeSet<Uid>,
}

/// A position that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PositionError {
    /// It can't be read.
    #[error("{path}: {source}; is it readable for this user?")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// It is not what this program wrote.
    #[error(
        "{path} is no usable position of a subscription: {problem}; remove it together with the bitmap, and start with a full backup"
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
    /// It is of something else.
    #[error(
        "{path} is the position of {found}, not of {wanted}; give each database a position file and a bitmap of its own"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is of.
        found: String,
        /// What is followed.
        wanted: String,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    source: String,
    database: String,
    created: i64,
    precision: Precision,
    window: WindowWidth,
    vgroups: Vec<FileVgroup>,
    /// Uids in the order of their ordinals.
    numbered: Vec<Uid>,
    tables: BTreeSet<Uid>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileVgroup {
    vgroup: VgId,
    offset: i64,
}

impl Position {
    /// Reads a position; `None` where there is none.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, PositionError> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(&bytes, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PositionError::Io {
                path: path.into(),
                source,
            }),
        }
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, PositionError> {
        let invalid = |problem: String| PositionError::Invalid {
            path: path.into(),
            problem,
        };
        let file: File = sealed::open(bytes, FORMAT)
            .map_err(|error| error.of_file(&path.display().to_string(), invalid))?;
        if file.source != SOURCE {
            return Err(invalid(format!(
                "it is of source {:?}, known is {SOURCE:?}",
                file.source
            )));
        }
        let distinct: HashSet<_> = file.numbered.iter().collect();
        if distinct.len() < file.numbered.len() {
            return Err(invalid("a table has two numbers".to_owned()));
        }
        let mut offsets = BTreeMap::new();
        for FileVgroup { vgroup, offset } in file.vgroups {
            if offset < 0 || offsets.insert(vgroup, offset).is_some() {
                return Err(invalid(format!(
                    "vgroup {vgroup} has offset {offset}, or stands there twice"
                )));
            }
        }
        Ok(Self {
            database: file.database,
            created: file.created,
            precision: file.precision,
            window: file.window,
            offsets,
            ordinals: file.numbered.into_iter().collect(),
            tables: file.tables,
        })
    }

    /// Writes the position, whole or not at all.
    pub(crate) fn save(&self, path: &Path) -> Result<(), StoreError> {
        let vgroups = self.offsets.iter().map(|(vgroup, offset)| FileVgroup {
            vgroup: *vgroup,
            offset: *offset,
        });
        let file = File {
            format: FORMAT,
            source: SOURCE.to_owned(),
            database: self.database.clone(),
            created: self.created,
            precision: self.precision,
            window: self.window,
            vgroups: vgroups.collect(),
            numbered: self.ordinals.uids().to_vec(),
            tables: self.tables.clone(),
        };
        let bytes = sealed::seal(&file)
            .map_err(|error| StoreError::io(path.display().to_string())(io::Error::from(error)))?;
        atomic_file::write(path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn position() -> Position {
        Position {
            database: "s\"db".to_owned(),
            created: 1_700_000_000_000,
            precision: Precision::Microseconds,
            window: WindowWidth::from_ticks(3_600_000_000).unwrap(),
            offsets: [(VgId(2), 25), (VgId(3), i64::MAX)].into(),
            ordinals: [Uid(i64::MIN), Uid(9)].into_iter().collect(),
            tables: [Uid(9), Uid(-4)].into(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("position");
        assert_eq!(Position::load(&path).unwrap(), None);
        position().save(&path).unwrap();
        assert_eq!(Position::load(&path).unwrap(), Some(position()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused_with_the_files_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("position");
        position().save(&path).unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let refused = |bytes: &[u8]| {
                let error = Position::parse(bytes, &path).unwrap_err().to_string();
                assert!(error.contains(path.to_str().unwrap()), "{error}");
            };
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                refused(&flipped);
            }
            refused(&good[..at]);
        }
    }

    #[test]
    fn sealed_nonsense_is_refused() {
        let path = Path::new("p");
        let whole = serde_json::json!({
            "format": 1, "source": "tmq", "database": "d", "created": 1, "precision": "ms",
            "window": "1000", "vgroups": [{"vgroup": 2, "offset": 3}], "numbered": [7], "tables": [7],
        });
        let parse =
            |value: &serde_json::Value| Position::parse(&sealed::seal(value).unwrap(), path);
        assert!(parse(&whole).is_ok());
        for (key, value) in [
            ("format", serde_json::json!(2)),
            ("source", serde_json::json!("files")),
            ("window", serde_json::json!("0")),
            ("numbered", serde_json::json!([7, 7])),
            ("vgroups", serde_json::json!([{"vgroup": 2, "offset": -1}])),
            (
                "vgroups",
                serde_json::json!([{"vgroup": 2, "offset": 1}, {"vgroup": 2, "offset": 1}]),
            ),
        ] {
            let mut broken = whole.clone();
            broken[key] = value;
            assert!(parse(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_newer_format_is_named_and_not_called_damaged() {
        let newer = serde_json::json!({"format": 2, "source": ["tmq"], "vgroups": {}});
        let bytes = sealed::seal(&newer).unwrap();
        let error = Position::parse(&bytes, Path::new("p")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "p has format 2; this program reads up to 1: it was written by a newer version, use that one"
        );
    }
}
