//! What changed in a database up to the watermark.

use super::{Backup, BackupError, base};
use crate::watermark::{self, WatermarkError};
use capture::{RowView, SourceChoice, VnodeDir};
use model::{VgId, retry::pause};
use plan::{
    Plan,
    checkpoint::Checkpoint,
    detect::{self, Request, Since},
};
use repository::link::DatabaseLink;
use std::{collections::BTreeMap, time::Duration};

/// How often a database is looked at anew because a vgroup of it was moved away, and how long that waits.
const MOVES: u32 = 5;
const MOVED_PAUSE: Duration = Duration::from_secs(1);

/// What changed up to the watermark.
pub(super) struct Found {
    pub(super) plan: Plan,
    pub(super) checkpoint: Checkpoint,
    pub(super) vnodes: Vec<VnodeDir>,
    /// Whether what is not committed was taken from the log.
    pub(super) by_log: bool,
    /// The rows of the vgroups at the watermark; not of those whose files and log can't tell them for sure.
    pub(super) rows: BTreeMap<VgId, RowView>,
    /// The vgroups with several replicas that were not read where they are led.
    pub(super) followers: Vec<VgId>,
    pub(super) notes: Vec<String>,
}

impl Backup<'_> {
    /// Sets the watermark, and finds what changed up to it; anew where a vgroup is moved away meanwhile.
    pub(super) fn detect(
        &self,
        database: &str,
        known: Option<&DatabaseLink>,
    ) -> Result<Found, BackupError> {
        let mut moves = 0;
        loop {
            match self.try_detect(database, known) {
                Err(BackupError::Watermark(WatermarkError::Moved { .. })) if moves < MOVES => {
                    moves += 1;
                    pause(MOVED_PAUSE, self.progress)?;
                }
                result => return result,
            }
        }
    }

    fn try_detect(
        &self,
        database: &str,
        known: Option<&DatabaseLink>,
    ) -> Result<Found, BackupError> {
        let sources = self.sources(database)?;
        let since = match (self.base, known) {
            (Some(base), Some(known)) => {
                let checkpoint = base::read_checkpoint(base, known)?;
                base::check_ids(base, database, &checkpoint, &sources.vnodes)?;
                Since::Checkpoint(Box::new(checkpoint))
            }
            _ => Since::Committed,
        };
        let request = Request {
            data_dirs: self.dirs.to_vec(),
            database: Some(database.to_owned()),
            vgroup: None,
            since,
            source: if sources.by_log {
                SourceChoice::Auto
            } else {
                SourceChoice::Tsdb
            },
            window: None,
        };
        let vnodes = sources.vnodes.clone();
        let found = detect::with_rows(vnodes, &request, self.progress);
        // Half a scan, or one without the vnode.
        if let Some(gone) = sources.vnodes.iter().find(|vnode| vnode.is_gone()) {
            return Err(watermark::moved(database, gone).into());
        }
        let (found, rows) = found?;
        let vgroups = found.plan.vgroups.iter();
        let versions = vgroups
            .filter(|vgroup| vgroup.db_id.is_some())
            .map(|vgroup| (vgroup.vgroup, vgroup.to))
            .collect();
        watermark::must_reach(database, &versions, &sources.wanted)?;
        // What only the log has, and what another replica was first to commit, queries do not see for sure.
        if sources.by_log || sources.replicated {
            self.patiently(|| {
                Ok(watermark::wait_applied(
                    self.connection,
                    database,
                    &versions,
                    self.progress,
                )?)
            })?;
        }
        Ok(Found {
            plan: found.plan,
            checkpoint: found.checkpoint,
            vnodes: sources.vnodes,
            by_log: sources.by_log,
            rows,
            followers: sources.followers,
            notes: sources.notes,
        })
    }
}
