//! Links made of the data directories of a server that does not run: of one that was stopped, and of one that was killed.
//!
//! `E2E_HISTORIES` sets the number of random histories (default 2), `E2E_SEED` the seed of the first.

use e2e::{Content, History, Installation, Run, Server, Taosdump, quoted, setting};
use libtest_mimic::{Arguments, Trial};
use model::catalogue::Table;
use rand::{Rng, SeedableRng, rngs::StdRng};
use repository::link::Link;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    thread,
    time::Duration,
};
use store::Directory;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installed = Taosdump::installed();
    if let Err(reason) = &installed {
        eprintln!("skipped: {reason}");
    }
    let trials = TESTS.map(|(name, test)| {
        let (installed, skip) = (installed.clone(), installed.is_err());
        let test = move || {
            let (installation, taosdump) = installed?;
            Ok(test(&installation, &taosdump)?)
        };
        Trial::test(name, test).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

type Test = fn(&Installation, &Taosdump) -> Result<(), String>;

const TESTS: [(&str, Test); 7] = [
    ("rows_beside_a_damaged_block_are_in_the_link", damaged_block),
    (
        "a_record_that_was_not_written_to_its_end_is_named",
        torn_record,
    ),
    (
        "links_of_a_server_that_does_not_run_restore_what_was_there",
        histories,
    ),
    (
        "a_link_made_offline_is_the_one_that_the_server_would_give",
        same_as_online,
    ),
    ("directories_of_a_running_server_are_refused", running),
    ("a_vnode_that_is_gone_is_named", vnode_gone),
    (
        "damaged_lists_of_the_server_cost_nothing_that_can_be_read",
        damaged_lists,
    ),
];

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes a link without a server.
fn offline(
    taosdump: &Taosdump,
    server: &Server,
    databases: &[&str],
    base: Option<&Path>,
    out: &Path,
) -> Command {
    // No host and port: nobody is to be asked.
    let mut command = taosdump.configured_command(server, out.parent().unwrap_or(out));
    command.args(["--incremental", "--offline", "--data-dir"]);
    command.arg(server.data_dir());
    if let Some(base) = base {
        command.arg("--base").arg(base);
    }
    match databases {
        [] => command.arg("-A"),
        names => command.args(["-D", &names.join(",")]),
    };
    let _ = std::fs::create_dir(out);
    command.arg("-o").arg(out);
    command
}

/// Flushes, and waits until everything is in the files.
fn flush(server: &Server, database: &str) -> Result<(), String> {
    let c = server.connect().map_err(text)?;
    let vnodes = capture::DataDirs::new(vec![server.data_dir()]).map_err(text)?;
    let vnodes = vnodes.vnodes().map_err(text)?;
    let of = |vnode: &capture::VnodeDir| vnode.config().is_ok_and(|c| c.database == database);
    let vnodes: Vec<_> = vnodes.into_iter().filter(of).collect();
    let newest: Vec<_> = vnodes
        .iter()
        .map(|vnode| vnode.newest_logged().map_err(text))
        .collect::<Result<_, _>>()?;
    c.execute(&format!("flush database {}", quoted(database)))
        .map_err(text)?;
    for (vnode, newest) in vnodes.iter().zip(newest) {
        e2e::until("the commit", || {
            Ok(vnode.config().is_ok_and(|vnode| vnode.committed >= newest))
        })
        .map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}

fn content(server: &Server, database: &str) -> Result<Content, String> {
    let c = server.connect().map_err(text)?;
    Content::read(&c, database).map_err(text)
}

fn restore(
    taosdump: &Taosdump,
    server: &Server,
    database: &str,
    links: &[PathBuf],
    expected: &Content,
) -> Result<usize, String> {
    let target = format!("{database}_restored");
    let c = server.connect().map_err(text)?;
    c.execute(&format!("drop database if exists {}", quoted(&target)))
        .map_err(text)?;
    let mut command = taosdump.restore_command(server, links, &[(database, &target)]);
    Run::of(&mut command).map_err(text)?.expect_code(0)?;
    let mut differences = expected.differences(&content(server, &target)?, 100);
    if links.len() == 1 {
        // Only the mnode has comments of super tables.
        differences.retain(|difference| {
            !(difference.starts_with("super table") && difference.contains("COMMENT"))
        });
    }
    match differences.is_empty() {
        true => Ok(expected.rows()),
        false => Err(format!("restored {links:?}: {differences:#?}")),
    }
}

/// A full link of a stopped server; one of a server that was killed, often in a commit, which follows it; and one of the server as it runs again,
/// which follows that.
fn histories(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let count: u64 = setting("E2E_HISTORIES", 2);
    let first: u64 = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("{count} histories from E2E_SEED={first}");
    let mut server = Server::start(installation).map_err(text)?;
    let (mut rows, mut incomplete, mut failed) = (0, 0, Vec::new());
    let mut seed = first;
    let mut done = 0;
    while done < count {
        let dir = tempfile::Builder::new()
            .prefix("offline-")
            .tempdir()
            .map_err(text)?;
        let database = format!("o{seed}");
        let mut one = One {
            taosdump,
            rng: StdRng::seed_from_u64(seed),
            dir: dir.path(),
            database: &database,
            rows: 0,
            incomplete: 0,
        };
        let c = server.connect().map_err(text)?;
        let mut history = History::create(&c, &database, seed).map_err(text)?;
        drop(c);
        seed += 1;
        // Without a log a killed server loses what it had acknowledged.
        if history.has_wal() {
            done += 1;
            if let Err(problem) = one.run(&mut server, &mut history) {
                let _ = history.save(dir.path());
                eprintln!(
                    "E2E_SEED={} ({}): {problem}",
                    seed - 1,
                    dir.path().display()
                );
                failed.push(seed - 1);
            }
            rows += one.rows;
            incomplete += one.incomplete;
        }
        if failed.last() == Some(&(seed - 1)) {
            let _ = dir.keep();
        }
        if server.connect().is_err() {
            server.restart().map_err(text)?;
        }
        let c = server.connect().map_err(text)?;
        for name in [database.clone(), format!("{database}_restored")] {
            let drop = format!("drop database if exists {}", quoted(&name));
            c.execute(&drop).map_err(text)?;
        }
    }
    println!(
        "{done} histories, {rows} rows compared, {incomplete} links that named what is only in the log"
    );
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} of {done} histories failed: seeds {failed:?}",
            failed.len()
        )),
    }
}

