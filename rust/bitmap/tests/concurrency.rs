//! Many threads on one engine: no mark is lost, and no reader sees half of one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockCursor, BlockId, BlockState, Engine, EngineConfig, Mark, MarkedAt};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Lets other threads end, also if this one fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

const WRITERS: u64 = 4;
const BLOCKS: u64 = 40_000;

/// Ids spread over shards and tables.
fn id(i: u64) -> u64 {
    match i % 3 {
        0 => i,
        1 => (i % 500) << 32 | i,
        _ => i.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63,
    }
}

fn engine(path: Option<&std::path::Path>) -> Engine {
    Engine::open(&EngineConfig {
        max_memory_mb: 64,
        persistence_path: path.map(Into::into),
    })
    .unwrap()
}

#[test]
fn no_mark_of_any_thread_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for path in [None, Some(dir.path())] {
        let engine = engine(path);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let engine = &engine;
                scope.spawn(move || {
                    for i in (writer..BLOCKS).step_by(WRITERS as usize) {
                        engine
                            .mark(BlockId(id(i)), Mark::Dirty, MarkedAt::new(i, -(i as i64)))
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(engine.counts().dirty, BLOCKS);
        let expected: Vec<_> = (0..BLOCKS).map(|i| BlockId(id(i))).collect();
        assert_eq!(
            engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap(),
            expected
        );
        let backwards: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(
            engine.find_by_time(i64::MIN..=0, usize::MAX).unwrap(),
            backwards
        );
    }
}

#[test]
fn a_reader_sees_all_of_a_mark_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(Some(dir.path()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                let _stop = Stop(stop);
                // Every mark has wal == time, and round after round raises both.
                for round in 1..=60u64 {
                    for block in (writer..2000).step_by(2) {
                        let wal = round * 10_000 + block;
                        engine
                            .mark(
                                BlockId(id(block)),
                                Mark::Dirty,
                                MarkedAt::new(wal, wal as i64),
                            )
                            .unwrap();
                    }
                    if writer == 0 && round % 20 == 0 {
                        engine.sync().unwrap();
                    }
                }
            });
        }
        for reader in 0..2u64 {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                let mut seen = vec![0; 2000];
                let mut n = reader;
                let mut done = false;
                while !done {
                    done = stop.load(SeqCst);
                    n += 1;
                    let block = n * 7 % 2000;
                    if let Ok(record) = engine.block(BlockId(id(block))) {
                        assert_eq!(record.marked.wal.0 as i64, record.marked.time.0);
                        assert_eq!(record.state, BlockState::Dirty);
                        assert!(
                            record.marked.wal.0 >= seen[block as usize],
                            "a block went back in time"
                        );
                        seen[block as usize] = record.marked.wal.0;
                    }
                    if n.is_multiple_of(50) {
                        // One moment: a block that is marked is in it exactly once.
                        let known = engine.counts().dirty as usize;
                        let found = engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
                        let distinct: HashSet<_> = found.iter().collect();
                        assert_eq!(distinct.len(), found.len());
                        assert!(found.len() >= known, "a marked block is missing");
                    }
                }
            });
        }
    });
    assert_eq!(
        engine
            .find_by_time(i64::MIN..=i64::MAX, usize::MAX)
            .unwrap()
            .len(),
        2000
    );
}

