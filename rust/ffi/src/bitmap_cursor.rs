//! `SBitmapCursor`: range queries page by page. Documented in `bitmap_engine.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`; a cursor is used by one thread at a time.
#![allow(clippy::missing_safety_doc)]

use crate::{
    bitmap_engine::engine_of,
    boundary::{Place, Places, boundary, coded},
    codes::Code,
    header::SBitmapEngine,
};
use bitmap::{BlockCursor, Engine, EngineError};
use std::ptr;

pub use crate::header::SBitmapCursor;

unsafe fn open(
    engine: *mut SBitmapEngine,
    cursor: *mut *mut SBitmapCursor,
    scan: impl FnOnce(&Engine) -> Result<BlockCursor, EngineError>,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(cursor) }?;
        place.store(ptr::null_mut());
        // SAFETY: the caller's promise.
        let engine = unsafe { engine_of(engine) }?;
        place.store(Box::into_raw(Box::new(scan(engine)?)).cast());
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_open_cursor_by_time(
    engine: *mut SBitmapEngine,
    start: i64,
    end: i64,
    cursor: *mut *mut SBitmapCursor,
) -> i32 {
    // SAFETY: passed on.
    unsafe { open(engine, cursor, |engine| engine.scan_by_time(start..=end)) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_open_cursor_by_wal(
    engine: *mut SBitmapEngine,
    start: u64,
    end: u64,
    cursor: *mut *mut SBitmapCursor,
) -> i32 {
    // SAFETY: passed on.
    unsafe { open(engine, cursor, |engine| engine.scan_by_wal(start..=end)) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_cursor_next(
    cursor: *mut SBitmapCursor,
    block_ids: *mut u64,
    max_count: usize,
    count: *mut usize,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let count = unsafe { Place::new(count) }?;
        count.store(0);
        // SAFETY: a live cursor is a `BlockCursor` in a box that no other thread uses now.
        let cursor = unsafe { cursor.cast::<BlockCursor>().as_mut() };
        let cursor = cursor.ok_or(Code::INVALID_PARAM)?;
        // SAFETY: the caller's promise.
        let places = unsafe { Places::new(block_ids, max_count) }?;
        if max_count == 0 {
            return Err(Code::INVALID_PARAM);
        }
        let page = cursor.next_page(max_count)?;
        count.store(places.fill(page.iter().map(|block| block.0)));
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_cursor_close(cursor: *mut SBitmapCursor) {
    boundary((), || {
        if !cursor.is_null() {
            // SAFETY: a live cursor is a `BlockCursor` in a box, and the caller gives it back.
            drop(unsafe { Box::from_raw(cursor.cast::<BlockCursor>()) });
        }
    });
}
