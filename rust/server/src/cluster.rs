//! The cluster and its dnodes.

use crate::{Connection, SqlError};
use std::path::PathBuf;

/// The cluster's id; empty if the server does not tell it.
pub fn id(connection: &Connection) -> Result<String, SqlError> {
    let mut rows = connection.query("SELECT id FROM information_schema.ins_cluster")?;
    let id = rows.next()?.and_then(|row| row.get(0).as_i64());
    Ok(id.map(|id| id.to_string()).unwrap_or_default())
}

/// The first line of what the server says about its version.
pub fn version(connection: &Connection) -> String {
    let version = connection.server_version();
    version.lines().next().unwrap_or_default().to_owned()
}

/// The data directories of all dnodes, as their configuration names them.
pub fn data_dirs(connection: &Connection) -> Result<Vec<PathBuf>, SqlError> {
    let mut dnodes = Vec::new();
    connection
        .query("SELECT id FROM information_schema.ins_dnodes")?
        .for_each(|row| {
            dnodes.extend(row.get(0).as_i64());
            Ok::<_, SqlError>(())
        })?;
    let mut dirs = Vec::new();
    for dnode in dnodes {
        let query = format!("SHOW DNODE {dnode} VARIABLES LIKE 'dataDir'");
        connection.query(&query)?.for_each(|row| {
            // Tiers are told as `path level primary`.
            let value = row.text(2);
            let path = value.split(" level ").next().unwrap_or_default().trim();
            if !path.is_empty() {
                dirs.push(PathBuf::from(path));
            }
            Ok::<_, SqlError>(())
        })?;
    }
    dirs.sort();
    dirs.dedup();
    Ok(dirs)
}

/// What the dnodes that are there can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The dnodes that are ready, and made for vnodes.
    pub dnodes: i64,
    /// The vnodes that they can still take.
    pub vnodes: i64,
}

/// What the dnodes that are there can take.
pub fn room(connection: &Connection) -> Result<Room, SqlError> {
    let query = "SELECT `vnodes`, `support_vnodes` FROM information_schema.ins_dnodes WHERE status = 'ready'";
    let mut room = Room {
        dnodes: 0,
        vnodes: 0,
    };
    connection.query(query)?.for_each(|row| {
        let number = |column| row.get(column).as_i64().unwrap_or_default();
        room.dnodes += i64::from(number(1) > 0);
        room.vnodes += number(1) - number(0);
        Ok::<_, SqlError>(())
    })?;
    Ok(room)
}
