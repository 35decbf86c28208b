//! A whole detection run: from data directories and a start to a plan and the next checkpoint.

use crate::{Ordinals, Plan, Planner, checkpoint::Checkpoint, window::WindowWidth};
use capture::{
    CaptureError, Change, DataDirs, Reason, ReasonCode, RowView, SourceChoice, SourceKind, Start,
    VnodeDir,
};
use model::{Cancelled, KeySpan, Precision, Progress, Unit, Version, VgId};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The server's data directories.
    pub data_dirs: Vec<PathBuf>,
    /// The database; may be left out when there is only one.
    pub database: Option<String>,
    /// One vgroup only.
    pub vgroup: Option<VgId>,
    /// Where to start.
    pub since: Since,
    /// Which source to use.
    pub source: SourceChoice,
    /// The windows' width; chosen by the data where neither this nor a checkpoint says it.
    pub window: Option<WindowWidth>,
}

/// Where a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// After this version, in every vgroup.
    Version(Version),
    /// At this time: µs since the epoch, by the server's clock.
    Time(i64),
    /// Where the run that wrote this checkpoint ended.
    Checkpoint(Box<Checkpoint>),
    /// Where the committed files end: nothing is looked for, but the next run can start from here.
    Committed,
}

/// What a run found.
#[derive(Debug)]
pub struct Detection {
    /// The database.
    pub database: String,
    /// The unit of its keys.
    pub precision: Precision,
    /// What changed.
    pub plan: Plan,
    /// Where the next run starts.
    pub checkpoint: Checkpoint,
}

/// A run that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The files could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The checkpoint is of another database.
    #[error(
        "the start is a checkpoint of database {found:?}, not of {wanted:?}; give that database's own"
    )]
    OtherDatabase {
        /// Its database.
        found: String,
        /// The database of this run.
        wanted: String,
    },
    /// No vnode serves what was asked for.
    #[error("{wanted} is not in the given data directories; they hold {found}")]
    NotFound {
        /// The database or vgroup.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// There are several databases and none was named.
    #[error("the data directories hold {found}; name one with --database")]
    WhichDatabase {
        /// What there is.
        found: String,
    },
    /// The start lies in the future.
    #[error("the start is in the future: {since} µs since the epoch, now is {now}")]
    TimeInTheFuture {
        /// The start, µs since the epoch.
        since: i64,
        /// Now, µs since the epoch.
        now: i64,
    },
    /// It was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Does the run.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Detection, DetectError> {
    let vnodes = DataDirs::new(request.data_dirs.clone())?.replicas()?;
    of_vnodes(vnodes, request, progress)
}

