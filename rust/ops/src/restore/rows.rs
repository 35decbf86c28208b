//! Deleting ranges and writing rows, over several connections.

use super::{
    Apply, Failures, RestoreError, RestoreJob,
    loading::{self, Left},
    row_files,
    target::SAID,
};
use ::rows::{
    avro::{DataFileError, FileReader},
    source::{Row as _, RowSource as _},
};
use model::catalogue::Tables;
use model::{
    Cancelled, FailedId, FailedTable, Key, MayPass as _, Progress, Unit, pool, retry::pause,
};
use parking_lot::Mutex;
use repository::link::{Link, LinkError, TableChange};
use server::{
    Connection, Library, SqlError,
    database::oldest_key,
    insert::{Batch, InsertError, Sent, Shape},
    restore_lacks::Lacks,
    tables,
};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) tables: u64,
    /// Rows that are older than the database keeps.
    pub(super) expired: u64,
}

/// How long it is tried to reach a server that does not answer, and how long to write what a server that answers can't
/// take now, as a vgroup moves or has no leader. Each from the first time on, for all tables together.
const UNREACHABLE: Duration = Duration::from_secs(20);
const BUSY: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn write(
    apply: &Apply<'_>,
    tables: &Tables,
    changes: &[TableChange],
) -> Result<Written, RestoreError> {
    let mut jobs = Vec::new();
    let mut of_row_files = row_files::Tables::new();
    let mut count = 0;
    for change in changes {
        let deletes = !change.create && !change.deletes.is_empty();
        if change.file.is_none() && change.rows == 0 && !deletes {
            continue;
        }
        let Some(table) = tables.get(&change.name) else {
            continue;
        };
        if apply.failures.is_absent(&change.name) {
            continue;
        }
        let Some(schema) = apply.schema_of(table) else {
            let problem = "the link does not know its columns";
            apply.fail(&change.name, FailedId::Table(table.uid), problem);
            continue;
        };
        count += 1;
        if change.file.is_some() || deletes {
            jobs.push((change, Shape::of(schema)));
        }
        if change.rows > 0 {
            let target = row_files::Target::new(change, schema);
            of_row_files.insert(&change.name, target);
        }
    }
    let step = format!("restoring {} to {}", apply.link.place(), apply.target);
    apply.progress.step(&step, Unit::Tables, count);
    let rows =
        |(change, _): &(&TableChange, Shape)| change.file.as_ref().map_or(0, |file| file.rows);
    let in_files: u64 = jobs.iter().map(rows).sum();
    let in_row_files: u64 = of_row_files.values().map(row_files::Target::rows).sum();
    let (near_end, is_near) = mpsc::sync_channel(1);
    let (library, login, target) = (apply.library, &apply.job.login, apply.target);
    let loaded = match apply.is_last {
        true => apply.loaded.as_slice(),
        false => &[],
    };
    let put_back = move || {
        if !loaded.is_empty() {
            loading::put_back_near_end(&is_near, library, login, target, loaded);
        }
    };
    let writer = Writer {
        left: Left::new(in_files + in_row_files, near_end),
        job: apply.job,
        library: apply.library,
        link: apply.link,
        target: apply.target,
        tables: of_row_files,
        oldest: oldest_key(apply.connection, apply.target),
        sent: Mutex::default(),
        failures: &apply.failures,
        trouble: Mutex::default(),
        progress: apply.progress,
    };
    let sent = thread::scope(|scope| {
        scope.spawn(put_back);
        // With it goes what the other thread waits for.
        let writer = writer;
        let no_connection = || None;
        pool::run(
            &jobs,
            apply.job.threads,
            no_connection,
            |slot, (change, shape)| writer.table(slot, change, shape),
        )?;
        row_files::write(&writer, &apply.database.row_files)?;
        Ok::<_, RestoreError>(writer.sent.into_inner())
    })?;
    Ok(Written {
        rows: sent.rows,
        tables: count,
        expired: sent.expired,
    })
}

/// What all connections share that write a link's rows.
pub(super) struct Writer<'a> {
    pub(super) job: &'a RestoreJob,
    library: &'a Library,
    pub(super) link: &'a Link,
    pub(super) target: &'a str,
    /// Those whose rows are in files of many tables.
    pub(super) tables: row_files::Tables<'a>,
    pub(super) oldest: Option<Key>,
    pub(super) left: Left,
    sent: Mutex<Sent>,
    failures: &'a Failures,
    trouble: Mutex<Trouble>,
    pub(super) progress: &'a dyn Progress,
}

/// Since when the server does not answer, or can't take rows; and when that was said last.
#[derive(Debug, Default)]
struct Trouble {
    unreachable: Option<Instant>,
    busy: Option<Instant>,
    said: Option<Instant>,
}

/// Why a table's ranges could not be written.
enum TableError {
    Sql(SqlError),
    Link(LinkError),
    Value(String),
    Cancelled(Cancelled),
}

impl From<SqlError> for TableError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<InsertError> for TableError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Sql(error) => Self::Sql(error),
            InsertError::Value(problem) => Self::Value(problem),
        }
    }
}

impl From<DataFileError> for TableError {
    fn from(error: DataFileError) -> Self {
        Self::Link(error.into())
    }
}

