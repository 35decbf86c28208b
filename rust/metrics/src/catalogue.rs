//! What each metric is called and what it means.

use crate::Snapshot;

/// A metric: its name and meaning, and where a snapshot has it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name; Prometheus knows it as `tdengine_` and this.
    pub name: &'static str,
    /// What it says, with its unit.
    pub help: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Which object of the JSON form holds it.
    pub group: Group,
    pub(crate) value: fn(&Snapshot) -> Value,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Only up, from 0 when the process starts.
    Counter,
}

/// The object of the JSON form that holds a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Group {
    Rate,
    Lag,
    Dropped,
    Retries,
    Queue,
    Memory,
    Time,
    Blocks,
    Backup,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Lag => "lag",
            Self::Dropped => "dropped",
            Self::Retries => "retries",
            Self::Queue => "queue",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Blocks => "blocks",
            Self::Backup => "backup",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Whole(i128),
    Real(f64),
}

macro_rules! metrics {
    ($($group:ident $kind:ident $name:ident $variant:ident $help:literal,)*) => {
        /// The metrics, in the order of their text forms.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: stringify!($name),
            help: $help,
            kind: Kind::$kind,
            group: Group::$group,
            value: |snapshot| Value::$variant(snapshot.$name.into()),
        },)*];
    };
}

metrics! {
    Rate Gauge events_per_second Whole "Block events taken into the bitmap per second, over the last 10 seconds.",
    Rate Gauge messages_per_second Whole "Changes read from a followed server per second, over the last 10 seconds.",
    Rate Gauge bytes_per_second Whole "Bytes read from a followed server per second, over the last 10 seconds.",
    Lag Gauge consumer_lag_ms Whole "Age of the oldest change of a followed server that is not taken in yet, in milliseconds.",
    Lag Gauge offset_lag Whole "WAL versions that a followed server has written and that are not taken in yet.",
    Lag Gauge processing_delay_ms Real "Mean time from raising an event to its being in the bitmap, in milliseconds, over the last 10 seconds.",
    Dropped Counter events_dropped Whole "Events that were not taken in as such; their blocks are dirty as a whole.",
    Dropped Counter messages_dropped Whole "Changes of a followed server that could not be told block by block; their ranges are dirty as a whole.",
    Dropped Counter parse_errors Whole "Files, records and messages that could not be understood.",
    Retries Counter connection_retries Whole "Attempts to reach a followed server or its directories again.",
    Retries Counter subscription_retries Whole "Attempts to be told of changes again.",
    Retries Counter commit_retries Whole "Attempts to save again how far changes were taken in.",
    Queue Gauge ring_buffer_usage Whole "How full the event queues are, in percent.",
    Queue Gauge ring_buffer_capacity Whole "Events that the queues hold at most.",
    Queue Gauge event_queue_size Whole "Events that wait in the queues.",
    Memory Gauge memory_usage_bytes Whole "Memory of engines and event queues, in bytes.",
    Memory Gauge bitmap_memory_bytes Whole "Memory of block states, in bytes.",
    Memory Gauge metadata_memory_bytes Whole "Memory of block records and indexes, in bytes.",
    Time Gauge last_update_time Whole "When these values were taken, in nanoseconds since 1970-01-01 UTC.",
    Time Gauge uptime_seconds Whole "Seconds since the process used the engine first.",
    Blocks Gauge blocks_dirty Whole "DIRTY blocks.",
    Blocks Gauge blocks_new Whole "NEW blocks.",
    Blocks Gauge blocks_deleted Whole "DELETED blocks.",
    Backup Gauge last_backup_duration_ms Whole "How long the last successful backup of this process took, in milliseconds; 0 before the first.",
    Backup Gauge last_backup_bytes Whole "Bytes that the last successful backup of this process wrote; 0 before the first.",
}
