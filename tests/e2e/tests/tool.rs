//! `incremental_bitmap_tool` beside an unpatched taosdump: the generated script on a real server, and exports.
//!
//! The tool is the one of this build: `cargo build -p cli`, in the same profile.

use e2e::{Connection, Content, Installation, Run, Server, SqlError};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

type Test = fn(&Bench) -> Result<(), String>;

const TESTS: [(&str, Test); 4] = [
    (
        "the_script_backs_up_run_after_run_with_a_stock_taosdump",
        script,
    ),
    (
        "the_script_fails_when_the_server_is_gone_and_goes_on_later",
        server_gone,
    ),
    ("a_dump_that_lacks_changed_rows_is_found", lacking),
    ("an_export_holds_every_kind_of_change", export),
];

/// A server with a database `d1`, and programs.
struct Bench {
    server: Server,
    c: Connection,
    stock: PathBuf,
    tool: PathBuf,
    libraries: PathBuf,
    dir: tempfile::TempDir,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    let skip = installation.is_err();
    let trials = TESTS.into_iter().map(|(name, test)| {
        let installation = installation.clone();
        let test = move || test(&Bench::new(&installation?)?).map_err(Failed::from);
        Trial::test(name, test).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn tool() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(text)?;
    let profile = own.ancestors().nth(2).ok_or("no target directory")?;
    let tool = profile.join("incremental_bitmap_tool");
    match tool.is_file() {
        true => Ok(tool),
        false => Err(format!(
            "no {}: cargo build -p cli makes it",
            tool.display()
        )),
    }
}

/// Seconds since the epoch, once no record of before has this second or a later one.
fn a_new_second() -> Result<u64, String> {
    std::thread::sleep(Duration::from_millis(1_100));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.map_err(text)?.as_secs())
}

impl Bench {
    fn new(installation: &Installation) -> Result<Self, String> {
        let server = Server::start(installation).map_err(text)?;
        let bench = Self {
            c: server.connect().map_err(text)?,
            stock: installation.stock_taosdump(),
            tool: tool()?,
            libraries: installation.library_dir(),
            dir: tempfile::tempdir().map_err(text)?,
            server,
        };
        bench.sql(&[
            "create database d1 vgroups 2 keep 36500",
            "create table d1.s (ts timestamp, i int, v varchar(20)) tags (t int)",
            "create table d1.c1 using d1.s tags (1)",
            "create table d1.c2 using d1.s tags (2)",
            "create table d1.n (ts timestamp, d double)",
            "insert into d1.c1 values (1704067200000, 1, 'a') (1704067201000, 2, 'b') (1704067202000, 3, 'c')",
            "insert into d1.c2 values (1704067200000, 1, 'a') (1704067201000, 2, 'b')",
            "insert into d1.n values (1704067200000, 1.5) (1704067300000, 2.5)",
        ])?;
        Ok(bench)
    }

    fn sql(&self, statements: &[&str]) -> Result<(), String> {
        let run = |sql: &&str| self.c.execute(sql).map(|_| ());
        statements.iter().try_for_each(run).map_err(text)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_LIBRARY_PATH", &self.libraries)
            .current_dir(self.dir.path());
        command
    }

    fn tool(&self, job: &str, arguments: &[&str]) -> Result<Run, String> {
        let mut command = self.command(&self.tool);
        command.arg(job).args(arguments);
        if matches!(job, "--detect" | "--export" | "--generate-script") {
            command
                .args([
                    "--host",
                    "localhost",
                    "--port",
                    &self.server.port().to_string(),
                ])
                .arg("--config-dir")
                .arg(self.server.config_dir());
        }
        Run::of(&mut command).map_err(text)
    }

