//! What a restore meets that is out of the ordinary: another restore, values that can't be written, options that only
//! one side has. It ends as an operator would want: exact, or with what is missing named, or refused.

use e2e::{Cell, Content, Installation, Run, Running, Server, Taosdump, Workbench};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{DataType, OwnedValue};
use ops::restore::{self, RestoreJob};
use repository::link::{Link, LinkError};
use server::{
    insert::{Batch, Shape},
    restore_lacks::{self, Lack, Lacking, Lacks},
    restore_loading::{self, Loaded},
    restore_record::create_database,
};
use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    slice,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use store::{Directory, Store};

type Story = fn(Workbench) -> Result<(), String>;

const STORIES: &[(&str, Story)] = &[
    (
        "the_second_of_two_restores_to_one_database_is_refused",
        two_at_a_time,
    ),
    (
        "of_two_restores_that_begin_at_once_one_is_busy",
        two_at_once,
    ),
    ("a_restore_that_was_killed_is_no_hindrance", killed_holder),
    (
        "the_last_restore_counts_whatever_the_clock_said_before",
        clock_ahead,
    ),
    (
        "of_what_a_table_lacks_the_last_word_counts_and_nothing_is_forgotten",
        lacks,
    ),
    (
        "a_claim_of_another_machine_holds_as_long_as_it_shows_life",
        other_machine,
    ),
    (
        "dead_claims_of_another_machine_are_waited_for_all_at_once",
        dead_claims,
    ),
    (
        "a_tag_that_cannot_be_written_is_named_until_a_link_mends_it",
        unspeakable_tag,
    ),
    ("long_and_odd_values_beside_a_blob_come_back", blobs),
    (
        "super_tables_of_schemaless_writing_are_named_and_restored",
        schemaless,
    ),
    ("the_super_table_of_a_stream_is_named_and_restored", stream),
    (
        "a_restore_says_that_it_waits_for_a_frozen_server_and_gives_up",
        frozen_server,
    ),
    (
        "a_restore_that_finds_a_frozen_server_says_so_and_gives_up",
        frozen_before,
    ),
    (
        "a_restore_that_waits_for_a_frozen_server_is_cancelled_at_once",
        cancelled_while_frozen,
    ),
    (
        "options_of_a_database_that_can_be_altered_are_carried_over",
        altered_options,
    ),
    (
        "options_for_loading_are_put_back_also_after_a_kill",
        loading_options,
    ),
    ("options_that_were_not_given_for_loading_stay", own_options),
    (
        "a_dry_run_says_what_is_to_be_done_and_writes_nothing",
        dry_run,
    ),
    (
        "options_that_a_database_cannot_have_are_refused_first",
        refused_options,
    ),
    ("the_keep_of_a_super_table_is_carried_over", stable_keep),
    ("new_tags_of_many_children_are_set", many_tags),
    (
        "tables_whose_names_of_columns_are_not_utf_8_fail_alone",
        unspeakable_columns,
    ),
    (
        "a_database_left_out_of_a_link_is_restored_from_the_next_one",
        left_out,
    ),
];

