//! The rows of the engine's sorted runs: one record per block, one entry per block and index.
//!
//! A row is a fixed number of `u64` columns. Signed values are stored with the sign bit flipped, so that the
//! order of the stored values is the order of the values.

use crate::record::{KeySpan, MarkedAt, Timestamp, WalOffset};
use crate::{BlockId, BlockState};
use std::fmt;

/// The order of rows in a run.
pub(crate) type Key = (u64, u64);

/// The most columns a row has.
pub(crate) const MAX_COLUMNS: usize = 6;

/// A row of a sorted run.
pub(crate) trait Row: Copy + fmt::Debug + Send + Sync + 'static {
    /// How many columns it has, at most [`MAX_COLUMNS`].
    const COLUMNS: usize;
    /// The value of column `c`.
    fn column(&self, c: usize) -> u64;
    /// The row with these columns.
    fn from_columns(column: impl Fn(usize) -> u64) -> Self;
    /// The row's place in the order. Rows with equal keys are folded.
    fn key(&self) -> Key;
    /// The one row that says what `newer` and `older`, of the same key, say together.
    fn fold(newer: &Self, older: &Self) -> Self;
}

/// `value` as a column that sorts like it.
pub(crate) fn ordered(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// The value that [`ordered`] stored.
pub(crate) fn signed(column: u64) -> i64 {
    (column ^ (1 << 63)) as i64
}

/// An index entry: this block was marked at this WAL position, or at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) block: BlockId,
}

impl Entry {
    #[inline]
    pub(crate) fn by_time(block: BlockId, marked: MarkedAt) -> Self {
        Self {
            at: ordered(marked.time.0),
            block,
        }
    }

    #[inline]
    pub(crate) fn by_wal(block: BlockId, marked: MarkedAt) -> Self {
        Self {
            at: marked.wal.0,
            block,
        }
    }
}

impl Row for Entry {
    const COLUMNS: usize = 2;

    fn column(&self, c: usize) -> u64 {
        if c == 0 { self.at } else { self.block.0 }
    }

    fn from_columns(column: impl Fn(usize) -> u64) -> Self {
        Self {
            at: column(0),
            block: BlockId(column(1)),
        }
    }

    fn key(&self) -> Key {
        (self.at, self.block.0)
    }

    fn fold(newer: &Self, _: &Self) -> Self {
        *newer
    }
}

/// The flags and the state of a record, one small column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordKind(u8);

impl RecordKind {
    const STATE: u8 = 0b11;
    const MARK: u8 = 1 << 2;
    const FRESH: u8 = 1 << 3;
    const SPAN: u8 = 1 << 4;
    const REMARKED: u8 = 1 << 5;

    /// A mark that left the block in `state`. `fresh`: the block was CLEAN before, so older spans don't count.
    pub(crate) fn mark(state: BlockState, fresh: bool, remarked: bool, span: bool) -> Self {
        Self(
            state as u8
                | Self::MARK
                | if fresh { Self::FRESH } else { 0 }
                | if remarked { Self::REMARKED } else { 0 }
                | if span { Self::SPAN } else { 0 },
        )
    }

    /// The block became CLEAN; its latest mark is in an older record.
    pub(crate) fn clear() -> Self {
        Self(BlockState::Clean as u8)
    }

    pub(crate) fn state(self) -> BlockState {
        match self.0 & Self::STATE {
            0 => BlockState::Clean,
            1 => BlockState::Dirty,
            2 => BlockState::New,
            _ => BlockState::Deleted,
        }
    }

    pub(crate) fn is_mark(self) -> bool {
        self.0 & Self::MARK != 0
    }

    pub(crate) fn is_fresh(self) -> bool {
        self.0 & Self::FRESH != 0
    }

    pub(crate) fn has_span(self) -> bool {
        self.0 & Self::SPAN != 0
    }

    pub(crate) fn is_remarked(self) -> bool {
        self.0 & Self::REMARKED != 0
    }

    /// Does a range query look for a block of this kind?
    pub(crate) fn is_indexed(self) -> bool {
        self.is_mark() && matches!(self.state(), BlockState::Dirty | BlockState::New)
    }

    fn with(self, flag: u8, on: bool) -> Self {
        Self(if on { self.0 | flag } else { self.0 & !flag })
    }

    fn with_state(self, state: BlockState) -> Self {
        Self(self.0 & !Self::STATE | state as u8)
    }
}

