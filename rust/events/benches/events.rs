//! Events through the interceptor into the bitmap: an unthrottled burst of 10^6, and 100 000 a second, with one
//! and with four producers. Prints one line each; fails if an event is lost.
//!
//! `cargo bench -p events --bench events`

use bitmap::{BlockId, BlockState, Engine, EngineConfig};
use events::{
    bitmap_sink::BitmapSink,
    intercept::{BlockEvent, EventKind, EventSink, Gap, Interceptor, InterceptorConfig},
};
use std::{
    error::Error,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Times the events on their way to the bitmap.
struct Timed {
    sink: BitmapSink,
    delay_ns: AtomicU64,
    longest_ns: AtomicU64,
    timed: AtomicU64,
}

impl EventSink for Timed {
    fn take(&self, event: &BlockEvent) -> bool {
        self.sink.take(event)
    }

    fn take_gap(&self, gap: &Gap) -> bool {
        self.sink.take_gap(gap)
    }

    fn taken(&self, events: u64, delays: &[Duration]) {
        for delay in delays {
            let delay = delay.as_nanos() as u64;
            self.delay_ns.fetch_add(delay, Relaxed);
            self.longest_ns.fetch_max(delay, Relaxed);
        }
        self.timed.fetch_add(delays.len() as u64, Relaxed);
        self.sink.taken(events, delays);
    }
}

struct Run {
    what: &'static str,
    /// The id of the n-th event's block.
    block: fn(u64) -> u64,
    events: u64,
    producers: u64,
    workers: usize,
    /// Events a millisecond and producer; as fast as it goes where there is none.
    pace: Option<u64>,
}

impl Run {
    fn raise(&self, producer: u64, started: Instant, interceptor: &Interceptor) {
        let share = self.events / self.producers;
        for i in 0..share {
            if let Some(pace) = self.pace
                && i % pace == 0
            {
                let due = Duration::from_millis(i / pace);
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
            let n = producer * share + i;
            let event = BlockEvent {
                kind: EventKind::Update,
                block: (self.block)(n),
                wal: n,
                time: n as i64,
                tag: 0,
            };
            if interceptor.raise(event).is_err() {
                return;
            }
        }
    }
}

fn run(run: &Run) -> Result<(), Box<dyn Error>> {
    let engine = Arc::new(Engine::open(&EngineConfig::default())?);
    let timed = Arc::new(Timed {
        sink: BitmapSink::new(Arc::clone(&engine), None),
        delay_ns: AtomicU64::new(0),
        longest_ns: AtomicU64::new(0),
        timed: AtomicU64::new(0),
    });
    let config = InterceptorConfig {
        capacity: NonZeroUsize::new(10_000).ok_or("no capacity")?,
        workers: NonZeroUsize::new(run.workers).ok_or("no worker")?,
    };
    let interceptor = Interceptor::new(config, Arc::clone(&timed) as Arc<dyn EventSink>);
    interceptor.start()?;
    let started = Instant::now();
    thread::scope(|scope| {
        for producer in 0..run.producers {
            let interceptor = &interceptor;
            scope.spawn(move || run.raise(producer, started, interceptor));
        }
    });
    interceptor.stop()?;
    let all = started.elapsed();
    let stats = interceptor.stats();
    if (stats.processed, stats.dropped) != (run.events, 0) {
        return Err(format!("lost events: {stats:?}").into());
    }
    for n in 0..run.events {
        if engine.state(BlockId((run.block)(n)))? != BlockState::Dirty {
            return Err(format!("event {n} is not in the bitmap").into());
        }
    }
    let of = timed.timed.load(Relaxed).max(1);
    println!(
        "{:<30} {} producers, {} workers: {:>6.2} M events/s, none lost; delay mean {:.3} ms, longest {:.3} ms",
        run.what,
        run.producers,
        run.workers,
        run.events as f64 / all.as_secs_f64() / 1e6,
        timed.delay_ns.load(Relaxed) as f64 / of as f64 / 1e6,
        timed.longest_ns.load(Relaxed) as f64 / 1e6,
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let in_order: fn(u64) -> u64 = |n| n;
    let in_turn: fn(u64) -> u64 = |n| ((n % 100_000) << 32) | ((1 << 31) + n / 100_000);
    for round in 1..=3 {
        println!("round {round}");
        for producers in [1, 4] {
            for workers in [2, 4] {
                for (what, block) in [
                    ("burst, blocks in order", in_order),
                    ("burst, 100 000 tables", in_turn),
                ] {
                    let (events, pace) = (1_000_000, None);
                    run(&Run {
                        what,
                        block,
                        events,
                        producers,
                        workers,
                        pace,
                    })?;
                }
            }
            let (what, block, events, workers) = ("100 000 a second", in_turn, 300_000, 4);
            let pace = Some(100 / producers);
            run(&Run {
                what,
                block,
                events,
                producers,
                workers,
                pace,
            })?;
        }
    }
    Ok(())
}
