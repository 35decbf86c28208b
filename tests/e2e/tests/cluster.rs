//! Links of a cluster of three dnodes, each made from the data directories that are given: whatever a replica lacks, a
//! link is exact or refused, never short.

use e2e::{Cluster, Connection, Content, Run, Running, Taosdump, until};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tempfile::TempDir;

type Test = fn(&mut Cluster, &Taosdump) -> Result<(), String>;

const TESTS: [(&str, Test); 9] = [
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
        "a_replica_that_stays_frozen_is_waited_for_and_refused",
        replica_stays_frozen,
    ),
    (
        "an_interrupted_wait_for_a_replica_ends_at_once",
        interrupted_wait,
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
        };
        for name in [database.to_owned(), chain.target()] {
            chain.sql(&format!("drop database if exists {name}"))?;
        }
        chain.sql(&format!("create database {database} vgroups 2 {options}"))?;
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
        self.command_from(&cluster.servers[0], dirs, flags)
    }

    fn command_from(
        &self,
        server: &e2e::Server,
        dirs: &[PathBuf],
        flags: &[&str],
    ) -> Result<Command, String> {
        let mut command = self.taosdump.command(server, self.dir.path());
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
    fn expect_exact(&self, cluster: &Cluster) -> Result<(), String> {
        let target = self.target();
        self.sql(&format!("drop database if exists {target}"))?;
        let rename = [(self.database.as_str(), target.as_str())];
        let server = &cluster.servers[0];
        let mut restore = self.taosdump.restore_command(server, &self.links, &rename);
        Run::of(&mut restore).map_err(text)?.expect_code(0)?;
        let source = Content::read(&self.c, &self.database).map_err(text)?;
        let restored = Content::read(&self.c, &target).map_err(text)?;
        self.sql(&format!("drop database {target}"))?;
        let differences = source.differences(&restored, 5);
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

    fn end(self) -> Result<(), String> {
        self.sql(&format!("drop database {}", self.database))
    }
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
    let mut chain = Chain::new(cluster, taosdump, "killed", "replica 3")?;
    let third = [cluster.servers[2].data_dir()];
    chain.link(cluster, &third, &[])?.expect_code(0)?;
    cluster.servers[2].kill();
    chain.write(45_000)?;
    cluster.servers[2].restart().map_err(text)?;
    for _ in 0..3 {
        chain.link(cluster, &third, &[])?.expect_code(0)?;
    }
    chain.expect_exact(cluster)?;
    chain.end()
}

fn frozen_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let mut chain = Chain::new(cluster, taosdump, "frozen", "replica 3")?;
    let third = [cluster.servers[2].data_dir()];
    chain.link(cluster, &third, &[])?.expect_code(0)?;
    cluster.servers[2].freeze();
    // Where it led, others are elected first.
    let written = chain.write(900);
    let command = chain.command(cluster, &third, &[]);
    let running = command.and_then(|mut command| Running::start(&mut command).map_err(text));
    thread::sleep(Duration::from_secs(8));
    cluster.servers[2].thaw();
    written?;
    running?.wait().map_err(text)?.expect_code(0)?;
    chain.links.push(chain.out());
    chain.expect_exact(cluster)?;
    chain.end()
}

fn without_flush(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    for (n, dir) in cluster.data_dirs().into_iter().enumerate() {
        let mut chain = Chain::new(cluster, taosdump, &format!("unflushed{n}"), "replica 3")?;
        let dir = [dir];
        chain.link(cluster, &dir, &[])?.expect_code(0)?;
        for _ in 0..2 {
            chain.write(150)?;
            chain.link(cluster, &dir, &["--no-flush"])?.expect_code(0)?;
        }
        chain.expect_exact(cluster)?;
        chain.end()?;
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
    let chain = Chain::new(cluster, taosdump, "copied", "replica 1")?;
    copies_are_refused(cluster, chain)
}

fn copy_with_three_replicas(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let chain = Chain::new(cluster, taosdump, "copied3", "replica 3")?;
    copies_are_refused(cluster, chain)
}

fn copies_are_refused(cluster: &Cluster, mut chain: Chain<'_>) -> Result<(), String> {
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
        refused(&run, &[&copies[0].display().to_string(), "copy"])?;
    }
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end()
}

fn all_directories(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut three = Chain::new(cluster, taosdump, "three", "replica 3")?;
    let mut one = Chain::new(cluster, taosdump, "one", "replica 1")?;
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
    one.end()?;
    three.end()
}

fn dead_replica(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut chain = Chain::new(cluster, taosdump, "dead", "replica 3")?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    cluster.servers[1].kill();
    chain.write(9_000)?;
    let run = chain.link(cluster, &dirs[1..2], &[])?;
    refused(&run, &[&dirs[1].display().to_string()])?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    cluster.servers[1].restart().map_err(text)?;
    chain.expect_exact(cluster)?;
    chain.end()
}

fn replica_stays_frozen(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let dirs = cluster.data_dirs();
    let mut chain = Chain::new(cluster, taosdump, "stays", "replica 3")?;
    chain.link(cluster, &dirs, &[])?.expect_code(0)?;
    cluster.servers[2].freeze();
    let tried = chain.write(900).and_then(|()| {
        let alone = chain.link(cluster, &dirs[2..], &[])?;
        refused(&alone, &["dnode 3", "at most", "wait"])?;
        chain.link(cluster, &dirs, &[])?.expect_code(0)
    });
    cluster.servers[2].thaw();
    tried?;
    chain.expect_exact(cluster)?;
    chain.end()
}

fn interrupted_wait(cluster: &mut Cluster, taosdump: &Taosdump) -> Result<(), String> {
    let third = [cluster.servers[2].data_dir()];
    let mut chain = Chain::new(cluster, taosdump, "interrupted", "replica 3")?;
    chain.link(cluster, &third, &[])?.expect_code(0)?;
    cluster.servers[2].freeze();
    let tried = chain.write(900).and_then(|()| {
        let mut command = chain.command(cluster, &third, &[])?;
        let running = Running::start(&mut command).map_err(text)?;
        thread::sleep(Duration::from_secs(12));
        let still = running.is_running();
        running.signal(libc::SIGINT);
        let signalled = std::time::Instant::now();
        let run = running.wait().map_err(text)?;
        let took = signalled.elapsed();
        match still && run.code == Some(1) && took < Duration::from_secs(5) {
            true => Ok(()),
            false => Err(format!(
                "still waiting: {still}, {took:?}: {}",
                run.output()
            )),
        }
    });
    cluster.servers[2].thaw();
    tried?;
    fs::remove_dir_all(chain.out()).map_err(text)?;
    chain.link(cluster, &third, &[])?.expect_code(0)?;
    chain.expect_exact(cluster)?;
    chain.end()
}
