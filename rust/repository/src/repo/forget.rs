//! Forgetting and pinning snapshots. Nothing is removed here: a forgotten one is no longer listed, and [`super::prune`] gives
//! its space back once nothing needs it.

use super::{ObjectId, RepoError, open::Repository, snapshots::Snapshots};
use store::Created;

impl Repository {
    /// Forgets snapshots.
    ///
    /// # Errors
    /// One is pinned, in which case none is forgotten, or what is written can't be.
    pub fn forget(&self, snapshots: &Snapshots, ids: &[ObjectId]) -> Result<(), RepoError> {
        if let Some(id) = ids.iter().find(|id| snapshots.is_pinned(id)) {
            return Err(RepoError::Refused(format!(
                "snapshot {} is pinned; unpin it first",
                id.short()
            )));
        }
        for id in ids {
            self.mark("forgotten", id)?;
        }
        Ok(())
    }

    /// Pins a snapshot, so that it is never forgotten.
    ///
    /// # Errors
    /// It is forgotten already, or what is written can't be.
    pub fn pin(&self, snapshots: &Snapshots, id: &ObjectId) -> Result<(), RepoError> {
        match snapshots.was_forgotten(id) {
            true => Err(RepoError::Refused(format!(
                "snapshot {} is forgotten already, so it can't be pinned",
                id.short()
            ))),
            false => self.mark("pins", id),
        }
    }

    /// Takes a pin away.
    ///
    /// # Errors
    /// The object can't be removed.
    pub fn unpin(&self, id: &ObjectId) -> Result<(), RepoError> {
        Ok(self.store.remove(&format!("pins/{id}"))?)
    }

    /// That it is there says everything, so an object that is there already is as good.
    fn mark(&self, folder: &str, id: &ObjectId) -> Result<(), RepoError> {
        match self.store.put_new(&format!("{folder}/{id}"), b"1\n")? {
            Created::Written | Created::AlreadyThere => Ok(()),
        }
    }
}
