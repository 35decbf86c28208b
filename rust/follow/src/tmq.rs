//! Following a server by subscription: for a client that can't read the server's files.
//!
//! A [`TmqFollower`] subscribes to a topic of the whole database, with changes of tables, and tells a [`Listener`]
//! what it reads, block by block; what can't be told by blocks, as a range that is to be copied whole. Only when the
//! listener has everything in safety is the new position saved, and no offset is ever committed to the server. So a
//! follower that is killed tells some changes twice, and never misses one.
//!
//! Every session makes its consumer group anew: the server keeps a list of tables for each group whose rows it does not
//! send, and puts every table there whose tags are set.
//!
//! The server removes its log after a while, and sends a consumer that comes too late what is left without a word.
//! So every offset is held against where the log begins: what was to be read and is not there makes everything
//! count as changed. The same goes for vgroups that vanish, a database that was made anew, and messages that can't
//! be understood.
//!
//! | module | holds |
//! |---|---|
//! | `session` | a connection with a consumer at the right place |
//! | `reader` | messages → windows of tables |
//! | `tables` | names → uids |
//! | `position` | the file that says where to go on |

mod position;
mod reader;
mod session;
mod tables;

pub use crate::{
    teller::Listener,
    turns::{CatchUp, FollowStats},
};
pub use position::PositionError;

use crate::{
    teller::{NotTaken, Teller, UntilStopped},
    turns::{Turns, Worker},
};
use metrics::{Readings, Source};
use model::VgId;
use parking_lot::Mutex;
use plan::{Numbering, Ordinals, window::WindowWidth};
use position::Position;
use reader::Reader;
use server::{LoadError, Login, SqlError};
use session::{Polled, Server, Session};
use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use store::StoreError;
use tables::Tables;

/// What to follow.
#[derive(Debug, Clone)]
pub struct TmqConfig {
    /// The client library; without it, the one that this process is linked to or the system finds.
    pub library: Option<PathBuf>,
    /// The server.
    pub login: Login,
    /// The database.
    pub database: String,
    /// The topic; `incremental_bitmap_` and the database's name without it. It is made where it is missing.
    pub topic: Option<String>,
    /// The consumer group: one for each backup client.
    pub group: String,
    /// The client library's key for the connection timeout, if known ones are not enough.
    pub connect_timeout_key: Option<String>,
    /// The same for the request timeout.
    pub request_timeout_key: Option<String>,
    /// Both timeouts, where the library has keys for them.
    pub timeout: Duration,
    /// How often to try again before it counts as failed.
    pub retries: u32,
    /// How long to wait before that.
    pub retry_interval: Duration,
    /// Where the position is kept. Without it, following starts anew every time.
    pub position: Option<PathBuf>,
    /// How wide windows are. It counts when the position is made.
    pub window: Duration,
}

/// The consumer group without a setting.
pub const DEFAULT_GROUP: &str = "incremental_bitmap";

