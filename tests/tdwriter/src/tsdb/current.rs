//! `current.json`: the files that count.

use std::fmt::Write;

/// Server releases that write different JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// 3.3.1 to 3.3.5: neither times per file set nor migration ids.
    V331,
    /// 3.3.6: times of the last compaction and commit.
    V336,
    /// 3.3.7: migration ids and the time of the last migration too.
    #[default]
    V337,
}

/// One file of a file set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileEntry {
    /// Storage level of its disk.
    pub disk_level: i32,
    /// Disk within the level.
    pub disk_id: i32,
    /// Last chunk in shared storage; -1 for a data file that has none, 0 for other files.
    pub lcn: i32,
    /// File set.
    pub fid: i32,
    /// Migration id.
    pub mid: i32,
    /// Edit that made the file, part of its name.
    pub cid: i64,
    /// Logical size in bytes.
    pub size: i64,
    /// Lowest version inside.
    pub min_version: Option<i64>,
    /// Highest version inside.
    pub max_version: Option<i64>,
    /// Level of an stt file.
    pub stt_level: Option<i32>,
}

impl FileEntry {
    /// An entry on the primary disk.
    pub fn new(fid: i32, cid: i64, size: i64) -> Self {
        Self {
            fid,
            cid,
            size,
            ..Self::default()
        }
    }

    fn json(&self, release: Release) -> String {
        let mut s = format!(
            r#"{{"did.level":{},"did.id":{},"lcn":{},"fid":{},"#,
            self.disk_level, self.disk_id, self.lcn, self.fid
        );
        if release == Release::V337 {
            let _ = write!(s, r#""mid":{},"#, self.mid);
        }
        let _ = write!(s, r#""cid":{},"size":{}"#, self.cid, self.size);
        if let (Some(min), Some(max)) = (self.min_version, self.max_version) {
            let _ = write!(s, r#","minVer":{min},"maxVer":{max}"#);
        }
        if let Some(level) = self.stt_level {
            let _ = write!(s, r#","level":{level}"#);
        }
        s + "}"
    }
}

/// Stt files of one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SttLevel {
    /// Level; commits write level 0.
    pub level: i32,
    /// Files, oldest first.
    pub files: Vec<FileEntry>,
}

/// All files of one file set. Head, data and sma are all there or none is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSet {
    /// Number: timestamp divided by the time a file set spans, rounded down.
    pub fid: i32,
    /// Index of the data file.
    pub head: Option<FileEntry>,
    /// Blocks of single tables.
    pub data: Option<FileEntry>,
    /// Statistics of these blocks.
    pub sma: Option<FileEntry>,
    /// Deletes.
    pub tomb: Option<FileEntry>,
    /// Stt files by level.
    pub stt: Vec<SttLevel>,
    /// Last compaction, in ms since 1970.
    pub last_compact: i64,
    /// Last commit, in ms since 1970.
    pub last_commit: i64,
    /// Last migration, in ms since 1970.
    pub last_migrate: i64,
}

impl FileSet {
    fn json(&self, release: Release) -> String {
        let mut s = format!(r#"{{"fid":{}"#, self.fid);
        let files = [
            ("head", &self.head),
            ("data", &self.data),
            ("sma", &self.sma),
            ("tomb", &self.tomb),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                let _ = write!(s, r#","{name}":{}"#, file.json(release));
            }
        }
        let levels: Vec<_> = self
            .stt
            .iter()
            .map(|l| {
                let files: Vec<_> = l.files.iter().map(|f| f.json(release)).collect();
                format!(r#"{{"level":{},"files":[{}]}}"#, l.level, files.join(","))
            })
            .collect();
        let _ = write!(s, r#","stt lvl":[{}]"#, levels.join(","));
        if release != Release::V331 {
            let _ = write!(
                s,
                r#","last compact":{},"last commit":{}"#,
                self.last_compact, self.last_commit
            );
        }
        if release == Release::V337 {
            let _ = write!(s, r#","last migrate":{}"#, self.last_migrate);
        }
        s + "}"
    }
}

/// Builder of `current.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentJson {
    /// Which keys are written.
    pub release: Release,
    /// File sets in order of fid.
    pub sets: Vec<FileSet>,
}

impl std::fmt::Display for CurrentJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sets: Vec<_> = self.sets.iter().map(|s| s.json(self.release)).collect();
        write!(f, r#"{{"fmtv":1,"fset":[{}]}}"#, sets.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_file_is_reproduced() {
        let entry = |lcn, cid, size, min, max| FileEntry {
            lcn,
            min_version: Some(min),
            max_version: Some(max),
            ..FileEntry::new(1972, cid, size)
        };
        let stt = FileEntry {
            stt_level: Some(0),
            ..entry(0, 4, 13023, 27, 35)
        };
        let current = CurrentJson {
            release: Release::V337,
            sets: vec![FileSet {
                fid: 1972,
                head: Some(entry(0, 3, 1007, 4, 24)),
                data: Some(entry(-1, 3, 752_122, 4, 24)),
                sma: Some(entry(0, 3, 2592, 4, 24)),
                stt: vec![SttLevel {
                    level: 0,
                    files: vec![stt],
                }],
                last_commit: 1_795_242_193_951,
                ..FileSet::default()
            }],
        };
        let recorded = concat!(
            r#"{"fmtv":1,"fset":[{"fid":1972,"#,
            r#""head":{"did.level":0,"did.id":0,"lcn":0,"fid":1972,"mid":0,"cid":3,"size":1007,"minVer":4,"maxVer":24},"#,
            r#""data":{"did.level":0,"did.id":0,"lcn":-1,"fid":1972,"mid":0,"cid":3,"size":752122,"minVer":4,"maxVer":24},"#,
            r#""sma":{"did.level":0,"did.id":0,"lcn":0,"fid":1972,"mid":0,"cid":3,"size":2592,"minVer":4,"maxVer":24},"#,
            r#""stt lvl":[{"level":0,"files":[{"did.level":0,"did.id":0,"lcn":0,"fid":1972,"mid":0,"cid":4,"size":13023,"minVer":27,"maxVer":35,"level":0}]}],"#,
            r#""last compact":0,"last commit":1795242193951,"last migrate":0}]}"#,
        );
        assert_eq!(current.to_string(), recorded);
        let older = CurrentJson {
            release: Release::V331,
            ..current
        }
        .to_string();
        assert!(!older.contains("last") && !older.contains("mid"));
        serde_json::from_str::<serde_json::Value>(&older).unwrap();
    }
}
