//! `incremental_bitmap_tool --generate-script`, `--print-range` and `--print-config`, without a server: programs that
//! write down their arguments stand in for the tools.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;

use assert_cmd::Command;
use ops::script::Script;
use predicates::prelude::*;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
};

fn tool() -> Command {
    let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TD_") || name.starts_with("TDENGINE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A directory with stand-ins for the tool and taosdump.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        bench.stand_in("tool", "0", "0", "0");
        bench.program("taosdump", "record taosdump \"$@\"\nexit 0");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let log = self.path("log");
        let text = format!(
            "#!/usr/bin/env bash\nrecord() {{ printf '<%s>' \"$@\" >> '{0}'; printf '\\n' >> '{0}'; }}\n{body}\n",
            log.display()
        );
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A tool whose jobs end with these codes.
    fn stand_in(&self, name: &str, detect: &str, range: &str, verify: &str) {
        self.program(
            name,
            &format!(
                "record tool \"$@\"\nfor arg in \"$@\"; do case $arg in\n--checkpoint=*) echo next > \"${{arg#*=}}\";;\n\
                 esac; done\ncase $1 in\n--detect) exit {detect};;\n--print-range) echo '10 20'; exit {range};;\n\
                 --verify) exit {verify};;\nesac"
            ),
        );
    }

    fn script(&self) -> Script {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        Script {
            tool: text(self.path("tool")),
            taosdump: text(self.path("taosdump")),
            host: "h".to_owned(),
            port: 6030,
            user: None,
            config_dir: None,
            database: "db".to_owned(),
            data_dirs: Vec::new(),
            since: Some("0".to_owned()),
            backup: text(self.path("backup")),
        }
    }

    /// Runs a script; its exit code and what was called.
    fn run(&self, script: &Script) -> (i32, Vec<String>) {
        let path = self.path("script.sh");
        script.save(&path).unwrap();
        let _ = fs::remove_file(self.path("log"));
        let output = process::Command::new("bash")
            .args(["-euo", "pipefail"])
            .arg(&path)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        (
            output.status.code().unwrap(),
            log.lines().map(str::to_owned).collect(),
        )
    }
}

#[test]
fn the_three_steps_follow_each_other_and_the_next_run_goes_on_from_the_checkpoint() {
    let bench = Bench::new();
    let (code, log) = bench.run(&bench.script());
    assert_eq!(code, 0, "{log:?}");
    assert_eq!(log.len(), 4, "{log:?}");
    assert!(
        log[0].starts_with("<tool><--detect><--host=h><--port=6030><--database=db><--since=0>")
    );
    assert!(log[1].starts_with("<tool><--print-range>"));
    assert!(log[2].starts_with("<taosdump><-h><h><-P><6030><-D><db><-o>"));
    assert!(log[2].ends_with("<-S><10><-E><20>"), "{}", log[2]);
    assert!(log[3].starts_with("<tool><--verify>"));
    let (code, log) = bench.run(&bench.script());
    assert_eq!(code, 0);
    let since = format!("<--since={}/checkpoint>", bench.path("backup").display());
    assert!(log[0].contains(&since), "{}", log[0]);
}

#[test]
fn the_first_failure_stops_it_with_its_exit_code_and_the_checkpoint_stays() {
    for (detect, range, dump, verify, code, steps) in [
        ("1", "0", "0", "0", 1, 1),
        ("2", "0", "0", "0", 2, 1),
        ("0", "1", "0", "0", 1, 2),
        ("0", "0", "7", "0", 7, 3),
        ("0", "0", "137", "0", 137, 3),
        ("0", "0", "0", "1", 1, 4),
    ] {
        let bench = Bench::new();
        bench.stand_in("tool", detect, range, verify);
        bench.program("taosdump", &format!("record taosdump\nexit {dump}"));
        let (found, log) = bench.run(&bench.script());
        assert_eq!((found, log.len()), (code, steps), "{log:?}");
        assert!(!bench.path("backup/checkpoint").exists());
    }
}

#[test]
fn a_step_that_is_done_but_incomplete_does_not_stop_it_and_is_not_forgotten() {
    for (detect, verify) in [("3", "0"), ("0", "3"), ("3", "3")] {
        let bench = Bench::new();
        bench.stand_in("tool", detect, "0", verify);
        let (code, log) = bench.run(&bench.script());
        assert_eq!((code, log.len()), (3, 4), "{log:?}");
        assert!(bench.path("backup/checkpoint").exists());
    }
}

#[test]
fn every_value_arrives_as_it_was_given() {
    for value in hostile::VALUES {
        let bench = Bench::new();
        let script = Script {
            host: value.to_owned(),
            user: Some(value.to_owned()),
            config_dir: Some(value.to_owned()),
            database: value.to_owned(),
            data_dirs: vec![value.to_owned()],
            since: Some(value.to_owned()),
            backup: format!("{}/{value}", bench.path("b").display()),
            ..bench.script()
        };
        let (code, log) = bench.run(&script);
        assert_eq!(code, 0, "{value}: {log:?}");
        for option in [
            "host",
            "user",
            "config-dir",
            "data-dir",
            "database",
            "since",
        ] {
            assert!(
                log[0].contains(&format!("<--{option}={value}>")),
                "{value}: {}",
                log[0]
            );
        }
        assert!(log[2].contains(&format!("<-h><{value}>")), "{}", log[2]);
        assert!(log[2].contains(&format!("<-D><{value}>")), "{}", log[2]);
        assert!(bench.path("b").join(value).join("checkpoint").exists());
        assert!(!bench.path("x").exists(), "{value} was run");
    }
}