    /// Makes the script; it starts at `since`.
    fn make_script(&self, since: u64) -> Result<PathBuf, String> {
        let (script, backup, since) = (
            self.path("nightly.sh"),
            self.path("backup"),
            since.to_string(),
        );
        let arguments = [
            "--database",
            "d1",
            "--since",
            &since,
            "--backup",
            backup.to_str().unwrap_or_default(),
            "--taosdump",
            self.stock.to_str().unwrap_or_default(),
            "--output",
            script.to_str().unwrap_or_default(),
        ];
        self.tool("--generate-script", &arguments)?.expect_code(0)?;
        Ok(script)
    }

    fn run_script(&self, script: &Path) -> Result<Run, String> {
        let mut command = self.command(Path::new("bash"));
        Run::of(command.args(["-euo", "pipefail"]).arg(script)).map_err(text)
    }

    /// The directories of the script's runs, the oldest first.
    fn runs(&self) -> Result<Vec<PathBuf>, String> {
        let mut runs = Vec::new();
        for entry in fs::read_dir(self.path("backup")).map_err(text)? {
            let path = entry.map_err(text)?.path();
            if path.is_dir() {
                runs.push(path);
            }
        }
        runs.sort_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
        Ok(runs)
    }

    /// Dumps or restores with the stock tool.
    fn stock(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.command(&self.stock);
        command
            .arg("-c")
            .arg(self.server.config_dir())
            .args(["-h", "localhost", "-P", &self.server.port().to_string()])
            .args(arguments);
        Run::of(&mut command)
            .map_err(text)?
            .expect_code(0)
            .map(|_| ())
    }

    fn content(&self, database: &str) -> Result<Content, SqlError> {
        Content::read(&self.c, database)
    }

