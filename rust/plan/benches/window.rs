//! What the width of windows does to a plan: how many spans it has and how many unchanged rows lie in them.
//!
//! `cargo bench -p plan --bench window`. The cost is that of a dump in rows: a span counts as 2 000 rows, which
//! `cargo bench -p e2e --bench span_cost` measures. One table, 1 M rows, one a second.

#![allow(missing_docs, clippy::unwrap_used)]

use capture::{Change, Coverage, KnownVnode, RowChange, ScanReport, SourceKind};
use model::{Key, Precision, Suid, TableId, Uid, Version, VgId};
use plan::{Ordinals, Planner, window::WindowWidth};
use std::collections::BTreeSet;
use tdfiles::vnode_json::VnodeJson;

const ROWS: i64 = 1_000_000;
const INTERVAL: i64 = 1_000;
const SPAN_COST: i64 = 2_000;
/// Rows in a window; the widths follow from the interval.
const PER_WINDOW: [i64; 9] = [1, 16, 128, 512, 1_024, 2_048, 4_096, 16_384, 131_072];

fn main() {
    println!(
        "{:<26} {:>9} {:>8} {:>10} {:>10} {:>12}",
        "changes", "rows", "a window", "spans", "rows read", "cost in rows"
    );
    for (name, keys) in workloads() {
        let mut best: Option<(i64, i64)> = None;
        for per_window in PER_WINDOW {
            let (spans, read) = plan(&keys, per_window * INTERVAL);
            let cost = spans * SPAN_COST + read;
            if best.is_none_or(|(_, least)| cost < least) {
                best = Some((per_window, cost));
            }
            println!(
                "{name:<26} {:>9} {per_window:>8} {spans:>10} {read:>10} {cost:>12}",
                keys.len()
            );
        }
        let (_, read) = (0, ROWS);
        println!(
            "{name:<26} {:>9} {:>8} {:>10} {read:>10} {:>12}",
            keys.len(),
            "full",
            1,
            read + SPAN_COST
        );
    }
}

/// Changed row numbers, ascending.
fn workloads() -> Vec<(&'static str, Vec<i64>)> {
    let scattered = |count: i64, run: i64| -> Vec<i64> {
        let keys: BTreeSet<i64> = (0..count)
            .flat_map(|i| {
                let at = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % (ROWS - run) as u64;
                (0..run).map(move |j| at as i64 + j)
            })
            .collect();
        keys.into_iter().collect()
    };
    vec![
        ("1 % appended", (ROWS - 10_000..ROWS).collect()),
        ("0.01 % scattered rows", scattered(100, 1)),
        ("0.1 % scattered rows", scattered(1_000, 1)),
        ("1 % in runs of 50", scattered(200, 50)),
        ("1 % in runs of 1 000", scattered(10, 1_000)),
        (
            "every tenth row of 10 %",
            (0..100_000).step_by(10).collect(),
        ),
    ]
}

/// Spans in the plan and rows that lie in them.
fn plan(rows: &[i64], width: i64) -> (i64, i64) {
    let mut planner = Planner::new(WindowWidth::from_ticks(width).unwrap(), Ordinals::default());
    let keys: Vec<Key> = rows.iter().map(|row| Key(row * INTERVAL)).collect();
    let versions = vec![Version(1); keys.len()];
    let table = TableId {
        suid: Suid(1),
        uid: Uid(2),
    };
    let mut changes = planner.vgroup();
    let change = RowChange::from_merged(table, &keys, &versions, &[]).unwrap();
    changes.add(Change::Rows(change)).unwrap();
    planner.add(VgId(2), changes, &report());
    let (plan, _) = planner.finish();
    let spans = &plan.tables[0].spans;
    let read = spans
        .iter()
        .map(|span| (span.last.0 - span.first.0) / INTERVAL + 1)
        .sum();
    (spans.len() as i64, read)
}

fn report() -> ScanReport {
    let vnode = br#"{"config":{"vgId":"2","dbname":"1.w","dbId":"1","precision":"0","maxRows":"4096","daysPerFile":"14400",
        "wal.level":"1","hashBegin":"0","hashEnd":"1"},"state":{"commit version":"1"}}"#;
    let vnode = VnodeJson::parse(vnode).unwrap();
    assert_eq!(vnode.precision, Precision::Milliseconds);
    let known = KnownVnode {
        db_id: vnode.db_id,
        hash_range: vnode.hash_range,
        compactions: Default::default(),
    };
    let coverage = Coverage {
        from: Version(0),
        to: Version(1),
        reasons: Vec::new(),
    };
    ScanReport {
        vnode,
        source: SourceKind::Tsdb,
        coverage,
        known,
    }
}
