//! A disk that is full, or refuses to write: the documented error, nothing lost, no lie about what is durable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::{BlockId, BlockState, Engine, EngineConfig, EngineError, Mark, MarkedAt};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn config(path: &Path) -> EngineConfig {
    EngineConfig {
        max_memory_mb: 4,
        persistence_path: Some(path.to_path_buf()),
    }
}

fn id(i: u64) -> BlockId {
    BlockId(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Marks block after block and syncs every 500, until something is refused. Returns how many marks were made, how
/// many of them were reported as durable, and what was refused.
fn mark_until_refused(engine: &Engine) -> (u64, u64, EngineError) {
    let mut durable = 0;
    for i in 0..2_000_000 {
        let marked = MarkedAt::new(i, -(i as i64));
        if let Err(error) = engine.mark(id(i), Mark::Dirty, marked) {
            return (i, durable, error);
        }
        if i % 500 == 499 {
            match engine.sync() {
                Ok(()) => durable = i + 1,
                Err(error) => return (i + 1, durable, error),
            }
        }
    }
    panic!("the disk never was full");
}

/// Marks and syncs on while `filler` takes whatever is free, until a sync is refused. Returns how many marks there are.
fn mark_with_nothing_free(engine: &Engine, mut marks: u64, filler: &Path) -> u64 {
    let mut file = fs::File::create(filler).unwrap();
    for _ in 0..100_000 {
        while file.write_all(&[1; 4096]).is_ok() {}
        let marked = MarkedAt::new(marks, -(marks as i64));
        marks += u64::from(engine.mark(id(marks), Mark::Dirty, marked).is_ok());
        if engine.sync().is_err() {
            return marks;
        }
    }
    panic!("a sync that needs space never was refused");
}

/// Syncs until nothing is refused: a merge in the background may still have been, and is reported by the next sync.
fn sync_at_last(engine: &Engine) {
    let mut refused = None;
    for _ in 0..100 {
        match engine.sync() {
            Ok(()) => return,
            Err(error) => refused = Some(error),
        }
    }
    panic!("{refused:?}");
}

/// All of the first `marks` blocks are there, and nothing else.
fn check_all(engine: &Engine, marks: u64) {
    assert!(engine.damage().is_empty(), "{:?}", engine.damage());
    assert_eq!(engine.counts().dirty, marks);
    for i in 0..marks {
        assert_eq!(engine.state(id(i)).unwrap(), BlockState::Dirty, "{i}");
    }
    let found = engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
    assert!(found.into_iter().eq((0..marks).map(id)));
}

/// Every file of a run is named by the manifest, and none is unfinished.
fn check_nothing_left(dir: &Path) {
    let manifest = fs::read_to_string(dir.join("MANIFEST")).unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(serial) = name.strip_prefix("run-") else {
            assert!(!name.ends_with(".tmp"), "{name} was left behind");
            continue;
        };
        let serial = u64::from_str_radix(serial, 16);
        let serial = serial.unwrap_or_else(|_| panic!("{name} was left behind"));
        let is_named = manifest.contains(&format!("\"serial\":{serial},"));
        assert!(is_named, "{name} is named by no manifest");
    }
}

fn is_documented(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Io { .. } | EngineError::MemoryFull { .. }
    )
}

/// May a process of this user have mounts of its own? In a container, or where the system says so, it may not.
fn may_mount() -> bool {
    let allowed = Command::new("unshare").args(["-rm", "true"]).output();
    allowed.is_ok_and(|tried| tried.status.success())
}

/// Runs `script` in a shell that `shell` starts, in which `"$0" "$@"` is the test `child` of this program. `None` if it
/// could not do its part.
fn run_child(child: &str, dir: &Path, shell: &[&str], script: &str) -> Option<bool> {
    let (program, before) = shell.split_first()?;
    let mut shell = Command::new(program);
    shell.args(before).args(["-c", script]);
    shell.arg(std::env::current_exe().unwrap());
    shell.args([child, "--exact", "--ignored", "--nocapture"]);
    shell.env("ENGINE_FAULT_DIR", dir);
    let status = shell.status().ok()?;
    // 77 is what the script says if it can't do its part.
    (status.code() != Some(77)).then(|| status.success())
}

/// No file may be longer than 256 KiB: a write beyond that fails.
const SHORT_FILES: &str = "trap '' XFSZ; ulimit -f 512 || exit 77; exec \"$0\" \"$@\"";

fn fault_dir() -> Option<PathBuf> {
    std::env::var_os("ENGINE_FAULT_DIR").map(PathBuf::from)
}

