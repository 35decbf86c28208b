//! The engine as callers see it. Range queries are in `query`, ranges that count as a whole in `damage`.

use crate::config::{EngineConfig, check_limit};
use crate::error::{BatchError, EngineError};
use crate::inner::Inner;
use crate::maintenance::Worker;
use crate::memory::{MB, MemoryUse};
use crate::place::{SHARDS, shard_of};
use crate::record::{BlockRecord, MarkedAt};
use crate::recovery::recover;
use crate::shard::BlockCounts;
use crate::{BlockId, BlockState, Mark};
use std::sync::Arc;

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

impl Engine {
    /// An engine with the state found in `config.persistence_path`, or without state.
    ///
    /// # Errors
    /// `InvalidConfig`, `Locked`, `UnknownFormat` and `Io`. Damaged files are no error: see [`Engine::damage`].
    pub fn open(config: &EngineConfig) -> Result<Self, EngineError> {
        let inner = Arc::new(Inner::open(config)?);
        recover(&inner)?;
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

    /// How many blocks are in which state. The engine keeps these counts up to date, so asking is cheap.
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
    /// `Io`, also when the background could not write since the last call. The marks stay in memory; call again.
    pub fn sync(&self) -> Result<(), EngineError> {
        if self.inner.disk.is_none() {
            return Ok(());
        }
        self.inner.seal(None);
        self.inner.persist()?;
        self.inner.trouble.lock().take().map_or(Ok(()), Err)
    }

    /// Does all merging that is due now, instead of in the background. Tests call this.
    ///
    /// # Errors
    /// `Io` and `Damaged`.
    #[cfg(feature = "internals")]
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
        // A drop can't report an error. A caller that needs to know calls `sync` before.
        let _ = self.sync();
    }
}
