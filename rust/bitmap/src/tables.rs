//! The state of every block: per table a few blocks in place, or Roaring bitmaps over its windows.

use crate::{BlockId, BlockState};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use roaring::RoaringBitmap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::size_of;

/// What is known of a block without looking at its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Status(u8);

impl Status {
    const KNOWN: u8 = 1 << 2;
    const REMARKED: u8 = 1 << 3;

    /// Never marked.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Marked, and in `state` now. `remarked`: more than once, so that old index entries of it may exist.
    pub(crate) fn known(state: BlockState, remarked: bool) -> Self {
        Self(state as u8 | Self::KNOWN | if remarked { Self::REMARKED } else { 0 })
    }

    pub(crate) fn state(self) -> BlockState {
        match self.0 & 0b11 {
            0 => BlockState::Clean,
            1 => BlockState::Dirty,
            2 => BlockState::New,
            _ => BlockState::Deleted,
        }
    }

    pub(crate) fn is_known(self) -> bool {
        self.0 & Self::KNOWN != 0
    }

    pub(crate) fn is_remarked(self) -> bool {
        self.0 & Self::REMARKED != 0
    }

    /// Do range queries find such a block?
    pub(crate) fn is_found(self) -> bool {
        matches!(self.state(), BlockState::Dirty | BlockState::New)
    }
}

/// Blocks of a table that are kept in place before bitmaps pay.
const FEW: usize = 4;

#[derive(Debug)]
enum Table {
    Few {
        len: u8,
        status: [Status; FEW],
        windows: [u32; FEW],
    },
    Many(Box<Bitmaps>),
}

/// One bitmap of windows per state, and one of those marked more than once.
#[derive(Debug, Default)]
struct Bitmaps {
    clean: RoaringBitmap,
    dirty: RoaringBitmap,
    new: RoaringBitmap,
    deleted: RoaringBitmap,
    remarked: RoaringBitmap,
}

impl Bitmaps {
    fn get(&self, window: u32) -> Status {
        let state = if self.dirty.contains(window) {
            BlockState::Dirty
        } else if self.clean.contains(window) {
            BlockState::Clean
        } else if self.new.contains(window) {
            BlockState::New
        } else if self.deleted.contains(window) {
            BlockState::Deleted
        } else {
            return Status::UNKNOWN;
        };
        Status::known(state, self.remarked.contains(window))
    }

    fn bitmap(&mut self, state: BlockState) -> &mut RoaringBitmap {
        match state {
            BlockState::Clean => &mut self.clean,
            BlockState::Dirty => &mut self.dirty,
            BlockState::New => &mut self.new,
            BlockState::Deleted => &mut self.deleted,
        }
    }

    fn all(&self) -> [&RoaringBitmap; 5] {
        [
            &self.clean,
            &self.dirty,
            &self.new,
            &self.deleted,
            &self.remarked,
        ]
    }

    fn set(&mut self, window: u32, from: Status, to: Status) {
        if from.is_known() && from.state() != to.state() {
            self.bitmap(from.state()).remove(window);
        }
        if !from.is_known() || from.state() != to.state() {
            self.bitmap(to.state()).insert(window);
        }
        if to.is_remarked() && !from.is_remarked() {
            self.remarked.insert(window);
        }
    }

    fn heap_bytes(&self) -> usize {
        let bitmaps = self.all().map(|bitmap| {
            if bitmap.is_empty() {
                return 0;
            }
            // The crate counts four bytes for a value in an array, which takes two, and bits for a bitset's bytes.
            let s = bitmap.statistics();
            s.n_containers as usize * (CONTAINER + ALLOCATION)
                + s.n_bytes_array_containers as usize / 2
                + s.n_bytes_run_containers as usize
                + s.n_bitset_containers as usize * BITSET
        });
        size_of::<Self>() + ALLOCATION + bitmaps.iter().sum::<usize>()
    }
}

/// What a container costs beside its values, with the slack of the vector it is in.
const CONTAINER: usize = 48;
/// A container of more than 4096 values that are no runs.
const BITSET: usize = 8192;
/// What the allocator adds to an allocation.
const ALLOCATION: usize = 16;

/// A table's blocks, for marking one after another.
pub(crate) struct Slot<'a>(&'a mut Table);

impl Slot<'_> {
    /// The status of the block in `window`.
    pub(crate) fn get(&self, window: u32) -> Status {
        self.0.get(window)
    }

    /// Changes the status of the block in `window`, which was `from`.
    pub(crate) fn set(&mut self, window: u32, from: Status, to: Status) {
        self.0.set(window, from, to);
    }
}

impl Table {
    fn empty() -> Self {
        Self::Few {
            len: 0,
            status: [Status::UNKNOWN; FEW],
            windows: [0; FEW],
        }
    }

    fn get(&self, window: u32) -> Status {
        match self {
            Self::Few {
                len,
                status,
                windows,
            } => windows
                .iter()
                .zip(status)
                .take(usize::from(*len))
                .find(|(known, _)| **known == window)
                .map_or(Status::UNKNOWN, |(_, &status)| status),
            Self::Many(bitmaps) => bitmaps.get(window),
        }
    }

