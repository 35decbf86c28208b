//! One shard: the states and the newest marks of the blocks that hash to it. A mark changes both under one lock.

use crate::head::Head;
use crate::memory::{Charge, Memory};
use crate::record::{KeySpan, MarkedAt};
use crate::row::{Record, RecordKind};
use crate::tables::{Status, Tables};
use crate::{BlockId, BlockState, Mark, StateTransitionError};
use hashbrown::HashMap;
use std::sync::Arc;

/// How many shards an engine has: enough that a few threads seldom meet in one.
pub(crate) const SHARDS: usize = 64;

/// The shard of a block. 65 536 neighbours in a table share one, as they share a Roaring container, and so do the
/// same windows of 16 neighbouring tables, which are often marked one after another.
pub(crate) fn shard_of(block: BlockId) -> usize {
    let tables = (block.0 >> 36).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let windows = (block.0 >> 16 & 0xFFFF).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((tables ^ windows) >> 58) as usize
}

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

/// What a block costs at most in a bitmap of many, in bytes.
const WORST_BLOCK: usize = 3;

/// Names an open snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotId(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) tables: Tables,
    pub(crate) head: Head,
    pub(crate) counts: BlockCounts,
    /// Per open snapshot the statuses that blocks had when it was taken, for those that changed since.
    undo: Vec<(SnapshotId, HashMap<u64, Status>)>,
    charge: Charge,
    measured: usize,
    measured_at: u64,
}

impl Shard {
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self {
            tables: Tables::default(),
            head: Head::default(),
            counts: BlockCounts::default(),
            undo: Vec::new(),
            charge: Charge::new(memory, 0),
            measured: 0,
            measured_at: 0,
        }
    }

    /// Bytes that one more mark may take at once, 0 if there is room for it.
    pub(crate) fn next_growth(&self) -> usize {
        self.tables.next_growth() + self.head.next_growth()
    }

    /// Applies `mark`; a refused one changes nothing.
    pub(crate) fn mark(
        &mut self,
        block: BlockId,
        mark: Mark,
        marked: MarkedAt,
        span: Option<KeySpan>,
    ) -> Result<BlockState, StateTransitionError> {
        let window = block.window().0;
        let mut slot = self.tables.slot(block);
        let from = slot.get(window);
        let state = from.state().after(mark)?;
        let to = Status::known(state, from.is_known());
        if from != to {
            slot.set(window, from, to);
            self.counts.change(from, to);
        }
        if !self.undo.is_empty() {
            self.remember(block, from);
        }
        let fresh = from.state() == BlockState::Clean;
        let kind = RecordKind::mark(state, fresh, from.is_known(), span.is_some());
        self.head.push(block, kind, marked, span);
        Ok(state)
    }

    /// Makes `block` CLEAN and returns what it was. `log`: the change must survive a restart.
    pub(crate) fn clear(&mut self, block: BlockId, log: bool) -> Status {
        let window = block.window().0;
        let from = self.tables.get(block);
        let to = Status::known(BlockState::Clean, from.is_remarked());
        if from != to {
            self.tables.slot(block).set(window, from, to);
            self.counts.change(from, to);
            if !self.undo.is_empty() {
                self.remember(block, from);
            }
            if log {
                self.head.push_clear(block);
            }
        }
        from
    }

    /// Takes over what a record on disk says of its block. Older records come first.
    pub(crate) fn recover(&mut self, record: &Record) {
        let window = record.block.window().0;
        let mut slot = self.tables.slot(record.block);
        let from = slot.get(window);
        let remarked = from.is_known() || record.kind.is_remarked();
        let to = Status::known(record.kind.state(), remarked);
        if from != to {
            slot.set(window, from, to);
            self.counts.change(from, to);
        }
    }

    fn remember(&mut self, block: BlockId, from: Status) {
        for (_, undo) in &mut self.undo {
            undo.entry(block.0).or_insert(from);
        }
    }

    pub(crate) fn open_snapshot(&mut self, snapshot: SnapshotId) {
        self.undo.push((snapshot, HashMap::new()));
    }

    pub(crate) fn close_snapshot(&mut self, snapshot: SnapshotId) {
        self.undo.retain(|(id, _)| *id != snapshot);
    }

    /// The status `block` had when the snapshot was taken.
    pub(crate) fn status_at(&self, snapshot: SnapshotId, block: BlockId) -> Status {
        self.undo
            .iter()
            .find(|(id, _)| *id == snapshot)
            .and_then(|(_, undo)| undo.get(&block.0))
            .copied()
            .unwrap_or_else(|| self.tables.get(block))
    }

    /// What block states take, as of the last walk over the bitmaps.
    pub(crate) fn state_bytes(&self) -> usize {
        self.tables.map_bytes() + self.measured
    }

    /// Brings the memory account up to date. Between two walks over the bitmaps, new blocks count at their worst;
    /// a walk is due when that adds up to `slack` bytes, or at once with a `slack` of 0.
    pub(crate) fn account(&mut self, slack: usize) {
        let known = self.counts.total;
        let mut grown = (known - self.measured_at.min(known)) as usize * WORST_BLOCK;
        if grown >= slack.max(self.measured / 2) || slack == 0 {
            self.measured = self.tables.bitmap_bytes();
            self.measured_at = known;
            grown = 0;
        }
        let undo: usize = self.undo.iter().map(|(_, u)| u.allocation_size()).sum();
        self.charge.resize(
            self.tables.map_bytes() + self.measured + grown + self.head.heap_bytes() + undo,
        );
    }
}
