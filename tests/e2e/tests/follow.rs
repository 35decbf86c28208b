//! Following a server that is written to, flushed, stopped and killed, with a follower that is killed as well: at the
//! end the bitmap holds every block that a scan of the committed files names, and no other but those that deletes and
//! drops explain.
//!
//! `E2E_FOLLOW_SECONDS` sets how long the load goes on (default 20), `E2E_SEED` the seed. The follower is this program
//! itself, started again with `FOLLOW_CHILD` set, so that it can be killed.

mod following;

use bitmap::{BlockId, BlockState, Engine};
use capture::SourceChoice;
use e2e::{Connection, Installation, Server, setting, spawn_bound};
use follow::files::{FollowConfig, Follower};
use following::{Listening, Round, disturb, everything_is_dirty, with_a_server_that_lasts};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{Key, Uid};
use plan::{
    Ordinals,
    detect::{self, Request, Since},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use repository::local::load_checkpoint;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if let Some(dirs) = env::var_os("FOLLOW_CHILD") {
        return child(&dirs.to_string_lossy());
    }
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    let skip = installation.is_err();
    let trial = Trial::test("a_followed_server_is_seen_whole", move || {
        follow(&installation?)
    })
    .with_ignored_flag(skip);
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

/// Engine, interceptor and follower, as a host has them.
struct Host {
    engine: Arc<Engine>,
    follower: Follower,
}

fn host(data: &Path, work: &Path) -> Result<Host, Failed> {
    let (engine, listening) = Listening::open(work)?;
    let config = FollowConfig {
        data_dirs: vec![data.into()],
        database: Some("follow".to_owned()),
        position: Some(work.join("position")),
        poll: Duration::from_millis(500),
    };
    let follower = Follower::start(config, listening)?;
    Ok(Host { engine, follower })
}

/// The follower's process: goes on until it is killed.
fn child(dirs: &str) -> ExitCode {
    let Some((data, work)) = dirs.split_once('|') else {
        return ExitCode::from(2);
    };
    match host(Path::new(data), Path::new(work)) {
        Ok(host) => loop {
            thread::sleep(Duration::from_secs(5));
            let stats = host.follower.stats();
            if !stats.last_error.is_empty() {
                eprintln!("  follower: {}", stats.last_error);
            }
        },
        Err(failed) => {
            eprintln!("  follower: {failed:?}");
            ExitCode::FAILURE
        }
    }
}

fn spawn(data: &Path, work: &Path) -> Result<Child, Failed> {
    let dirs = format!("{}|{}", data.display(), work.display());
    let mut command = Command::new(env::current_exe()?);
    command.env("FOLLOW_CHILD", dirs).stdin(Stdio::null());
    Ok(spawn_bound(command)?)
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rows: AtomicU64,
    deletes: AtomicU64,
    drops: AtomicU64,
    flushes: AtomicU64,
}

/// Key ranges that were deleted, or may have been, by table.
type Deleted = BTreeMap<String, Vec<(i64, i64)>>;

const START: i64 = 1_704_067_200_000;
const DAY: i64 = 86_400_000;

fn follow(installation: &Installation) -> Result<(), Failed> {
    let seconds = setting("E2E_FOLLOW_SECONDS", 20);
    let seed = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("{seconds} s, E2E_SEED={seed}");
    with_a_server_that_lasts(seed, |seed| follow_round(installation, seconds, seed))
}

fn follow_round(installation: &Installation, seconds: u64, seed: u64) -> Result<Round<()>, Failed> {
    let server = Server::start(installation)?;
    let data = server.data_dir();
    let connection = server.connect()?;
    connection.execute("create database follow vgroups 2 buffer 3 duration 1d stt_trigger 2")?;
    connection.execute("create table follow.s (ts timestamp, v int) tags (t int)")?;
    for table in 0..20 {
        let rows: String = (0..200)
            .map(|i| format!("({},{i})", START + i * 60_000))
            .collect();
        connection.execute(&format!(
            "insert into follow.t{table} using follow.s tags({table}) values {rows}"
        ))?;
    }
    flush(&connection, &data)?;
    drop(connection);
    let work = tempfile::tempdir()?;
    let position = work.path().join("position");
    let at_start = work.path().join("at-start");
    drop(host(&data, work.path())?);
    fs::copy(&position, &at_start)?;

    let shared = Shared::default();
    let server = RwLock::new(server);
    let (deleted, kills) = thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let (server, shared) = (&server, &shared);
                scope.spawn(move || write(server, shared, seed + writer, writer))
            })
            .collect();
        let kills = disturb(&server, seed, seconds, 500..4_000, || {
            spawn(&data, work.path())
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

    let connection = server.read().map_err(|e| e.to_string())?.connect()?;
    let began = Instant::now();
    flush(&connection, &data)?;
    let flushed = began.elapsed();
    let host = host(&data, work.path())?;
    if !host.follower.catch_up(PATIENCE) {
        return Err(format!(
            "the follower does not catch up: {:?}",
            host.follower.stats()
        )
        .into());
    }
    if everything_is_dirty(&host.engine) {
        return Err(format!("everything is dirty: {:?}", host.engine.damage()).into());
    }
    let caught_up = began.elapsed() - flushed;
    println!("  flushed in {flushed:.1?}, caught up in {caught_up:.1?}");
    let compared = compare(&host, &connection, &data, &at_start, &deleted)?;
    println!(
        "  {} rows, {} deletes, {} drops, {} flushes; {} server and {} follower restarts; {} blocks of the scan held, \
         {} more explained by deletes and drops, {} ranges",
        shared.rows.load(SeqCst),
        shared.deletes.load(SeqCst),
        shared.drops.load(SeqCst),
        shared.flushes.load(SeqCst),
        kills.0,
        kills.1,
        compared.scanned,
        compared.more,
        host.engine.damage().len()
    );
    Ok(Round::Done(()))
}

/// Flushes until the committed files hold everything.
fn flush(connection: &Connection, data: &Path) -> Result<(), Failed> {
    let deadline = Instant::now() + PATIENCE;
    for look in 0.. {
        // Again, but only now and then: ten a second keep the server busy for minutes.
        if look % 20 == 0 {
            connection.execute("flush database follow")?;
        }
        let vnodes = capture::DataDirs::new(vec![data.into()])?.vnodes()?;
        let mut behind = Vec::new();
        for vnode in vnodes {
            let (logged, committed) = (vnode.newest_logged()?, vnode.config()?.committed);
            if logged > committed {
                behind.push((vnode.primary.clone(), logged, committed));
            }
        }
        if behind.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the flush does not end; logged, committed: {behind:?}").into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Writes, deletes, drops and flushes until it is told to stop. Statements that a dying server leaves unanswered may or
/// may not have been done; both are fine.
fn write(server: &RwLock<Server>, shared: &Shared, seed: u64, writer: u64) -> Deleted {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut deleted = Deleted::new();
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
                0 => {
                    shared.flushes.fetch_add(1, SeqCst);
                    "flush database follow".to_owned()
                }
                1..=4 => {
                    let first = START + rng.random_range(0..3 * DAY);
                    let last = first + rng.random_range(0..DAY / 4);
                    let ranges = deleted.entry(table.clone()).or_default();
                    ranges.push((first, last));
                    shared.deletes.fetch_add(1, SeqCst);
                    format!("delete from follow.{table} where ts >= {first} and ts <= {last}")
                }
                5 => {
                    shared.drops.fetch_add(1, SeqCst);
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

struct Compared {
    scanned: usize,
    more: usize,
}

/// What the bitmap holds against what the committed files say changed since the start.
fn compare(
    host: &Host,
    connection: &Connection,
    data: &Path,
    at_start: &Path,
    deleted: &Deleted,
) -> Result<Compared, Failed> {
    let start = load_checkpoint(at_start)?;
    let position = host.follower.position().ok_or("no position")?;
    if position.window != start.window {
        return Err("the windows changed".into());
    }
    let scan = detect::run(
        &Request {
            data_dirs: vec![data.into()],
            database: Some("follow".to_owned()),
            vgroup: None,
            since: Since::Checkpoint(Box::new(start.clone())),
            source: SourceChoice::Tsdb,
            window: None,
        },
        &(),
    )?;
    if !scan.plan.is_complete() {
        return Err(format!("the scan is not complete: {:?}", scan.plan.vgroups).into());
    }
    let mut live: BTreeMap<Uid, String> = BTreeMap::new();
    for row in connection.query(
        "select uid, table_name from information_schema.ins_tables where db_name = 'follow'",
    )? {
        live.insert(Uid(row[0].parse().map_err(|_| "uid")?), row[1].clone());
    }
    let ordinals: Ordinals = position.ordinals.clone();
    let mut scanned = BTreeSet::new();
    for block in &scan.plan.blocks {
        if !live.contains_key(&block.uid) {
            continue; // rows of a dropped table, which stay on disk for a while
        }
        if !ordinals.contains(block.uid) {
            return Err(format!("table {} changed and has no number", block.uid).into());
        }
        let mut ordinals = ordinals.clone();
        let id = BlockId::new(ordinals.of(block.uid), block.id.window());
        let held = host.engine.state(id);
        if !matches!(held, Ok(BlockState::Dirty | BlockState::New)) {
            return Err(format!("missed: {block:?} is {held:?}").into());
        }
        scanned.insert(id);
    }
    let mut more = 0;
    let held = host.engine.find_by_wal(0..=u64::MAX, usize::MAX)?;
    for id in held.into_iter().filter(|id| !scanned.contains(id)) {
        more += 1;
        let uid = ordinals
            .uids()
            .get(id.table().0 as usize)
            .ok_or("an id of no table")?;
        let Some(name) = live.get(uid) else {
            continue; // dropped
        };
        let keys = position.window.keys_of(id.window());
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
