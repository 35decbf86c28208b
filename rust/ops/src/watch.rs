//! Whether the cluster still answers. The client library waits for a server that has gone, or is frozen, for minutes and
//! says nothing; so a connection of its own asks a small question every second beside the work.

use model::{Cancelled, Progress, Unit};
use parking_lot::Mutex;
use server::{Connection, Library, Login, cluster};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// How often it is asked.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// When it is said first that nobody answers, and how long it is silent between two times.
pub(crate) const SAY: Duration = Duration::from_secs(5);

/// How long work that is cancelled, or gets no answer any more, has to end by itself: longer than a healthy server takes
/// for a statement.
const GRACE: Duration = Duration::from_secs(3);

/// What is done with a cluster meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A dump.
    Dump,
    /// A restore.
    Restore,
}

impl Work {
    /// Whoever does not answer for so long is given up. A restore gives up before another one may take over.
    pub(crate) const fn patience(self) -> Duration {
        match self {
            Self::Dump => Duration::from_secs(60),
            Self::Restore => Duration::from_secs(45),
        }
    }
}

/// What became of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There was an answer: these dnodes are not ready.
    Heard(Vec<String>),
    /// Nobody answered.
    Missing,
    /// The answer says that the work has to end.
    End,
}

/// Nobody has answered for too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{who} for {} s; {}",
    .work.patience().as_secs(),
    match .work {
        Work::Dump => "the dump was given up, run it again once the server is there",
        Work::Restore => "the restore was given up, the same command goes on with it once the server is there",
    }
)]
pub struct NoAnswer {
    /// Who has not answered, and where.
    who: String,
    work: Work,
}

/// Looks after a cluster.
#[derive(Debug)]
pub(crate) struct Watch {
    work: Work,
    state: Mutex<State>,
    moved: Mutex<Moved>,
    heard: Arc<Heard>,
}

/// What the thread that asks shares with the work.
#[derive(Debug)]
pub(crate) struct Heard {
    /// When the question was asked that was answered last.
    last: Mutex<Instant>,
    /// The dnodes that were not ready then.
    unready: Mutex<Vec<String>>,
    /// Those that were not ready from the first answer on: the work does without them, or has said so.
    known_unready: OnceLock<Vec<String>>,
    /// Whether an answer said that the work has to end.
    must_end: AtomicBool,
}

