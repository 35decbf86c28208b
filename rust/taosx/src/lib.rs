//! `libtaosx_incremental_bitmap_plugin.so`: the incremental bitmap as a plugin of taosX, documented in
//! `taosx_plugin_interface.h`. One plugin a process; its life and state are in `plugin`.
//!
//! # Safety
//! Every function trusts its caller in what the header asks for: a pointer is NULL or points to as much as the header
//! says.
#![allow(clippy::missing_safety_doc)]

mod plugin;

use bitmap::BlockId;
use events::intercept::{BlockEvent, EventKind};
use plugin::{Failure, PLUGIN};
use std::{
    cell::RefCell,
    ffi::{CStr, CString, c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The types and codes of the header, as the C compiler sees them.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
pub mod header {
    include!(concat!(env!("OUT_DIR"), "/taosx_plugin_interface.rs"));
}

/// Each exported function has the type its header declares; otherwise this does not compile.
#[allow(dead_code, unused_assignments, missing_docs, clippy::all)]
mod agreement {
    use crate::header::*;
    include!(concat!(
        env!("OUT_DIR"),
        "/taosx_plugin_interface_functions.rs"
    ));
}

use header::{TaosX_BlockEvent, TaosX_Config, TaosX_PluginStats};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs a call: its code for C, its words for [`taosx_plugin_last_error`]. No panic leaves it.
fn call(body: impl FnOnce() -> Result<(), Failure>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|_| Err(Failure::internal("internal error: please report it")));
    let (code, words) = match result {
        Ok(()) => (header::TAOSX_PLUGIN_OK, String::new()),
        Err(failure) => {
            PLUGIN.count_error();
            (failure.code, failure.words)
        }
    };
    let words = CString::new(words.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending has no last error any more.
    let _ = LAST.try_with(|last| last.replace(words));
    code
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_get_name() -> *const c_char {
    c"incremental_bitmap".as_ptr()
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_get_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_get_capabilities() -> *const c_char {
    c"bitmap-index,block-events,persistence,dirty-blocks".as_ptr()
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_init() -> c_int {
    call(|| PLUGIN.init())
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_shutdown() -> c_int {
    call(|| PLUGIN.shutdown())
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn taosx_plugin_configure(config: *const TaosX_Config) -> c_int {
    call(|| {
        PLUGIN.must_be_initialized()?;
        // SAFETY: the caller's promise.
        let pairs = unsafe { pairs_of(config) }?;
        PLUGIN.configure(pairs)
    })
}

/// # Safety
/// `config` is NULL or as the header says.
unsafe fn pairs_of(config: *const TaosX_Config) -> Result<Vec<(String, String)>, Failure> {
    // SAFETY: the caller's promise.
    let config = unsafe { config.as_ref() }.ok_or(Failure::argument("config is NULL"))?;
    if config.count == 0 {
        return Ok(Vec::new());
    }
    if config.items.is_null() || config.count > MOST_SETTINGS {
        return Err(Failure::argument(
            "items is NULL, or count is no number of settings",
        ));
    }
    // SAFETY: not NULL, of a possible size, and the caller's promise.
    let items = unsafe { std::slice::from_raw_parts(config.items, config.count) };
    let text = |text: *const c_char| {
        if text.is_null() {
            return Err(Failure::argument("a key or value is NULL"));
        }
        // SAFETY: not NULL, and the caller promises that it ends with a NUL.
        let text = unsafe { CStr::from_ptr(text) }.to_str();
        text.map(str::to_owned)
            .map_err(|_| Failure::argument("a key or value is not UTF-8"))
    };
    items
        .iter()
        .map(|item| Ok((text(item.key)?, text(item.value)?)))
        .collect()
}

/// No configuration has more; what claims to is a wrong count.
const MOST_SETTINGS: usize = 1_000;

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_start() -> c_int {
    call(|| PLUGIN.start())
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosx_plugin_stop() -> c_int {
    call(|| PLUGIN.stop())
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn taosx_plugin_on_block_event(event: *const TaosX_BlockEvent) -> c_int {
    call(|| {
        PLUGIN.must_be_initialized()?;
        // SAFETY: the caller's promise.
        let event = unsafe { event.as_ref() }.ok_or(Failure::argument("event is NULL"))?;
        let kind = match event.event_type {
            header::TAOSX_EVENT_BLOCK_CREATE => EventKind::Create,
            header::TAOSX_EVENT_BLOCK_UPDATE => EventKind::Update,
            header::TAOSX_EVENT_BLOCK_FLUSH => EventKind::Flush,
            _ => return Err(Failure::argument("event_type is none of the three")),
        };
        let wal = u64::try_from(event.wal_offset)
            .map_err(|_| Failure::argument("wal_offset is negative"))?;
        PLUGIN.raise(BlockEvent {
            kind,
            block: event.block_id,
            wal,
            time: event.timestamp_ns,
            tag: 0,
        })
    })
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn taosx_plugin_get_stats(out_stats: *mut TaosX_PluginStats) -> c_int {
    call(|| {
        let stats = PLUGIN.stats()?;
        if out_stats.is_null() {
            return Err(Failure::argument("out_stats is NULL"));
        }
        // SAFETY: not NULL, and the caller promises that it may be written.
        unsafe { out_stats.write(stats) }
        Ok(())
    })
}

/// See `taosx_plugin_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn taosx_plugin_get_dirty_blocks(
    ids: *mut u64,
    max_count: usize,
    count: *mut usize,
) -> c_int {
    call(|| {
        PLUGIN.must_be_initialized()?;
        if count.is_null() || (ids.is_null() && max_count > 0) {
            return Err(Failure::argument("ids or count is NULL"));
        }
        let engine = PLUGIN.engine()?;
        let found: Vec<BlockId> = engine
            .find_by_wal(0..=u64::MAX, max_count)
            .map_err(Failure::internal)?;
        for (i, id) in found.iter().enumerate() {
            // SAFETY: at most `max_count` were asked for, and the caller promises room for them.
            unsafe { ids.add(i).write(id.0) }
        }
        let counts = engine.counts();
        // SAFETY: not NULL, and the caller promises that it may be written.
        unsafe { count.write((counts.dirty + counts.new) as usize) }
        PLUGIN
            .unnamed()
            .map_or(Ok(()), |why| Err(Failure::internal(why)))
    })
}
