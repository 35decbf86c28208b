//! One file: its bytes against the manifest, then its records against the link.

use super::ProblemCode;
use model::{Cancelled, DataType, Key, KeySpan, OwnedValue, Progress, catalogue::Tables, pool};
use parking_lot::Mutex;
use rows::{
    arrow::LayoutError,
    avro::{DataFileError, FileReader},
    parquet::{ParquetError, ParquetFile, Selection, Stored},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};
use store::{FileEntry, Store, StoreError};

/// A file to check.
pub(super) struct FileJob<'a> {
    pub(super) entry: &'a FileEntry,
    pub(super) content: Content<'a>,
}

/// What it should hold.
pub(super) enum Content<'a> {
    /// Nothing that a restore of this program reads.
    Bytes,
    /// Rows of a table with keys in these ranges.
    Rows {
        table: &'a str,
        types: &'a [DataType],
        spans: &'a [KeySpan],
    },
    /// Rows of many tables. How many there are of each is added to `counted`.
    ManyRows {
        stable: Option<&'a str>,
        /// The tables that the link changes and their spans, if its lists are known.
        changed: Option<&'a HashMap<&'a str, Changed<'a>>>,
        counted: &'a Mutex<HashMap<String, u64>>,
    },
    /// Tags of children of a super table; of these tables, if the list of them is known. Whose tags there are is added
    /// to `seen`.
    Tags {
        stable: &'a str,
        types: &'a [DataType],
        tables: Option<&'a Tables>,
        seen: &'a Mutex<HashSet<String>>,
    },
}

/// A table that a link changes.
pub(super) struct Changed<'a> {
    pub(super) stable: Option<&'a str>,
    /// The ranges whose rows are in the link; without any, rows of the table are left over from a dump that failed.
    pub(super) spans: &'a [KeySpan],
}

/// What is wrong with a file.
pub(super) struct Fault {
    pub(super) code: ProblemCode,
    pub(super) file: String,
    pub(super) text: String,
}

/// Checks files on several threads. Returns the rows decoded, and the faults in the order of the jobs.
pub(super) fn check(
    store: &dyn Store,
    jobs: &[FileJob<'_>],
    threads: usize,
    progress: &dyn Progress,
) -> (u64, Vec<Fault>) {
    let rows = AtomicU64::new(0);
    let faults = Mutex::new(BTreeMap::new());
    let numbered: Vec<(usize, &FileJob<'_>)> = jobs.iter().enumerate().collect();
    let begin = || ();
    // A check that is cancelled gives no report, so what is left out here does not matter.
    let _ = pool::run(&numbered, threads, begin, |(), (number, job)| {
        progress.go_on()?;
        match check_one(store, job) {
            Ok(found) => drop(rows.fetch_add(found, Ordering::Relaxed)),
            Err((code, text)) => {
                let fault = Fault {
                    code,
                    file: job.entry.path.clone(),
                    text,
                };
                faults.lock().insert(*number, fault);
            }
        }
        progress.advance(job.entry.bytes, 0);
        Ok::<_, Cancelled>(())
    });
    let faults = faults.into_inner();
    (rows.into_inner(), faults.into_values().collect())
}

/// The file that is looked at.
struct File<'a> {
    store: &'a dyn Store,
    name: &'a str,
}

impl File<'_> {
    fn place(&self) -> String {
        self.store.place(self.name)
    }

    fn reader(&self, types: &[DataType], leading: usize) -> Found<FileReader> {
        let reader = FileReader::open(self.store, self.name, types.to_vec(), leading);
        reader.map_err(|error| unreadable(&error))
    }
}

type Found<T> = Result<T, (ProblemCode, String)>;

/// The rows in it.
fn check_one(store: &dyn Store, job: &FileJob<'_>) -> Found<u64> {
    bytes(store, job.entry)?;
    let file = &File {
        store,
        name: &job.entry.path,
    };
    let rows = match &job.content {
        Content::Bytes => return Ok(0),
        Content::Rows {
            table,
            types,
            spans,
        } => table_rows(file, table, types, spans)?,
        Content::ManyRows {
            stable,
            changed,
            counted,
        } => many_rows(file, *stable, *changed, counted)?,
        Content::Tags {
            stable,
            types,
            tables,
            seen,
        } => tags(file, stable, types, *tables, seen)?,
    };
    if rows == job.entry.rows {
        return Ok(rows);
    }
    let said = job.entry.rows;
    Err(differs(
        file,
        format!("it holds {rows} rows, {said} were written"),
    ))
}

fn differs(file: &File<'_>, problem: impl std::fmt::Display) -> (ProblemCode, String) {
    let text = format!("{}: {problem}; take a new full backup", file.place());
    (ProblemCode::ContentDiffers, text)
}

