//! The storage engine `"tdengine"`: documented in `storage_engine_interface.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::boundary::{Place, boundary, lent};
use crate::codes::Code;
use crate::failure::{Failure, explained};
use crate::header::{
    SObservabilityMetrics, SStorageEngineConfig, SStorageEngineInterface, SStorageEngineStats,
    SStorageEvent, SStorageRange, STdengineStorageConfig,
};
use crate::observability::in_c;
use crate::storage_engine::text;
use capture::DataDirs;
use capture::intercept::{BlockEvent, EventKind};
use feed::block_rows::Numbering;
use feed::follow::{FollowConfig, Follower, Listener};
use metrics::Source;
use parking_lot::Mutex;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// What it is called.
pub(crate) const NAME: &CStr = c"tdengine";

/// The table, as C gets it. Nobody here writes to it.
struct Shared(*mut SStorageEngineInterface);

// SAFETY: the pointer is to memory that is never freed and never written here.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

pub(crate) fn table() -> *mut SStorageEngineInterface {
    static TABLE: LazyLock<Shared> = LazyLock::new(|| {
        Shared(Box::into_raw(Box::new(SStorageEngineInterface {
            init: Some(init),
            destroy: Some(destroy),
            install_interception: Some(install),
            uninstall_interception: Some(uninstall),
            trigger_event: Some(trigger),
            get_stats: Some(get_stats),
            get_detailed_stats: Some(get_detailed_stats),
            get_observability_metrics: Some(get_metrics),
            reset_stats: Some(reset_stats),
            is_supported: Some(is_supported),
            get_engine_name: Some(get_engine_name),
        })))
    });
    TABLE.0
}

/// The one storage engine of the process.
#[derive(Default)]
struct Engine {
    follow: Option<FollowConfig>,
    host: Option<Arc<Host>>,
    enabled: bool,
    running: Option<Running>,
}

struct Running {
    follower: Follower,
    _gauges: Arc<dyn Source>,
}

static ENGINE: LazyLock<Mutex<Engine>> = LazyLock::new(Mutex::default);

/// The host's callbacks, and what they were told.
struct Host {
    event: unsafe extern "C" fn(*const SStorageEvent, *mut c_void),
    range: Option<unsafe extern "C" fn(*const SStorageRange, *mut c_void) -> i32>,
    sync: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    user_data: *mut c_void,
    events: AtomicU64,
    ranges: AtomicU64,
}

// SAFETY: the header asks for callbacks that may be called by another thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    fn tell(&self, event: &SStorageEvent) {
        // SAFETY: the header's contract for callbacks; the event is lent for the call.
        unsafe { (self.event)(event, self.user_data) }
        self.events.fetch_add(1, Relaxed);
    }
}

impl Listener for Host {
    fn block(&self, event: BlockEvent) -> bool {
        self.tell(&SStorageEvent {
            event_type: match event.kind {
                EventKind::Create => crate::header::STORAGE_EVENT_BLOCK_CREATE,
                EventKind::Update => crate::header::STORAGE_EVENT_BLOCK_UPDATE,
                EventKind::Flush => crate::header::STORAGE_EVENT_BLOCK_FLUSH,
                EventKind::Delete => crate::header::STORAGE_EVENT_BLOCK_DELETE,
            },
            block_id: event.block,
            wal_offset: event.wal,
            timestamp: event.time,
            user_data: ptr::null_mut(),
        });
        true
    }

    fn range(&self, first: u64, last: u64, wal: u64, time: i64, why: &str) -> bool {
        let Some(callback) = self.range else {
            return false;
        };
        let reason = CString::new(why.replace('\0', "")).unwrap_or_default();
        let range = SStorageRange {
            first_block_id: first,
            last_block_id: last,
            wal_offset: wal,
            timestamp: time,
            reason: reason.as_ptr(),
        };
        // SAFETY: as in `tell`.
        let taken = unsafe { callback(&raw const range, self.user_data) == 0 };
        self.ranges.fetch_add(u64::from(taken), Relaxed);
        taken
    }

