//! File sets of a vnode under commits and merges.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
};

use crate::{
    row::Pk,
    tsdb::{
        BrinRecord, DataSetWriter, DataSource, FileSet, Format, Place, StoredRow, SttLevel, Tomb,
        write_stt, write_tomb,
    },
};

/// A file set with what its files hold.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) files: FileSet,
    stt: Vec<Stt>,
    blocks: Vec<(BrinRecord, Vec<StoredRow>)>,
    tombs: Vec<Tomb>,
}

impl Set {
    /// A file set without files.
    pub(super) fn new(fid: i32) -> Self {
        Self {
            files: FileSet {
                fid,
                ..FileSet::default()
            },
            ..Self::default()
        }
    }
}

#[derive(Debug)]
struct Stt {
    level: i32,
    entry: crate::tsdb::FileEntry,
    rows: Vec<StoredRow>,
    tombs: Vec<Tomb>,
}

/// All file sets of a vnode by number.
pub(super) type Sets = BTreeMap<i32, Set>;

/// Order of rows in files; versions last, so that of equal keys the newest comes last.
fn order(row: &StoredRow) -> (i64, i64, i64, Option<&Pk>, i64) {
    (
        row.suid,
        row.uid,
        row.row.ts,
        row.row.pk.as_ref(),
        row.version,
    )
}

fn same_key(a: &StoredRow, b: &StoredRow) -> bool {
    (a.uid, a.row.ts, &a.row.pk) == (b.uid, b.row.ts, &b.row.pk)
}

/// Sorts rows and keeps the newest of those with equal keys, as every writer of the server does.
fn merged(mut rows: Vec<StoredRow>) -> Vec<StoredRow> {
    rows.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut out: Vec<StoredRow> = Vec::with_capacity(rows.len());
    for row in rows {
        match out.last_mut() {
            Some(last) if same_key(last, &row) => *last = row,
            _ => out.push(row),
        }
    }
    out
}

/// Merges and commits: where, and which tables still count.
pub(super) struct Edit<'a> {
    pub(super) dir: &'a Path,
    pub(super) vg: i32,
    pub(super) cid: i64,
    pub(super) format: Format,
    pub(super) now_ms: i64,
    pub(super) exists: &'a dyn Fn(i64) -> bool,
}

