//! The engine against a plain `BTreeMap`: whatever is done to both, every answer is equal.
//!
//! `ENGINE_MODEL_OPERATIONS` sets the number of operations per kind of engine (default 60 000 in memory and 21 000 on disk).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{
    BlockCursor, BlockId, BlockState, DamageToken, Engine, EngineConfig, EngineError, Mark,
    MarkedAt,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

#[derive(Debug, Clone)]
enum Operation {
    Mark(u64, Mark, u64, i64),
    Burst(u64, u64, Mark, u64, i64),
    Changed(u64, u64, i64),
    Range(u64, u64, u64, i64),
    Clear(u64),
    Query(u64, u64, i64, i64, usize),
    Scan(u64, u64),
    OpenByWal(u64, u64),
    OpenByTime(i64, i64),
    ReadOn(usize, usize),
    Close(usize),
    Lookup(u64),
    Counts,
    Damage(usize),
    Acknowledge,
    Limit(u32),
    Compact,
    Spill,
    Sync,
    /// No manifest can be written, or can again.
    Disk(bool),
    Restart,
    Crash,
    Hurt(usize, usize, Hurt),
}

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Hurt {
    Flip,
    Cut,
    Grow,
    Remove,
}

/// Ids of a few crowded tables, of dense ranges across shards, of tables with one block each, and at all edges.
fn block() -> impl Strategy<Value = u64> {
    let window = prop_oneof![
        Just(0u64),
        Just(63),
        Just(64),
        Just(65_535),
        Just(65_536),
        Just((1 << 32) - 1)
    ];
    let table = prop_oneof![
        Just(0u64),
        Just(15),
        Just(16),
        Just(1 << 31),
        Just((1 << 32) - 1)
    ];
    prop_oneof![
        8 => (0u64..6, 0u64..40).prop_map(|(table, window)| table << 32 | window),
        6 => 65_500u64..65_600,
        4 => (0u64..300).prop_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        1 => (table, window).prop_map(|(table, window)| table << 32 | window),
        1 => prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1)],
    ]
}

fn wal() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 62),
        Just(1 << 63)
    ];
    prop_oneof![10 => 0u64..500, 2 => edge]
}

fn time() -> impl Strategy<Value = i64> {
    let edge = prop_oneof![
        Just(i64::MIN),
        Just(i64::MIN + 1),
        Just(i64::MAX - 1),
        Just(i64::MAX)
    ];
    prop_oneof![10 => -250i64..250, 2 => edge]
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0usize..60, 1 => Just(0), 1 => Just(1), 1 => Just(usize::MAX)]
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as Op;
    let mark = || prop_oneof![4 => Just(Mark::Dirty), 2 => Just(Mark::New), 1 => Just(Mark::Deleted), 1 => Just(Mark::Clear)];
    let edges = || prop_oneof![3 => block(), 1 => Just(0), 1 => Just(u64::MAX)];
    let hurt = prop_oneof![3 => Just(Hurt::Flip), 1 => Just(Hurt::Cut), 1 => Just(Hurt::Grow), 1 => Just(Hurt::Remove)];
    let megabytes = prop_oneof![Just(1), Just(2), Just(3), Just(64), Just(u32::MAX)];
    prop_oneof![
        180 => (block(), mark(), wal(), time()).prop_map(|(b, m, w, t)| Op::Mark(b, m, w, t)),
        6 => (block(), 0u64..400, mark(), wal(), time()).prop_map(|(b, n, m, w, t)| Op::Burst(b, n, m, w, t)),
        20 => (block(), wal(), time()).prop_map(|(b, w, t)| Op::Changed(b, w, t)),
        1 => (edges(), edges(), wal(), time()).prop_map(|(a, b, w, t)| Op::Range(a.min(b), a.max(b), w, t)),
        1 => (block(), 0u64..9, wal(), time()).prop_map(|(b, n, w, t)| Op::Range(b, b.saturating_add(n), w, t)),
        60 => block().prop_map(Op::Clear),
        18 => (wal(), wal(), time(), time(), limit()).prop_map(|(a, b, c, d, n)| Op::Query(a, b, c, d, n)),
        2 => (wal(), wal()).prop_map(|(a, b)| Op::Scan(a, b)),
        3 => (wal(), wal()).prop_map(|(a, b)| Op::OpenByWal(a, b)),
        3 => (time(), time()).prop_map(|(a, b)| Op::OpenByTime(a, b)),
        20 => (0usize..8, limit()).prop_map(|(at, n)| Op::ReadOn(at, n)),
        4 => (0usize..8).prop_map(Op::Close),
        30 => block().prop_map(Op::Lookup),
        6 => Just(Op::Counts),
        2 => prop_oneof![0usize..3, Just(usize::MAX)].prop_map(Op::Damage),
        1 => Just(Op::Acknowledge),
        2 => megabytes.prop_map(Op::Limit),
        3 => Just(Op::Compact),
        3 => Just(Op::Spill),
        3 => Just(Op::Sync),
        2 => any::<bool>().prop_map(Op::Disk),
        2 => Just(Op::Restart),
        2 => Just(Op::Crash),
        1 => (any::<usize>(), any::<usize>(), hurt).prop_map(|(file, at, how)| Op::Hurt(file, at, how)),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    state: BlockState,
    /// `None` of a block that was only ever cleared, in a range that counted as a whole.
    marked: Option<MarkedAt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u64,
    last: u64,
    /// When something came into it last.
    changed: u64,
}

