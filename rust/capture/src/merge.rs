//! Merging the sorted runs of one file set: its `.data` file and each of its `.stt` files.
//!
//! Every run is sorted by table and key, and a key that was overwritten can stand in several. The merge
//! yields each key once, with the newest version, and holds one block per run in memory.

use crate::{CaptureError, Change, RowChange, change::Sink};
use model::{Key, PkValue, TableId, Version};
use std::{cmp::Ordering, path::PathBuf};
use tdfiles::{FormatError, tsdb::KeyRows};

/// The most rows handed on at once.
const BATCH: usize = 4096;

/// A sorted run: the blocks of one file, one after the other.
pub(crate) struct Run<'a> {
    path: PathBuf,
    since: Version,
    /// The next block; `None` after the last.
    next_block: Box<dyn FnMut() -> Result<Option<KeyRows>, CaptureError> + 'a>,
    block: Option<KeyRows>,
    at: usize,
}

/// The row a run stands at.
#[derive(Clone, Copy)]
struct Row<'a> {
    table: TableId,
    key: Key,
    pk: Option<&'a PkValue>,
    version: Version,
}

impl Row<'_> {
    fn order(&self, other: &Row<'_>) -> Ordering {
        (self.table, self.key, self.pk).cmp(&(other.table, other.key, other.pk))
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        path: PathBuf,
        since: Version,
        next_block: impl FnMut() -> Result<Option<KeyRows>, CaptureError> + 'a,
    ) -> Result<Self, CaptureError> {
        let mut run = Self {
            path,
            since,
            next_block: Box::new(next_block),
            block: None,
            at: 0,
        };
        run.settle()?;
        Ok(run)
    }

    fn row(&self) -> Option<Row<'_>> {
        let block = self.block.as_ref()?;
        Some(Row {
            table: block.table(self.at),
            key: *block.keys.get(self.at)?,
            pk: block.pks.get(self.at),
            version: *block.versions.get(self.at)?,
        })
    }

    fn advance(&mut self) -> Result<(), CaptureError> {
        self.at += 1;
        self.settle()
    }

    /// Moves on to a row later than `since`, through as many blocks as it takes.
    fn settle(&mut self) -> Result<(), CaptureError> {
        loop {
            if let Some(block) = &self.block {
                let later = block.versions[self.at.min(block.len())..]
                    .iter()
                    .position(|version| *version > self.since);
                if let Some(skip) = later {
                    self.at += skip;
                    return Ok(());
                }
            }
            match (self.next_block)()? {
                None => {
                    self.block = None;
                    return Ok(());
                }
                Some(block) => {
                    self.check_order(&block)?;
                    self.block = Some(block);
                    self.at = 0;
                }
            }
        }
    }

    /// The server itself searches blocks by halves: rows out of order mean a damaged file.
    fn check_order(&self, block: &KeyRows) -> Result<(), CaptureError> {
        let row = |i: usize| (block.table(i), block.keys[i], block.pks.get(i));
        let ordered = (1..block.len()).all(|i| row(i - 1) <= row(i));
        let follows = match &self.block {
            Some(before) if !before.is_empty() && !block.is_empty() => {
                let last = before.len() - 1;
                (before.table(last), before.keys[last], before.pks.get(last)) <= row(0)
            }
            _ => true,
        };
        if ordered && follows {
            return Ok(());
        }
        let detail = "rows are not in the order of table and key".into();
        let source = FormatError::Corrupt {
            what: "row block",
            offset: 0,
            detail,
        };
        Err(CaptureError::Format {
            path: self.path.clone(),
            source,
        })
    }
}

/// Yields every key of the runs once, table by table.
pub(crate) fn merge(mut runs: Vec<Run<'_>>, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    let mut batch = Batch::default();
    loop {
        let next = runs
            .iter()
            .enumerate()
            .filter_map(|(i, run)| Some((i, run.row()?)))
            .min_by(|(_, a), (_, b)| a.order(b).then(b.version.cmp(&a.version)));
        let Some((i, row)) = next else { break };
        batch.push(row, sink)?;
        runs[i].advance()?;
    }
    batch.flush(sink)
}

/// Rows of one table, collected before they are handed on.
#[derive(Default)]
struct Batch {
    table: Option<TableId>,
    keys: Vec<Key>,
    versions: Vec<Version>,
    pks: Vec<PkValue>,
}

impl Batch {
    fn push(&mut self, row: Row<'_>, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let same_table = self.table == Some(row.table);
        if same_table && self.keys.last() == Some(&row.key) && self.pks.last() == row.pk {
            // The same key again, from a lower level or an earlier block.
            if let Some(version) = self.versions.last_mut() {
                *version = row.version.max(*version);
            }
            return Ok(());
        }
        // A batch is cut between keys, so that a repeated key always meets its twin.
        if !same_table || self.keys.len() == BATCH {
            self.flush(sink)?;
            self.table = Some(row.table);
        }
        self.keys.push(row.key);
        self.versions.push(row.version);
        self.pks.extend(row.pk.cloned());
        Ok(())
    }

    fn flush(&mut self, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if let Some(table) = self.table {
            let rows = RowChange::merged(table, &self.keys, &self.versions, &self.pks);
            if let Some(rows) = rows {
                sink(Change::Rows(rows))?;
            }
        }
        self.keys.clear();
        self.versions.clear();
        self.pks.clear();
        Ok(())
    }
}
