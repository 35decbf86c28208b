//! `SBitmapEngine`: the functions of `bitmap_engine.h` that take an engine. Their documentation is in the header.
//!
//! # Safety
//! Every function trusts its caller in what the header asks for: a handle is NULL or live, a pointer is NULL or
//! points to as much as the header says.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, Places, boundary, coded, lent, lent_array},
    codes::Code,
    header::{
        EBlockState, SBitmapEngineConfig, SBlockMark, SBlockMetadata, SDamagedRange, SMemoryStats,
    },
    settings::environment,
};
use bitmap::{BlockId, Engine, EngineConfig, EngineError, Mark, MarkedAt};
use config::Program;
use events::bitmap_sink::EngineGauges;
use metrics::Source;
use std::{cell::Cell, ffi::CStr, ptr, sync::Arc};

pub use crate::header::SBitmapEngine;

/// The engine of a handle. Other handles that use the engine keep it alive.
pub(crate) type Handle = Arc<Engine>;

/// What a `SBitmapEngine *` points to.
struct Opened {
    engine: Handle,
    /// The metrics ask it as long as the handle lives.
    _gauges: Arc<dyn Source>,
}

/// The engine behind a handle.
///
/// # Safety
/// `engine` is NULL or a live handle.
pub(crate) unsafe fn engine_of<'a>(engine: *const SBitmapEngine) -> Result<&'a Handle, Code> {
    // SAFETY: handles are made of `Opened` by `into_handle`, and the caller promises that this one is live.
    unsafe { lent(engine.cast::<Opened>()) }.map(|opened| &opened.engine)
}

fn into_handle(engine: Engine) -> *mut SBitmapEngine {
    let engine = Arc::new(engine);
    let gauges: Arc<dyn Source> = Arc::new(EngineGauges(Arc::downgrade(&engine)));
    metrics::global().register(&gauges);
    Box::into_raw(Box::new(Opened {
        engine,
        _gauges: gauges,
    }))
    .cast()
}