#[test]
#[ignore = "run by `a_full_disk_loses_nothing`"]
fn full_disk_child() {
    let Some(dir) = fault_dir() else { return };
    let [ballast, more_ballast] = ["ballast", "more-ballast"].map(|name| dir.join(name));
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    fs::write(&more_ballast, vec![1; 1 << 18]).unwrap();
    let path = dir.join("state");
    let engine = Engine::open(&config(&path)).unwrap();
    let (marks, durable, error) = mark_until_refused(&engine);
    assert!(is_documented(&error), "{error}");
    assert!(durable > 0 && marks >= durable);
    // What failed may have been a merge in the background, whose space is free again. Once there is none, it is
    // said again, and everything is still known.
    let filler = dir.join("filler");
    let marks = mark_with_nothing_free(&engine, marks, &filler);
    check_all(&engine, marks);
    // With space again, the same engine goes on and everything becomes durable.
    fs::remove_file(&filler).unwrap();
    fs::remove_file(&ballast).unwrap();
    sync_at_last(&engine);
    check_all(&engine, marks);
    drop(engine);
    let engine = Engine::open(&config(&path)).unwrap();
    check_all(&engine, marks);
    // Once more, but closed while the disk is full: what was reported as durable is there.
    let (more, durable, error) = mark_until_refused(&engine);
    assert!(is_documented(&error), "{error}");
    drop(engine);
    // An engine that cannot be opened for want of space is not harmed by the attempt.
    if let Err(error) = Engine::open(&config(&path)) {
        assert!(is_documented(&error), "{error}");
    }
    fs::remove_file(&more_ballast).unwrap();
    let engine = Engine::open(&config(&path)).unwrap();
    let known = engine.counts().dirty;
    assert!((durable..=more.max(marks)).contains(&known) && known >= marks);
    println!("full disk: {marks} marks kept, then {durable} of {more} durable and {known} kept");
}

#[test]
fn a_full_disk_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=6m tmpfs \"$ENGINE_FAULT_DIR\" || exit 77; exec \"$0\" \"$@\"";
    let shell = ["unshare", "-rm", "sh"];
    let passed = may_mount().then(|| run_child("full_disk_child", dir.path(), &shell, script));
    match passed.flatten() {
        Some(passed) => assert!(passed),
        None => println!("skipped: no small file system can be mounted here"),
    }
}

#[test]
#[ignore = "run by `a_write_that_fails_is_reported_and_loses_nothing`"]
fn failing_writes_child() {
    let Some(dir) = fault_dir() else { return };
    let engine = Engine::open(&config(&dir)).unwrap();
    let (marks, mut durable, error) = mark_until_refused(&engine);
    assert!(is_documented(&error), "{error}");
    // What failed may have been a merge in the background: the marks themselves may still fit.
    if engine.sync().is_ok() {
        durable = marks;
    }
    for i in 0..marks {
        assert_eq!(engine.state(id(i)).unwrap(), BlockState::Dirty, "{i}");
    }
    fs::write(dir.join("acknowledged"), durable.to_string()).unwrap();
}

#[test]
fn a_write_that_fails_is_reported_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    match run_child("failing_writes_child", dir.path(), &["sh"], SHORT_FILES) {
        Some(passed) => assert!(passed),
        None => {
            println!("skipped: no process with limits can be started here");
            return;
        }
    }
    let durable = fs::read_to_string(dir.path().join("acknowledged")).unwrap();
    let durable: u64 = durable.parse().unwrap();
    assert!(durable > 0);
    let engine = Engine::open(&config(dir.path())).unwrap();
    let known = engine.counts().dirty;
    assert!(known >= durable, "{known} of {durable}");
    check_all(&engine, known);
    println!("failing writes: {durable} acknowledged, {known} kept");
}

#[test]
#[ignore = "run by `a_merge_that_fails_leaves_nothing_behind`"]
fn failing_merges_child() {
    let Some(dir) = fault_dir() else { return };
    let engine = Engine::open(&EngineConfig {
        max_memory_mb: 16,
        persistence_path: Some(dir.clone()),
    })
    .unwrap();
    // Positions in no order: every index entry is part of merges. States are small and stay in memory.
    let marks = 100_000;
    for i in 0..marks {
        let marked = MarkedAt::new(id(i).0, id(i * 3).0 as i64);
        engine.mark(BlockId(i), Mark::Dirty, marked).unwrap();
    }
    let refused = engine.compact();
    assert!(
        matches!(refused, Err(EngineError::Io { .. })),
        "{refused:?}"
    );
    assert_eq!(engine.counts().dirty, marks);
    drop(engine);
    check_nothing_left(&dir);
}

#[test]
fn a_merge_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    match run_child("failing_merges_child", dir.path(), &["sh"], SHORT_FILES) {
        Some(passed) => assert!(passed),
        None => println!("skipped: no process with limits can be started here"),
    }
}

