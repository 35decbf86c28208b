//! One restore at a time for each target: taking a claim, keeping it alive, and taking over one whose restore died.
//!
//! A restore gives a sign of life every second for each claim, from the first one that it takes on. Whoever finds a claim watches it, by its own clock
//! only: a sign of life means that the target is busy; none for a while means that its restore is dead, and the claim is
//! taken over. On the machine of that restore nobody has to wait for this: the process is there or not. A restore that
//! could not give its sign for a shorter while ends, so that it never writes when another one may have taken over.

use super::{
    RestoreError,
    target::{self, SAID},
};
use crate::watch::{self, Answer, EVERY, Heard, Work};
use model::{Progress, retry::pause};
use parking_lot::Mutex;
use server::{
    Connection, Library, Login, SqlError, cluster,
    restore_claim::{self, Claim},
    restore_record,
};
use std::{
    fmt, fs, process,
    sync::Arc,
    time::{Duration, Instant},
};

/// A restore that was not heard of for so long is dead. One that could not say that it is alive has ended before.
const DEAD: Duration = Duration::from_secs(60);
const _: () = assert!(Work::Restore.patience().as_secs() + 10 < DEAD.as_secs());

/// A restore that is in the way of a plan is heard of in this time, if it is alive.
const HEARD: Duration = Duration::from_secs(10);

/// How often somebody else may be faster.
const TRIES: u32 = 10;

/// The process that a claim belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    /// Random.
    id: String,
    host: String,
    pid: u32,
    /// When the process began, since its machine did.
    began: String,
    /// The run of the machine, and the list of processes that the number is of. Empty where that can't be told.
    machine: String,
}

const MACHINE: [&str; 2] = [
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/random/boot_id",
];

fn line(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().replace('|', "")
}

/// When the process with this number began; empty if there is none, or if that can't be told.
fn began(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let field = fields.and_then(|fields| fields.split_whitespace().nth(19));
    field.unwrap_or_default().to_owned()
}

impl Owner {
    fn this() -> Self {
        let [host, boot] = MACHINE.map(line);
        let processes = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let began = began(process::id());
        let known = !boot.is_empty() && !began.is_empty();
        Self {
            id: repository::link::new_id().0,
            host: if host.is_empty() {
                "?".to_owned()
            } else {
                host
            },
            pid: process::id(),
            machine: match known {
                true => format!("{boot} {}", processes.display()),
                false => String::new(),
            },
            began,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('|').map(str::to_owned);
        Some(Self {
            id: fields.next()?,
            host: fields.next()?,
            pid: fields.next()?.parse().ok()?,
            began: fields.next()?,
            machine: fields.next()?,
        })
    }

    /// As it is kept in a claim.
    fn to_text(&self) -> String {
        let Self {
            id,
            host,
            pid,
            began,
            machine,
        } = self;
        format!("{id}|{host}|{pid}|{began}|{machine}")
    }

    /// Whether it was a process of this machine, and is not there any more.
    fn is_gone(&self) -> bool {
        !self.machine.is_empty()
            && self.machine == Self::this().machine
            && self.began != began(self.pid)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// What a restore shares with the thread that asks whether its server answers: that gives the signs of life of its claims.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// The claims that are held.
    claims: Mutex<Vec<Claim>>,
}

impl Life {
    /// The question whether the server answers, which gives a sign of life for every claim.
    pub(super) fn question(
        self: &Arc<Self>,
        library: &Library,
        login: &Login,
    ) -> impl FnMut() -> Answer + Send + use<> {
        let (library, login, life) = (library.clone(), login.clone(), Arc::clone(self));
        let mut ask = watch::question(&library, &login);
        let (mut connection, mut beats) = (None, 0);
        move || {
            let claims = life.claims.lock().clone();
            if claims.is_empty() {
                return ask();
            }
            beats += 1;
            match beat(&mut connection, &library, &login, &claims, beats) {
                // Those that were given back meanwhile are nobody's.
                Ok(None) if life.claims.lock().is_empty() => Answer::Heard(Vec::new()),
                Ok(Some(unready)) => Answer::Heard(unready),
                Ok(None) => Answer::End,
                Err(error) => {
                    tracing::debug!("no sign of life could be given: {error}");
                    connection = None;
                    Answer::Missing
                }
            }
        }
    }
}

/// Claims that are held. Given back when dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    connection: &'a Connection,
    life: &'a Life,
    heard: Arc<Heard>,
}

impl<'a> Held<'a> {
    /// Claims targets, all or none of them.
    ///
    /// # Errors
    /// Another restore has one of them, or the server refused.
    pub(super) fn take(
        connection: &'a Connection,
        life: &'a Life,
        heard: Arc<Heard>,
        targets: &[&str],
        progress: &dyn Progress,
    ) -> Result<Self, RestoreError> {
        let held = Self {
            connection,
            life,
            heard,
        };
        restore_record::create_database(connection)?;
        target::wait_until_settled(connection, restore_record::DATABASE, progress)?;
        let owner = Owner::this();
        for _ in 0..TRIES {
            if held.take_free(targets, &owner, progress)? {
                return Ok(held);
            }
        }
        Err(RestoreError::Busy {
            target: targets.join(", "),
            owner: "several processes".to_owned(),
        })
    }

