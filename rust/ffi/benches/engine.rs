//! Measures the engine through its C ABI, each figure beside a bare `RoaringTreemap` in the same run.
//!
//! `cargo bench --bench engine [-- NAME]`; `ENGINE_BENCH_ROUNDS` (default 5) rounds, medians are printed.
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, missing_docs)]

use incremental_bitmap::header::*;
use incremental_bitmap::*;
use roaring::RoaringTreemap;
use std::hint::black_box;
use std::ptr;
use std::time::Instant;

/// A pointer that threads may share: the engine is made for it.
#[derive(Clone, Copy)]
struct Shared(*mut SBitmapEngine);
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

fn rounds() -> usize {
    std::env::var("ENGINE_BENCH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn trim() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> i32;
    }
    unsafe { malloc_trim(0) };
}

fn mark(engine: *mut SBitmapEngine, id: u64, i: u64) {
    let code = unsafe {
        bitmap_engine_mark_dirty(
            engine,
            id,
            1000 + i,
            1_700_000_000_000_000_000 + i as i64 * 1000,
        )
    };
    assert_eq!(code, 0);
}

fn hashed(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn marks(name: &str, n: u64, target: f64, id: impl Fn(u64) -> u64 + Copy + Send + Sync) {
    let (mut engine_rates, mut bare_rates, mut four_rates, mut ratios) =
        (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds() {
        let mut bare = RoaringTreemap::new();
        let start = Instant::now();
        for i in 0..n {
            bare.insert(id(i));
        }
        let bare_rate = n as f64 / start.elapsed().as_secs_f64() / 1e6;
        drop(black_box(bare));

        let engine = bitmap_engine_init();
        let start = Instant::now();
        for i in 0..n {
            mark(engine, id(i), i);
        }
        let rate = n as f64 / start.elapsed().as_secs_f64() / 1e6;
        unsafe { bitmap_engine_destroy(engine) };

        let shared = Shared(bitmap_engine_init());
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    let shared = shared;
                    for i in n / 4 * thread..n / 4 * (thread + 1) {
                        mark(shared.0, id(i), i);
                    }
                });
            }
        });
        four_rates.push(n as f64 / start.elapsed().as_secs_f64() / 1e6);
        unsafe { bitmap_engine_destroy(shared.0) };
        engine_rates.push(rate);
        bare_rates.push(bare_rate);
        ratios.push(rate / bare_rate);
    }
    let (one, four) = (median(engine_rates), median(four_rates));
    println!(
        "{name}: engine {one:.1} M/s (target {target}), bare treemap {:.1} M/s, ratio {:.2}; 4 threads {four:.1} M/s ({:.2} x 1 thread)",
        median(bare_rates),
        median(ratios),
        four / one
    );
}

/// Every fourth block of one table for each of four threads: all in one shard, and no longer in order. One thread marks
/// in order, and then in the order that four threads make which take turns: what that costs is not the lock's.
fn interleaved(n: u64) {
    const TURN: u64 = 1000;
    let in_turns = |i: u64| {
        let (turn, within) = (i / TURN, i % TURN);
        turn / 4 * 4 * TURN + within * 4 + turn % 4
    };
    let time = |threads: u64, id: &(dyn Fn(u64) -> u64 + Sync)| {
        let shared = Shared(bitmap_engine_init());
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let shared = shared;
                    for i in (thread..n).step_by(threads as usize) {
                        mark(shared.0, id(i), id(i));
                    }
                });
            }
        });
        let rate = n as f64 / start.elapsed().as_secs_f64() / 1e6;
        unsafe { bitmap_engine_destroy(shared.0) };
        rate
    };
    let mut rates = [vec![], vec![], vec![]];
    for _ in 0..rounds() {
        rates[0].push(time(1, &|i| i));
        rates[1].push(time(1, &in_turns));
        rates[2].push(time(4, &|i| i));
    }
    let [ordered, turns, four] = rates.map(median);
    println!(
        "every fourth block of one table (worst case): 1 thread in order {ordered:.1} M/s, 1 thread in turns of 1 000 {turns:.1} M/s, 4 threads {four:.1} M/s ({:.2} x in order, {:.2} x in turns)",
        four / ordered,
        four / turns
    );
}

fn batch(n: u64) {
    let mut rates = vec![];
    for _ in 0..rounds() {
        let engine = bitmap_engine_init();
        let all: Vec<SBlockMark> = (0..n)
            .map(|i| SBlockMark {
                block_id: i,
                wal_offset: 1000 + i,
                timestamp: i as i64,
            })
            .collect();
        let start = Instant::now();
        for marks in all.chunks(1000) {
            assert_eq!(
                unsafe {
                    bitmap_engine_mark_dirty_batch(
                        engine,
                        marks.as_ptr(),
                        marks.len(),
                        ptr::null_mut(),
                    )
                },
                0
            );
        }
        rates.push(n as f64 / start.elapsed().as_secs_f64() / 1e6);
        unsafe { bitmap_engine_destroy(engine) };
    }
    println!("in order, batches of 1000: {:.1} M/s", median(rates));
}

