//! Blocks kept one by one, in buckets of one cache line: a lookup reads the bucket that the block's hash names, and the
//! next ones only where that was full once.

use crate::BlockId;
use crate::part_name::PartName;
use crate::place::Place;
use crate::status::Status;
use std::mem::size_of;

/// Blocks of a bucket.
const SLOTS: usize = 7;

/// Up to seven blocks.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    blocks: [u64; SLOTS],
    /// Four bits each.
    statuses: u32,
    len: u8,
    /// Was a block that belongs here put into a later bucket? It may have been taken out since.
    overflowed: bool,
}

impl Bucket {
    fn find(&self, block: BlockId) -> Option<usize> {
        let mut hits = 0;
        for (slot, &other) in self.blocks.iter().enumerate() {
            hits |= u32::from(other == block.0) << slot;
        }
        hits &= (1 << self.len) - 1;
        (hits != 0).then(|| hits.trailing_zeros() as usize)
    }

    fn status(&self, slot: usize) -> Status {
        Status::from_bits((self.statuses >> (slot * Status::BITS)) as u8)
    }

    fn set_status(&mut self, slot: usize, status: Status) {
        let shift = slot * Status::BITS;
        self.statuses &= !(0b1111 << shift);
        self.statuses |= u32::from(status.bits()) << shift;
    }

    fn push(&mut self, block: BlockId, status: Status) {
        let slot = usize::from(self.len);
        self.blocks[slot] = block.0;
        self.set_status(slot, status);
        self.len += 1;
    }

    fn remove(&mut self, slot: usize) {
        self.len -= 1;
        let last = usize::from(self.len);
        self.blocks[slot] = self.blocks[last];
        self.set_status(slot, self.status(last));
    }

    fn iter(&self) -> impl Iterator<Item = (BlockId, Status)> {
        let blocks = self.blocks.iter().take(usize::from(self.len));
        blocks
            .enumerate()
            .map(|(slot, &block)| (BlockId(block), self.status(slot)))
    }
}

/// A set of blocks and their states.
#[derive(Debug, Default)]
pub(crate) struct LoneBlocks {
    /// None, or a power of two.
    buckets: Vec<Bucket>,
    len: usize,
}

/// Where a block is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    bucket: usize,
    slot: usize,
}

fn hash_of(block: BlockId) -> u64 {
    Place::of(block).hash(block.table().0)
}

impl LoneBlocks {
    /// No blocks, and room for `blocks`.
    pub(crate) fn with_capacity(blocks: usize) -> Self {
        let mut lone = Self::default();
        lone.rebuild(blocks);
        lone
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// The buckets that a block of this hash may be in.
    #[inline]
    fn chain(&self, hash: u64) -> impl Iterator<Item = usize> {
        let mask = self.buckets.len().wrapping_sub(1);
        let mut next = (!self.buckets.is_empty()).then_some(hash as usize & mask);
        // A flag may be set although the block it was set for is gone: go round at most once.
        (0..self.buckets.len()).map_while(move |_| {
            let at = next?;
            next = self.buckets[at].overflowed.then_some((at + 1) & mask);
            Some(at)
        })
    }

    /// Where `block` is, whose hash is `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, block: BlockId) -> Option<Slot> {
        self.chain(hash).find_map(|bucket| {
            let slot = self.buckets[bucket].find(block)?;
            Some(Slot { bucket, slot })
        })
    }

