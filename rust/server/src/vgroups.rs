//! The vgroups of a database: where they are, and how far they are.

use crate::{Connection, SqlError, sql};
use model::{Version, VgId};
use std::collections::{BTreeMap, HashMap};

/// The number of a dnode; 0 where the server does not tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dnode(pub i64);

impl std::fmt::Display for Dnode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The vgroups of a database, with the dnode of the first replica; none if the server does not know the database.
pub fn list(connection: &Connection, database: &str) -> Result<BTreeMap<VgId, Dnode>, SqlError> {
    let mut vgroups = BTreeMap::new();
    let query = format!(
        "SELECT vgroup_id, v1_dnode FROM information_schema.ins_vgroups WHERE db_name = {}",
        sql::text(database)
    );
    connection.query(&query)?.for_each(|row| {
        if let Some(vgroup) = row.get(0).as_i64().and_then(|id| i32::try_from(id).ok()) {
            vgroups.insert(VgId(vgroup), Dnode(row.get(1).as_i64().unwrap_or(0)));
        }
        Ok::<_, SqlError>(())
    })?;
    Ok(vgroups)
}

/// Up to which version the leaders of a database's vgroups, which answer queries, have applied requests. The server
/// reports it once a second, so it is a lower bound.
pub fn applied(
    connection: &Connection,
    database: &str,
) -> Result<HashMap<VgId, Version>, SqlError> {
    let query = format!(
        "SELECT vgroup_id, v1_status, `v1_applied/committed`, v2_status, `v2_applied/committed`, v3_status, \
         `v3_applied/committed` FROM information_schema.ins_vgroups WHERE db_name = {}",
        sql::text(database)
    );
    let mut applied = HashMap::new();
    connection.query(&query)?.for_each(|row| {
        let vgroup = row.get(0).as_i64().and_then(|id| i32::try_from(id).ok());
        let leader = [1, 3, 5]
            .into_iter()
            .find(|at| row.text(*at).starts_with("leader"));
        let version = leader.and_then(|at| row.text(at + 1).split('/').next()?.parse().ok());
        if let (Some(vgroup), Some(version)) = (vgroup, version) {
            applied.insert(VgId(vgroup), Version(version));
        }
        Ok::<_, SqlError>(())
    })?;
    Ok(applied)
}
