//! The engine: marks, lookups and statistics. Range queries are in `query`, merging in `maintenance`.

use crate::config::{EngineConfig, check_limit};
use crate::damage::Damage;
use crate::disk::{Disk, RunFile, TreeKind};
use crate::error::{BatchError, EngineError};
use crate::maintenance::Worker;
use crate::manifest::{Manifest, RunEntry};
use crate::memory::{MB, Memory, MemoryUse};
use crate::place::{SHARDS, shard_of};
use crate::record::{BlockRecord, MarkedAt};
use crate::row::{Entry, Record, Row};
use crate::run::{Run, Serial};
use crate::shard::{BlockCounts, Shard, SnapshotId};
use crate::swap::Swap;
use crate::tree::Tree;
use crate::{BlockId, BlockState, Mark, StateTransitionError};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// How often all shards are asked to give up states, at most.
const STEPS: usize = 4;

/// Marks of a shard between two looks at its account, at least; a power of two.
const MIN_ACCOUNT_EVERY: usize = 16;

/// All runs of the engine.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trees {
    pub(crate) records: Tree<Record>,
    pub(crate) by_time: Tree<Entry>,
    pub(crate) by_wal: Tree<Entry>,
}

impl Trees {
    pub(crate) fn serials(&self) -> HashSet<Serial> {
        let records = self.records.runs().map(|run| run.serial);
        let by_time = self.by_time.runs().map(|run| run.serial);
        let by_wal = self.by_wal.runs().map(|run| run.serial);
        records.chain(by_time).chain(by_wal).collect()
    }
}

/// The state of up to 10^9 blocks: which changed, and when, under a memory limit.
///
/// An engine is used from any number of threads at once. A mark changes a block's state, its record and its
/// index entries together: every reader sees all of it or none. With a persistence path the state survives a
/// crash as of the last [`Engine::sync`], and much of what came after it.
///
/// ```
/// use bitmap::{BlockId, BlockState, Engine, EngineConfig, Mark, MarkedAt};
/// let engine = Engine::open(&EngineConfig::default())?;
/// engine.mark(BlockId(7), Mark::Dirty, MarkedAt::new(100, -5))?;
/// engine.mark(BlockId(3), Mark::New, MarkedAt::new(101, -4))?;
/// assert_eq!(engine.state(BlockId(7))?, BlockState::Dirty);
/// assert_eq!(engine.find_by_wal(100..=101, 10)?, [BlockId(7), BlockId(3)]);
/// assert_eq!(engine.find_by_time(-4..=0, 10)?, [BlockId(3)]);
/// # Ok::<(), bitmap::EngineError>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    worker: Option<Worker>,
}

/// A shard on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart(Mutex<Shard>);

#[derive(Debug)]
pub(crate) struct Inner {
    shards: [Apart; SHARDS],
    /// Lock order: `trees`, then shards in ascending order. A mark locks its shard only.
    pub(crate) trees: RwLock<Trees>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) disk: Option<Disk>,
    /// The runs the manifest on disk names, or may name, and those that were written for one that was not; locked while
    /// it is replaced.
    pub(crate) committed: Mutex<HashSet<Serial>>,
    /// Runs that left the trees, or are about to, and may still be read.
    retired: Mutex<Vec<Weak<dyn OnDisk>>>,
    pub(crate) damaged: RwLock<Damage>,
    pub(crate) generation: AtomicU64,
    pub(crate) next_serial: AtomicU64,
    next_snapshot: AtomicU64,
    full: AtomicBool,
    /// Marks in all heads, counted when a shard is looked after.
    pub(crate) new_marks: AtomicUsize,
    /// Marks in runs that are not on disk, about.
    pub(crate) unsaved: AtomicU64,
    pub(crate) maintenance: Mutex<()>,
    pub(crate) wake: crate::maintenance::Wake,
    /// The last error of work nobody waited for; the next [`Engine::sync`] reports it.
    pub(crate) trouble: Mutex<Option<EngineError>>,
}