fn main() -> ExitCode {
    if let Ok(job) = env::var(LOADER) {
        return load(&job);
    }
    let arguments = Arguments::from_args();
    let installed = Taosdump::installed();
    let skip = installed.is_err();
    // One server for all, as the tests only restore to databases of their own.
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let trials = STORIES.iter().map(|(name, story)| {
        let (installed, server) = (installed.clone(), server.clone());
        let test = move || {
            let (installation, taosdump) = installed?;
            run(&server, &installation, &taosdump, *story)
        };
        Trial::test(*name, test).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

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

fn text(error: impl Display) -> String {
    error.to_string()
}

fn all<S: AsRef<str>>(bench: &Workbench, statements: &[S]) -> Result<(), String> {
    let mut each = statements.iter();
    each.try_for_each(|sql| bench.sql(sql.as_ref()).map(|_| ()).map_err(text))
}

/// The run must end with this code, and say all of these.
fn says(run: Run, code: i32, words: &[&str]) -> Result<Run, String> {
    let run = run.expect_code(code)?;
    match words.iter().find(|word| !run.output().contains(**word)) {
        Some(word) => Err(format!("{word:?} is not said: {}", run.output())),
        None => Ok(run),
    }
}

/// 60 tables with 5 000 rows each, and a second link that changes each of them.
fn many(bench: &mut Workbench) -> Result<(), String> {
    all(
        bench,
        &[
            "create database $ vgroups 2 stt_trigger 1 keep 36500",
            "create table $.s (ts timestamp, i int) tags (t int)",
        ],
    )?;
    let rows = |from: i64, count: i64, value: i64| -> String {
        (from..from + count)
            .map(|ts| format!(" ({}, {value})", 1_700_000_000_000 + ts))
            .collect()
    };
    for n in 0..60 {
        let rows = rows(0, 5_000, n);
        all(
            bench,
            &[format!(
                "insert into $.c{n} using $.s tags ({n}) values{rows}"
            )],
        )?;
    }
    bench.link(&[])?;
    for n in 0..60 {
        let rows = rows(10, 20, 1_000);
        all(bench, &[format!("insert into $.c{n} values{rows}")])?;
    }
    bench.link(&[])?;
    Ok(())
}

/// Waits until the target is there: a restore that was just started has begun to write.
fn wait_for_target(bench: &Workbench) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !bench.target_exists().map_err(text)? {
        if Instant::now() > deadline {
            return Err("the restore does not begin".to_owned());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn two_at_a_time(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    let mut command = bench
        .taosdump
        .restore_command(bench.server, &bench.links[..1], &rename);
    let slow = Running::start(command.args(["-T", "1", "-B", "10"])).map_err(text)?;
    wait_for_target(&bench)?;
    let mut command = bench
        .taosdump
        .restore_command(bench.server, &bench.links, &rename);
    let second = Run::of(command.args(["-T", "16"])).map_err(text)?;
    // It would be refused also after that, but for another reason.
    let mut command = bench
        .taosdump
        .restore_command(bench.server, &bench.links[1..], &rename);
    let unplanned = Run::of(&mut command).map_err(text)?;
    if !slow.is_running() {
        return Err("the first restore was too fast for this test".to_owned());
    }
    says(second, 4, &[&target, "is restoring", "-W"])?;
    says(unplanned, 4, &[&target, "is restoring", "-W"])?;
    slow.wait().map_err(text)?.expect_code(0)?;
    bench.expect_target(&bench.contents[0])?;
    // Its claim is given back.
    bench.restore(0..2)
}

fn two_at_once(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    for milliseconds in [0, 150] {
        bench.drop_target().map_err(text)?;
        let start = || {
            let mut command =
                bench
                    .taosdump
                    .restore_command(bench.server, &bench.links[..1], &rename);
            Running::start(command.args(["-T", "1", "-B", "50"])).map_err(text)
        };
        let first = start()?;
        thread::sleep(Duration::from_millis(milliseconds));
        let second = start()?;
        let runs = [first.wait().map_err(text)?, second.wait().map_err(text)?];
        let busy = runs.iter().position(|run| run.code == Some(4));
        let [first, second] = runs;
        let (busy, done) = match busy {
            Some(0) => (first, second),
            _ => (second, first),
        };
        says(busy, 4, &["is restoring"])?;
        done.expect_code(0)?;
        bench.expect_target(&bench.contents[0])?;
    }
    Ok(())
}

/// The first restore is recorded by a machine whose clock is an hour ahead.
fn clock_ahead(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ keep 36500",
            "create table $.t (ts timestamp, i int)",
            "insert into $.t values (1, 1)",
        ],
    )?;
    bench.link(&[])?;
    all(&bench, &["insert into $.t values (2, 2)"])?;
    bench.link(&[])?;
    bench.restore(0..1)?;
    let target = bench.target();
    let moved = format!(
        "insert into taosdump_incremental.restores select ts + 1h, target, created, link, finished, source from \
         taosdump_incremental.restores where target = '{target}' order by ts desc limit 1"
    );
    bench.c.execute(&moved).map_err(text)?;
    bench.restore(1..2)?;
    let first = bench.try_restore(&bench.links[..1])?;
    says(first, 1, &[&target, "give the link that follows"])?;
    let last = bench.try_restore(&bench.links)?;
    says(last, 0, &["at the last link already"])?;
    bench.expect_target(&bench.contents[1])
}

/// A connection of the program's own kind.
fn connected(bench: &Workbench) -> Result<server::Connection, String> {
    let library = Installation::find()?.library_dir().join("libtaos.so");
    let library =
        server::Library::load(&library, Some(&bench.server.config_dir())).map_err(text)?;
    let login = server::Login {
        host: Some("localhost".to_owned()),
        port: bench.server.port(),
        ..server::Login::default()
    };
    library.connect(&login).map_err(text)
}

fn lacks(bench: Workbench) -> Result<(), String> {
    all(&bench, &["create database $"])?;
    let name = &bench.database;
    let lack = |problem: &str| Lack {
        what: Lacks::Rows,
        problem: problem.to_owned(),
    };
    let connection = connected(&bench)?;
    create_database(&connection).map_err(text)?;
    let write = |lacking: &Lacking| restore_lacks::write(&connection, name, lacking).map_err(text);
    let read = || restore_lacks::read(&connection, name).map_err(text);
    let first: Lacking = [("a", "one"), ("b", "one")]
        .map(|(name, problem)| (name.to_owned(), lack(problem)))
        .into();
    let second: Lacking = [("a".to_owned(), lack("two"))].into();
    let digits: String = name.bytes().map(|b| format!("{b:02x}")).collect();
    let table = format!("taosdump_incremental.lacking_{digits}");
    write(&first)?;
    write(&second)?;
    let found = read()?;
    if found != second {
        return Err(format!("{found:?}"));
    }
    // A restore was killed when it had written a new row, and not deleted the old one.
    let copy =
        format!("insert into {table} select ts + 1b, created, name, what, 'three' from {table}");
    bench.c.execute(&copy).map_err(text)?;
    let found = read()?;
    if found != [("a".to_owned(), lack("three"))].into() {
        return Err(format!("{found:?}"));
    }
    write(&Lacking::new())?;
    match read()?.is_empty() {
        true => Ok(()),
        false => Err("it still lacks something".to_owned()),
    }
}

fn killed_holder(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    let mut command = bench
        .taosdump
        .restore_command(bench.server, &bench.links, &rename);
    let running = Running::start(command.args(["-T", "1", "-B", "50"])).map_err(text)?;
    wait_for_target(&bench)?;
    running.signal(libc::SIGKILL);
    running.wait().map_err(text)?;
    bench.restore(0..2)
}

/// The test stands for a restore of another machine.
fn other_machine(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ keep 36500",
            "create table $.t (ts timestamp, i int)",
            "insert into $.t values (1, 1)",
        ],
    )?;
    bench.link(&[])?;
    bench.restore(0..1)?;
    let digits: String = bench.target().bytes().map(|b| format!("{b:02x}")).collect();
    let claim = format!("taosdump_incremental.claim_{digits}_77");
    let sql = |sql: &str| bench.c.execute(sql).map(|_| ()).map_err(text);
    sql(&format!(
        "create table {claim} (ts timestamp, beats bigint) comment 'id|elsewhere|1|2|another'"
    ))?;
    bench.drop_target().map_err(text)?;
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    let start = || {
        let mut command = bench
            .taosdump
            .restore_command(bench.server, &bench.links, &rename);
        Running::start(&mut command).map_err(text)
    };
    let running = start()?;
    let mut beats = 0;
    while running.is_running() {
        sql(&format!("insert into {claim} values (0, {beats})"))?;
        beats += 1;
        thread::sleep(Duration::from_millis(300));
    }
    says(
        running.wait().map_err(text)?,
        4,
        &["process 1 on elsewhere"],
    )?;
    if bench.target_exists().map_err(text)? {
        return Err("a refused restore wrote".to_owned());
    }
    // It says nothing any more, so it is dead; that takes a while.
    says(start()?.wait().map_err(text)?, 0, &[])?;
    bench.expect_target(&bench.contents[0])
}

/// Two targets, of which another machine's restores died.
fn dead_claims(mut bench: Workbench) -> Result<(), String> {
    let other = format!("{}_other", bench.database);
    let targets = [bench.target(), format!("{other}_restored")];
    let outcome = (|| {
        all(
            &bench,
            &[
                "create database $ keep 36500".to_owned(),
                "create table $.t (ts timestamp, i int)".to_owned(),
                "insert into $.t values (1, 1)".to_owned(),
                format!("create database {other} keep 36500"),
                format!("create table {other}.t (ts timestamp, i int)"),
            ],
        )?;
        create_database(&connected(&bench)?).map_err(text)?;
        for target in &targets {
            let digits: String = target.bytes().map(|b| format!("{b:02x}")).collect();
            let claim = format!(
                "create table taosdump_incremental.claim_{digits}_7 (ts timestamp, beats bigint) comment \
                 'id|elsewhere|1|2|another'"
            );
            bench.c.execute(&claim).map_err(text)?;
        }
        let out = bench.path("both");
        let both = [bench.database.as_str(), other.as_str()];
        let mut command = bench.taosdump.link_command(bench.server, &both, None, &out);
        Run::of(&mut command).map_err(text)?.expect_code(0)?;
        let rename = [
            (both[0], targets[0].as_str()),
            (both[1], targets[1].as_str()),
        ];
        let mut command = bench
            .taosdump
            .restore_command(bench.server, &[out], &rename);
        let run = Run::of(&mut command).map_err(text)?.expect_code(0)?;
        // What is waited for is said every 5 s, and each target's wait would be a minute.
        let waits = run.output();
        let begun = waits.match_indices("is still alive, for up to 5");
        let begun = begun.filter(|(at, text)| {
            let rest = waits.get(at + text.len()..).unwrap_or_default();
            rest.starts_with(|next: char| next.is_ascii_digit())
        });
        match begun.count() {
            0 | 1 => bench.expect_target(&bench.content().map_err(text)?),
            _ => Err(run.output()),
        }
    })();
    for name in [&other, &targets[1]] {
        let _ = bench.c.execute(&format!("drop database if exists {name}"));
    }
    bench.links.clear();
    outcome
}

/// Tags that no SQL text holds: `c1` and `c2` are restored with NULL in their place until a later link sets them anew or
/// drops the table. A tag that is not UTF-8 can be written.
fn unspeakable_tag(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ keep 36500",
            "create table $.s (ts timestamp, i int) tags (u varchar(10), f float)",
            "create table $.c0 using $.s tags ('x', 0.5)",
        ],
    )?;
    let insert = format!(
        "insert into ? using {}.s tags (?, ?) values (?, ?)",
        bench.database
    );
    let child = |bench: &Workbench, name: &str, tag: &[u8], float: f32| {
        let name = format!("{}.{name}", bench.database);
        let tags = [
            (8, Cell::Text(tag.to_vec())),
            (6, Cell::Float(float.to_bits())),
        ];
        let rows = [vec![Cell::Time(1), Cell::Int(1)]];
        let child = Some((name.as_str(), &tags[..]));
        bench
            .c
            .bind_child(&insert, child, &[9, 4], &rows)
            .map_err(text)
    };
    child(&bench, "c1", b"a\0b", 1.5)?;
    child(&bench, "c2", b"x", f32::NAN)?;
    let create = [
        format!("create table {0}.c3 using {0}.s tags ('a", bench.database).as_bytes(),
        b"\xff\\'b', 3.5)",
    ]
    .concat();
    bench.c.execute_bytes(&create).map_err(text)?;
    let warned = bench.link(&[])?;
    says(warned, 0, &["2 tables", "can't be restored", "NULL"])?;

    // Another link that does not mend it, one that mends `c1`, one that drops `c2`.
    all(&bench, &["insert into $.c2 values (2, 2)"])?;
    bench.link(&[])?;
    all(&bench, &["alter table $.c1 set tag u = 'ab'"])?;
    bench.link(&[])?;
    all(&bench, &["drop table $.c2"])?;
    bench.link(&[])?;

    let missing = |run: Run, named: &[&str], not: &[&str]| {
        let run = says(run, 3, named)?;
        match not.iter().find(|name| run.output().contains(**name)) {
            Some(name) => Err(format!("{name} is named: {}", run.output())),
            None => Ok(()),
        }
    };
    let (c1, c2, c3) = (".`c1`", ".`c2`", ".`c3`");
    let links = &bench.links;
    missing(bench.try_restore(&links[..1])?, &[c1, c2, "NUL"], &[c3])?;
    missing(bench.try_restore(&links[1..2])?, &[c1, c2], &[c3])?;
    // Nothing is done, and they are named all the same.
    missing(bench.try_restore(&links[1..2])?, &[c1, c2], &[c3])?;
    missing(bench.try_restore(&links[2..3])?, &[c2], &[c1, c3])?;
    bench.restore(3..4)?;
    bench.drop_target().map_err(text)?;
    missing(bench.try_restore(&links[..3])?, &[c2], &[c1, c3])?;
    let rows = format!("select ts, i from {}.c2", bench.target());
    if bench.c.query(&rows).map_err(text)?.len() != 2 {
        return Err("a table with an odd tag lacks its rows".to_owned());
    }
    bench.drop_target().map_err(text)?;
    bench.restore(0..4)
}

