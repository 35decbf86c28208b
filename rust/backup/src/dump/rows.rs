//! Reading rows and writing data files, over several connections.
//!
//! A table's rows are read span by span. Where most children of a super table are wanted whole, one query over the
//! super table replaces one query for each of them: the server then reads its files once.

use super::{
    Changes, Dump, DumpError, DumpJob, Progress,
    layout::{Layout, where_clause},
};
use crate::{
    catalogue::{Catalogue, Schema, Table, read::if_there},
    data_file::{self, DataFileError, FileEntry, FileWriter},
};
use parking_lot::Mutex;
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use taos::{Connection, DataType, Library, SqlError, sql};
use tdfiles::KeySpan;

/// What came of it.
pub(super) struct Dumped {
    pub(super) failures: Vec<String>,
    /// The files that name the super tables of data directories.
    pub(super) stable_names: Vec<FileEntry>,
}

/// From this many whole tables on, a super table is read by one query.
const SCAN_FROM: usize = 500;

/// How often a lost connection is made again for a table, and how long to wait before that.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often a query that the server refuses is made again: what it says is not always so a moment later.
const REFUSALS: u32 = 2;
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn dump(
    dump: &Dump<'_>,
    layout: &Layout,
    catalogue: &mut Catalogue,
    changes: &mut Changes,
) -> Result<Dumped, DumpError> {
    let mut stable_names = Vec::new();
    let jobs = jobs(layout, catalogue, changes, &mut stable_names)?;
    let total = jobs.iter().map(Job::tables).sum();
    let work = Work {
        job: dump.job,
        library: dump.library,
        progress: dump.progress,
        layout,
        database: &catalogue.database.name,
        total,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        given_up: AtomicBool::new(false),
        results: Mutex::default(),
    };
    let threads = dump.job.threads.clamp(1, jobs.len().max(1));
    let outcomes: Vec<Result<(), DumpError>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work.run(&jobs)))
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| match worker.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    });
    outcomes.into_iter().collect::<Result<(), DumpError>>()?;

    let mut failures = Vec::new();
    let results = work.results.into_inner();
    for (name, result) in results {
        match result {
            TableResult::Rows(file) => {
                if let Some(change) = changes.tables.get_mut(&name) {
                    change.file = file;
                }
            }
            TableResult::Gone => {
                // The next link finds it missing, and drops what this one restores of it.
                if let Some(change) = changes.tables.get_mut(&name) {
                    change.spans.clear();
                    change.deletes.clear();
                }
            }
            TableResult::Failed(error) => {
                // A restore leaves the rows it has alone.
                if let Some(change) = changes.tables.get_mut(&name) {
                    change.spans.clear();
                    change.deletes.clear();
                }
                failures.push(format!(
                    "table {}: {error}",
                    sql::table(&catalogue.database.name, &name)
                ));
            }
        }
    }
    Ok(Dumped {
        failures,
        stable_names,
    })
}

/// What one worker does at a time.
enum Job {
    Table(TableJob),
    /// Every row of these children of a super table.
    Stable {
        stable: String,
        tables: Vec<TableJob>,
    },
}

struct TableJob {
    name: String,
    columns: Columns,
    spans: Vec<KeySpan>,
    file: String,
}

impl Job {
    fn tables(&self) -> u64 {
        match self {
            Self::Table(_) => 1,
            Self::Stable { tables, .. } => tables.len() as u64,
        }
    }
}

/// A table's columns.
#[derive(Clone)]
struct Columns {
    key: String,
    list: std::sync::Arc<str>,
}

impl Columns {
    fn of(schema: &Schema) -> Self {
        let names: Vec<String> = schema
            .columns
            .iter()
            .map(|column| sql::name(&column.name))
            .collect();
        Self {
            key: schema
                .columns
                .first()
                .map(|column| column.name.clone())
                .unwrap_or_default(),
            list: names.join(", ").into(),
        }
    }
}

/// The jobs, large ones first, and the directories that their files need.
fn jobs(
    layout: &Layout,
    catalogue: &Catalogue,
    changes: &Changes,
    stable_names: &mut Vec<FileEntry>,
) -> Result<Vec<Job>, DumpError> {
    let mut directories = HashSet::new();
    let mut columns: HashMap<&str, Columns> = HashMap::new();
    let mut by_stable: BTreeMap<Option<&str>, Vec<TableJob>> = BTreeMap::new();
    let wanted = changes
        .tables
        .values()
        .filter(|change| !change.spans.is_empty());
    for (number, change) in wanted.enumerate() {
        let Some(table) = catalogue.tables.get(&change.name) else {
            continue;
        };
        let Some(schema) = catalogue.schema_of(table) else {
            continue;
        };
        let stable = table.stable.as_deref();
        let directory = layout.data_directory(stable, number as u64);
        let file = layout.data_name(&directory, number as u64);
        if !directories.contains(&directory) {
            stable_names.extend(layout.make_data_directory(&directory, stable)?);
            directories.insert(directory);
        }
        let columns = columns
            .entry(stable.unwrap_or(&table.name))
            .or_insert_with(|| Columns::of(schema));
        by_stable.entry(stable).or_default().push(TableJob {
            name: table.name.clone(),
            columns: columns.clone(),
            spans: change.spans.clone(),
            file,
        });
    }
    let mut jobs = Vec::new();
    let mut singles = Vec::new();
    for (stable, tables) in by_stable {
        let children = stable.map_or(0, |stable| children(catalogue, stable));
        let (whole, parts): (Vec<_>, Vec<_>) = tables
            .into_iter()
            .partition(|table| table.spans == [KeySpan::ALL]);
        singles.extend(parts.into_iter().map(Job::Table));
        match stable {
            Some(stable) if whole.len() >= SCAN_FROM && whole.len() * 2 >= children => {
                jobs.push(Job::Stable {
                    stable: stable.to_owned(),
                    tables: whole,
                });
            }
            _ => singles.extend(whole.into_iter().map(Job::Table)),
        }
    }
    jobs.extend(singles);
    Ok(jobs)
}

