//! Reading rows and tags of tables.

use crate::{Connection, Rows, SqlError, ddl::where_clause, sql};
use model::KeySpan;

/// The rows of a table in a span of keys: `columns` is their list as SQL text, `key` the name of the first.
pub fn span<'c>(
    connection: &'c Connection,
    database: &str,
    table: &str,
    columns: &str,
    key: &str,
    span: KeySpan,
) -> Result<Rows<'c>, SqlError> {
    let target = sql::table(database, table);
    let condition = where_clause(key, span);
    connection.query(&format!("SELECT {columns} FROM {target}{condition}"))
}

/// All rows of a super table's children, table by table, each row with its table's name before the columns. Rows of
/// several vgroups come in turns.
pub fn children<'c>(
    connection: &'c Connection,
    database: &str,
    stable: &str,
    columns: &str,
) -> Result<Rows<'c>, SqlError> {
    connection.query(&format!(
        "SELECT tbname, {columns} FROM {} PARTITION BY tbname",
        sql::table(database, stable)
    ))
}

/// The tags of a super table's children, each with its table's name before them: `tags` is their list as SQL text.
pub fn tags<'c>(
    connection: &'c Connection,
    database: &str,
    stable: &str,
    tags: &str,
) -> Result<Rows<'c>, SqlError> {
    connection.query(&format!(
        "SELECT TAGS tbname, {tags} FROM {}",
        sql::table(database, stable)
    ))
}

/// All columns of a table's rows in a span of keys, ascending.
pub fn ordered<'c>(
    connection: &'c Connection,
    database: &str,
    table: &str,
    span: KeySpan,
) -> Result<Rows<'c>, SqlError> {
    connection.query(&format!(
        "SELECT * FROM {} WHERE _c0 >= {} AND _c0 <= {} ORDER BY _c0",
        sql::table(database, table),
        span.first,
        span.last
    ))
}
