//! Links against dumps of stock taosdump: 10 M rows in 100 tables with 0.1 % and 1 % of them written since, and
//! 100 000 tables with 1 % of them written to since. Medians of one run, in Markdown.
//!
//! `TDENGINE_HOME=… TAOSDUMP=… cargo bench -p e2e --bench dump`; `BENCH_RUNS` (default 5), `BENCH_ROWS` (a table,
//! default 100000), `BENCH_TABLES` (default 100000).

#![allow(clippy::unwrap_used)]

use e2e::{
    Installation, Run, Running, Server, Taosdump, bytes_below, files_below, meters, newest_below,
    setting,
};
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Longer runs of the stock tool are cut off and extrapolated.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let found =
        Installation::find().and_then(|i| Ok((Taosdump::stock(&i)?, Taosdump::find(&i)?, i)));
    let (stock, patched, installation) = match found {
        Ok(found) => found,
        Err(reason) => return println!("skipped: {reason}"),
    };
    println!(
        "| what | start to last file, s | process, s | client CPU, s | bytes | peak RSS, MB |\n|---|---|---|---|---|---|"
    );
    rows(&installation, &stock, &patched);
    tables(&installation, &stock, &patched);
}

/// Runs the command several times, each into an empty `out`, and prints the medians. Leaves the last output.
fn measure(what: &str, out: &Path, mut command: impl FnMut() -> Command) {
    let mut results: Vec<[f64; 5]> = Vec::new();
    for _ in 0..setting("BENCH_RUNS", 5) {
        let _ = fs::remove_dir_all(out);
        fs::create_dir(out).unwrap();
        let mut command = command();
        let started = SystemTime::now();
        let run = Run::of(&mut command).unwrap().expect_code(0).unwrap();
        let files = newest_below(out).and_then(|newest| newest.duration_since(started).ok());
        results.push([
            files.unwrap_or_default().as_secs_f64(),
            run.wall.as_secs_f64(),
            run.cpu.as_secs_f64(),
            bytes_below(out) as f64,
            run.peak_memory as f64 / 1e6,
        ]);
    }
    let median = |n: usize| {
        let mut values: Vec<f64> = results.iter().map(|result| result[n]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [files, wall, cpu, bytes, memory] = [0, 1, 2, 3, 4].map(median);
    println!("| {what} | {files:.2} | {wall:.2} | {cpu:.2} | {bytes:.0} | {memory:.0} |");
}

fn stock_command(stock: &Taosdump, server: &Server, out: &Path, since: Option<i64>) -> Command {
    let mut command = stock.command(server, out.parent().unwrap());
    command.args(["-D", "b", "-o"]).arg(out);
    if let Some(since) = since {
        command.args(["-S", &since.to_string()]);
    }
    command
}

fn rows(installation: &Installation, stock: &Taosdump, patched: &Taosdump) {
    let rows = setting("BENCH_ROWS", 100_000);
    let server = Server::start(installation).unwrap();
    let c = server.connect().unwrap();
    meters::create(&c, rows).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let link0 = dir.path().join("link0");
    measure("stock full", &out, || {
        stock_command(stock, &server, &out, None)
    });
    measure("full link", &link0, || {
        patched.link_command(&server, &["b"], None, &link0)
    });
    for (what, part) in [("0.1 %", 1_000), ("1 %", 100)] {
        // Half at the end, half over rows in the middle.
        let dirty = (rows / part).max(2);
        let since = meters::write_again(&c, rows, dirty).unwrap();
        measure(&format!("stock -S, {what}"), &out, || {
            stock_command(stock, &server, &out, Some(since))
        });
        measure(&format!("incremental link, {what}"), &out, || {
            patched.link_command(&server, &["b"], Some(&link0), &out)
        });
    }
}

fn tables(installation: &Installation, stock: &Taosdump, patched: &Taosdump) {
    let tables = setting("BENCH_TABLES", 100_000);
    let server = Server::start(installation).unwrap();
    let c = server.connect().unwrap();
    c.execute("create database b vgroups 2 stt_trigger 1")
        .unwrap();
    c.execute("create table b.s (ts timestamp, i int) tags (t int)")
        .unwrap();
    let touch = |names: &[i64], at: i64| {
        for names in names.chunks(2_000) {
            let row = |n: &i64| format!(" b.d{n} using b.s tags ({n}) values ({at},1)");
            let rows: String = names.iter().map(row).collect();
            c.execute(&format!("insert into{rows}")).unwrap();
        }
    };
    touch(&(0..tables).collect::<Vec<_>>(), meters::START);
    c.execute("flush database b").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [out, link0] = ["out", "link0"].map(|name| dir.path().join(name));
    extrapolate("stock full", &out, tables, || {
        stock_command(stock, &server, &out, None)
    });
    measure(&format!("{tables} tables, full link"), &link0, || {
        patched.link_command(&server, &["b"], None, &link0)
    });
    touch(
        &(0..tables).step_by(100).collect::<Vec<_>>(),
        meters::START + 1_000,
    );
    c.execute("flush database b").unwrap();
    extrapolate("stock -S, 1 %", &out, tables / 100, || {
        stock_command(stock, &server, &out, Some(meters::START + 1))
    });
    measure(
        &format!("{tables} tables, incremental link, 1 %"),
        &out,
        || patched.link_command(&server, &["b"], Some(&link0), &out),
    );
}

/// One run of the stock tool, cut off when it takes too long: the files it has written by then are its part of the way.
fn extrapolate(what: &str, out: &Path, files: i64, command: impl Fn() -> Command) {
    let _ = fs::remove_dir_all(out);
    fs::create_dir(out).unwrap();
    let started = Instant::now();
    let running = Running::start(&mut command()).unwrap();
    while running.is_running() && started.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
    }
    let is_data = |file: &&std::path::PathBuf| file.extension().is_some_and(|e| e == "avro");
    let written = files_below(out).iter().filter(is_data).count() as i64;
    let seconds = started.elapsed().as_secs_f64();
    if running.is_running() {
        let whole = seconds * files as f64 / written.max(1) as f64;
        println!(
            "| {what} | | {whole:.0}, from {written} of {files} tables in {seconds:.0} s | | | |"
        );
        drop(running);
    } else {
        println!("| {what} | | {seconds:.2} | | {} | |", bytes_below(out));
    }
}
