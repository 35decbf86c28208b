//! The watermark: the version up to which a link holds every change. It is fixed before the first row is read, and
//! everything up to it can be seen by queries: rows that are written later may be in the link, and are in the next
//! one for sure.

pub(crate) mod replicas;
mod waiting;

pub(crate) use waiting::Asker;

use capture::{CaptureError, DataDirs, VnodeDir};
use model::{Cancelled, MayPass, Progress, Version, VgId};
use server::{
    Connection, SqlError, cluster, database as databases,
    vgroups::{self, Dnode, Vgroup},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};
use waiting::Waiting;

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
    /// Data directories are of several clusters.
    #[error(
        "data directory {first} belongs to cluster {cluster}, and {second} to cluster {other}: give the data directories of one cluster"
    )]
    SeveralClusters {
        /// A directory.
        first: PathBuf,
        /// Its cluster.
        cluster: String,
        /// Another directory.
        second: PathBuf,
        /// Its cluster.
        other: String,
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
    /// No server runs on the only directory that has a vgroup.
    #[error(
        "vgroup {vgroup} of database {database} is in {path}, and no server runs on that directory: it is a copy, or its server is stopped, and may lack what was written since; give the data directory of a running server of the cluster"
    )]
    NotInUse {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// The directory.
        path: PathBuf,
    },
    /// The directory of a vgroup went away.
    #[error(
        "vgroup {vgroup} of database {database} was moved away from {path} meanwhile; run it again, with the data directories of all dnodes that it may be moved to"
    )]
    Moved {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// Where it was.
        path: PathBuf,
    },
    /// The leader of a vgroup did not report.
    #[error(
        "vgroup {vgroup} of database {database} was waited for {seconds} s, and no leader reported what its replicas agree on ({roles}); is a dnode down or frozen? Run it again when SHOW VGROUPS shows a leader"
    )]
    NoReport {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// What its replicas do.
        roles: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No given replica of a vgroup is complete.
    #[error(
        "vgroup {vgroup} of database {database}: of the given replicas that on dnode {dnode} is furthest, with version {version} of {wanted}, and was waited for {seconds} s without getting any further; is dnode {dnode} frozen or its disk full? Run it again when it has caught up, or with the data directory of another dnode that has this vgroup"
    )]
    ReplicaBehind {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// The dnode of the replica that is furthest.
        dnode: Dnode,
        /// How far it is.
        version: Version,
        /// How far it should be.
        wanted: Version,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A statement got no answer in time.
    #[error(
        "{what}: {seconds} s were waited, and {problem}; is a dnode down or frozen? Run it again when SHOW DNODES shows them ready"
    )]
    NoAnswer {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        seconds: u64,
        /// What came instead of an answer.
        problem: String,
    },
    /// A vgroup of a database with BLOB columns was not read where it is led.
    #[error(
        "database {database} has BLOB columns, so vgroup {vgroup} must be read where it is led: SHOW VGROUPS names the leader's dnode; give the data directory of that dnode"
    )]
    LeaderElsewhere {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
    },
    /// The files do not hold what they should.
    #[error(
        "vgroup {vgroup} of database {database} could be read up to version {found} only, and {wanted} was there before; run it again, without --no-flush where that was given"
    )]
    Short {
        /// The database.
        database: String,
        /// The vgroup.
        vgroup: VgId,
        /// Up to where it was read.
        found: Version,
        /// Up to where it should have been.
        wanted: Version,
    },
    /// The wait was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl MayPass for WatermarkError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Sql(error) => error.may_pass(),
            Self::NoCommit { .. }
            | Self::NotApplied { .. }
            | Self::Moved { .. }
            | Self::NoReport { .. }
            | Self::ReplicaBehind { .. }
            | Self::NoAnswer { .. }
            | Self::Short { .. } => true,
            _ => false,
        }
    }
}

/// How long a commit may take.
const COMMIT: Duration = Duration::from_secs(600);

/// How long the server may take to report what it applied; it does so every second.
const APPLY: Duration = Duration::from_secs(60);

/// How long a server may take to lock its directory, once it was started again.
const START: Duration = Duration::from_secs(10);

/// How long the server may take to look through the columns of all tables: it takes a second for half a million.
const COLUMNS: Duration = Duration::from_secs(60);

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
    let (clusters, problems) = clusters(&dirs);
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    for (path, found) in clusters {
        if found != cluster {
            return Err(WatermarkError::OtherCluster {
                path,
                found,
                wanted: cluster.to_owned(),
            });
        }
    }
    Ok(dirs)
}