#[derive(Default)]
struct Model {
    blocks: BTreeMap<u64, Known>,
    damage: Vec<Range>,
    /// How often something came into a range.
    damaged: u64,
    /// The latest change in the ranges that were listed last.
    listed: u64,
    /// What was changed since everything was durable: the block, and what was known of it before.
    changes: Vec<(u64, Option<Known>)>,
    /// Which ranges there were since one of them was durable.
    damages: Vec<Vec<Range>>,
}

impl Model {
    fn set(&mut self, block: u64, known: Known) {
        let before = self.blocks.insert(block, known);
        self.changes.push((block, before));
    }

    /// `true` if the mark is allowed.
    fn mark(&mut self, block: u64, mark: Mark, marked: MarkedAt) -> bool {
        if mark == Mark::Clear {
            return self.clear(block);
        }
        let from = self.state(block);
        from.after(mark)
            .map(|to| self.marked(block, to, marked))
            .is_ok()
    }

    fn state(&self, block: u64) -> BlockState {
        let known = self.blocks.get(&block);
        known.map_or(BlockState::Clean, |known| known.state)
    }

    fn changed(&mut self, block: u64, marked: MarkedAt) {
        let to = self.state(block).after(Mark::Dirty);
        self.marked(block, to.unwrap_or(BlockState::Dirty), marked);
    }

    fn marked(&mut self, block: u64, state: BlockState, marked: MarkedAt) {
        let marked = Some(marked);
        self.set(block, Known { state, marked });
    }

    /// `false` if the block is not known.
    fn clear(&mut self, block: u64) -> bool {
        let unmarked = Known {
            state: BlockState::Clean,
            marked: None,
        };
        let known = match self.blocks.get(&block) {
            Some(&known) => known,
            None if self.is_damaged(block) => unmarked,
            None => return false,
        };
        let state = BlockState::Clean;
        self.set(block, Known { state, ..known });
        true
    }

    fn is_damaged(&self, block: u64) -> bool {
        let damage = &mut self.damage.iter();
        damage.any(|range| (range.first..=range.last).contains(&block))
    }

    fn add_damage(&mut self, first: u64, last: u64) {
        let inside = |a: (u64, u64), b: (u64, u64)| b.0 <= a.0 && a.1 <= b.1;
        self.damaged += 1;
        let changed = self.damaged;
        let known = self.damage.iter_mut();
        for known in known {
            if inside((first, last), (known.first, known.last)) {
                known.changed = changed;
                return;
            }
        }
        self.damage
            .retain(|known| !inside((known.first, known.last), (first, last)));
        self.damage.push(Range {
            first,
            last,
            changed,
        });
        self.damages.push(self.damage.clone());
    }

