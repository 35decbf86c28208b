//! Restores between a cluster of three dnodes and a server with one: what belongs to the target stays the target's.

use e2e::{Cluster, Connection, Content, Run, Server, Taosdump, until};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// A cluster, and a server of its own.
struct Both {
    cluster: Cluster,
    single: Server,
}

type Test = fn(&mut Both, &Taosdump) -> Result<(), String>;

const TESTS: [(&str, Test); 4] = [
    (
        "a_chain_of_three_replicas_is_refused_by_one_dnode_until_options_are_given",
        three_to_one,
    ),
    ("later_links_leave_the_replicas_to_the_target", one_to_three),
    (
        "the_record_of_restores_has_one_replica_while_a_dnode_is_full",
        full_dnode,
    ),
    (
        "a_restore_goes_on_while_one_of_three_dnodes_is_down",
        dnode_down,
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One cluster serves all tests, one after the other.
    arguments.test_threads = Some(1);
    let installed = Taosdump::installed();
    let skip = installed.is_err();
    let shared: Arc<Mutex<Option<Both>>> = Arc::default();
    let trials = TESTS.into_iter().map(|(name, test)| {
        let (installed, shared) = (installed.clone(), Arc::clone(&shared));
        let test = move || {
            let (installation, taosdump) = installed?;
            let mut shared = shared.lock().map_err(text)?;
            let mut both = match shared.take() {
                Some(both) => both,
                None => Both {
                    cluster: Cluster::start(&installation)?,
                    single: Server::start(&installation)?,
                },
            };
            test(&mut both, &taosdump).map_err(Failed::from)?;
            // After a failure the next test gets a new one.
            *shared = Some(both);
            Ok(())
        };
        Trial::test(name, test).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// A database, its links, and what it held at each.
struct Chain {
    c: Connection,
    database: String,
    links: Vec<PathBuf>,
    contents: Vec<Content>,
    dir: TempDir,
}

impl Chain {
    /// Three links of a new database, whose data directory is that of `server`.
    fn new(
        c: Connection,
        server: &Server,
        taosdump: &Taosdump,
        database: &str,
        options: &str,
    ) -> Result<Self, String> {
        let mut chain = Self {
            c,
            database: database.to_owned(),
            links: Vec::new(),
            contents: Vec::new(),
            dir: tempfile::tempdir().map_err(text)?,
        };
        chain.sql(&format!("create database {database} {options}"))?;
        chain.sql(&format!(
            "create table {database}.s (ts timestamp, i int) tags (t int)"
        ))?;
        for n in 0..3 {
            let rows: String = (0..2_000)
                .map(|ts| format!(" ({}, {n})", 1_700_000_000_000_i64 + n * 500 + ts))
                .collect();
            for child in 0..4 {
                chain.sql(&format!(
                    "insert into {database}.c{child} using {database}.s tags ({child}) values{rows}"
                ))?;
            }
            chain.sql(&format!(
                "alter database {database} wal_retention_period {}",
                3_600 + n
            ))?;
            let out = chain.dir.path().join(format!("link{n}"));
            let base = chain.links.last().map(PathBuf::as_path);
            let mut command = taosdump.link_command(server, &[database], base, &out);
            Run::of(&mut command).map_err(text)?.expect_code(0)?;
            chain.links.push(out);
            let content = Content::read(&chain.c, database).map_err(text)?;
            chain.contents.push(content);
        }
        Ok(chain)
    }

    fn sql(&self, sql: &str) -> Result<(), String> {
        // A cluster refuses statements while leaders are elected.
        let mut last = String::new();
        until(sql, || {
            let done = self.c.execute(sql).map(|_| true);
            done.inspect_err(|e| last = e.to_string())
        })
        .map_err(|e| format!("{e}: {last}"))
    }

    fn target(&self) -> String {
        format!("{}_restored", self.database)
    }

    fn restore<P: AsRef<Path>>(
        &self,
        server: &Server,
        taosdump: &Taosdump,
        links: &[P],
        options: &[&str],
    ) -> Result<Run, String> {
        let target = self.target();
        let rename = [(self.database.as_str(), target.as_str())];
        let mut command = taosdump.restore_command(server, links, &rename);
        for option in options {
            command.args(["--option", option]);
        }
        Run::of(&mut command).map_err(text)
    }

    /// The target must be what the database was when this link was made, but for where its data lies.
    fn expect(&self, c: &Connection, link: usize) -> Result<(), String> {
        let restored = Content::read(c, &self.target()).map_err(text)?;
        let mut differences = self.contents[link].differences(&restored, 10);
        differences.retain(|what| !what.starts_with("database options"));
        match differences {
            differences if differences.is_empty() => Ok(()),
            differences => Err(format!("link {link}: {differences:#?}")),
        }
    }
}

fn column(c: &Connection, query: &str) -> Result<Vec<String>, String> {
    Ok(c.query(query).map_err(text)?.concat())
}

fn replicas(c: &Connection, database: &str) -> Result<String, String> {
    let query = format!(
        "select `replica`, `vgroups` from information_schema.ins_databases where name = '{database}'"
    );
    Ok(column(c, &query)?.join(" "))
}

/// The number of a server of a cluster that leads the only vgroup of a database.
fn leader(cluster: &Cluster, c: &Connection, database: &str) -> Result<usize, String> {
    let leaders = cluster.leaders(c, database).map_err(text)?;
    leaders
        .first()
        .map(|dnode| dnode - 1)
        .ok_or_else(|| format!("{database} has no leader"))
}

fn three_to_one(both: &mut Both, taosdump: &Taosdump) -> Result<(), String> {
    let c = both.cluster.connect().map_err(text)?;
    c.execute("create database three vgroups 1 replica 3")
        .map_err(text)?;
    let leader = leader(&both.cluster, &c, "three")?;
    c.execute("drop database three").map_err(text)?;
    let options = "vgroups 1 replica 3 keep 36500";
    let server = &both.cluster.servers[leader];
    let chain = Chain::new(c, server, taosdump, "three", options)?;

    let single = both.single.connect().map_err(text)?;
    let before = column(&single, "show databases")?;
    let run = chain.restore(&both.single, taosdump, &chain.links, &[])?;
    let run = run.expect_code(1)?;
    if !run.stderr.contains("--option REPLICA=1") {
        return Err(format!("no way out is said: {}", run.output()));
    }
    let run = chain.restore(
        &both.single,
        taosdump,
        &chain.links,
        &["REPLICA=1", "VGROUPS=1000"],
    )?;
    let run = run.expect_code(1)?;
    if !run.stderr.contains("VGROUPS=n") {
        return Err(format!("no way out is said: {}", run.output()));
    }
    if column(&single, "show databases")? != before {
        return Err("a refused restore created a database".to_owned());
    }
    let options = ["REPLICA=1", "VGROUPS=2"];
    chain
        .restore(&both.single, taosdump, &chain.links[..2], &options)?
        .expect_code(0)?;
    chain.expect(&single, 1)?;
    // Options are needed only where a database is created.
    chain
        .restore(&both.single, taosdump, &chain.links[2..], &[])?
        .expect_code(0)?;
    chain.expect(&single, 2)?;
    match replicas(&single, &chain.target())? {
        found if found == "1 2" => Ok(()),
        found => Err(format!("replica and vgroups are {found}")),
    }
}

fn one_to_three(both: &mut Both, taosdump: &Taosdump) -> Result<(), String> {
    let c = both.single.connect().map_err(text)?;
    let options = "vgroups 1 keep 36500";
    let chain = Chain::new(c, &both.single, taosdump, "one", options)?;
    let server = &both.cluster.servers[0];
    let cluster = both.cluster.connect().map_err(text)?;
    // As the record is made while there is one dnode.
    cluster
        .execute("create database taosdump_incremental vgroups 1 precision 'ns' keep 36500")
        .map_err(text)?;
    // Created with three replicas, and altered to have three while the restore begins.
    for altered in [false, true] {
        let options: &[&str] = if altered { &[] } else { &["REPLICA=3"] };
        chain
            .restore(server, taosdump, &chain.links[..1], options)?
            .expect_code(0)?;
        chain.expect(&cluster, 0)?;
        match replicas(&cluster, "taosdump_incremental")? {
            found if found == "3 1" => {}
            found => return Err(format!("the record's replica and vgroups are {found}")),
        }
        if altered {
            let alter = format!("alter database {} replica 3", chain.target());
            cluster.execute(&alter).map_err(text)?;
        }
        let run = chain.restore(server, taosdump, &chain.links[1..2], &[])?;
        let run = run.expect_code(0)?;
        if !run.output().contains("REPLICA 3") {
            return Err(format!("it is not said: {}", run.output()));
        }
        chain
            .restore(server, taosdump, &chain.links[2..], &[])?
            .expect_code(0)?;
        chain.expect(&cluster, 2)?;
        match replicas(&cluster, &chain.target())? {
            found if found == "3 1" => {}
            found => return Err(format!("replica and vgroups are {found}")),
        }
        let drop = format!("drop database {}", chain.target());
        cluster.execute(&drop).map_err(text)?;
    }
    Ok(())
}

const DNODE_3: &str = "select `vnodes` from information_schema.ins_dnodes where id = 3";

/// Lets the third dnode hold so many vnodes.
fn supports(cluster: &mut Cluster, c: &Connection, vnodes: &str) -> Result<(), String> {
    let server = &mut cluster.servers[2];
    let file = server.config_dir().join("taos.cfg");
    let lines = std::fs::read_to_string(&file).map_err(text)?;
    let others = lines
        .lines()
        .filter(|line| !line.starts_with("supportVnodes") && !line.starts_with("forceReadConfig"));
    let mut lines: Vec<&str> = others.collect();
    let support = format!("supportVnodes {vnodes}");
    lines.extend([support.as_str(), "forceReadConfig 1", ""]);
    std::fs::write(&file, lines.join("\n")).map_err(text)?;
    server.stop();
    server.restart().map_err(text)?;
    until("the third dnode has said how many vnodes it may hold", || {
        let query = "select `support_vnodes` from information_schema.ins_dnodes where id = 3 and status = 'ready'";
        Ok(c.query(query)?.concat().concat() == vnodes)
    })
    .map_err(text)
}

fn full_dnode(both: &mut Both, taosdump: &Taosdump) -> Result<(), String> {
    let c = both.single.connect().map_err(text)?;
    let chain = Chain::new(c, &both.single, taosdump, "crammed", "vgroups 1 keep 36500")?;
    let c = both.cluster.connect().map_err(text)?;
    c.execute("drop database if exists taosdump_incremental")
        .map_err(text)?;
    // What it holds now is all that it may hold.
    if column(&c, DNODE_3)?[0] == "0" {
        c.execute("create database filler vgroups 3")
            .map_err(text)?;
    }
    supports(&mut both.cluster, &c, &column(&c, DNODE_3)?[0])?;
    for (link, record) in [(0, "1 1"), (1, "3 1")] {
        let first = &both.cluster.servers[0];
        chain
            .restore(first, taosdump, &chain.links[link..=link], &[])?
            .expect_code(0)?;
        chain.expect(&c, link)?;
        match replicas(&c, "taosdump_incremental")? {
            found if found == record => {}
            found => return Err(format!("the record's replica and vgroups are {found}")),
        }
        supports(&mut both.cluster, &c, "64")?;
    }
    let drop = format!("drop database {}", chain.target());
    c.execute(&drop).map_err(text)?;
    c.execute("drop database if exists filler").map_err(text)?;
    Ok(())
}

fn dnode_down(both: &mut Both, taosdump: &Taosdump) -> Result<(), String> {
    let c = both.single.connect().map_err(text)?;
    let options = "vgroups 1 keep 36500";
    let chain = Chain::new(c, &both.single, taosdump, "down", options)?;
    let first = &both.cluster.servers[0];
    chain
        .restore(first, taosdump, &chain.links[..1], &["REPLICA=3"])?
        .expect_code(0)?;
    let c = both.cluster.connect().map_err(text)?;
    match replicas(&c, "taosdump_incremental")? {
        found if found == "3 1" => {}
        found => return Err(format!("the record's replica and vgroups are {found}")),
    }
    drop(c);
    for (link, down) in [(1, 2), (2, 1)] {
        both.cluster.servers[down].kill();
        let first = &both.cluster.servers[0];
        let run = chain.restore(first, taosdump, &chain.links[link..=link], &[])?;
        let run = run.expect_code(0);
        both.cluster.servers[down].restart().map_err(text)?;
        run?;
        let c = both.cluster.connect().map_err(text)?;
        both.cluster.leaders(&c, &chain.target()).map_err(text)?;
        chain.expect(&c, link)?;
    }
    Ok(())
}
