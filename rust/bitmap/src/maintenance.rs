//! Merging of levels, joining of small runs, and the rebuilding of indexes that have become mostly stale.
//!
//! One piece of work runs at a time, in the background or in a thread that marks faster than the background merges. It reads immutable runs
//! and takes the trees' lock only to put its result in their place.

use crate::disk::Serial;
use crate::error::EngineError;
use crate::inner::Inner;
use crate::memory::Charge;
use crate::place::shard_of;
use crate::row::{Entry, Record, Row};
use crate::run::{Run, RunBuilder};
use crate::stored_run::TreeKind;
use crate::tree::{Cursor, Tree, Work};
use crate::trees::Trees;
use std::collections::HashSet;
use std::io;
use std::mem::size_of;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A tree with more levels makes the marking thread merge, too.
const TOO_MANY_LEVELS: usize = 32;
/// An index is rebuilt when its stale entries are more than its live ones and this number together.
const STALE_ENTRIES: u64 = 1 << 18;

/// The thread that merges.
#[derive(Debug)]
pub(crate) struct Worker(JoinHandle<()>);

impl Worker {
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Self, EngineError> {
        let inner = Arc::clone(inner);
        std::thread::Builder::new()
            .name("bitmap-merge".into())
            .spawn(move || {
                while inner.wake.wait() {
                    if let Err(error) = inner.maintain(false) {
                        *inner.trouble.lock() = Some(error);
                    }
                }
            })
            .map(Self)
            .map_err(|source: io::Error| EngineError::Io {
                action: "starting the thread",
                path: PathBuf::from("bitmap-merge"),
                source,
            })
    }

    pub(crate) fn stop(self, inner: &Inner) {
        inner.wake.stop();
        let _ = self.0.join();
    }
}

impl Inner {
    /// Does what is due. In the background (`wait` is false) it stops when the engine does.
    pub(crate) fn maintain(&self, wait: bool) -> Result<(), EngineError> {
        let _one_at_a_time = self.maintenance.lock();
        while wait || !self.wake.is_stopped() {
            if !self.maintain_once()? {
                break;
            }
        }
        Ok(())
    }

    /// Merges in the marking thread when the background can't keep pace.
    pub(crate) fn keep_pace(&self) {
        let behind = {
            let trees = self.trees();
            trees.records.levels().len() > TOO_MANY_LEVELS
                || trees.by_time.levels().len() > TOO_MANY_LEVELS
                || trees.by_wal.levels().len() > TOO_MANY_LEVELS
        };
        if behind {
            let _one_at_a_time = self.maintenance.lock();
            if let Err(error) = self.maintain_once() {
                *self.trouble.lock() = Some(error);
            }
        }
    }

    fn maintain_once(&self) -> Result<bool, EngineError> {
        if self.indexes_are_stale() {
            let sealed = self.seal(None);
            self.rebuild_indexes(sealed)?;
            return Ok(true);
        }
        let mut done = false;
        // Only the tree that is worked on is held: the files of a held tree can't be closed.
        let work = self.trees().records.work(self.full_run());
        if let Some(work) = work {
            done |= self.work(work, TreeKind::Records, |trees| &mut trees.records)?;
        }
        let work = self.trees().by_time.work(self.full_run());
        if let Some(work) = work {
            done |= self.work(work, TreeKind::ByTime, |trees| &mut trees.by_time)?;
        }
        let work = self.trees().by_wal.work(self.full_run());
        if let Some(work) = work {
            done |= self.work(work, TreeKind::ByWal, |trees| &mut trees.by_wal)?;
        }
        Ok(done)
    }

    fn work<R: Row>(
        &self,
        work: Work<R>,
        kind: TreeKind,
        tree: fn(&mut Trees) -> &mut Tree<R>,
    ) -> Result<bool, EngineError> {
        let inputs: Vec<Arc<Run<R>>> = match &work {
            Work::Merge(levels) => levels.iter().flat_map(|l| l.iter().cloned()).collect(),
            Work::Join(runs) => runs.clone(),
        };
        if self.disk.is_none() {
            let bytes: u64 = inputs.iter().map(|run| run.length).sum();
            if self.memory.current() + bytes > self.memory.comfortable() {
                return Ok(false);
            }
        }
        let output = match work {
            Work::Merge(levels) => self.merge(Cursor::new(&levels, (0, 0))?, kind)?,
            Work::Join(runs) => self.join(&runs, kind)?,
        };
        let gone: HashSet<Serial> = inputs.iter().map(|run| run.serial).collect();
        self.retire(inputs);
        tree(&mut self.trees.write()).replace(&gone, output);
        self.persist()?;
        Ok(true)
    }

    pub(crate) fn merge<R: Row>(
        &self,
        mut cursor: Cursor<R>,
        kind: TreeKind,
    ) -> Result<Vec<Arc<Run<R>>>, EngineError> {
        let mut output = Vec::new();
        let merged = (|| {
            let mut builder = RunBuilder::new();
            while let Some(row) = cursor.next()? {
                builder.push(row);
                if builder.len() >= self.full_run() {
                    let full = std::mem::replace(&mut builder, RunBuilder::new());
                    output.extend(self.finish(full, kind)?);
                }
            }
            output.extend(self.finish(builder, kind)?);
            Ok(())
        })();
        self.or_discard(merged, &output)?;
        Ok(output)
    }

