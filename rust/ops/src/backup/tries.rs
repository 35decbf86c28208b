//! What happens to a table whose rows could not be read for a reason that may pass.

use model::{Cancelled, Progress, retry::pause};
use server::SqlError;
use std::time::{Duration, Instant};

/// How often a table is tried again, and how long to wait before that.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// After this time it is not tried again: each try may take the client library as long as it likes.
const LONGEST: Duration = Duration::from_secs(60);

/// How often one table was tried.
#[derive(Debug, Default)]
pub(super) struct TableTries {
    failed: u32,
    /// When it failed first.
    since: Option<Instant>,
}

/// What to do after a try that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// The wait is over: try again, with a new connection.
    TryAgain,
    /// This table fails alone. Its vgroup has no leader; the tables of other vgroups can be read.
    TableFails,
    /// The server does not answer: no other table can be read either.
    ServerIsLost,
}

impl TableTries {
    /// Waits before the next try, or says that there is none. `error` may pass; `given_up` says that no server of the
    /// cluster has answered for long.
    pub(super) fn after(
        &mut self,
        error: &SqlError,
        given_up: bool,
        progress: &dyn Progress,
    ) -> Result<AfterFailure, Cancelled> {
        self.failed += 1;
        let lasts = self.since.get_or_insert_with(Instant::now).elapsed();
        if given_up && error.is_disconnected() {
            return Ok(AfterFailure::ServerIsLost);
        }
        if self.failed <= RETRIES && lasts < LONGEST {
            pause(PAUSE, progress)?;
            return Ok(AfterFailure::TryAgain);
        }
        Ok(match error.is_disconnected() {
            true => AfterFailure::ServerIsLost,
            false => AfterFailure::TableFails,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_last_try_a_table_without_a_leader_fails_alone_and_a_lost_server_ends_the_work() {
        let after_all = |code| {
            let error = SqlError {
                code,
                ..SqlError::local("a test")
            };
            let mut tries = TableTries {
                failed: RETRIES,
                since: None,
            };
            tries.after(&error, false, &()).unwrap()
        };
        assert_eq!(after_all(0x090c), AfterFailure::TableFails);
        assert_eq!(after_all(0x000b), AfterFailure::ServerIsLost);
    }
}