impl Heard {
    /// How long nobody has answered.
    pub(crate) fn silence(&self) -> Duration {
        self.last.lock().elapsed()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Where the cluster is, for messages.
    place: String,
    given_up: Option<NoAnswer>,
    is_over: bool,
}

/// When the work went on last, and with what.
#[derive(Debug)]
struct Moved {
    last: Instant,
    step: String,
}

impl Watch {
    /// Of a cluster that is at `place`. Until [`Watch::over`] is called, it counts as there.
    pub(crate) fn new(work: Work, place: String) -> Self {
        Self {
            work,
            state: Mutex::new(State {
                place,
                ..State::default()
            }),
            moved: Mutex::new(Moved {
                last: Instant::now(),
                step: "beginning".to_owned(),
            }),
            heard: Arc::new(Heard {
                last: Mutex::new(Instant::now()),
                unready: Mutex::default(),
                known_unready: OnceLock::new(),
                must_end: AtomicBool::new(false),
            }),
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
        self.state.lock().given_up.is_some()
    }

    /// That nobody has answered for too long, if it is so.
    pub(crate) fn gave_up(&self) -> Option<NoAnswer> {
        self.state.lock().given_up.clone()
    }

    /// Whether an answer said that the work has to end.
    pub(crate) fn must_end(&self) -> bool {
        self.heard.must_end.load(Relaxed)
    }

    /// What the thread that asks knows.
    pub(crate) fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    /// Where the cluster is, for messages.
    pub(crate) fn place(&self) -> String {
        self.state.lock().place.clone()
    }

    /// Does the work while the cluster is asked beside it. `ask` may take as long as it likes.
    pub(crate) fn over<T>(
        &self,
        progress: &dyn Progress,
        ask: impl FnMut() -> Answer + Send + 'static,
        work: impl FnOnce(&dyn Progress) -> T,
    ) -> T {
        let (end, done) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || self.run(progress, &done, ask));
            let outcome = work(&Watched {
                progress,
                watch: self,
            });
            drop(end);
            outcome
        })
    }

    /// Asks until the other end of `done` is dropped.
    fn run(
        &self,
        progress: &dyn Progress,
        done: &Receiver<()>,
        ask: impl FnMut() -> Answer + Send + 'static,
    ) {
        let mut ask = Some(ask);
        let (mut ending, mut say) = (None::<Instant>, Saying::default());
        while done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            // Not before: most work takes less.
            if let Some(ask) = ask.take() {
                self.listen(ask);
            }
            // With the lock: no link is finished meanwhile.
            let mut state = self.state.lock();
            if state.is_over {
                continue;
            }
            let trouble = self.trouble(&state.place);
            if let Some(trouble) = &trouble
                && trouble.lasts >= self.work.patience()
                && let Some(who) = &trouble.who
            {
                state.given_up.get_or_insert_with(|| NoAnswer {
                    who: who.clone(),
                    work: self.work,
                });
            }
            if state.given_up.is_some() || self.must_end() || progress.is_cancelled() {
                // Work that ends by itself says more.
                if ending.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                    match &state.given_up {
                        Some(error) => progress.gives_up(error),
                        None => progress.gives_up(&Cancelled),
                    }
                }
                continue;
            }
            if let Some(text) = say.now(trouble) {
                progress.waits(&text);
            }
        }
    }

    /// What keeps the work from going on, once it lasts.
    fn trouble(&self, place: &str) -> Option<Trouble> {
        let silent = self.heard.silence();
        let left = |lasts| self.work.patience().saturating_sub(lasts).as_secs();
        if silent >= SAY {
            return Some(Trouble {
                lasts: silent,
                text: format!(
                    "nobody answers at {place}: waiting for the server, at most {} s more",
                    left(silent)
                ),
                who: Some(format!("nobody has answered at {place}")),
            });
        }
        let moved = self.moved.lock();
        let still = moved.last.elapsed();
        if still < SAY {
            return None;
        }
        // One that froze or died meanwhile: the client library waits for it for many minutes, and another time for each
        // statement.
        let known = self.heard.known_unready.get();
        let mut gone = self.heard.unready.lock().clone();
        gone.retain(|dnode| !known.is_some_and(|known| known.contains(dnode)));
        Some(match gone.join(", ") {
            none if none.is_empty() => Trouble {
                lasts: still,
                text: format!(
                    "{}: nothing has moved for {} s, though the cluster answers",
                    moved.step,
                    still.as_secs()
                ),
                who: None,
            },
            gone => Trouble {
                lasts: still,
                text: format!(
                    "dnode {gone} does not answer any more: waiting for it, at most {} s more",
                    left(still)
                ),
                who: Some(format!("dnode {gone} has not answered")),
            },
        })
    }

    /// Asks in a thread that nobody waits for: the client library may hold it as long as it likes.
    fn listen(&self, mut ask: impl FnMut() -> Answer + Send + 'static) {
        let heard = Arc::downgrade(&self.heard);
        *self.heard.last.lock() = Instant::now();
        thread::spawn(move || {
            while heard.strong_count() > 0 {
                let asked = Instant::now();
                let answer = ask();
                let Some(heard) = heard.upgrade() else {
                    return;
                };
                match answer {
                    Answer::Heard(unready) => {
                        *heard.last.lock() = asked;
                        heard.known_unready.get_or_init(|| unready.clone());
                        *heard.unready.lock() = unready;
                    }
                    Answer::Missing => {}
                    Answer::End => heard.must_end.store(true, Relaxed),
                }
                drop(heard);
                thread::sleep(EVERY);
            }
        });
    }
}

/// Why the work does not go on.
struct Trouble {
    /// For how long.
    lasts: Duration,
    /// What is said.
    text: String,
    /// Whom the work is given up for, if it is.
    who: Option<String>,
}

/// When something is said again.
#[derive(Default)]
struct Saying {
    next: Option<Instant>,
    pause: Duration,
    /// Whom what was said last is about.
    about: Option<String>,
}

impl Saying {
    /// What is to be said now: every fifth second what is going to be given up, at once whom it is given up for if that is
    /// news, and ever more rarely what may just need long.
    fn now(&mut self, trouble: Option<Trouble>) -> Option<String> {
        let Some(trouble) = trouble else {
            self.pause = SAY;
            return None;
        };
        let now = Instant::now();
        let is_news = trouble.who.is_some() && trouble.who != self.about;
        if !is_news && self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.about = trouble.who.clone();
        self.pause = match trouble.who {
            Some(_) => SAY,
            None => (self.pause * 2).max(SAY),
        };
        self.next = Some(now + self.pause);
        Some(trouble.text)
    }
}

/// Progress of work that is cancelled, too, once nobody has answered for too long, or an answer says so.
struct Watched<'p> {
    progress: &'p dyn Progress,
    watch: &'p Watch,
}

impl Watched<'_> {
    fn moved(&self) {
        self.watch.moved.lock().last = Instant::now();
    }
}

