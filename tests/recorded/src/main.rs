//! Runs the main job on the recorded data and holds every answer against the others: what changed by the
//! committed files, what changed by the log, and what SQL said.

use capture::SourceChoice;
use model::Version;
use plan::detect::{self, Detection, Request, Since};
use recorded::{BASE, Result, Truth, check_every_checksum, data_dir, find, live_keys, vnodes};
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
