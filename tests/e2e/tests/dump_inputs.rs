//! Inputs that an operator gives to a dump, and that once ended otherwise than an operator would want: damaged bases,
//! odd options, tables of unusual size, a server that goes away.

use e2e::{Installation, Run, Running, Server, Taosdump, Workbench, files_below};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installed = Taosdump::installed();
    let skip = installed.is_err();
    // One server for all, started by the first test that runs and stopped at the end. Tests share it by turns.
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let mut trials = Vec::new();
    for (name, story) in STORIES {
        let (installed, server) = (installed.clone(), server.clone());
        let test = move || {
            let (installation, taosdump) = installed?;
            run(&server, &installation, &taosdump, story)
        };
        trials.push(Trial::test(name, test).with_ignored_flag(skip));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

type Story = fn(Workbench) -> Result<(), String>;

const STORIES: [(&str, Story); 18] = [
    ("a_base_with_a_damaged_file_is_not_followed", damaged_base),
    ("only_its_owner_may_read_a_link", modes),
    (
        "a_path_is_what_was_given_and_no_command_for_a_shell",
        odd_paths,
    ),
    ("a_password_is_taken_from_the_environment", passwords),
    ("wrong_values_are_wrong_usage", wrong_values),
    ("a_value_updated_in_memory_is_never_null", updated_in_memory),
    ("many_deletes_of_one_table", many_deletes),
    ("one_database_of_several_is_restored", one_of_several),
    ("an_empty_database_keeps_its_options", empty_target),
    ("the_widest_tables_there_can_be", widest),
    ("a_database_with_a_backtick_in_its_name", backtick),
    ("what_no_link_holds_is_named", not_covered),
    ("a_new_tag_is_no_change_of_its_children", added_tag),
    ("a_deleted_value_that_the_server_brings_back", brought_back),
    ("a_server_that_is_gone_is_given_up", killed),
    ("lost_committed_files_never_make_a_short_link", lost_files),
    (
        "keys_of_the_hour_that_comes_twice_are_told_apart",
        hour_twice,
    ),
    ("a_second_data_dir_line_changes_nothing", two_data_dirs),
];

fn run(
    server: &Mutex<Option<Server>>,
    installation: &Installation,
    taosdump: &Taosdump,
    story: Story,
) -> Result<(), Failed> {
    Ok(Workbench::run_on(
        server,
        installation,
        taosdump,
        "input",
        story,
    )?)
}

/// 2024-01-01 in ms.
const START: i64 = 1_704_067_200_000;

fn all(bench: &Workbench, statements: &[&str]) -> Result<(), String> {
    let mut each = statements.iter();
    each.try_for_each(|sql| bench.sql(sql).map(|_| ()).map_err(|e| e.to_string()))
}

fn io<T>(result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// INSERT of `count` rows, a second apart, with values from `first` on.
fn rows(table: &str, first: i64, count: i64) -> String {
    let row = |n: i64| format!(" ({}, {n})", START + n * 1_000);
    let rows: String = (first..first + count).map(row).collect();
    format!("insert into $.{table} values{rows}")
}

/// A child and a normal table with rows.
fn usual(bench: &Workbench) -> Result<(), String> {
    all(
        bench,
        &[
            "create database $ vgroups 1 stt_trigger 1 keep 36500",
            "create table $.s (ts timestamp, i int) tags (t int)",
            "create table $.c using $.s tags (1)",
            "create table $.n (ts timestamp, i int)",
            &rows("c", 0, 100),
            &rows("n", 0, 100),
        ],
    )
}

/// The first file of a link whose name ends so.
fn file_of(link: &Path, end: &str) -> Result<PathBuf, String> {
    let found = files_below(link)
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(end));
    found.ok_or_else(|| format!("no {end} in {}", link.display()))
}

fn expect_said(run: &Run, text: &str) -> Result<(), String> {
    match run.output().contains(text) {
        true => Ok(()),
        false => Err(format!("{text:?} is not said: {}", run.output())),
    }
}

fn damaged_base(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let parquet = [".parquet", ".bitmaps", ".avro-tbtags", ".changes.zst"];
    damaged_base_of(&mut bench, "parquet", &parquet)?;
    let avro = [".avro", ".avro-tbtags", "dbs.sql", ".tables.zst"];
    damaged_base_of(&mut bench, "avro", &avro)
}

fn damaged_base_of(bench: &mut Workbench, format: &str, ends: &[&str]) -> Result<(), String> {
    bench.links.clear();
    bench.contents.clear();
    let out = bench.path(format);
    bench
        .try_link(&out, &["--format", format])?
        .expect_code(0)?;
    bench.links.push(out);
    let content = bench.content().map_err(|e| e.to_string())?;
    bench.contents.push(content);
    bench.sql(&rows("n", 100, 1)).map_err(|e| e.to_string())?;
    let out = bench.path(&format!("{format}-next"));
    let base = bench.links[0].clone();
    for end in ends {
        let Ok(file) = file_of(&base, end) else {
            return Err(format!("no {end}: {:#?}", files_below(&base)));
        };
        let whole = io(fs::read(&file))?;
        let cut = whole.get(1..).unwrap_or_default().to_vec();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (damage, flags) in [
            (None, &[][..]),
            (Some(&cut), &[]),
            (Some(&flipped), &["--check-base"]),
        ] {
            io(match damage {
                Some(bytes) => fs::write(&file, bytes),
                None => fs::remove_file(&file),
            })?;
            let run = bench.try_link(&out, flags)?.expect_code(1)?;
            expect_said(&run, "can't be the base")?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            expect_said(&run, &name)?;
        }
        io(fs::write(&file, whole))?;
    }
    bench
        .try_link(&out, &["--check-base", "--format", format])?
        .expect_code(0)?;
    bench.links.push(out);
    let content = bench.content().map_err(|e| e.to_string())?;
    bench.contents.push(content);
    bench.restore_both_ways()?;
    bench.drop_target().map_err(|e| e.to_string())
}

fn modes(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    bench
        .sql("create table $.e (ts timestamp, i int)")
        .map_err(|e| e.to_string())?;
    for umask in [0o022, 0o077, 0] {
        let out = bench.path(&format!("umask{umask:o}"));
        let base = bench.links.last().cloned();
        let mut command =
            bench
                .taosdump
                .link_command(bench.server, &[&bench.database], base.as_deref(), &out);
        // The directory is made by the dump.
        io(fs::remove_dir(&out))?;
        // SAFETY: umask is a call that a child may make before exec.
        unsafe {
            command.pre_exec(move || {
                libc::umask(umask);
                Ok(())
            });
        }
        Run::of(&mut command)
            .map_err(|e| e.to_string())?
            .expect_code(0)?;
        let mut paths = files_below(&out);
        paths.push(out.clone());
        paths.push(out.join("incremental"));
        for path in paths {
            let metadata = io(fs::metadata(&path))?;
            let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
            let mode = metadata.permissions().mode() & 0o777;
            if mode != wanted {
                return Err(format!("{}: {mode:o}, umask {umask:o}", path.display()));
            }
        }
        bench
            .contents
            .push(bench.content().map_err(|e| e.to_string())?);
        bench.links.push(out);
        bench
            .sql(&rows("n", 200 + i64::from(umask), 1))
            .map_err(|e| e.to_string())?;
    }
    bench.restore_both_ways()
}

fn odd_paths(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let made = bench.path("made by a command");
    for name in [
        "$(touch 'made by a command')",
        "`touch 'made by a command'`",
        "a 'quote\" and $HOME ~ * blank",
        " | ; & < > ( ) \\ {a,b}",
    ] {
        let out = bench.path(name);
        bench.try_link(&out, &[])?.expect_code(0)?;
        bench
            .contents
            .push(bench.content().map_err(|e| e.to_string())?);
        bench.links.push(out);
        let next = 200 + bench.links.len() as i64;
        bench.sql(&rows("n", next, 1)).map_err(|e| e.to_string())?;
        if made.exists() {
            return Err(format!("{name:?} ran a command"));
        }
    }
    bench.restore_both_ways()
}

fn passwords(bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let _ = bench.c.execute("drop user other");
    bench
        .c
        .execute("create user other pass 'Secret_123' sysinfo 1")
        .map_err(|e| e.to_string())?;
    bench
        .sql("grant all on $.* to other")
        .map_err(|e| e.to_string())?;
    let run = |name: &str, flags: &[&str], password: Option<&str>| {
        let out = bench.path(name);
        let mut command = bench
            .taosdump
            .link_command(bench.server, &[&bench.database], None, &out);
        command.args(["-u", "other"]).args(flags);
        command.env_remove("TD_PASSWORD");
        if let Some(password) = password {
            command.env("TD_PASSWORD", password);
        }
        Run::of(&mut command).map_err(|e| e.to_string())
    };
    run("environment", &[], Some("Secret_123"))?.expect_code(0)?;
    run("option", &["-pSecret_123"], Some("wrong"))?.expect_code(0)?;
    run("long", &["--password=Secret_123"], None)?.expect_code(0)?;
    let refused = run("default", &[], None)?.expect_code(1)?;
    expect_said(&refused, "Authentication failure")?;
    bench
        .c
        .execute("drop user other")
        .map(drop)
        .map_err(|e| e.to_string())
}

fn wrong_values(bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let out = bench.path("out");
    for (flags, said) in [
        (&["-T", "-1"][..], "-T -1: a number from 1 to 1024"),
        (&["-T", "x"], "-T x: a number from 1 to 1024"),
        (&["-d", "zstd"], "null, deflate, snappy or lzma"),
        (&["-t", "5"], "option -t can't be used with --incremental"),
        (&["-P", "x"], "-P x: a number"),
        (&["-S", "yesterday"], "option -S can't be used"),
        (&["--nonsense"], "--nonsense"),
        (&["-Z"], "-Z: it needs a value"),
    ] {
        let run = bench.try_link(&out, flags)?.expect_code(2)?;
        expect_said(&run, said)?;
    }
    Ok(())
}

/// BLOBs are the only type whose values the server misreads from memory. A DECIMAL of more than 18 digits beside a BLOB is
/// no case of it: there INSERT stores another value at once.
fn updated_in_memory(mut bench: Workbench) -> Result<(), String> {
    let columns = "ts timestamp, i int, v varchar(9), w varbinary(9), g geometry(99), d decimal(10, 2), n nchar(9), \
                   f double, o bool";
    let blob = format!("{columns}, b blob");
    let others = format!("{columns}, e decimal(30, 3), u bigint unsigned");
    let value = |n: i64| {
        format!("{START}, {n}, 'v{n}', '\\x0{n}', 'POINT({n} 1)', {n}.25, 'n{n}', {n}.5, true")
    };
    let update = |bench: &Workbench, tables: [&str; 2], more: &dyn Fn(i64) -> String| {
        for table in tables {
            for n in 1..=3 {
                bench.sql(&format!(
                    "insert into $.{table} values ({}, {})",
                    value(n),
                    more(n)
                ))?;
            }
        }
        Ok(())
    };
    let failed = |e: e2e::SqlError| e.to_string();
    all(
        &bench,
        &[
            "create database $ vgroups 1 stt_trigger 1 keep 36500",
            &format!("create table $.n ({others})"),
            &format!("create table $.s ({others}) tags (t int)"),
            "create table $.c using $.s tags (1)",
        ],
    )?;
    bench.link(&[])?;
    update(&bench, ["n", "c"], &|n| format!("{n}.125, {n}")).map_err(failed)?;
    bench.link(&["--no-flush"])?;
    let of_memory = bench.content().map_err(failed)?;
    all(
        &bench,
        &[
            &format!("create table $.bn ({blob})"),
            &format!("create table $.bs ({blob}) tags (t int)"),
            "create table $.bc using $.bs tags (1)",
        ],
    )?;
    bench.link(&[])?;
    update(&bench, ["bn", "bc"], &|n| format!("'blob {n}'")).map_err(failed)?;
    // What the server says before a flush would be wrong.
    let run = bench.link(&["--no-flush"])?;
    expect_said(&run, "was flushed all the same")?;
    let found = bench
        .query("select b from $.bn union all select b from $.bc")
        .map_err(failed)?;
    if found.concat().iter().any(String::is_empty) {
        return Err(format!("a BLOB is still NULL: {found:?}"));
    }
    bench
        .sql(&format!(
            "insert into $.bn (ts, i) values ({}, 1)",
            START + 1
        ))
        .map_err(failed)?;
    bench.link(&["--no-flush"])?;
    bench.restore_both_ways()?;
    for table in ["bs", "bn"] {
        bench
            .sql(&format!("drop table $.{table}"))
            .map_err(failed)?;
    }
    bench.sql("flush database $").map_err(failed)?;
    match of_memory.differences(&bench.content().map_err(failed)?, 10) {
        differences if differences.is_empty() => Ok(()),
        differences => Err(format!("memory and files differ: {differences:#?}")),
    }
}

/// Deletes that lie close together, that lie far apart, and in a table that grows meanwhile.
fn many_deletes(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ vgroups 1 stt_trigger 1 keep 36500 duration 100d",
            "create table $.close (ts timestamp, i int)",
            "create table $.apart (ts timestamp, i int)",
            &rows("close", 0, 2_000),
        ],
    )?;
    for n in 0..10 {
        bench
            .sql(&rows("apart", n * 2_000, 2_000))
            .map_err(|e| e.to_string())?;
    }
    bench.link(&[])?;
    let delete = |bench: &Workbench, table: &str, n: i64| {
        let sql = format!("delete from $.{table} where ts = {}", START + n * 1_000);
        bench.sql(&sql).map_err(|e| e.to_string())
    };
    for n in 0..300 {
        delete(&bench, "close", n * 5)?;
    }
    for n in 0..100 {
        delete(&bench, "apart", n * 199)?;
    }
    // Written again behind a delete, and in the middle between two.
    all(
        &bench,
        &[
            &rows("close", 10, 1),
            &rows("apart", 199 * 3, 1),
            &rows("apart", 20_000, 10),
        ],
    )?;
    bench.link(&["--no-flush"])?;
    delete(&bench, "apart", 7)?;
    bench.link(&[])?;
    bench.restore_both_ways()
}

