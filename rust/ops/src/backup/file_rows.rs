//! Rows straight from the server's committed files. They are exactly those of the watermark, whatever is written meanwhile,
//! and cost the server nothing.
//!
//! What the files can't give, such as BLOBs or a column in a lossy encoding, is left to SQL, table by table.

use super::{
    BackupError,
    rows::{TableJob, TableResult, Work},
};
use ::rows::{
    avro::{DataFileError, FileWriter, Layout},
    stored::{NotShown, ShownCells},
};
use capture::{CaptureError, RowView, Unread, WantedRows};
use model::{
    Cells, ColumnId, DataType, Key, KeySpan, RowBatch, Uid, Value, VgId,
    catalogue::{self, Catalogue, Column, Schema, Table},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most tables that are read at a time, each of which has a file open.
const TOGETHER: usize = 256;

/// The vnodes whose files can be read.
pub(super) struct FileRows<'a> {
    rows: &'a BTreeMap<VgId, RowView>,
    /// The first key that queries show: older ones are past the database's KEEP, though the files may have them.
    oldest: Key,
}

impl<'a> FileRows<'a> {
    pub(super) fn new(rows: &'a BTreeMap<VgId, RowView>, catalogue: &Catalogue) -> Self {
        let ticks = catalogue.database.precision.ticks_per_second();
        let keep = catalogue::keep_seconds(&catalogue.database.create);
        let now = jiff::Timestamp::now().as_nanosecond() / (1_000_000_000 / i128::from(ticks));
        let oldest = keep.map_or(i128::from(i64::MIN), |keep| {
            now - i128::from(keep) * i128::from(ticks) + 1
        });
        Self {
            rows,
            oldest: Key(oldest.clamp(i64::MIN.into(), i64::MAX.into()) as i64),
        }
    }

    /// Where the rows of a table can be read; `None` if only SQL can give them.
    pub(super) fn of(&self, table: &Table, schema: &Schema) -> Option<&'a RowView> {
        let readable = |column: &Column| {
            let data_type = column.column_type.data_type;
            column.id.is_some() && !matches!(data_type, DataType::Blob | DataType::MediumBlob)
        };
        let view = self.rows.get(&table.vgroup)?;
        let known = schema.columns.iter().all(readable) && !schema.has_lost_precision();
        known.then_some(view)
    }

    /// The part of the spans that queries show.
    pub(super) fn shown(&self, spans: &[KeySpan]) -> Vec<KeySpan> {
        let shown = spans.iter().filter(|span| span.last >= self.oldest);
        let cut = shown.map(|span| KeySpan {
            first: span.first.max(self.oldest),
            last: span.last,
        });
        cut.collect()
    }

    /// Tables that are read together: few enough for every worker to get some.
    pub(super) fn together(
        mut tables: Vec<TableJob>,
        threads: usize,
    ) -> impl Iterator<Item = Vec<TableJob>> {
        tables.sort_by_key(|table| table.id);
        let each = (tables.len() / (2 * threads.max(1))).clamp(1, TOGETHER);
        std::iter::from_fn(move || {
            let rest = tables.split_off(each.min(tables.len()));
            let taken = std::mem::replace(&mut tables, rest);
            (!taken.is_empty()).then_some(taken)
        })
    }
}

/// What comes of the tables that are read together.
struct Outcome<'l> {
    writers: HashMap<Uid, FileWriter<'l>>,
    /// Tables that SQL has to be asked for.
    by_query: BTreeSet<Uid>,
    /// Columns of tables that have to be written as bytes, from the start.
    as_bytes: BTreeMap<Uid, BTreeSet<usize>>,
}

impl Outcome<'_> {
    /// Whether what comes of a table is still wanted.
    fn wants(&self, uid: Uid) -> bool {
        !self.by_query.contains(&uid) && !self.as_bytes.contains_key(&uid)
    }
}

/// Why rows were not taken.
enum Refused {
    Data(DataFileError),
    Backup(BackupError),
}

