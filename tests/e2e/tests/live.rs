//! Detection against a server that is being written to, flushed, merged, killed and restarted: every row and
//! delete that the server acknowledged must be named by a run between the statement's start and the first run
//! after its acknowledgement. (The server logs a request, and so shows it to us, before it acknowledges it.)
//!
//! `E2E_RUNS` sets the number of detection runs per scenario (default 40), `E2E_SEED` the seed.

use capture::{SourceChoice, VnodeDir};
use e2e::{Connection, Installation, Server, setting};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{Key, KeySpan, Uid, Version};
use plan::{
    TablePlan,
    detect::{self, Detection, Request, Since},
    report::state_name,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    let scenarios = [
        (
            "live_with_the_default_log_retention",
            "wal_retention_period 3600 stt_trigger 2",
        ),
        (
            "live_with_a_log_that_is_cut_at_every_commit",
            "wal_retention_period 0 stt_trigger 1",
        ),
        // Without a log only commits can be found; what SQL sees at the end is compared all the same.
        (
            "live_without_a_log",
            "wal_level 0 wal_retention_period 0 stt_trigger 2",
        ),
    ];
    let trials = scenarios
        .into_iter()
        .map(|(name, options)| {
            let installation = installation.clone();
            let skip = installation.is_err();
            Trial::test(name, move || live(&installation?, options)).with_ignored_flag(skip)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Something the server acknowledged.
struct Acknowledged {
    table: Uid,
    keys: Vec<i64>,
    deleted: bool,
    /// The first run that can have seen it.
    from_run: usize,
}

#[derive(Default)]
struct Shared {
    acknowledged: Mutex<Vec<Acknowledged>>,
    stop: AtomicBool,
    /// The run that is going on, or the next.
    run: AtomicUsize,
    rows: AtomicU64,
    flushes: AtomicU64,
}

/// 2024-01-01 in ms.
const START: i64 = 1_704_067_200_000;
const DAY: i64 = 86_400_000;

fn live(installation: &Installation, options: &str) -> Result<(), Failed> {
    let runs = setting("E2E_RUNS", 40);
    let seed = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("{options}: {runs} runs, E2E_SEED={seed}");
    let without_log = options.contains("wal_level 0");
    let server = Server::start(installation)?;
    let data_dir = server.data_dir();
    let connection = server.connect()?;
    connection.execute(&format!(
        "create database live vgroups 2 buffer 3 duration 1d {options}"
    ))?;
    connection.execute("create table live.s (ts timestamp, v int) tags (t int)")?;
    connection.execute("flush database live")?;
    let shared = Shared::default();
    let server = RwLock::new(server);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| write(&server, &shared, seed));
        scope.spawn(|| flush(&server, &shared, seed));
        let outcome = watch(&server, &shared, &data_dir, runs, without_log);
        shared.stop.store(true, Ordering::SeqCst);
        outcome
    });
    let totals = outcome?;
    let connection = server.read().map_err(|e| e.to_string())?.connect()?;
    let tables = compare_with_sql(&connection, &data_dir)?;
    println!(
        "  {} rows and {} flushes in {} detection runs with {} kills; {} tables as SQL says; longest run {} ms",
        shared.rows.load(Ordering::SeqCst),
        shared.flushes.load(Ordering::SeqCst),
        totals.runs,
        totals.kills,
        tables,
        totals.longest.as_millis()
    );
    Ok(())
}

#[derive(Default)]
struct Totals {
    runs: u64,
    kills: u64,
    longest: Duration,
}

