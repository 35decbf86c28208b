//! Large vnodes for benches, streamed to disk.

use std::{fs, io, path::Path};

use super::VnodeJson;
use crate::{
    row::Row,
    tsdb::{
        CurrentJson, DataSetWriter, FileSet, Format, Place, Release, StoredRow, SttLevel, SttWriter,
    },
    wal::{self, Record, SegmentWriter, TableRows, WalFile, submit_rows},
};

/// Vnodes written.
const VNODES: i32 = 2;
/// First timestamp: 2024-01-01 in ms.
const START: i64 = 1_704_067_200_000;
/// Minutes a file set spans.
const MINUTES_PER_FILE: i64 = 14_400;
/// Rows of one submit of the first load.
const LOAD_BATCH: i64 = 2500;
/// Rows of one dirty span.
const SPAN: i64 = 50;
/// Super table.
const SUID: i64 = 1 << 50;

/// What [`big`] wrote.
#[derive(Clone, Debug)]
pub struct BigTruth {
    /// The vnodes, in order of vgroup id from 2.
    pub vnodes: Vec<BigVnode>,
}

/// One vnode of [`big`].
#[derive(Clone, Debug)]
pub struct BigVnode {
    /// Vgroup id.
    pub vg: i32,
    /// Rows on disk in data files.
    pub rows: i64,
    /// Commit version of the first load; what is newer is dirty.
    pub since: i64,
    /// Last version in stt files: the commit version.
    pub committed: i64,
    /// Last version in the log.
    pub last: i64,
    /// Dirty rows in stt files (and the last closed segment).
    pub dirty_flushed: i64,
    /// Dirty rows in the log only.
    pub dirty_in_wal: i64,
    /// Dirty spans (uid, first ts, last ts), flushed or not, in order of version.
    pub spans: Vec<(i64, i64, i64)>,
}

/// Two vnodes `dir/vnode/vnode2` and `3` with `tables` child tables between them, `rows_per_table` rows each, one every
/// `interval` ms. All rows are loaded and merged into data files; their log is gone. Then `dirty_fraction` (0 to 1) of
/// the rows are written again in spans of 50: in tables with even number these are in stt files too, in the others
/// only in the log.
pub fn big(
    dir: &Path,
    tables: u32,
    rows_per_table: u32,
    interval: u32,
    dirty_fraction: f64,
) -> io::Result<BigTruth> {
    big_irregular(dir, tables, rows_per_table, interval, 0, dirty_fraction)
}

/// [`big`] with rows up to `jitter` ms (less than `interval`) late. Their timestamps do not compress, so readers have
/// some hundred times more key bytes to read.
pub fn big_irregular(
    dir: &Path,
    tables: u32,
    rows_per_table: u32,
    interval: u32,
    jitter: u32,
    dirty_fraction: f64,
) -> io::Result<BigTruth> {
    assert!(rows_per_table > 0 && jitter < interval);
    let load = Load {
        rows: rows_per_table.into(),
        interval: interval.into(),
        jitter: jitter.into(),
        dirty_fraction,
    };
    let vnodes = (0..VNODES)
        .map(|i| {
            let share = (i64::from(tables) + i64::from(VNODES - 1 - i)) / i64::from(VNODES);
            Vnode {
                load,
                vg: 2 + i,
                tables: share,
            }
            .write(dir)
        })
        .collect::<io::Result<_>>()?;
    Ok(BigTruth { vnodes })
}

/// A number without pattern for every row.
fn scatter(row: i64) -> u64 {
    let mixed = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 32)
}

#[derive(Clone, Copy)]
struct Load {
    rows: i64,
    interval: i64,
    jitter: i64,
    dirty_fraction: f64,
}

impl Load {
    /// Dirty spans of a table as row numbers [first, end).
    fn spans(self) -> impl Iterator<Item = (i64, i64)> {
        let dirty = (self.rows as f64 * self.dirty_fraction).round() as i64;
        let count = (dirty + SPAN - 1) / SPAN;
        (0..count).map(move |s| {
            let first = self.rows * s / count;
            (
                first,
                first
                    + SPAN
                        .min(dirty - s * SPAN)
                        .min(self.rows * (s + 1) / count - first),
            )
        })
    }

    /// Row numbers [first, end) in a file set.
    fn rows_in(self, fid: i64) -> (i64, i64) {
        let span = MINUTES_PER_FILE * 60_000;
        (
            self.first_row_from(fid * span),
            self.first_row_from((fid + 1) * span),
        )
    }

    /// Number of the first row at or after a timestamp.
    fn first_row_from(self, ts: i64) -> i64 {
        let regular = (ts - START).div_euclid(self.interval).clamp(0, self.rows);
        regular + i64::from(regular < self.rows && self.ts(regular) < ts)
    }

    fn fids(self) -> std::ops::RangeInclusive<i64> {
        let span = MINUTES_PER_FILE * 60_000;
        START / span..=self.ts(self.rows - 1) / span
    }

    fn ts(self, row: i64) -> i64 {
        START + row * self.interval + (scatter(row) % (self.jitter as u64 + 1)) as i64
    }
}

struct Vnode {
    load: Load,
    vg: i32,
    tables: i64,
}

impl Vnode {
    fn uid(&self, table: i64) -> i64 {
        SUID + (i64::from(self.vg) << 32) + table
    }

