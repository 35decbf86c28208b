//! What the storage engines that follow a server have in common: the table of functions, the host's callbacks, and
//! the one follower of the process. Documented in `storage_engine_interface.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, boundary, lent},
    codes::Code,
    failure::{Failure, explained},
    header::{
        SObservabilityMetrics, SStorageEngineConfig, SStorageEngineInterface, SStorageEngineStats,
        SStorageEvent, SStorageRange,
    },
    observability::in_c,
};
use events::intercept::{BlockEvent, EventKind};
use follow::files::{CatchUp, FollowStats, Listener};
use metrics::Source;
use parking_lot::{Condvar, Mutex, MutexGuard};
use plan::Numbering;
use std::{
    cell::Cell,
    ffi::{CStr, CString, c_char, c_void},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A storage engine that follows a server.
pub(crate) trait Kind: Sized + 'static {
    /// What to follow.
    type Config: Clone;

    /// What it is called.
    const NAME: &'static CStr;
    /// What was not done when there is nothing to follow.
    const NOT_CONFIGURED: &'static str;

    /// The one of the process.
    fn engine() -> &'static Engine<Self>;
    fn start(config: Self::Config, host: Arc<Host>) -> Result<Box<dyn Follow>, Failure>;
    /// Why it can't be followed, if it can't.
    fn is_supported(config: &Self::Config) -> Result<(), Failure>;
}

/// A follower, whatever it reads.
pub(crate) trait Follow: Send {
    fn ask(&self) -> CatchUp;
    fn stats(&self) -> FollowStats;
    fn gauges(&self) -> Arc<dyn Source>;
    fn numbering(&self) -> Option<Numbering>;
}

/// The one storage engine of its kind in the process.
pub(crate) struct Engine<K: Kind> {
    /// Who sets it up, installs or ends it waits for whoever does now: to install may mean to connect, which takes long.
    changing: Mutex<()>,
    /// Never locked for long.
    state: Mutex<State<K>>,
}

struct State<K: Kind> {
    follow: Option<K::Config>,
    host: Option<Arc<Host>>,
    enabled: bool,
    running: Option<Running<K>>,
}

impl<K: Kind> Engine<K> {
    pub(crate) fn new() -> Self {
        Self {
            changing: Mutex::new(()),
            state: Mutex::new(State {
                follow: None,
                host: None,
                enabled: false,
                running: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock()
    }
}

struct Running<K: Kind> {
    follower: Box<dyn Follow>,
    config: K::Config,
    _gauges: Arc<dyn Source>,
}

/// The table, as C gets it. Nobody here writes to it.
pub(crate) struct Table(pub(crate) *mut SStorageEngineInterface);

// SAFETY: the pointer is to memory that is never freed and never written here.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    pub(crate) fn of<K: Kind>() -> Self {
        Self(Box::into_raw(Box::new(SStorageEngineInterface {
            init: Some(init::<K>),
            destroy: Some(destroy::<K>),
            install_interception: Some(install::<K>),
            uninstall_interception: Some(uninstall::<K>),
            trigger_event: Some(trigger::<K>),
            get_stats: Some(get_stats::<K>),
            get_detailed_stats: Some(get_detailed_stats::<K>),
            get_observability_metrics: Some(get_metrics),
            reset_stats: Some(reset_stats::<K>),
            is_supported: Some(is_supported::<K>),
            get_engine_name: Some(get_engine_name::<K>),
        })))
    }
}

/// The host's callbacks, and what they were told.
pub(crate) struct Host {
    event: unsafe extern "C" fn(*const SStorageEvent, *mut c_void),
    range: Option<unsafe extern "C" fn(*const SStorageRange, *mut c_void) -> i32>,
    sync: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    user_data: *mut c_void,
    events: AtomicU64,
    ranges: AtomicU64,
    /// How many calls of `trigger_event` are under way.
    triggered: Mutex<u32>,
    less: Condvar,
}

thread_local! {
    /// Whether a callback of a host runs in this thread.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Calls a callback.
fn called<T>(callback: impl FnOnce() -> T) -> T {
    let before = IN_CALLBACK.replace(true);
    let result = callback();
    IN_CALLBACK.set(before);
    result
}

// SAFETY: the header asks for callbacks that may be called by another thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    fn tell(&self, event: &SStorageEvent) {
        // SAFETY: the header's contract for callbacks; the event is lent for the call.
        called(|| unsafe { (self.event)(event, self.user_data) });
        self.events.fetch_add(1, Relaxed);
    }

