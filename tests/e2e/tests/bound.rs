//! What a test starts ends with the test process, however that ends. Needs no server.
//!
//! The process that ends is this program itself, started again with `BOUND_CHILD` set.

use e2e::spawn_bound;
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    if env::var_os("BOUND_CHILD").is_some() {
        return match child() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let trials = vec![
        Trial::test("ends_with_a_process_that_is_killed", || {
            let mut started = Started::new()?;
            started.process.kill()?;
            started.process.wait()?;
            started.expect_end()
        }),
        Trial::test("ends_with_a_process_that_ends", || {
            let mut started = Started::new()?;
            drop(started.process.stdin.take());
            started.process.wait()?;
            started.expect_end()
        }),
        Trial::test("outlives_the_thread_that_started_it", || {
            let mut started = Started::new()?;
            let is_running = is_running(&started.bound);
            drop(started.process.stdin.take());
            started.process.wait()?;
            match is_running {
                true => Ok(()),
                false => Err("it ended with the thread".into()),
            }
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Starts a process in a thread, says its number when that thread has gone, and ends with its input. Nothing stops the
/// process.
fn child() -> io::Result<()> {
    let start = || {
        let mut command = Command::new("sleep");
        command
            .arg("600")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let thread = fs::read_link("/proc/thread-self")?;
        Ok::<_, io::Error>((spawn_bound(command)?, Path::new("/proc").join(thread)))
    };
    let (process, thread) = thread::spawn(start)
        .join()
        .map_err(|_| io::Error::other("the thread panicked"))??;
    while thread.exists() {
        thread::yield_now();
    }
    println!("{}", process.id());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// This program, started again, and the number of the process that it started.
struct Started {
    process: Child,
    bound: String,
}

impl Started {
    fn new() -> Result<Self, Failed> {
        let mut process = Command::new(env::current_exe()?)
            .env("BOUND_CHILD", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let bound = line.trim().to_owned();
        match bound.is_empty() {
            false => Ok(Self { process, bound }),
            true => Err("it started nothing".into()),
        }
    }

    fn expect_end(&self) -> Result<(), Failed> {
        let patience = Instant::now() + Duration::from_secs(60);
        while is_running(&self.bound) {
            if Instant::now() > patience {
                return Err(format!("process {} is still there", self.bound).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Whether there is such a process, and it is none that has ended and that nobody has asked about yet.
fn is_running(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
