//! Writing blocks from archives back: what their windows hold becomes what they held.

use ::rows::block::{BlockRows, NoBlockRows};
use model::{Key, KeySpan};
use server::{
    Connection, SqlError,
    database::oldest_key,
    insert::{Batch, InsertError, Sent, Shape},
    sql, tables,
};
use std::collections::BTreeMap;

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

/// So many values are held at a time, also if all of them are NULL: 32 MiB.
const MOST_VALUES: usize = 1 << 20;

/// Writes blocks.
#[derive(Debug)]
pub struct BlockWriter<'a> {
    connection: &'a Connection,
    database: Option<&'a str>,
    /// By database, the first key that it takes.
    oldest: BTreeMap<String, Option<Key>>,
}

impl<'a> BlockWriter<'a> {
    /// Writes to this server. `database` takes the place of the blocks' own.
    pub fn new(connection: &'a Connection, database: Option<&'a str>) -> Self {
        Self {
            connection,
            database,
            oldest: BTreeMap::new(),
        }
    }

    /// Makes the block's window of its table what the block holds: deletes what is there, and inserts the rows. The table
    /// must exist, with the block's columns. `None` for a table that was dropped at the source, of which nothing is known.
    ///
    /// It may be repeated.
    pub fn write(&mut self, block: &BlockRows<'_>) -> Result<Option<Sent>, BlockRestoreError> {
        let (Some(table), Some((key, _))) = (&block.table, block.columns.first()) else {
            return Ok(None);
        };
        let database = self.database.unwrap_or(&block.database);
        let oldest = *self
            .oldest
            .entry(database.to_owned())
            .or_insert_with(|| oldest_key(self.connection, database));
        let named = |error| {
            let table = sql::table(database, table);
            match error {
                InsertError::Sql(source) => BlockRestoreError::Sql { table, source },
                InsertError::Value(problem) => BlockRestoreError::Value { table, problem },
            }
        };
        let window = KeySpan {
            first: Key(block.first),
            last: Key(block.last),
        };
        tables::delete(self.connection, database, table, key, window)
            .map_err(|error| named(error.into()))?;
        let send = |batch: &mut Batch<'_>| {
            let sent = batch.send(self.connection, oldest).map_err(named)?;
            match sent.problem {
                Some(problem) => Err(named(InsertError::Value(problem))),
                None => Ok(sent),
            }
        };
        let shape = Shape::of_columns(&block.columns);
        let mut batch = Batch::new(&shape, database, table);
        let mut sent = Sent::default();
        let mut values = 0;
        for row in block.rows() {
            let row = row.map_err(|source| BlockRestoreError::NotRows {
                block: block.block,
                source,
            })?;
            values += row.len();
            batch.add(row);
            if batch.is_full() || values >= MOST_VALUES {
                sent += send(&mut batch)?;
                values = 0;
            }
        }
        sent += send(&mut batch)?;
        Ok(Some(sent))
    }
}