    /// If making `runs` was not finished, removes their files, which no manifest names: the disk may be full, and they
    /// must not keep their space.
    fn or_discard<'a, R: Row>(
        &self,
        made: Result<(), EngineError>,
        runs: impl IntoIterator<Item = &'a Arc<Run<R>>>,
    ) -> Result<(), EngineError> {
        if let (Err(_), Some(disk)) = (&made, &self.disk) {
            for run in runs {
                let _ = disk.remove_run(run.serial);
            }
        }
        made
    }

    fn join<R: Row>(
        &self,
        runs: &[Arc<Run<R>>],
        kind: TreeKind,
    ) -> Result<Vec<Arc<Run<R>>>, EngineError> {
        let mut builder = RunBuilder::new();
        for run in runs {
            for (index, fence) in run.fences.iter().enumerate() {
                let (Some(encoded), Some(chunk)) = (run.encoded_chunk(index)?, run.chunk(index)?)
                else {
                    continue;
                };
                let rows = chunk.len();
                let last = chunk.row(rows - 1).key();
                builder.push_chunk(&encoded, fence.first, last, rows as u64);
            }
        }
        Ok(self.finish(builder, kind)?.into_iter().collect())
    }

    /// Finishes a run. With persistence it is on disk when this returns, and leaves memory at once if memory is short.
    pub(crate) fn finish<R: Row>(
        &self,
        builder: RunBuilder<R>,
        kind: TreeKind,
    ) -> Result<Option<Arc<Run<R>>>, EngineError> {
        let Some(run) = builder.finish(self.serial(), &self.memory) else {
            return Ok(None);
        };
        if let Some(disk) = &self.disk {
            disk.write_run(&run, kind)?;
            if self.memory.current() > self.memory.comfortable() {
                run.evict();
            }
        }
        Ok(Some(Arc::new(run)))
    }

    fn indexes_are_stale(&self) -> bool {
        let live: u64 = self
            .lock_all()
            .iter()
            .map(|shard| shard.counts.dirty + shard.counts.new)
            .sum();
        let trees = self.trees();
        let most = trees.by_time.rows().max(trees.by_wal.rows());
        most > 2 * live + STALE_ENTRIES
    }

    /// Replaces the indexes of `sealed` by what its records say.
    pub(crate) fn rebuild_indexes(&self, sealed: Trees) -> Result<(), EngineError> {
        let (mut by_time, mut by_wal) = (Tree::default(), Tree::default());
        let made = self
            .index(&sealed, TreeKind::ByTime, Record::time_entry, &mut by_time)
            .and_then(|()| self.index(&sealed, TreeKind::ByWal, Record::wal_entry, &mut by_wal));
        self.or_discard(made, by_time.runs().chain(by_wal.runs()))?;
        let indexes = sealed.by_time.runs().chain(sealed.by_wal.runs());
        self.retire(indexes.cloned());
        let mut trees = self.trees.write();
        let gone = sealed.by_time.runs().map(|run| run.serial).collect();
        trees.by_time.rebase(&gone, by_time);
        let gone = sealed.by_wal.runs().map(|run| run.serial).collect();
        trees.by_wal.rebase(&gone, by_wal);
        drop((trees, sealed));
        self.persist()
    }

    /// Does the index need an entry for this record? Without persistence a clear leaves no record, so the block's state
    /// decides. With persistence the record decides: an entry must not disappear from disk before the clear is there.
    fn belongs_in_index(&self, record: &Record) -> Result<bool, EngineError> {
        if !record.kind.is_indexed() || self.disk.is_some() {
            return Ok(record.kind.is_indexed());
        }
        let mut shard = self.lock(shard_of(record.block));
        Ok(shard.states.get(record.block)?.is_found())
    }

    fn index(
        &self,
        sealed: &Trees,
        kind: TreeKind,
        entry: fn(&Record) -> Entry,
        tree: &mut Tree<Entry>,
    ) -> Result<(), EngineError> {
        let mut records = sealed.records.cursor((0, 0))?;
        let rows = self.full_run() as usize;
        let _charge = Charge::new(&self.memory, rows * size_of::<Entry>());
        let mut entries = Vec::new();
        loop {
            let record = records.next()?;
            if let Some(record) = &record
                && self.belongs_in_index(record)?
            {
                entries.push(entry(record));
            }
            if record.is_none() || entries.len() as u64 >= self.full_run() {
                entries.sort_unstable();
                let mut builder = RunBuilder::new();
                builder.push_all(&entries);
                if let Some(run) = self.finish(builder, kind)? {
                    tree.add_shared(run);
                }
                entries.clear();
            }
            if record.is_none() {
                return Ok(());
            }
        }
    }
}
