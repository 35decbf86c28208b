//! Whether everything is there as it was written.

use super::{
    ObjectId, RepoError, chunks::CHUNK, link_index::pack_name, link_view::LinkView,
    open::Repository, snapshot::Snapshot, snapshots::Snapshots,
};
use crate::link::Link;
use model::{Progress, Unit, pool};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use store::Store as _;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Every object is there and as long as it should be.
    Quick,
    /// So many percent of the chunks, chosen at random, are what was written.
    Sample(f64),
    /// Every chunk and every file's SHA-256 is what was written, and links follow each other.
    Full,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Snapshots that were looked at.
    pub snapshots: usize,
    /// Links that they are made of.
    pub links: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Snapshots that were incomplete when they were made.
    pub incomplete: Vec<ObjectId>,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The snapshots that can't be restored because of it.
    pub snapshots: Vec<ObjectId>,
    /// In words.
    pub text: String,
}

/// Checks the snapshots of these ids, or all that are not forgotten.
///
/// # Errors
/// It was cancelled, or the store can't be asked. Whatever is wrong with the snapshots is in the report.
pub fn run(
    repository: &Repository,
    chosen: Option<&[ObjectId]>,
    depth: Depth,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Report, RepoError> {
    let (snapshots, unreadable) = repository.readable_snapshots()?;
    let mut report = Report::default();
    for (id, error) in unreadable {
        report.problems.push(Problem {
            snapshots: vec![id],
            text: error.to_string(),
        });
    }
    // The links, each with those who need it.
    let mut links: BTreeMap<&ObjectId, (&Snapshot, Vec<ObjectId>)> = BTreeMap::new();
    for snapshot in snapshots.listed() {
        if chosen.is_some_and(|chosen| !chosen.contains(&snapshot.id)) {
            continue;
        }
        report.snapshots += 1;
        if !snapshot.failures.is_empty() {
            report.incomplete.push(snapshot.id.clone());
        }
        match snapshots.chain(snapshot) {
            Ok(chain) => {
                for part in chain {
                    let needed = links.entry(&part.link.id).or_insert((part, Vec::new()));
                    needed.1.push(snapshot.id.clone());
                }
            }
            Err(error) => report.problems.push(Problem {
                snapshots: vec![snapshot.id.clone()],
                text: error.to_string(),
            }),
        }
    }
    report.links = links.len();
    let total = links
        .values()
        .map(|(part, _)| part.link.bytes)
        .fold(0, u64::saturating_add);
    progress.step("checking links", Unit::Bytes, total);
    let links: Vec<_> = links.into_values().collect();
    let found = Mutex::new((&mut report.problems, &mut report.bytes));
    let check = |_: &mut (), (part, needed): &(&Snapshot, Vec<ObjectId>)| {
        let checked = one(repository, &snapshots, part, depth, progress);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        match checked {
            Ok(bytes) => *found.1 += bytes,
            Err(RepoError::Cancelled(cancelled)) => return Err(RepoError::from(cancelled)),
            Err(error) => found.0.push(Problem {
                snapshots: needed.clone(),
                text: error.to_string(),
            }),
        }
        Ok(())
    };
    pool::run(&links, threads, || (), check)?;
    progress.go_on()?;
    Ok(report)
}

/// Checks one link; returns how many bytes were read.
fn one(
    repository: &Repository,
    snapshots: &Snapshots,
    part: &Snapshot,
    depth: Depth,
    progress: &dyn Progress,
) -> Result<u64, RepoError> {
    progress.go_on()?;
    let store = &*repository.store;
    let view = LinkView::open(repository, &part.link.id)?;
    let index = view.index();
    let mut readers = Vec::new();
    for pack in &index.packs {
        let name = pack_name(&part.link.id, &pack.id);
        let reader = repository.cipher.reader(store, &name)?;
        if reader.length != pack.bytes {
            return Err(RepoError::Damaged {
                place: store.place(&name),
                problem: format!(
                    "it holds {} bytes, the index says {}",
                    reader.length, pack.bytes
                ),
            });
        }
        readers.push(reader);
    }
    let names: HashSet<&str> = index.files.iter().map(|file| file.path.as_str()).collect();
    let link = Link::open(Arc::new(view.clone()))?;
    if link.manifest_sha256 != part.link.manifest_sha256 || link.manifest.id != part.link.link {
        return Err(RepoError::Damaged {
            place: view.place(""),
            problem: format!("it is not the link of snapshot {}", part.id.short()),
        });
    }
    debug_assert!(names.contains(crate::link::MANIFEST));
    match (&part.base, &link.manifest.base) {
        (None, None) => {}
        (Some(base), Some(parent)) => {
            let fits = snapshots.get(base).is_some_and(|base| {
                base.link.link == parent.id && base.link.manifest_sha256 == parent.manifest_sha256
            });
            if !fits {
                return Err(RepoError::Damaged {
                    place: view.place(""),
                    problem: format!("it does not follow the link of snapshot {}", base.short()),
                });
            }
        }
        _ => {
            return Err(RepoError::Damaged {
                place: view.place(""),
                problem: "snapshot and link do not agree on whether it follows another one"
                    .to_owned(),
            });
        }
    }
    match depth {
        Depth::Quick => {
            link.check_lengths(progress)?;
            Ok(0)
        }
        Depth::Full => {
            link.check_files(progress)?;
            Ok(part.link.bytes)
        }
        Depth::Sample(percent) => {
            link.check_lengths(&())?;
            let mut bytes = 0;
            for reader in &readers {
                let mut at = 0;
                while at < reader.length {
                    progress.go_on()?;
                    let end = (at + CHUNK as u64).min(reader.length);
                    if chosen(percent)? {
                        reader.read(store, at..end)?;
                        bytes += end - at;
                    }
                    progress.advance(end - at, 0);
                    at = end;
                }
            }
            Ok(bytes)
        }
    }
}

/// Whether one of so many percent is meant.
fn chosen(percent: f64) -> Result<bool, RepoError> {
    let number = u32::from_le_bytes(super::chunks::random()?);
    Ok(f64::from(number) < percent / 100.0 * f64::from(u32::MAX))
}
