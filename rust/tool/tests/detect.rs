//! `incremental_bitmap_tool --detect` as an operator uses it, with wrong input too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use predicates::prelude::*;
use recorded::data_dir;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn tool() -> Command {
    let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
    command.arg("--detect");
    command
}

fn on(dir: &Path) -> Command {
    let mut command = tool();
    command.arg("--data-dir").arg(dir);
    command
}

/// A copy of recorded data that a test may damage.
fn copy(state: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&data_dir(state), dir.path());
    dir
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn vnode2(dir: &TempDir, file: &str) -> PathBuf {
    dir.path().join("vnode/vnode2").join(file)
}

#[test]
fn a_chain_of_runs_goes_on_from_checkpoint_to_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, output) = (dir.path().join("db.ckpt"), dir.path().join("changes.json"));
    on(&data_dir("base"))
        .args(["--database", "sdb", "--since-version", "-1", "--checkpoint"])
        .arg(&checkpoint)
        .assert()
        .success();
    on(&data_dir("incr_flushed"))
        .args(["--database", "sdb", "--since"])
        .arg(&checkpoint)
        .arg("--output")
        .arg(&output)
        .assert()
        .success()
        .stdout(predicate::str::contains(
            "1810 rows in 20 tables (2 new, 17 dirty, 1 deleted)",
        ))
        .stderr("");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["vnodes"][0]["complete"], true);
    assert_eq!(json["tables"].as_array().unwrap().len(), 20);
    let rows: u64 = json["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(rows, 1_810);
}

#[test]
fn dropped_tables_that_may_be_missing_make_it_incomplete() {
    // What came before version 15 is not in the log any more: rows are found without it, drops are not.
    let dir = copy("incr_flushed");
    fs::remove_file(vnode2(&dir, "wal/00000000000000000000.log")).unwrap();
    let output = on(dir.path())
        .args(["--since-version", "3", "--vgroup", "2", "--json"])
        .assert()
        .code(3)
        .stderr("")
        .get_output()
        .clone();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["vnodes"][0]["complete"], true, "every row is named");
    assert_eq!(json["super_tables_dropped"], false);
    on(dir.path())
        .args(["--since-version", "3", "--vgroup", "2"])
        .assert()
        .code(3)
        .stdout(predicate::str::contains("dropped tables may be missing"));
    // There was nothing to drop before the beginning.
    on(dir.path())
        .args(["--since-version", "-1", "--vgroup", "2"])
        .assert()
        .code(0);
}

#[test]
fn json_goes_to_standard_output_alone() {
    let output = on(&data_dir("incr_wal"))
        .args([
            "--since-version",
            "25",
            "--source",
            "wal",
            "--vgroup",
            "3",
            "--json",
        ])
        .assert()
        .success()
        .stderr("")
        .get_output()
        .clone();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["vnodes"].as_array().unwrap().len(), 1);
    assert_eq!(json["vnodes"][0]["source"], "wal");
    assert_eq!(json["vnodes"][0]["to_version"], "38");
}

#[test]
fn a_time_between_base_and_the_changes_finds_the_changes() {
    // The second log segment was closed when base was flushed, at 1795242061 s.
    for time in ["1795242100", "2026-11-21T06:21:40Z"] {
        on(&data_dir("incr_wal"))
            .args(["--since", time])
            .assert()
            .success()
            .stdout(predicate::str::contains("1810 rows"));
    }
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    let base = data_dir("base");
    for (arguments, says) in [
        (&["--since-version", "-2"][..], "versions begin at 0"),
        (&["--since-version", "x"], "invalid value"),
        (
            &["--since-version", "1", "--since", "2"],
            "cannot be used with",
        ),
        (&[], "--since"),
        (
            &["--since", "2026-13-40T00:00:00Z"],
            "neither epoch seconds nor RFC 3339",
        ),
        (&["--since", "-5"], "unexpected argument"),
        (
            &["--since-version", "1", "--window", "0"],
            "positive number of ticks",
        ),
        (
            &["--since-version", "1", "--source", "tmq"],
            "possible values: auto, tsdb, wal",
        ),
        (
            &["--since-version", "1", "--unknown"],
            "unexpected argument",
        ),
    ] {
        on(&base)
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(predicate::str::contains(says));
    }
    tool()
        .args(["--since-version", "1"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("--data-dir"));
}

/// Runs the tool on bad input: exit code 1, the given words, no output and no files.
fn fails(mut command: Command, says: &str) {
    let dir = tempfile::tempdir().unwrap();
    command
        .arg("--output")
        .arg(dir.path().join("o"))
        .arg("--checkpoint")
        .arg(dir.path().join("c"))
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains(says));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing was written"
    );
}

fn since(dir: &Path, version: &str) -> Command {
    let mut command = on(dir);
    command.args(["--since-version", version]);
    command
}

