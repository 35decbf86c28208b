//! Whether the cluster still answers. The client library waits for a server that has gone, or is frozen, for minutes and
//! says nothing; so a connection of its own asks a small question every second beside it.

use model::{Cancelled, Progress};
use parking_lot::Mutex;
use server::{Connection, Library, Login, cluster};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);

/// When it is said first that nobody answers, and how long it is silent between two times.
const SAY: Duration = Duration::from_secs(5);

/// Whoever does not answer for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How long a dump that is cancelled has to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Looks after a cluster.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Mutex<State>,
    /// When somebody answered last.
    heard: Arc<Mutex<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the cluster is, for messages.
    place: String,
    has_given_up: bool,
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
    /// Of a cluster that is at `place`. Until [`Watch::run`] is called, it counts as there.
    pub(crate) fn new(place: String) -> Self {
        Self {
            state: Mutex::new(State {
                place,
                ..State::default()
            }),
            heard: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// The cluster's dnodes have these endpoints.
    pub(crate) fn has_endpoints(&self, endpoints: &[String]) {
        if !endpoints.is_empty() {
            self.state.lock().place = endpoints.join(", ");
        }
    }

    /// No server is needed any more.
    pub(crate) fn is_over(&self) {
        self.state.lock().is_over = true;
    }

    /// Whether nobody has answered for so long that another try is not worth while.
    pub(crate) fn has_given_up(&self) -> bool {
        self.state.lock().has_given_up
    }

    /// Where the cluster is, for messages.
    pub(crate) fn place(&self) -> String {
        self.state.lock().place.clone()
    }

    /// Asks until the other end of `done` is dropped; `ask` says whether there was an answer, however long it takes.
    pub(crate) fn run(
        &self,
        progress: &dyn Progress,
        done: Receiver<()>,
        ask: impl FnMut() -> bool + Send + 'static,
    ) {
        let mut ask = Some(ask);
        let (mut said, mut cancelled) = (None::<Instant>, None::<Instant>);
        while done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            // Not before: most dumps take less.
            if let Some(ask) = ask.take() {
                self.listen(ask);
            }
            let silent = self.heard.lock().elapsed();
            let mut state = self.state.lock();
            if state.is_over {
                continue;
            }
            state.has_given_up = silent >= GIVE_UP;
            // With the lock: no link is finished meanwhile.
            if state.has_given_up {
                let place = state.place.clone();
                progress.gives_up(&NoAnswer { place });
            }
            if progress.is_cancelled()
                && cancelled.get_or_insert_with(Instant::now).elapsed() >= GRACE
            {
                progress.gives_up(&Cancelled);
            }
            let is_time = silent >= SAY && said.is_none_or(|said| said.elapsed() >= SAY);
            if is_time && !state.has_given_up {
                said = Some(Instant::now());
                progress.waits(&format!(
                    "nobody answers at {}: waiting for the server, at most {} s more",
                    state.place,
                    GIVE_UP.saturating_sub(silent).as_secs()
                ));
            }
        }
    }

    /// Asks in a thread that nobody waits for: the client library may hold it as long as it likes.
    fn listen(&self, mut ask: impl FnMut() -> bool + Send + 'static) {
        let heard = Arc::downgrade(&self.heard);
        *self.heard.lock() = Instant::now();
        thread::spawn(move || {
            while heard.strong_count() > 0 {
                if ask()
                    && let Some(heard) = heard.upgrade()
                {
                    *heard.lock() = Instant::now();
                }
                thread::sleep(EVERY);
            }
        });
    }
}

/// Asks the cluster for its id, over a connection of its own.
pub(crate) fn question(library: &Library, login: &Login) -> impl FnMut() -> bool + Send + 'static {
    let (library, login) = (library.clone(), login.clone());
    let mut connection = None::<Connection>;
    move || {
        if connection.is_none() {
            connection = library.connect(&login).ok();
        }
        match &connection {
            None => false,
            // That it refuses is an answer, too.
            Some(asked) => !matches!(cluster::id(asked), Err(error) if error.is_disconnected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn waits(&self, what: &str) {
            self.0.lock().push(what.to_owned());
        }
    }

    #[test]
    fn a_question_without_an_answer_is_known_and_said_only_after_the_fifth_second() {
        let watch = Watch::new("somewhere".to_owned());
        let told = Told(Mutex::default());
        let (end, done) = mpsc::channel();
        let (asked, answer) = mpsc::channel();
        thread::scope(|scope| {
            let (watch, told) = (&watch, &told);
            let ask = move || asked.send(()).is_err();
            scope.spawn(move || watch.run(told, done, ask));
            answer.recv().unwrap();
            let before = *watch.heard.lock();
            answer.recv().unwrap();
            assert_eq!(*watch.heard.lock(), before, "no answer came");
            drop(answer);
            while *watch.heard.lock() == before {
                thread::sleep(Duration::from_millis(10));
            }
            drop(end);
        });
        assert!(!watch.has_given_up());
        assert!(told.0.lock().is_empty());
    }
}
