//! Links made on a server of one version and restored on one of another, both ways. `TDENGINE_HOME` (or `PATH`) leads to
//! the one, `TDENGINE_OTHER_HOME` to the other.
//!
//! A process can only have one client library, and a library speaks only to servers of its version. So this program starts
//! itself for each server: one makes links and notes what it held, the other restores them and compares.
//!
//! `E2E_HISTORIES` is the number of random histories each way (default 2), `E2E_SEED` the seed of the first.

use e2e::{Content, History, Installation, Run, Server, Taosdump, Workbench, setting};
use libtest_mimic::{Arguments, Failed, Trial};
use rand::Rng as _;
use std::{
    collections::BTreeSet,
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// Which part of a story a process is to play, and where it finds and leaves what the parts share.
const PART: &str = "E2E_VERSIONS_PART";
const SHARED: &str = "E2E_VERSIONS_DIR";

/// Two parts: what makes links on one server, and what restores them on the other.
type Part = fn(&Stage<'_>) -> Result<(), String>;
const STORIES: &[(&str, Part, Part)] = &[
    (
        "a_chain_is_restored_as_a_whole_and_link_by_link",
        make_chain,
        restore_chain,
    ),
    (
        "columns_of_a_type_that_the_server_lacks_are_refused_before_anything_is_written",
        make_blobs,
        restore_blobs,
    ),
    (
        "names_that_the_server_does_not_find_are_refused_before_anything_is_written",
        make_backticks,
        restore_backticks,
    ),
    (
        "what_the_server_lacks_of_super_tables_is_left_out_and_named",
        make_keep,
        restore_keep,
    ),
    (
        "random_histories_are_restored_link_by_link",
        make_histories,
        restore_histories,
    ),
];

fn main() -> ExitCode {
    if let Ok(part) = env::var(PART) {
        return match play(&part) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{part}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let other = Taosdump::installed()
        .and_then(|_| Installation::other().inspect_err(|reason| eprintln!("skipped: {reason}")));
    let mut trials = Vec::new();
    for (n, (name, ..)) in STORIES.iter().enumerate() {
        for (way, is_back) in [("there", false), ("back", true)] {
            let other = other.clone();
            let skip = other.is_err();
            let test = move || Ok::<_, Failed>(tell(n, is_back, &other?)?);
            trials.push(Trial::test(format!("{name}_{way}"), test).with_ignored_flag(skip));
        }
    }
    let skip = other.is_err();
    let test = move || Ok::<_, Failed>(other_library(&other?)?);
    let name = "a_client_library_of_another_version_is_refused_with_what_to_do";
    trials.push(Trial::test(name, test).with_ignored_flag(skip));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Speaks to a server through the client library of the other version.
fn other_library(other: &Installation) -> Result<(), String> {
    let (installation, taosdump) = Taosdump::installed()?;
    let server = Server::start(&installation).map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut command = taosdump.link_command(&server, &[], None, &dir.path().join("link"));
    command.env("LD_LIBRARY_PATH", other.library_dir());
    let run = Run::of(&mut command).map_err(|e| e.to_string())?;
    let run = run.expect_code(1)?;
    match run.stderr.contains("found first, by LD_LIBRARY_PATH") {
        true => Ok(()),
        false => Err(run.output()),
    }
}

/// Has both parts of a story played, each by a process of its own.
fn tell(story: usize, is_back: bool, other: &Installation) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    for (part, on_other) in [("make", is_back), ("restore", !is_back)] {
        let program = env::current_exe().map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command
            .env(PART, format!("{part} {story}"))
            .env(SHARED, dir.path());
        if on_other {
            // Its client library finds what it is made of only so.
            command
                .env("TDENGINE_HOME", other.home())
                .env("LD_LIBRARY_PATH", other.library_dir());
        }
        Run::of(&mut command)
            .map_err(|e| e.to_string())?
            .expect_code(0)?;
    }
    Ok(())
}

fn play(part: &str) -> Result<(), String> {
    let shared = env::var_os(SHARED).ok_or("no directory to share")?;
    let (part, number) = part.split_once(' ').ok_or("no such part")?;
    let number: usize = number.parse().map_err(|_| "no such story")?;
    let (_, make, restore) = STORIES.get(number).ok_or("no such story")?;
    let (installation, taosdump) = Taosdump::installed()?;
    let server = Server::start(&installation).map_err(|e| e.to_string())?;
    let stage = Stage {
        server: &server,
        taosdump: &taosdump,
        shared: shared.into(),
    };
    match part {
        "make" => make(&stage),
        _ => restore(&stage),
    }
}

/// A server, and what the parts share.
struct Stage<'a> {
    server: &'a Server,
    taosdump: &'a Taosdump,
    shared: PathBuf,
}

impl<'a> Stage<'a> {
    /// The same with a place of its own for what the parts share.
    fn below(&self, name: &str) -> Stage<'a> {
        Stage {
            shared: self.shared.join(name),
            ..*self
        }
    }

    fn link(&self, n: usize) -> PathBuf {
        self.shared.join(format!("link{n}"))
    }

    fn content(&self, n: usize) -> PathBuf {
        self.shared.join(format!("content{n}"))
    }

    /// A database to make links of.
    fn workbench(&self) -> Result<Workbench<'_>, String> {
        Workbench::new(self.server, self.taosdump, "v")
    }

    /// Makes the next link, and notes what the database holds.
    fn make_link(&self, w: &mut Workbench<'_>) -> Result<(), String> {
        let n = w.links.len();
        let out = self.link(n);
        w.try_link(&out, &[])?.expect_code(0)?;
        w.links.push(out);
        let content = w.content().map_err(|e| e.to_string())?;
        fs::write(self.content(n), content.lines().join("\n")).map_err(|e| e.to_string())
    }

    /// How many links there are.
    fn links(&self) -> usize {
        (0..).take_while(|n| self.content(*n).exists()).count()
    }

    fn restore(&self, links: std::ops::Range<usize>, flags: &[&str]) -> Result<Run, String> {
        let links: Vec<PathBuf> = links.map(|n| self.link(n)).collect();
        let rename = [("v", "restored")];
        let mut command = self.taosdump.restore_command(self.server, &links, &rename);
        Run::of(command.args(flags)).map_err(|e| e.to_string())
    }

    /// What was restored must be what the link was made of.
    fn must_equal(&self, link: usize) -> Result<(), String> {
        let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
        let made = fs::read_to_string(self.content(link)).map_err(|e| e.to_string())?;
        let restored = self.restored()?.lines().join("\n");
        if made == restored {
            return Ok(());
        }
        let (made, restored) = (lines(&made), lines(&restored));
        let missing: Vec<&String> = made.difference(&restored).take(10).collect();
        let other: Vec<&String> = restored.difference(&made).take(10).collect();
        Err(format!(
            "link {link}: missing {missing:#?}, and there instead {other:#?}"
        ))
    }

    fn restored(&self) -> Result<Content, String> {
        let c = self.server.connect().map_err(|e| e.to_string())?;
        Content::read(&c, "restored").map_err(|e| e.to_string())
    }

    fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let c = self.server.connect().map_err(|e| e.to_string())?;
        c.query(sql).map_err(|e| e.to_string())
    }

    fn execute(&self, sql: &str) -> Result<(), String> {
        let c = self.server.connect().map_err(|e| e.to_string())?;
        c.execute(sql).map(drop).map_err(|e| e.to_string())
    }

    /// A dry run must find nothing to refuse, and a restore do it.
    fn restore_as_said(&self, links: std::ops::Range<usize>) -> Result<Run, String> {
        self.restore(links.clone(), &["--dry-run"])?
            .expect_code(0)?;
        self.restore(links, &[])?.expect_code(0)
    }

    /// Links that the server can't take must be refused, in these words and before anything is written.
    fn must_refuse(&self, words: &[&str]) -> Result<(), String> {
        let version = self.query("select server_version()")?.concat().concat();
        let version = format!("the server, version {version}, ");
        for flags in [&["--dry-run"][..], &[]] {
            let run = self.restore(0..self.links(), flags)?.expect_code(1)?;
            for said in words.iter().copied().chain([version.as_str()]) {
                if !run.stderr.contains(said) {
                    return Err(format!("{said:?} is missing: {}", run.output()));
                }
            }
            if self.has_databases()? {
                return Err(format!("{flags:?}: something was written"));
            }
        }
        Ok(())
    }

    fn has_databases(&self) -> Result<bool, String> {
        let names = self.query("select name from information_schema.ins_databases")?;
        let own = ["information_schema", "performance_schema"];
        Ok(names
            .concat()
            .iter()
            .any(|name| !own.contains(&name.as_str())))
    }
}

