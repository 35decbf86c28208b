//! Random histories: a link after every few changes, then the chain restored and held against what the database was
//! when the link was made.
//!
//! `E2E_HISTORIES` sets their number (default 4), `E2E_SEED` the seed of the first.

use bitmap::BlockState;
use e2e::{
    Connection, Content, History, Installation, Run, Running, Server, Tally, Taosdump, bytes_below,
    quoted, setting,
};
use libtest_mimic::{Arguments, Failed, Trial};
use ops::diff::{DiffJob, TableDiff};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};
use store::Directory;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    let taosdump = installation
        .as_ref()
        .map_err(Clone::clone)
        .and_then(Taosdump::find);
    if let Err(reason) = &taosdump {
        eprintln!("skipped: {reason}");
    }
    let (no_server, no_tool) = (installation.is_err(), taosdump.is_err());
    let server = installation.clone();
    let trials = vec![
        Trial::test("the_same_seed_makes_the_same_database", move || {
            repeat(&server?)
        })
        .with_ignored_flag(no_server),
        Trial::test("every_link_restores_what_was_there", move || {
            histories(&installation?, &taosdump?)
        })
        .with_ignored_flag(no_tool),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The generator makes legal statements only, and a failed seed can be repeated.
fn repeat(installation: &Installation) -> Result<(), Failed> {
    let count = setting("E2E_HISTORIES", 4);
    let first = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("{count} histories from E2E_SEED={first}");
    let server = Server::start(installation)?;
    let c = server.connect()?;
    for seed in first..first + count {
        // The server makes NULLs of values now and then, if rows come in parts and were deleted before.
        let made_equal = (0..3).try_fold(false, |done, _| match done {
            true => Ok(true),
            false => makes_the_same_twice(&c, seed),
        })?;
        if !made_equal {
            return Err(format!("E2E_SEED={seed}: three times not the same").into());
        }
    }
    Ok(())
}

/// The statements must be the same; returns whether the databases are.
fn makes_the_same_twice(c: &Connection, seed: u64) -> Result<bool, Failed> {
    let mut made = Vec::new();
    for database in ["once", "again"] {
        let mut history = History::create(c, database, seed)?;
        let outcome = (0..80).try_for_each(|_| history.step(c));
        if let Err(e) = outcome {
            let kept = tempfile::tempdir()?.keep();
            history.save(&kept)?;
            return Err(format!("E2E_SEED={seed} ({}): {e}", kept.display()).into());
        }
        let statements = history.script().replace(&format!("`{database}`"), "`db`");
        made.push((Content::read(c, database)?, statements));
        c.execute(&format!("drop database {database}"))?;
    }
    if made[0].1 != made[1].1 {
        return Err(format!("E2E_SEED={seed}: the statements are not the same").into());
    }
    let differences = made[0].0.differences(&made[1].0, 10);
    if !differences.is_empty() {
        eprintln!("E2E_SEED={seed}, same statements, other rows: {differences:#?}");
    }
    Ok(differences.is_empty())
}

/// More crashes of the server mean that something else is wrong.
const MOST_CRASHES: usize = 10;

/// What all histories did together.
#[derive(Default)]
struct Totals {
    histories: u64,
    tally: Tally,
    links: u64,
    restores: u64,
    rows_compared: u64,
    /// Rows that differ between two links and lie in a block that is named.
    named: u64,
    bytes: u64,
}

fn histories(installation: &Installation, taosdump: &Taosdump) -> Result<(), Failed> {
    let count = setting("E2E_HISTORIES", 4);
    let first = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    let started = Instant::now();
    let mut totals = Totals::default();
    let mut source = Server::start(installation)?;
    let mut other = Server::start(installation)?;
    let mut failed = Vec::new();
    let mut crashes = Vec::new();
    let mut seed = first;
    while totals.histories < count && crashes.len() < MOST_CRASHES {
        let dir = tempfile::Builder::new().prefix("history-").tempdir()?;
        let mut one = OneHistory {
            taosdump,
            rng: StdRng::seed_from_u64(seed),
            dir: dir.path().to_owned(),
            database: format!("h{seed}"),
            links: Vec::new(),
            totals: &mut totals,
        };
        let outcome = one.run(&mut source, &other, seed);
        // A server that ends by itself proves nothing about backups: another history takes this one's place.
        let mut crashed = false;
        for server in [&mut source, &mut other] {
            if server.has_crashed() {
                crashed = true;
                server.restart()?;
            }
        }
        match outcome {
            Err(message) if crashed => {
                let kept = dir.keep();
                eprintln!(
                    "the server crashed, E2E_SEED={seed} ({}): {message}",
                    kept.display()
                );
                crashes.push(seed);
            }
            outcome => {
                totals.histories += 1;
                if let Err(message) = outcome {
                    // The links and all statements stay for whoever looks into it.
                    let kept = dir.keep();
                    eprintln!("E2E_SEED={seed} ({}): {message}", kept.display());
                    failed.push(seed);
                }
            }
        }
        seed += 1;
    }
    println!(
        "{} histories from E2E_SEED={first} in {:.1} s: {}; {} links of {} bytes; {} restores, {} rows compared, {} of what differs named by bitmaps; {} more \
         cut short by a crash of the server (seeds {crashes:?})",
        totals.histories,
        started.elapsed().as_secs_f64(),
        totals.tally,
        totals.links,
        totals.bytes,
        totals.restores,
        totals.rows_compared,
        totals.named,
        crashes.len(),
    );
    if failed.is_empty() && totals.histories == count {
        Ok(())
    } else {
        Err(format!(
            "{} of {count} histories failed: seeds {failed:?}",
            failed.len()
        )
        .into())
    }
}

/// A link and what the database held when it was made; not known of one that was made while rows were written.
struct Link {
    path: PathBuf,
    base: Option<usize>,
    content: Option<Content>,
}

struct OneHistory<'a> {
    taosdump: &'a Taosdump,
    rng: StdRng,
    dir: PathBuf,
    database: String,
    links: Vec<Link>,
    totals: &'a mut Totals,
}