/// The cluster that data directories belong to, by their `dnode.json` and by what their vnodes say, and what is wrong with
/// each `dnode.json` that does not say it.
///
/// # Errors
/// They are of several, or none of them says it.
pub(crate) fn cluster_of_dirs(
    dirs: &[PathBuf],
    of_vnodes: Vec<(PathBuf, String)>,
) -> Result<(String, Vec<WatermarkError>), WatermarkError> {
    let (mut clusters, problems) = clusters(dirs);
    clusters.extend(of_vnodes);
    let mut clusters = clusters.into_iter();
    let Some((first, cluster)) = clusters.next() else {
        let none = || WatermarkError::NoCluster {
            path: dirs
                .first()
                .map_or_else(PathBuf::new, |dir| dnode_json(dir)),
            problem: "neither this file nor a vnode.json says which cluster it is of".to_owned(),
        };
        return Err(problems.into_iter().next().unwrap_or_else(none));
    };
    match clusters.find(|(_, other)| *other != cluster) {
        None => Ok((cluster, problems)),
        Some((second, other)) => Err(WatermarkError::SeveralClusters {
            first,
            cluster,
            second,
            other,
        }),
    }
}

/// How many dnodes data directories are of, and how many the cluster has, as far as the directories say it.
pub(crate) fn dnodes(dirs: &[PathBuf]) -> (usize, usize) {
    let mut given = BTreeSet::new();
    let mut all = 0;
    for dir in dirs {
        let text = std::fs::read(dnode_json(dir)).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let listed = json.get("dnodes").and_then(|dnodes| dnodes.as_array());
        all = all.max(listed.map_or(0, Vec::len));
        given.extend(in_dnode_json(&text, "dnodeId"));
    }
    (given.len(), all)
}

/// What says which cluster a server is of. Only its primary directory has it.
fn dnode_json(dir: &Path) -> PathBuf {
    dir.join("dnode").join("dnode.json")
}

/// The clusters that primary data directories belong to, and what is wrong with those that do not say it.
fn clusters(dirs: &[PathBuf]) -> (Vec<(PathBuf, String)>, Vec<WatermarkError>) {
    let (mut clusters, mut problems) = (Vec::new(), Vec::new());
    for dir in dirs {
        match cluster_of_dir(dir) {
            Ok(Some(cluster)) => clusters.push((dir.clone(), cluster)),
            // A tier has none of its own.
            Ok(None) if dirs.len() > 1 => {}
            Ok(None) => problems.push(WatermarkError::NoCluster {
                path: dnode_json(dir),
                problem: "there is no such file".to_owned(),
            }),
            Err(problem) => problems.push(problem),
        }
    }
    (clusters, problems)
}

/// The cluster that a data directory's `dnode.json` names; `None` where there is no such file.
fn cluster_of_dir(dir: &Path) -> Result<Option<String>, WatermarkError> {
    let path = dnode_json(dir);
    let no_cluster = |problem: String| WatermarkError::NoCluster {
        path: path.clone(),
        problem,
    };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(no_cluster(error.to_string())),
    };
    let cluster = cluster_of(&text).ok_or_else(|| no_cluster("it names no cluster".to_owned()))?;
    Ok(Some(cluster))
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
    in_dnode_json(text, "clusterId")
}

/// A value of a `dnode.json`.
fn in_dnode_json(text: &[u8], key: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    match json.get(key)? {
        serde_json::Value::String(value) => Some(value.clone()),
        serde_json::Value::Number(value) => Some(value.to_string()),
        _ => None,
    }
}

/// The directories of running servers that have a vgroup, each with its dnode.
#[derive(Debug, Default)]
pub(crate) struct Candidates(Vec<(Dnode, VnodeDir)>);

/// What is known of a server's data directory.
struct Served {
    dnode: Option<Dnode>,
    in_use: bool,
}

impl Served {
    fn look(dir: &Path) -> Result<Self, CaptureError> {
        let text = std::fs::read(dir.join("dnode").join("dnode.json")).unwrap_or_default();
        let dnode = in_dnode_json(&text, "dnodeId").and_then(|id| id.parse().ok());
        Ok(Self {
            dnode: dnode.map(Dnode),
            in_use: capture::is_in_use(dir)?,
        })
    }
}

/// Where the vgroups of a database can be read: every given directory of a running server that is one of its replicas.
///
/// # Errors
/// A vgroup has none.
pub(crate) fn candidates(
    database: &str,
    vgroups: &[Vgroup],
    dirs: &[PathBuf],
    progress: &dyn Progress,
) -> Result<BTreeMap<VgId, Candidates>, WatermarkError> {
    let found = candidates_here(database, vgroups, dirs, progress)?;
    let missing = || {
        vgroups
            .iter()
            .filter(|known| !found.contains_key(&known.vgroup))
    };
    if missing().next().is_none() {
        return Ok(found);
    }
    let list = |items: Vec<String>| items.join(", ");
    let dnodes: BTreeSet<Dnode> = missing()
        .flat_map(|known| known.replicas.iter().map(|replica| replica.dnode))
        .collect();
    Err(WatermarkError::VgroupsElsewhere {
        database: database.to_owned(),
        missing: list(missing().map(|known| known.vgroup.to_string()).collect()),
        dnodes: list(dnodes.iter().map(ToString::to_string).collect()),
        dirs: list(dirs.iter().map(|dir| dir.display().to_string()).collect()),
    })
}

