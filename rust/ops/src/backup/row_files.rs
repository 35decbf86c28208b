//! Rows as Parquet files: for each vnode and file set the rows of each super table, and of normal tables with the same
//! columns. They come straight from the server's committed files; what these can't give comes by SQL, into files of its own.

use super::{
    BackupError,
    rows::{Job, TableError, TableJob, TableResult, Work},
};
use ::rows::{
    arrow::{Layout as Columns, Origin},
    parquet::{FileWriter, ParquetError, RowsWriter},
    source::{Row as _, RowSource as _},
    stored::StoredRows,
};
use bitmap::WindowNumber;
use capture::{CaptureError, RowView, Unread, WantedRows};
use model::{
    ColumnId, FileSetId, Key, KeySpan, Precision, RowBatch, Suid, TableId, Uid, Version, VgId,
    catalogue::{Catalogue, Schema},
    pool,
};
use parking_lot::Mutex;
use plan::window::WindowWidth;
use repository::{layout::Layout, link::RowFile};
use server::{Connection, select, tables::if_there};
use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
};
use store::Store;

/// Files of normal tables that are open at a time: tables with other columns need another file.
const OPEN_FILES: usize = 32;

/// Whether the server tells the ids of all columns.
pub(super) fn has_column_ids(catalogue: &Catalogue) -> bool {
    let stables = catalogue.stables.values().map(|stable| &stable.schema);
    let tables = catalogue.tables.values();
    let schemas = stables.chain(tables.filter_map(|table| table.schema.as_deref()));
    schemas
        .flat_map(|schema| &schema.columns)
        .all(|column| column.id.is_some())
}

/// Where rows are kept, and what has been written.
pub(super) struct RowFiles<'a> {
    store: &'a dyn Store,
    directory: String,
    precision: Precision,
    window: WindowWidth,
    /// The number of the next file.
    next: AtomicU64,
    written: Mutex<Vec<RowFile>>,
    tables: Mutex<WrittenTables>,
}

/// What was written of each table.
pub(super) type WrittenTables = HashMap<Uid, Written>;

/// What was written of a table.
#[derive(Default)]
pub(super) struct Written {
    pub(super) rows: u64,
    /// If the table was created: the windows that have rows, with their newest version. A window may stand there again.
    pub(super) windows: Vec<(WindowNumber, Version)>,
}

impl Written {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.windows.extend(other.windows);
    }

    /// Notes the windows of rows, which are in order of their keys.
    fn note_windows(&mut self, mut keys: &[Key], mut versions: &[Version], width: WindowWidth) {
        while let Some(first) = keys.first() {
            let window = width.window_of(*first);
            let last = width.keys_of(window).last;
            let count = keys.partition_point(|key| *key <= last).max(1);
            let (here, later) = versions.split_at(count.min(versions.len()));
            let newest = here.iter().copied().max().unwrap_or(Version::BEGINNING);
            match self.windows.last_mut() {
                Some((known, version)) if *known == window => *version = newest.max(*version),
                _ => self.windows.push((window, newest)),
            }
            (keys, versions) = (keys.get(count..).unwrap_or_default(), later);
        }
    }
}

/// Notes the rows of a batch, and the windows of those tables that are created.
fn note<'t>(
    written: &mut WrittenTables,
    batch: &RowBatch,
    width: WindowWidth,
    table_of: impl Fn(Uid) -> Option<&'t TableJob>,
) {
    let mut from = 0;
    for (uid, count) in &batch.tables {
        let rows = from..from + count;
        from = rows.end;
        let table = written.entry(*uid).or_default();
        table.rows += *count as u64;
        if table_of(*uid).is_some_and(|table| table.is_created)
            && let (Some(keys), Some(versions)) =
                (batch.keys.get(rows.clone()), batch.versions.get(rows))
        {
            table.note_windows(keys, versions, width);
        }
    }
}

/// Rows of one group of tables on their way into files.
type Writer<'w> = RowsWriter<
    Box<dyn Write + Send>,
    Box<dyn FnMut(usize, std::sync::Arc<Columns>) -> Result<FileWriter, ParquetError> + 'w>,
>;

/// Names tables.
type NameOf<'n> = &'n dyn Fn(Uid) -> Option<&'n str>;

/// Where rows were read.
#[derive(Clone, Copy)]
struct Place {
    vgroup: VgId,
    file_set: Option<FileSetId>,
}

