//! The process's umask, which the client library sets to 0 when it opens its log: whatever the process writes after that
//! could be read and written by everybody.

use rustix::{fs::Mode, process::umask};
use std::sync::OnceLock;

/// The umask before the library was first called. It is asked once: several threads connect at a time, and one would
/// take for the umask what another's call has just made of it.
static BEFORE: OnceLock<Mode> = OnceLock::new();

/// Calls the library, and puts the umask back as it was before the first such call.
pub(crate) fn kept<T>(call: impl FnOnce() -> T) -> T {
    let before = *BEFORE.get_or_init(|| {
        // It can only be read by setting it. What other threads create meanwhile is for its owner alone.
        let before = umask(Mode::RWXG | Mode::RWXO);
        umask(before);
        before
    });
    let result = call();
    umask(before);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_does_to_the_umask_is_undone() {
        let operators = Mode::WGRP | Mode::WOTH;
        umask(operators);
        let seen = kept(|| umask(Mode::empty()));
        assert_eq!((seen, umask(operators)), (operators, operators));
        kept(|| umask(Mode::empty()));
        assert_eq!(umask(operators), operators);
    }
}
