//! One worker: its queue, what is kept beside it, and its loop.

use super::{core::Core, event::BlockEvent, gap::Gap};
use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

/// Events that are taken in between two looks at what is kept beside the queue.
const BATCH: usize = 256;
/// How long to wait before a gap that the sink refused is offered to it again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a worker that found nothing waits before it looks again, and how often before it sleeps until it is
/// woken.
const NAP: Duration = Duration::from_micros(50);
const NAPS: u32 = 20;

/// An event in a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) event: BlockEvent,
    /// ns since the interceptor was made; 0 if it is not timed.
    pub(super) raised_at: u64,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deferred {
    Queued,
    Full,
    Closed,
}

/// On cache lines of its own.
#[repr(align(128))]
pub(super) struct Shard {
    capacity: usize,
    /// The way in; none while the interceptor does not run. Whoever sends holds the lock.
    gate: RwLock<Option<Gate>>,
    /// The way out, for whoever takes in. Taking from the queue and giving to the sink is one step.
    taking: Mutex<Option<Receiver<Queued>>>,
    beside: Mutex<Beside>,
    /// Whether there is anything beside the queue.
    has_beside: AtomicBool,
    /// Events that were taken from the queue and are in.
    received: AtomicU64,
    /// How often the gate was opened: a worker that hung in a callback may belong to an earlier run.
    run: AtomicU64,
}

struct Gate {
    queue: Sender<Queued>,
    poke: Sender<()>,
}

/// What is kept beside a full queue. It is taken in when everything is that was in the queue before it: once so
/// many events were received, or the queue is empty.
#[derive(Default)]
struct Beside {
    /// Events that callbacks raised.
    events: VecDeque<(u64, Queued)>,
    gap: Gap,
    gap_due: u64,
}