impl Engine {
    /// An engine with the state found in `config.persistence_path`, or without state.
    ///
    /// # Errors
    /// `InvalidConfig`, `Locked`, `UnknownFormat` and `Io`. Damaged files are no error: see [`Engine::damage`].
    pub fn open(config: &EngineConfig) -> Result<Self, EngineError> {
        config.check()?;
        let memory = Memory::new(u64::from(config.max_memory_mb) * MB);
        let disk = match &config.persistence_path {
            Some(path) => Some(Disk::open(path)?),
            None => None,
        };
        let swap = match &disk {
            Some(disk) => Some(Arc::new(Swap::create(disk.path())?)),
            None => None,
        };
        let shard = |_| Apart(Mutex::new(Shard::new(&memory, swap.as_ref())));
        let inner = Arc::new(Inner {
            shards: std::array::from_fn(shard),
            trees: RwLock::default(),
            memory,
            disk,
            committed: Mutex::default(),
            retired: Mutex::default(),
            damaged: RwLock::default(),
            generation: AtomicU64::new(0),
            next_serial: AtomicU64::new(1),
            next_snapshot: AtomicU64::new(1),
            full: AtomicBool::new(false),
            new_marks: AtomicUsize::new(0),
            unsaved: AtomicU64::new(0),
            maintenance: Mutex::new(()),
            wake: crate::maintenance::Wake::default(),
            trouble: Mutex::new(None),
        });
        crate::recovery::recover(&inner)?;
        let worker = Worker::start(&inner)?;
        Ok(Self {
            inner,
            worker: Some(worker),
        })
    }

    /// Marks `block`; returns the state it has now. `Mark::Clear` ignores `marked`, see [`Engine::clear`].
    ///
    /// # Errors
    /// `InvalidTransition`, `MemoryFull`, and `Io` and `Damaged` if the block's state is on disk and can't be read. With any of them
    /// nothing was changed.
    pub fn mark(
        &self,
        block: BlockId,
        mark: Mark,
        marked: MarkedAt,
    ) -> Result<BlockState, EngineError> {
        self.inner.mark(block, mark, marked)
    }

    /// Marks many blocks, in order. Each mark is atomic, the batch is not. `marks` must not use the engine.
    ///
    /// ```
    /// use bitmap::{BlockId, Engine, EngineConfig, Mark, MarkedAt};
    /// let engine = Engine::open(&EngineConfig::default())?;
    /// let marks = (0..1000).map(|i| (BlockId(i), MarkedAt::new(i, i as i64)));
    /// assert_eq!(engine.mark_batch(Mark::Dirty, marks).unwrap(), 1000);
    /// # Ok::<(), bitmap::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// The first mark that can't be made, and its index. The marks before it are made, none after it.
    pub fn mark_batch(
        &self,
        mark: Mark,
        marks: impl IntoIterator<Item = (BlockId, MarkedAt)>,
    ) -> Result<usize, BatchError> {
        self.inner.mark_batch(mark, marks)
    }

    /// Makes `block` CLEAN: it was flushed, backed up, or its deletion was confirmed. Its latest mark stays known.
    ///
    /// # Errors
    /// `BlockNotFound`; with persistence also `MemoryFull`, `Io` and `Damaged`, as [`Engine::mark`].
    pub fn clear(&self, block: BlockId) -> Result<(), EngineError> {
        self.inner.clear(block)
    }

    /// The state of `block`, in constant time.
    ///
    /// # Errors
    /// `BlockNotFound` if it was never marked; `Io` and `Damaged` if its state is on disk and can't be read.
    pub fn state(&self, block: BlockId) -> Result<BlockState, EngineError> {
        let status = self.inner.lock(shard_of(block)).states.get(block)?;
        if status.is_known() {
            Ok(status.state())
        } else if self.inner.is_damaged(block) {
            Ok(BlockState::Dirty)
        } else {
            Err(EngineError::BlockNotFound(block))
        }
    }

    /// All that is known of `block`, in O(log n).
    ///
    /// # Errors
    /// `BlockNotFound`; `BlockDamaged`, `Io` and `Damaged` where its record can't be read.
    pub fn block(&self, block: BlockId) -> Result<BlockRecord, EngineError> {
        self.inner.block(block)
    }

    /// Numbers of blocks by state, kept incrementally.
    pub fn counts(&self) -> BlockCounts {
        let mut counts = BlockCounts::default();
        for guard in self.inner.lock_all() {
            counts.add(guard.counts);
        }
        counts
    }

    /// What the engine holds in memory.
    pub fn memory(&self) -> MemoryUse {
        for shard in 0..SHARDS {
            self.inner.lock(shard).account();
        }
        self.inner.memory.usage()
    }

    /// Bytes of [`MemoryUse::current`] that are block states; the rest is records and indexes.
    pub fn bitmap_bytes(&self) -> u64 {
        let shards = (0..SHARDS).map(|shard| self.inner.lock(shard).state_bytes());
        shards.sum::<usize>() as u64
    }

