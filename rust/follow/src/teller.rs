//! Telling a listener what changed, block by block or by ranges.

use crate::turns::{Turns, now_ns};
use bitmap::{BlockId, TableOrdinal, WindowNumber};
use events::intercept::{BlockEvent, EventKind};

/// Who is told.
pub trait Listener: Send + Sync {
    /// A block changed; false if that can't be taken in now. Then everything is told again later.
    fn block(&self, event: BlockEvent) -> bool;

    /// Any block from `first` to `last` may have changed, up to WAL version `wal`; false as above.
    fn range(&self, first: u64, last: u64, wal: u64, time: i64, why: &str) -> bool;

    /// Everything told so far is safe; false if it is not.
    fn settle(&self) -> bool;
}

/// A listener who is told nothing more once the follower is stopped, and then has nothing in safety: the next follower
/// may have loaded the position already. Who stops it is the listener itself, or waits until the follower has ended.
pub(crate) struct UntilStopped<'l> {
    pub(crate) turns: &'l Turns,
    pub(crate) listener: &'l dyn Listener,
}

impl Listener for UntilStopped<'_> {
    fn block(&self, event: BlockEvent) -> bool {
        !self.turns.is_stopped() && self.listener.block(event)
    }

    fn range(&self, first: u64, last: u64, wal: u64, time: i64, why: &str) -> bool {
        !self.turns.is_stopped() && self.listener.range(first, last, wal, time, why)
    }

    fn settle(&self) -> bool {
        !self.turns.is_stopped() && self.listener.settle() && !self.turns.is_stopped()
    }
}

/// The listener did not take an event.
#[derive(Debug, thiserror::Error)]
#[error("the listener did not take an event; it will be told again")]
pub(crate) struct NotTaken;

/// More windows of one span than this are told as a range.
const MOST_WINDOWS: u64 = 4096;

pub(crate) struct Teller<'l> {
    listener: &'l dyn Listener,
    time: i64,
    pub(crate) events: u64,
    pub(crate) ranges: u64,
}

impl<'l> Teller<'l> {
    pub(crate) fn new(listener: &'l dyn Listener) -> Self {
        Self {
            listener,
            time: now_ns(),
            events: 0,
            ranges: 0,
        }
    }

    pub(crate) fn block(
        &mut self,
        kind: EventKind,
        block: BlockId,
        wal: u64,
    ) -> Result<(), NotTaken> {
        let event = BlockEvent {
            kind,
            block: block.0,
            wal,
            time: self.time,
            tag: 0,
        };
        if !self.listener.block(event) {
            return Err(NotTaken);
        }
        self.events += 1;
        Ok(())
    }

    fn range(
        &mut self,
        first: BlockId,
        last: BlockId,
        wal: u64,
        why: &str,
    ) -> Result<(), NotTaken> {
        if !self.listener.range(first.0, last.0, wal, self.time, why) {
            return Err(NotTaken);
        }
        self.ranges += 1;
        Ok(())
    }

    /// Everything may have changed.
    pub(crate) fn everything(&mut self, wal: u64, why: &str) -> Result<(), NotTaken> {
        self.range(BlockId(0), BlockId(u64::MAX), wal, why)
    }

    /// Everything in a table may have changed.
    pub(crate) fn table(
        &mut self,
        table: TableOrdinal,
        wal: u64,
        why: &str,
    ) -> Result<(), NotTaken> {
        let block = |window| BlockId::new(table, WindowNumber(window));
        self.range(block(0), block(u32::MAX), wal, why)
    }

    /// Rows from one window to another were deleted, or may have changed; false if that was told as a range.
    pub(crate) fn windows(
        &mut self,
        table: TableOrdinal,
        first: WindowNumber,
        last: WindowNumber,
        wal: u64,
    ) -> Result<bool, NotTaken> {
        let block = |window| BlockId::new(table, WindowNumber(window));
        if u64::from(last.0.saturating_sub(first.0)) < MOST_WINDOWS {
            for window in first.0..=last.0 {
                self.block(EventKind::Update, block(window), wal)?;
            }
            Ok(true)
        } else {
            let why = "rows in very many windows were deleted, or may have changed";
            self.range(block(first.0), block(last.0), wal, why)?;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Stops its follower when it is told the second block, or when all is to be safe.
    struct Stops {
        turns: Turns,
        in_block: bool,
        told: AtomicU64,
    }

    impl Listener for Stops {
        fn block(&self, _event: BlockEvent) -> bool {
            if self.told.fetch_add(1, Relaxed) == 1 && self.in_block {
                self.turns.stop();
            }
            true
        }

        fn range(&self, _first: u64, _last: u64, _wal: u64, _time: i64, _why: &str) -> bool {
            self.told.fetch_add(1, Relaxed);
            true
        }

        fn settle(&self) -> bool {
            self.turns.stop();
            true
        }
    }

    #[test]
    fn a_follower_that_its_listener_stops_tells_nothing_more_and_is_not_safe() {
        for in_block in [true, false] {
            let stops = Stops {
                turns: Turns::new(),
                in_block,
                told: AtomicU64::new(0),
            };
            let listener = UntilStopped {
                turns: &stops.turns,
                listener: &stops,
            };
            let mut teller = Teller::new(&listener);
            let told = (0..3).all(|block| {
                let told = teller.block(EventKind::Update, BlockId(block), 1);
                told.is_ok()
            });
            let whole = teller.everything(1, "a test").is_ok();
            assert_eq!((told, whole), (!in_block, !in_block));
            assert_eq!(stops.told.load(Relaxed), if in_block { 2 } else { 4 });
            assert!(!listener.settle());
        }
    }
}
