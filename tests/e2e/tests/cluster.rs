//! Links of a cluster of three dnodes, each made from the data directories that are given: whatever a replica lacks, a
//! link is exact or refused, never short.

use e2e::{
    Cluster, Connection, Content, History, Installation, Run, Running, Taosdump, files_below,
    setting, until,
};
use libtest_mimic::{Arguments, Failed, Trial};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tempfile::TempDir;

type Test = fn(&mut Cluster, &Taosdump) -> Result<(), String>;

const TESTS: [(&str, Test); 19] = [
    (
        "a_replica_that_was_killed_and_lags_gives_no_short_link",
        killed_replica,
    ),
    (
        "a_replica_that_was_frozen_and_lags_gives_no_short_link",
        frozen_replica,
    ),
    (
        "without_flush_any_replica_gives_an_exact_link_or_none",
        without_flush,
    ),
    (
        "a_copy_of_a_data_directory_is_refused",
        copy_with_one_replica,
    ),
    ("a_copy_of_a_replica_is_refused", copy_with_three_replicas),
    (
        "of_several_replicas_a_complete_one_is_taken",
        all_directories,
    ),
    ("with_a_dead_replica_another_one_is_taken", dead_replica),
    (
        "a_dnode_that_is_being_started_again_is_waited_for",
        being_started,
    ),
    (
        "a_replica_that_stays_frozen_is_waited_for_and_refused",
        replica_stays_frozen,
    ),
    (
        "a_frozen_dnode_that_must_tell_columns_is_waited_for_aloud_and_given_up",
        frozen_columns,
    ),
    (
        "an_interrupted_wait_for_a_replica_ends_at_once",
        interrupted_wait,
    ),
    (
        "a_detection_that_asks_the_server_waits_for_a_replica_too",
        detection_in_a_replica,
    ),
    (
        "a_chain_stays_exact_while_its_vgroup_is_moved_under_writes",
        moves_under_writes,
    ),
    (
        "a_chain_stays_exact_while_its_replicas_become_more_and_fewer",
        altered_replicas,
    ),
    (
        "a_dump_in_which_a_follower_dies_is_exact_or_none",
        follower_dies,
    ),
    (
        "a_dump_in_which_the_leader_dies_is_exact_or_none",
        leader_dies,
    ),
    (
        "a_dump_in_which_the_only_replica_dies_is_exact_or_none",
        only_replica_dies,
    ),
    (
        "a_dump_in_which_the_leader_of_the_mnodes_dies_is_exact_or_none",
        mnode_leader_dies,
    ),
    (
        "random_histories_on_three_dnodes_are_restored_exactly",
        histories,
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One cluster serves all tests, one after the other.
    arguments.test_threads = Some(1);
    let installed = Taosdump::installed();
    let skip = installed.is_err();
    let shared = Arc::new(Mutex::new(None));
    let trials = TESTS.into_iter().map(|(name, test)| {
        let (installed, shared) = (installed.clone(), Arc::clone(&shared));
        let test = move || {
            let (installation, taosdump) = installed?;
            let mut shared = shared.lock().map_err(text)?;
            let mut cluster = match shared.take() {
                Some(cluster) => cluster,
                None => Cluster::start(&installation)?,
            };
            test(&mut cluster, &taosdump).map_err(Failed::from)?;
            // After a failure the next test gets a new one.
            *shared = Some(cluster);
            Ok(())
        };
        Trial::test(name, test).with_ignored_flag(skip)
    });
    let trials = trials.collect();
    drop(installed);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// A database on the cluster and the chain of links made of it.
struct Chain<'a> {
    taosdump: &'a Taosdump,
    c: Connection,
    database: String,
    links: Vec<PathBuf>,
    dir: TempDir,
    rows: i64,
    /// The server that is spoken to.
    at: usize,
}

impl<'a> Chain<'a> {
    /// Makes the database with some rows.
    fn new(
        cluster: &Cluster,
        taosdump: &'a Taosdump,
        database: &str,
        options: &str,
    ) -> Result<Self, String> {
        let c = cluster.connect().map_err(text)?;
        let mut chain = Self {
            taosdump,
            c,
            database: database.to_owned(),
            links: Vec::new(),
            dir: tempfile::tempdir().map_err(text)?,
            rows: 0,
            at: 0,
        };
        for name in [database.to_owned(), chain.target()] {
            chain.sql(&format!("drop database if exists {name}"))?;
        }
        chain.sql(&format!("create database {database} {options}"))?;
        chain.sql(&format!(
            "create table {database}.s (ts timestamp, i int) tags (t int)"
        ))?;
        for n in 0..8 {
            chain.sql(&format!(
                "create table {database}.c{n} using {database}.s tags ({n})"
            ))?;
        }
        chain.write(4_000)?;
        Ok(chain)
    }

    fn target(&self) -> String {
        format!("{}_restored", self.database)
    }

    fn sql(&self, sql: &str) -> Result<(), String> {
        // A cluster refuses statements while leaders are elected.
        let mut last = String::new();
        until(sql, || {
            self.c
                .execute(sql)
                .map(|_| true)
                .inspect_err(|e| last = e.to_string())
        })
        .map_err(|e| format!("{e}: {last}"))
    }

    /// Writes so many rows, over all tables.
    fn write(&mut self, count: i64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let rows = left.min(4_000);
            let first = self.rows;
            let values: String = (0..8)
                .map(|table| {
                    let rows: String = (first..first + rows)
                        .filter(|n| n % 8 == table)
                        .map(|n| format!("({}, {n}) ", 1_704_067_200_000 + n * 1_000))
                        .collect();
                    match rows.is_empty() {
                        true => String::new(),
                        false => format!("{}.c{table} values {rows}", self.database),
                    }
                })
                .collect();
            self.sql(&format!("insert into {values}"))?;
            self.rows += rows;
            left -= rows;
        }
        Ok(())
    }

    /// The command for the next link from these directories.
    fn command(
        &self,
        cluster: &Cluster,
        dirs: &[PathBuf],
        flags: &[&str],
    ) -> Result<Command, String> {
        let mut command = self
            .taosdump
            .command(&cluster.servers[self.at], self.dir.path());
        command.args(["--incremental", "-D", &self.database]);
        for dir in dirs {
            command.arg("--data-dir").arg(dir);
        }
        if let Some(base) = self.links.last() {
            command.arg("--base").arg(base);
        }
        let out = self.out();
        fs::create_dir_all(&out).map_err(text)?;
        command.arg("-o").arg(out).args(flags);
        Ok(command)
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join(format!("link{}", self.links.len()))
    }

    /// Tries to make the next link.
    fn link(&mut self, cluster: &Cluster, dirs: &[PathBuf], flags: &[&str]) -> Result<Run, String> {
        let run = Run::of(&mut self.command(cluster, dirs, flags)?).map_err(text)?;
        if run.code == Some(0) {
            self.links.push(self.out());
        }
        Ok(run)
    }

    /// The restored chain must be what the database holds now.
    fn expect_exact(&self, cluster: &mut Cluster) -> Result<(), String> {
        let target = self.target();
        cluster.ready(&self.c).map_err(text)?;
        drop_database(cluster, &target)?;
        let rename = [(self.database.as_str(), target.as_str())];
        let server = &cluster.servers[self.at];
        let mut restore = self.taosdump.restore_command(server, &self.links, &rename);
        Run::of(&mut restore).map_err(text)?.expect_code(0)?;
        let source = Content::read(&self.c, &self.database).map_err(text)?;
        let restored = Content::read(&self.c, &target).map_err(text)?;
        drop_database(cluster, &target)?;
        let mut differences = source.differences(&restored, 5);
        // An ALTER of REPLICA returns before it is done, on either side.
        differences.retain(|text| !text.starts_with("database options: … REPLICA"));
        if source.rows() as i64 != self.rows {
            return Err(format!("{} rows of {} are there", source.rows(), self.rows));
        }
        match differences.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} links exited with 0 and restore {} rows of {}: {differences:#?}",
                self.links.len(),
                restored.rows(),
                source.rows()
            )),
        }
    }

    /// Which server can stop without anybody having to wait for an election; from now on, another one is spoken to.
    fn victim(&mut self, cluster: &Cluster) -> Result<usize, String> {
        let victim = cluster.follower(&self.c, &self.database).map_err(text)?;
        self.at = (victim + 1) % cluster.servers.len();
        let server = &cluster.servers[self.at];
        self.c = server.connect().map_err(text)?;
        Ok(victim)
    }

    fn end(self, cluster: &mut Cluster) -> Result<(), String> {
        drop_database(cluster, &self.database)
    }
}