#[test]
fn the_tool_writes_it_from_flags_and_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("s.sh");
    tool()
        .args([
            "--generate-script",
            "--host",
            "$(touch x)",
            "--database",
            "db",
            "--since",
            "0",
            "--backup",
            "/b",
        ])
        .arg("--output")
        .arg(&script)
        .assert()
        .success()
        .stdout("");
    let text = fs::read_to_string(&script).unwrap();
    assert!(text.contains("'--host=$(touch x)'"), "{text}");
    assert_eq!(
        fs::metadata(&script).unwrap().permissions().mode() & 0o100,
        0o100
    );
    let config = dir.path().join("c.json");
    fs::write(
        &config,
        r#"{"source": {"host": "h", "database": "db", "since": "0"}, "backup": {"backup_path": "/b"}}"#,
    )
    .unwrap();
    tool()
        .args(["--generate-script", "--user", "me", "--config"])
        .arg(&config)
        .assert()
        .success()
        .stdout(predicate::str::contains("'--host=h' '--user=me'"));
    for (arguments, says) in [
        (
            &["--database", "db", "--since", "0", "--backup", "/b"][..],
            "--host",
        ),
        (
            &["--host", "h", "--since", "0", "--backup", "/b"],
            "--database",
        ),
        (
            &["--host", "h", "--database", "db", "--backup", "/b"],
            "--since",
        ),
        (
            &["--host", "h", "--database", "db", "--since", "0"],
            "--backup",
        ),
        (
            &[
                "--host",
                "a\nb",
                "--database",
                "db",
                "--since",
                "0",
                "--backup",
                "/b",
            ],
            "source.host",
        ),
        (
            &[
                "--host",
                "h",
                "--database",
                "a,b",
                "--since",
                "0",
                "--backup",
                "/b",
            ],
            "comma",
        ),
    ] {
        tool()
            .arg("--generate-script")
            .args(arguments)
            .assert()
            .code(2)
            .stderr(predicate::str::contains(says));
    }
}

#[test]
fn the_range_is_that_of_all_changed_rows() {
    let chain = links::Chain::new().unwrap();
    let range = |blocks: &Path| {
        tool()
            .args(["--print-range", "--blocks"])
            .arg(blocks)
            .assert()
            .success()
            .get_output()
            .stdout
            .clone()
    };
    assert_eq!(range(&chain.blocks(30, 59).unwrap()), b"50000 59000\n");
    fs::write(chain.path("damaged"), "{}").unwrap();
    tool()
        .args(["--print-range", "--blocks"])
        .arg(chain.path("damaged"))
        .assert()
        .code(1)
        .stderr(predicate::str::contains("damaged is no list of blocks"));
}

#[test]
fn settings_are_printed_with_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.json");
    fs::write(
        &config,
        r#"{"source": {"port": 7}, "backup": {"batch_size": 5}}"#,
    )
    .unwrap();
    let mut command = tool();
    command
        .arg("--print-config")
        .env("TDENGINE_CONFIG_PATH", &config);
    command
        .args(["--host", "h"])
        .env("TD_CONNECT_PORT", "8")
        .env("TD_PASSWORD", "s3cret")
        .assert()
        .success()
        .stdout(predicate::str::contains("backup.batch_size = 5  (file)\n"))
        .stdout(predicate::str::contains(
            "source.port = 8  (environment, TD_CONNECT_PORT)\n",
        ))
        .stdout(predicate::str::contains(
            "source.host = \"h\"  (command line)\n",
        ))
        .stdout(predicate::str::contains(
            "backup.retry_count = 3  (default)\n",
        ))
        .stdout(predicate::str::contains("s3cret").not());
    let printed = tool()
        .args(["--print-config", "--json", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let again = dir.path().join("again.json");
    fs::write(&again, &printed.stdout).unwrap();
    let reprinted = tool()
        .args(["--print-config", "--json", "--config"])
        .arg(&again)
        .output()
        .unwrap();
    assert_eq!(printed.stdout, reprinted.stdout);
    fs::write(&config, r#"{"backup": {"batch_size": 0}}"#).unwrap();
    for job in ["--print-config", "--detect", "--generate-script"] {
        tool()
            .args([job, "--config"])
            .arg(&config)
            .assert()
            .code(2)
            .stderr(predicate::str::contains("backup.batch_size is 0"));
    }
}

#[test]
fn detection_takes_its_settings_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (config, output) = (dir.path().join("c.json"), dir.path().join("blocks.json"));
    let base = recorded::data_dir("incr_wal");
    let text = serde_json::json!({
        "source": {"database": "sdb", "data_dirs": [base], "since": "1795242100"}
    });
    fs::write(&config, text.to_string()).unwrap();
    tool()
        .arg("--config")
        .arg(&config)
        .arg("--output")
        .arg(&output)
        .assert()
        .success()
        .stdout(predicate::str::contains("1810 rows"));
    assert!(output.exists());
}