    /// Waits until no `trigger_event` tells anything any more; not in a callback, which may be one of those.
    fn settled(&self) {
        if !IN_CALLBACK.get() {
            self.less
                .wait_while(&mut self.triggered.lock(), |calls| *calls > 0);
        }
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
        let taken = called(|| unsafe { callback(&raw const range, self.user_data) == 0 });
        self.ranges.fetch_add(u64::from(taken), Relaxed);
        taken
    }

    fn settle(&self) -> bool {
        // SAFETY: as in `tell`.
        self.sync
            .is_none_or(|sync| called(|| unsafe { sync(self.user_data) == 0 }))
    }
}

/// What the next install follows.
pub(crate) fn configure<K: Kind>(config: K::Config) {
    K::engine().lock().follow = Some(config);
}

/// What is followed, and what the ids of its blocks are made of; `None` if nothing is followed.
pub(crate) fn followed<K: Kind>() -> Option<(Numbering, K::Config)> {
    let engine = K::engine().lock();
    let running = engine.running.as_ref()?;
    Some((running.follower.numbering()?, running.config.clone()))
}

/// Whether a server is followed, or about to be.
pub(crate) fn is_installed<K: Kind>() -> bool {
    K::engine().lock().running.is_some()
}

/// What the last configuration said: the next install follows it.
fn configured<K: Kind>() -> Option<K::Config> {
    K::engine().lock().follow.clone()
}

fn not_installed<K: Kind>() -> Failure {
    let text = format!(
        "the {:?} interception is not installed: configure it, then install it",
        K::NAME
    );
    Failure::new(Code::NOT_RUNNING, text)
}

/// Returns when everything that was logged before the call is told and safe.
pub(crate) fn catch_up<K: Kind>(timeout_ms: u32) -> Result<(), Failure> {
    let waiting = {
        let engine = K::engine().lock();
        let running = engine.running.as_ref();
        running.ok_or_else(not_installed::<K>)?.follower.ask()
    };
    // Without the lock: another thread may uninstall, or a callback ask something.
    if waiting.wait(Duration::from_millis(timeout_ms.into())) {
        return Ok(());
    }
    let text = format!(
        "not everything is told after {timeout_ms} ms: {}",
        waiting.last_error()
    );
    Err(Failure::new(Code::TIMEOUT, text))
}

unsafe extern "C" fn init<K: Kind>(config: *const SStorageEngineConfig) -> i32 {
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
        let _changing = K::engine().changing.lock();
        let mut engine = K::engine().lock();
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
            triggered: Mutex::new(0),
            less: Condvar::new(),
        }));
        Ok(())
    })
}

unsafe extern "C" fn install<K: Kind>() -> i32 {
    explained(|| {
        let _changing = K::engine().changing.lock();
        let (host, config) = {
            let engine = K::engine().lock();
            if engine.running.is_some() {
                return Err(Code::ALREADY_RUNNING.into());
            }
            let no_init = || Failure::new(Code::INVALID_PARAM, "init was not called");
            let host = engine.host.clone().ok_or_else(no_init)?;
            if !engine.enabled {
                return Ok(());
            }
            let not_configured = || Failure::new(Code::INVALID_PARAM, K::NOT_CONFIGURED);
            (host, engine.follow.clone().ok_or_else(not_configured)?)
        };
        // Without the lock of the state: others may ask for statistics.
        let follower = K::start(config.clone(), host)?;
        let gauges = follower.gauges();
        metrics::global().register(&gauges);
        K::engine().lock().running = Some(Running {
            follower,
            config,
            _gauges: gauges,
        });
        Ok(())
    })
}

/// Ends the follower and the calls of `trigger_event`. Without the lock: they are waited for, and their callbacks may
/// ask for statistics.
fn end<K: Kind>() {
    let (running, host) = {
        let _changing = K::engine().changing.lock();
        let mut engine = K::engine().lock();
        (engine.running.take(), engine.host.clone())
    };
    drop(running);
    if let Some(host) = host {
        host.settled();
    }
}

unsafe extern "C" fn uninstall<K: Kind>() -> i32 {
    explained(|| {
        end::<K>();
        Ok(())
    })
}

unsafe extern "C" fn destroy<K: Kind>() {
    boundary((), || {
        end::<K>();
        K::engine().lock().host = None;
    });
}

unsafe extern "C" fn trigger<K: Kind>(event: *const SStorageEvent) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let event = unsafe { lent(event) }?;
        if event.event_type >= crate::header::STORAGE_EVENT_MAX {
            let text = format!("there is no event type {}", event.event_type);
            return Err(Failure::new(Code::INVALID_PARAM, text));
        }
        let host = {
            let engine = K::engine().lock();
            // Once it is uninstalled, what the callbacks need may be gone.
            let host = engine.running.as_ref().and(engine.host.clone());
            let host = host.ok_or_else(not_installed::<K>)?;
            *host.triggered.lock() += 1;
            host
        };
        host.tell(event);
        *host.triggered.lock() -= 1;
        host.less.notify_all();
        Ok(())
    })
}