/// Why a subscription can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum TmqError {
    /// No client library, or one without subscriptions.
    #[error(transparent)]
    Library(#[from] LoadError),
    /// The server refused a statement.
    #[error("{0}; is the server there, and may this user use it?")]
    Sql(#[from] SqlError),
    /// There is no such database.
    #[error(
        "there is no database {database:?} on server {host:?}; set source.database to one that exists"
    )]
    NoDatabase {
        /// The database.
        database: String,
        /// The server; empty for the default.
        host: String,
    },
    /// The server does not show what is needed.
    #[error("the server does not say the {what} of database {database:?}; give the user SYSINFO 1")]
    NotSaid {
        /// The database.
        database: String,
        /// What is missing.
        what: &'static str,
    },
    /// Nothing is logged.
    #[error(
        "database {database:?} has WAL_LEVEL 0, so there is nothing to subscribe to; ALTER DATABASE it to WAL_LEVEL 1 or 2"
    )]
    NoLog {
        /// The database.
        database: String,
    },
    /// A name that no topic has.
    #[error(
        "topic {topic:?}: give a name of 1 to 192 letters, digits and underscores in tmq.topic"
    )]
    TopicName {
        /// The name.
        topic: String,
    },
    /// The topic would not tell everything.
    #[error(
        "topic {topic:?} is {kind}, so it would not tell every change of {database:?}; drop it, or set tmq.topic to another name: it is then made WITH META AS DATABASE"
    )]
    TopicKind {
        /// The topic.
        topic: String,
        /// The database.
        database: String,
        /// What it is.
        kind: String,
    },
    /// The topic can't be made.
    #[error(
        "{source}: topic {topic:?} can't be made; the database needs a WAL_RETENTION_PERIOD above 0, the user the right to it, and the server room for another topic"
    )]
    Topic {
        /// The topic.
        topic: String,
        /// The server's answer.
        source: SqlError,
    },
    /// The server refused the consumer.
    #[error(
        "{source}: the subscription to topic {topic:?} failed; is WAL_RETENTION_PERIOD above 0, and does the topic exist?"
    )]
    Subscribe {
        /// The topic.
        topic: String,
        /// The server's answer.
        source: SqlError,
    },
    /// Somebody else is in the group.
    #[error(
        "{source}: consumer group {group:?} of topic {topic:?} can't be made anew; is another client in it? Set tmq.group_id to a name that only this client uses"
    )]
    GroupInUse {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The server's answer.
        source: SqlError,
    },
    /// Somebody else has the vgroups.
    #[error(
        "vgroups {vgroups} of topic {topic:?} are not given to this consumer; another one is in group {group:?}: set tmq.group_id to a name that only this client uses"
    )]
    NotAssigned {
        /// Which ones.
        vgroups: String,
        /// The group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// The vgroups are not those of before.
    #[error("the consumer was given other vgroups; subscribing again")]
    Reassigned,
    /// The server has less than was read, at least for now.
    #[error(
        "the log of vgroup {vgroup} ends before version {end}, everything before {read} was read already: the server has just been started, or lost what it had logged; subscribing again"
    )]
    LogEndsEarly {
        /// The vgroup.
        vgroup: VgId,
        /// Where its log ends.
        end: i64,
        /// What would be read next.
        read: i64,
    },
    /// The window is too narrow.
    #[error("a window of {0:?} is shorter than the database's precision; give a longer one")]
    Window(Duration),
    /// The position can't be used.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The position can't be written.
    #[error(transparent)]
    Save(#[from] StoreError),
    /// No thread, or no temporary directory.
    #[error("the follower can't start: {0}")]
    Io(#[from] io::Error),
    /// The listener does not take an event.
    #[error("the listener did not take an event; it will be told again")]
    NotTaken,
    /// The listener has not everything.
    #[error("the listener has not everything in safety yet; it will be told again")]
    NotSafe,
}

impl From<NotTaken> for TmqError {
    fn from(_: NotTaken) -> Self {
        Self::NotTaken
    }
}

/// A server that is followed by subscription. Dropping it stops it.
pub struct TmqFollower {
    // Waited for before all else goes.
    _worker: Worker,
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    path: PathBuf,
    turns: Arc<Turns>,
    position: Mutex<Position>,
    behind: AtomicU64,
    _temporary: Option<tempfile::TempDir>,
}

/// How long to wait for a message before looking after everything else.
const POLL: Duration = Duration::from_millis(200);
/// What was read is told and saved this often.
const SAVE: Duration = Duration::from_secs(1);
/// How often the position is saved where nothing but the offsets changed.
const SAVE_OFFSETS: Duration = Duration::from_secs(10);
/// How often a server that sends nothing is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(5);
/// How long a subscription that does not get all rows goes on, once it has caught up.
const SILENCE: Duration = Duration::from_secs(60);
/// The wait after the last try.
const GIVEN_UP: Duration = Duration::from_secs(30);

impl TmqFollower {
    /// Starts following: from the saved position, or, where there is none, from the end of what is logged now.
    pub fn start(config: TmqConfig, listener: Arc<dyn Listener>) -> Result<Self, TmqError> {
        let (path, temporary) = match &config.position {
            Some(path) => (path.clone(), None),
            None => {
                let dir = tempfile::tempdir()?;
                (dir.path().join("position"), Some(dir))
            }
        };
        let server = Server::new(config)?;
        let saved = Position::load(&path)?;
        let (position, session) = match saved {
            Some(position) => {
                // What is wrong with the server or the topic is said at once; to subscribe may take a while.
                let (_, database) = server.connect()?;
                server.check(&path, &position, &database)?;
                (position, None)
            }
            None => {
                let session = server.open(None, &|| false)?;
                let position = first_position(&server, &session)?;
                position.save(&path)?;
                (position, Some(session))
            }
        };
        let shared = Arc::new(Shared {
            server,
            path,
            turns: Arc::new(Turns::new()),
            position: Mutex::new(position),
            behind: AtomicU64::new(0),
            _temporary: temporary,
        });
        let run = Arc::clone(&shared);
        let worker = Worker::start("tmq", &shared.turns, move || run.run(session, &*listener))?;
        Ok(Self {
            shared,
            _worker: worker,
        })
    }

    /// Waits until everything that the server had logged before this call is told and saved; false if that
    /// takes longer than `patience`.
    pub fn catch_up(&self, patience: Duration) -> bool {
        self.ask().wait(patience)
    }

    /// Asks for that; it can be waited for without the follower.
    pub fn ask(&self) -> CatchUp {
        self.shared.turns.ask()
    }

    /// Numbers about it. A scan is a round of messages that was told and saved.
    pub fn stats(&self) -> FollowStats {
        self.shared.turns.stats()
    }

    /// What block ids are made of.
    pub fn numbering(&self) -> Numbering {
        let position = self.shared.position.lock();
        Numbering {
            database: position.database.clone(),
            window: position.window,
            ordinals: position.ordinals.clone(),
        }
    }

    /// Its part in the metrics.
    pub fn gauges(&self) -> Arc<dyn Source> {
        Arc::new(TmqGauges(Arc::clone(&self.shared)))
    }
}

impl fmt::Debug for TmqFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TmqFollower")
            .field("config", &self.shared.server.config)
            .finish_non_exhaustive()
    }
}