fn bytes(n: u64) {
    trim();
    let before = resident();
    let engine = bitmap_engine_init();
    for i in 0..n {
        mark(engine, i, i);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    trim();
    let rss = resident() - before;
    let mut stats: SMemoryStats = unsafe { std::mem::zeroed() };
    unsafe { bitmap_engine_get_memory_stats(engine, &raw mut stats) };
    println!(
        "resident bytes a block at {n} in order, own WAL and time: {:.2} (target 8); the engine's account says {:.2}",
        rss as f64 / n as f64,
        stats.current_mb * f64::from(1 << 20) / n as f64
    );
    unsafe { bitmap_engine_destroy(engine) };

    trim();
    let before = resident();
    let engine = bitmap_engine_init();
    let mut x = 7u64;
    let mut time = 1_700_000_000_000_000_000i64;
    for i in 0..n {
        x = hashed(x);
        time += (x % 2_000_000) as i64;
        assert_eq!(
            unsafe { bitmap_engine_mark_dirty(engine, i, 1000 + i / 3, time) },
            0
        );
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    trim();
    println!(
        "  the same with times at random steps of up to 2 ms: {:.2}",
        (resident() - before) as f64 / n as f64
    );
    unsafe { bitmap_engine_destroy(engine) };

    trim();
    let before = resident();
    let engine = bitmap_engine_init();
    for i in 0..n / 10 {
        mark(engine, hashed(i), i);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    trim();
    println!(
        "  hashed ids, {}: {:.1}",
        n / 10,
        (resident() - before) as f64 / (n / 10) as f64
    );
    unsafe { bitmap_engine_destroy(engine) };

    trim();
    let before = resident();
    let mut states = bitmap::BlockStates::default();
    for i in 0..n {
        states
            .mark(bitmap::BlockId(i), bitmap::Mark::Dirty)
            .unwrap();
    }
    trim();
    println!(
        "  state alone: {:.3} (target 1)",
        (resident() - before) as f64 / n as f64
    );
    drop(black_box(states));
}

fn query(name: &str, n: u64, again: bool, id: impl Fn(u64) -> u64) {
    let engine = bitmap_engine_init();
    if again {
        for i in 0..n {
            mark(engine, id(i), 0);
        }
    }
    for i in 0..n {
        mark(engine, id(i), i);
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut out = vec![0u64; 1000];
    let (mut by_time, mut by_wal) = (vec![], vec![]);
    for round in 0..2000u64 {
        let at = hashed(round) % (n - 1000);
        let start = Instant::now();
        let found = unsafe {
            let first = 1_700_000_000_000_000_000 + at as i64 * 1000;
            bitmap_engine_get_dirty_blocks_by_time(
                engine,
                first,
                first + 999_000,
                out.as_mut_ptr(),
                1000,
            )
        };
        by_time.push(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(found, 1000);
        let start = Instant::now();
        let found = unsafe {
            bitmap_engine_get_dirty_blocks_by_wal(
                engine,
                1000 + at,
                1999 + at,
                out.as_mut_ptr(),
                1000,
            )
        };
        by_wal.push(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(found, 1000);
        assert_eq!(out[0], id(at));
    }
    println!(
        "1 000 of {n} {name}: by time {:.1} us, by WAL {:.1} us (target 50)",
        median(by_time),
        median(by_wal)
    );
    unsafe { bitmap_engine_destroy(engine) };
}

fn lookup(name: &str, n: u64, id: impl Fn(u64) -> u64) {
    let engine = bitmap_engine_init();
    let mut bare = RoaringTreemap::new();
    for i in 0..n {
        mark(engine, id(i), i);
        bare.insert(id(i));
    }
    let asked: Vec<u64> = (0..n).map(|i| id(hashed(i) % n)).collect();
    let (mut ours, mut bares, mut metadata) = (vec![], vec![], vec![]);
    for _ in 0..rounds() {
        let start = Instant::now();
        for &block in &asked {
            let mut state = 0;
            assert_eq!(
                unsafe { bitmap_engine_get_block_state(engine, block, &raw mut state) },
                0
            );
            black_box(state);
        }
        ours.push(start.elapsed().as_secs_f64() * 1e9 / n as f64);
        let start = Instant::now();
        for &block in &asked {
            black_box(bare.contains(block));
        }
        bares.push(start.elapsed().as_secs_f64() * 1e9 / n as f64);
        let start = Instant::now();
        for &block in &asked[..asked.len() / 10] {
            let mut m: SBlockMetadata = unsafe { std::mem::zeroed() };
            assert_eq!(
                unsafe { bitmap_engine_get_block_metadata(engine, block, &raw mut m) },
                0
            );
            black_box(m);
        }
        metadata.push(start.elapsed().as_secs_f64() * 1e10 / n as f64);
    }
    println!(
        "random lookup among {n} {name}: state {:.0} ns (target 100), bare treemap {:.0} ns; metadata {:.0} ns",
        median(ours),
        median(bares),
        median(metadata)
    );
    unsafe { bitmap_engine_destroy(engine) };
}

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let run = |name: &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| name.contains(wanted.as_str()))
    };
    if run("bytes") {
        bytes(10_000_000);
    }
    if run("order") {
        marks("in order, 10^7", 10_000_000, 15.0, |i| i);
        batch(10_000_000);
        interleaved(10_000_000);
    }
    if run("tables") {
        marks(
            "time-major over 100 000 tables, 10^7",
            10_000_000,
            8.0,
            |i| (i % 100_000) << 32 | (i / 100_000),
        );
    }
    if run("hashed") {
        marks("hashed, 10^6", 1_000_000, 2.0, hashed);
    }
    if run("query") {
        query("in order", 1_000_000, false, |i| i);
        query("hashed", 1_000_000, false, hashed);
        query("in order, all marked before", 1_000_000, true, |i| i);
    }
    if run("lookup") {
        lookup("in order", 1_000_000, |i| i);
        lookup("hashed", 1_000_000, hashed);
    }
}