/// The same for those vgroups that the directories have. A server that is just being started is waited for.
///
/// # Errors
/// A vgroup is only where no server runs.
pub(crate) fn candidates_here(
    database: &str,
    vgroups: &[Vgroup],
    dirs: &[PathBuf],
    progress: &dyn Progress,
) -> Result<BTreeMap<VgId, Candidates>, WatermarkError> {
    let mut waiting = Waiting::new(progress, START);
    loop {
        match candidates_now(database, vgroups, dirs) {
            Err(WatermarkError::NotInUse {
                database,
                vgroup,
                path,
            }) => {
                let what = || format!("a server to start on {}", path.display());
                if !waiting.pause(Duration::from_millis(200), what)? {
                    return Err(WatermarkError::NotInUse {
                        database,
                        vgroup,
                        path,
                    });
                }
            }
            found => return found,
        }
    }
}

fn candidates_now(
    database: &str,
    vgroups: &[Vgroup],
    dirs: &[PathBuf],
) -> Result<BTreeMap<VgId, Candidates>, WatermarkError> {
    let mut found: BTreeMap<VgId, Candidates> = BTreeMap::new();
    let mut unused: BTreeMap<VgId, PathBuf> = BTreeMap::new();
    let mut servers: BTreeMap<PathBuf, Served> = BTreeMap::new();
    for vnode in DataDirs::new(dirs.to_vec())?.replicas()? {
        let Some(vgroup) = vgroups.iter().find(|known| known.vgroup == vnode.vgroup) else {
            continue;
        };
        match vnode.config() {
            Err(_) if vnode.is_gone() => continue,
            Err(error) => return Err(error.into()),
            Ok(config) if config.database != database => continue,
            Ok(_) => {}
        }
        let dir = vnode.data_dir();
        let served = match servers.entry(dir.to_owned()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new.insert(Served::look(dir)?),
        };
        // Where a vgroup was moved away, its directory may be left for a while.
        let dnode = match (served.dnode, vgroup.replicas.as_slice()) {
            (Some(dnode), _) if vgroup.on(dnode).is_some() => dnode,
            (None, [only]) => only.dnode,
            _ => continue,
        };
        if served.in_use {
            let candidates = found.entry(vnode.vgroup).or_default();
            candidates.0.push((dnode, vnode));
        } else {
            unused.insert(vnode.vgroup, dir.to_owned());
        }
    }
    let mut missing = vgroups
        .iter()
        .filter(|known| !found.contains_key(&known.vgroup));
    match missing.find_map(|known| unused.get_key_value(&known.vgroup)) {
        Some((vgroup, path)) => Err(WatermarkError::NotInUse {
            database: database.to_owned(),
            vgroup: *vgroup,
            path: path.clone(),
        }),
        None => Ok(found),
    }
}

/// Puts the leader of each vgroup before its other replicas.
pub(crate) fn leaders_first(vgroups: &[Vgroup], candidates: &mut BTreeMap<VgId, Candidates>) {
    for vgroup in vgroups {
        let leader = vgroup.leader().map(|leader| leader.dnode);
        if let Some(found) = candidates.get_mut(&vgroup.vgroup) {
            found.0.sort_by_key(|(dnode, _)| Some(*dnode) != leader);
        }
    }
}

/// The vgroups of which a vnode was chosen that is not the leader's.
pub(crate) fn followers(
    vgroups: &[Vgroup],
    candidates: &BTreeMap<VgId, Candidates>,
    chosen: &[VnodeDir],
) -> Vec<VgId> {
    let is_led = |vgroup: &&Vgroup| {
        let leader = vgroup.leader().map(|leader| leader.dnode);
        let candidates = candidates.get(&vgroup.vgroup);
        let mut candidates = candidates.iter().flat_map(|found| &found.0);
        let led = candidates.find(|(dnode, _)| Some(*dnode) == leader);
        led.is_some_and(|(_, led)| chosen.iter().any(|vnode| vnode.primary == led.primary))
    };
    let followers = vgroups.iter().filter(|vgroup| !is_led(vgroup));
    followers.map(|vgroup| vgroup.vgroup).collect()
}

/// One vnode for each vgroup, where there are no replicas to choose from.
pub(crate) fn single(candidates: &BTreeMap<VgId, Candidates>) -> Vec<VnodeDir> {
    let vnodes = candidates.values().filter_map(|found| found.0.first());
    vnodes.map(|(_, vnode)| vnode.clone()).collect()
}

