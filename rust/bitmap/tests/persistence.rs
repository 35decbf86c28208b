//! What survives: restarts, kill -9, damaged files; and who may open a path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, EngineError, Mark, MarkedAt};
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn config(path: &Path) -> EngineConfig {
    EngineConfig {
        max_memory_mb: 64,
        persistence_path: Some(path.to_path_buf()),
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

#[test]
fn everything_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    {
        let engine = Engine::open(&config(dir.path())).unwrap();
        engine
            .mark(BlockId(1), Mark::Dirty, MarkedAt::new(5, i64::MIN))
            .unwrap();
        engine
            .mark(BlockId(2), Mark::New, MarkedAt::new(6, i64::MAX))
            .unwrap();
        engine
            .mark(BlockId(3), Mark::Deleted, MarkedAt::new(7, 0))
            .unwrap();
        engine
            .mark(BlockId(4), Mark::Dirty, MarkedAt::new(8, 0))
            .unwrap();
        engine.clear(BlockId(4)).unwrap();
    }
    let engine = Engine::open(&config(dir.path())).unwrap();
    assert!(engine.damage().is_empty());
    let first = engine.block(BlockId(1)).unwrap();
    assert_eq!(first.marked, MarkedAt::new(5, i64::MIN));
    let states: Vec<_> = (1..5)
        .map(|id| engine.state(BlockId(id)).unwrap())
        .collect();
    assert_eq!(
        states,
        [
            BlockState::Dirty,
            BlockState::New,
            BlockState::Deleted,
            BlockState::Clean
        ]
    );
    assert_eq!(
        engine.find_by_wal(0..=9, 9).unwrap(),
        [BlockId(1), BlockId(2)]
    );
}

#[test]
fn a_path_has_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(dir.path())).unwrap();
    assert!(matches!(
        Engine::open(&config(dir.path())),
        Err(EngineError::Locked { .. })
    ));
    drop(engine);
    Engine::open(&config(dir.path())).unwrap();
}

/// The working directory is the process's: a process of its own.
#[test]
#[ignore = "run by `a_relative_path_stays_where_it_was`"]
fn relative_path_child() {
    let Ok(dir) = std::env::var("ENGINE_RELATIVE_DIR") else {
        return;
    };
    std::env::set_current_dir(&dir).unwrap();
    let engine = Engine::open(&config(Path::new("some/state"))).unwrap();
    engine
        .mark(BlockId(7), Mark::Dirty, MarkedAt::new(1, 1))
        .unwrap();
    // As a program does that becomes a daemon.
    fs::create_dir_all("other/some/state").unwrap();
    std::env::set_current_dir("other").unwrap();
    engine.sync().unwrap();
}

#[test]
fn a_relative_path_stays_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["relative_path_child", "--exact", "--ignored"])
        .env("ENGINE_RELATIVE_DIR", dir.path())
        .status();
    assert!(status.unwrap().success());
    let engine = Engine::open(&config(&dir.path().join("some/state"))).unwrap();
    assert_eq!(engine.state(BlockId(7)).unwrap(), BlockState::Dirty);
}