/// BLOBs longer than a statement's text, and beside a BLOB what no text holds.
fn blobs(mut bench: Workbench) -> Result<(), String> {
    let long = |byte: &str, length: usize| byte.repeat(length);
    all(
        &bench,
        &[
            "create database $ keep 36500",
            "create table $.b (ts timestamp, b blob, d double, v varchar(10), c decimal(20, 3))",
            "insert into $.b values (1, 'small', 1.5, 'x', '1.125')",
        ],
    )?;
    let insert = |bench: &Workbench, ts: i64, value: &str| {
        let sql = format!("insert into $.b values ({ts}, '{value}', NULL, NULL, NULL)");
        all(bench, &[sql])
    };
    insert(&bench, 2, &long("a", 600_000))?;
    insert(&bench, 3, "")?;
    all(&bench, &["insert into $.b values (4, NULL, 4.5, '', NULL)"])?;
    odd_rows(&bench)?;
    bench.link(&[])?;
    insert(&bench, 2, &long("b", 900_000))?;
    insert(&bench, 5, &long("c", 600_000))?;
    bench.link(&[])?;
    bench.restore_both_ways()
}

/// Rows that no SQL text holds, with a BLOB as long as the server takes one.
fn odd_rows(bench: &Workbench) -> Result<(), String> {
    let connection = connected(bench)?;
    let columns = [
        ("ts", DataType::Timestamp),
        ("b", DataType::Blob),
        ("d", DataType::Double),
        ("v", DataType::Varchar),
    ];
    let columns = columns.map(|(name, data_type)| (name.to_owned(), data_type));
    let shape = Shape::of_columns(&columns);
    let mut batch = Batch::new(&shape, &bench.database, "b");
    for (ts, length, number) in [(10, 3, f64::NAN), (11, 4_000_000, f64::NEG_INFINITY)] {
        batch.add(vec![
            OwnedValue::Int(ts),
            OwnedValue::Bytes(vec![0xff; length]),
            OwnedValue::Double(number),
            OwnedValue::Bytes(b"a\0\xff".to_vec()),
        ]);
    }
    let sent = batch.send(&connection, None).map_err(text)?;
    match sent.rows {
        2 => Ok(()),
        _ => Err(format!("{sent:?}")),
    }
}

