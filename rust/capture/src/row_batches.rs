//! Rows that a merge yields, collected into batches of one super table or one normal table.

use crate::CaptureError;
use model::{Cell, Cells, ColumnId, DataType, Key, RowBatch, Suid, TableId, Uid, Version};
use std::ops::Range;
use tdfiles::tsdb::RowBlock;

/// The most rows of a batch that is collected.
const BATCH: usize = 4096;
/// A column that has more bytes ends the batch.
const TEXT: usize = 4 << 20;
/// A block of that many rows is handed on as it is, which costs less than copying it into a batch.
const WHOLE: usize = 512;

/// Takes batches one by one. The first error that it returns ends the reading.
pub(crate) type BatchSink<'s> = dyn FnMut(RowBatch) -> Result<(), CaptureError> + 's;

/// Collects rows and hands them on.
pub(crate) struct Batches<'s> {
    batch: RowBatch,
    sink: &'s mut BatchSink<'s>,
}

/// A column of a row that was merged of several versions.
pub(crate) type MergedCell<'a> = (ColumnId, DataType, Cell<'a>);

impl<'s> Batches<'s> {
    pub(crate) fn new(sink: &'s mut BatchSink<'s>) -> Self {
        Self {
            batch: empty(),
            sink,
        }
    }

    /// Hands on a whole block of one table.
    pub(crate) fn whole(&mut self, table: TableId, block: RowBlock) -> Result<(), CaptureError> {
        let rows = block.rows.len();
        if rows < WHOLE {
            return self.range(table, &block, 0..rows);
        }
        self.flush()?;
        let columns = block.columns.into_iter();
        (self.sink)(RowBatch {
            suid: table.suid,
            tables: vec![(table.uid, rows)],
            keys: block.rows.keys,
            versions: block.rows.versions,
            columns: columns
                .map(|cells| Cells {
                    unset: None,
                    ..cells
                })
                .collect(),
        })
    }

    /// Adds rows of a block, all of one table.
    pub(crate) fn range(
        &mut self,
        table: TableId,
        block: &RowBlock,
        rows: Range<usize>,
    ) -> Result<(), CaptureError> {
        let RowBlock { rows: of, columns } = block;
        let (Some(keys), Some(versions)) =
            (of.keys.get(rows.clone()), of.versions.get(rows.clone()))
        else {
            return Ok(());
        };
        if keys.is_empty() {
            return Ok(());
        }
        let types = columns.iter().map(|cells| (cells.column, cells.data_type));
        self.make_room(table, keys.len(), types)?;
        for cells in columns {
            column_of(&mut self.batch, cells.column, cells.data_type)
                .extend(cells, rows.start, keys.len())
                .map_err(CaptureError::TooLong)?;
        }
        self.batch.keys.extend_from_slice(keys);
        self.batch.versions.extend_from_slice(versions);
        self.added(table.uid, keys.len());
        Ok(())
    }

    /// Adds one row.
    pub(crate) fn row(
        &mut self,
        table: TableId,
        key: Key,
        version: Version,
        cells: &[MergedCell<'_>],
    ) -> Result<(), CaptureError> {
        let types = cells
            .iter()
            .map(|(column, data_type, _)| (*column, *data_type));
        self.make_room(table, 1, types)?;
        for (column, data_type, cell) in cells {
            column_of(&mut self.batch, *column, *data_type)
                .push(*cell)
                .map_err(CaptureError::TooLong)?;
        }
        self.batch.keys.push(key);
        self.batch.versions.push(version);
        self.added(table.uid, 1);
        Ok(())
    }

    /// Hands on what has been collected.
    pub(crate) fn flush(&mut self) -> Result<(), CaptureError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        (self.sink)(std::mem::replace(&mut self.batch, empty()))
    }

    /// Makes room for rows of a table that have these columns.
    fn make_room(
        &mut self,
        table: TableId,
        rows: usize,
        columns: impl Iterator<Item = (ColumnId, DataType)>,
    ) -> Result<(), CaptureError> {
        let known = &self.batch.columns;
        let other_table = table.suid != self.batch.suid
            || table.suid == Suid(0)
                && self
                    .batch
                    .tables
                    .last()
                    .is_some_and(|(uid, _)| *uid != table.uid);
        let other_type = columns.into_iter().any(|(column, data_type)| {
            let at = known.binary_search_by_key(&column, |cells| cells.column);
            at.is_ok_and(|at| {
                known
                    .get(at)
                    .is_some_and(|cells| cells.data_type != data_type)
            })
        });
        let full =
            self.batch.len() + rows > BATCH || known.iter().any(|cells| cells.value_bytes() > TEXT);
        if other_table || other_type || full {
            self.flush()?;
        }
        self.batch.suid = table.suid;
        Ok(())
    }

    /// Counts rows of a table that were added, and fills up the columns that they do not have.
    fn added(&mut self, uid: Uid, rows: usize) {
        let all = self.batch.len();
        for cells in &mut self.batch.columns {
            let missing = all.saturating_sub(cells.len());
            if missing > 0 {
                cells.extend_with_null(missing);
            }
        }
        match self.batch.tables.last_mut() {
            Some((last, count)) if *last == uid => *count += rows,
            _ => self.batch.tables.push((uid, rows)),
        }
    }
}

fn empty() -> RowBatch {
    RowBatch {
        suid: Suid(0),
        tables: Vec::new(),
        keys: Vec::new(),
        versions: Vec::new(),
        columns: Vec::new(),
    }
}

/// The column of a batch, which has as many cells as the batch has rows.
fn column_of(batch: &mut RowBatch, column: ColumnId, data_type: DataType) -> &mut Cells {
    let rows = batch.len();
    let at = match batch
        .columns
        .binary_search_by_key(&column, |cells| cells.column)
    {
        Ok(at) => at,
        Err(at) => {
            let mut cells = Cells::new(column, data_type);
            if rows > 0 {
                cells.extend_with_null(rows);
            }
            batch.columns.insert(at, cells);
            at
        }
    };
    &mut batch.columns[at]
}
