//! Texts that C lends.

use crate::{codes::Code, failure::Failure};
use std::ffi::{CStr, c_char};

/// A text that C lent.
///
/// # Safety
/// `text` is NULL or ends with a NUL.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    let refuse = |problem: &str| Failure::new(Code::INVALID_PARAM, format!("{what} is {problem}"));
    if text.is_null() {
        return Err(refuse("NULL"));
    }
    // SAFETY: not NULL; the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok("") => Err(refuse("empty")),
        Ok(text) => Ok(text),
        Err(_) => Err(refuse("not UTF-8")),
    }
}

/// A text that C lent, or NULL.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn optional<'a>(
    given: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    match given.is_null() {
        true => Ok(None),
        // SAFETY: the caller's promise.
        false => unsafe { text(given, what) }.map(Some),
    }
}
