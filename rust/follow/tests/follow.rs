//! A follower tells what a detection run finds, at once and over restarts, and saves its position only when it is
//! safe to.
#![allow(clippy::unwrap_used, clippy::panic)]

use capture::SourceChoice;
use events::intercept::BlockEvent;
use follow::files::{FollowConfig, Follower, Listener};
use parking_lot::Mutex;
use plan::detect::{self, Request, Since};
use repository::local::load_checkpoint;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tdwriter::{
    Row,
    tsdb::Release,
    vnode::{VnodeBuilder, VnodeConfig, WalKeep},
};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Told {
    blocks: Mutex<BTreeSet<u64>>,
    ranges: Mutex<Vec<(u64, u64, String)>>,
    unsafe_now: AtomicBool,
    full: AtomicBool,
    /// Blocks that were refused because it is full.
    refused: AtomicU64,
}

impl Listener for Told {
    fn block(&self, event: BlockEvent) -> bool {
        let full = self.full.load(SeqCst);
        if full {
            self.refused.fetch_add(1, SeqCst);
        } else {
            self.blocks.lock().insert(event.block);
        }
        !full
    }

    fn range(&self, first: u64, last: u64, _: u64, _: i64, why: &str) -> bool {
        self.ranges.lock().push((first, last, why.to_owned()));
        true
    }

    fn settle(&self) -> bool {
        !self.unsafe_now.load(SeqCst)
    }
}

/// Makes `dir` what the recorded server's data directory was at that time.
fn lay(recorded: &str, dir: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(recorded);
    // In the order of a server: nothing names a file, or a version, before it is there. A follower looks meanwhile.
    let step_of = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
        Some("current.json") => 2,
        Some("vnode.json") => 3,
        Some(name) if name.ends_with(".idx") => 1,
        _ => 0,
    };
    for step in 0..=3 {
        copy(&from, dir, &|path| step_of(path) == step);
    }
}

fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target, wanted);
        } else if wanted(&entry.path()) {
            // As a server does: current.json is replaced, never rewritten.
            let new = target.with_extension("new");
            fs::copy(entry.path(), &new).unwrap();
            fs::rename(&new, &target).unwrap();
        }
    }
}

/// Waits for what the follower's thread does in its own time.
fn until(so: impl Fn() -> bool) {
    while !so() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn config(dir: &Path, position: Option<PathBuf>) -> FollowConfig {
    FollowConfig {
        data_dirs: vec![dir.into()],
        database: None,
        position,
        poll: Duration::from_millis(500),
    }
}

/// The blocks that a detection run from `position` names.
fn detected(dir: &Path, position: &Path) -> BTreeSet<u64> {
    let request = Request {
        data_dirs: vec![dir.into()],
        database: None,
        vgroup: None,
        since: Since::Checkpoint(Box::new(load_checkpoint(position).unwrap())),
        source: SourceChoice::Auto,
        window: None,
    };
    let detection = detect::run(&request, &()).unwrap();
    detection
        .plan
        .blocks
        .iter()
        .map(|block| block.id.0)
        .collect()
}

#[test]
fn what_detection_finds_is_told_and_a_restart_goes_on_from_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    lay("base", &data);
    let position = dir.path().join("position");
    let told = Arc::new(Told::default());
    let follower = Follower::start(config(&data, Some(position.clone())), told.clone()).unwrap();
    assert!(follower.catch_up(PATIENCE));
    assert!(told.blocks.lock().is_empty(), "nothing changed yet");
    let at_start = dir.path().join("at-start");
    fs::copy(&position, &at_start).unwrap();

    lay("incr_wal", &data);
    assert!(follower.catch_up(PATIENCE));
    let wanted = detected(&data, &at_start);
    assert!(wanted.len() > 5, "{}", wanted.len());
    assert!(told.blocks.lock().is_superset(&wanted));
    assert!(!told.ranges.lock().is_empty(), "a table was dropped");
    // A scan amid the copying may have failed, and was done again.
    assert_eq!(follower.stats().last_error, "");
    drop(follower);

    let again = Arc::new(Told::default());
    let follower = Follower::start(config(&data, Some(position)), again.clone()).unwrap();
    assert!(follower.catch_up(PATIENCE));
    assert!(again.blocks.lock().is_empty(), "all of it was told");
    lay("incr_flushed", &data);
    assert!(follower.catch_up(PATIENCE));
    assert!(again.blocks.lock().is_subset(&detected(&data, &at_start)));
}

