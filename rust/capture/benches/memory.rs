//! Peak memory of a scan against the size of what it reads: it must stay flat.
//!
//! `cargo bench -p capture --bench memory`. Each line is a process of its own, so that peaks don't mix.

#![allow(missing_docs, clippy::unwrap_used)]

use capture::{Change, DataDirs, SourceChoice, Start};
use model::Version;
use std::{env, fs, path::Path, process::Command};

fn main() {
    match env::var("SCAN_DIR") {
        Ok(dir) => scan(Path::new(&dir)),
        Err(_) => compare(),
    }
}

fn compare() {
    let dir = tempfile::tempdir().unwrap();
    println!(
        "{:>12} {:>12} {:>10} {:>12} {:>12}",
        "rows", "MB in files", "source", "changes", "peak MB"
    );
    for rows in [10_000, 100_000, 400_000] {
        let root = dir.path().join(rows.to_string());
        tdwriter::vnode::big_irregular(&root, 100, rows, 1_000, 900, 1.0).unwrap();
        for source in ["tsdb", "wal"] {
            let output = Command::new(env::current_exe().unwrap())
                .env("SCAN_DIR", &root)
                .env("SCAN_SOURCE", source)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut fields = text.split_whitespace();
            let (changes, peak) = (fields.next().unwrap(), fields.next().unwrap());
            let size = size_of(&root) as f64 / 1e6;
            println!(
                "{:>12} {size:>12.1} {source:>10} {changes:>12} {peak:>12}",
                u64::from(rows) * 100
            );
        }
    }
}

/// Scans everything, drops every change, and prints their number and the process's peak memory.
fn scan(dir: &Path) {
    let source = match env::var("SCAN_SOURCE").unwrap().as_str() {
        "tsdb" => SourceChoice::Tsdb,
        _ => SourceChoice::Wal,
    };
    let start = Start {
        version: Version::BEGINNING,
        known: None,
    };
    let mut rows = 0;
    for vnode in DataDirs::new(vec![dir.into()]).unwrap().vnodes().unwrap() {
        vnode
            .scan(&start, source, &mut |change| {
                if let Change::Rows(changed) = change {
                    rows += changed.len();
                }
                Ok(())
            })
            .unwrap();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{rows} {:.1}", kib / 1024.0);
}

fn size_of(path: &Path) -> u64 {
    let meta = fs::metadata(path).unwrap();
    if meta.is_file() {
        return meta.len();
    }
    fs::read_dir(path)
        .unwrap()
        .map(|entry| size_of(&entry.unwrap().path()))
        .sum()
}
