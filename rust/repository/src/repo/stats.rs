//! What takes how much space.

use super::{RepoError, open::Repository};
use std::collections::BTreeMap;

/// What a repository holds.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Snapshots that are not forgotten.
    pub snapshots: usize,
    /// Of these, those that hold everything by themselves.
    pub full: usize,
    /// Forgotten snapshots that are still there.
    pub forgotten: usize,
    /// All objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the links of each group of databases, and how many snapshots it has.
    pub databases: BTreeMap<String, (usize, u64)>,
}

/// Looks at all snapshots, and lists all objects.
///
/// # Errors
/// They can't be read.
pub fn of(repository: &Repository) -> Result<Stats, RepoError> {
    let snapshots = repository.snapshots()?;
    let mut stats = Stats::default();
    for snapshot in snapshots.all() {
        if snapshots.is_forgotten(&snapshot.id) {
            stats.forgotten += 1;
        } else {
            stats.snapshots += 1;
            stats.full += usize::from(snapshot.is_full());
        }
        let group = stats
            .databases
            .entry(snapshot.database_names())
            .or_default();
        group.0 += usize::from(!snapshots.is_forgotten(&snapshot.id));
        group.1 = group.1.saturating_add(snapshot.link.bytes);
    }
    repository.store.list("", &mut |found| {
        stats.objects += 1;
        stats.bytes = stats.bytes.saturating_add(found.bytes);
        Ok(())
    })?;
    Ok(stats)
}