    /// Changes the memory limit. A lower one takes effect at once, as far as memory can go to disk.
    ///
    /// # Errors
    /// `InvalidConfig` for 0.
    pub fn set_memory_limit(&self, megabytes: u32) -> Result<(), EngineError> {
        check_limit(megabytes)?;
        self.inner.memory.set_limit(u64::from(megabytes) * MB);
        self.inner.relieve(self.inner.memory.comfortable());
        Ok(())
    }

    /// The memory limit in MB.
    pub fn memory_limit(&self) -> u32 {
        (self.inner.memory.limit() / MB) as u32
    }

    /// Gives back memory until the engine holds at most `target_mb`, or nothing more can go to disk. Returns the
    /// bytes given back.
    pub fn cleanup_memory(&self, target_mb: u32) -> u64 {
        let before = self.inner.memory.current();
        self.inner.relieve(u64::from(target_mb) * MB);
        before.saturating_sub(self.inner.memory.current())
    }

    /// Returns when everything marked before the call is on disk. Without persistence there is nothing to do.
    ///
    /// # Errors
    /// `Io`, also of writing in the background since the last call. Marks stay in memory; call again.
    pub fn sync(&self) -> Result<(), EngineError> {
        if self.inner.disk.is_none() {
            return Ok(());
        }
        self.inner.seal(None);
        self.inner.persist()?;
        self.inner.trouble.lock().take().map_or(Ok(()), Err)
    }

    /// Does all merging that is due now, instead of in the background.
    ///
    /// # Errors
    /// `Io` and `Damaged`.
    pub fn compact(&self) -> Result<(), EngineError> {
        self.inner.seal(None);
        self.inner.maintain(true)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop(&self.inner);
        }
        // An engine that is dropped has nobody to report to; `sync` before is how to know.
        let _ = self.sync();
    }
}

/// Locks a shard that is taken. A thread sleeps a moment instead of queueing: waking a queued thread would cost the
/// holder more than many marks.
#[cold]
fn wait_for(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    for doubling in 0..7 {
        std::thread::sleep(std::time::Duration::from_micros(20 << doubling));
        if let Some(guard) = shard.try_lock() {
            return guard;
        }
    }
    shard.lock()
}

