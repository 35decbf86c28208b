//! Result codes, and the state rules as C sees them.

use crate::{
    boundary::boundary,
    header::{self, EBlockState},
};
use bitmap::{BlockState, EngineError, Mark};
use std::ffi::{CStr, c_char};

/// A result code of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) i32);

impl Code {
    pub(crate) const SUCCESS: Self = Self(header::ERR_SUCCESS);
    pub(crate) const INVALID_PARAM: Self = Self(header::ERR_INVALID_PARAM);
    pub(crate) const INVALID_STATE_TRANS: Self = Self(header::ERR_INVALID_STATE_TRANS);
    pub(crate) const BLOCK_NOT_FOUND: Self = Self(header::ERR_BLOCK_NOT_FOUND);
    pub(crate) const IO: Self = Self(header::ERR_IO);
    pub(crate) const NOT_RUNNING: Self = Self(header::ERR_NOT_RUNNING);
    pub(crate) const ALREADY_RUNNING: Self = Self(header::ERR_ALREADY_RUNNING);
    pub(crate) const IN_CALLBACK: Self = Self(header::ERR_IN_CALLBACK);
    pub(crate) const TIMEOUT: Self = Self(header::ERR_TIMEOUT);
    pub(crate) const QUEUE_FULL: Self = Self(header::ERR_QUEUE_FULL);
    pub(crate) const QUEUE_EMPTY: Self = Self(header::ERR_QUEUE_EMPTY);
    pub(crate) const CLOSED: Self = Self(header::ERR_CLOSED);
    pub(crate) const NOT_SUPPORTED: Self = Self(header::ERR_NOT_SUPPORTED);
    pub(crate) const EXISTS: Self = Self(header::ERR_EXISTS);
    pub(crate) const SERVER: Self = Self(header::ERR_SERVER);
    pub(crate) const INTERNAL: Self = Self(header::ERR_INTERNAL);
    pub(crate) const NOT_STARTED: Self = Self(header::ERR_NOT_STARTED);
    pub(crate) const CONFIG: Self = Self(header::ERR_CONFIG);
    pub(crate) const DETECT: Self = Self(header::ERR_DETECT);
    pub(crate) const EXPORT: Self = Self(header::ERR_EXPORT);
    pub(crate) const RESTORE: Self = Self(header::ERR_RESTORE);
    pub(crate) const VERIFY: Self = Self(header::ERR_VERIFY);
    pub(crate) const BACKUP_INCOMPLETE: Self = Self(header::ERR_BACKUP_INCOMPLETE);
    pub(crate) const NOT_DETECTED: Self = Self(header::ERR_NOT_DETECTED);
    pub(crate) const READ: Self = Self(header::ERR_READ);
    pub(crate) const CANCELLED: Self = Self(header::ERR_CANCELLED);
    pub(crate) const KEY: Self = Self(header::ERR_KEY);
    pub(crate) const ARCHIVE: Self = Self(header::ERR_ARCHIVE);
}

