//! A shell script that detects, dumps with an unpatched taosdump, and verifies. It can be run again and again: each run
//! goes on where the last one ended.

use config::Settings;
use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use store::{StoreError, atomic_file};

/// What a script does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The `incremental_bitmap_tool` to run.
    pub tool: String,
    /// The taosdump to run.
    pub taosdump: String,
    /// The server.
    pub host: String,
    /// Its port; 0 for the client library's default.
    pub port: u16,
    /// The user; `None` for the default.
    pub user: Option<String>,
    /// The directory of taos.cfg.
    pub config_dir: Option<String>,
    /// The database.
    pub database: String,
    /// The server's data directories; none to ask it.
    pub data_dirs: Vec<String>,
    /// Where the first run starts, as `--since` takes it; `None` for the very beginning.
    pub since: Option<String>,
    /// The directory for backups.
    pub backup: String,
}

impl Script {
    /// A script for these settings; the error names what is missing.
    pub fn of(settings: &Settings, tool: String, taosdump: String) -> Result<Self, String> {
        let source = &settings.source;
        let needed = |value: &Option<String>, what: &str| {
            value.clone().ok_or_else(|| format!("no {what} is given"))
        };
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let script = Self {
            tool,
            taosdump,
            host: needed(&source.host, "server (--host, source.host)")?,
            port: u16::try_from(source.port).unwrap_or(0),
            user: source.user.clone(),
            config_dir: None,
            database: needed(&source.database, "database (--database, source.database)")?,
            data_dirs: source.data_dirs.iter().map(text).collect(),
            since: source.since.clone(),
            backup: settings
                .backup
                .backup_path
                .as_ref()
                .map(text)
                .ok_or_else(|| {
                    "no directory for backups is given (--backup, backup.backup_path)".to_owned()
                })?,
        };
        match script
            .values()
            .iter()
            .find(|value| value.chars().any(char::is_control))
        {
            Some(value) => Err(format!(
                "{value:?} holds control characters, which no script here can"
            )),
            None if script.database.contains(',') => Err(format!(
                "database {:?} has a comma in its name, and taosdump takes that for two databases",
                script.database
            )),
            None => Ok(script),
        }
    }

    fn values(&self) -> Vec<&str> {
        let mut values: Vec<&str> = vec![&self.tool, &self.taosdump, &self.host, &self.database];
        values.push(&self.backup);
        values.extend(self.since.as_deref());
        values.extend(self.user.as_deref());
        values.extend(self.config_dir.as_deref());
        values.extend(self.data_dirs.iter().map(String::as_str));
        values
    }

    /// The script's text.
    pub fn text(&self) -> String {
        let mut detect = vec![format!("--host={}", self.host)];
        let mut dump = vec!["-h".to_owned(), self.host.clone()];
        if self.port > 0 {
            detect.push(format!("--port={}", self.port));
            dump.extend(["-P".to_owned(), self.port.to_string()]);
        }
        if let Some(user) = &self.user {
            detect.push(format!("--user={user}"));
            dump.extend(["-u".to_owned(), user.clone()]);
        }
        if let Some(dir) = &self.config_dir {
            detect.push(format!("--config-dir={dir}"));
            dump.extend(["-c".to_owned(), dir.clone()]);
        }
        let dirs = self.data_dirs.iter().map(|dir| format!("--data-dir={dir}"));
        detect.extend(dirs);
        let list = |items: &[String]| {
            items
                .iter()
                .map(|item| quoted(item))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut text = HEAD.to_owned();
        let variables = [
            ("tool", quoted(&self.tool)),
            ("taosdump", quoted(&self.taosdump)),
            ("database", quoted(&self.database)),
            (
                "start",
                match &self.since {
                    Some(since) => quoted(&format!("--since={since}")),
                    None => quoted("--since-version=-1"),
                },
            ),
            ("backup", quoted(&self.backup)),
            ("detect_options", format!("({})", list(&detect))),
            ("dump_options", format!("({})", list(&dump))),
        ];
        for (name, value) in variables {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name}={value}");
        }
        text.push_str(BODY);
        text
    }

    /// Writes the script to a file that its owner may run; whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        atomic_file::write(path, self.text().as_bytes())?;
        let failed = |error| StoreError::io(path.display().to_string())(error);
        let mut permissions = fs::metadata(path).map_err(failed)?.permissions();
        permissions.set_mode(permissions.mode() | 0o100);
        fs::set_permissions(path, permissions).map_err(failed)
    }
}

/// A text as one word of the shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

const HEAD: &str = "#!/usr/bin/env bash
# Incremental backup of a TDengine database: detects what changed, dumps it with taosdump, verifies the dump.
# Each run makes a directory below the backup directory, and goes on where the last one ended.
#
# The password of the user is taken from the environment: TD_PASSWORD.
#
# Exit code: 0 done; 3 done, but the dump holds more than what changed, or lacks what taosdump can't hold (deletes,
# dropped tables): the report says what. Anything else: the exit code of the first step that failed; the next run
# starts where this one did.
#
# Values stand in single quotes, whatever is in them:
# shellcheck disable=SC1003,SC2016
set -euo pipefail

";

const BODY: &str = r#"
incomplete=0
step() {
  local code=0
  "$@" || code=$?
  case $code in
    0) ;;
    3) incomplete=3 ;;
    *)
      printf 'failed with exit code %s: %s\n' "$code" "$1" >&2
      exit "$code"
      ;;
  esac
}

mkdir -p -- "$backup"
run=$backup/$(date -u +%Y%m%dT%H%M%SZ)-$$
mkdir -- "$run" "$run/dump"
if [ -e "$backup/checkpoint" ]; then
  start=--since=$backup/checkpoint
fi

# 1. What changed?
step "$tool" --detect "${detect_options[@]}" --database="$database" "$start" \
  --output="$run/blocks.json" --checkpoint="$run/checkpoint"

# 2. Dump it: every row between the first and the last changed one.
range=$("$tool" --print-range --blocks="$run/blocks.json")
dump_options+=(-D "$database" -o "$run/dump" -r "$run/dump_result.txt")
if [ -n "${TD_PASSWORD:-}" ]; then
  dump_options+=("-p$TD_PASSWORD")
fi
if [ -z "$range" ]; then
  dump_options+=(-s)
else
  read -r first last <<< "$range"
  if [ "$first" != - ]; then
    dump_options+=(-S "$first")
  fi
  if [ "$last" != - ]; then
    dump_options+=(-E "$last")
  fi
fi
step "$taosdump" "${dump_options[@]}"

# 3. Is all of it there?
step "$tool" --verify --backup="$run/dump" --blocks="$run/blocks.json" --report="$run/report.json"

mv -f -- "$run/checkpoint" "$backup/checkpoint"
printf 'backup in %s\n' "$run"
exit "$incomplete"
"#;
