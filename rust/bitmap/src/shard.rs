//! One shard: the states and the newest marks of the blocks that hash to it. A mark changes both under one lock.

use crate::error::EngineError;
use crate::head::Head;
use crate::memory::{Charge, Memory};
use crate::pages::Pages;
use crate::record::MarkedAt;
use crate::row::{Record, RecordKind};
use crate::status::Status;
use crate::swap::Swap;
use crate::{BlockId, BlockState, StateTransitionError};
use hashbrown::HashMap;
use std::sync::Arc;

/// Numbers of blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockCounts {
    /// Blocks that were ever marked.
    pub total: u64,
    /// DIRTY blocks.
    pub dirty: u64,
    /// NEW blocks.
    pub new: u64,
    /// DELETED blocks.
    pub deleted: u64,
}

impl BlockCounts {
    fn of(&mut self, state: BlockState) -> Option<&mut u64> {
        match state {
            BlockState::Clean => None,
            BlockState::Dirty => Some(&mut self.dirty),
            BlockState::New => Some(&mut self.new),
            BlockState::Deleted => Some(&mut self.deleted),
        }
    }

    #[inline]
    fn change(&mut self, from: Status, to: Status) {
        if !from.is_known() {
            self.total += 1;
        } else if from.state() == to.state() {
            return;
        } else if let Some(count) = self.of(from.state()) {
            *count -= 1;
        }
        if let Some(count) = self.of(to.state()) {
            *count += 1;
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.total += other.total;
        self.dirty += other.dirty;
        self.new += other.new;
        self.deleted += other.deleted;
    }
}

/// Names an open snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotId(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) states: Pages,
    pub(crate) head: Head,
    pub(crate) counts: BlockCounts,
    /// Per open snapshot the statuses that blocks had when it was taken, for those that changed since.
    undo: Vec<(SnapshotId, HashMap<u64, Status>)>,
    charge: Charge,
}

impl Shard {
    pub(crate) fn new(memory: &Arc<Memory>, swap: Option<&Arc<Swap>>) -> Self {
        Self {
            states: Pages::new(memory, swap.cloned()),
            head: Head::default(),
            counts: BlockCounts::default(),
            undo: Vec::new(),
            charge: Charge::new(memory, 0),
        }
    }

    /// Bytes that one more mark may take at once, 0 if there is room for it.
    #[inline]
    pub(crate) fn next_growth(&self) -> usize {
        self.head.next_growth()
    }

    /// Marks `block`, whose state becomes what `rule` makes of it; a refused mark changes nothing.
    #[inline]
    pub(crate) fn mark(
        &mut self,
        block: BlockId,
        rule: impl FnOnce(BlockState) -> Result<BlockState, StateTransitionError>,
        marked: MarkedAt,
    ) -> Result<BlockState, EngineError> {
        let (from, to) = self.states.change(block, |from| {
            let state = rule(from.state())?;
            Ok(Status::known(state, from.is_known()))
        })?;
        let state = to.state();
        if from != to {
            self.counts.change(from, to);
        }
        if !self.undo.is_empty() {
            self.remember(block, from);
        }
        let kind = RecordKind::mark(state, from.is_known());
        self.head.push(block, kind, marked);
        Ok(state)
    }

    /// Makes `block` CLEAN. `log`: the change must survive a restart.
    pub(crate) fn clear(&mut self, block: BlockId, log: bool) -> Result<(), EngineError> {
        let (from, to) = self.states.change(block, |from| {
            Ok(Status::known(BlockState::Clean, from.is_remarked()))
        })?;
        if from != to {
            self.counts.change(from, to);
            if !self.undo.is_empty() {
                self.remember(block, from);
            }
            if log {
                self.head.push_clear(block);
            }
        }
        Ok(())
    }

    /// Takes over what a record on disk says of its block. Older records come first.
    pub(crate) fn recover(&mut self, record: &Record) -> Result<(), EngineError> {
        let (from, to) = self.states.change(record.block, |from| {
            let remarked = from.is_known() || record.kind.is_remarked();
            Ok(Status::known(record.kind.state(), remarked))
        })?;
        if from != to {
            self.counts.change(from, to);
        }
        Ok(())
    }

    fn remember(&mut self, block: BlockId, from: Status) {
        let mut grown = false;
        for (_, undo) in &mut self.undo {
            let room = undo.capacity();
            undo.entry(block.0).or_insert(from);
            grown |= undo.capacity() != room;
        }
        if grown {
            self.account();
        }
    }

    pub(crate) fn open_snapshot(&mut self, snapshot: SnapshotId) {
        self.undo.push((snapshot, HashMap::new()));
    }

    pub(crate) fn close_snapshot(&mut self, snapshot: SnapshotId) {
        self.undo.retain(|(id, _)| *id != snapshot);
        self.account();
    }

    /// The status `block` had when the snapshot was taken.
    pub(crate) fn status_at(
        &mut self,
        snapshot: SnapshotId,
        block: BlockId,
    ) -> Result<Status, EngineError> {
        let undo = self.undo.iter().find(|(id, _)| *id == snapshot);
        match undo.and_then(|(_, undo)| undo.get(&block.0)) {
            Some(&status) => Ok(status),
            None => self.states.get(block),
        }
    }

    /// What block states take in memory.
    pub(crate) fn state_bytes(&self) -> usize {
        self.states.held_bytes()
    }

    /// Brings the memory account of the head up to date; that of the states always is.
    pub(crate) fn account(&mut self) {
        let undo: usize = self.undo.iter().map(|(_, u)| u.allocation_size()).sum();
        self.charge.resize(self.head.heap_bytes() + undo);
    }
}
