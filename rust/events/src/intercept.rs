//! The event interceptor: block events from a host's threads, through bounded queues, to a sink.
//!
//! Every event of a block goes to the same worker, so the sink takes them in the order in which they were
//! raised. A full queue makes the raising thread wait, or, where the host chose so, drops the event: then the
//! event is counted, and its block is kept in a *gap* and taken in as changed as soon as everything that was
//! queued before it is. What a sink refuses goes the same way. So a change is never lost; at worst a block is
//! copied that need not be.
//!
//! Threads of the sink itself may raise events: they never wait for a queue, what does not fit is kept beside
//! it.
//!
//! | module | holds |
//! |---|---|
//! | `event` | what a host tells |
//! | `sink` | what an interceptor gives events to |
//! | `gap` | blocks whose events did not fit a queue |
//! | `core` | what an interceptor and its workers share |
//! | `shard` | one worker: its queue, what is kept beside it, and its loop |

mod core;
mod event;
mod gap;
mod shard;
mod sink;

pub use event::{BlockEvent, EventKind};
pub use gap::Gap;
pub use sink::EventSink;

use self::core::Core;
use parking_lot::Mutex;
use shard::{Deferred, Queued, Shard};
use std::{
    cell::Cell,
    fmt, io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What to do with an event whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Wait.
    Block,
    /// Drop the event, and make its block part of the gap.
    Drop,
}

/// How an interceptor is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterceptorConfig {
    /// Events that all queues together hold; at least one a worker.
    pub capacity: NonZeroUsize,
    /// Worker threads.
    pub workers: NonZeroUsize,
}

/// More workers than this are never useful.
pub const MOST_WORKERS: usize = 64;

impl InterceptorConfig {
    /// Twice the processors, at most [`MOST_WORKERS`].
    pub fn default_workers() -> NonZeroUsize {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        NonZeroUsize::new((2 * cores).min(MOST_WORKERS)).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Why an interceptor can't do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// It takes no events before `start` and after `stop`.
    #[error("the interceptor is not running: start it first; the event was not taken")]
    NotRunning,
    /// Stopping waits for the workers, so one of them can't do it.
    #[error(
        "the interceptor can't be stopped by one of its own callbacks; stop it from another thread"
    )]
    InCallback,
    /// A callback did not return in time.
    #[error(
        "a callback did not return within {waited:?}; the events that were queued behind it were taken in \
         without telling it, and its thread ends when it returns"
    )]
    StillBusy {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Blocks are in the gap, and the sink can't take them in any way.
    #[error(
        "the blocks of {events} events can't be marked, and are in the coverage gap only: see what is wrong with the \
         bitmap's memory or files, and stop again"
    )]
    GapIsOpen {
        /// How many events.
        events: u64,
    },
    /// A worker can't be started.
    #[error("no thread for the event workers: {0}; raise the limit on threads or ask for fewer")]
    NoThread(io::Error),
}

/// Numbers about an interceptor since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterceptStats {
    /// Events that the sink took in one by one.
    pub processed: u64,
    /// Events that were dropped or refused; their blocks are in the bitmap or in the gap.
    pub dropped: u64,
    /// Events that wait.
    pub queued: u64,
    /// Events that the queues hold at most.
    pub capacity: u64,
    /// Callbacks that panicked.
    pub panics: u64,
}

/// The interceptor. Any number of threads may use it; dropping it stops it.
pub struct Interceptor {
    core: Arc<Core>,
    shards: Arc<[Shard]>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

thread_local! {
    /// The interceptor whose worker this thread is.
    static WORKER_OF: Cell<*const Core> = const { Cell::new(std::ptr::null()) };
}

/// How long a thread that finds its queue full waits before it looks again.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

impl Interceptor {
    /// An interceptor that does not run yet.
    pub fn new(config: InterceptorConfig, sink: Arc<dyn EventSink>) -> Self {
        let workers = config.workers.get().min(MOST_WORKERS);
        let each = config.capacity.get().div_ceil(workers);
        Self {
            core: Arc::new(Core::new(sink)),
            shards: (0..workers).map(|_| Shard::new(each)).collect(),
            workers: Mutex::default(),
        }
    }

    /// What to do from now on with events whose queue is full; at first that is to wait.
    pub fn set_overflow(&self, overflow: Overflow) {
        self.core
            .drop_when_full
            .store(overflow == Overflow::Drop, Relaxed);
    }

    /// Starts the workers; does nothing if they run.
    pub fn start(&self) -> Result<(), InterceptError> {
        let mut workers = self.lock_workers()?;
        if !workers.is_empty() {
            return Ok(());
        }
        for index in 0..self.shards.len() {
            let queue = self.shards[index].open();
            let (core, shards) = (Arc::clone(&self.core), Arc::clone(&self.shards));
            let worker = thread::Builder::new()
                .name(format!("events-{index}"))
                .spawn(move || {
                    WORKER_OF.set(Arc::as_ptr(&core));
                    shards[index].work(&queue, &core);
                });
            match worker {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    self.shards.iter().for_each(Shard::close);
                    workers.drain(..).for_each(join);
                    // Events may have come in already, also where there is no worker. What the sink refuses stays a gap.
                    let _ = self.close_gap();
                    return Err(InterceptError::NoThread(error));
                }
            }
        }
        Ok(())
    }