/// One of several databases, with names that hold what separates names.
fn one_of_several(bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let odd = " a=b|c, ";
    let _ = bench.c.execute(&format!("drop database if exists `{odd}`"));
    let failed = |e: e2e::SqlError| e.to_string();
    for sql in [
        format!("create database `{odd}` vgroups 1"),
        format!("create table `{odd}`.t (ts timestamp, i int)"),
        format!("insert into `{odd}`.t values ({START}, 1)"),
    ] {
        bench.c.execute(&sql).map_err(failed)?;
    }
    let out = bench.path("both");
    let names = format!("{},{}", bench.database, odd.replace(',', "\\,"));
    let mut command = bench
        .taosdump
        .link_command(bench.server, &[&names], None, &out);
    Run::of(&mut command)
        .map_err(|e| e.to_string())?
        .expect_code(0)?;
    let target = bench.target();
    let escaped = r"\ a\=b\|c,\ ";
    let restore = |databases: &str, rename: (&str, &str)| {
        let mut command = bench
            .taosdump
            .restore_command(bench.server, &[&out], &[rename]);
        Run::of(command.args(["-D", databases])).map_err(|e| e.to_string())
    };
    restore(&odd.replace(',', "\\,"), (escaped, &target))?.expect_code(0)?;
    let rows = bench
        .c
        .query(&format!("select i from `{target}`.t"))
        .map_err(failed)?;
    assert_eq!(rows, [["1"]]);
    bench.drop_target().map_err(failed)?;
    restore(&bench.database, (&bench.database, &target))?.expect_code(0)?;
    bench.expect_target(&bench.content().map_err(failed)?)?;
    let run = restore("nothing", ("nothing", &target))?.expect_code(1)?;
    expect_said(&run, "database nothing, which no link holds")?;
    bench
        .c
        .execute(&format!("drop database `{odd}`"))
        .map(drop)
        .map_err(failed)
}