struct One<'a> {
    taosdump: &'a Taosdump,
    rng: StdRng,
    dir: &'a Path,
    database: &'a str,
    rows: usize,
    incomplete: usize,
}

impl One<'_> {
    fn run(&mut self, server: &mut Server, history: &mut History) -> Result<(), String> {
        self.steps(server, history)?;
        flush(server, self.database)?;
        let before = content(server, self.database)?;
        server.stop();
        let links = [0, 1, 2].map(|n| self.dir.join(format!("link{n}")));
        self.link(server, None, &links[0], true)?;
        server.restart().map_err(text)?;

        self.steps(server, history)?;
        let killed = content(server, self.database)?;
        if self.rng.random() {
            // It is killed somewhere in a commit, or just behind it.
            let c = server.connect().map_err(text)?;
            c.execute(&format!("flush database {}", quoted(self.database)))
                .map_err(text)?;
            thread::sleep(Duration::from_millis(self.rng.random_range(0..150)));
        }
        server.kill();
        self.link(server, Some(&links[0]), &links[1], false)?;
        server.restart().map_err(text)?;

        let mut command =
            self.taosdump
                .link_command(server, &[self.database], Some(&links[1]), &links[2]);
        self.format(&mut command);
        Run::of(&mut command).map_err(text)?.expect_code(0)?;
        let after = content(server, self.database)?;
        let lost = killed.differences(&after, 10);
        if !lost.is_empty() {
            return Err(format!("the server itself lost: {lost:#?}"));
        }
        self.rows += restore(self.taosdump, server, self.database, &links[..1], &before)?;
        self.rows += restore(self.taosdump, server, self.database, &links, &after)?;
        Ok(())
    }

    fn steps(&mut self, server: &Server, history: &mut History) -> Result<(), String> {
        let c = server.connect().map_err(text)?;
        let steps = self.rng.random_range(5..40);
        (0..steps).try_for_each(|_| history.step(&c)).map_err(text)
    }

    fn format(&mut self, command: &mut Command) {
        command.args([
            "--format",
            if self.rng.random() { "avro" } else { "parquet" },
        ]);
    }

    /// Where everything is committed, nothing may be missing.
    fn link(
        &mut self,
        server: &Server,
        base: Option<&Path>,
        out: &Path,
        all: bool,
    ) -> Result<(), String> {
        let mut command = offline(self.taosdump, server, &[self.database], base, out);
        self.format(&mut command);
        let run = Run::of(&mut command).map_err(text)?;
        let run = match (all, run.code) {
            (false, Some(3)) => {
                self.incomplete += 1;
                run.expect_code(3)?
            }
            _ => run.expect_code(0)?,
        };
        let says = run.output().contains("only in the log");
        match says == (run.code == Some(3)) {
            true => Ok(()),
            false => Err(format!("what is only in the log: {}", run.output())),
        }
    }
}

