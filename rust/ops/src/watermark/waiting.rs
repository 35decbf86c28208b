//! Waits: they are bounded, say from the fifth second on what is waited for, and end as soon as the work is cancelled.

use super::WatermarkError;
use model::{Cancelled, MayPass as _, Progress, retry::pause};
use server::{Connection, Library, Login, SqlError};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// When a wait says for the first time what it waits for, and how long it is silent between two times.
const SAY: Duration = Duration::from_secs(5);

/// How often an answer is looked for, and whether the work was cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// A wait for something that moves, but never gets there, ends after so many times its limit.
const MOVES: u32 = 10;

/// How long a statement that may be tried again waits before that.
const AGAIN: Duration = Duration::from_millis(200);

/// One wait.
pub(super) struct Waiting<'a> {
    progress: &'a dyn Progress,
    /// When it began, or what is waited for moved last.
    moved: Instant,
    limit: Duration,
    /// When it ends, however much moves.
    end: Instant,
    /// When it says the next time what it waits for.
    say: Instant,
}

impl<'a> Waiting<'a> {
    /// Begins to wait, for `limit` at most.
    pub(super) fn new(progress: &'a dyn Progress, limit: Duration) -> Self {
        let began = Instant::now();
        Self {
            progress,
            moved: began,
            limit,
            end: began + limit * MOVES,
            say: began + SAY,
        }
    }

    /// Begins anew, as what is waited for has moved.
    pub(super) fn has_moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Waits a little; false when the time is up. `what` stands behind "waiting for".
    pub(super) fn pause(
        &mut self,
        length: Duration,
        what: impl FnOnce() -> String,
    ) -> Result<bool, Cancelled> {
        let go_on = self.look(what)?;
        if go_on {
            pause(length, self.progress)?;
        }
        Ok(go_on)
    }

    /// The same without any pause.
    fn look(&mut self, what: impl FnOnce() -> String) -> Result<bool, Cancelled> {
        self.progress.go_on()?;
        let now = Instant::now();
        let left = self.end.min(self.moved + self.limit);
        let left = left.saturating_duration_since(now);
        if left.is_zero() {
            return Ok(false);
        }
        if now >= self.say {
            self.say = now + SAY;
            let text = format!("waiting for {}, at most {} s more", what(), left.as_secs());
            self.progress.waits(&text);
        }
        Ok(true)
    }
}

/// What is asked on the other connection.
type Question = Box<dyn FnOnce(&Connection) + Send>;

/// Whom to ask.
pub(crate) enum Asker<'c> {
    /// A connection of its own with a thread of its own. A server that is frozen answers a statement after many minutes,
    /// and the client library waits for it: here the statement is given up instead.
    Apart(mpsc::Sender<Question>),
    /// The caller's connection, and its patience.
    Here(&'c Connection),
}

impl Asker<'_> {
    pub(crate) fn new(library: &Library, login: &Login) -> Result<Self, SqlError> {
        let connection = library.connect(login)?;
        let (questions, asked) = mpsc::channel::<Question>();
        thread::spawn(move || {
            for question in asked {
                question(&connection);
            }
        });
        Ok(Self::Apart(questions))
    }

    /// Asks until there is an answer, and asks again while the error may pass. `what` stands behind "waiting for".
    pub(super) fn ask<T: Send + 'static>(
        &self,
        waiting: &mut Waiting<'_>,
        what: &str,
        question: impl Fn(&Connection) -> Result<T, SqlError> + Clone + Send + 'static,
    ) -> Result<T, WatermarkError> {
        loop {
            match self.once(waiting, what, question.clone())? {
                Err(error) if error.may_pass() => {
                    let text = format!("{what}: {error}");
                    if !waiting.pause(AGAIN, || text)? {
                        return Err(given_up(waiting, what, error.to_string()));
                    }
                }
                result => return Ok(result?),
            }
        }
    }

    /// Asks once; the outer error is that no answer came.
    fn once<T: Send + 'static>(
        &self,
        waiting: &mut Waiting<'_>,
        what: &str,
        question: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<Result<T, SqlError>, WatermarkError> {
        let questions = match self {
            Self::Here(connection) => return Ok(question(connection)),
            Self::Apart(questions) => questions,
        };
        let (answer, answered) = mpsc::channel();
        let ask = Box::new(move |connection: &Connection| {
            // Whoever asked may have given up.
            let _ = answer.send(question(connection));
        });
        let gone = || SqlError::local("the thread that asks the server has ended");
        questions.send(ask).map_err(|_| gone())?;
        let asked = Instant::now();
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(Err(gone())),
                // Most answers come at once, and something else is waited for.
                Err(mpsc::RecvTimeoutError::Timeout) if asked.elapsed() < SAY => {
                    waiting.progress.go_on()?;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if !waiting.look(|| format!("an answer to {what}"))? {
                        return Err(given_up(waiting, what, "no answer came".to_owned()));
                    }
                }
            }
        }
    }
}

fn given_up(waiting: &Waiting<'_>, what: &str, problem: String) -> WatermarkError {
    WatermarkError::NoAnswer {
        what: what.to_owned(),
        seconds: waiting.limit.as_secs(),
        problem,
    }
}
