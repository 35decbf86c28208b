//! Message type numbers of record headers.

/// Rows.
pub const SUBMIT: i16 = 513;
/// New child and normal tables.
pub const CREATE_TABLE: i16 = 515;
/// Change of one table (tag value, column, options).
pub const ALTER_TABLE: i16 = 517;
/// Dropped tables.
pub const DROP_TABLE: i16 = 519;
/// New super table.
pub const CREATE_STB: i16 = 531;
/// New schema of a super table.
pub const ALTER_STB: i16 = 533;
/// Dropped super table with all its children.
pub const DROP_STB: i16 = 535;
/// Deleted time range.
pub const DELETE: i16 = 579;
/// Deleted time ranges by table name, made by streams.
pub const BATCH_DELETE: i16 = 581;
/// Enterprise compaction.
pub const COMPACT: i16 = 591;
/// Tables dropped because their time to live passed.
pub const TTL_DROP: i16 = 593;
/// Retention run.
pub const TRIM: i16 = 595;
/// Marker of a commit.
pub const COMMIT: i16 = 597;
/// Raft entry of a new term without content.
pub const SYNC_NOOP: i16 = 1559;
/// Raft membership change.
pub const SYNC_CONFIG_CHANGE: i16 = 1567;
/// Subscription of a consumer, which changes no data.
pub const TMQ_SUBSCRIBE: i16 = 2049;
