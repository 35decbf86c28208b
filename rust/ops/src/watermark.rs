//! The watermark: the version up to which a link holds every change. It is fixed before the first row is read, and
//! everything up to it can be seen by queries: rows that are written later may be in the link, and are in the next
//! one for sure.

use capture::{CaptureError, DataDirs, VnodeDir};
use model::{Cancelled, MayPass, Progress, Version, VgId, retry::pause};
use server::{Connection, SqlError, cluster, database as databases, vgroups};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

/// A watermark that could not be set.
#[derive(Debug, thiserror::Error)]
pub enum WatermarkError {
    /// The server refused a statement.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The files could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The server does not say where its data is.
    #[error(
        "the server does not say where its data is ({0}); name its data directories with --data-dir"
    )]
    NoDataDir(String),
    /// The data directories are of another server.
    #[error(
        "data directory {path} belongs to cluster {found}, the server to cluster {wanted}: give the data directories of this server, and run on its machine"
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Its cluster.
        found: String,
        /// The server's.
        wanted: String,
    },
    /// The cluster that a data directory belongs to can't be told.
    #[error("{path}: {problem}; is it a dataDir of taos.cfg, and may this user read it?")]
    NoCluster {
        /// The file that says it.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Not all vgroups are here.
    #[error(
        "vgroups {missing} of database {database} are on dnode {dnodes}, and not in the data directories {dirs}; run on the machine of these dnodes, or name every data directory with --data-dir"
    )]
    VgroupsElsewhere {
        /// The database.
        database: String,
        /// Which ones.
        missing: String,
        /// Where they are.
        dnodes: String,
        /// Where they were looked for.
        dirs: String,
    },
    /// A commit did not come.
    #[error(
        "FLUSH DATABASE {database}: vgroup {vgroup} is committed up to version {committed}, version {wanted} was waited for {seconds} s; is the server's disk full or busy? Run it again"
    )]
    NoCommit {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// How far it is.
        committed: Version,
        /// How far it should be.
        wanted: Version,
        /// How long it was waited for.
        seconds: u64,
    },
    /// There is no log to read.
    #[error(
        "database {database} has WAL_LEVEL 0, so there is no log to read: leave --no-flush out"
    )]
    NoLog {
        /// The database.
        database: String,
    },
    /// What is logged was not applied.
    #[error(
        "vgroup {vgroup} of database {database} did not apply version {wanted} within {seconds} s; leave --no-flush out where it was given, or run it again when the server is less busy"
    )]
    NotApplied {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// The version.
        wanted: Version,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The wait was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl MayPass for WatermarkError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Sql(error) => error.may_pass(),
            Self::NoCommit { .. } | Self::NotApplied { .. } => true,
            _ => false,
        }
    }
}

/// How long a commit may take.
const COMMIT: Duration = Duration::from_secs(600);

/// How long the server may take to report what it applied; it does so every second.
const APPLY: Duration = Duration::from_secs(60);

/// The data directories that the server reports, or those given, once they are known to be this cluster's.
pub(crate) fn data_dirs(
    connection: &Connection,
    cluster: &str,
    given: &[PathBuf],
) -> Result<Vec<PathBuf>, WatermarkError> {
    let dirs = if given.is_empty() {
        reported_dirs(connection)?
    } else {
        given.to_vec()
    };
    for dir in &dirs {
        // Only the primary directory of a server says which cluster it is of.
        let path = dir.join("dnode").join("dnode.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dirs.len() > 1 => {
                continue;
            }
            Err(error) => {
                return Err(WatermarkError::NoCluster {
                    path,
                    problem: error.to_string(),
                });
            }
        };
        let found = cluster_of(&text).ok_or_else(|| WatermarkError::NoCluster {
            path: path.clone(),
            problem: "it names no cluster".to_owned(),
        })?;
        if found != cluster {
            return Err(WatermarkError::OtherCluster {
                path: dir.clone(),
                found,
                wanted: cluster.to_owned(),
            });
        }
    }
    Ok(dirs)
}

fn reported_dirs(connection: &Connection) -> Result<Vec<PathBuf>, WatermarkError> {
    match cluster::data_dirs(connection) {
        Ok(dirs) if dirs.is_empty() => {
            Err(WatermarkError::NoDataDir("it names no dataDir".to_owned()))
        }
        Ok(dirs) => Ok(in_use(dirs)),
        Err(error) => Err(WatermarkError::NoDataDir(error.to_string())),
    }
}

