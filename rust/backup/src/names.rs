//! What a detection asks the server, where there is a connection: where its files are, and what its tables are called.

use crate::{
    dump::cluster_id,
    plan::{Plan, VgroupPlan},
    watermark::{self, WatermarkError},
};
use capture::{Reason, ReasonCode, SourceKind};
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};
use taos::{Connection, SqlError, sql};
use tdfiles::{KeySpan, Uid, Version, VgId};

/// The data directories that the server reports, or those given, once they are known to be the server's.
pub fn data_dirs(
    connection: &Connection,
    given: &[PathBuf],
) -> Result<Vec<PathBuf>, WatermarkError> {
    let cluster = cluster_id(connection)?;
    watermark::data_dirs(connection, &cluster, given)
}

/// The vgroups of a database; none if the server does not know it.
pub fn vgroups(connection: &Connection, database: &str) -> Result<BTreeSet<VgId>, SqlError> {
    let mut vgroups = BTreeSet::new();
    let query = format!(
        "SELECT vgroup_id FROM information_schema.ins_vgroups WHERE db_name = {}",
        sql::text(database)
    );
    connection.query(&query)?.for_each(|row| {
        let vgroup = row.get(0).as_i64().and_then(|id| i32::try_from(id).ok());
        vgroups.extend(vgroup.map(VgId));
        Ok::<_, SqlError>(())
    })?;
    Ok(vgroups)
}

/// Adds the vgroups of the database that no data directory holds, as those on other machines: anything may have changed
/// in them.
pub fn add_elsewhere(
    connection: &Connection,
    database: &str,
    plan: &mut Plan,
) -> Result<(), SqlError> {
    let vgroups = vgroups(connection, database)?;
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
pub fn name_tables(
    connection: &Connection,
    database: &str,
    plan: &mut Plan,
) -> Result<(), SqlError> {
    if plan.tables.iter().all(|table| table.name.is_some()) {
        return Ok(());
    }
    let mut names: HashMap<Uid, String> = HashMap::new();
    let query = format!(
        "SELECT uid, table_name FROM information_schema.ins_tables WHERE db_name = {}",
        sql::text(database)
    );
    connection.query(&query)?.for_each(|row| {
        if let Some(uid) = row.get(0).as_i64() {
            names.insert(Uid(uid), row.text(1));
        }
        Ok::<_, SqlError>(())
    })?;
    for table in plan.tables.iter_mut().filter(|table| table.name.is_none()) {
        table.name = names.remove(&table.table.uid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::WindowWidth;

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
