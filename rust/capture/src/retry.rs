//! Bounded repetition for reads that race with the server.

use std::{thread, time::Duration};

/// How often a read that raced is repeated. The pauses grow to 50 ms, so that a server that commits or merges
/// all the time leaves a gap to slip through: about 4 s in all.
pub(crate) const ATTEMPTS: u32 = 100;

/// Waits before attempt `n + 1`.
pub(crate) fn pause(n: u32) {
    thread::sleep(Duration::from_millis(u64::from(n).min(50)));
}
