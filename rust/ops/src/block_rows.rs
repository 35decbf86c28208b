//! The rows of a block as they are on the server now, for whoever takes them.

use bitmap::BlockId;
use model::{DataType, Key, KeySpan, Uid, Value};
use plan::Numbering;
use rows::{
    sink::{Refused, RowSink, RowsOf},
    source::{Row as _, RowSource as _},
};
use server::{Connection, SqlError, cluster, select, tables};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Why a block's rows can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BlockRowsError {
    /// No table has the block's number.
    #[error(
        "block {0}: no table of this position has its number; take ids and position from the same follower"
    )]
    UnknownBlock(u64),
    /// The table is not there any more.
    #[error("block {block}: its table (uid {uid}) is not in database {database:?} any more")]
    TableGone {
        /// The block.
        block: u64,
        /// The table's uid.
        uid: i64,
        /// The database.
        database: String,
    },
    /// The table is not there, and nothing shows that this is the server that was followed.
    #[error(
        "block {block}: its table is not in database {database:?}, and neither is any other table that was followed: is this \
         the server that was followed? If all of them were dropped, take a full backup"
    )]
    OtherServer {
        /// The block.
        block: u64,
        /// The database.
        database: String,
    },
    /// The server refused.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Whoever takes the rows did not take them.
    #[error("block {block}: {problem}")]
    Refused {
        /// The block.
        block: u64,
        /// Why not.
        problem: Refused,
    },
}

impl BlockRowsError {
    /// Whether no other block can be read either: the server does not answer, or may be another one. Blocks of a vgroup
    /// without a leader, or on a dnode that is down, are the only ones that can't be read while the cluster answers.
    pub fn concerns_everything(&self, connection: &Connection) -> bool {
        match self {
            Self::OtherServer { .. } => true,
            Self::Sql(error) => error.is_disconnected() && cluster::id(connection).is_err(),
            _ => false,
        }
    }
}

/// The rows of `block` as they are now.
pub fn read(
    block: u64,
    position: &Numbering,
    connection: &Connection,
    sink: &mut dyn RowSink,
) -> Result<(), BlockRowsError> {
    let place = Place::of(block, position)?;
    let name = tables::name_of(connection, &position.database, Uid(place.uid))?;
    let name = name.ok_or_else(|| BlockRowsError::TableGone {
        block,
        uid: place.uid,
        database: position.database.clone(),
    })?;
    place.read(&position.database, name, connection, sink)
}

/// As [`read`], but a block of a dropped table is one without columns: so it can be told from one without rows.
/// `confirmed` keeps, from call to call, whether the server was seen to be the one that was followed.
pub fn read_or_gone(
    block: u64,
    position: &Numbering,
    connection: &Connection,
    confirmed: &AtomicBool,
    sink: &mut dyn RowSink,
) -> Result<(), BlockRowsError> {
    match read(block, position, connection, sink) {
        Err(BlockRowsError::TableGone {
            block, database, ..
        }) => {
            if !confirmed.load(Relaxed) && !is_followed(position, connection)? {
                return Err(BlockRowsError::OtherServer { block, database });
            }
            confirmed.store(true, Relaxed);
            let gone = Place::of(block, position)?.rows_of(&position.database, None, Vec::new());
            let refused = |problem| BlockRowsError::Refused { block, problem };
            sink.begin(&gone).map_err(refused)
        }
        other => other,
    }
}

/// Whether the server has any of the tables that have numbers. Uids are never used twice, so it is then the one that was
/// followed, or a copy of it.
fn is_followed(position: &Numbering, connection: &Connection) -> Result<bool, SqlError> {
    let followed: HashSet<Uid> = position.ordinals.uids().iter().copied().collect();
    let listed = tables::list(connection, &position.database)?;
    Ok(listed.iter().any(|table| followed.contains(&table.uid)))
}

/// Which table and keys a block stands for.
struct Place {
    block: u64,
    uid: i64,
    first: i64,
    last: i64,
}

impl Place {
    fn of(block: u64, position: &Numbering) -> Result<Self, BlockRowsError> {
        let id = BlockId(block);
        let uids = position.ordinals.uids();
        let uid = uids
            .get(id.table().0 as usize)
            .ok_or(BlockRowsError::UnknownBlock(block))?;
        let keys = position.window.keys_of(id.window());
        Ok(Self {
            block,
            uid: uid.0,
            first: keys.first.0,
            last: keys.last.0,
        })
    }

    fn rows_of(
        &self,
        database: &str,
        table: Option<String>,
        columns: Vec<(String, DataType)>,
    ) -> RowsOf {
        RowsOf {
            block: self.block,
            first: self.first,
            last: self.last,
            database: database.to_owned(),
            table,
            columns,
        }
    }

    fn read(
        &self,
        database: &str,
        table: String,
        connection: &Connection,
        sink: &mut dyn RowSink,
    ) -> Result<(), BlockRowsError> {
        let block = self.block;
        let refused = |problem| BlockRowsError::Refused { block, problem };
        let window = KeySpan {
            first: Key(self.first),
            last: Key(self.last),
        };
        let mut rows = select::ordered(connection, database, &table, window)?;
        let columns = rows.columns();
        let width = columns.len();
        let of = self.rows_of(database, Some(table), columns);
        sink.begin(&of).map_err(refused)?;
        while let Some(row) = rows.next_row()? {
            let values: Vec<Value<'_>> = (0..width).map(|column| row.value(column)).collect();
            sink.row(&values).map_err(refused)?;
        }
        Ok(())
    }
}
