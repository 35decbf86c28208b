//! What all threads of an engine share. Each file that implements a part of its work adds methods to [`Inner`].

use crate::BlockId;
use crate::config::EngineConfig;
use crate::damaged_range::Damage;
use crate::disk::{Disk, Serial};
use crate::error::EngineError;
use crate::memory::{MB, Memory};
use crate::place::SHARDS;
use crate::run::OnDisk;
use crate::shard::{Shard, SnapshotId};
use crate::swap::Swap;
use crate::trees::Trees;
use crate::wake::Wake;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

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
    /// The runs that the manifest on disk names or may name, and the runs that were written for a manifest that was not
    /// written in the end. Locked while the manifest is replaced.
    pub(crate) committed: Mutex<HashSet<Serial>>,
    /// Runs that left the trees, or are about to, and may still be read.
    pub(crate) retired: Mutex<Vec<Weak<dyn OnDisk>>>,
    pub(crate) damaged: RwLock<Damage>,
    pub(crate) generation: AtomicU64,
    pub(crate) next_serial: AtomicU64,
    next_snapshot: AtomicU64,
    /// Marks are refused: memory is nearly full, and nothing more can go to disk.
    pub(crate) full: AtomicBool,
    /// Marks in all heads, counted when a shard is looked after.
    pub(crate) new_marks: AtomicUsize,
    /// About how many marks are in runs that are not on disk.
    pub(crate) unsaved: AtomicU64,
    pub(crate) maintenance: Mutex<()>,
    pub(crate) wake: Wake,
    /// The last error of work in the background; the next `Engine::sync` reports it.
    pub(crate) trouble: Mutex<Option<EngineError>>,
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
    /// Opens the directory of an engine, and reads nothing of it yet.
    pub(crate) fn open(config: &EngineConfig) -> Result<Self, EngineError> {
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
        Ok(Self {
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
            wake: Wake::default(),
            trouble: Mutex::new(None),
        })
    }

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

    /// About how many marks all heads take together.
    pub(crate) fn all_head_rows(&self) -> usize {
        4 * self.head_rows()
    }

    /// Are the states of some blocks on disk only?
    pub(crate) fn is_spilled(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| shard.0.lock().states.is_spilled())
    }

    /// Rows of the runs that merging makes: fewer where memory is little, as a run is made in memory.
    pub(crate) fn full_run(&self) -> u64 {
        (self.memory.limit() / 512).clamp(1 << 12, 1 << 20)
    }

    pub(crate) fn is_damaged(&self, block: BlockId) -> bool {
        self.damaged
            .read()
            .iter()
            .any(|range| range.contains(block))
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
}