/// What one or more marks said about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) block: BlockId,
    pub(crate) kind: RecordKind,
    pub(crate) marked: MarkedAt,
    /// Meaningful where `kind.has_span()`.
    pub(crate) span: KeySpan,
}

impl Record {
    pub(crate) fn span(&self) -> Option<KeySpan> {
        self.kind.has_span().then_some(self.span)
    }

    pub(crate) fn time_entry(&self) -> Entry {
        Entry::by_time(self.block, self.marked)
    }

    pub(crate) fn wal_entry(&self) -> Entry {
        Entry::by_wal(self.block, self.marked)
    }
}

impl Row for Record {
    const COLUMNS: usize = 6;

    fn column(&self, c: usize) -> u64 {
        match c {
            0 => self.block.0,
            1 => u64::from(self.kind.0),
            2 => self.marked.wal.0,
            3 => ordered(self.marked.time.0),
            4 => ordered(self.span.first),
            _ => ordered(self.span.last),
        }
    }

    fn from_columns(column: impl Fn(usize) -> u64) -> Self {
        Self {
            block: BlockId(column(0)),
            kind: RecordKind(column(1) as u8),
            marked: MarkedAt {
                wal: WalOffset(column(2)),
                time: Timestamp(signed(column(3))),
            },
            span: KeySpan {
                first: signed(column(4)),
                last: signed(column(5)),
            },
        }
    }

    fn key(&self) -> Key {
        (self.block.0, 0)
    }

    fn fold(newer: &Self, older: &Self) -> Self {
        if !newer.kind.is_mark() {
            let kind = older.kind.with_state(newer.kind.state());
            return Self { kind, ..*older };
        }
        let remarked = newer.kind.is_remarked() || older.kind.is_remarked() || older.kind.is_mark();
        let mut kind = newer.kind.with(RecordKind::REMARKED, remarked);
        if newer.kind.is_fresh() || !older.kind.is_mark() {
            return Self { kind, ..*newer };
        }
        let both = newer.kind.has_span() && older.kind.has_span();
        kind = kind
            .with(RecordKind::FRESH, older.kind.is_fresh())
            .with(RecordKind::SPAN, both);
        let span = if both {
            newer.span.union(older.span)
        } else {
            NO_SPAN
        };
        Self {
            kind,
            span,
            ..*newer
        }
    }
}

/// The columns of a record without a span: constant, so they cost nothing.
pub(crate) const NO_SPAN: KeySpan = KeySpan { first: 0, last: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(state: BlockState, fresh: bool, wal: u64, span: Option<(i64, i64)>) -> Record {
        let span_set = span.is_some();
        let (first, last) = span.unwrap_or((0, 0));
        Record {
            block: BlockId(1),
            kind: RecordKind::mark(state, fresh, false, span_set),
            marked: MarkedAt::new(wal, -1),
            span: KeySpan { first, last },
        }
    }

    #[test]
    fn columns_sort_like_the_values_they_hold() {
        let values = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(values.windows(2).all(|w| ordered(w[0]) < ordered(w[1])));
        assert!(values.iter().all(|&v| signed(ordered(v)) == v));
    }

    #[test]
    fn spans_add_up_until_the_block_was_clean() {
        let first = mark(BlockState::Dirty, true, 1, Some((5, 6)));
        let second = mark(BlockState::Dirty, false, 2, Some((1, 2)));
        let folded = Record::fold(&second, &first);
        assert_eq!(folded.span(), Some(KeySpan { first: 1, last: 6 }));
        assert!(folded.kind.is_fresh() && folded.kind.is_remarked());
        let third = mark(BlockState::Dirty, true, 3, Some((9, 9)));
        assert_eq!(
            Record::fold(&third, &folded).span(),
            Some(KeySpan { first: 9, last: 9 })
        );
    }

    #[test]
    fn a_mark_without_span_makes_the_whole_block_changed() {
        let first = mark(BlockState::Dirty, true, 1, Some((5, 6)));
        let second = mark(BlockState::Dirty, false, 2, None);
        assert_eq!(Record::fold(&second, &first).span(), None);
    }

    #[test]
    fn a_clear_keeps_the_latest_mark() {
        let dirty = mark(BlockState::Dirty, true, 7, None);
        let clear = Record {
            kind: RecordKind::clear(),
            ..dirty
        };
        let folded = Record::fold(&clear, &dirty);
        assert_eq!(folded.kind.state(), BlockState::Clean);
        assert!(folded.kind.is_mark());
        assert_eq!(folded.marked.wal, WalOffset(7));
    }
}
