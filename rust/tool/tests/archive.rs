//! `incremental_bitmap_tool --restore-archive` without a server, and what settings have to do with backups and logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use predicates::prelude::*;
use repository::archive::{ArchiveWriter, Key};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("TD_") || text.starts_with("TDENGINE_") {
            command.env_remove(&name);
        }
    }
    command.args(arguments);
    command
}

/// One row with a key alone, as docs/c-api.md says.
fn rows(block: u64, table: &str) -> Vec<u8> {
    let mut bytes = b"IBROWS2\0".to_vec();
    for number in [block, 0, 999] {
        bytes.extend(number.to_le_bytes());
    }
    for name in ["db", table] {
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    let columns = u32::from(!table.is_empty());
    bytes.extend(columns.to_le_bytes());
    if columns == 1 {
        bytes.extend([9, 2, 0]);
        bytes.extend(b"ts");
    }
    bytes.extend(u64::from(columns).to_le_bytes());
    if columns == 1 {
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(5_i64.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn archive(dir: &Path, name: &str, key: Option<&Key>, blocks: &[&[u8]]) -> PathBuf {
    let path = dir.join(name);
    let mut writer = ArchiveWriter::create(&path, true, key).unwrap();
    for (number, data) in (7..).zip(blocks) {
        writer.add(number, 1, 1, data).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn key(dir: &Path, name: &str, words: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, words).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn archives_are_checked_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let right = key(dir.path(), "right", "correct horse battery");
    let wrong = key(dir.path(), "wrong", "another passphrase");
    let secret = Key::load(&right).unwrap();
    let (one, gone) = (rows(7, "t 1"), rows(8, ""));
    let path = archive(dir.path(), "a", Some(&secret), &[&one, &gone]);
    let check = |path: &Path, key: &Path| {
        let mut command = tool(&["--restore-archive", "--check"]);
        command.arg("--archive").arg(path);
        command.arg("--key-file").arg(key);
        command.assert()
    };
    check(&path, &right)
        .code(0)
        .stdout("1 archives with 2 blocks hold 1 rows in 1 windows of tables\n1 blocks are of tables that were dropped before they were exported\n");
    check(&path, &wrong)
        .code(1)
        .stderr(predicate::str::contains("key").and(predicate::str::contains("passphrase").not()));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    check(&path, &right)
        .code(1)
        .stderr(predicate::str::contains("take it from another copy"));
    let other = archive(dir.path(), "b", None, &[&one, b"what a host wrote"]);
    check(&other, &right)
        .code(1)
        .stderr(predicate::str::contains("block 8").and(predicate::str::contains("host")));
}

#[test]
fn where_to_restore_must_be_said() {
    tool(&["--restore-archive", "--archive", "a"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("--host"));
    tool(&["--restore-archive", "--check"]).assert().code(2);
}

#[test]
fn what_can_not_be_encrypted_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.json");
    let text = r#"{"backup": {"encryption": true, "key_file": "k"}, "source": {"host": "h", "database": "d"}}"#;
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let jobs: [&[&str]; 2] = [
        &["--export", "--blocks", "b", "--output", "o"],
        &["--generate-script", "--since", "1", "--backup", "d"],
    ];
    for job in jobs {
        tool(job)
            .args(["--config", config])
            .assert()
            .code(2)
            .stderr(predicate::str::contains("backup.encryption is true"));
    }
}

#[test]
fn what_has_no_effect_is_said_once_and_only_if_it_is_to_be_logged() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.json");
    let run = |level: &str| {
        let text = format!(
            r#"{{"log": {{"level": "{level}"}}, "event_interceptor": {{"buffer_size": 9}}, "backup": {{"retry_count": 1}}}}"#
        );
        fs::write(&config, text).unwrap();
        let output = tool(&["--print-config", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run("info");
    let words =
        "no effect in incremental_bitmap_tool: event_interceptor.buffer_size, backup.retry_count";
    assert_eq!(said.matches(words).count(), 1, "{said}");
    assert_eq!(run("warn"), "");
    let output = tool(&["--print-config", "--config"])
        .arg(&config)
        .env("TDENGINE_LOG_LEVEL", "error")
        .env("TDENGINE_DEBUG", "1")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(words));
}