const TYPES: &str = "b bool, ti tinyint, si smallint, i int, bi bigint, uti tinyint unsigned, usi smallint unsigned, \
    ui int unsigned, ubi bigint unsigned, f float, d double, vc varchar(20), nc nchar(10), vb varbinary(30), \
    g geometry(200), d64 decimal(10, 3), d128 decimal(30, 5), t timestamp";

/// The first key that is written, in µs.
const FIRST: i64 = 1_700_000_000_000_000;

/// Rows of a table with a key and a number.
fn rows(table: &str, keys: impl Iterator<Item = i64>, number: i64) -> String {
    let rows = keys.map(|key| format!(" ({}, {})", FIRST + key * 1_000_000, key + number));
    format!("insert into $.{table} values{}", rows.collect::<String>())
}

fn make_chain(stage: &Stage<'_>) -> Result<(), String> {
    let mut w = stage.workbench()?;
    let run = |w: &Workbench<'_>, statements: &[String]| {
        let all = statements.iter();
        all.into_iter()
            .try_for_each(|sql| w.sql(sql).map(drop).map_err(|e| e.to_string()))
    };
    let say = |statements: &[&str]| statements.iter().map(|sql| (*sql).to_owned()).collect();
    let mut first: Vec<String> = say(&[
        "create database $ vgroups 2 precision 'us' keep 3000d duration 5d cachemodel 'both' comp 1 stt_trigger 1",
        &format!(
            "create stable $.alltypes (ts timestamp, {TYPES}) tags (tb bool, tti tinyint, tubi bigint unsigned, tf float, \
             td double, tvc varchar(20), tnc nchar(10), tvb varbinary(20), tg geometry(100), tt timestamp) \
             comment 'it''s' sma(i, f)"
        ),
        "create stable $.meters (ts timestamp, v int) tags (t int)",
        "create stable $.js (ts timestamp, v int) tags (j json)",
        "create stable $.number_key (ts timestamp, k int primary key, vc varchar(30) encode 'disabled' compress 'zstd' \
         level 'high', bi bigint encode 'delta-i' level 'low', d double encode 'delta-d' compress 'zlib') tags (t int)",
        "create stable $.text_key (ts timestamp, k varchar(10) primary key, v double) tags (t int) sma(v)",
        "create table $.nt (ts timestamp, k bigint primary key, x int) comment 'a \"b\"' ttl 1000",
        "create table $.plain (ts timestamp, x int, y double) ttl 900",
        "create table $.e1 using $.alltypes tags (true, 1, 18446744073709551615, 1.5, 2.5, 'abc', 'äöü', '\\x0102', \
         'POINT(1 2)', 1700000000000000) ttl 800 comment 'child'",
        "create table $.e2 using $.alltypes (tb) tags (null)",
        "create table $.j1 using $.js tags ('{\"a\": 1, \"b\": \"x\"}')",
        "create table $.n1 using $.number_key tags (1)",
        "create table $.t1 using $.text_key tags (1)",
        "insert into $.e1 values (1700000000000000, true, -1, -2, -3, -4, 5, 6, 7, 18446744073709551615, 1.25, 1e300, 'v', \
         'ñ', '\\xff00', 'LINESTRING(1 1, 2 2)', -1234567.891, 1234567890123456789012345.12345, 1) \
         (1700000001000000, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, \
         null, null) (1700000002000000, false, 1, 2, 3, 4, 5, 6, 7, 8, -0.5, 0.1, '', '', '', 'POINT(0 0)', 0.001, -0.00001, 0)",
        "insert into $.j1 values (1700000000000000, 1)",
        "insert into $.n1 values (1700000000000000, 1, 'a', 5, 1.5) (1700000000000000, 2, 'b', 6, 2.5)",
        "insert into $.t1 values (1700000000000000, 'x', 1) (1700000000000000, 'y', 2)",
        "insert into $.nt values (1700000000000000, 1, 1) (1700000000000000, 2, null)",
        "insert into $.plain values (1700000000000000, 1, 1.5) (1700000000000001, 2, null)",
    ]);
    for n in 0..8 {
        first.push(format!("create table $.m{n} using $.meters tags ({n})"));
        first.push(rows(&format!("m{n}"), 0..300, n));
    }
    run(&w, &first)?;
    stage.make_link(&mut w)?;

    // What shared storage is called here.
    let create = w
        .query("show create database $")
        .map_err(|e| e.to_string())?;
    let shared = match create.concat().concat().contains(" SS_KEEPLOCAL ") {
        true => "ss",
        false => "s3",
    };
    let mut second: Vec<String> = say(&[
        &format!("alter database $ {shared}_keeplocal 1000d {shared}_compact 0"),
        "alter database $ keep 3100d wal_fsync_period 2000",
        "alter database $ compact_interval 10d",
        "alter database $ cachemodel 'last_row'",
        "alter stable $.alltypes add column late varchar(12)",
        "alter stable $.alltypes modify column vc varchar(40)",
        "alter stable $.alltypes comment 'another'",
        "alter stable $.number_key modify column vc compress 'lz4'",
        "alter stable $.meters add tag more varchar(10)",
        "alter table $.m1 set tag t = 100",
        "alter table $.m2 set tag more = 'm'",
        "alter table $.plain rename column x z",
        "alter table $.plain ttl 500",
        "insert into $.e2 (ts, i, late) values (1700000003000000, 1, 'late') (1700000000500000, 2, null)",
        "insert into $.n1 values (1700000000000000, 2, 'changed', null, null) (1700000000000000, 3, 'c', 1, 2)",
        "delete from $.e1 where ts = 1700000001000000",
        "delete from $.m3 where ts >= 1700000100000000 and ts < 1700000150000000",
        "delete from $.m4",
        "create table $.m8 using $.meters (t) tags (8)",
    ]);
    second.push(rows("m8", 0..10, 8));
    second.push(rows("m0", 100..400, 7));
    run(&w, &second)?;
    stage.make_link(&mut w)?;

    let mut third: Vec<String> = say(&[
        "drop table $.m5",
        "drop stable $.js",
        "create stable $.js (ts timestamp, other double) tags (j json)",
        "create table $.j1 using $.js tags ('{\"c\": true}')",
        "insert into $.j1 values (1700000000000000, 2.5)",
        "alter stable $.alltypes drop column late",
        "alter stable $.alltypes drop column nc",
        "alter stable $.meters drop tag more",
        "alter table $.plain add column w nchar(5)",
        "alter table $.plain drop column y",
        "insert into $.plain values (1700000000000002, 3, 'w')",
        "drop table $.nt",
        "create table $.nt (ts timestamp, x decimal(20, 4))",
        "insert into $.nt values (1700000000000000, 1.5)",
        "alter database $ compact_interval 0d",
        &format!("alter database $ {shared}_keeplocal 900d"),
    ]);
    third.push(rows("m6", 295..310, 1));
    run(&w, &third)?;
    stage.make_link(&mut w)?;
    run(&w, &[rows("m7", 0..1, 0), rows("m7", 500..600, 0)])?;
    stage.make_link(&mut w)
}