    fn set(&mut self, window: u32, from: Status, to: Status) {
        if let Self::Few {
            len,
            status,
            windows,
        } = self
        {
            let used = usize::from(*len);
            if let Some(at) = windows[..used].iter().position(|&known| known == window) {
                status[at] = to;
                return;
            }
            if used < FEW {
                (windows[used], status[used]) = (window, to);
                *len += 1;
                return;
            }
            let mut bitmaps = Box::<Bitmaps>::default();
            for (&window, &status) in windows.iter().zip(status.iter()) {
                bitmaps.set(window, Status::UNKNOWN, status);
            }
            *self = Self::Many(bitmaps);
        }
        if let Self::Many(bitmaps) = self {
            bitmaps.set(window, from, to);
        }
    }
}

/// Hashes table ordinals so that neighbours lie beside each other: marks often go from table to table.
#[derive(Debug, Default, Clone, Copy)]
struct Neighbours(u64);

impl Hasher for Neighbours {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte) ^ self.0 as u32);
        }
    }

    fn write_u32(&mut self, ordinal: u32) {
        let neighbourhood = u64::from(ordinal >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let tag = u64::from(ordinal).wrapping_mul(0xD6E8_FEB8_6659_FD93) & (0x7F << 57);
        self.0 = (neighbourhood >> 20) & !(0x7F << 57) & !15 | u64::from(ordinal & 15) | tag;
    }
}

/// The states of a set of blocks.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    tables: HashMap<u32, Table, BuildHasherDefault<Neighbours>>,
}

impl Tables {
    /// The status of `block`.
    pub(crate) fn get(&self, block: BlockId) -> Status {
        self.tables
            .get(&block.table().0)
            .map_or(Status::UNKNOWN, |table| table.get(block.window().0))
    }

    /// The table of `block`, for a mark.
    pub(crate) fn slot(&mut self, block: BlockId) -> Slot<'_> {
        match self.tables.entry(block.table().0) {
            Entry::Occupied(table) => Slot(table.into_mut()),
            Entry::Vacant(free) => Slot(free.insert(Table::empty())),
        }
    }

    /// The known blocks from `first` to `last`, in no order.
    pub(crate) fn known_in(&self, first: BlockId, last: BlockId) -> Vec<BlockId> {
        let inside = |&block: &BlockId| first <= block && block <= last;
        let mut found = Vec::new();
        for (&table, blocks) in &self.tables {
            if table < first.table().0 || table > last.table().0 {
                continue;
            }
            let id = |window| BlockId::new(crate::TableOrdinal(table), crate::WindowNumber(window));
            match blocks {
                Table::Few { len, windows, .. } => {
                    let windows = windows.iter().take(usize::from(*len));
                    found.extend(windows.map(|&window| id(window)).filter(inside));
                }
                Table::Many(bitmaps) => {
                    for bitmap in &bitmaps.all()[..4] {
                        found.extend(bitmap.iter().map(id).filter(inside));
                    }
                }
            }
        }
        found
    }

    /// Bytes that one more table would take now, 0 if there is room for it.
    pub(crate) fn next_growth(&self) -> usize {
        if self.tables.len() < self.tables.capacity() {
            return 0;
        }
        2 * self.tables.allocation_size()
    }

    /// Bytes of the map itself.
    pub(crate) fn map_bytes(&self) -> usize {
        self.tables.allocation_size()
    }

    /// Bytes of the bitmaps: a walk over all tables.
    pub(crate) fn bitmap_bytes(&self) -> usize {
        self.tables
            .values()
            .map(|table| match table {
                Table::Few { .. } => 0,
                Table::Many(bitmaps) => bitmaps.heap_bytes(),
            })
            .sum()
    }

    /// Gives back memory: long runs of equal blocks become run containers.
    pub(crate) fn compact(&mut self) {
        for table in self.tables.values_mut() {
            if let Table::Many(bitmaps) = table {
                for state in [
                    BlockState::Clean,
                    BlockState::Dirty,
                    BlockState::New,
                    BlockState::Deleted,
                ] {
                    bitmaps.bitmap(state).optimize();
                }
                bitmaps.remarked.optimize();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_blocks_when_it_grows_from_few_to_many() {
        let mut tables = Tables::default();
        let states = [BlockState::Dirty, BlockState::New, BlockState::Deleted];
        for window in 0..20u32 {
            let to = Status::known(states[window as usize % 3], window % 2 == 0);
            let block = BlockId(7 << 32 | u64::from(window));
            tables.slot(block).set(window, Status::UNKNOWN, to);
        }
        for window in 0..20u32 {
            let status = tables.get(BlockId(7 << 32 | u64::from(window)));
            assert_eq!(status.state(), states[window as usize % 3]);
            assert_eq!(status.is_remarked(), window % 2 == 0);
        }
        assert_eq!(tables.get(BlockId(7 << 32 | 20)), Status::UNKNOWN);
        assert_eq!(tables.get(BlockId(8 << 32)), Status::UNKNOWN);
        let (first, last) = (BlockId(7 << 32 | 5), BlockId(7 << 32 | 9));
        assert_eq!(tables.known_in(first, last).len(), 5);
    }

    #[test]
    fn compacting_changes_no_state() {
        let mut tables = Tables::default();
        for window in 0..5000u32 {
            let to = Status::known(BlockState::Dirty, false);
            tables
                .slot(BlockId(u64::from(window)))
                .set(window, Status::UNKNOWN, to);
        }
        let before = tables.bitmap_bytes();
        tables.compact();
        assert!(tables.bitmap_bytes() < before);
        let dirty = (0..6000).filter(|&id| tables.get(BlockId(id)).is_found());
        assert_eq!(dirty.count(), 5000);
    }
}