#[test]
fn an_unknown_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Engine::open(&config(dir.path())).unwrap());
    for copy in ["MANIFEST", "MANIFEST.copy"] {
        let path = dir.path().join(copy);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("manifest 2 ", "manifest 9 ", 1)).unwrap();
    }
    let refused = Engine::open(&config(dir.path()));
    assert!(
        matches!(refused, Err(EngineError::UnknownFormat { found: 9, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_newer_format_is_refused_whatever_else_its_manifest_holds() {
    for newer in [
        "tdengine-bitmap-manifest 3 sha256 0011223344 pages",
        "tdengine-bitmap-manifest 3",
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(Engine::open(&config(dir.path())).unwrap());
        let text = format!("{newer}\n[\"not what this engine knows\"]");
        for copy in ["MANIFEST", "MANIFEST.copy"] {
            fs::write(dir.path().join(copy), &text).unwrap();
        }
        let refused = Engine::open(&config(dir.path())).err();
        assert!(
            matches!(refused, Some(EngineError::UnknownFormat { found: 3, .. })),
            "{newer}: {refused:?}"
        );
        for copy in ["MANIFEST", "MANIFEST.copy"] {
            let left = fs::read_to_string(dir.path().join(copy)).unwrap();
            assert_eq!(left, text, "what a newer engine wrote stays");
        }
    }
}

/// The child of the crash test: marks and syncs until it is killed, telling what is durable.
#[test]
#[ignore = "run by `acknowledged_marks_survive_kill_9`"]
fn crash_child() {
    let Ok(dir) = std::env::var("ENGINE_CRASH_DIR") else {
        return;
    };
    let first = from_env("ENGINE_CRASH_FIRST", 0);
    let engine = Engine::open(&config(Path::new(&dir))).unwrap();
    for i in first.. {
        let block = BlockId(crash_id(i));
        engine
            .mark(block, Mark::Dirty, MarkedAt::new(i, -(i as i64)))
            .unwrap();
        if i % 5 == 4 {
            engine.clear(BlockId(crash_id(i - 2))).unwrap();
        }
        if i % 97 == 0 {
            engine.sync().unwrap();
            println!("durable {i}");
        }
    }
}

fn crash_id(i: u64) -> u64 {
    (i % 17) << 32 | i
}

#[test]
fn acknowledged_marks_survive_kill_9() {
    let rounds = from_env("ENGINE_CRASH_ROUNDS", 12);
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    let mut durable: Option<u64> = None;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash_child", "--exact", "--ignored", "--nocapture"])
            .env("ENGINE_CRASH_DIR", dir.path())
            .env("ENGINE_CRASH_FIRST", next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 1 + round % 9;
        let mut acknowledged = 0;
        while acknowledged < wanted {
            let Some(Ok(line)) = lines.next() else { break };
            if let Some(at) = line.split("durable ").nth(1) {
                durable = Some(at.trim().parse().unwrap());
                acknowledged += 1;
            }
        }
        // The moment of the kill: anywhere in the work after the acknowledgement.
        std::thread::sleep(std::time::Duration::from_micros(
            round.wrapping_mul(7919) % 4000,
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(at) = line
                .split("durable ")
                .nth(1)
                .and_then(|at| at.trim().parse().ok())
            {
                durable = Some(at);
            }
        }
        let durable = durable.expect("the child acknowledged something");
        let engine = Engine::open(&config(dir.path())).unwrap();
        assert!(engine.damage().is_empty(), "{:?}", engine.damage());
        let last = check_crashed(&engine, durable);
        drop(engine);
        next = last + 1;
    }
}

/// Every acknowledged mark is there, and nothing that was never made. Returns the last mark that is there.
fn check_crashed(engine: &Engine, durable: u64) -> u64 {
    let known = engine.counts().total;
    assert!(known > durable, "{known} blocks, {durable} acknowledged");
    let mut dirty = Vec::new();
    // The marks that survived are a prefix of those that were made.
    for i in 0..known {
        let record = engine.block(BlockId(crash_id(i))).unwrap();
        assert_eq!(record.marked, MarkedAt::new(i, -(i as i64)));
        let may_be_cleared = i % 5 == 2;
        let must_be_cleared = may_be_cleared && i + 2 <= durable;
        match record.state {
            BlockState::Dirty => assert!(!must_be_cleared, "the clear of {i} is lost"),
            BlockState::Clean => assert!(may_be_cleared, "{i} was never cleared"),
            other => panic!("{i} is {other}"),
        }
        if record.state == BlockState::Dirty {
            dirty.push(record.block);
        }
    }
    assert_eq!(engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap(), dirty);
    dirty.reverse();
    assert_eq!(
        engine
            .find_by_time(i64::MIN..=i64::MAX, usize::MAX)
            .unwrap(),
        dirty
    );
    known - 1
}

/// A directory with several runs per tree, and its dirty blocks.
fn sample(dir: &Path) -> Vec<BlockId> {
    let engine = Engine::open(&config(dir)).unwrap();
    for i in 0..3000u64 {
        engine
            .mark(BlockId(i * 3), Mark::Dirty, MarkedAt::new(i, i as i64))
            .unwrap();
    }
    engine.sync().unwrap();
    for i in 0..500u64 {
        engine
            .mark(
                BlockId(i * 9),
                Mark::Dirty,
                MarkedAt::new(5000 + i, i as i64),
            )
            .unwrap();
        engine.clear(BlockId(i * 9 + 3)).unwrap();
    }
    engine.sync().unwrap();
    engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| !path.ends_with("LOCK")).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in files(from) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Every file of a run is named by the manifest.
fn check_nothing_left(dir: &Path) {
    let manifest = fs::read_to_string(dir.join("MANIFEST")).unwrap();
    for path in files(dir) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(serial) = name.strip_prefix("run-") {
            let serial = u64::from_str_radix(serial, 16).unwrap();
            let is_named = manifest.contains(&format!("\"serial\":{serial},"));
            assert!(is_named, "{name} is named by no manifest");
        }
    }
}

/// After damage: it is reported or repaired, and no dirty block passes for clean.
fn check_damaged(dir: &Path, dirty: &[BlockId], what: &str) {
    let engine = Engine::open(&config(dir)).unwrap_or_else(|error| panic!("{what}: {error}"));
    check_nothing_left(dir);
    let damage = engine.damage();
    assert!(
        damage.is_empty() || !what.contains("MANIFEST"),
        "{what}: a damaged copy of the manifest costs {damage:?}"
    );
    let whole = damage
        .iter()
        .any(|range| range.first.0 == 0 && range.last.0 == u64::MAX);
    let found: HashSet<_> = engine
        .find_by_wal(0..=u64::MAX, usize::MAX)
        .unwrap()
        .into_iter()
        .collect();
    let by_time: HashSet<_> = engine
        .find_by_time(i64::MIN..=i64::MAX, usize::MAX)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(found, by_time, "{what}");
    for &block in dirty {
        assert_eq!(
            engine.state(block).unwrap(),
            BlockState::Dirty,
            "{what}: {block}"
        );
        assert!(
            whole || found.contains(&block),
            "{what}: {block} is not found"
        );
    }
    for block in found {
        let in_damage = damage.iter().any(|range| range.contains(block));
        assert!(
            in_damage || dirty.contains(&block),
            "{what}: {block} is invented"
        );
    }
    for range in damage.iter().filter(|range| range.last.0 < u64::MAX) {
        assert_eq!(
            engine.state(range.first).unwrap(),
            BlockState::Dirty,
            "{what}"
        );
        assert_eq!(
            engine.state(range.last).unwrap(),
            BlockState::Dirty,
            "{what}"
        );
    }
    let list = engine.list_damage(usize::MAX);
    engine.acknowledge_damage(list.token).unwrap();
    drop(engine);
    assert!(
        Engine::open(&config(dir)).unwrap().damage().is_empty(),
        "{what}: reported again"
    );
}

#[test]
fn a_flipped_byte_in_any_file_is_found_and_hides_nothing() {
    let step = from_env("ENGINE_FLIP_STEP", 29) as usize;
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let dirty = sample(&original);
    let mut reported = 0;
    for (number, file) in files(&original).iter().enumerate() {
        let size = fs::metadata(file).unwrap().len() as usize;
        for at in (number..size).step_by(step).chain([size - 1]) {
            let damaged = dir.path().join("damaged");
            let _ = fs::remove_dir_all(&damaged);
            copy(&original, &damaged);
            let path = damaged.join(file.file_name().unwrap());
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            check_damaged(&damaged, &dirty, &format!("{} byte {at}", path.display()));
            reported += 1;
        }
    }
    assert!(reported > 50, "only {reported} flips were tried");
}

#[test]
fn a_cut_or_missing_file_is_found_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let dirty = sample(&original);
    for file in files(&original) {
        let size = fs::metadata(&file).unwrap().len();
        for keep in [
            None,
            Some(0),
            Some(7),
            Some(60),
            Some(size / 2),
            Some(size - 1),
        ] {
            let damaged = dir.path().join("damaged");
            let _ = fs::remove_dir_all(&damaged);
            copy(&original, &damaged);
            let path = damaged.join(file.file_name().unwrap());
            match keep {
                None => fs::remove_file(&path).unwrap(),
                Some(keep) => fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(keep)
                    .unwrap(),
            }
            check_damaged(
                &damaged,
                &dirty,
                &format!("{} cut to {keep:?}", path.display()),
            );
        }
    }
}

#[test]
fn without_both_manifests_everything_is_dirty() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    for copy in ["MANIFEST", "MANIFEST.copy"] {
        fs::write(dir.path().join(copy), "torn").unwrap();
    }
    let engine = Engine::open(&config(dir.path())).unwrap();
    let damage = engine.damage();
    assert_eq!((damage[0].first.0, damage[0].last.0), (0, u64::MAX));
    assert_eq!(engine.state(BlockId(1 << 40)).unwrap(), BlockState::Dirty);
}

#[test]
fn what_damage_left_is_read_back_under_a_limit_that_it_exceeds() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = 60_000u64;
    let id = |i: u64| BlockId(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let engine = Engine::open(&config(dir.path())).unwrap();
    for i in 0..blocks {
        let marked = MarkedAt::new(id(i * 7).0, id(i * 3).0 as i64);
        engine.mark(id(i), Mark::Dirty, marked).unwrap();
    }
    drop(engine);
    // The last chunk of every run: what is before it is intact, and more than the engine may hold.
    for file in files(dir.path()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with("run-") {
            let file = fs::File::options().write(true).open(&file).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }
    }
    let small = EngineConfig {
        max_memory_mb: 1,
        ..config(dir.path())
    };
    let engine = Engine::open(&small).unwrap();
    assert!(!engine.damage().is_empty());
    let check = |engine: &Engine| {
        for i in 0..blocks {
            assert_eq!(engine.state(id(i)).unwrap(), BlockState::Dirty, "{i}");
        }
        let found = engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
        assert!(found.len() as u64 <= blocks && found.len() as u64 > blocks * 9 / 10);
    };
    check(&engine);
    let known = engine.counts().total;
    drop(engine);
    let engine = Engine::open(&small).unwrap();
    assert!(!engine.damage().is_empty());
    assert_eq!(engine.counts().total, known);
    check(&engine);
}

#[test]
fn numbers_no_engine_writes_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let nested = dir.path().join("made/on/the/way");
    let dirty = sample(&nested);
    // A file may be as long as its header says and hold nothing.
    let run = files(&nested);
    let run = run
        .iter()
        .find(|path| path.to_str().unwrap().contains("run-"));
    let run = fs::File::options().write(true).open(run.unwrap()).unwrap();
    let chunks = 1u64 << 32;
    run.write_all_at(&chunks.to_le_bytes(), 32).unwrap();
    run.set_len(chunks * 24 + 4096).unwrap();
    check_damaged(&nested, &dirty, "a sparse run");

    let manifest = fs::read_to_string(nested.join("MANIFEST")).unwrap();
    let (_, json) = manifest.split_once('\n').unwrap();
    for number in ["generation", "next_serial"] {
        let (before, after) = json.split_once(&format!("\"{number}\":")).unwrap();
        let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let json = format!("{before}\"{number}\":{}{after}", u64::MAX);
        let crc = crc32c::crc32c(json.as_bytes());
        for copy in ["MANIFEST", "MANIFEST.copy"] {
            let text = format!("tdengine-bitmap-manifest 2 {crc:08x}\n{json}");
            fs::write(nested.join(copy), text).unwrap();
        }
        let engine = Engine::open(&config(&nested)).unwrap();
        let damage = engine.damage();
        assert_eq!((damage[0].first.0, damage[0].last.0), (0, u64::MAX));
        engine
            .mark(BlockId(1), Mark::Dirty, MarkedAt::new(1, 1))
            .unwrap();
        engine.sync().unwrap();
    }
}

#[test]
fn what_a_crash_left_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let leftovers = [
        "run-00000000000000ff",
        "run-00000000000000fe.tmp",
        "MANIFEST.tmp",
        "states.tmp",
    ];
    let others = ["run-backup.sh", "run-2026-11-21.log", "notes.tmp"];
    // Theirs are no sign of an engine, either.
    for name in others {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let engine = Engine::open(&config(dir.path())).unwrap();
    assert!(engine.damage().is_empty(), "{:?}", engine.damage());
    drop(engine);
    for name in leftovers {
        fs::write(dir.path().join(name), name).unwrap();
    }
    drop(Engine::open(&config(dir.path())).unwrap());
    for name in leftovers {
        assert!(!dir.path().join(name).exists(), "{name} is still there");
    }
    for name in others {
        assert!(dir.path().join(name).exists(), "{name} is gone");
    }
}

#[test]
fn a_manifest_that_fell_behind_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, copy) = (
        dir.path().join("MANIFEST"),
        dir.path().join("MANIFEST.copy"),
    );
    for behind in [&first, &copy] {
        let old = fs::read(behind).ok();
        let block = BlockId(behind.as_os_str().len() as u64);
        let engine = Engine::open(&config(dir.path())).unwrap();
        engine
            .mark(block, Mark::Dirty, MarkedAt::new(1, 1))
            .unwrap();
        drop(engine);
        // As a crash between the two would leave it.
        fs::write(behind, old.unwrap_or_default()).unwrap();
        let engine = Engine::open(&config(dir.path())).unwrap();
        assert_eq!(engine.state(block).unwrap(), BlockState::Dirty);
        drop(engine);
        assert_eq!(fs::read(&first).unwrap(), fs::read(&copy).unwrap());
    }
}