#[test]
fn cursors_see_their_moment_through_marks_clears_merges_and_spills() {
    let dir = tempfile::tempdir().unwrap();
    for path in [None, Some(dir.path())] {
        let engine = Engine::open(&EngineConfig {
            max_memory_mb: 8,
            persistence_path: path.map(Into::into),
        })
        .unwrap();
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_041);
            (random >> 33) % below
        };
        // Of each block that is found the WAL position of its latest mark.
        let mut known: BTreeMap<u64, u64> = BTreeMap::new();
        let mut cursors: Vec<(BlockCursor, Vec<BlockId>)> = Vec::new();
        for round in 0..50 {
            for _ in 0..1500 {
                let block = id(next(4000));
                if next(3) == 0 {
                    if known.remove(&block).is_some() {
                        engine.clear(BlockId(block)).unwrap();
                    }
                    continue;
                }
                let wal = match next(50) {
                    0 => u64::MAX,
                    _ => next(3000),
                };
                let marked = MarkedAt::new(wal, i64::MIN);
                engine.mark(BlockId(block), Mark::Dirty, marked).unwrap();
                known.insert(block, wal);
            }
            let mut expected: Vec<_> = known.iter().map(|(&block, &wal)| (wal, block)).collect();
            expected.sort_unstable();
            // The last comes first.
            let expected = expected.iter().rev().map(|&(_, block)| BlockId(block));
            let cursor = engine.scan_by_wal(0..=u64::MAX).unwrap();
            cursors.push((cursor, expected.collect()));
            match next(4) {
                0 => engine.compact().unwrap(),
                1 => drop(engine.cleanup_memory(0)),
                2 => engine.sync().unwrap(),
                _ => {}
            }
            for (cursor, left) in &mut cursors {
                let page = cursor.next_page(1 + next(700) as usize).unwrap();
                assert!(!page.is_empty() || left.is_empty(), "round {round}");
                for block in page {
                    assert_eq!(Some(block), left.pop(), "round {round}");
                }
            }
            cursors.retain(|(_, left)| !left.is_empty());
        }
        assert!(cursors.len() > 3, "few stayed open");
    }
}

#[test]
fn a_snapshot_is_one_moment_of_a_changing_engine() {
    let engine = engine(None);
    let position = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    for block in 0..5000 {
        engine
            .mark(BlockId(id(block)), Mark::Dirty, MarkedAt::new(block, 0))
            .unwrap();
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let writer = scope.spawn(|| {
            // Marks and clears move through the blocks: at any moment all but the cleared one are dirty.
            let mut round = 0u64;
            while !stop.load(SeqCst) {
                let block = BlockId(id(round % 5000));
                engine.clear(block).unwrap();
                engine
                    .mark(block, Mark::Dirty, MarkedAt::new(5000 + round, 0))
                    .unwrap();
                round += 1;
                position.store(round, SeqCst);
            }
        });
        for _ in 0..30 {
            let before = position.load(SeqCst);
            let mut cursor = engine.scan_by_wal(0..=u64::MAX).unwrap();
            // The engine changes under the snapshot, however the threads are scheduled.
            while position.load(SeqCst) < before + 100 {
                assert!(!writer.is_finished(), "the writer failed");
                std::thread::yield_now();
            }
            let mut found = HashSet::new();
            loop {
                let page = cursor.next_page(97).unwrap();
                if page.is_empty() {
                    break;
                }
                for block in page {
                    assert!(found.insert(block), "{block} twice in one snapshot");
                }
                std::thread::yield_now();
            }
            assert!(
                found.len() == 5000 || found.len() == 4999,
                "{}",
                found.len()
            );
        }
    });
}

#[test]
fn what_was_deleted_and_changed_is_clean_at_no_moment() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(Some(dir.path()));
    let (block, stop) = (BlockId(7), AtomicBool::new(false));
    let at = |i: u64| MarkedAt::new(i, i as i64);
    engine.mark(block, Mark::Deleted, at(0)).unwrap();
    std::thread::scope(|scope| {
        let (engine, stop) = (&engine, &stop);
        scope.spawn(move || {
            let _stop = Stop(stop);
            for i in 0..200_000 {
                engine.mark(block, Mark::Deleted, at(i)).unwrap();
                engine.mark_changed(block, at(i)).unwrap();
            }
        });
        while !stop.load(SeqCst) {
            assert_ne!(engine.state(block).unwrap(), BlockState::Clean);
        }
    });
    assert_eq!(engine.state(block).unwrap(), BlockState::Dirty);
}
