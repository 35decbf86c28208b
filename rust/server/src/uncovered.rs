//! What a database holds, or is held for it, that no backup has: it is named, so that an operator does not miss it first in
//! a restore.

use crate::{Connection, SqlError, sql};
use model::{MayPass as _, catalogue::SuperTable};
use std::collections::BTreeMap;

/// Topics, streams, TSMAs, views, indexes that somebody made, and privileges on the database, in plain words.
pub fn of_database(
    connection: &Connection,
    database: &str,
    stables: &BTreeMap<String, SuperTable>,
) -> Result<Vec<String>, SqlError> {
    let here = format!("db_name = {}", sql::text(database));
    let mut found = Vec::new();
    for (kind, list, name) in [
        ("topic", "ins_topics", "topic_name"),
        ("TSMA", "ins_tsmas", "tsma_name"),
        ("view", "ins_views", "view_name"),
    ] {
        for row in rows(connection, list, &[name], &here)?.unwrap_or_default() {
            found.push(format!("{kind} {}", row.concat()));
        }
    }
    let streams = match rows(connection, "ins_streams", &["stream_name"], &here)? {
        Some(streams) => streams,
        // Releases before 3.3.7 say where a stream reads and writes.
        None => {
            let name = sql::text(database);
            let here = format!("source_db = {name} OR target_db = {name}");
            rows(connection, "ins_streams", &["stream_name"], &here)?.unwrap_or_default()
        }
    };
    found.extend(streams.iter().map(|row| format!("stream {}", row.concat())));
    let columns = ["index_name", "table_name", "column_name"];
    for row in rows(connection, "ins_indexes", &columns, &here)?.unwrap_or_default() {
        let [index, table, column] = row.as_slice() else {
            continue;
        };
        // The server makes one of the first tag by itself.
        let first = stables
            .get(table)
            .and_then(|stable| stable.schema.tags.first());
        if first.is_none_or(|first| first.name != *column) {
            found.push(format!("index {index} on {column} of super table {table}"));
        }
    }
    let columns = ["privilege", "user_name", "table_name"];
    for row in rows(connection, "ins_user_privileges", &columns, &here)?.unwrap_or_default() {
        let [privilege, user, table] = row.as_slice() else {
            continue;
        };
        found.push(match table.as_str() {
            "" => format!("privilege {privilege} of user {user}"),
            table => format!("privilege {privilege} of user {user} on table {table}"),
        });
    }
    Ok(found)
}

/// The functions that users made. They are the cluster's, whatever database uses them.
pub fn functions(connection: &Connection) -> Result<Vec<String>, SqlError> {
    let functions = rows(connection, "ins_functions", &["name"], "name IS NOT NULL")?;
    let functions = functions.unwrap_or_default().into_iter();
    Ok(functions
        .map(|row| format!("function {} of the cluster", row.concat()))
        .collect())
}

/// Rows of a list of the server's, as texts; `None` where this release, or this user, has no such list.
fn rows(
    connection: &Connection,
    list: &str,
    columns: &[&str],
    condition: &str,
) -> Result<Option<Vec<Vec<String>>>, SqlError> {
    let query = format!(
        "SELECT {} FROM information_schema.{list} WHERE {condition}",
        columns.join(", ")
    );
    let rows = match connection.query(&query) {
        Err(error) if !error.may_pass() => return Ok(None),
        rows => rows?,
    };
    let mut found = Vec::new();
    rows.for_each(|row| {
        found.push((0..columns.len()).map(|column| row.text(column)).collect());
        Ok::<_, SqlError>(())
    })?;
    Ok(Some(found))
}
