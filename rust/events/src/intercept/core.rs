//! What an interceptor and its workers share: the sink, and counters.

use super::sink::EventSink;
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

thread_local! {
    /// Events that this thread raised, to time one in 64.
    static RAISED: Cell<u32> = const { Cell::new(0) };
}

/// One event in so many is timed.
const TIMED: u32 = 64;
/// What an interceptor and its workers share.
pub(super) struct Core {
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) drop_when_full: AtomicBool,
    pub(super) processed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) panics: AtomicU64,
    /// The sink tells the host of no more events.
    pub(super) is_silent: AtomicBool,
    pub(super) started: Instant,
}

impl Core {
    pub(super) fn new(sink: Arc<dyn EventSink>) -> Self {
        Self {
            sink,
            drop_when_full: AtomicBool::new(false),
            processed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            is_silent: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    /// The time, for one event in [`TIMED`].
    pub(super) fn time_if_due(&self) -> u64 {
        let raised = RAISED
            .try_with(|raised| raised.replace(raised.get().wrapping_add(1)))
            .unwrap_or(1);
        if raised.is_multiple_of(TIMED) {
            (self.started.elapsed().as_nanos() as u64).max(1)
        } else {
            0
        }
    }

    pub(super) fn count_dropped(&self, events: u64) {
        self.dropped.fetch_add(events, Relaxed);
        self.sink.dropped(events);
    }
}