/// Runs detection again and again, each run from the last one's checkpoint.
fn watch(
    server: &RwLock<Server>,
    shared: &Shared,
    data_dir: &Path,
    runs: u64,
    without_log: bool,
) -> Result<Totals, Failed> {
    let mut since = Since::Version(Version::BEGINNING);
    let mut seen: Vec<Detection> = Vec::new();
    let mut checked = 0;
    let mut totals = Totals::default();
    for run in 0..runs {
        // Without a log nothing survives a kill that was not flushed, so there is nothing to check then.
        if !without_log && run > 0 && run % (runs / 4 + 1) == 0 {
            let mut server = server.write().map_err(|e| e.to_string())?;
            server.kill();
            totals.kills += 1;
            if run % 2 == 0 {
                server.restart()?;
            } else {
                // Once more on the files of a dead server.
                drop(detect(data_dir, &since)?);
                server.restart()?;
            }
        }
        let acknowledged = shared.acknowledged.lock().map_err(|e| e.to_string())?.len();
        let started = Instant::now();
        let detection = detect(data_dir, &since)?;
        totals.longest = totals.longest.max(started.elapsed());
        if !detection.plan.is_complete() {
            return Err(format!("run {run} is not complete: {:?}", detection.plan.vgroups).into());
        }
        since = Since::Checkpoint(Box::new(detection.checkpoint.clone()));
        seen.push(detection);
        shared.run.store(seen.len(), Ordering::SeqCst);
        {
            let log = shared.acknowledged.lock().map_err(|e| e.to_string())?;
            let must_be_found = if without_log {
                0..0
            } else {
                checked..acknowledged
            };
            for entry in &log[must_be_found] {
                check(entry, &seen[entry.from_run..])
                    .map_err(|what| format!("run {run}: {what}"))?;
            }
        }
        checked = acknowledged;
        totals.runs += 1;
        thread::sleep(Duration::from_millis(run % 20));
    }
    Ok(totals)
}

fn detect(data_dir: &Path, since: &Since) -> Result<Detection, Failed> {
    let request = Request {
        data_dirs: vec![data_dir.into()],
        database: Some("live".to_owned()),
        vgroup: None,
        since: since.clone(),
        source: SourceChoice::Auto,
        window: None,
    };
    detect::run(&request, &()).map_err(|e| e.to_string().into())
}

/// Whether one of the runs names what the server acknowledged.
fn check(entry: &Acknowledged, runs: &[Detection]) -> Result<(), String> {
    let found: Vec<&TablePlan> = runs
        .iter()
        .flat_map(|run| &run.plan.tables)
        .filter(|table| table.table.uid == entry.table)
        .collect();
    if found
        .iter()
        .any(|table| state_name(table.state) == "deleted")
    {
        return Ok(());
    }
    for key in &entry.keys {
        let covers = |span: &KeySpan| span.first.0 <= *key && *key <= span.last.0;
        let named = found.iter().any(|table| {
            if entry.deleted {
                table.deletes.iter().any(|(span, _)| covers(span))
            } else {
                table.spans.iter().any(covers)
            }
        });
        if !named {
            let what = if entry.deleted { "deleted" } else { "written" };
            return Err(format!(
                "row {key} of table {} was {what}, and no run from {} on names it",
                entry.table, entry.from_run
            ));
        }
    }
    Ok(())
}

/// Tables as the writer knows them.
#[derive(Default)]
struct Model {
    tables: BTreeMap<String, (Uid, BTreeSet<i64>)>,
    created: u32,
}

fn write(server: &RwLock<Server>, shared: &Shared, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut connection = None;
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok(server) = server.read() else { return };
        if connection.is_none() {
            connection = server.connect().ok();
        }
        let Some(open) = &connection else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        if step(open, &mut model, shared, &mut rng).is_none() {
            // The server may have been killed: whether the statement took effect is not known, so it is
            // not in the books.
            connection = None;
            thread::sleep(Duration::from_millis(10));
        }
        drop(server);
    }
}