/// Holds a file against its length and SHA-256.
pub(super) fn bytes(store: &dyn Store, entry: &FileEntry) -> Found<()> {
    store::check(store, entry).map_err(|error| {
        let code = match &error {
            error if error.is_not_found() => ProblemCode::FileMissing,
            StoreError::Io { .. } => ProblemCode::FileUnreadable,
            _ => ProblemCode::FileDamaged,
        };
        let remedy = match code {
            ProblemCode::FileDamaged => "",
            ProblemCode::FileMissing => "; take it from another copy of the backup",
            _ => "; run as a user that may read the backup, and check the disk",
        };
        (code, format!("{error}{remedy}"))
    })
}

fn unreadable(error: &DataFileError) -> (ProblemCode, String) {
    (ProblemCode::ContentUnreadable, error.to_string())
}

fn table_rows(file: &File<'_>, table: &str, types: &[DataType], spans: &[KeySpan]) -> Found<u64> {
    let mut reader = file.reader(types, 1)?;
    let mut rows = 0;
    while let Some((names, values)) = reader.next().map_err(|e| unreadable(&e))? {
        if names.first().is_none_or(|name| name != table) {
            let problem = format!("it holds rows of {names:?}, the link says {table:?}");
            return Err(differs(file, problem));
        }
        let Some(OwnedValue::Int(key)) = values.first() else {
            return Err(differs(file, "it holds a row without a timestamp"));
        };
        if !spans
            .iter()
            .any(|span| span.overlaps(KeySpan::at(Key(*key))))
        {
            let problem = format!("it holds a row at {key}, outside of the ranges of the link");
            return Err(differs(file, problem));
        }
        rows += 1;
    }
    Ok(rows)
}

fn many_rows(
    file: &File<'_>,
    stable: Option<&str>,
    changed: Option<&HashMap<&str, Changed<'_>>>,
    counted: &Mutex<HashMap<String, u64>>,
) -> Found<u64> {
    let unreadable = |error: &ParquetError| {
        let code = match error {
            ParquetError::Layout {
                source: LayoutError::NewerFormat(_),
                ..
            } => ProblemCode::NewerFormat,
            _ => ProblemCode::ContentUnreadable,
        };
        (code, error.to_string())
    };
    let stored = Stored::new(file.store, file.name);
    let opened = ParquetFile::open(stored, &file.place()).map_err(|error| unreadable(&error))?;
    if opened.layout().origin().stable.as_deref() != stable {
        let found = &opened.layout().origin().stable;
        let problem = format!("it holds rows of {found:?}, the link says {stable:?}");
        return Err(differs(file, problem));
    }
    let mut batches = opened.read(Selection::ALL);
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut rows = 0;
    while let Some(batch) = batches.next().map_err(|error| unreadable(&error))? {
        for table in batch.tables() {
            rows += table.len() as u64;
            let columns = table.columns();
            columns.map_err(|error| (ProblemCode::ContentUnreadable, error.to_string()))?;
            let Some(changed) = changed else { continue };
            let Some(of) = changed.get(table.name).filter(|of| of.stable == stable) else {
                let problem = format!(
                    "it holds rows of table {:?}, which the link does not change",
                    table.name
                );
                return Err(differs(file, problem));
            };
            if of.spans.is_empty() {
                continue;
            }
            let is_outside =
                |key: &Key| !of.spans.iter().any(|span| span.overlaps(KeySpan::at(*key)));
            if let Some(key) = table.keys().find(is_outside) {
                let problem = format!(
                    "it holds a row of {:?} at {key}, outside of the ranges of the link",
                    table.name
                );
                return Err(differs(file, problem));
            }
            *counts.entry(table.name.to_owned()).or_default() += table.len() as u64;
        }
    }
    let mut counted = counted.lock();
    for (name, rows) in counts {
        *counted.entry(name).or_default() += rows;
    }
    Ok(rows)
}

fn tags(
    file: &File<'_>,
    stable: &str,
    types: &[DataType],
    tables: Option<&Tables>,
    seen: &Mutex<HashSet<String>>,
) -> Found<u64> {
    let is_child = |name: &str| {
        tables.is_none_or(|tables| {
            let table = tables.get(name);
            table.is_some_and(|table| table.stable.as_deref() == Some(stable))
        })
    };
    let mut reader = file.reader(types, 2)?;
    let mut rows = 0;
    while let Some((names, _)) = reader.next().map_err(|e| unreadable(&e))? {
        match names.as_slice() {
            [of, child] if of == stable && is_child(child) => {
                rows += 1;
                seen.lock().insert(child.clone());
            }
            _ => {
                let problem =
                    format!("it holds tags of {names:?}, which is no listed child of {stable:?}");
                return Err(differs(file, problem));
            }
        }
    }
    Ok(rows)
}
