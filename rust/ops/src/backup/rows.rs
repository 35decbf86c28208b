//! Reading rows and writing data files, several tables at a time: from the server's files where they have them, else by
//! SQL, over several connections.
//!
//! By SQL, a table's rows are read span by span. Where most children of a super table are wanted whole, one query over the
//! super table replaces one query for each of them: the server then reads its files once.

use super::{
    BackupError, Changed, Changes, RowsFormat, Watch, Writing,
    file_rows::FileRows,
    output::write_file,
    row_files::{self, RowFiles, WrittenTables},
    tries::{AfterFailure, TableTries},
};
use ::rows::{
    avro::{self, Compression, DataFileError, FileWriter},
    parquet::ParquetError,
    source::{Row as _, RowSource as _},
    stored::NotStored,
};
use capture::RowView;
use model::{
    DataType, FailedId, FailedTable, KeySpan, MayPass as _, Progress, Suid, TableId, Unit, VgId,
    catalogue::{Catalogue, Schema, Table},
    pool,
    retry::pause,
};
use parking_lot::Mutex;
use repository::{
    layout::Layout,
    link::{RowFile, TableChange},
};
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
    /// The files that have rows of many tables.
    pub(super) row_files: Vec<RowFile>,
    /// Whether rows are kept in such files, and not in one for each table.
    pub(super) has_row_files: bool,
    /// What they have of each table; `None` if each table has a file of its own.
    pub(super) written: Option<WrittenTables>,
    /// The tables whose rows the server was asked for.
    pub(super) asked: HashSet<String>,
}

/// From this many whole tables on, a super table is read by one query.
const SCAN_FROM: usize = 500;

/// How often a query that the server refuses is made again: what it says is not always so a moment later.
const REFUSALS: u32 = 2;
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn copy(
    writing: &Writing<'_>,
    store: &dyn Store,
    layout: &Layout,
    catalogue: &Catalogue,
    changes: &mut Changes,
    changed: Changed<'_>,
) -> Result<Copied, BackupError> {
    let mut stable_names = Vec::new();
    let files = FileRows::new(changed.rows, catalogue);
    let threads = writing.job.threads;
    let database = &catalogue.database.name;
    let kept = match writing.job.rows {
        RowsFormat::Parquet if row_files::has_column_ids(catalogue) => {
            let (precision, window) = (catalogue.database.precision, changed.plan.window);
            Some(RowFiles::new(store, layout, precision, window))
        }
        _ => None,
    };
    let wanted = match &kept {
        Some(_) => wanted(catalogue, changes, &files, &mut |_, _| Ok(String::new()))?,
        None => {
            let mut directories = Directories {
                store,
                layout,
                made: HashSet::new(),
                stable_names: &mut stable_names,
            };
            wanted(catalogue, changes, &files, &mut |stable, number| {
                directories.file(stable, number)
            })?
        }
    };
    let step = format!("dumping the rows of {database}");
    writing
        .progress
        .step(&step, Unit::Tables, wanted.len() as u64);
    let work = Work {
        compression: writing.job.compression,
        server: writing.server.map(|server| Asked {
            login: &writing.job.login,
            library: server.library,
            watch: server.watch,
        }),
        progress: writing.progress,
        store,
        database,
        kept: kept.as_ref(),
        results: Mutex::default(),
        asked: Mutex::default(),
    };
    let jobs = match &kept {
        Some(kept) => work.row_files(kept, wanted, threads)?,
        None => jobs(catalogue, wanted, threads),
    };
    let no_connection = || None;
    pool::run(&jobs, threads, no_connection, |slot, job| match job {
        Job::Table(table) => work.table(slot, table),
        Job::Stable { stable, tables } => work.stable(slot, stable, tables),
        Job::Files { view, tables } => {
            for table in work.files(view, tables)? {
                work.table(slot, table)?;
            }
            Ok(())
        }
    })?;
    let (results, asked) = (work.results.into_inner(), work.asked.into_inner());
    let (row_files, written) = kept.map(RowFiles::finish).unzip();
    for change in changes.tables.values_mut() {
        let written = change
            .uid
            .zip(written.as_ref())
            .and_then(|(uid, written)| written.get(&uid));
        change.rows = written.map_or(0, |written| written.rows);
    }

    let mut failed = Vec::new();
    for (name, result) in results {
        let Some(change) = changes.tables.get_mut(&name) else {
            continue;
        };
        let is_unread = matches!(result, TableResult::Unread(_));
        match result {
            TableResult::Rows(file) => change.file = file,
            // The next link finds it missing, and drops what this one restores of it.
            TableResult::Gone => forget(change),
            TableResult::Failed(problem) | TableResult::Unread(problem) => {
                // What could be read of a table that is new is better than nothing; of one that the base has, a restore
                // leaves the rows alone.
                if !(is_unread && change.create) {
                    forget(change);
                }
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
        has_row_files: row_files.is_some(),
        row_files: row_files.unwrap_or_default(),
        written,
        asked,
    })
}

/// Takes a table's rows and deletes out of a link. Rows of it that are in files already are left where they are, and nobody
/// reads them.
fn forget(change: &mut TableChange) {
    change.spans.clear();
    change.deletes.clear();
    change.rows = 0;
}

/// The data directories of Avro files.
struct Directories<'a> {
    store: &'a dyn Store,
    layout: &'a Layout,
    made: HashSet<String>,
    stable_names: &'a mut Vec<FileEntry>,
}