fn empty_target(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    bench.link(&[])?;
    let target = bench.target();
    bench
        .c
        .execute(&format!("create database `{target}` vgroups 3 keep 36500"))
        .map_err(|e| e.to_string())?;
    let run = bench.try_restore(&bench.links)?.expect_code(0)?;
    expect_said(&run, "keeps its")?;
    expect_said(&run, "VGROUPS 3 (the backup has 1)")?;
    let run = bench.try_restore(&bench.links)?.expect_code(0)?;
    match run.output().contains("keeps its") {
        true => Err(run.output()),
        false => Ok(()),
    }
}

/// Committed files that are gone or cut off in the server's data directory.
fn lost_files(mut bench: Workbench) -> Result<(), String> {
    let failed = |e: e2e::SqlError| e.to_string();
    all(
        &bench,
        &[
            "create database $ vgroups 1 stt_trigger 1 keep 36500",
            "create table $.n (ts timestamp, i int)",
            &rows("n", 0, 5_000),
            "flush database $",
        ],
    )?;
    let query = format!(
        "select vgroup_id from information_schema.ins_vgroups where db_name = '{}'",
        bench.database
    );
    let vgroup = bench.query(&query).map_err(failed)?.concat().concat();
    let data_dir = bench.server.data_dir();
    let tsdb = data_dir.join(format!("vnode/vnode{vgroup}/tsdb"));
    let lost = bench.path("lost");
    for end in [".head", ".data"] {
        let path = until_there(&tsdb, end)?;
        let whole = io(fs::read(&path))?;
        for left in [None, Some(whole.len() / 2)] {
            match left {
                None => io(fs::remove_file(&path))?,
                Some(length) => io(fs::write(&path, &whole[..length]))?,
            }
            let run = bench.try_link(&lost, &[]);
            io(fs::write(&path, &whole))?;
            expect_said(&run?.expect_code(1)?, &path.display().to_string())?;
            io(fs::remove_dir_all(&lost))?;
        }
    }
    bench.link(&[])?;
    // What only the base needs is in the base.
    let path = until_there(&tsdb, ".head")?;
    let whole = io(fs::read(&path))?;
    io(fs::remove_file(&path))?;
    let later = all(&bench, &["insert into $.n values (now, 1)"]);
    let out = bench.path("without");
    let run = later.and_then(|()| bench.try_link(&out, &["--no-flush"]));
    io(fs::write(&path, whole))?;
    run?.expect_code(0)?;
    bench.links.push(out);
    bench.contents.push(bench.content().map_err(failed)?);

    // Left behind by a commit that was cut off: the next one takes it away.
    let left = tsdb.join("current.c.json");
    io(fs::write(&left, "{}"))?;
    let run = bench.try_link(&lost, &["--no-flush"])?;
    expect_said(&run.expect_code(1)?, &left.display().to_string())?;
    all(&bench, &["insert into $.n values (now + 1s, 1)"])?;
    bench.link(&[])?;
    bench.restore_both_ways()
}

