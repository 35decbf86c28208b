//! The states of a set of blocks: lone blocks one by one, others by part, which is 65 536 windows of one table.
//!
//! Of a part the 64 windows that were reached last lie in place, as four bit planes, so that a mark touches one or two
//! cache lines; the others are in Roaring bitmaps.

use crate::lone::LoneBlocks;
use crate::part_name::PartName;
use crate::place::Place;
use crate::status::Status;
use crate::{BlockId, BlockState, TableOrdinal, WindowNumber};
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use std::mem::size_of;

/// Blocks of a part that are kept one by one.
const FEW: usize = 4;
/// Windows in a group, of which a part keeps one in place.
const GROUP: u32 = 64;
/// How many bytes one more block is counted as until the bitmaps are measured again: the most that it can cost.
const WORST_BLOCK: usize = 3;
/// By how many bytes the bitmaps may grow before they are measured again.
const UNMEASURED: usize = 4096;

/// 65 536 windows of a table.
#[derive(Debug)]
struct Part {
    name: PartName,
    /// The highest group that was marked: the one in `planes`.
    group: u16,
    /// Bit `w` of plane `b` is bit `b` of the status of window `w` of the group.
    planes: [u64; Status::BITS],
    older: Option<Box<Bitmaps>>,
}

impl Part {
    fn new(name: PartName) -> Self {
        Self {
            name,
            group: 0,
            planes: [0; Status::BITS],
            older: None,
        }
    }

    /// Where all its blocks are kept.
    fn place(&self) -> Place {
        Place::of(self.block(0))
    }

    fn hash(&self) -> u64 {
        self.place().hash(self.name.table)
    }

    /// The block of the window that is `window`th of the part.
    fn block(&self, window: u32) -> BlockId {
        let window = u32::from(self.name.number) << 16 | window;
        BlockId::new(TableOrdinal(self.name.table), WindowNumber(window))
    }

    /// A window's group and its number in that.
    #[inline]
    fn split(window: u32) -> (u16, u32) {
        let window = window & 0xFFFF;
        ((window / GROUP) as u16, window % GROUP)
    }

    fn get(&self, window: u32) -> Status {
        let (group, bit) = Self::split(window);
        if group == self.group {
            return in_planes(&self.planes, bit);
        }
        self.older
            .as_ref()
            .map_or(Status::UNKNOWN, |older| older.get(window & 0xFFFF))
    }

    /// Changes a window's status, which was `from`. `true` if the bitmaps changed.
    #[inline]
    fn set(&mut self, window: u32, from: Status, to: Status) -> bool {
        let (group, bit) = Self::split(window);
        let advances = group > self.group;
        if advances {
            self.put_away();
            self.group = group;
        }
        if group == self.group {
            for (b, plane) in self.planes.iter_mut().enumerate() {
                *plane = *plane & !(1 << bit) | u64::from(to.bits() >> b & 1) << bit;
            }
            return advances;
        }
        let older = self.older.get_or_insert_default();
        older.set(window & 0xFFFF, from, to);
        true
    }

    #[inline(never)]
    /// Moves the group in place to the bitmaps.
    fn put_away(&mut self) {
        let [low, high, known, remarked] = std::mem::take(&mut self.planes);
        if known == 0 {
            return;
        }
        let older = self.older.get_or_insert_default();
        let first = u32::from(self.group) * GROUP;
        for (state, windows) in [
            (BlockState::Clean, known & !low & !high),
            (BlockState::Dirty, known & low & !high),
            (BlockState::New, known & !low & high),
            (BlockState::Deleted, known & low & high),
        ] {
            insert_group(older.bitmap(state), first, windows);
        }
        insert_group(&mut older.remarked, first, remarked);
    }

    fn known(&self) -> impl Iterator<Item = BlockId> {
        let in_place = (0..GROUP)
            .filter(|&bit| in_planes(&self.planes, bit).is_known())
            .map(|bit| u32::from(self.group) * GROUP + bit);
        let older = self.older.iter().flat_map(|older| {
            let [clean, dirty, new, deleted, _] = older.all();
            clean.iter().chain(dirty).chain(new).chain(deleted)
        });
        in_place.chain(older).map(|window| self.block(window))
    }
}

fn in_planes(planes: &[u64; Status::BITS], bit: u32) -> Status {
    let mut bits = 0;
    for (b, plane) in planes.iter().enumerate() {
        bits |= ((plane >> bit & 1) as u8) << b;
    }
    Status::from_bits(bits)
}