/// One statement. `None` when the server did not acknowledge it.
fn step(c: &Connection, model: &mut Model, shared: &Shared, rng: &mut StdRng) -> Option<()> {
    let from_run = shared.run.load(Ordering::SeqCst);
    let dice = rng.random_range(0..100);
    if model.tables.len() < 4 || (dice < 2 && model.tables.len() < 30) {
        let name = format!("t{}", model.created);
        model.created += 1;
        if model.created.is_multiple_of(5) {
            c.execute(&format!("create table live.{name} (ts timestamp, v int)"))
                .ok()?;
        } else {
            c.execute(&format!(
                "create table live.{name} using live.s tags ({dice})"
            ))
            .ok()?;
        }
        let sql = format!(
            "select uid from information_schema.ins_tables where db_name = 'live' and table_name = '{name}'"
        );
        let uid = Uid(c.query(&sql).ok()?.first()?[0].parse().ok()?);
        model.tables.insert(name, (uid, BTreeSet::new()));
        return Some(());
    }
    let names: Vec<String> = model.tables.keys().cloned().collect();
    let name = &names[rng.random_range(0..names.len())];
    let book = |entry| {
        shared
            .acknowledged
            .lock()
            .map(|mut log| log.push(entry))
            .ok()
    };
    if dice < 3 {
        // From here on nothing of it has to be found: its rows go with it, and so may the log of the drop.
        let (uid, _) = model.tables.remove(name)?;
        let mut log = shared.acknowledged.lock().ok()?;
        log.iter_mut()
            .filter(|entry| entry.table == uid)
            .for_each(|entry| entry.keys.clear());
        drop(log);
        return c
            .execute(&format!("drop table live.{name}"))
            .ok()
            .map(|_| ());
    }
    let (uid, keys) = model.tables.get_mut(name)?;
    let uid = *uid;
    if dice < 10 && !keys.is_empty() {
        let first = START + rng.random_range(0..3 * DAY);
        let last = first + rng.random_range(0..DAY / 4);
        let sql = format!("delete from live.{name} where ts >= {first} and ts <= {last}");
        if c.execute(&sql).is_err() {
            // It may have been carried out all the same: what the table holds is not known any more.
            keys.clear();
            return None;
        }
        let gone: Vec<i64> = keys.range(first..=last).copied().collect();
        keys.retain(|key| !gone.contains(key));
        return book(Acknowledged {
            table: uid,
            keys: gone,
            deleted: true,
            from_run,
        });
    }
    // Appended, late, or over existing rows; spread over several file sets.
    let at = START + rng.random_range(0..3 * DAY);
    let interval = [1, 1_000, 60_000][rng.random_range(0..3)];
    let written: Vec<i64> = (0..rng.random_range(1..400))
        .map(|i| at + i * interval)
        .collect();
    let values: String = written
        .iter()
        .map(|key| format!("({key},{dice})"))
        .collect();
    c.execute(&format!("insert into live.{name} values {values}"))
        .ok()?;
    keys.extend(&written);
    shared
        .rows
        .fetch_add(written.len() as u64, Ordering::SeqCst);
    book(Acknowledged {
        table: uid,
        keys: written,
        deleted: false,
        from_run,
    })
}

fn flush(server: &RwLock<Server>, shared: &Shared, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    while !shared.stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(rng.random_range(5..200)));
        let Ok(server) = server.read() else { return };
        let flushed = server
            .connect()
            .and_then(|c| c.execute("flush database live"));
        if flushed.is_ok() {
            shared.flushes.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Waits for a last commit and compares every table's keys in the committed files with what SQL finds.
fn compare_with_sql(c: &Connection, data_dir: &Path) -> Result<usize, Failed> {
    c.execute("flush database live")?;
    let vnodes: Vec<_> = recorded::vnodes(data_dir)?
        .into_iter()
        .filter(|vnode| vnode.config().is_ok_and(|config| config.database == "live"))
        .collect();
    // A flush returns before its commit is done.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match compare_once(c, &vnodes) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(500)),
            outcome => return outcome,
        }
    }
}

fn compare_once(c: &Connection, vnodes: &[VnodeDir]) -> Result<usize, Failed> {
    let mut live: BTreeMap<Uid, BTreeSet<Key>> = BTreeMap::new();
    for vnode in vnodes {
        live.extend(recorded::find(vnode, Version::BEGINNING, SourceChoice::Tsdb)?.live());
    }
    let tables = c.query(
        "select table_name, uid from information_schema.ins_tables where db_name = 'live'",
    )?;
    for table in &tables {
        let (name, uid) = (&table[0], Uid(table[1].parse()?));
        let rows = c.query(&format!("select ts from live.{name}"))?;
        let by_sql: BTreeSet<Key> = rows
            .iter()
            .map(|row| row[0].parse().map(Key))
            .collect::<Result<_, _>>()?;
        let by_files = live.remove(&uid).unwrap_or_default();
        if by_sql != by_files {
            let odd = by_sql.symmetric_difference(&by_files).next();
            return Err(format!(
                "table {name}: {} rows by SQL, {} by files, for example {odd:?}",
                by_sql.len(),
                by_files.len()
            )
            .into());
        }
    }
    Ok(tables.len())
}