#[test]
fn a_range_marked_as_a_whole_is_dirty_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (state, crashed) = (dir.path().join("state"), dir.path().join("crashed"));
    let engine = Engine::open(&config(&state)).unwrap();
    let at = |wal| MarkedAt::new(wal, wal as i64);
    for block in 0..100 {
        engine.mark(BlockId(block), Mark::Dirty, at(1)).unwrap();
        engine.clear(BlockId(block)).unwrap();
    }
    engine.sync().unwrap();
    engine
        .mark_range(BlockId(10), BlockId(19), at(7), "a test")
        .unwrap();
    // What is on disk when the call has returned.
    copy(&state, &crashed);
    let engine = Engine::open(&config(&crashed)).unwrap();
    let range: Vec<_> = (10..20).map(BlockId).collect();
    assert_eq!(engine.damage().len(), 1);
    assert_eq!(engine.find_by_wal(7..=7, 100).unwrap(), range);
    assert_eq!(engine.counts().dirty, 10);
}

#[test]
fn a_range_that_memory_was_short_for_is_on_disk_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(dir.path())).unwrap();
    let at = |wal| MarkedAt::new(wal, wal as i64);
    for block in 0..100_000 {
        engine
            .mark(BlockId(block << 32), Mark::Dirty, at(block))
            .unwrap();
    }
    engine.sync().unwrap();
    // An open cursor keeps what each mark changes, and that can't go to disk.
    let _cursor = engine.scan_by_wal(0..=u64::MAX).unwrap();
    engine.set_memory_limit(1).unwrap();
    let full = (0..100_000).any(|i| engine.mark(BlockId(i << 32), Mark::Dirty, at(i)).is_err());
    assert!(full);
    engine.compact().unwrap();
    let refused = engine.mark_range(BlockId(0), BlockId(u64::MAX), at(7), "a test");
    assert!(
        matches!(refused, Err(EngineError::MemoryFull { .. })),
        "{refused:?}"
    );
    let manifest = fs::read_to_string(dir.path().join("MANIFEST")).unwrap();
    assert!(manifest.contains("a test"), "the range is not on disk");
}