fn restore_chain(stage: &Stage<'_>) -> Result<(), String> {
    let links = stage.links();
    if links != 4 {
        return Err(format!("{links} links were made"));
    }
    stage.restore_as_said(0..links)?;
    stage.must_equal(links - 1)?;
    stage.execute("drop database restored")?;
    for link in 0..links {
        stage.restore_as_said(link..link + 1)?;
        stage.must_equal(link)?;
    }
    Ok(())
}

/// The database that a story is about, and what makes it, where the server takes that.
fn make_where_it_is_taken(stage: &Stage<'_>, statements: &[&str]) -> Result<(), String> {
    let mut w = stage.workbench()?;
    let mut statements = statements.iter();
    let mut sql = |w: &Workbench<'_>| statements.next().map(|sql| w.sql(sql));
    sql(&w).ok_or("no statement")?.map_err(|e| e.to_string())?;
    // What this server does not have is in no link of it.
    if sql(&w).ok_or("no statement")?.is_err() {
        return Ok(());
    }
    while let Some(done) = sql(&w) {
        done.map_err(|e| e.to_string())?;
    }
    stage.make_link(&mut w)
}

fn make_blobs(stage: &Stage<'_>) -> Result<(), String> {
    make_where_it_is_taken(
        stage,
        &[
            "create database $ vgroups 1",
            "create stable $.photos (ts timestamp, v int, picture blob) tags (t int)",
            "create table $.p1 using $.photos tags (1)",
            "insert into $.p1 values (1700000000000, 1, '\\x0102')",
            "create table $.scan (ts timestamp, `page` blob)",
            "create table $.plain (ts timestamp, v int)",
            "insert into $.plain values (1700000000000, 1)",
        ],
    )
}

