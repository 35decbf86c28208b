//! A patched taosdump without `--incremental` is the stock one: same output, same files, same exit codes.

use e2e::{Installation, Server};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
    sync::{Arc, Mutex},
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = Installation::find()
        .and_then(|installation| Ok((installation, Installation::patched_taosdump()?)));
    if let Err(reason) = &found {
        eprintln!("skipped: {reason}");
    }
    let skip = found.is_err();
    // One server for all, filled by the first test that runs.
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let mut trials = Vec::new();
    for case in CASES {
        let (found, server) = (found.clone(), server.clone());
        let test = move || {
            let (installation, patched) = found?;
            let mut server = server.lock().map_err(|e| e.to_string())?;
            if server.is_none() {
                *server = Some(filled(&installation)?);
            }
            server.as_ref().map_or(Ok(()), |server| {
                compare(server, &installation.stock_taosdump(), &patched, case.1)
            })
        };
        trials.push(Trial::test(case.0, test).with_ignored_flag(skip));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Name and command line; one thread, so that a run does not differ from the next one by itself.
const CASES: &[(&str, &[&str])] = &[
    ("database", &["-T", "1", "-D", "plain"]),
    ("all_databases", &["-T", "1", "-A"]),
    ("tables", &["-T", "1", "plain", "meters", "lone"]),
    ("schema_only", &["-s", "-D", "plain"]),
    (
        "codec_and_batch",
        &["-T", "1", "-d", "null", "-B", "10", "-N", "-D", "plain"],
    ),
    (
        "time_range",
        &[
            "-T",
            "1",
            "-S",
            "1700000000010",
            "-E",
            "1700000000020",
            "-D",
            "plain",
        ],
    ),
    ("loose_names", &["-T", "1", "-L", "-n", "-D", "plain"]),
    ("password", &["-T", "1", "-ptaosdata", "-D", "plain"]),
    ("no_such_database", &["-T", "1", "-D", "nowhere"]),
    ("unknown_option", &["--no-such-option"]),
    ("wrong_port", &["-P", "70000"]),
];

fn filled(installation: &Installation) -> Result<Server, Failed> {
    let server = Server::start(installation)?;
    let c = server.connect()?;
    c.execute("create database plain vgroups 1")?;
    c.execute("create table plain.meters (ts timestamp, i int, v varchar(20)) tags (g int)")?;
    c.execute("create table plain.lone (ts timestamp, f double)")?;
    for table in 0..5 {
        let rows: String = (0..40)
            .map(|row| format!("({}, {row}, 'row {row}')", 1_700_000_000_000_i64 + row))
            .collect();
        c.execute(&format!(
            "insert into plain.d{table} using plain.meters tags ({table}) values {rows}"
        ))?;
    }
    c.execute("insert into plain.lone values (1700000000000, 1.5)")?;
    drop(c);
    Ok(server)
}

fn compare(
    server: &Server,
    stock: &Path,
    patched: &Path,
    arguments: &[&str],
) -> Result<(), Failed> {
    let (stock, patched) = (
        dump(server, stock, arguments)?,
        dump(server, patched, arguments)?,
    );
    if arguments.contains(&"plain") && !stock.files.iter().any(|file| file.0 == "dbs.sql") {
        return Err(format!("the stock one dumped nothing: {stock:#?}").into());
    }
    if stock != patched {
        return Err(format!("stock: {stock:#?}\npatched: {patched:#?}").into());
    }
    Ok(())
}

/// What a run left behind, without what differs between any two runs: ids, times, durations.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Name and size; the text of `dbs.sql`.
    files: Vec<(String, u64, Option<Vec<String>>)>,
}

fn dump(server: &Server, taosdump: &Path, arguments: &[&str]) -> Result<Left, Failed> {
    let dir = tempfile::tempdir()?;
    let mut command: Command = server.program(taosdump);
    command
        .arg("-o")
        .arg(dir.path())
        .arg("-r")
        .arg(dir.path().join("result.txt"))
        .args(arguments);
    let output: Output = command.output()?;
    let place = dir.path().display().to_string();
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes)
            .replace(&place, "DIR")
            .replace(&taosdump.display().to_string(), "taosdump")
            .lines()
            .map(without_numbers)
            .filter(|line| !line.contains("per second") && !line.contains("spent"))
            .collect()
    };
    let mut files = Vec::new();
    let mut open = vec![dir.path().to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(dir.path())?.display().to_string();
            let bytes = fs::read(&path)?;
            let text = name.ends_with(".sql").then(|| lines(&bytes));
            // The report holds times.
            let size = if name == "result.txt" {
                0
            } else {
                bytes.len() as u64
            };
            files.push((without_numbers(&name), size, text));
        }
    }
    files.sort();
    Ok(Left {
        code: output.status.code(),
        stdout: lines(&output.stdout),
        stderr: lines(&output.stderr),
        files,
    })
}

/// Every number, decimal or hexadecimal, as 0: ids, times and addresses differ.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        if digits.contains(|c: char| c.is_ascii_digit()) {
            plain.push('0');
            plain.push_str(&word[digits.len()..]);
        } else {
            plain.push_str(word);
        }
    }
    plain
}
