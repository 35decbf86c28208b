//! What is known of a snapshot: the object `snapshots/ID`, sealed JSON in chunks.
//!
//! A snapshot is one link more than its base, the snapshot that it follows; so the links that it consists of are those of its
//! base, and its own. Its id follows from what it follows: of two that follow the same one, only one can be created. That of a
//! first one follows from its link, so that taking in the same link twice is one snapshot.

use super::{
    ObjectId, RepoError,
    config::{SMALL, parse, to_bytes},
    open::Repository,
    snapshots::Snapshots,
};
use model::{LinkId, Version, VgId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The format's number.
    pub format: u32,
    /// Its id.
    pub id: ObjectId,
    /// The snapshot that it follows; `None` if it holds everything.
    pub base: Option<ObjectId>,
    /// The link that it adds.
    pub link: LinkRef,
    /// When what it holds was read: began and ended, RFC 3339.
    pub started: String,
    /// See `started`.
    pub finished: String,
    /// When it was committed to the repository, RFC 3339.
    pub committed: String,
    /// The program that wrote it.
    pub written_by: String,
    /// The host that it was written on.
    pub host: String,
    /// The cluster's id.
    pub cluster: String,
    /// The server's version.
    pub server: String,
    /// What the operator calls it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The databases in it.
    pub databases: Vec<SnapshotDatabase>,
    /// What could not be backed up. A snapshot with any is incomplete, and none follows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// A random id, by which whoever creates it recognises its own.
    pub nonce: ObjectId,
}

/// A link in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRef {
    /// The folder of its objects.
    pub id: ObjectId,
    /// Its own id.
    pub link: LinkId,
    /// The SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// How many bytes its files have.
    pub bytes: u64,
}

/// One database of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotDatabase {
    /// Its name.
    pub name: String,
    /// Whether the link holds what changed since the base; else everything.
    pub incremental: bool,
    /// Its tables.
    pub tables: u64,
    /// The tables that the link changes.
    pub tables_changed: u64,
    /// The tables that the link drops.
    pub tables_dropped: u64,
    /// The rows in the link.
    pub rows: u64,
    /// Up to which version it holds everything.
    pub watermarks: Vec<Watermark>,
}

/// Up to which version a vgroup is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    /// The vgroup.
    pub vgroup: VgId,
    /// The version.
    pub version: Version,
}

/// The name of a snapshot's object.
pub(crate) fn name(id: &ObjectId) -> String {
    format!("snapshots/{id}")
}

impl Snapshot {
    /// Whether it holds everything by itself.
    pub fn is_full(&self) -> bool {
        self.base.is_none()
    }

    /// Rows in its link.
    pub fn rows(&self) -> u64 {
        self.databases
            .iter()
            .fold(0, |sum, database| sum.saturating_add(database.rows))
    }

    /// The names of its databases, with commas between.
    pub fn database_names(&self) -> String {
        let names: Vec<&str> = self
            .databases
            .iter()
            .map(|database| database.name.as_str())
            .collect();
        names.join(",")
    }

    /// Snapshots of one group are counted together by rules of retention: those of the same databases of one cluster.
    pub fn group(&self) -> (String, String) {
        let mut names: Vec<&str> = self
            .databases
            .iter()
            .map(|database| database.name.as_str())
            .collect();
        names.sort_unstable();
        (self.cluster.clone(), names.join(","))
    }

    /// When it was finished.
    pub fn time(&self) -> Option<jiff::Timestamp> {
        self.finished.parse().ok()
    }

    pub(super) fn load(repository: &Repository, id: &ObjectId) -> Result<Self, RepoError> {
        let store = &*repository.store;
        let name = name(id);
        let bytes = repository.cipher.get(store, &name, SMALL)?;
        let snapshot: Self = parse(store, &name, &bytes)?;
        let problem = if snapshot.id != *id {
            format!("it is snapshot {}", snapshot.id)
        } else if snapshot.time().is_none() {
            format!("{:?} is no time", snapshot.finished)
        } else {
            return Ok(snapshot);
        };
        Err(RepoError::Damaged {
            place: store.place(&name),
            problem,
        })
    }

    /// As the bytes of the object.
    pub(super) fn seal(&self, repository: &Repository) -> Result<Vec<u8>, RepoError> {
        let bytes = to_bytes(self)?;
        match bytes.len() as u64 <= SMALL {
            true => repository.cipher.seal(&name(&self.id), &bytes),
            false => Err(RepoError::Refused(format!(
                "what is known of the snapshot takes {} bytes, at most {SMALL} are possible; give shorter labels",
                bytes.len()
            ))),
        }
    }
}

impl Repository {
    /// The id for a snapshot that adds a link to a base, or that is the first one. An id that was forgotten is never given
    /// again, so that nobody takes what is removed for what is new.
    pub(super) fn next_id(
        &self,
        snapshots: &Snapshots,
        base: Option<&ObjectId>,
        link: &LinkId,
    ) -> ObjectId {
        let follows = match base {
            Some(base) => format!("after {base}"),
            None => format!("first {}", link.0),
        };
        let mut time = 0_u64;
        loop {
            let info = format!("tdbackup snapshot 1 {follows} {time}");
            let id = ObjectId::of(&self.cipher.derive(self.id().as_str().as_bytes(), &info));
            if !snapshots.was_forgotten(&id) {
                return id;
            }
            time += 1;
        }
    }
}