impl Writer<'_> {
    /// Writes one table, again if the connection is lost. What the server refuses is kept as a failure.
    fn table(
        &self,
        slot: &mut Option<Connection>,
        change: &TableChange,
        shape: &Shape,
    ) -> Result<(), RestoreError> {
        let problem = loop {
            match self.try_table(slot, change, shape) {
                Ok(sent) => {
                    // With rows in files of many tables, it is not done yet.
                    let done = !self.tables.contains_key(change.name.as_str());
                    self.progress.advance(done.into(), sent.rows);
                    self.left.written(sent.all());
                    self.written(change, sent);
                    return Ok(());
                }
                Err(TableError::Link(error)) => return Err(error.into()),
                Err(TableError::Cancelled(error)) => return Err(error.into()),
                Err(TableError::Sql(error)) if error.may_pass() => {
                    *slot = None;
                    // One vgroup without a leader: the tables of the others can be written.
                    if !self.waits_after(&error)? {
                        break error.to_string();
                    }
                }
                Err(TableError::Sql(error)) => break error.to_string(),
                Err(TableError::Value(problem)) => break problem,
            }
        };
        self.fail(change, problem);
        Ok(())
    }

    /// A table's rows can't be written. That is kept once.
    pub(super) fn fail(&self, change: &TableChange, problem: String) {
        let target = self.tables.get(change.name.as_str());
        if !target.is_none_or(row_files::Target::give_up) {
            return;
        }
        let failed = FailedTable {
            database: self.target.to_owned(),
            name: change.name.clone(),
            id: change.uid.map_or(FailedId::Unknown, FailedId::Table),
            problem,
        };
        self.failures.add(failed.to_string());
        self.progress.advance(1, 0);
    }

    /// Why rows can't be left out although they are refused: the target of an export is anybody's, and what does not fit
    /// it is no fault of the rows.
    pub(super) fn misfit(&self, sent: &mut Sent) -> Option<String> {
        let export = self.link.manifest.export;
        sent.problem.take_if(|_| export)
    }

    /// A further connection.
    pub(super) fn connect(&self) -> Result<Connection, SqlError> {
        self.library.connect(&self.job.login)
    }

    /// A table is written, but for rows that can't be.
    pub(super) fn written(&self, change: &TableChange, sent: Sent) {
        if let Some(problem) = &sent.problem {
            let problem = format!(
                "{} of its rows can't be written, and are not there: {problem}",
                sent.refused
            );
            self.failures.lacks(&change.name, Lacks::Rows, problem);
        }
        *self.sent.lock() += sent;
    }

    /// Waits after an error that may pass; false once it has been waited for long enough.
    ///
    /// # Errors
    /// The server can't be reached for too long, or the work is cancelled.
    pub(super) fn waits_after(&self, error: &SqlError) -> Result<bool, RestoreError> {
        if self.waits(error) {
            pause(RETRY_PAUSE, self.progress)?;
            return Ok(true);
        }
        match error.is_disconnected() {
            true => Err(RestoreError::NoAnswer {
                server: self.job.login.to_string(),
                source: error.clone(),
            }),
            false => Ok(false),
        }
    }

    /// Whether to try again after an error that may pass. Says so, from the fifth second on.
    fn waits(&self, error: &SqlError) -> bool {
        let now = Instant::now();
        let disconnected = error.is_disconnected();
        let mut trouble = self.trouble.lock();
        let since = match disconnected {
            true => trouble.unreachable.get_or_insert(now),
            false => trouble.busy.get_or_insert(now),
        };
        let waited = now.duration_since(*since);
        let limit = if disconnected { UNREACHABLE } else { BUSY };
        let Some(left) = limit.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return false;
        };
        let unsaid = trouble
            .said
            .is_none_or(|said| now.duration_since(said) >= SAID);
        if waited >= SAID && unsaid {
            trouble.said = Some(now);
            self.progress.waits(&format!(
                "waiting for {} for {} s, for up to {} s more: {error}",
                self.job.login,
                waited.as_secs(),
                left.as_secs()
            ));
        }
        true
    }

    /// Deletes and writes one table's ranges.
    fn try_table(
        &self,
        slot: &mut Option<Connection>,
        change: &TableChange,
        shape: &Shape,
    ) -> Result<Sent, TableError> {
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(self.connect()?),
        };
        if !change.create {
            for span in &change.deletes {
                self.progress.go_on().map_err(TableError::Cancelled)?;
                tables::delete(connection, self.target, &change.name, shape.key(), *span)?;
            }
        }
        let Some(file) = &change.file else {
            return Ok(Sent::default());
        };
        let types = shape.types().to_vec();
        let mut reader = FileReader::open(&*self.link.store, &file.path, types, 1)?;
        let mut batch = Batch::new(shape, self.target, &change.name);
        let mut sent = Sent::default();
        while let Some(row) = reader.next_row()? {
            batch.add(row.into_owned());
            if batch.len() >= self.job.batch || batch.is_full() {
                self.progress.go_on().map_err(TableError::Cancelled)?;
                sent += batch.send(connection, self.oldest)?;
            }
        }
        sent += batch.send(connection, self.oldest)?;
        if let Some(problem) = self.misfit(&mut sent) {
            return Err(TableError::Value(problem));
        }
        let rows = sent.all();
        if rows != file.rows {
            return Err(TableError::Value(format!(
                "{} holds {rows} rows, the manifest says {}",
                file.path, file.rows
            )));
        }
        Ok(sent)
    }
}
