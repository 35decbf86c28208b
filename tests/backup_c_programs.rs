//! C programs against `plugin_api.h` and `incremental_backup_tool.h`, without a server. tests/e2e runs them on one.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod c_build;

use c_build::{build, compiler, install, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

fn command(dir: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env("LD_LIBRARY_PATH", dir.join("lib"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("TD_") || text.starts_with("TDENGINE_") {
            command.env_remove(&name);
        }
    }
    command
}

#[test]
fn a_host_loads_the_plugin_and_detects_in_recorded_data() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let program = build("plugin_host.c", dir.path(), "loaded");
    let output = run(command(dir.path(), &program)
        .arg(dir.path().join("lib/libincremental_bitmap_plugin.so"))
        .arg("recorded")
        .arg(root().join("tests/data/incr_wal")));
    assert_eq!(output.stdout, b"done\n");
    let log = String::from_utf8_lossy(&output.stderr);
    let said = |words: &str| log.matches(words).count();
    for words in [
        "no effect in backups from C: event_interceptor.buffer_size",
        "plugin.version is 9.9",
        "log.level has a new value",
        "backup.compression has a new value, which counts after the next init",
        "settings.json: backup.batch_size is 0",
    ] {
        assert_eq!(said(words), 1, "{words}: {log}");
    }
    assert!(!dir.path().join("never-made").exists());
}

#[test]
fn a_file_of_settings_can_name_the_engine_that_taosdump_uses() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let engine = dir.path().join("listing.so");
    run(compiler("taosdump_listing_engine.c")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&engine)
        .arg("-I")
        .arg(root().join("c-shim/include")));
    let program = build("taosdump_options.c", dir.path(), "static");
    let settings = dir.path().join("settings.json");
    let call = |library: &Path, arguments: &[&str]| {
        let text = format!(
            r#"{{"plugin": {{"library_path": "{}"}}}}"#,
            library.display()
        );
        std::fs::write(&settings, text).unwrap();
        command(dir.path(), &program)
            .env("TDENGINE_CONFIG_PATH", &settings)
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = call(&engine, &["D", "d1"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "the engine's code");
    let name = engine.display();
    assert_eq!(said, format!("D=d1\n0x103={name}\npassword=secret"));
    // The command line goes over the settings; here it says that this engine is the one.
    let output = call(&engine, &["plugin", "here"]);
    assert!(output.stdout.is_empty() && output.status.code() != Some(3));
    let output = call(Path::new("/nonexistent.so"), &["D", "d1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("/nonexistent.so") && said.contains("plugin.library_path"),
        "{said}"
    );
}

#[test]
fn taosdump_takes_the_server_from_the_configuration_directory_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let client = dir.path().join("client.so");
    run(compiler("client_stand_in.c")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&client));
    let program = build("taosdump_options.c", dir.path(), "static");
    for (arguments, expected, named) in [
        (
            &["c", "/cfg"][..],
            "host not given, port 0, taos.cfg in /cfg\n",
            "connecting to the server of taos.cfg",
        ),
        (
            &["c", "/cfg", "h", "db1"],
            "host db1, port 0, taos.cfg in /cfg\n",
            "connecting to db1 at the port of taos.cfg",
        ),
        (
            &["h", "db1", "P", "7030"],
            "host db1, port 7030, taos.cfg in the usual place\n",
            "connecting to db1:7030",
        ),
    ] {
        let output = command(dir.path(), &program)
            .env("LD_PRELOAD", &client)
            .args(arguments)
            .args(["D", "d1", "o", "out"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{said}");
        assert!(said.contains(named), "{said}");
    }
}

/// A file of settings that wants backups encrypted.
fn encrypted(dir: &Path) -> PathBuf {
    let path = dir.join("encrypted.json");
    let text = r#"{"backup": {"encryption": true, "key_file": "k"}}"#;
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_dump_that_settings_want_encrypted_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let program = build("taosdump_options.c", dir.path(), "static");
    let encrypted = encrypted(dir.path());
    let call = |arguments: &[&str]| {
        let output = command(dir.path(), &program)
            .env("TDENGINE_CONFIG_PATH", &encrypted)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    for more in [&[][..], &["plugin", "here"]] {
        let (code, said) = call(&[&["D", "d1", "o", "out"], more].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("backup.encryption is true"), "{said}");
    }
    assert!(!dir.path().join("out").exists());
    // A link that is there is restored all the same: it is as plain as it was.
    let (code, said) = call(&["i", "nowhere"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains("backup.encryption"), "{said}");
}

#[test]
fn misuse_of_the_tool_gets_the_documented_codes_and_its_script_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    for linkage in ["static", "shared"] {
        let program = build("backup_tool.c", dir.path(), linkage);
        let script = dir.path().join(format!("{linkage}.sh"));
        let encrypted = encrypted(dir.path());
        run(command(dir.path(), &program)
            .env("ENCRYPTED", encrypted)
            .env("RECORDED", root().join("tests/data/incr_wal"))
            .arg("misuse")
            .arg(&script));
        let text = std::fs::read_to_string(&script).unwrap();
        assert!(text.contains("'--host=$(touch x)'") && text.contains("--since-version=-1"));
        // It fails, as there is no such program, and nothing else happens.
        let status = Command::new("bash")
            .arg(&script)
            .current_dir(dir.path())
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        assert_eq!(status.status.code(), Some(127));
        assert!(!dir.path().join("x").exists());
    }
}

#[test]
fn the_coordinator_exports_in_batches_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    for linkage in ["static", "shared"] {
        let program = build("coordinator.c", dir.path(), linkage);
        let empty = dir.path().join(format!("empty-{linkage}"));
        std::fs::create_dir(&empty).unwrap();
        run(command(dir.path(), &program).arg(empty));
    }
}

#[test]
fn a_full_disk_loses_no_block_and_leaves_no_half_archive() {
    // Where a process may not have mounts of its own, unshare itself fails.
    let tried = Command::new("unshare").args(["-rm", "true"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: no small file system can be mounted here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let program = build("coordinator.c", dir.path(), "static");
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" || exit 77; exec \"$0\" \"$1\" full";
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .args([&program, &small])
        .output();
    match output {
        Ok(output) if output.status.code() != Some(77) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
        _ => println!("skipped: no small file system can be mounted here"),
    }
}
