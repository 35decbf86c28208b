//! `taosdump --incremental`: what the patched taosdump hands over, done.

mod options;
pub(crate) mod report;

use crate::{Exit, export::must_be_plain, progress::TableBar};
use backup::{dump, restore};
use config::Settings;
use options::{Job, Options};
use std::{
    ffi::OsString,
    io::{self, Write},
    time::Instant,
};
use taos::Library;

/// One option of taosdump's command line, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// taosdump's own letter, a value of `EIncrementalOption` (`taosdump_engine.h`), or 0 for an argument without an
    /// option.
    pub key: i32,
    /// Its argument, if it takes one.
    pub arg: Option<OsString>,
}

/// Does the job, as far as the settings allow it; returns the exit code.
#[must_use]
pub fn run(given: &[Given], password: Option<OsString>, settings: &Settings) -> u8 {
    let options = Options::parse(given, password).and_then(|options| match &options.job {
        Job::Dump(_) => must_be_plain(settings).map(|()| options),
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
        Ok(library) => start(&options, &library),
        Err(error) => {
            report::failed(&error, options.json);
            Exit::Failed
        }
    };
    exit as u8
}

fn start(options: &Options, library: &Library) -> Exit {
    let bar = TableBar::new();
    let began = Instant::now();
    let outcome = match &options.job {
        Job::Dump(job) => match dump::run(job, library, &bar) {
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
        Job::Restore(job) => match restore::run(job, library, &bar) {
            Ok(outcome) => {
                bar.finish();
                Ok(report::restored(&outcome, options.json))
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

/// To standard error; there is nobody to tell when even that fails.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