fn insert_group(bitmap: &mut RoaringBitmap, first: u32, mut windows: u64) {
    if windows == u64::MAX {
        bitmap.insert_range(first..first + GROUP);
        return;
    }
    while windows != 0 {
        bitmap.insert(first + windows.trailing_zeros());
        windows &= windows - 1;
    }
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

    fn all_mut(&mut self) -> [&mut RoaringBitmap; 5] {
        [
            &mut self.clean,
            &mut self.dirty,
            &mut self.new,
            &mut self.deleted,
            &mut self.remarked,
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

/// The states of a set of blocks.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    lone: LoneBlocks,
    parts: HashTable<Part>,
    /// Bytes of the bitmaps when they were last measured, and the most that was added since.
    measured: usize,
    grown: usize,
}

impl Tables {
    /// The status of `block`, whose place is `place`.
    #[inline]
    pub(crate) fn get(&self, place: Place, block: BlockId) -> Status {
        let hash = place.hash(block.table().0);
        if !self.parts.is_empty() {
            let name = PartName::of(block);
            if let Some(part) = self.parts.find(hash, |part| part.name == name) {
                return part.get(block.window().0);
            }
        }
        let lone = self.lone.find(hash, block);
        lone.map_or(Status::UNKNOWN, |at| self.lone.status(at))
    }

    /// Brings what a lookup of `block` reads into the cache, if it may not be there. What it returns means nothing.
    #[inline]
    pub(crate) fn touch(&self, place: Place, block: BlockId) -> u8 {
        self.lone.touch(place.hash(block.table().0))
    }

    /// Changes the status of `block` to what `change` makes of it, if it makes anything; returns what it was and is.
    #[inline]
    pub(crate) fn change<E>(
        &mut self,
        place: Place,
        block: BlockId,
        change: impl FnOnce(Status) -> Result<Status, E>,
    ) -> Result<(Status, Status), E> {
        let hash = place.hash(block.table().0);
        let window = block.window().0;
        if !self.parts.is_empty() {
            let name = PartName::of(block);
            if let Some(part) = self.parts.find_mut(hash, |part| part.name == name) {
                let from = part.get(window);
                let to = change(from)?;
                if from != to && part.set(window, from, to) {
                    self.note_growth();
                }
                return Ok((from, to));
            }
        }
        if let Some(at) = self.lone.find(hash, block) {
            let from = self.lone.status(at);
            let to = change(from)?;
            self.lone.set_status(at, to);
            return Ok((from, to));
        }
        let to = change(Status::UNKNOWN)?;
        self.insert(place, block, to);
        Ok((Status::UNKNOWN, to))
    }

    /// Adds a block that is in no part.
    #[inline(never)]
    fn insert(&mut self, place: Place, block: BlockId, status: Status) {
        let hash = place.hash(block.table().0);
        let name = PartName::of(block);
        let mut others: Vec<BlockId> = self.lone.in_part(hash, name).collect();
        if others.len() < FEW {
            self.lone.insert(block, status);
            return;
        }
        others.push(block);
        others.sort_unstable();
        let mut part = Part::new(name);
        for block in others {
            // Of all but the new one, the status is here.
            let status = self.lone.remove(block).unwrap_or(status);
            part.set(block.window().0, Status::UNKNOWN, status);
        }
        self.parts.insert_unique(hash, part, Part::hash);
        self.note_growth();
    }

    #[inline]
    fn note_growth(&mut self) {
        self.grown += WORST_BLOCK;
        if self.grown > self.measured / 2 + UNMEASURED {
            self.measure();
        }
    }

    /// Measures the bitmaps.
    fn measure(&mut self) {
        let older = self.parts.iter().filter_map(|part| part.older.as_ref());
        self.measured = older.map(|older| older.heap_bytes()).sum();
        self.grown = 0;
    }

    /// Bytes that this holds, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.lone.heap_bytes() + self.parts.allocation_size() + self.measured + self.grown
    }

    /// Moves what belongs to page `page` among `pages` out of here.
    pub(crate) fn split_off(&mut self, page: usize, pages: usize) -> Self {
        let moves = |place: Place| place.page(pages) == page;
        let mut other = Self {
            lone: self.lone.split_off(|block| moves(Place::of(block))),
            ..Self::default()
        };
        for part in self.parts.extract_if(|part| moves(part.place())) {
            other.parts.insert_unique(part.hash(), part, Part::hash);
        }
        self.parts.shrink_to_fit(Part::hash);
        self.measure();
        other.measure();
        other
    }

    /// The known blocks from `first` to `last`, in no order.
    pub(crate) fn known_in(&self, first: BlockId, last: BlockId) -> impl Iterator<Item = BlockId> {
        let lone = self.lone.iter().map(|(block, _)| block);
        let parts = self.parts.iter().flat_map(Part::known);
        lone.chain(parts)
            .filter(move |&block| first <= block && block <= last)
    }

    /// Gives back memory: long runs of equal blocks become run containers.
    pub(crate) fn compact(&mut self) {
        for older in self.parts.iter_mut().filter_map(|p| p.older.as_mut()) {
            for bitmap in older.all_mut() {
                bitmap.optimize();
            }
        }
        self.measure();
    }

    /// Appends what [`Self::decode`] reads, little-endian:
    /// ```text
    /// u32  lone blocks
    /// per lone block: u64 block, u8 status
    /// u32  parts
    /// per part: u32 table, u16 number, u16 group, four u64 planes, u8 1 if there are bitmaps, then these: clean,
    ///           dirty, new, deleted, marked more than once, in the portable format of Roaring
    /// ```
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.extend_from_slice(&(self.lone.len() as u32).to_le_bytes());
        for (block, status) in self.lone.iter() {
            out.extend_from_slice(&block.0.to_le_bytes());
            out.push(status.bits());
        }
        out.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for part in &self.parts {
            out.extend_from_slice(&part.name.table.to_le_bytes());
            out.extend_from_slice(&part.name.number.to_le_bytes());
            out.extend_from_slice(&part.group.to_le_bytes());
            for plane in part.planes {
                out.extend_from_slice(&plane.to_le_bytes());
            }
            out.push(u8::from(part.older.is_some()));
            if let Some(older) = &part.older {
                for bitmap in older.all() {
                    bitmap.serialize_into(&mut *out)?;
                }
            }
        }
        Ok(())
    }

    /// What [`Self::encode`] wrote; `None` if it did not write this.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut tables = Self::default();
        let lone = number::<4>(&mut rest).map(u32::from_le_bytes)? as usize;
        if lone > rest.len() / 9 {
            return None;
        }
        tables.lone = LoneBlocks::with_capacity(lone);
        for _ in 0..lone {
            let block = BlockId(u64::from_le_bytes(number(&mut rest)?));
            let status = Status::from_bits(number::<1>(&mut rest)?[0]);
            tables.lone.insert(block, status);
        }
        let parts = number::<4>(&mut rest).map(u32::from_le_bytes)? as usize;
        if parts > rest.len() / 41 {
            return None;
        }
        tables.parts.reserve(parts, Part::hash);
        for _ in 0..parts {
            let mut part = Part::new(PartName {
                table: u32::from_le_bytes(number(&mut rest)?),
                number: u16::from_le_bytes(number(&mut rest)?),
            });
            part.group = u16::from_le_bytes(number(&mut rest)?);
            for plane in &mut part.planes {
                *plane = u64::from_le_bytes(number(&mut rest)?);
            }
            if number::<1>(&mut rest)?[0] == 1 {
                let mut older = Box::<Bitmaps>::default();
                for bitmap in older.all_mut() {
                    *bitmap = RoaringBitmap::deserialize_from(&mut rest).ok()?;
                }
                part.older = Some(older);
            }
            tables.parts.insert_unique(part.hash(), part, Part::hash);
        }
        tables.measure();
        rest.is_empty().then_some(tables)
    }
}

