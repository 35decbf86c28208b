//! The rows of a block, by SQL.
//!
//! A block's id says table and window; the position that the id is of says which table that is and which keys the
//! window holds. The rows come from the server, as they are now.
//!
//! # The binary form, version 1
//! All numbers little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `IBROWS1` and a NUL |
//! | u64 | block id |
//! | i64, i64 | first and last key of the window |
//! | u32 | number of columns |
//! | per column: i8, u16, … | TDengine's type number, length of the name, the name (UTF-8) |
//! | u64 | number of rows, ascending by key |
//! | per row and column: u32, … | length of the value, or 0xffffffff for NULL; the value: an integer or float in its column's width, a timestamp in ticks of the database's precision as i64, BOOL as one byte, text and bytes as they are, DECIMAL as text |
//! | u32 | CRC-32C of everything before |

use backup::{checkpoint::Checkpoint, plan::Ordinals, window::WindowWidth};
use bitmap::BlockId;
use taos::{Connection, DataType, SqlError, Value, sql};

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
    /// The server refused.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The rows do not fit into 4 GiB.
    #[error("block {0} has more than 4 GiB of rows; read its window by smaller spans")]
    TooLarge(u64),
}

/// What a follower makes block ids of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    /// The database.
    pub database: String,
    /// The width of its windows.
    pub window: WindowWidth,
    /// The numbers of its tables.
    pub ordinals: Ordinals,
}

impl Numbering {
    /// Whether a table has the block's number.
    pub fn knows(&self, block: BlockId) -> bool {
        (block.table().0 as usize) < self.ordinals.uids().len()
    }
}

impl From<Checkpoint> for Numbering {
    fn from(position: Checkpoint) -> Self {
        Self {
            database: position.database,
            window: position.window,
            ordinals: position.ordinals,
        }
    }
}

/// Magic of the binary form.
pub const MAGIC: &[u8; 8] = b"IBROWS1\0";

/// The rows of `block` in the binary form.
pub fn read(
    block: u64,
    position: &Numbering,
    connection: &Connection,
) -> Result<Vec<u8>, BlockRowsError> {
    let id = BlockId(block);
    let uids = position.ordinals.uids();
    let uid = uids
        .get(id.table().0 as usize)
        .ok_or(BlockRowsError::UnknownBlock(block))?;
    let keys = position.window.keys_of(id.window());
    let database = &position.database;
    let name = table_name(connection, database, uid.0)?;
    let Some(name) = name else {
        return Err(BlockRowsError::TableGone {
            block,
            uid: uid.0,
            database: database.clone(),
        });
    };
    let query = format!(
        "SELECT * FROM {} WHERE _c0 >= {} AND _c0 <= {} ORDER BY _c0",
        sql::table(database, &name),
        keys.first.0,
        keys.last.0
    );
    let mut rows = connection.query(&query)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(block.to_le_bytes());
    bytes.extend(keys.first.0.to_le_bytes());
    bytes.extend(keys.last.0.to_le_bytes());
    let fields = rows.fields().to_vec();
    bytes.extend((fields.len() as u32).to_le_bytes());
    for field in &fields {
        bytes.push(field.data_type as i8 as u8);
        bytes.extend((field.name.len() as u16).to_le_bytes());
        bytes.extend(field.name.as_bytes());
    }
    let count_at = bytes.len();
    bytes.extend(0_u64.to_le_bytes());
    let mut count = 0_u64;
    while let Some(row) = rows.next()? {
        for (column, field) in fields.iter().enumerate() {
            push(&mut bytes, field.data_type, row.get(column));
        }
        count += 1;
        if bytes.len() > u32::MAX as usize - 4 {
            return Err(BlockRowsError::TooLarge(block));
        }
    }
    bytes[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Ok(bytes)
}

fn table_name(
    connection: &Connection,
    database: &str,
    uid: i64,
) -> Result<Option<String>, SqlError> {
    let mut rows = connection.query(&format!(
        "SELECT table_name FROM information_schema.ins_tables WHERE db_name = {} AND uid = {uid}",
        sql::text(database)
    ))?;
    Ok(rows.next()?.map(|row| row.text(0)))
}

/// Appends length and bytes of a value.
fn push(bytes: &mut Vec<u8>, data_type: DataType, value: Value<'_>) {
    let mut number = [0; 8];
    let width = data_type.width().unwrap_or(8).min(8);
    let value: &[u8] = match value {
        Value::Null => {
            bytes.extend(u32::MAX.to_le_bytes());
            return;
        }
        Value::Bool(value) => {
            number[0] = value.into();
            &number[..1]
        }
        Value::Int(value) => {
            number = value.to_le_bytes();
            &number[..width]
        }
        Value::UInt(value) => {
            number = value.to_le_bytes();
            &number[..width]
        }
        Value::Float(value) => {
            number[..4].copy_from_slice(&value.to_le_bytes());
            &number[..4]
        }
        Value::Double(value) => {
            number = value.to_le_bytes();
            &number
        }
        Value::Bytes(value) => value,
    };
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_their_columns_width() {
        let written = |data_type, value| {
            let mut bytes = Vec::new();
            push(&mut bytes, data_type, value);
            bytes
        };
        assert_eq!(
            written(DataType::TinyInt, Value::Int(-2)),
            [1, 0, 0, 0, 254]
        );
        assert_eq!(
            written(DataType::UInt, Value::UInt(258)),
            [4, 0, 0, 0, 2, 1, 0, 0]
        );
        assert_eq!(written(DataType::Bool, Value::Bool(true)), [1, 0, 0, 0, 1]);
        assert_eq!(written(DataType::Float, Value::Float(0.5)).len(), 8);
        assert_eq!(written(DataType::Double, Value::Double(0.5)).len(), 12);
        assert_eq!(written(DataType::Timestamp, Value::Int(1)).len(), 12);
        assert_eq!(
            written(DataType::Varchar, Value::Bytes(b"a\0")),
            [2, 0, 0, 0, b'a', 0]
        );
        assert_eq!(written(DataType::Nchar, Value::Null), [255; 4]);
    }
}
