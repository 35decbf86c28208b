//! Whether anybody still answers. The client library waits for a server that has gone for most of a minute, statement by
//! statement, and says nothing; so the server's ports are knocked at beside it.

use model::Progress;
use parking_lot::Mutex;
use std::{
    net::{TcpStream, ToSocketAddrs as _},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How often it is knocked, and how long an answer may take.
const EVERY: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);

/// When it is said first that nobody answers, and how long it is silent between two times.
const SAY: Duration = Duration::from_secs(5);

/// Whoever does not answer for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Looks after the endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct Watch {
    endpoints: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when none of them answers.
    gone: Option<Instant>,
    is_over: bool,
}

/// Nobody has answered for too long.
#[derive(Debug, thiserror::Error)]
#[error(
    "nobody has answered at {place} for {} s; the dump was given up, run it again once the server is there",
    GIVE_UP.as_secs()
)]
struct NoAnswer {
    place: String,
}

impl Watch {
    /// Of a cluster with these endpoints; none are never gone.
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            state: Mutex::default(),
        }
    }

    /// No server is needed any more.
    pub(crate) fn is_over(&self) {
        self.state.lock().is_over = true;
    }

    /// Whether nobody has answered for so long that another try is not worth while.
    pub(crate) fn has_given_up(&self) -> bool {
        let gone = self.state.lock().gone;
        gone.is_some_and(|since| since.elapsed() >= GIVE_UP)
    }

    /// The endpoints, for messages.
    pub(crate) fn place(&self) -> String {
        self.endpoints.join(", ")
    }

    /// Knocks until the other end of `done` is dropped.
    pub(crate) fn run(&self, progress: &dyn Progress, done: Receiver<()>) {
        let mut said = None::<Instant>;
        while done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let answered = self.endpoints.is_empty()
                || self.endpoints.iter().any(|endpoint| answers(endpoint));
            let mut state = self.state.lock();
            if answered || state.is_over {
                state.gone = None;
                continue;
            }
            let silent = state.gone.get_or_insert_with(Instant::now).elapsed();
            let Some(left) = GIVE_UP.checked_sub(silent) else {
                // With the lock: no link is finished meanwhile.
                progress.gives_up(&NoAnswer {
                    place: self.place(),
                });
                continue;
            };
            if silent >= SAY && said.is_none_or(|said| said.elapsed() >= SAY) {
                said = Some(Instant::now());
                progress.waits(&format!(
                    "nobody answers at {}: waiting for the server, at most {} s more",
                    self.place(),
                    left.as_secs()
                ));
            }
        }
    }
}

/// Whether somebody listens there. A name that can't be resolved says nothing about it.
fn answers(endpoint: &str) -> bool {
    let Ok(addresses) = endpoint.to_socket_addrs() else {
        return true;
    };
    let mut addresses = addresses.peekable();
    addresses.peek().is_none()
        || addresses.any(|address| TcpStream::connect_timeout(&address, ANSWER).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, sync::mpsc, thread};

    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn waits(&self, what: &str) {
            self.0.lock().push(what.to_owned());
        }
    }

    #[test]
    fn a_server_that_listens_is_not_gone_and_one_that_has_left_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        assert!(answers(&endpoint));
        drop(listener);
        assert!(!answers(&endpoint));
        assert!(answers("no such name.invalid:1"), "it can't be told");
        let watch = Watch::new(vec![endpoint]);
        let told = Told(Mutex::default());
        let (end, done) = mpsc::channel();
        thread::scope(|scope| {
            let (watch, told) = (&watch, &told);
            scope.spawn(move || watch.run(told, done));
            while watch.state.lock().gone.is_none() {
                thread::sleep(Duration::from_millis(10));
            }
            drop(end);
        });
        assert!(!watch.has_given_up(), "not after a moment");
        assert!(
            told.0.lock().is_empty(),
            "nothing is said before the fifth second"
        );
    }
}
