//! What a host tells: that something happened to a block.

/// What happened to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was created.
    Create,
    /// It was modified.
    Update,
    /// It was flushed or backed up.
    Flush,
    /// It was deleted.
    Delete,
}

/// Something that happened to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEvent {
    /// What happened.
    pub kind: EventKind,
    /// To which block.
    pub block: u64,
    /// The WAL offset of the request that did it.
    pub wal: u64,
    /// When, in ns since the epoch.
    pub time: i64,
    /// A value of the host's own, which its callback finds in the event again.
    pub tag: usize,
}
