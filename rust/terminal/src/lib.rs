//! What programs show to people.
//!
//! | module | holds |
//! |---|---|
//! | [`progress`] | progress bars, and Ctrl-C |
//! | [`report`] | what a backup or restore did, as text or JSON |
//! | [`stdout`] | standard output |

pub mod progress;
pub mod report;
pub mod stdout;

use std::io::{self, Write as _};

/// How a program ends. Documented and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// It could not be done. Of the files that were asked for, each is whole or not there.
    Failed = 1,
    /// The command line makes no sense; nothing was tried.
    Usage = 2,
    /// It was done, but the result is wider than the changes themselves, or a dump lacks something; the result says
    /// where and why.
    Incomplete = 3,
    /// Somebody else is at it: another restore writes to the same database. Nothing was written.
    Busy = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// A line to standard error. When even that fails, there is nobody to tell.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