    /// Claims those of the targets that it has not yet, once nobody else has one of them. False if somebody was faster.
    fn take_free(
        &self,
        targets: &[&str],
        owner: &Owner,
        progress: &dyn Progress,
    ) -> Result<bool, RestoreError> {
        let mut wanted = Vec::new();
        for target in targets {
            if !self.has(target) {
                wanted.push((*target, restore_claim::newest(self.connection, target)?));
            }
        }
        let others = wanted.iter().filter_map(|(_, before)| before.as_ref());
        must_be_free(self.connection, others, DEAD, progress)?;
        for (target, before) in wanted {
            let claim = Claim {
                target: target.to_owned(),
                number: before.map_or(1, |before| before.number.saturating_add(1)),
                owner: owner.to_text(),
            };
            claim.create(self.connection)?;
            // Whoever was faster, by one number or by several, is looked at next.
            if restore_claim::newest(self.connection, target)?.as_ref() != Some(&claim) {
                return Ok(false);
            }
            claim.beat(self.connection, 0)?;
            self.life.claims.lock().push(claim.clone());
            claim.drop_older(self.connection)?;
        }
        Ok(true)
    }

    fn has(&self, target: &str) -> bool {
        let claims = self.life.claims.lock();
        claims.iter().any(|claim| claim.target == target)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let claims = std::mem::take(&mut *self.life.claims.lock());
        if self.heard.silence() >= SAID {
            // It would wait for an answer that nobody needs.
            return;
        }
        for claim in claims {
            // Where that can't be said, the next restore finds it out.
            if let Err(error) = claim.end(self.connection) {
                tracing::debug!(
                    "the claim to {} could not be given back: {error}",
                    claim.target
                );
            }
        }
    }
}

/// Says that a target is busy where a restore of it is alive: it may be why a plan can't be made.
///
/// # Errors
/// One is alive, or the server refused.
pub(super) fn must_be_idle<'t>(
    connection: &Connection,
    targets: impl Iterator<Item = &'t String>,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let mut claims = Vec::new();
    for target in targets {
        claims.extend(restore_claim::newest(connection, target)?);
    }
    must_be_free(connection, claims.iter(), HEARD, progress)
}

/// A claim that turns out to be alive or dead.
struct Suspect<'a> {
    claim: &'a Claim,
    owner: String,
    beats: Option<i64>,
}

impl<'a> Suspect<'a> {
    /// `None` if it is known to be done or dead already.
    fn begin(connection: &Connection, claim: &'a Claim) -> Result<Option<Self>, SqlError> {
        let owner = Owner::parse(&claim.owner);
        let first = claim.sign(connection)?;
        if first.ended || owner.as_ref().is_some_and(Owner::is_gone) {
            return Ok(None);
        }
        Ok(Some(Self {
            claim,
            owner: owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string()),
            beats: first.beats,
        }))
    }

    /// Whether it is to be watched further.
    ///
    /// # Errors
    /// It is alive.
    fn go_on(&self, connection: &Connection) -> Result<bool, RestoreError> {
        let sign = self.claim.sign(connection)?;
        if !sign.ended && sign.beats != self.beats {
            return Err(RestoreError::Busy {
                target: self.claim.target.clone(),
                owner: self.owner.clone(),
            });
        }
        Ok(!sign.ended)
    }
}

/// Watches claims, all at a time, until each turns out to be alive or dead.
///
/// # Errors
/// One is alive.
fn must_be_free<'c>(
    connection: &Connection,
    claims: impl Iterator<Item = &'c Claim>,
    patience: Duration,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let mut watched = Vec::new();
    for claim in claims {
        watched.extend(Suspect::begin(connection, claim)?);
    }
    let began = Instant::now();
    let mut said = Duration::ZERO;
    while let Some(first) = watched.first()
        && began.elapsed() < patience
    {
        let waited = began.elapsed();
        if waited >= said + SAID {
            said = waited;
            progress.waits(&format!(
                "waiting whether {}, which restored to {}, is still alive, for up to {} s more",
                first.owner,
                first.claim.target,
                (patience.saturating_sub(waited)).as_secs()
            ));
        }
        pause(EVERY / 2, progress)?;
        let mut left = Vec::new();
        for watch in watched {
            if watch.go_on(connection)? {
                left.push(watch);
            }
        }
        watched = left;
    }
    Ok(())
}

/// One sign of life for every claim, and the dnodes that are not ready. `None` if one of the claims is not held any more.
fn beat(
    slot: &mut Option<Connection>,
    library: &Library,
    login: &Login,
    claims: &[Claim],
    beats: i64,
) -> Result<Option<Vec<String>>, SqlError> {
    let connection = match slot {
        Some(connection) => connection,
        None => slot.insert(library.connect(login)?),
    };
    for claim in claims {
        claim.beat(connection, beats)?;
        if restore_claim::newest(connection, &claim.target)?.as_ref() != Some(claim) {
            return Ok(None);
        }
    }
    cluster::unready(connection).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_as_it_was_written() {
        let owner = Owner::this();
        assert_eq!(Owner::parse(&owner.to_text()), Some(owner));
        assert_eq!(Owner::parse("somebody else's comment"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_ended_is_gone_and_one_that_runs_is_not() {
        let mut owner = Owner::this();
        assert!(!owner.is_gone());
        // Its number was given to another process since.
        owner.began.push('0');
        assert!(owner.is_gone());
        owner.machine.push_str("another");
        assert!(!owner.is_gone(), "nothing is known of other machines");
    }
}
