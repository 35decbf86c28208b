//! How an engine's runs get to disk, and how the files of runs that no manifest names any more leave it.

use crate::disk::{Disk, Serial};
use crate::error::EngineError;
use crate::inner::Inner;
use crate::manifest::Manifest;
use crate::row::Row;
use crate::run::{OnDisk, Run};
use crate::stored_run::{RunEntry, TreeKind};
use crate::tree::Tree;
use crate::trees::Trees;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Inner {
    /// Writes the runs that are not on disk yet, and the manifest; removes the files that no manifest names any more.
    pub(crate) fn persist(&self) -> Result<(), EngineError> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let mut committed = self.committed.lock();
        self.unsaved.store(0, Relaxed);
        let trees = self.trees.read().clone();
        let now = trees.serials();
        // From here on the runs may have files, even if a later step fails.
        committed.extend(&now);
        write_runs(disk, &trees)?;
        disk.write_manifest(&Manifest {
            generation: self.generation.fetch_add(1, Relaxed) + 1,
            next_serial: self.next_serial.load(Relaxed),
            damaged: self.damaged.read().to_vec(),
            records: entries_of(&trees.records),
            by_time: entries_of(&trees.by_time),
            by_wal: entries_of(&trees.by_wal),
        })?;
        drop(trees);
        let gone: HashSet<Serial> = committed.difference(&now).copied().collect();
        *committed = now;
        let still_read = self.still_read(&gone);
        let mut result = Ok(());
        for serial in gone {
            // A file that can't be removed now is removed by a later call.
            if still_read.contains(&serial) {
                committed.insert(serial);
            } else if let Err(error) = disk.remove_run(serial) {
                committed.insert(serial);
                result = Err(error);
            }
        }
        result
    }

    /// Writes the runs that are not on disk yet. They count only once a manifest names them.
    pub(crate) fn write_runs(&self) -> Result<(), EngineError> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        write_runs(disk, &self.trees.read().clone())
    }

    /// These runs are about to leave the trees. Cursors may read on in them.
    pub(crate) fn retire<R: Row>(&self, runs: impl IntoIterator<Item = Arc<Run<R>>>) {
        if self.disk.is_some() {
            let runs = runs.into_iter().map(|run| {
                let run: Arc<dyn OnDisk> = run;
                Arc::downgrade(&run)
            });
            self.retired.lock().extend(runs);
        }
    }

    /// Which of these files of runs that left the trees are still read, and could not be without their names.
    fn still_read(&self, gone: &HashSet<Serial>) -> HashSet<Serial> {
        let mut read = HashSet::new();
        self.retired.lock().retain(|run| {
            let Some(run) = run.upgrade() else {
                return false;
            };
            let needed = run.needs_its_name();
            if needed && gone.contains(&run.serial()) {
                read.insert(run.serial());
            }
            needed
        });
        read
    }
}

fn write_runs(disk: &Disk, trees: &Trees) -> Result<(), EngineError> {
    write_missing(disk, &trees.records, TreeKind::Records)?;
    write_missing(disk, &trees.by_time, TreeKind::ByTime)?;
    write_missing(disk, &trees.by_wal, TreeKind::ByWal)
}

fn write_missing<R: Row>(disk: &Disk, tree: &Tree<R>, kind: TreeKind) -> Result<(), EngineError> {
    for run in tree.runs() {
        if run.file().is_none() {
            disk.write_run(run, kind)?;
        }
    }
    Ok(())
}

fn entries_of<R: Row>(tree: &Tree<R>) -> Vec<Vec<RunEntry>> {
    tree.levels()
        .iter()
        .map(|level| {
            level
                .iter()
                .map(|run| RunEntry {
                    serial: run.serial.0,
                    first: run.first(),
                    last: run.last,
                })
                .collect()
        })
        .collect()
}
