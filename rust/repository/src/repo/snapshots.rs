//! All snapshots of a repository: lists, chains, and finding one.

use super::{ObjectId, RepoError, open::Repository, snapshot::Snapshot};
use model::{LinkId, pool};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use store::Store;

/// The snapshots at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// All of them by time, the oldest first; also forgotten ones, which others may still need.
    all: Vec<Snapshot>,
    at: HashMap<ObjectId, usize>,
    forgotten: HashSet<ObjectId>,
    pinned: HashSet<ObjectId>,
    place: String,
}

/// How many snapshots are read at a time: an object store answers many questions at once.
const AT_A_TIME: usize = 16;

/// The ids in a folder.
pub(super) fn ids(store: &dyn Store, folder: &str) -> Result<HashSet<ObjectId>, RepoError> {
    let mut ids = HashSet::new();
    store.list(folder, &mut |found| {
        let id = found
            .name
            .strip_prefix(folder)
            .and_then(|name| name.strip_prefix('/'));
        // What a killed writer left in a directory has another name.
        ids.extend(id.and_then(|id| ObjectId::try_from(id.to_owned()).ok()));
        Ok(())
    })?;
    Ok(ids)
}

impl Repository {
    /// Reads all snapshots.
    ///
    /// # Errors
    /// One can't be read.
    pub fn snapshots(&self) -> Result<Snapshots, RepoError> {
        let (snapshots, mut unreadable) = self.readable_snapshots()?;
        match unreadable.pop() {
            Some((_, error)) => Err(error),
            None => Ok(snapshots),
        }
    }

    /// Reads all snapshots that can be read, and says which can't.
    pub(super) fn readable_snapshots(
        &self,
    ) -> Result<(Snapshots, Vec<(ObjectId, RepoError)>), RepoError> {
        let ids: Vec<ObjectId> = ids(&*self.store, "snapshots")?.into_iter().collect();
        let found = Mutex::new((Vec::with_capacity(ids.len()), Vec::new()));
        let read = |_: &mut (), id: &ObjectId| {
            let read = Snapshot::load(self, id);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(snapshot) => found.0.push(snapshot),
                // Removed since it was listed.
                Err(RepoError::Store(error)) if error.is_not_found() => {}
                Err(error @ RepoError::Store(_)) => return Err(error),
                Err(error) => found.1.push((id.clone(), error)),
            }
            Ok(())
        };
        pool::run(&ids, AT_A_TIME, || (), read)?;
        let (mut all, unreadable) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by(|a, b| (a.time(), &a.committed, &a.id).cmp(&(b.time(), &b.committed, &b.id)));
        let snapshots = Snapshots {
            at: all
                .iter()
                .map(|snapshot| snapshot.id.clone())
                .zip(0..)
                .collect(),
            all,
            forgotten: self::ids(&*self.store, "forgotten")?,
            pinned: self::ids(&*self.store, "pins")?,
            place: self.place(),
        };
        Ok((snapshots, unreadable))
    }

    /// The links that a snapshot consists of, the oldest first, as a restore takes them.
    ///
    /// # Errors
    /// One is missing, or can't be read.
    pub fn chain(
        &self,
        snapshots: &Snapshots,
        snapshot: &Snapshot,
    ) -> Result<Vec<Arc<dyn Store>>, RepoError> {
        let chain = snapshots.chain(snapshot)?;
        chain
            .iter()
            .map(|snapshot| self.link(&snapshot.link.id))
            .collect()
    }
}

