//! The rows of a block: read from the server for whoever takes them, and read back from archives.
//!
//! Archives hold them as the data files of links. Archives of earlier versions, and `read_data_block` of the C API, hold
//! them in a binary form, which is only read here:
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

use crate::{
    checkpoint::Checkpoint,
    data_file::{FileReader, OwnedValue},
    plan::Ordinals,
    window::WindowWidth,
};
use bitmap::BlockId;
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
    /// Whether no other block can be read either: the server does not answer, or may be another one.
    pub fn concerns_everything(&self) -> bool {
        match self {
            Self::OtherServer { .. } => true,
            Self::Sql(error) => error.is_disconnected(),
            _ => false,
        }
    }
}

/// Why rows were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The table and the window whose rows a block stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsOf {
    /// The block.
    pub block: u64,
    /// The first key of the window.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// The database.
    pub database: String,
    /// The table; `None` if it was dropped.
    pub table: Option<String>,
    /// Names and types of its columns, the key first.
    pub columns: Vec<(String, DataType)>,
}

/// Takes the rows of a block as they come.
pub trait RowSink {
    /// Whose rows follow.
    ///
    /// # Errors
    /// `Refused`: they are not taken.
    fn begin(&mut self, of: &RowsOf) -> Result<(), Refused>;

    /// The next row, ascending by key.
    ///
    /// # Errors
    /// `Refused`: it was not taken.
    fn row(&mut self, values: &[Value<'_>]) -> Result<(), Refused>;
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
const MAGIC: &[u8; 8] = b"IBROWS2\0";

/// The rows of `block` as they are now.
pub fn read(
    block: u64,
    position: &Numbering,
    connection: &Connection,
    sink: &mut dyn RowSink,
) -> Result<(), BlockRowsError> {
    let place = Place::of(block, position)?;
    let name = table_name(connection, &position.database, place.uid)?;
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
    let followed: HashSet<i64> = position.ordinals.uids().iter().map(|uid| uid.0).collect();
    let mut rows = connection.query(&format!(
        "SELECT uid FROM information_schema.ins_tables WHERE db_name = {}",
        sql::text(&position.database)
    ))?;
    while let Some(row) = rows.next()? {
        if row
            .get(0)
            .as_i64()
            .is_some_and(|uid| followed.contains(&uid))
        {
            return Ok(true);
        }
    }
    Ok(false)
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
        let query = format!(
            "SELECT * FROM {} WHERE _c0 >= {} AND _c0 <= {} ORDER BY _c0",
            sql::table(database, &table),
            self.first,
            self.last
        );
        let mut rows = connection.query(&query)?;
        let fields = rows.fields().iter();
        let columns = fields.map(|field| (field.name.to_string(), field.data_type));
        let columns: Vec<_> = columns.collect();
        let width = columns.len();
        let of = self.rows_of(database, Some(table), columns);
        sink.begin(&of).map_err(refused)?;
        while let Some(row) = rows.next()? {
            let values: Vec<Value<'_>> = (0..width).map(|column| row.get(column)).collect();
            sink.row(&values).map_err(refused)?;
        }
        Ok(())
    }
}

/// The rows of a block, or of a part of it, in a file as links have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsFile {
    /// Whose rows, in which window.
    pub of: RowsOf,
    /// How many there are.
    pub count: u64,
    /// The file; empty if the table was dropped.
    pub bytes: Vec<u8>,
}

impl RowsFile {
    /// The rows, ready to be read.
    pub fn rows(&self) -> Result<BlockRows<'_>, NoBlockRows> {
        let of = &self.of;
        if of.columns.is_empty() != of.table.is_none() || of.table.is_none() && self.count > 0 {
            return Err(NoBlockRows("there are rows without columns".into()));
        }
        Ok(BlockRows {
            block: of.block,
            first: of.first,
            last: of.last,
            database: of.database.clone(),
            table: of.table.clone(),
            columns: of.columns.clone(),
            rows: Encoded::File(&self.bytes),
            count: self.count,
        })
    }
}

/// Where rows are read from.
#[derive(Debug, Clone)]
enum Encoded<'a> {
    Binary(Reader<'a>),
    File(&'a [u8]),
}

/// A block's rows, ready to be read.
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
    rows: Encoded<'a>,
    count: u64,
}

/// No table has so many columns.
const MOST_COLUMNS: u32 = 1 << 16;

/// Bytes that are not the rows of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these are not the rows of a block: {0}")]
pub struct NoBlockRows(Cow<'static, str>);

impl From<&'static str> for NoBlockRows {
    fn from(problem: &'static str) -> Self {
        Self(problem.into())
    }
}

impl From<String> for NoBlockRows {
    fn from(problem: String) -> Self {
        Self(problem.into())
    }
}

/// The rows of a block, one after the other.
type Rows<'a> = Box<dyn Iterator<Item = Result<Vec<OwnedValue>, NoBlockRows>> + 'a>;