    fn settle(&self) -> bool {
        // SAFETY: as in `tell`.
        self.sync
            .is_none_or(|sync| unsafe { sync(self.user_data) == 0 })
    }
}

/// What the ids of the followed server's blocks are made of.
pub(crate) fn numbering() -> Result<Numbering, Failure> {
    let engine = ENGINE.lock();
    let running = engine.running.as_ref();
    let position = running.and_then(|running| running.follower.position());
    position
        .map(Numbering::from)
        .ok_or_else(|| Failure::new(Code::NOT_RUNNING, NOT_INSTALLED))
}

const NOT_INSTALLED: &str =
    "the \"tdengine\" interception is not installed: configure it, then install it";

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tdengine_storage_configure(config: *const STdengineStorageConfig) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let config = unsafe { lent(config) }?;
        // SAFETY: the caller's promise.
        let optional = |value: *const c_char, what| match value.is_null() {
            true => Ok(None),
            // SAFETY: the caller's promise.
            false => unsafe { text(value, what) }.map(|text| Some(text.to_owned())),
        };
        // SAFETY: the caller's promise.
        let data_dirs = unsafe { text(config.data_dirs, "data_dirs") }?;
        let from_environment = || {
            std::env::var("TD_DATABASE")
                .ok()
                .filter(|name| !name.is_empty())
        };
        let poll_ms = match config.poll_interval_ms {
            0 => 1000,
            given => given,
        };
        ENGINE.lock().follow = Some(FollowConfig {
            data_dirs: data_dirs.split(':').map(Into::into).collect(),
            database: optional(config.database, "database")?.or_else(from_environment),
            position: optional(config.position_path, "position_path")?.map(Into::into),
            poll: Duration::from_millis(poll_ms.into()),
        });
        Ok(())
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn tdengine_storage_catch_up(timeout_ms: u32) -> i32 {
    explained(|| {
        let waiting = {
            let engine = ENGINE.lock();
            let running = engine.running.as_ref();
            running
                .ok_or_else(|| Failure::new(Code::NOT_RUNNING, NOT_INSTALLED))?
                .follower
                .ask()
        };
        // Without the lock: another thread may uninstall, or a callback ask something.
        if waiting.wait(Duration::from_millis(timeout_ms.into())) {
            Ok(())
        } else {
            let text = format!(
                "not everything is told after {timeout_ms} ms: {}",
                waiting.last_error()
            );
            Err(Failure::new(Code::TIMEOUT, text))
        }
    })
}

unsafe extern "C" fn init(config: *const SStorageEngineConfig) -> i32 {
    explained(|| {
        if config.is_null() {
            return Err(Code::INVALID_PARAM.into());
        }
        // SAFETY: not NULL, and the caller's promise. C may have left any byte in the bool, so it is read as one.
        let (enabled, event, range, sync, user_data) = unsafe {
            let enabled = ptr::addr_of!((*config).enable_interception);
            (
                enabled.cast::<u8>().read() != 0,
                (*config).event_callback,
                (*config).range_callback,
                (*config).sync_callback,
                (*config).callback_user_data,
            )
        };
        let event =
            event.ok_or_else(|| Failure::new(Code::INVALID_PARAM, "the event callback is NULL"))?;
        if range.is_none() {
            let text = "the range callback is NULL: what it would be told could be missed";
            return Err(Failure::new(Code::INVALID_PARAM, text));
        }
        let mut engine = ENGINE.lock();
        if engine.running.is_some() {
            return Err(Code::ALREADY_RUNNING.into());
        }
        engine.enabled = enabled;
        engine.host = Some(Arc::new(Host {
            event,
            range,
            sync,
            user_data,
            events: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
        }));
        Ok(())
    })
}

