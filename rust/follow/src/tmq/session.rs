//! A connection with a consumer that stands where the position says.

use crate::tmq::{PositionError, TmqConfig, TmqError, position::Position, reader::LogEnd};
use model::{Precision, VgId};
use server::{
    Connection, Library, SqlError, database as databases,
    tmq::{Assignment, Consumer, ConsumerConfig, MOST_NAME, Tmq},
    topics, vgroups,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// A database on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Database {
    /// When it was created, ms since 1970.
    pub(super) created: i64,
    pub(super) precision: Precision,
}

/// The client library, and what to subscribe to.
#[derive(Debug)]
pub(super) struct Server {
    library: Library,
    tmq: Tmq,
    pub(super) config: TmqConfig,
    pub(super) topic: String,
}

/// A connection with a consumer.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    consumer: Consumer,
    topic: String,
    pub(super) database: Database,
    /// By vgroup: everything before this offset was read, or is told as a whole.
    pub(super) offsets: BTreeMap<VgId, i64>,
    /// By vgroup: where its log ended when the session began.
    ends: BTreeMap<VgId, i64>,
    /// What can't have been read, and why.
    pub(super) gaps: Vec<String>,
}

/// How long the server may take to give a consumer its vgroups. One that was killed keeps them for a while.
const ASSIGN: Duration = Duration::from_secs(60);
/// How long a log may take to reach back to where it was, after the server was started.
const REPLAY: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

impl Server {
    /// Finds the client library and its functions.
    pub(super) fn new(config: TmqConfig) -> Result<Self, TmqError> {
        let library = match &config.library {
            Some(path) => Library::load(path, None)?,
            None => Library::find(None)?,
        };
        let tmq = library.tmq()?;
        let topic = match &config.topic {
            Some(topic) => topic.clone(),
            None => format!("incremental_bitmap_{}", config.database),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if topic.is_empty() || topic.len() > MOST_NAME || !topic.chars().all(plain) {
            return Err(TmqError::TopicName { topic });
        }
        Ok(Self {
            library,
            tmq,
            config,
            topic,
        })
    }

    /// Connects, and makes the topic where it is missing.
    pub(super) fn connect(&self) -> Result<(Connection, Database), TmqError> {
        let connection = self.library.connect(&self.config.login)?;
        let database = self.database(&connection)?;
        if self.topic_kind(&connection)?.is_none() {
            let made = topics::create(&connection, &self.topic, &self.config.database);
            made.map_err(|source| TmqError::Topic {
                topic: self.topic.clone(),
                source,
            })?;
            tracing::info!(
                topic = self.topic,
                database = self.config.database,
                "made a topic"
            );
        }
        let kind = self.topic_kind(&connection)?;
        let kind = kind.unwrap_or_else(|| "nothing: it was dropped again".to_owned());
        if kind != WITH_META {
            return Err(TmqError::TopicKind {
                topic: self.topic.clone(),
                database: self.config.database.clone(),
                kind,
            });
        }
        Ok((connection, database))
    }

    /// What the server says about the database.
    pub(super) fn database(&self, connection: &Connection) -> Result<Database, TmqError> {
        let name = &self.config.database;
        let missing = || TmqError::NoDatabase {
            database: name.clone(),
            host: self.config.login.host.clone().unwrap_or_default(),
        };
        let state = databases::state(connection, name)?.ok_or_else(missing)?;
        let unknown = |what: &'static str| TmqError::NotSaid {
            database: name.clone(),
            what,
        };
        if state.wal_level == Some(0) {
            return Err(TmqError::NoLog {
                database: name.clone(),
            });
        }
        Ok(Database {
            created: state.created.ok_or_else(|| unknown("creation time"))?,
            precision: state.precision.ok_or_else(|| unknown("precision"))?,
        })
    }

    /// That a position is one of this database.
    pub(super) fn check(
        &self,
        path: &Path,
        position: &Position,
        database: &Database,
    ) -> Result<(), PositionError> {
        let of = |name: &str, precision| format!("database {name:?} in {precision}");
        let found = of(&position.database, position.precision);
        let wanted = of(&self.config.database, database.precision);
        if found == wanted {
            return Ok(());
        }
        Err(PositionError::Other {
            path: path.into(),
            found,
            wanted,
        })
    }