/// # Safety
/// `config` is NULL or points to a configuration whose string is NULL or ends with a NUL.
unsafe fn config_of(config: *const SBitmapEngineConfig) -> Result<EngineConfig, Code> {
    if config.is_null() {
        return Err(Code::INVALID_PARAM);
    }
    // SAFETY: not NULL, and the caller promises the rest. C may have left any byte in the bool, so it is read as one.
    let (max_memory_mb, enabled, path) = unsafe {
        (
            (*config).max_memory_mb,
            ptr::addr_of!((*config).persistence_enabled)
                .cast::<u8>()
                .read()
                != 0,
            (*config).persistence_path,
        )
    };
    let persistence_path = if enabled {
        if path.is_null() {
            return Err(Code::INVALID_PARAM);
        }
        // SAFETY: not NULL, and the caller promises that it ends with a NUL.
        let path = unsafe { CStr::from_ptr(path) };
        Some(path.to_str().map_err(|_| Code::INVALID_PARAM)?.into())
    } else {
        None
    };
    Ok(EngineConfig {
        max_memory_mb,
        persistence_path,
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_engine_init() -> *mut SBitmapEngine {
    boundary(ptr::null_mut(), || {
        let Ok(settings) = environment(Program::Library) else {
            return ptr::null_mut();
        };
        let settings = settings.bitmap_engine;
        let config = EngineConfig {
            max_memory_mb: settings.memory_limit_mb,
            persistence_path: settings.state_dir().map(Into::into),
        };
        Engine::open(&config).map_or_else(
            |error| {
                tracing::error!("bitmap_engine_init: {error}");
                ptr::null_mut()
            },
            into_handle,
        )
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_init_with_config(
    config: *const SBitmapEngineConfig,
) -> *mut SBitmapEngine {
    let mut engine = ptr::null_mut();
    // SAFETY: passed on.
    unsafe { bitmap_engine_open(config, &raw mut engine) };
    engine
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_open(
    config: *const SBitmapEngineConfig,
    engine: *mut *mut SBitmapEngine,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(engine) }?;
        place.store(ptr::null_mut());
        // SAFETY: the caller's promise.
        let config = unsafe { config_of(config) }?;
        place.store(into_handle(Engine::open(&config)?));
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_destroy(engine: *mut SBitmapEngine) {
    boundary((), || {
        if !engine.is_null() {
            // SAFETY: a live handle is an `Opened` in a box, and the caller gives it back.
            let opened = unsafe { Box::from_raw(engine.cast::<Opened>()) };
            let Opened { engine, _gauges } = *opened;
            drop(_gauges);
            // Whoever else uses the engine now ends it, later: what was marked is written before this returns.
            if let Err(shared) = Arc::try_unwrap(engine) {
                let _ = shared.sync();
            }
        }
    });
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_sync(engine: *mut SBitmapEngine) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        unsafe { engine_of(engine) }?.sync()?;
        Ok(())
    })
}

unsafe fn mark(
    engine: *mut SBitmapEngine,
    block: u64,
    mark: Mark,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let engine = unsafe { engine_of(engine) }?;
        engine.mark(BlockId(block), mark, MarkedAt::new(wal_offset, timestamp))?;
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_mark_dirty(
    engine: *mut SBitmapEngine,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe { mark(engine, block_id, Mark::Dirty, wal_offset, timestamp) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_mark_new(
    engine: *mut SBitmapEngine,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe { mark(engine, block_id, Mark::New, wal_offset, timestamp) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_mark_deleted(
    engine: *mut SBitmapEngine,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe { mark(engine, block_id, Mark::Deleted, wal_offset, timestamp) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_clear_block(
    engine: *mut SBitmapEngine,
    block_id: u64,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        unsafe { engine_of(engine) }?.clear(BlockId(block_id))?;
        Ok(())
    })
}

fn batch(
    engine: &Engine,
    mark: Mark,
    marks: impl Iterator<Item = (BlockId, MarkedAt)>,
    applied: *mut usize,
) -> Result<(), Code> {
    let (count, result) = match engine.mark_batch(mark, marks) {
        Ok(count) => (count, Ok(())),
        Err(error) => (error.applied, Err(error.source.into())),
    };
    if !applied.is_null() {
        // SAFETY: not NULL, and the exported function's caller promises that it may be written.
        unsafe { applied.write(count) };
    }
    result
}

unsafe fn mark_batch(
    engine: *mut SBitmapEngine,
    mark: Mark,
    marks: *const SBlockMark,
    count: usize,
    applied: *mut usize,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let _ = unsafe { Place::new(applied) }.map(|applied| applied.store(0));
        // SAFETY: the caller's promise.
        let (engine, marks) = unsafe { (engine_of(engine)?, lent_array(marks, count)?) };
        let marks = marks.iter().map(|m| {
            (
                BlockId(m.block_id),
                MarkedAt::new(m.wal_offset, m.timestamp),
            )
        });
        batch(engine, mark, marks, applied)
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_mark_dirty_batch(
    engine: *mut SBitmapEngine,
    marks: *const SBlockMark,
    count: usize,
    applied: *mut usize,
) -> i32 {
    // SAFETY: passed on.
    unsafe { mark_batch(engine, Mark::Dirty, marks, count, applied) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_mark_new_batch(
    engine: *mut SBitmapEngine,
    marks: *const SBlockMark,
    count: usize,
    applied: *mut usize,
) -> i32 {
    // SAFETY: passed on.
    unsafe { mark_batch(engine, Mark::New, marks, count, applied) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_mark_deleted_batch(
    engine: *mut SBitmapEngine,
    marks: *const SBlockMark,
    count: usize,
    applied: *mut usize,
) -> i32 {
    // SAFETY: passed on.
    unsafe { mark_batch(engine, Mark::Deleted, marks, count, applied) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_clear_batch(
    engine: *mut SBitmapEngine,
    block_ids: *const u64,
    count: usize,
    applied: *mut usize,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let _ = unsafe { Place::new(applied) }.map(|applied| applied.store(0));
        // SAFETY: the caller's promise.
        let (engine, ids) = unsafe { (engine_of(engine)?, lent_array(block_ids, count)?) };
        let marks = ids.iter().map(|&id| (BlockId(id), MarkedAt::default()));
        batch(engine, Mark::Clear, marks, applied)
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_block_state(
    engine: *mut SBitmapEngine,
    block_id: u64,
    state: *mut EBlockState,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (engine, place) = unsafe { (engine_of(engine)?, Place::new(state)?) };
        place.store(engine.state(BlockId(block_id))? as EBlockState);
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_block_metadata(
    engine: *mut SBitmapEngine,
    block_id: u64,
    metadata: *mut SBlockMetadata,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (engine, place) = unsafe { (engine_of(engine)?, Place::new(metadata)?) };
        let record = engine.block(BlockId(block_id))?;
        place.store(SBlockMetadata {
            block_id,
            wal_offset: record.marked.wal.0,
            timestamp: record.marked.time.0,
            state: record.state as EBlockState,
        });
        Ok(())
    })
}

thread_local! {
    static LAST_QUERY: Cell<i32> = const { Cell::new(0) };
}

/// Runs a query that can only return a count, and remembers its code for this thread.
fn counted(query: impl FnOnce() -> Result<usize, Code>) -> u32 {
    let result = boundary(Err(Code::INTERNAL), query);
    // A thread that is ending has no last query any more.
    let _ = LAST_QUERY.try_with(|last| last.set(result.err().unwrap_or(Code::SUCCESS).0));
    result.map_or(0, |count| count as u32)
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_engine_last_query_error() -> i32 {
    LAST_QUERY.try_with(Cell::get).unwrap_or(0)
}

unsafe fn find(
    engine: *mut SBitmapEngine,
    block_ids: *mut u64,
    max_count: u32,
    query: impl FnOnce(&Engine, usize) -> Result<Vec<BlockId>, EngineError>,
) -> u32 {
    counted(|| {
        let limit = max_count as usize;
        // SAFETY: the caller's promise.
        let (engine, places) = unsafe { (engine_of(engine)?, Places::new(block_ids, limit)?) };
        let found = query(engine, limit)?;
        Ok(places.fill(found.iter().map(|block| block.0)))
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_dirty_blocks_by_time(
    engine: *mut SBitmapEngine,
    start: i64,
    end: i64,
    block_ids: *mut u64,
    max_count: u32,
) -> u32 {
    let query = |engine: &Engine, limit| engine.find_by_time(start..=end, limit);
    // SAFETY: passed on.
    unsafe { find(engine, block_ids, max_count, query) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_dirty_blocks_by_wal(
    engine: *mut SBitmapEngine,
    start: u64,
    end: u64,
    block_ids: *mut u64,
    max_count: u32,
) -> u32 {
    let query = |engine: &Engine, limit| engine.find_by_wal(start..=end, limit);
    // SAFETY: passed on.
    unsafe { find(engine, block_ids, max_count, query) }
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_stats(
    engine: *mut SBitmapEngine,
    total: *mut u64,
    dirty: *mut u64,
    fresh: *mut u64,
    deleted: *mut u64,
) {
    boundary((), || {
        // SAFETY: the caller's promise.
        let Ok(engine) = (unsafe { engine_of(engine) }) else {
            return;
        };
        let counts = engine.counts();
        for (pointer, count) in [
            (total, counts.total),
            (dirty, counts.dirty),
            (fresh, counts.new),
            (deleted, counts.deleted),
        ] {
            // SAFETY: the caller's promise; NULL is skipped.
            if let Ok(place) = unsafe { Place::new(pointer) } {
                place.store(count);
            }
        }
    });
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_memory_stats(
    engine: *mut SBitmapEngine,
    stats: *mut SMemoryStats,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (engine, place) = unsafe { (engine_of(engine)?, Place::new(stats)?) };
        let memory = engine.memory();
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        place.store(SMemoryStats {
            current_mb: mb(memory.current),
            peak_mb: mb(memory.peak),
            total_allocated_mb: mb(memory.allocated),
            total_freed_mb: mb(memory.freed),
            usage_percent: memory.percent(),
            allocation_count: memory.allocations,
            free_count: memory.frees,
        });
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_cleanup_memory(
    engine: *mut SBitmapEngine,
    target_memory_mb: u32,
) -> u64 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        unsafe { engine_of(engine) }.map_or(0, |engine| engine.cleanup_memory(target_memory_mb))
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_check_memory_usage(
    engine: *mut SBitmapEngine,
    usage_percent: *mut f64,
    is_warning: *mut bool,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (engine, percent, warning) = unsafe {
            (
                engine_of(engine)?,
                Place::new(usage_percent)?,
                Place::new(is_warning)?,
            )
        };
        let memory = engine.memory();
        percent.store(memory.percent());
        warning.store(memory.is_warning());
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_set_memory_limit(
    engine: *mut SBitmapEngine,
    memory_limit_mb: u32,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        unsafe { engine_of(engine) }?.set_memory_limit(memory_limit_mb)?;
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_memory_limit(engine: *mut SBitmapEngine) -> u32 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        unsafe { engine_of(engine) }.map_or(0, |engine| engine.memory_limit())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_get_damaged_ranges(
    engine: *mut SBitmapEngine,
    ranges: *mut SDamagedRange,
    max_count: usize,
    count: *mut usize,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (engine, places, count) = unsafe {
            (
                engine_of(engine)?,
                Places::new(ranges, max_count)?,
                Place::new(count)?,
            )
        };
        let (damage, all) = engine.damage_up_to(max_count);
        places.fill(damage.iter().map(|range| SDamagedRange {
            first_block_id: range.first.0,
            last_block_id: range.last.0,
        }));
        count.store(all);
        Ok(())
    })
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bitmap_engine_acknowledge_damage(engine: *mut SBitmapEngine) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        unsafe { engine_of(engine) }?.acknowledge_damage()?;
        Ok(())
    })
}