impl Directories<'_> {
    /// The file of the `number`th table.
    fn file(&mut self, stable: Option<&str>, number: u64) -> Result<String, BackupError> {
        let directory = self.layout.data_directory(stable, number);
        let file = self.layout.data_name(&directory, number);
        if !self.made.contains(&directory) {
            if let Some(stable) = stable {
                let name = format!("{directory}/stbname");
                let named = write_file(self.store, name, stable.as_bytes())?;
                self.stable_names.push(named);
            }
            self.made.insert(directory);
        }
        Ok(file)
    }
}

/// Names the file of a table, given its super table and its number.
type FileOf<'f> = dyn FnMut(Option<&str>, u64) -> Result<String, BackupError> + 'f;

/// A table whose rows are wanted, and the vnode whose files have them, if any.
type Wanted<'a> = (TableJob, Option<(VgId, &'a RowView)>);

/// What one worker does at a time.
pub(super) enum Job<'a> {
    /// These tables, from the files of their vnode.
    Files {
        view: &'a RowView,
        tables: Vec<TableJob>,
    },
    Table(TableJob),
    /// Every row of these children of a super table.
    Stable {
        stable: String,
        tables: Vec<TableJob>,
    },
}

pub(super) struct TableJob {
    pub(super) name: String,
    pub(super) id: TableId,
    pub(super) vgroup: VgId,
    pub(super) stable: Option<String>,
    pub(super) columns: Columns,
    pub(super) spans: Vec<KeySpan>,
    /// Those of the spans that queries show rows of.
    pub(super) shown: Vec<KeySpan>,
    pub(super) file: String,
    /// Whether the table is created, with all its rows.
    pub(super) is_created: bool,
}

/// A table's columns.
#[derive(Clone)]
pub(super) struct Columns {
    pub(super) key: String,
    pub(super) list: std::sync::Arc<str>,
    pub(super) schema: std::sync::Arc<Schema>,
}

impl Columns {
    fn of(schema: &Schema) -> Self {
        let key = schema.columns.first();
        Self {
            key: key.map(|column| column.name.clone()).unwrap_or_default(),
            list: column_list(&schema.columns).into(),
            schema: std::sync::Arc::new(schema.clone()),
        }
    }
}

