//! Events become marks.
//!
//! A mark that the block's state does not allow is widened, not refused: the thread that raised the event no longer
//! waits for an answer, and its change must not be lost. CREATE of a DIRTY block refreshes it; CREATE or UPDATE of a DELETED one makes it DIRTY,
//! so that it is copied anew.

use crate::intercept::{BlockEvent, EventKind, EventSink, Gap, Interceptor};
use bitmap::{BlockId, Engine, EngineError, Mark, MarkedAt};
use metrics::{Metrics, Readings, Source};
use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

/// The host's function that is called for every event that is in the bitmap.
pub type Callback = Box<dyn Fn(&BlockEvent) + Send + Sync>;

/// The engine as a sink of events.
pub struct BitmapSink {
    engine: Arc<Engine>,
    metrics: &'static Metrics,
    callback: Option<Callback>,
}

impl BitmapSink {
    /// A sink that marks `engine`'s blocks, then calls `callback`.
    pub fn new(engine: Arc<Engine>, callback: Option<Callback>) -> Self {
        Self {
            engine,
            metrics: metrics::global(),
            callback,
        }
    }
}

impl fmt::Debug for BitmapSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BitmapSink")
    }
}

impl EventSink for BitmapSink {
    fn take(&self, event: &BlockEvent) -> bool {
        let block = BlockId(event.block);
        let mark = match event.kind {
            EventKind::Create => Mark::New,
            EventKind::Update => Mark::Dirty,
            EventKind::Flush => Mark::Clear,
            EventKind::Delete => Mark::Deleted,
        };
        let marked = MarkedAt::new(event.wal, event.time);
        match self.engine.mark(block, mark, marked) {
            Ok(_) => true,
            // What was never marked is clean already.
            Err(EngineError::BlockNotFound(_)) => true,
            Err(EngineError::InvalidTransition { .. }) => {
                self.engine.mark_changed(block, marked).is_ok()
            }
            Err(_) => false,
        }
    }

    fn take_gap(&self, gap: &Gap) -> bool {
        let marked = MarkedAt::new(gap.wal, gap.time);
        let blocks = gap.blocks.iter().all(|block| {
            let result = self.engine.mark_changed(BlockId(*block), marked);
            result.is_ok()
        });
        let range = gap.range.is_none_or(|(first, last)| {
            let why = "events were dropped";
            let (first, last) = (BlockId(first), BlockId(last));
            self.engine.mark_range(first, last, marked, why).is_ok()
        });
        blocks && range
    }

    fn take_whole(&self, gap: &Gap) -> bool {
        let Some((first, last)) = gap.hull() else {
            return true;
        };
        let marked = MarkedAt::new(gap.wal, gap.time);
        let why = "events were dropped, and the bitmap could not take their blocks one by one";
        let range = (BlockId(first), BlockId(last));
        match self.engine.mark_range(range.0, range.1, marked, why) {
            // The range counts all the same.
            Ok(()) | Err(EngineError::MemoryFull { .. }) => true,
            Err(_) => false,
        }
    }

    fn tell(&self, event: &BlockEvent) {
        if let Some(callback) = &self.callback {
            callback(event);
        }
    }

    fn taken(&self, events: u64, delays: &[Duration]) {
        self.metrics.events_taken(events, delays);
    }

    fn dropped(&self, events: u64) {
        self.metrics.events_dropped.add(events);
        tracing::debug!("{events} events were dropped; their blocks are dirty");
    }
}

/// An engine's part in the metrics.
#[derive(Debug)]
pub struct EngineGauges(pub Weak<Engine>);

impl Source for EngineGauges {
    fn read(&self, readings: &mut Readings) {
        let Some(engine) = self.0.upgrade() else {
            return;
        };
        let counts = engine.counts();
        readings.blocks_dirty += counts.dirty;
        readings.blocks_new += counts.new;
        readings.blocks_deleted += counts.deleted;
        let states = engine.bitmap_bytes();
        readings.bitmap_bytes += states;
        readings.metadata_bytes += engine.memory().current.saturating_sub(states);
    }
}

/// An interceptor's part in the metrics.
#[derive(Debug)]
pub struct InterceptorGauges(pub Weak<Interceptor>);

impl Source for InterceptorGauges {
    fn read(&self, readings: &mut Readings) {
        let Some(interceptor) = self.0.upgrade() else {
            return;
        };
        let stats = interceptor.stats();
        readings.queued += stats.queued;
        readings.queue_capacity += stats.capacity;
        readings.other_bytes += interceptor.memory();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bitmap::{BlockState, EngineConfig};

    fn engine() -> Arc<Engine> {
        Arc::new(Engine::open(&EngineConfig::default()).unwrap())
    }

    fn event(kind: EventKind, block: u64, wal: u64) -> BlockEvent {
        BlockEvent {
            kind,
            block,
            wal,
            time: wal as i64,
            tag: 0,
        }
    }

    #[test]
    fn every_order_of_events_leaves_what_must_be_copied_marked() {
        use EventKind::{Create, Delete, Flush, Update};
        let cases: [(&[EventKind], BlockState); 9] = [
            (&[Create], BlockState::New),
            (&[Update], BlockState::Dirty),
            (&[Create, Update], BlockState::New),
            (&[Update, Create], BlockState::Dirty),
            (&[Create, Flush], BlockState::Clean),
            (&[Update, Delete], BlockState::Deleted),
            (&[Delete, Create], BlockState::Dirty),
            (&[Delete, Update], BlockState::Dirty),
            (&[Delete, Flush, Create], BlockState::New),
        ];
        for (kinds, state) in cases {
            let engine = engine();
            let sink = BitmapSink::new(Arc::clone(&engine), None);
            for (wal, kind) in (1..).zip(kinds) {
                assert!(sink.take(&event(*kind, 5, wal)));
            }
            assert_eq!(engine.state(BlockId(5)).unwrap(), state, "{kinds:?}");
            if state != BlockState::Clean {
                let marked = engine.block(BlockId(5)).unwrap().marked;
                assert_eq!(marked.wal.0, kinds.len() as u64, "{kinds:?}");
            }
        }
        let sink = BitmapSink::new(engine(), None);
        assert!(sink.take(&event(Flush, 6, 1)), "an unknown block is clean");
    }

    #[test]
    fn a_gap_makes_its_blocks_and_its_range_dirty() {
        let engine = engine();
        let sink = BitmapSink::new(Arc::clone(&engine), None);
        assert!(sink.take(&event(EventKind::Delete, 3, 1)));
        let gap = Gap {
            blocks: [3, 4].into(),
            range: Some((10, 20)),
            wal: 9,
            time: 9,
            events: 40,
        };
        assert!(sink.take_gap(&gap));
        for block in [3, 4, 10, 15, 20] {
            assert_eq!(engine.state(BlockId(block)).unwrap(), BlockState::Dirty);
        }
        assert!(engine.state(BlockId(21)).is_err());
    }

    #[test]
    fn a_full_engine_refuses_and_the_gap_waits() {
        let config = EngineConfig {
            max_memory_mb: 1,
            persistence_path: None,
        };
        let engine = Arc::new(Engine::open(&config).unwrap());
        let sink = BitmapSink::new(engine, None);
        let refused = (0..10_000_000).find(|i| !sink.take(&event(EventKind::Update, i << 32, *i)));
        let block = refused.unwrap() << 32;
        let gap = Gap {
            blocks: [block].into(),
            ..Gap::default()
        };
        assert!(!sink.take_gap(&gap));
    }
}
