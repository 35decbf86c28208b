//! One file: its bytes against the manifest, then its records against the link.

use super::{ProblemCode, link::Tables};
use crate::data_file::{self, DataFileError, FileEntry, FileReader, OwnedValue};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};
use taos::DataType;
use tdfiles::{Key, KeySpan};

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
    root: &Path,
    jobs: &[FileJob<'_>],
    threads: usize,
    progress: &dyn super::Progress,
) -> (u64, Vec<Fault>) {
    let (next, rows) = (AtomicUsize::new(0), AtomicU64::new(0));
    let faults = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(number) else { break };
            match check_one(root, job) {
                Ok(found) => drop(rows.fetch_add(found, Ordering::Relaxed)),
                Err((code, text)) => {
                    let fault = Fault {
                        code,
                        file: job.entry.path.clone(),
                        text,
                    };
                    let mut faults = faults.lock();
                    faults.insert(number, fault);
                }
            }
            progress.bytes(job.entry.bytes);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let faults = faults.into_inner();
    (rows.into_inner(), faults.into_values().collect())
}

type Found<T> = Result<T, (ProblemCode, String)>;

/// The rows in it.
fn check_one(root: &Path, job: &FileJob<'_>) -> Found<u64> {
    bytes(root, job.entry)?;
    let path = root.join(&job.entry.path);
    let rows = match &job.content {
        Content::Bytes => return Ok(0),
        Content::Rows {
            table,
            types,
            spans,
        } => table_rows(&path, table, types, spans)?,
        Content::Tags {
            stable,
            types,
            tables,
            seen,
        } => tags(&path, stable, types, *tables, seen)?,
    };
    if rows == job.entry.rows {
        return Ok(rows);
    }
    let said = job.entry.rows;
    Err(differs(
        &path,
        format!("it holds {rows} rows, {said} were written"),
    ))
}

fn differs(path: &Path, problem: impl std::fmt::Display) -> (ProblemCode, String) {
    let text = format!("{}: {problem}; take a new full backup", path.display());
    (ProblemCode::ContentDiffers, text)
}

/// Holds a file against its length and SHA-256.
pub(super) fn bytes(root: &Path, entry: &FileEntry) -> Found<()> {
    data_file::check(root, entry).map_err(|error| {
        let code = match &error {
            DataFileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ProblemCode::FileMissing
            }
            DataFileError::Io { .. } => ProblemCode::FileUnreadable,
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

fn table_rows(path: &Path, table: &str, types: &[DataType], spans: &[KeySpan]) -> Found<u64> {
    let mut reader = FileReader::open(path, types.to_vec(), 1).map_err(|e| unreadable(&e))?;
    let mut rows = 0;
    while let Some((names, values)) = reader.next().map_err(|e| unreadable(&e))? {
        if names.first().is_none_or(|name| name != table) {
            let problem = format!("it holds rows of {names:?}, the link says {table:?}");
            return Err(differs(path, problem));
        }
        let Some(OwnedValue::Int(key)) = values.first() else {
            return Err(differs(path, "it holds a row without a timestamp"));
        };
        if !spans
            .iter()
            .any(|span| span.overlaps(KeySpan::at(Key(*key))))
        {
            let problem = format!("it holds a row at {key}, outside of the ranges of the link");
            return Err(differs(path, problem));
        }
        rows += 1;
    }
    Ok(rows)
}

fn tags(
    path: &Path,
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
    let mut reader = FileReader::open(path, types.to_vec(), 2).map_err(|e| unreadable(&e))?;
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
                return Err(differs(path, problem));
            }
        }
    }
    Ok(rows)
}