impl Inner {
    /// Locks a shard.
    #[inline]
    pub(crate) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[shard % SHARDS].0;
        shard.try_lock().unwrap_or_else(|| wait_for(shard))
    }

    pub(crate) fn lock_all(&self) -> [MutexGuard<'_, Shard>; SHARDS] {
        std::array::from_fn(|shard| self.shards[shard].0.lock())
    }

    /// How many marks a shard's head takes.
    pub(crate) fn head_rows(&self) -> usize {
        (self.memory.limit() / 8192).clamp(1024, 1 << 16) as usize
    }

    /// How many marks all heads take, about.
    pub(crate) fn all_head_rows(&self) -> usize {
        4 * self.head_rows()
    }

    pub(crate) fn mark(
        &self,
        block: BlockId,
        mark: Mark,
        marked: MarkedAt,
    ) -> Result<BlockState, EngineError> {
        if mark == Mark::Clear {
            return self.clear(block).map(|()| BlockState::Clean);
        }
        self.apply(block, |from| from.after(mark), marked)
    }

    /// Marks `block`, whose state becomes what `rule` makes of it; a refused mark changes nothing.
    #[inline]
    pub(crate) fn apply(
        &self,
        block: BlockId,
        rule: impl FnOnce(BlockState) -> Result<BlockState, StateTransitionError>,
        marked: MarkedAt,
    ) -> Result<BlockState, EngineError> {
        let mut shard = self.admit(shard_of(block))?;
        let growth = shard.next_growth();
        if growth > 0 {
            shard = self.admit_growth(shard, shard_of(block), growth)?;
        }
        let state = shard.mark(block, rule, marked)?;
        if growth > 0 || self.is_due(&shard) {
            self.look_after(shard);
        }
        Ok(state)
    }

    pub(crate) fn mark_batch(
        &self,
        mark: Mark,
        marks: impl IntoIterator<Item = (BlockId, MarkedAt)>,
    ) -> Result<usize, BatchError> {
        let mut applied = 0;
        let mut held: Option<(usize, MutexGuard<'_, Shard>)> = None;
        for (block, marked) in marks {
            let wanted = shard_of(block);
            let result = if mark == Mark::Clear {
                held = None;
                self.clear(block)
            } else {
                if held.as_ref().is_some_and(|(at, _)| *at != wanted) {
                    held = None;
                }
                let guard = match held.take() {
                    Some((_, guard)) => Ok(guard),
                    None => self.admit(wanted),
                };
                guard.and_then(|mut guard| {
                    let growth = guard.next_growth();
                    if growth > 0 {
                        guard = self.admit_growth(guard, wanted, growth)?;
                    }
                    guard.mark(block, |from| from.after(mark), marked)?;
                    if growth > 0 || self.is_due(&guard) {
                        self.look_after(guard);
                    } else {
                        held = Some((wanted, guard));
                    }
                    Ok(())
                })
            };
            if let Err(source) = result {
                return Err(BatchError { applied, source });
            }
            applied += 1;
        }
        Ok(applied)
    }

    pub(crate) fn clear(&self, block: BlockId) -> Result<(), EngineError> {
        let log = self.disk.is_some();
        let damaged = self.is_damaged(block);
        let mut shard = if log {
            self.admit(shard_of(block))?
        } else {
            self.lock(shard_of(block))
        };
        if !damaged && !shard.states.get(block)?.is_known() {
            return Err(EngineError::BlockNotFound(block));
        }
        shard.clear(block, log)?;
        if self.is_due(&shard) {
            self.look_after(shard);
        }
        Ok(())
    }

    /// Keeps the account, seals full heads and keeps the memory limit.
    fn look_after(&self, mut shard: MutexGuard<'_, Shard>) {
        shard.account();
        let new = if self.is_due(&shard) {
            self.account_every()
        } else {
            0
        };
        let all = self.new_marks.fetch_add(new, Relaxed) + new;
        let full = shard.head.len() >= self.head_rows() || all >= self.all_head_rows();
        drop(shard);
        if full {
            self.seal_full();
        }
        self.make_room();
    }

    /// Moves to disk what is above the comfortable part of the limit.
    fn make_room(&self) {
        if self.memory.current() > self.memory.comfortable() {
            self.evict(self.memory.comfortable());
            if self.memory.current() > self.memory.nearly_full() {
                self.relieve(self.memory.comfortable());
            }
        }
    }

    /// Are states on disk only?
    pub(crate) fn is_spilled(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| shard.0.lock().states.is_spilled())
    }

    /// Locks a shard for a mark, unless the engine is full.
    fn admit(&self, shard: usize) -> Result<MutexGuard<'_, Shard>, EngineError> {
        if self.full.load(Relaxed) {
            self.evict(self.memory.comfortable());
            self.check_full();
            if self.full.load(Relaxed) {
                return Err(self.memory_full());
            }
        }
        Ok(self.lock(shard))
    }

    /// Is there room for a shard to take `growth` bytes at once? Makes room where it can.
    fn admit_growth<'a>(
        &'a self,
        mut guard: MutexGuard<'a, Shard>,
        shard: usize,
        growth: usize,
    ) -> Result<MutexGuard<'a, Shard>, EngineError> {
        let fits = || self.memory.current() + growth as u64 <= self.memory.limit();
        if !fits() {
            drop(guard);
            self.relieve(self.memory.comfortable().saturating_sub(growth as u64));
            if !fits() {
                return Err(self.memory_full());
            }
            guard = self.lock(shard);
        }
        Ok(guard)
    }

    fn memory_full(&self) -> EngineError {
        EngineError::MemoryFull {
            limit: self.memory.limit(),
            used: self.memory.current(),
        }
    }

    /// Is it time to bring a shard's account up to date?
    fn is_due(&self, shard: &Shard) -> bool {
        // Every mark passes here: no division, and the limit is seldom looked at.
        let marks = shard.head.len();
        marks.is_multiple_of(MIN_ACCOUNT_EVERY) && marks & (self.account_every() - 1) == 0
    }

    /// Marks of a shard between two looks at its account, a power of two: less where memory is little.
    fn account_every(&self) -> usize {
        1 << (self.memory.limit() >> 18)
            .clamp(MIN_ACCOUNT_EVERY as u64, 1024)
            .ilog2()
    }

    pub(crate) fn is_damaged(&self, block: BlockId) -> bool {
        self.damaged
            .read()
            .iter()
            .any(|range| range.contains(block))
    }

    pub(crate) fn block(&self, block: BlockId) -> Result<BlockRecord, EngineError> {
        let trees = self.trees.read();
        let mut shard = self.lock(shard_of(block));
        let status = shard.states.get(block)?;
        let newer = shard.head.find(block);
        drop(shard);
        if !status.is_known() {
            return Err(if self.is_damaged(block) {
                EngineError::BlockDamaged(block)
            } else {
                EngineError::BlockNotFound(block)
            });
        }
        let complete = newer.filter(|record| record.kind.is_mark());
        let record = match complete {
            Some(record) => Some(record),
            None => match (newer, trees.records.find(block)?) {
                (Some(newer), Some(older)) => Some(Record::fold(&newer, &older)),
                (newer, older) => newer.or(older),
            },
        };
        let record = record
            .filter(|record| record.kind.is_mark())
            .ok_or(EngineError::BlockDamaged(block))?;
        Ok(BlockRecord {
            block,
            state: status.state(),
            marked: record.marked,
        })
    }

    pub(crate) fn serial(&self) -> Serial {
        Serial(self.next_serial.fetch_add(1, Relaxed))
    }

    pub(crate) fn trees(&self) -> RwLockReadGuard<'_, Trees> {
        self.trees.read()
    }

    pub(crate) fn new_snapshot(&self) -> SnapshotId {
        SnapshotId(self.next_snapshot.fetch_add(1, Relaxed))
    }

    /// Writes what is not on disk yet, and the manifest; removes files nobody names any more.
    pub(crate) fn persist(&self) -> Result<(), EngineError> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let mut committed = self.committed.lock();
        self.unsaved.store(0, Relaxed);
        let trees = self.trees.read().clone();
        let now = trees.serials();
        // Whatever fails from here on, they may have files now.
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
            // What can't be removed now is removed the next time.
            if still_read.contains(&serial) {
                committed.insert(serial);
            } else if let Err(error) = disk.remove_run(serial) {
                committed.insert(serial);
                result = Err(error);
            }
        }
        result
    }

    /// Writes what is not on disk yet. Without a manifest it does not count.
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

    /// Gives back memory until at most `target` bytes are held: coldest runs first.
    pub(crate) fn relieve(&self, target: u64) {
        let target = target.min(self.memory.comfortable());
        self.evict(target);
        if self.memory.current() > target {
            for shard in &self.shards {
                let mut shard = shard.0.lock();
                shard.states.compact();
            }
        }
        if self.memory.current() > target && self.disk.is_some() {
            self.seal(None);
            if let Err(error) = self.persist() {
                *self.trouble.lock() = Some(error);
            }
            self.evict(target);
        }
        self.check_full();
    }

    fn check_full(&self) {
        let full = self.memory.current() > self.memory.nearly_full();
        self.full.store(full, Relaxed);
    }

    /// Moves to disk until `target` bytes are held: first the copies in memory of runs that are there already, then
    /// states, which every mark needs; of each the least recently used first.
    pub(crate) fn evict(&self, target: u64) {
        self.evict_runs(target);
        if self.disk.is_none() || self.memory.current() <= target {
            return;
        }
        // Some more than needed, so that it is not needed again at once.
        let target = target - target / 32;
        // Small steps, so that all shards give the coldest they have.
        for _ in 0..STEPS {
            let excess = self.memory.current().saturating_sub(target) as usize;
            if excess == 0 {
                return;
            }
            for shard in 0..SHARDS {
                let evicted = self.lock(shard).states.evict(excess / SHARDS + 1);
                if let Err(error) = evicted {
                    *self.trouble.lock() = Some(error);
                    return;
                }
            }
        }
    }

    fn evict_runs(&self, target: u64) {
        if self.memory.current() <= target {
            return;
        }
        let trees = self.trees.read();
        let mut runs: Vec<(u64, &dyn OnDisk)> = Vec::new();
        runs.extend(trees.records.runs().map(|run| evictable(&**run)));
        runs.extend(trees.by_time.runs().map(|run| evictable(&**run)));
        runs.extend(trees.by_wal.runs().map(|run| evictable(&**run)));
        runs.sort_unstable_by_key(|(used, _)| *used);
        for (_, run) in runs {
            if self.memory.current() <= target {
                break;
            }
            run.evict();
        }
    }
}

/// A run of any tree.
pub(crate) trait OnDisk: std::fmt::Debug + Send + Sync {
    fn serial(&self) -> Serial;
    fn evict(&self);
    fn needs_its_name(&self) -> bool;
}

impl<R: Row> OnDisk for Run<R> {
    fn serial(&self) -> Serial {
        self.serial
    }

    fn evict(&self) {
        self.evict();
    }

    fn needs_its_name(&self) -> bool {
        self.file().is_none_or(RunFile::needs_its_name)
    }
}

fn evictable<R: Row>(run: &Run<R>) -> (u64, &dyn OnDisk) {
    (run.last_used(), run)
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
