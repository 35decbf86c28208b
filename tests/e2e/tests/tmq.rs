//! Following a real server by subscription.
//!
//! `E2E_FOLLOW_SECONDS` sets how long the random load goes on (default 20), `E2E_SEED` the seed. The follower that is
//! killed is this program itself, started again with `TMQ_CHILD` set.

mod following;

use bitmap::{BlockId, BlockState, Engine};
use capture::SourceChoice;
use e2e::{Connection, Installation, Server, setting, spawn_bound};
use events::intercept::BlockEvent;
use follow::tmq::{Listener, TmqConfig, TmqError, TmqFollower};
use following::{Listening, Round, disturb, everything_is_dirty, with_a_server_that_lasts};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{Key, Uid};
use plan::detect::{self, Request, Since};
use rand::{Rng, SeedableRng, rngs::StdRng};
use repository::local::{load_checkpoint, save_checkpoint};
use server::Login;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::{CStr, CString},
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    ptr,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);
const START: i64 = 1_704_067_200_000;
const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;

fn main() -> ExitCode {
    if let Ok(port) = env::var("TMQ_CHILD") {
        return child(&port);
    }
    if let Ok(settings) = env::var("TMQ_C_HOST") {
        return match c_child(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    let skip = installation.is_err();
    type Case = fn(&Installation) -> Result<(), Failed>;
    let cases: [(&'static str, Case); 11] = [
        ("the_bitmap_holds_what_the_files_say", same_as_files),
        ("a_follower_killed_at_random_misses_nothing", killed),
        ("catching_up_ends_while_rows_are_written", busy),
        ("a_log_that_was_removed_is_a_gap", log_removed),
        ("a_log_that_lost_its_end_is_a_gap", end_lost),
        ("a_table_dropped_without_a_message_is_noticed", vanished),
        ("a_database_made_anew_is_a_gap", made_anew),
        ("rows_behind_a_change_of_tags_are_not_lost", tags),
        ("a_server_that_is_down_is_tried_again", down),
        ("a_c_host_follows_by_its_settings", c_host),
        ("errors_say_what_is_wrong_and_what_to_do", errors),
    ];
    let trials = cases.map(|(name, case)| {
        let installation = installation.clone();
        Trial::test(name, move || case(&installation?)).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// Engine, interceptor and follower, as a host has them.
struct Host {
    engine: Arc<Engine>,
    follower: TmqFollower,
}

fn config(port: u16, library: PathBuf, position: PathBuf) -> TmqConfig {
    TmqConfig {
        library: Some(library),
        login: Login {
            host: Some("localhost".to_owned()),
            port,
            user: Some("root".to_owned()),
            password: Some("taosdata".to_owned()),
        },
        database: "follow".to_owned(),
        topic: None,
        group: "backup".to_owned(),
        connect_timeout_key: None,
        request_timeout_key: None,
        timeout: Duration::from_secs(10),
        retries: 3,
        retry_interval: Duration::from_millis(500),
        position: Some(position),
        window: Duration::from_secs(3600),
    }
}

fn host(port: u16, library: PathBuf, work: &Path) -> Result<Host, Failed> {
    let (engine, listening) = Listening::open(work)?;
    let config = config(port, library, work.join("position"));
    let follower = TmqFollower::start(config, listening)?;
    Ok(Host { engine, follower })
}

fn catch_up(host: &Host) -> Result<(), Failed> {
    if host.follower.catch_up(PATIENCE) {
        return Ok(());
    }
    Err(format!("no catching up: {:?}", host.follower.stats()).into())
}

/// The follower's process: goes on until it is killed.
fn child(given: &str) -> ExitCode {
    let mut parts = given.split('|');
    let (Some(port), Some(library), Some(work)) = (
        parts.next().and_then(|port| port.parse().ok()),
        parts.next(),
        parts.next(),
    ) else {
        return ExitCode::from(2);
    };
    loop {
        match host(port, library.into(), Path::new(work)) {
            Ok(host) => loop {
                thread::sleep(Duration::from_secs(5));
                let stats = host.follower.stats();
                if !stats.last_error.is_empty() {
                    eprintln!("  follower: {}", stats.last_error);
                }
            },
            // The server may be down just now.
            Err(failed) => eprintln!("  follower: {failed:?}"),
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn library(installation: &Installation) -> PathBuf {
    installation.library_dir().join("libtaos.so")
}

fn spawn(port: u16, library: &Path, work: &Path) -> Result<Child, Failed> {
    let given = format!("{port}|{}|{}", library.display(), work.display());
    let mut command = Command::new(env::current_exe()?);
    command.env("TMQ_CHILD", given).stdin(Stdio::null());
    Ok(spawn_bound(command)?)
}

/// A database of 20 tables with some rows, flushed.
fn database(connection: &Connection, data: &Path, options: &str) -> Result<(), Failed> {
    connection.execute(&format!(
        "create database follow vgroups 3 buffer 3 duration 1d stt_trigger 2 {options}"
    ))?;
    connection.execute("create table follow.s (ts timestamp, v int) tags (t int)")?;
    for table in 0..20 {
        insert(connection, table, START, 200, 60_000)?;
    }
    flush(connection, data)
}

fn insert(
    connection: &Connection,
    table: u64,
    from: i64,
    rows: i64,
    step: i64,
) -> Result<(), Failed> {
    let rows: String = (0..rows)
        .map(|i| format!("({},{i})", from + i * step))
        .collect();
    connection.execute(&format!(
        "insert into follow.t{table} using follow.s tags({table}) values {rows}"
    ))?;
    Ok(())
}

/// Flushes until the committed files hold everything that is logged now. A subscription logs more meanwhile.
fn flush(connection: &Connection, data: &Path) -> Result<(), Failed> {
    let vnodes = capture::DataDirs::new(vec![data.into()])?.vnodes()?;
    let mut wanted = Vec::new();
    for vnode in vnodes {
        let logged = vnode.newest_logged()?;
        wanted.push((vnode, logged));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        connection.execute("flush database follow")?;
        thread::sleep(Duration::from_millis(200));
        let mut behind = false;
        for (vnode, logged) in &wanted {
            behind |= *logged > vnode.config()?.committed;
        }
        if !behind {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the flush does not end".into());
        }
    }
}

/// What is committed now, as a checkpoint with windows of an hour.
fn checkpoint(data: &Path, to: &Path) -> Result<(), Failed> {
    let request = Request {
        data_dirs: vec![data.into()],
        database: Some("follow".to_owned()),
        vgroup: None,
        since: Since::Committed,
        source: SourceChoice::Tsdb,
        window: bitmap_window(),
    };
    let found = detect::run(&request, &())?;
    Ok(save_checkpoint(&found.checkpoint, to)?)
}

fn bitmap_window() -> Option<plan::window::WindowWidth> {
    plan::window::WindowWidth::from_ticks(HOUR)
}

/// Key ranges by table name that were deleted, or may have been; or were written to a table that was dropped since, as
/// rows that were read before the drop may count for the table that has the name now.
type Deleted = BTreeMap<String, Vec<(i64, i64)>>;

#[derive(Debug)]
struct Compared {
    scanned: usize,
    more: usize,
}

/// What the bitmap holds against what the committed files say changed since the checkpoint.
fn compare(
    host: &Host,
    connection: &Connection,
    data: &Path,
    since: &Path,
    deleted: &Deleted,
) -> Result<Compared, Failed> {
    let numbering = host.follower.numbering();
    let scan = detect::run(
        &Request {
            data_dirs: vec![data.into()],
            database: Some("follow".to_owned()),
            vgroup: None,
            since: Since::Checkpoint(Box::new(load_checkpoint(since)?)),
            source: SourceChoice::Tsdb,
            window: None,
        },
        &(),
    )?;
    if !scan.plan.is_complete() {
        return Err(format!("the scan is not complete: {:?}", scan.plan.vgroups).into());
    }
    if scan.plan.window != numbering.window {
        return Err("the windows differ".into());
    }
    let live = live(connection)?;
    let uids = numbering.ordinals.uids();
    let mut scanned = BTreeSet::new();
    for block in &scan.plan.blocks {
        if !live.contains_key(&block.uid) {
            continue; // rows of a dropped table, which stay on disk for a while
        }
        if !numbering.ordinals.contains(block.uid) {
            return Err(format!("table {} changed and has no number", block.uid).into());
        }
        let mut ordinals = numbering.ordinals.clone();
        let id = BlockId::new(ordinals.of(block.uid), block.id.window());
        let held = host.engine.state(id);
        let damage = host.engine.damage();
        if damage
            .iter()
            .any(|range| range.first <= id && id <= range.last)
        {
            scanned.insert(id); // its table is to be copied whole
            continue;
        }
        if !matches!(held, Ok(BlockState::Dirty | BlockState::New)) {
            return Err(format!("missed: {block:?} is {held:?}").into());
        }
        scanned.insert(id);
    }
    let mut more = 0;
    let held = host.engine.find_by_wal(0..=u64::MAX, usize::MAX)?;
    for id in held.into_iter().filter(|id| !scanned.contains(id)) {
        more += 1;
        let uid = uids.get(id.table().0 as usize).ok_or("an id of no table")?;
        let Some(name) = live.get(uid) else {
            continue; // dropped
        };
        let keys = numbering.window.keys_of(id.window());
        let explains =
            |(first, last): &(i64, i64)| Key(*first) <= keys.last && keys.first <= Key(*last);
        if !deleted
            .get(name)
            .is_some_and(|ranges| ranges.iter().any(explains))
        {
            return Err(format!(
                "{id} of table {name} is held, and neither rows nor deletes explain it"
            )
            .into());
        }
    }
    Ok(Compared {
        scanned: scanned.len(),
        more,
    })
}

fn live(connection: &Connection) -> Result<BTreeMap<Uid, String>, Failed> {
    let mut live = BTreeMap::new();
    for row in connection.query(
        "select uid, table_name from information_schema.ins_tables where db_name = 'follow'",
    )? {
        live.insert(Uid(row[0].parse().map_err(|_| "uid")?), row[1].clone());
    }
    Ok(live)
}

/// The id of the block of that live table in which the key lies.
fn block_of(c: &Connection, host: &Host, table: &str, key: i64) -> Result<BlockId, Failed> {
    let found = live(c)?.into_iter().find(|(_, name)| name == table);
    let (uid, _) = found.ok_or_else(|| format!("no table {table}"))?;
    let mut numbering = host.follower.numbering();
    let window = numbering.window.window_of(Key(key));
    Ok(BlockId::new(numbering.ordinals.of(uid), window))
}

fn same_as_files(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    connection.execute("create table follow.n (ts timestamp, v int)")?;
    connection.execute("insert into follow.n values (1704067200000, 1)")?;
    flush(&connection, &data)?;
    let work = tempfile::tempdir()?;
    let since = work.path().join("since");
    let host = host(server.port(), library(installation), work.path())?;
    checkpoint(&data, &since)?;
    let mut deleted = Deleted::new();

    // In order, late, updates, a new child table, a normal table, a composite key, many rows.
    for table in 0..20 {
        insert(&connection, table, START + DAY, 50, 60_000)?;
    }
    insert(&connection, 3, START - 30 * DAY, 5, 7 * HOUR)?;
    insert(&connection, 4, START, 3, 60_000)?;
    insert(&connection, 77, START, 10, HOUR)?;
    connection.execute("insert into follow.n values (1704067260000, 2) (1704267260000, 3)")?;
    connection
        .execute("create table follow.c (ts timestamp, k int primary key, v int) tags (t int)")?;
    connection.execute(&format!(
        "insert into follow.c1 using follow.c tags(1) values ({START},1,1)({START},2,2)"
    ))?;
    for chunk in 0..10 {
        insert(
            &connection,
            5,
            START + 2 * DAY + chunk * 1_000_000,
            1_000,
            1_000,
        )?;
    }
    // Deletes: of a child table, of the super table, of everything in one.
    connection.execute(&format!(
        "delete from follow.t6 where ts >= {START} and ts < {}",
        START + HOUR
    ))?;
    deleted
        .entry("t6".to_owned())
        .or_default()
        .push((START, START + HOUR));
    let (first, last) = (START + 2 * HOUR, START + 3 * HOUR);
    connection.execute(&format!(
        "delete from follow.s where ts >= {first} and ts <= {last}"
    ))?;
    for table in (0..20).chain([77]) {
        deleted
            .entry(format!("t{table}"))
            .or_default()
            .push((first, last));
    }
    connection.execute("delete from follow.n")?;
    // Columns and tags; a drop, a drop with a new table of the same name, a super table.
    connection.execute("alter table follow.s add column w int")?;
    connection.execute("alter table follow.t1 set tag t = 100")?;
    connection.execute(&format!(
        "insert into follow.t2 values ({}, 1, 2)",
        START + 5 * DAY
    ))?;
    let uid_of = |name: &str| -> Result<Uid, Failed> {
        let found = live(&connection)?
            .into_iter()
            .find(|(_, known)| known == name);
        Ok(found.ok_or("no such table")?.0)
    };
    let (dropped, anew) = (uid_of("t8")?, uid_of("t9")?);
    connection.execute("drop table follow.t8")?;
    connection.execute("drop table follow.t9")?;
    insert_wide(&connection, 9, START + 6 * DAY)?;
    connection.execute("create table follow.z (ts timestamp, v int) tags (t int)")?;
    connection.execute(&format!(
        "insert into follow.z1 using follow.z tags(1) values ({START},1)"
    ))?;
    let of_stable = uid_of("z1")?;
    catch_up(&host)?;
    let rates = metrics::global().update();
    if rates.messages_per_second == 0 || rates.bytes_per_second < 10 * rates.messages_per_second {
        return Err(format!("rows of 12 bytes, and messages, were read: {rates:?}").into());
    }
    connection.execute("drop table follow.z")?;
    flush(&connection, &data)?;
    catch_up(&host)?;

    let numbering = host.follower.numbering();
    for uid in [dropped, anew, of_stable] {
        if !numbering.ordinals.contains(uid) {
            return Err(format!("the drop of table {uid} was missed").into());
        }
        let mut ordinals = numbering.ordinals.clone();
        let (first, last) = (
            BlockId::new(ordinals.of(uid), bitmap::WindowNumber(0)),
            BlockId::new(ordinals.of(uid), bitmap::WindowNumber(u32::MAX)),
        );
        let damage = host.engine.damage();
        if !damage
            .iter()
            .any(|range| range.first <= first && last <= range.last)
        {
            return Err(format!("the drop of table {uid} is no range: {damage:?}").into());
        }
    }
    if everything_is_dirty(&host.engine) {
        return Err(format!("everything is dirty: {:?}", host.engine.damage()).into());
    }
    let ranges = host.engine.damage();
    if ranges.len() > 4 {
        return Err(format!("more ranges than three drops and a tag change: {ranges:?}").into());
    }
    let new = BlockId::new(
        numbering.ordinals.clone().of(uid_of("t77")?),
        numbering.window.window_of(Key(START)),
    );
    if host.engine.state(new)? != BlockState::New {
        return Err("a block of a new table is not NEW".into());
    }
    deleted
        .entry("n".to_owned())
        .or_default()
        .push((START, START + 5 * DAY));
    let compared = compare(&host, &connection, &data, &since, &deleted)?;
    println!("  {compared:?}, {:?}", host.follower.stats());
    Ok(())
}

fn insert_wide(connection: &Connection, table: u64, at: i64) -> Result<(), Failed> {
    connection.execute(&format!(
        "insert into follow.t{table} using follow.s tags({table}) values ({at}, 1, 2)"
    ))?;
    Ok(())
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rows: AtomicU64,
    deletes: AtomicU64,
    drops: AtomicU64,
}

fn killed(installation: &Installation) -> Result<(), Failed> {
    let seconds = setting("E2E_FOLLOW_SECONDS", 20);
    let seed = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("{seconds} s, E2E_SEED={seed}");
    with_a_server_that_lasts(seed, |seed| killed_round(installation, seconds, seed))
}

fn killed_round(installation: &Installation, seconds: u64, seed: u64) -> Result<Round<()>, Failed> {
    let server = Server::start(installation)?;
    let (port, library) = (server.port(), library(installation));
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    drop(connection);
    let work = tempfile::tempdir()?;
    let since = work.path().join("since");
    drop(host(port, library.clone(), work.path())?);
    checkpoint(&data, &since)?;

    let shared = Shared::default();
    let server = RwLock::new(server);
    let (deleted, kills) = thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let (server, shared) = (&server, &shared);
                scope.spawn(move || write(server, shared, seed + writer, writer))
            })
            .collect();
        let kills = disturb(&server, seed, seconds, 500..15_000, || {
            spawn(port, &library, work.path())
        });
        shared.stop.store(true, SeqCst);
        let mut deleted = Deleted::new();
        for writer in writers {
            let of_writer = writer.join().map_err(|_| "a writer panicked")?;
            for (table, ranges) in of_writer {
                deleted.entry(table).or_default().extend(ranges);
            }
        }
        Ok::<_, Failed>((deleted, kills?))
    })?;
    let kills = match kills {
        Round::Done(kills) => kills,
        Round::ServerLost(error) => return Ok(Round::ServerLost(error)),
    };

    let server = server.into_inner().map_err(|e| e.to_string())?;
    let connection = server.connect()?;
    flush(&connection, &data)?;
    let host = host(port, library, work.path())?;
    catch_up(&host)?;
    if everything_is_dirty(&host.engine) {
        return Err(format!("everything is dirty: {:?}", host.engine.damage()).into());
    }
    let compared = compare(&host, &connection, &data, &since, &deleted)?;
    println!(
        "  {} rows, {} deletes, {} drops; {} server and {} follower restarts; {} blocks of the scan held, {} more \
         explained by deletes and drops, {} ranges",
        shared.rows.load(SeqCst),
        shared.deletes.load(SeqCst),
        shared.drops.load(SeqCst),
        kills.0,
        kills.1,
        compared.scanned,
        compared.more,
        host.engine.damage().len()
    );
    Ok(Round::Done(()))
}

/// Writes, deletes and drops until it is told to stop. Statements that a dying server leaves unanswered may or may not
/// have been done; both are fine.
fn write(server: &RwLock<Server>, shared: &Shared, seed: u64, writer: u64) -> Deleted {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut deleted = Deleted::new();
    let mut written = Deleted::new();
    let mut at = START + DAY;
    while !shared.stop.load(SeqCst) {
        let connection = match server.read().map(|server| server.connect()) {
            Ok(Ok(connection)) => connection,
            _ => {
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        for _ in 0..rng.random_range(20..200) {
            if shared.stop.load(SeqCst) {
                break;
            }
            let table = format!("t{}", rng.random_range(0..25_u64) * 2 + writer);
            let statement = match rng.random_range(0..200) {
                0 => "flush database follow".to_owned(),
                1..=4 => {
                    let first = START + rng.random_range(0..3 * DAY);
                    let last = first + rng.random_range(0..DAY / 4);
                    let ranges = deleted.entry(table.clone()).or_default();
                    ranges.push((first, last));
                    shared.deletes.fetch_add(1, SeqCst);
                    format!("delete from follow.{table} where ts >= {first} and ts <= {last}")
                }
                5..=6 => {
                    shared.drops.fetch_add(1, SeqCst);
                    let gone = written.remove(&table).unwrap_or_default();
                    deleted.entry(table.clone()).or_default().extend(gone);
                    format!("drop table if exists follow.{table}")
                }
                _ => {
                    let late = rng.random_ratio(1, 10);
                    let count = rng.random_range(1..100);
                    let from = if late {
                        START + rng.random_range(0..30 * DAY)
                    } else {
                        at
                    };
                    let rows: String = (0..count)
                        .map(|i| format!("({},{i})", from + i * 500))
                        .collect();
                    if !late {
                        at += count * 500;
                    }
                    shared.rows.fetch_add(count as u64, SeqCst);
                    let ranges = written.entry(table.clone()).or_default();
                    ranges.push((from, from + count * 500));
                    format!(
                        "insert into follow.{table} using follow.s tags({writer}) values {rows}"
                    )
                }
            };
            if connection.execute(&statement).is_err() && !statement.starts_with("delete") {
                break;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    deleted
}

/// The database is never idle, and tags are set before each catch-up but the first.
fn busy(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let connection = server.connect()?;
    // A full buffer would make the writers wait.
    connection.execute("create database follow vgroups 3 buffer 64")?;
    connection.execute("create table follow.s (ts timestamp, v int) tags (t int)")?;
    let work = tempfile::tempdir()?;
    let host = host(server.port(), library(installation), work.path())?;
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let write = || -> Result<(), String> {
            let connection = server.connect().map_err(|error| error.to_string())?;
            while !stop.load(SeqCst) {
                let at = START + DAY + written.fetch_add(1, SeqCst) as i64;
                insert(&connection, at as u64 % 20, at, 1, 1).map_err(|e| format!("{e:?}"))?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        };
        let writers = [scope.spawn(write), scope.spawn(write), scope.spawn(write)];
        // All tables are there.
        thread::sleep(Duration::from_secs(1));
        let caught_up = (0..3).try_for_each(|round| -> Result<(), Failed> {
            if round > 0 {
                connection.execute(&format!("alter table follow.t3 set tag t = {round}"))?;
            }
            let at = START + (10 + round) * DAY;
            insert(&connection, 2, at, 1, 1)?;
            let (began, before) = (Instant::now(), written.load(SeqCst));
            catch_up(&host)?;
            let meanwhile = written.load(SeqCst) - before;
            println!(
                "  caught up in {:?}, {meanwhile} inserts meanwhile",
                began.elapsed()
            );
            let id = block_of(&connection, &host, "t2", at)?;
            // NEW if the table was read together with its first rows.
            let state = host.engine.state(id)?;
            if !matches!(state, BlockState::Dirty | BlockState::New) || meanwhile == 0 {
                return Err(format!("{state:?}, {meanwhile} inserts").into());
            }
            Ok(())
        });
        stop.store(true, SeqCst);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        caught_up
    })?;
    let stats = host.follower.stats();
    if stats.failures > 0 || everything_is_dirty(&host.engine) {
        return Err(format!("{stats:?}, {:?}", host.engine.damage()).into());
    }
    Ok(())
}

/// The server comes back within seconds, without the end of its log, and writes on there.
fn end_lost(installation: &Installation) -> Result<(), Failed> {
    let mut server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    let work = tempfile::tempdir()?;
    let host = host(server.port(), library(installation), work.path())?;
    catch_up(&host)?;
    let copy = |from: &Path, to: &Path| match Command::new("cp").arg("-a").args([from, to]).status()
    {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("no copy: {other:?}")),
    };
    let (vnodes, copied) = (data.join("vnode"), work.path().join("vnode"));
    copy(&vnodes, &copied)?;
    let events = host.follower.stats().events;
    for round in 0..100 {
        for table in 0..20 {
            insert(&connection, table, START + DAY + round, 1, 1)?;
        }
    }
    // Read by the session that sees the server go.
    let deadline = Instant::now() + PATIENCE;
    while host.follower.stats().events < events + 20 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(3));
    drop(connection);
    server.kill();
    fs::remove_dir_all(&vnodes)?;
    copy(&copied, &vnodes)?;
    server.restart()?;
    let connection = server.connect()?;
    for table in 0..20 {
        insert(&connection, table, START + 5 * DAY, 1, 1)?;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut errors = BTreeSet::new();
    while !everything_is_dirty(&host.engine) {
        errors.insert(host.follower.stats().last_error);
        if Instant::now() > deadline {
            let damage = host.engine.damage();
            return Err(format!("not noticed: {damage:?}, {:?}", host.follower.stats()).into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    println!("  {:?} after {errors:?}", host.engine.damage());
    Ok(())
}

fn log_removed(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    let work = tempfile::tempdir()?;
    let first = host(server.port(), library(installation), work.path())?;
    insert(&connection, 1, START + DAY, 10, 1_000)?;
    catch_up(&first)?;
    if everything_is_dirty(&first.engine) {
        return Err("everything is dirty before anything was lost".into());
    }
    drop(first);
    insert(&connection, 2, START + DAY, 10, 1_000)?;
    connection.execute("alter database follow wal_retention_period 1")?;
    for round in 0..3 {
        flush(&connection, &data)?;
        thread::sleep(Duration::from_secs(2));
        for table in 0..20 {
            insert(&connection, table, START + (2 + round) * DAY, 10, 1_000)?;
        }
    }
    flush(&connection, &data)?;
    let again = host(server.port(), library(installation), work.path())?;
    catch_up(&again)?;
    let damage = again.engine.damage();
    if !everything_is_dirty(&again.engine) {
        return Err(format!("the gap was not noticed: {damage:?}").into());
    }
    println!("  {damage:?}");
    Ok(())
}

fn vanished(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    connection.execute("create table follow.short using follow.s tags(1) ttl 1")?;
    let work = tempfile::tempdir()?;
    let position = work.path().join("position");
    drop(host(server.port(), library(installation), work.path())?);
    // A server drops a table whose TTL ran out after a day at the earliest. So: a table that the position knows, and
    // the server does not have.
    let text = fs::read_to_string(&position)?;
    let body = text.split(",\"checksum\"").next().ok_or("no checksum")?;
    let body = body.replacen("\"tables\":[", "\"tables\":[424242,", 1);
    let checksum = crc32c::crc32c(body.as_bytes());
    fs::write(
        &position,
        format!("{body},\"checksum\":\"crc32c:{checksum:08x}\"}}\n"),
    )?;
    let host = host(server.port(), library(installation), work.path())?;
    catch_up(&host)?;
    let uids = host.follower.numbering().ordinals;
    if uids.uids() != [Uid(424_242)] || host.engine.damage().len() != 1 {
        return Err(format!("not noticed: {uids:?}, {:?}", host.engine.damage()).into());
    }
    Ok(())
}

fn made_anew(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    let work = tempfile::tempdir()?;
    drop(host(server.port(), library(installation), work.path())?);
    connection
        .execute("drop topic if exists incremental_bitmap_follow")
        .or_else(|_| {
            thread::sleep(Duration::from_secs(3));
            connection.execute("drop topic if exists incremental_bitmap_follow")
        })?;
    connection.execute("drop database follow")?;
    database(&connection, &data, "")?;
    let host = host(server.port(), library(installation), work.path())?;
    catch_up(&host)?;
    if !everything_is_dirty(&host.engine) {
        return Err(format!("not noticed: {:?}", host.engine.damage()).into());
    }
    Ok(())
}

/// The server sends a subscription no rows of a table whose tags were set while it lasts.
fn tags(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    let work = tempfile::tempdir()?;
    let host = host(server.port(), library(installation), work.path())?;
    for round in 1..4 {
        connection.execute(&format!("alter table follow.t1 set tag t = {round}"))?;
        insert(&connection, 1, START + round * DAY, 10, 1_000)?;
        insert(&connection, 2, START + round * DAY, 10, 1_000)?;
        // Read by the session that the tags were set in.
        thread::sleep(Duration::from_secs(4));
        insert(&connection, 1, START + (10 + round) * DAY, 10, 1_000)?;
        thread::sleep(Duration::from_secs(2));
        catch_up(&host)?;
        for day in [round, 10 + round] {
            let id = block_of(&connection, &host, "t1", START + day * DAY)?;
            let damage = host.engine.damage();
            let in_range = damage
                .iter()
                .any(|range| range.first <= id && id <= range.last);
            if !in_range && !matches!(host.engine.state(id), Ok(BlockState::Dirty)) {
                return Err(format!("missed: day {day} of round {round}, {damage:?}").into());
            }
        }
        if everything_is_dirty(&host.engine) {
            return Err("everything is dirty".into());
        }
        // As a backup does.
        let list = host.engine.list_damage(usize::MAX);
        host.engine.acknowledge_damage(list.token)?;
    }
    // The group is new by now: the table's rows come again, row by row.
    insert(&connection, 1, START + 40 * DAY, 10, 1_000)?;
    catch_up(&host)?;
    let id = block_of(&connection, &host, "t1", START + 40 * DAY)?;
    if host.engine.state(id)? != BlockState::Dirty || !host.engine.damage().is_empty() {
        return Err(format!("not by row: {:?}", host.engine.damage()).into());
    }
    Ok(())
}

fn down(installation: &Installation) -> Result<(), Failed> {
    let mut server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    let work = tempfile::tempdir()?;
    let position = work.path().join("position");
    let host = host(server.port(), library(installation), work.path())?;
    insert(&connection, 1, START + DAY, 10, 1_000)?;
    catch_up(&host)?;
    let tried = || metrics::global().update().connection_retries;
    let before = tried();
    drop(connection);
    server.stop();
    let fails = |words: &str| {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !host.follower.stats().last_error.contains(words) {
            if Instant::now() > deadline {
                return Err(format!("no error: {:?}", host.follower.stats()));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    fails("connection")?;
    let saved = fs::read(&position)?;
    fails("after 3 tries")?;
    println!("  {}", host.follower.stats().last_error);
    if tried() < before + 4 || fs::read(&position)? != saved {
        return Err("the tries are not counted, or the position moved".into());
    }
    server.restart()?;
    let back = Instant::now();
    let connection = server.connect()?;
    insert(&connection, 2, START + 2 * DAY, 10, 1_000)?;
    catch_up(&host)?;
    println!("  caught up {:?} after the server is back", back.elapsed());
    let id = block_of(&connection, &host, "t2", START + 2 * DAY)?;
    if host.engine.state(id)? != BlockState::Dirty || everything_is_dirty(&host.engine) {
        return Err(format!("not as it was: {:?}", host.engine.damage()).into());
    }
    Ok(())
}

/// A host in a process of its own, as it needs the client library in its environment.
fn c_host(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    database(&connection, &data, "")?;
    let work = tempfile::tempdir()?;
    let settings = format!(
        r#"{{"source": {{"host": "localhost", "port": {}, "user": "root", "database": "follow"}},
            "tmq": {{"topic": "my_topic", "group_id": "my_group"}}, "backup": {{"retry_count": 1}}}}"#,
        server.port()
    );
    let file = work.path().join("settings.json");
    fs::write(&file, settings)?;
    let mut child = Command::new(env::current_exe()?)
        .env("TMQ_C_HOST", &file)
        .env("TD_PASSWORD", "taosdata")
        .env("TMQ_KEY_CONNECT_TIMEOUT", "no.such.key")
        .env("LD_LIBRARY_PATH", installation.library_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(work.path().join("log"))?)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut next = || lines.next().unwrap_or_else(|| Ok("nothing".to_owned()));
    let installed = next()?;
    if installed != "installed" {
        return Err(installed.into());
    }
    insert(&connection, 1, START + DAY, 10, 1_000)?;
    drop(child.stdin.take());
    let (result, status) = (next()?, child.wait()?);
    if result != "1 block of 10 rows" || !status.success() {
        return Err(format!("{result}, {status}").into());
    }
    // Two sessions, and each key that the library refuses is said once.
    let log = fs::read_to_string(work.path().join("log"))?;
    for key in ["no.such.key", "td.connect.timeout", "request.timeout.ms"] {
        let said = log
            .lines()
            .filter(|line| line.contains(&format!("{key:?}")));
        if said.count() != 1 {
            return Err(format!("{key} is not said once: {log}").into());
        }
    }
    let topics = connection
        .query("select topic_name, consumer_group from information_schema.ins_subscriptions")?;
    if !topics
        .iter()
        .any(|row| row[0] == "my_topic" && row[1] == "my_group")
    {
        return Err(format!("the settings do not count: {topics:?}").into());
    }
    Ok(())
}

/// What [`c_host`] starts: follows by the C API until its input ends, then says what changed.
fn c_child(settings: &str) -> Result<(), String> {
    use incremental_bitmap as c;
    let words = || {
        // SAFETY: the library returns a text that lives until the next call.
        let words = unsafe { CStr::from_ptr(c::storage_engine_last_error()) };
        words.to_string_lossy().into_owned()
    };
    let check = |code: i32| {
        if code == 0 {
            Ok(())
        } else {
            Err(format!("{code}: {}", words()))
        }
    };
    let position = format!("{settings}.position");
    let (settings, position) = (
        CString::new(settings).map_err(|e| e.to_string())?,
        CString::new(position).map_err(|e| e.to_string())?,
    );
    let follow = c::header::STmqStorageConfig {
        config: settings.as_ptr(),
        position_path: position.as_ptr(),
        window_seconds: 0,
    };
    let events = c::header::SEventInterceptorConfig {
        enable_interception: true,
        callback: None,
        callback_user_data: ptr::null_mut(),
        event_buffer_size: 0,
        callback_threads: 0,
    };
    // SAFETY: as the headers ask; what is handed over lives until the end.
    unsafe {
        let engine = c::bitmap_engine_init();
        let interceptor = c::event_interceptor_init(&raw const events, engine);
        let table = c::get_storage_engine_interface(c"tmq".as_ptr());
        check(c::tmq_storage_configure(&raw const follow))?;
        check(c::event_interceptor_set_storage_interface(
            interceptor,
            table,
        ))?;
        check(c::event_interceptor_install_storage_interception(
            interceptor,
        ))?;
        println!("installed");
        let _ = io::stdin().read_to_end(&mut Vec::new());
        check(c::tmq_storage_catch_up(120_000))?;
        let mut ids = [0; 100];
        let count =
            c::bitmap_engine_get_dirty_blocks_by_wal(engine, 0, u64::MAX, ids.as_mut_ptr(), 100);
        let (mut rows, mut size) = (ptr::null_mut(), 0);
        check(c::read_data_block(ids[0], &raw mut rows, &raw mut size))?;
        let bytes = std::slice::from_raw_parts(rows.cast::<u8>(), size as usize);
        // Magic, id, two keys, "follow", "t1", two columns with type, length and name: "ts" and "v".
        let at = 8 + 8 + 16 + (2 + 6) + (2 + 2) + 4 + (1 + 2 + 2) + (1 + 2 + 1);
        let found = bytes
            .get(at..at + 8)
            .and_then(|count| count.try_into().ok());
        println!(
            "{count} block of {} rows",
            found.map_or(0, u64::from_le_bytes)
        );
        libc::free(rows);
        c::event_interceptor_destroy(interceptor);
        c::bitmap_engine_destroy(engine);
    }
    Ok(())
}

struct Deaf;

impl Listener for Deaf {
    fn block(&self, _event: BlockEvent) -> bool {
        true
    }

    fn range(&self, _first: u64, _last: u64, _wal: u64, _time: i64, _why: &str) -> bool {
        true
    }

    fn settle(&self) -> bool {
        true
    }
}

fn errors(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let connection = server.connect()?;
    connection.execute("create database follow vgroups 1")?;
    connection.execute("create table follow.s (ts timestamp, v int) tags (t int)")?;
    for (topic, text) in [
        ("rows", "create topic rows as database follow"),
        ("metas", "create topic metas only meta as database follow"),
        (
            "of_stable",
            "create topic of_stable with meta as stable follow.s",
        ),
        (
            "chosen",
            "create topic chosen as select ts, v from follow.s",
        ),
    ] {
        connection
            .execute(text)
            .map_err(|error| format!("{topic}: {error}"))?;
    }
    let work = tempfile::tempdir()?;
    let good = config(
        server.port(),
        library(installation),
        work.path().join("position"),
    );
    let with = |change: &dyn Fn(&mut TmqConfig)| {
        let mut config = good.clone();
        change(&mut config);
        match TmqFollower::start(config, Arc::new(Deaf)) {
            Ok(_) => Err(Failed::from("it starts")),
            Err(error) => {
                println!("  {error}");
                Ok(error)
            }
        }
    };
    let says = |error: TmqError, words: &[&str]| {
        let text = error.to_string();
        match words.iter().find(|word| !text.contains(**word)) {
            Some(word) => Err(Failed::from(format!("{text:?} does not say {word:?}"))),
            None => Ok(()),
        }
    };
    let login = |change: fn(&mut Login)| with(&move |config| change(&mut config.login));
    says(
        login(|login| login.password = Some("wrong".to_owned()))?,
        &["localhost"],
    )?;
    says(login(|login| login.port = 1)?, &["localhost:1"])?;
    says(
        with(&|config| config.database = "nowhere".to_owned())?,
        &["\"nowhere\"", "source.database"],
    )?;
    for topic in ["rows", "metas", "of_stable", "chosen"] {
        let error = with(&|config| config.topic = Some(topic.to_owned()))?;
        says(error, &[topic, "tmq.topic", "WITH META AS DATABASE"])?;
    }
    says(
        with(&|config| config.topic = Some("a b".to_owned()))?,
        &["\"a b\"", "tmq.topic"],
    )?;
    says(
        with(&|config| config.group = "a:b".to_owned())?,
        &["\"a:b\""],
    )?;
    says(
        with(&|config| config.library = Some("/no/libtaos.so".into()))?,
        &["/no/libtaos.so", "install"],
    )?;
    // A library that is none of TDengine's.
    says(
        with(&|config| config.library = Some("libc.so.6".into()))?,
        &["libc.so.6", "taos_"],
    )?;
    connection.execute("create database nolog vgroups 1 wal_retention_period 0")?;
    says(
        with(&|config| config.database = "nolog".to_owned())?,
        &["incremental_bitmap_nolog", "WAL_RETENTION_PERIOD above 0"],
    )?;
    fs::write(work.path().join("broken"), "nonsense")?;
    says(
        with(&|config| config.position = Some(work.path().join("broken")))?,
        &["broken", "full backup"],
    )?;
    // Two followers in one group: the second one gets no vgroup of the only one there is.
    let first = TmqFollower::start(good.clone(), Arc::new(Deaf))?;
    let error = with(&|config| config.position = Some(work.path().join("second")))?;
    says(error, &["\"backup\"", "tmq.group_id", "another client"])?;
    drop(first);
    Ok(())
}
