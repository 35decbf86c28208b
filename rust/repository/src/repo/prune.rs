//! Removing what nothing needs: the links of forgotten snapshots that no kept one is made of, and what runs left that were cut
//! off.
//!
//! It is safe beside runs that write. What nothing refers to is removed only if it is older than the grace period, by the
//! store's own clock, and a run looks before its commit whether its objects are still there. A forgotten snapshot goes only
//! after the same period, and no run commits one that follows a forgotten one: so what was listed before snapshots were read
//! can't come into use later.

use super::{ObjectId, RepoError, config::CONFIG, open::Repository, snapshot::name};
use model::{Progress, Unit};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};
use store::Found;

/// The grace period, if none is given.
pub const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Links, with all of their objects.
    pub links: usize,
    /// Snapshots that were forgotten.
    pub snapshots: usize,
    /// Objects of all kinds.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Forgotten snapshots that stay, as kept ones are made of their links.
    pub needed: usize,
    /// Objects that nothing needs and that are not old enough.
    pub too_young: usize,
}

/// Removes what nothing needs and is older than `grace`; only says so with `dry_run`.
///
/// # Errors
/// A snapshot can't be read: then nobody knows what it needs, and nothing is removed. Or an object can't be removed.
pub fn run(
    repository: &Repository,
    grace: Duration,
    dry_run: bool,
    progress: &dyn Progress,
) -> Result<Pruned, RepoError> {
    let store = &*repository.store;
    let now = now(repository)?;
    let is_old = |found: &Found| {
        now.duration_since(found.modified)
            .is_ok_and(|age| age >= grace)
    };
    // Objects first, then snapshots: one that is committed in between still protects what was listed.
    progress.step("listing objects", Unit::Bytes, 0);
    let mut objects = Vec::new();
    store.list("", &mut |found| {
        objects.push(found);
        Ok(())
    })?;
    progress.go_on()?;
    let snapshots = repository.snapshots()?;
    let mut needed: HashSet<&ObjectId> = HashSet::new();
    for snapshot in snapshots.listed() {
        for part in snapshots.chain(snapshot)? {
            needed.insert(&part.id);
        }
    }
    let marks: HashMap<&str, &Found> = objects
        .iter()
        .filter_map(|found| Some((found.name.strip_prefix("forgotten/")?, found)))
        .collect();
    let mut pruned = Pruned::default();
    let mut needed_links: HashSet<&str> = HashSet::new();
    let mut goes = Vec::new();
    for snapshot in snapshots.all() {
        let is_needed = needed.contains(&snapshot.id);
        pruned.needed += usize::from(is_needed && snapshots.is_forgotten(&snapshot.id));
        // One that was forgotten after the objects were listed is too young.
        let is_old = marks
            .get(snapshot.id.as_str())
            .is_some_and(|mark| is_old(mark));
        match is_needed || !is_old {
            true => {
                needed_links.insert(snapshot.link.id.as_str());
                if !is_needed {
                    pruned.too_young += 1;
                    // What it is made of goes with it, and not before.
                    for part in snapshots.chain(snapshot)? {
                        needed_links.insert(part.link.id.as_str());
                        needed.insert(&part.id);
                    }
                }
            }
            false => goes.push(snapshot),
        }
    }
    goes.retain(|snapshot| !needed.contains(&snapshot.id));
    let gone_snapshots: HashSet<String> = goes.iter().map(|snapshot| name(&snapshot.id)).collect();
    let mut removed = Vec::new();
    let mut links = HashSet::new();
    for found in &objects {
        let link = found
            .name
            .strip_prefix("links/")
            .and_then(|rest| rest.split('/').next());
        let is_unneeded = match link {
            Some(link) => !needed_links.contains(link),
            None => gone_snapshots.contains(&found.name) || is_leftover(&found.name),
        };
        if !is_unneeded {
            continue;
        }
        if !is_old(found) {
            pruned.too_young += 1;
            continue;
        }
        links.extend(link);
        removed.push(found);
    }
    // A snapshot goes before its links, so that none is left that lacks some.
    removed.sort_by_key(|found| !found.name.starts_with("snapshots/"));
    pruned.links = links.len();
    pruned.snapshots = removed
        .iter()
        .filter(|found| gone_snapshots.contains(&found.name))
        .count();
    pruned.objects = removed.len();
    pruned.bytes = removed.iter().map(|found| found.bytes).sum();
    if !dry_run {
        progress.step("removing what nothing needs", Unit::Bytes, pruned.bytes);
        for found in removed {
            progress.go_on()?;
            store.remove(&found.name)?;
            progress.advance(found.bytes, 0);
        }
    }
    Ok(pruned)
}

/// Whether a writer that was killed left it: a file that has not got its name, or the object by which it was seen whether the
/// place can commit.
fn is_leftover(name: &str) -> bool {
    name.ends_with(".tmp") || name.starts_with("probe") || name.starts_with("clock-")
}

/// What time it is where the objects are kept: ages are told by that clock, and this machine's may be wrong.
fn now(repository: &Repository) -> Result<SystemTime, RepoError> {
    let store = &*repository.store;
    let name = format!("clock-{}", ObjectId::random());
    store.put(&name, b"what time is it?\n")?;
    let mut now = None;
    let listed = store.list("", &mut |found| {
        if found.name == name {
            now = Some(found.modified);
        }
        Ok(())
    });
    store.remove(&name)?;
    listed?;
    now.ok_or_else(|| RepoError::Damaged {
        place: store.place(CONFIG),
        problem: "an object that was just written is not listed, so nothing is removed here"
            .to_owned(),
    })
}