    /// What the topic is of, in words; [`WITH_META`] if it is what is needed.
    fn topic_kind(&self, connection: &Connection) -> Result<Option<String>, SqlError> {
        let found = topics::find(connection, &self.topic)?;
        Ok(found.map(
            |topic| match topic.whole_database.as_ref() == Some(&self.config.database) {
                true => WITH_META.to_owned(),
                false => format!("made by {:?}", topic.statement),
            },
        ))
    }

    fn vgroups(&self, connection: &Connection) -> Result<BTreeSet<VgId>, TmqError> {
        let vgroups = vgroups::list(connection, &self.config.database)?;
        if vgroups.is_empty() {
            return Err(TmqError::NotSaid {
                database: self.config.database.clone(),
                what: "vgroups",
            });
        }
        Ok(vgroups)
    }

    /// Subscribes, and goes to where `position` says; without one, to the end of what is logged now. `stopped` ends
    /// the wait.
    pub(super) fn open(
        &self,
        position: Option<&Position>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Session, TmqError> {
        let (connection, database) = self.connect()?;
        let config = &self.config;
        self.forget_group(&connection, stopped)?;
        let consumer = self.tmq.consumer(&ConsumerConfig {
            login: config.login.clone(),
            group: config.group.clone(),
            database: Some(config.database.clone()),
            timeout: config.timeout,
            connect_timeout_key: config.connect_timeout_key.clone(),
            request_timeout_key: config.request_timeout_key.clone(),
        })?;
        let subscribe = |error| TmqError::Subscribe {
            topic: self.topic.clone(),
            source: error,
        };
        consumer.subscribe(&self.topic).map_err(subscribe)?;
        let mut session = Session {
            connection,
            consumer,
            topic: self.topic.clone(),
            database,
            offsets: BTreeMap::new(),
            ends: BTreeMap::new(),
            gaps: Vec::new(),
        };
        let logs = self.assigned(&session, position, stopped)?;
        session.place(&logs, position);
        for (vgroup, offset) in &session.offsets {
            let sought = session.consumer.seek(&self.topic, vgroup.0, *offset);
            sought.map_err(subscribe)?;
        }
        Ok(session)
    }

    /// Drops the consumer group, with all that the server keeps for it. A consumer that was killed is in it for a
    /// while.
    fn forget_group(
        &self,
        connection: &Connection,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), TmqError> {
        let began = Instant::now();
        loop {
            match topics::drop_group(connection, &self.config.group, &self.topic) {
                Ok(_) => return Ok(()),
                Err(source) if began.elapsed() > ASSIGN || stopped() => {
                    return Err(TmqError::GroupInUse {
                        group: self.config.group.clone(),
                        topic: self.topic.clone(),
                        source,
                    });
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Waits until the consumer has every vgroup, and their logs reach back to where they were.
    fn assigned(
        &self,
        session: &Session,
        position: Option<&Position>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Vec<Assignment>, TmqError> {
        let began = Instant::now();
        let known = position.filter(|position| position.created == session.database.created);
        loop {
            let wanted = self.vgroups(&session.connection)?;
            let outcome = session.consumer.assignment(&self.topic);
            let logs = outcome.as_deref().unwrap_or_default();
            let given: BTreeSet<VgId> = logs.iter().map(|log| VgId(log.vgroup)).collect();
            let missing: Vec<String> = wanted.difference(&given).map(ToString::to_string).collect();
            let short = logs.iter().any(|log| {
                known.is_some_and(|known| known.offsets.get(&VgId(log.vgroup)) > Some(&log.end))
            });
            let waited = began.elapsed();
            if missing.is_empty() && outcome.is_ok() && (!short || waited > REPLAY) {
                return Ok(logs.to_vec());
            }
            if waited > ASSIGN || stopped() {
                return Err(match outcome {
                    Err(source) => TmqError::Subscribe {
                        topic: self.topic.clone(),
                        source,
                    },
                    Ok(_) => TmqError::NotAssigned {
                        vgroups: missing.join(", "),
                        group: self.config.group.clone(),
                        topic: self.topic.clone(),
                    },
                });
            }
            // What comes before the first seek is read again after it. Without polling the consumer does not learn
            // that it was given more vgroups.
            let polled = session.consumer.poll(PAUSE);
            drop(polled);
            thread::sleep(PAUSE / 4);
        }
    }
}

/// What a topic must be.
const WITH_META: &str = "WITH META AS DATABASE";

/// What came in.
pub(super) enum Polled {
    /// Nothing.
    Nothing,
    /// Rows by table.
    Rows {
        vgroup: VgId,
        wal: u64,
        blocks: Vec<server::tmq::Block>,
        /// Some of the tables may be new.
        creates: bool,
    },
    /// A record of the log.
    Record {
        vgroup: VgId,
        wal: u64,
        message_type: i16,
        body: Vec<u8>,
    },
    /// Something unknown.
    Unknown { vgroup: VgId, wal: u64, kind: i32 },
}

impl Session {
    /// Decides for every vgroup where to go on, and what is missing there.
    fn place(&mut self, logs: &[Assignment], position: Option<&Position>) {
        self.ends = logs.iter().map(|log| (VgId(log.vgroup), log.end)).collect();
        let Some(position) = position else {
            self.offsets = self.ends.clone();
            return;
        };
        if position.created != self.database.created {
            let why = "the database was dropped and created again since the position was saved";
            self.gaps.push(why.to_owned());
            self.offsets = self.ends.clone();
            return;
        }
        let (offsets, gaps) = placed(logs, &position.offsets);
        self.offsets = offsets;
        self.gaps = gaps;
    }

    /// Waits for a message.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<Polled, SqlError> {
        let Some(mut message) = self.consumer.poll(timeout)? else {
            return Ok(Polled::Nothing);
        };
        let vgroup = VgId(message.vgroup());
        let after = self.consumer.position(&self.topic, vgroup.0)?;
        let Some(before) = self.offsets.get(&vgroup).copied() else {
            return Err(SqlError::local(format!(
                "a message came from vgroup {vgroup}, which was not there when the session began"
            )));
        };
        if after <= before {
            // Asked for before the seek; it comes again from there.
            return Ok(Polled::Nothing);
        }
        let wal = (after - 1).max(0) as u64;
        let polled = match message.kind() {
            kind @ (server::tmq::MessageKind::Data | server::tmq::MessageKind::DataAndMeta) => {
                let mut blocks = Vec::new();
                while let Some(block) = message.next_block()? {
                    blocks.push(block);
                }
                let creates = kind == server::tmq::MessageKind::DataAndMeta;
                Polled::Rows {
                    vgroup,
                    wal,
                    blocks,
                    creates,
                }
            }
            server::tmq::MessageKind::Meta => {
                let (message_type, body) = message.log_record()?;
                Polled::Record {
                    vgroup,
                    wal,
                    message_type,
                    body,
                }
            }
            server::tmq::MessageKind::Other(kind) => Polled::Unknown { vgroup, wal, kind },
        };
        Ok(polled)
    }

    /// Takes over how far the consumer is; call it after each poll. Returns what it can't have read: where a log
    /// begins behind what was to be read next, the server went on there without a word. Where one ends before what
    /// was read, the session is over: only a new one sees whether the server reads its log again or has lost it.
    pub(super) fn advance(&mut self) -> Result<Vec<String>, TmqError> {
        let logs = self.consumer.assignment(&self.topic)?;
        let given: BTreeSet<VgId> = logs.iter().map(|log| VgId(log.vgroup)).collect();
        if given != self.offsets.keys().copied().collect() {
            return Err(TmqError::Reassigned);
        }
        let mut gaps = Vec::new();
        for log in logs {
            let vgroup = VgId(log.vgroup);
            let after = self.consumer.position(&self.topic, log.vgroup)?;
            if let Some(before) = self.offsets.get_mut(&vgroup)
                && after > *before
            {
                if log.begin > *before {
                    gaps.push(removed(vgroup, *before, log.begin));
                }
                *before = after;
            }
            if let Some(read) = self.offsets.get(&vgroup).copied()
                && has_lost_its_end(&log, read)
            {
                return Err(TmqError::LogEndsEarly {
                    vgroup,
                    end: log.end,
                    read,
                });
            }
        }
        Ok(gaps)
    }

    /// Whether everything is read that was logged when the session began.
    pub(super) fn has_caught_up(&self) -> bool {
        let offset = |vgroup| self.offsets.get(vgroup).copied().unwrap_or(0);
        self.ends.iter().all(|(vgroup, end)| offset(vgroup) >= *end)
    }

    /// How far each log is read, and where it ends, as far as the last answers to polls say.
    pub(super) fn logs(&self) -> BTreeMap<VgId, LogEnd> {
        let logs = self.consumer.assignment(&self.topic).unwrap_or_default();
        let log = |log: Assignment| {
            let vgroup = VgId(log.vgroup);
            let read = self.offsets.get(&vgroup).copied();
            let end = log.end;
            let read = read.unwrap_or(end);
            (vgroup, LogEnd { read, end })
        };
        logs.into_iter().map(log).collect()
    }

    /// The newest offset of all.
    pub(super) fn newest(&self) -> u64 {
        let newest = self.offsets.values().copied().max().unwrap_or(0);
        (newest - 1).max(0) as u64
    }
}

fn removed(vgroup: VgId, wanted: i64, begin: i64) -> String {
    format!(
        "the log of vgroup {vgroup} begins at version {begin}, {wanted} was to be read next; raise WAL_RETENTION_PERIOD above the longest time without a follower"
    )
}

/// Whether a log ends before what was read of it. The server sends nothing past the end it says, so in normal running
/// it never does. An end below 0 is not known: the consumer was given the vgroup again, and has no answer yet.
fn has_lost_its_end(log: &Assignment, read: i64) -> bool {
    (0..read).contains(&log.end)
}

/// Where to go on in each vgroup, given where it was, and what is missing there.
fn placed(logs: &[Assignment], saved: &BTreeMap<VgId, i64>) -> (BTreeMap<VgId, i64>, Vec<String>) {
    let mut offsets = BTreeMap::new();
    let mut gaps = Vec::new();
    for log in logs {
        let vgroup = VgId(log.vgroup);
        let offset = match saved.get(&vgroup) {
            Some(saved) if *saved < log.begin => {
                gaps.push(removed(vgroup, *saved, log.begin));
                log.begin
            }
            Some(saved) if *saved > log.end => {
                gaps.push(format!(
                    "the log of vgroup {vgroup} ends before version {}, everything before {saved} was read already: the server lost what it had logged",
                    log.end
                ));
                log.end
            }
            Some(saved) => *saved,
            None => {
                if log.begin > 0 {
                    gaps.push(format!(
                        "vgroup {vgroup} is new, and its log begins at version {}",
                        log.begin
                    ));
                }
                log.begin.max(0)
            }
        };
        offsets.insert(vgroup, offset);
    }
    for vgroup in saved.keys().filter(|vgroup| !offsets.contains_key(vgroup)) {
        gaps.push(format!(
            "vgroup {vgroup} is not there any more: it was split or moved"
        ));
    }
    (offsets, gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(vgroup: i32, begin: i64, end: i64) -> Assignment {
        Assignment {
            vgroup,
            current: begin,
            begin,
            end,
        }
    }

    #[test]
    fn a_vgroup_goes_on_where_it_was_unless_its_log_does_not_hold_that() {
        let cases: [(Option<i64>, Assignment, i64, bool); 8] = [
            (Some(5), log(2, 0, 9), 5, false),
            (Some(5), log(2, 5, 9), 5, false),
            (Some(9), log(2, 5, 9), 9, false),
            (Some(4), log(2, 5, 9), 5, true),
            (Some(10), log(2, 5, 9), 9, true),
            (Some(0), log(2, i64::MAX, i64::MAX), i64::MAX, true),
            (None, log(2, 0, 9), 0, false),
            (None, log(2, 1, 9), 1, true),
        ];
        for (saved, log, offset, gap) in cases {
            let others = saved.map(|saved| (VgId(2), saved));
            let (offsets, gaps) = placed(&[log], &others.into_iter().collect());
            assert_eq!(offsets, [(VgId(2), offset)].into(), "{saved:?} {log:?}");
            assert_eq!(!gaps.is_empty(), gap, "{saved:?} {log:?}");
        }
    }

    #[test]
    fn a_log_that_ends_before_what_was_read_has_lost_its_end() {
        let cases = [
            (9, 9, false),
            (8, 9, false),
            (10, 9, true),
            (1, 0, true),
            (0, 0, false),
            (9, -1, false),
            (i64::MAX, i64::MIN, false),
        ];
        for (read, end, lost) in cases {
            assert_eq!(
                has_lost_its_end(&log(2, 0, end), read),
                lost,
                "{read} {end}"
            );
        }
    }

    #[test]
    fn a_vgroup_that_vanished_is_a_gap() {
        let saved = [(VgId(2), 5), (VgId(3), 5)].into();
        let (offsets, gaps) = placed(&[log(3, 0, 9)], &saved);
        assert_eq!(offsets, [(VgId(3), 5)].into());
        assert_eq!(gaps.len(), 1);
        assert!(gaps[0].contains("vgroup 2"), "{gaps:?}");
    }
}