/// The tables whose rows are wanted.
fn wanted<'a>(
    catalogue: &Catalogue,
    changes: &Changes,
    files: &FileRows<'a>,
    file: &mut FileOf<'_>,
) -> Result<Vec<Wanted<'a>>, BackupError> {
    let mut columns: HashMap<&str, Columns> = HashMap::new();
    let mut tables = Vec::new();
    let changes = changes.tables.values();
    let with_rows = changes.filter(|change| !change.spans.is_empty());
    for (number, change) in with_rows.enumerate() {
        let Some(table) = catalogue.tables.get(&change.name) else {
            continue;
        };
        let Some(schema) = catalogue.schema_of(table) else {
            continue;
        };
        let stable = table.stable.as_deref();
        let suid = match stable {
            Some(stable) => catalogue.stables.get(stable).map(|stable| stable.suid),
            None => Some(Suid(0)),
        };
        let Some(suid) = suid else { continue };
        let columns = columns
            .entry(stable.unwrap_or(&table.name))
            .or_insert_with(|| Columns::of(schema));
        let job = TableJob {
            name: table.name.clone(),
            id: TableId {
                suid,
                uid: table.uid,
            },
            vgroup: table.vgroup,
            stable: table.stable.as_deref().map(str::to_owned),
            columns: columns.clone(),
            spans: change.spans.clone(),
            shown: files.shown(&change.spans),
            file: file(stable, number as u64)?,
            is_created: change.create,
        };
        let view = files.of(table, schema);
        tables.push((job, view.map(|view| (table.vgroup, view))));
    }
    Ok(tables)
}

/// The jobs, large ones first.
fn jobs<'a>(catalogue: &Catalogue, wanted: Vec<Wanted<'a>>, threads: usize) -> Vec<Job<'a>> {
    let mut by_stable: BTreeMap<Option<String>, Vec<TableJob>> = BTreeMap::new();
    let mut by_files: BTreeMap<VgId, (&RowView, Vec<TableJob>)> = BTreeMap::new();
    for (table, view) in wanted {
        match view {
            Some((vgroup, view)) => {
                let (_, tables) = by_files.entry(vgroup).or_insert((view, Vec::new()));
                tables.push(table);
            }
            None => by_stable
                .entry(table.stable.clone())
                .or_default()
                .push(table),
        }
    }
    let mut jobs = Vec::new();
    for (view, tables) in by_files.into_values() {
        let together = FileRows::together(tables, threads);
        jobs.extend(together.map(|tables| Job::Files { view, tables }));
    }
    let mut singles = Vec::new();
    for (stable, tables) in by_stable {
        let children = stable
            .as_ref()
            .map_or(0, |stable| children(catalogue, stable));
        let (whole, parts): (Vec<_>, Vec<_>) = tables
            .into_iter()
            .partition(|table| table.spans == [KeySpan::ALL]);
        singles.extend(parts.into_iter().map(Job::Table));
        match stable {
            Some(stable) if whole.len() >= SCAN_FROM && whole.len() * 2 >= children => {
                jobs.push(Job::Stable {
                    stable,
                    tables: whole,
                });
            }
            _ => singles.extend(whole.into_iter().map(Job::Table)),
        }
    }
    jobs.extend(singles);
    jobs
}

fn children(catalogue: &Catalogue, stable: &str) -> usize {
    let is_child = |table: &&Table| table.stable.as_deref() == Some(stable);
    catalogue.tables.values().filter(is_child).count()
}

pub(super) enum TableResult {
    /// The file, unless there was no row.
    Rows(Option<FileEntry>),
    /// The table was dropped meanwhile.
    Gone,
    Failed(String),
    /// Rows are missing that nobody could be asked for.
    Unread(String),
}

/// A server that workers ask, each over a connection of its own.
struct Asked<'a> {
    login: &'a Login,
    library: &'a Library,
    watch: &'a Watch,
}

impl Asked<'_> {
    /// The worker's own connection.
    fn connection<'c>(&self, slot: &'c mut Option<Connection>) -> Result<&'c Connection, SqlError> {
        match slot {
            Some(connection) => Ok(connection),
            None => Ok(slot.insert(self.library.connect(self.login)?)),
        }
    }
}

