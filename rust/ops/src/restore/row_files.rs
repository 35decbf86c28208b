//! Writing the rows of files with many tables, several row groups at a time.
//!
//! Row groups are taken in the order of file sets: for the server it is cheapest to get one period of time of all tables
//! after the other. Those that hold the same table alone go through one connection, as the server takes half as long again for
//! rows of a table that come in another order than that of their keys.

use super::{RestoreError, rows::Writer};
use ::rows::{
    arrow::{RowsError, TableRows, TablesOf},
    parquet::{ParquetFile, Selection, Stored},
};
use model::{Key, KeySpan, MayPass as _, catalogue::Schema, pool};
use parking_lot::Mutex;
use repository::link::{LinkError, RowFile, TableChange};
use server::{
    insert::{InsertError, Sent, Shape},
    load::{Loader, Part, loads},
};
use std::{
    collections::HashMap,
    ops::Range,
    slice,
    sync::atomic::{AtomicBool, Ordering},
};
use store::Store;

/// The tables whose rows are in files of many tables, by name.
pub(super) type Tables<'a> = HashMap<&'a str, Target<'a>>;

/// A table whose rows are in files of many tables.
pub(super) struct Target<'a> {
    change: &'a TableChange,
    schema: &'a Schema,
    state: Mutex<State>,
    /// Whether rows were sent to it.
    is_met: AtomicBool,
}

/// How far a table is.
#[derive(Default)]
struct State {
    sent: Sent,
    failed: bool,
}

impl<'a> Target<'a> {
    pub(super) fn new(change: &'a TableChange, schema: &'a Schema) -> Self {
        Self {
            change,
            schema,
            state: Mutex::default(),
            is_met: AtomicBool::new(false),
        }
    }

    /// How many rows it has in these files.
    pub(super) fn rows(&self) -> u64 {
        self.change.rows
    }

    /// No further row of the table is written. Whether that is new.
    pub(super) fn give_up(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().failed, true)
    }

    fn is_given_up(&self) -> bool {
        self.state.lock().failed
    }
}

/// Writes the rows of these files that belong to the writer's tables.
pub(super) fn write(writer: &Writer<'_>, files: &[RowFile]) -> Result<(), RestoreError> {
    let mut ordered: Vec<&RowFile> = files.iter().collect();
    // Those that came by SQL have no file set, and come last.
    ordered.sort_by_key(|rows| (rows.file_set.is_none(), rows.file_set, rows.vgroup));
    let queue = Mutex::new(Queue {
        store: &*writer.link.store,
        files: ordered.into_iter(),
        current: None,
    });
    let workers = vec![(); writer.job.threads.max(1)];
    pool::run(
        &workers,
        workers.len(),
        || None,
        |loader, ()| {
            while let Some(groups) = next_of(&queue)? {
                let written = write_groups(writer, loader, groups);
                if written.is_err() {
                    queue.lock().end();
                }
                written?;
            }
            Ok::<_, RestoreError>(())
        },
    )?;
    for target in writer.tables.values() {
        let state = target.state.lock();
        let (found, change) = (state.sent.all(), target.change);
        if !state.failed && found != change.rows {
            drop(state);
            let problem = format!(
                "the files of rows hold {found} rows of it, the list of changes says {}",
                change.rows
            );
            writer.fail(change, problem);
        }
    }
    Ok(())
}

/// Row groups that are still to be written.
struct Queue<'a> {
    store: &'a dyn Store,
    files: std::vec::IntoIter<&'a RowFile>,
    current: Option<(File<'a>, Range<usize>)>,
}

/// Row groups of a file that go through one connection.
struct Groups<'a> {
    file: File<'a>,
    numbers: Range<usize>,
}

#[derive(Clone)]
struct File<'a> {
    opened: ParquetFile<Stored<'a>>,
    place: String,
}

