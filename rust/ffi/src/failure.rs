//! Why the last call of a thread failed, in words.

use crate::{boundary::coded, codes::Code};
use host::{coordinator::CoordinatorError, session::SessionError};
use ops::detect::FindError;
use plan::detect::DetectError;
use repository::archive::ArchiveError;
use std::{
    cell::RefCell,
    ffi::{CString, c_char},
};

thread_local! {
    static WORDS: RefCell<CString> = RefCell::default();
}

/// A code with the words for it.
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) words: String,
}

impl Failure {
    pub(crate) fn new(code: Code, words: impl std::fmt::Display) -> Self {
        Self {
            code,
            words: words.to_string(),
        }
    }

    pub(crate) fn param(words: impl std::fmt::Display) -> Self {
        Self::new(Code::INVALID_PARAM, words)
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        // SAFETY: the text of a code is static and ends with a NUL.
        let words = unsafe { std::ffi::CStr::from_ptr(crate::bitmap_strerror(code.0)) };
        Self::new(code, words.to_string_lossy())
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let code = match &error {
            SessionError::NoServer(_)
            | SessionError::Sql(_)
            | SessionError::Detect(FindError::DataDirs(_) | FindError::Sql(_)) => Code::SERVER,
            SessionError::Detect(FindError::Detect(DetectError::NotFound { .. })) => {
                Code::INVALID_PARAM
            }
            SessionError::Detect(_) | SessionError::Checkpoint(_) => Code::DETECT,
            SessionError::Export(_) => Code::EXPORT,
            SessionError::Chain(_) | SessionError::Restore(_) => Code::RESTORE,
            SessionError::NotIntact { .. } => Code::VERIFY,
            SessionError::Store(_) => Code::IO,
        };
        Self::new(code, error)
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let code = match &error {
            ArchiveError::Io { .. } => Code::IO,
            ArchiveError::Key { .. } | ArchiveError::WrongKey { .. } => Code::KEY,
            ArchiveError::Damaged { .. } => Code::ARCHIVE,
            ArchiveError::Block { .. } => Code::READ,
        };
        Self::new(code, error)
    }
}

impl From<CoordinatorError> for Failure {
    fn from(error: CoordinatorError) -> Self {
        match error {
            CoordinatorError::Archive(error) => error.into(),
            CoordinatorError::Engine(error) => {
                let words = error.to_string();
                Self::new(error.into(), words)
            }
            error @ CoordinatorError::Read { .. } => Self::new(Code::READ, error),
            error @ CoordinatorError::Timeout { .. } => Self::new(Code::TIMEOUT, error),
            error @ CoordinatorError::Ranges { .. } => Self::new(Code::BACKUP_INCOMPLETE, error),
            error @ CoordinatorError::Cancelled => Self::new(Code::CANCELLED, error),
        }
    }
}

/// Keeps the words of a call's failure, or that it had none.
pub(crate) fn remember<T>(result: Result<T, Failure>) -> Result<T, Code> {
    let (words, result) = match result {
        Ok(value) => (String::new(), Ok(value)),
        Err(failure) => (failure.words, Err(failure.code)),
    };
    // A NUL within would end the text early; C knows no better.
    let words = CString::new(words.replace('\0', " ")).unwrap_or_default();
    WORDS.with(|place| *place.borrow_mut() = words);
    result
}

/// [`coded`] for a body that fails with words.
pub(crate) fn explained(body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    coded(|| remember(body()))
}

/// The words of the thread's last failure; valid until the next [`remember`].
pub(crate) fn words() -> *const c_char {
    WORDS.with(|words| words.borrow().as_ptr())
}
