//! Following a server: what its files say that changed, as block events, again and again.
//!
//! A follower does what `--detect` does, each time from where it ended the time before. What it found goes to a
//! [`Listener`] block by block; what can't be told by blocks goes there as a range that is to be copied whole.
//! Only when the listener has everything in safety is the new position saved. So a follower that is killed tells
//! some changes twice, and never misses one.
//!
//! The position is a checkpoint file. It also holds the tables' numbers and the width of windows, by which block
//! ids are made: a bitmap and its position file belong together.

use crate::{
    teller::{NotTaken, Teller, UntilStopped},
    turns::{Turns, Worker},
    watch::{Waker, Watch},
};
use bitmap::BlockState;
use capture::{CaptureError, DataDirs, ReasonCode, SourceChoice, VnodeDir};
use events::intercept::EventKind;
use metrics::{Readings, Source};
use model::{KeySpan, VgId};
use parking_lot::Mutex;
use plan::{
    TablePlan,
    checkpoint::Checkpoint,
    detect::{self, DetectError, Detection, Request, Since},
};
use repository::local::{LocalFileError, load_checkpoint, save_checkpoint};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};
use store::StoreError;

pub use crate::{
    teller::Listener,
    turns::{CatchUp, FollowStats},
};

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowConfig {
    /// The server's data directories.
    pub data_dirs: Vec<PathBuf>,
    /// The database; may be left out when there is only one.
    pub database: Option<String>,
    /// Where the position is kept. Without it, following starts anew every time.
    pub position: Option<PathBuf>,
    /// How often to look without being told of a change.
    pub poll: Duration,
}

