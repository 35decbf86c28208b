//! `SEventInterceptor`: documented in `event_interceptor.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    bitmap_engine::engine_of,
    boundary::{Place, boundary, coded, lent},
    codes::Code,
    header::{
        self, EBlockEventType, EEventOverflow, SBitmapEngine, SBlockEvent, SCoverageGap,
        SEventInterceptorConfig, SStorageEngineConfig, SStorageEngineInterface, SStorageEvent,
        SStorageRange,
    },
    settings::environment,
};
use bitmap::{BlockId, Engine, MarkedAt};
use config::Program;
use events::{
    bitmap_sink::{BitmapSink, Callback, InterceptorGauges},
    intercept::{
        BlockEvent, EventKind, EventSink, InterceptError, Interceptor, InterceptorConfig,
        MOST_WORKERS, Overflow,
    },
};
use metrics::Source;
use parking_lot::{Mutex, MutexGuard};
use std::{
    ffi::{CStr, c_void},
    num::NonZeroUsize,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

pub use crate::header::SEventInterceptor;

/// What a `SEventInterceptor *` points to.
struct Handle {
    interceptor: Arc<Interceptor>,
    engine: Arc<Engine>,
    enabled: bool,
    storage: Mutex<Storage>,
    /// Held while the storage interception is installed or uninstalled: `storage` itself is never held while a host's
    /// function runs.
    installing: Mutex<()>,
    /// The interceptor is being destroyed by its callback: nobody waits for that one any more.
    is_leaving: AtomicBool,
    /// An event of the storage engine was not taken; the next sync says so.
    refused: AtomicBool,
    _gauges: Arc<dyn Source>,
}

/// The storage engine that events come from.
#[derive(Default, Clone, Copy)]
struct Storage {
    table: Option<Table>,
    installed: bool,
}

/// A table of the host, which lives as long as it is in use.
#[derive(Clone, Copy)]
struct Table(*const SStorageEngineInterface);

// SAFETY: tables are read only, and their functions may be called from any thread.
unsafe impl Send for Table {}

impl Table {
    fn get(&self) -> &SStorageEngineInterface {
        // SAFETY: `event_interceptor_set_storage_interface` was given a table that lives until it is replaced.
        unsafe { &*self.0 }
    }
}

/// The host's callback.
struct HostCallback {
    function: unsafe extern "C" fn(*const SBlockEvent, *mut c_void),
    user_data: *mut c_void,
}

// SAFETY: the header asks for a callback that may be called by several threads at once.
unsafe impl Send for HostCallback {}
// SAFETY: as above.
unsafe impl Sync for HostCallback {}

impl HostCallback {
    fn call(&self, event: &BlockEvent) {
        let event = SBlockEvent {
            event_type: match event.kind {
                EventKind::Create => header::EVENT_BLOCK_CREATE,
                EventKind::Update => header::EVENT_BLOCK_UPDATE,
                EventKind::Flush => header::EVENT_BLOCK_FLUSH,
                EventKind::Delete => header::EVENT_BLOCK_DELETE,
            },
            block_id: event.block,
            wal_offset: event.wal,
            timestamp: event.time,
            user_data: event.tag as *mut c_void,
        };
        // SAFETY: the header's contract for callbacks; the event lives for the call.
        unsafe { (self.function)(&raw const event, self.user_data) }
    }
}

impl From<InterceptError> for Code {
    fn from(error: InterceptError) -> Self {
        match error {
            InterceptError::NotRunning => Self::NOT_RUNNING,
            InterceptError::InCallback => Self::IN_CALLBACK,
            InterceptError::StillBusy { .. } => Self::TIMEOUT,
            InterceptError::NoThread(_) | InterceptError::GapIsOpen { .. } => Self::IO,
        }
    }
}

pub(crate) fn kind_of(event_type: u32) -> Result<EventKind, Code> {
    match event_type {
        header::EVENT_BLOCK_CREATE => Ok(EventKind::Create),
        header::EVENT_BLOCK_UPDATE => Ok(EventKind::Update),
        header::EVENT_BLOCK_FLUSH => Ok(EventKind::Flush),
        header::EVENT_BLOCK_DELETE => Ok(EventKind::Delete),
        _ => Err(Code::INVALID_PARAM),
    }
}

unsafe fn handle_of<'a>(interceptor: *const SEventInterceptor) -> Result<&'a Handle, Code> {
    // SAFETY: a live handle is a `Handle` in a box; the caller's promise.
    unsafe { lent(interceptor.cast::<Handle>()) }
}

/// Queues that hold more are a mistake, and their memory would be taken at once. As for `event_interceptor.buffer_size`.
const MOST_EVENTS: u32 = 1 << 24;

/// How many workers to start: what the caller says, or the settings, or as many as the machine suggests.
fn workers(
    wanted: u32,
    settings: &config::settings::EventInterceptor,
) -> Result<NonZeroUsize, Code> {
    if wanted as usize > MOST_WORKERS {
        return Err(Code::INVALID_PARAM);
    }
    let wanted = NonZeroUsize::new(wanted as usize);
    let configured = NonZeroUsize::new(settings.callback_threads as usize);
    Ok(wanted
        .or(configured)
        .unwrap_or_else(InterceptorConfig::default_workers))
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_init(
    config: *const SEventInterceptorConfig,
    engine: *mut SBitmapEngine,
) -> *mut SEventInterceptor {
    let init = || -> Result<*mut SEventInterceptor, Code> {
        if config.is_null() {
            return Err(Code::INVALID_PARAM);
        }
        // SAFETY: not NULL, and the caller's promise. C may have left any byte in the bool, so it is read as one.
        let (enabled, function, user_data, capacity, threads, engine) = unsafe {
            let enabled = ptr::addr_of!((*config).enable_interception);
            (
                enabled.cast::<u8>().read() != 0,
                (*config).callback,
                (*config).callback_user_data,
                (*config).event_buffer_size,
                (*config).callback_threads,
                Arc::clone(engine_of(engine)?),
            )
        };
        if capacity > MOST_EVENTS {
            return Err(Code::INVALID_PARAM);
        }
        let settings = environment(Program::Library).map_err(|failure| failure.code)?;
        let settings = settings.event_interceptor;
        let callback = function.map(|function| {
            let callback = HostCallback {
                function,
                user_data,
            };
            Box::new(move |event: &BlockEvent| callback.call(event)) as Callback
        });
        let sink: Arc<dyn EventSink> = Arc::new(BitmapSink::new(Arc::clone(&engine), callback));
        let config = InterceptorConfig {
            capacity: NonZeroUsize::new(capacity as usize)
                .or(NonZeroUsize::new(settings.buffer_size as usize))
                .unwrap_or(NonZeroUsize::MIN),
            workers: workers(threads, &settings)?,
        };
        let interceptor = Arc::new(Interceptor::new(config, sink));
        let gauges: Arc<dyn Source> = Arc::new(InterceptorGauges(Arc::downgrade(&interceptor)));
        metrics::global().register(&gauges);
        let handle = Handle {
            interceptor,
            engine,
            enabled: enabled && settings.enable,
            storage: Mutex::default(),
            installing: Mutex::default(),
            is_leaving: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            _gauges: gauges,
        };
        Ok(Box::into_raw(Box::new(handle)).cast())
    };
    boundary(ptr::null_mut(), || init().unwrap_or(ptr::null_mut()))
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_destroy(interceptor: *mut SEventInterceptor) {
    boundary((), || {
        // SAFETY: the caller's promise.
        let Ok(handle) = (unsafe { handle_of(interceptor) }) else {
            return;
        };
        if handle.interceptor.is_own_worker() {
            // A storage engine must wait neither for room in the queue of this worker nor for its end.
            handle.is_leaving.store(true, SeqCst);
            handle.interceptor.abandon();
        }
        if let Err(code) = handle.uninstall() {
            // Nobody can try again, and the storage engine must not call what is gone: to destroy it uninstalls as well.
            tracing::error!(
                "the storage interception can't be uninstalled: code {}",
                code.0
            );
            handle.forget_storage();
        }
        match handle.interceptor.stop() {
            Ok(()) | Err(InterceptError::InCallback) => {}
            Err(error) => {
                tracing::error!("{error}; the interceptor is destroyed, and knows of them no more")
            }
        }
        // SAFETY: a live handle is a `Handle` in a box, the caller gives it back, and nobody is called with it any more.
        drop(unsafe { Box::from_raw(interceptor.cast::<Handle>()) });
    });
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_start(interceptor: *mut SEventInterceptor) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        Ok(unsafe { handle_of(interceptor) }?.interceptor.start()?)
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_stop(interceptor: *mut SEventInterceptor) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        Ok(unsafe { handle_of(interceptor) }?.interceptor.stop()?)
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_stop_timeout(
    interceptor: *mut SEventInterceptor,
    timeout_ms: u32,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        let patience = Duration::from_millis(timeout_ms.into());
        Ok(handle.interceptor.stop_within(patience)?)
    })
}

impl Handle {
    fn raise(&self, event: BlockEvent) -> Result<(), Code> {
        if !self.enabled {
            return Err(Code::NOT_RUNNING);
        }
        Ok(self.interceptor.raise(event)?)
    }
}

unsafe fn raise(
    interceptor: *mut SEventInterceptor,
    kind: Result<EventKind, Code>,
    block: u64,
    wal: u64,
    time: i64,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        handle.raise(BlockEvent {
            kind: kind?,
            block,
            wal,
            time,
            tag: 0,
        })
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_on_block_create(
    interceptor: *mut SEventInterceptor,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        raise(
            interceptor,
            Ok(EventKind::Create),
            block_id,
            wal_offset,
            timestamp,
        )
    }
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_on_block_update(
    interceptor: *mut SEventInterceptor,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        raise(
            interceptor,
            Ok(EventKind::Update),
            block_id,
            wal_offset,
            timestamp,
        )
    }
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_on_block_flush(
    interceptor: *mut SEventInterceptor,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        raise(
            interceptor,
            Ok(EventKind::Flush),
            block_id,
            wal_offset,
            timestamp,
        )
    }
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_on_block_delete(
    interceptor: *mut SEventInterceptor,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        raise(
            interceptor,
            Ok(EventKind::Delete),
            block_id,
            wal_offset,
            timestamp,
        )
    }
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_settle(
    interceptor: *mut SEventInterceptor,
    timeout_ms: u32,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        if handle.interceptor.is_own_worker() {
            return Err(Code::IN_CALLBACK);
        }
        let patience = Duration::from_millis(timeout_ms.into());
        let settled = handle.interceptor.settle(patience);
        settled.then_some(()).ok_or(Code::TIMEOUT)
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_get_stats(
    interceptor: *mut SEventInterceptor,
    processed: *mut u64,
    dropped: *mut u64,
) {
    boundary((), || {
        // SAFETY: the caller's promise.
        let Ok(handle) = (unsafe { handle_of(interceptor) }) else {
            return;
        };
        let stats = handle.interceptor.stats();
        for (pointer, count) in [(processed, stats.processed), (dropped, stats.dropped)] {
            // SAFETY: the caller's promise; NULL is skipped.
            if let Ok(place) = unsafe { Place::new(pointer) } {
                place.store(count);
            }
        }
    });
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_set_overflow(
    interceptor: *mut SEventInterceptor,
    overflow: EEventOverflow,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        handle.interceptor.set_overflow(match overflow {
            header::EVENT_OVERFLOW_BLOCK => Overflow::Block,
            header::EVENT_OVERFLOW_DROP => Overflow::Drop,
            _ => return Err(Code::INVALID_PARAM),
        });
        Ok(())
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_get_coverage_gap(
    interceptor: *mut SEventInterceptor,
    gap: *mut SCoverageGap,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let (handle, place) = unsafe { (handle_of(interceptor)?, Place::new(gap)?) };
        let gap = handle.interceptor.gap();
        let (first, last) = gap.hull().unwrap_or_default();
        place.store(SCoverageGap {
            events: gap.events,
            blocks: gap.blocks.len() as u64,
            first_block_id: first,
            last_block_id: last,
            wal_offset: gap.wal,
            timestamp: gap.time,
            is_range: gap.range.is_some(),
        });
        Ok(())
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_set_storage_interface(
    interceptor: *mut SEventInterceptor,
    storage_interface: *mut SStorageEngineInterface,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        let _installing = handle.installing()?;
        let mut storage = handle.storage.lock();
        if storage.installed {
            return Err(Code::ALREADY_RUNNING);
        }
        storage.table = (!storage_interface.is_null()).then_some(Table(storage_interface));
        Ok(())
    })
}

/// A code of a host's function.
fn host(code: i32) -> Result<(), Code> {
    if code == Code::SUCCESS.0 {
        Ok(())
    } else {
        Err(Code(code))
    }
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_install_storage_interception(
    interceptor: *mut SEventInterceptor,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        let _installing = handle.installing()?;
        let storage = *handle.storage.lock();
        if storage.installed {
            return Err(Code::ALREADY_RUNNING);
        }
        let table = storage.table.ok_or(Code::INVALID_PARAM)?;
        let functions = table.get();
        let (Some(init), Some(install), Some(is_supported)) = (
            functions.init,
            functions.install_interception,
            functions.is_supported,
        ) else {
            return Err(Code::INVALID_PARAM);
        };
        // SAFETY: the header's contract for tables.
        if !unsafe { is_supported() } {
            return Err(Code::NOT_SUPPORTED);
        }
        handle.interceptor.start()?;
        let config = SStorageEngineConfig {
            enable_interception: handle.enabled,
            event_callback: Some(on_storage_event),
            callback_user_data: interceptor.cast(),
            event_buffer_size: handle.interceptor.stats().capacity as u32,
            callback_threads: 1,
            range_callback: Some(on_storage_range),
            sync_callback: Some(on_storage_sync),
        };
        // Another interceptor that is given the same table in between would get this one's events.
        static INIT_AND_INSTALL: Mutex<()> = Mutex::new(());
        let _alone = INIT_AND_INSTALL.lock();
        // SAFETY: as above; the configuration is lent for the call. The handle lives until it is uninstalled.
        host(unsafe { init(&raw const config) })?;
        // SAFETY: as above.
        if let Err(code) = host(unsafe { install() }) {
            if let Some(destroy) = functions.destroy {
                // SAFETY: as above.
                unsafe { destroy() }
            }
            return Err(code);
        }
        handle.storage.lock().installed = true;
        Ok(())
    })
}

impl Handle {
    /// The right to install or uninstall. Either waits for the storage engine, which may wait for the workers, so none of
    /// these can have it.
    fn installing(&self) -> Result<MutexGuard<'_, ()>, Code> {
        if self.interceptor.is_own_worker() {
            return Err(Code::IN_CALLBACK);
        }
        Ok(self.installing.lock())
    }

    fn uninstall(&self) -> Result<(), Code> {
        let storage = *self.storage.lock();
        let Some(table) = storage.table.filter(|_| storage.installed) else {
            return Ok(());
        };
        if let Some(uninstall) = table.get().uninstall_interception {
            // SAFETY: the header's contract for tables.
            host(unsafe { uninstall() })?;
        }
        self.forget_storage();
        Ok(())
    }

    fn forget_storage(&self) {
        let storage = *self.storage.lock();
        if let Some(destroy) = storage.table.and_then(|table| table.get().destroy) {
            // SAFETY: the header's contract for tables.
            unsafe { destroy() }
        }
        self.storage.lock().installed = false;
    }

    /// Waits until everything that the storage engine told is in the bitmap.
    fn settle(&self) -> Result<(), Code> {
        let deadline = Instant::now() + SETTLE;
        while !self.interceptor.settle(LOOK_UP) {
            if self.is_leaving.load(SeqCst) || Instant::now() >= deadline {
                return Err(Code::TIMEOUT);
            }
        }
        Ok(())
    }
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_uninstall_storage_interception(
    interceptor: *mut SEventInterceptor,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        let _installing = handle.installing()?;
        handle.uninstall()
    })
}

/// See `event_interceptor.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn event_interceptor_trigger_test_event(
    interceptor: *mut SEventInterceptor,
    event_type: EBlockEventType,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle_of(interceptor) }?;
        let kind = kind_of(event_type)?;
        let storage = *handle.storage.lock();
        let trigger = storage
            .table
            .filter(|_| storage.installed)
            .and_then(|table| table.get().trigger_event);
        if !handle.enabled || !handle.interceptor.is_running() {
            return Err(Code::NOT_RUNNING);
        }
        let Some(trigger) = trigger else {
            return handle.raise(BlockEvent {
                kind,
                block: block_id,
                wal: wal_offset,
                time: timestamp,
                tag: 0,
            });
        };
        let event = SStorageEvent {
            event_type,
            block_id,
            wal_offset,
            timestamp,
            user_data: ptr::null_mut(),
        };
        // SAFETY: the header's contract for tables; the event is lent for the call.
        host(unsafe { trigger(&raw const event) })
    })
}

