//! The rows of the engine's sorted runs: one record per block, one entry per block and index.
//!
//! A row is a fixed number of `u64` columns. Signed values are stored with the sign bit flipped, so that the
//! order of the stored values is the order of the values.

use crate::record::{MarkedAt, Timestamp, WalOffset};
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
    /// One row that says what two rows of the same key, `newer` and `older`, say together.
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

/// The flags and the state of a record, one small column. Earlier versions of the engine used bits 3 and 4 for the span
/// of keys that a mark may carry; they are written as 0 and ignored when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordKind(u8);

impl RecordKind {
    const STATE: u8 = 0b11;
    const MARK: u8 = 1 << 2;
    const REMARKED: u8 = 1 << 5;

    /// The kind that is stored as `column`.
    fn from_column(column: u64) -> Self {
        Self(column as u8 & (Self::STATE | Self::MARK | Self::REMARKED))
    }

    /// A mark that left the block in `state`. `remarked`: the block was marked before.
    pub(crate) fn mark(state: BlockState, remarked: bool) -> Self {
        Self(state as u8 | Self::MARK | if remarked { Self::REMARKED } else { 0 })
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

    pub(crate) fn is_remarked(self) -> bool {
        self.0 & Self::REMARKED != 0
    }

    /// Does a range query look for a block of this kind?
    pub(crate) fn is_indexed(self) -> bool {
        self.is_mark() && matches!(self.state(), BlockState::Dirty | BlockState::New)
    }

    fn with_remarked(self, remarked: bool) -> Self {
        Self(if remarked {
            self.0 | Self::REMARKED
        } else {
            self.0 & !Self::REMARKED
        })
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
}

impl Record {
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
            _ => NO_SPAN,
        }
    }

    fn from_columns(column: impl Fn(usize) -> u64) -> Self {
        Self {
            block: BlockId(column(0)),
            kind: RecordKind::from_column(column(1)),
            marked: MarkedAt {
                wal: WalOffset(column(2)),
                time: Timestamp(signed(column(3))),
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
        Self {
            kind: newer.kind.with_remarked(remarked),
            ..*newer
        }
    }
}

/// The last two columns of a record held a span of keys in earlier versions of the engine. The format keeps them; a
/// column that is constant costs nothing.
const NO_SPAN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(state: BlockState, wal: u64) -> Record {
        Record {
            block: BlockId(1),
            kind: RecordKind::mark(state, false),
            marked: MarkedAt::new(wal, -1),
        }
    }

    #[test]
    fn columns_sort_like_the_values_they_hold() {
        let values = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(values.windows(2).all(|w| ordered(w[0]) < ordered(w[1])));
        assert!(values.iter().all(|&v| signed(ordered(v)) == v));
    }

    #[test]
    fn the_newer_of_two_marks_counts_and_the_block_was_remarked() {
        let first = mark(BlockState::New, 1);
        let second = mark(BlockState::Dirty, 2);
        let folded = Record::fold(&second, &first);
        assert_eq!(folded.marked, second.marked);
        assert_eq!(folded.kind.state(), BlockState::Dirty);
        assert!(folded.kind.is_remarked());
    }

    #[test]
    fn the_span_in_a_record_of_an_earlier_version_is_ignored_and_not_written_again() {
        let dirty_first_marked_with_a_span = 0b01_1101;
        let earlier = [
            1,
            dirty_first_marked_with_a_span,
            7,
            ordered(-1),
            ordered(5),
            ordered(6),
        ];
        let read = Record::from_columns(|c| earlier[c]);
        assert_eq!(read, mark(BlockState::Dirty, 7));
        let written: Vec<u64> = (0..Record::COLUMNS).map(|c| read.column(c)).collect();
        assert_eq!(written, [1, 0b101, 7, ordered(-1), ordered(0), ordered(0)]);
    }

    #[test]
    fn a_clear_keeps_the_latest_mark() {
        let dirty = mark(BlockState::Dirty, 7);
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
