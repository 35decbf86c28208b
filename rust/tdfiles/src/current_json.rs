//! `current.json`: the TSDB files that make up a vnode's state, one entry per file set.

use crate::{FormatError, json};
use model::{FileSetId, Version, VgId};
use serde::Deserialize;
use std::fmt;

/// The kinds of TSDB files, named by their suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Index of the `.data` file.
    Head,
    /// Row blocks, each of one table.
    Data,
    /// Block statistics; never needed here.
    Sma,
    /// Deletes.
    Tomb,
    /// Rows of many tables not yet merged into `.data`, with their own index and deletes.
    Stt,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Data => "data",
            Self::Sma => "sma",
            Self::Tomb => "tomb",
            Self::Stt => "stt",
        })
    }
}

/// One TSDB file as `current.json` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its kind.
    pub kind: FileKind,
    /// Its file set.
    pub fid: FileSetId,
    /// The edit that created it; part of its name.
    pub cid: i64,
    /// Its logical size: the bytes in it without page checksums.
    pub size: u64,
    /// The newest version of a row or delete in it, where known.
    pub max_version: Option<Version>,
    /// The tier it lies on and the disk inside the tier.
    pub disk: (i32, i32),
    /// Last chunk that is kept locally; above 0 earlier chunks lie in shared storage.
    last_chunk: i64,
    /// Migration id; part of the name when not 0.
    migration: i64,
}

impl FileEntry {
    /// The file's name in a `vnode/vnode<N>/tsdb` directory, for example `v2f1972ver3.head`.
    pub fn name(&self, vgroup: VgId) -> String {
        let Self {
            fid,
            cid,
            kind,
            migration,
            ..
        } = self;
        let migrated = if *migration == 0 {
            String::new()
        } else {
            format!(".m{migration}")
        };
        let chunk = if self.in_shared_storage() {
            format!(".{}", self.last_chunk)
        } else {
            String::new()
        };
        format!("v{vgroup}f{fid}ver{cid}{migrated}{chunk}.{kind}")
    }

    /// Whether part of the file is not on this machine.
    pub fn in_shared_storage(&self) -> bool {
        self.last_chunk > 0
    }
}

/// The files of one range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSet {
    /// Its number.
    pub fid: FileSetId,
    /// Index and rows of the merged part: both or neither.
    pub merged: Option<(FileEntry, FileEntry)>,
    /// Deletes.
    pub tomb: Option<FileEntry>,
    /// Rows not yet merged, lowest level first.
    pub stt: Vec<FileEntry>,
    /// When the set was last compacted (an Enterprise operation), ms since the epoch, 0 for never; `None` where
    /// the server does not say (before 3.3.6).
    pub last_compact: Option<i64>,
    /// When the set was last written by a commit, ms since the epoch; 0 where the server does not say.
    pub last_commit: i64,
}

/// The parsed file. Keys it does not know are ignored: servers from 3.3.6 on add some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentJson {
    /// File sets, ascending by number.
    pub file_sets: Vec<FileSet>,
}

#[derive(Deserialize)]
struct Raw {
    fmtv: i64,
    #[serde(default)]
    fset: Vec<RawSet>,
}

#[derive(Deserialize)]
struct RawSet {
    fid: i32,
    head: Option<RawFile>,
    data: Option<RawFile>,
    sma: Option<RawFile>,
    tomb: Option<RawFile>,
    #[serde(rename = "stt lvl", default)]
    stt: Vec<RawLevel>,
    #[serde(rename = "last compact")]
    last_compact: Option<i64>,
    #[serde(rename = "last commit", default)]
    last_commit: i64,
}

#[derive(Deserialize)]
struct RawLevel {
    level: i64,
    #[serde(default)]
    files: Vec<RawFile>,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(rename = "did.level", default)]
    disk_level: i32,
    #[serde(rename = "did.id", default)]
    disk_id: i32,
    #[serde(default)]
    lcn: i64,
    fid: i32,
    #[serde(default)]
    mid: i64,
    cid: i64,
    size: u64,
    #[serde(rename = "maxVer")]
    max_version: Option<i64>,
}

const WHAT: &str = "current.json";

impl CurrentJson {
    /// Parses the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let raw: Raw = json::parse(WHAT, bytes)?;
        if raw.fmtv != 1 {
            return Err(FormatError::corrupt(
                WHAT,
                0,
                format!("fmtv is {}, known is 1", raw.fmtv),
            ));
        }
        let mut file_sets = raw
            .fset
            .into_iter()
            .map(RawSet::check)
            .collect::<Result<Vec<_>, FormatError>>()?;
        file_sets.sort_by_key(|set| set.fid);
        if let Some(pair) = file_sets.windows(2).find(|pair| pair[0].fid == pair[1].fid) {
            return Err(FormatError::corrupt(
                WHAT,
                0,
                format!("file set {} twice", pair[0].fid),
            ));
        }
        Ok(Self { file_sets })
    }
}

