//! How long work goes on, and whether it should end.

use std::error::Error;

/// What a step's progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Vnodes that are read.
    Vnodes,
    /// Tables that are copied or written.
    Tables,
    /// Bytes that are read.
    Bytes,
}

/// Told how work goes on, and asked whether it should end. Called from several threads.
pub trait Progress: Sync {
    /// A step begins, with `total` units to do; 0 where that is not known.
    fn step(&self, what: &str, unit: Unit, total: u64) {
        let _ = (what, unit, total);
    }

    /// So many more units of the step are done, and they had so many rows.
    fn advance(&self, units: u64, rows: u64) {
        let _ = (units, rows);
    }

    /// Work has waited for seconds and waits on; `what` says for what, and for how long at most.
    fn waits(&self, what: &str) {
        let _ = what;
    }

    /// Work gives up, and can't end by itself before something outside of it lets go: a call that waits for a server that has
    /// gone. Whoever can do without the rest of the process may end it here; else the work ends later, with an error.
    fn gives_up(&self, why: &dyn Error) {
        let _ = why;
    }

    /// Whether whoever asked for the work wants it to end. Work looks often, and ends with [`Cancelled`] soon after.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Ends work that is cancelled.
    ///
    /// # Errors
    /// It is cancelled.
    fn go_on(&self) -> Result<(), Cancelled> {
        match self.is_cancelled() {
            true => Err(Cancelled),
            false => Ok(()),
        }
    }
}

/// Nobody is told, and nobody cancels.
impl Progress for () {}

/// Work that whoever asked for it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was cancelled; run it again to do it")]
pub struct Cancelled;
