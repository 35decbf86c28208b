//! One version of the patched taosdump against another one, in turns on one server: 10 M rows in 100 tables are dumped
//! whole, 1 % of them is written again and dumped, and both links are restored. Medians of one run, in Markdown.
//!
//! `TDENGINE_HOME=… TAOSDUMP=… TAOSDUMP_BEFORE=… cargo bench -p e2e --bench before_after`; `BENCH_RUNS` (default 5),
//! `BENCH_ROWS` (a table, default 100000). With `TOOL` and `TOOL_BEFORE`, two `incremental_bitmap_tool`, their detection
//! of everything and of the 1 % as well.

#![allow(clippy::unwrap_used)]

use e2e::{Installation, Run, Server, Taosdump, meters, setting};
use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

const VERSIONS: [&str; 2] = ["before", "after"];

fn main() {
    let found = Installation::find().and_then(|installation| {
        let before = Taosdump::named_by("TAOSDUMP_BEFORE", &installation)?;
        let after = Taosdump::named_by("TAOSDUMP", &installation)?;
        Ok((installation, [before, after]))
    });
    match found {
        Ok((installation, versions)) => compare(&installation, &versions),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// What each run of a version took: wall and CPU seconds.
type Times = BTreeMap<(String, usize), Vec<[f64; 2]>>;

fn compare(installation: &Installation, versions: &[Taosdump; 2]) {
    let rows = setting("BENCH_ROWS", 100_000);
    let server = Server::start(installation).unwrap();
    let c = server.connect().unwrap();
    meters::create(&c, rows).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut times = Times::new();
    let link = |version: usize, n: usize| dir.path().join(format!("{}{n}", VERSIONS[version]));
    in_turns(&mut times, "full link", |version| {
        let _ = fs::remove_dir_all(link(version, 0));
        versions[version].link_command(&server, &["b"], None, &link(version, 0))
    });
    detections(&mut times, &server, "everything");
    let dirty = (rows / 100).max(2);
    meters::write_again(&c, rows, dirty).unwrap();
    in_turns(&mut times, "incremental link, 1 %", |version| {
        let _ = fs::remove_dir_all(link(version, 1));
        let base = link(version, 0);
        versions[version].link_command(&server, &["b"], Some(&base), &link(version, 1))
    });
    in_turns(&mut times, "restore of both", |version| {
        c.execute("drop database if exists r").unwrap();
        let links = [link(version, 0), link(version, 1)];
        versions[version].restore_command(&server, &links, &[("b", "r")])
    });
    print(&times);
}

/// Detects with both versions of the tool, where they are named.
fn detections(times: &mut Times, server: &Server, what: &str) {
    let tools = ["TOOL_BEFORE", "TOOL"].map(env::var_os);
    let [Some(before), Some(after)] = &tools else {
        return;
    };
    in_turns(times, &format!("detection of {what}"), |version| {
        let mut command = Command::new([before, after][version]);
        command
            .args([
                "--detect",
                "--since",
                "0",
                "--output",
                "/dev/null",
                "--data-dir",
            ])
            .arg(Path::new(&server.data_dir()));
        command
    });
}

/// Runs both versions by turns, so that fast and slow phases of the machine meet both.
fn in_turns(times: &mut Times, what: &str, mut command: impl FnMut(usize) -> Command) {
    for round in 0..setting("BENCH_RUNS", 5) as usize {
        for turn in 0..2 {
            let version = (round + turn) % 2;
            let run = Run::of(&mut command(version))
                .unwrap()
                .expect_code(0)
                .unwrap();
            let key = (what.to_owned(), version);
            let taken = [run.wall.as_secs_f64(), run.cpu.as_secs_f64()];
            times.entry(key).or_default().push(taken);
        }
    }
}

fn print(times: &Times) {
    println!(
        "| what | before, s | after, s | before, CPU s | after, CPU s |\n|---|---|---|---|---|"
    );
    let median = |what: &str, version: usize, of: usize| {
        let taken = times.get(&(what.to_owned(), version));
        let mut taken: Vec<f64> = taken.unwrap().iter().map(|run| run[of]).collect();
        taken.sort_by(f64::total_cmp);
        taken[taken.len() / 2]
    };
    for (what, _) in times.keys().filter(|(_, version)| *version == 0) {
        let [wall, wall_after] = [0, 1].map(|version| median(what, version, 0));
        let [cpu, cpu_after] = [0, 1].map(|version| median(what, version, 1));
        println!("| {what} | {wall:.3} | {wall_after:.3} | {cpu:.3} | {cpu_after:.3} |");
    }
}