    /// Takes no more events, takes in what is queued, and returns when every callback returned. Does nothing if
    /// it does not run.
    pub fn stop(&self) -> Result<(), InterceptError> {
        let mut workers = self.lock_workers()?;
        self.shards.iter().for_each(Shard::close);
        workers.drain(..).for_each(join);
        self.close_gap()
    }

    /// Takes in what was added to the gap after the workers ended, or while there were none: a thread that finds its queue
    /// full adds to the gap.
    fn close_gap(&self) -> Result<(), InterceptError> {
        // Tries every worker's gap, even if one before it fails.
        let shards = self.shards.iter();
        let refusing = shards.filter(|shard| !shard.finish(&self.core));
        match refusing.count() {
            0 => Ok(()),
            _ => Err(InterceptError::GapIsOpen {
                events: self.gap().events,
            }),
        }
    }

    /// Takes no more events and tells of no more; what is queued is still taken in. A callback uses this, as it can't wait
    /// for its own worker: [`Self::stop`] or a drop does the rest.
    pub fn abandon(&self) {
        self.core.is_silent.store(true, SeqCst);
        self.shards.iter().for_each(Shard::close);
    }

    /// As [`Self::stop`], but does not wait longer than `patience` for callbacks. Also then everything that was
    /// queued is taken in when this returns.
    pub fn stop_within(&self, patience: Duration) -> Result<(), InterceptError> {
        let deadline = Instant::now() + patience;
        let mut workers = self.lock_workers()?;
        self.shards.iter().for_each(Shard::close);
        while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let mut busy = false;
        for (worker, shard) in workers.drain(..).zip(self.shards.iter()) {
            if worker.is_finished() {
                join(worker);
            } else {
                shard.finish(&self.core);
                busy = true;
            }
        }
        self.close_gap()?;
        if busy {
            Err(InterceptError::StillBusy { waited: patience })
        } else {
            Ok(())
        }
    }

    /// Raises an event. When this returns Ok, the event is queued, or its block is in the gap.
    pub fn raise(&self, event: BlockEvent) -> Result<(), InterceptError> {
        let core = &self.core;
        let queued = Queued {
            event,
            raised_at: core.time_if_due(),
        };
        let shard = self.shard_of(event.block);
        let from_worker = self.is_own_worker();
        if from_worker || core.drop_when_full.load(Relaxed) {
            return match shard.offer(queued, from_worker) {
                Deferred::Queued => Ok(()),
                Deferred::Closed => Err(InterceptError::NotRunning),
                Deferred::Full => {
                    core.count_dropped(1);
                    shard.add_to_gap(&event);
                    Ok(())
                }
            };
        }
        let mut pause = SHORTEST_PAUSE;
        loop {
            match shard.send(queued) {
                Deferred::Queued => return Ok(()),
                Deferred::Closed => return Err(InterceptError::NotRunning),
                // Looking again after a moment costs less: waking a thread for every free place would cost the
                // worker more than many events.
                Deferred::Full => thread::sleep(pause),
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Waits until everything that was raised before is taken in, the gap too. False if that takes longer than
    /// `patience`, or if the calling thread is a worker.
    pub fn settle(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        !self.is_own_worker() && self.shards.iter().all(|shard| shard.settle(deadline))
    }

    /// The interceptor's counters.
    pub fn stats(&self) -> InterceptStats {
        InterceptStats {
            processed: self.core.processed.load(Relaxed),
            dropped: self.core.dropped.load(Relaxed),
            queued: self.shards.iter().map(Shard::len).sum(),
            capacity: self.shards.iter().map(Shard::capacity).sum(),
            panics: self.core.panics.load(Relaxed),
        }
    }

    /// The blocks of which events were dropped or refused and which the sink has not taken in yet.
    pub fn gap(&self) -> Gap {
        let mut gap = Gap::default();
        for shard in self.shards.iter() {
            shard.copy_gap(&mut gap);
        }
        gap
    }

    /// Bytes that the queues take.
    pub fn memory(&self) -> u64 {
        self.stats().capacity * size_of::<Queued>() as u64
    }

    /// Whether it takes events.
    pub fn is_running(&self) -> bool {
        self.shards.iter().all(Shard::is_open)
    }

    /// Whether the calling thread is one of its workers.
    pub fn is_own_worker(&self) -> bool {
        WORKER_OF
            .try_with(|worker| worker.get() == Arc::as_ptr(&self.core))
            .unwrap_or(false)
    }

    /// Blocks that lie together go to the same worker, which finds them together in the bitmap.
    fn shard_of(&self, block: u64) -> &Shard {
        let hash = (block >> 10).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &self.shards[hash as usize % self.shards.len()]
    }

    fn lock_workers(
        &self,
    ) -> Result<parking_lot::MutexGuard<'_, Vec<JoinHandle<()>>>, InterceptError> {
        if self.is_own_worker() {
            return Err(InterceptError::InCallback);
        }
        Ok(self.workers.lock())
    }
}

fn join(worker: JoinHandle<()>) {
    // A worker catches what its sink panics with.
    let _ = worker.join();
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        if let Err(InterceptError::InCallback) = self.stop() {
            // The workers end by themselves when they have taken in what is queued.
            self.abandon();
        }
    }
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interceptor")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
