//! The name of a part: 65 536 neighbouring windows of one table, whose states are kept together.

use crate::BlockId;

/// Names 65 536 windows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName {
    pub(crate) table: u32,
    pub(crate) number: u16,
}

impl PartName {
    /// The part that `block` is in.
    pub(crate) fn of(block: BlockId) -> Self {
        Self {
            table: block.table().0,
            number: (block.window().0 >> 16) as u16,
        }
    }
}
