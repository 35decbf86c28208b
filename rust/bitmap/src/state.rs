//! The four block states and the rules between them.

use std::fmt;

/// The state of a block. The numbers are those of `EBlockState` in the C API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockState {
    /// Nothing changed since the last backup.
    Clean = 0,
    /// Rows were written, overwritten or deleted since the last backup.
    Dirty = 1,
    /// Created since the last backup.
    New = 2,
    /// Deleted since the last backup; the deletion is not yet confirmed.
    Deleted = 3,
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "CLEAN",
            Self::Dirty => "DIRTY",
            Self::New => "NEW",
            Self::Deleted => "DELETED",
        })
    }
}

/// What a caller asks to do with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The block was modified.
    Dirty,
    /// The block was created.
    New,
    /// The block was deleted.
    Deleted,
    /// The block was flushed, backed up, or its deletion was confirmed.
    Clear,
}

/// A mark that the block's state does not allow. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {from} block can't become {to}")]
pub struct StateTransitionError {
    /// The block's state.
    pub from: BlockState,
    /// The state that the mark asked for.
    pub to: BlockState,
}

impl BlockState {
    /// The state after `mark`, or why it is not allowed.
    ///
    /// A mark that asks for the state the block already has is legal and refreshes it, and a write to a NEW
    /// block leaves it NEW.
    ///
    /// ```
    /// use bitmap::{BlockState, Mark};
    /// assert_eq!(BlockState::New.after(Mark::Dirty), Ok(BlockState::New));
    /// assert!(BlockState::Deleted.after(Mark::Dirty).is_err());
    /// ```
    pub fn after(self, mark: Mark) -> Result<Self, StateTransitionError> {
        use BlockState::{Clean, Deleted, Dirty, New};
        match (self, mark) {
            (_, Mark::Clear) => Ok(Clean),
            (_, Mark::Deleted) => Ok(Deleted),
            (Clean | Dirty, Mark::Dirty) => Ok(Dirty),
            (New, Mark::Dirty) | (Clean | New, Mark::New) => Ok(New),
            (Deleted, Mark::Dirty) => Err(StateTransitionError {
                from: self,
                to: Dirty,
            }),
            (Dirty | Deleted, Mark::New) => Err(StateTransitionError {
                from: self,
                to: New,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockState::*, Mark};

    #[test]
    fn every_pair_follows_the_table_of_the_specification() {
        let table = [
            (Clean, [Some(Dirty), Some(New), Some(Deleted), Some(Clean)]),
            (Dirty, [Some(Dirty), None, Some(Deleted), Some(Clean)]),
            (New, [Some(New), Some(New), Some(Deleted), Some(Clean)]),
            (Deleted, [None, None, Some(Deleted), Some(Clean)]),
        ];
        for (from, expected) in table {
            for (mark, to) in [Mark::Dirty, Mark::New, Mark::Deleted, Mark::Clear]
                .into_iter()
                .zip(expected)
            {
                assert_eq!(from.after(mark).ok(), to, "{from} after {mark:?}");
            }
        }
    }
}