    fn acknowledge(&mut self) {
        self.damage.retain(|range| range.changed > self.listed);
        self.damages.push(self.damage.clone());
    }

    fn damage_is_durable(&mut self) {
        self.damages = vec![self.damage.clone()];
    }

    fn all_is_durable(&mut self) {
        self.changes.clear();
        self.damage_is_durable();
    }

    fn find<K: Ord>(&self, key: impl Fn(MarkedAt) -> K, low: K, high: K) -> Vec<BlockId> {
        let mut all: Vec<_> = self
            .blocks
            .iter()
            .filter(|(_, known)| matches!(known.state, BlockState::Dirty | BlockState::New))
            .filter_map(|(&block, known)| Some((key(known.marked?), BlockId(block))))
            .filter(|(key, _)| (&low..=&high).contains(&key))
            .collect();
        all.sort();
        all.into_iter().map(|(_, block)| block).collect()
    }

    fn find_by_wal(&self, low: u64, high: u64) -> Vec<BlockId> {
        self.find(|marked| marked.wal.0, low, high)
    }

    fn find_by_time(&self, low: i64, high: i64) -> Vec<BlockId> {
        self.find(|marked| marked.time.0, low, high)
    }

    /// Goes back to the moment that `found` is, not before all was durable.
    fn go_back_to(&mut self, found: &BTreeMap<u64, Known>) {
        let get = |map: &BTreeMap<u64, Known>, block| map.get(&block).copied();
        let ids = self.blocks.keys().chain(found.keys());
        let differs = |map: &BTreeMap<u64, Known>, block| get(map, block) != get(found, block);
        let mut different: BTreeSet<u64> =
            ids.copied().filter(|&b| differs(&self.blocks, b)).collect();
        while !different.is_empty() {
            let Some((block, before)) = self.changes.pop() else {
                panic!("no moment explains {different:?}");
            };
            match before {
                Some(known) => self.blocks.insert(block, known),
                None => self.blocks.remove(&block),
            };
            if differs(&self.blocks, block) {
                different.insert(block);
            } else {
                different.remove(&block);
            }
        }
    }
}

/// An engine and its model.
struct World {
    config: EngineConfig,
    engine: Option<Engine>,
    model: Model,
    /// Of the last list of damage.
    token: DamageToken,
    /// Open cursors, and what they have not given yet.
    cursors: Vec<(BlockCursor, Vec<BlockId>)>,
    /// Can no manifest be written?
    fails: bool,
    refused: u64,
}

fn unless_full<T>(result: Result<T, EngineError>, refused: &mut u64) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(EngineError::MemoryFull { .. }) => {
            *refused += 1;
            None
        }
        Err(error) => panic!("{error}"),
    }
}

const CURSORS: usize = 6;

impl World {
    fn new(path: Option<PathBuf>) -> Self {
        let config = EngineConfig {
            max_memory_mb: 64,
            persistence_path: path,
        };
        let engine = Engine::open(&config).unwrap();
        Self {
            token: engine.list_damage(0).token,
            engine: Some(engine),
            config,
            model: Model {
                damages: vec![Vec::new()],
                ..Model::default()
            },
            cursors: Vec::new(),
            fails: false,
            refused: 0,
        }
    }

    fn disk(&mut self, fails: bool) {
        if let Some(path) = self
            .config
            .persistence_path
            .as_ref()
            .filter(|_| self.fails != fails)
        {
            let in_the_way = path.join("MANIFEST.tmp");
            if fails {
                // A manifest may be on its way just now.
                while fs::create_dir(&in_the_way).is_err() {}
            } else {
                fs::remove_dir(in_the_way).unwrap();
            }
            self.fails = fails;
        }
    }

    /// Of a call that writes a manifest.
    fn wrote(&self, result: &Result<(), EngineError>) -> bool {
        match result {
            Ok(()) => assert!(!self.fails, "nothing can have been written"),
            Err(EngineError::Io { .. }) => assert!(self.fails, "{result:?}"),
            Err(error) => panic!("{error}"),
        }
        result.is_ok()
    }

