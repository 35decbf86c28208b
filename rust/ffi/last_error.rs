//! The text of a thread's last failure, for headers that offer one.

use crate::boundary::boundary;
use crate::codes::Code;
use std::cell::RefCell;
use std::ffi::{CString, c_char};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

fn remember(text: &str) {
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    // A thread that is ending has no last error any more.
    let _ = LAST.try_with(|last| last.replace(text));
}

/// An error with its text, which [`explained`] remembers.
pub(crate) struct Failure(pub(crate) Code, pub(crate) String);

impl Failure {
    pub(crate) fn new(code: Code, text: impl ToString) -> Self {
        Self(code, text.to_string())
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        // SAFETY: the text is static and ends with a NUL.
        let text = unsafe { std::ffi::CStr::from_ptr(crate::bitmap_strerror(code.0)) };
        Self(code, text.to_string_lossy().into_owned())
    }
}

/// [`crate::boundary::coded`] that remembers the text of a failure.
pub(crate) fn explained(body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match boundary(Err(Failure::from(Code::INTERNAL)), body) {
        Ok(()) => {
            remember("");
            Code::SUCCESS.0
        }
        Err(Failure(code, text)) => {
            boundary((), || remember(&text));
            code.0
        }
    }
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn storage_engine_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}
