//! What all followers have in common: turns, who waits for them, and numbers.

use metrics::{Metrics, Readings};
use parking_lot::{Condvar, Mutex};
use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Numbers about a follower.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowStats {
    /// Block events told.
    pub events: u64,
    /// Ranges told.
    pub ranges: u64,
    /// Scans that were done and saved.
    pub scans: u64,
    /// Scans that failed and were done again.
    pub failures: u64,
    /// Whether changes are told to the follower, as opposed to looking now and then.
    pub notified: bool,
    /// What the last failure was; empty if the last scan went well.
    pub last_error: String,
}

/// A follower's turns, shared with those who wait for one.
pub(crate) struct Turns {
    state: Mutex<State>,
    turned: Condvar,
    stop: AtomicBool,
    /// When the oldest change that is not safe was noticed, ms since `started`; 0 when all is.
    lag_since_ms: AtomicU64,
    started: Instant,
    pub(crate) metrics: &'static Metrics,
}

#[derive(Default)]
struct State {
    stats: FollowStats,
    /// Turns asked for, and done for it.
    asked: u64,
    answered: u64,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            turned: Condvar::new(),
            stop: AtomicBool::new(false),
            lag_since_ms: AtomicU64::new(0),
            started: Instant::now(),
            metrics: metrics::global(),
        }
    }

    pub(crate) fn ask(self: &Arc<Self>) -> CatchUp {
        let mut state = self.state.lock();
        state.asked += 1;
        CatchUp {
            turns: Arc::clone(self),
            number: state.asked,
        }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.state.lock().asked
    }

    pub(crate) fn is_asked(&self) -> bool {
        let state = self.state.lock();
        state.asked > state.answered
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
        // Under the lock, so that nobody who waits misses it.
        drop(self.state.lock());
        self.turned.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub(crate) fn stats(&self) -> FollowStats {
        self.state.lock().stats.clone()
    }

    /// Everything noticed is safe, and with it all turns up to number `asked` are done.
    pub(crate) fn done(&self, asked: u64, notified: bool) {
        self.lag_since_ms.store(0, Relaxed);
        let mut state = self.state.lock();
        state.stats.scans += 1;
        state.stats.notified = notified;
        state.stats.last_error.clear();
        state.answered = state.answered.max(asked);
        self.turned.notify_all();
    }

    pub(crate) fn told(&self, events: u64, ranges: u64) {
        let mut state = self.state.lock();
        state.stats.events += events;
        state.stats.ranges += ranges;
    }

    pub(crate) fn failed(&self, error: &dyn fmt::Display) {
        let mut state = self.state.lock();
        state.stats.failures += 1;
        state.stats.last_error = error.to_string();
    }

    pub(crate) fn lag_starts(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        let _ = self
            .lag_since_ms
            .compare_exchange(0, now.max(1), Relaxed, Relaxed);
    }

    pub(crate) fn read_lag(&self, readings: &mut Readings) {
        let since = self.lag_since_ms.load(Relaxed);
        if since > 0 {
            let now = self.started.elapsed().as_millis() as u64;
            readings.consumer_lag_ms = readings.consumer_lag_ms.max(now.saturating_sub(since));
        }
    }
}

/// The thread of a follower. Dropping it stops the turns and waits for it.
pub(crate) struct Worker {
    turns: Arc<Turns>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(
        name: &str,
        turns: &Arc<Turns>,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let own = Arc::clone(turns);
        let run = move || {
            // A panic is a bug, and must not pass for a server on which nothing changes.
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                let ended = "an internal error ended the following: please report it, then uninstall and install again; nothing is lost";
                tracing::error!("{ended}");
                own.lag_starts();
                own.failed(&ended);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self {
            turns: Arc::clone(turns),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.turns.stop();
        // A listener that drops its own follower can't wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// A turn that was asked for.
pub struct CatchUp {
    turns: Arc<Turns>,
    number: u64,
}

impl CatchUp {
    /// Waits until it is done; false if that takes longer than `patience`, or the follower is stopped.
    pub fn wait(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.turns.state.lock();
        while state.answered < self.number && !self.turns.is_stopped() {
            let waited = self.turns.turned.wait_until(&mut state, deadline);
            if waited.timed_out() {
                break;
            }
        }
        state.answered >= self.number
    }

    /// Why the last turn failed; empty if it did not.
    pub fn last_error(&self) -> String {
        self.turns.stats().last_error
    }
}

impl fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchUp")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

pub(crate) fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i64)
}