    /// Brings the bucket that a hash names into the cache. What it returns means nothing.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u8 {
        let mask = self.buckets.len().wrapping_sub(1);
        let bucket = self.buckets.get(hash as usize & mask);
        bucket.map_or(0, |bucket| bucket.len)
    }

    pub(crate) fn status(&self, at: Slot) -> Status {
        self.buckets[at.bucket].status(at.slot)
    }

    pub(crate) fn set_status(&mut self, at: Slot, status: Status) {
        self.buckets[at.bucket].set_status(at.slot, status);
    }

    /// Adds a block that is not here.
    pub(crate) fn insert(&mut self, block: BlockId, status: Status) {
        if !Self::fits(self.len + 1, self.buckets.len()) {
            self.rebuild(self.len + 1);
        }
        self.insert_unchecked(block, status);
    }

    /// The blocks of the part `name`, all of which have the hash `hash`.
    pub(crate) fn in_part(&self, hash: u64, name: PartName) -> impl Iterator<Item = BlockId> {
        let blocks = self.chain(hash).flat_map(|at| self.buckets[at].iter());
        blocks
            .map(|(block, _)| block)
            .filter(move |&block| PartName::of(block) == name)
    }

    /// Takes `block` out.
    pub(crate) fn remove(&mut self, block: BlockId) -> Option<Status> {
        let at = self.find(hash_of(block), block)?;
        let status = self.status(at);
        self.buckets[at.bucket].remove(at.slot);
        self.len -= 1;
        if self.len * 8 < self.buckets.len() * SLOTS {
            self.rebuild(self.len);
        }
        Some(status)
    }

    /// Takes out the blocks for which `leaves` is true.
    pub(crate) fn split_off(&mut self, leaves: impl Fn(BlockId) -> bool) -> Self {
        let (leaving, staying): (Vec<_>, Vec<_>) =
            self.iter().partition(|&(block, _)| leaves(block));
        let [stay, leave] = [staying, leaving].map(|blocks| {
            let mut lone = Self::with_capacity(blocks.len());
            for (block, status) in blocks {
                lone.insert_unchecked(block, status);
            }
            lone
        });
        *self = stay;
        leave
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlockId, Status)> {
        self.buckets.iter().flat_map(Bucket::iter)
    }

    /// Are at most three quarters of the slots taken? Then one is free.
    fn fits(blocks: usize, buckets: usize) -> bool {
        blocks * 4 <= buckets * SLOTS * 3
    }

    fn insert_unchecked(&mut self, block: BlockId, status: Status) {
        let mask = self.buckets.len() - 1;
        let mut at = hash_of(block) as usize & mask;
        while usize::from(self.buckets[at].len) == SLOTS {
            self.buckets[at].overflowed = true;
            at = (at + 1) & mask;
        }
        self.buckets[at].push(block, status);
        self.len += 1;
    }

    /// Moves all blocks into as many buckets as `blocks` need.
    fn rebuild(&mut self, blocks: usize) {
        let mut wanted = usize::from(blocks > 0);
        while !Self::fits(blocks, wanted) {
            wanted *= 2;
        }
        let old = std::mem::take(self);
        self.buckets = vec![Bucket::default(); wanted];
        for (block, status) in old.iter() {
            self.insert_unchecked(block, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockState;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_bucket_fills_a_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn many_blocks_of_one_hash_are_found() {
        let mut lone = LoneBlocks::default();
        let block = |window: u64| BlockId(9 << 32 | window);
        for window in 0..100 {
            lone.insert(block(window), Status::known(BlockState::New, false));
        }
        let hash = hash_of(block(0));
        assert!((0..100).all(|window| lone.find(hash, block(window)).is_some()));
        assert!(lone.find(hash, block(100)).is_none());
        assert_eq!(lone.in_part(hash, PartName::of(block(0))).count(), 100);
    }

    proptest! {
        #[test]
        fn what_goes_in_and_out_is_as_in_a_map(
            changes in proptest::collection::vec((0u64..40, 0u64..9, 0u8..16, any::<bool>()), 0..600),
        ) {
            let mut lone = LoneBlocks::default();
            let mut model = BTreeMap::new();
            for &(table, window, bits, take) in &changes {
                let block = BlockId(table << 32 | window);
                let status = Status::from_bits(bits);
                let found = lone.find(hash_of(block), block);
                prop_assert_eq!(found.map(|at| lone.status(at)), model.get(&block).copied());
                match found {
                    Some(_) if take => prop_assert_eq!(lone.remove(block), model.remove(&block)),
                    Some(at) => lone.set_status(at, status),
                    None => lone.insert(block, status),
                }
                if !(take && found.is_some()) {
                    model.insert(block, status);
                }
                prop_assert_eq!(lone.len(), model.len());
            }
            let leaves = |block: BlockId| block.0 % 2 == 1;
            let other = lone.split_off(leaves);
            prop_assert!(other.iter().all(|(block, _)| leaves(block)));
            let all: BTreeMap<_, _> = lone.iter().chain(other.iter()).collect();
            prop_assert_eq!(all, model);
        }
    }
}
