//! Deleting ranges and writing rows, over several connections.

use super::{Apply, Failures, RestoreError, literal::literal};
use crate::{
    catalogue::{Schema, Table, database_options, keep_seconds},
    data_file::{FileReader, OwnedValue},
    dump::where_clause,
    link::{LinkError, TableChange},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use taos::{Column, Connection, DataType, SqlError, sql};
use tdfiles::Precision;

/// What was written.
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) tables: u64,
    /// Rows that are older than the database keeps.
    pub(super) expired: u64,
}

/// A batch is sent when it holds this many bytes, or rows: the client library takes no more at a time.
const BATCH_BYTES: usize = 4 << 20;
const MOST_ROWS: usize = 32_767;

/// A statement of SQL text is sent when it holds this many bytes; the server takes 1 MiB.
const STATEMENT_BYTES: usize = 512 << 10;

/// How often a lost connection is made again for a table, and how long to wait before that.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The server's "Timestamp data out of range".
const OUT_OF_RANGE: u32 = 0x060b;

pub(super) fn write(
    apply: &Apply<'_>,
    tables: &BTreeMap<String, Table>,
    changes: &[TableChange],
) -> Result<Written, RestoreError> {
    let mut jobs = Vec::new();
    for change in changes {
        if change.file.is_none() && (change.create || change.deletes.is_empty()) {
            continue;
        }
        let Some(table) = tables.get(&change.name) else {
            continue;
        };
        let schema = match &table.stable {
            Some(stable) => apply
                .database
                .stables
                .iter()
                .find(|s| s.name == *stable)
                .map(|s| &s.schema),
            None => table.schema.as_ref(),
        };
        match schema.map(Shape::of) {
            Some(Ok(shape)) => jobs.push((change, shape)),
            Some(Err(problem)) => apply
                .failures
                .add(format!("table {}: {problem}", change.name)),
            None => apply.failures.add(format!(
                "table {}: the link does not know its columns",
                change.name
            )),
        }
    }
    let writer = Writer {
        job: apply.job,
        library: apply.library,
        link: apply.link,
        target: apply.target,
        oldest: oldest_key(apply.connection, apply.target),
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        expired: AtomicU64::new(0),
        given_up: AtomicBool::new(false),
        failures: &apply.failures,
        progress: apply.progress,
    };
    let threads = apply.job.threads.clamp(1, jobs.len().max(1));
    let outcomes: Vec<Result<(), RestoreError>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| writer.run(&jobs)))
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| match worker.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    });
    outcomes.into_iter().collect::<Result<(), RestoreError>>()?;
    Ok(Written {
        rows: writer.rows.into_inner(),
        tables: jobs.len() as u64,
        expired: writer.expired.into_inner(),
    })
}

/// The first key that a database takes, by its KEEP and this machine's clock.
pub(super) fn oldest_key(connection: &Connection, database: &str) -> Option<i64> {
    let query = format!("SHOW CREATE DATABASE {}", sql::name(database));
    let mut rows = connection.query(&query).ok()?;
    let create = rows.next().ok()??.text(1);
    let precision = match database_options(&create).get("PRECISION")?.as_str() {
        "'ms'" => Precision::Milliseconds,
        "'us'" => Precision::Microseconds,
        "'ns'" => Precision::Nanoseconds,
        _ => return None,
    };
    let seconds = jiff::Timestamp::now()
        .as_second()
        .checked_sub(keep_seconds(&create)?)?;
    seconds.checked_mul(precision.ticks_per_second())
}

/// The columns of a table.
pub(super) struct Shape {
    key: String,
    names: String,
    types: Vec<DataType>,
    /// Empty ones, to bind.
    columns: Vec<Column>,
    /// Whether rows go as SQL text.
    text: bool,
}

impl Shape {
    fn of(schema: &Schema) -> Result<Self, String> {
        let columns = &schema.columns;
        let names: Vec<String> = columns.iter().map(|c| sql::name(&c.name)).collect();
        let types: Vec<DataType> = columns
            .iter()
            .map(|column| column.data_type())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            key: columns.first().map(|c| c.name.clone()).unwrap_or_default(),
            names: names.join(", "),
            columns: columns
                .iter()
                .zip(&types)
                .map(|(column, data_type)| Column::decimal(*data_type, column.scale()))
                .collect(),
            text: types.iter().any(ends_the_library),
            types,
        })
    }

    /// Columns of which only names and types are known, not the digits of decimals: these go as text.
    pub(super) fn of_columns(columns: &[(String, DataType)]) -> Self {
        let types: Vec<DataType> = columns.iter().map(|(_, data_type)| *data_type).collect();
        let names: Vec<String> = columns.iter().map(|(name, _)| sql::name(name)).collect();
        Self {
            key: columns.first().map(|c| c.0.clone()).unwrap_or_default(),
            names: names.join(", "),
            columns: types.iter().map(|t| Column::new(*t)).collect(),
            text: types.iter().any(|t| t.is_decimal() || ends_the_library(t)),
            types,
        }
    }
}