fn restore_blobs(stage: &Stage<'_>) -> Result<(), String> {
    if stage.links() == 0 {
        return Ok(());
    }
    let has_blobs = stage.query("select cast(null as blob)").is_ok();
    if has_blobs {
        stage.restore_as_said(0..1)?;
        return stage.must_equal(0);
    }
    stage.must_refuse(&[
        "column `picture` BLOB of super table `photos`",
        "column `page` BLOB of table `scan`",
        "has no type BLOB",
    ])
}

fn make_backticks(stage: &Stage<'_>) -> Result<(), String> {
    if !has_backticks(stage)? {
        return Ok(());
    }
    make_where_it_is_taken(
        stage,
        &[
            "create database $ vgroups 1",
            "create table $.`a``b` (ts timestamp, `c``` int)",
            "insert into $.`a``b` values (1700000000000, 1)",
            "create stable $.m (ts timestamp, v int) tags (t int)",
            "create table $.`child``` using $.m tags (1)",
        ],
    )
}

/// Before 3.3.7 a name with a backtick is not found again.
fn has_backticks(stage: &Stage<'_>) -> Result<bool, String> {
    let create = "create database `b``t` vgroups 1";
    stage.execute(create)?;
    let found =
        stage.query("select name from information_schema.ins_databases where name = 'b`t'")?;
    stage.execute("drop database `b``t`")?;
    Ok(!found.is_empty())
}

