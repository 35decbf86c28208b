//! `taosdump --incremental`: what the patched taosdump hands over, done.

mod options;
mod words;

use config::Settings;
use model::{Cancelled, Progress as _};
use ops::{
    backup,
    restore::{self, RestoreError},
};
use options::{Job, Options};
use server::Library;
use std::{
    ffi::OsString,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use terminal::{Exit, progress::Bar, report, say};

/// One option of taosdump's command line, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// taosdump's own letter, a value of `EIncrementalOption` (`taosdump_engine.h`), or 0 for an argument without an
    /// option.
    pub key: i32,
    /// Its argument, if it takes one.
    pub arg: Option<OsString>,
}

/// Does the job, as far as the settings allow it; returns the exit code. A password that is given goes before that of the
/// settings.
#[must_use]
pub fn run(given: &[Given], password: Option<OsString>, settings: &Settings) -> u8 {
    let password = password.or_else(|| settings.source.password.clone().map(OsString::from));
    let options = Options::parse(given, password).and_then(|options| match &options.job {
        Job::Backup(_) => settings.must_be_plain().map(|()| options),
        Job::Restore(_) => Ok(options),
    });
    let options = match options {
        Ok(options) => options,
        Err(problem) => {
            say(&format!("taosdump: {problem}"));
            return Exit::Usage as u8;
        }
    };
    let exit = match Library::in_process(options.config_dir.as_deref()) {
        Ok(library) => at_once(options, library),
        Err(error) => {
            report::failed(&error, options.json);
            Exit::Failed
        }
    };
    exit as u8
}

/// How long a restore has to end by itself once it is cancelled: longer than a healthy server takes for a statement.
const GRACE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// As much as a main thread has.
const STACK: usize = 8 << 20;

/// What is waited for is said after this time, and again as often.
const SAID: Duration = Duration::from_secs(5);

/// Does the job, and looks after a restore meanwhile: the client library may wait for a server as long as it likes. A
/// restore that is cancelled or gets no answer, and does not end by itself, is left behind: the program ends then, which
/// is to the server as if it was killed. A dump is not: it could just be making its link.
fn at_once(options: Options, library: Library) -> Exit {
    let json = options.json;
    let bar = Arc::new(match &options.job {
        // What a dump has not finished is no link.
        Job::Backup(_) => Bar::of_a_program(json),
        Job::Restore(_) => Bar::new(),
    });
    let restore = match &options.job {
        Job::Backup(_) => None,
        Job::Restore(job) => Some((Arc::clone(&job.pulse), job.login.to_string())),
    };
    let (done, result) = mpsc::channel();
    let working = Arc::clone(&bar);
    let work = move || {
        let exit = panic::catch_unwind(AssertUnwindSafe(|| start(&options, &library, &working)));
        // Nobody listens any more where the program is about to end.
        let _ = done.send(exit);
    };
    if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(work) {
        report::failed(&error, json);
        return Exit::Failed;
    }
    let (mut cancelled, mut said) = (None, Duration::ZERO);
    loop {
        match result.recv_timeout(LOOK) {
            Ok(Ok(exit)) => return exit,
            // As it would have been on this thread.
            Ok(Err(panic)) => panic::resume_unwind(panic),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Exit::Failed,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let Some((pulse, server)) = &restore else {
            continue;
        };
        let (silence, patience) = (pulse.silence(), pulse.patience());
        if silence < SAID {
            said = Duration::ZERO;
        } else if silence >= said + SAID && !patience.is_zero() {
            said = silence;
            bar.waits(&format!(
                "{server} has not answered for {} s; waiting for up to {} s more",
                silence.as_secs(),
                patience.as_secs()
            ));
        }
        let left: Option<&dyn std::error::Error> = match (bar.is_cancelled(), patience) {
            (true, _) => Some(&Cancelled),
            (false, Duration::ZERO) => Some(&RestoreError::Lost),
            _ => None,
        };
        let Some(error) = left else {
            continue;
        };
        if cancelled.get_or_insert_with(Instant::now).elapsed() >= GRACE {
            bar.finish();
            report::failed(error, json);
            return Exit::Failed;
        }
    }
}

fn start(options: &Options, library: &Library, bar: &Bar) -> Exit {
    let began = Instant::now();
    let outcome = match &options.job {
        Job::Backup(job) => match backup::run(job, library, bar) {
            Ok(outcome) => {
                bar.finish();
                let exit = report::dumped(&outcome, options.json);
                if exit == Exit::Done {
                    metrics::global().backup_done(began.elapsed(), outcome.link.bytes());
                }
                Ok(exit)
            }
            Err(error) => Err(error.into()),
        },
        Job::Restore(job) => match restore::run(job, library, bar) {
            Ok(outcome) => {
                bar.finish();
                Ok(report::restored(&outcome, options.json))
            }
            Err(error @ RestoreError::Busy { .. }) => {
                bar.finish();
                report::failed(&error, options.json);
                Ok(Exit::Busy)
            }
            Err(error) => Err(Box::<dyn std::error::Error>::from(error)),
        },
    };
    bar.finish();
    outcome.unwrap_or_else(|error| {
        report::failed(error.as_ref(), options.json);
        Exit::Failed
    })
}
