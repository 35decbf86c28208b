//! Which vnodes a database's changes are read from: for each vgroup one that holds everything that was acknowledged
//! before the run began.

use super::{Backup, BackupError, BackupJob, blobs};
use crate::watermark::{self, Asker, Candidates, WatermarkError, replicas};
use capture::VnodeDir;
use model::{Progress, Version, VgId};
use server::{
    Connection, Library,
    vgroups::{self, Vgroup},
};
use std::collections::{BTreeMap, BTreeSet};

/// Where to read.
pub(super) struct Sources {
    /// One vnode for each vgroup.
    pub(super) vnodes: Vec<VnodeDir>,
    /// Up to which version each must be read.
    pub(super) wanted: BTreeMap<VgId, Version>,
    /// Whether what is not committed is taken from the log.
    pub(super) by_log: bool,
    /// Whether there are several replicas.
    pub(super) replicated: bool,
    /// Those of the vgroups with several replicas whose vnode here is not the leader's.
    pub(super) followers: Vec<VgId>,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
}

/// What the leaders of vgroups with several replicas reported when the run began.
#[derive(Default)]
pub(crate) struct Replicated {
    asker: Option<Asker<'static>>,
    agreed: BTreeMap<VgId, Version>,
}

impl Replicated {
    /// Asks for all databases at once, as it takes some seconds; not at all where nothing has replicas.
    pub(super) fn find(
        job: &BackupJob,
        library: &Library,
        connection: &Connection,
        databases: &[String],
        progress: &dyn Progress,
    ) -> Result<Self, BackupError> {
        let vgroups = vgroups::all(connection)?;
        let names: BTreeSet<String> = vgroups
            .into_iter()
            .filter(|vgroup| vgroup.replicas.len() > 1 && databases.contains(&vgroup.database))
            .map(|vgroup| vgroup.database)
            .collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let asker = Asker::new(library, &job.login)?;
        let agreed = replicas::agreed(&asker, &names, !job.no_flush, progress)?;
        Ok(Self {
            asker: Some(asker),
            agreed,
        })
    }
}

impl Backup<'_> {
    /// Chooses the vnodes of a database, and waits until they are complete.
    pub(super) fn sources(&self, database: &str) -> Result<Sources, BackupError> {
        let vgroups = self.patiently(|| Ok(vgroups::of(self.connection, database)?))?;
        let mut candidates = watermark::candidates(database, &vgroups, self.dirs, self.progress)?;
        let mut by_log = self.job.no_flush;
        let mut replicated = vgroups.iter().any(|vgroup| vgroup.replicas.len() > 1);
        let mut is_encrypted = false;
        for vnode in watermark::any(&candidates) {
            let config = vnode
                .config()
                .map_err(watermark::moved_or(database, vnode))?;
            replicated |= config.replicas > 1;
            is_encrypted |= config.tsdb_encrypted;
            by_log |= config.tsdb_encrypted;
            if by_log && config.wal_level == 0 {
                return Err(WatermarkError::NoLog {
                    database: database.to_owned(),
                }
                .into());
            }
        }
        let mut notes = Vec::new();
        if by_log && self.may_have_blobs(database)? {
            notes.push(blobs::flushed(database));
            if is_encrypted {
                // The files can't be read, so the log is.
                let vnodes = watermark::single(&candidates);
                self.patiently(|| {
                    watermark::flush(self.connection, database, &vnodes, self.progress)?;
                    Ok(())
                })?;
            } else {
                by_log = false;
            }
        }
        watermark::leaders_first(&vgroups, &mut candidates);
        let (vnodes, wanted) = match replicated {
            true => self.complete(database, &vgroups, &candidates, by_log)?,
            false => self.only(database, &vgroups, &candidates, by_log)?,
        };
        Ok(Sources {
            followers: match replicated {
                true => watermark::followers(&vgroups, &candidates, &vnodes),
                false => Vec::new(),
            },
            vnodes,
            wanted,
            by_log,
            replicated,
            notes,
        })
    }

    /// Asks about the database, over `own` where nothing was asked before.
    fn asker<'s>(
        &'s self,
        own: &'s mut Option<Asker<'static>>,
    ) -> Result<&'s Asker<'static>, BackupError> {
        Ok(match &self.replicated.asker {
            Some(asker) => asker,
            None => own.insert(Asker::new(self.library, &self.job.login)?),
        })
    }

    fn may_have_blobs(&self, database: &str) -> Result<bool, BackupError> {
        let mut own = None;
        let asker = self.asker(&mut own)?;
        Ok(watermark::may_have_blobs(asker, database, self.progress)?)
    }

    /// The vnodes of a database without replicas, and what they must hold: what their logs do, and what the servers have
    /// reported. A copy whose files are links to those of a server seems to be in use, but does not hold the latter.
    fn only(
        &self,
        database: &str,
        vgroups: &[Vgroup],
        candidates: &BTreeMap<VgId, Candidates>,
        by_log: bool,
    ) -> Result<(Vec<VnodeDir>, BTreeMap<VgId, Version>), BackupError> {
        let vnodes = watermark::single(candidates);
        let mut wanted = if by_log {
            let newest = vnodes.iter().map(|vnode| {
                let newest = vnode.newest_logged();
                let newest = newest.map_err(watermark::moved_or(database, vnode))?;
                Ok((vnode.vgroup, newest))
            });
            newest.collect::<Result<_, WatermarkError>>()?
        } else {
            self.patiently(|| {
                let flushed = watermark::flush(self.connection, database, &vnodes, self.progress)?;
                Ok(flushed)
            })?
        };
        for vgroup in vgroups {
            if let ([replica], Some(wanted)) =
                (vgroup.replicas.as_slice(), wanted.get_mut(&vgroup.vgroup))
            {
                *wanted = replica.committed.max(*wanted);
            }
        }
        Ok((vnodes, wanted))
    }

    /// The vnodes of a database with replicas, for each vgroup one that is complete, and what they must hold.
    fn complete(
        &self,
        database: &str,
        vgroups: &[Vgroup],
        candidates: &BTreeMap<VgId, Candidates>,
        by_log: bool,
    ) -> Result<(Vec<VnodeDir>, BTreeMap<VgId, Version>), BackupError> {
        let mut own = None;
        let asker = self.asker(&mut own)?;
        let mut wanted = self.replicated.agreed.clone();
        // Where the database got its replicas, or another vgroup, since the run began.
        let is_known = |vgroup: &Vgroup| wanted.contains_key(&vgroup.vgroup);
        if !vgroups.iter().all(is_known) {
            let only = [database.to_owned()].into();
            wanted.extend(replicas::agreed(asker, &only, !by_log, self.progress)?);
        }
        wanted.retain(|vgroup, _| candidates.contains_key(vgroup));
        let vnodes =
            replicas::complete(asker, database, candidates, &wanted, by_log, self.progress)?;
        Ok((vnodes, wanted))
    }
}
