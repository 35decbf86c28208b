//! Which link a target database is at, recorded on the target server in a database of its own: it holds one small table.
//! It tells a restore that goes on from one that would apply a link to the wrong state.

use crate::{Connection, SqlError, cluster, database, sql};
use model::{LinkId, Precision, Value};

/// The database in which restores are recorded on the target server. Never backed up.
pub const DATABASE: &str = "taosdump_incremental";

/// Creates that database, if it is not there. It has as many replicas as the cluster allows, so that it is there as long
/// as the cluster is.
pub(crate) fn create_database(connection: &Connection) -> Result<(), SqlError> {
    let replica = match cluster::room(connection)?.dnodes {
        3.. => "3",
        _ => "1",
    };
    connection.execute(&format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE} VGROUPS 1 BUFFER 3 PAGES 64 PRECISION 'ns' KEEP 36500 REPLICA {replica}"
    ))?;
    // It was made before the cluster had so many dnodes.
    let options = database::options(connection, DATABASE)?;
    if replica == "3" && options.get("REPLICA").is_some_and(|now| now == "1") {
        database::set_options(connection, DATABASE, &[("REPLICA", replica)])?;
    }
    Ok(())
}

/// A target's name as digits, which are part of a table's name anywhere.
pub(crate) fn digits(target: &str) -> String {
    target.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A target database as it is.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The unit of its keys; `None` if it does not exist.
    pub precision: Option<Precision>,
    /// Whether it holds no table.
    pub is_empty: bool,
    /// The link that was last applied to it, or is being applied.
    pub at: Option<At>,
}

/// A link in the record.
#[derive(Debug)]
pub struct At {
    /// The link.
    pub link: LinkId,
    /// The database of the link that was restored.
    pub source: String,
    /// Whether all of it was applied.
    pub finished: bool,
}

impl Target {
    /// Looks at a database and its record.
    pub fn read(connection: &Connection, name: &str) -> Result<Self, SqlError> {
        let mut target = Self {
            name: name.to_owned(),
            precision: None,
            is_empty: true,
            at: None,
        };
        let Some(state) = database::state(connection, name)? else {
            return Ok(target);
        };
        target.precision = Some(state.precision.unwrap_or(Precision::Milliseconds));
        target.is_empty = database::is_empty(connection, name)?;
        let query = format!(
            "SELECT link, finished, created, source FROM {DATABASE}.restores WHERE target = {} ORDER BY ts DESC LIMIT 1",
            sql::text(name)
        );
        let mut rows = match connection.query(&query) {
            Err(error) if error.is_no_database() || error.is_missing() => return Ok(target),
            rows => rows?,
        };
        if let Some(row) = rows.next()?
            && row.get(2).as_i64() == state.created
        {
            target.at = Some(At {
                link: LinkId(row.text(0)),
                source: row.text(3),
                finished: row.get(1) == Value::Bool(true),
            });
        }
        Ok(target)
    }
}

/// The record of a link that is being applied.
#[derive(Debug)]
pub struct Record {
    target: String,
    source: String,
    link: LinkId,
}

impl Record {
    /// Notes that a link is about to be applied, if the target exists; else [`Self::created`] does. `source` is the
    /// database of the link.
    pub fn begin(
        connection: &Connection,
        target: &str,
        source: &str,
        link: &LinkId,
    ) -> Result<Self, SqlError> {
        create_database(connection)?;
        connection.execute(&format!(
            "CREATE TABLE IF NOT EXISTS {DATABASE}.restores \
             (ts TIMESTAMP, target VARCHAR(256), created BIGINT, link VARCHAR(64), finished BOOL, source VARCHAR(256))"
        ))?;
        let record = Self {
            target: target.to_owned(),
            source: source.to_owned(),
            link: link.clone(),
        };
        record.write(connection, false)?;
        Ok(record)
    }

    /// The target exists now.
    pub fn created(&mut self, connection: &Connection) -> Result<(), SqlError> {
        self.write(connection, false)
    }

    /// The link is applied.
    pub fn finish(self, connection: &Connection) -> Result<(), SqlError> {
        self.write(connection, true)
    }

    fn write(&self, connection: &Connection, finished: bool) -> Result<(), SqlError> {
        let Some(created) = database::created(connection, &self.target)? else {
            return Ok(());
        };
        connection.execute(&format!(
            "INSERT INTO {DATABASE}.restores VALUES (NOW, {}, {created}, {}, {finished}, {})",
            sql::text(&self.target),
            sql::text(&self.link.0),
            sql::text(&self.source),
        ))?;
        Ok(())
    }
}
