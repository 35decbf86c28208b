//! Blocks whose events did not fit a queue or were refused: that they changed is known, but not how.

use super::event::BlockEvent;
use std::collections::BTreeSet;

/// Blocks that are named one by one; more become one range.
const LIMIT: usize = 1 << 16;

/// Blocks that changed, and up to when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gap {
    /// The blocks.
    pub blocks: BTreeSet<u64>,
    /// Blocks beyond those: any between the first and the last, both inclusive.
    pub range: Option<(u64, u64)>,
    /// The newest WAL offset among the events.
    pub wal: u64,
    /// The newest time among the events, ns since the epoch.
    pub time: i64,
    /// How many events there were.
    pub events: u64,
}

impl Gap {
    /// Whether it concerns no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.range.is_none()
    }

    pub(super) fn add(&mut self, event: &BlockEvent) {
        self.stretch(event.wal, event.time, 1);
        self.blocks.insert(event.block);
        if self.blocks.len() > LIMIT {
            self.range = self.hull();
            self.blocks.clear();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.stretch(other.wal, other.time, other.events);
        self.blocks.extend(&other.blocks);
        self.range = join(self.range, other.range);
    }

    fn stretch(&mut self, wal: u64, time: i64, events: u64) {
        let first = self.events == 0;
        self.wal = if first { wal } else { self.wal.max(wal) };
        self.time = if first { time } else { self.time.max(time) };
        self.events += events;
    }

    /// From its first to its last block; none if it is empty.
    pub fn hull(&self) -> Option<(u64, u64)> {
        let blocks = self
            .blocks
            .first()
            .copied()
            .zip(self.blocks.last().copied());
        join(blocks, self.range)
    }
}

/// The range that spans both.
fn join(a: Option<(u64, u64)>, b: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::EventKind;

    fn event(block: u64, wal: u64) -> BlockEvent {
        BlockEvent {
            kind: EventKind::Update,
            block,
            wal,
            time: -(wal as i64),
            tag: 0,
        }
    }

    #[test]
    fn a_gap_names_blocks_until_there_are_too_many() {
        let mut gap = Gap::default();
        gap.add(&event(7, 3));
        gap.add(&event(7, 2));
        assert_eq!(gap.blocks, [7].into());
        assert_eq!((gap.wal, gap.time, gap.events), (3, -2, 2));
        for block in 0..LIMIT as u64 {
            gap.add(&event(block + 100, 1));
        }
        let range = (7, LIMIT as u64 + 99);
        assert_eq!((gap.range, gap.blocks.len()), (Some(range), 0));
        assert_eq!(gap.hull(), Some(range), "a range alone is a gap, too");
        gap.add(&event(LIMIT as u64 + 100, 1));
        assert_eq!(gap.range, Some(range));
        assert_eq!(gap.blocks, [LIMIT as u64 + 100].into());
        assert_eq!(gap.hull(), Some((7, LIMIT as u64 + 100)));
    }
}