    /// The rows of all tables of a database, as SQL tells them.
    fn rows(&self, database: &str) -> Result<Vec<Vec<String>>, String> {
        let mut rows = Vec::new();
        for table in ["c1", "c2", "c3", "n"] {
            match self.c.query(&format!("select * from {database}.{table}")) {
                Ok(found) => rows.extend(found.into_iter().map(|mut row| {
                    row.insert(0, table.to_owned());
                    row
                })),
                Err(_) => rows.push(vec![table.to_owned(), "is not there".to_owned()]),
            }
        }
        Ok(rows)
    }
}

fn script(bench: &Bench) -> Result<(), String> {
    let full = bench.path("full");
    fs::create_dir(&full).map_err(text)?;
    let since = a_new_second()?;
    bench.stock(&["-D", "d1", "-o", full.to_str().unwrap_or_default()])?;
    let script = bench.make_script(since)?;
    // Late rows, updates, appended rows, a new table.
    bench.sql(&[
        "insert into d1.c1 values (1704067201000, 99, 'updated') (1704067000000, 0, 'late')",
        "insert into d1.n values (1704067400000, 3.5)",
        "create table d1.c3 using d1.s tags (3)",
        "insert into d1.c3 values (1704067250000, 1, 'new')",
    ])?;
    bench.run_script(&script)?.expect_code(0)?;
    bench.sql(&["insert into d1.c2 values (1704067202000, 3, 'second run')"])?;
    bench.run_script(&script)?.expect_code(0)?;
    // Nothing at all.
    bench.run_script(&script)?.expect_code(0)?;
    let runs = bench.runs()?;
    if runs.len() != 3 {
        return Err(format!("3 runs were expected: {runs:?}"));
    }
    let dumps = runs.iter().map(|run| run.join("dump"));
    for dump in std::iter::once(full).chain(dumps) {
        bench.stock(&["-i", dump.to_str().unwrap_or_default(), "-W", "d1=d2"])?;
    }
    let (source, restored) = (bench.rows("d1")?, bench.rows("d2")?);
    if source != restored {
        return Err(format!("restored {restored:?}, the source has {source:?}"));
    }
    // What a stock dump can't hold makes it 3, and the report says what.
    bench.sql(&[
        "delete from d1.c1 where ts = 1704067202000",
        "drop table d1.c2",
    ])?;
    bench.run_script(&script)?.expect_code(3)?;
    let last = bench.runs()?.pop().ok_or("no run")?;
    let report = fs::read_to_string(last.join("report.json")).map_err(text)?;
    for word in [
        "\"c2\\\" was dropped",
        "\"c1\\\" were deleted",
        "not_in_a_stock_dump",
    ] {
        if !report.contains(word) {
            return Err(format!("{word} is not in {report}"));
        }
    }
    Ok(())
}

fn server_gone(bench: &Bench) -> Result<(), String> {
    let script = bench.make_script(a_new_second()?)?;
    bench.sql(&["insert into d1.n values (1704067400000, 3.5)"])?;
    let whole = fs::read_to_string(&script).map_err(text)?;
    let port = bench.server.port().to_string();
    let broken = bench.path("broken.sh");
    // No server listens on port 1.
    fs::write(&broken, whole.replace(&port, "1")).map_err(text)?;
    bench.run_script(&broken)?.expect_code(1)?;
    // A taosdump that ends badly.
    let text_of_stock = bench.stock.display().to_string();
    fs::write(&broken, whole.replace(&text_of_stock, "/bin/false")).map_err(text)?;
    bench.run_script(&broken)?.expect_code(1)?;
    if bench.path("backup/checkpoint").exists() {
        return Err("a run that failed moved the checkpoint".to_owned());
    }
    let run = bench.run_script(&script)?.expect_code(0)?;
    match run.stdout.contains("1 rows in 1 tables") {
        true => Ok(()),
        false => Err(run.output()),
    }
}

fn lacking(bench: &Bench) -> Result<(), String> {
    let since = a_new_second()?;
    bench.sql(&["insert into d1.n values (1704067400000, 3.5) (1704067500000, 4.5)"])?;
    let (blocks, dump) = (bench.path("blocks.json"), bench.path("dump"));
    let (blocks, dump) = (
        blocks.to_str().unwrap_or_default(),
        dump.to_str().unwrap_or_default(),
    );
    let since = since.to_string();
    bench
        .tool(
            "--detect",
            &["--database", "d1", "--since", &since, "--output", blocks],
        )?
        .expect_code(0)?;
    fs::create_dir(dump).map_err(text)?;
    bench.stock(&["-D", "d1", "-o", dump, "-E", "1704067400000"])?;
    let run = bench.tool("--verify", &["--backup", dump, "--blocks", blocks])?;
    let run = run.expect_code(1)?;
    match run.stdout.contains("2 rows changed") && run.stdout.contains("the dump holds 1 there") {
        true => Ok(()),
        false => Err(run.output()),
    }
}

fn export(bench: &Bench) -> Result<(), String> {
    let since = a_new_second()?.to_string();
    bench.sql(&[
        "insert into d1.c1 values (1704067201000, 99, 'updated')",
        "delete from d1.n where ts = 1704067200000",
        "drop table d1.c2",
        "create table d1.c3 using d1.s tags (3)",
        "insert into d1.c3 values (1704067250000, 1, 'new')",
        "alter table d1.c1 set tag t = 11",
    ])?;
    bench.content("d1").map_err(text)?;
    let (blocks, out) = (bench.path("blocks.json"), bench.path("export"));
    let (blocks, out) = (
        blocks.to_str().unwrap_or_default(),
        out.to_str().unwrap_or_default(),
    );
    bench
        .tool(
            "--detect",
            &["--database", "d1", "--since", &since, "--output", blocks],
        )?
        .expect_code(0)?;
    bench
        .tool("--export", &["--blocks", blocks, "--output", out])?
        .expect_code(0)?;
    let arguments = ["--backup", out, "--blocks", blocks, "--json"];
    let run = bench.tool("--verify", &arguments)?.expect_code(0)?;
    // A second export into the same directory is refused, and the first stays.
    bench
        .tool("--export", &["--blocks", blocks, "--output", out])?
        .expect_code(1)?;
    bench.tool("--verify", &arguments)?.expect_code(0)?;
    match run.stdout.contains("\"kind\":\"export\"") && run.stdout.contains("\"tables_covered\":4")
    {
        true => Ok(()),
        false => Err(run.output()),
    }
}