/// Does the run with these vnodes, instead of those in the request's directories.
pub fn of_vnodes(
    vnodes: Vec<VnodeDir>,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Detection, DetectError> {
    scan(vnodes, request, None, progress)
}

/// Does the same, and gives the rows of each vnode at the version up to which it was looked at; not of those whose files
/// can't tell for sure which rows these are.
///
/// # Errors
/// As [`of_vnodes`].
pub fn with_rows(
    vnodes: Vec<VnodeDir>,
    request: &Request,
    progress: &dyn Progress,
) -> Result<(Detection, BTreeMap<VgId, RowView>), DetectError> {
    let mut rows = BTreeMap::new();
    let detection = scan(vnodes, request, Some(&mut rows), progress)?;
    Ok((detection, rows))
}

fn scan(
    vnodes: Vec<VnodeDir>,
    request: &Request,
    mut rows: Option<&mut BTreeMap<VgId, RowView>>,
    progress: &dyn Progress,
) -> Result<Detection, DetectError> {
    let (database, vnodes) = select(vnodes, request)?;
    capture::no_vgroup_twice(&vnodes)?;
    let checkpoint = match &request.since {
        Since::Checkpoint(checkpoint) if checkpoint.database != database => {
            return Err(DetectError::OtherDatabase {
                found: checkpoint.database.clone(),
                wanted: database,
            });
        }
        Since::Checkpoint(checkpoint) => Some(&**checkpoint),
        Since::Time(time) => {
            let now = jiff::Timestamp::now().as_microsecond();
            if *time > now {
                return Err(DetectError::TimeInTheFuture { since: *time, now });
            }
            None
        }
        Since::Version(_) | Since::Committed => None,
    };
    let precision = match vnodes.first() {
        Some(vnode) => vnode.config()?.precision,
        None => Precision::Milliseconds,
    };
    let window = match (request.window, checkpoint) {
        (Some(window), _) => window,
        (None, Some(checkpoint)) => checkpoint.window,
        (None, None) => choose_window(precision, &vnodes)?,
    };
    let ordinals = checkpoint.map_or_else(Ordinals::default, |c| c.ordinals.clone());
    let mut planner = Planner::new(window, ordinals);
    let mut next = Checkpoint {
        database: database.clone(),
        precision,
        window,
        // What is not looked at in this run, or not on disk, is as it was: the next run must not forget it.
        vgroups: checkpoint.map(|c| c.vgroups.clone()).unwrap_or_default(),
        ordinals: Ordinals::default(),
    };
    let step = format!("finding what changed in {database}");
    progress.step(&step, Unit::Vnodes, vnodes.len() as u64);
    for vnode in &vnodes {
        progress.go_on()?;
        let (start, unknown) = start_of(vnode, &request.since, checkpoint)?;
        let mut changes = planner.vgroup();
        let mut sink = |change: Change<'_>| changes.add(change);
        let mut report = match &mut rows {
            None => vnode.scan(&start, request.source, &mut sink)?,
            Some(rows) => {
                let (report, view) = vnode.scan_and_keep(&start, request.source, &mut sink)?;
                rows.extend(view.map(|view| (vnode.vgroup, view)));
                report
            }
        };
        report.coverage.reasons.extend(unknown);
        progress.advance(1, changes.rows_seen());
        next.vgroups
            .insert(vnode.vgroup, (report.coverage.to, report.known.clone()));
        planner.add(vnode.vgroup, changes, &report);
    }
    if let Some(checkpoint) = checkpoint {
        add_gone(&mut planner, checkpoint, &vnodes, request);
    }
    let (plan, ordinals) = planner.finish();
    next.ordinals = ordinals;
    Ok(Detection {
        database,
        precision,
        plan,
        checkpoint: next,
    })
}

/// The vnodes that the request concerns, and their database.
fn select(
    vnodes: Vec<VnodeDir>,
    request: &Request,
) -> Result<(String, Vec<VnodeDir>), DetectError> {
    let mut found = BTreeSet::new();
    let mut selected = Vec::new();
    for vnode in vnodes {
        if request.vgroup.is_some_and(|vgroup| vgroup != vnode.vgroup) {
            found.insert(format!("vgroup {}", vnode.vgroup));
            continue;
        }
        let config = match vnode.config() {
            // Dropped since the directory was listed.
            Err(_) if vnode.is_gone() => continue,
            config => config?,
        };
        found.insert(format!("database {}", config.database));
        if request
            .database
            .as_ref()
            .is_none_or(|name| *name == config.database)
        {
            selected.push((config.database, vnode));
        }
    }
    let found = match found.len() {
        0 => "no vnode".to_owned(),
        _ => found.into_iter().collect::<Vec<_>>().join(", "),
    };
    let Some((database, _)) = selected.first() else {
        let wanted = match (&request.database, request.vgroup) {
            (Some(database), Some(vgroup)) => format!("vgroup {vgroup} of database {database:?}"),
            (Some(database), None) => format!("database {database:?}"),
            (None, Some(vgroup)) => format!("vgroup {vgroup}"),
            (None, None) => "a vnode".to_owned(),
        };
        return Err(DetectError::NotFound { wanted, found });
    };
    let database = database.clone();
    if selected.iter().any(|(other, _)| *other != database) {
        return Err(DetectError::WhichDatabase { found });
    }
    Ok((
        database,
        selected.into_iter().map(|(_, vnode)| vnode).collect(),
    ))
}

/// Where the scan of one vnode starts, and what to say if the checkpoint does not know the vnode.
fn start_of(
    vnode: &VnodeDir,
    since: &Since,
    checkpoint: Option<&Checkpoint>,
) -> Result<(Start, Option<Reason>), DetectError> {
    let version = match since {
        Since::Version(version) => *version,
        Since::Time(time) => vnode.version_before(*time)?,
        Since::Committed => vnode.config()?.committed,
        Since::Checkpoint(_) => {
            return Ok(match checkpoint.and_then(|c| c.vgroups.get(&vnode.vgroup)) {
                Some((version, known)) => {
                    (Start { version: *version, known: Some(known.clone()) }, None)
                }
                None => (
                    Start { version: Version::BEGINNING, known: None },
                    Some(Reason {
                        code: ReasonCode::VgroupUnknown,
                        text: "the checkpoint does not know this vgroup: it is new, or was split off"
                            .to_owned(),
                        range: Some(KeySpan::ALL),
                    }),
                ),
            });
        }
    };
    Ok((
        Start {
            version,
            known: None,
        },
        None,
    ))
}

/// Names the vgroups that the checkpoint knows and that are not on disk.
fn add_gone(
    planner: &mut Planner,
    checkpoint: &Checkpoint,
    vnodes: &[VnodeDir],
    request: &Request,
) {
    let source = match request.source {
        SourceChoice::Auto => SourceKind::TsdbAndWal,
        SourceChoice::Tsdb => SourceKind::Tsdb,
        SourceChoice::Wal => SourceKind::Wal,
    };
    for (vgroup, (version, _)) in &checkpoint.vgroups {
        let wanted = request.vgroup.is_none_or(|only| only == *vgroup);
        if wanted && !vnodes.iter().any(|vnode| vnode.vgroup == *vgroup) {
            planner.add_gone(*vgroup, *version, source);
        }
    }
}

/// Pieces of tables that a width is chosen by; more would not change it.
const PIECES: usize = 10_000;

fn choose_window(precision: Precision, vnodes: &[VnodeDir]) -> Result<WindowWidth, DetectError> {
    let share = PIECES / vnodes.len().max(1) + 1;
    let mut pieces = Vec::new();
    for vnode in vnodes {
        pieces.extend(vnode.row_density(share)?);
    }
    Ok(WindowWidth::choose(precision, pieces))
}