/// Takes an event of the storage engine.
unsafe extern "C" fn on_storage_event(event: *const SStorageEvent, user_data: *mut c_void) {
    boundary((), || {
        // SAFETY: the storage engine gives back the handle, which lives until it is uninstalled, and lends the event.
        let (Ok(handle), Ok(event)) = (unsafe { (handle_of(user_data.cast()), lent(event)) })
        else {
            return;
        };
        let raised = kind_of(event.event_type).and_then(|kind| {
            handle.raise(BlockEvent {
                kind,
                block: event.block_id,
                wal: event.wal_offset,
                time: event.timestamp,
                tag: event.user_data as usize,
            })
        });
        if raised.is_err() {
            handle.refused.store(true, SeqCst);
        }
    });
}

/// Takes a range of the storage engine: it can be marked at once, as it covers whatever is queued.
unsafe extern "C" fn on_storage_range(range: *const SStorageRange, user_data: *mut c_void) -> i32 {
    coded(|| {
        // SAFETY: as in `on_storage_event`.
        let (handle, range) = unsafe { (handle_of(user_data.cast())?, lent(range)?) };
        let why = if range.reason.is_null() {
            "a range may have changed".into()
        } else {
            // SAFETY: the storage engine lends a text that ends with a NUL.
            unsafe { CStr::from_ptr(range.reason) }.to_string_lossy()
        };
        // What is queued for blocks of the range goes first, so that no older FLUSH comes after it.
        handle.settle()?;
        let marked = MarkedAt::new(range.wal_offset, range.timestamp);
        let (first, last) = (BlockId(range.first_block_id), BlockId(range.last_block_id));
        handle.engine.mark_range(first, last, marked, &why)?;
        Ok(())
    })
}

/// How long a storage engine is kept waiting for what it told to be in the bitmap.
const SETTLE: Duration = Duration::from_secs(10);
/// How often such a wait looks whether it still makes sense.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Is everything that the storage engine told in the bitmap, and on disk?
unsafe extern "C" fn on_storage_sync(user_data: *mut c_void) -> i32 {
    coded(|| {
        // SAFETY: as in `on_storage_event`.
        let handle = unsafe { handle_of(user_data.cast()) }?;
        if handle.refused.swap(false, SeqCst) {
            return Err(Code::NOT_RUNNING);
        }
        handle.settle()?;
        handle.engine.sync()?;
        Ok(())
    })
}
