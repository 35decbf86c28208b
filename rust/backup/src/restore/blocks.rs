//! Writing blocks from archives back: what their windows hold becomes what they held.

use super::rows::{Batch, MOST_ROWS, Shape, TableError};
use crate::{
    block_rows::{BlockRows, NoBlockRows},
    dump::where_clause,
};
use taos::{Connection, SqlError, sql};
use tdfiles::{Key, KeySpan};

/// A block that can't be written back.
#[derive(Debug, thiserror::Error)]
pub enum BlockRestoreError {
    /// The archive holds something else. A host's own reader decides what its archives hold.
    #[error("block {block}: {source}; only the host that wrote it can restore it")]
    NotRows {
        /// The block.
        block: u64,
        /// What is wrong.
        source: NoBlockRows,
    },
    /// The server refused.
    #[error("table {table}: {source}")]
    Sql {
        /// The table.
        table: String,
        /// The server's words.
        source: SqlError,
    },
    /// A value that the table does not take.
    #[error("table {table}: {problem}")]
    Value {
        /// The table.
        table: String,
        /// Why not.
        problem: String,
    },
}

/// Makes the block's window of its table what the block holds: deletes what is there, and inserts the rows. `database`
/// takes the place of the block's. The table must exist, with the block's columns. Returns how many rows it holds;
/// `None` for a table that was dropped at the source, of which nothing is known.
///
/// It may be repeated.
pub fn write(
    connection: &Connection,
    database: Option<&str>,
    block: &BlockRows,
) -> Result<Option<u64>, BlockRestoreError> {
    let (Some(table), Some((key, _))) = (&block.table, block.columns.first()) else {
        return Ok(None);
    };
    let table = sql::table(database.unwrap_or(&block.database), table);
    let named = |error| match error {
        TableError::Sql(source) => BlockRestoreError::Sql {
            table: table.clone(),
            source,
        },
        TableError::Link(error) => BlockRestoreError::Value {
            table: table.clone(),
            problem: error.to_string(),
        },
        TableError::Value(problem) => BlockRestoreError::Value {
            table: table.clone(),
            problem,
        },
    };
    let window = KeySpan {
        first: Key(block.first),
        last: Key(block.last),
    };
    let delete = format!("DELETE FROM {table}{}", where_clause(key, window));
    connection
        .execute(&delete)
        .map_err(|error| named(error.into()))?;
    let shape = Shape::of_columns(&block.columns);
    for rows in block.rows.chunks(MOST_ROWS) {
        let mut batch = Batch::new(&shape, &table);
        rows.iter().for_each(|row| batch.add(row.clone()));
        batch.send(connection, None).map_err(named)?;
    }
    Ok(Some(block.rows.len() as u64))
}