impl Snapshots {
    /// Those that are not forgotten, the oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.all
            .iter()
            .filter(|snapshot| !self.is_forgotten(&snapshot.id))
    }

    /// All, also forgotten ones.
    pub(super) fn all(&self) -> &[Snapshot] {
        &self.all
    }

    /// One by its id, also a forgotten one.
    pub fn get(&self, id: &ObjectId) -> Option<&Snapshot> {
        self.at.get(id).and_then(|at| self.all.get(*at))
    }

    /// Whether it is forgotten.
    pub fn is_forgotten(&self, id: &ObjectId) -> bool {
        self.forgotten.contains(id) && !self.pinned.contains(id)
    }

    /// Whether it has ever been forgotten.
    pub(super) fn was_forgotten(&self, id: &ObjectId) -> bool {
        self.forgotten.contains(id)
    }

    /// Whether it is pinned.
    pub fn is_pinned(&self, id: &ObjectId) -> bool {
        self.pinned.contains(id)
    }

    /// The one that added this link, unless it is forgotten.
    pub fn of_link(&self, link: &LinkId) -> Option<&Snapshot> {
        self.listed().find(|snapshot| snapshot.link.link == *link)
    }

    /// Those that a snapshot consists of, the oldest first, itself the last.
    ///
    /// # Errors
    /// One is missing, or they go in a circle.
    pub fn chain<'s>(&'s self, snapshot: &'s Snapshot) -> Result<Vec<&'s Snapshot>, RepoError> {
        let mut chain = vec![snapshot];
        let mut at = snapshot;
        while let Some(base) = &at.base {
            let wrong = |problem: String| RepoError::Damaged {
                place: format!("snapshot {} of {}", snapshot.id, self.place),
                problem,
            };
            at = self
                .get(base)
                .ok_or_else(|| wrong(format!("snapshot {base}, which it needs, is not there")))?;
            if chain.len() > self.all.len() {
                return Err(wrong("it follows itself".to_owned()));
            }
            chain.push(at);
        }
        chain.reverse();
        Ok(chain)
    }

    /// The snapshot that is meant: `latest`, `latest:DATABASE`, the beginning of an id, or a time, which means the last one
    /// that was finished by then.
    ///
    /// # Errors
    /// There is none, or several are meant.
    pub fn find(&self, what: &str, zone: &jiff::tz::TimeZone) -> Result<&Snapshot, RepoError> {
        let unknown = |what: String| RepoError::Unknown {
            place: self.place.clone(),
            what,
        };
        if what == "latest" {
            let last = self.listed().next_back();
            let groups: HashSet<_> = self.listed().map(Snapshot::group).collect();
            if groups.len() > 1 {
                let mut names: Vec<String> = groups.into_iter().map(|group| group.1).collect();
                names.sort_unstable();
                names.dedup();
                return Err(RepoError::Ambiguous {
                    what: "latest".to_owned(),
                    found: format!(
                        "the databases {}; latest:DATABASE says which",
                        names.join(" and ")
                    ),
                });
            }
            return last.ok_or_else(|| unknown("snapshot".to_owned()));
        }
        if let Some(database) = what.strip_prefix("latest:") {
            let of_database = |snapshot: &&Snapshot| {
                snapshot
                    .databases
                    .iter()
                    .any(|found| found.name == database)
            };
            let last = self.listed().rev().find(of_database);
            return last.ok_or_else(|| unknown(format!("snapshot of database {database:?}")));
        }
        let is_prefix = what.len() >= 4 && what.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_prefix {
            let found: Vec<&Snapshot> = self
                .listed()
                .filter(|snapshot| snapshot.id.as_str().starts_with(what))
                .collect();
            match found.as_slice() {
                [] => {}
                [one] => return Ok(one),
                several => {
                    return Err(RepoError::Ambiguous {
                        what: format!("snapshot {what}"),
                        found: several
                            .iter()
                            .map(|one| one.id.as_str())
                            .collect::<Vec<_>>()
                            .join(", "),
                    });
                }
            }
        }
        match moment(what, zone) {
            Some(moment) => {
                let last = self
                    .listed()
                    .rev()
                    .find(|snapshot| snapshot.time() <= Some(moment));
                last.ok_or_else(|| unknown(format!("snapshot that was finished by {moment}")))
            }
            None => Err(unknown(format!(
                "snapshot {what:?}: give the first digits of its id, latest, latest:DATABASE, or a time such as \
                 2026-11-30T18:00"
            ))),
        }
    }
}

/// A moment, in the operator's time zone where it names none. A day means its end.
fn moment(text: &str, zone: &jiff::tz::TimeZone) -> Option<jiff::Timestamp> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment);
    }
    let local = match text.contains([':', 'T', ' ']) {
        true => text.parse::<jiff::civil::DateTime>().ok()?,
        false => {
            let day = text.parse::<jiff::civil::Date>().ok()?;
            day.tomorrow()
                .ok()?
                .to_datetime(jiff::civil::Time::midnight())
        }
    };
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{ObjectId, keys::Secret, snapshot::LinkRef};
    use std::{sync::Arc, time::Instant};
    use store::Directory;

    /// The target is a second, optimised: `cargo test --release -p repository --lib -- --ignored ten_thousand --nocapture`
    #[test]
    #[ignore = "it measures, and writes 10 000 files"]
    fn ten_thousand_snapshots_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = Secret::passphrase("a long passphrase").unwrap();
        let store = Arc::new(Directory::new(dir.path()));
        let repository = Repository::init(store, &secret.recipients()).unwrap();
        let mut base = None;
        let folder = dir.path().join("snapshots");
        std::fs::create_dir(&folder).unwrap();
        for number in 0..10_000 {
            let id = ObjectId::random();
            let snapshot = Snapshot {
                format: 1,
                id: id.clone(),
                base: base.take(),
                link: LinkRef {
                    id: ObjectId::random(),
                    link: LinkId(format!("link {number}")),
                    manifest_sha256: "0".repeat(64),
                    bytes: 1_000,
                },
                started: "2026-12-01T00:00:00Z".to_owned(),
                finished: "2026-12-01T00:00:01Z".to_owned(),
                committed: "2026-12-01T00:00:01Z".to_owned(),
                written_by: String::new(),
                host: String::new(),
                cluster: String::new(),
                server: String::new(),
                labels: Default::default(),
                databases: Vec::new(),
                failures: Vec::new(),
                nonce: ObjectId::random(),
            };
            std::fs::write(
                folder.join(id.as_str()),
                snapshot.seal(&repository).unwrap(),
            )
            .unwrap();
            base = (number % 100 < 99).then_some(id);
        }
        let began = Instant::now();
        assert_eq!(repository.snapshots().unwrap().listed().count(), 10_000);
        println!("10 000 snapshots are listed in {:?}", began.elapsed());
    }
}