impl<'a> RowFiles<'a> {
    pub(super) fn new(
        store: &'a dyn Store,
        layout: &Layout,
        precision: Precision,
        window: WindowWidth,
    ) -> Self {
        Self {
            store,
            directory: format!("{}/rows", layout.directory()),
            precision,
            window,
            next: AtomicU64::new(0),
            written: Mutex::default(),
            tables: Mutex::default(),
        }
    }

    /// What was written: the files by super table, vgroup and file set, and of each table.
    pub(super) fn finish(self) -> (Vec<RowFile>, WrittenTables) {
        let mut written = self.written.into_inner();
        written.sort_by(|a, b| {
            let order = |rows: &RowFile| (rows.file_set, rows.vgroup, rows.stable.clone());
            order(a)
                .cmp(&order(b))
                .then_with(|| a.file.path.cmp(&b.file.path))
        });
        (written, self.tables.into_inner())
    }

    fn writer<'w>(&'w self, table: &TableJob, place: Place) -> Result<Writer<'w>, ParquetError> {
        let origin = Origin {
            stable: table.stable.clone(),
            suid: table.id.suid,
            vgroup: place.vgroup,
            file_set: place.file_set,
            precision: self.precision,
        };
        let columns =
            Columns::new(&table.columns.schema, origin).map_err(|source| ParquetError::Layout {
                place: self.store.place(&self.directory),
                source,
            })?;
        let set = place
            .file_set
            .map_or_else(|| "sql".to_owned(), |set| format!("f{set}"));
        let begin = format!("{}/v{}{set}", self.directory, place.vgroup);
        Ok(RowsWriter::new(
            columns,
            Box::new(move |_, layout| {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let name = format!("{begin}-{number:06}.parquet");
                FileWriter::create(self.store, &name, layout)
            }),
        ))
    }

    /// Keeps files that are finished.
    fn keep(&self, files: Files, tables: WrittenTables) {
        self.written.lock().extend(files);
        let mut all = self.tables.lock();
        for (uid, written) in tables {
            all.entry(uid).or_default().add(written);
        }
    }

    fn remove(&self, files: &Files) -> Result<(), BackupError> {
        for rows in files {
            self.store.remove(&rows.file.path)?;
        }
        Ok(())
    }
}

type Files = Vec<RowFile>;

/// The tables of a vnode whose rows its files have.
struct VnodeTables<'a> {
    view: &'a RowView,
    vgroup: VgId,
    wanted: WantedRows,
    tables: HashMap<Uid, TableJob>,
}

/// The rows of a file set on their way into files.
struct OneSet<'w> {
    kept: &'w RowFiles<'w>,
    tables: &'w VnodeTables<'w>,
    place: Place,
    /// Those that are open, by the columns of their tables.
    open: Vec<(GroupKey, Option<String>, Writer<'w>)>,
    files: Files,
    written: WrittenTables,
}

/// What tables of one file have in common.
#[derive(PartialEq)]
enum GroupKey {
    Stable(Suid),
    Columns(std::sync::Arc<Schema>),
}

impl OneSet<'_> {
    fn take(&mut self, batch: RowBatch) -> Result<(), ParquetError> {
        let Some((uid, _)) = batch.tables.first() else {
            return Ok(());
        };
        let Some(table) = self.tables.tables.get(uid) else {
            return Ok(());
        };
        let group = match batch.suid {
            Suid(0) => GroupKey::Columns(std::sync::Arc::clone(&table.columns.schema)),
            suid => GroupKey::Stable(suid),
        };
        let at = match self.open.iter().position(|(known, ..)| *known == group) {
            Some(at) => at,
            None => {
                // Super tables come one after the other; of normal tables any may come again.
                let most = if batch.suid == Suid(0) { OPEN_FILES } else { 1 };
                while self.open.len() >= most {
                    self.close_first()?;
                }
                let writer = self.kept.writer(table, self.place)?;
                self.open.push((group, table.stable.clone(), writer));
                self.open.len() - 1
            }
        };
        let tables = &self.tables.tables;
        note(&mut self.written, &batch, self.kept.window, |uid| {
            tables.get(&uid)
        });
        let name_of = |uid: Uid| tables.get(&uid).map(|table| table.name.as_str());
        match self.open.get_mut(at) {
            Some((.., writer)) => writer.write(batch, &name_of),
            None => Ok(()),
        }
    }

    fn close_first(&mut self) -> Result<(), ParquetError> {
        let (_, stable, writer) = self.open.remove(0);
        let place = self.place;
        let files = writer.finish()?.into_iter().map(|file| RowFile {
            stable: stable.clone(),
            vgroup: place.vgroup,
            file_set: place.file_set,
            file,
        });
        self.files.extend(files);
        Ok(())
    }

    fn finish(mut self) -> Result<(Files, WrittenTables), ParquetError> {
        while !self.open.is_empty() {
            self.close_first()?;
        }
        Ok((self.files, self.written))
    }
}

