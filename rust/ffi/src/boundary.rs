//! The one way from C into Rust: no panic leaves it, and every pointer is checked on the way in.

use crate::codes::Code;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; a panic, which would be a bug, becomes `on_panic`.
pub(crate) fn boundary<T>(on_panic: T, body: impl FnOnce() -> T) -> T {
    // Whatever a panic interrupts is behind locks without poisoning; the engine documents ERR_INTERNAL.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(on_panic)
}

/// [`boundary`] for functions that return a code.
pub(crate) fn coded(body: impl FnOnce() -> Result<(), Code>) -> i32 {
    let result = boundary(Err(Code::INTERNAL), body);
    result.map_or_else(|code| code.0, |()| Code::SUCCESS.0)
}

/// What C lent, for the time of the call.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that nobody changes during `'a`.
pub(crate) unsafe fn lent<'a, T>(pointer: *const T) -> Result<&'a T, Code> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or(Code::INVALID_PARAM)
}

/// An array that C lent, for the time of the call. NULL is an empty array if `count` is 0.
///
/// # Safety
/// `pointer` is NULL or points to `count` values that nobody changes during `'a`.
pub(crate) unsafe fn lent_array<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Code> {
    if count == 0 {
        return Ok(&[]);
    }
    let fits = count
        .checked_mul(size_of::<T>())
        .is_some_and(|bytes| bytes <= isize::MAX as usize);
    if pointer.is_null() || !pointer.is_aligned() || !fits {
        return Err(Code::INVALID_PARAM);
    }
    // SAFETY: not NULL, aligned and of a possible size; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// A place in C's memory to store a `T`, which may be uninitialised.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// # Safety
    /// `pointer` is NULL or may be written as a `T` until the call returns.
    pub(crate) unsafe fn new(pointer: *mut T) -> Result<Self, Code> {
        if pointer.is_null() {
            return Err(Code::INVALID_PARAM);
        }
        Ok(Self(pointer))
    }

    pub(crate) fn store(&self, value: T) {
        // SAFETY: `new` was promised a pointer that may be written.
        unsafe { self.0.write(value) }
    }
}

/// An array in C's memory to fill, which may be uninitialised.
pub(crate) struct Places<T> {
    first: *mut T,
    count: usize,
}

impl<T: Copy> Places<T> {
    /// # Safety
    /// `first` is NULL or `count` values may be written there until the call returns.
    pub(crate) unsafe fn new(first: *mut T, count: usize) -> Result<Self, Code> {
        if first.is_null() && count > 0 {
            return Err(Code::INVALID_PARAM);
        }
        Ok(Self { first, count })
    }

    /// Stores as many of `values` as there is room for; returns how many.
    pub(crate) fn fill(&self, values: impl IntoIterator<Item = T>) -> usize {
        let mut stored = 0;
        for value in values.into_iter().take(self.count) {
            // SAFETY: `stored` is below `count`, and `new` was promised room for `count` values.
            unsafe { self.first.add(stored).write(value) }
            stored += 1;
        }
        stored
    }
}