/// What a worker sleeps on until it is woken.
pub(super) struct Outlet {
    run: u64,
    queue: Receiver<Queued>,
    poke: Receiver<()>,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            gate: RwLock::new(None),
            taking: Mutex::new(None),
            beside: Mutex::default(),
            has_beside: AtomicBool::new(false),
            received: AtomicU64::new(0),
            run: AtomicU64::new(0),
        }
    }

    pub(super) fn open(&self) -> Outlet {
        let (queue, outlet) = bounded(self.capacity);
        let (poke, poked) = bounded(1);
        let mut taking = self.taking.lock();
        *taking = Some(outlet.clone());
        let run = self.run.fetch_add(1, SeqCst) + 1;
        drop(taking);
        *self.gate.write() = Some(Gate { queue, poke });
        Outlet {
            run,
            queue: outlet,
            poke: poked,
        }
    }

    /// Closes the queue for new events. What is in it stays there for the worker.
    pub(super) fn close(&self) {
        *self.gate.write() = None;
    }

    pub(super) fn is_open(&self) -> bool {
        // Whoever writes opens or closes it.
        let gate = self.gate.try_read_recursive();
        gate.is_some_and(|gate| gate.is_some())
    }

    pub(super) fn len(&self) -> u64 {
        let queued = self.gate.read().as_ref().map_or(0, |gate| gate.queue.len());
        (queued + self.beside.lock().events.len()) as u64
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    pub(super) fn copy_gap(&self, into: &mut Gap) {
        into.merge(&self.beside.lock().gap);
    }

    /// Whether callbacks raised events that are not taken in yet. No other event may overtake them, as it may be of the
    /// same block.
    fn has_events_beside(&self) -> bool {
        self.has_beside.load(SeqCst) && !self.beside.lock().events.is_empty()
    }

    /// Queues an event if there is room.
    pub(super) fn send(&self, queued: Queued) -> Deferred {
        let gate = self.gate.read();
        let Some(gate) = gate.as_ref() else {
            return Deferred::Closed;
        };
        if self.has_events_beside() {
            return Deferred::Full;
        }
        match gate.queue.try_send(queued) {
            Ok(()) => Deferred::Queued,
            Err(TrySendError::Full(_)) => Deferred::Full,
            Err(TrySendError::Disconnected(_)) => Deferred::Closed,
        }
    }

    /// Queues an event if there is room. One from a callback may be kept beside the queue, as many as the queue
    /// itself holds.
    pub(super) fn offer(&self, queued: Queued, from_callback: bool) -> Deferred {
        // A worker that waited for this lock would wait for a stop that waits for the worker.
        let Some(gate) = self.gate.try_read_recursive() else {
            return Deferred::Closed;
        };
        let Some(gate) = gate.as_ref() else {
            return Deferred::Closed;
        };
        if !self.has_events_beside() {
            match gate.queue.try_send(queued) {
                Ok(()) => return Deferred::Queued,
                Err(TrySendError::Disconnected(_)) => return Deferred::Closed,
                Err(TrySendError::Full(_)) => {}
            }
        }
        if !from_callback {
            return Deferred::Full;
        }
        let mut beside = self.beside.lock();
        if beside.events.len() >= self.capacity.max(BATCH) {
            return Deferred::Full;
        }
        let due = self.due(gate);
        beside.events.push_back((due, queued));
        self.has_beside.store(true, SeqCst);
        drop(beside);
        let _ = gate.poke.try_send(());
        Deferred::Queued
    }

    /// When everything that is queued now will have been received: a worker may hold a batch at this moment.
    fn due(&self, gate: &Gate) -> u64 {
        // In this order: what a worker takes in between is then counted twice, the other way round not at all.
        let queued = gate.queue.len() + BATCH;
        self.received.load(SeqCst) + queued as u64
    }

    /// Waits until everything that is queued now, and the gap, is taken in.
    pub(super) fn settle(&self, deadline: Instant) -> bool {
        let mut due = None;
        loop {
            let done = {
                let queue = self.taking.lock();
                let queued = queue.as_ref().map_or(0, Receiver::len) as u64;
                let received = self.received.load(SeqCst);
                let due = *due.get_or_insert(received + queued);
                let beside = self.beside.lock();
                received >= due && beside.events.is_empty() && beside.gap.is_empty()
            };
            if done {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The event's block is to be taken in as changed.
    pub(super) fn add_to_gap(&self, event: &BlockEvent) {
        let gate = self.gate.read_recursive();
        let mut beside = self.beside.lock();
        beside.gap.add(event);
        if let Some(gate) = gate.as_ref() {
            beside.gap_due = beside.gap_due.max(self.due(gate));
        }
        self.has_beside.store(true, SeqCst);
        drop(beside);
        if let Some(gate) = gate.as_ref() {
            let _ = gate.poke.try_send(());
        }
    }

    /// The worker's loop: returns when the gate is closed and everything is taken in.
    pub(super) fn work(&self, outlet: &Outlet, core: &Core) {
        let mut select = Select::new();
        select.recv(&outlet.queue);
        select.recv(&outlet.poke);
        let mut batch = Vec::with_capacity(BATCH);
        let mut naps = 0;
        loop {
            batch.clear();
            if !self.take_batch(&outlet.queue, outlet.run, &mut batch, core) {
                return;
            }
            for queued in &batch {
                // The queue was finished while this worker hung in a callback: it tells the host of no more events.
                if self.run.load(SeqCst) != outlet.run {
                    return;
                }
                if core.is_silent.load(SeqCst) {
                    break;
                }
                let tell = || core.sink.tell(&queued.event);
                if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                    core.panics.fetch_add(1, Relaxed);
                }
            }
            if !batch.is_empty() {
                naps = 0;
                continue;
            }
            // To be woken for every event would cost whoever raises them more than the event itself: while they
            // come, look again after a moment.
            if naps < NAPS && !self.has_beside.load(SeqCst) {
                naps += 1;
                std::thread::sleep(NAP);
                continue;
            }
            while outlet.poke.try_recv().is_ok() {}
            if self.has_beside.load(SeqCst) {
                if self.is_closed(outlet) {
                    self.last_try(core);
                    return;
                }
                // The sink refused a gap; a gap that is not due yet is behind events that come.
                let _ = select.ready_timeout(AGAIN);
            } else if self.is_closed(outlet) {
                return;
            } else {
                select.ready();
            }
        }
    }

    fn is_closed(&self, outlet: &Outlet) -> bool {
        // Whoever sends an event or a poke holds the gate. Pokes stay: each is to wake the worker.
        self.gate.read().is_none() && outlet.queue.is_empty()
    }

    /// Takes in all that is left, without telling; false as [`Self::last_try`]. Also for a worker that hangs in a callback,
    /// which ends after that, and for one that could not be started.
    pub(super) fn finish(&self, core: &Core) -> bool {
        let (queue, run) = {
            let taking = self.taking.lock();
            (taking.clone(), self.run.fetch_add(1, SeqCst) + 1)
        };
        if let Some(queue) = queue {
            let mut batch = Vec::new();
            loop {
                batch.clear();
                self.take_batch(&queue, run, &mut batch, core);
                if batch.is_empty() {
                    break;
                }
            }
        }
        self.last_try(core)
    }

    /// Gives the sink the gap once more, in the end as a whole. False if it refuses even that: then it stays a gap, and
    /// the next start or stop offers it again.
    fn last_try(&self, core: &Core) -> bool {
        let _taking = self.taking.lock();
        self.take_beside(|| true, &mut Vec::new(), core);
        let gap = std::mem::take(&mut self.beside.lock().gap);
        if gap.is_empty() {
            return true;
        }
        let taken = catch_unwind(AssertUnwindSafe(|| core.sink.take_whole(&gap))).unwrap_or(false);
        let mut beside = self.beside.lock();
        if !taken {
            beside.gap.merge(&gap);
        }
        let nothing_left = beside.events.is_empty() && beside.gap.is_empty();
        self.has_beside.store(!nothing_left, SeqCst);
        taken
    }

    /// Takes up to a batch from the queue, and what is due beside it, and gives it to the sink. False if the
    /// queue is of an earlier run, which was finished.
    fn take_batch(
        &self,
        queue: &Receiver<Queued>,
        run: u64,
        batch: &mut Vec<Queued>,
        core: &Core,
    ) -> bool {
        let taking = self.taking.lock();
        if self.run.load(SeqCst) != run {
            return false;
        }
        batch.extend(queue.try_iter().take(BATCH));
        let from_queue = batch.len() as u64;
        self.give(batch, core);
        self.received.fetch_add(from_queue, SeqCst);
        if self.has_beside.load(SeqCst) {
            let mut more = Vec::new();
            self.take_beside(|| queue.is_empty(), &mut more, core);
            batch.append(&mut more);
        }
        drop(taking);
        true
    }

    /// Takes in what is due beside the queue; everything if `all` says so, which is asked under the lock: only what
    /// was put there before an empty queue was seen has nothing before it.
    fn take_beside(&self, all: impl FnOnce() -> bool, batch: &mut Vec<Queued>, core: &Core) {
        let received = self.received.load(SeqCst);
        let mut beside = self.beside.lock();
        let all = all();
        while let Some((due, queued)) = beside.events.front().copied() {
            if !all && due > received {
                break;
            }
            batch.push(queued);
            beside.events.pop_front();
        }
        let gap = if all || beside.gap_due <= received {
            std::mem::take(&mut beside.gap)
        } else {
            Gap::default()
        };
        let nothing_left = beside.events.is_empty() && beside.gap.is_empty();
        self.has_beside.store(!nothing_left, SeqCst);
        drop(beside);
        self.give(batch, core);
        if !gap.is_empty() {
            let taken = catch_unwind(AssertUnwindSafe(|| core.sink.take_gap(&gap)));
            if !taken.unwrap_or(false) {
                let mut beside = self.beside.lock();
                beside.gap.merge(&gap);
                beside.gap_due = received + (64 * BATCH) as u64;
                self.has_beside.store(true, SeqCst);
            }
        }
    }

    /// Gives events to the sink.
    fn give(&self, batch: &[Queued], core: &Core) {
        if batch.is_empty() {
            return;
        }
        let mut refused = 0;
        for queued in batch {
            let taken = catch_unwind(AssertUnwindSafe(|| core.sink.take(&queued.event)));
            if !taken.unwrap_or(false) {
                refused += 1;
                let mut beside = self.beside.lock();
                beside.gap.add(&queued.event);
                self.has_beside.store(true, SeqCst);
            }
        }
        if refused > 0 {
            core.count_dropped(refused);
        }
        let taken = batch.len() as u64 - refused;
        core.processed.fetch_add(taken, Relaxed);
        let mut delays = [Duration::ZERO; 8];
        let mut timed = 0;
        let raised = batch.iter().map(|queued| queued.raised_at);
        let mut now = None;
        for (delay, raised_at) in delays.iter_mut().zip(raised.filter(|at| *at > 0)) {
            let now = *now.get_or_insert_with(|| core.started.elapsed());
            *delay = now.saturating_sub(Duration::from_nanos(raised_at));
            timed += 1;
        }
        core.sink.taken(taken, &delays[..timed]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{EventKind, EventSink, Interceptor, InterceptorConfig},
        *,
    };
    use std::{num::NonZeroUsize, sync::Arc, thread};

    /// What was taken in, in its order: events by kind, gaps as `None`.
    #[derive(Default)]
    struct Taken(Mutex<Vec<Option<EventKind>>>);

    impl EventSink for Taken {
        fn take(&self, event: &BlockEvent) -> bool {
            self.0.lock().push(Some(event.kind));
            true
        }

        fn take_gap(&self, _gap: &Gap) -> bool {
            self.0.lock().push(None);
            true
        }
    }

    fn queued(kind: EventKind) -> Queued {
        let event = BlockEvent {
            kind,
            block: 7,
            wal: 1,
            time: 1,
            tag: 0,
        };
        Queued {
            event,
            raised_at: 0,
        }
    }

    /// An interceptor with one shard, whose worker the test is.
    fn interceptor(capacity: usize) -> (Interceptor, Arc<Taken>) {
        let taken = Arc::new(Taken::default());
        let config = InterceptorConfig {
            capacity: NonZeroUsize::new(capacity).unwrap(),
            workers: NonZeroUsize::MIN,
        };
        let sink: Arc<dyn EventSink> = Arc::clone(&taken) as _;
        (Interceptor::new(config, sink), taken)
    }

    #[test]
    fn a_gap_never_overtakes_a_flush_that_was_queued_after_the_queue_looked_empty() {
        let (interceptor, taken) = interceptor(1);
        let core = &interceptor.core;
        let shard = &interceptor.shards[0];
        let outlet = shard.open();
        let take = || shard.take_batch(&outlet.queue, outlet.run, &mut Vec::new(), core);
        thread::scope(|scope| {
            let mut beside = shard.beside.lock();
            shard.has_beside.store(true, SeqCst);
            let worker = scope.spawn(take);
            // Whatever the worker sees before it has the lock, it sees now.
            thread::sleep(Duration::from_millis(100));
            let flush = queued(EventKind::Flush);
            let gate = shard.gate.read();
            gate.as_ref().unwrap().queue.try_send(flush).unwrap();
            beside.gap.add(&queued(EventKind::Update).event);
            beside.gap_due = 1;
            drop(beside);
            assert!(worker.join().unwrap());
        });
        assert!(take());
        let taken = taken.0.lock().clone();
        assert_eq!(taken, [Some(EventKind::Flush), None]);
    }

    #[test]
    fn a_worker_that_looks_whether_it_is_done_leaves_the_poke_that_is_to_wake_it() {
        let (interceptor, _) = interceptor(1);
        let shard = &interceptor.shards[0];
        let outlet = shard.open();
        shard.add_to_gap(&queued(EventKind::Update).event);
        assert!(!shard.is_closed(&outlet));
        assert!(outlet.poke.try_recv().is_ok(), "it would sleep");
        shard.close();
        assert!(shard.is_closed(&outlet));
    }

    #[test]
    fn no_event_overtakes_what_a_callback_raised_before() {
        let (interceptor, taken) = interceptor(1);
        let core = &interceptor.core;
        let shard = &interceptor.shards[0];
        let outlet = shard.open();
        let first = queued(EventKind::Create);
        assert_eq!(shard.send(first), Deferred::Queued);
        // The queue is full, so it is kept beside it.
        let flush = queued(EventKind::Flush);
        assert_eq!(shard.offer(flush, true), Deferred::Queued);
        // There is room again, but nothing beside was taken in yet.
        assert!(outlet.queue.try_recv().is_ok());
        let update = queued(EventKind::Update);
        assert_eq!(shard.send(update), Deferred::Full);
        assert_eq!(shard.offer(update, false), Deferred::Full);
        shard.take_batch(&outlet.queue, outlet.run, &mut Vec::new(), core);
        assert_eq!(shard.send(update), Deferred::Queued);
        shard.take_batch(&outlet.queue, outlet.run, &mut Vec::new(), core);
        let taken = taken.0.lock().clone();
        assert_eq!(taken, [Some(EventKind::Flush), Some(EventKind::Update)]);
    }

    #[test]
    fn what_was_queued_without_a_worker_is_taken_in() {
        let (interceptor, taken) = interceptor(4);
        let shard = &interceptor.shards[0];
        // Opened, but the thread could not be started.
        drop(shard.open());
        assert_eq!(shard.send(queued(EventKind::Update)), Deferred::Queued);
        assert!(interceptor.stop().is_ok());
        assert_eq!(*taken.0.lock(), [Some(EventKind::Update)]);
    }
}
