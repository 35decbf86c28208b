//! Reading rows and writing data files, over several connections.
//!
//! A table's rows are read span by span. Where most children of a super table are wanted whole, one query over the
//! super table replaces one query for each of them: the server then reads its files once.

use super::{
    Backup, BackupError, Changes, Watch,
    output::write_file,
    tries::{AfterFailure, TableTries},
};
use ::rows::{
    avro::{self, Compression, DataFileError, FileWriter},
    source::{Row as _, RowSource as _},
};
use model::{
    DataType, FailedId, FailedTable, KeySpan, MayPass as _, Progress, Unit,
    catalogue::{Catalogue, Schema, Table},
    pool,
    retry::pause,
};
use parking_lot::Mutex;
use repository::layout::Layout;
use server::{Connection, Library, Login, SqlError, ddl::column_list, select, tables::if_there};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};
use store::{FileEntry, Store};

/// What came of it.
pub(super) struct Copied {
    pub(super) failed: Vec<FailedTable>,
    /// The files that name the super tables of data directories.
    pub(super) stable_names: Vec<FileEntry>,
}

/// From this many whole tables on, a super table is read by one query.
const SCAN_FROM: usize = 500;

/// How often a query that the server refuses is made again: what it says is not always so a moment later.
const REFUSALS: u32 = 2;
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn copy(
    backup: &Backup<'_>,
    store: &dyn Store,
    layout: &Layout,
    catalogue: &mut Catalogue,
    changes: &mut Changes,
) -> Result<Copied, BackupError> {
    let mut stable_names = Vec::new();
    let jobs = jobs(store, layout, catalogue, changes, &mut stable_names)?;
    let database = &catalogue.database.name;
    let step = format!("dumping the rows of {database}");
    let total = jobs.iter().map(Job::tables).sum();
    backup.progress.step(&step, Unit::Tables, total);
    let work = Work {
        login: &backup.job.login,
        compression: backup.job.compression,
        library: backup.library,
        progress: backup.progress,
        watch: backup.watch,
        store,
        database,
        results: Mutex::default(),
    };
    let no_connection = || None;
    pool::run(
        &jobs,
        backup.job.threads,
        no_connection,
        |slot, job| match job {
            Job::Table(table) => work.table(slot, table),
            Job::Stable { stable, tables } => work.stable(slot, stable, tables),
        },
    )?;

    let mut failed = Vec::new();
    for (name, result) in work.results.into_inner() {
        let Some(change) = changes.tables.get_mut(&name) else {
            continue;
        };
        match result {
            TableResult::Rows(file) => change.file = file,
            // The next link finds it missing, and drops what this one restores of it.
            TableResult::Gone => {
                change.spans.clear();
                change.deletes.clear();
            }
            TableResult::Failed(problem) => {
                // A restore leaves the rows it has alone.
                change.spans.clear();
                change.deletes.clear();
                failed.push(FailedTable {
                    database: database.clone(),
                    name,
                    id: change.uid.map_or(FailedId::Unknown, FailedId::Table),
                    problem,
                });
            }
        }
    }
    Ok(Copied {
        failed,
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
        let key = schema.columns.first();
        Self {
            key: key.map(|column| column.name.clone()).unwrap_or_default(),
            list: column_list(&schema.columns).into(),
        }
    }
}

/// The jobs, large ones first, and the directories that their files need.
fn jobs(
    store: &dyn Store,
    layout: &Layout,
    catalogue: &Catalogue,
    changes: &Changes,
    stable_names: &mut Vec<FileEntry>,
) -> Result<Vec<Job>, BackupError> {
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
            if let Some(stable) = stable {
                let name = format!("{directory}/stbname");
                stable_names.push(write_file(store, name, stable.as_bytes())?);
            }
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
    login: &'a Login,
    compression: Compression,
    library: &'a Library,
    progress: &'a dyn Progress,
    watch: &'a Watch,
    store: &'a dyn Store,
    database: &'a str,
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
    /// The worker's own connection.
    fn connection<'c>(&self, slot: &'c mut Option<Connection>) -> Result<&'c Connection, SqlError> {
        match slot {
            Some(connection) => Ok(connection),
            None => Ok(slot.insert(self.library.connect(self.login)?)),
        }
    }

    fn report(&self, name: &str, result: TableResult) {
        let rows = match &result {
            TableResult::Rows(Some(file)) => file.rows,
            _ => 0,
        };
        self.progress.advance(1, rows);
        self.results.lock().push((name.to_owned(), result));
    }

    /// Copies one table, again if the connection is lost.
    fn table(&self, slot: &mut Option<Connection>, table: &TableJob) -> Result<(), BackupError> {
        let mut as_bytes = BTreeSet::new();
        let mut tries = TableTries::default();
        let mut refused = 0;
        let result = loop {
            self.progress.go_on()?;
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
                Err(TableError::Sql(error)) if error.may_pass() => {
                    *slot = None;
                    let given_up = self.watch.has_given_up();
                    match tries.after(&error, given_up, self.progress)? {
                        AfterFailure::TryAgain => {}
                        AfterFailure::TableFails => break TableResult::Failed(error.to_string()),
                        AfterFailure::ServerIsLost => {
                            return Err(BackupError::Disconnected {
                                place: self.watch.place(),
                                table: table.name.clone(),
                                source: error,
                            });
                        }
                    }
                }
                Err(TableError::Sql(error)) if refused == REFUSALS => {
                    break TableResult::Failed(error.to_string());
                }
                Err(TableError::Sql(_)) => {
                    refused += 1;
                    *slot = None;
                    pause(REFUSAL_PAUSE, self.progress)?;
                }
            }
            self.store.remove(&table.file)?;
        };
        if !matches!(result, TableResult::Rows(_)) {
            self.store.remove(&table.file)?;
        }
        self.report(&table.name, result);
        Ok(())
    }

    fn read_table(
        &self,
        connection: &Connection,
        table: &TableJob,
        as_bytes: &BTreeSet<usize>,
    ) -> Result<TableResult, TableError> {
        let layout = OnceCell::new();
        let mut writer: Option<FileWriter<'_>> = None;
        for span in &table.spans {
            let (columns, key) = (&table.columns.list, &table.columns.key);
            let rows = if_there(
                connection,
                self.database,
                &table.name,
                self.progress,
                || select::span(connection, self.database, &table.name, columns, key, *span),
            )?;
            let Some(mut rows) = rows else {
                return Ok(TableResult::Gone);
            };
            if layout.get().is_none() {
                let _ = layout.set(self.file_layout(rows.types(), as_bytes, &table.file)?);
            }
            let Some(layout) = layout.get() else { continue };
            let mut count: u32 = 0;
            while let Some(row) = rows.next_row()? {
                self.goes_on(&mut count);
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(self.create(&table.file, layout)?),
                };
                writer.append(&[&table.name], &|column| row.value(column))?;
            }
        }
        let file = writer.map(FileWriter::finish);
        Ok(TableResult::Rows(file.transpose()?))
    }

    /// A table of many rows takes long: now and then it is said that rows come.
    fn goes_on(&self, count: &mut u32) {
        *count = count.wrapping_add(1);
        if count.is_multiple_of(4_096) {
            self.progress.advance(0, 0);
        }
    }

    fn file_layout(
        &self,
        types: Vec<DataType>,
        as_bytes: &BTreeSet<usize>,
        file: &str,
    ) -> Result<avro::Layout, DataFileError> {
        avro::Layout::rows(self.database, types, as_bytes.clone()).map_err(|problem| {
            DataFileError::Corrupt {
                place: self.store.place(file),
                problem,
            }
        })
    }

    fn create<'l>(
        &self,
        file: &str,
        layout: &'l avro::Layout,
    ) -> Result<FileWriter<'l>, DataFileError> {
        FileWriter::create(self.store, file, layout, self.compression)
    }

    /// Copies every row of a super table's children by one query. Tables that it could not finish are copied on
    /// their own.
    fn stable(
        &self,
        slot: &mut Option<Connection>,
        stable: &str,
        tables: &[TableJob],
    ) -> Result<(), BackupError> {
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
                    self.store.remove(&table.file)?;
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
        let mut rows = select::children(connection, self.database, stable, &first.columns.list)?;
        let types = rows
            .fields()
            .iter()
            .skip(1)
            .map(|field| field.data_type)
            .collect();
        let layout = self.file_layout(types, &BTreeSet::new(), &first.file)?;
        let mut open: Vec<(&TableJob, FileWriter<'_>)> = Vec::new();
        let mut count: u32 = 0;
        while let Some(row) = rows.next()? {
            self.goes_on(&mut count);
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
                        finished.insert(table.name.clone(), Some(writer.finish()?));
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
            finished.insert(table.name.clone(), Some(writer.finish()?));
        }
        Ok(())
    }
}

/// Tables that may be open at a time in a query over a super table: rows of several vgroups come in turns.
const OPEN_FILES: usize = 64;
