//! Inputs that an operator gives to a dump, and that once ended otherwise than an operator would want: damaged bases,
//! odd options, tables of unusual size, a server that goes away.

use e2e::{Installation, Run, Server, Taosdump, Workbench, files_below};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installed = Taosdump::installed();
    let skip = installed.is_err();
    // One server for all, started by the first test that runs and stopped at the end. Tests share it by turns.
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let mut trials = Vec::new();
    for (name, story) in STORIES {
        let (installed, server) = (installed.clone(), server.clone());
        let test = move || {
            let (installation, taosdump) = installed?;
            run(&server, &installation, &taosdump, story)
        };
        trials.push(Trial::test(name, test).with_ignored_flag(skip));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

type Story = fn(Workbench) -> Result<(), String>;

const STORIES: [(&str, Story); 5] = [
    ("a_base_with_a_damaged_file_is_not_followed", damaged_base),
    ("only_its_owner_may_read_a_link", modes),
    (
        "a_path_is_what_was_given_and_no_command_for_a_shell",
        odd_paths,
    ),
    ("a_password_is_taken_from_the_environment", passwords),
    ("wrong_values_are_wrong_usage", wrong_values),
];

static COUNT: AtomicU32 = AtomicU32::new(0);

fn run(
    server: &Mutex<Option<Server>>,
    installation: &Installation,
    taosdump: &Taosdump,
    story: Story,
) -> Result<(), Failed> {
    let mut server = server
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if server.is_none() {
        *server = Some(Server::start(installation)?);
    }
    let Some(server) = server.as_ref() else {
        return Ok(());
    };
    let n = COUNT.fetch_add(1, Ordering::SeqCst);
    Ok(story(Workbench::new(
        server,
        taosdump,
        &format!("input{n}"),
    )?)?)
}

/// 2024-01-01 in ms.
const START: i64 = 1_704_067_200_000;

fn all(bench: &Workbench, statements: &[&str]) -> Result<(), String> {
    let mut each = statements.iter();
    each.try_for_each(|sql| bench.sql(sql).map(|_| ()).map_err(|e| e.to_string()))
}

fn io<T>(result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// INSERT of `count` rows, a second apart, with values from `first` on.
fn rows(table: &str, first: i64, count: i64) -> String {
    let row = |n: i64| format!(" ({}, {n})", START + n * 1_000);
    let rows: String = (first..first + count).map(row).collect();
    format!("insert into $.{table} values{rows}")
}

/// A child and a normal table with rows.
fn usual(bench: &Workbench) -> Result<(), String> {
    all(
        bench,
        &[
            "create database $ vgroups 1 stt_trigger 1 keep 36500",
            "create table $.s (ts timestamp, i int) tags (t int)",
            "create table $.c using $.s tags (1)",
            "create table $.n (ts timestamp, i int)",
            &rows("c", 0, 100),
            &rows("n", 0, 100),
        ],
    )
}

/// The first file of a link whose name ends so.
fn file_of(link: &Path, end: &str) -> Result<PathBuf, String> {
    let found = files_below(link)
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(end));
    found.ok_or_else(|| format!("no {end} in {}", link.display()))
}

fn expect_said(run: &Run, text: &str) -> Result<(), String> {
    match run.output().contains(text) {
        true => Ok(()),
        false => Err(format!("{text:?} is not said: {}", run.output())),
    }
}

fn damaged_base(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    bench.link(&[])?;
    bench.sql(&rows("n", 100, 1)).map_err(|e| e.to_string())?;
    let out = bench.path("next");
    let base = bench.links[0].clone();
    let mut tried = 0;
    for end in [
        ".avro",
        ".avro-tbtags",
        ".changes.zst",
        "dbs.sql",
        ".tables.zst",
    ] {
        let Ok(file) = file_of(&base, end) else {
            return Err(format!("no {end}: {:#?}", files_below(&base)));
        };
        let whole = io(fs::read(&file))?;
        let cut = whole.get(1..).unwrap_or_default().to_vec();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (damage, flags) in [
            (None, &[][..]),
            (Some(&cut), &[]),
            (Some(&flipped), &["--check-base"]),
        ] {
            io(match damage {
                Some(bytes) => fs::write(&file, bytes),
                None => fs::remove_file(&file),
            })?;
            let run = bench.try_link(&out, flags)?.expect_code(1)?;
            expect_said(&run, "can't be the base")?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            expect_said(&run, &name)?;
            tried += 1;
        }
        io(fs::write(&file, whole))?;
    }
    assert_eq!(tried, 15);
    bench.link(&["--check-base"])?;
    bench.restore_both_ways()
}

fn modes(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    bench
        .sql("create table $.e (ts timestamp, i int)")
        .map_err(|e| e.to_string())?;
    for umask in [0o022, 0o077, 0] {
        let out = bench.path(&format!("umask{umask:o}"));
        let base = bench.links.last().cloned();
        let mut command =
            bench
                .taosdump
                .link_command(bench.server, &[&bench.database], base.as_deref(), &out);
        // The directory is made by the dump.
        io(fs::remove_dir(&out))?;
        // SAFETY: umask is a call that a child may make before exec.
        unsafe {
            command.pre_exec(move || {
                libc::umask(umask);
                Ok(())
            });
        }
        Run::of(&mut command)
            .map_err(|e| e.to_string())?
            .expect_code(0)?;
        let mut paths = files_below(&out);
        paths.push(out.clone());
        paths.push(out.join("incremental"));
        for path in paths {
            let metadata = io(fs::metadata(&path))?;
            let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
            let mode = metadata.permissions().mode() & 0o777;
            if mode != wanted {
                return Err(format!("{}: {mode:o}, umask {umask:o}", path.display()));
            }
        }
        bench
            .contents
            .push(bench.content().map_err(|e| e.to_string())?);
        bench.links.push(out);
        bench
            .sql(&rows("n", 200 + i64::from(umask), 1))
            .map_err(|e| e.to_string())?;
    }
    bench.restore_both_ways()
}

fn odd_paths(mut bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let made = bench.path("made by a command");
    for name in [
        "$(touch 'made by a command')",
        "`touch 'made by a command'`",
        "a 'quote\" and $HOME ~ * blank",
        " | ; & < > ( ) \\ {a,b}",
    ] {
        let out = bench.path(name);
        bench.try_link(&out, &[])?.expect_code(0)?;
        bench
            .contents
            .push(bench.content().map_err(|e| e.to_string())?);
        bench.links.push(out);
        let next = 200 + bench.links.len() as i64;
        bench.sql(&rows("n", next, 1)).map_err(|e| e.to_string())?;
        if made.exists() {
            return Err(format!("{name:?} ran a command"));
        }
    }
    bench.restore_both_ways()
}

fn passwords(bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let _ = bench.c.execute("drop user other");
    bench
        .c
        .execute("create user other pass 'Secret_123' sysinfo 1")
        .map_err(|e| e.to_string())?;
    bench
        .sql("grant all on $.* to other")
        .map_err(|e| e.to_string())?;
    let run = |name: &str, flags: &[&str], password: Option<&str>| {
        let out = bench.path(name);
        let mut command = bench
            .taosdump
            .link_command(bench.server, &[&bench.database], None, &out);
        command.args(["-u", "other"]).args(flags);
        command.env_remove("TD_PASSWORD");
        if let Some(password) = password {
            command.env("TD_PASSWORD", password);
        }
        Run::of(&mut command).map_err(|e| e.to_string())
    };
    run("environment", &[], Some("Secret_123"))?.expect_code(0)?;
    run("option", &["-pSecret_123"], Some("wrong"))?.expect_code(0)?;
    run("long", &["--password=Secret_123"], None)?.expect_code(0)?;
    let refused = run("default", &[], None)?.expect_code(1)?;
    expect_said(&refused, "Authentication failure")?;
    bench
        .c
        .execute("drop user other")
        .map(drop)
        .map_err(|e| e.to_string())
}

fn wrong_values(bench: Workbench) -> Result<(), String> {
    usual(&bench)?;
    let out = bench.path("out");
    for (flags, said) in [
        (&["-T", "-1"][..], "-T -1: a number from 1 to 1024"),
        (&["-T", "x"], "-T x: a number from 1 to 1024"),
        (&["-d", "zstd"], "null, deflate, snappy or lzma"),
        (&["-t", "5"], "option -t can't be used with --incremental"),
        (&["-P", "x"], "-P x: a number"),
        (&["-S", "yesterday"], "option -S can't be used"),
        (&["--nonsense"], "--nonsense"),
        (&["-Z"], "-Z: it needs a value"),
    ] {
        let run = bench.try_link(&out, flags)?.expect_code(2)?;
        expect_said(&run, said)?;
    }
    Ok(())
}
