//! Which link a target database is at, recorded on the target server in a database of its own: `taosdump_incremental`
//! holds one small table. It tells a restore that goes on from one that would apply a link to the wrong state.

use crate::{
    catalogue::read::database_created,
    dump::RESTORE_RECORD,
    link::{Link, LinkId},
};
use taos::{Connection, SqlError, sql};
use tdfiles::Precision;

/// A target database as it is.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    /// `None` if it does not exist.
    pub(super) precision: Option<Precision>,
    pub(super) is_empty: bool,
    /// The link that was last applied to it, or is being applied.
    pub(super) at: Option<At>,
}

#[derive(Debug)]
pub(super) struct At {
    pub(super) link: LinkId,
    /// The database of the link that was restored.
    pub(super) source: String,
    pub(super) finished: bool,
}

/// The server's "database not exist".
fn no_database(error: &SqlError) -> bool {
    error.is_no_database() || error.is_missing()
}

impl Target {
    pub(super) fn read(connection: &Connection, name: &str) -> Result<Self, SqlError> {
        let mut target = Self {
            name: name.to_owned(),
            precision: None,
            is_empty: true,
            at: None,
        };
        let Some(created) = database_created(connection, name)? else {
            return Ok(target);
        };
        let query = format!(
            "SELECT `precision` FROM information_schema.ins_databases WHERE name = {}",
            sql::text(name)
        );
        let mut rows = connection.query(&query)?;
        target.precision = match rows.next()?.map(|row| row.text(0)).as_deref() {
            Some("us") => Some(Precision::Microseconds),
            Some("ns") => Some(Precision::Nanoseconds),
            _ => Some(Precision::Milliseconds),
        };
        drop(rows);
        for list in ["ins_stables", "ins_tables"] {
            let query = format!(
                "SELECT COUNT(*) FROM information_schema.{list} WHERE db_name = {}",
                sql::text(name)
            );
            let mut rows = connection.query(&query)?;
            let count = rows.next()?.and_then(|row| row.get(0).as_i64());
            target.is_empty &= count.unwrap_or(0) == 0;
        }
        let query = format!(
            "SELECT link, finished, created, source FROM {RESTORE_RECORD}.restores WHERE target = {} ORDER BY ts DESC LIMIT 1",
            sql::text(name)
        );
        let mut rows = match connection.query(&query) {
            Err(error) if no_database(&error) => return Ok(target),
            rows => rows?,
        };
        if let Some(row) = rows.next()?
            && row.get(2).as_i64() == Some(created)
        {
            target.at = Some(At {
                link: LinkId(row.text(0)),
                source: row.text(3),
                finished: row.get(1) == taos::Value::Bool(true),
            });
        }
        Ok(target)
    }
}

/// The record of a link that is being applied.
#[derive(Debug)]
pub(super) struct Record {
    target: String,
    source: String,
    link: LinkId,
}

impl Record {
    /// Notes that a link is about to be applied, if the target exists; else [`Self::created`] does.
    pub(super) fn begin(
        connection: &Connection,
        target: &str,
        source: &str,
        link: &Link,
    ) -> Result<Self, SqlError> {
        connection.execute(&format!(
            "CREATE DATABASE IF NOT EXISTS {RESTORE_RECORD} VGROUPS 1 BUFFER 3 PAGES 64 PRECISION 'ns' KEEP 36500"
        ))?;
        connection.execute(&format!(
            "CREATE TABLE IF NOT EXISTS {RESTORE_RECORD}.restores \
             (ts TIMESTAMP, target VARCHAR(256), created BIGINT, link VARCHAR(64), finished BOOL, source VARCHAR(256))"
        ))?;
        let record = Self {
            target: target.to_owned(),
            source: source.to_owned(),
            link: link.manifest.id.clone(),
        };
        record.write(connection, false)?;
        Ok(record)
    }

    /// The target exists now.
    pub(super) fn created(&mut self, connection: &Connection) -> Result<(), SqlError> {
        self.write(connection, false)
    }

    /// The link is applied.
    pub(super) fn finish(self, connection: &Connection) -> Result<(), SqlError> {
        self.write(connection, true)
    }

    fn write(&self, connection: &Connection, finished: bool) -> Result<(), SqlError> {
        let Some(created) = database_created(connection, &self.target)? else {
            return Ok(());
        };
        connection.execute(&format!(
            "INSERT INTO {RESTORE_RECORD}.restores VALUES (NOW, {}, {created}, {}, {finished}, {})",
            sql::text(&self.target),
            sql::text(&self.link.0),
            sql::text(&self.source),
        ))?;
        Ok(())
    }
}
