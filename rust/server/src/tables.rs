//! The tables of a database: which there are, what they are called, and what is done to them.

use crate::{Connection, SqlError, database, ddl, sql};
use model::{KeySpan, MayPass, Progress, Retry, Uid};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// How a table is asked for again that the server says is missing although it lists it.
const LISTED: Retry = Retry {
    count: 9,
    interval: Duration::from_millis(200),
    timeout: Duration::MAX,
};

/// Why a table was not found.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
struct NotFound {
    source: SqlError,
    /// The server lists the table that it says is missing.
    is_listed: bool,
}

impl MayPass for NotFound {
    fn may_pass(&self) -> bool {
        self.is_listed
    }
}

/// Asks about a table or super table; `None` if there is none. "Table does not exist" alone is not taken for it, as a
/// backup that believed it wrongly would drop the table: the list of tables has to agree.
pub fn if_there<T>(
    connection: &Connection,
    database: &str,
    table: &str,
    progress: &dyn Progress,
    mut ask: impl FnMut() -> Result<T, SqlError>,
) -> Result<Option<T>, SqlError> {
    let final_answer = |source| NotFound {
        source,
        is_listed: false,
    };
    let attempt = || match ask() {
        Err(source) if source.is_missing() => {
            match is_listed(connection, database, table).map_err(final_answer)? {
                true => Err(NotFound {
                    source,
                    is_listed: true,
                }),
                false => Ok(None),
            }
        }
        answer => answer.map(Some).map_err(final_answer),
    };
    LISTED
        .run(progress, |_| {}, attempt)
        .map_err(|not_found| not_found.source)
}

/// The server answers with an empty list for a database that is not there, or that it does not know yet after a
/// start.
fn check_database(connection: &Connection, database: &str) -> Result<(), SqlError> {
    match database::created(connection, database)? {
        Some(_) => Ok(()),
        None => Err(SqlError::local(format!(
            "database {database} is not there any more"
        ))),
    }
}

fn is_listed(connection: &Connection, database: &str, table: &str) -> Result<bool, SqlError> {
    reset_cache(connection)?;
    check_database(connection, database)?;
    let (database, table) = (sql::text(database), sql::text(table));
    for (list, name) in [("ins_tables", "table_name"), ("ins_stables", "stable_name")] {
        let query = format!(
            "SELECT {name} FROM information_schema.{list} WHERE db_name = {database} AND {name} = {table}"
        );
        if connection.query(&query)?.next()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the client library ask the server for schemas anew: it goes on using those that it knew before they were
/// altered.
pub fn reset_cache(connection: &Connection) -> Result<(), SqlError> {
    connection.execute("RESET QUERY CACHE").map(drop)
}

/// A child or normal table in the server's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its id.
    pub uid: Uid,
    /// Its super table; empty for a normal table.
    pub stable: String,
}

/// The child and normal tables that the server lists; none for a database that it does not know.
pub fn list(connection: &Connection, database: &str) -> Result<Vec<Listed>, SqlError> {
    let query = format!(
        "SELECT table_name, uid, stable_name FROM information_schema.ins_tables WHERE db_name = {}",
        sql::text(database)
    );
    let mut tables = Vec::new();
    connection.query(&query)?.for_each(|row| {
        let name = row.text(0);
        let uid = row.get(1).as_i64();
        let uid =
            uid.ok_or_else(|| SqlError::local(format!("table {name:?} has no uid in ins_tables")))?;
        tables.push(Listed {
            name,
            uid: Uid(uid),
            stable: row.text(2),
        });
        Ok::<_, SqlError>(())
    })?;
    Ok(tables)
}

/// The ids of a database's child and normal tables by name. A database that is not there is an error.
pub fn uids(connection: &Connection, database: &str) -> Result<HashMap<String, Uid>, SqlError> {
    check_database(connection, database)?;
    let tables = list(connection, database)?.into_iter();
    Ok(tables.map(|table| (table.name, table.uid)).collect())
}

/// What the table with this id is called; `None` if there is none.
pub fn name_of(
    connection: &Connection,
    database: &str,
    uid: Uid,
) -> Result<Option<String>, SqlError> {
    let query = format!(
        "SELECT table_name FROM information_schema.ins_tables WHERE db_name = {} AND uid = {uid}",
        sql::text(database)
    );
    let mut rows = connection.query(&query)?;
    Ok(rows.next()?.map(|row| row.text(0)))
}

/// The names of a database's super tables.
pub fn super_tables(connection: &Connection, database: &str) -> Result<BTreeSet<String>, SqlError> {
    let query = format!(
        "SELECT stable_name FROM information_schema.ins_stables WHERE db_name = {}",
        sql::text(database)
    );
    let mut names = BTreeSet::new();
    connection.query(&query)?.for_each(|row| {
        names.insert(row.text(0));
        Ok::<_, SqlError>(())
    })?;
    Ok(names)
}

/// A super table with options that CREATE STABLE gives to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMadeByCreate {
    /// Its name.
    pub name: String,
    /// Its watermark, in the server's words.
    pub watermark: String,
    /// Its delay, in the server's words.
    pub max_delay: String,
}

/// The super tables of a database with another watermark or max_delay than CREATE STABLE gives: schemaless writing, a
/// stream or a TSMA made them.
pub fn not_made_by_create(
    connection: &Connection,
    database: &str,
) -> Result<Vec<NotMadeByCreate>, SqlError> {
    let query = format!(
        "SELECT stable_name, `watermark`, `max_delay` FROM information_schema.ins_stables WHERE db_name = {} \
         AND (`watermark` != '5000a,5000a' OR `max_delay` != '-1a,-1a') ORDER BY stable_name",
        sql::text(database)
    );
    let mut found = Vec::new();
    connection.query(&query)?.for_each(|row| {
        found.push(NotMadeByCreate {
            name: row.text(0),
            watermark: row.text(1),
            max_delay: row.text(2),
        });
        Ok::<_, SqlError>(())
    })?;
    Ok(found)
}

/// The comment of a table or super table: `None` if it is not listed, `Some(None)` if it has none.
pub fn comment(
    connection: &Connection,
    database: &str,
    name: &str,
) -> Result<Option<Option<String>>, SqlError> {
    let mut comment = None;
    for (list, column) in [("ins_stables", "stable_name"), ("ins_tables", "table_name")] {
        let query = format!(
            "SELECT table_comment FROM information_schema.{list} WHERE db_name = {} AND {column} = {}",
            sql::text(database),
            sql::text(name)
        );
        let mut rows = connection.query(&query)?;
        if let Some(row) = rows.next()? {
            comment = Some(row.get(0).as_str().map(str::to_owned));
        }
    }
    Ok(comment)
}

/// Deletes the rows of a table whose keys lie in `span`; `key` is the name of its first column.
pub fn delete(
    connection: &Connection,
    database: &str,
    table: &str,
    key: &str,
    span: KeySpan,
) -> Result<(), SqlError> {
    connection.execute(&ddl::delete(database, table, key, span))?;
    Ok(())
}
