//! Why a pass did not export everything.

use super::FailedBlock;
use bitmap::EngineError;
use repository::archive::ArchiveError;
use std::fmt;

/// Blocks that a pass left out; every other block is exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedBlocks {
    /// How many there are.
    pub count: u64,
    /// The first of them, with what went wrong; 16 at most.
    pub named: Vec<FailedBlock>,
}

/// So many failed blocks are told by name.
const MOST_NAMED: usize = 16;

impl FailedBlocks {
    pub(super) fn take_in(&mut self, failed: Vec<FailedBlock>) {
        self.count += failed.len() as u64;
        let room = MOST_NAMED.saturating_sub(self.named.len());
        self.named.extend(failed.into_iter().take(room));
    }
}

impl fmt::Display for FailedBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, failed) in self.named.iter().enumerate() {
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}{failed}")?;
        }
        match self.count.saturating_sub(self.named.len() as u64) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A pass that did not export everything. The cursor stands before the first block that is not safe.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The blocks can't be told.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An archive can't be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Some blocks are in no archive. All others are.
    #[error(
        "{} blocks are in no archive and come again with the next export, every other block is exported: {failed}{}",
        failed.count,
        ranges_beside(*ranges)
    )]
    Blocks {
        /// The blocks.
        failed: FailedBlocks,
        /// Of how many ranges, beside them, any block may have changed.
        ranges: usize,
    },
    /// A block can't be read for an estimate.
    #[error("block {block} can't be read: {problem}")]
    Read {
        /// The block.
        block: u64,
        /// The reader's words.
        problem: String,
    },
    /// No block can be read: whoever holds them does not answer.
    #[error(
        "no block can be read: {0}; the export ended, and the blocks come again with the next one"
    )]
    Source(String),
    /// No block could be read until the time of a batch was over.
    #[error("no block can be read: {0}")]
    Timeout(String),
    /// Of some ranges nobody knows which blocks changed.
    #[error(
        "everything that is known is exported, but of {count} ranges, the first from block {first} to {last}, any block may \
         have changed, also those that were never marked: list them, back them up whole, then acknowledge the list"
    )]
    Ranges {
        /// How many there are.
        count: usize,
        /// The first block of the first of them.
        first: u64,
        /// Its last.
        last: u64,
    },
    /// The host cancelled or stopped it.
    #[error("the export was cancelled")]
    Cancelled,
}

fn ranges_beside(ranges: usize) -> String {
    match ranges {
        0 => String::new(),
        _ => format!(
            ". Also, of {ranges} ranges any block may have changed: list them, back them up whole, then acknowledge the list"
        ),
    }
}
