//! The memory limit and the memory account. One test at a time: they compare with the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, EngineError, Mark, MarkedAt};
use std::sync::Mutex;

static ALONE: Mutex<()> = Mutex::new(());
const MB: u64 = 1 << 20;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn id(i: u64) -> BlockId {
    BlockId(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn at(i: u64) -> MarkedAt {
    MarkedAt::new(i, id(i).0 as i64)
}

#[test]
fn the_account_agrees_with_the_process() {
    let _alone = ALONE.lock();
    let before = resident();
    let engine = Engine::open(&EngineConfig::default()).unwrap();
    for i in 0..1_000_000 {
        engine.mark(id(i), Mark::Dirty, at(i)).unwrap();
    }
    engine.compact().unwrap();
    let account = engine.memory().current as f64;
    let process = (resident() - before) as f64;
    let ratio = process / account;
    // The allocator keeps some of what was given back.
    assert!(
        (0.7..1.7).contains(&ratio),
        "account {account}, process {process}"
    );
    let usage = engine.memory();
    assert_eq!(usage.allocated - usage.freed, usage.current);
    assert!(usage.peak >= usage.current && usage.allocations > usage.frees);
}

#[test]
fn a_full_engine_without_persistence_refuses_marks_and_keeps_every_one_it_took() {
    let _alone = ALONE.lock();
    let engine = Engine::open(&EngineConfig {
        max_memory_mb: 8,
        persistence_path: None,
    })
    .unwrap();
    let mut taken = 0;
    let refused = loop {
        match engine.mark(id(taken), Mark::Dirty, at(taken)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000_000, "the limit never came");
    };
    assert!(matches!(refused, EngineError::MemoryFull { limit, .. } if limit == 8 * MB));
    assert!(
        engine.memory().peak <= 8 * MB * 105 / 100,
        "{:?}",
        engine.memory()
    );
    assert!(engine.memory().is_warning());
    assert_eq!(engine.counts().dirty, taken);
    let found = engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
    assert!(found.iter().copied().eq((0..taken).map(id)));
    engine.clear(id(0)).unwrap();
    engine.set_memory_limit(64).unwrap();
    engine.mark(id(taken), Mark::Dirty, at(taken)).unwrap();
}

#[test]
fn what_an_open_cursor_costs_is_counted_and_given_back() {
    let _alone = ALONE.lock();
    let engine = Engine::open(&EngineConfig {
        max_memory_mb: 8,
        persistence_path: None,
    })
    .unwrap();
    let blocks = 200_000;
    let mark = |i: u64| engine.mark(BlockId(i), Mark::Dirty, MarkedAt::new(i, i as i64));
    for i in 0..blocks {
        mark(i).unwrap();
    }
    let cursor = engine.scan_by_wal(0..=u64::MAX).unwrap();
    // As a backup does that clears what it has copied. An id and its state are kept of each.
    for i in 0..blocks {
        engine.clear(BlockId(i)).unwrap();
    }
    let full = (0..10_000_000).find_map(|i| mark(blocks + i * 1000).err());
    assert!(matches!(full, Some(EngineError::MemoryFull { used, .. }) if used > blocks * 9));
    drop(cursor);
    // There is room again, without anybody asking how much.
    mark(0).unwrap();
    assert!(engine.memory().peak > blocks * 9, "{:?}", engine.memory());
}

#[test]
fn a_full_engine_with_persistence_goes_on_and_answers_from_disk() {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&EngineConfig {
        max_memory_mb: 8,
        persistence_path: Some(dir.path().to_path_buf()),
    })
    .unwrap();
    let blocks = 1_000_000u64;
    for i in 0..blocks {
        let time = (i as i64).wrapping_mul(7_919_193) % 1_000_000_007;
        engine
            .mark(BlockId(i), Mark::Dirty, MarkedAt::new(i, time))
            .unwrap();
    }
    let usage = engine.memory();
    assert!(usage.peak <= 8 * MB * 105 / 100, "{usage:?}");
    let expected: Vec<_> = (1000..3000).map(BlockId).collect();
    assert_eq!(
        engine.find_by_wal(1000..=2999, usize::MAX).unwrap(),
        expected
    );
    let mut by_time: Vec<_> = (0..blocks)
        .map(|i| {
            (
                (i as i64).wrapping_mul(7_919_193) % 1_000_000_007,
                BlockId(i),
            )
        })
        .collect();
    by_time.sort_unstable();
    let found = engine
        .find_by_time(i64::MIN..=i64::MAX, usize::MAX)
        .unwrap();
    assert!(
        found
            .iter()
            .copied()
            .eq(by_time.iter().map(|&(_, block)| block))
    );
    engine.cleanup_memory(0);
    let after = engine
        .find_by_time(i64::MIN..=i64::MAX, usize::MAX)
        .unwrap();
    assert_eq!(found, after);
}

/// What the test below expects of block `i` of `blocks`: every 7th was marked again, every 11th cleared.
fn check_spilled(engine: &Engine, blocks: u64) {
    let state = |i: u64| match i {
        _ if i.is_multiple_of(11) => BlockState::Clean,
        _ if i.is_multiple_of(5) => BlockState::New,
        _ => BlockState::Dirty,
    };
    let wal = |i: u64| if i.is_multiple_of(7) { blocks + i } else { i };
    let states = (0..blocks).map(|i| engine.state(id(i)).unwrap());
    assert!(states.eq((0..blocks).map(state)));
    let counts = engine.counts();
    let of = |wanted| (0..blocks).filter(|&i| state(i) == wanted).count() as u64;
    assert_eq!(
        (counts.total, counts.dirty, counts.new),
        (blocks, of(BlockState::Dirty), of(BlockState::New))
    );
    let mut expected: Vec<_> = (0..blocks)
        .filter(|&i| state(i) != BlockState::Clean)
        .map(|i| (wal(i), id(i)))
        .collect();
    expected.sort_unstable();
    let found = engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
    assert!(
        found
            .into_iter()
            .eq(expected.iter().map(|&(_, block)| block))
    );
    let low = blocks / 2;
    let expected = expected.iter().filter(|(wal, _)| *wal >= low);
    let found = engine.find_by_wal(low..=u64::MAX, 1000).unwrap();
    assert!(found.iter().eq(expected.take(1000).map(|(_, block)| block)));
    let last = engine.block(id(blocks - 1)).unwrap();
    assert_eq!(
        last.marked,
        MarkedAt::new(wal(blocks - 1), wal(blocks - 1) as i64)
    );
}

#[test]
fn an_engine_whose_states_alone_exceed_the_limit_keeps_them_on_disk() {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        max_memory_mb: 4,
        persistence_path: Some(dir.path().to_path_buf()),
    };
    let blocks = 400_000u64;
    let before = resident();
    let engine = Engine::open(&config).unwrap();
    let mark = |i: u64, mark: Mark, wal: u64| {
        let marked = MarkedAt::new(wal, wal as i64);
        engine.mark(id(i), mark, marked).unwrap();
    };
    for i in 0..blocks {
        mark(
            i,
            if i.is_multiple_of(5) {
                Mark::New
            } else {
                Mark::Dirty
            },
            i,
        );
    }
    for i in (0..blocks).step_by(7) {
        mark(i, Mark::Dirty, blocks + i);
    }
    for i in (0..blocks).step_by(11) {
        engine.clear(id(i)).unwrap();
    }
    let usage = engine.memory();
    assert!(usage.peak <= 4 * MB * 105 / 100, "{usage:?}");
    let process = resident() - before;
    assert!(process < 20 * MB, "the process grew by {process} bytes");
    check_spilled(&engine, blocks);
    drop(engine);
    let engine = Engine::open(&config).unwrap();
    assert!(engine.damage().is_empty());
    check_spilled(&engine, blocks);
    let usage = engine.memory();
    assert!(usage.peak <= 4 * MB * 105 / 100, "{usage:?}");
}

