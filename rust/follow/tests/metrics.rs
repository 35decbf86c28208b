//! Every metric of a follower is moved by what docs/metrics.md says moves it. One test: the metrics are the process's.
#![allow(clippy::unwrap_used, clippy::panic)]

use events::intercept::BlockEvent;
use follow::files::{FollowConfig, Follower, Listener};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Listening {
    unsafe_now: AtomicBool,
}

impl Listener for Listening {
    fn block(&self, _: BlockEvent) -> bool {
        true
    }

    fn range(&self, _: u64, _: u64, _: u64, _: i64, _: &str) -> bool {
        true
    }

    fn settle(&self) -> bool {
        !self.unsafe_now.load(SeqCst)
    }
}

/// Makes `to` what the recorded server's data directory was at that time.
fn lay(recorded: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(recorded);
    let status = Command::new("cp")
        .args(["-r", "--remove-destination"])
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}

fn follow(dir: &Path, listening: &Arc<Listening>) -> Follower {
    let config = FollowConfig {
        data_dirs: vec![dir.into()],
        database: None,
        position: None,
        poll: Duration::from_millis(50),
    };
    Follower::start(config, listening.clone()).unwrap()
}

fn until(what: &str, holds: impl Fn(&metrics::Snapshot) -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds(&metrics::global().update()) {
        assert!(std::time::Instant::now() < deadline, "{what} never moves");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_follower_moves_its_metrics() {
    let dir = tempfile::tempdir().unwrap();
    lay("base", dir.path());
    let listening = Arc::new(Listening::default());
    let follower = follow(dir.path(), &listening);
    let gauges = follower.gauges();
    metrics::global().register(&gauges);
    assert!(follower.catch_up(PATIENCE));
    let still = metrics::global().update();
    assert_eq!(
        (
            still.messages_per_second,
            still.offset_lag,
            still.consumer_lag_ms
        ),
        (0, 0, 0)
    );
    assert_eq!(
        (
            still.messages_dropped,
            still.parse_errors,
            still.connection_retries
        ),
        (0, 0, 0)
    );
    assert_eq!((still.commit_retries, still.subscription_retries), (0, 0));

    // Changes that are known, but not safe.
    listening.unsafe_now.store(true, SeqCst);
    lay("incr_wal", dir.path());
    until("commit_retries", |now| now.commit_retries > 0);
    until("offset_lag", |now| now.offset_lag > 0);
    until("consumer_lag_ms", |now| now.consumer_lag_ms > 0);
    assert_eq!(metrics::global().update().messages_per_second, 0);
    listening.unsafe_now.store(false, SeqCst);
    until("messages_per_second", |now| now.messages_per_second > 0);
    until("bytes_per_second", |now| now.bytes_per_second > 0);
    until("the lag", |now| {
        now.offset_lag == 0 && now.consumer_lag_ms == 0
    });
    drop(follower);

    // A vgroup that the position does not know is told as a range.
    let dir = tempfile::tempdir().unwrap();
    lay("base", dir.path());
    let (vnode, aside) = (dir.path().join("vnode/vnode3"), dir.path().join("aside"));
    fs::rename(&vnode, &aside).unwrap();
    let _follower = follow(dir.path(), &listening);
    fs::rename(&aside, &vnode).unwrap();
    until("messages_dropped", |now| now.messages_dropped > 0);

    // A record of the log that is damaged.
    let before = metrics::global().update();
    let damaged = tempfile::tempdir().unwrap();
    lay("incr_wal", damaged.path());
    let wal = damaged.path().join("vnode/vnode2/wal");
    let logs = fs::read_dir(wal)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let log = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let log = log.max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&log, bytes).unwrap();
    let at_damage = follow(damaged.path(), &listening);
    until("parse_errors", |now| now.parse_errors > before.parse_errors);
    drop(at_damage);

    // A file that contradicts its format, and directories that are not there.
    let before = metrics::global().update();
    let current = dir.path().join("vnode/vnode2/tsdb/current.json");
    let good = fs::read(&current).unwrap();
    fs::write(&current, "{").unwrap();
    until("parse_errors", |now| now.parse_errors > before.parse_errors);
    fs::write(&current, good).unwrap();
    let before = metrics::global().update();
    let (here, away) = (dir.path().join("vnode"), dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    until("connection_retries", |now| {
        now.connection_retries > before.connection_retries
    });
    fs::rename(&away, &here).unwrap();
}

#[test]
#[ignore = "run by `a_system_without_inotify_is_counted`"]
fn no_inotify_child() {
    let dir = tempfile::tempdir().unwrap();
    lay("base", dir.path());
    let follower = follow(dir.path(), &Arc::default());
    assert!(follower.catch_up(PATIENCE), "it looks by itself");
    assert!(!follower.stats().notified);
    until("subscription_retries", |now| now.subscription_retries > 0);
}

#[test]
fn a_system_without_inotify_is_counted() {
    // Where a process may not have users of its own, unshare itself fails.
    let tried = Command::new("unshare").args(["-Ur", "true"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: no user namespace can be made here");
        return;
    }
    let script = "echo 0 > /proc/sys/user/max_inotify_instances || exit 77; exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["-Ur", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["no_inotify_child", "--exact", "--ignored"])
        .status();
    match status {
        Ok(status) if status.code() != Some(77) => assert!(status.success()),
        _ => println!("skipped: no user namespace can be made here"),
    }
}