fn open(path: &Path) -> Result<Link, String> {
    Link::open(Arc::new(Directory::new(path))).map_err(text)
}

/// The tables of the only database of a link.
fn tables(link: &Link) -> Result<BTreeMap<String, Table>, String> {
    let database = link.manifest.databases.first().ok_or("no database")?;
    let mut tables = BTreeMap::new();
    link.tables(database, &mut |table| {
        tables.insert(table.name.clone(), table);
        Ok(())
    })
    .map_err(text)?;
    Ok(tables)
}

/// The catalogue in a link that was made offline is that of a link of the running server, but for what only the mnode knows.
fn same_as_online(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let mut server = Server::start(installation).map_err(text)?;
    let c = server.connect().map_err(text)?;
    for sql in [
        "create database `a``b` vgroups 3 precision 'us' duration 5d keep 100d,200d,500d buffer 20 cachemodel 'both' \
         cachesize 3 comp 1 minrows 50 stt_trigger 4 wal_retention_period 100 pages 300 pagesize 8 maxrows 3000",
        "use `a``b`",
        "create stable s (ts timestamp, `k``` int primary key, v varchar(20), d decimal(20,4), g geometry(90)) \
         tags (t int, n nchar(9), j varbinary(9)) keep 300d",
        "create stable j (ts timestamp, v double encode 'disabled' compress 'zstd') tags (j json)",
        "alter stable s add column late int",
        "alter stable s add tag more int",
        "create table c1 using s tags (1, 'ä', '\\x01', null) ttl 100 comment 'it is'",
        "create table c2 using s (t) tags (null)",
        "create table `c 3` using j tags ('{\"a\":1}')",
        "create table n (ts timestamp, b bool, u bigint unsigned) comment '' sma(b)",
        "alter table n add column late smallint",
        "insert into c1 values (now, 1, 'x', 1.5, null, 7) c2 values (now, 1, null, null, null, null)",
        "insert into n values (now, true, 5, 7)",
    ] {
        c.execute(sql).map_err(|e| format!("{sql}: {e}"))?;
    }
    drop(c);
    let (online, alone, next) = (
        dir.path().join("online"),
        dir.path().join("alone"),
        dir.path().join("next"),
    );
    let mut command = taosdump.link_command(&server, &["a`b"], None, &online);
    Run::of(command.args(["--format", "parquet"]))
        .map_err(text)?
        .expect_code(0)?;
    let content = content(&server, "a`b")?;
    server.stop();
    let mut command = offline(taosdump, &server, &["a`b"], None, &alone);
    Run::of(command.args(["--format", "parquet"]))
        .map_err(text)?
        .expect_code(0)?;
    // What has not changed is not in a link that follows the server's own.
    let mut command = offline(taosdump, &server, &["a`b"], Some(&online), &next);
    Run::of(&mut command).map_err(text)?.expect_code(0)?;
    server.restart().map_err(text)?;

    let (online, alone, next) = (open(&online)?, open(&alone)?, open(&next)?);
    let (by_sql, by_files) = (tables(&online)?, tables(&alone)?);
    if by_sql != by_files {
        return Err(format!(
            "tables by SQL:\n{by_sql:#?}\nby files:\n{by_files:#?}"
        ));
    }
    let stables = |link: &Link| {
        let mut stables = link.manifest.databases[0].stables.clone();
        stables.iter_mut().for_each(|stable| stable.updated.clear());
        stables
    };
    if stables(&online) != stables(&alone) {
        return Err(format!(
            "super tables by SQL:\n{:#?}\nby files:\n{:#?}",
            stables(&online),
            stables(&alone)
        ));
    }
    let options = |link: &Link| {
        model::catalogue::database_options(&link.manifest.databases[0].database.create)
    };
    let (by_sql, by_files) = (options(&online), options(&alone));
    for (option, value) in &by_files {
        if by_sql.get(option) != Some(value) {
            return Err(format!("{option} is {value} by files, and in {by_sql:?}"));
        }
    }
    let only_sql: Vec<_> = by_sql
        .keys()
        .filter(|o| !by_files.contains_key(*o))
        .collect();
    println!("only SQL tells: {only_sql:?}");
    let totals = next.manifest.databases[0].totals;
    if (totals.tables_changed, totals.tables_dropped, totals.rows) != (0, 0, 0) {
        return Err(format!("nothing had changed: {totals:?}"));
    }
    if next.manifest.databases[0].database != online.manifest.databases[0].database {
        return Err(format!("{:?}", next.manifest.databases[0].database));
    }
    restore(
        taosdump,
        &server,
        "a`b",
        &[dir.path().join("alone")],
        &content,
    )?;
    Ok(())
}