    fn sync(&mut self) {
        let engine = self.engine.as_ref().unwrap();
        let mut result = engine.sync();
        if self.config.persistence_path.is_none() {
            return result.unwrap();
        }
        // What failed in the background is told once more.
        for _ in 0..100 {
            if self.fails || result.is_ok() {
                break;
            }
            result = engine.sync();
        }
        if self.wrote(&result) {
            self.model.all_is_durable();
        }
    }

    /// What the engine knows of a block.
    fn known(&self, id: u64) -> Option<Known> {
        let (engine, block) = (self.engine.as_ref().unwrap(), BlockId(id));
        match (engine.state(block), engine.block(block)) {
            (Ok(state), Ok(record)) => {
                assert_eq!(state, record.state);
                Some(Known {
                    state,
                    marked: Some(record.marked),
                })
            }
            (Ok(BlockState::Clean), Err(EngineError::BlockDamaged(_))) => Some(Known {
                state: BlockState::Clean,
                marked: None,
            }),
            (Ok(BlockState::Dirty), Err(EngineError::BlockDamaged(_)))
            | (Err(EngineError::BlockNotFound(_)), Err(EngineError::BlockNotFound(_))) => None,
            other => panic!("{id}: {other:?}"),
        }
    }

    fn close(&mut self) {
        self.cursors.clear();
        self.engine = None;
        self.disk(false);
    }

    /// Opens it again. Returns what it knows of the model's blocks, and its damage.
    fn open_again(&mut self) -> (BTreeMap<u64, Known>, Vec<Range>) {
        let engine = Engine::open(&self.config).unwrap();
        // Damage that was found inside a known range makes this range the one that was changed last.
        let by_change = engine.list_damage(usize::MAX).ranges;
        let changed = |range| {
            by_change
                .iter()
                .zip(1..)
                .find(|(listed, _)| *listed == range)
        };
        let ranges = engine.damage();
        let damage = ranges.iter().map(|range| Range {
            first: range.first.0,
            last: range.last.0,
            changed: changed(range).unwrap().1,
        });
        let damage = damage.collect();
        self.engine = Some(engine);
        let ids = self.model.blocks.keys();
        let found = ids.filter_map(|&id| Some((id, self.known(id)?))).collect();
        (found, damage)
    }

    fn go_on_with(&mut self, damage: Vec<Range>) {
        // Tokens of the engine that was closed mean nothing to this one.
        let list = self.engine.as_ref().map(|engine| engine.list_damage(0));
        self.token = list.unwrap().token;
        (self.model.damaged, self.model.listed) = (damage.len() as u64, 0);
        self.model.damage = damage;
        self.model.all_is_durable();
        self.check_counts();
        self.check_queries();
    }

    fn reopen(&mut self) {
        self.close();
        let (found, damage) = self.open_again();
        self.model.go_back_to(&found);
        let same = |known: &Vec<Range>| {
            let ends = |range: &Range| (range.first, range.last);
            known.iter().map(ends).eq(damage.iter().map(ends))
        };
        let damages = &self.model.damages;
        assert!(
            damages.iter().any(same),
            "{damage:?} is none of {damages:?}"
        );
        self.go_on_with(damage);
    }