/// Drops a database. The server (3.3.7.5) crashes now and then when it closes a replica, and the statement waits until that
/// dnode is back.
fn drop_database(cluster: &mut Cluster, name: &str) -> Result<(), String> {
    let c = cluster.connect().map_err(text)?;
    let sql = format!("drop database if exists {name}");
    let dropping =
        thread::spawn(move || until(&sql, || c.execute(&sql).map(|_| true)).map_err(text));
    while !dropping.is_finished() {
        for server in &mut cluster.servers {
            if server.has_crashed() {
                server.restart().map_err(text)?;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    dropping.join().map_err(|_| "dropping panicked")?
}

/// It must have been refused, in these words.
fn refused(run: &Run, words: &[&str]) -> Result<(), String> {
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !run.stderr.contains(**word))
        .collect();
    match run.code == Some(1) && missing.is_empty() {
        true => Ok(()),
        false => Err(format!("{missing:?} is not said: {}", run.output())),
    }
}

fn killed_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "killed", "vgroups 1 replica 3")?;
    let victim = chain.victim(cluster)?;
    let dir = [cluster.servers[victim].data_dir()];
    chain.link(cluster, &dir, &[])?.expect_code(0)?;
    cluster.servers[victim].kill();
    chain.write(45_000)?;
    cluster.servers[victim].restart().map_err(text)?;
    for _ in 0..3 {
        chain.link(cluster, &dir, &[])?.expect_code(0)?;
    }
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn frozen_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "frozen", "vgroups 1 replica 3")?;
    let victim = chain.victim(cluster)?;
    let dir = [cluster.servers[victim].data_dir()];
    chain.link(cluster, &dir, &[])?.expect_code(0)?;
    cluster.servers[victim].freeze();
    let written = chain.write(900);
    let command = chain.command(cluster, &dir, &[]);
    let running = command.and_then(|mut command| Running::start(&mut command).map_err(text));
    thread::sleep(Duration::from_secs(8));
    cluster.servers[victim].thaw();
    written?;
    running?.wait().map_err(text)?.expect_code(0)?;
    chain.links.push(chain.out());
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn without_flush(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    for (n, dir) in cluster.data_dirs().into_iter().enumerate() {
        let mut chain = Chain::new(
            cluster,
            taosdump,
            &format!("unflushed{n}"),
            "vgroups 2 replica 3",
        )?;
        let dir = [dir];
        chain.link(cluster, &dir, &[])?.expect_code(0)?;
        for _ in 0..2 {
            chain.write(150)?;
            chain.link(cluster, &dir, &["--no-flush"])?.expect_code(0)?;
        }
        chain.expect_exact(cluster)?;
        chain.end(cluster)?;
    }
    Ok(())
}

