//! Where a block's state is kept: in which shard, in which of its pages, and where in that.
//!
//! Neighbours share all of it: the same 65 536 windows, as they share a Roaring container, of 16 neighbouring tables,
//! which are often marked one after another.

use crate::BlockId;

/// How many shards an engine has: enough that a few threads seldom meet in one.
pub(crate) const SHARDS: usize = 64;

/// The place of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

impl Place {
    /// The place of `block`; the same for all its neighbours.
    #[inline]
    pub(crate) fn of(block: BlockId) -> Self {
        let tables = (block.0 >> 36).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let windows = (block.0 >> 16 & 0xFFFF).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mixed = tables ^ windows;
        Self((mixed ^ mixed >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The shard.
    #[inline]
    pub(crate) fn shard(self) -> usize {
        (self.0 >> 58) as usize
    }

    /// The page among the first `pages` of the shard, as linear hashing has it: when there is one page more, the blocks
    /// in it come from one other page.
    #[inline]
    pub(crate) fn page(self, pages: usize) -> usize {
        let hash = (self.0 >> 32) as usize;
        let twice = pages.next_power_of_two();
        let page = hash & (twice - 1);
        if page < pages {
            page
        } else {
            page & (twice / 2 - 1)
        }
    }

    /// The page whose blocks are divided when there are `pages` instead of one less.
    pub(crate) fn divided(pages: usize) -> usize {
        pages - 1 - pages.next_power_of_two() / 2
    }

    /// The hash inside the page of the 65 536 windows of `table` that this is the place of. Neighbouring tables lie
    /// beside each other, and differ in the seven highest bits, which a hash table compares first.
    #[inline]
    pub(crate) fn hash(self, table: u32) -> u64 {
        let tag = u64::from(table).wrapping_mul(0xD6E8_FEB8_6659_FD93) & (0x7F << 57);
        (self.0 & 0xFFFF_FFF0) | u64::from(table & 15) | tag
    }
}

/// The shard of a block.
pub(crate) fn shard_of(block: BlockId) -> usize {
    Place::of(block).shard()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_page_more_takes_its_blocks_from_one_page() {
        for pages in 2..70 {
            for n in 0..2000 {
                let place = Place::of(BlockId(n << 40));
                let (before, after) = (place.page(pages - 1), place.page(pages));
                assert!(after < pages);
                assert!(before == after || (before, after) == (Place::divided(pages), pages - 1));
            }
        }
    }

    #[test]
    fn neighbours_share_their_place_and_others_spread() {
        let block = |table: u64, window: u64| BlockId(table << 32 | window);
        assert_eq!(Place::of(block(16, 0)), Place::of(block(31, 65_535)));
        let dense = (0..1 << 12).map(|n| block(0, n << 16));
        let wide = (0..1 << 12).map(|n| block(n << 4, 0));
        for blocks in [dense.collect::<Vec<_>>(), wide.collect()] {
            let mut shards = [0usize; SHARDS];
            let mut pages = HashSet::new();
            for &block in &blocks {
                shards[shard_of(block)] += 1;
                pages.insert((shard_of(block), Place::of(block).page(64)));
            }
            assert!(shards.iter().all(|&n| (16..160).contains(&n)), "{shards:?}");
            assert!(pages.len() > 1200, "{} pages", pages.len());
        }
    }
}