#[test]
fn directories_that_hold_no_vnodes_are_named() {
    fails(
        since(Path::new("/no/such/dir"), "1"),
        "/no/such/dir: no such directory",
    );
    let empty = tempfile::tempdir().unwrap();
    fails(since(empty.path(), "1"), "no vnode directory in it");
    fails(
        since(&data_dir("base/vnode/vnode2/vnode.json"), "1"),
        "not a directory",
    );
    fs::create_dir_all(empty.path().join("vnode/vnode7/tsdb")).unwrap();
    fails(since(empty.path(), "1"), "vnode7: no vnode.json");
}

#[test]
fn a_database_or_vgroup_that_is_not_there_is_answered_with_what_is() {
    let mut command = since(&data_dir("base"), "1");
    command.args(["--database", "other"]);
    fails(
        command,
        "database \"other\" is not in the given data directories; they hold database sdb",
    );
    let mut command = since(&data_dir("base"), "1");
    command.args(["--vgroup", "9"]);
    fails(command, "vgroup 9 is not in the given data directories");
}

#[test]
fn the_same_vnode_twice_is_refused() {
    let mut command = since(&data_dir("base"), "1");
    command.arg("--data-dir").arg(data_dir("incr_wal"));
    fails(command, "are the same vnode");
}

#[test]
fn a_start_in_the_future_is_refused() {
    fails(since(&data_dir("incr_wal"), "40"), "the newest version in");
    let mut command = on(&data_dir("incr_wal"));
    command.args(["--since", "99999999999"]);
    fails(command, "the start is in the future");
}

#[test]
fn a_time_before_the_log_begins_is_refused_with_the_reason() {
    let dir = copy("incr_wal");
    fs::remove_file(vnode2(&dir, "wal/00000000000000000000.log")).unwrap();
    let mut command = on(dir.path());
    command.args(["--since", "1000"]);
    fails(
        command,
        "begins at version 15, ingested after the given time",
    );
}

#[test]
fn a_time_is_not_resolved_across_a_hole_in_the_log() {
    let dir = copy("incr_wal");
    let log = vnode2(&dir, "wal/00000000000000000000.log");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() / 2]).unwrap();
    // The time of the flush, which lies in the next segment: only what precedes the hole is known to be older.
    let run = on(dir.path())
        .args(["--since", "1795242061", "--vgroup", "2", "--json"])
        .assert()
        .get_output()
        .clone();
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let from: i64 = json["vnodes"][0]["from_version"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(from < 14, "{from}");
}

#[test]
fn damaged_files_are_named_with_the_offset() {
    for (file, says) in [
        ("tsdb/v2f1972ver4.stt", "fails its checksum"),
        ("vnode.json", "vnode.json is damaged at offset"),
        ("tsdb/current.json", "current.json is damaged at offset"),
    ] {
        let dir = copy("incr_flushed");
        let path = vnode2(&dir, file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[600] ^= 0x80;
        fs::write(&path, bytes).unwrap();
        fails(since(dir.path(), "25"), says);
        fails(since(dir.path(), "25"), path.to_str().unwrap());
    }
    let dir = copy("incr_flushed");
    let path = vnode2(&dir, "tsdb/v2f1972ver4.stt");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 4096]).unwrap();
    fails(since(dir.path(), "25"), "too few for its");
}

#[test]
fn a_damaged_log_record_in_the_tail_ends_the_run_incomplete() {
    let dir = copy("incr_wal");
    let path = vnode2(&dir, "wal/00000000000000000026.log");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    since(dir.path(), "25")
        .assert()
        .code(3)
        .stdout(predicate::str::contains("checksum is wrong"));
}

#[test]
fn a_checkpoint_that_is_missing_damaged_or_of_another_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ckpt");
    let from = |path: &Path, state: &str| {
        let mut command = on(&data_dir(state));
        command.arg("--since").arg(path);
        command
    };
    fails(from(&path, "base"), "No such file");
    on(&data_dir("base"))
        .args(["--since-version", "-1", "--checkpoint"])
        .arg(&path)
        .assert()
        .success();
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    fails(from(&path, "incr_wal"), "is no usable checkpoint");

    fs::write(&path, &good).unwrap();
    let renamed = copy("base");
    for vnode in ["vnode2", "vnode3"] {
        let json = renamed.path().join("vnode").join(vnode).join("vnode.json");
        let text = fs::read_to_string(&json).unwrap();
        fs::write(&json, text.replace("1.sdb", "1.other")).unwrap();
    }
    let mut command = on(renamed.path());
    command.arg("--since").arg(&path);
    fails(
        command,
        "is a checkpoint of database \"sdb\", not of \"other\"",
    );
}

#[test]
fn files_that_may_not_be_read_are_named_with_a_hint() {
    use std::{os::unix::process::CommandExt, process};
    let dir = copy("base");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = vnode2(&dir, "vnode.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let tool = assert_cmd::cargo::cargo_bin("incremental_bitmap_tool");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = process::Command::new(&tool);
    if fs::read(&path).is_ok() {
        // The test runs as root, which may read everything; the tool must not. Others may not reach it where it is.
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let reachable = elsewhere.path().join("tool");
        let linked = fs::hard_link(&tool, &reachable);
        linked
            .or_else(|_| fs::copy(&tool, &reachable).map(drop))
            .unwrap();
        command = process::Command::new(reachable);
        command.uid(65_534).gid(65_534);
    }
    command
        .args(["--detect", "--since-version", "1", "--data-dir"])
        .arg(dir.path());
    Command::from_std(command)
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("run as a user that may read"));
}