/// What the workers share.
pub(super) struct Work<'a> {
    compression: Compression,
    /// Who is asked for what the files can't give.
    server: Option<Asked<'a>>,
    pub(super) progress: &'a dyn Progress,
    pub(super) store: &'a dyn Store,
    database: &'a str,
    /// Where rows are kept, unless each table has an Avro file.
    kept: Option<&'a RowFiles<'a>>,
    results: Mutex<Vec<(String, TableResult)>>,
    /// The tables whose rows the server was asked for.
    asked: Mutex<HashSet<String>>,
}

/// Why a table's rows could not be written.
pub(super) enum TableError {
    Sql(SqlError),
    Data(DataFileError),
    Rows(ParquetError),
    /// A value that can't be kept.
    Value(NotStored),
}

impl From<ParquetError> for TableError {
    fn from(error: ParquetError) -> Self {
        Self::Rows(error)
    }
}

impl From<NotStored> for TableError {
    fn from(error: NotStored) -> Self {
        Self::Value(error)
    }
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
    pub(super) fn database(&self) -> &str {
        self.database
    }

    pub(super) fn report(&self, name: &str, result: TableResult) {
        let rows = match &result {
            TableResult::Rows(Some(file)) => file.rows,
            _ => 0,
        };
        self.progress.advance(1, rows);
        self.results.lock().push((name.to_owned(), result));
    }

    /// Copies one table, again if the connection is lost.
    fn table(&self, slot: &mut Option<Connection>, table: &TableJob) -> Result<(), BackupError> {
        let Some(server) = &self.server else {
            let problem = "the files do not tell some of its rows (damage, a BLOB, an encoding that loses digits, or a type \
                           that is not known), and there is no server to ask";
            self.report(&table.name, TableResult::Unread(problem.to_owned()));
            return Ok(());
        };
        self.asked.lock().insert(table.name.clone());
        let mut as_bytes = BTreeSet::new();
        let mut tries = TableTries::default();
        let mut refused = 0;
        let result = loop {
            self.progress.go_on()?;
            let outcome =
                server
                    .connection(slot)
                    .map_err(TableError::from)
                    .and_then(|connection| match self.kept {
                        Some(kept) => self.read_into(kept, connection, table),
                        None => self.read_table(connection, table, &as_bytes),
                    });
            match outcome {
                Ok(result) => break result,
                // Only known once it is met: that column is written as bytes then.
                Err(TableError::Data(DataFileError::NotText(column))) => {
                    as_bytes.insert(column);
                }
                Err(TableError::Data(error)) => return Err(error.into()),
                Err(TableError::Rows(error)) => return Err(error.into()),
                Err(TableError::Value(error)) => break TableResult::Failed(error.to_string()),
                Err(TableError::Sql(error)) if error.may_pass() => {
                    *slot = None;
                    let given_up = server.watch.has_given_up();
                    match tries.after(&error, given_up, self.progress)? {
                        AfterFailure::TryAgain => {}
                        AfterFailure::TableFails => break TableResult::Failed(error.to_string()),
                        AfterFailure::ServerIsLost => {
                            return Err(BackupError::Disconnected {
                                place: server.watch.place(),
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
            self.forget_file(table)?;
        };
        if !matches!(result, TableResult::Rows(_)) {
            self.forget_file(table)?;
        }
        self.report(&table.name, result);
        Ok(())
    }

    /// Removes the Avro file of a table.
    fn forget_file(&self, table: &TableJob) -> Result<(), BackupError> {
        match self.kept {
            Some(_) => Ok(()),
            None => Ok(self.store.remove(&table.file)?),
        }
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
    pub(super) fn goes_on(&self, count: &mut u32) {
        *count = count.wrapping_add(1);
        if count.is_multiple_of(4_096) {
            self.progress.advance(0, 0);
        }
    }

    pub(super) fn file_layout(
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

    pub(super) fn create<'l>(
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
        let Some(server) = &self.server else {
            return tables.iter().try_for_each(|table| self.table(slot, table));
        };
        let names = tables.iter().map(|table| table.name.clone());
        self.asked.lock().extend(names);
        let mut finished = HashMap::new();
        let outcome = server
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
