//! Block states held in Roaring bitmaps, one per state other than CLEAN.

use crate::{BlockId, BlockState, Mark, StateTransitionError};
use roaring::RoaringTreemap;

/// The states of a set of blocks. A block that was never marked is CLEAN and costs nothing.
#[derive(Debug, Default, Clone)]
pub struct BlockStates {
    dirty: RoaringTreemap,
    new: RoaringTreemap,
    deleted: RoaringTreemap,
}

impl BlockStates {
    /// The state of `block`.
    pub fn get(&self, block: BlockId) -> BlockState {
        if self.dirty.contains(block.0) {
            BlockState::Dirty
        } else if self.new.contains(block.0) {
            BlockState::New
        } else if self.deleted.contains(block.0) {
            BlockState::Deleted
        } else {
            BlockState::Clean
        }
    }

    /// Applies `mark` to `block` and returns the state it has now. A refused mark changes nothing.
    ///
    /// ```
    /// use bitmap::{BlockId, BlockState, BlockStates, Mark};
    /// let mut states = BlockStates::default();
    /// assert_eq!(states.mark(BlockId(5), Mark::Dirty), Ok(BlockState::Dirty));
    /// assert_eq!(states.dirty_or_new().collect::<Vec<_>>(), [BlockId(5)]);
    /// ```
    pub fn mark(&mut self, block: BlockId, mark: Mark) -> Result<BlockState, StateTransitionError> {
        let from = self.get(block);
        let to = from.after(mark)?;
        if from != to {
            if let Some(bitmap) = self.bitmap(from) {
                bitmap.remove(block.0);
            }
            if let Some(bitmap) = self.bitmap(to) {
                bitmap.insert(block.0);
            }
        }
        Ok(to)
    }

    /// The blocks a backup has to copy, ascending.
    pub fn dirty_or_new(&self) -> impl Iterator<Item = BlockId> {
        (&self.dirty | &self.new).into_iter().map(BlockId)
    }

    fn bitmap(&mut self, state: BlockState) -> Option<&mut RoaringTreemap> {
        match state {
            BlockState::Clean => None,
            BlockState::Dirty => Some(&mut self.dirty),
            BlockState::New => Some(&mut self.new),
            BlockState::Deleted => Some(&mut self.deleted),
        }
    }
}