fn running(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let server = Server::start(installation).map_err(text)?;
    let run = Run::of(&mut offline(
        taosdump,
        &server,
        &[],
        None,
        &dir.path().join("out"),
    ));
    let run = run.map_err(text)?.expect_code(1)?;
    match run.output().contains("a server runs on") {
        true => Ok(()),
        false => Err(run.output()),
    }
}

/// A server that was killed while it wrote to its log: what is before that is in the link, though nothing was committed.
fn torn_record(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let mut server = Server::start(installation).map_err(text)?;
    let c = server.connect().map_err(text)?;
    c.execute("create database d vgroups 1").map_err(text)?;
    c.execute("create table d.n (ts timestamp, v int)")
        .map_err(text)?;
    flush(&server, "d")?;
    for n in 0..100 {
        let sql = format!(
            "insert into d.n values ({}, {n})",
            1_700_000_000_000_i64 + n
        );
        c.execute(&sql).map_err(text)?;
    }
    c.execute("delete from d.n where ts < 1700000000010")
        .map_err(text)?;
    c.execute("insert into d.n values (1700000000010, -1)")
        .map_err(text)?;
    let whole = content(&server, "d")?;
    c.execute("insert into d.n values (1700000000500, 500)")
        .map_err(text)?;
    drop(c);
    server.kill();
    let wal = server.data_dir().join("vnode/vnode2/wal");
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&wal)
        .map_err(text)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let newest = segments.last().ok_or("no log")?;
    let bytes = std::fs::read(newest).map_err(text)?;
    std::fs::write(newest, &bytes[..bytes.len() - 5]).map_err(text)?;
    let link = dir.path().join("link");
    let run = Run::of(&mut offline(taosdump, &server, &["d"], None, &link));
    let run = run.map_err(text)?.expect_code(3)?;
    if !run.output().contains("is not complete") {
        return Err(run.output());
    }
    let other = Server::start(installation).map_err(text)?;
    let rows = restore(taosdump, &other, "d", &[link], &whole)?;
    if rows != 90 {
        return Err(format!("{rows} rows"));
    }
    // Its first record that matters is damaged, and then there is none at all.
    for damage in [true, false] {
        match damage {
            true => {
                let mut flipped = bytes.clone();
                flipped[60] ^= 1;
                std::fs::write(newest, flipped).map_err(text)?;
            }
            false => {
                for segment in &segments {
                    std::fs::remove_file(segment).map_err(text)?;
                }
            }
        }
        let out = dir.path().join(format!("damaged{damage}"));
        let run = Run::of(&mut offline(taosdump, &server, &["d"], None, &out));
        let run = run.map_err(text)?.expect_code(3)?;
        if !run.output().contains("its log can't be read to its end") {
            return Err(run.output());
        }
    }
    Ok(())
}