/// The client library (3.3.7.5) ends the process when a row of a table with a BLOB is bound.
fn ends_the_library(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Blob | DataType::MediumBlob)
}

struct Writer<'a> {
    job: &'a super::RestoreJob,
    library: &'a taos::Library,
    link: &'a crate::link::Link,
    target: &'a str,
    oldest: Option<i64>,
    next: AtomicUsize,
    done: AtomicU64,
    rows: AtomicU64,
    expired: AtomicU64,
    given_up: AtomicBool,
    failures: &'a Failures,
    progress: &'a dyn crate::dump::Progress,
}

pub(super) enum TableError {
    Sql(SqlError),
    Link(LinkError),
    Value(String),
}

impl From<SqlError> for TableError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl<E: Into<LinkError>> From<E> for TableError {
    fn from(error: E) -> Self {
        Self::Link(error.into())
    }
}

impl Writer<'_> {
    fn run(&self, jobs: &[(&TableChange, Shape)]) -> Result<(), RestoreError> {
        let outcome = self.work(jobs);
        if outcome.is_err() {
            self.given_up.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn work(&self, jobs: &[(&TableChange, Shape)]) -> Result<(), RestoreError> {
        let mut slot = None;
        while !self.given_up.load(Ordering::Relaxed) {
            let Some((change, shape)) = jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let mut lost = 0;
            loop {
                match self.table(&mut slot, change, shape) {
                    Ok((rows, expired)) => {
                        self.rows.fetch_add(rows, Ordering::Relaxed);
                        self.expired.fetch_add(expired, Ordering::Relaxed);
                        break;
                    }
                    Err(TableError::Link(error)) => return Err(error.into()),
                    Err(TableError::Sql(error)) if error.is_disconnected() => {
                        lost += 1;
                        if lost > RETRIES {
                            return Err(error.into());
                        }
                        slot = None;
                        thread::sleep(RETRY_PAUSE);
                    }
                    Err(TableError::Sql(error)) => {
                        self.failures.add(format!(
                            "table {}: {error}",
                            sql::table(self.target, &change.name)
                        ));
                        break;
                    }
                    Err(TableError::Value(problem)) => {
                        self.failures.add(format!(
                            "table {}: {problem}",
                            sql::table(self.target, &change.name)
                        ));
                        break;
                    }
                }
            }
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            self.progress
                .tables(done, jobs.len() as u64, self.rows.load(Ordering::Relaxed));
        }
        Ok(())
    }

    /// Deletes and writes one table's ranges: how many rows were written, and how many the server does not keep.
    fn table(
        &self,
        slot: &mut Option<Connection>,
        change: &TableChange,
        shape: &Shape,
    ) -> Result<(u64, u64), TableError> {
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(self.library.connect(&self.job.login)?),
        };
        let table = sql::table(self.target, &change.name);
        if !change.create {
            for span in &change.deletes {
                connection.execute(&format!(
                    "DELETE FROM {table}{}",
                    where_clause(&shape.key, *span)
                ))?;
            }
        }
        let Some(file) = &change.file else {
            return Ok((0, 0));
        };
        let mut reader = FileReader::open(&self.link.inside(&file.path)?, shape.types.clone(), 1)?;
        let mut batch = Batch::new(shape, &table);
        let mut rows = 0;
        let mut expired = 0;
        while let Some((_, values)) = reader.next()? {
            batch.add(values);
            if batch.rows.len() >= self.job.batch || batch.is_full() {
                let (sent, refused) = batch.send(connection, self.oldest)?;
                rows += sent;
                expired += refused;
            }
        }
        let (sent, refused) = batch.send(connection, self.oldest)?;
        rows += sent;
        expired += refused;
        if rows + expired != file.rows {
            return Err(TableError::Value(format!(
                "{} holds {} rows, the manifest says {}",
                file.path,
                rows + expired,
                file.rows
            )));
        }
        Ok((rows, expired))
    }
}

