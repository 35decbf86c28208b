//! One file: its bytes against the manifest, then its records against the link.

use super::{ProblemCode, link::Tables};
use model::{Cancelled, DataType, Key, KeySpan, OwnedValue, Progress, pool};
use parking_lot::Mutex;
use rows::avro::{DataFileError, FileReader};
use std::{
    collections::{BTreeMap, HashSet},
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
    /// Tags of children of a super table; of these tables, if the list of them is known. Whose tags there are is added
    /// to `seen`.
    Tags {
        stable: &'a str,
        types: &'a [DataType],
        tables: Option<&'a Tables>,
        seen: &'a Mutex<HashSet<String>>,
    },
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