impl Edit<'_> {
    fn place(&self, fid: i32) -> Place {
        Place::new(self.dir, self.vg, fid, self.cid)
    }

    fn remove(&self, fid: i32, cid: i64, ext: &str) -> io::Result<()> {
        fs::remove_file(
            Place {
                cid,
                ..self.place(fid)
            }
            .path(ext),
        )
    }

    /// Writes a new stt file of `level`.
    pub(super) fn add_stt(
        &self,
        set: &mut Set,
        level: i32,
        rows: Vec<StoredRow>,
        mut tombs: Vec<Tomb>,
    ) -> io::Result<()> {
        let rows = merged(rows);
        tombs.sort_by_key(|t| (t.suid, t.uid, t.version));
        if rows.is_empty() && tombs.is_empty() {
            return Ok(());
        }
        let entry = write_stt(
            &self.place(set.files.fid),
            level,
            self.format,
            rows.iter().cloned(),
            &tombs,
        )?;
        set.stt.push(Stt {
            level,
            entry,
            rows,
            tombs,
        });
        self.list_stt(set);
        Ok(())
    }

    fn list_stt(&self, set: &mut Set) {
        let mut levels: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for stt in &set.stt {
            levels.entry(stt.level).or_default().push(stt.entry.clone());
        }
        set.files.stt = levels
            .into_iter()
            .map(|(level, files)| SttLevel { level, files })
            .collect();
        set.files.last_commit = self.now_ms;
    }

    /// Takes rows and deletes of existing tables out of the stt files of one level, or all, and removes the files.
    fn take_stt(
        &self,
        set: &mut Set,
        level: Option<i32>,
    ) -> io::Result<(Vec<StoredRow>, Vec<Tomb>)> {
        let (mut rows, mut tombs, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for stt in std::mem::take(&mut set.stt) {
            if level.is_some_and(|l| l != stt.level) {
                kept.push(stt);
                continue;
            }
            self.remove(set.files.fid, stt.entry.cid, "stt")?;
            rows.extend(stt.rows.into_iter().filter(|r| (self.exists)(r.uid)));
            tombs.extend(stt.tombs.into_iter().filter(|t| (self.exists)(t.uid)));
        }
        set.stt = kept;
        self.list_stt(set);
        Ok((rows, tombs))
    }

    /// Merges the stt files of level 0 into one of level 1.
    pub(super) fn merge_stt(&self, set: &mut Set) -> io::Result<()> {
        if set.stt.iter().any(|s| s.level == 0) {
            let (rows, tombs) = self.take_stt(set, Some(0))?;
            self.add_stt(set, 1, rows, tombs)?;
        }
        Ok(())
    }

    /// Merges all stt files and further rows into the data files, all their deletes into the tomb file.
    pub(super) fn merge_to_data(
        &self,
        set: &mut Set,
        rows: Vec<StoredRow>,
        tombs: Vec<Tomb>,
    ) -> io::Result<()> {
        let (mut all, mut all_tombs) = self.take_stt(set, None)?;
        all.extend(rows);
        all_tombs.extend(tombs);
        let rows = merged(all);
        if !rows.is_empty() {
            self.rewrite_data(set, rows)?;
        }
        if !all_tombs.is_empty() {
            let mut tombs: Vec<_> = std::mem::take(&mut set.tombs)
                .into_iter()
                .filter(|t| (self.exists)(t.uid))
                .collect();
            tombs.extend(all_tombs);
            tombs.sort_by_key(|t| (t.suid, t.uid, t.version));
            if let Some(old) = set.files.tomb.take() {
                self.remove(set.files.fid, old.cid, "tomb")?;
            }
            set.files.tomb = Some(write_tomb(&self.place(set.files.fid), self.format, &tombs)?);
            set.tombs = tombs;
        }
        Ok(())
    }

    fn rewrite_data(&self, set: &mut Set, rows: Vec<StoredRow>) -> io::Result<()> {
        let place = self.place(set.files.fid);
        let old_head = set.files.head.clone();
        let mut w = match (&old_head, set.files.data.clone(), set.files.sma.clone()) {
            (Some(head), Some(data), Some(sma)) => {
                let source = DataSource {
                    data,
                    sma,
                    head_versions: head.min_version.zip(head.max_version),
                };
                DataSetWriter::append(&place, self.format, source)?
            }
            _ => DataSetWriter::create(&place, self.format)?,
        };
        let mut kept: HashMap<i64, Vec<StoredRow>> = HashMap::new();
        let mut written: Vec<StoredRow> = Vec::new();
        let mut rows = rows.into_iter().peekable();
        for (record, old) in std::mem::take(&mut set.blocks) {
            if !(self.exists)(record.uid) {
                continue;
            }
            // Up to the block's first row; then, if some fall into it, all of both.
            let key = |r: &StoredRow| (r.suid, r.uid, r.row.ts, r.row.pk.clone());
            let (first, last) = (key(&old[0]), key(&old[old.len() - 1]));
            while let Some(row) = rows.next_if(|r| key(r) < first) {
                w.push(row.clone())?;
                written.push(row);
            }
            let mut inside = Vec::new();
            while let Some(row) = rows.next_if(|r| key(r) <= last) {
                inside.push(row);
            }
            if inside.is_empty() {
                kept.insert(record.block_offset, old);
                w.keep(record)?;
            } else {
                inside.extend(old);
                for row in merged(inside) {
                    w.push(row.clone())?;
                    written.push(row);
                }
            }
        }
        for row in rows {
            w.push(row.clone())?;
            written.push(row);
        }
        let (files, records) = w.finish()?;
        let mut written = written.into_iter();
        set.blocks = records
            .into_iter()
            .map(|record| {
                let rows = kept.remove(&record.block_offset);
                let rows =
                    rows.unwrap_or_else(|| written.by_ref().take(record.rows as usize).collect());
                (record, rows)
            })
            .collect();
        if let Some(old) = old_head {
            self.remove(set.files.fid, old.cid, "head")?;
        }
        set.files.head = files.head;
        set.files.data = files.data;
        set.files.sma = files.sma;
        Ok(())
    }
}