/// Of a table with a damaged block the other rows are in the link, and other tables are whole.
fn damaged_block(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let mut server = Server::start(installation).map_err(text)?;
    let c = server.connect().map_err(text)?;
    c.execute("create database d vgroups 1 stt_trigger 1")
        .map_err(text)?;
    for table in ["a", "b"] {
        c.execute(&format!("create table d.{table} (ts timestamp, v int)"))
            .map_err(text)?;
        for part in 0..20_i64 {
            let rows = part * 1_000..(part + 1) * 1_000;
            let values: String = rows
                .map(|n| format!("({}, {})", 1_700_000_000_000 + n, n * n * 7_919 % 1_000_003))
                .collect();
            c.execute(&format!("insert into d.{table} values {values}"))
                .map_err(text)?;
        }
    }
    flush(&server, "d")?;
    drop(c);
    server.stop();
    let tsdb = server.data_dir().join("vnode/vnode2/tsdb");
    let mut files = std::fs::read_dir(&tsdb).map_err(text)?;
    let data = files
        .find_map(|entry| {
            let path = entry.ok()?.path();
            (path.extension()? == "data").then_some(path)
        })
        .ok_or("no data file")?;
    let mut bytes = std::fs::read(&data).map_err(text)?;
    // In the first blocks of the first table.
    let at = bytes.len() / 8;
    bytes[at] ^= 0x55;
    std::fs::write(&data, bytes).map_err(text)?;
    let link = dir.path().join("link");
    let mut command = offline(taosdump, &server, &["d"], None, &link);
    let run = Run::of(command.args(["--format", "parquet"])).map_err(text)?;
    let run = run.expect_code(3)?;
    let place = data.display().to_string();
    if !run.output().contains(&place) || !run.output().contains("not dumped") {
        return Err(run.output());
    }
    let other = Server::start(installation).map_err(text)?;
    let mut command = taosdump.restore_command(&other, &[link], &[]);
    Run::of(&mut command).map_err(text)?.expect_code(3)?;
    let c = other.connect().map_err(text)?;
    let mut counts = Vec::new();
    for table in ["a", "b"] {
        let count = c
            .query(&format!("select count(*) from d.{table}"))
            .map_err(text)?;
        counts.push(count.concat().concat().parse::<i64>().map_err(text)?);
    }
    counts.sort_unstable();
    match counts[..] {
        [some, 20_000] if (10_000..20_000).contains(&some) => Ok(()),
        _ => Err(format!("{counts:?} rows")),
    }
}

/// A full link holds the tables of the other vnodes; a link that follows another one would drop those that are not there.
fn vnode_gone(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let mut server = Server::start(installation).map_err(text)?;
    let c = server.connect().map_err(text)?;
    c.execute("create database d vgroups 2").map_err(text)?;
    c.execute("create stable d.s (ts timestamp, v int) tags (t int)")
        .map_err(text)?;
    for n in 0..10 {
        let sql = format!("insert into d.c{n} using d.s tags ({n}) values (now, {n})");
        c.execute(&sql).map_err(text)?;
    }
    drop(c);
    let [base, full, next, other] =
        ["base", "full", "next", "other"].map(|name| dir.path().join(name));
    let mut command = taosdump.link_command(&server, &["d"], None, &base);
    Run::of(&mut command).map_err(text)?.expect_code(0)?;
    server.stop();
    let vnode = server.data_dir().join("vnode/vnode2");
    let aside = dir.path().join("vnode2");
    // Its catalogue is damaged, then the vnode is gone.
    let catalogue = vnode.join("meta/main.tdb");
    let bytes = std::fs::read(&catalogue).map_err(text)?;
    std::fs::write(&catalogue, &bytes[..1_000]).map_err(text)?;
    let run = Run::of(&mut offline(taosdump, &server, &["d"], None, &full));
    let run = run.map_err(text)?.expect_code(3)?;
    if !run.output().contains("main.tdb") || !run.output().contains("give the data directories") {
        return Err(run.output());
    }
    std::fs::write(&catalogue, bytes).map_err(text)?;
    std::fs::rename(&vnode, &aside).map_err(text)?;
    let run = Run::of(&mut offline(taosdump, &server, &["d"], None, &other));
    run.map_err(text)?.expect_code(3)?;
    let all = dir.path().join("all");
    let run = Run::of(&mut offline(taosdump, &server, &[], None, &all));
    let run = run.map_err(text)?.expect_code(3)?;
    if !run.output().contains("counts it among its vnodes") {
        return Err(run.output());
    }
    let held = tables(&open(&other)?)?.len();
    if !(1..10).contains(&held) || tables(&open(&full)?)?.len() != held {
        return Err(format!("{held} tables of 10"));
    }
    let run = Run::of(&mut offline(taosdump, &server, &["d"], Some(&base), &next));
    let run = run.map_err(text)?.expect_code(1)?;
    match run.output().contains("needs all of the database") {
        true => Ok(()),
        false => Err(run.output()),
    }
}