/// `cp -a` of a data directory.
fn copied(dir: &Path, to: &Path) -> Result<PathBuf, String> {
    let copy = to.join("copy");
    let status = Command::new("cp").arg("-a").args([dir, &copy]).status();
    match status.map_err(text)?.success() {
        true => Ok(copy),
        false => Err("cp failed".to_owned()),
    }
}

fn copy_with_one_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let chain = Chain::new(cluster, taosdump, "copied", "vgroups 2 replica 1")?;
    copies_are_refused(cluster, chain)
}

fn copy_with_three_replicas(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let chain = Chain::new(cluster, taosdump, "copied3", "vgroups 2 replica 3")?;
    copies_are_refused(cluster, chain)
}

fn copies_are_refused(cluster: &mut Cluster, mut chain: Chain<'_>) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    let mut copies = Vec::new();
    for (n, dir) in dirs.iter().enumerate() {
        let place = chain.dir.path().join(format!("dnode{n}"));
        fs::create_dir(&place).map_err(text)?;
        copies.push(copied(dir, &place)?);
    }
    chain.write(900)?;
    for flags in [&[][..], &["--no-flush"]] {
        let run = chain.link(cluster, &copies, flags)?;
        refused(&run, &["no server runs on that directory", "it is a copy"])?;
        // Which vgroup is missed first, and so which copy is named, is left open.
        let named = |copy: &PathBuf| run.stderr.contains(&copy.display().to_string());
        if !copies.iter().any(named) {
            return Err(format!("no copy is named: {}", run.output()));
        }
    }
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn all_directories(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut three = Chain::new(cluster, taosdump, "three", "vgroups 2 replica 3")?;
    let mut one = Chain::new(cluster, taosdump, "one", "vgroups 2 replica 1")?;
    for flags in [&[][..], &[], &["--no-flush"]] {
        // As given, and as the servers say where they are.
        for dirs in [&dirs[..], &[]] {
            one.write(100)?;
            one.link(cluster, dirs, flags)?.expect_code(0)?;
            three.write(100)?;
            three.link(cluster, dirs, flags)?.expect_code(0)?;
        }
    }
    one.expect_exact(cluster)?;
    three.expect_exact(cluster)?;
    one.end(cluster)?;
    three.end(cluster)
}

fn dead_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut chain = Chain::new(cluster, taosdump, "dead", "vgroups 1 replica 3")?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    let victim = chain.victim(cluster)?;
    cluster.servers[victim].kill();
    chain.write(9_000)?;
    let run = chain.link(cluster, &dirs[victim..=victim], &[])?;
    refused(
        &run,
        &[&dirs[victim].display().to_string(), "no server runs"],
    )?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    cluster.servers[victim].restart().map_err(text)?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn replica_stays_frozen(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut chain = Chain::new(cluster, taosdump, "stays", "vgroups 1 replica 3")?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    let victim = chain.victim(cluster)?;
    cluster.servers[victim].freeze();
    let tried = chain.write(900).and_then(|()| {
        let alone = chain.link(cluster, &dirs[victim..=victim], &[])?;
        let dnode = format!("dnode {}", victim + 1);
        refused(
            &alone,
            &[
                &dnode,
                "waiting for",
                "at most",
                "without getting any further",
            ],
        )?;
        chain.link(cluster, &dirs, &[])?.expect_code(0)
    });
    cluster.servers[victim].thaw();
    tried?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn interrupted_wait(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "interrupted", "vgroups 1 replica 3")?;
    let victim = chain.victim(cluster)?;
    let dir = [cluster.servers[victim].data_dir()];
    chain.link(cluster, &dir, &[])?.expect_code(0)?;
    cluster.servers[victim].freeze();
    let tried = chain.write(900).and_then(|()| {
        let mut command = chain.command(cluster, &dir, &[])?;
        let running = Running::start(&mut command).map_err(text)?;
        thread::sleep(Duration::from_secs(12));
        let still = running.is_running();
        running.signal(libc::SIGINT);
        let run = running.wait().map_err(text)?;
        match still {
            true => refused(&run, &["cancelled"]),
            false => Err(format!("it did not wait: {}", run.output())),
        }
    });
    cluster.servers[victim].thaw();
    tried?;
    chain.link(cluster, &dir, &[])?.expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn being_started(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut chain = Chain::new(cluster, taosdump, "being_started", "vgroups 3 replica 1")?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    chain.write(900)?;
    let (mnodes, victim) = beside_the_mnodes(cluster, &chain)?;
    chain.at = mnodes;
    cluster.servers[victim].kill();
    let running = Running::start(&mut chain.command(cluster, &dirs, &[])?).map_err(text)?;
    thread::sleep(Duration::from_secs(2));
    cluster.servers[victim].restart().map_err(text)?;
    running.wait().map_err(text)?.expect_code(0)?;
    chain.links.push(chain.out());
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

/// The server that leads the mnodes, and another one with a vgroup of the database.
fn beside_the_mnodes(cluster: &Cluster, chain: &Chain<'_>) -> Result<(usize, usize), String> {
    let mnodes = mnode_leader(cluster, chain)?;
    let leaders = cluster.leaders(&chain.c, &chain.database).map_err(text)?;
    let mut places = leaders.iter().map(|dnode| dnode - 1);
    let victim = places.find(|place| *place != mnodes);
    Ok((mnodes, victim.ok_or("all vgroups are on one dnode")?))
}

/// A link by the log asks every vnode for the columns of its tables first.
fn frozen_columns(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    // One of them is on a dnode that does not lead the mnodes.
    let mut chain = Chain::new(cluster, taosdump, "asked_columns", "vgroups 3 replica 1")?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    let (mnodes, victim) = beside_the_mnodes(cluster, &chain)?;
    chain.at = mnodes;
    chain.write(900)?;
    cluster.servers[victim].freeze();
    let run = chain.link(cluster, &dirs, &["--no-flush"]);
    cluster.servers[victim].thaw();
    refused(
        &run?,
        &[
            "waiting for an answer to the columns of database asked_columns, at most",
            "no answer came",
        ],
    )?;
    cluster.ready(&chain.c).map_err(text)?;
    chain
        .link(cluster, &dirs, &["--no-flush"])?
        .expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

/// How many changed rows `incremental_bitmap_tool --detect --json` names in this directory.
fn detected(
    cluster: &Cluster,
    chain: &Chain<'_>,
    dir: &Path,
    arguments: &[&str],
) -> Result<i64, String> {
    let own = std::env::current_exe().map_err(text)?;
    let profile = own.ancestors().nth(2).ok_or("no target directory")?;
    let tool = profile.join("incremental_bitmap_tool");
    if !tool.is_file() {
        return Err("cargo build -p tool makes what this test needs".to_owned());
    }
    let server = &cluster.servers[chain.at];
    let libraries = Installation::find()?.library_dir();
    let mut command = Command::new(tool);
    command
        .env("LD_LIBRARY_PATH", libraries)
        .args(["--detect", "--json", "--host", "localhost", "--port"])
        .arg(server.port().to_string())
        .arg("--config-dir")
        .arg(server.config_dir())
        .args(["--database", &chain.database, "--data-dir"])
        .arg(dir)
        .args(arguments)
        .current_dir(chain.dir.path());
    let run = Run::of(&mut command).map_err(text)?.expect_code(0)?;
    let tables = run.stdout.split("\"blocks\":").next().unwrap_or_default();
    let rows = tables.split("\"rows\":").skip(1);
    let number = |text: &str| {
        text.split([',', '}'])
            .next()
            .and_then(|n| n.parse::<i64>().ok())
    };
    Ok(rows.filter_map(number).sum())
}

fn detection_in_a_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "detected", "vgroups 1 replica 3")?;
    let victim = chain.victim(cluster)?;
    let dir = cluster.servers[victim].data_dir();
    let first = ["--since-version", "0", "--checkpoint", "start"];
    let all = detected(cluster, &chain, &dir, &first)?;
    cluster.servers[victim].kill();
    chain.write(45_000)?;
    cluster.servers[victim].restart().map_err(text)?;
    let later = detected(cluster, &chain, &dir, &["--since", "start"])?;
    match (all, later) {
        (4_000, 45_000) => chain.end(cluster),
        _ => Err(format!(
            "4000 and 45000 rows were written, {all} and {later} are named"
        )),
    }
}

/// Writes one row after the other until it is told to stop; a row that is not acknowledged is sent again. Returns how many
/// there are.
fn write_on(c: &Connection, database: &str, first: i64, stop: &AtomicBool) -> i64 {
    let mut n = first;
    while !stop.load(Ordering::Relaxed) {
        let key = 1_704_067_200_000 + n * 1_000;
        let sql = format!("insert into {database}.c{} values ({key}, {n})", n % 8);
        match c.execute(&sql) {
            Ok(_) => n += 1,
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
    n
}

/// Runs `work` while rows are written.
fn under_writes(
    cluster: &mut Cluster,
    chain: &mut Chain<'_>,
    mut work: impl FnMut(&mut Cluster, &mut Chain<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let (stop, database) = (AtomicBool::new(false), chain.database.clone());
    let (c, first) = (cluster.connect().map_err(text)?, chain.rows);
    let (worked, written) = thread::scope(|scope| {
        let (database, stop) = (&database, &stop);
        let writer = scope.spawn(move || write_on(&c, database, first, stop));
        let worked = work(cluster, chain);
        stop.store(true, Ordering::Relaxed);
        (worked, writer.join())
    });
    chain.rows = written.map_err(|_| "the writer panicked")?;
    worked
}

fn moves_under_writes(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "moved", "vgroups 1 replica 1")?;
    let dirs = cluster.data_dirs();
    let vgroup =
        "select vgroup_id, v1_dnode from information_schema.ins_vgroups where db_name = 'moved'";
    under_writes(cluster, &mut chain, |cluster, chain| {
        chain.link(cluster, &dirs, &[])?.expect_code(0)?;
        for n in 0..6 {
            let now = chain.c.query(vgroup).map_err(text)?;
            let next = now[0][1].parse::<usize>().map_err(text)? % 3 + 1;
            let sql = format!("redistribute vgroup {} dnode {next}", now[0][0]);
            let mover = cluster.connect().map_err(text)?;
            let moved = thread::spawn(move || {
                until(&sql, || mover.execute(&sql).map(|_| true)).map_err(text)
            });
            // Somewhere in the move, and behind it.
            thread::sleep(Duration::from_millis(300 * n));
            let flags: &[&str] = if n % 3 == 2 { &["--no-flush"] } else { &[] };
            chain.link(cluster, &dirs, flags)?.expect_code(0)?;
            moved.join().map_err(|_| "the mover panicked")??;
        }
        Ok(())
    })?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

fn altered_replicas(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "altered", "vgroups 1 replica 1")?;
    let dirs = cluster.data_dirs();
    under_writes(cluster, &mut chain, |cluster, chain| {
        chain.link(cluster, &dirs, &[])?.expect_code(0)?;
        for replicas in [3, 1] {
            chain.sql(&format!("alter database altered replica {replicas}"))?;
            for flags in [&[][..], &["--no-flush"]] {
                chain.link(cluster, &dirs, flags)?.expect_code(0)?;
            }
        }
        Ok(())
    })?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end(cluster)
}

/// Chooses the server that dies.
type Choose = fn(&Cluster, &Chain<'_>) -> Result<usize, String>;

fn leader(cluster: &Cluster, chain: &Chain<'_>) -> Result<usize, String> {
    let leaders = cluster.leaders(&chain.c, &chain.database).map_err(text)?;
    leaders
        .first()
        .map(|dnode| dnode - 1)
        .ok_or("no leader".to_owned())
}

fn follower_dies(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let follower: Choose =
        |cluster, chain| cluster.follower(&chain.c, &chain.database).map_err(text);
    dies_in_dump(cluster, taosdump, "dies_follower", 3, follower)
}

fn leader_dies(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    dies_in_dump(cluster, taosdump, "dies_leader", 3, leader)
}

fn only_replica_dies(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    dies_in_dump(cluster, taosdump, "dies_only", 1, leader)
}

fn mnode_leader_dies(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    dies_in_dump(cluster, taosdump, "dies_mnode", 3, mnode_leader)
}

fn mnode_leader(cluster: &Cluster, chain: &Chain<'_>) -> Result<usize, String> {
    let mut leader = None;
    until("its mnodes have a leader", || {
        let query = "select id from information_schema.ins_mnodes where role = 'leader'";
        let rows = chain.c.query(query)?;
        leader = rows.first().and_then(|row| row[0].parse::<usize>().ok());
        Ok(leader.is_some())
    })
    .map_err(text)?;
    let place = leader.ok_or("no leader")? - 1;
    match place < cluster.servers.len() {
        true => Ok(place),
        false => Err(format!("no server is dnode {}", place + 1)),
    }
}

/// A server dies while a full dump reads rows, and somewhere in a link. A dump that ends with 0 must be exact, any other one
/// fails and leaves no link. With three replicas the next dump is made while the server is still dead; one of the only
/// replica is refused until it is back.
fn dies_in_dump(
    cluster: &mut Cluster,
    taosdump: &Taosdump,
    database: &str,
    replicas: usize,
    choose: Choose,
) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(setting("E2E_SEED", rand::rng().random()));
    let dirs = cluster.data_dirs();
    let options = format!("vgroups 1 replica {replicas}");
    let mut chain = Chain::new(cluster, taosdump, database, &options)?;
    // So many tables that the dump of their rows takes a while.
    for n in 0..200 {
        let values = "(1600000000000, 1) (1600000001000, 2)";
        let table = format!("{database}.d{n} using {database}.s tags ({n})");
        chain.sql(&format!("insert into {table} values {values}"))?;
        chain.rows += 2;
    }
    for round in 0..setting("FAULT_ROUNDS", 2) {
        if round % 2 == 0 {
            chain.links.clear();
        }
        let victim = choose(cluster, &chain)?;
        chain.at = (victim + 1) % cluster.servers.len();
        // A file for each table takes a while.
        let slow = &["-T", "1", "--format", "avro"];
        let started = Run::of(&mut chain.command(cluster, &dirs, slow)?).map_err(text)?;
        let whole = started.expect_code(0)?.wall;
        fs::remove_dir_all(chain.out()).map_err(text)?;
        chain.write(900)?;

        let running = Running::start(&mut chain.command(cluster, &dirs, slow)?);
        let running = running.map_err(text)?;
        match round % 2 {
            // While it reads rows.
            0 => {
                let data = |path: &PathBuf| path.extension().is_some_and(|end| end == "avro");
                let read = || {
                    files_below(&chain.out())
                        .iter()
                        .filter(|path| data(path))
                        .count()
                };
                while running.is_running() && read() < 20 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            _ => thread::sleep(whole.mul_f64(rng.random_range(0.0..1.0))),
        }
        cluster.servers[victim].kill();
        let run = running.wait().map_err(text)?;
        println!(
            "round {round}: exit code {:?} after {:?}",
            run.code, run.wall
        );
        let is_link = chain.out().join("incremental/manifest.json").exists();
        match (run.code, is_link) {
            (Some(0), true) => chain.links.push(chain.out()),
            (Some(1), false) => fs::remove_dir_all(chain.out()).map_err(text)?,
            // Tables could not be read, and are named: it can't be a base.
            (Some(3), true) if run.stderr.contains("could not be") => {
                fs::remove_dir_all(chain.out()).map_err(text)?;
            }
            _ => {
                return Err(format!(
                    "round {round}, a link: {is_link}: {}",
                    run.output()
                ));
            }
        }
        // A client connects anew in a new process only.
        let run = chain.link(cluster, &dirs, &[])?;
        println!(
            "round {round}: exit code {:?} after {:?}",
            run.code, run.wall
        );
        match replicas {
            1 => drop(run.expect_code(1)?),
            _ => drop(run.expect_code(0)?),
        }
        cluster.servers[victim].restart().map_err(text)?;
        chain.c = cluster.servers[chain.at].connect().map_err(text)?;
        cluster.leaders(&chain.c, database).map_err(text)?;
        chain.write(100)?;
        chain.link(cluster, &dirs, &[])?.expect_code(0)?;
        chain
            .expect_exact(cluster)
            .map_err(|e| format!("round {round}: {e}"))?;
    }
    chain.end(cluster)
}

/// Databases of every kind, with one and with three replicas, whose servers are killed between the links; each link from
/// another directory.
fn histories(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let count: u64 = setting("E2E_HISTORIES", 4);
    let first = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("{count} histories from E2E_SEED={first}");
    let mut links = 0;
    for seed in first..first + count {
        let replicas = if seed % 2 == 0 { 3 } else { 1 };
        let made = history(cluster, taosdump, seed, replicas)
            .map_err(|e| format!("E2E_SEED={seed}, REPLICA {replicas}: {e}"))?;
        println!("E2E_SEED={seed}, REPLICA {replicas}: {made} links, no difference");
        links += made;
    }
    println!("{count} histories from E2E_SEED={first}: {links} links");
    Ok(())
}

fn history(
    cluster: &mut Cluster,
    taosdump: &Taosdump,
    seed: u64,
    replicas: u64,
) -> Result<usize, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let database = format!("h{seed}");
    let c = cluster.connect().map_err(text)?;
    let mut history = History::create_with(&c, &database, seed, replicas).map_err(text)?;
    let mut chain = Chain {
        taosdump,
        c,
        database: database.clone(),
        links: Vec::new(),
        dir: tempfile::tempdir().map_err(text)?,
        rows: 0,
        at: 0,
    };
    let dirs = cluster.data_dirs();
    for _ in 0..rng.random_range(2..5) {
        for _ in 0..rng.random_range(0..30) {
            history.step(&chain.c).map_err(text)?;
        }
        if history.has_wal() && rng.random_ratio(1, 3) {
            let killed = rng.random_range(0..3);
            cluster.servers[killed].kill();
            if replicas == 3 && killed != 0 {
                cluster.leaders(&chain.c, &database).map_err(text)?;
                for _ in 0..10 {
                    history.step(&chain.c).map_err(text)?;
                }
            }
            cluster.servers[killed].restart().map_err(text)?;
            cluster.leaders(&chain.c, &database).map_err(text)?;
        }
        let dirs = match (replicas, rng.random_range(0..4)) {
            (3, only @ 0..3) => &dirs[only..=only],
            (_, 3) => &[],
            _ => &dirs[..],
        };
        let flags: &[&str] = match history.has_wal() && rng.random_ratio(2, 5) {
            true => &["--no-flush"],
            false => &[],
        };
        chain.link(cluster, dirs, flags)?.expect_code(0)?;
        chain.rows = Content::read(&chain.c, &database).map_err(text)?.rows() as i64;
    }
    if let Err(difference) = chain.expect_exact(cluster) {
        let kept = chain.dir.keep();
        history.save(&kept).map_err(text)?;
        return Err(format!("{difference}; see {}", kept.display()));
    }
    let links = chain.links.len();
    chain.end(cluster)?;
    Ok(links)
}
