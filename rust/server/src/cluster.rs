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

/// The endpoints of all dnodes, `host:port`.
pub fn endpoints(connection: &Connection) -> Result<Vec<String>, SqlError> {
    let mut endpoints = Vec::new();
    connection
        .query("SELECT endpoint FROM information_schema.ins_dnodes")?
        .for_each(|row| {
            endpoints.push(row.text(0));
            Ok::<_, SqlError>(())
        })?;
    Ok(endpoints)
}
