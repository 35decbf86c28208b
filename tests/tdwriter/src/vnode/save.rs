//! The files that say what counts, and the log.

use std::{fs, io};

use super::{Truth, VnodeBuilder, VnodeJson, WalKeep};
use crate::{
    tsdb::CurrentJson,
    wal::{self, WalFile},
};

impl VnodeBuilder {
    /// The `current.json` of this moment.
    pub fn current(&self) -> CurrentJson {
        let sets = self.sets.values().map(|s| s.files.clone());
        let sets = sets.filter(|s| s.head.is_some() || s.tomb.is_some() || !s.stt.is_empty());
        CurrentJson {
            release: self.config.release,
            sets: sets.collect(),
        }
    }

    /// The `vnode.json` of this moment.
    pub fn vnode_json(&self) -> VnodeJson {
        let exist = || self.truth.tables.values().filter(|t| t.dropped.is_none());
        let children = exist().filter(|t| t.suid != 0).count() as i64;
        let normal = exist().count() as i64 - children;
        VnodeJson {
            vg: self.config.vg,
            db: self.config.db.clone(),
            db_id: self.config.db_id,
            precision: self.config.precision as u8,
            compression: self.config.format.comp,
            minutes_per_file: self.config.minutes_per_file,
            max_rows: self.config.format.max_rows as i32,
            tsdb_page_size: self.config.format.page_size as i32,
            wal_level: (self.config.wal != WalKeep::Off).into(),
            wal_encrypt: self.config.wal_encrypted.into(),
            stt_trigger: self.config.stt_trigger,
            counts: [
                self.stbs.len() as i64,
                children,
                normal,
                2 * children,
                2 * normal,
            ],
            commit_version: self.truth.commit_version,
            commit_id: self.commit_id,
            commit_term: self.term,
            ..VnodeJson::default()
        }
    }

    /// Makes the directory whole: log, `meta-ver`, `current.json`, `vnode.json`. May be called again after more changes.
    pub fn save(&mut self) -> io::Result<Truth> {
        let dir = self.root.join("wal");
        for entry in fs::read_dir(&dir)? {
            fs::remove_file(entry?.path())?;
        }
        let mut files = Vec::new();
        for (i, segment) in self.segments.iter().enumerate() {
            wal::write_segment(&dir, segment)?;
            let open = i + 1 == self.segments.len();
            let seconds = |v: i64| (self.config.start_us + v * 1000) / 1_000_000;
            let next = self.segments.get(i + 1).map(|s| s.first_version);
            files.push(WalFile {
                first: segment.first_version,
                last: next.map_or(-1, |v| v - 1),
                created_s: seconds(segment.first_version),
                closed_s: next.map_or(-1, seconds),
                size: match open {
                    true => 0,
                    false => fs::metadata(dir.join(format!("{:020}.log", segment.first_version)))?
                        .len() as i64,
                },
            });
        }
        self.meta_saves += 1;
        let committed = self.truth.commit_version;
        wal::write_meta(
            &dir,
            self.meta_saves,
            files[0].first,
            committed,
            committed,
            &files,
        )?;
        fs::write(
            self.root.join("tsdb/current.json"),
            self.current().to_string(),
        )?;
        fs::write(self.root.join("vnode.json"), self.vnode_json().to_string())?;
        Ok(self.truth.clone())
    }
}
