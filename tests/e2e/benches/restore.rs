//! Restores against restores of the published taosdump, by turns on one server: 10 M rows in 100 tables, the same rows
//! over 104 file sets, and 100 000 tables with 100 rows each. Medians of one run, in Markdown.
//!
//! `TDENGINE_HOME=… TAOSDUMP=… cargo bench -p e2e --bench restore`; `BENCH_RUNS` (default 5), `BENCH_ROWS` (a table,
//! default 100000), `BENCH_TABLES` (default 100000), `BENCH_ONLY` (one of `rows`, `sets` and `tables`).

#![allow(clippy::unwrap_used)]

use e2e::{Connection, Installation, Run, Server, Taosdump, meters, setting};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

fn main() {
    let found =
        Installation::find().and_then(|i| Ok((Taosdump::stock(&i)?, Taosdump::find(&i)?, i)));
    let (stock, patched, installation) = match found {
        Ok(found) => found,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let only: String = setting("BENCH_ONLY", String::new());
    let is_wanted = |what: &str| only.is_empty() || only == what;
    println!(
        "| what | s | ÷ published | client CPU, s | server CPU, s | peak memory, MB |\n|---|---|---|---|---|---|"
    );
    if is_wanted("rows") {
        rows(&installation, &stock, &patched);
    }
    if is_wanted("sets") {
        sets(&installation, &patched);
    }
    if is_wanted("tables") {
        tables(&installation, &patched);
    }
}

/// A way to restore a database to `r`.
struct Way<'a> {
    what: String,
    command: Box<dyn Fn() -> Command + 'a>,
    /// Options that the database has before.
    options: Option<&'static str>,
}

impl<'a> Way<'a> {
    fn new(what: impl Into<String>, command: impl Fn() -> Command + 'a) -> Self {
        Self {
            what: what.into(),
            command: Box::new(command),
            options: None,
        }
    }

    /// The database is there, with these options.
    fn into(mut self, options: &'static str) -> Self {
        self.options = Some(options);
        self
    }
}

/// What a restore took: seconds, CPU seconds of the client and of the server, and bytes of memory.
type Costs = [f64; 4];

