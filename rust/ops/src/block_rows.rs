//! The rows of a block: read from the server, and in the binary form that `read_data_block` and archives have.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `IBROWS2` and a NUL |
//! | u64 | block id |
//! | i64, i64 | first and last key of the block's window, in ticks of the database's precision |
//! | u16, … | length of the database's name, the name (UTF-8) |
//! | u16, … | the same of the table; 0 if it was dropped: then there are no columns |
//! | u32 | number of columns |
//! | per column: i8, u16, … | TDengine's type number, length of the name, the name (UTF-8) |
//! | u64 | number of rows, ascending by key |
//! | per row and column: u32, … | length of the value, or 0xffffffff for NULL; the value: an integer or float in its column's width, a timestamp in ticks of the database's precision as i64, BOOL as one byte, text and bytes as they are, DECIMAL as text |
//! | u32 | CRC-32C of everything before |

use bitmap::BlockId;
use model::{DataType, Key, KeySpan, OwnedValue, Uid, Value};
use plan::Numbering;
use server::{Connection, SqlError, select, tables};
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
    /// A name that is longer than any of the server's.
    #[error("block {0} has a column or table with a name of more than 65535 bytes")]
    LongName(u64),
    /// The rows do not fit into 4 GiB.
    #[error("block {0} has more than 4 GiB of rows; read its window by smaller spans")]
    TooLarge(u64),
}

/// Magic of the binary form.
pub const MAGIC: &[u8; 8] = b"IBROWS2\0";

/// The rows of `block` in the binary form, as they are now.
pub fn read(
    block: u64,
    position: &Numbering,
    connection: &Connection,
) -> Result<Vec<u8>, BlockRowsError> {
    let place = Place::of(block, position)?;
    let name = tables::name_of(connection, &position.database, Uid(place.uid))?;
    let name = name.ok_or_else(|| BlockRowsError::TableGone {
        block,
        uid: place.uid,
        database: position.database.clone(),
    })?;
    place.read(&position.database, &name, connection)
}

/// As [`read`], but a block of a dropped table is one without columns: so it can be told from one without rows.
/// `confirmed` keeps, from call to call, whether the server was seen to be the one that was followed.
pub fn read_or_gone(
    block: u64,
    position: &Numbering,
    connection: &Connection,
    confirmed: &AtomicBool,
) -> Result<Vec<u8>, BlockRowsError> {
    match read(block, position, connection) {
        Err(BlockRowsError::TableGone {
            block, database, ..
        }) => {
            if !confirmed.load(Relaxed) && !is_followed(position, connection)? {
                return Err(BlockRowsError::OtherServer { block, database });
            }
            confirmed.store(true, Relaxed);
            let mut writer = Place::of(block, position)?.head(&position.database, "")?;
            writer.columns(&[])?;
            writer.finish()
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

    fn head(&self, database: &str, table: &str) -> Result<Writer, BlockRowsError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.block.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.last.to_le_bytes());
        let mut writer = Writer {
            block: self.block,
            bytes,
            count_at: 0,
            count: 0,
        };
        writer.name(database)?;
        writer.name(table)?;
        Ok(writer)
    }

    fn read(
        &self,
        database: &str,
        table: &str,
        connection: &Connection,
    ) -> Result<Vec<u8>, BlockRowsError> {
        let window = KeySpan {
            first: Key(self.first),
            last: Key(self.last),
        };
        let mut rows = select::ordered(connection, database, table, window)?;
        let mut writer = self.head(database, table)?;
        let fields = rows.fields().to_vec();
        let columns = fields.iter().map(|field| (&*field.name, field.data_type));
        writer.columns(&columns.collect::<Vec<_>>())?;
        while let Some(row) = rows.next()? {
            for (column, field) in fields.iter().enumerate() {
                push(&mut writer.bytes, field.data_type, row.get(column));
            }
            writer.count += 1;
            if writer.bytes.len() > u32::MAX as usize - 4 {
                return Err(BlockRowsError::TooLarge(self.block));
            }
        }
        writer.finish()
    }
}

/// The binary form on its way.
struct Writer {
    block: u64,
    bytes: Vec<u8>,
    count_at: usize,
    count: u64,
}

impl Writer {
    fn name(&mut self, name: &str) -> Result<(), BlockRowsError> {
        let length = u16::try_from(name.len()).map_err(|_| BlockRowsError::LongName(self.block))?;
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(name.as_bytes());
        Ok(())
    }