    /// Damages one file of a run while the engine is closed.
    fn hurt(&mut self, file: usize, at: usize, how: Hurt) {
        let Some(path) = self.config.persistence_path.clone() else {
            return;
        };
        self.disk(false);
        self.sync();
        self.close();
        let files = fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
        let mut runs: Vec<_> = files
            .filter(|path| path.to_str().unwrap().contains("/run-"))
            .collect();
        runs.sort();
        if let Some(run) = runs.get(file % runs.len().max(1)) {
            let mut bytes = fs::read(run).unwrap();
            let at = at % bytes.len();
            match how {
                Hurt::Flip => bytes[at] ^= 1 << (at % 8),
                Hurt::Cut => bytes.truncate(at),
                Hurt::Grow => bytes.push(0),
                Hurt::Remove => {}
            }
            match how {
                Hurt::Remove => fs::remove_file(run).unwrap(),
                _ => fs::write(run, bytes).unwrap(),
            }
        }
        let (found, damage) = self.open_again();
        for old in &self.model.damage {
            let covers = |range: &Range| range.first <= old.first && old.last <= range.last;
            assert!(damage.iter().any(covers), "{old:?} is forgotten");
        }
        let before = std::mem::take(&mut self.model.blocks);
        for (id, known) in before {
            let found = found.get(&id).copied();
            if Some(known) != found {
                let is_in = |range: &Range| (range.first..=range.last).contains(&id);
                assert!(damage.iter().any(is_in), "{id}: {known:?} became {found:?}");
                // The other files know that it was DIRTY, and where.
                match found {
                    Some(found) => {
                        let (then, now) = (known.marked, found.marked.unwrap());
                        assert_eq!(found.state, BlockState::Dirty, "{id}");
                        let is_found = matches!(known.state, BlockState::Dirty | BlockState::New);
                        if let Some(then) = then.filter(|_| is_found) {
                            assert!(
                                now.wal >= then.wal && now.time >= then.time,
                                "{id}: {now:?}"
                            );
                        }
                    }
                    None => assert!(
                        matches!(known.state, BlockState::Clean | BlockState::Deleted),
                        "{id} is not known"
                    ),
                }
            }
            if let Some(found) = found {
                self.model.blocks.insert(id, found);
            }
        }
        self.go_on_with(damage);
    }

    fn check_queries(&self) {
        let engine = self.engine.as_ref().unwrap();
        let by_wal = engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
        assert_eq!(by_wal, self.model.find_by_wal(0, u64::MAX));
        let by_time = engine.find_by_time(i64::MIN..=i64::MAX, usize::MAX);
        let expected = self.model.find_by_time(i64::MIN, i64::MAX);
        assert_eq!(by_time.unwrap(), expected);
    }

    fn check_counts(&self) {
        let counts = self.engine.as_ref().unwrap().counts();
        let states = || self.model.blocks.values().map(|known| known.state);
        let of = |state| states().filter(|s| *s == state).count() as u64;
        assert_eq!(counts.total, self.model.blocks.len() as u64);
        assert_eq!(
            (counts.dirty, counts.new, counts.deleted),
            (
                of(BlockState::Dirty),
                of(BlockState::New),
                of(BlockState::Deleted)
            )
        );
    }

    fn look_up(&self, id: u64) {
        let (engine, block) = (self.engine.as_ref().unwrap(), BlockId(id));
        let (state, record) = (engine.state(block), engine.block(block));
        let Some(known) = self.model.blocks.get(&id) else {
            if self.model.is_damaged(id) {
                assert_eq!(state.unwrap(), BlockState::Dirty);
                assert!(matches!(record, Err(EngineError::BlockDamaged(_))));
            } else {
                assert!(matches!(state, Err(EngineError::BlockNotFound(_))));
                assert!(matches!(record, Err(EngineError::BlockNotFound(_))));
            }
            return;
        };
        assert_eq!(state.unwrap(), known.state);
        match known.marked {
            None => assert!(matches!(record, Err(EngineError::BlockDamaged(_)))),
            Some(marked) => {
                let record = record.unwrap();
                assert_eq!((record.state, record.marked), (known.state, marked), "{id}");
            }
        }
    }

    fn open(&mut self, cursor: Result<BlockCursor, EngineError>, expected: Vec<BlockId>) {
        let cursor = cursor.unwrap();
        if self.cursors.len() < CURSORS {
            self.cursors.push((cursor, expected));
        }
    }

    fn mark_range(&mut self, first: u64, last: u64, marked: MarkedAt) {
        let engine = self.engine.as_ref().unwrap();
        let result = engine.mark_range(BlockId(first), BlockId(last), marked, "a test");
        self.model.add_damage(first, last);
        let known = self.model.blocks.range(first..=last);
        let known: Vec<u64> = known.map(|(&block, _)| block).collect();
        let full = matches!(result, Err(EngineError::MemoryFull { .. }));
        let persistent = self.config.persistence_path.is_some();
        for block in known {
            let record = engine.block(BlockId(block));
            let is_marked = record.is_ok_and(|record| record.marked == marked);
            assert!(is_marked || full || self.fails, "{block}");
            if is_marked {
                self.model.changed(block, marked);
            }
        }
        if full {
            self.refused += 1;
        } else if persistent {
            self.wrote(&result);
        } else {
            result.unwrap();
        }
        if persistent && !self.fails {
            self.model.all_is_durable();
        }
    }

