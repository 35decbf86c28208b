//! Links that follow each other, put together: what differs between the state before the first and after the last.

use super::{Bitmaps, TableBlocks, WindowState};
use bitmap::BlockState;
use model::Uid;
use std::collections::btree_map::Entry;

impl Bitmaps {
    /// Adds what a later link changes.
    pub fn then(&mut self, later: Self) {
        for (uid, table) in later.tables {
            self.then_table(uid, table);
        }
    }

    fn then_table(&mut self, uid: Uid, later: TableBlocks) {
        let Entry::Occupied(mut before) = self.tables.entry(uid) else {
            self.tables.insert(uid, later);
            return;
        };
        match (before.get().state, later.state) {
            // It was not there before, and is not there after.
            (BlockState::New, BlockState::Deleted) => {
                before.remove();
            }
            (BlockState::Deleted, _) | (_, BlockState::Deleted) => *before.get_mut() = later,
            _ => before.get_mut().then(later),
        }
    }
}

impl TableBlocks {
    fn then(&mut self, later: Self) {
        let is_new = self.state == BlockState::New;
        self.vgroup = later.vgroup;
        let mut merged: Vec<WindowState> = Vec::new();
        let mut added = later.blocks.into_iter().peekable();
        for mut block in std::mem::take(&mut self.blocks) {
            while let Some(next) = added.next_if(|next| next.window < block.window) {
                merged.push(next);
            }
            if let Some(next) = added.next_if(|next| next.window == block.window) {
                block = next;
            } else if let Some(range) = later.ranges.iter().find(|r| r.contains(block.window)) {
                block.state = range.state();
                block.version = range.version;
            }
            merged.push(block);
        }
        merged.extend(added);
        let mut ranges = later.ranges;
        if is_new {
            // What was deleted in it is not there, and was not there before.
            merged.retain(|block| block.state != BlockState::Deleted);
            for block in &mut merged {
                block.state = BlockState::New;
            }
            ranges.retain(|range| !range.emptied);
        } else {
            for block in &mut merged {
                if block.state == BlockState::New {
                    block.state = BlockState::Dirty;
                }
            }
        }
        self.blocks = merged;
        self.ranges.extend(ranges);
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::WindowRange, *};
    use BlockState::{Deleted, Dirty, New};
    use bitmap::WindowNumber;
    use model::{Version, VgId};
    use plan::window::WindowWidth;

    fn link(uid: i64, state: BlockState, blocks: &[(u32, BlockState)]) -> Bitmaps {
        let mut bitmaps = Bitmaps::new(WindowWidth::from_ticks(10).unwrap());
        let mut table = TableBlocks::new(VgId(2), state);
        for (window, state) in blocks {
            table.blocks.push(WindowState {
                window: WindowNumber(*window),
                state: *state,
                version: Version(1),
            });
        }
        bitmaps.tables.insert(Uid(uid), table);
        bitmaps
    }

    fn emptied(mut link: Bitmaps, first: u32, last: u32, emptied: bool) -> Bitmaps {
        for table in link.tables.values_mut() {
            table.ranges.push(WindowRange {
                first: WindowNumber(first),
                last: WindowNumber(last),
                emptied,
                version: Version(2),
            });
        }
        link
    }

    /// The state of table 1 and of its blocks.
    fn after(links: &[Bitmaps]) -> Option<(BlockState, Vec<(u32, BlockState)>)> {
        let mut links = links.iter().cloned();
        let mut all = links.next().unwrap();
        links.for_each(|later| all.then(later));
        let table = all.tables.get(&Uid(1))?;
        let blocks = table.blocks.iter();
        let blocks = blocks.map(|block| (block.window.0, block.state));
        Some((table.state, blocks.collect()))
    }

    #[test]
    fn blocks_of_all_links_are_there_and_the_last_link_says_in_which_state() {
        let links = [
            link(1, Dirty, &[(1, Dirty), (2, Deleted), (3, Dirty)]),
            link(1, Dirty, &[(0, Dirty), (2, Dirty), (3, Deleted)]),
        ];
        let expected = vec![(0, Dirty), (1, Dirty), (2, Dirty), (3, Deleted)];
        assert_eq!(after(&links), Some((Dirty, expected)));
    }

    #[test]
    fn a_table_that_came_and_went_does_not_differ() {
        let links = [link(1, New, &[(1, New)]), link(1, Deleted, &[])];
        assert_eq!(after(&links), None);
        let links = [link(1, Dirty, &[(1, Dirty)]), link(1, Deleted, &[])];
        assert_eq!(after(&links), Some((Deleted, vec![])));
    }

    #[test]
    fn all_that_is_left_in_a_new_table_is_new() {
        let links = [
            link(1, New, &[(1, New), (2, New)]),
            link(1, Dirty, &[(2, Deleted), (3, Dirty), (4, Deleted)]),
        ];
        assert_eq!(after(&links), Some((New, vec![(1, New), (3, New)])));
    }

    #[test]
    fn a_range_holds_for_the_blocks_of_earlier_links() {
        let links = [
            link(1, Dirty, &[(1, Dirty), (9, Dirty)]),
            emptied(link(1, Dirty, &[(2, Dirty)]), 0, 5, true),
        ];
        let expected = vec![(1, Deleted), (2, Dirty), (9, Dirty)];
        assert_eq!(after(&links), Some((Dirty, expected)));
        let links = [
            link(1, New, &[(1, New), (9, New)]),
            emptied(link(1, Dirty, &[]), 0, 5, true),
        ];
        assert_eq!(after(&links), Some((New, vec![(9, New)])));
    }
}