impl<'a> Queue<'a> {
    fn next(&mut self) -> Result<Option<Groups<'a>>, RestoreError> {
        loop {
            if let Some((file, groups)) = &mut self.current
                && let Some(numbers) = of_one_table(groups, |number| file.opened.only_table(number))
            {
                return Ok(Some(Groups {
                    file: file.clone(),
                    numbers,
                }));
            }
            let Some(rows) = self.files.next() else {
                return Ok(None);
            };
            let (store, name) = (self.store, rows.file.path.as_str());
            let place = store.place(name);
            let opened = ParquetFile::open(Stored::new(store, name), &place);
            let opened = opened.map_err(LinkError::from)?;
            let groups = 0..opened.row_groups();
            self.current = Some((File { opened, place }, groups));
        }
    }

    /// Nothing follows.
    fn end(&mut self) {
        self.files = Vec::new().into_iter();
        self.current = None;
    }
}

/// Takes the next row group out, and with it those behind it that hold no other table than it does.
fn of_one_table<T: PartialEq>(
    groups: &mut Range<usize>,
    only_table: impl Fn(usize) -> Option<T>,
) -> Option<Range<usize>> {
    let first = groups.next()?;
    if let Some(table) = only_table(first) {
        while groups.start < groups.end && only_table(groups.start).as_ref() == Some(&table) {
            groups.start += 1;
        }
    }
    Some(first..groups.start)
}

fn next_of<'a>(queue: &Mutex<Queue<'a>>) -> Result<Option<Groups<'a>>, RestoreError> {
    let mut queue = queue.lock();
    let next = queue.next();
    if next.is_err() {
        queue.end();
    }
    next
}

fn write_groups<'w>(
    writer: &'w Writer<'_>,
    loader: &mut Option<Loader<'w>>,
    groups: Groups<'_>,
) -> Result<(), RestoreError> {
    let file = &groups.file;
    let damaged = |error: RowsError| LinkError::Damaged {
        place: file.place.clone(),
        problem: error.to_string(),
    };
    let shape = Shape::of_file(file.opened.layout().columns());
    let selection = Selection {
        versions: false,
        ..Selection::ALL
    };
    let mut batches = file.opened.read_groups(groups.numbers, selection);
    while let Some(batch) = batches.next().map_err(LinkError::from)? {
        let parts = wanted(writer, &batch, &file.place).map_err(damaged)?;
        for load in loads(&shape, parts, writer.job.batch).map_err(damaged)? {
            writer.progress.go_on()?;
            write_load(writer, loader, &shape, load)?;
        }
    }
    Ok(())
}

/// The rows of a batch that are to be written: of tables that the link changes, in their spans.
fn wanted<'b>(
    writer: &Writer<'_>,
    batch: &'b TablesOf,
    place: &str,
) -> Result<Vec<Part<'b>>, RowsError> {
    let mut parts = Vec::new();
    for rows in batch.tables() {
        let target = writer.tables.get(rows.name);
        let Some(target) = target.filter(|target| !target.is_given_up()) else {
            continue;
        };
        if !has_columns_of(batch, target.schema) {
            let problem = format!("{place} has other columns than the link says");
            writer.fail(target.change, problem);
            continue;
        }
        for part in in_spans(&rows, target.change) {
            parts.push(Part::new(part)?);
        }
    }
    Ok(parts)
}

/// Whether the rows have just the columns of this schema.
fn has_columns_of(rows: &TablesOf, schema: &Schema) -> bool {
    let columns = rows.layout().columns();
    let same = columns.iter().zip(&schema.columns).all(|(found, column)| {
        column.id == Some(found.id.0.into())
            && column.name == found.name
            && column.column_type.data_type == found.column_type.data_type
    });
    same && columns.len() == schema.columns.len()
}

/// The rows in the spans of the change.
fn in_spans<'b>(rows: &TableRows<'b>, change: &TableChange) -> Vec<TableRows<'b>> {
    let keys: Vec<Key> = rows.keys().collect();
    let ranges = within(&keys, &change.spans);
    ranges.map(|range| rows.slice(range)).collect()
}

/// Where keys, which ascend, lie in spans.
fn within<'k>(keys: &'k [Key], spans: &'k [KeySpan]) -> impl Iterator<Item = Range<usize>> + 'k {
    let ranges = spans.iter().map(|span| {
        let before = keys.partition_point(|key| *key < span.first);
        before..keys.partition_point(|key| *key <= span.last)
    });
    ranges.filter(|range| !range.is_empty())
}