/// Of a dnode some lists are damaged or missing that say what its vnodes are of. All that can be read is in the link, and what is
/// damaged is named.
fn damaged_lists(installation: &Installation, taosdump: &Taosdump) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let mut server = Server::start(installation).map_err(text)?;
    let c = server.connect().map_err(text)?;
    for database in ["one", "two"] {
        let sql = format!("create database {database} vgroups 1");
        c.execute(&sql).map_err(text)?;
        let sql = format!("create table {database}.n (ts timestamp, v int)");
        c.execute(&sql).map_err(text)?;
        let sql = format!("insert into {database}.n values (now, 1)");
        c.execute(&sql).map_err(text)?;
    }
    drop(c);
    let base = dir.path().join("base");
    let mut command = taosdump.link_command(&server, &["one", "two"], None, &base);
    Run::of(&mut command).map_err(text)?.expect_code(0)?;
    server.stop();
    let vnodes = server.data_dir().join("vnode");
    let of_two = std::fs::read_dir(&vnodes).map_err(text)?;
    let of_two = of_two
        .filter_map(|entry| Some(entry.ok()?.path().join("vnode.json")))
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("1.two")))
        .ok_or("no vnode of the second database")?;
    let damage: [(&str, PathBuf, Option<&str>, usize); 4] = [
        (
            "dnode-damaged",
            server.data_dir().join("dnode/dnode.json"),
            Some("{"),
            2,
        ),
        (
            "dnode-missing",
            server.data_dir().join("dnode/dnode.json"),
            None,
            2,
        ),
        ("vnodes-damaged", vnodes.join("vnodes.json"), Some("{"), 2),
        ("vnode-missing", of_two, None, 1),
    ];
    for (name, path, damaged, databases) in damage {
        let kept = std::fs::read(&path).map_err(text)?;
        match damaged {
            Some(damaged) => std::fs::write(&path, damaged).map_err(text)?,
            None => std::fs::remove_file(&path).map_err(text)?,
        }
        let out = dir.path().join(name);
        let run = Run::of(&mut offline(taosdump, &server, &[], None, &out));
        let run = run.map_err(text)?.expect_code(3)?;
        let named = path.parent().filter(|_| name == "vnode-missing");
        let named = named.unwrap_or(&path).display().to_string();
        if !run.output().contains(&named) {
            return Err(format!("{name}: {named} is not named: {}", run.output()));
        }
        let link = open(&out)?;
        let held: Vec<&str> = link
            .manifest
            .databases
            .iter()
            .map(|d| &*d.database.name)
            .collect();
        if held.len() != databases || tables(&link)?.len() != 1 {
            return Err(format!("{name}: {held:?}"));
        }
        if link.manifest.cluster != open(&base)?.manifest.cluster {
            return Err(format!("{name}: cluster {}", link.manifest.cluster));
        }
        std::fs::write(&path, kept).map_err(text)?;
    }
    // A link that follows another one would drop what is not there, so it needs all vnodes.
    let next = dir.path().join("next");
    let run = Run::of(&mut offline(
        taosdump,
        &server,
        &["one"],
        Some(&base),
        &next,
    ));
    run.map_err(text)?.expect_code(0)?;
    Ok(())
}