fn first_position(server: &Server, session: &Session) -> Result<Position, TmqError> {
    let config = &server.config;
    let precision = session.database.precision;
    let ticks = config.window.as_nanos() * precision.ticks_per_second() as u128 / 1_000_000_000;
    let window = i64::try_from(ticks).ok().and_then(WindowWidth::from_ticks);
    let tables = Tables::of_server(&session.connection, &config.database)?;
    Ok(Position {
        database: config.database.clone(),
        created: session.database.created,
        precision,
        window: window.ok_or(TmqError::Window(config.window))?,
        offsets: session.offsets.clone(),
        ordinals: Ordinals::default(),
        tables: tables.uids().clone(),
    })
}

impl Shared {
    /// Follows until it is stopped.
    fn run(&self, first: Option<Session>, listener: &dyn Listener) {
        let mut session = first;
        let mut tries = 0;
        // Turns that were asked for before the session began are done when it has caught up.
        let mut asked = 0;
        while !self.turns.is_stopped() {
            let opened = match session.take() {
                Some(session) => Ok(session),
                None => {
                    asked = self.turns.asked();
                    let position = self.position.lock().clone();
                    self.server
                        .open(Some(&position), &|| self.turns.is_stopped())
                }
            };
            let outcome =
                opened.and_then(|session| self.follow(session, asked, &mut tries, listener));
            if let Err(error) = outcome
                && !self.turns.is_stopped()
            {
                tries += 1;
                self.pause(self.failed(&error, tries));
            }
        }
    }

    /// Counts a failure; returns how long to wait before the next try.
    fn failed(&self, error: &TmqError, tries: u32) -> Duration {
        let metrics = self.turns.metrics;
        match error {
            TmqError::Save(_) | TmqError::NotSafe => metrics.commit_retries.add(1),
            TmqError::Subscribe { .. }
            | TmqError::GroupInUse { .. }
            | TmqError::NotAssigned { .. }
            | TmqError::Reassigned
            | TmqError::LogEndsEarly { .. } => {
                metrics.subscription_retries.add(1);
            }
            TmqError::NotTaken => {}
            _ => metrics.connection_retries.add(1),
        }
        let (config, database) = (&self.server.config, &self.server.config.database);
        if tries <= config.retries {
            tracing::warn!(database, tries, %error, "the subscription failed; trying again");
            self.turns.failed(error);
            return config.retry_interval;
        }
        let pause = config.retry_interval.max(GIVEN_UP);
        let words = format!(
            "{error} (after {} tries; nothing is lost: it goes on from the last saved position, and is tried again in {pause:?})",
            config.retries
        );
        tracing::error!(database, error = words, "the subscription failed");
        self.turns.failed(&words);
        pause
    }