impl<'a> BlockRows<'a> {
    /// How many rows there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The rows, ascending by key. One at a time: in memory, a NULL takes many times what it takes in a file.
    pub fn rows(&self) -> Rows<'_> {
        match &self.rows {
            Encoded::Binary(reader) => {
                let mut reader = reader.clone();
                Box::new((0..self.count).map(move |_| {
                    let types = self.columns.iter().map(|(_, data_type)| *data_type);
                    types
                        .map(|data_type| reader.value(data_type).map(OwnedValue::from))
                        .collect()
                }))
            }
            Encoded::File(_) if self.table.is_none() => Box::new(std::iter::empty()),
            Encoded::File(bytes) => self.rows_of_file(bytes),
        }
    }

    fn rows_of_file<'f>(&'f self, bytes: &'f [u8]) -> Rows<'f> {
        let types = self.columns.iter().map(|(_, data_type)| *data_type);
        let name = format!("the rows of block {}", self.block);
        let reader = FileReader::over(bytes, Path::new(&name), types.collect(), 1);
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(error) => return Box::new(std::iter::once(Err(wrong(error)))),
        };
        let (mut left, mut ended) = (self.count, false);
        Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let next = reader.next().map_err(wrong);
            ended = !matches!(next, Ok(Some(_)));
            match next {
                Ok(Some(_)) if left == 0 => {
                    ended = true;
                    Some(Err("there are more rows than its manifest says".into()))
                }
                Ok(Some((_, values))) => {
                    left -= 1;
                    Some(Ok(values))
                }
                Ok(None) if left > 0 => {
                    Some(Err("there are less rows than its manifest says".into()))
                }
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            }
        }))
    }

    /// Reads the binary form, and checks all of it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NoBlockRows> {
        let whole = bytes.split_last_chunk::<4>();
        let (body, checksum) = whole.ok_or(NoBlockRows::from("there are too few bytes"))?;
        let body = body.strip_prefix(MAGIC.as_slice());
        let body = body.ok_or(NoBlockRows::from("they do not begin with IBROWS2"))?;
        let covered = bytes.get(..bytes.len() - 4).unwrap_or_default();
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return Err(NoBlockRows::from("they do not fit their checksum"));
        }
        let mut reader = Reader(body);
        let (block, first, last) = (reader.u64()?, reader.u64()? as i64, reader.u64()? as i64);
        let database = reader.name()?;
        let table = Some(reader.name()?).filter(|name| !name.is_empty());
        let count = reader.u32()?;
        if count > MOST_COLUMNS {
            return Err(NoBlockRows::from("there are more columns than a table has"));
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            let [code] = *reader.take::<1>()?;
            let data_type = DataType::from_code(code as i8);
            let data_type = data_type.ok_or(NoBlockRows::from("a column has an unknown type"))?;
            columns.push((reader.name()?, data_type));
        }
        let count = reader.u64()?;
        if columns.is_empty() != table.is_none() || columns.is_empty() && count > 0 {
            return Err(NoBlockRows::from("there are rows without columns"));
        }
        let rows = Encoded::Binary(reader.clone());
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
            _ => Err(NoBlockRows::from("something follows the last row")),
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
            .map_err(|_| NoBlockRows::from("a name is not UTF-8"))?
            .to_owned())
    }

    fn value(&mut self, data_type: DataType) -> Result<Value<'a>, NoBlockRows> {
        let length = self.u32()?;
        if length == u32::MAX {
            return Ok(Value::Null);
        }
        let bytes = self.bytes(length as usize)?;
        let value = Value::read(data_type, bytes);
        value.ok_or(NoBlockRows::from("a value does not have its type's width"))
    }
}

fn wrong(error: impl std::fmt::Display) -> NoBlockRows {
    NoBlockRows(error.to_string().into())
}

const CUT: NoBlockRows = NoBlockRows(Cow::Borrowed("they end too early"));

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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &mut Vec<u8>, name: &str) {
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    fn head(block: u64, first: i64, last: i64, table: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(block.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
        name(&mut bytes, "db");
        name(&mut bytes, table);
        bytes
    }

    fn sample() -> Vec<u8> {
        let mut bytes = head(7 << 32 | 9, -5, 5, "t 1");
        bytes.extend(3_u32.to_le_bytes());
        for (column, data_type) in [
            ("ts", DataType::Timestamp),
            ("v", DataType::Varchar),
            ("d", DataType::Decimal64),
        ] {
            bytes.push(data_type as i8 as u8);
            name(&mut bytes, column);
        }
        bytes.extend(2_u64.to_le_bytes());
        for (key, text) in [(-5_i64, Some(b"a\0b")), (4, None)] {
            bytes.extend(8_u32.to_le_bytes());
            bytes.extend(key.to_le_bytes());
            bytes.extend(
                text.map_or(u32::MAX, |text| text.len() as u32)
                    .to_le_bytes(),
            );
            bytes.extend(text.into_iter().flatten());
            bytes.extend(4_u32.to_le_bytes());
            bytes.extend(b"1.50");
        }
        sealed(bytes)
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
        let mut gone = head(1, 0, 1, "");
        gone.extend([0; 4 + 8]);
        let gone = sealed(gone);
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