impl OneHistory<'_> {
    fn run(&mut self, source: &mut Server, other: &Server, seed: u64) -> Result<(), String> {
        let c = source.connect().map_err(|e| e.to_string())?;
        let mut history = History::create(&c, &self.database, seed).map_err(|e| e.to_string())?;
        let mut outcome = self.links(source, &mut history);
        let source = &*source;
        let target = if self.rng.random_ratio(1, 5) {
            other
        } else {
            source
        };
        if outcome.is_ok() {
            outcome = self.restore(target);
        }
        self.totals.tally.add(&history.tally);
        if outcome.is_err() {
            let _ = history.save(&self.dir);
        }
        for server in [source, other] {
            let c = server.connect().map_err(|e| e.to_string())?;
            for name in [self.database.clone(), self.target()] {
                let _ = c.execute(&format!("drop database if exists {}", quoted(&name)));
            }
        }
        outcome
    }

    fn target(&self) -> String {
        format!("{}_restored", self.database)
    }

    /// Changes and links in turns.
    fn links(&mut self, source: &mut Server, history: &mut History) -> Result<(), String> {
        // Without a WAL a killed server loses what it had acknowledged.
        let kills = self.rng.random_ratio(1, 10) && history.has_wal();
        for n in 0..self.rng.random_range(2..6) {
            let c = source.connect().map_err(|e| e.to_string())?;
            for _ in 0..self.rng.random_range(0..30) {
                history.step(&c).map_err(|e| e.to_string())?;
            }
            drop(c);
            if kills && self.rng.random_ratio(1, 2) {
                if self.rng.random() {
                    history.tally.count("kill -9");
                    source.kill();
                } else {
                    history.tally.count("restart");
                    source.stop();
                }
                source.restart().map_err(|e| e.to_string())?;
            }
            // Mostly one chain; now and then a branch from an older link.
            let base = match n {
                0 => None,
                n if self.rng.random_ratio(1, 10) => Some(self.rng.random_range(0..n)),
                n => Some(n - 1),
            };
            let while_writing = self.rng.random_ratio(1, 6);
            self.link(source, history, base, while_writing)?;
        }
        if self.links.last().is_some_and(|link| link.content.is_none()) {
            self.link(source, history, Some(self.links.len() - 1), false)?;
        }
        Ok(())
    }

    fn link(
        &mut self,
        source: &Server,
        history: &mut History,
        base: Option<usize>,
        while_writing: bool,
    ) -> Result<(), String> {
        let path = self.dir.join(format!("link{}", self.links.len()));
        let base_path = base.map(|n| self.links[n].path.as_path());
        let mut command = self
            .taosdump
            .link_command(source, &[&self.database], base_path, &path);
        command.args(["-T", ["1", "2", "8"].choose(&mut self.rng).unwrap_or(&"1")]);
        command.args([
            "-d",
            ["null", "deflate", "snappy"]
                .choose(&mut self.rng)
                .unwrap_or(&"null"),
        ]);
        // A chain may have links of both kinds.
        let format = ["avro", "parquet"].choose(&mut self.rng);
        command.args(["--format", format.unwrap_or(&"avro")]);
        if self.rng.random_ratio(2, 5) && history.has_wal() {
            command.arg("--no-flush");
        }
        let c = source.connect().map_err(|e| e.to_string())?;
        let run = if while_writing {
            history.tally.count("link while rows are written");
            let running = Running::start(&mut command).map_err(|e| e.to_string())?;
            while running.is_running() {
                history.write(&c).map_err(|e| e.to_string())?;
            }
            running.wait().map_err(|e| e.to_string())
        } else {
            Run::of(&mut command).map_err(|e| e.to_string())
        }?;
        let n = self.links.len();
        run.expect_code(0)
            .map_err(|e| format!("link {n}, {command:?}: {e}"))?;
        let content = (!while_writing).then(|| Content::read(&c, &self.database));
        let content = content.transpose().map_err(|e| e.to_string())?;
        self.totals.links += 1;
        self.totals.bytes += bytes_below(&path);
        self.links.push(Link {
            path,
            base,
            content,
        });
        let earlier: Vec<usize> = self
            .chain(n)
            .into_iter()
            .filter(|link| *link != n)
            .collect();
        if let Some(first) = earlier.choose(&mut self.rng) {
            self.named(*first, n)
                .map_err(|e| format!("from link {first} to link {n}: {e}"))?;
        }
        Ok(())
    }

    /// Everything that is not the same in the states of two links lies in a table and block that a comparison of the links
    /// names.
    fn named(&mut self, first: usize, second: usize) -> Result<(), String> {
        let links = [&self.links[first], &self.links[second]];
        let [Some(before), Some(after)] = links.map(|link| link.content.as_ref()) else {
            return Ok(());
        };
        let job = DiffJob {
            first: links[0].path.clone(),
            second: links[1].path.clone(),
            others: Vec::new(),
        };
        let diff = ops::diff::run(&job, &()).map_err(|e| e.to_string())?;
        let database = diff.databases.first().ok_or("nothing is said")?;
        let altered = |table: &TableDiff| {
            let stable = table.stable.as_ref();
            stable.is_some_and(|stable| database.altered_stables.contains(stable))
        };
        for (name, keys) in before.changed_keys(after) {
            let tables = database.tables.iter();
            let tables: Vec<&TableDiff> = tables
                .filter(|table| table.name.as_ref() == Some(&name))
                .collect();
            // A column that was dropped and came again has no values, and no row was written.
            let may_be_altered = match tables.as_slice() {
                [] => !database.altered_stables.is_empty(),
                tables => tables.iter().any(|table| altered(table)),
            };
            if may_be_altered {
                continue;
            }
            if tables.is_empty() && !self.own_columns(first, second, &name)? {
                return Err(format!("table {name} differs, and is not named"));
            }
            let spans: Vec<_> = [BlockState::New, BlockState::Dirty, BlockState::Deleted]
                .into_iter()
                .flat_map(|state| {
                    let keys = tables
                        .iter()
                        .map(move |t| t.blocks.keys(database.window, state));
                    keys.flatten().collect::<Vec<_>>()
                })
                .collect();
            let gone = tables.iter().any(|t| t.blocks.state == BlockState::Deleted);
            let unnamed = |key: &&i64| {
                !spans
                    .iter()
                    .any(|s| s.first.0 <= **key && **key <= s.last.0)
            };
            if let Some(key) = keys.iter().find(unnamed).filter(|_| !gone)
                && !self.own_columns(first, second, &name)?
            {
                return Err(format!(
                    "row {key} of table {name} differs, and is in no block: {tables:?}"
                ));
            }
            self.totals.named += keys.len() as u64;
        }
        Ok(())
    }

    /// Whether a link after the first, up to the second, alters the columns of a normal table.
    fn own_columns(&self, first: usize, second: usize, name: &str) -> Result<bool, String> {
        let mut altered = false;
        for link in self.chain(second).into_iter().filter(|link| *link > first) {
            let store = Arc::new(Directory::new(&self.links[link].path));
            let link = repository::link::Link::open(store).map_err(|e| e.to_string())?;
            for database in &link.manifest.databases {
                link.changes(database, &mut |change| {
                    altered |= change.name == name && !change.alters.is_empty();
                    Ok(())
                })
                .map_err(|e| e.to_string())?;
            }
        }
        Ok(altered)
    }

    /// The way from the first link to this one.
    fn chain(&self, link: usize) -> Vec<usize> {
        let mut chain = vec![link];
        while let Some(base) = self.links[chain[0]].base {
            chain.insert(0, base);
        }
        chain
    }

    fn restore(&mut self, target: &Server) -> Result<(), String> {
        let c = target.connect().map_err(|e| e.to_string())?;
        let chain = self.chain(self.links.len() - 1);
        if self.rng.random() {
            self.restore_links(target, &c, &chain)?;
        } else {
            for part in chain.chunks(self.rng.random_range(1..3)) {
                self.restore_links(target, &c, part)?;
            }
        }
        // A state in the middle, from the beginning.
        let middle = self.rng.random_range(0..self.links.len());
        if self.rng.random_ratio(1, 3) {
            let sql = format!("drop database {}", quoted(&self.target()));
            c.execute(&sql).map_err(|e| e.to_string())?;
            let chain = self.chain(middle);
            self.restore_links(target, &c, &chain)?;
        }
        Ok(())
    }

    fn restore_links(
        &mut self,
        server: &Server,
        c: &Connection,
        links: &[usize],
    ) -> Result<(), String> {
        let paths: Vec<&Path> = links
            .iter()
            .map(|n| self.links[*n].path.as_path())
            .collect();
        let rename = [(self.database.as_str(), self.target())];
        let rename = rename.each_ref().map(|(a, b)| (*a, b.as_str()));
        let mut command = self.taosdump.restore_command(server, &paths, &rename);
        let run = Run::of(&mut command).map_err(|e| e.to_string())?;
        run.expect_code(0)
            .map_err(|e| format!("restore of {links:?}, {command:?}: {e}"))?;
        self.totals.restores += 1;
        let last = links.last().and_then(|n| self.links.get(*n));
        if let Some(expected) = last.and_then(|link| link.content.as_ref()) {
            let restored = Content::read(c, &self.target()).map_err(|e| e.to_string())?;
            let differences = expected.differences(&restored, 10);
            self.totals.rows_compared += expected.rows() as u64;
            if !differences.is_empty() {
                return Err(format!("restored {links:?}: {differences:#?}\n{command:?}"));
            }
        }
        Ok(())
    }
}
