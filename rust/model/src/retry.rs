//! Trying again: one policy for everything that may fail for a moment.

use crate::{Cancelled, Progress};
use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// An error that says whether another try may do better.
pub trait MayPass {
    /// Whether what went wrong may be over in a moment: a lost connection, a busy server, a full queue. What the server
    /// or the system refuses for good does not pass.
    fn may_pass(&self) -> bool;
}

/// When something that failed is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// How often, at most.
    pub count: u32,
    /// How long to wait before that.
    pub interval: Duration,
    /// After this time no further try begins.
    pub timeout: Duration,
}

/// How often a wait looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(20);

impl Retry {
    /// Tries, and tries again while the error [`MayPass`]. `again` is told of each error that is followed by another
    /// try.
    ///
    /// # Errors
    /// That of the last try. A cancelled wait ends with the error that it waited after.
    pub fn run<T, E: MayPass + Display>(
        &self,
        progress: &dyn Progress,
        mut again: impl FnMut(&E),
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            let error = match attempt() {
                Err(error) if tries < self.count && error.may_pass() => error,
                result => return result,
            };
            if began.elapsed().saturating_add(self.interval) >= self.timeout {
                return Err(error);
            }
            tries += 1;
            again(&error);
            if pause(self.interval, progress).is_err() {
                return Err(error);
            }
        }
    }
}

/// How long a server is waited for that is busy with something else, such as moving a vgroup, which closes it for a few
/// seconds; how often it is asked; and when it is said first, and again, that it is waited for.
const BUSY: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_millis(200);
const SAY: Duration = Duration::from_secs(5);

/// Tries, and tries again while an error says that the server is busy with something that ends soon. Says so, from the
/// fifth second on.
///
/// # Errors
/// That of the last try. A cancelled wait ends with the error that it waited after.
pub fn while_busy<T, E: Display>(
    progress: &dyn Progress,
    is_busy: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let began = Instant::now();
    let mut say = SAY;
    loop {
        let error = match attempt() {
            Err(error) if is_busy(&error) => error,
            result => return result,
        };
        let waited = began.elapsed();
        let left = BUSY.saturating_sub(waited);
        if waited >= say {
            say = waited + SAY;
            progress.waits(&format!(
                "waiting until the server is ready, at most {} s more: {error}",
                left.as_secs()
            ));
        }
        if left <= ASK || pause(ASK, progress).is_err() {
            return Err(error);
        }
    }
}

/// Waits, and looks meanwhile whether the work was cancelled.
///
/// # Errors
/// It was cancelled.
pub fn pause(length: Duration, progress: &dyn Progress) -> Result<(), Cancelled> {
    let until = Instant::now() + length;
    loop {
        progress.go_on()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(LOOK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct Failed {
        may_pass: bool,
    }

    impl MayPass for Failed {
        fn may_pass(&self) -> bool {
            self.may_pass
        }
    }

    fn run(count: u32, timeout: Duration, fails: u32, may_pass: bool) -> (bool, u32) {
        let retry = Retry {
            count,
            interval: Duration::from_millis(1),
            timeout,
        };
        let (mut tries, mut again) = (0, 0);
        let result = retry.run(
            &(),
            |_| again += 1,
            || {
                tries += 1;
                match tries > fails {
                    true => Ok(()),
                    false => Err(Failed { may_pass }),
                }
            },
        );
        assert_eq!(again, tries - 1, "each is told");
        (result.is_ok(), tries)
    }

    #[test]
    fn what_may_pass_is_tried_again_as_often_and_as_long_as_wanted() {
        let long = Duration::from_secs(600);
        assert_eq!(run(3, long, 2, true), (true, 3));
        assert_eq!(run(3, long, 9, true), (false, 4));
        assert_eq!(run(0, long, 9, true), (false, 1));
        assert_eq!(run(3, long, 9, false), (false, 1));
        assert_eq!(run(3, Duration::ZERO, 9, true), (false, 1));
    }

    #[test]
    fn a_busy_server_is_asked_again_and_any_other_error_is_final() {
        let fails = |count: u32, is_busy: bool| {
            let mut tries = 0;
            let result = while_busy(
                &(),
                |failed: &Failed| failed.may_pass,
                || {
                    tries += 1;
                    match tries > count {
                        true => Ok(()),
                        false => Err(Failed { may_pass: is_busy }),
                    }
                },
            );
            (result.is_ok(), tries)
        };
        assert_eq!(fails(2, true), (true, 3));
        assert_eq!(fails(2, false), (false, 1));
    }

    #[test]
    fn a_wait_that_is_cancelled_ends() {
        struct Stopped;
        impl Progress for Stopped {
            fn is_cancelled(&self) -> bool {
                true
            }
        }
        assert_eq!(pause(Duration::from_secs(3_600), &Stopped), Err(Cancelled));
        let retry = Retry {
            count: 9,
            interval: Duration::from_secs(3_600),
            timeout: Duration::MAX,
        };
        let mut tries = 0;
        let result: Result<(), Failed> = retry.run(
            &Stopped,
            |_| {},
            || {
                tries += 1;
                Err(Failed { may_pass: true })
            },
        );
        assert!(result.is_err());
        assert_eq!(tries, 1);
    }
}