    /// Version of a row of the first load: round by round, table by table.
    fn load_version(&self, table: i64, row: i64) -> i64 {
        2 + self.tables / 1000 + row / LOAD_BATCH * self.tables + table
    }

    fn stored(&self, table: i64, row: i64, version: i64) -> StoredRow {
        let value = (scatter(row) >> 8 & 0xff) as i32;
        StoredRow {
            suid: SUID,
            uid: self.uid(table),
            version,
            row: Row::new(self.load.ts(row), value),
        }
    }

    fn write(&self, dir: &Path) -> io::Result<BigVnode> {
        let root = dir.join(format!("vnode/vnode{}", self.vg));
        fs::create_dir_all(root.join("wal"))?;
        fs::create_dir_all(root.join("tsdb"))?;
        let since = self.load_version(self.tables - 1, self.load.rows.max(1) - 1) + 1;
        let spans: Vec<_> = self.load.spans().collect();
        let per_table = spans.len() as i64;
        let flushed_tables = (self.tables + 1) / 2;
        let committed = since + flushed_tables * per_table + 1;

        let mut sets = Vec::new();
        for fid in self.load.fids() {
            sets.push(self.write_set(&root.join("tsdb"), fid, since, &spans)?);
        }
        let mut truth = BigVnode {
            vg: self.vg,
            rows: self.tables * self.load.rows,
            since,
            committed,
            last: committed,
            dirty_flushed: 0,
            dirty_in_wal: 0,
            spans: Vec::new(),
        };
        self.write_wal(&root.join("wal"), &spans, &mut truth)?;

        fs::write(
            root.join("tsdb/current.json"),
            CurrentJson {
                release: Release::V337,
                sets,
            }
            .to_string(),
        )?;
        let json = VnodeJson {
            vg: self.vg,
            minutes_per_file: MINUTES_PER_FILE as i32,
            counts: [1, self.tables, 0, 2 * self.tables, 0],
            commit_version: committed,
            commit_id: 2,
            commit_term: 1,
            ..VnodeJson::default()
        };
        fs::write(root.join("vnode.json"), json.to_string())?;
        Ok(truth)
    }

    /// Data files of the first load, an stt file of the dirty rows of even tables.
    fn write_set(
        &self,
        dir: &Path,
        fid: i64,
        since: i64,
        spans: &[(i64, i64)],
    ) -> io::Result<FileSet> {
        let format = Format::default();
        let (first, end) = self.load.rows_in(fid);
        let place = |cid| Place::new(dir, self.vg, fid as i32, cid);
        let mut data = DataSetWriter::create(&place(1), format)?;
        for table in 0..self.tables {
            for row in first..end {
                data.push(self.stored(table, row, self.load_version(table, row)))?;
            }
        }
        let (mut set, _) = data.finish()?;
        set.last_commit = START;
        if spans.iter().any(|s| s.0 < end && s.1 > first) {
            let mut stt = SttWriter::create(&place(2), 0, format)?;
            for table in (0..self.tables).step_by(2) {
                for (i, span) in spans.iter().enumerate() {
                    let version = since + 1 + table / 2 * spans.len() as i64 + i as i64;
                    for row in span.0.max(first)..span.1.min(end) {
                        stt.push(self.stored(table, row, version))?;
                    }
                }
            }
            set.stt = vec![SttLevel {
                level: 0,
                files: vec![stt.finish(&[])?],
            }];
        }
        Ok(set)
    }

    /// A closed segment with what the second commit flushed, an open one with the rest.
    fn write_wal(&self, dir: &Path, spans: &[(i64, i64)], truth: &mut BigVnode) -> io::Result<()> {
        let first = truth.since + 1;
        let mut version = first;
        let record = |version: i64, msg_type, body| Record {
            version,
            ingest_us: START * 1000 + version,
            msg_type,
            term: 1,
            body,
        };
        let mut sizes = Vec::new();
        for (parity, start) in [(0, first), (1, truth.committed + 1)] {
            let mut w = SegmentWriter::create(dir, start)?;
            for table in (parity..self.tables).step_by(2) {
                for &(from, end) in spans {
                    let rows: Vec<_> = (from..end)
                        .map(|row| self.stored(table, row, version).row)
                        .collect();
                    truth
                        .spans
                        .push((self.uid(table), self.load.ts(from), self.load.ts(end - 1)));
                    if parity == 0 {
                        truth.dirty_flushed += end - from;
                    } else {
                        truth.dirty_in_wal += end - from;
                    }
                    let rows = TableRows {
                        suid: SUID,
                        uid: self.uid(table),
                        sver: 1,
                        rows,
                        ..TableRows::default()
                    };
                    w.append(&record(version, wal::SUBMIT, submit_rows(self.vg, &[rows])))?;
                    version += 1;
                }
            }
            if parity == 0 {
                w.append(&record(version, wal::COMMIT, wal::commit(self.vg)))?;
                version += 1;
            }
            sizes.push(w.finish()?);
        }
        truth.last = version - 1;
        let closed = WalFile {
            first,
            last: truth.committed,
            created_s: 0,
            closed_s: 0,
            size: sizes[0],
        };
        let open = WalFile {
            first: truth.committed + 1,
            last: -1,
            created_s: 0,
            closed_s: -1,
            size: 0,
        };
        wal::write_meta(
            dir,
            1,
            first,
            truth.committed,
            truth.committed,
            &[closed, open],
        )
    }
}
