//! Commits and merges.

use std::{collections::BTreeMap, io};

use super::{
    VnodeBuilder, WalKeep,
    file_sets::{Edit, Set},
};
use crate::{
    tsdb::{StoredRow, Tomb},
    wal::{self, Segment},
};

impl VnodeBuilder {
    fn fid(&self, ts: i64) -> i32 {
        let span = self.config.precision.per_minute() * i64::from(self.config.minutes_per_file);
        ts.div_euclid(span) as i32
    }

    /// First and last timestamp of a file set.
    pub fn range_of(&self, fid: i32) -> (i64, i64) {
        let span = self.config.precision.per_minute() * i64::from(self.config.minutes_per_file);
        (i64::from(fid) * span, (i64::from(fid) + 1) * span - 1)
    }

    /// Runs `f` on every file set as one edit.
    fn edit_sets(
        &mut self,
        mut f: impl FnMut(&Edit, i32, &mut Set) -> io::Result<()>,
    ) -> io::Result<()> {
        self.edit += 1;
        let dir = self.root.join("tsdb");
        let truth = &self.truth;
        let exists = |uid| truth.exists(uid);
        let edit = Edit {
            dir: &dir,
            vg: self.config.vg,
            cid: self.edit,
            format: self.config.format,
            now_ms: self.now_ms(),
            exists: &exists,
        };
        for (&fid, set) in &mut self.sets {
            f(&edit, fid, set)?;
        }
        Ok(())
    }

    /// Commits by a COMMIT record, as `FLUSH DATABASE` does.
    pub fn commit(&mut self) -> io::Result<()> {
        self.raw(wal::COMMIT, wal::commit(self.config.vg));
        self.commit_silently()
    }

    /// Commits without a record, as a server with full buffers does.
    pub fn commit_silently(&mut self) -> io::Result<()> {
        let mut rows: BTreeMap<i32, Vec<StoredRow>> = BTreeMap::new();
        for row in std::mem::take(&mut self.rows)
            .into_iter()
            .filter(|r| self.truth.exists(r.uid))
        {
            rows.entry(self.fid(row.row.ts)).or_default().push(row);
        }
        for &fid in rows.keys() {
            self.sets.entry(fid).or_insert_with(|| Set::new(fid));
        }
        let mut tombs = std::mem::take(&mut self.tombs);
        tombs.retain(|t| self.truth.exists(t.uid));
        let ranges: BTreeMap<_, _> = self
            .sets
            .keys()
            .map(|&fid| (fid, self.range_of(fid)))
            .collect();
        let straight = self.config.stt_trigger <= 1;
        self.edit_sets(|edit, fid, set| {
            let (first, last) = ranges[&fid];
            let clipped: Vec<_> = tombs
                .iter()
                .filter(|t| t.skey <= last && t.ekey >= first)
                .map(|t| Tomb {
                    skey: t.skey.max(first),
                    ekey: t.ekey.min(last),
                    ..*t
                })
                .collect();
            let rows = rows.remove(&fid).unwrap_or_default();
            match (rows.is_empty() && clipped.is_empty(), straight) {
                (true, _) => Ok(()),
                (false, true) => edit.merge_to_data(set, rows, clipped),
                (false, false) => edit.add_stt(set, 0, rows, clipped),
            }
        })?;
        self.truth.commit_version = self.truth.last_version;
        self.commit_id += 1;
        self.roll();
        Ok(())
    }

    /// Closes the open segment unless it is empty, and drops what retention allows.
    fn roll(&mut self) {
        if self.segments.last().is_some_and(|s| !s.records.is_empty()) {
            self.segments.push(Segment {
                first_version: self.truth.last_version + 1,
                records: Vec::new(),
                encrypted: self.config.wal_encrypted,
            });
        }
        if let WalKeep::Last(n) = self.config.wal {
            let closed = self.segments.len() - 1;
            self.segments.drain(..closed.saturating_sub(n));
        }
    }

    /// Merges the stt files of level 0 in every file set into one of level 1.
    pub fn merge_stt(&mut self) -> io::Result<()> {
        self.edit_sets(|edit, _, set| edit.merge_stt(set))
    }

    /// Merges all stt files into the data and tomb files.
    pub fn merge_to_data(&mut self) -> io::Result<()> {
        self.edit_sets(|edit, _, set| {
            if set.files.stt.is_empty() {
                Ok(())
            } else {
                edit.merge_to_data(set, Vec::new(), Vec::new())
            }
        })
    }
}
