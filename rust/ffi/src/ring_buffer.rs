//! `SRingBuffer`: documented in `ring_buffer.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, boundary, coded, lent},
    codes::Code,
    header::{self, ERingBufferState, RingBufferFree},
};
use events::ring::{Ring, RingError};
use std::{ffi::c_void, ptr, time::Duration};

pub use crate::header::SRingBuffer;

/// What a `SRingBuffer *` points to. Items are the caller's pointers; here they are numbers.
type Handle = Ring<usize>;

impl From<RingError> for Code {
    fn from(error: RingError) -> Self {
        match error {
            RingError::Full => Self::QUEUE_FULL,
            RingError::Empty => Self::QUEUE_EMPTY,
            RingError::Closed => Self::CLOSED,
            RingError::Timeout => Self::TIMEOUT,
        }
    }
}

unsafe fn ring_of<'a>(ring_buffer: *const SRingBuffer) -> Result<&'a Handle, Code> {
    // SAFETY: a live handle is a `Handle` in a box; the caller's promise.
    unsafe { lent(ring_buffer.cast::<Handle>()) }
}

fn patience(timeout_ms: u32) -> Option<Duration> {
    (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()))
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub extern "C" fn ring_buffer_init(capacity: u32) -> *mut SRingBuffer {
    boundary(ptr::null_mut(), || {
        let ring = (capacity > 0).then(|| Handle::new(capacity as usize));
        match ring {
            Some(Ok(ring)) => Box::into_raw(Box::new(ring)).cast(),
            _ => ptr::null_mut(),
        }
    })
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_destroy(ring_buffer: *mut SRingBuffer) {
    boundary((), || {
        if !ring_buffer.is_null() {
            // SAFETY: a live handle is a `Handle` in a box, and the caller gives it back.
            drop(unsafe { Box::from_raw(ring_buffer.cast::<Handle>()) });
        }
    });
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_enqueue(
    ring_buffer: *mut SRingBuffer,
    item: *mut c_void,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        Ok(unsafe { ring_of(ring_buffer) }?.push(item as usize)?)
    })
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_try_enqueue(
    ring_buffer: *mut SRingBuffer,
    item: *mut c_void,
) -> i32 {
    // SAFETY: passed on.
    unsafe { ring_buffer_enqueue(ring_buffer, item) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_enqueue_blocking(
    ring_buffer: *mut SRingBuffer,
    item: *mut c_void,
    timeout_ms: u32,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let ring = unsafe { ring_of(ring_buffer) }?;
        Ok(ring.push_wait(item as usize, patience(timeout_ms))?)
    })
}

unsafe fn take(
    ring_buffer: *mut SRingBuffer,
    item: *mut *mut c_void,
    take: impl FnOnce(&Handle) -> Result<usize, RingError>,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (ring, place) = unsafe { (ring_of(ring_buffer)?, Place::new(item)?) };
        place.store(take(ring)? as *mut c_void);
        Ok(())
    })
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_dequeue(
    ring_buffer: *mut SRingBuffer,
    item: *mut *mut c_void,
) -> i32 {
    // SAFETY: passed on.
    unsafe { take(ring_buffer, item, Handle::pop) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_try_dequeue(
    ring_buffer: *mut SRingBuffer,
    item: *mut *mut c_void,
) -> i32 {
    // SAFETY: passed on.
    unsafe { take(ring_buffer, item, Handle::pop) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_dequeue_blocking(
    ring_buffer: *mut SRingBuffer,
    item: *mut *mut c_void,
    timeout_ms: u32,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        take(ring_buffer, item, |ring| {
            ring.pop_wait(patience(timeout_ms))
        })
    }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_peek(
    ring_buffer: *mut SRingBuffer,
    item: *mut *mut c_void,
) -> i32 {
    // SAFETY: passed on.
    unsafe { take(ring_buffer, item, Handle::peek) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_close(ring_buffer: *mut SRingBuffer) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        unsafe { ring_of(ring_buffer) }?.close();
        Ok(())
    })
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_clear(
    ring_buffer: *mut SRingBuffer,
    free_func: RingBufferFree,
) {
    boundary((), || {
        // SAFETY: the caller's promise.
        let Ok(ring) = (unsafe { ring_of(ring_buffer) }) else {
            return;
        };
        for item in ring.drain() {
            if let Some(free_func) = free_func
                && item != 0
            {
                // SAFETY: the caller gives a function that takes what it put into the queue.
                unsafe { free_func(item as *mut c_void) }
            }
        }
    });
}

/// What a queue says of itself; `none` for NULL.
unsafe fn say<T>(ring_buffer: *mut SRingBuffer, none: T, say: impl FnOnce(&Handle) -> T) -> T {
    // SAFETY: the caller's promise.
    match unsafe { ring_of(ring_buffer) } {
        Ok(ring) => say(ring),
        Err(_) => none,
    }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_get_state(ring_buffer: *mut SRingBuffer) -> ERingBufferState {
    let state = |ring: &Handle| match ring.len() {
        0 => header::RING_BUFFER_EMPTY,
        len if len >= ring.capacity() => header::RING_BUFFER_FULL,
        _ => header::RING_BUFFER_PARTIAL,
    };
    // SAFETY: passed on.
    unsafe { say(ring_buffer, header::RING_BUFFER_EMPTY, state) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_get_size(ring_buffer: *mut SRingBuffer) -> u32 {
    // SAFETY: passed on.
    unsafe { say(ring_buffer, 0, |ring| ring.len() as u32) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_get_capacity(ring_buffer: *mut SRingBuffer) -> u32 {
    // SAFETY: passed on.
    unsafe { say(ring_buffer, 0, |ring| ring.capacity() as u32) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_is_empty(ring_buffer: *mut SRingBuffer) -> bool {
    // SAFETY: passed on.
    unsafe { say(ring_buffer, false, Handle::is_empty) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_is_full(ring_buffer: *mut SRingBuffer) -> bool {
    // SAFETY: passed on.
    unsafe { say(ring_buffer, false, |ring| ring.len() >= ring.capacity()) }
}

/// See `ring_buffer.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ring_buffer_get_stats(
    ring_buffer: *mut SRingBuffer,
    enqueue_count: *mut u64,
    dequeue_count: *mut u64,
    overflow_count: *mut u64,
) {
    boundary((), || {
        // SAFETY: the caller's promise.
        let Ok(ring) = (unsafe { ring_of(ring_buffer) }) else {
            return;
        };
        let stats = ring.stats();
        for (pointer, count) in [
            (enqueue_count, stats.enqueued),
            (dequeue_count, stats.dequeued),
            (overflow_count, stats.overflows),
        ] {
            // SAFETY: the caller's promise; NULL is skipped.
            if let Ok(place) = unsafe { Place::new(pointer) } {
                place.store(count);
            }
        }
    });
}