    fn check(&mut self, operation: &Operation) {
        let persistent = self.config.persistence_path.is_some();
        let e = self.engine.as_ref().unwrap();
        match *operation {
            Operation::Mark(block, mark, wal, time) => {
                let marked = MarkedAt::new(wal, time);
                match e.mark(BlockId(block), mark, marked) {
                    Err(EngineError::MemoryFull { .. }) => self.refused += 1,
                    Err(error) => {
                        assert!(!self.model.mark(block, mark, marked), "{error}");
                        let documented = match mark {
                            Mark::Clear => matches!(error, EngineError::BlockNotFound(_)),
                            _ => matches!(error, EngineError::InvalidTransition { .. }),
                        };
                        assert!(documented, "{error}");
                    }
                    Ok(state) => {
                        assert!(self.model.mark(block, mark, marked));
                        assert_eq!(state, self.model.state(block));
                    }
                }
            }
            Operation::Burst(first, count, mark, wal, time) => {
                let marks: Vec<_> = (0..count)
                    .map(|i| {
                        let (wal, time) = (wal.saturating_add(i), time.saturating_add(i as i64));
                        (BlockId(first.saturating_add(i)), MarkedAt::new(wal, time))
                    })
                    .collect();
                let result = e.mark_batch(mark, marks.iter().copied());
                let (applied, refused) = match result {
                    Ok(applied) => {
                        assert_eq!(applied, marks.len());
                        (applied, None)
                    }
                    Err(error) => (error.applied, Some(error.source)),
                };
                for &(block, at) in &marks[..applied] {
                    assert!(self.model.mark(block.0, mark, at));
                }
                match refused {
                    None => {}
                    Some(EngineError::MemoryFull { .. }) => self.refused += 1,
                    Some(error) => {
                        let (block, at) = marks[applied];
                        assert!(!self.model.mark(block.0, mark, at), "{error}");
                    }
                }
            }
            Operation::Changed(block, wal, time) => {
                let marked = MarkedAt::new(wal, time);
                let result = e.mark_changed(BlockId(block), marked);
                if unless_full(result, &mut self.refused).is_some() {
                    self.model.changed(block, marked);
                }
            }
            Operation::Range(first, last, wal, time) => {
                self.mark_range(first, last, MarkedAt::new(wal, time));
            }
            Operation::Clear(block) => match e.clear(BlockId(block)) {
                Ok(()) => assert!(self.model.clear(block)),
                Err(EngineError::BlockNotFound(_)) => assert!(!self.model.clear(block)),
                Err(EngineError::MemoryFull { .. }) => self.refused += 1,
                Err(error) => panic!("clear of {block}: {error}"),
            },
            Operation::Query(wal0, wal1, time0, time1, limit) => {
                let mut by_wal = self.model.find_by_wal(wal0, wal1);
                by_wal.truncate(limit);
                assert_eq!(e.find_by_wal(wal0..=wal1, limit).unwrap(), by_wal);
                let mut by_time = self.model.find_by_time(time0, time1);
                by_time.truncate(limit);
                assert_eq!(e.find_by_time(time0..=time1, limit).unwrap(), by_time);
            }
            Operation::Scan(low, high) => {
                let expected = self.model.find_by_wal(low, high);
                let mut cursor = e.scan_by_wal(low..=high).unwrap();
                let mut found = Vec::new();
                loop {
                    let page = cursor.next_page(7).unwrap();
                    // What is marked while a cursor is open is not in it.
                    let marked = MarkedAt::new(low, 0);
                    let block = found.len() as u64;
                    match e.mark(BlockId(block), Mark::Dirty, marked) {
                        Err(EngineError::MemoryFull { .. }) => self.refused += 1,
                        result => {
                            let allowed = self.model.mark(block, Mark::Dirty, marked);
                            assert_eq!(result.is_ok(), allowed);
                        }
                    }
                    if page.is_empty() {
                        break;
                    }
                    found.extend(page);
                }
                assert_eq!(found, expected);
            }
            Operation::OpenByWal(low, high) => {
                let cursor = e.scan_by_wal(low..=high);
                self.open(cursor, self.model.find_by_wal(low, high));
            }
            Operation::OpenByTime(low, high) => {
                let cursor = e.scan_by_time(low..=high);
                self.open(cursor, self.model.find_by_time(low, high));
            }
            Operation::ReadOn(at, limit) => {
                if let Some((cursor, expected)) = self.cursors.get_mut(at) {
                    let page = cursor.next_page(limit).unwrap();
                    let rest = expected.split_off(limit.min(expected.len()));
                    assert_eq!(page, std::mem::replace(expected, rest));
                }
            }
            Operation::Close(at) => {
                if at < self.cursors.len() {
                    self.cursors.swap_remove(at);
                }
            }
            Operation::Lookup(block) => self.look_up(block),
            Operation::Counts => self.check_counts(),
            Operation::Damage(limit) => {
                let list = e.list_damage(limit);
                let mut damage = self.model.damage.clone();
                assert_eq!(list.count, damage.len());
                damage.sort_by_key(|range| range.changed);
                damage.truncate(limit);
                self.model.listed = damage.last().map_or(0, |range| range.changed);
                let expected = damage.iter().map(|range| (range.first, range.last));
                let listed = list.ranges.iter();
                assert!(
                    listed
                        .map(|range| (range.first.0, range.last.0))
                        .eq(expected)
                );
                self.token = list.token;
            }
            Operation::Acknowledge => {
                let result = e.acknowledge_damage(self.token);
                self.model.acknowledge();
                if persistent && self.wrote(&result) {
                    self.model.damage_is_durable();
                }
            }
            Operation::Limit(megabytes) => e.set_memory_limit(megabytes).unwrap(),
            Operation::Compact => {
                let result = e.compact();
                assert!(result.is_ok() || self.fails, "{result:?}");
            }
            Operation::Spill => {
                e.cleanup_memory(0);
            }
            Operation::Sync => self.sync(),
            Operation::Disk(fails) => self.disk(fails),
            Operation::Restart => {
                if persistent {
                    self.disk(false);
                    self.sync();
                    self.reopen();
                }
            }
            Operation::Hurt(file, at, how) => self.hurt(file, at, how),
            Operation::Crash => {
                if persistent {
                    // Closing it writes nothing.
                    self.disk(true);
                    self.reopen();
                }
            }
        }
    }
}

