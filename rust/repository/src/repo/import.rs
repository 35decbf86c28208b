//! Links taken in as snapshots.

use super::{
    ObjectId, RepoError,
    config::{FORMAT, written_by},
    link_writer::LinkWriter,
    open::Repository,
    snapshot::{LinkRef, Snapshot, SnapshotDatabase, Watermark, name},
    snapshots::Snapshots,
};
use crate::link::{Link, MANIFEST};
use model::{Progress, Unit};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
};
use store::{Created, FileEntry};

/// What is written down with a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// The host that writes it.
    pub host: String,
    /// What the operator calls it.
    pub labels: BTreeMap<String, String>,
}

/// What became of a link.
#[derive(Debug, Clone)]
pub enum Imported {
    /// It is a snapshot now.
    New(Snapshot),
    /// It was one already, or somebody else took it in at the same time.
    Known(Snapshot),
}

impl Imported {
    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        match self {
            Self::New(snapshot) | Self::Known(snapshot) => snapshot,
        }
    }
}

/// Takes a link in: copies its files, each of which is held against its SHA-256, and then creates the snapshot's object.
///
/// Whatever stops it before leaves objects that nothing refers to, which [`super::prune`] removes.
///
/// # Errors
/// The link is damaged, its base is not there, or somebody else follows its base already.
pub fn link(
    repository: &Repository,
    link: &Link,
    notes: &Notes,
    progress: &dyn Progress,
) -> Result<Imported, RepoError> {
    if link.manifest.export {
        return Err(RepoError::Refused(format!(
            "{} is an export of blocks, which is no part of a chain; give links that taosdump --incremental made",
            link.place()
        )));
    }
    let snapshots = repository.snapshots()?;
    if let Some(known) = snapshots.of_link(&link.manifest.id) {
        return Ok(Imported::Known(known.clone()));
    }
    let base = base(&snapshots, link)?;
    let id = repository.next_id(&snapshots, base.map(|base| &base.id), &link.manifest.id);
    if let Some(other) = snapshots.get(&id) {
        return Err(RepoError::Followed {
            link: link.place(),
            by: other.id.short().to_owned(),
        });
    }
    let step = format!("taking in {}", link.place());
    progress.step(&step, Unit::Bytes, link.bytes());
    let link_ref = copy_files(repository, link, progress)?;
    let snapshot = described(link, id, base.map(|base| base.id.clone()), link_ref, notes);
    commit(repository, snapshot, link)
}

/// The snapshot that a link follows.
fn base<'s>(snapshots: &'s Snapshots, link: &Link) -> Result<Option<&'s Snapshot>, RepoError> {
    let Some(parent) = &link.manifest.base else {
        return Ok(None);
    };
    match snapshots.of_link(&parent.id) {
        Some(base) if base.link.manifest_sha256 == parent.manifest_sha256 => Ok(Some(base)),
        Some(base) => Err(RepoError::Refused(format!(
            "{} does not follow snapshot {}: its base was changed after it was taken in",
            link.place(),
            base.id.short()
        ))),
        None => Err(RepoError::NoBase {
            link: link.place(),
            base: parent.id.0.clone(),
        }),
    }
}

/// Copies every file of a link.
fn copy_files(
    repository: &Repository,
    link: &Link,
    progress: &dyn Progress,
) -> Result<LinkRef, RepoError> {
    let writer = LinkWriter::new(
        repository,
        link.manifest.id.clone(),
        link.manifest_sha256.clone(),
    );
    let writer = RefCell::new((writer, HashSet::new()));
    let failed = RefCell::new(None);
    let add = |entry: &FileEntry| {
        let (writer, names) = &mut *writer.borrow_mut();
        if !names.insert(entry.path.clone()) {
            return Ok(());
        }
        let mut file = link.store.open(&entry.path)?;
        let added = writer.add(entry, &link.store.place(&entry.path), &mut *file, progress);
        added.map_err(|error| {
            *failed.borrow_mut() = Some(error);
            // Only ends the loop: the error itself is kept.
            crate::link::LinkError::Cancelled(model::Cancelled)
        })
    };
    let manifest = FileEntry {
        path: MANIFEST.to_owned(),
        bytes: link.store.length(MANIFEST)?,
        sha256: link.manifest_sha256.clone(),
        rows: 0,
    };
    let copied = add(&manifest).and_then(|()| link.each_file(&add));
    if let Some(error) = failed.take() {
        return Err(error);
    }
    copied?;
    let (id, bytes) = writer.into_inner().0.finish()?;
    Ok(LinkRef {
        id,
        link: link.manifest.id.clone(),
        manifest_sha256: link.manifest_sha256.clone(),
        bytes,
    })
}

fn described(
    link: &Link,
    id: ObjectId,
    base: Option<ObjectId>,
    link_ref: LinkRef,
    notes: &Notes,
) -> Snapshot {
    let manifest = &link.manifest;
    let databases = manifest.databases.iter().map(|database| SnapshotDatabase {
        name: database.database.name.clone(),
        incremental: database.incremental,
        tables: database.totals.tables,
        tables_changed: database.totals.tables_changed,
        tables_dropped: database.totals.tables_dropped,
        rows: database.totals.rows,
        watermarks: database
            .vgroups
            .iter()
            .map(|vgroup| Watermark {
                vgroup: vgroup.vgroup,
                version: vgroup.to,
            })
            .collect(),
    });
    Snapshot {
        format: FORMAT,
        id,
        base,
        link: link_ref,
        started: manifest.started.clone(),
        finished: manifest.finished.clone(),
        committed: jiff::Timestamp::now().to_string(),
        written_by: written_by(),
        host: notes.host.clone(),
        cluster: manifest.cluster.clone(),
        server: manifest.server.clone(),
        labels: notes.labels.clone(),
        databases: databases.collect(),
        failures: manifest.failures.clone(),
        nonce: ObjectId::random(),
    }
}

/// Creates the object of a snapshot, if nobody else was first.
pub(super) fn commit(
    repository: &Repository,
    snapshot: Snapshot,
    link: &Link,
) -> Result<Imported, RepoError> {
    let store = &*repository.store;
    // A snapshot that was forgotten is not followed: prune may be about to remove what it needs. Whoever forgets it after
    // this look leaves it there for the grace period, within which prune sees what follows it.
    if let Some(base) = &snapshot.base {
        let forgotten =
            store.holds(&format!("forgotten/{base}"))? && !store.holds(&format!("pins/{base}"))?;
        if forgotten || !store.holds(&name(base))? {
            return Err(RepoError::BaseForgotten {
                link: link.place(),
                base: base.short().to_owned(),
            });
        }
    }
    // A run that took longer than the grace period may have lost its objects.
    if !LinkWriter::is_there(repository, &snapshot.link.id)? {
        return Err(RepoError::Refused(format!(
            "objects of {} were removed while it was taken in, by a prune with a shorter grace period than this took; import \
             again, and prune with a longer one",
            link.place()
        )));
    }
    let bytes = snapshot.seal(repository)?;
    if store.put_new(&name(&snapshot.id), &bytes)? == Created::Written {
        return Ok(Imported::New(snapshot));
    }
    let other = Snapshot::load(repository, &snapshot.id)?;
    let same = other.link.link == snapshot.link.link;
    match same && other.link.manifest_sha256 == snapshot.link.manifest_sha256 {
        true => Ok(Imported::Known(other)),
        false => Err(RepoError::Followed {
            link: link.place(),
            by: other.id.short().to_owned(),
        }),
    }
}