/// Rows on their way to a table.
pub(super) struct Batch<'a> {
    shape: &'a Shape,
    table: &'a str,
    rows: Vec<Vec<OwnedValue>>,
    /// The longest value of each column: all values of a column are bound with the same length.
    longest: Vec<usize>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(shape: &'a Shape, table: &'a str) -> Self {
        Self {
            shape,
            table,
            rows: Vec::new(),
            longest: vec![8; shape.types.len()],
        }
    }

    pub(super) fn add(&mut self, values: Vec<OwnedValue>) {
        for (longest, value) in self.longest.iter_mut().zip(&values) {
            if let OwnedValue::Bytes(bytes) = value {
                *longest = bytes.len().max(*longest);
            }
        }
        self.rows.push(values);
    }

    /// Must it be sent before another row is added?
    pub(super) fn is_full(&self) -> bool {
        let bytes = self.rows.len() * self.longest.iter().sum::<usize>();
        self.rows.len() >= MOST_ROWS || bytes >= BATCH_BYTES
    }

    /// Sends the rows. Those that the server does not keep are left out and counted, if it refuses them.
    pub(super) fn send(
        &mut self,
        connection: &Connection,
        oldest: Option<i64>,
    ) -> Result<(u64, u64), TableError> {
        let total = self.rows.len();
        if total == 0 {
            return Ok((0, 0));
        }
        match self.try_send(connection) {
            Err(TableError::Sql(error))
                if error.code & 0xffff == OUT_OF_RANGE && oldest.is_some() =>
            {
                self.rows.retain(|row| match row.first() {
                    Some(OwnedValue::Int(key)) => Some(*key) >= oldest,
                    _ => true,
                });
                if self.rows.len() == total {
                    return Err(error.into());
                }
                self.try_send(connection)?;
            }
            sent => sent?,
        }
        let sent = self.rows.len();
        self.rows.clear();
        self.longest.fill(8);
        Ok((sent as u64, (total - sent) as u64))
    }

    fn try_send(&self, connection: &Connection) -> Result<(), TableError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        if self.shape.text {
            self.send_text(connection)
        } else {
            self.send_bound(connection)
        }
    }

    fn send_bound(&self, connection: &Connection) -> Result<(), TableError> {
        let mut columns = self.shape.columns.clone();
        for row in &self.rows {
            for (column, value) in columns.iter_mut().zip(row) {
                if !column.push(value.as_value()) {
                    return Err(TableError::Value(format!(
                        "a value does not fit its column: {value:?}"
                    )));
                }
            }
        }
        let marks = vec!["?"; columns.len()].join(", ");
        let mut statement = connection.prepare(&format!(
            "INSERT INTO ? ({}) VALUES ({marks})",
            self.shape.names
        ))?;
        statement.set_table(self.table)?;
        Ok(statement.insert(&columns)?)
    }

    fn send_text(&self, connection: &Connection) -> Result<(), TableError> {
        let head = format!("INSERT INTO {} ({}) VALUES", self.table, self.shape.names);
        let mut text = head.clone();
        for row in &self.rows {
            let literals: Vec<String> = self
                .shape
                .types
                .iter()
                .zip(row)
                .map(|(data_type, value)| literal(*data_type, value.as_value()))
                .collect::<Result<_, _>>()
                .map_err(TableError::Value)?;
            text.push_str(&format!(" ({})", literals.join(", ")));
            if text.len() >= STATEMENT_BYTES {
                connection.execute(&text)?;
                text.clone_from(&head);
            }
        }
        if text.len() > head.len() {
            connection.execute(&text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_by_rows_or_by_the_bytes_it_is_bound_with() {
        let columns = [
            ("ts".to_owned(), DataType::Timestamp),
            ("v".to_owned(), DataType::Varchar),
        ];
        let shape = Shape::of_columns(&columns);
        let rows = |bytes: usize| {
            let mut batch = Batch::new(&shape, "t");
            let mut rows = 0;
            while !batch.is_full() {
                batch.add(vec![
                    OwnedValue::Int(1),
                    OwnedValue::Bytes(vec![b'v'; bytes]),
                ]);
                rows += 1;
            }
            rows
        };
        assert_eq!(rows(1), MOST_ROWS);
        assert_eq!(rows(16_000), BATCH_BYTES.div_ceil(16_008));
    }
}
