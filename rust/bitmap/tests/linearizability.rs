//! Whatever many threads do at once to a block, there is one order of their operations that explains every answer.
//!
//! `ENGINE_LINEAR_ROUNDS` sets the number of rounds (default 60).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, EngineError, Mark, MarkedAt};
use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const THREADS: u64 = 4;
const BLOCKS: u64 = 16;
/// Operations of a thread on a block in a round.
const EACH: u64 = 6;

/// What is known of a block: its state and the WAL position of its latest mark.
type Known = Option<(BlockState, u64)>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Mark(Mark, u64),
    Clear,
    Look,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Done,
    Refused,
    Unknown,
    Is(BlockState, u64),
    /// What no order of the operations explains. Not a panic, which would leave the other threads at the barrier.
    Failed,
}

/// An operation, its answer, and the moments between which it took place.
#[derive(Debug, Clone, Copy)]
struct Event {
    operation: Operation,
    answer: Answer,
    called: u64,
    returned: u64,
}

/// What the specification says.
fn step(known: Known, operation: Operation) -> (Known, Answer) {
    match (operation, known) {
        (Operation::Mark(mark, wal), known) => {
            let from = known.map_or(BlockState::Clean, |(state, _)| state);
            match from.after(mark) {
                Ok(to) => (Some((to, wal)), Answer::Done),
                Err(_) => (known, Answer::Refused),
            }
        }
        (Operation::Clear | Operation::Look, None) => (None, Answer::Unknown),
        (Operation::Clear, Some((_, wal))) => (Some((BlockState::Clean, wal)), Answer::Done),
        (Operation::Look, Some((state, wal))) => (known, Answer::Is(state, wal)),
    }
}

/// Is there an order of `events` that respects who returned before whom was called and explains every answer?
fn is_explained(events: &[Event]) -> bool {
    let all = (1u64 << events.len()) - 1;
    let mut seen = HashSet::new();
    let mut open: Vec<(u64, Known)> = vec![(0, None)];
    while let Some((done, known)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || {
            events
                .iter()
                .enumerate()
                .filter(|(i, _)| done >> i & 1 == 0)
        };
        let first_return = left().map(|(_, event)| event.returned).min().unwrap();
        for (i, event) in left().filter(|(_, event)| event.called < first_return) {
            let (next, answer) = step(known, event.operation);
            let after = (done | 1 << i, next);
            let key = (after.0, next.map(|(state, wal)| (state as u8, wal)));
            if answer == event.answer && seen.insert(key) {
                open.push(after);
            }
        }
    }
    false
}

fn perform(engine: &Engine, block: BlockId, operation: Operation) -> Answer {
    let done = match operation {
        Operation::Mark(mark, wal) => engine
            .mark(block, mark, MarkedAt::new(wal, wal as i64))
            .map(|_| Answer::Done),
        Operation::Clear => engine.clear(block).map(|()| Answer::Done),
        Operation::Look => engine.block(block).map(|record| {
            assert_eq!(record.marked.wal.0 as i64, record.marked.time.0);
            Answer::Is(record.state, record.marked.wal.0)
        }),
    };
    match done {
        Ok(answer) => answer,
        Err(EngineError::InvalidTransition { .. }) => Answer::Refused,
        Err(EngineError::BlockNotFound(_)) => Answer::Unknown,
        Err(error) => {
            eprintln!("{block}: {error}");
            Answer::Failed
        }
    }
}

/// Block `number` of a round: some in one shard, some in tables of their own.
fn block(round: u64, number: u64) -> BlockId {
    let dense = round * BLOCKS + number;
    BlockId(if number.is_multiple_of(2) {
        dense
    } else {
        dense.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63
    })
}

#[test]
fn the_answers_of_many_threads_have_one_order() {
    let impossible = Event {
        operation: Operation::Clear,
        answer: Answer::Done,
        called: 0,
        returned: 1,
    };
    assert!(!is_explained(&[impossible]));
    let rounds: u64 = std::env::var("ENGINE_LINEAR_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60);
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&EngineConfig {
        max_memory_mb: 16,
        persistence_path: Some(dir.path().to_path_buf()),
    })
    .unwrap();
    let (engine, clock, stop) = (&engine, &AtomicU64::new(0), &AtomicBool::new(false));
    let start = &Barrier::new(THREADS as usize);
    let histories: Vec<Vec<(BlockId, Event)>> = std::thread::scope(|scope| {
        // Meanwhile everything goes to disk and comes back, and runs are merged.
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                engine.cleanup_memory(0);
                engine.compact().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut history = Vec::new();
                    let mut random = thread + 1;
                    for round in 0..rounds {
                        for i in 0..BLOCKS * EACH {
                            if i.is_multiple_of(EACH) {
                                start.wait();
                            }
                            random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
                            let wal = ((round * BLOCKS * EACH + i) * THREADS + thread) + 1;
                            let operation = match random >> 40 & 15 {
                                0..=4 => Operation::Mark(Mark::Dirty, wal),
                                5..=6 => Operation::Mark(Mark::New, wal),
                                7..=8 => Operation::Mark(Mark::Deleted, wal),
                                9..=11 => Operation::Clear,
                                _ => Operation::Look,
                            };
                            let block = block(round, i / EACH);
                            let called = clock.fetch_add(1, SeqCst);
                            let answer = perform(engine, block, operation);
                            let returned = clock.fetch_add(1, SeqCst);
                            let event = Event {
                                operation,
                                answer,
                                called,
                                returned,
                            };
                            history.push((block, event));
                        }
                    }
                    history
                })
            })
            .collect();
        let histories = threads.into_iter().map(|t| t.join().unwrap()).collect();
        stop.store(true, SeqCst);
        histories
    });
    let mut overlapping = 0;
    for round in 0..rounds {
        for number in 0..BLOCKS {
            let block = block(round, number);
            let of_round = |history: &Vec<(BlockId, Event)>| {
                let first = (round * BLOCKS * EACH) as usize;
                let round = history[first..first + (BLOCKS * EACH) as usize].iter();
                round
                    .filter(|(of, _)| *of == block)
                    .map(|&(_, event)| event)
                    .collect::<Vec<_>>()
            };
            let mut events: Vec<Event> = histories.iter().flat_map(of_round).collect();
            events.sort_by_key(|event| event.called);
            let pairs = events.windows(2);
            overlapping += pairs.filter(|w| w[1].called < w[0].returned).count();
            assert!(is_explained(&events), "{block}: {events:#?}");
        }
    }
    println!(
        "{} operations of {THREADS} threads, {overlapping} overlapping on one block: one order explains all",
        rounds * BLOCKS * EACH * THREADS
    );
}