unsafe extern "C" fn get_stats<K: Kind>(processed: *mut u64, dropped: *mut u64) -> i32 {
    explained(|| {
        let host = K::engine().lock().host.clone();
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

unsafe extern "C" fn get_detailed_stats<K: Kind>(_engine: *mut c_void, stats: *mut c_void) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(stats.cast::<SStorageEngineStats>()) }?;
        let engine = K::engine().lock();
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

unsafe extern "C" fn reset_stats<K: Kind>(_engine: *mut c_void) -> i32 {
    explained(|| {
        if let Some(host) = &K::engine().lock().host {
            host.events.store(0, Relaxed);
            host.ranges.store(0, Relaxed);
        }
        Ok(())
    })
}

unsafe extern "C" fn is_supported<K: Kind>() -> bool {
    let code = explained(|| {
        let not_configured = || Failure::new(Code::INVALID_PARAM, K::NOT_CONFIGURED);
        K::is_supported(&configured::<K>().ok_or_else(not_configured)?)
    });
    code == Code::SUCCESS.0
}

unsafe extern "C" fn get_engine_name<K: Kind>() -> *const c_char {
    K::NAME.as_ptr()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use metrics::Readings;
    use std::sync::{LazyLock, mpsc};

    /// A follower that connects for as long as the test wants.
    struct Slow;
    struct Connected;

    static ENGINE: LazyLock<Engine<Slow>> = LazyLock::new(Engine::new);
    /// Tells the test that it connects, and waits for the test.
    type Gate = (mpsc::SyncSender<()>, mpsc::Receiver<()>);
    static GATE: Mutex<Option<Gate>> = Mutex::new(None);

    impl Kind for Slow {
        type Config = ();
        const NAME: &'static CStr = c"slow";
        const NOT_CONFIGURED: &'static str = "not configured";

        fn engine() -> &'static Engine<Self> {
            &ENGINE
        }

        fn start((): (), _: Arc<Host>) -> Result<Box<dyn Follow>, Failure> {
            let (connecting, go_on) = GATE.lock().take().unwrap();
            connecting.send(()).unwrap();
            go_on.recv().unwrap();
            Ok(Box::new(Connected))
        }

        fn is_supported((): &()) -> Result<(), Failure> {
            Ok(())
        }
    }

    impl Source for Connected {
        fn read(&self, _: &mut Readings) {}
    }

    impl Follow for Connected {
        fn ask(&self) -> CatchUp {
            unreachable!("the test asks for nothing")
        }
        fn stats(&self) -> FollowStats {
            FollowStats::default()
        }
        fn gauges(&self) -> Arc<dyn Source> {
            Arc::new(Connected)
        }
        fn numbering(&self) -> Option<Numbering> {
            None
        }
    }

    unsafe extern "C" fn ignore_event(_: *const SStorageEvent, _: *mut c_void) {}
    unsafe extern "C" fn ignore_range(_: *const SStorageRange, _: *mut c_void) -> i32 {
        0
    }

    #[test]
    fn nobody_waits_for_an_install_that_connects_but_who_ends_it() {
        let config = SStorageEngineConfig {
            enable_interception: true,
            event_callback: Some(ignore_event),
            range_callback: Some(ignore_range),
            sync_callback: None,
            callback_user_data: ptr::null_mut(),
            event_buffer_size: 0,
            callback_threads: 0,
        };
        let (connecting, is_connecting) = mpsc::sync_channel(0);
        let (go_on, wait) = mpsc::channel();
        *GATE.lock() = Some((connecting, wait));
        configure::<Slow>(());
        // SAFETY: the configuration lives, and these pointers may be NULL.
        unsafe {
            assert_eq!(init::<Slow>(&raw const config), Code::SUCCESS.0);
            let installing = std::thread::spawn(|| install::<Slow>());
            is_connecting.recv().unwrap();

            assert_eq!(
                get_stats::<Slow>(ptr::null_mut(), ptr::null_mut()),
                Code::SUCCESS.0
            );
            assert!(followed::<Slow>().is_none());
            let ending = std::thread::spawn(|| uninstall::<Slow>());
            go_on.send(()).unwrap();
            assert_eq!(installing.join().unwrap(), Code::SUCCESS.0);
            assert_eq!(ending.join().unwrap(), Code::SUCCESS.0);
            assert!(ENGINE.lock().running.is_none());
            destroy::<Slow>();
        }
        assert!(ENGINE.lock().host.is_none());
    }
}