#[test]
fn a_file_that_can_not_be_written_fails_the_run() {
    since(&data_dir("base"), "25")
        .args(["--output", "/no/such/dir/o.json"])
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains(
            "/no/such/dir/o.json could not be written",
        ));
}

#[test]
fn a_vgroup_that_is_gone_is_reported_by_every_run_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ckpt");
    on(&data_dir("base"))
        .args(["--since-version", "-1", "--checkpoint"])
        .arg(&path)
        .assert()
        .success();
    let without = copy("incr_flushed");
    fs::remove_dir_all(without.path().join("vnode/vnode3")).unwrap();
    for _ in 0..2 {
        on(without.path())
            .arg("--since")
            .arg(&path)
            .arg("--checkpoint")
            .arg(&path)
            .assert()
            .code(3)
            .stdout(predicate::str::contains("no data directory holds it"));
    }
}

#[test]
fn files_on_several_tiers_are_found() {
    let (first, second) = (copy("incr_flushed"), tempfile::tempdir().unwrap());
    let tier = second.path().join("vnode/vnode2/tsdb");
    fs::create_dir_all(&tier).unwrap();
    for file in ["v2f1969ver4.stt", "v2f1972ver3.head", "v2f1972ver3.data"] {
        fs::rename(vnode2(&first, &format!("tsdb/{file}")), tier.join(file)).unwrap();
    }
    // Half of a file that is being moved must not be taken for the file.
    let whole = fs::read(tier.join("v2f1969ver4.stt")).unwrap();
    fs::write(vnode2(&first, "tsdb/v2f1969ver4.stt"), &whole[..100]).unwrap();
    let mut command = since(first.path(), "25");
    command.arg("--data-dir").arg(second.path());
    command
        .assert()
        .success()
        .stdout(predicate::str::contains("1810 rows in 20 tables"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("incremental_bitmap_tool"))
        .args(["--detect", "--since-version", "-1", "--json", "--data-dir"])
        .arg(data_dir("incr_flushed"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_checkpoint_never_stands_for_changes_that_nobody_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ckpt");
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status =
        std::process::Command::new(assert_cmd::cargo::cargo_bin("incremental_bitmap_tool"))
            .args(["--detect", "--since-version", "25", "--json", "--data-dir"])
            .arg(data_dir("incr_flushed"))
            .arg("--checkpoint")
            .arg(&path)
            .stdout(full)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(!path.exists());
}

#[test]
fn one_file_for_two_things_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let other = dir.path().join(".").join("x");
    since(&data_dir("base"), "25")
        .arg("--output")
        .arg(&path)
        .arg("--checkpoint")
        .arg(&other)
        .assert()
        .code(2)
        .stderr(predicate::str::contains("are the same file"));
}

#[test]
fn a_directory_that_the_server_does_not_count_among_its_vnodes_is_left_out() {
    let dir = copy("incr_flushed");
    fs::create_dir_all(dir.path().join("vnode/vnode9")).unwrap();
    since(dir.path(), "25")
        .assert()
        .success()
        .stdout(predicate::str::contains("1810 rows"));
}

#[test]
fn a_start_behind_a_damaged_record_is_not_called_the_future() {
    let dir = copy("incr_wal");
    let path = vnode2(&dir, "wal/00000000000000000026.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    since(dir.path(), "30")
        .args(["--vgroup", "2"])
        .assert()
        .code(3)
        .stdout(predicate::str::contains("is wrong"));
}

#[test]
fn on_a_replica_what_the_others_have_not_confirmed_is_left_to_the_next_run() {
    let dir = copy("incr_wal");
    let json = vnode2(&dir, "vnode.json");
    let text = fs::read_to_string(&json).unwrap();
    let replicas = "\"syncCfg.replicaNum\":\t";
    fs::write(
        &json,
        text.replace(&format!("{replicas}\"1\""), &format!("{replicas}\"3\"")),
    )
    .unwrap();
    let meta = vnode2(&dir, "wal/meta-ver8");
    let text = fs::read_to_string(&meta).unwrap();
    let committed = "\"commitVer\":\t";
    assert!(text.contains(&format!("{committed}\"25\"")));
    fs::write(
        &meta,
        text.replace(&format!("{committed}\"25\""), &format!("{committed}\"33\"")),
    )
    .unwrap();
    let to_version = |start: &str| {
        let run = since(dir.path(), start)
            .args(["--vgroup", "2", "--json"])
            .assert()
            .success();
        let json: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        assert!(
            json["vnodes"][0]["reasons"]
                .to_string()
                .contains("tail_not_committed")
        );
        json["vnodes"][0]["to_version"].clone()
    };
    assert_eq!(to_version("25"), "33");
    assert_eq!(to_version("33"), "33", "nothing new, and no complaint");
    assert_eq!(
        to_version("36"),
        "36",
        "confirmed when the start was taken, not any more by the metadata"
    );
}