fn options_of(bench: &Workbench, database: &str) -> Result<String, String> {
    bench.c.execute("reset query cache").map_err(text)?;
    let create = bench
        .c
        .query(&format!("show create database {database}"))
        .map_err(text)?;
    let create = create.first().and_then(|row| row.get(1)).cloned();
    let create = create.ok_or("no SHOW CREATE DATABASE")?;
    Ok(create.replacen(&format!("`{database}`"), "", 1))
}

/// With this variable the test is a restore that finds options for loading worth it also for few rows: to be killed.
const LOADER: &str = "E2E_LOADER";

/// Restores links: port, directory of taos.cfg, client library, source, target and links, one a line.
fn load(job: &str) -> ExitCode {
    let mut lines = job.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let (port, config_dir, library, source, target) = (next(), next(), next(), next(), next());
    let store = |link: &str| Arc::new(Directory::new(Path::new(link))) as Arc<dyn Store>;
    let job = RestoreJob {
        login: server::Login {
            host: Some("localhost".to_owned()),
            port: port.parse().unwrap_or_default(),
            ..server::Login::default()
        },
        links: lines.map(store).collect(),
        databases: Vec::new(),
        rename: [(source, target)].into(),
        options: BTreeMap::new(),
        threads: 1,
        batch: 200,
        worth_options: 1,
    };
    let library = server::Library::load(Path::new(&library), Some(Path::new(&config_dir)));
    match library.map_err(text).and_then(|library| {
        let outcome = restore::run(&job, &library, &()).map_err(text)?;
        match outcome.failures.is_empty() {
            true => Ok(()),
            false => Err(format!("{outcome:?}")),
        }
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn loader(bench: &Workbench) -> Result<Command, String> {
    let library = Installation::find()?.library_dir().join("libtaos.so");
    let mut job = vec![
        bench.server.port().to_string(),
        bench.server.config_dir().display().to_string(),
        library.display().to_string(),
        bench.database.clone(),
        bench.target(),
    ];
    job.extend(bench.links.iter().map(|link| link.display().to_string()));
    let mut command = Command::new(env::current_exe().map_err(text)?);
    command.env(LOADER, job.join("\n"));
    Ok(command)
}

/// Whether the target has the options that it is loaded with, but for those of the source.
fn is_loaded(bench: &Workbench) -> Result<bool, String> {
    let options = options_of(bench, &bench.target())?;
    Ok(options.contains("STT_TRIGGER 1") && options.contains("WAL_RETENTION_PERIOD 0"))
}

fn loading_options(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    all(
        &bench,
        &["alter database $ stt_trigger 4 wal_retention_period 7200"],
    )?;
    bench.link(&[])?;
    let noted = |bench: &Workbench| -> Result<bool, String> {
        let found = restore_loading::read(&connected(bench)?, &bench.target());
        Ok(!found.map_err(text)?.is_empty())
    };
    // Not killed.
    Run::of(&mut loader(&bench)?)
        .map_err(text)?
        .expect_code(0)?;
    bench.expect_target(&bench.contents[2])?;
    if noted(&bench)? {
        return Err("what was put back is still noted".to_owned());
    }
    for wait in [0, 100, 300, 1_000] {
        bench.drop_target().map_err(text)?;
        let running = Running::start(&mut loader(&bench)?).map_err(text)?;
        wait_for_target(&bench)?;
        thread::sleep(Duration::from_millis(wait));
        running.signal(libc::SIGKILL);
        running.wait().map_err(text)?;
        // The server answers when it has made the database.
        let deadline = Instant::now() + Duration::from_secs(10);
        while options_of(&bench, &bench.target()).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
        if wait == 0 && !is_loaded(&bench)? {
            return Err(options_of(&bench, &bench.target())?);
        }
        // The next one is of another kind, that does not set them.
        bench.restore(0..3)?;
        if noted(&bench)? {
            return Err("what was put back is still noted".to_owned());
        }
    }
    Ok(())
}

fn own_options(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ vgroups 2 stt_trigger 2 keep 36500",
            "create table $.t (ts timestamp, i int)",
            "insert into $.t values (1700000000000, 1)",
        ],
    )?;
    bench.link(&[])?;
    let (target, connection) = (bench.target(), connected(&bench)?);
    create_database(&connection).map_err(text)?;
    let loaded = Loaded {
        name: "STT_TRIGGER".to_owned(),
        meanwhile: "1".to_owned(),
        then: "2".to_owned(),
    };
    let note =
        || restore_loading::write(&connection, &target, slice::from_ref(&loaded)).map_err(text);
    let restored = |options: &str, expected: &str| -> Result<(), String> {
        bench.drop_target().map_err(text)?;
        // A restore was killed before it had made the database, or just after.
        note()?;
        let create = format!("create database {target} vgroups 2 keep 36500 {options}");
        bench.c.execute(&create).map_err(text)?;
        bench.try_restore(&bench.links)?.expect_code(0)?;
        match options_of(&bench, &target)? {
            found if found.contains(expected) => Ok(()),
            found => Err(format!("{options}: {found}")),
        }
    };
    restored("stt_trigger 1", "STT_TRIGGER 2 ")?;
    // That is not how it would have made it, so somebody else did.
    restored("stt_trigger 3", "STT_TRIGGER 3 ")
}

fn dry_run(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    let target = bench.target();
    let try_dry = |links: &[PathBuf], options: &[&str]| {
        let rename = [(bench.database.as_str(), target.as_str())];
        let mut command = bench.taosdump.restore_command(bench.server, links, &rename);
        Run::of(command.arg("--dry-run").args(options)).map_err(text)
    };
    let create = format!("CREATE DATABASE IF NOT EXISTS `{target}`");
    let words = [
        create.as_str(),
        "creates 60",
        "writes 300000 rows",
        "nothing was written",
    ];
    says(try_dry(&bench.links, &[])?, 0, &words)?;
    says(
        try_dry(&bench.links, &["--json"])?,
        0,
        &["\"rows\":300000", "\"tables_created\":60"],
    )?;
    // What a restore refuses is refused.
    says(
        try_dry(&bench.links[1..], &[])?,
        1,
        &["from its first link on"],
    )?;
    says(
        try_dry(&bench.links, &["--option", "REPLICA=3"])?,
        1,
        &["REPLICA=1"],
    )?;
    if bench.target_exists().map_err(text)? {
        return Err("a dry run made the database".to_owned());
    }
    bench.restore(0..1)?;
    let run = says(try_dry(&bench.links, &[])?, 0, &["nothing was written"])?;
    if run.output().contains("CREATE DATABASE") || !run.output().contains("writes 1200 rows") {
        return Err(run.output());
    }
    bench.expect_target(&bench.contents[0])
}

fn refused_options(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $",
            "create table $.t (ts timestamp, i int)",
        ],
    )?;
    bench.link(&[])?;
    let target = bench.target();
    let restore = |option: &str| {
        let rename = [(bench.database.as_str(), target.as_str())];
        let mut command = bench
            .taosdump
            .restore_command(bench.server, &bench.links, &rename);
        Run::of(command.args(["--option", option])).map_err(text)
    };
    says(
        restore("KEEP=29")?,
        1,
        &["KEEP 29d,29d,29d is shorter", "DURATION"],
    )?;
    says(restore("KEEP=1h")?, 2, &["from 1d to 365000d"])?;
    if bench.target_exists().map_err(text)? {
        return Err("a refused restore made the database".to_owned());
    }
    says(restore("keep=43200m,40")?, 0, &[])?;
    match options_of(&bench, &target)? {
        found if found.contains("KEEP 30d,40d,40d") => Ok(()),
        found => Err(found),
    }
}