    fn pause(&self, length: Duration) {
        let deadline = Instant::now() + length;
        while Instant::now() < deadline && !self.turns.is_stopped() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads and tells until someone wants to catch up with a log that went on since the session began.
    fn follow(
        &self,
        mut session: Session,
        asked: u64,
        tries: &mut u32,
        listener: &dyn Listener,
    ) -> Result<(), TmqError> {
        let database = &self.server.config.database;
        let mut reader = {
            let tables = Tables::of_server(&session.connection, database)?;
            let position = self.position.lock();
            self.server
                .check(&self.path, &position, &session.database)?;
            Reader::new(
                position.window,
                tables,
                position.tables.clone(),
                session.newest(),
            )
        };
        for gap in std::mem::take(&mut session.gaps) {
            reader.everything(session.newest(), gap);
        }
        let began = Instant::now();
        let mut saved = Instant::now();
        let mut alive = Instant::now();
        let mut every = SAVE;
        while !self.turns.is_stopped() {
            let polled = session.poll(POLL)?;
            let idle = matches!(polled, Polled::Nothing);
            let gaps = session.advance()?;
            take(&mut reader, polled);
            for gap in gaps {
                reader.everything(session.newest(), gap);
            }
            if !reader.is_empty() {
                self.turns.lag_starts();
            }
            let answer = session.has_caught_up() && self.turns.is_asked();
            let due = match reader.is_empty() && !answer {
                true => SAVE_OFFSETS,
                false => every,
            };
            let answers = idle && answer;
            if reader.is_full() || saved.elapsed() > due || (idle && !reader.is_empty()) || answers
            {
                let started = Instant::now();
                let safe = self.round(&mut session, &mut reader, listener)?;
                saved = Instant::now();
                // As much time goes to messages as to telling, saving and asking for tables.
                every = SAVE.max(2 * started.elapsed());
                if safe {
                    *tries = 0;
                    let caught_up = session.has_caught_up();
                    self.turns.done(if caught_up { asked } else { 0 }, true);
                    // Everything that was read is told and saved, so that a new session misses nothing. It ends here
                    // also while messages come in: on a busy database they never cease.
                    if caught_up && self.turns.asked() > asked {
                        return Ok(());
                    }
                    if caught_up && reader.is_kept_from_rows() && began.elapsed() > SILENCE {
                        // A new consumer group gets all rows from the saved offsets on.
                        return Ok(());
                    }
                }
            }
            if !idle {
                alive = Instant::now();
            } else if alive.elapsed() > ALIVE {
                // The library keeps a lost connection to itself.
                let now = self.server.database(&session.connection)?;
                if now != session.database {
                    return Err(TmqError::Reassigned);
                }
                alive = Instant::now();
            }
        }
        Ok(())
    }

    /// Tells what was read, and saves the position when that is safe; false if rows of unknown tables keep it from
    /// being so, or the follower is stopped.
    fn round(
        &self,
        session: &mut Session,
        reader: &mut Reader,
        listener: &dyn Listener,
    ) -> Result<bool, TmqError> {
        if reader.needs_names() {
            let database = &self.server.config.database;
            let tables = Tables::of_server(&session.connection, database)?;
            let logs = session.logs();
            let log = |vgroup| logs.get(&vgroup).copied().unwrap_or_default();
            reader.refresh(tables, session.newest(), log);
        }
        reader.mark_silenced(session.newest());
        let mut next = self.position.lock().clone();
        if reader.number(&mut next.ordinals) {
            // Before a block id is used, its number is safe: after a kill it means the same table.
            if self.turns.is_stopped() {
                return Ok(false);
            }
            next.save(&self.path)?;
            self.position.lock().ordinals = next.ordinals.clone();
        }
        let listener = &UntilStopped {
            turns: &self.turns,
            listener,
        };
        let mut teller = Teller::new(listener);
        let by_range = reader.tell(&mut next.ordinals, &mut teller);
        self.turns.told(teller.events, teller.ranges);
        let metrics = self.turns.metrics;
        metrics.messages_dropped.add(by_range?);
        metrics
            .parse_errors
            .add(std::mem::take(&mut reader.parse_errors));
        if !listener.settle() {
            return Err(TmqError::NotSafe);
        }
        let (messages, bytes) = reader.clear();
        metrics.messages_read(messages, bytes);
        let behind = session.logs().into_values();
        let behind = behind.map(|log| (log.end - log.read).max(0) as u64).sum();
        self.behind.store(behind, Relaxed);
        if reader.has_unnamed() {
            return Ok(false);
        }
        next.created = session.database.created;
        next.offsets = session.offsets.clone();
        next.tables = reader.tables().clone();
        if *self.position.lock() != next {
            next.save(&self.path)?;
            *self.position.lock() = next;
        }
        Ok(true)
    }
}

fn take(reader: &mut Reader, polled: Polled) {
    match polled {
        Polled::Nothing => {}
        Polled::Rows {
            vgroup,
            wal,
            blocks,
            creates,
        } => {
            if creates {
                blocks
                    .iter()
                    .for_each(|block| reader.may_be_new(&block.table));
            }
            for block in blocks {
                reader.count_bytes(block.bytes);
                reader.rows(vgroup, wal, &block.table, &block.keys);
            }
        }
        Polled::Record {
            vgroup,
            wal,
            message_type,
            body,
        } => reader.record(vgroup, wal, message_type, &body),
        Polled::Unknown { vgroup, wal, kind } => reader.everything(
            wal,
            format!(
                "vgroup {vgroup} sent a message of kind {kind}, which this version does not know"
            ),
        ),
    }
}

struct TmqGauges(Arc<Shared>);

impl Source for TmqGauges {
    fn read(&self, readings: &mut Readings) {
        self.0.turns.read_lag(readings);
        readings.offset_lag += self.0.behind.load(Relaxed);
    }
}
