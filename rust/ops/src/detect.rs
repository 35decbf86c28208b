//! Finding what changed, with what only the server knows: where its files are, which vgroups are elsewhere, and what its
//! tables are called.

pub use crate::watermark::WatermarkError;

use crate::watermark::{self, Asker, replicas};
use capture::{Reason, ReasonCode, SourceChoice, SourceKind};
use model::{KeySpan, Progress, Uid, Version, VgId};
use plan::{
    Plan, VgroupPlan,
    detect::{self, DetectError, Detection, Request, Since},
};
use repository::local::{LocalFileError, load_checkpoint};
use server::{Connection, SqlError, cluster, tables, vgroups};
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

/// Where a detection starts, as an operator gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// After this version, in every vgroup.
    Version(Version),
    /// At this time: µs since the epoch, by the server's clock.
    Time(i64),
    /// Where the run that wrote this checkpoint ended.
    File(PathBuf),
}

impl StartAt {
    /// Epoch seconds, RFC 3339, or else a file.
    ///
    /// # Errors
    /// It is none of these, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<i64>() {
            return seconds
                .checked_mul(1_000_000)
                .filter(|micros| *micros >= 0)
                .map(Self::Time)
                .ok_or_else(|| format!("--since {text}: epoch seconds out of range"));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::Time(time.as_microsecond()));
        }
        let path = PathBuf::from(text);
        if path.exists() || !looks_like_a_time(text) {
            Ok(Self::File(path))
        } else {
            Err(format!(
                "--since {text}: no such file, and neither epoch seconds nor RFC 3339 with a zone \
                 (2026-01-31T08:00:00Z)"
            ))
        }
    }

    /// The start itself: a checkpoint is read.
    ///
    /// # Errors
    /// The checkpoint can't be used.
    pub fn since(self) -> Result<Since, LocalFileError> {
        Ok(match self {
            Self::Version(version) => Since::Version(version),
            Self::Time(time) => Since::Time(time),
            Self::File(path) => Since::Checkpoint(Box::new(load_checkpoint(&path)?)),
        })
    }
}

fn looks_like_a_time(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(['-', ':'])
}

