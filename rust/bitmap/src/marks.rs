//! Marks and lookups of single blocks. A mark locks only its shard, unless memory is short.

use crate::error::{BatchError, EngineError};
use crate::inner::Inner;
use crate::place::shard_of;
use crate::record::{BlockRecord, MarkedAt};
use crate::row::{Record, Row};
use crate::shard::Shard;
use crate::{BlockId, BlockState, Mark, StateTransitionError};
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;

/// A shard's account is brought up to date at most once in so many marks; a power of two.
const MIN_ACCOUNT_EVERY: usize = 16;

impl Inner {
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

    /// After how many marks a shard's account is brought up to date: a power of two, smaller where memory is little.
    fn account_every(&self) -> usize {
        1 << (self.memory.limit() >> 18)
            .clamp(MIN_ACCOUNT_EVERY as u64, 1024)
            .ilog2()
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
}