/// The next `N` bytes.
fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (number, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn set(tables: &mut Tables, block: BlockId, to: Status) -> Status {
        let changed = tables.change(Place::of(block), block, |_| Ok::<_, Infallible>(to));
        let Ok((from, _)) = changed;
        from
    }

    fn get(tables: &Tables, block: BlockId) -> Status {
        tables.get(Place::of(block), block)
    }

    fn block() -> impl Strategy<Value = BlockId> {
        let window = prop_oneof![
            0u64..200,
            65_400u64..65_700,
            any::<u32>().prop_map(u64::from)
        ];
        (0u64..20, window).prop_map(|(table, window)| BlockId(table << 32 | window))
    }

    fn status() -> impl Strategy<Value = Status> {
        (0u8..4, any::<bool>()).prop_map(|(state, remarked)| {
            Status::from_bits(state | 1 << 2 | u8::from(remarked) << 3)
        })
    }

    proptest! {
        #[test]
        fn every_status_is_kept_through_compacting_splitting_and_writing(
            changes in proptest::collection::vec((block(), status()), 1..800),
        ) {
            let mut tables = Tables::default();
            let mut model = BTreeMap::new();
            for &(block, to) in &changes {
                // A block stays known and remarked.
                let old: Status = model.get(&block).copied().unwrap_or_default();
                let to = Status::known(to.state(), to.is_remarked() || old.is_remarked());
                prop_assert_eq!(set(&mut tables, block, to), old);
                model.insert(block, to);
            }
            tables.compact();
            let other = tables.split_off(1, 2);
            let mut bytes = Vec::new();
            tables.encode(&mut bytes).unwrap();
            let tables = Tables::decode(&bytes).unwrap();
            for (&block, &status) in &model {
                let home = Place::of(block).page(2);
                let (here, there) = if home == 0 { (&tables, &other) } else { (&other, &tables) };
                prop_assert_eq!(get(here, block), status);
                prop_assert_eq!(get(there, block), Status::UNKNOWN);
            }
            let all = (BlockId(0), BlockId(u64::MAX));
            let mut known: Vec<_> = tables.known_in(all.0, all.1).chain(other.known_in(all.0, all.1)).collect();
            known.sort();
            prop_assert!(known.into_iter().eq(model.into_keys()));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), few in 0u8..3) {
            let mut bytes = bytes;
            if let Some(first) = bytes.get_mut(..4) {
                first.copy_from_slice(&[few, 0, 0, 0]);
            }
            let _ = Tables::decode(&bytes);
        }
    }

    #[test]
    fn blocks_in_order_cost_little() {
        let mut tables = Tables::default();
        for window in 0..65_536 {
            set(
                &mut tables,
                BlockId(window),
                Status::known(BlockState::Dirty, false),
            );
        }
        assert!(tables.heap_bytes() < 20_000, "{}", tables.heap_bytes());
        tables.compact();
        assert!(tables.heap_bytes() < 1_000, "{}", tables.heap_bytes());
    }
}