#[test]
fn a_change_is_told_without_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    lay("base", dir.path());
    let told = Arc::new(Told::default());
    let follower = Follower::start(config(dir.path(), None), told.clone()).unwrap();
    assert!(follower.catch_up(PATIENCE));
    lay("incr_wal", dir.path());
    until(|| !told.blocks.lock().is_empty());
}

#[test]
fn a_server_whose_vnodes_can_not_be_listed_any_more_is_not_taken_for_a_quiet_one() {
    let dir = tempfile::tempdir().unwrap();
    lay("base", dir.path());
    let follower = Follower::start(config(dir.path(), None), Arc::new(Told::default())).unwrap();
    assert!(follower.catch_up(PATIENCE));
    let list = dir.path().join("vnode/vnodes.json");
    let before = fs::read(&list).ok();
    fs::write(&list, "damaged").unwrap();
    until(|| follower.stats().failures > 0);
    assert!(follower.stats().last_error.contains("vnodes.json"));
    match before {
        Some(before) => fs::write(&list, before).unwrap(),
        None => fs::remove_file(&list).unwrap(),
    }
    assert!(follower.catch_up(PATIENCE));
    assert_eq!(follower.stats().last_error, "");
}

#[test]
fn the_position_stays_until_the_listener_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    lay("base", &data);
    let position = dir.path().join("position");
    let told = Arc::new(Told::default());
    let follower = Follower::start(config(&data, Some(position.clone())), told.clone()).unwrap();
    assert!(follower.catch_up(PATIENCE));
    let saved = || load_checkpoint(&position).unwrap();
    let before = saved();
    told.unsafe_now.store(true, SeqCst);
    lay("incr_wal", &data);
    assert!(!follower.catch_up(Duration::from_millis(500)));
    assert_eq!(saved().vgroups, before.vgroups);
    // Numbers stay: blocks that were told under them would be those of other tables after a crash.
    let numbered = saved().ordinals;
    assert!(numbered.uids().len() > before.ordinals.uids().len());
    until(|| follower.stats().failures > 0);
    told.full.store(true, SeqCst);
    // A scan that told its blocks before may still be asking whether they are safe.
    until(|| told.refused.load(SeqCst) > 0);
    told.unsafe_now.store(false, SeqCst);
    assert!(!follower.catch_up(Duration::from_millis(500)));
    assert_eq!(saved().vgroups, before.vgroups);
    told.full.store(false, SeqCst);
    assert!(follower.catch_up(PATIENCE));
    assert_ne!(saved().vgroups, before.vgroups);
    assert_eq!(saved().ordinals, numbered);
    assert!(told.blocks.lock().len() > 5);
}

#[test]
fn what_can_not_be_followed_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(Told::default());
    let missing = dir.path().join("nothing");
    assert!(Follower::start(config(&missing, None), told.clone()).is_err());
    lay("base", dir.path());
    let position = dir.path().join("position");
    fs::write(&position, "damaged").unwrap();
    let error = Follower::start(config(dir.path(), Some(position)), told).unwrap_err();
    assert!(error.to_string().contains("position"), "{error}");
}

/// What a follower tells that goes on after `change` was made to a vnode with two tables.
fn told_after(
    config_of: VnodeConfig,
    change: impl FnOnce(&mut VnodeBuilder, [i64; 3]),
) -> Arc<Told> {
    let dir = tempfile::tempdir().unwrap();
    let mut vnode = VnodeBuilder::create(dir.path(), config_of).unwrap();
    let stable = vnode.create_stb("s", None);
    let tables = [
        vnode.create_child("c1", stable),
        vnode.create_child("c2", stable),
    ];
    for table in tables {
        vnode.write(&[(table, vec![Row::new(1_704_067_200_000, 1)])]);
    }
    vnode.commit().unwrap();
    vnode.save().unwrap();
    let position = dir.path().join("position");
    let follow = || {
        let told = Arc::new(Told::default());
        let follower = Follower::start(config(dir.path(), Some(position.clone())), told.clone());
        assert!(follower.unwrap().catch_up(PATIENCE));
        told
    };
    assert!(follow().ranges.lock().is_empty());
    change(&mut vnode, [stable, tables[0], tables[1]]);
    vnode.save().unwrap();
    follow()
}

fn is_everything(told: &Told) -> bool {
    let ranges = told.ranges.lock();
    ranges
        .iter()
        .any(|(first, last, _)| (*first, *last) == (0, u64::MAX))
}