#[test]
fn damage_that_may_be_of_every_block_is_repaired_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = 200_000u64;
    let id = |i: u64| BlockId(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let config = |max_memory_mb| EngineConfig {
        max_memory_mb,
        persistence_path: Some(dir.path().into()),
    };
    let engine = Engine::open(&config(64)).unwrap();
    for i in 0..blocks {
        let marked = MarkedAt::new(i, -(i as i64));
        engine.mark(id(i), Mark::Dirty, marked).unwrap();
        engine.clear(id(i)).unwrap();
    }
    engine.compact().unwrap();
    engine.sync().unwrap();
    let before = files(dir.path());
    // A few marks all over the id space, in a run of their own: any block may have been among them.
    let again = |i| MarkedAt::new(blocks + i, i as i64);
    for i in 0..1000 {
        engine.mark(id(i * 7), Mark::Dirty, again(i)).unwrap();
    }
    drop(engine);
    let is_records = |path: &PathBuf| fs::read(path).unwrap().get(12) == Some(&0);
    let after = files(dir.path()).into_iter();
    let new = after.filter(|path| path.to_str().unwrap().contains("run-"));
    let records: Vec<_> = new
        .filter(|path| !before.contains(path) && is_records(path))
        .collect();
    assert_eq!(records.len(), 1, "{records:?}");
    fs::write(&records[0], "torn").unwrap();

    let engine = Engine::open(&config(6)).unwrap();
    let usage = engine.memory();
    assert!(usage.peak <= usage.limit, "{usage:?}");
    let damage = engine.damage();
    assert_eq!(damage.len(), 1);
    // The index still knows where the lost ones were marked.
    let found = engine.find_by_wal(blocks..=u64::MAX, usize::MAX).unwrap();
    assert!(found.into_iter().eq((0..1000).map(|i| id(i * 7))));
    for i in 0..blocks {
        let block = engine.block(id(i));
        match block {
            Ok(block) if damage[0].contains(id(i)) => {
                assert_eq!(block.state, BlockState::Dirty, "{i}");
                let marked = if i % 7 == 0 && i < 7000 {
                    again(i / 7)
                } else {
                    MarkedAt::new(i, -(i as i64))
                };
                assert_eq!(block.marked.wal, marked.wal, "{i}");
                assert!(block.marked.time >= marked.time, "{i}");
            }
            Ok(block) => assert_eq!(block.state, BlockState::Clean, "{i}"),
            Err(error) => panic!("{i}: {error}"),
        }
    }
    check_nothing_left(dir.path());
}