/// Restores in each way by turns, and prints the medians. The first way is what the others are held against.
fn by_turns(server: &Server, c: &Connection, rows: i64, ways: &[Way<'_>]) {
    let mut costs: Vec<Vec<Costs>> = vec![Vec::new(); ways.len()];
    for _ in 0..setting("BENCH_RUNS", 5) {
        for (way, costs) in ways.iter().zip(&mut costs) {
            costs.push(restore(server, c, rows, way));
        }
    }
    let mut first = None;
    for (way, costs) in ways.iter().zip(&costs) {
        let median = |n: usize| {
            let mut values: Vec<f64> = costs.iter().map(|costs| costs[n]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let [wall, client, server, memory] = [0, 1, 2, 3].map(median);
        let ratio = wall / *first.get_or_insert(wall);
        println!(
            "| {} | {wall:.2} | {ratio:.2} | {client:.2} | {server:.2} | {:.0} |",
            way.what,
            memory / 1e6
        );
    }
}

/// Restores once. What the server does for it later, the commit of its last rows, counts as well.
fn restore(server: &Server, c: &Connection, rows: i64, way: &Way<'_>) -> Costs {
    c.execute("drop database if exists r").unwrap();
    if let Some(options) = way.options {
        c.execute(&format!("create database r {options}")).unwrap();
    }
    let before = at_rest(server);
    let run = Run::of(&mut (way.command)())
        .unwrap()
        .expect_code(0)
        .unwrap();
    c.execute("flush database r").unwrap();
    let cpu = at_rest(server) - before;
    let found = c.query("select count(*) from r.s").unwrap();
    assert_eq!(found[0][0], rows.to_string(), "{}", way.what);
    [
        run.wall.as_secs_f64(),
        run.cpu.as_secs_f64(),
        cpu.as_secs_f64(),
        run.peak_memory as f64,
    ]
}

/// The server's CPU time, once it does nothing any more.
fn at_rest(server: &Server) -> Duration {
    let (mut cpu, mut since) = (server.cpu().unwrap(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(100));
        let now = server.cpu().unwrap();
        if now - cpu > Duration::from_millis(30) {
            (cpu, since) = (now, Instant::now());
        }
    }
    server.cpu().unwrap()
}

fn link(patched: &Taosdump, server: &Server, database: &str, format: &str, dir: &Path) -> PathBuf {
    let out = dir.join(format!("{database}-{format}"));
    let mut command = patched.link_command(server, &[database], None, &out);
    Run::of(command.args(["--format", format]))
        .unwrap()
        .expect_code(0)
        .unwrap();
    out
}

fn restore_link<'a>(
    patched: &'a Taosdump,
    server: &'a Server,
    link: &'a Path,
    database: &'a str,
) -> impl Fn() -> Command + 'a {
    move || patched.restore_command(server, &[link], &[(database, "r")])
}

fn rows(installation: &Installation, stock: &Taosdump, patched: &Taosdump) {
    let rows = setting("BENCH_ROWS", 100_000);
    let server = Server::start(installation).unwrap();
    let c = server.connect().unwrap();
    meters::create(&c, rows).unwrap();
    // As databases are made when nobody says otherwise.
    c.execute("alter database b stt_trigger 2").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("dump");
    fs::create_dir(&dump).unwrap();
    let mut command = stock.command(&server, dir.path());
    Run::of(command.args(["-D", "b", "-o"]).arg(&dump))
        .unwrap()
        .expect_code(0)
        .unwrap();
    let [parquet, avro] =
        ["parquet", "avro"].map(|format| link(patched, &server, "b", format, dir.path()));
    let published = || {
        let mut command = stock.command(&server, dir.path());
        command.arg("-i").arg(&dump).args(["-W", "b=r"]);
        command
    };
    let ways = [
        Way::new("published", published),
        Way::new(
            "link, Parquet",
            restore_link(patched, &server, &parquet, "b"),
        ),
        Way::new(
            "the same, STT_TRIGGER 1",
            restore_link(patched, &server, &parquet, "b"),
        )
        .into("vgroups 2 stt_trigger 1"),
        Way::new("link, Avro", restore_link(patched, &server, &avro, "b")),
    ];
    by_turns(&server, &c, rows * meters::TABLES, &ways);
}

fn sets(installation: &Installation, patched: &Taosdump) {
    let rows = setting("BENCH_ROWS", 100_000);
    let server = Server::start(installation).unwrap();
    let c = server.connect().unwrap();
    // A file set is 10 days.
    for (database, days) in [("one", 1), ("many", 1_035)] {
        let step = (days * 86_400_000 / rows).max(1);
        meters::create_every(&c, database, rows, step).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let [one, many] =
        ["one", "many"].map(|name| link(patched, &server, name, "parquet", dir.path()));
    let ways = [
        Way::new("one file set", restore_link(patched, &server, &one, "one")),
        Way::new(
            "104 file sets",
            restore_link(patched, &server, &many, "many"),
        ),
    ];
    by_turns(&server, &c, rows * meters::TABLES, &ways);
}

fn tables(installation: &Installation, patched: &Taosdump) {
    let tables = setting("BENCH_TABLES", 100_000);
    let server = Server::start(installation).unwrap();
    let c = server.connect().unwrap();
    c.execute("create database b vgroups 2").unwrap();
    c.execute(
        "create table b.s (ts timestamp, current float, voltage int, phase float) tags (t int)",
    )
    .unwrap();
    let names: Vec<i64> = (0..tables).collect();
    for names in names.chunks(300) {
        let rows: String = (0..100)
            .map(|n| format!("({},{}.25,{n},0.5)", meters::START + n * 1_000, n % 20))
            .collect();
        let table = |n: &i64| format!(" b.d{n} using b.s tags ({n}) values {rows}");
        let all: String = names.iter().map(table).collect();
        c.execute(&format!("insert into{all}")).unwrap();
    }
    c.execute("flush database b").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let parquet = link(patched, &server, "b", "parquet", dir.path());
    let what = format!("{tables} tables, Parquet");
    let ways = [Way::new(
        what,
        restore_link(patched, &server, &parquet, "b"),
    )];
    by_turns(&server, &c, tables * 100, &ways);
}