fn children(catalogue: &Catalogue, stable: &str) -> usize {
    let is_child = |table: &&Table| table.stable.as_deref() == Some(stable);
    catalogue.tables.values().filter(is_child).count()
}

enum TableResult {
    /// The file, unless there was no row.
    Rows(Option<FileEntry>),
    /// The table was dropped meanwhile.
    Gone,
    Failed(String),
}

/// What the workers share.
struct Work<'a> {
    job: &'a DumpJob,
    library: &'a Library,
    progress: &'a dyn Progress,
    layout: &'a Layout,
    database: &'a str,
    total: u64,
    next: AtomicUsize,
    done: AtomicU64,
    rows: AtomicU64,
    given_up: AtomicBool,
    results: Mutex<Vec<(String, TableResult)>>,
}

/// Why a table's rows could not be written.
enum TableError {
    Sql(SqlError),
    Data(DataFileError),
}

impl From<SqlError> for TableError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<DataFileError> for TableError {
    fn from(error: DataFileError) -> Self {
        Self::Data(error)
    }
}

impl Work<'_> {
    /// One worker: takes jobs until there are none, over a connection of its own.
    fn run(&self, jobs: &[Job]) -> Result<(), DumpError> {
        let outcome = self.work(jobs);
        if outcome.is_err() {
            self.given_up.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn work(&self, jobs: &[Job]) -> Result<(), DumpError> {
        let mut connection = None;
        while !self.given_up.load(Ordering::Relaxed) {
            let Some(job) = jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            match job {
                Job::Table(table) => self.table(&mut connection, table)?,
                Job::Stable { stable, tables } => self.stable(&mut connection, stable, tables)?,
            }
        }
        Ok(())
    }

    fn connection<'c>(&self, slot: &'c mut Option<Connection>) -> Result<&'c Connection, SqlError> {
        match slot {
            Some(connection) => Ok(connection),
            None => Ok(slot.insert(self.library.connect(&self.job.login)?)),
        }
    }

    fn report(&self, name: &str, result: TableResult) {
        if let TableResult::Rows(Some(file)) = &result {
            self.rows.fetch_add(file.rows, Ordering::Relaxed);
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress
            .tables(done, self.total, self.rows.load(Ordering::Relaxed));
        let mut results = self.results.lock();
        results.push((name.to_owned(), result));
    }

    /// Dumps one table, again if the connection is lost.
    fn table(&self, slot: &mut Option<Connection>, table: &TableJob) -> Result<(), DumpError> {
        let mut as_bytes = BTreeSet::new();
        let mut lost = 0;
        let mut refused = 0;
        let result = loop {
            let outcome = self
                .connection(slot)
                .map_err(TableError::from)
                .and_then(|connection| self.read_table(connection, table, &as_bytes));
            match outcome {
                Ok(result) => break result,
                // Only known once it is met: that column is written as bytes then.
                Err(TableError::Data(DataFileError::NotText(column))) => {
                    as_bytes.insert(column);
                }
                Err(TableError::Data(error)) => return Err(error.into()),
                Err(TableError::Sql(error)) if error.is_disconnected() => {
                    lost += 1;
                    if lost > RETRIES {
                        return Err(DumpError::Disconnected {
                            table: table.name.clone(),
                            source: error,
                        });
                    }
                    *slot = None;
                    thread::sleep(RETRY_PAUSE);
                }
                Err(TableError::Sql(error)) if refused == REFUSALS => {
                    break TableResult::Failed(error.to_string());
                }
                Err(TableError::Sql(_)) => {
                    refused += 1;
                    *slot = None;
                    thread::sleep(REFUSAL_PAUSE);
                }
            }
            self.remove(&table.file)?;
        };
        if !matches!(result, TableResult::Rows(_)) {
            self.remove(&table.file)?;
        }
        self.report(&table.name, result);
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<(), DumpError> {
        let path = self.layout.root().join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DumpError::io(&path)(error))
            }
            _ => Ok(()),
        }
    }

    fn read_table(
        &self,
        connection: &Connection,
        table: &TableJob,
        as_bytes: &BTreeSet<usize>,
    ) -> Result<TableResult, TableError> {
        let target = sql::table(self.database, &table.name);
        let layout = OnceCell::new();
        let mut writer: Option<FileWriter<'_>> = None;
        for span in &table.spans {
            let condition = where_clause(&table.columns.key, *span);
            let query = format!("SELECT {} FROM {target}{condition}", table.columns.list);
            let rows = if_there(connection, self.database, &table.name, || {
                connection.query(&query)
            })?;
            let Some(mut rows) = rows else {
                return Ok(TableResult::Gone);
            };
            if layout.get().is_none() {
                let types = rows.fields().iter().map(|field| field.data_type).collect();
                let _ = layout.set(self.file_layout(types, as_bytes, &table.file)?);
            }
            let Some(layout) = layout.get() else { continue };
            while let Some(row) = rows.next()? {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(self.create(&table.file, layout)?),
                };
                writer.append(&[&table.name], &|column| row.get(column))?;
            }
        }
        let file = writer.map(|writer| writer.finish(table.file.clone()));
        Ok(TableResult::Rows(file.transpose()?))
    }

    fn file_layout(
        &self,
        types: Vec<DataType>,
        as_bytes: &BTreeSet<usize>,
        file: &str,
    ) -> Result<data_file::Layout, DataFileError> {
        data_file::Layout::rows(self.database, types, as_bytes.clone()).map_err(|problem| {
            DataFileError::Corrupt {
                path: self.layout.root().join(file),
                problem,
            }
        })
    }

    fn create<'l>(
        &self,
        file: &str,
        layout: &'l data_file::Layout,
    ) -> Result<FileWriter<'l>, DataFileError> {
        FileWriter::create(&self.layout.root().join(file), layout, self.job.compression)
    }

    /// Dumps every row of a super table's children by one query. Tables that it could not finish are dumped on
    /// their own.
    fn stable(
        &self,
        slot: &mut Option<Connection>,
        stable: &str,
        tables: &[TableJob],
    ) -> Result<(), DumpError> {
        let mut finished = HashMap::new();
        let outcome = self
            .connection(slot)
            .map_err(TableError::from)
            .and_then(|connection| self.scan(connection, stable, tables, &mut finished));
        match outcome {
            Ok(()) => {}
            Err(TableError::Data(error)) if !matches!(error, DataFileError::NotText(_)) => {
                return Err(error.into());
            }
            Err(_) => *slot = None,
        }
        let complete = outcome.is_ok();
        for table in tables {
            match finished.remove(&table.name) {
                // A file is only known to be whole when all rows have come.
                Some(Some(file)) if complete => {
                    self.report(&table.name, TableResult::Rows(Some(file)));
                }
                None if complete => self.report(&table.name, TableResult::Rows(None)),
                _ => {
                    self.remove(&table.file)?;
                    self.table(slot, table)?;
                }
            }
        }
        Ok(())
    }

    /// Rows come table by table. `finished` holds the file of each table that came, or `None` if it came twice.
    fn scan(
        &self,
        connection: &Connection,
        stable: &str,
        tables: &[TableJob],
        finished: &mut HashMap<String, Option<FileEntry>>,
    ) -> Result<(), TableError> {
        let wanted: HashMap<&str, &TableJob> = tables
            .iter()
            .map(|table| (table.name.as_str(), table))
            .collect();
        let Some(first) = tables.first() else {
            return Ok(());
        };
        let mut rows = connection.query(&format!(
            "SELECT tbname, {} FROM {} PARTITION BY tbname",
            first.columns.list,
            sql::table(self.database, stable)
        ))?;
        let types = rows
            .fields()
            .iter()
            .skip(1)
            .map(|field| field.data_type)
            .collect();
        let layout = self.file_layout(types, &BTreeSet::new(), &first.file)?;
        let mut open: Vec<(&TableJob, FileWriter<'_>)> = Vec::new();
        while let Some(row) = rows.next()? {
            let Some(name) = row.get(0).as_str() else {
                continue;
            };
            let at = match open.iter().position(|(table, _)| table.name == name) {
                Some(at) => at,
                None => {
                    let Some(table) = wanted.get(name) else {
                        continue;
                    };
                    if let Some(entry) = finished.get_mut(name) {
                        *entry = None;
                        continue;
                    }
                    if open.len() == OPEN_FILES {
                        let (table, writer) = open.remove(0);
                        finished
                            .insert(table.name.clone(), Some(writer.finish(table.file.clone())?));
                    }
                    open.push((table, self.create(&table.file, &layout)?));
                    open.len() - 1
                }
            };
            if let Some((table, writer)) = open.get_mut(at) {
                writer.append(&[&table.name], &|column| row.get(column + 1))?;
            }
        }
        for (table, writer) in open {
            finished.insert(table.name.clone(), Some(writer.finish(table.file.clone())?));
        }
        Ok(())
    }
}

/// Tables that may be open at a time in a query over a super table: rows of several vgroups come in turns.
const OPEN_FILES: usize = 64;
