//! The engine against a plain `BTreeMap`: whatever is done to both, every answer is equal.
//!
//! `ENGINE_MODEL_OPERATIONS` sets the number of operations per kind of engine (default 60 000 in memory and 21 000 on disk).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, EngineError, KeySpan, Mark, MarkedAt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Clone)]
enum Operation {
    Mark(u64, Mark, u64, i64, Option<(i64, i64)>),
    Burst(u64, u64, u64, i64),
    Clear(u64),
    Query(u64, u64, i64, i64, usize),
    Scan(u64, u64),
    Lookup(u64),
    Counts,
    Compact,
    Spill,
    Restart,
}

/// Ids of a few crowded tables, of dense ranges across shards, and of tables with one block each.
fn block() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0u64..6, 0u64..40).prop_map(|(table, window)| table << 32 | window),
        3 => 65_500u64..65_600,
        2 => (0u64..300).prop_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        1 => prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1)],
    ]
}

fn wal() -> impl Strategy<Value = u64> {
    prop_oneof![10 => 0u64..500, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![10 => -250i64..250, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as Op;
    let mark = prop_oneof![4 => Just(Mark::Dirty), 2 => Just(Mark::New), 1 => Just(Mark::Deleted)];
    let span = proptest::option::of((-9i64..9, -9i64..9));
    prop_oneof![
        60 => (block(), mark, wal(), time(), span).prop_map(|(b, m, w, t, s)| Op::Mark(b, m, w, t, s)),
        2 => (block(), 1u64..400, wal(), time()).prop_map(|(b, n, w, t)| Op::Burst(b, n, w, t)),
        20 => block().prop_map(Op::Clear),
        6 => (wal(), wal(), time(), time(), 0usize..60).prop_map(|(a, b, c, d, n)| Op::Query(a, b, c, d, n)),
        1 => (wal(), wal()).prop_map(|(a, b)| Op::Scan(a, b)),
        10 => block().prop_map(Op::Lookup),
        2 => Just(Op::Counts),
        1 => Just(Op::Compact),
        1 => Just(Op::Spill),
        1 => Just(Op::Restart),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    state: BlockState,
    marked: MarkedAt,
    span: Option<KeySpan>,
}

#[derive(Default)]
struct Model(BTreeMap<u64, Known>);

impl Model {
    /// `true` if the mark is allowed.
    fn mark(&mut self, block: u64, mark: Mark, marked: MarkedAt, span: Option<KeySpan>) -> bool {
        let old = self.0.get(&block).copied();
        let from = old.map_or(BlockState::Clean, |known| known.state);
        let Ok(state) = from.after(mark) else {
            return false;
        };
        let span = match old {
            Some(old) if from != BlockState::Clean => match (old.span, span) {
                (Some(a), Some(b)) => Some(a.union(b)),
                _ => None,
            },
            _ => span,
        };
        self.0.insert(
            block,
            Known {
                state,
                marked,
                span,
            },
        );
        true
    }

    fn find<K: Ord>(&self, key: impl Fn(&Known) -> K, low: K, high: K) -> Vec<BlockId> {
        let found = |known: &Known| matches!(known.state, BlockState::Dirty | BlockState::New);
        let mut all: Vec<_> = self
            .0
            .iter()
            .filter(|(_, known)| found(known) && key(known) >= low && key(known) <= high)
            .map(|(&block, known)| (key(known), BlockId(block)))
            .collect();
        all.sort();
        all.into_iter().map(|(_, block)| block).collect()
    }
}

fn check(
    engine: &mut Option<Engine>,
    config: &EngineConfig,
    model: &mut Model,
    operation: &Operation,
) {
    let open = || Engine::open(config).unwrap();
    let e = engine.get_or_insert_with(open);
    match *operation {
        Operation::Mark(block, mark, wal, time, span) => {
            let span = span.map(|(a, b)| KeySpan {
                first: a.min(b),
                last: a.max(b),
            });
            let marked = MarkedAt::new(wal, time);
            let result = match span {
                Some(span) => e.mark_span(BlockId(block), mark, marked, span),
                None => e.mark(BlockId(block), mark, marked),
            };
            if model.mark(block, mark, marked, span) {
                assert_eq!(result.unwrap(), model.0[&block].state);
            } else {
                assert!(matches!(result, Err(EngineError::InvalidTransition { .. })));
            }
        }
        Operation::Burst(first, count, wal, time) => {
            let marks: Vec<_> = (0..count)
                .map(|i| {
                    let marked =
                        MarkedAt::new(wal.saturating_add(i), time.saturating_add(i as i64));
                    (BlockId(first.saturating_add(i)), marked)
                })
                .collect();
            let result = e.mark_batch(Mark::Dirty, marks.iter().copied());
            let refused = marks
                .iter()
                .position(|&(block, at)| !model.mark(block.0, Mark::Dirty, at, None));
            match refused {
                None => assert_eq!(result.unwrap() as u64, count),
                Some(at) => assert_eq!(result.unwrap_err().applied, at),
            }
        }
        Operation::Clear(block) => match (e.clear(BlockId(block)), model.0.get_mut(&block)) {
            (Ok(()), Some(known)) => known.state = BlockState::Clean,
            (Err(EngineError::BlockNotFound(_)), None) => {}
            other => panic!("clear of {block}: {other:?}"),
        },
        Operation::Query(wal0, wal1, time0, time1, limit) => {
            let mut by_wal = model.find(|known| known.marked.wal.0, wal0, wal1);
            by_wal.truncate(limit);
            assert_eq!(e.find_by_wal(wal0..=wal1, limit).unwrap(), by_wal);
            let mut by_time = model.find(|known| known.marked.time.0, time0, time1);
            by_time.truncate(limit);
            assert_eq!(e.find_by_time(time0..=time1, limit).unwrap(), by_time);
        }
        Operation::Scan(low, high) => {
            let expected = model.find(|known| known.marked.wal.0, low, high);
            let mut cursor = e.scan_by_wal(low..=high).unwrap();
            let mut found = Vec::new();
            loop {
                let page = cursor.next_page(7).unwrap();
                // What is marked while a cursor is open is not in it.
                let marked = MarkedAt::new(low, 0);
                let block = found.len() as u64;
                let allowed = e.mark(BlockId(block), Mark::Dirty, marked).is_ok();
                assert_eq!(allowed, model.mark(block, Mark::Dirty, marked, None));
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            assert_eq!(found, expected);
        }
        Operation::Lookup(block) => {
            let known = model.0.get(&block).copied();
            match known {
                None => assert!(matches!(
                    e.state(BlockId(block)),
                    Err(EngineError::BlockNotFound(_))
                )),
                Some(known) => {
                    assert_eq!(e.state(BlockId(block)).unwrap(), known.state);
                    let record = e.block(BlockId(block)).unwrap();
                    assert_eq!(
                        (record.state, record.marked),
                        (known.state, known.marked),
                        "{block}"
                    );
                    if known.state != BlockState::Clean {
                        assert_eq!(record.span, known.span, "{block}");
                    }
                }
            }
        }
        Operation::Counts => {
            let counts = e.counts();
            let of = |state| {
                model
                    .0
                    .values()
                    .filter(|known| known.state == state)
                    .count() as u64
            };
            assert_eq!(counts.total, model.0.len() as u64);
            assert_eq!(
                (counts.dirty, counts.new, counts.deleted),
                (
                    of(BlockState::Dirty),
                    of(BlockState::New),
                    of(BlockState::Deleted)
                )
            );
        }
        Operation::Compact => e.compact().unwrap(),
        Operation::Spill => {
            e.cleanup_memory(0);
        }
        Operation::Restart => {
            if config.persistence_path.is_some() {
                e.sync().unwrap();
                *engine = None;
                assert!(Engine::open(config).unwrap().damage().is_empty());
            }
        }
    }
}

fn run(persistent: bool, default: usize) {
    let operations: usize = std::env::var("ENGINE_MODEL_OPERATIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default);
    let length = 3000;
    let mut runner = TestRunner::new(Config {
        cases: (operations / length).max(1) as u32,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    });
    let history = proptest::collection::vec(operation(), length);
    let (done, marks) = (AtomicU64::new(0), AtomicU64::new(0));
    runner
        .run(&history, |history| {
            let dir = tempfile::tempdir().unwrap();
            let config = EngineConfig {
                max_memory_mb: 64,
                persistence_path: persistent.then(|| dir.path().join("state")),
            };
            let mut engine = None;
            let mut model = Model::default();
            for operation in &history {
                check(&mut engine, &config, &mut model, operation);
                let made = match *operation {
                    Operation::Mark(..) => 1,
                    Operation::Burst(_, count, ..) => count,
                    _ => 0,
                };
                marks.fetch_add(made, Relaxed);
            }
            done.fetch_add(history.len() as u64, Relaxed);
            Ok(())
        })
        .unwrap();
    println!(
        "{} operations with {} marks (persistent: {persistent}): every answer equal",
        done.into_inner(),
        marks.into_inner()
    );
}

#[test]
fn an_engine_in_memory_answers_like_the_model() {
    run(false, 60_000);
}

#[test]
fn an_engine_with_spills_and_restarts_answers_like_the_model() {
    run(true, 21_000);
}
