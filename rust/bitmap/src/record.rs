//! What a mark says about a block, and what the engine remembers of it.

use crate::{BlockId, BlockState};
use std::fmt;

/// A position in a write-ahead log. TDengine's WAL versions are such positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WalOffset(pub u64);

/// A moment in nanoseconds since 1970-01-01 UTC; negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Where and when a block was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MarkedAt {
    /// The WAL position of the change.
    pub wal: WalOffset,
    /// The time of the change.
    pub time: Timestamp,
}

impl MarkedAt {
    /// A mark at WAL position `wal` and time `time`.
    pub fn new(wal: u64, time: i64) -> Self {
        Self {
            wal: WalOffset(wal),
            time: Timestamp(time),
        }
    }
}

/// What the engine knows of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRecord {
    /// The block.
    pub block: BlockId,
    /// Its state now.
    pub state: BlockState,
    /// Its latest mark.
    pub marked: MarkedAt,
}

impl fmt::Display for WalOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
