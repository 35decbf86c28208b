//! How far blocks are exported, and how far that may be said to be.

use bitmap::{BlockRecord, MarkedAt};

/// Which marks a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    /// Those with a time up to the cursor's.
    Time,
    /// Those with a WAL position up to the cursor's.
    Wal,
    /// Those with both.
    Hybrid,
}

/// How far blocks are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// What it goes by.
    pub kind: CursorKind,
    /// Every block marked up to this time is exported; `None` before the first.
    pub time: Option<i64>,
    /// Every block marked up to this position is exported; `None` before the first.
    pub wal: Option<u64>,
    /// Blocks exported so far.
    pub blocks: u64,
    /// When it moved last, ns since 1970; 0 for never.
    pub updated: i64,
}

/// The positions of some blocks: the highest of blocks that are done, the lowest of those that are not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    pub(super) wal: Option<(u64, u64)>,
    pub(super) time: Option<(i64, i64)>,
}

impl Reach {
    pub(super) fn add(&mut self, record: &BlockRecord) {
        fn widen<P: Ord + Copy>(ends: Option<(P, P)>, position: P) -> Option<(P, P)> {
            let (low, high) = ends.unwrap_or((position, position));
            Some((low.min(position), high.max(position)))
        }
        self.wal = widen(self.wal, record.marked.wal.0);
        self.time = widen(self.time, record.marked.time.0);
    }
}

/// The last position up to which all is done, where what is `done` and what is still `open` lie so.
pub(super) fn safe<P: Ord + Copy>(
    done: Option<(P, P)>,
    open: Option<(P, P)>,
    before: impl Fn(P) -> Option<P>,
) -> Option<P> {
    let (_, last) = done?;
    match open {
        Some((next, _)) if next <= last => before(next),
        _ => Some(last),
    }
}

impl Cursor {
    /// Whether a block with this mark is exported, as far as the cursor knows.
    pub(super) fn covers(&self, marked: MarkedAt) -> bool {
        let by_wal = self.wal.is_some_and(|wal| marked.wal.0 <= wal);
        let by_time = self.time.is_some_and(|time| marked.time.0 <= time);
        match self.kind {
            CursorKind::Wal => by_wal,
            CursorKind::Time => by_time,
            CursorKind::Hybrid => by_wal && by_time,
        }
    }
}
