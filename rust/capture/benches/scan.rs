//! How fast a vnode is scanned, against reading the same bytes and doing nothing with them.
//!
//! `cargo bench -p capture --bench scan`. Data comes from `tdwriter`: 10 M rows in 100 tables and two vnodes,
//! warm in the page cache. The last lines are ratios of medians of the same run.

#![allow(missing_docs, clippy::unwrap_used)]

use capture::{Change, ChangeSource, DataDirs, TsdbSource, VnodeDir, WalSource};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::{
    fs::{self, File},
    hint::black_box,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};
use tdfiles::Version;

const TABLES: u32 = 100;
const ROWS: u32 = 100_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let dir = tempfile::tempdir().unwrap();
    wal(&mut criterion, &dir.path().join("wal"));
    tsdb(&mut criterion, &dir.path().join("tsdb"));
    criterion.final_summary();
}

fn vnodes(dir: &Path) -> Vec<VnodeDir> {
    DataDirs::new(vec![dir.into()]).unwrap().vnodes().unwrap()
}

/// Everything was overwritten, so the log holds every row.
fn wal(criterion: &mut Criterion, dir: &Path) {
    tdwriter::vnode::big(dir, TABLES, ROWS, 1_000, 1.0).unwrap();
    let vnodes = vnodes(dir);
    let logs: Vec<PathBuf> = vnodes
        .iter()
        .flat_map(|vnode| fs::read_dir(vnode.primary.join("wal")).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    let bytes: u64 = logs
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    let mut group = criterion.benchmark_group("wal");
    group.throughput(Throughput::Bytes(bytes));
    for buffer in [8 * 1024, 256 * 1024] {
        group.bench_function(BenchmarkId::new("plain_read", buffer), |b| {
            b.iter(|| {
                logs.iter()
                    .map(|path| plain_read(path, buffer))
                    .sum::<u64>()
            });
        });
    }
    group.bench_function("checksums_only", |b| {
        b.iter(|| {
            logs.iter().fold(0, |sum, path| {
                let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).unwrap());
                let mut sum = sum;
                loop {
                    let piece = reader.fill_buf().unwrap();
                    let len = piece.len();
                    if len == 0 {
                        return sum;
                    }
                    sum = crc32c::crc32c_append(sum, piece);
                    reader.consume(len);
                }
            })
        });
    });
    group.bench_function("dirty_spans", |b| {
        b.iter(|| {
            let mut spans = 0u64;
            for vnode in &vnodes {
                let config = vnode.config().unwrap();
                let since = Version::BEGINNING;
                let mut wal = WalSource::open(vnode, &config, since, since).unwrap();
                wal.scan(since, &mut |change| {
                    if let Change::Rows(rows) = change {
                        spans += u64::from(black_box(rows.span).first <= rows.span.last);
                    }
                })
                .unwrap();
            }
            spans
        });
    });
    group.finish();
    for buffer in [8 * 1024, 256 * 1024] {
        let plain = median(&format!("wal/plain_read/{buffer}"));
        if let (Some(plain), Some(scan)) = (plain, median("wal/dirty_spans")) {
            println!(
                "WAL: {:.0} MB; scan {:.2} GB/s = {:.2} x plain read with a buffer of {buffer} bytes ({:.2} GB/s)",
                bytes as f64 / 1e6,
                bytes as f64 / scan,
                plain / scan,
                bytes as f64 / plain
            );
        }
    }
}

fn plain_read(path: &Path, buffer: usize) -> u64 {
    let mut reader = BufReader::with_capacity(buffer, File::open(path).unwrap());
    let mut total = 0;
    loop {
        let piece = reader.fill_buf().unwrap();
        let len = piece.len();
        if len == 0 {
            return total;
        }
        total += len as u64;
        black_box(piece);
        reader.consume(len);
    }
}

/// One row in a hundred was overwritten: half of those in `.stt` files, half in the log only.
fn tsdb(criterion: &mut Criterion, root: &Path) {
    let shapes = [("regular", 0), ("irregular", 900)];
    let mut group = criterion.benchmark_group("tsdb");
    for (shape, jitter) in shapes {
        let dir = root.join(shape);
        let truth =
            tdwriter::vnode::big_irregular(&dir, TABLES, ROWS, 1_000, jitter, 0.01).unwrap();
        let vnodes = vnodes(&dir);
        let since: Vec<Version> = truth
            .vnodes
            .iter()
            .map(|vnode| Version(vnode.since))
            .collect();
        for (what, from) in [
            ("dirty", &since),
            ("everything", &vec![Version::BEGINNING; since.len()]),
        ] {
            group.bench_function(BenchmarkId::new(what, shape), |b| {
                b.iter(|| scan_tsdb(&vnodes, from))
            });
            let scanned = scan_tsdb(&vnodes, from);
            let total: u64 = vnodes.iter().map(tsdb_bytes).sum();
            if let Some(median) = median(&format!("tsdb/{what}/{shape}")) {
                println!(
                    "TSDB {what}, {shape}: {:.1} ms, {} rows, {} index blocks ({:.2} M/s), {:.2} MB read of {:.1} MB in files ({:.2} %)",
                    median / 1e6,
                    scanned.rows,
                    scanned.blocks,
                    scanned.blocks as f64 * 1e3 / median,
                    scanned.bytes as f64 / 1e6,
                    total as f64 / 1e6,
                    scanned.bytes as f64 * 100.0 / total as f64
                );
            }
        }
    }
    group.finish();
}

#[derive(Default)]
struct Scanned {
    rows: u64,
    blocks: u64,
    bytes: u64,
}

fn scan_tsdb(vnodes: &[VnodeDir], since: &[Version]) -> Scanned {
    let mut scanned = Scanned::default();
    for (vnode, since) in vnodes.iter().zip(since) {
        let mut tsdb = TsdbSource::open(vnode, *since, None).unwrap();
        tsdb.scan(*since, &mut |change| {
            if let Change::Rows(rows) = change {
                scanned.rows += rows.len() as u64;
            }
        })
        .unwrap();
        scanned.blocks += tsdb.blocks_indexed();
        scanned.bytes += tsdb.bytes_read();
    }
    scanned
}

fn tsdb_bytes(vnode: &VnodeDir) -> u64 {
    let files = fs::read_dir(vnode.primary.join("tsdb")).unwrap();
    files
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// The median of a finished benchmark in ns; `None` when it was filtered out.
fn median(id: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let text =
        fs::read_to_string(target.join("criterion").join(id).join("new/estimates.json")).ok()?;
    let (_, rest) = text.split_once(r#""median":"#)?;
    let (_, rest) = rest.split_once(r#""point_estimate":"#)?;
    rest.split([',', '}']).next()?.parse().ok()
}
