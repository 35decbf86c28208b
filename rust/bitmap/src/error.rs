//! What can go wrong. Every error names what, where, and what the caller can do about it.

use crate::{BlockId, StateTransitionError};
use std::io;
use std::path::{Path, PathBuf};

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The block's state does not allow the mark. Nothing was changed.
    #[error("block {block}: {source}; clear the block first")]
    InvalidTransition {
        /// The block.
        block: BlockId,
        /// From which state to which.
        source: StateTransitionError,
    },
    /// The block was never marked.
    #[error("block {0} was never marked")]
    BlockNotFound(BlockId),
    /// The block lies in a range whose records were damaged: it is DIRTY, and nothing else is known of it.
    #[error(
        "block {0} lies in a damaged range: treat it as DIRTY, copy it whole and acknowledge the damage"
    )]
    BlockDamaged(BlockId),
    /// The memory limit is reached and nothing more can go to disk. Nothing was changed.
    #[error(
        "the memory limit of {limit} bytes is reached ({used} bytes are used): raise the limit, enable persistence or clear blocks"
    )]
    MemoryFull {
        /// The limit in bytes.
        limit: u64,
        /// What is used, in bytes.
        used: u64,
    },
    /// Another process, or another engine of this one, has the path open.
    #[error("{} is in use by another engine: close it or choose another path", path.display())]
    Locked {
        /// The persistence path.
        path: PathBuf,
    },
    /// The files were written by a version of the engine this one does not know.
    #[error(
        "{} has format version {found}, this engine reads version {known}: use the engine that wrote it or an empty path",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version this engine reads and writes.
        known: u32,
    },
    /// A file changed under a running engine: its checksum does not match any more.
    #[error(
        "{} is damaged at byte {offset}: {what}; reopen the engine, it marks the damaged range dirty",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// The cursor failed before, so that it can't give all blocks any more.
    #[error("the cursor failed before: open a new one")]
    CursorFailed,
    /// The operating system refused.
    #[error("{action} {}: {source}; check space, permissions and the disk, then call again", path.display())]
    Io {
        /// What the engine was doing.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No list of damaged ranges came with this token.
    #[error(
        "no list of damaged ranges of this engine came with token {0}: list the ranges again, then acknowledge with the list's own"
    )]
    UnknownToken(u64),
    /// A part of the configuration is out of range.
    #[error("{what} is {value}: {allowed}")]
    InvalidConfig {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// Makes an error of what the operating system answered to `action` on `path`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_path_buf();
    move |source| EngineError::Io {
        action,
        path,
        source,
    }
}

/// A batch that stopped at a mark that could not be made. The marks before it are made.
#[derive(Debug, thiserror::Error)]
#[error("mark {applied} of the batch: {source}")]
pub struct BatchError {
    /// How many marks were made; the index of the one that was not.
    pub applied: usize,
    /// Why it was not made.
    pub source: EngineError,
}
