//! `taosdump --incremental`: what the patched taosdump hands over, done.

mod options;
mod words;

use config::Settings;
use ops::{
    backup,
    restore::{self, RestoreError},
};
use options::{Job, Options};
use server::Library;
use std::{ffi::OsString, time::Instant};
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
        Job::Restore(_) | Job::Preview(_) => Ok(options),
    });
    let options = match options {
        Ok(options) => options,
        Err(problem) => {
            say(&format!("taosdump: {problem}"));
            return Exit::Usage as u8;
        }
    };
    let exit = match Library::in_process(options.config_dir.as_deref()) {
        Ok(library) => start(&options, &library),
        Err(error) => {
            report::failed(&error, options.json);
            Exit::Failed
        }
    };
    exit as u8
}

/// Does the job. Where the server does not answer any more, or work that is cancelled does not end, the program ends: what a
/// dump has not finished is no link, and to the server it is as if a restore was killed.
fn start(options: &Options, library: &Library) -> Exit {
    let bar = &Bar::of_a_program(options.json);
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
        Job::Preview(job) => match restore::preview(job, library, bar) {
            Ok(preview) => {
                bar.finish();
                Ok(report::previewed(&preview, options.json))
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
