//! Marks 10^9 blocks under `max_memory_mb = 1024` with persistence, checks queries, states time, memory and disk.
//!
//! `cargo run --release --example engine_billion -- DIRECTORY [BLOCKS] [order|tables]`
#![allow(clippy::unwrap_used, missing_docs)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, Mark, MarkedAt};
use std::path::Path;
use std::time::Instant;

const TABLES: u64 = 100_000;
/// Marks come 1 us apart, give or take 0.5 us: what a busy server's clock says.
fn time(i: u64) -> i64 {
    START + i as i64 * 1000 + (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as i64 % 1000
}

const START: i64 = 1_700_000_000_000_000_000;

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn disk(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().metadata().map_or(0, |m| m.len()))
        .sum()
}

fn check(engine: &Engine, n: u64, id: impl Fn(u64) -> u64) {
    let mut slowest = 0f64;
    for round in 0..200u64 {
        let at = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (n - 1000);
        let expected: Vec<BlockId> = (at..at + 1000).map(|i| BlockId(id(i))).collect();
        let start = Instant::now();
        assert_eq!(engine.find_by_wal(at..=at + 999, 2000).unwrap(), expected);
        slowest = slowest.max(start.elapsed().as_secs_f64());
        let (first, last) = (time(at), time(at + 999));
        assert_eq!(engine.find_by_time(first..=last, 2000).unwrap(), expected);
        let record = engine.block(BlockId(id(at))).unwrap();
        assert_eq!(
            (record.state, record.marked),
            (BlockState::Dirty, MarkedAt::new(at, first))
        );
    }
    println!(
        "  200 queries of 1 000 blocks by WAL and by time and 200 lookups exact; slowest query {:.2} ms",
        slowest * 1e3
    );
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Path::new(&args[1]);
    let n: u64 = args.get(2).map_or(1_000_000_000, |n| n.parse().unwrap());
    let time_major = args.get(3).is_some_and(|order| order == "tables");
    let id = |i: u64| {
        if time_major {
            (i % TABLES) << 32 | (i / TABLES)
        } else {
            i
        }
    };
    let config = EngineConfig {
        max_memory_mb: 1024,
        persistence_path: Some(dir.to_path_buf()),
    };
    let engine = Engine::open(&config).unwrap();
    let start = Instant::now();
    let mut peak_disk = 0;
    for i in 0..n {
        engine
            .mark(BlockId(id(i)), Mark::Dirty, MarkedAt::new(i, time(i)))
            .unwrap();
        if (i + 1) % (n / 20) == 0 {
            peak_disk = peak_disk.max(disk(dir));
            let memory = engine.memory();
            println!(
                "{:.0} s: {} M blocks, account {} MB (peak {}), resident {} MB (peak {}), disk {} MB",
                start.elapsed().as_secs_f64(),
                (i + 1) / 1_000_000,
                memory.current >> 20,
                memory.peak >> 20,
                status("VmRSS") >> 20,
                status("VmHWM") >> 20,
                disk(dir) >> 20
            );
        }
    }
    engine.sync().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{n} blocks in {seconds:.0} s ({:.2} M/s), disk {} MB (peak seen {} MB)",
        n as f64 / seconds / 1e6,
        disk(dir) >> 20,
        peak_disk >> 20
    );
    check(&engine, n, id);
    assert_eq!(engine.counts().dirty, n);
    let start = Instant::now();
    drop(engine);
    println!("closed in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let engine = Engine::open(&config).unwrap();
    println!(
        "reopened (every byte checked) in {:.1} s, damage: {}",
        start.elapsed().as_secs_f64(),
        engine.damage().len()
    );
    check(&engine, n, id);
    let memory = engine.memory();
    println!(
        "account {} MB, peak resident {} MB, limit 1024 MB",
        memory.current >> 20,
        status("VmHWM") >> 20
    );
}