/// A detection that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The server's data directories can't be told.
    #[error(transparent)]
    DataDirs(#[from] WatermarkError),
    /// What changed could not be told.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The server refused a statement.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// Finds what changed. With a connection, the server says where its files are if the request does not, names the tables,
/// and vgroups that no data directory holds count as changed; without one, only files are read.
///
/// # Errors
/// The files can't be read, or the server refuses.
pub fn run(
    connection: Option<&Connection>,
    mut request: Request,
    progress: &dyn Progress,
) -> Result<Detection, FindError> {
    if let Some(connection) = connection {
        request.data_dirs = data_dirs(connection, &request.data_dirs)?;
    }
    let mut detection = match connection {
        Some(connection) => complete(connection, &request, progress)?,
        None => detect::run(&request, progress)?,
    };
    if let Some(connection) = connection {
        if request.vgroup.is_none() {
            add_elsewhere(connection, &detection.database, &mut detection.plan)?;
        }
        name_tables(connection, &detection.database, &mut detection.plan)?;
    }
    Ok(detection)
}

/// The detection in replicas that hold everything acknowledged before it began; where there are none, or only committed
/// files are asked for, in what the directories hold.
fn complete(
    connection: &Connection,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Detection, FindError> {
    let of_database = match &request.database {
        Some(database) => vgroups::of(connection, database)?,
        None => Vec::new(),
    };
    let replicated = of_database.iter().any(|vgroup| vgroup.replicas.len() > 1);
    let Some(database) = request.database.as_ref().filter(|_| replicated) else {
        return Ok(detect::run(request, progress)?);
    };
    if request.source == SourceChoice::Tsdb {
        return Ok(detect::run(request, progress)?);
    }
    let asker = Asker::Here(connection);
    let candidates =
        watermark::candidates_here(database, &of_database, &request.data_dirs, progress)?;
    let names = [database.clone()].into();
    let mut wanted = replicas::agreed(&asker, &names, false, progress)?;
    wanted.retain(|vgroup, _| {
        candidates.contains_key(vgroup) && request.vgroup.is_none_or(|only| only == *vgroup)
    });
    let vnodes = replicas::complete(&asker, database, &candidates, &wanted, true, progress)?;
    let detection = detect::of_vnodes(vnodes, request, progress)?;
    let reached = detection.plan.vgroups.iter();
    let reached = reached.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect();
    watermark::must_reach(database, &reached, &wanted)?;
    Ok(detection)
}

/// That the server's files are where they are said to be, or can be found without.
///
/// # Errors
/// The directories are not this server's, or it does not say where they are.
pub fn check_data_dirs(connection: &Connection, given: &[PathBuf]) -> Result<(), WatermarkError> {
    data_dirs(connection, given).map(drop)
}

/// The data directories that the server reports, or those given, once they are known to be the server's.
fn data_dirs(connection: &Connection, given: &[PathBuf]) -> Result<Vec<PathBuf>, WatermarkError> {
    let cluster = cluster::id(connection)?;
    watermark::data_dirs(connection, &cluster, given)
}

/// Adds the vgroups of the database that no data directory holds, as those on other machines: anything may have changed
/// in them.
fn add_elsewhere(connection: &Connection, database: &str, plan: &mut Plan) -> Result<(), SqlError> {
    let vgroups = vgroups::list(connection, database)?;
    if vgroups.is_empty() {
        return Err(SqlError::local(format!(
            "the server lists no vgroup of database {database}; is it the one whose data directories are read?"
        )));
    }
    elsewhere(&vgroups, plan);
    Ok(())
}

/// Adds those of a database's vgroups that a plan lacks.
fn elsewhere(vgroups: &BTreeSet<VgId>, plan: &mut Plan) {
    for vgroup in vgroups {
        if plan.vgroups.iter().any(|known| known.vgroup == *vgroup) {
            continue;
        }
        plan.vgroups.push(VgroupPlan {
            vgroup: *vgroup,
            db_id: None,
            from: Version::BEGINNING,
            to: Version::BEGINNING,
            source: SourceKind::TsdbAndWal,
            complete: false,
            reasons: vec![Reason {
                code: ReasonCode::VgroupGone,
                text: "the server has this vgroup, but no data directory holds it, so anything in it may have changed; \
                       if it is on another dnode, run there"
                    .to_owned(),
                range: Some(KeySpan::ALL),
            }],
        });
    }
    plan.vgroups.sort_by_key(|known| known.vgroup);
}

/// Names the tables of a plan that have no name yet. Those that are gone stay without one.
fn name_tables(connection: &Connection, database: &str, plan: &mut Plan) -> Result<(), SqlError> {
    if plan.tables.iter().all(|table| table.name.is_some()) {
        return Ok(());
    }
    let listed = tables::list(connection, database)?.into_iter();
    let mut names: HashMap<Uid, String> = listed.map(|table| (table.uid, table.name)).collect();
    for table in plan.tables.iter_mut().filter(|table| table.name.is_none()) {
        table.name = names.remove(&table.table.uid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::window::WindowWidth;

    #[test]
    fn a_vgroup_that_no_directory_holds_may_have_changed_as_a_whole() {
        let mut plan = Plan {
            tables: Vec::new(),
            blocks: Vec::new(),
            vgroups: Vec::new(),
            super_tables_dropped: false,
            window: WindowWidth::from_ticks(1_000).unwrap(),
        };
        elsewhere(&[VgId(3)].into(), &mut plan);
        plan.vgroups[0].complete = true;
        assert!(plan.is_complete());
        elsewhere(&[VgId(3), VgId(2)].into(), &mut plan);
        assert!(!plan.is_complete());
        let ids: Vec<VgId> = plan.vgroups.iter().map(|known| known.vgroup).collect();
        assert_eq!(ids, [VgId(2), VgId(3)]);
        assert_eq!(plan.vgroups[0].reasons[0].range, Some(KeySpan::ALL));
    }
}