    fn columns(&mut self, columns: &[(&str, DataType)]) -> Result<(), BlockRowsError> {
        self.bytes.extend((columns.len() as u32).to_le_bytes());
        for (name, data_type) in columns {
            self.bytes.push(*data_type as i8 as u8);
            self.name(name)?;
        }
        self.count_at = self.bytes.len();
        self.bytes.extend(0_u64.to_le_bytes());
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, BlockRowsError> {
        let place = self.count_at..self.count_at + 8;
        if let Some(place) = self.bytes.get_mut(place) {
            place.copy_from_slice(&self.count.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&self.bytes);
        self.bytes.extend(checksum.to_le_bytes());
        Ok(self.bytes)
    }
}

/// A block's rows in the binary form, checked and ready to be read.
#[derive(Debug, Clone)]
pub struct BlockRows<'a> {
    /// The block.
    pub block: u64,
    /// The first key of its window.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// The database.
    pub database: String,
    /// The table; `None` if it was dropped.
    pub table: Option<String>,
    /// Names and types of its columns, the key first.
    pub columns: Vec<(String, DataType)>,
    rows: Reader<'a>,
    count: u64,
}

/// No table has so many columns.
const MOST_COLUMNS: u32 = 1 << 16;

/// Bytes that are not the rows of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these are not the rows of a block: {0}")]
pub struct NoBlockRows(&'static str);

impl<'a> BlockRows<'a> {
    /// How many rows there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The rows, ascending by key. One at a time: in memory, a NULL takes eight times what it takes in the binary form.
    pub fn rows(&self) -> impl Iterator<Item = Result<Vec<OwnedValue>, NoBlockRows>> + use<'_, 'a> {
        let mut reader = self.rows.clone();
        (0..self.count).map(move |_| {
            let types = self.columns.iter().map(|(_, data_type)| *data_type);
            types
                .map(|data_type| reader.value(data_type).map(OwnedValue::from))
                .collect()
        })
    }

    /// Reads the binary form, and checks all of it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NoBlockRows> {
        let whole = bytes.split_last_chunk::<4>();
        let (body, checksum) = whole.ok_or(NoBlockRows("there are too few bytes"))?;
        let body = body.strip_prefix(MAGIC.as_slice());
        let body = body.ok_or(NoBlockRows("they do not begin with IBROWS2"))?;
        let covered = bytes.get(..bytes.len() - 4).unwrap_or_default();
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return Err(NoBlockRows("they do not fit their checksum"));
        }
        let mut reader = Reader(body);
        let (block, first, last) = (reader.u64()?, reader.u64()? as i64, reader.u64()? as i64);
        let database = reader.name()?;
        let table = Some(reader.name()?).filter(|name| !name.is_empty());
        let count = reader.u32()?;
        if count > MOST_COLUMNS {
            return Err(NoBlockRows("there are more columns than a table has"));
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            let [code] = *reader.take::<1>()?;
            let data_type = DataType::from_code(code as i8);
            let data_type = data_type.ok_or(NoBlockRows("a column has an unknown type"))?;
            columns.push((reader.name()?, data_type));
        }
        let count = reader.u64()?;
        if columns.is_empty() != table.is_none() || columns.is_empty() && count > 0 {
            return Err(NoBlockRows("there are rows without columns"));
        }
        let rows = reader.clone();
        for _ in 0..count {
            for (_, data_type) in &columns {
                reader.value(*data_type)?;
            }
        }
        match reader.0 {
            [] => Ok(Self {
                block,
                first,
                last,
                database,
                table,
                columns,
                rows,
                count,
            }),
            _ => Err(NoBlockRows("something follows the last row")),
        }
    }
}

/// What is left to read.
#[derive(Debug, Clone)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], NoBlockRows> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], NoBlockRows> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, NoBlockRows> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, NoBlockRows> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn name(&mut self) -> Result<String, NoBlockRows> {
        let length = u16::from_le_bytes(*self.take()?);
        let name = std::str::from_utf8(self.bytes(length.into())?);
        Ok(name
            .map_err(|_| NoBlockRows("a name is not UTF-8"))?
            .to_owned())
    }

    fn value(&mut self, data_type: DataType) -> Result<Value<'a>, NoBlockRows> {
        let length = self.u32()?;
        if length == u32::MAX {
            return Ok(Value::Null);
        }
        let bytes = self.bytes(length as usize)?;
        let value = Value::read(data_type, bytes);
        value.ok_or(NoBlockRows("a value does not have its type's width"))
    }
}

const CUT: NoBlockRows = NoBlockRows("they end too early");

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

    fn sample() -> Vec<u8> {
        let place = Place {
            block: 7 << 32 | 9,
            uid: 1,
            first: -5,
            last: 5,
        };
        let columns = [
            ("ts", DataType::Timestamp),
            ("v", DataType::Varchar),
            ("d", DataType::Decimal64),
        ];
        let mut writer = place.head("db", "t 1").unwrap();
        writer.columns(&columns).unwrap();
        for (key, text) in [(-5, Value::Bytes(b"a\0b")), (4, Value::Null)] {
            for ((_, data_type), value) in
                columns
                    .iter()
                    .zip([Value::Int(key), text, Value::Bytes(b"1.50")])
            {
                push(&mut writer.bytes, *data_type, value);
            }
            writer.count += 1;
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let sample = sample();
        let found = BlockRows::decode(&sample).unwrap();
        assert_eq!((found.block, found.first, found.last), (7 << 32 | 9, -5, 5));
        assert_eq!(
            (found.database.as_str(), found.table.as_deref()),
            ("db", Some("t 1"))
        );
        assert_eq!(found.columns.len(), 3);
        let bytes = |text: &[u8]| OwnedValue::Bytes(text.to_vec());
        assert_eq!(
            found.rows().collect::<Result<Vec<_>, _>>().unwrap(),
            [
                [OwnedValue::Int(-5), bytes(b"a\0b"), bytes(b"1.50")],
                [OwnedValue::Int(4), OwnedValue::Null, bytes(b"1.50")],
            ]
        );
        let place = Place {
            block: 1,
            uid: 1,
            first: 0,
            last: 1,
        };
        let mut gone = place.head("db", "").unwrap();
        gone.columns(&[]).unwrap();
        let gone = gone.finish().unwrap();
        let gone = BlockRows::decode(&gone).unwrap();
        assert_eq!((gone.count(), gone.table), (0, None));
    }

    #[test]
    fn a_cut_a_flipped_byte_and_a_lie_about_a_length_are_refused() {
        let good = sample();
        for at in 0..good.len() {
            assert!(BlockRows::decode(&good[..at]).is_err(), "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(BlockRows::decode(&bad).is_err(), "byte {at}");
            // With a checksum that fits, it is another block or none, and never a panic.
            let end = bad.len() - 4;
            let checksum = crc32c::crc32c(&bad[..end]);
            bad[end..].copy_from_slice(&checksum.to_le_bytes());
            let _ = BlockRows::decode(&bad);
        }
    }
}
