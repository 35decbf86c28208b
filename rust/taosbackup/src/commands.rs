//! One file a command: its options, and what it does.

pub(crate) mod copy;
pub(crate) mod forget;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod manuals;
pub(crate) mod prune;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod verify;

use crate::{Failure, arguments::Global};
use jiff::tz::TimeZone;
use model::Progress;
use terminal::progress::Bar;

/// Progress of a command, hidden where none is wanted.
pub(crate) struct Shown {
    bar: Bar,
    quiet: bool,
}

impl Shown {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            bar: Bar::new(),
            quiet: global.quiet,
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish();
    }
}

impl Progress for Shown {
    fn step(&self, what: &str, unit: model::Unit, total: u64) {
        if !self.quiet {
            self.bar.step(what, unit, total);
        }
    }

    fn advance(&self, units: u64, rows: u64) {
        if !self.quiet {
            self.bar.advance(units, rows);
        }
    }

    fn waits(&self, what: &str) {
        self.bar.waits(what);
    }

    fn gives_up(&self, why: &dyn std::error::Error) {
        self.bar.gives_up(why);
    }

    fn is_cancelled(&self) -> bool {
        self.bar.is_cancelled()
    }
}

/// The operator's time zone.
pub(crate) fn zone(name: Option<&str>) -> Result<TimeZone, Failure> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name).map_err(|error| {
            Failure::usage(format!(
                "--time-zone {name}: {error}; give a name such as Asia/Shanghai"
            ))
        }),
    }
}

/// As many threads as there are processors.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}
