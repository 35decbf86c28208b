//! Reading rows and tags of tables.

use crate::{Connection, Rows, SqlError, ddl::where_clause, sql};
use model::{DataType, KeySpan, OwnedValue, Value};
use rows::source::{Row, RowSource};

/// The rows of one table in a server's answer.
#[derive(Debug)]
pub struct TableRows<'c>(Rows<'c>);

/// One of them.
#[derive(Debug)]
pub struct TableRow<'r> {
    row: taos::connection::Row<'r>,
    width: usize,
}

impl Row for TableRow<'_> {
    fn value(&self, column: usize) -> Value<'_> {
        self.row.get(column)
    }

    fn into_owned(self) -> Vec<OwnedValue> {
        let values = (0..self.width).map(|column| self.row.get(column).into());
        values.collect()
    }
}

impl TableRows<'_> {
    /// Names and types of the columns, the key first.
    pub fn columns(&self) -> Vec<(String, DataType)> {
        let fields = self.0.fields().iter();
        let columns = fields.map(|field| (field.name.clone(), field.data_type));
        columns.collect()
    }
}

impl RowSource for TableRows<'_> {
    type Error = SqlError;
    type Row<'r>
        = TableRow<'r>
    where
        Self: 'r;

    fn types(&self) -> Vec<DataType> {
        self.0
            .fields()
            .iter()
            .map(|field| field.data_type)
            .collect()
    }

    fn next_row(&mut self) -> Result<Option<TableRow<'_>>, SqlError> {
        let width = self.0.fields().len();
        Ok(self.0.next()?.map(|row| TableRow { row, width }))
    }
}

/// The rows of a table in a span of keys: `columns` is their list as SQL text, `key` the name of the first.
pub fn span<'c>(
    connection: &'c Connection,
    database: &str,
    table: &str,
    columns: &str,
    key: &str,
    span: KeySpan,
) -> Result<TableRows<'c>, SqlError> {
    let target = sql::table(database, table);
    let condition = where_clause(key, span);
    let query = format!("SELECT {columns} FROM {target}{condition}");
    connection.query(&query).map(TableRows)
}

/// How many rows a table has in a span of keys; `key` is the name of its first column.
pub fn count(
    connection: &Connection,
    database: &str,
    table: &str,
    key: &str,
    span: KeySpan,
) -> Result<u64, SqlError> {
    let target = sql::table(database, table);
    let condition = where_clause(key, span);
    let mut rows = connection.query(&format!("SELECT COUNT(*) FROM {target}{condition}"))?;
    let count = rows.next()?.and_then(|row| row.get(0).as_i64());
    // No row is the answer for none.
    Ok(count
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or(0))
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
) -> Result<TableRows<'c>, SqlError> {
    let query = format!(
        "SELECT * FROM {} WHERE _c0 >= {} AND _c0 <= {} ORDER BY _c0",
        sql::table(database, table),
        span.first,
        span.last
    );
    connection.query(&query).map(TableRows)
}