/// Writes a load, again as long as the server can't take it. Of each table it is counted, or the table fails.
fn write_load<'w>(
    writer: &'w Writer<'_>,
    slot: &mut Option<Loader<'w>>,
    shape: &Shape,
    mut load: Vec<Part<'_>>,
) -> Result<(), RestoreError> {
    let mut alone = false;
    while !load.is_empty() {
        let loader = match slot {
            Some(loader) => loader,
            None => match writer.connect() {
                Ok(connection) => slot.insert(Loader::new(connection, writer.target)),
                Err(error) if error.may_pass() && writer.waits_after(&error)? => continue,
                Err(error) => return Err(error.into()),
            },
        };
        let new = load.iter().filter(|part| is_new(writer, part.rows.name));
        let new: Vec<&str> = new.map(|part| part.rows.name).collect();
        if new.len() > 1 {
            loader.meet(&new);
        }
        let outcomes: Vec<_> = match alone {
            false => loader.send(shape, &load, writer.oldest),
            true => load
                .iter()
                .flat_map(|part| loader.send(shape, slice::from_ref(part), writer.oldest))
                .collect(),
        };
        let (mut left, mut passing) = (Vec::new(), None);
        for (part, outcome) in load.into_iter().zip(outcomes) {
            match outcome {
                Ok(sent) => count(writer, part.rows.name, sent),
                Err(InsertError::Sql(error))
                    if error.is_disconnected() || error.may_pass() && !alone =>
                {
                    left.push(part);
                    passing = Some(error);
                }
                Err(error) => fail(writer, part.rows.name, error.to_string()),
            }
        }
        load = left;
        if let Some(error) = passing {
            *slot = None;
            // One vgroup without a leader: the tables of the others can be written.
            alone = !writer.waits_after(&error)?;
        }
    }
    Ok(())
}

/// Whether a table gets its first rows.
fn is_new(writer: &Writer<'_>, table: &str) -> bool {
    let target = writer.tables.get(table);
    target.is_some_and(|target| !target.is_met.swap(true, Ordering::Relaxed))
}

/// Rows of a table were written, but for those that can't be. With the last of them, the table is.
fn count(writer: &Writer<'_>, table: &str, mut sent: Sent) {
    let Some(target) = writer.tables.get(table) else {
        return;
    };
    if let Some(problem) = writer.misfit(&mut sent) {
        return fail(writer, table, problem);
    }
    writer.progress.advance(0, sent.rows);
    writer.left.written(sent.all());
    let mut state = target.state.lock();
    state.sent += sent;
    if !state.failed && state.sent.all() == target.change.rows {
        writer.written(target.change, state.sent.clone());
        writer.progress.advance(1, 0);
    }
}

fn fail(writer: &Writer<'_>, table: &str, problem: String) {
    if let Some(target) = writer.tables.get(table) {
        writer.fail(target.change, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_groups_of_one_table_stay_together() {
        let tables = [Some("a"), Some("a"), None, None, Some("b"), Some("c")];
        let mut left = 0..tables.len();
        let mut next = || of_one_table(&mut left, |number| tables[number]);
        let taken: Vec<Range<usize>> = std::iter::from_fn(&mut next).collect();
        assert_eq!(taken, [0..2, 2..3, 3..4, 4..5, 5..6]);
    }

    #[test]
    fn only_keys_in_the_spans_are_taken() {
        let keys: Vec<Key> = [1, 3, 3, 5, 9].map(Key).to_vec();
        let span = |first, last| KeySpan {
            first: Key(first),
            last: Key(last),
        };
        let found = |spans: &[KeySpan]| within(&keys, spans).collect::<Vec<_>>();
        let all = 0..keys.len();
        assert_eq!(found(&[KeySpan::ALL]), [all]);
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[span(3, 3), span(4, 4), span(5, 20)]), [1..3, 3..5]);
        assert_eq!(found(&[span(-9, 0), span(10, 20)]), []);
    }
}
