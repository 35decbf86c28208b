//! All metrics at one moment.

/// The 25 metrics at one moment. The catalogue says what each means.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the catalogue describes each")]
pub struct Snapshot {
    pub events_per_second: u64,
    pub messages_per_second: u64,
    pub bytes_per_second: u64,
    pub consumer_lag_ms: u64,
    pub offset_lag: u64,
    pub processing_delay_ms: f64,
    pub events_dropped: u64,
    pub messages_dropped: u64,
    pub parse_errors: u64,
    pub connection_retries: u64,
    pub subscription_retries: u64,
    pub commit_retries: u64,
    pub ring_buffer_usage: u64,
    pub ring_buffer_capacity: u64,
    pub event_queue_size: u64,
    pub memory_usage_bytes: u64,
    pub bitmap_memory_bytes: u64,
    pub metadata_memory_bytes: u64,
    pub last_update_time: i64,
    pub uptime_seconds: u64,
    pub blocks_dirty: u64,
    pub blocks_new: u64,
    pub blocks_deleted: u64,
    pub last_backup_duration_ms: u64,
    pub last_backup_bytes: u64,
}