fn altered_options(mut bench: Workbench) -> Result<(), String> {
    let create = [
        "create database $ vgroups 1 keep 3650 keep_time_offset 3",
        "create table $.t (ts timestamp, i int)",
    ];
    all(&bench, &create)?;
    bench.link(&[])?;
    let mut wanted = Vec::new();
    for change in [
        "ss_keeplocal 100d keep_time_offset 3",
        "ss_compact 0 compact_interval 2d compact_time_range -90d,-60d compact_time_offset 4h keep 3000",
        "buffer 200 keep_time_offset 5",
        "ss_keeplocal 365d ss_compact 1 compact_interval 0d compact_time_range 0d,0d compact_time_offset 0h",
    ] {
        all(&bench, &[format!("alter database $ {change}")])?;
        bench.link(&[])?;
        wanted.push(options_of(&bench, &bench.database)?);
    }
    let distinct: std::collections::BTreeSet<&String> = wanted.iter().collect();
    if distinct.len() != wanted.len() {
        return Err(format!("the server did not alter: {wanted:#?}"));
    }
    bench.restore(0..1)?;
    for (n, wanted) in wanted.iter().enumerate() {
        bench.restore(n + 1..n + 2)?;
        let found = options_of(&bench, &bench.target())?;
        if found != *wanted {
            return Err(format!("link {}: {found}\nis not {wanted}", n + 1));
        }
    }
    bench.drop_target().map_err(text)?;
    bench.restore(0..bench.links.len())?;
    let found = options_of(&bench, &bench.target())?;
    match wanted.last() == Some(&found) {
        true => Ok(()),
        false => Err(format!("all links: {found}\nis not {wanted:?}")),
    }
}