/// Of several `dataDir` lines the community edition uses the last one, and tells all: the others hold no vnodes. Where none
/// does, they are all kept, for the message.
fn in_use(dirs: Vec<PathBuf>) -> Vec<PathBuf> {
    let has_vnodes = |dir: &&PathBuf| dir.join("vnode").is_dir();
    let used: Vec<PathBuf> = dirs.iter().filter(has_vnodes).cloned().collect();
    if used.is_empty() { dirs } else { used }
}

/// The cluster's id in a `dnode.json`.
fn cluster_of(text: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    match json.get("clusterId")? {
        serde_json::Value::String(id) => Some(id.clone()),
        serde_json::Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The vnodes of a database, one for each of its vgroups.
pub(crate) fn vnodes(
    connection: &Connection,
    database: &str,
    dirs: &[PathBuf],
) -> Result<Vec<VnodeDir>, WatermarkError> {
    let mut wanted = vgroups::list(connection, database)?;
    let mut vnodes = Vec::new();
    for vnode in DataDirs::new(dirs.to_vec())?.vnodes()? {
        if wanted.contains_key(&vnode.vgroup) && vnode.config()?.database == database {
            wanted.remove(&vnode.vgroup);
            vnodes.push(vnode);
        }
    }
    if wanted.is_empty() {
        return Ok(vnodes);
    }
    let list = |items: Vec<String>| items.join(", ");
    Err(WatermarkError::VgroupsElsewhere {
        database: database.to_owned(),
        missing: list(wanted.keys().map(ToString::to_string).collect()),
        dnodes: list(wanted.values().map(ToString::to_string).collect()),
        dirs: list(dirs.iter().map(|dir| dir.display().to_string()).collect()),
    })
}

/// Writes everything that was acknowledged before this call to the committed files.
pub(crate) fn flush(
    connection: &Connection,
    database: &str,
    vnodes: &[VnodeDir],
    progress: &dyn Progress,
) -> Result<(), WatermarkError> {
    let mut waiting = Vec::new();
    let mut rounds = 0;
    for vnode in vnodes {
        let config = vnode.config()?;
        if config.wal_level > 0 {
            let newest = vnode.newest_logged()?;
            if newest > config.committed {
                waiting.push((vnode, newest, 0));
                rounds = rounds.max(1);
            }
        } else {
            // Without a log, only a commit that began after this moment is sure to hold everything: the one
            // after the next.
            waiting.push((vnode, config.committed, config.commit_id + 2));
            rounds = 2;
        }
    }
    let started = Instant::now();
    for round in 1..=rounds {
        databases::flush(connection, database)?;
        for (vnode, version, commit) in &waiting {
            let mut wait = Duration::from_millis(1);
            loop {
                let config = vnode.config()?;
                let commits_to_come = rounds - round;
                if config.committed >= *version && config.commit_id + commits_to_come >= *commit {
                    break;
                }
                if started.elapsed() > COMMIT {
                    return Err(WatermarkError::NoCommit {
                        database: database.to_owned(),
                        vgroup: vnode.vgroup,
                        committed: config.committed,
                        wanted: *version,
                        seconds: COMMIT.as_secs(),
                    });
                }
                pause(wait, progress)?;
                wait = (wait * 2).min(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}

/// Waits until queries see everything up to the given versions. What is in the log is not applied yet for sure.
pub(crate) fn wait_applied(
    connection: &Connection,
    database: &str,
    versions: &BTreeMap<VgId, Version>,
    progress: &dyn Progress,
) -> Result<(), WatermarkError> {
    let started = Instant::now();
    loop {
        let mut behind = versions.clone();
        for (vgroup, applied) in vgroups::applied(connection, database)? {
            if behind.get(&vgroup).is_some_and(|wanted| applied >= *wanted) {
                behind.remove(&vgroup);
            }
        }
        let Some((vgroup, wanted)) = behind.first_key_value() else {
            return Ok(());
        };
        if started.elapsed() > APPLY {
            return Err(WatermarkError::NotApplied {
                database: database.to_owned(),
                vgroup: *vgroup,
                wanted: *wanted,
                seconds: APPLY.as_secs(),
            });
        }
        pause(Duration::from_millis(100), progress)?;
    }
}
