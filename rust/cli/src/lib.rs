//! The command-line programs: arguments in, calls into `backup`, text and exit codes out.

pub mod archive;
pub mod detect;
pub mod export;
mod human;
mod progress;
pub mod script;
pub mod server;
pub mod settings;
mod stdout;
pub mod taosdump;
pub mod verify;

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
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}