fn run(persistent: bool, default: usize) {
    let operations: usize = std::env::var("ENGINE_MODEL_OPERATIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default);
    let length = 3000;
    let mut runner = TestRunner::new(Config {
        cases: (operations / length).max(1) as u32,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    });
    let history = proptest::collection::vec(operation(), length);
    let (done, marks, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    runner
        .run(&history, |history| {
            let dir = tempfile::tempdir().unwrap();
            let mut world = World::new(persistent.then(|| dir.path().join("state")));
            for operation in &history {
                world.check(operation);
                let made = match *operation {
                    Operation::Mark(..) | Operation::Changed(..) => 1,
                    Operation::Burst(_, count, ..) => count,
                    _ => 0,
                };
                marks.fetch_add(made, Relaxed);
            }
            world.check_queries();
            world.check_counts();
            done.fetch_add(history.len() as u64, Relaxed);
            refused.fetch_add(world.refused, Relaxed);
            Ok(())
        })
        .unwrap();
    println!(
        "{} operations with {} marks, {} refused for want of memory (persistent: {persistent}): every answer equal",
        done.into_inner(),
        marks.into_inner(),
        refused.into_inner()
    );
}

#[test]
fn an_engine_in_memory_answers_like_the_model() {
    run(false, 60_000);
}

#[test]
fn an_engine_with_spills_restarts_and_crashes_answers_like_the_model() {
    run(true, 21_000);
}
