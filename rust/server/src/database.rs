//! Databases: which there are, their options, and what is done to them as a whole.

use crate::{Connection, SqlError, sql};
use model::{
    Key, Precision,
    catalogue::{database_options, keep_seconds},
};
use std::collections::BTreeMap;

/// The server's own databases.
const OWN: [&str; 4] = ["information_schema", "performance_schema", "log", "audit"];

/// The names of all databases but the server's own.
pub fn list(connection: &Connection) -> Result<Vec<String>, SqlError> {
    let mut names = Vec::new();
    connection.query("SHOW DATABASES")?.for_each(|row| {
        names.push(row.text(0));
        Ok::<_, SqlError>(())
    })?;
    names.retain(|name| !OWN.contains(&name.as_str()));
    Ok(names)
}

/// What the server says about a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// When it was created, ms since 1970 by the server's clock. It tells a database from another one of its name.
    pub created: Option<i64>,
    /// The unit of its keys.
    pub precision: Option<Precision>,
    /// Its WAL_LEVEL.
    pub wal_level: Option<i64>,
}

/// What the server says about a database; `None` if it does not exist.
pub fn state(connection: &Connection, name: &str) -> Result<Option<State>, SqlError> {
    let mut rows = connection.query(&format!(
        "SELECT CAST(create_time AS BIGINT), `precision`, `wal_level` FROM information_schema.ins_databases \
         WHERE name = {}",
        sql::text(name)
    ))?;
    Ok(rows.next()?.map(|row| State {
        created: row.get(0).as_i64(),
        precision: row.text(1).parse().ok(),
        wal_level: row.get(2).as_i64(),
    }))
}

/// When a database was created, ms since 1970 by the server's clock; `None` if it does not exist.
pub fn created(connection: &Connection, name: &str) -> Result<Option<i64>, SqlError> {
    Ok(state(connection, name)?.and_then(|state| state.created))
}

/// Whether a database holds no super table and no table.
pub fn is_empty(connection: &Connection, name: &str) -> Result<bool, SqlError> {
    for list in ["ins_stables", "ins_tables"] {
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.{list} WHERE db_name = {}",
            sql::text(name)
        );
        let mut rows = connection.query(&query)?;
        let count = rows.next()?.and_then(|row| row.get(0).as_i64());
        if count.unwrap_or(0) != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The statement that creates a database with all its options, as they are now; `None` if the server does not tell it. The
/// server says the name as it is, also where a backtick is in it.
pub fn create_statement(connection: &Connection, name: &str) -> Result<Option<String>, SqlError> {
    let mut rows = connection.query(&format!("SHOW CREATE DATABASE {}", sql::name(name)))?;
    let create = rows.next()?.map(|row| row.text(1));
    Ok(create.map(|create| with_escaped_name(&create, name)))
}

fn with_escaped_name(create: &str, name: &str) -> String {
    match create.strip_prefix(&format!("CREATE DATABASE `{name}`")) {
        Some(options) => format!("CREATE DATABASE {}{options}", sql::name(name)),
        None => create.to_owned(),
    }
}

/// A database's options by name, as they are now; none if the server does not tell them.
pub fn options(connection: &Connection, name: &str) -> Result<BTreeMap<String, String>, SqlError> {
    let create = create_statement(connection, name)?;
    Ok(create
        .map(|create| database_options(&create))
        .unwrap_or_default())
}

/// Sets options of a database, all of them or none.
pub fn set_options(
    connection: &Connection,
    name: &str,
    options: &[(&str, &str)],
) -> Result<(), SqlError> {
    let mut statement = format!("ALTER DATABASE {}", sql::name(name));
    for (option, value) in options {
        statement.push_str(&format!(" {option} {value}"));
    }
    connection.execute(&statement).map(drop)
}

/// Something that the server still does to a database after it has answered, as it says it.
pub fn transaction(connection: &Connection, name: &str) -> Result<Option<String>, SqlError> {
    let query = "SELECT id, oper, stage, db FROM performance_schema.perf_trans";
    let mut found = None;
    connection.query(query)?.for_each(|row| {
        let database = row.text(3);
        // The name may stand behind the number of an account.
        if database == name || database.split_once('.').is_some_and(|(_, of)| of == name) {
            let id = row.get(0).as_i64().unwrap_or_default();
            found = Some(format!(
                "transaction {id} ({}, {})",
                row.text(1),
                row.text(2)
            ));
        }
        Ok::<_, SqlError>(())
    })?;
    Ok(found)
}

/// Asks the server to write everything that it holds in memory to the committed files. It answers before that is done.
pub fn flush(connection: &Connection, name: &str) -> Result<(), SqlError> {
    let statement = format!("FLUSH DATABASE {}", sql::name(name));
    connection.execute(&statement).map(drop)
}

/// The first key that a database takes, by its KEEP and this machine's clock; `None` if that can't be told.
pub fn oldest_key(connection: &Connection, name: &str) -> Option<Key> {
    let create = create_statement(connection, name).ok()??;
    let precision: Precision = database_options(&create).get("PRECISION")?.parse().ok()?;
    let seconds = jiff::Timestamp::now()
        .as_second()
        .checked_sub(keep_seconds(&create)?)?;
    seconds.checked_mul(precision.ticks_per_second()).map(Key)
}
