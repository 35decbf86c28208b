//! The vgroups of a database: where they are, and how far they are.

use crate::{Connection, SqlError, sql};
use model::{Version, VgId};
use std::collections::{BTreeMap, BTreeSet};

/// The number of a dnode; 0 where the server does not tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dnode(pub i64);

impl std::fmt::Display for Dnode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A vgroup, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vgroup {
    /// Which one.
    pub vgroup: VgId,
    /// The database whose tables it holds.
    pub database: String,
    /// Its replicas.
    pub replicas: Vec<Replica>,
}

/// A replica of a vgroup, as its dnode reported it last: that may be a second ago, and long ago if the dnode is frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Where it is.
    pub dnode: Dnode,
    /// Its role, such as `leader`, `follower` and `offline`; a leader that does not take requests yet has stars behind it.
    pub role: String,
    /// Up to which version it has applied requests, so that queries see them.
    pub applied: Version,
    /// Up to which version it knows that the replicas agree.
    pub committed: Version,
}

impl Vgroup {
    /// The replica that takes requests; `None` while there is none, or more than one says so.
    pub fn leader(&self) -> Option<&Replica> {
        let mut leaders = self
            .replicas
            .iter()
            .filter(|replica| replica.role.contains("leader"));
        match (leaders.next(), leaders.next()) {
            (Some(leader), None) => Some(leader).filter(|leader| !leader.role.ends_with('*')),
            _ => None,
        }
    }

    /// The replica on a dnode.
    pub fn on(&self, dnode: Dnode) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.dnode == dnode)
    }
}

/// All vgroups of the cluster.
pub fn all(connection: &Connection) -> Result<Vec<Vgroup>, SqlError> {
    ask(connection, "")
}

/// The vgroups of a database; none if the server does not know the database.
pub fn of(connection: &Connection, database: &str) -> Result<Vec<Vgroup>, SqlError> {
    ask(
        connection,
        &format!(" WHERE db_name = {}", sql::text(database)),
    )
}

fn ask(connection: &Connection, which: &str) -> Result<Vec<Vgroup>, SqlError> {
    let query = format!("SELECT * FROM information_schema.ins_vgroups{which}");
    let rows = connection.query(&query)?;
    // How many replicas have columns depends on the server's version.
    let place = |name: &str| rows.fields().iter().position(|field| field.name == name);
    let missing = |name: &str| SqlError::local(format!("ins_vgroups has no column {name}"));
    let id = place("vgroup_id").ok_or_else(|| missing("vgroup_id"))?;
    let database = place("db_name").ok_or_else(|| missing("db_name"))?;
    let columns: Vec<[usize; 3]> = (1..)
        .map_while(|n| {
            let at = |name: &str| place(&format!("v{n}_{name}"));
            Some([at("dnode")?, at("status")?, at("applied/committed")?])
        })
        .collect();
    let mut vgroups = Vec::new();
    rows.for_each(|row| {
        let Some(vgroup) = row.get(id).as_i64().and_then(|id| i32::try_from(id).ok()) else {
            return Ok(());
        };
        let replicas = columns.iter().filter_map(|[dnode, role, versions]| {
            let versions = row.text(*versions);
            let (applied, committed) = versions.split_once('/').unwrap_or_default();
            let version = |text: &str| text.parse().map_or(Version::BEGINNING, Version);
            Some(Replica {
                dnode: Dnode(row.get(*dnode).as_i64()?),
                role: row.text(*role),
                applied: version(applied),
                committed: version(committed),
            })
        });
        vgroups.push(Vgroup {
            vgroup: VgId(vgroup),
            database: row.text(database),
            replicas: replicas.collect(),
        });
        Ok::<_, SqlError>(())
    })?;
    Ok(vgroups)
}

/// The vgroups of a database; none if the server does not know the database.
pub fn list(connection: &Connection, database: &str) -> Result<BTreeSet<VgId>, SqlError> {
    let vgroups = of(connection, database)?;
    Ok(vgroups.into_iter().map(|vgroup| vgroup.vgroup).collect())
}

/// Up to which version the leaders of a database's vgroups, which answer queries, have applied requests. The server
/// reports it once a second, so it is a lower bound.
pub fn applied(
    connection: &Connection,
    database: &str,
) -> Result<BTreeMap<VgId, Version>, SqlError> {
    let vgroups = of(connection, database)?;
    let leaders = vgroups
        .iter()
        .filter_map(|vgroup| Some((vgroup.vgroup, vgroup.leader()?.applied)));
    Ok(leaders.collect())
}
