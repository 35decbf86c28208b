//! `taosdump --incremental`: what the patched taosdump hands over.

use crate::Exit;
use std::ffi::OsString;

/// One option of taosdump's command line, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// taosdump's own letter, a value of `EIncrementalOption` (`taosdump_engine.h`), or 0 for an argument without an
    /// option.
    pub key: i32,
    /// Its argument, if it takes one.
    pub arg: Option<OsString>,
}

/// Does the job; returns the exit code.
#[must_use]
pub fn run(_given: &[Given], _password: Option<OsString>) -> u8 {
    eprintln!("taosdump: --incremental is not built yet");
    Exit::Failed as u8
}