impl Work<'_> {
    /// Copies the rows that the server's files have, and gives the jobs for those that only SQL can give.
    pub(super) fn row_files<'v>(
        &self,
        kept: &RowFiles<'_>,
        wanted: Vec<(TableJob, Option<(VgId, &'v RowView)>)>,
        threads: usize,
    ) -> Result<Vec<Job<'v>>, BackupError> {
        let mut vnodes: BTreeMap<VgId, VnodeTables<'v>> = BTreeMap::new();
        let mut by_query = Vec::new();
        for (table, view) in wanted {
            let Some((vgroup, view)) = view else {
                by_query.push(Job::Table(table));
                continue;
            };
            let vnode = vnodes.entry(vgroup).or_insert_with(|| VnodeTables {
                view,
                vgroup,
                wanted: WantedRows::new(),
                tables: HashMap::new(),
            });
            vnode.wanted.insert(table.id, table.shown.clone());
            vnode.tables.insert(table.id.uid, table);
        }
        let jobs: Vec<(&VnodeTables<'_>, FileSetId, KeySpan)> = vnodes
            .values()
            .flat_map(|vnode| {
                let sets = vnode.view.file_sets().into_iter();
                sets.map(move |(set, range)| (vnode, set, range))
            })
            .filter(|(vnode, _, range)| {
                let mut spans = vnode.wanted.values().flatten();
                spans.any(|span| span.overlaps(*range))
            })
            .collect();
        let unread = Mutex::new(Vec::new());
        pool::run(
            &jobs,
            threads,
            || (),
            |(), (vnode, set, range)| {
                let spans = self.one_set(kept, vnode, *set, *range)?;
                unread.lock().extend(spans);
                Ok::<_, BackupError>(())
            },
        )?;
        let mut left: BTreeMap<TableId, Vec<KeySpan>> = BTreeMap::new();
        for (table, span) in unread.into_inner() {
            left.entry(table).or_default().push(span);
        }
        for vnode in vnodes.into_values() {
            for (uid, mut table) in vnode.tables {
                match left.remove(&table.id) {
                    Some(spans) => {
                        table.spans = KeySpan::joined(spans);
                        by_query.push(Job::Table(table));
                    }
                    None => {
                        let rows = kept.tables.lock().get(&uid).map(|written| written.rows);
                        self.progress.advance(1, rows.unwrap_or(0));
                    }
                }
            }
        }
        Ok(by_query)
    }

    /// Copies the rows of a file set, and gives the spans that can't be read.
    fn one_set(
        &self,
        kept: &RowFiles<'_>,
        vnode: &VnodeTables<'_>,
        set: FileSetId,
        range: KeySpan,
    ) -> Result<Vec<(TableId, KeySpan)>, BackupError> {
        let place = Place {
            vgroup: vnode.vgroup,
            file_set: Some(set),
        };
        let mut rows = OneSet {
            kept,
            tables: vnode,
            place,
            open: Vec::new(),
            files: Vec::new(),
            written: WrittenTables::new(),
        };
        let mut refused: Option<BackupError> = None;
        let read = vnode.view.read(set, &vnode.wanted, &mut |batch| {
            let taken = match self.progress.go_on() {
                Ok(()) => rows.take(batch).map_err(BackupError::from),
                Err(cancelled) => Err(cancelled.into()),
            };
            taken.map_err(|error| {
                refused = Some(error);
                CaptureError::Stopped
            })
        });
        let everything = |files: &Files| {
            kept.remove(files)?;
            let all = vnode.wanted.iter().flat_map(|(table, spans)| {
                let spans = spans.iter().filter(|span| span.overlaps(range));
                spans.map(|span| {
                    let first = span.first.max(range.first);
                    let last = span.last.min(range.last);
                    (*table, KeySpan { first, last })
                })
            });
            Ok(all.collect())
        };
        match (read, refused) {
            // The files hold something else than the catalogue says: only the server knows what it is now.
            (_, Some(BackupError::Rows(ParquetError::Encode { .. })))
            | (Ok(Unread::Everything) | Err(CaptureError::TooLong(_)), None) => {
                let (files, _) = rows.finish()?;
                everything(&files)
            }
            (_, Some(error)) => Err(error),
            (Ok(Unread::Spans(spans)), None) => {
                let (files, written) = rows.finish()?;
                kept.keep(files, written);
                Ok(spans)
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Copies rows of a table by SQL.
    pub(super) fn read_into(
        &self,
        kept: &RowFiles<'_>,
        connection: &Connection,
        table: &TableJob,
    ) -> Result<TableResult, TableError> {
        let place = Place {
            vgroup: table.vgroup,
            file_set: None,
        };
        let mut writer = kept.writer(table, place)?;
        let mut written = WrittenTables::new();
        let read = self.read_rows(connection, table, &mut |batch, name_of| {
            note(&mut written, &batch, kept.window, |_| Some(table));
            writer.write(batch, name_of)
        });
        let files = writer.finish()?.into_iter().map(|file| RowFile {
            stable: table.stable.clone(),
            vgroup: table.vgroup,
            file_set: None,
            file,
        });
        let files: Files = files.collect();
        match read {
            Ok(Some(())) => {
                kept.keep(files, written);
                Ok(TableResult::Rows(None))
            }
            other => {
                for rows in &files {
                    self.store
                        .remove(&rows.file.path)
                        .map_err(|error| TableError::Rows(error.into()))?;
                }
                other.map(|_| TableResult::Gone)
            }
        }
    }

    /// Hands rows on; `None` if the table was dropped.
    fn read_rows(
        &self,
        connection: &Connection,
        table: &TableJob,
        write: &mut dyn FnMut(RowBatch, NameOf<'_>) -> Result<(), ParquetError>,
    ) -> Result<Option<()>, TableError> {
        let columns = table.columns.schema.columns.iter().skip(1);
        let columns = columns.map(|column| {
            let id = column.id.and_then(|id| i16::try_from(id).ok());
            (ColumnId(id.unwrap_or_default()), column.column_type)
        });
        let mut stored = StoredRows::new(table.id, columns.collect());
        let mut seen = 0;
        let name_of = |_: Uid| Some(table.name.as_str());
        for span in &table.spans {
            let rows = if_there(
                connection,
                self.database(),
                &table.name,
                self.progress,
                || table.query(connection, self.database(), *span),
            )?;
            let Some(mut rows) = rows else {
                return Ok(None);
            };
            while let Some(row) = rows.next_row()? {
                stored.push(&|column| row.value(column))?;
                self.goes_on(&mut seen);
                if stored.is_full() {
                    // A table of many rows takes long: it is said that rows come.
                    self.progress.advance(0, 0);
                    write(stored.take(), &name_of)?;
                }
            }
        }
        write(stored.take(), &name_of)?;
        Ok(Some(()))
    }
}

impl TableJob {
    fn query<'c>(
        &self,
        connection: &'c Connection,
        database: &str,
        span: KeySpan,
    ) -> Result<select::TableRows<'c>, server::SqlError> {
        let (columns, key) = (&self.columns.list, &self.columns.key);
        select::span(connection, database, &self.name, columns, key, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_rows_are_noted_once_with_their_newest_version() {
        let width = WindowWidth::from_ticks(10).unwrap();
        let keys = [-11, -10, -1, 0, 9, 35].map(Key);
        let versions = [5, 9, 7, -1, 3, 4].map(Version);
        let mut written = Written::default();
        written.note_windows(&keys[..2], &versions[..2], width);
        written.note_windows(&keys[2..], &versions[2..], width);
        let middle = width.window_of(Key(0)).0;
        let expected = [
            (middle - 2, 5),
            (middle - 1, 9),
            (middle, 3),
            (middle + 3, 4),
        ];
        let expected = expected.map(|(window, version)| (WindowNumber(window), Version(version)));
        assert_eq!(written.windows, expected);
    }
}
