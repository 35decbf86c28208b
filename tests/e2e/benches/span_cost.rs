//! What a span costs a dump, in rows: how many rows could be read in the time that asking for one more span takes.
//! The width of windows follows from it. Needs a server: `TDENGINE_HOME=… cargo bench -p e2e --bench span_cost`.

#![allow(clippy::unwrap_used)]

use e2e::{Connection, Installation, Server};
use std::time::Instant;

const ROWS: i64 = 1_000_000;
/// 2024-01-01 in ms; one row a second.
const START: i64 = 1_704_067_200_000;

fn main() {
    let installation = match Installation::find() {
        Ok(installation) => installation,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let server = Server::start(&installation).unwrap();
    let c = server.connect().unwrap();
    c.execute("create database w vgroups 1 stt_trigger 1")
        .unwrap();
    c.execute("create table w.t (ts timestamp, a float, b int, c float)")
        .unwrap();
    for first in (0..ROWS).step_by(5_000) {
        let row = |i: i64| format!("({},{}.5,{i},0.25)", START + i * 1_000, i % 100);
        let values: String = (first..first + 5_000).map(row).collect();
        c.execute(&format!("insert into w.t values {values}"))
            .unwrap();
    }
    c.execute("flush database w").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    let mut medians = Vec::new();
    for rows in [1i64, 256, 1_024, 4_096, 16_384, 65_536] {
        let n = (200_000 / rows).clamp(5, 200);
        let mut times: Vec<f64> = (0..n)
            .map(|i| query(&c, i * 37 * rows % (ROWS - rows), rows))
            .collect();
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!("span of {rows:>6} rows: {:>8.3} ms", median * 1e3);
        medians.push((rows, median));
    }
    let ((_, one), (most, all)) = (medians[0], medians[medians.len() - 1]);
    let row = (all - one) / (most - 1) as f64;
    println!(
        "a span costs {:.3} ms, a row {:.3} µs: a span is worth {:.0} rows",
        one * 1e3,
        row * 1e6,
        one / row
    );
}

/// Counts and reads a span, as a dump does; returns seconds.
fn query(c: &Connection, first: i64, rows: i64) -> f64 {
    let (first, last) = (START + first * 1_000, START + (first + rows - 1) * 1_000);
    let range = format!("from w.t where _c0 >= {first} and _c0 <= {last}");
    let started = Instant::now();
    assert_eq!(
        c.query(&format!("select count(*) {range}")).unwrap()[0][0],
        rows.to_string()
    );
    let found = c
        .query(&format!("select * {range} order by _c0 asc"))
        .unwrap();
    assert_eq!(found.len(), rows as usize);
    started.elapsed().as_secs_f64()
}