fn restore_backticks(stage: &Stage<'_>) -> Result<(), String> {
    if stage.links() == 0 {
        return Ok(());
    }
    if has_backticks(stage)? {
        stage.restore_as_said(0..1)?;
        return stage.must_equal(0);
    }
    stage.must_refuse(&[
        "table `a``b`",
        "column of table `a``b`: `c```",
        "table `child```",
        "does not find what has a backtick in its name",
    ])
}

fn make_keep(stage: &Stage<'_>) -> Result<(), String> {
    make_where_it_is_taken(
        stage,
        &[
            "create database $ vgroups 1 keep 3000d",
            "create stable $.brief (ts timestamp, v int) tags (t int) keep 2000d sma(v)",
            "create table $.b1 using $.brief tags (1)",
            "insert into $.b1 values (1700000000000, 1)",
        ],
    )
}

fn restore_keep(stage: &Stage<'_>) -> Result<(), String> {
    if stage.links() == 0 {
        return Ok(());
    }
    stage.restore(0..1, &["--dry-run"])?.expect_code(0)?;
    stage.restore(0..1, &[])?.expect_code(0)?;
    stage.must_equal(0)
}

const LINKS: usize = 4;
const CHANGES: usize = 30;

fn make_histories(stage: &Stage<'_>) -> Result<(), String> {
    let first: u64 = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    for seed in first..first + setting("E2E_HISTORIES", 2) {
        let stage = stage.below(&seed.to_string());
        fs::create_dir(&stage.shared).map_err(|e| e.to_string())?;
        make_history(&stage, seed).map_err(|e| format!("E2E_SEED={seed}: {e}"))?;
    }
    Ok(())
}

fn make_history(stage: &Stage<'_>, seed: u64) -> Result<(), String> {
    let mut w = stage.workbench()?;
    let mut history =
        History::create_for_any_version(&w.c, &w.database, seed).map_err(|e| e.to_string())?;
    for _ in 0..LINKS {
        let mut steps = 0..CHANGES;
        steps
            .try_for_each(|_| history.step(&w.c))
            .map_err(|e| e.to_string())?;
        stage.make_link(&mut w)?;
    }
    Ok(())
}

fn restore_histories(stage: &Stage<'_>) -> Result<(), String> {
    for seed in fs::read_dir(&stage.shared).map_err(|e| e.to_string())? {
        let seed = seed.map_err(|e| e.to_string())?.file_name();
        let seed = seed.to_string_lossy();
        let stage = stage.below(&seed);
        let restored = (0..LINKS).try_for_each(|link| {
            stage.restore_as_said(link..link + 1)?;
            stage.must_equal(link)
        });
        restored.map_err(|e| format!("E2E_SEED={seed}: {e}"))?;
        stage.execute("drop database restored")?;
    }
    Ok(())
}
