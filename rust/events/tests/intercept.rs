//! The interceptor loses nothing, keeps the order of each block's events, and survives its callbacks.
#![allow(clippy::unwrap_used, clippy::panic)]

use events::intercept::{
    BlockEvent, EventKind, EventSink, Gap, InterceptError, Interceptor, InterceptorConfig, Overflow,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

type Callback = Box<dyn Fn(&BlockEvent) + Send + Sync>;

/// Remembers what it was given, by block, and does what a test asks for.
#[derive(Default)]
struct Memory {
    taken: Mutex<BTreeMap<u64, Vec<u64>>>,
    gap: Mutex<BTreeSet<u64>>,
    told: AtomicU64,
    dropped: AtomicU64,
    refuse: AtomicBool,
    refuse_gaps: AtomicBool,
    takes_whole: AtomicBool,
    callback: OnceLock<Callback>,
}

impl EventSink for Memory {
    fn take(&self, event: &BlockEvent) -> bool {
        if self.refuse.load(SeqCst) {
            return false;
        }
        let mut taken = self.taken.lock().unwrap();
        taken.entry(event.block).or_default().push(event.wal);
        true
    }

    fn take_gap(&self, gap: &Gap) -> bool {
        if self.refuse_gaps.load(SeqCst) {
            return false;
        }
        let mut blocks = self.gap.lock().unwrap();
        blocks.extend(&gap.blocks);
        true
    }

    fn take_whole(&self, gap: &Gap) -> bool {
        if self.takes_whole.load(SeqCst) {
            let (first, last) = gap.hull().unwrap();
            self.gap.lock().unwrap().extend(first..=last);
            return true;
        }
        self.take_gap(gap)
    }

    fn tell(&self, event: &BlockEvent) {
        self.told.fetch_add(1, SeqCst);
        if let Some(callback) = self.callback.get() {
            callback(event);
        }
    }

    fn dropped(&self, events: u64) {
        self.dropped.fetch_add(events, SeqCst);
    }
}

impl Memory {
    fn count(&self) -> usize {
        self.taken.lock().unwrap().values().map(Vec::len).sum()
    }

    fn blocks(&self) -> BTreeSet<u64> {
        self.taken.lock().unwrap().keys().copied().collect()
    }
}

fn interceptor(capacity: usize, workers: usize) -> (Arc<Memory>, Arc<Interceptor>) {
    let memory = Arc::new(Memory::default());
    let config = InterceptorConfig {
        capacity: NonZeroUsize::new(capacity).unwrap(),
        workers: NonZeroUsize::new(workers).unwrap(),
    };
    let interceptor = Interceptor::new(config, Arc::clone(&memory) as Arc<dyn EventSink>);
    (memory, Arc::new(interceptor))
}

fn update(block: u64, wal: u64) -> BlockEvent {
    BlockEvent {
        kind: EventKind::Update,
        block,
        wal,
        time: 0,
        tag: 0,
    }
}

/// Waits until something is so; for what has no other signal.
fn until(so: impl Fn() -> bool) {
    while !so() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn four_producers_lose_nothing_and_every_block_keeps_its_order() {
    let (memory, events) = interceptor(64, 3);
    events.start().unwrap();
    thread::scope(|scope| {
        for producer in 0..4_u64 {
            let events = &events;
            scope.spawn(move || {
                for wal in 0..20_000 {
                    let block = (wal % 50) << 12 | producer;
                    events.raise(update(block, wal)).unwrap();
                }
            });
        }
    });
    events.stop().unwrap();
    let stats = events.stats();
    assert_eq!(
        (stats.processed, stats.dropped, stats.queued),
        (80_000, 0, 0)
    );
    assert_eq!(memory.count(), 80_000);
    assert_eq!(memory.told.load(SeqCst), 80_000);
    for (block, wals) in &*memory.taken.lock().unwrap() {
        assert!(wals.is_sorted(), "block {block}");
        assert_eq!(wals.len(), 400);
    }
}

#[test]
fn it_takes_events_only_while_it_runs_and_can_run_again() {
    let (memory, events) = interceptor(10, 2);
    let refused = |wal| {
        matches!(
            events.raise(update(1, wal)),
            Err(InterceptError::NotRunning)
        )
    };
    assert!(refused(1));
    events.start().unwrap();
    events.start().unwrap();
    events.raise(update(1, 2)).unwrap();
    events.stop().unwrap();
    events.stop().unwrap();
    assert!(refused(3));
    events.start().unwrap();
    events.raise(update(1, 4)).unwrap();
    drop(events);
    assert_eq!(memory.taken.lock().unwrap()[&1], [2, 4]);
}

#[test]
fn a_dropped_event_is_counted_and_its_block_is_told_as_changed() {
    let (memory, events) = interceptor(4, 1);
    let stuck = Arc::new(AtomicBool::new(true));
    let in_callback = Arc::clone(&stuck);
    let _ = memory
        .callback
        .set(Box::new(move |_| until(|| !in_callback.load(SeqCst))));
    events.set_overflow(Overflow::Drop);
    events.start().unwrap();
    events.raise(update(0, 0)).unwrap();
    until(|| memory.told.load(SeqCst) == 1);
    for block in 1..=100 {
        events.raise(update(block, block)).unwrap();
    }
    let stats = events.stats();
    assert_eq!((stats.processed, stats.dropped, stats.queued), (1, 96, 4));
    assert_eq!(memory.dropped.load(SeqCst), 96);
    let gap = events.gap();
    assert_eq!((gap.blocks.len(), gap.wal, gap.events), (96, 100, 96));
    stuck.store(false, SeqCst);
    events.stop().unwrap();
    assert!(events.gap().is_empty());
    let mut seen = memory.blocks();
    assert_eq!(seen.len(), 5);
    seen.extend(&*memory.gap.lock().unwrap());
    assert_eq!(seen, (0..=100).collect());
}

#[test]
fn what_the_sink_refuses_becomes_a_gap_that_is_offered_until_it_is_taken() {
    let (memory, events) = interceptor(16, 1);
    memory.refuse.store(true, SeqCst);
    memory.refuse_gaps.store(true, SeqCst);
    events.start().unwrap();
    for block in 0..10 {
        events.raise(update(block, 0)).unwrap();
    }
    until(|| events.stats().dropped == 10);
    for _ in 0..2 {
        let stopped = events.stop();
        assert!(
            matches!(stopped, Err(InterceptError::GapIsOpen { events: 10 })),
            "a stop that leaves blocks unmarked says so"
        );
    }
    assert_eq!(events.gap().blocks.len(), 10, "kept over a stop");
    memory.refuse_gaps.store(false, SeqCst);
    events.start().unwrap();
    until(|| memory.gap.lock().unwrap().len() == 10);
    events.stop().unwrap();
    assert!(events.gap().is_empty());
    assert_eq!(events.stats().processed, 0);
}

#[test]
fn a_gap_that_is_refused_to_the_end_is_taken_as_a_whole_by_a_stop() {
    let (memory, events) = interceptor(16, 2);
    memory.refuse.store(true, SeqCst);
    memory.refuse_gaps.store(true, SeqCst);
    memory.takes_whole.store(true, SeqCst);
    events.start().unwrap();
    for block in [7, 9, 11 << 12] {
        events.raise(update(block, 0)).unwrap();
    }
    events.stop().unwrap();
    assert!(events.gap().is_empty());
    let whole = memory.gap.lock().unwrap().clone();
    assert!(whole.is_superset(&[7, 9, 11 << 12].into()), "{whole:?}");
}

#[test]
fn callbacks_may_raise_events_into_full_queues() {
    let (memory, events) = interceptor(2, 2);
    let again: Weak<Interceptor> = Arc::downgrade(&events);
    let _ = memory.callback.set(Box::new(move |event| {
        // Every event of a first generation raises one to the same and one to another block.
        if event.wal < 1_000
            && let Some(events) = again.upgrade()
        {
            events
                .raise(update(event.block, event.wal + 1_000))
                .unwrap();
            events
                .raise(update(event.block + (1 << 20), event.wal + 1_000))
                .unwrap();
        }
    }));
    events.start().unwrap();
    for wal in 0..300 {
        events.raise(update(wal % 7 * 4096, wal)).unwrap();
    }
    until(|| {
        let stats = events.stats();
        stats.processed + stats.dropped >= 900 && stats.queued == 0
    });
    events.stop().unwrap();
    let stats = events.stats();
    assert_eq!(stats.processed + stats.dropped, 900);
    let mut blocks = memory.blocks();
    blocks.extend(&*memory.gap.lock().unwrap());
    assert_eq!(blocks.len(), 14);
}

#[test]
fn a_callback_that_panics_costs_nothing_but_its_own_event() {
    let (memory, events) = interceptor(8, 2);
    let _ = memory.callback.set(Box::new(|event| {
        assert!(event.wal % 2 == 0, "an odd event");
    }));
    events.start().unwrap();
    for wal in 0..100 {
        events.raise(update(wal << 12, wal)).unwrap();
    }
    events.stop().unwrap();
    assert_eq!(memory.count(), 100);
    assert_eq!((events.stats().panics, memory.told.load(SeqCst)), (50, 100));
}

#[test]
fn a_callback_that_hangs_holds_up_no_change_when_it_is_stopped_within_a_time() {
    let (memory, events) = interceptor(1_000, 2);
    let stuck = Arc::new(AtomicBool::new(true));
    let in_callback = Arc::clone(&stuck);
    let _ = memory.callback.set(Box::new(move |event| {
        if event.block == 0 {
            until(|| !in_callback.load(SeqCst));
        }
    }));
    events.start().unwrap();
    for wal in 0..400 {
        events.raise(update(wal % 2, wal)).unwrap();
    }
    let stopped = events.stop_within(Duration::from_millis(20));
    assert!(matches!(stopped, Err(InterceptError::StillBusy { .. })));
    assert_eq!(memory.count(), 400, "everything is in");
    events.start().unwrap();
    events.raise(update(1 << 12, 401)).unwrap();
    stuck.store(false, SeqCst);
    events.stop().unwrap();
    assert_eq!(memory.count(), 401);
}

#[test]
fn a_callback_that_was_given_up_on_is_told_nothing_more() {
    let (memory, events) = interceptor(1_000, 1);
    let stuck = Arc::new(AtomicBool::new(true));
    let told = Arc::new(AtomicU64::new(0));
    let (in_callback, count) = (Arc::clone(&stuck), Arc::clone(&told));
    let _ = memory.callback.set(Box::new(move |event| {
        count.fetch_add(1, SeqCst);
        if event.wal == 1 {
            until(|| !in_callback.load(SeqCst));
        }
    }));
    events.start().unwrap();
    // The worker gets the first event alone or with all others, and these in any case together.
    let hold = memory.taken.lock().unwrap();
    for wal in 0..100 {
        events.raise(update(5, wal)).unwrap();
    }
    drop(hold);
    until(|| told.load(SeqCst) == 2);
    let stopped = events.stop_within(Duration::from_millis(20));
    assert!(matches!(stopped, Err(InterceptError::StillBusy { .. })));
    assert_eq!(memory.count(), 100, "everything is in");
    stuck.store(false, SeqCst);
    drop((memory, events));
    until(|| Arc::strong_count(&told) == 1);
    assert_eq!(told.load(SeqCst), 2);
}

#[test]
fn a_callback_can_neither_stop_nor_hang_its_interceptor() {
    let (memory, events) = interceptor(8, 1);
    let own: Weak<Interceptor> = Arc::downgrade(&events);
    let refused = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&refused);
    let _ = memory.callback.set(Box::new(move |_| {
        if let Some(events) = own.upgrade() {
            let stop = events.stop();
            let within = events.stop_within(Duration::from_secs(9));
            let start = events.start();
            for result in [stop, within, start] {
                assert!(matches!(result, Err(InterceptError::InCallback)));
                count.fetch_add(1, SeqCst);
            }
        }
    }));
    events.start().unwrap();
    events.raise(update(1, 1)).unwrap();
    until(|| refused.load(SeqCst) == 3);
    events.stop().unwrap();
}

#[test]
fn a_producer_that_waits_for_room_is_let_go_by_a_stop() {
    let (memory, events) = interceptor(1, 1);
    let stuck = Arc::new(AtomicBool::new(true));
    let in_callback = Arc::clone(&stuck);
    let _ = memory
        .callback
        .set(Box::new(move |_| until(|| !in_callback.load(SeqCst))));
    events.start().unwrap();
    let accepted = thread::scope(|scope| {
        let producer = scope.spawn(|| {
            (0..u64::MAX)
                .take_while(|wal| events.raise(update(0, *wal)).is_ok())
                .count()
        });
        until(|| events.stats().queued == 1 && memory.told.load(SeqCst) == 1);
        let _ = events.stop_within(Duration::from_millis(5));
        producer.join().unwrap()
    });
    stuck.store(false, SeqCst);
    assert_eq!(memory.count(), accepted);
}

#[test]
fn stops_and_starts_amid_events_lose_none_that_was_accepted() {
    let (memory, events) = interceptor(32, 2);
    let done = AtomicBool::new(false);
    let accepted = thread::scope(|scope| {
        let producers: Vec<_> = (0..2_u64)
            .map(|producer| {
                let (events, done) = (&events, &done);
                scope.spawn(move || {
                    let mut accepted = 0;
                    for wal in 0.. {
                        if done.load(SeqCst) {
                            break;
                        }
                        accepted +=
                            usize::from(events.raise(update(wal << 11 | producer, wal)).is_ok());
                    }
                    accepted
                })
            })
            .collect();
        for _ in 0..50 {
            events.start().unwrap();
            thread::sleep(Duration::from_millis(1));
            events.stop().unwrap();
        }
        done.store(true, SeqCst);
        producers
            .into_iter()
            .map(|p| p.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(memory.count(), accepted);
    assert_eq!(events.stats().processed, accepted as u64);
}

#[test]
fn what_was_raised_is_in_once_it_is_settled() {
    let (memory, events) = interceptor(50, 3);
    events.start().unwrap();
    for wal in 0..2_000 {
        events.raise(update(wal << 10, wal)).unwrap();
    }
    assert!(events.settle(Duration::from_secs(60)));
    assert_eq!(memory.count(), 2_000);
    memory.refuse.store(true, SeqCst);
    memory.refuse_gaps.store(true, SeqCst);
    events.raise(update(1, 1)).unwrap();
    assert!(!events.settle(Duration::from_millis(30)), "a gap is left");
}
