//! Runs the main job on the recorded data and holds every answer against the others: what changed by the
//! committed files, what changed by the log, and what SQL said.

use capture::SourceChoice;
use model::{Key, Version};
use plan::detect::{self, Detection, Request, Since};
use recorded::{
    BASE, Result, Truth, check_every_checksum, data_dir, find, live_cells, live_keys, vnodes,
};
use std::{path::Path, process::ExitCode, time::Instant};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorded: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    for state in ["base", "incr_wal", "incr_flushed"] {
        let (pages, records) = check_every_checksum(&data_dir(state))?;
        println!("{state:<13} {pages:>4} pages and {records:>3} WAL records, every checksum right");
    }

    let started = Instant::now();
    let by_files = detect_since_base("incr_flushed", SourceChoice::Tsdb)?;
    let files_took = started.elapsed();
    let started = Instant::now();
    let by_log = detect_since_base("incr_wal", SourceChoice::Wal)?;
    println!(
        "\nwhat changed since version {BASE}: from the committed files ({:.1} ms) and from the WAL ({:.1} ms)",
        files_took.as_secs_f64() * 1e3,
        started.elapsed().as_secs_f64() * 1e3
    );

    let files = vnodes(&data_dir("incr_flushed"))?;
    let log = vnodes(&data_dir("incr_wal"))?;
    for (files, log) in files.iter().zip(&log) {
        let by_files = find(files, BASE, SourceChoice::Tsdb)?;
        let by_log = find(log, BASE, SourceChoice::Wal)?;
        if by_files.rows != by_log.rows || by_files.deletes != by_log.deletes {
            return Err(format!("vgroup {}: files and WAL disagree", files.vgroup).into());
        }
        println!(
            "  vgroup {}: the same {} rows (table, key, version) and {} deletes from both",
            files.vgroup,
            by_files.rows.len(),
            by_files.deletes.len()
        );
    }

    let truth = Truth::load("incr")?;
    compare_with_sql(&truth, &data_dir("incr_flushed"))?;
    println!(
        "  live keys rebuilt from the files: {} rows in {} tables, as SQL says",
        truth.rows(),
        truth.keys.len()
    );
    print_changes(&by_files, &by_log, &truth);
    print_rows(&by_files, &truth)
}

/// So many rows of each table are shown.
const SHOWN: usize = 1;

/// Reads every row from the files, holds each cell against what SQL showed, and shows some of the rows that changed.
fn print_rows(changed: &Detection, truth: &Truth) -> Result<()> {
    let started = Instant::now();
    let cells = live_cells(&data_dir("incr_flushed"))?;
    let took = started.elapsed();
    for (uid, rows) in &truth.cells {
        for (key, row) in rows {
            let found = cells.get(uid).and_then(|rows| rows.get(key));
            if found.and_then(|found| found.get(..row.len())) != Some(row.as_slice()) {
                return Err(format!("table {uid}, key {key}: SQL and files disagree").into());
            }
        }
    }
    println!(
        "\n{} rows with every cell, read from the files in {:.0} ms, as SQL shows them; some of those that changed:",
        truth.rows(),
        took.as_secs_f64() * 1e3
    );
    println!(
        "\n{:<6} {:>13}  {:>10}  {:>7}  {:>9}  {:<16} extra",
        "table", "ts", "current", "voltage", "phase", "note"
    );
    for (name, (uid, _)) in &truth.tables {
        let mut tables = changed.plan.tables.iter();
        let Some(table) = tables.find(|table| table.table.uid == *uid) else {
            continue;
        };
        let rows = cells.get(uid).into_iter().flatten();
        let in_span = |key: &Key| {
            table
                .spans
                .iter()
                .any(|s| s.first <= *key && *key <= s.last)
        };
        for (key, row) in rows.filter(|(key, _)| in_span(key)).take(SHOWN) {
            if let [current, voltage, phase, note, extra] = row.as_slice() {
                println!(
                    "{name:<6} {key:>13}  {current:>10}  {voltage:>7}  {phase:>9}  {note:<16} {extra}"
                );
            }
        }
    }
    Ok(())
}

fn detect_since_base(state: &str, source: SourceChoice) -> Result<Detection> {
    let request = Request {
        data_dirs: vec![data_dir(state)],
        database: Some("sdb".to_owned()),
        vgroup: None,
        since: Since::Version(Version(BASE.0)),
        source,
        window: None,
    };
    let detection = detect::run(&request, &())?;
    if !detection.plan.is_complete() {
        return Err(format!("{state}: not everything could be proved").into());
    }
    Ok(detection)
}

fn compare_with_sql(truth: &Truth, dir: &Path) -> Result<()> {
    let live = live_keys(dir)?;
    if live == truth.keys {
        return Ok(());
    }
    let wrong = truth
        .tables
        .iter()
        .find(|(_, (uid, _))| live.get(uid) != truth.keys.get(uid));
    Err(format!("SQL and files disagree about {wrong:?}").into())
}

fn print_changes(by_files: &Detection, by_log: &Detection, truth: &Truth) {
    println!(
        "\n{:<6} {:>6}  {:<7}  {:>5}  {:>5}  {:>7}  changed keys",
        "table", "vgroup", "state", "rows", "spans", "deletes"
    );
    for table in &by_log.plan.tables {
        let from_sql = truth
            .tables
            .iter()
            .find(|(_, (uid, _))| *uid == table.table.uid);
        let name = table.name.as_ref().or(from_sql.map(|(name, _)| name));
        let spans = table
            .spans
            .iter()
            .map(|span| format!("{}…{}", span.first, span.last));
        println!(
            "{:<6} {:>6}  {:<7}  {:>5}  {:>5}  {:>7}  {}",
            name.map_or("?", String::as_str),
            table.vgroup.0,
            plan::report::state_name(table.state),
            table.rows.unwrap_or(0),
            table.spans.len(),
            table.deletes.len(),
            spans.collect::<Vec<_>>().join(" ")
        );
    }
    println!(
        "\n{} rows in {} spans by the files, {} rows in {} spans by the WAL",
        by_files.plan.rows(),
        by_files
            .plan
            .tables
            .iter()
            .map(|table| table.spans.len())
            .sum::<usize>(),
        by_log.plan.rows(),
        by_log
            .plan
            .tables
            .iter()
            .map(|table| table.spans.len())
            .sum::<usize>()
    );
}
