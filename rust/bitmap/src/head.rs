//! The newest marks of a shard, in the order they were made, before they become runs.
//!
//! Marking only appends: a zone map over every [`ZONE`] marks lets range queries skip, and the map from block to
//! its latest mark is caught up by the first lookup that needs it.

use crate::BlockId;
use crate::error::EngineError;
use crate::record::{MarkedAt, Timestamp, WalOffset};
use crate::row::{Entry, Record, RecordKind, Row, ordered};
use hashbrown::HashMap;
use std::mem::size_of;

/// Marks per zone.
const ZONE: usize = 1024;

/// The lowest and highest values among the marks of a zone.
#[derive(Debug, Clone, Copy)]
struct Zone {
    wal: (u64, u64),
    time: (i64, i64),
}

#[derive(Debug, Clone, Copy)]
struct Position {
    block: BlockId,
    marked: MarkedAt,
}

/// Which index a range query reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Time,
    Wal,
}

/// The newest marks of a shard.
#[derive(Debug, Default)]
pub(crate) struct Head {
    rows: Vec<Position>,
    kinds: Vec<RecordKind>,
    zones: Vec<Zone>,
    /// The newest row of each block among the first `caught_up` rows, and of a row the block's row before it.
    latest: HashMap<u64, u32>,
    older: HashMap<u32, u32>,
    caught_up: usize,
}

impl Head {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that one more mark would take now, 0 if there is room for it.
    #[inline]
    pub(crate) fn next_growth(&self) -> usize {
        if self.rows.len() < self.rows.capacity() {
            return 0;
        }
        self.rows.capacity() * (size_of::<Position>() + 1)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Position>()
            + self.kinds.capacity()
            + self.zones.capacity() * size_of::<Zone>()
            + self.latest.allocation_size()
            + self.older.allocation_size()
    }

    /// Adds a mark.
    #[inline]
    pub(crate) fn push(&mut self, block: BlockId, kind: RecordKind, marked: MarkedAt) {
        let row = self.rows.len();
        let (wal, time) = (marked.wal.0, marked.time.0);
        if row.is_multiple_of(ZONE) {
            self.zones.push(Zone {
                wal: (wal, wal),
                time: (time, time),
            });
        } else if let Some(zone) = self.zones.last_mut() {
            zone.wal = (zone.wal.0.min(wal), zone.wal.1.max(wal));
            zone.time = (zone.time.0.min(time), zone.time.1.max(time));
        }
        self.rows.push(Position { block, marked });
        self.kinds.push(kind);
    }

    /// Row `row` as a record.
    #[inline]
    pub(crate) fn record(&self, row: usize) -> Record {
        let Position { block, marked } = self.rows[row];
        Record {
            block,
            kind: self.kinds[row],
            marked,
        }
    }

    /// The number of `block`'s newest row.
    fn latest_row(&mut self, block: BlockId) -> Option<u32> {
        for row in self.caught_up..self.rows.len() {
            let row_number = row as u32;
            if let Some(older) = self.latest.insert(self.rows[row].block.0, row_number) {
                self.older.insert(row_number, older);
            }
        }
        self.caught_up = self.rows.len();
        self.latest.get(&block.0).copied()
    }

    /// Is the newest row of `block` a mark? Then no mark in any run is its latest.
    pub(crate) fn has_mark(&mut self, block: BlockId) -> bool {
        self.latest_row(block)
            .is_some_and(|row| self.kinds[row as usize].is_mark())
    }

    /// What the rows of `block` say together.
    pub(crate) fn find(&mut self, block: BlockId) -> Option<Record> {
        let mut row = self.latest_row(block)?;
        let mut found = self.record(row as usize);
        while !found.kind.is_mark() {
            let Some(&older) = self.older.get(&row) else {
                break;
            };
            found = Record::fold(&found, &self.record(older as usize));
            row = older;
        }
        Some(found)
    }

    /// Adds the entries of `axis` from `low` to `high` that are their block's latest mark. `remarked` says of a
    /// block whether it was marked more than once; `None` if range queries don't find it.
    pub(crate) fn entries(
        &mut self,
        axis: Axis,
        low: u64,
        high: u64,
        mut remarked: impl FnMut(BlockId) -> Result<Option<bool>, EngineError>,
        out: &mut Vec<Entry>,
    ) -> Result<(), EngineError> {
        for zone in 0..self.zones.len() {
            let Zone { wal, time } = self.zones[zone];
            let (from, to) = match axis {
                Axis::Time => (ordered(time.0), ordered(time.1)),
                Axis::Wal => wal,
            };
            if to < low || from > high {
                continue;
            }
            for row in zone * ZONE..self.rows.len().min((zone + 1) * ZONE) {
                let record = self.rows[row];
                let at = match axis {
                    Axis::Time => ordered(record.marked.time.0),
                    Axis::Wal => record.marked.wal.0,
                };
                if at < low || at > high || !self.kinds[row].is_mark() {
                    continue;
                }
                let latest = match remarked(record.block)? {
                    None => false,
                    Some(false) => true,
                    Some(true) => self.latest_row(record.block) == Some(row as u32),
                };
                if latest {
                    out.push(Entry {
                        at,
                        block: record.block,
                    });
                }
            }
        }
        Ok(())
    }

    /// The kind of every row, oldest first.
    pub(crate) fn kinds(&self) -> &[RecordKind] {
        &self.kinds
    }

    /// The block of every row, and where and when it was marked, oldest first.
    #[inline]
    pub(crate) fn marks(&self) -> impl Iterator<Item = (BlockId, MarkedAt)> {
        self.rows.iter().map(|row| (row.block, row.marked))
    }

    /// Marks of a clear carry no position.
    pub(crate) fn push_clear(&mut self, block: BlockId) {
        let (wal, time) = self
            .rows
            .last()
            .map_or((0, 0), |row| (row.marked.wal.0, row.marked.time.0));
        let marked = MarkedAt {
            wal: WalOffset(wal),
            time: Timestamp(time),
        };
        self.push(block, RecordKind::clear(), marked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockState;

    fn dirty(first: bool) -> RecordKind {
        RecordKind::mark(BlockState::Dirty, !first)
    }

    #[test]
    fn the_latest_mark_of_a_block_wins() {
        let mut head = Head::default();
        head.push(BlockId(1), dirty(true), MarkedAt::new(1, -5));
        head.push(BlockId(2), dirty(true), MarkedAt::new(2, 5));
        head.push(BlockId(1), dirty(false), MarkedAt::new(3, 6));
        assert_eq!(head.find(BlockId(1)).unwrap().marked, MarkedAt::new(3, 6));
        let mut found = Vec::new();
        head.entries(Axis::Wal, 0, 9, |block| Ok(Some(block.0 == 1)), &mut found)
            .unwrap();
        let found: Vec<_> = found.iter().map(|e| (e.at, e.block.0)).collect();
        assert_eq!(found, [(2, 2), (3, 1)]);
        let rows: Vec<_> = head.marks().map(|(block, _)| block.0).collect();
        assert_eq!(rows, [1, 2, 1]);
    }

    #[test]
    fn a_clear_hides_no_mark_of_its_block() {
        let mut head = Head::default();
        head.push(BlockId(1), dirty(true), MarkedAt::new(7, 7));
        head.push_clear(BlockId(1));
        let found = head.find(BlockId(1)).unwrap();
        assert_eq!(found.kind.state(), BlockState::Clean);
        assert_eq!(found.marked, MarkedAt::new(7, 7));
    }
}
