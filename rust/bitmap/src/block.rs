//! Block ids: `table ordinal << 32 | window number`.

use std::fmt;

/// A table's dense number inside one backup set, given by the set's catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableOrdinal(pub u32);

/// A time window's number. Window 2^31 holds key 0, so that numbers ascend with time on both sides of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowNumber(pub u32);

/// The 64-bit id of a block. Ids ascend by table, then by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl BlockId {
    /// The block of `table` in `window`.
    ///
    /// ```
    /// use bitmap::{BlockId, TableOrdinal, WindowNumber};
    /// let id = BlockId::new(TableOrdinal(2), WindowNumber(7));
    /// assert_eq!(id.0, (2 << 32) | 7);
    /// assert_eq!((id.table(), id.window()), (TableOrdinal(2), WindowNumber(7)));
    /// ```
    pub fn new(table: TableOrdinal, window: WindowNumber) -> Self {
        Self(u64::from(table.0) << 32 | u64::from(window.0))
    }

    /// The table's ordinal: the upper 32 bits.
    pub fn table(self) -> TableOrdinal {
        TableOrdinal((self.0 >> 32) as u32)
    }

    /// The window's number: the lower 32 bits.
    pub fn window(self) -> WindowNumber {
        WindowNumber(self.0 as u32)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