impl From<EngineError> for Code {
    fn from(error: EngineError) -> Self {
        Self(match error {
            EngineError::InvalidTransition { .. } => header::ERR_INVALID_STATE_TRANS,
            EngineError::BlockNotFound(_) => header::ERR_BLOCK_NOT_FOUND,
            EngineError::BlockDamaged(_) => header::ERR_BLOCK_DAMAGED,
            EngineError::MemoryFull { .. } => header::ERR_MEMORY_FULL,
            EngineError::Locked { .. } => header::ERR_LOCKED,
            EngineError::UnknownFormat { .. } => header::ERR_UNKNOWN_FORMAT,
            EngineError::Damaged { .. } => header::ERR_DAMAGED,
            EngineError::Io { .. } | EngineError::CursorFailed => header::ERR_IO,
            EngineError::InvalidConfig { .. } => header::ERR_INVALID_PARAM,
            _ => header::ERR_INTERNAL,
        })
    }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_strerror(code: i32) -> *const c_char {
    let text: &'static CStr = match code {
        0 => c"success",
        -1 => c"a parameter is NULL or out of range",
        -1001 => c"the block's state does not allow this mark: clear the block first",
        -1002 => c"the block was never marked",
        -1003 => c"the memory limit is reached: raise it, enable persistence or clear blocks",
        -1004 => c"the persistence path is in use by another engine: close it or choose another path",
        -1005 => c"a file could not be read or written: check space, permissions and the disk, then call again",
        -1006 => c"a file changed under the running engine: reopen it, the damaged range becomes dirty",
        -1007 => c"the files have a format this engine does not know: use the engine that wrote them",
        -1008 => c"the block's record was damaged on disk: copy the block whole and acknowledge the damage",
        -1020 => c"it is not running: start or install it first",
        -1021 => c"it is running already: stop or uninstall it first",
        -1022 => c"a callback can't do this to its own interceptor: do it from another thread",
        -1023 => c"the time is over",
        -1024 => c"the queue is full: take items from it, or wait",
        -1025 => c"the queue is empty",
        -1026 => c"the queue was closed",
        -1027 => c"the storage engine can't work here: check its configuration",
        -1028 => c"the name or directory is taken",
        -1100 => c"internal error: please report it",
        -1201 => c"not started: call start or init first",
        -1202 => c"a setting is wrong: the error text names it",
        -1203 => c"the server or its client library can't be reached or refused: the error text says why",
        -1204 => c"what changed could not be told: nothing was exported, correct the cause and detect again",
        -1205 => c"the rows could not be exported: what is there is no backup, correct the cause and export again",
        -1206 => c"the restore failed: the target is not what was backed up, correct the cause and run it again",
        -1207 => c"what was written is not intact: it does not count as a backup, check the disk and run it again",
        -1208 => c"done, but something is missing or wider than it should be: the error text says what",
        -1209 => c"a block was not found by the last detection: detect again",
        -1210 => c"a block's data could not be read: the blocks come again, export again when the cause is gone",
        -1212 => c"cancelled: the blocks come again",
        -1213 => c"the key file can't be used or does not fit the archive: the error text says why",
        -1214 => c"the archive is damaged or cut off: take it from another copy, or export again",
        _ => c"unknown code",
    };
    text.as_ptr()
}

pub(crate) fn state(value: EBlockState) -> Option<BlockState> {
    match value {
        header::BLOCK_STATE_CLEAN => Some(BlockState::Clean),
        header::BLOCK_STATE_DIRTY => Some(BlockState::Dirty),
        header::BLOCK_STATE_NEW => Some(BlockState::New),
        header::BLOCK_STATE_DELETED => Some(BlockState::Deleted),
        _ => None,
    }
}

fn is_transition(from: BlockState, to: BlockState) -> bool {
    let mark = match to {
        BlockState::Clean => Mark::Clear,
        BlockState::Dirty => Mark::Dirty,
        BlockState::New => Mark::New,
        BlockState::Deleted => Mark::Deleted,
    };
    from.after(mark) == Ok(to)
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_engine_validate_state_transition(
    from: EBlockState,
    to: EBlockState,
) -> i32 {
    boundary(Code::INTERNAL, || match (state(from), state(to)) {
        (Some(from), Some(to)) if is_transition(from, to) => Code::SUCCESS,
        (Some(_), Some(_)) => Code::INVALID_STATE_TRANS,
        _ => Code::INVALID_PARAM,
    })
    .0
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_engine_get_state_transition_error(
    from: EBlockState,
    to: EBlockState,
) -> *const c_char {
    use BlockState::{Deleted, Dirty, New};
    let text: &'static CStr = boundary(c"internal error", || match (state(from), state(to)) {
        (None, _) | (_, None) => c"there is no such state",
        (Some(from), Some(to)) if is_transition(from, to) => c"the transition is allowed",
        (Some(New), Some(Dirty)) => c"a NEW block stays NEW when it is written",
        (Some(Dirty), Some(New)) => c"a DIRTY block exists already: it can't be created",
        (Some(Deleted), Some(_)) => c"a DELETED block must become CLEAN first",
        _ => c"the transition is not allowed",
    });
    text.as_ptr()
}