fn stable_keep(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ vgroups 1 keep 36500",
            "create table $.s (ts timestamp, i int, v varchar(5)) tags (t int)",
            "create table $.k (ts timestamp, i int) tags (t int) keep 600d sma(i)",
            "insert into $.c using $.s tags (1) values (now, 1, 'x')",
        ],
    )?;
    bench.link(&["--format", "avro"])?;
    let keeps = |bench: &Workbench, database: &str| -> Result<Vec<Vec<String>>, String> {
        bench.c.execute("reset query cache").map_err(text)?;
        let query = format!(
            "select stable_name, `keep` from information_schema.ins_stables where db_name = '{database}' \
             order by stable_name"
        );
        bench.c.query(&query).map_err(text)
    };
    let mut wanted = Vec::new();
    for changes in [
        &["alter table $.s keep 300d"][..],
        &["alter table $.s keep 100d", "alter table $.k keep 700d"],
        &[
            "alter table $.s add column x int",
            "alter table $.k keep 100d",
        ],
    ] {
        all(&bench, changes)?;
        bench.link(&["--format", "avro"])?;
        wanted.push(keeps(&bench, &bench.database)?);
    }
    // Programs that do not know the KEEP of a super table must not call these links damaged.
    for (link, format) in bench.links.iter().zip([1, 2, 2, 2]) {
        let manifest = link.join("incremental/manifest.json");
        let manifest = std::fs::read_to_string(manifest).map_err(text)?;
        if !manifest.starts_with(&format!("{{\"format\":{format},")) {
            return Err(format!("{} has another format", link.display()));
        }
    }
    bench.restore(0..1)?;
    for (n, wanted) in wanted.iter().enumerate() {
        bench.restore(n + 1..n + 2)?;
        let found = keeps(&bench, &bench.target())?;
        if found != *wanted {
            return Err(format!("link {}: {found:?} is not {wanted:?}", n + 1));
        }
    }
    bench.drop_target().map_err(text)?;
    bench.restore(0..bench.links.len())
}

/// Links 0 and 2 hold the database, link 1 another one only.
/// The server takes any bytes for a name. A table that can't be described is a failed table, not the end of the dump; of a
/// comment only the bytes that can't be told are missing.
fn unspeakable_columns(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ vgroups 1 keep 36500",
            "create table $.s (ts timestamp, i int) tags (t int)",
            "insert into $.c using $.s tags (1) values (1, 1)",
            "create table $.n (ts timestamp, i int)",
            "insert into $.n values (1, 1)",
        ],
    )?;
    bench.link(&[])?;
    let good = bench.content().map_err(text)?;
    let c = connected(&bench)?;
    let database = &bench.database;
    for (before, behind) in [
        ("create table $.bad (ts timestamp, `", "` int)"),
        (
            "create table $.bad_s (ts timestamp, i int) tags (`",
            "` int)",
        ),
    ] {
        let before = before.replace('$', database);
        let statement = [before.as_bytes(), b"\xff", behind.as_bytes()].concat();
        c.execute(&statement).map_err(text)?;
    }
    let child = "insert into $.bad_c using $.bad_s tags (1) values (1, 1)";
    all(&bench, &[child])?;
    for base in [true, false] {
        let out = bench.path(if base { "link" } else { "full" });
        let links = std::mem::take(&mut bench.links);
        if base {
            bench.links.clone_from(&links);
        }
        let run = says(
            bench.try_link(&out, &[])?,
            3,
            &["`bad`", "`bad_s`", "UTF-8"],
        )?;
        if run.stderr.lines().any(|line| line.len() > 1_000) {
            return Err(format!("a message is too long: {}", run.output()));
        }
        let chain: Vec<_> = bench.links.iter().chain([&out]).cloned().collect();
        bench.try_restore(&chain)?.expect_code(3)?;
        bench.expect_target(&good)?;
        bench.drop_target().map_err(text)?;
        bench.links = links;
    }
    all(&bench, &["drop table $.bad", "drop table $.bad_s"])?;
    let comment = [
        format!("alter table {database}.n comment 'a ").as_bytes(),
        b"\xff'",
    ]
    .concat();
    c.execute(&comment).map_err(text)?;
    let run = bench.link(&[])?;
    says(run, 0, &["not UTF-8 in the comment of table n"]).map(drop)
}

