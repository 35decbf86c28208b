//! The process's 25 metrics: what moves them, a snapshot of all, and its text forms.
//!
//! Each metric has one owner. The code that does the work moves rates and counters, through [`Metrics`]; a snapshot asks
//! the components for everything else, through [`Source`]. So the work pays for a few counters per batch and for nothing
//! else.
//! docs/metrics.md says who owns which metric.
//!
//! | module | holds |
//! |---|---|
//! | `catalogue` | each metric's name and meaning |
//! | `rate` | how much per second, over the last seconds |
//! | `snapshot` | the metrics at one moment |
//! | `text` | a snapshot as JSON, as Prometheus text and for people |

#[cfg_attr(not(feature = "internals"), expect(unreachable_pub))]
mod catalogue;
mod rate;
mod snapshot;
mod text;

#[cfg(feature = "internals")]
pub use catalogue::{Group, Kind, METRICS, Metric};
pub use rate::Rate;
pub use snapshot::Snapshot;

use parking_lot::Mutex;
use std::{
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The metrics of this process.
pub fn global() -> &'static Metrics {
    static GLOBAL: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &GLOBAL
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Relaxed);
        }
    }

    /// What was added so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A component that knows some of the numbers.
pub trait Source: Send + Sync {
    /// Adds its own numbers to `readings`.
    fn read(&self, readings: &mut Readings);
}

/// What sources add up to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// Events that wait in queues.
    pub queued: u64,
    /// Events that the queues hold at most.
    pub queue_capacity: u64,
    /// Bytes of queues and other parts beside engines.
    pub other_bytes: u64,
    /// Bytes of block states.
    pub bitmap_bytes: u64,
    /// Bytes of the engines' records and indexes.
    pub metadata_bytes: u64,
    /// DIRTY blocks.
    pub blocks_dirty: u64,
    /// NEW blocks.
    pub blocks_new: u64,
    /// DELETED blocks.
    pub blocks_deleted: u64,
    /// Versions that a followed server wrote and that are not taken in yet.
    pub offset_lag: u64,
    /// How long the oldest change that is not taken in has been waiting, ms; sources give the larger of this and
    /// their own.
    pub consumer_lag_ms: u64,
}

/// The counters and rates that work moves, and the sources of the other numbers.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    events: Rate,
    messages: Rate,
    bytes: Rate,
    delay_ns: Rate,
    delays: Rate,
    /// Events that were not taken in; the blocks they concern are dirty as a whole.
    pub events_dropped: Counter,
    /// Changes found by a follower that could not be passed on as events; their range is dirty as a whole.
    pub messages_dropped: Counter,
    /// Files, records and messages that could not be understood.
    pub parse_errors: Counter,
    /// Attempts to reach a source of changes again: a server or its directories.
    pub connection_retries: Counter,
    /// Attempts to be told of changes again: inotify watches or a subscription.
    pub subscription_retries: Counter,
    /// Attempts to save again how far changes were taken in.
    pub commit_retries: Counter,
    last_backup_ms: AtomicU64,
    last_backup_bytes: AtomicU64,
    sources: Mutex<Vec<Weak<dyn Source>>>,
    latest: Mutex<Option<Snapshot>>,
}

impl std::fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Metrics {
    /// A new set of metrics, all zero; [`global`] returns the set of the process.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            events: Rate::default(),
            messages: Rate::default(),
            bytes: Rate::default(),
            delay_ns: Rate::default(),
            delays: Rate::default(),
            events_dropped: Counter::default(),
            messages_dropped: Counter::default(),
            parse_errors: Counter::default(),
            connection_retries: Counter::default(),
            subscription_retries: Counter::default(),
            commit_retries: Counter::default(),
            last_backup_ms: AtomicU64::new(0),
            last_backup_bytes: AtomicU64::new(0),
            sources: Mutex::default(),
            latest: Mutex::default(),
        }
    }

    /// A batch of events was taken in. `delays` are those of some of them, from being raised to being in the
    /// bitmap.
    pub fn events_taken(&self, events: u64, delays: &[Duration]) {
        let second = self.started.elapsed().as_secs();
        self.events.add(second, events);
        if !delays.is_empty() {
            let sum: Duration = delays.iter().sum();
            self.delay_ns.add(second, sum.as_nanos() as u64);
            self.delays.add(second, delays.len() as u64);
        }
    }

    /// Changes were read from a server's files or from a topic: so many, of so many bytes.
    pub fn messages_read(&self, messages: u64, bytes: u64) {
        let second = self.started.elapsed().as_secs();
        self.messages.add(second, messages);
        self.bytes.add(second, bytes);
    }

    /// A backup ended well.
    pub fn backup_done(&self, duration: Duration, bytes: u64) {
        self.last_backup_ms
            .store(duration.as_millis() as u64, Relaxed);
        self.last_backup_bytes.store(bytes, Relaxed);
    }

    /// Asks `source` for its numbers in every snapshot, until it is dropped.
    pub fn register(&self, source: &Arc<dyn Source>) {
        let mut sources = self.sources.lock();
        sources.retain(|source| source.strong_count() > 0);
        sources.push(Arc::downgrade(source));
    }

    /// How everything stands now. It is also kept for [`Self::latest`].
    pub fn update(&self) -> Snapshot {
        let snapshot = self.snapshot();
        *self.latest.lock() = Some(snapshot.clone());
        snapshot
    }

    /// The snapshot that the last [`Self::update`] took; the first call takes one.
    pub fn latest(&self) -> Snapshot {
        let latest = self.latest.lock().clone();
        latest.unwrap_or_else(|| self.update())
    }

    fn snapshot(&self) -> Snapshot {
        // Sources are asked without the lock: one may take its time, or be registered meanwhile.
        let sources: Vec<_> = self
            .sources
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let mut readings = Readings::default();
        for source in &sources {
            source.read(&mut readings);
        }
        let now = self.started.elapsed();
        let delays = self.delays.sum(now);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Snapshot {
            events_per_second: self.events.per_second(now),
            messages_per_second: self.messages.per_second(now),
            bytes_per_second: self.bytes.per_second(now),
            consumer_lag_ms: readings.consumer_lag_ms,
            offset_lag: readings.offset_lag,
            processing_delay_ms: match delays {
                0 => 0.0,
                _ => self.delay_ns.sum(now) as f64 / delays as f64 / 1e6,
            },
            events_dropped: self.events_dropped.get(),
            messages_dropped: self.messages_dropped.get(),
            parse_errors: self.parse_errors.get(),
            connection_retries: self.connection_retries.get(),
            subscription_retries: self.subscription_retries.get(),
            commit_retries: self.commit_retries.get(),
            ring_buffer_usage: match readings.queue_capacity {
                0 => 0,
                // Callbacks' events may be kept beside a full queue.
                capacity => (readings.queued * 100 / capacity).min(100),
            },
            ring_buffer_capacity: readings.queue_capacity,
            event_queue_size: readings.queued,
            memory_usage_bytes: readings.bitmap_bytes
                + readings.metadata_bytes
                + readings.other_bytes,
            bitmap_memory_bytes: readings.bitmap_bytes,
            metadata_memory_bytes: readings.metadata_bytes,
            last_update_time: unix.as_nanos() as i64,
            uptime_seconds: now.as_secs(),
            blocks_dirty: readings.blocks_dirty,
            blocks_new: readings.blocks_new,
            blocks_deleted: readings.blocks_deleted,
            last_backup_duration_ms: self.last_backup_ms.load(Relaxed),
            last_backup_bytes: self.last_backup_bytes.load(Relaxed),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