/// Why a follower can't start.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The data directories or the position can't be used.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The position can't be used.
    #[error(transparent)]
    Position(#[from] LocalFileError),
    /// The position can't be written.
    #[error(transparent)]
    Save(#[from] StoreError),
    /// No thread, or no temporary directory.
    #[error("the follower can't start: {0}")]
    Io(#[from] io::Error),
}

/// A server that is followed. Dropping it stops it.
pub struct Follower {
    // Waited for before all else goes.
    _worker: Worker,
    shared: Arc<Shared>,
    waker: Waker,
}

struct Shared {
    config: FollowConfig,
    position: PathBuf,
    turns: Arc<Turns>,
    state: Mutex<State>,
    _temporary: Option<tempfile::TempDir>,
}

#[derive(Default)]
struct State {
    checkpoint: Option<Checkpoint>,
    vnodes: Vec<VnodeDir>,
}

/// The least time between two scans.
const PAUSE: Duration = Duration::from_millis(100);
/// After a scan of some length, as much time again is left to the server, this many times.
const PAUSE_SCANS: u32 = 3;

impl Follower {
    /// Starts following: from the saved position, or, where there is none, from what is committed now.
    pub fn start(config: FollowConfig, listener: Arc<dyn Listener>) -> Result<Self, FollowError> {
        let (position, temporary) = match &config.position {
            Some(path) => (path.clone(), None),
            None => {
                let dir = tempfile::tempdir()?;
                (dir.path().join("position"), Some(dir))
            }
        };
        if !position.try_exists()? {
            let first = detect::run(&request(&config, Since::Committed), &())?;
            save_checkpoint(&first.checkpoint, &position)?;
        }
        let checkpoint = load_checkpoint(&position)?;
        let watch = Watch::new();
        let waker = watch.waker();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                checkpoint: Some(checkpoint),
                ..State::default()
            }),
            position,
            config,
            turns: Arc::new(Turns::new()),
            _temporary: temporary,
        });
        let run = Arc::clone(&shared);
        let worker = Worker::start("follow", &shared.turns, move || {
            run.follow(watch, &*listener)
        })?;
        Ok(Self {
            shared,
            waker,
            _worker: worker,
        })
    }

    /// Waits until everything that the server had logged before this call is told and saved; false if that
    /// takes longer than `patience`.
    pub fn catch_up(&self, patience: Duration) -> bool {
        self.ask().wait(patience)
    }

    /// Asks for a scan; what it gives can be waited for without the follower.
    pub fn ask(&self) -> CatchUp {
        let turn = self.shared.turns.ask();
        self.waker.wake();
        turn
    }

    /// Numbers about it.
    pub fn stats(&self) -> FollowStats {
        self.shared.turns.stats()
    }

    /// Where it is: the tables' numbers, the windows, and the version of every vgroup that is told and safe.
    pub fn position(&self) -> Option<Checkpoint> {
        self.shared.state.lock().checkpoint.clone()
    }

    /// Its part in the metrics.
    pub fn gauges(&self) -> Arc<dyn Source> {
        Arc::new(FollowGauges(Arc::clone(&self.shared)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.turns.stop();
        self.waker.wake();
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

fn request(config: &FollowConfig, since: Since) -> Request {
    Request {
        data_dirs: config.data_dirs.clone(),
        database: config.database.clone(),
        vgroup: None,
        since,
        source: SourceChoice::Auto,
        window: None,
    }
}

impl Shared {
    fn follow(&self, mut watch: Watch, listener: &dyn Listener) {
        let mut seen = Signature::default();
        let mut failed = 0_u32;
        while !self.turns.is_stopped() {
            let asked = self.turns.asked();
            let notified = self.watch_again(&mut watch);
            let now = Signature::of(&self.state.lock().vnodes);
            let must = self.turns.is_asked() || failed > 0 || now.is_unknown();
            let mut pause = PAUSE;
            if must || now != seen {
                self.turns.lag_starts();
                let started = Instant::now();
                match self.scan(listener) {
                    Ok(messages) => {
                        let growth = if seen.is_unknown() {
                            0
                        } else {
                            now.growth_since(&seen)
                        };
                        self.turns.metrics.messages_read(messages, growth);
                        seen = now;
                        failed = 0;
                        self.turns.done(asked, notified);
                    }
                    Err(_) if self.turns.is_stopped() => return,
                    Err(error) => {
                        failed += 1;
                        self.failed(&error);
                        pause = Duration::from_millis(100 << failed.min(6));
                    }
                }
                pause = pause.max(started.elapsed() * PAUSE_SCANS);
            }
            if failed == 0 && !self.turns.is_asked() && !self.turns.is_stopped() {
                watch.wait(self.config.poll);
            }
            self.pause(pause);
        }
    }

    /// Leaves the server in peace for a while, unless someone waits.
    fn pause(&self, length: Duration) {
        let deadline = Instant::now() + length;
        while Instant::now() < deadline && !self.turns.is_stopped() {
            if self.turns.is_asked() && length <= PAUSE {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Finds the vnodes anew and watches their directories.
    fn watch_again(&self, watch: &mut Watch) -> bool {
        let Ok(vnodes) =
            DataDirs::new(self.config.data_dirs.clone()).and_then(|dirs| dirs.vnodes())
        else {
            // Those of before are not all there may be: the scan says what is wrong.
            self.state.lock().vnodes.clear();
            return false;
        };
        let roots = self.config.data_dirs.iter().map(|dir| dir.join("vnode"));
        let mut dirs: BTreeSet<PathBuf> = roots.collect();
        for vnode in &vnodes {
            dirs.insert(vnode.primary.clone());
            dirs.insert(vnode.primary.join("wal"));
            dirs.extend(vnode.tsdb.iter().cloned());
        }
        dirs.retain(|dir| dir.is_dir());
        self.state.lock().vnodes = vnodes;
        let notified = watch.watch(&dirs);
        if !notified {
            self.turns.metrics.subscription_retries.add(1);
        }
        notified
    }

    fn failed(&self, error: &ScanError) {
        let metrics = self.turns.metrics;
        match error {
            ScanError::Detect(DetectError::Capture(
                CaptureError::Format { .. } | CaptureError::Rows { .. },
            )) => metrics.parse_errors.add(1),
            ScanError::Detect(_) | ScanError::Position(_) => metrics.connection_retries.add(1),
            ScanError::Save(_) | ScanError::NotSafe => metrics.commit_retries.add(1),
            ScanError::NotTaken(_) => {}
        }
        tracing::warn!("following is tried again: {error}");
        self.turns.failed(error);
    }

    /// One turn; returns how many changes it found.
    fn scan(&self, listener: &dyn Listener) -> Result<u64, ScanError> {
        let listener = &UntilStopped {
            turns: &self.turns,
            listener,
        };
        let since = Since::Checkpoint(Box::new(load_checkpoint(&self.position)?));
        let mut detection = detect::run(&request(&self.config, since), &())?;
        self.number(&mut detection)?;
        let messages = self.tell(&mut detection, listener)?;
        if !listener.settle() {
            return Err(ScanError::NotSafe);
        }
        let unchanged = self.state.lock().checkpoint.as_ref() == Some(&detection.checkpoint);
        if !unchanged {
            save_checkpoint(&detection.checkpoint, &self.position)?;
            self.state.lock().checkpoint = Some(detection.checkpoint);
        }
        Ok(messages)
    }

    /// Numbers the tables, and saves that before anyone is told of their blocks: after a crash they would get other
    /// numbers, and what was told would stand for blocks of other tables.
    fn number(&self, detection: &mut Detection) -> Result<(), ScanError> {
        for table in &detection.plan.tables {
            detection.checkpoint.ordinals.of(table.table.uid);
        }
        let mut state = self.state.lock();
        if let Some(known) = &mut state.checkpoint
            && known.ordinals != detection.checkpoint.ordinals
        {
            let ordinals = detection.checkpoint.ordinals.clone();
            let numbered = Checkpoint {
                ordinals,
                ..known.clone()
            };
            // A follower that was stopped may have a successor, whose position is newer.
            if self.turns.is_stopped() {
                return Err(ScanError::NotSafe);
            }
            save_checkpoint(&numbered, &self.position)?;
            *known = numbered;
        }
        Ok(())
    }

    fn tell(&self, detection: &mut Detection, listener: &dyn Listener) -> Result<u64, ScanError> {
        let plan = &detection.plan;
        let states: BTreeMap<_, _> = plan
            .tables
            .iter()
            .map(|table| (table.table.uid, table.state))
            .collect();
        let newest: BTreeMap<VgId, u64> = plan
            .vgroups
            .iter()
            .map(|vgroup| (vgroup.vgroup, vgroup.to.0.max(0) as u64))
            .collect();
        let newest_of_all = newest.values().max().copied().unwrap_or_default();
        let mut teller = Teller::new(listener);
        for block in &plan.blocks {
            let kind = match states.get(&block.uid) {
                Some(BlockState::New) => EventKind::Create,
                _ => EventKind::Update,
            };
            teller.block(kind, block.id, block.version.0.max(0) as u64)?;
        }
        let mut messages = plan.rows();
        for table in &plan.tables {
            let newest = newest.get(&table.vgroup).copied().unwrap_or_default();
            let ordinal = detection.checkpoint.ordinals.of(table.table.uid);
            if table.state == BlockState::Deleted {
                messages += 1;
                teller.table(ordinal, newest, "a table was dropped")?;
                continue;
            }
            messages += table.deletes.len() as u64;
            for (span, wal) in spans_without_rows(table, newest) {
                let first = plan.window.window_of(span.first);
                let last = plan.window.window_of(span.last);
                if !teller.windows(ordinal, first, last, wal)? {
                    self.turns.metrics.messages_dropped.add(1);
                }
            }
        }
        let reasons = plan.vgroups.iter().flat_map(|vgroup| &vgroup.reasons);
        let not_understood = reasons.filter(|reason| {
            matches!(
                reason.code,
                ReasonCode::WalCorrupt | ReasonCode::WalUnknownMessage | ReasonCode::UnreadableRows
            )
        });
        let not_understood = not_understood.count() as u64;
        self.turns.metrics.parse_errors.add(not_understood);
        // Unreadable rows name their tables themselves.
        let unproven = plan.vgroups.iter().flat_map(|vgroup| &vgroup.reasons);
        let unproven = unproven.filter(|reason| {
            let named = reason.code == ReasonCode::UnreadableRows;
            reason.code.is_gap() && reason.range.is_some() && !named
        });
        for reason in unproven {
            teller.everything(newest_of_all, &reason.text)?;
            self.turns.metrics.messages_dropped.add(1);
        }
        // Rows are all named, but a table may be gone with its blocks, and nothing else says so.
        let remarks = plan.vgroups.iter().flat_map(|vgroup| &vgroup.reasons);
        let unseen_drops = remarks.filter(|reason| reason.code.hides_drops());
        let dropped = "a super table was dropped, and nothing says which tables it had";
        let unseen_drops = unseen_drops
            .map(|reason| reason.text.as_str())
            .chain(plan.super_tables_dropped.then_some(dropped));
        for why in unseen_drops {
            tracing::warn!(reason = why, "everything counts as changed");
            teller.everything(newest_of_all, why)?;
            self.turns.metrics.messages_dropped.add(1);
        }
        self.turns.told(teller.events, teller.ranges);
        Ok(messages)
    }
}

/// What a table's changes cover beside the blocks with rows: deletes, and spans that can't be told row by row.
fn spans_without_rows(table: &TablePlan, newest: u64) -> impl Iterator<Item = (KeySpan, u64)> {
    let deletes = table
        .deletes
        .iter()
        .map(|(span, version)| (*span, version.0.max(0) as u64));
    let unknown = if table.rows.is_none() {
        table.spans.as_slice()
    } else {
        &[]
    };
    deletes.chain(unknown.iter().map(move |span| (*span, newest)))
}

#[derive(Debug, thiserror::Error)]
enum ScanError {
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error(transparent)]
    Position(#[from] LocalFileError),
    #[error(transparent)]
    Save(#[from] StoreError),
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("the listener has not everything in safety yet; it will be told again")]
    NotSafe,
}

/// What shows from outside that a vnode changed: when its files were renamed, and how much is logged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Signature {
    files: Vec<(PathBuf, Option<(SystemTime, u64)>)>,
    /// The length of every segment of the logs.
    logs: BTreeMap<PathBuf, u64>,
}

impl Signature {
    fn of(vnodes: &[VnodeDir]) -> Self {
        let mut signature = Self::default();
        for vnode in vnodes {
            let current = vnode.primary.join("tsdb").join("current.json");
            for path in [vnode.primary.join("vnode.json"), current] {
                let state = fs::metadata(&path).ok();
                let state = state.and_then(|meta| Some((meta.modified().ok()?, meta.len())));
                signature.files.push((path, state));
            }
            signature.logs.extend(segments(&vnode.primary.join("wal")));
        }
        signature
    }

    fn is_unknown(&self) -> bool {
        self.files.is_empty()
    }

    /// How many bytes were logged since then. Segments go, so the length of all says nothing.
    fn growth_since(&self, before: &Self) -> u64 {
        let of_segment = |(path, len): (&PathBuf, &u64)| {
            let before = before.logs.get(path).copied().unwrap_or_default();
            len.saturating_sub(before)
        };
        self.logs.iter().map(of_segment).sum()
    }
}

/// The segments of a log, and their lengths.
fn segments(wal: &Path) -> impl Iterator<Item = (PathBuf, u64)> {
    let entries = fs::read_dir(wal).into_iter().flatten().flatten();
    let segments = entries.filter(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|extension| extension == "log")
    });
    segments.map(|entry| {
        let len = entry.metadata().map_or(0, |meta| meta.len());
        (entry.path(), len)
    })
}

struct FollowGauges(Arc<Shared>);

impl Source for FollowGauges {
    fn read(&self, readings: &mut Readings) {
        self.0.turns.read_lag(readings);
        let (vnodes, versions) = {
            let state = self.0.state.lock();
            let versions: BTreeMap<VgId, i64> = state
                .checkpoint
                .iter()
                .flat_map(|position| &position.vgroups)
                .map(|(vgroup, (version, _))| (*vgroup, version.0))
                .collect();
            (state.vnodes.clone(), versions)
        };
        for vnode in vnodes {
            if let Some(version) = versions.get(&vnode.vgroup)
                && let Some(newest) = crate::wal_growth::newest_version(&vnode.primary.join("wal"))
            {
                readings.offset_lag += newest.saturating_sub(*version).max(0) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_logged_does_not_depend_on_segments_that_went() {
        let logs = |all: &[(&str, u64)]| Signature {
            logs: all.iter().map(|(path, len)| (path.into(), *len)).collect(),
            ..Signature::default()
        };
        let before = logs(&[("0.log", 1_000), ("7.log", 10)]);
        let now = logs(&[("7.log", 30), ("9.log", 5)]);
        assert_eq!(now.growth_since(&before), 25);
        assert_eq!(before.growth_since(&before), 0);
    }
}
