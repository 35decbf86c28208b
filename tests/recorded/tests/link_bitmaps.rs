//! An engine that followed the recorded changes, against one that was loaded with the bitmaps of a link of the same span.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, MarkedAt};
use capture::SourceChoice;
use events::{
    bitmap_sink::BitmapSink,
    intercept::{BlockEvent, EventSink as _},
};
use follow::files::{FollowConfig, Follower, Listener};
use host::link_bitmaps;
use model::{Uid, Version};
use plan::{
    BlockPlan,
    detect::{self, Request, Since},
};
use recorded::data_dir;
use repository::{
    bitmaps::{Bitmaps, TableBlocks},
    local::load_checkpoint,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A host that takes what it is told into its engine.
struct Host {
    engine: Arc<Engine>,
    sink: BitmapSink,
}

impl Host {
    fn new() -> Arc<Self> {
        let engine = Arc::new(Engine::open(&EngineConfig::default()).unwrap());
        let sink = BitmapSink::new(Arc::clone(&engine), None);
        Arc::new(Self { engine, sink })
    }
}

impl Listener for Host {
    fn block(&self, event: BlockEvent) -> bool {
        self.sink.take(&event)
    }

    fn range(&self, first: u64, last: u64, wal: u64, time: i64, why: &str) -> bool {
        let at = MarkedAt::new(wal, time);
        let (first, last) = (BlockId(first), BlockId(last));
        self.engine.mark_range(first, last, at, why).is_ok()
    }

    fn settle(&self) -> bool {
        true
    }
}

fn follow(state: &str, position: &Path, host: &Arc<Host>) {
    let config = FollowConfig {
        data_dirs: vec![data_dir(state)],
        database: None,
        position: Some(position.to_owned()),
        poll: Duration::from_secs(60),
    };
    let listener: Arc<dyn Listener> = Arc::<Host>::clone(host);
    let follower = Follower::start(config, listener).unwrap();
    assert!(follower.catch_up(Duration::from_secs(60)));
}

/// The bitmaps of a link that leads from the checkpoint to `state`, written and read.
fn bitmaps(state: &str, since: &Path) -> (Bitmaps, BTreeMap<model::VgId, Version>) {
    let request = Request {
        data_dirs: vec![data_dir(state)],
        database: None,
        vgroup: None,
        since: Since::Checkpoint(Box::new(load_checkpoint(since).unwrap())),
        source: SourceChoice::Auto,
        window: None,
    };
    let plan = detect::run(&request, &()).unwrap().plan;
    let vgroups = plan.vgroups.iter();
    let newest: BTreeMap<_, _> = vgroups.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect();
    let mut bitmaps = Bitmaps::new(plan.window);
    for planned in &plan.tables {
        let uid: Uid = planned.table.uid;
        let blocks = plan.blocks.iter().filter(|block| block.uid == uid);
        let blocks: Vec<BlockPlan> = blocks.copied().collect();
        let mut table = TableBlocks::new(planned.vgroup, planned.state);
        if planned.state != BlockState::Deleted {
            table.plan(planned, &blocks, plan.window, newest[&planned.vgroup]);
        }
        bitmaps.tables.insert(uid, table);
    }
    let bytes = bitmaps.to_bytes().unwrap();
    assert_eq!(Bitmaps::parse(&bytes, "bitmaps").unwrap(), bitmaps);
    (bitmaps, newest)
}

#[test]
fn a_loaded_engine_answers_as_one_that_followed() {
    for state in ["incr_wal", "incr_flushed"] {
        let dir = tempfile::tempdir().unwrap();
        let position: PathBuf = dir.path().join("position");
        let followed = Host::new();
        follow("base", &position, &followed);
        let start = dir.path().join("start");
        fs::copy(&position, &start).unwrap();
        follow(state, &position, &followed);

        let (bitmaps, newest) = bitmaps(state, &start);
        let mut numbers = load_checkpoint(&position).unwrap().ordinals;
        let known = numbers.clone();
        let loaded = Host::new();
        let marked = link_bitmaps::mark(&bitmaps, &newest, 77, &mut numbers, &loaded.engine);
        assert_eq!(
            numbers, known,
            "the follower numbered all tables of the link"
        );

        let find = |host: &Host, from, to| host.engine.find_by_wal(from..=to, 10_000).unwrap();
        let all = find(&followed, 0, u64::MAX);
        assert!(all.len() > 15, "{}", all.len());
        assert_eq!(marked.unwrap().blocks, all.len() as u64);
        for version in 0..50 {
            let both = [&followed, &loaded].map(|host| find(host, version, version));
            assert_eq!(both[0], both[1], "{state}, version {version}");
            let both = [&followed, &loaded].map(|host| find(host, 0, version));
            assert_eq!(both[0], both[1], "{state}, up to version {version}");
        }
        let counts = [&followed, &loaded].map(|host| {
            let counts = host.engine.counts();
            (counts.dirty, counts.new, counts.deleted)
        });
        assert_eq!(counts[0], counts[1]);
        let by_time = |host: &Host, range| -> BTreeSet<BlockId> {
            let found = host.engine.find_by_time(range, 10_000).unwrap();
            found.into_iter().collect()
        };
        assert_eq!(by_time(&loaded, 77..=77), by_time(&followed, 78..=i64::MAX));
        let ranges = [&followed, &loaded].map(|host| {
            let damage = host.engine.damage();
            let ranges = damage.iter().map(|range| (range.first, range.last));
            ranges.collect::<BTreeSet<_>>()
        });
        assert_eq!(ranges[0], ranges[1], "{state}");
        assert_eq!(ranges[0].len(), 1, "a table was dropped");
    }
}
