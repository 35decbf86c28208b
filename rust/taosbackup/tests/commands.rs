//! `taosbackup` as an operator uses it: the real binary, on chains without a server.

#![allow(clippy::unwrap_used, clippy::panic)]

use assert_cmd::Command;
use links::Chain;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// A directory with a passphrase and a chain, and a repository that may be made.
struct Desk {
    dir: TempDir,
    chain: Chain,
    encrypted: bool,
}

impl Desk {
    fn new(encrypted: bool) -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
            chain: Chain::with_bitmaps().unwrap(),
            encrypted,
        };
        desk.secret("passphrase", "correct horse battery\n");
        desk
    }

    /// With a repository.
    fn made(encrypted: bool) -> Self {
        let desk = Self::new(encrypted);
        match encrypted {
            true => desk.ok(&["init", "--encrypt"]),
            false => desk.ok(&["init"]),
        };
        desk
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn link(&self, name: &str) -> String {
        self.chain.path(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("taosbackup").unwrap();
        command
            .args(arguments)
            .env("TAOSBACKUP_REPO", self.path("repo"));
        if self.encrypted {
            command.env("TAOSBACKUP_PASSPHRASE_FILE", self.path("passphrase"));
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it; it must end with this code. What it printed to both.
    fn exits(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.exits(0, arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{arguments:?}: {error}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    fn ids(&self) -> Vec<String> {
        let listed = self.json(&["list"]);
        let all = listed["snapshots"].as_array().unwrap();
        all.iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn import_all(&self) -> Vec<String> {
        self.ok(&["import", &self.link("")]);
        self.ids()
    }
}

#[test]
fn the_first_use_from_nothing_to_a_checked_copy() {
    for encrypted in [false, true] {
        let desk = Desk::new(encrypted);
        let init: &[&str] = match encrypted {
            true => &["init", "--encrypt"],
            false => &["init"],
        };
        assert!(desk.ok(init).contains("is repository"));
        assert!(desk.ok(&["list"]).contains("no snapshots"));
        // A directory with links in any order.
        let said = desk.ok(&["import", &desk.link(""), "--label", "reason=first use"]);
        assert_eq!(said.matches("snapshot").count(), 3, "{said}");
        let list = desk.ok(&["list", "--time-zone", "UTC"]);
        for part in ["full", "incremental", "db", "reason=first use"] {
            assert!(list.contains(part), "{list}");
        }
        let ids = desk.ids();
        assert_eq!(ids.len(), 3);
        let show = desk.ok(&["show", "latest"]);
        assert!(show.contains("3 links, the oldest first"), "{show}");
        assert!(
            desk.ok(&["verify"])
                .contains("intact: 3 snapshots of 3 links")
        );
        desk.ok(&["verify", "--quick"]);
        desk.ok(&["verify", "--sample", "20%", &ids[1]]);
        assert!(
            desk.ok(&["import", &desk.link("full")])
                .contains("known as")
        );
        let stats = desk.json(&["stats"]);
        assert_eq!(
            (&stats["snapshots"], &stats["full"]),
            (&3.into(), &1.into())
        );
        assert_eq!(stats["encrypted"], encrypted);
        // To a repository of another kind.
        let copy = desk.path("copy");
        let other = desk.secret("other", "another passphrase\n");
        desk.exits(2, &["--repo", &copy, "init", "--passphrase-file", &other]);
        let mut init = desk.command(&[
            "--repo",
            &copy,
            "init",
            "--encrypt",
            "--passphrase-file",
            &other,
        ]);
        init.assert().success();
        let to = ["copy", "--to", &copy, "--to-passphrase-file", &other];
        assert!(desk.ok(&to).contains("copied 3 snapshots"));
        assert!(desk.ok(&to).contains("copied 0 snapshots"));
        desk.ok(&["--repo", &copy, "verify", "--passphrase-file", &other]);
    }
}

#[test]
fn wrong_inputs_are_told_what_is_wrong_and_what_to_do() {
    let desk = Desk::made(false);
    let ids = desk.import_all();
    let sealed = Desk::made(true);
    let text = desk.secret("text", "short\n");
    let open = desk.path("open");
    fs::write(&open, "a long passphrase\n").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let nowhere = desk.path("nowhere");
    let empty = desk.path("empty");
    fs::create_dir(&empty).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["init"], 1, "is a repository already"),
        (&["init", "--encrypt"], 2, "give --passphrase-file"),
        (
            &["init", "--encrypt", "--recipient", "age1x"],
            2,
            "no age recipient",
        ),
        (&["init", "--repo", "ftp://x/y"], 2, "s3://bucket/prefix"),
        (&["import", &nowhere], 1, "nowhere"),
        (&["import", &empty], 1, "is no link, and holds none"),
        (
            &["import", &desk.link("full"), "--label", "x"],
            2,
            "no label",
        ),
        (&["import"], 2, "DIR"),
        (&["list", "--repo", &nowhere], 1, "is no repository"),
        (&["list", "--time-zone", "Nowhere/Land"], 2, "Asia/Shanghai"),
        (&["list", "--last", "x"], 2, "invalid"),
        (&["show", "zzzz"], 1, "give the first digits of its id"),
        (&["show", "latest:other"], 1, "list says what there is"),
        (&["show"], 2, "SNAPSHOT"),
        (&["verify", "--sample", "0%"], 2, "no share such as 5%"),
        (
            &["verify", "--sample", "5%", "--quick"],
            2,
            "cannot be used",
        ),
        (&["verify", "ffffffff"], 1, "has no snapshot"),
        (&["restore", "zzzz"], 1, "has no snapshot"),
        (&["restore", "latest", "--as", "x"], 2, "= between"),
        (&["restore", "latest", "--jobs", "0"], 2, "0 is not in"),
        (&["forget"], 2, "nothing says what to forget"),
        (&["forget", &ids[0], "--keep-last", "1"], 2, "give either"),
        (&["forget", "--keep-within", "-3d"], 2, "is negative"),
        (&["forget", "--pin"], 2, "which snapshots"),
        (&["forget", "ffffffff"], 1, "has no snapshot"),
        (&["prune", "--grace", "soon"], 2, "no length of time"),
        (&["prune", "--grace", "-1h"], 2, "is negative"),
        (&["prune", "--repo", &nowhere], 1, "is no repository"),
        (&["copy"], 2, "--to"),
        (&["copy", "--to", &nowhere], 1, "is no repository"),
        (&["copy", "--to", &desk.path("repo")], 1, "same repository"),
        (
            &["copy", "zzzz", "--to", &sealed.path("repo")],
            1,
            "is encrypted",
        ),
        (
            &["key", "add", "--recipient", "age1x"],
            2,
            "no age recipient",
        ),
        (
            &["key", "add", "--new-passphrase-file", &open],
            1,
            "chmod 600",
        ),
        (&["key", "remove", "0000"], 1, "has no key"),
        (
            &["key", "change-passphrase", "--new-passphrase-file", &text],
            1,
            "less than 8 characters",
        ),
        (&["key"], 2, "Usage"),
        (&["stats", "--repo", "s3://"], 2, "s3://bucket/prefix"),
        (&["stats", "--key-command", "false"], 1, "run it by hand"),
        (
            &["stats", "--passphrase-file", &text, "--identity", &text],
            2,
            "several keys",
        ),
        (&["stats", "--identity", &open], 1, "chmod 600"),
        (&["list", "--limit-upload", "0"], 2, "no rate"),
        (&["completion", "cmd.exe"], 2, "possible values"),
        (&["man", "--out", &nowhere], 1, "give a directory"),
        (&["backup"], 2, "unrecognized"),
        (&[], 2, "Usage"),
    ];
    for (arguments, code, says) in cases {
        let said = desk.exits(*code, arguments);
        assert!(said.contains(says), "{arguments:?} said: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let mut without = Command::cargo_bin("taosbackup").unwrap();
    let output = without
        .args(["list", "--json"])
        .env_remove("TAOSBACKUP_REPO")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["result"], "usage");
    assert!(
        object["error"]
            .as_str()
            .unwrap()
            .contains("TAOSBACKUP_REPO")
    );
}

#[test]
fn a_wrong_key_opens_nothing_and_no_secret_is_shown() {
    let desk = Desk::made(true);
    desk.import_all();
    let wrong = desk.secret("wrong", "wrong horse battery\n");
    for command in [
        &["list"][..],
        &["verify"],
        &["stats"],
        &["import", "/"],
        &["prune"],
        &["key", "list"],
    ] {
        let said = desk.exits(1, &[command, &["--passphrase-file", &wrong]].concat());
        assert!(!said.contains("horse"), "{said}");
    }
    let mut without = desk.command(&["list"]);
    let output = without
        .env_remove("TAOSBACKUP_PASSPHRASE_FILE")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is encrypted"));
    // By a command; and the passphrase changed.
    let by_command = "echo correct horse battery";
    let mut listed = desk.command(&["list", "--key-command", by_command]);
    listed
        .env_remove("TAOSBACKUP_PASSPHRASE_FILE")
        .assert()
        .success();
    let new = desk.secret("new", "a new passphrase\n");
    desk.ok(&["key", "change-passphrase", "--new-passphrase-file", &new]);
    desk.exits(1, &["list"]);
    desk.ok(&["list", "--passphrase-file", &new]);
    // Nothing that could be read lies in the repository.
    for file in files(Path::new(&desk.path("repo"))) {
        let bytes = fs::read(&file).unwrap();
        for text in [
            "horse",
            "\"db\"",
            "avro",
            "CREATE",
            "manifest",
            "a new passphrase",
        ] {
            let found = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!found, "{text} in {}", file.display());
        }
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}

#[test]
fn two_imports_at_once_make_each_snapshot_once() {
    let desk = Desk::made(false);
    let outputs: Vec<Output> = thread::scope(|scope| {
        let import = || desk.run(&["import", &desk.link("")]);
        let both: Vec<_> = (0..2).map(|_| scope.spawn(import)).collect();
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for output in outputs {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(desk.ids().len(), 3);
    desk.ok(&["verify"]);
}

#[test]
fn an_import_that_is_killed_leaves_an_intact_repository_and_is_done_again() {
    let desk = Desk::made(false);
    let program = assert_cmd::cargo::cargo_bin("taosbackup");
    for round in 0..12 {
        let mut child = std::process::Command::new(&program)
            .args(["import", &desk.link(""), "--limit-upload", "500K"])
            .env("TAOSBACKUP_REPO", desk.path("repo"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(5 + 12 * round));
        let _ = child.kill();
        child.wait().unwrap();
        let said = desk.ok(&["verify"]);
        assert!(said.contains("intact"), "round {round}: {said}");
    }
    desk.ok(&["import", &desk.link("")]);
    assert_eq!(desk.ids().len(), 3);
    desk.ok(&["prune", "--grace", "0"]);
    assert!(
        desk.ok(&["verify"])
            .contains("intact: 3 snapshots of 3 links")
    );
    let repo = desk.path("repo");
    let left = files(Path::new(&repo))
        .into_iter()
        .filter(|path| path.extension().is_some());
    assert_eq!(
        left.collect::<Vec<_>>(),
        Vec::<PathBuf>::new(),
        "files that were being written"
    );
}

#[test]
fn forgetting_and_pruning_keep_every_kept_snapshot_whole() {
    let desk = Desk::made(true);
    let ids = desk.import_all();
    let dry = desk.ok(&["forget", "--keep-last", "1", "--dry-run"]);
    assert!(
        dry.contains("no rule keeps it") && dry.contains("nothing was changed"),
        "{dry}"
    );
    assert_eq!(desk.ids().len(), 3);
    desk.ok(&["forget", "--pin", &ids[0]]);
    let forgotten = desk.json(&["forget", "--keep-last", "1"]);
    let fates: Vec<&str> = forgotten["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fate| fate["what"].as_str().unwrap())
        .collect();
    assert_eq!(fates, ["keep", "forget", "keep"]);
    let pruned = desk.json(&["prune", "--grace", "0"]);
    assert_eq!(
        (&pruned["links"], &pruned["needed"]),
        (&0.into(), &1.into()),
        "the last one is made of it"
    );
    assert_eq!(desk.ids(), [ids[0].clone(), ids[2].clone()]);
    assert!(desk.ok(&["show", "latest"]).contains("forgotten"));
    desk.ok(&["verify"]);
    desk.ok(&["forget", &ids[2]]);
    let pruned = desk.json(&["prune", "--grace", "0"]);
    assert_eq!(
        (&pruned["links"], &pruned["snapshots"]),
        (&2.into(), &2.into()),
        "{pruned}"
    );
    assert!(
        desk.ok(&["verify"])
            .contains("intact: 1 snapshots of 1 links")
    );
    desk.ok(&["import", &desk.link("")]);
    assert_eq!(desk.ids().len(), 3);
    desk.ok(&["verify"]);
}

#[test]
fn damage_is_a_failure_that_names_the_snapshots() {
    let desk = Desk::made(false);
    let ids = desk.import_all();
    let links = files(Path::new(&desk.path("repo/links")));
    let pack = links.iter().find(|path| !path.ends_with("index")).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    bytes[100] ^= 1;
    fs::write(pack, &bytes).unwrap();
    let said = desk.exits(1, &["verify"]);
    assert!(said.contains("FAILED"), "{said}");
    let report = desk.json(&["verify"]);
    assert_eq!(report["result"], "failed");
    let named = report["problems"][0]["snapshots"].as_array().unwrap();
    assert!(
        named
            .iter()
            .all(|id| ids.contains(&id.as_str().unwrap().to_owned())),
        "{report}"
    );
}

#[test]
fn manuals_and_completions_know_every_command() {
    let desk = Desk::new(false);
    let script = desk.ok(&["completion", "bash"]);
    let out = desk.path("man");
    fs::create_dir(&out).unwrap();
    desk.ok(&["man", "--out", &out]);
    let commands = [
        "init",
        "import",
        "list",
        "show",
        "verify",
        "restore",
        "forget",
        "prune",
        "copy",
        "key",
        "stats",
        "completion",
        "man",
    ];
    for command in commands {
        assert!(script.contains(command), "{command}");
        assert!(
            Path::new(&out)
                .join(format!("taosbackup-{command}.1"))
                .is_file(),
            "{command}"
        );
        assert!(desk.ok(&[command, "--help"]).contains("Usage"));
    }
    assert!(
        desk.ok(&["man"])
            .contains("taosBackup that comes with TDengine")
    );
    let document = include_str!("../../../docs/taosbackup.md");
    for command in commands {
        assert!(
            document.contains(&format!("`{command}`")),
            "docs/taosbackup.md lacks {command}"
        );
    }
}
