//! Changes → blocks of a table.

use super::{TableBlocks, WindowRange, WindowState};
use bitmap::{BlockState, WindowNumber};
use model::{Key, KeySpan, Version};
use plan::{BlockPlan, TablePlan, window::WindowWidth};

/// More windows of one span than this are a range.
const MOST_WINDOWS: u32 = 4096;

impl TableBlocks {
    /// Rows were written in a window.
    pub fn rows_in(&mut self, window: WindowNumber, version: Version) {
        let state = match self.state {
            BlockState::New => BlockState::New,
            _ => BlockState::Dirty,
        };
        self.put(window, state, version);
    }

    /// What a plan says of a table that stays, or is new; `blocks` are the plan's blocks of it.
    pub fn plan(
        &mut self,
        planned: &TablePlan,
        blocks: &[BlockPlan],
        width: WindowWidth,
        newest: Version,
    ) {
        for block in blocks {
            self.rows_in(block.id.window(), block.version);
        }
        // In a new table there was nothing to delete but what came with it.
        if self.state == BlockState::Dirty {
            for (span, version) in &planned.deletes {
                self.rows_deleted(*span, width, *version);
            }
            if planned.rows.is_none() {
                for span in &planned.spans {
                    self.may_differ(*span, width, newest);
                }
            }
        }
        self.settle();
    }

    /// All rows with these keys were deleted. [`TableBlocks::settle`] has to follow.
    pub fn rows_deleted(&mut self, span: KeySpan, width: WindowWidth, version: Version) {
        let (mut first, mut last) = (width.window_of(span.first), width.window_of(span.last));
        // At both ends there may be rows outside of the span.
        let begins_before = width.keys_of(first).first < span.first;
        let ends_after = width.keys_of(last).last > span.last;
        if begins_before {
            self.put(first, BlockState::Dirty, version);
        }
        if ends_after && (last != first || !begins_before) {
            self.put(last, BlockState::Dirty, version);
        }
        let whole = (|| {
            if begins_before {
                first = WindowNumber(first.0.checked_add(1)?);
            }
            if ends_after {
                last = WindowNumber(last.0.checked_sub(1)?);
            }
            (first <= last).then_some(())
        })();
        if whole.is_some() {
            self.windows(first, last, true, version);
        }
    }

    /// Anything with these keys may have changed. [`TableBlocks::settle`] has to follow.
    pub fn may_differ(&mut self, span: KeySpan, width: WindowWidth, version: Version) {
        let (first, last) = (width.window_of(span.first), width.window_of(span.last));
        self.windows(first, last, false, version);
    }

    fn windows(
        &mut self,
        first: WindowNumber,
        last: WindowNumber,
        emptied: bool,
        version: Version,
    ) {
        let range = WindowRange {
            first,
            last,
            emptied,
            version,
        };
        let more = last.0.checked_sub(first.0);
        if more.is_some_and(|more| more >= MOST_WINDOWS) {
            self.ranges.push(range);
        } else {
            // None where a damaged list has a span that ends before it begins.
            for window in first.0..=last.0 {
                self.put(WindowNumber(window), range.state(), version);
            }
        }
    }

    fn put(&mut self, window: WindowNumber, state: BlockState, version: Version) {
        self.blocks.push(WindowState {
            window,
            state,
            version,
        });
    }

    /// Brings blocks and ranges in order, each once. Where rows were written, and all of them deleted, it is not known which came
    /// first.
    pub fn settle(&mut self) {
        let ascending = self.blocks.is_sorted_by(|a, b| a.window < b.window);
        if !ascending {
            self.blocks.sort_by_key(|block| block.window);
            self.blocks.dedup_by(|next, block| {
                let same = next.window == block.window;
                if same {
                    if block.state == BlockState::Deleted {
                        block.state = next.state;
                    }
                    block.version = block.version.max(next.version);
                }
                same
            });
        }
        self.ranges.sort_unstable();
        self.ranges.dedup();
    }

