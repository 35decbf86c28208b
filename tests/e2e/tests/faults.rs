//! What goes wrong on the way: killed tools and servers, full disks, damaged and mixed-up links. Nothing of it may end
//! as a success, leave a link that can be used, or touch the target; and a second try must give the exact result.
//!
//! `FAULT_ROUNDS` sets how often something is killed at a random moment (default 5), `E2E_SEED` the seed.

use e2e::{Installation, Run, Running, Server, Taosdump, Workbench, files_below, setting};
use libtest_mimic::{Arguments, Failed, Trial};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

type Test = fn(&mut Server, &Taosdump) -> Result<(), String>;

const TESTS: [(&str, Test); 19] = [
    (
        "a_killed_full_dump_leaves_no_link_and_can_be_repeated",
        killed_full_dump,
    ),
    (
        "a_killed_dump_leaves_no_link_and_can_be_repeated",
        killed_dump,
    ),
    (
        "an_interrupted_dump_leaves_no_link_and_can_be_repeated",
        interrupted_dump,
    ),
    ("a_killed_restore_can_be_repeated", killed_restore),
    ("a_dump_whose_server_dies_fails", server_dies_in_dump),
    ("a_restore_whose_server_dies_fails", server_dies_in_restore),
    ("a_full_disk_fails_and_leaves_no_link", full_disk),
    ("one_flipped_byte_in_any_file_is_refused", flipped_byte),
    ("any_truncated_file_is_refused", truncated_file),
    ("any_missing_file_is_refused", missing_file),
    ("a_missing_link_is_refused", missing_link),
    ("links_in_the_wrong_order_are_refused", wrong_order),
    ("the_same_link_twice_is_refused", same_link_twice),
    ("a_link_of_another_chain_is_refused", other_chain),
    ("a_base_of_another_database_is_refused", other_database),
    ("a_target_with_other_content_is_refused", other_content),
    ("a_plugin_that_is_none_is_refused", no_plugin),
    (
        "a_data_dir_that_cannot_be_read_is_refused",
        unreadable_data_dir,
    ),
    ("the_data_dir_of_another_cluster_is_refused", other_cluster),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installed = Taosdump::installed();
    let skip = installed.is_err();
    let trials = TESTS.into_iter().map(|(name, test)| {
        let installed = installed.clone();
        // A server each: some of them are killed.
        let test = move || {
            let (installation, taosdump) = installed?;
            let mut server = Server::start(&installation)?;
            test(&mut server, &taosdump).map_err(Failed::from)
        };
        Trial::test(name, test).with_ignored_flag(skip)
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn random() -> StdRng {
    let seed = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    println!("E2E_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// A database of some size: 2 super tables, normal tables, a few ten thousand rows.
fn filled<'a>(server: &'a Server, taosdump: &'a Taosdump) -> Result<Workbench<'a>, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("fault{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let bench = Workbench::new(server, taosdump, &name)?;
    bench
        .sql("create database $ vgroups 2 stt_trigger 1 keep 36500")
        .map_err(text)?;
    bench
        .sql("create table $.s (ts timestamp, i int, v varchar(20)) tags (t int)")
        .map_err(text)?;
    for n in 0..10 {
        bench
            .sql(&format!("create table $.c{n} using $.s tags ({n})"))
            .map_err(text)?;
        write(&bench, &format!("c{n}"), 0, 3_000)?;
    }
    bench
        .sql("create table $.n (ts timestamp, i int, v varchar(20))")
        .map_err(text)?;
    write(&bench, "n", 0, 1_000)?;
    Ok(bench)
}

fn write(bench: &Workbench, table: &str, first: i64, count: i64) -> Result<(), String> {
    let row = |n: i64| format!("({}, {n}, 'value {n}') ", 1_704_067_200_000 + n * 1_000);
    let rows: String = (first..first + count).map(row).collect();
    bench
        .sql(&format!("insert into $.{table} values {rows}"))
        .map(|_| ())
        .map_err(text)
}

/// Every kind of change, in many tables.
fn change(bench: &Workbench) -> Result<(), String> {
    for n in 0..8 {
        write(bench, &format!("c{n}"), 1_000 + n * 10, 500)?;
    }
    write(bench, "n", 900, 500)?;
    bench
        .sql("delete from $.c3 where ts > 1704069200000")
        .map_err(text)?;
    bench.sql("drop table $.c9").map_err(text)?;
    bench
        .sql("create table $.new using $.s tags (77)")
        .map_err(text)?;
    write(bench, "new", 0, 100)?;
    bench
        .sql("alter table $.c1 set tag t = 55")
        .map(|_| ())
        .map_err(text)
}

fn is_link(out: &Path) -> bool {
    out.join("incremental/manifest.json").exists()
}

/// It must have ended with this code, and say all of these words.
fn refused(run: &Run, code: i32, words: &[&str]) -> Result<(), String> {
    if run.code != Some(code) {
        return Err(format!("exit code {code} was expected: {}", run.output()));
    }
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !run.stderr.contains(**word))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("{missing:?} is not said: {}", run.output()))
    }
}

/// A restore must be refused with these words before it has written anything.
fn restore_refused<P: AsRef<Path>>(
    bench: &Workbench,
    links: &[P],
    words: &[&str],
) -> Result<(), String> {
    refused(&bench.try_restore(links)?, 1, words)?;
    if bench.target_exists().map_err(text)? {
        return Err("the target was written to before the links were checked".to_owned());
    }
    Ok(())
}

/// Ends a command with a signal somewhere in the time that it takes.
fn signalled(
    rng: &mut StdRng,
    command: &mut Command,
    whole: Duration,
    signal: i32,
) -> Result<Run, String> {
    let running = Running::start(command).map_err(text)?;
    thread::sleep(whole.mul_f64(rng.random_range(0.0..1.0)));
    running.signal(signal);
    running.wait().map_err(text)
}

/// Kills dumps of the next link until one got through or the rounds are over, then makes the link.
fn broken_dumps(bench: &mut Workbench, signal: i32) -> Result<(), String> {
    let mut rng = random();
    let trial = bench.path("trial");
    let whole = bench.try_link(&trial, &[])?.expect_code(0)?.wall;
    fs::remove_dir_all(&trial).map_err(text)?;
    let mut broken = 0;
    for round in 0..setting("FAULT_ROUNDS", 5) {
        let out = bench.path(&format!("link{}", bench.links.len()));
        let base = bench.links.last().cloned();
        let databases = [bench.database.as_str()];
        let mut command =
            bench
                .taosdump
                .link_command(bench.server, &databases, base.as_deref(), &out);
        let run = signalled(&mut rng, &mut command, whole, signal)?;
        if run.code == Some(0) {
            // It was done before the signal came.
            fs::remove_dir_all(&out).map_err(text)?;
            continue;
        }
        // A link that stands is whole: the signal came between the commit and the end of the process.
        if !is_link(&out) {
            broken += 1;
            if broken == 1 {
                restore_refused(bench, &[&out], &["manifest.json"])?;
            }
            // The same command again.
            Run::of(&mut command)
                .map_err(text)?
                .expect_code(0)
                .map_err(|e| format!("round {round}, again: {e}"))?;
        }
        let content = bench.content().map_err(text)?;
        let mut links = bench.links.clone();
        links.push(out.clone());
        bench.try_restore(&links)?.expect_code(0)?;
        bench
            .expect_target(&content)
            .map_err(|e| format!("round {round}: {e}"))?;
        bench.drop_target().map_err(text)?;
        fs::remove_dir_all(&out).map_err(text)?;
    }
    println!("{broken} dumps broken within {whole:?}");
    Ok(())
}

fn killed_full_dump(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    broken_dumps(&mut filled(server, taosdump)?, libc::SIGKILL)
}

fn killed_dump(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let mut bench = filled(server, taosdump)?;
    bench.link(&[])?;
    change(&bench)?;
    broken_dumps(&mut bench, libc::SIGKILL)
}

fn interrupted_dump(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let mut bench = filled(server, taosdump)?;
    bench.link(&[])?;
    change(&bench)?;
    broken_dumps(&mut bench, libc::SIGINT)
}

fn chain<'a>(server: &'a Server, taosdump: &'a Taosdump) -> Result<Workbench<'a>, String> {
    let mut bench = filled(server, taosdump)?;
    bench.link(&[])?;
    change(&bench)?;
    bench.link(&[])?;
    write(&bench, "c5", 5_000, 100)?;
    bench.link(&[])?;
    Ok(bench)
}

fn killed_restore(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = chain(server, taosdump)?;
    let mut rng = random();
    let whole = bench.try_restore(&bench.links)?.expect_code(0)?.wall;
    let target = bench.target();
    let rename = [(bench.database.as_str(), target.as_str())];
    for round in 0..setting("FAULT_ROUNDS", 5) {
        bench.drop_target().map_err(text)?;
        let mut command = taosdump.restore_command(bench.server, &bench.links, &rename);
        // Twice, as it may happen.
        for _ in 0..rng.random_range(1..3) {
            signalled(&mut rng, &mut command, whole, libc::SIGKILL)?;
        }
        bench
            .restore(0..3)
            .map_err(|e| format!("round {round}, again: {e}"))?;
    }
    Ok(())
}

/// Kills the server while a command runs and starts it again. True if the command was done all the same.
fn server_dies(
    server: &mut Server,
    command: &mut Command,
    moment: Duration,
) -> Result<bool, String> {
    let running = Running::start(command).map_err(text)?;
    thread::sleep(moment);
    server.kill();
    let run = running.wait().map_err(text)?;
    server.restart().map_err(text)?;
    match run.code {
        Some(0) => Ok(true),
        Some(1 | 3) => Ok(false),
        _ => Err(format!("the server died, and: {}", run.output())),
    }
}

/// The same command again, which must succeed. A server that died while it created a database takes a moment to
/// finish that after its start.
fn again(command: &mut Command) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let run = Run::of(command).map_err(text)?;
        let creating = run.stderr.contains("creating status");
        if !creating || Instant::now() > deadline {
            return run.expect_code(0).map(|_| ());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn server_dies_in_dump(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let mut rng = random();
    let dir = tempfile::tempdir().map_err(text)?;
    for round in 0..setting("FAULT_ROUNDS", 5) {
        let out = dir.path().join(format!("link{round}"));
        let (database, whole) = {
            let bench = filled(server, taosdump)?;
            let whole = bench
                .try_link(&bench.path("trial"), &[])?
                .expect_code(0)?
                .wall;
            (bench.keep(), whole)
        };
        let mut command = taosdump.link_command(server, &[&database], None, &out);
        let moment = whole.mul_f64(rng.random_range(0.0..1.0));
        let done = server_dies(server, &mut command, moment)?;
        if done != is_link(&out) {
            return Err(format!("exit code 0: {done}, a link: {}", is_link(&out)));
        }
        if !done {
            again(&mut command)?;
        }
        let bench = Workbench::new(server, taosdump, &database)?;
        bench.try_restore(&[&out])?.expect_code(0)?;
        bench.expect_target(&bench.content().map_err(text)?)?;
    }
    Ok(())
}

fn server_dies_in_restore(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let mut rng = random();
    let dir = tempfile::tempdir().map_err(text)?;
    let out = dir.path().join("full");
    let (database, whole) = {
        let bench = filled(server, taosdump)?;
        bench.try_link(&out, &[])?.expect_code(0)?;
        let whole = bench.try_restore(&[&out])?.expect_code(0)?.wall;
        bench.drop_target().map_err(text)?;
        (bench.keep(), whole)
    };
    let rename = [(database.as_str(), &*format!("{database}_restored"))];
    for _ in 0..setting("FAULT_ROUNDS", 5) {
        let mut command = taosdump.restore_command(server, &[&out], &rename);
        let moment = whole.mul_f64(rng.random_range(0.0..1.0));
        if !server_dies(server, &mut command, moment)? {
            again(&mut command)?;
        }
        let bench = Workbench::new(server, taosdump, &database)?;
        bench.expect_target(&bench.content().map_err(text)?)?;
        bench.drop_target().map_err(text)?;
        bench.keep();
    }
    Ok(())
}

fn is_root() -> bool {
    // SAFETY: it only asks.
    unsafe { libc::geteuid() == 0 }
}

fn full_disk(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    if !is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return Ok(());
    }
    let bench = filled(server, taosdump)?;
    let disk = bench.path("disk");
    fs::create_dir(&disk).map_err(text)?;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
        .arg(&disk)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a small disk cannot be mounted");
        return Ok(());
    }
    let out = disk.join("out");
    let run = bench.try_link(&out, &["-d", "null"]);
    let left = is_link(&out);
    let _ = Command::new("umount").arg(&disk).status();
    refused(&run?, 1, &[&disk.display().to_string(), "No space left"])?;
    if left {
        return Err("a dump onto a full disk left a link".to_owned());
    }
    Ok(())
}

/// Changes each file of both links in turn; a restore must name it and write nothing, and so must a verification.
fn damaged(
    server: &Server,
    taosdump: &Taosdump,
    damage: impl Fn(&Path, &[u8]) -> std::io::Result<()>,
) -> Result<(), String> {
    let mut bench = Workbench::new(server, taosdump, "damaged")?;
    bench.sql("create database $ vgroups 2").map_err(text)?;
    bench
        .sql("create table $.s (ts timestamp, i int, v varchar(20)) tags (t int)")
        .map_err(text)?;
    bench
        .sql("create table $.n (ts timestamp, i int, v varchar(20))")
        .map_err(text)?;
    for n in 0..2 {
        bench
            .sql(&format!("create table $.c{n} using $.s tags ({n})"))
            .map_err(text)?;
        for table in ["c0", "c1", "n"].iter().take(2 + n) {
            let _ = write(&bench, table, n as i64 * 1_000, 100);
        }
        bench.link(&[])?;
    }
    let verify = verifier();
    for link in bench.links.clone() {
        for file in files_below(&link) {
            let bytes = fs::read(&file).map_err(text)?;
            damage(&file, &bytes).map_err(text)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            restore_refused(&bench, &bench.links, &[&name])
                .map_err(|e| format!("{}: {e}", file.display()))?;
            if let Some(verify) = &verify {
                let mut command = Command::new(verify);
                command.arg("--verify");
                for link in &bench.links {
                    command.arg("--backup").arg(link);
                }
                let run = Run::of(&mut command).map_err(text)?;
                refused(&run, 1, &[]).map_err(|e| format!("verify, {}: {e}", file.display()))?;
                // Its report is what it prints.
                if !run.stdout.contains(&*name) {
                    return Err(format!("verify does not name {name}: {}", run.output()));
                }
            }
            fs::write(&file, &bytes).map_err(text)?;
        }
    }
    bench.restore(0..2)
}

/// `INCREMENTAL_BITMAP_TOOL`, or the one that was built beside this test, if it can verify.
fn verifier() -> Option<PathBuf> {
    let beside = env::current_exe()
        .ok()?
        .ancestors()
        .nth(2)?
        .join("incremental_bitmap_tool");
    let program = env::var_os("INCREMENTAL_BITMAP_TOOL").map_or(beside, PathBuf::from);
    let help = Command::new(&program).arg("--help").output();
    let able = help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--verify"));
    if !able {
        eprintln!("skipped: {} --verify: there is none", program.display());
    }
    able.then_some(program)
}

fn flipped_byte(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    damaged(server, taosdump, |file, bytes| {
        let mut bytes = bytes.to_vec();
        match bytes.len() / 2 {
            0 => bytes.push(0),
            middle => bytes[middle] ^= 4,
        }
        fs::write(file, bytes)
    })
}

fn truncated_file(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    damaged(server, taosdump, |file, bytes| {
        fs::write(file, &bytes[..bytes.len().saturating_sub(1)])
    })
}

fn missing_file(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    damaged(server, taosdump, |file, _| fs::remove_file(file))
}

fn missing_link(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = chain(server, taosdump)?;
    let [full, _, last] = [0, 1, 2].map(|n| bench.links[n].clone());
    restore_refused(&bench, &[full.clone(), last.clone()], &["link2"])?;
    restore_refused(&bench, std::slice::from_ref(&last), &["link2"])?;
    // The same when the first link is restored already.
    bench.restore(0..1)?;
    refused(&bench.try_restore(&[last])?, 1, &["link2"])?;
    bench.expect_target(&bench.contents[0])
}

fn wrong_order(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = chain(server, taosdump)?;
    let [full, first, last] = [0, 1, 2].map(|n| bench.links[n].clone());
    restore_refused(
        &bench,
        &[full.clone(), last.clone(), first.clone()],
        &["link2"],
    )?;
    restore_refused(&bench, &[first, full, last], &["link1"])
}

fn same_link_twice(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = chain(server, taosdump)?;
    let [full, first, _] = [0, 1, 2].map(|n| bench.links[n].clone());
    restore_refused(&bench, &[full, first.clone(), first], &["link1"])
}

fn other_chain(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = chain(server, taosdump)?;
    let full = bench.path("other");
    let databases = [bench.database.as_str()];
    let mut command = taosdump.link_command(bench.server, &databases, None, &full);
    Run::of(&mut command).map_err(text)?.expect_code(0)?;
    restore_refused(&bench, &[full, bench.links[1].clone()], &["link1"])
}

fn other_database(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let mut first = filled(server, taosdump)?;
    first.link(&[])?;
    let mut second = filled(server, taosdump)?;
    second.links = first.links.clone();
    let out = second.path("refused");
    refused(&second.try_link(&out, &[])?, 1, &[&second.database, "base"])?;
    if is_link(&out) {
        return Err("a refused dump left a link".to_owned());
    }
    Ok(())
}

fn other_content(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = chain(server, taosdump)?;
    let target = bench.target();
    bench
        .c
        .execute(&format!("create database {target}"))
        .map_err(text)?;
    bench
        .c
        .execute(&format!("create table {target}.mine (ts timestamp, i int)"))
        .map_err(text)?;
    bench
        .c
        .execute(&format!("insert into {target}.mine values (now, 1)"))
        .map_err(text)?;
    let before = e2e::Content::read(&bench.c, &target).map_err(text)?;
    refused(&bench.try_restore(&bench.links)?, 1, &[&target])?;
    bench.expect_target(&before)
}

fn no_plugin(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let bench = filled(server, taosdump)?;
    let out = bench.path("out");
    let file = bench.path("plugin.so");
    let name = file.display().to_string();
    for content in [None, Some("no library")] {
        if let Some(content) = content {
            fs::write(&file, content).map_err(text)?;
        }
        refused(
            &bench.try_link(&out, &["--bitmap-plugin", &name])?,
            2,
            &[&name],
        )?;
        if is_link(&out) {
            return Err("a refused dump left a link".to_owned());
        }
    }
    Ok(())
}

const NOBODY: u32 = 65_534;

fn unreadable_data_dir(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    if !is_root() {
        eprintln!("skipped: only root can run a program as another user");
        return Ok(());
    }
    let bench = filled(server, taosdump)?;
    let dir = bench.path("");
    let out = bench.path("out");
    let server_dir = bench.server.data_dir();
    let open = [server_dir.parent(), Some(&dir)];
    for path in open.into_iter().flatten() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(text)?;
    }
    fs::set_permissions(&server_dir, fs::Permissions::from_mode(0o700)).map_err(text)?;
    let command = taosdump.link_command(bench.server, &[&bench.database], None, &out);
    chown(&out, Some(NOBODY), Some(NOBODY)).map_err(text)?;
    let mut as_nobody = Command::new("setpriv");
    as_nobody
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(&dir);
    for (name, value) in command.get_envs() {
        as_nobody.env(name, value.unwrap_or_default());
    }
    let run = Run::of(&mut as_nobody).map_err(text)?;
    refused(
        &run,
        1,
        &[&server_dir.display().to_string(), "ermission denied"],
    )
}

fn other_cluster(server: &mut Server, taosdump: &Taosdump) -> Result<(), String> {
    let installation = Installation::find()?;
    let other = Server::start(&installation).map_err(text)?;
    let c = other.connect().map_err(text)?;
    let bench = filled(server, taosdump)?;
    // The same name there, so that only the cluster differs.
    c.execute(&format!("create database {} vgroups 2", bench.database))
        .map_err(text)?;
    let out = bench.path("out");
    fs::create_dir(&out).map_err(text)?;
    let data_dir = other.data_dir();
    let mut command = taosdump.command(bench.server, &bench.path(""));
    command
        .args(["--incremental", "-D", &bench.database, "--data-dir"])
        .arg(&data_dir)
        .arg("-o")
        .arg(&out);
    let run = Run::of(&mut command).map_err(text)?;
    refused(&run, 1, &[&data_dir.display().to_string()])?;
    if is_link(&out) {
        return Err("a refused dump left a link".to_owned());
    }
    Ok(())
}