#[test]
#[ignore = "run by `more_runs_than_a_process_may_open_are_read_and_merged`"]
fn few_open_files_child() {
    let Some(dir) = fault_dir() else { return };
    let config = EngineConfig {
        max_memory_mb: 1,
        persistence_path: Some(dir.clone()),
    };
    let marks = 600_000;
    let at = |i: u64| MarkedAt::new(2 * i + (id(i).0 >> 63), (id(i).0 >> 20) as i64);
    let all = || (0..marks).map(BlockId);
    let engine = Engine::open(&config).unwrap();
    for i in 0..marks {
        engine.mark(BlockId(i), Mark::Dirty, at(i)).unwrap();
    }
    engine.compact().unwrap();
    engine.sync().unwrap();
    let runs = fs::read_dir(&dir).unwrap().count();
    assert!(runs > 350, "{runs} files are few");
    let find = |engine: &Engine| engine.find_by_wal(0..=u64::MAX, usize::MAX).unwrap();
    assert!(find(&engine).into_iter().eq(all()));
    // A cursor reads on in runs that are joined and removed meanwhile: more memory makes larger ones.
    engine.set_memory_limit(64).unwrap();
    let mut cursor = engine.scan_by_wal(0..=u64::MAX).unwrap();
    for i in (0..marks).step_by(3) {
        engine.clear(BlockId(i)).unwrap();
    }
    engine.compact().unwrap();
    engine.sync().unwrap();
    let mut found = Vec::new();
    while found.len() < marks as usize {
        found.extend(cursor.next_page(10_000).unwrap());
    }
    assert!(found.into_iter().eq(all()));
    drop(cursor);
    engine.sync().unwrap();
    check_nothing_left(&dir);
    drop(engine);
    let engine = Engine::open(&config).unwrap();
    assert!(engine.damage().is_empty());
    assert!(
        find(&engine)
            .into_iter()
            .eq(all().filter(|block| !block.0.is_multiple_of(3)))
    );
}

#[test]
fn more_runs_than_a_process_may_open_are_read_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let script = "ulimit -n 340 || exit 77; exec \"$0\" \"$@\"";
    match run_child("few_open_files_child", dir.path(), &["sh"], script) {
        Some(passed) => assert!(passed),
        None => println!("skipped: no process with limits can be started here"),
    }
}

#[test]
fn a_run_cut_under_a_running_engine_is_an_error_not_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(dir.path())).unwrap();
    for i in 0..20_000 {
        let marked = MarkedAt::new(i, i as i64);
        engine.mark(id(i), Mark::Dirty, marked).unwrap();
    }
    engine.compact().unwrap();
    engine.sync().unwrap();
    engine.cleanup_memory(0);
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("run-")
        {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }
    }
    let refused = engine.find_by_wal(0..=u64::MAX, usize::MAX);
    assert!(
        matches!(
            refused,
            Err(EngineError::Io { .. } | EngineError::Damaged { .. })
        ),
        "{refused:?}"
    );
    // Nor is it the end of what a cursor finds.
    let mut cursor = engine.scan_by_wal(0..=u64::MAX).unwrap();
    while let Ok(page) = cursor.next_page(100) {
        assert!(!page.is_empty(), "the cursor ended");
    }
    for _ in 0..3 {
        let again = cursor.next_page(100);
        assert!(matches!(again, Err(EngineError::CursorFailed)), "{again:?}");
    }
    drop(cursor);
    // States are elsewhere.
    assert_eq!(engine.state(id(5)).unwrap(), BlockState::Dirty);
    drop(engine);
    let engine = Engine::open(&config(dir.path())).unwrap();
    assert!(!engine.damage().is_empty());
    for i in 0..20_000 {
        assert_eq!(engine.state(id(i)).unwrap(), BlockState::Dirty, "{i}");
    }
}

#[test]
fn what_only_a_failed_sync_wrote_is_removed_once_it_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(dir.path())).unwrap();
    // No manifest can be written while this is in its way.
    let in_the_way = dir.path().join("MANIFEST.tmp");
    fs::create_dir(&in_the_way).unwrap();
    for i in 0..200 {
        let marked = MarkedAt::new(id(i).0, i as i64);
        engine.mark(id(i), Mark::Dirty, marked).unwrap();
        let refused = engine.sync();
        assert!(
            matches!(refused, Err(EngineError::Io { .. })),
            "{refused:?}"
        );
    }
    let _ = engine.compact();
    fs::remove_dir(&in_the_way).unwrap();
    engine.compact().unwrap();
    sync_at_last(&engine);
    assert_eq!(engine.counts().dirty, 200);
    check_nothing_left(dir.path());
}
