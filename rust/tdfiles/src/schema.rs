//! The columns or tags of a table, as the log and the catalogue store them.
//!
//! Schema: varint columns, varint version, then per column {i8 type, i8 flags (1 SMA, 2 index, 4 key, 0x80 DECIMAL whose
//! digits stand elsewhere), varint bytes, varint column id, string name}. (SSchemaWrapper in tmsg.h of server 3.3.7.)

use crate::{FormatError, Unreadable, cursor::Cursor};
use model::{
    ColumnId, DataType, SchemaVersion,
    catalogue::{Coding, ColumnSize, ColumnType},
};

/// A version of a table's columns, or of its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Which one it is: changes to columns count it up, and so do changes to tags, each for itself.
    pub version: SchemaVersion,
    /// In the order in which SQL lists them.
    pub columns: Vec<Column>,
}

/// A column or tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its id, by which rows and tag values refer to it.
    pub id: ColumnId,
    /// Its name.
    pub name: String,
    /// Its type with what it was declared with. The digits of a DECIMAL are 0 where only the schema is known, as the server
    /// keeps them beside it.
    pub column_type: ColumnType,
    /// The most bytes of a stored value, with the length in front of values of variable length.
    pub bytes: u32,
    /// What else it is.
    pub flags: ColumnFlags,
    /// Encoding, compression and level; `None` for tags, and where only the schema is known.
    pub coding: Option<Coding>,
}

/// What a column is, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnFlags(pub u8);

impl ColumnFlags {
    /// Blocks hold its minimum, maximum and sum.
    pub fn sma(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// It is a tag with an index.
    pub fn index(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// It is the second column of a composite key.
    pub fn key(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// It is a DECIMAL, and the digits of all columns follow somewhere behind the schema.
    fn has_digits(self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl Schema {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let count = cursor.length()?;
        let version = SchemaVersion(narrow(cursor)?);
        let mut columns = Vec::with_capacity(cursor.plausible(count, 5));
        for _ in 0..count {
            columns.push(Column::parse(cursor)?);
        }
        Ok(Self { version, columns })
    }

    /// Reads how the columns are encoded, which stands behind the schema: varint columns [varint version, per column {varint
    /// id, u32 word}].
    pub(crate) fn read_coding(&mut self, cursor: &mut Cursor<'_>) -> Result<(), FormatError> {
        let count = cursor.length()?;
        if count == 0 {
            return Ok(());
        }
        let _version = cursor.varint()?;
        for _ in 0..count {
            let id = ColumnId(narrow(cursor)?);
            let offset = cursor.offset();
            let coding = coding(cursor.u32()?, offset)?;
            if let Some(column) = self.columns.iter_mut().find(|column| column.id == id) {
                column.coding = Some(coding);
            }
        }
        Ok(())
    }

    /// Reads the digits of DECIMALs, which stand behind the coding if there are any: per column a varint, digits << 8 | scale,
    /// 0 for other types.
    pub(crate) fn read_digits(&mut self, cursor: &mut Cursor<'_>) -> Result<(), FormatError> {
        for column in &mut self.columns {
            let digits = cursor.varint()?;
            if let ColumnSize::Digits { precision, scale } = &mut column.column_type.size {
                *precision = (digits >> 8 & 0xff) as u8;
                *scale = (digits & 0xff) as u8;
            }
        }
        Ok(())
    }

    /// Whether the digits of DECIMALs stand behind the coding.
    pub(crate) fn has_digits(&self) -> bool {
        self.columns.iter().any(|column| column.flags.has_digits())
    }
}

impl Column {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let offset = cursor.offset();
        let number = cursor.i8()?;
        let data_type = DataType::from_code(number).ok_or_else(|| {
            FormatError::unreadable("column", offset, Unreadable::ColumnType(number as u8))
        })?;
        let flags = ColumnFlags(cursor.u8()?);
        let bytes: u32 = narrow(cursor)?;
        let id = ColumnId(narrow(cursor)?);
        let name = utf8(cursor)?;
        // A value of variable length has its length in front, in 2 bytes.
        let length = bytes.checked_sub(2);
        let length =
            || length.ok_or_else(|| cursor.corrupt(format!("a {data_type} of {bytes} bytes")));
        let size = match data_type {
            DataType::Varchar | DataType::Varbinary | DataType::Geometry => {
                ColumnSize::Length(length()?)
            }
            DataType::Nchar => ColumnSize::Length(length()? / 4),
            DataType::Decimal | DataType::Decimal64 => ColumnSize::Digits {
                precision: 0,
                scale: 0,
            },
            _ => ColumnSize::Fixed,
        };
        Ok(Self {
            id,
            name,
            column_type: ColumnType { data_type, size },
            bytes,
            flags,
            coding: None,
        })
    }
}

/// A varint of a type with fewer bits.
fn narrow<T: TryFrom<i64>>(cursor: &mut Cursor<'_>) -> Result<T, FormatError> {
    let value = cursor.varint()?;
    T::try_from(value).map_err(|_| cursor.corrupt(format!("{value} is out of range")))
}

/// A string that names something: it has to be told apart from every other, so nothing in it may be replaced.
fn utf8(cursor: &mut Cursor<'_>) -> Result<String, FormatError> {
    let bytes = cursor.string()?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(cursor.corrupt("a column's name is no UTF-8")),
    }
}

/// The server's words for how a column is encoded: encoder in the top byte, compressor in the two bytes below it, level in the
/// last one. (tcol.h)
fn coding(word: u32, offset: u64) -> Result<Coding, FormatError> {
    let unknown = || FormatError::unreadable("column's coding", offset, Unreadable::Codec(word));
    let encode = match word >> 24 {
        1 => "simple8b",
        2 => "delta-i",
        3 => "bit-packing",
        4 => "delta-d",
        0xff => "disabled",
        _ => return Err(unknown()),
    };
    let compress = match word >> 8 & 0xffff {
        1 => "lz4",
        2 => "zlib",
        3 => "zstd",
        4 => "tsz",
        5 => "xz",
        0xff => "disabled",
        _ => return Err(unknown()),
    };
    let level = match word & 0xff {
        1 => "low",
        2 => "medium",
        3 => "high",
        _ => return Err(unknown()),
    };
    Ok(Coding {
        encode: encode.to_owned(),
        compress: compress.to_owned(),
        level: level.to_owned(),
    })
}