#[test]
fn a_drop_that_nothing_names_makes_everything_dirty() {
    // A table by its id: a range.
    let told = told_after(VnodeConfig::default(), |vnode, [_, table, _]| {
        vnode.drop_table(table);
    });
    assert_eq!(told.ranges.lock().len(), 1);
    assert!(!is_everything(&told));
    // All tables of a super table: nothing says which.
    let told = told_after(VnodeConfig::default(), |vnode, [stable, ..]| {
        vnode.drop_stb(stable).unwrap();
    });
    assert!(is_everything(&told), "{:?}", told.ranges.lock());
    // By a name that the log does not hold any more.
    let old = VnodeConfig {
        release: Release::V331,
        wal: WalKeep::Last(0),
        ..VnodeConfig::default()
    };
    let told = told_after(old, |vnode, [_, table, _]| {
        vnode.drop_table(table);
    });
    assert!(is_everything(&told), "{:?}", told.ranges.lock());
}

#[test]
fn a_log_that_does_not_reach_back_may_have_held_drops() {
    let short = || VnodeConfig {
        wal: WalKeep::Last(0),
        ..VnodeConfig::default()
    };
    let told = told_after(short(), |vnode, [_, one, two]| {
        vnode.drop_table(one);
        vnode.write(&[(two, vec![Row::new(1_704_067_300_000, 1)])]);
        vnode.commit().unwrap();
    });
    assert!(is_everything(&told), "{:?}", told.ranges.lock());
    assert!(
        !told.blocks.lock().is_empty(),
        "rows are named all the same"
    );
    // One that does: rows alone.
    let told = told_after(short(), |vnode, [_, _, two]| {
        vnode.write(&[(two, vec![Row::new(1_704_067_300_000, 1)])]);
    });
    assert_eq!((told.ranges.lock().len(), told.blocks.lock().len()), (0, 1));
}

/// Has a bug.
struct Panicking;

impl Listener for Panicking {
    fn block(&self, _: BlockEvent) -> bool {
        panic!("a bug")
    }

    fn range(&self, _: u64, _: u64, _: u64, _: i64, _: &str) -> bool {
        panic!("a bug")
    }

    fn settle(&self) -> bool {
        true
    }
}

#[test]
fn a_follower_that_a_bug_ended_says_so() {
    let dir = tempfile::tempdir().unwrap();
    lay("base", dir.path());
    let follower = Follower::start(config(dir.path(), None), Arc::new(Panicking)).unwrap();
    assert!(follower.catch_up(PATIENCE));
    lay("incr_wal", dir.path());
    while follower.stats().failures == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let stats = follower.stats();
    assert!(stats.last_error.contains("internal error"), "{stats:?}");
    assert!(!follower.catch_up(Duration::ZERO));
}

/// Stops its follower when it is told the first block.
#[derive(Default)]
struct Stopping {
    follower: Mutex<Option<Follower>>,
    told: AtomicUsize,
}

impl Stopping {
    fn was_told(&self) -> bool {
        self.told.fetch_add(1, SeqCst);
        drop(self.follower.lock().take());
        true
    }
}

impl Listener for Stopping {
    fn block(&self, _: BlockEvent) -> bool {
        self.was_told()
    }

    fn range(&self, _: u64, _: u64, _: u64, _: i64, _: &str) -> bool {
        self.was_told()
    }

    fn settle(&self) -> bool {
        true
    }
}

#[test]
fn a_follower_that_its_listener_stops_tells_nothing_more_and_leaves_the_position_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let position = dir.path().join("position");
    lay("base", &data);
    let stopping = Arc::new(Stopping::default());
    let config = FollowConfig {
        data_dirs: vec![data.clone()],
        database: None,
        position: Some(position.clone()),
        poll: Duration::from_millis(20),
    };
    let follower = Follower::start(config.clone(), stopping.clone()).unwrap();
    assert!(follower.catch_up(PATIENCE));
    let versions = || load_checkpoint(&position).unwrap().vgroups;
    let before = versions();
    *stopping.follower.lock() = Some(follower);
    lay("incr_flushed", &data);
    while stopping.told.load(SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(versions(), before);
    // The next one has the position for itself, and tells everything.
    let told = Arc::new(Told::default());
    let next = Follower::start(config, told.clone()).unwrap();
    assert!(next.catch_up(PATIENCE));
    assert!(told.blocks.lock().len() > 1);
    assert_eq!(stopping.told.load(SeqCst), 1);
}
