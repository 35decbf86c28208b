//! `incremental_bitmap_tool` beside an unpatched taosdump: the generated script on a real server, and exports.
//!
//! The tool is the one of this build: `cargo build -p tool`, in the same profile.

use e2e::{Cell, Connection, Content, Installation, Run, Server, SqlError};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{DataType, OwnedValue};
use rows::block::BlockRows;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

type Test = fn(&mut Bench) -> Result<(), String>;

const TESTS: [(&str, Test); 10] = [
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
    (
        "a_dropped_super_table_makes_detection_and_export_incomplete",
        dropped_super_table,
    ),
    (
        "a_port_that_stands_only_in_the_configuration_directory_is_used",
        configured_port,
    ),
    (
        "a_c_host_of_the_plugin_exports_and_restores_every_kind_of_change",
        plugin_host,
    ),
    (
        "an_export_of_the_plugin_to_a_full_disk_fails_and_loses_nothing",
        plugin_full_disk,
    ),
    ("a_c_program_does_backups_with_the_tool", backup_tool),
    (
        "blocks_of_a_followed_server_hold_its_rows_and_archives_give_them_back",
        archives,
    ),
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
        let test = move || test(&mut Bench::new(&installation?)?).map_err(Failed::from);
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
            "no {}: cargo build -p tool makes it",
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
        bench.make("d1")?;
        Ok(bench)
    }

    /// A database as it is before any change.
    fn make(&self, database: &str) -> Result<(), String> {
        let statements = [
            "create database $ vgroups 2 keep 36500",
            "create table $.s (ts timestamp, i int, v varchar(20)) tags (t int)",
            "create table $.c1 using $.s tags (1)",
            "create table $.c2 using $.s tags (2)",
            "create table $.n (ts timestamp, d double)",
            "insert into $.c1 values (1704067200000, 1, 'a') (1704067201000, 2, 'b') (1704067202000, 3, 'c')",
            "insert into $.c2 values (1704067200000, 1, 'a') (1704067201000, 2, 'b')",
            "insert into $.n values (1704067200000, 1.5) (1704067300000, 2.5)",
        ];
        let statements = statements.map(|sql| sql.replace('$', database));
        self.sql(&statements.each_ref().map(String::as_str))
    }

    /// Every kind of change, of columns and tags too, and tables of 30 sizes.
    fn change(&self) -> Result<(), String> {
        self.sql(&[
            "insert into d1.c1 values (1704067201000, 99, 'updated') (1704067000000, 0, 'late')",
            "delete from d1.n where ts = 1704067200000",
            "drop table d1.c2",
            "create table d1.c3 using d1.s tags (3)",
            "insert into d1.c3 values (1704067250000, 1, 'new')",
            "alter table d1.c1 set tag t = 11",
            "alter stable d1.s add column x double",
            "alter stable d1.s modify column v varchar(40)",
            "alter stable d1.s add tag u varchar(8)",
            "alter table d1.c1 set tag u = 'u'",
            "insert into d1.c1 (ts, v, x) values (1704067203000, 'longer than twenty letters', 0.5)",
            "alter table d1.n add column w int",
            "insert into d1.n values (1704067500000, 4.5, 7)",
            "create table d1.m (ts timestamp, i bigint, v varchar(40)) tags (t int)",
        ])?;
        for table in 0..30_i64 {
            let rows: String = (0..100 + 40 * table)
                .map(|n| {
                    let noise = (n * 2_654_435_761 + table * 40_503) % 1_000_003;
                    format!(
                        " ({}, {noise}, 'value {}')",
                        1_704_067_200_000 + n * 1_000,
                        noise * 7
                    )
                })
                .collect();
            self.sql(&[&format!(
                "insert into d1.m{table} using d1.m tags ({table}) values{rows}"
            )])?;
        }
        Ok(())
    }

    /// The C library, installed, and a program built with it.
    fn c_program(&self, source: &str) -> Result<PathBuf, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let prefix = self.path("prefix");
        let profile = self.tool.parent().ok_or("no target directory")?;
        let mut install = Command::new(root.join("c-shim/install.sh"));
        Run::of(install.arg(&prefix).arg(profile))
            .map_err(text)?
            .expect_code(0)?;
        let program = self.path(source.trim_end_matches(".c"));
        let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler
            .arg(format!("@{}", root.join("c-shim/flags/c").display()))
            .arg("-o")
            .arg(&program)
            .arg(root.join("tests/c").join(source))
            .arg("-I")
            .arg(prefix.join("include/incremental_bitmap"))
            .arg("-L")
            .arg(prefix.join("lib"))
            .args(["-lincremental_bitmap_plugin", "-ldl"]);
        Run::of(&mut compiler).map_err(text)?.expect_code(0)?;
        Ok(program)
    }

    /// A program that finds both libraries.
    fn c_command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let libraries = [self.path("prefix/lib"), self.libraries.clone()];
        if let Ok(libraries) = env::join_paths(libraries) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.current_dir(self.dir.path());
        command
    }

    /// Bytes of rows and tags below a directory.
    fn data_bytes(&self, dir: &Path) -> u64 {
        let files = e2e::files_below(dir).into_iter();
        let data = files.filter(|path| {
            let end = path.extension().and_then(|end| end.to_str());
            matches!(end, Some("avro" | "avro-tbtags" | "parquet"))
        });
        data.filter_map(|path| Some(fs::metadata(path).ok()?.len()))
            .sum()
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

fn script(bench: &mut Bench) -> Result<(), String> {
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

fn server_gone(bench: &mut Bench) -> Result<(), String> {
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

fn lacking(bench: &mut Bench) -> Result<(), String> {
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

fn export(bench: &mut Bench) -> Result<(), String> {
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

/// c2 did not change since the start, so nothing names it.
fn dropped_super_table(bench: &mut Bench) -> Result<(), String> {
    let since = a_new_second()?.to_string();
    bench.sql(&[
        "insert into d1.c1 values (1704067201000, 99, 'updated')",
        "insert into d1.n values (1704067201000, 9)",
        "drop table d1.s",
    ])?;
    let (blocks, out) = (bench.path("blocks.json"), bench.path("export"));
    let (blocks, out) = (
        blocks.to_str().unwrap_or_default(),
        out.to_str().unwrap_or_default(),
    );
    let arguments = ["--database", "d1", "--since", &since, "--output", blocks];
    let run = bench.tool("--detect", &arguments)?.expect_code(3)?;
    if !run.stdout.contains("incomplete: a super table was dropped") {
        return Err(run.output());
    }
    let arguments = ["--blocks", blocks, "--output", out];
    let run = bench.tool("--export", &arguments)?.expect_code(3)?;
    if !run.stderr.contains("the export is INCOMPLETE") {
        return Err(run.output());
    }
    let run = bench.tool("--verify", &["--backup", out, "--blocks", blocks])?;
    run.expect_code(0).map(|_| ())
}

fn configured_port(bench: &mut Bench) -> Result<(), String> {
    let blocks = bench.path("blocks.json");
    let config_dir = bench.server.config_dir();
    let run = |arguments: &[&str]| {
        let mut command = bench.command(&bench.tool);
        command.args(arguments).args(["--host", "localhost"]);
        command.arg("--config-dir").arg(&config_dir);
        let run = Run::of(&mut command).map_err(text)?;
        run.expect_code(0).map(|_| ())
    };
    let (blocks, out) = (
        blocks.to_str().unwrap_or_default(),
        bench.path("export").display().to_string(),
    );
    let detect = ["--detect", "--database", "d1", "--since-version", "-1"];
    run(&[&detect[..], &["--output", blocks]].concat())?;
    run(&["--export", "--blocks", blocks, "--output", &out])
}

fn plugin_host(bench: &mut Bench) -> Result<(), String> {
    let program = bench.c_program("plugin_host.c")?;
    bench.make("d2")?;
    let since = a_new_second()? * 1_000_000_000;
    bench.change()?;
    let config = bench.path("config.json");
    let json = format!(
        r#"{{"source": {{"host": "localhost", "port": {}}}, "bitmap_engine": {{"persistence_path": "{}"}}}}"#,
        bench.server.port(),
        bench.path("state").display()
    );
    fs::write(&config, json).map_err(text)?;
    let out = bench.path("out");
    let mut command = bench.c_command(&program);
    command
        .env("PORT", bench.server.port().to_string())
        .arg(bench.path("prefix/lib/libincremental_bitmap_plugin.so"))
        .arg("backup")
        .arg(&config)
        .args(["d1", &since.to_string()])
        .arg(&out)
        .arg("d2");
    let run = Run::of(&mut command).map_err(text)?.expect_code(0)?;
    let (source, restored) = (
        bench.content("d1").map_err(text)?,
        bench.content("d2").map_err(text)?,
    );
    if source != restored {
        return Err(format!(
            "{}: {source:?} was restored as {restored:?}",
            run.output()
        ));
    }
    if !bench.path("state/d1.checkpoint").exists() {
        return Err("the next detection would not know where to start".to_owned());
    }
    let estimate = run.stdout.split_once("estimate ").map(|(_, rest)| rest);
    let estimate = estimate.and_then(|rest| rest.lines().next()?.parse::<f64>().ok());
    let estimate = estimate.ok_or_else(|| run.output())?;
    let written = bench.data_bytes(&out) as f64;
    println!("estimated {estimate} bytes, written {written}");
    if (estimate / written - 1.0).abs() > 0.1 {
        return Err(format!("estimated {estimate} bytes, written {written}"));
    }
    Ok(())
}

fn plugin_full_disk(bench: &mut Bench) -> Result<(), String> {
    let program = bench.c_program("plugin_host.c")?;
    bench.make("d2")?;
    let since = a_new_second()? * 1_000_000_000;
    bench.change()?;
    let (config, small) = (bench.path("config.json"), bench.path("small"));
    fs::create_dir(&small).map_err(text)?;
    let json = format!(
        r#"{{"source": {{"host": "localhost", "port": {}}}, "bitmap_engine": {{"persistence_path": "{}"}},
             "backup": {{"retry_interval_ms": 1, "retry_count": 1}}}}"#,
        bench.server.port(),
        bench.path("state").display()
    );
    fs::write(&config, json).map_err(text)?;
    let before = bench.content("d2").map_err(text)?;
    // Also where no process may have mounts of its own.
    let script = "unshare -rm true || exit 77; exec unshare -rm sh -c '
        mount -t tmpfs -o size=128k tmpfs \"$0\" || exit 77; exec \"$@\"' \"$0\" \"$@\"";
    let mut command = bench.c_command(Path::new("sh"));
    command.args(["-c", script]).arg(&small).arg(&program);
    command.arg(bench.path("prefix/lib/libincremental_bitmap_plugin.so"));
    command
        .arg("full")
        .arg(&config)
        .args(["d1", &since.to_string()]);
    command.arg(small.join("out")).arg("d2");
    let run = Run::of(&mut command).map_err(text)?;
    if run.code == Some(77) {
        println!("skipped: no small file system can be mounted here");
        return Ok(());
    }
    run.expect_code(0)?;
    if bench.path("state/d1.checkpoint").exists() {
        return Err("an export that failed moved the checkpoint".to_owned());
    }
    match bench.content("d2").map_err(text)? == before {
        true => Ok(()),
        false => Err("half an export was restored".to_owned()),
    }
}

fn backup_tool(bench: &mut Bench) -> Result<(), String> {
    let program = bench.c_program("backup_tool.c")?;
    let backup = || {
        let mut command = bench.c_command(&program);
        command.args([
            "backup",
            "localhost",
            &bench.server.port().to_string(),
            "d1",
            "out",
            "cache",
        ]);
        Run::of(&mut command).map_err(text)?.expect_code(0)
    };
    // The first from the beginning, the second from where that ended, the third has nothing to do.
    let first = backup()?;
    bench.change()?;
    let second = backup()?;
    let third = backup()?;
    if !third.stdout.contains("blocks 0") || second.stdout.contains("blocks 0") {
        return Err(format!(
            "{}{}{}",
            first.output(),
            second.output(),
            third.output()
        ));
    }
    for entry in fs::read_dir(bench.path("out")).map_err(text)? {
        let run = entry.map_err(text)?.path();
        if !run.join("export").exists() {
            // The one that began in the future.
            continue;
        }
        let (export, blocks) = (run.join("export"), run.join("blocks.json"));
        let arguments = [
            "--backup",
            export.to_str().unwrap_or_default(),
            "--blocks",
            blocks.to_str().unwrap_or_default(),
        ];
        bench.tool("--verify", &arguments)?.expect_code(0)?;
    }
    Ok(())
}

/// A value as SQL tells it.
fn cell(data_type: DataType, value: &OwnedValue) -> Cell {
    match value.clone() {
        OwnedValue::Null => Cell::Null,
        OwnedValue::Bool(value) => Cell::Bool(value),
        OwnedValue::Int(value) if data_type == DataType::Timestamp => Cell::Time(value),
        OwnedValue::Int(value) => Cell::Int(value),
        OwnedValue::UInt(value) => Cell::Unsigned(value),
        OwnedValue::Float(value) => Cell::Float(value.to_bits()),
        OwnedValue::Double(value) => Cell::Double(value.to_bits()),
        OwnedValue::Bytes(bytes) if data_type.is_decimal() => {
            Cell::Decimal(String::from_utf8_lossy(&bytes).into_owned())
        }
        OwnedValue::Bytes(bytes) if data_type.is_text() => Cell::Text(bytes),
        OwnedValue::Bytes(bytes) => Cell::Bytes(bytes),
    }
}

impl Bench {
    /// Follows until now. With a directory, what changed since the last time is read and archived there.
    fn follow(&self, program: &Path, out: Option<&Path>) -> Result<Run, String> {
        let work = self.path("follow");
        fs::create_dir_all(&work).map_err(text)?;
        let mut command = self.c_command(program);
        command
            .env("TD_CONNECT_IP", "localhost")
            .env("TD_CONNECT_PORT", self.server.port().to_string())
            .arg(self.server.data_dir())
            .arg("d1")
            .arg(work);
        if let Some(out) = out {
            fs::create_dir_all(out).map_err(text)?;
            command.arg(out).arg(self.path("key"));
        }
        Run::of(&mut command).map_err(text)?.expect_code(0)
    }

    /// The rows of each block are what SQL says; returns how many there are.
    fn compare_blocks(&self, out: &Path) -> Result<usize, String> {
        let mut all = 0;
        for entry in fs::read_dir(out).map_err(text)? {
            let path = entry.map_err(text)?.path();
            if path.extension().is_none_or(|end| end != "rows") {
                continue;
            }
            let bytes = fs::read(&path).map_err(text)?;
            let block = BlockRows::decode(&bytes).map_err(text)?;
            let table = block.table.as_ref().ok_or("a table is gone")?;
            let wanted = self
                .c
                .rows(&format!(
                    "select * from {}.{table} where _c0 >= {} and _c0 <= {} order by _c0",
                    block.database, block.first, block.last
                ))
                .map_err(text)?;
            let found: Vec<Vec<Cell>> = block
                .rows()
                .map(|row| {
                    let row = row.map_err(text)?;
                    let columns = block.columns.iter().zip(&row);
                    Ok(columns.map(|((_, t), value)| cell(*t, value)).collect())
                })
                .collect::<Result<_, String>>()?;
            if found != wanted {
                return Err(format!("{table}: {found:?} was read, it holds {wanted:?}"));
            }
            all += found.len();
        }
        Ok(all)
    }

    /// Writes the archives in a directory to `d2`, the oldest first.
    fn restore_archives(&self, out: &Path, key: &str, more: &[&str]) -> Result<Run, String> {
        let mut archives: Vec<String> = e2e::files_below(out)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "blocks"))
            .map(|path| path.display().to_string())
            .collect();
        archives.sort();
        let key = self.path(key).display().to_string();
        let port = self.server.port().to_string();
        let mut arguments = vec!["--database", "d2", "--key-file", &key];
        arguments.extend(["--host", "localhost", "--port", &port]);
        archives
            .iter()
            .for_each(|path| arguments.extend(["--archive", path]));
        arguments.extend(more);
        self.tool("--restore-archive", &arguments)
    }

    fn write_key(&self, name: &str, words: &str) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        fs::write(&path, words).map_err(text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(text)
    }
}

fn archives(bench: &mut Bench) -> Result<(), String> {
    let program = bench.c_program("followed_rows.c")?;
    bench.make("d2")?;
    let columns = "ts timestamp, b bool, t tinyint, st smallint unsigned, i int, bt bigint unsigned, f float, \
                   d double, v varchar(20), nc nchar(20), vb varbinary(20), g geometry(100), dc decimal(10, 3)";
    for database in ["d1", "d2"] {
        bench.sql(&[
            &format!("create table {database}.w ({columns})"),
            &format!(
                "insert into {database}.w (ts, i) values (1704067200000, 1) (1704067201000, 2)"
            ),
            // The target of an archive must exist.
            &format!("create table {database}.c3 using {database}.s tags (3)"),
            &format!("create table {database}.wide (ts timestamp, v varchar(16000))"),
        ])?;
    }
    bench.write_key("key", "correct horse battery\n")?;
    bench.write_key("other", "another passphrase\n")?;
    bench.follow(&program, None)?;
    // One window of more than can be bound at a time.
    for part in 0..10 {
        let row = |n| format!("({}, '{}')", 1_704_067_200_000_i64 + n, "w".repeat(16_000));
        let rows: Vec<String> = (part * 50..part * 50 + 50).map(row).collect();
        bench.sql(&[&format!("insert into d1.wide values {}", rows.join(" "))])?;
    }
    let mut last = PathBuf::new();
    for round in 0..3 {
        let n = 1_704_067_210_000_i64 + round * 86_400_000;
        bench.sql(&[
            &format!(
                "insert into d1.w values ({n}, true, -1, 65535, -7, 18446744073709551615, 0.1, -1e-300, 'it''s \\\\ a', \
                 '\u{98ce}', '\\x00ff', 'POINT(0.1 -2)', '1234567.891') ({}, null, null, null, null, null, null, null, \
                 null, null, null, null, null)",
                n + 1
            ),
            &format!("insert into d1.c1 values (1704067201000, {round}, 'updated') ({}, 0, 'late')", n - 500_000_000),
            &format!("insert into d1.c3 values ({n}, 1, 'new')"),
            &format!("insert into d1.n values ({n}, 0.5)"),
            &format!("delete from d1.n where ts = {}", 1_704_067_200_000 + round * 100_000),
        ])?;
        match round {
            1 => bench.server.stop(),
            2 => bench.server.kill(),
            _ => {}
        }
        if round > 0 {
            bench.server.restart().map_err(text)?;
            bench.c = bench.server.connect().map_err(text)?;
        }
        let out = bench.path(&format!("archives-{round}"));
        let run = bench.follow(&program, Some(&out))?;
        let rows = bench.compare_blocks(&out)?;
        println!("round {round}: {} {rows} rows", run.stdout.trim());
        if rows < 6 {
            return Err(format!("only {rows} rows: {}", run.output()));
        }
        // Without the right key, or if one archive is cut off, nothing is written.
        let before = bench.content("d2").map_err(text)?;
        bench.restore_archives(&out, "other", &[])?.expect_code(1)?;
        let cut = out.join("99.blocks");
        let whole = e2e::files_below(&out).into_iter();
        let mut whole = whole.filter(|path| path.extension().is_some_and(|end| end == "blocks"));
        let whole = fs::read(whole.next_back().ok_or("no archive")?).map_err(text)?;
        fs::write(&cut, &whole[..whole.len() - 9]).map_err(text)?;
        bench.restore_archives(&out, "key", &[])?.expect_code(1)?;
        fs::remove_file(&cut).map_err(text)?;
        bench
            .restore_archives(&out, "key", &["--check"])?
            .expect_code(0)?;
        if bench.content("d2").map_err(text)? != before {
            return Err("a check, or a restore that was refused, wrote something".to_owned());
        }
        // Twice is as good as once.
        bench.restore_archives(&out, "key", &[])?.expect_code(0)?;
        bench.restore_archives(&out, "key", &[])?.expect_code(0)?;
        let (source, restored) = (
            bench.content("d1").map_err(text)?,
            bench.content("d2").map_err(text)?,
        );
        if source != restored {
            return Err(format!(
                "round {round}: {:?}",
                source.differences(&restored, 10)
            ));
        }
        last = out;
    }
    // What the target does not keep any more is left out, and said; everything else is there.
    bench.sql(&[
        "drop database d2",
        "create database d2 keep 30",
        "create table d2.s (ts timestamp, i int, v varchar(20)) tags (t int)",
        "create table d2.c1 using d2.s tags (1)",
        "create table d2.c3 using d2.s tags (3)",
        "create table d2.n (ts timestamp, d double)",
        &format!("create table d2.w ({columns})"),
        "create table d2.wide (ts timestamp, v varchar(16000))",
    ])?;
    let run = bench.restore_archives(&last, "key", &[])?.expect_code(3)?;
    if !run.stdout.contains("older than the server's KEEP") {
        return Err(format!("nothing is said of old rows: {}", run.output()));
    }
    Ok(())
}