unsafe extern "C" fn install() -> i32 {
    explained(|| {
        let mut engine = ENGINE.lock();
        if engine.running.is_some() {
            return Err(Code::ALREADY_RUNNING.into());
        }
        let no_init = || Failure::new(Code::INVALID_PARAM, "init was not called");
        let host = engine.host.clone().ok_or_else(no_init)?;
        if !engine.enabled {
            return Ok(());
        }
        let follow = engine.follow.clone().ok_or_else(|| {
            let text = "tdengine_storage_configure was not called: it says what to follow";
            Failure::new(Code::INVALID_PARAM, text)
        })?;
        let follower =
            Follower::start(follow, host).map_err(|error| Failure::new(Code::IO, error))?;
        let gauges = follower.gauges();
        metrics::global().register(&gauges);
        engine.running = Some(Running {
            follower,
            _gauges: gauges,
        });
        Ok(())
    })
}

/// Ends the follower. Without the lock: it is waited for, and its callbacks may ask for statistics.
fn end() {
    let running = ENGINE.lock().running.take();
    drop(running);
}

unsafe extern "C" fn uninstall() -> i32 {
    explained(|| {
        end();
        Ok(())
    })
}

unsafe extern "C" fn destroy() {
    boundary((), || {
        end();
        ENGINE.lock().host = None;
    });
}

unsafe extern "C" fn trigger(event: *const SStorageEvent) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let event = unsafe { lent(event) }?;
        if event.event_type >= crate::header::STORAGE_EVENT_MAX {
            let text = format!("there is no event type {}", event.event_type);
            return Err(Failure::new(Code::INVALID_PARAM, text));
        }
        let host = ENGINE.lock().host.clone();
        let host = host.ok_or_else(|| Failure::new(Code::NOT_RUNNING, "init was not called"))?;
        host.tell(event);
        Ok(())
    })
}

unsafe extern "C" fn get_stats(processed: *mut u64, dropped: *mut u64) -> i32 {
    explained(|| {
        let host = ENGINE.lock().host.clone();
        let told = host.map_or(0, |host| host.events.load(Relaxed));
        for (pointer, count) in [(processed, told), (dropped, 0)] {
            // SAFETY: the caller's promise; NULL is skipped.
            if let Ok(place) = unsafe { Place::new(pointer) } {
                place.store(count);
            }
        }
        Ok(())
    })
}

unsafe extern "C" fn get_detailed_stats(_engine: *mut c_void, stats: *mut c_void) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(stats.cast::<SStorageEngineStats>()) }?;
        let engine = ENGINE.lock();
        let host = engine.host.clone();
        let told = |count: fn(&Host) -> &AtomicU64| {
            host.as_ref().map_or(0, |host| count(host).load(Relaxed))
        };
        let follow = engine
            .running
            .as_ref()
            .map(|running| running.follower.stats());
        let running = follow.is_some();
        let follow = follow.unwrap_or_default();
        let mut last_error = [0; 256];
        let text = follow
            .last_error
            .as_bytes()
            .iter()
            .take(last_error.len() - 1);
        for (to, from) in last_error.iter_mut().zip(text) {
            *to = *from as c_char;
        }
        place.store(SStorageEngineStats {
            events: told(|host| &host.events),
            ranges: told(|host| &host.ranges),
            scans: follow.scans,
            failures: follow.failures,
            running,
            notified: follow.notified,
            last_error,
        });
        Ok(())
    })
}

unsafe extern "C" fn get_metrics(_engine: *mut c_void, metrics: *mut SObservabilityMetrics) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(metrics) }?;
        place.store(in_c(&metrics::global().update()));
        Ok(())
    })
}

unsafe extern "C" fn reset_stats(_engine: *mut c_void) -> i32 {
    explained(|| {
        if let Some(host) = &ENGINE.lock().host {
            host.events.store(0, Relaxed);
            host.ranges.store(0, Relaxed);
        }
        Ok(())
    })
}

unsafe extern "C" fn is_supported() -> bool {
    boundary(false, || {
        let dirs = ENGINE
            .lock()
            .follow
            .as_ref()
            .map(|follow| follow.data_dirs.clone());
        let vnodes = dirs.map(|dirs| DataDirs::new(dirs).and_then(|dirs| dirs.vnodes()));
        matches!(vnodes, Some(Ok(vnodes)) if !vnodes.is_empty())
    })
}

unsafe extern "C" fn get_engine_name() -> *const c_char {
    NAME.as_ptr()
}