impl Progress for Watched<'_> {
    fn step(&self, what: &str, unit: Unit, total: u64) {
        *self.watch.moved.lock() = Moved {
            last: Instant::now(),
            step: what.to_owned(),
        };
        self.progress.step(what, unit, total);
    }

    fn advance(&self, units: u64, rows: u64) {
        self.moved();
        self.progress.advance(units, rows);
    }

    fn waits(&self, what: &str) {
        self.progress.waits(what);
    }

    fn gives_up(&self, why: &dyn std::error::Error) {
        self.progress.gives_up(why);
    }

    fn is_cancelled(&self) -> bool {
        self.moved();
        self.progress.is_cancelled() || self.watch.must_end() || self.watch.has_given_up()
    }
}

/// Asks the cluster which dnodes are not ready, over a connection of its own.
pub(crate) fn question(library: &Library, login: &Login) -> impl FnMut() -> Answer + Send + use<> {
    let (library, login) = (library.clone(), login.clone());
    let mut connection = None::<Connection>;
    move || {
        if connection.is_none() {
            connection = library.connect(&login).ok();
        }
        match connection.as_ref().map(cluster::unready) {
            None => Answer::Missing,
            Some(Err(error)) if error.is_disconnected() => Answer::Missing,
            // That it refuses is an answer, too.
            Some(unready) => Answer::Heard(unready.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_answers_is_said_at_once_after_it_was_said_that_work_takes_long() {
        let trouble = |who: Option<&str>| {
            Some(Trouble {
                lasts: SAY,
                text: format!("about {who:?}"),
                who: who.map(str::to_owned),
            })
        };
        let mut say = Saying::default();
        assert!(say.now(trouble(None)).is_some());
        assert!(say.now(trouble(None)).is_none());
        assert!(say.now(trouble(Some("all"))).is_some());
        assert!(say.now(trouble(Some("all"))).is_none());
        assert!(say.now(trouble(Some("dnode 2"))).is_some());
        assert!(say.now(trouble(None)).is_none());
    }

    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn waits(&self, what: &str) {
            self.0.lock().push(what.to_owned());
        }
    }

    #[test]
    fn a_question_without_an_answer_is_known_and_said_only_after_the_fifth_second() {
        let watch = Watch::new(Work::Dump, "somewhere".to_owned());
        let told = Told(Mutex::default());
        let (asked, answer) = mpsc::channel();
        let ask = move || match asked.send(()) {
            Ok(()) => Answer::Missing,
            Err(_) => Answer::Heard(Vec::new()),
        };
        watch.over(&told, ask, |_| {
            answer.recv().unwrap();
            let before = *watch.heard.last.lock();
            answer.recv().unwrap();
            assert_eq!(*watch.heard.last.lock(), before, "no answer came");
            drop(answer);
            while *watch.heard.last.lock() == before {
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert!(!watch.has_given_up());
        assert!(told.0.lock().is_empty());
    }

    #[test]
    fn work_that_stands_still_is_given_up_only_for_a_dnode_that_went_away_meanwhile() {
        let watch = Watch::new(Work::Dump, "somewhere".to_owned());
        let trouble = || watch.trouble("somewhere");
        assert!(trouble().is_none(), "it went on just now");
        let progress = Watched {
            progress: &(),
            watch: &watch,
        };
        let stands_still = |dnodes: [&str; 2]| {
            progress.step("reading", Unit::Tables, 0);
            watch.moved.lock().last = Instant::now().checked_sub(SAY).unwrap();
            *watch.heard.unready.lock() = dnodes.map(str::to_owned).to_vec();
            let trouble = trouble().unwrap();
            (trouble.text, trouble.who.is_some())
        };
        let known = ["one:6030", "two:6030"].map(str::to_owned).to_vec();
        watch.heard.known_unready.set(known).unwrap();
        let (text, is_given_up) = stands_still(["one:6030", "two:6030"]);
        assert!(text.contains("reading") && !is_given_up, "{text}");
        let (text, is_given_up) = stands_still(["one:6030", "three:6030"]);
        assert!(text.contains("three:6030") && is_given_up, "{text}");
        assert!(!text.contains("one:6030"), "{text}");
        progress.go_on().unwrap();
        assert!(trouble().is_none(), "it goes on");
    }

    #[test]
    fn what_may_just_need_long_is_said_ever_more_rarely() {
        let mut saying = Saying::default();
        let mut pauses = Vec::new();
        for who in [None, None, None, Some("somebody".to_owned())] {
            saying.next = None;
            let trouble = Trouble {
                lasts: SAY,
                text: "slow".to_owned(),
                who,
            };
            assert!(saying.now(Some(trouble)).is_some());
            pauses.push(saying.pause.as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 5]);
    }

    #[test]
    fn an_answer_that_says_so_ends_the_work() {
        let watch = Watch::new(Work::Restore, "somewhere".to_owned());
        let ended = watch.over(
            &(),
            || Answer::End,
            |progress| model::retry::pause(Duration::from_secs(3_600), progress),
        );
        assert_eq!(ended, Err(Cancelled));
        assert!(watch.must_end() && watch.gave_up().is_none());
    }
}
