//! How fast a vnode is scanned, against reading the same bytes and doing nothing with them.
//!
//! `cargo bench -p capture --bench scan`. Data comes from `tdwriter`: 10 M rows in 100 tables and two vnodes,
//! warm in the page cache. The last lines are ratios of medians of the same run.

#![allow(missing_docs, clippy::unwrap_used)]

use capture::{Change, DataDirs, TsdbSource, VnodeDir};
use criterion::{BenchmarkId, Criterion, Throughput};
use model::Version;
use std::{
    fs::{self, File},
    hint::black_box,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};
use tdfiles::wal::{Message, SegmentName, SegmentReader};
use tdwriter::{
    Row,
    wal::{Record, SUBMIT, SegmentWriter, TableRows, submit_rows},
};

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

/// Logs of two shapes: what a bulk load leaves (2 500 rows of one table in a request) and what scattered small
/// writes leave (50 rows).
fn wal(criterion: &mut Criterion, dir: &Path) {
    for rows_per_request in [2_500, 50] {
        let dir = dir.join(rows_per_request.to_string());
        let path = write_log(&dir, rows_per_request);
        let bytes = fs::metadata(&path).unwrap().len();
        let id = |what: &str| BenchmarkId::new(what, rows_per_request);
        let mut group = criterion.benchmark_group("wal");
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(id("plain_read"), |b| b.iter(|| plain_read(&path)));
        group.bench_function(id("checksum_only"), |b| b.iter(|| checksum_only(&path)));
        group.bench_function(id("dirty_spans"), |b| b.iter(|| dirty_spans(&path)));
        group.finish();
        let medians = ["plain_read", "checksum_only", "dirty_spans"]
            .map(|what| median(&format!("wal/{what}/{rows_per_request}")));
        if let [Some(plain), Some(checksum), Some(scan)] = medians {
            println!(
                "WAL, {rows_per_request} rows a request, {:.0} MB: plain read {:.2} GB/s, with checksum {:.2}, scan {:.2} = {:.2} x plain read",
                bytes as f64 / 1e6,
                bytes as f64 / plain,
                bytes as f64 / checksum,
                bytes as f64 / scan,
                plain / scan
            );
        }
    }
}

/// 4 M rows with a text column, about 44 bytes each.
fn write_log(dir: &Path, rows_per_request: i64) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let mut writer = SegmentWriter::create(dir, 0).unwrap();
    for version in 0..4_000_000 / rows_per_request {
        let row = |i: i64| {
            let ts = 1_704_067_200_000 + (version * rows_per_request + i) * 1_000;
            Row::new(ts, i as i32).with_text(format!("text{:012}", i % 1_000))
        };
        let table = TableRows {
            suid: 1,
            uid: 2 + version % 100,
            sver: 1,
            rows: (0..rows_per_request).map(row).collect(),
            ..TableRows::default()
        };
        let body = submit_rows(2, &[table]);
        let record = Record {
            version,
            ingest_us: version,
            msg_type: SUBMIT,
            term: 1,
            body,
        };
        writer.append(&record).unwrap();
    }
    writer.finish().unwrap();
    dir.join("00000000000000000000.log")
}

/// Reads through the standard library's `BufReader` and does nothing with the bytes.
fn plain_read(path: &Path) -> u64 {
    read(path, |_| {})
}

fn checksum_only(path: &Path) -> u32 {
    let mut sum = 0;
    read(path, |piece| sum ^= crc32c::crc32c(piece));
    sum
}

fn read(path: &Path, mut each: impl FnMut(&[u8])) -> u64 {
    let mut reader = BufReader::new(File::open(path).unwrap());
    let mut total = 0;
    loop {
        let piece = reader.fill_buf().unwrap();
        let len = piece.len();
        if len == 0 {
            return total;
        }
        total += len as u64;
        each(black_box(piece));
        reader.consume(len);
    }
}

/// What a scan does with a segment: every checksum, every message, the span of every table's rows.
fn dirty_spans(path: &Path) -> u64 {
    let name = SegmentName { first: Version(0) };
    let mut reader = SegmentReader::new(File::open(path).unwrap(), name, false).unwrap();
    let mut spans = 0;
    while let Ok(record) = reader.next_record() {
        let body = record.body.unwrap();
        if let Message::Submit(tables) =
            Message::decode(record.header.message_type, body, record.offset).unwrap()
        {
            for table in tables {
                spans += u64::from(black_box(table.rows.span()).is_some());
            }
        }
    }
    spans
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
            Ok(())
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