impl RawSet {
    fn check(self) -> Result<FileSet, FormatError> {
        let fid = self.fid;
        let entry = |file: RawFile, kind| {
            if file.fid != fid {
                let detail = format!(
                    "file set {fid} names a {kind} file of file set {}",
                    file.fid
                );
                return Err(FormatError::corrupt(WHAT, 0, detail));
            }
            Ok(FileEntry {
                kind,
                fid: FileSetId(fid),
                cid: file.cid,
                size: file.size,
                max_version: file.max_version.map(Version),
                disk: (file.disk_level, file.disk_id),
                // For kinds other than .data the key is written, but means nothing.
                last_chunk: if kind == FileKind::Data { file.lcn } else { 0 },
                migration: file.mid,
            })
        };
        let merged = match (self.head, self.data, self.sma) {
            (Some(head), Some(data), _) => {
                Some((entry(head, FileKind::Head)?, entry(data, FileKind::Data)?))
            }
            (None, None, None) => None,
            _ => {
                let detail = format!("file set {fid} has some of head, data and sma, but not all");
                return Err(FormatError::corrupt(WHAT, 0, detail));
            }
        };
        let mut levels = self.stt;
        levels.sort_by_key(|level| level.level);
        Ok(FileSet {
            fid: FileSetId(fid),
            merged,
            tomb: self
                .tomb
                .map(|file| entry(file, FileKind::Tomb))
                .transpose()?,
            stt: levels
                .into_iter()
                .flat_map(|level| level.files)
                .map(|file| entry(file, FileKind::Stt))
                .collect::<Result<_, _>>()?,
            last_compact: self.last_compact,
            last_commit: self.last_commit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#""did.level":0,"did.id":0,"fid":7,"cid":3,"size":1015"#;

    fn parse(set: &str) -> Result<CurrentJson, FormatError> {
        CurrentJson::parse(format!(r#"{{"fmtv":1,"fset":[{set}]}}"#).as_bytes())
    }

    #[test]
    fn both_shapes_parse_and_unknown_keys_are_ignored() {
        let old = parse(&format!(
            r#"{{"fid":7,"head":{{{FILE},"lcn":0}},"data":{{{FILE},"lcn":-1}},"sma":{{{FILE}}},
                "stt lvl":[{{"level":1,"files":[{{{FILE},"level":1}}]}}]}}"#
        ))
        .unwrap();
        let new = parse(&format!(
            r#"{{"fid":7,"head":{{{FILE},"lcn":0,"mid":0}},"data":{{{FILE},"lcn":-1,"mid":0}},
                "sma":{{{FILE}}},"stt lvl":[{{"level":1,"files":[{{{FILE},"level":1,"mid":0}}]}}],
                "last compact":0,"last commit":0,"last migrate":5,"later":{{}}}}"#
        ))
        .unwrap();
        assert_eq!(
            (old.file_sets[0].last_compact, new.file_sets[0].last_compact),
            (None, Some(0))
        );
        assert_eq!(old.file_sets[0].merged, new.file_sets[0].merged);
        assert_eq!(old.file_sets[0].stt, new.file_sets[0].stt);
        let (head, data) = old.file_sets[0].merged.as_ref().unwrap();
        assert_eq!(head.name(VgId(2)), "v2f7ver3.head");
        assert_eq!(data.name(VgId(2)), "v2f7ver3.data");
        assert_eq!(old.file_sets[0].stt[0].name(VgId(2)), "v2f7ver3.stt");
    }

    #[test]
    fn a_file_in_shared_storage_has_the_migration_and_the_chunk_in_its_name() {
        let parsed = parse(&format!(
            r#"{{"fid":7,"head":{{{FILE}}},"sma":{{{FILE}}},"data":{{{FILE},"lcn":4,"mid":9}}}}"#
        ))
        .unwrap();
        let (_, data) = parsed.file_sets[0].merged.as_ref().unwrap();
        assert!(data.in_shared_storage());
        assert_eq!(data.name(VgId(5)), "v5f7ver3.m9.4.data");
    }

    #[test]
    fn a_head_without_data_or_a_file_of_another_set_is_refused() {
        for set in [
            format!(r#"{{"fid":7,"head":{{{FILE}}}}}"#),
            format!(r#"{{"fid":8,"tomb":{{{FILE}}}}}"#),
            format!(r#"{{"fid":7}},{{"fid":7,"tomb":{{{FILE}}}}}"#),
        ] {
            assert!(parse(&set).is_err(), "{set}");
        }
    }
}