/// Tags that were added and filled: those of a child are set together, over several connections.
fn many_tags(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ vgroups 2 keep 36500",
            "create table $.s (ts timestamp, i int) tags (t int)",
        ],
    )?;
    let children: Vec<String> = (0..400)
        .map(|n| format!("create table $.c{n} using $.s tags ({n})"))
        .collect();
    all(&bench, &children)?;
    bench.link(&[])?;
    let mut statements = vec![
        "alter table $.s add tag `of two, words` varchar(20)".to_owned(),
        "alter table $.s add tag w bigint".to_owned(),
        "reset query cache".to_owned(),
    ];
    // One stays NULL, of one only some are set, and of every second one that was there is another, too.
    statements.extend((2..400).map(|n| {
        let text = format!("it\\'s \"{n}\" = `1`,");
        let old = match n % 2 {
            0 => String::new(),
            _ => format!(", t = -{n}"),
        };
        format!("alter table $.c{n} set tag `of two, words` = '{text}', w = {n}{old}")
    }));
    statements.push("alter table $.c1 set tag w = 1".to_owned());
    all(&bench, &statements)?;
    bench.link(&[])?;
    // A restore sends the new tags alone where the others stayed.
    let link = Link::open(Arc::new(Directory::new(&bench.links[1]))).map_err(text)?;
    let mut kept = BTreeMap::new();
    link.changes(&link.manifest.databases[0], &mut |change| {
        *kept.entry((change.set_tags, change.kept_tags)).or_insert(0) += 1;
        Ok::<_, LinkError>(())
    })
    .map_err(text)?;
    if kept != BTreeMap::from([((true, 0), 199), ((true, 1), 200)]) {
        return Err(format!("{kept:?}"));
    }
    bench.restore_both_ways()
}

fn left_out(mut bench: Workbench) -> Result<(), String> {
    let other = format!("{}_other", bench.database);
    let outcome = (|| {
        all(
            &bench,
            &[
                "create database $ keep 36500".to_owned(),
                "create table $.s (ts timestamp, i int) tags (t int)".to_owned(),
                "insert into $.c1 using $.s tags (1) values (1, 1) (2, 2)".to_owned(),
                "create table $.n (ts timestamp, i int)".to_owned(),
                "create table $.gone (ts timestamp, i int)".to_owned(),
                format!("create database {other} keep 36500"),
                format!("create table {other}.t (ts timestamp, i int)"),
            ],
        )?;
        let link = |bench: &Workbench, databases: &[&str], base: Option<&PathBuf>, name: &str| {
            let out = bench.path(name);
            let base = base.map(PathBuf::as_path);
            let mut command = bench
                .taosdump
                .link_command(bench.server, databases, base, &out);
            let run = Run::of(&mut command).map_err(text)?;
            run.expect_code(0).map(|_| out)
        };
        let database = bench.database.clone();
        let both = [database.as_str(), other.as_str()];
        let first = link(&bench, &both, None, "first")?;
        let before = bench.content().map_err(text)?;
        let second = link(&bench, &[&other], Some(&first), "second")?;
        all(
            &bench,
            &[
                "insert into $.c1 values (2, 20) (3, 3)",
                "delete from $.c1 where ts = 1",
                "drop table $.gone",
                "create table $.c2 using $.s tags (2)",
            ],
        )?;
        let third = link(&bench, &both, Some(&second), "third")?;
        let after = bench.content().map_err(text)?;
        let target = bench.target();
        let other_target = format!("{other}_restored");
        let rename = [
            (database.as_str(), target.as_str()),
            (other.as_str(), other_target.as_str()),
        ];
        let restore = |links: &[&PathBuf]| {
            let only = [rename[1]];
            let rename = if links == [&second] {
                &only[..]
            } else {
                &rename[..]
            };
            let mut command = bench.taosdump.restore_command(bench.server, links, rename);
            Run::of(&mut command).map_err(text)
        };
        // Link by link, and the last one alone.
        restore(&[&first])?.expect_code(0)?;
        bench.expect_target(&before)?;
        restore(&[&second])?.expect_code(0)?;
        bench.expect_target(&before)?;
        says(restore(&[&third])?, 0, &["before this one", &target])?;
        bench.expect_target(&after)?;
        // The whole chain onto a target at its first link, and onto none.
        for start in [true, false] {
            bench.drop_target().map_err(text)?;
            let drop_other = format!("drop database if exists {other_target}");
            bench.c.execute(&drop_other).map_err(text)?;
            if start {
                restore(&[&first])?.expect_code(0)?;
            }
            restore(&[&first, &second, &third])?.expect_code(0)?;
            bench.expect_target(&after)?;
        }
        Ok(())
    })();
    for name in [&other, &format!("{other}_restored")] {
        let _ = bench.c.execute(&format!("drop database if exists {name}"));
    }
    bench.links.clear();
    outcome
}