/// Any of the vnodes that may be read.
pub(crate) fn any(candidates: &BTreeMap<VgId, Candidates>) -> impl Iterator<Item = &VnodeDir> {
    let all = candidates.values().flat_map(|found| &found.0);
    all.map(|(_, vnode)| vnode)
}

/// Writes everything that was acknowledged before this call to the committed files, and says up to which version that is.
pub(crate) fn flush(
    connection: &Connection,
    database: &str,
    vnodes: &[VnodeDir],
    progress: &dyn Progress,
) -> Result<BTreeMap<VgId, Version>, WatermarkError> {
    let mut wanted = BTreeMap::new();
    let mut behind = Vec::new();
    let mut rounds = 0;
    for vnode in vnodes {
        let config = vnode.config().map_err(moved_or(database, vnode))?;
        wanted.insert(vnode.vgroup, config.committed);
        if config.wal_level > 0 {
            let newest = vnode.newest_logged().map_err(moved_or(database, vnode))?;
            wanted.insert(vnode.vgroup, newest.max(config.committed));
            if newest > config.committed {
                behind.push((vnode, newest, 0));
                rounds = rounds.max(1);
            }
        } else {
            // Without a log, only a commit that began after this moment is sure to hold everything: the one
            // after the next.
            behind.push((vnode, config.committed, config.commit_id + 2));
            rounds = 2;
        }
    }
    let mut waiting = Waiting::new(progress, COMMIT);
    for round in 1..=rounds {
        databases::flush(connection, database)?;
        for (vnode, version, commit) in &behind {
            let mut wait = Duration::from_millis(1);
            loop {
                let config = vnode.config().map_err(moved_or(database, vnode))?;
                let commits_to_come = rounds - round;
                if config.committed >= *version && config.commit_id + commits_to_come >= *commit {
                    break;
                }
                let what = || {
                    format!(
                        "the commit of vgroup {} of database {database}, which is at version {} of {version}",
                        vnode.vgroup, config.committed
                    )
                };
                if !waiting.pause(wait, what)? {
                    return Err(WatermarkError::NoCommit {
                        database: database.to_owned(),
                        vgroup: vnode.vgroup,
                        committed: config.committed,
                        wanted: *version,
                        seconds: COMMIT.as_secs(),
                    });
                }
                wait = (wait * 2).min(Duration::from_millis(50));
            }
        }
    }
    Ok(wanted)
}

/// The error, unless it comes from the vnode being gone.
pub(crate) fn moved_or(
    database: &str,
    vnode: &VnodeDir,
) -> impl FnOnce(CaptureError) -> WatermarkError {
    move |error| match vnode.is_gone() {
        true => moved(database, vnode),
        false => error.into(),
    }
}

/// That a vnode is gone.
pub(crate) fn moved(database: &str, vnode: &VnodeDir) -> WatermarkError {
    WatermarkError::Moved {
        database: database.to_owned(),
        vgroup: vnode.vgroup,
        path: vnode.primary.clone(),
    }
}

/// That each vgroup was read as far as it has to be.
pub(crate) fn must_reach(
    database: &str,
    versions: &BTreeMap<VgId, Version>,
    wanted: &BTreeMap<VgId, Version>,
) -> Result<(), WatermarkError> {
    for (vgroup, wanted) in wanted {
        let found = versions.get(vgroup).copied();
        let found = found.unwrap_or(Version::BEGINNING);
        if found < *wanted {
            return Err(WatermarkError::Short {
                database: database.to_owned(),
                vgroup: *vgroup,
                found,
                wanted: *wanted,
            });
        }
    }
    Ok(())
}

/// Whether a table of the database has a BLOB column. Each vnode is asked for it, and a dnode may be frozen.
pub(crate) fn may_have_blobs(
    asker: &Asker<'_>,
    database: &str,
    progress: &dyn Progress,
) -> Result<bool, WatermarkError> {
    let mut waiting = Waiting::new(progress, COLUMNS);
    let what = format!("the columns of database {database}");
    let name = database.to_owned();
    asker.ask(&mut waiting, &what, move |connection| {
        server::catalogue::may_have_blobs(connection, &name)
    })
}

/// Waits until queries see everything up to the given versions. What is in the log is not applied yet for sure.
pub(crate) fn wait_applied(
    connection: &Connection,
    database: &str,
    versions: &BTreeMap<VgId, Version>,
    progress: &dyn Progress,
) -> Result<(), WatermarkError> {
    let mut waiting = Waiting::new(progress, APPLY);
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
        let what = || format!("vgroup {vgroup} of database {database} to apply version {wanted}");
        if !waiting.pause(Duration::from_millis(100), what)? {
            return Err(WatermarkError::NotApplied {
                database: database.to_owned(),
                vgroup: *vgroup,
                wanted: *wanted,
                seconds: APPLY.as_secs(),
            });
        }
    }
}