impl Work<'_> {
    /// Copies tables of one vnode from its files. Gives back those that only SQL can give.
    pub(super) fn files<'t>(
        &self,
        view: &RowView,
        tables: &'t [TableJob],
    ) -> Result<Vec<&'t TableJob>, BackupError> {
        let mut left: Vec<(&TableJob, BTreeSet<usize>)> = tables
            .iter()
            .map(|table| (table, BTreeSet::new()))
            .collect();
        let mut by_query = Vec::new();
        while !left.is_empty() {
            let layouts = left
                .iter()
                .map(|(table, as_bytes)| {
                    let types = table.columns.schema.columns.iter();
                    let types = types.map(|column| column.column_type.data_type).collect();
                    let layout = self.file_layout(types, as_bytes, &table.file)?;
                    Ok((table.id.uid, (*table, layout)))
                })
                .collect::<Result<HashMap<_, _>, DataFileError>>()?;
            let outcome = self.read_together(view, &layouts)?;
            let mut again = Vec::new();
            let Outcome {
                mut writers,
                by_query: refused,
                mut as_bytes,
            } = outcome;
            for (table, mut bytes) in left {
                let uid = table.id.uid;
                let writer = writers.remove(&uid);
                if refused.contains(&uid) {
                    drop(writer);
                    self.store.remove(&table.file)?;
                    by_query.push(table);
                } else if let Some(more) = as_bytes.remove(&uid) {
                    drop(writer);
                    self.store.remove(&table.file)?;
                    bytes.extend(more);
                    again.push((table, bytes));
                } else {
                    let file = writer.map(FileWriter::finish).transpose()?;
                    self.report(&table.name, TableResult::Rows(file));
                }
            }
            left = again;
        }
        Ok(by_query)
    }

    fn read_together<'l>(
        &self,
        view: &RowView,
        tables: &'l HashMap<Uid, (&TableJob, Layout)>,
    ) -> Result<Outcome<'l>, BackupError> {
        let wanted: WantedRows = tables
            .values()
            .map(|(table, _)| (table.id, table.shown.clone()))
            .collect();
        let mut outcome = Outcome {
            writers: HashMap::new(),
            by_query: BTreeSet::new(),
            as_bytes: BTreeMap::new(),
        };
        for (set, range) in view.file_sets() {
            let mut spans = wanted.values().flatten();
            if !spans.any(|span| span.overlaps(range)) {
                continue;
            }
            let mut refused = None;
            let read = view.read(set, &wanted, &mut |batch| {
                let taken = match self.progress.go_on() {
                    Ok(()) => self.take(batch, tables, &mut outcome),
                    Err(cancelled) => Err(Refused::Backup(cancelled.into())),
                };
                taken.map_err(|error| {
                    refused = Some(error);
                    CaptureError::Stopped
                })
            });
            match (read, refused) {
                (_, Some(Refused::Data(error))) => return Err(error.into()),
                (_, Some(Refused::Backup(error))) => return Err(error),
                (Ok(Unread::Spans(spans)), None) => {
                    let tables = spans.into_iter().map(|(table, _)| table.uid);
                    outcome.by_query.extend(tables);
                }
                (Ok(Unread::Everything) | Err(CaptureError::TooLong(_)), None) => {
                    outcome.by_query.extend(tables.keys());
                    return Ok(outcome);
                }
                (Err(error), None) => return Err(error.into()),
            }
        }
        Ok(outcome)
    }

    /// Writes the rows of a batch to the files of their tables.
    fn take<'l>(
        &self,
        mut batch: RowBatch,
        tables: &'l HashMap<Uid, (&TableJob, Layout)>,
        outcome: &mut Outcome<'l>,
    ) -> Result<(), Refused> {
        let mut shown = None;
        let mut from = 0;
        for (uid, count) in std::mem::take(&mut batch.tables) {
            let rows = from..from + count;
            from = rows.end;
            let Some((table, layout)) = tables.get(&uid) else {
                continue;
            };
            if !outcome.wants(uid) {
                continue;
            }
            // All tables of a batch have the same columns.
            let columns = shown.get_or_insert_with(|| {
                by_column(std::mem::take(&mut batch.columns), &table.columns.schema)
            });
            let Ok(columns) = columns else {
                outcome.by_query.insert(uid);
                continue;
            };
            let writer = match outcome.writers.entry(uid) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(self.create(&table.file, layout).map_err(Refused::Data)?)
                }
            };
            for row in rows {
                let key = batch
                    .keys
                    .get(row)
                    .map_or(Value::Null, |key| Value::Int(key.0));
                let value = |column: usize| match column.checked_sub(1) {
                    None => key,
                    Some(column) => match columns.get(column) {
                        Some(Some(cells)) => cells.value(row),
                        _ => Value::Null,
                    },
                };
                match writer.append(&[&table.name], &value) {
                    Ok(()) => {}
                    Err(DataFileError::NotText(column)) => {
                        outcome.as_bytes.entry(uid).or_default().insert(column);
                        break;
                    }
                    Err(error) => return Err(Refused::Data(error)),
                }
            }
        }
        Ok(())
    }
}

/// The cells of each column of a schema behind the key.
fn by_column(cells: Vec<Cells>, schema: &Schema) -> Result<Vec<Option<ShownCells>>, NotShown> {
    let mut by_id: BTreeMap<ColumnId, Cells> = cells
        .into_iter()
        .map(|cells| (cells.column, cells))
        .collect();
    let columns = schema.columns.iter().skip(1);
    columns
        .map(|column| {
            let id = column.id.and_then(|id| i16::try_from(id).ok());
            let cells = id.and_then(|id| by_id.remove(&ColumnId(id)));
            cells
                .map(|cells| ShownCells::of(cells, column.column_type))
                .transpose()
        })
        .collect()
}