/// A restore that has begun to write, and whose server does not answer any more.
fn frozen_restore(bench: &Workbench) -> Result<Running, String> {
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    let mut command = bench
        .taosdump
        .restore_command(bench.server, &bench.links, &rename);
    let running = Running::start(command.args(["-T", "1", "-B", "50"])).map_err(text)?;
    wait_for_target(bench)?;
    bench.server.freeze();
    Ok(running)
}

fn frozen_server(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    let running = frozen_restore(&bench)?;
    // As the system does when the client library writes to a server that has just gone.
    running.signal(libc::SIGPIPE);
    let run = running.wait().map_err(text);
    bench.server.thaw();
    let endpoint = format!("localhost:{}", bench.server.port());
    says(
        run?,
        1,
        &[
            &format!("nobody answers at {endpoint}: waiting for the server, at most "),
            "goes on with it",
        ],
    )?;
    bench.restore(0..2)
}

fn frozen_before(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ keep 36500",
            "create table $.t (ts timestamp, i int)",
            "insert into $.t values (1, 1)",
        ],
    )?;
    bench.link(&[])?;
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    let mut command = bench
        .taosdump
        .restore_command(bench.server, &bench.links, &rename);
    let endpoint = format!("localhost:{}", bench.server.port());
    bench.server.freeze();
    let run = Running::start(&mut command)
        .and_then(Running::wait)
        .map_err(text);
    bench.server.thaw();
    says(
        run?,
        1,
        &[
            &format!("nobody answers at {endpoint}: waiting for the server, at most "),
            "goes on with it",
        ],
    )?;
    bench.restore(0..1)
}

fn cancelled_while_frozen(mut bench: Workbench) -> Result<(), String> {
    many(&mut bench)?;
    let running = frozen_restore(&bench)?;
    running.signal(libc::SIGINT);
    let run = running.wait().map_err(text);
    bench.server.thaw();
    let run = says(run?, 1, &["cancelled"])?;
    if run.output().contains("nobody answers") {
        return Err(format!("it waited on: {}", run.output()));
    }
    bench.restore(0..2)
}

/// A super table that schemaless writing made, and gave another column.
fn schemaless(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ keep 36500",
            "create table $.s (ts timestamp, i int) tags (t int)",
            "use $",
        ],
    )?;
    let write = |bench: &Workbench, line: &str| bench.c.write_line(line).map_err(text);
    write(&bench, "m,t=a v=1i64 1626006833639000000")?;
    let first = bench.link(&[])?;
    says(
        first,
        0,
        &["schemaless", "m (watermark 0a,0a, max_delay 0a,0a)"],
    )?;
    write(&bench, "m,t=a v=1i64,w=2i64 1626006833640000000")?;
    write(&bench, "m,t=bcd v=3i64 1626006833641000000")?;
    let second = bench.link(&[])?;
    if second.output().contains("schemaless") {
        return Err(format!("it is named again: {}", second.output()));
    }
    // Its SMA differs, as was said. All at once, and link by link.
    for (first, last) in [(0, 1), (0, 0), (1, 1)] {
        if first == 0 {
            bench.drop_target().map_err(text)?;
        }
        bench
            .try_restore(&bench.links[first..=last])?
            .expect_code(0)?;
        let restored = Content::read(&bench.c, &bench.target()).map_err(text)?;
        let mut differences = bench.contents[last].differences(&restored, 10);
        differences.retain(|what| !what.starts_with("super table m:"));
        if !differences.is_empty() {
            return Err(format!("{first} to {last}: {differences:#?}"));
        }
    }
    Ok(())
}

/// A super table that a stream made. (The community edition of 3.3.7.5 makes no TSMA.)
fn stream(mut bench: Workbench) -> Result<(), String> {
    all(
        &bench,
        &[
            "create database $ vgroups 1 keep 36500",
            "create table $.m (ts timestamp, i int) tags (t int)",
            "insert into $.c using $.m tags (1) values (1700000000000, 1)",
            "create snode on dnode 1",
        ],
    )?;
    let made = [
        "create stream $.sums interval(1m) sliding(1m) from $.m partition by tbname into $.made \
         as select _twstart ts, sum(i) a from %%trows",
        "insert into $.of_stream using $.made tags ('x') values (1700000000000, 1.5)",
    ];
    let linked = all(&bench, &made).and_then(|()| {
        let run = bench.link(&[])?;
        all(
            &bench,
            &["insert into $.of_stream values (1700000060000, 2.5)"],
        )?;
        bench.link(&[])?;
        Ok(run)
    });
    let gone = all(
        &bench,
        &["drop stream if exists $.sums", "drop snode on dnode 1"],
    );
    let run = says(linked?, 0, &["stream sums", "made (watermark"])?;
    gone?;
    if run.output().contains("m (watermark") {
        return Err(format!("CREATE made that one: {}", run.output()));
    }
    for link in 0..2 {
        let restored = says(bench.try_restore(&bench.links[link..=link])?, 0, &[]);
        restored.map_err(|e| format!("link {link}: {e}"))?;
        bench.expect_target(&bench.contents[link])?;
    }
    Ok(())
}