/// The committed file with this ending, once the server has written it.
fn until_there(dir: &Path, end: &str) -> Result<PathBuf, String> {
    for _ in 0..200 {
        let mut found = files_below(dir).into_iter();
        if let Some(path) = found.find(|path| path.to_string_lossy().ends_with(end)) {
            return Ok(path);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("there is no {end} in {}", dir.display()))
}

/// Where clocks are set back, an hour comes twice. Keys are counted in UTC, whatever the time zone of the client.
fn hour_twice(mut bench: Workbench) -> Result<(), String> {
    // 1:59:59 of the first time, 1:00:00 of the second, 1:59:59 of the second, and 2:00:00, in New York.
    let keys = [
        1_730_613_599_000_i64,
        1_730_613_600_000,
        1_730_617_199_000,
        1_730_617_200_000,
    ];
    let insert = |n: i64| {
        let row = |key: &i64| format!(" ({}, {n})", key + n);
        let rows: String = keys.iter().map(row).collect();
        format!("insert into $.n values{rows}")
    };
    let there =
        |command: &mut Command| io(Run::of(command.env("TZ", "America/New_York")))?.expect_code(0);
    all(
        &bench,
        &[
            "create database $ vgroups 1 keep 36500",
            "create table $.n (ts timestamp, i int)",
            &insert(0),
        ],
    )?;
    for n in 1..4 {
        let out = bench.path(&format!("link{n}"));
        let base = bench.links.last().map(PathBuf::as_path);
        let databases = [bench.database.as_str()];
        let taosdump = bench.taosdump;
        there(&mut taosdump.link_command(bench.server, &databases, base, &out))?;
        bench.links.push(out);
        let content = bench.content().map_err(|e| e.to_string())?;
        bench.contents.push(content);
        let delete = format!("delete from $.n where ts = {}", keys[1]);
        all(&bench, &[&insert(n), &delete])?;
    }
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    let taosdump = bench.taosdump;
    there(&mut taosdump.restore_command(bench.server, &bench.links, &rename))?;
    bench.expect_target(&bench.contents[2])
}

fn two_data_dirs(bench: Workbench) -> Result<(), String> {
    let lines = "dataDir ROOT/temp\n";
    let server = io(Server::start_with(bench.server.installation(), lines))?;
    let bench = Workbench::new(&server, bench.taosdump, &bench.database)?;
    usual(&bench)?;
    let out = bench.path("out");
    let mut command = bench.taosdump.command(&server, &out);
    io(fs::create_dir(&out))?;
    command.args(["--incremental", "-D", &bench.database, "-o"]);
    Run::of(command.arg(out.join("link")))
        .map_err(|e| e.to_string())?
        .expect_code(0)
        .map(drop)
}

fn widest(mut bench: Workbench) -> Result<(), String> {
    let long: Vec<String> = (0..3_967)
        .map(|n| format!("c{n:04}{} int", "x".repeat(59)))
        .collect();
    let many: Vec<String> = (0..4_094).map(|n| format!("c{n} int")).collect();
    all(
        &bench,
        &[
            "create database $ vgroups 1 stt_trigger 1 keep 36500",
            &format!(
                "create table $.s (ts timestamp, {}) tags (t int) comment 'wide' keep 3650d",
                long.join(", ")
            ),
            "create table $.c using $.s tags (1)",
            &format!("create table $.n (ts timestamp, {})", many.join(", ")),
            "insert into $.n (ts, c0, c4093) values (now, 1, 2)",
        ],
    )?;
    let last = long
        .last()
        .map_or("", |column| column.trim_end_matches(" int"));
    bench
        .sql(&format!("insert into $.c (ts, {last}) values (now, 3)"))
        .map_err(|e| e.to_string())?;
    bench.link(&[])?;
    all(
        &bench,
        &[
            "alter table $.n drop column c1",
            "insert into $.n (ts, c7) values (now, 1)",
        ],
    )?;
    bench.link(&["--no-flush"])?;
    bench.restore_both_ways()?;
    let query = format!(
        "select `keep` from information_schema.ins_stables where db_name = '{}'",
        bench.target()
    );
    let keep = bench.c.query(&query).map_err(|e| e.to_string())?;
    assert_eq!(keep, [["5256000"]]);
    Ok(())
}

fn backtick(bench: Workbench) -> Result<(), String> {
    let name = format!("{}`", bench.database);
    let mut bench = Workbench::new(bench.server, bench.taosdump, &name)?;
    usual(&bench)?;
    bench.link(&[])?;
    all(
        &bench,
        &[
            &rows("c", 100, 5),
            "alter database $ wal_retention_period 3700",
        ],
    )?;
    bench.link(&["--no-flush"])?;
    bench.restore_both_ways()
}

fn not_covered(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let user = format!("user_of_{}", bench.database);
    all(
        &bench,
        &[
            "create table $.two (ts timestamp, i int) tags (t1 int, t2 int)",
            "create index by_second on $.two (t2)",
            &format!(
                "create topic topic_of_{} as select * from $.n",
                bench.database
            ),
            &format!("create user {user} pass 'Secret_123'"),
            &format!("grant read on $.* to {user}"),
        ],
    )?;
    let run = bench.link(&["--json"])?;
    let manifest = io(fs::read_to_string(
        bench.links[0].join("incremental/manifest.json"),
    ))?;
    for what in [
        format!("topic topic_of_{}", bench.database),
        "index by_second on t2 of super table two".to_owned(),
        format!("privilege read of user {user}"),
    ] {
        let text = format!("{}: {what}", bench.database);
        if !run.stdout.contains(&text) || !manifest.contains(&text) {
            return Err(format!("{text:?} is not said: {}", run.output()));
        }
    }
    match run.stdout.contains("index t1_two") {
        true => Err(format!("the server made it by itself: {}", run.output())),
        false => Ok(()),
    }?;
    all(
        &bench,
        &[
            &format!("drop topic topic_of_{}", bench.database),
            &format!("drop user {user}"),
        ],
    )?;
    bench.restore_both_ways()
}

fn added_tag(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let children: Vec<String> = (0..300)
        .map(|n| format!("create table $.c{n} using $.s tags ({n})"))
        .collect();
    let children: Vec<&str> = children.iter().map(String::as_str).collect();
    all(&bench, &children)?;
    bench.link(&[])?;
    all(
        &bench,
        &["alter table $.s add tag u varchar(9)", "reset query cache"],
    )?;
    let run = bench.link(&["--no-flush"])?;
    expect_said(&run, "0 rows of 0 changed")?;
    all(
        &bench,
        &[
            "alter table $.s add tag w int",
            "reset query cache",
            "alter table $.c7 set tag w = 7",
            "alter table $.c8 set tag t = -8",
            "alter table $.c9 set tag u = 'nine'",
        ],
    )?;
    let run = bench.link(&[])?;
    expect_said(&run, "0 rows of 3 changed")?;
    all(
        &bench,
        &[
            "alter table $.s drop tag u",
            "alter table $.s add tag u int",
        ],
    )?;
    bench.link(&[])?;
    bench.restore_both_ways()
}

/// The server forgets a delete when it merges files, if a part of the row was written again: the deleted values of the
/// other columns come back, with no version of their own. A chain goes on without them.
fn brought_back(mut bench: Workbench) -> Result<(), String> {
    let failed = |e: e2e::SqlError| e.to_string();
    all(
        &bench,
        &[
            "create database $ vgroups 1 stt_trigger 4 keep 36500",
            "create table $.n (ts timestamp, a int, b int)",
            &format!("insert into $.n values ({START}, 5, 97)"),
        ],
    )?;
    bench.link(&[])?;
    all(
        &bench,
        &[
            &format!("delete from $.n where ts = {START}"),
            &format!("insert into $.n (ts, b) values ({START}, 5)"),
        ],
    )?;
    bench.link(&[])?;
    let row = format!("select a, b from $.n where ts = {START}");
    let written = bench.query(&row).map_err(failed)?;
    assert_eq!(written, [["", "5"]]);
    for n in 1..=12 {
        let ts = START + n * 1_000;
        bench
            .sql(&format!("insert into $.n values ({ts}, {n}, {n})"))
            .map_err(failed)?;
        bench.link(&[])?;
        if bench.query(&row).map_err(failed)? != written {
            break;
        }
    }
    let shown = bench.query(&row).map_err(failed)?;
    bench.try_restore(&bench.links)?.expect_code(0)?;
    let target = bench.target();
    let restored = bench
        .c
        .query(&format!("select a, b from `{target}`.n where ts = {START}"))
        .map_err(failed)?;
    if restored != written {
        return Err(format!("{restored:?}, the server shows {shown:?}"));
    }
    if shown == written {
        eprintln!("this server keeps the delete");
        return bench.restore_both_ways();
    }
    // Whatever is written to the row brings what the server shows into the next link.
    bench
        .sql(&format!("insert into $.n (ts, b) values ({START}, 6)"))
        .map_err(failed)?;
    bench.link(&[])?;
    let last = bench.links.len() - 1;
    bench.restore(last..last + 1)
}

fn killed(bench: Workbench) -> Result<(), String> {
    let mut server = io(Server::start(bench.server.installation()))?;
    let name = bench.database.clone();
    let out = bench.path("out");
    {
        let bench = Workbench::new(&server, bench.taosdump, &name)?;
        usual(&bench)?;
        for n in 0..400 {
            all(
                &bench,
                &[
                    &format!("create table $.m{n} (ts timestamp, i int)"),
                    &rows(&format!("m{n}"), 0, 500),
                ],
            )?;
        }
        bench.keep();
    }
    let mut command = bench.taosdump.link_command(&server, &[&name], None, &out);
    // Slow enough to be killed in the middle.
    let slow = ["-T", "1", "-d", "lzma", "--format", "avro"];
    let running = io(Running::start(command.args(slow)))?;
    let data = |path: &PathBuf| path.to_string_lossy().ends_with(".avro");
    while running.is_running() && files_below(&out).iter().filter(|path| data(path)).count() < 20 {
        thread::sleep(Duration::from_millis(1));
    }
    server.kill();
    let endpoint = format!("localhost:{}", server.port());
    let run = io(running.wait())?.expect_code(1)?;
    expect_said(
        &run,
        &format!("nobody answers at {endpoint}: waiting for the server"),
    )?;
    expect_said(&run, &format!("nobody has answered at {endpoint} for 60 s"))?;
    eprintln!("given up after {:.0?}", run.wall);
    match out.join("incremental/manifest.json").exists() {
        true => Err("a link was made".to_owned()),
        false => Ok(()),
    }
}