    /// The keys of its blocks and ranges in a state, joined where windows touch; the first and last key of each piece.
    pub fn keys(&self, width: WindowWidth, state: BlockState) -> Vec<KeySpan> {
        let blocks = self.blocks.iter().filter(|block| block.state == state);
        let blocks = blocks.map(|block| width.keys_of(block.window));
        let ranges = self.ranges.iter().filter(|range| range.state() == state);
        let ranges = ranges.map(|range| KeySpan {
            first: width.keys_of(range.first).first,
            last: width.keys_of(range.last).last,
        });
        let mut spans: Vec<KeySpan> = blocks.chain(ranges).collect();
        spans.sort_unstable_by_key(|span| (span.first, span.last));
        spans.dedup_by(|next, span| {
            let touches = next.first <= Key(span.last.0.saturating_add(1));
            if touches {
                span.last = span.last.max(next.last);
            }
            touches
        });
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::VgId;

    const WIDTH: i64 = 10;

    fn width() -> WindowWidth {
        WindowWidth::from_ticks(WIDTH).unwrap()
    }

    fn span(first: i64, last: i64) -> KeySpan {
        KeySpan {
            first: Key(first),
            last: Key(last),
        }
    }

    /// Windows from that of key 0 on, with the letter of their states.
    fn shown(table: &TableBlocks) -> Vec<(i64, char)> {
        let middle = i64::from(width().window_of(Key(0)).0);
        let letter = |state| match state {
            BlockState::Dirty => 'd',
            BlockState::New => 'n',
            BlockState::Deleted => 'x',
            BlockState::Clean => '-',
        };
        let blocks = table.blocks.iter();
        blocks
            .map(|block| (i64::from(block.window.0) - middle, letter(block.state)))
            .collect()
    }

    fn deleted(span: KeySpan) -> TableBlocks {
        let mut table = TableBlocks::new(VgId(2), BlockState::Dirty);
        table.rows_deleted(span, width(), Version(4));
        table.settle();
        table
    }

    #[test]
    fn only_a_window_that_is_deleted_whole_is_empty() {
        assert_eq!(shown(&deleted(span(0, 9))), [(0, 'x')]);
        assert_eq!(shown(&deleted(span(1, 9))), [(0, 'd')]);
        assert_eq!(shown(&deleted(span(0, 8))), [(0, 'd')]);
        assert_eq!(shown(&deleted(span(3, 4))), [(0, 'd')]);
        assert_eq!(shown(&deleted(span(0, 10))), [(0, 'x'), (1, 'd')]);
        assert_eq!(shown(&deleted(span(5, 25))), [(0, 'd'), (1, 'x'), (2, 'd')]);
    }

    #[test]
    fn a_block_that_was_written_to_is_not_empty() {
        let mut table = deleted(span(0, 29));
        table.rows_in(width().window_of(Key(11)), Version(3));
        table.settle();
        assert_eq!(shown(&table), [(0, 'x'), (1, 'd'), (2, 'x')]);
        assert!(table.blocks.iter().all(|block| block.version == Version(4)));
    }

    #[test]
    fn very_many_windows_are_a_range() {
        let table = deleted(KeySpan::ALL);
        assert!(table.blocks.is_empty());
        let range = table.ranges[0];
        assert_eq!((range.first.0, range.last.0), (0, u32::MAX));
        assert!(range.emptied);
        assert_eq!(table.keys(width(), BlockState::Deleted), [KeySpan::ALL]);
        let open = deleted(span(i64::MIN, 4));
        assert_eq!(shown(&open), [(0, 'd')]);
        assert_eq!(open.ranges[0].last, width().window_of(Key(-1)));
    }

    #[test]
    fn keys_of_windows_that_touch_are_one_span() {
        let mut table = TableBlocks::new(VgId(2), BlockState::New);
        for key in [0, 10, 40] {
            table.rows_in(width().window_of(Key(key)), Version(1));
        }
        let keys = table.keys(width(), BlockState::New);
        assert_eq!(keys, [span(0, 19), span(40, 49)]);
    }
}
