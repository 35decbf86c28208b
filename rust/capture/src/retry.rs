//! Bounded repetition for reads that race with the server.

use std::{thread, time::Duration};
use tdfiles::FormatError;

/// How often a read that raced is repeated. The pauses grow to 50 ms, so that a server that commits or merges
/// all the time leaves a gap to slip through: about 4 s in all.
pub(crate) const ATTEMPTS: u32 = 100;

/// Waits before attempt `n + 1`.
pub(crate) fn pause(n: u32) {
    thread::sleep(Duration::from_millis(u64::from(n).min(50)));
}

/// Reads a block of a `.data` file. A merge appends to the file in place and rewrites its last partial page, so a page can
/// fail its checksum for an instant.
pub(crate) fn read_racing<T>(read: impl Fn() -> Result<T, FormatError>) -> Result<T, FormatError> {
    const READS: u32 = 5;
    for attempt in 1..READS {
        match read() {
            Err(FormatError::Corrupt { .. }) => pause(attempt),
            result => return result,
        }
    }
    read()
}