#[test]
fn blocks_marked_and_cleared_for_ever_do_not_grow_the_engine() {
    let _alone = ALONE.lock();
    let engine = Engine::open(&EngineConfig {
        max_memory_mb: 64,
        persistence_path: None,
    })
    .unwrap();
    let mut held = Vec::new();
    for round in 0..60u64 {
        for block in 0..20_000u64 {
            let wal = round * 20_000 + block;
            engine
                .mark(
                    BlockId(block),
                    Mark::Dirty,
                    MarkedAt::new(wal, id(wal).0 as i64),
                )
                .unwrap();
            if block % 2 == 0 {
                engine.clear(BlockId(block)).unwrap();
            }
        }
        engine.compact().unwrap();
        held.push(engine.memory().current);
    }
    let (early, late) = (
        held[20..40].iter().max().unwrap(),
        held[40..].iter().max().unwrap(),
    );
    assert!(*late <= early * 5 / 4, "{held:?}");
    assert_eq!(
        engine
            .find_by_time(i64::MIN..=i64::MAX, usize::MAX)
            .unwrap()
            .len(),
        10_000
    );
}

#[test]
fn an_engine_whose_blocks_are_all_cleared_forgets_their_index_entries() {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    for path in [None, Some(dir.path().to_path_buf())] {
        let engine = Engine::open(&EngineConfig {
            max_memory_mb: 256,
            persistence_path: path,
        })
        .unwrap();
        for block in 0..400_000u64 {
            engine.mark(BlockId(block), Mark::Dirty, at(block)).unwrap();
        }
        engine.compact().unwrap();
        let held = engine.memory().current;
        for block in 0..400_000u64 {
            engine.clear(BlockId(block)).unwrap();
        }
        engine.compact().unwrap();
        assert!(
            engine.memory().current < held,
            "{} of {held}",
            engine.memory().current
        );
        assert!(engine.find_by_wal(0..=u64::MAX, 10).unwrap().is_empty());
        assert_eq!(engine.block(BlockId(5)).unwrap().marked, at(5));
    }
}
