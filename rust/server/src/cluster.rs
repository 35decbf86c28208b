//! The cluster and its dnodes.

use crate::{Connection, SqlError};
use std::{collections::HashSet, path::PathBuf};

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

/// The data directories of all dnodes that answer, as their configuration names them: those of a dnode one behind the
/// other, the primary one first.
///
/// # Errors
/// No dnode tells them.
pub fn data_dirs(connection: &Connection) -> Result<Vec<PathBuf>, SqlError> {
    let mut dnodes = Vec::new();
    connection
        .query("SELECT id FROM information_schema.ins_dnodes")?
        .for_each(|row| {
            dnodes.extend(row.get(0).as_i64());
            Ok::<_, SqlError>(())
        })?;
    let (mut dirs, mut refused) = (Vec::new(), None);
    for dnode in dnodes {
        match data_dirs_of(connection, dnode) {
            Ok(of_dnode) => dirs.extend(of_dnode),
            // One that is down tells nothing; what only it has will be missed where it is needed.
            Err(error) => refused = Some(error),
        }
    }
    let mut seen = HashSet::new();
    dirs.retain(|dir| seen.insert(dir.clone()));
    match refused {
        Some(error) if dirs.is_empty() => Err(error),
        _ => Ok(dirs),
    }
}

fn data_dirs_of(connection: &Connection, dnode: i64) -> Result<Vec<PathBuf>, SqlError> {
    let query = format!("SHOW DNODE {dnode} VARIABLES LIKE 'dataDir'");
    let mut dirs = Vec::new();
    connection.query(&query)?.for_each(|row| {
        // Tiers are told as `path level primary`.
        let value = row.text(2);
        let mut words = value.split(" level ");
        let path = words.next().unwrap_or_default().trim();
        let is_primary = words.next().is_some_and(|tier| tier.contains("primary 1"));
        if !path.is_empty() {
            let place = if is_primary { 0 } else { dirs.len() };
            dirs.insert(place, PathBuf::from(path));
        }
        Ok::<_, SqlError>(())
    })?;
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

/// The endpoints of all dnodes, `host:port`.
pub fn endpoints(connection: &Connection) -> Result<Vec<String>, SqlError> {
    endpoints_of(connection, "")
}

/// The endpoints of the dnodes that are not ready: one that is down or frozen is known as such after some seconds.
pub fn unready(connection: &Connection) -> Result<Vec<String>, SqlError> {
    endpoints_of(connection, " WHERE status <> 'ready'")
}

fn endpoints_of(connection: &Connection, which: &str) -> Result<Vec<String>, SqlError> {
    let mut endpoints = Vec::new();
    connection
        .query(&format!(
            "SELECT endpoint FROM information_schema.ins_dnodes{which}"
        ))?
        .for_each(|row| {
            endpoints.push(row.text(0));
            Ok::<_, SqlError>(())
        })?;
    Ok(endpoints)
}
