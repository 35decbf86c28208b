//! The rows of a block, read back: from the data file that an archive has of them, or from the binary form that archives of
//! earlier versions have, and `read_data_block` of the C API gives.
//!
//! In the binary form all numbers are little-endian:
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

use crate::{avro::FileReader, sink::RowsOf};
use model::{DataType, OwnedValue, Value};
use std::borrow::Cow;

/// What the binary form begins with.
const MAGIC: &[u8; 8] = b"IBROWS2\0";

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
        let reader = FileReader::over(bytes, &name, types.collect(), 1);
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
