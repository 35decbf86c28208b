//! Which link a target database is at, recorded on the target server in a database of its own: it holds one small table.
//! It tells a restore that goes on from one that would apply a link to the wrong state.

use crate::{Connection, SqlError, cluster, database, sql};
use model::{LinkId, Precision, Value};

/// The database in which restores are recorded on the target server. Never backed up.
pub const DATABASE: &str = "taosdump_incremental";

/// The last key that the server takes, in ns since 1970.
const LAST_KEY: i64 = 9_214_646_400_000_000_000;

/// Creates that database, if it is not there. It has as many replicas as the cluster allows, so that it is there as long
/// as the cluster is. The server may go on altering it after this has returned.
pub fn create_database(connection: &Connection) -> Result<(), SqlError> {
    let create = |replica: &str| {
        connection.execute(&format!(
            "CREATE DATABASE IF NOT EXISTS {DATABASE} VGROUPS 1 BUFFER 3 PAGES 64 PRECISION 'ns' KEEP 36500 \
             REPLICA {replica}"
        ))
    };
    if cluster::room(connection)?.dnodes < 3 {
        return create("1").map(drop);
    }
    // A dnode that is ready may have no room for a vnode.
    if let Err(error) = create("3") {
        tracing::debug!("{DATABASE} gets one replica, as three were refused: {error}");
        return create("1").map(drop);
    }
    // It was made when there were fewer dnodes, or less room.
    let options = database::options(connection, DATABASE)?;
    if options.get("REPLICA").is_some_and(|now| now == "1")
        && let Err(error) = database::set_options(connection, DATABASE, &[("REPLICA", "3")])
    {
        tracing::debug!("{DATABASE} stays with one replica, as three were refused: {error}");
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
    /// database of the link. The caller has claimed the target, so that nobody else writes its record, and the database
    /// of the record is there.
    pub fn begin(
        connection: &Connection,
        target: &str,
        source: &str,
        link: &LinkId,
    ) -> Result<Self, SqlError> {
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
        let key = key_after(latest(connection, &self.target)?, now());
        connection.execute(&format!(
            "INSERT INTO {DATABASE}.restores VALUES ({key}, {}, {created}, {}, {finished}, {})",
            sql::text(&self.target),
            sql::text(&self.link.0),
            sql::text(&self.source),
        ))?;
        Ok(())
    }
}

/// The key of the last row of a target.
fn latest(connection: &Connection, target: &str) -> Result<Option<i64>, SqlError> {
    let mut rows = connection.query(&format!(
        "SELECT CAST(ts AS BIGINT) FROM {DATABASE}.restores WHERE target = {} ORDER BY ts DESC LIMIT 1",
        sql::text(target)
    ))?;
    Ok(rows.next()?.and_then(|row| row.get(0).as_i64()))
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

/// A key behind the last one of a target, whatever this machine's clock says. Where there is none, the last row is
/// replaced.
fn key_after(latest: Option<i64>, now: i64) -> i64 {
    let Some(latest) = latest.filter(|latest| *latest >= now) else {
        return now;
    };
    // All targets are in one table: one nanosecond later may be the key of another one.
    let step = 1 + now.rem_euclid(1_000_000_000);
    latest
        .checked_add(step)
        .filter(|key| *key <= LAST_KEY)
        .unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_behind_the_one_before_it_whatever_the_clock_says() {
        assert_eq!(key_after(None, 5), 5);
        assert_eq!(key_after(Some(4), 5), 5);
        assert_eq!(key_after(Some(5), 5), 11);
        let ahead = 3_600_000_000_000;
        assert_eq!(key_after(Some(ahead), 5), ahead + 6);
        assert_eq!(key_after(Some(LAST_KEY), 5), LAST_KEY);
        assert_eq!(key_after(Some(i64::MAX), 5), i64::MAX);
    }
}
