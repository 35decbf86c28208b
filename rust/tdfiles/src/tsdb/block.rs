//! The key part of a row block: which rows it holds and the version that wrote each.
//!
//! A block is a header, the key part and the [column part](super::columns). Varints are zig-zag
//! but for the format version. Header: u32 0xF00AFA0F, format version (0..=2), i64 suid, i64 uid, varints
//! szUid, szVer, szKey, szBlkCol, nRow, then the algorithm (u32 in format 2, u8 before) and, from format 1
//! on, the number of primary key columns beyond the timestamp with a descriptor each. Key part: uid column
//! (only where the header's uid is 0), version column, timestamp column, primary key columns.
//! (tsdbUtil.c of server 3.3.7, checked on recorded files.)

use super::PagedFile;
use crate::{
    FormatError, ReadAt, Unreadable,
    codec::{self, Algorithm, Column, Place},
    cursor::Cursor,
    types,
};
use model::{
    Cells, ColumnId, DataType, Key, PkText, PkValue, Suid, TableId, TooLong, Uid, Version,
};
use std::cmp::Ordering;

pub(super) const WHAT: &str = "row block";
const DELIMITER: u32 = 0xF00A_FA0F;
const NEWEST_FORMAT: u64 = 2;
const MAX_PK_COLUMNS: u8 = 2;
/// The value flag of a column without NULLs; primary keys never have any.
const HAS_VALUE: u8 = 4;

/// The rows of one block, in the order they are stored: by table, key and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRows {
    /// The super table, 0 for a normal table.
    pub suid: Suid,
    uids: Uids,
    /// The rows' keys.
    pub keys: Vec<Key>,
    /// The version that wrote each row.
    pub versions: Vec<Version>,
    /// The second half of each key; empty where the table has no composite key.
    pub pks: Vec<PkValue>,
    pk_column: Option<(ColumnId, DataType)>,
}

/// A row's table and key, in the order in which the server's files keep rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace<'a> {
    /// The table.
    pub table: TableId,
    /// The timestamp.
    pub key: Key,
    /// The second half of a composite key.
    pub pk: Option<&'a PkValue>,
}

/// How the rows of a block are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Each row comes after the one before.
    Strict,
    /// Some rows have the key of the one before: other versions of it.
    Repeating,
    /// Not at all, which is damage.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Uids {
    All(Uid),
    Each(Vec<i64>),
}

impl KeyRows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The table of row `i`.
    pub fn table(&self, i: usize) -> TableId {
        let uid = match &self.uids {
            Uids::All(uid) => *uid,
            Uids::Each(uids) => Uid(uids[i]),
        };
        TableId {
            suid: self.suid,
            uid,
        }
    }

    /// Rows of one table that do not come from a block; `pks` is empty where the table has no composite key.
    pub(crate) fn of_table(
        table: TableId,
        keys: Vec<Key>,
        versions: Vec<Version>,
        pks: Vec<PkValue>,
    ) -> Self {
        Self {
            suid: table.suid,
            uids: Uids::All(table.uid),
            keys,
            versions,
            pks,
            pk_column: None,
        }
    }

    /// Reads the header and key part of the block at `offset`, together `len` bytes.
    pub(super) fn read<S: ReadAt>(
        file: &PagedFile<S>,
        offset: u64,
        len: u64,
        max_rows: usize,
    ) -> Result<Self, FormatError> {
        Self::parse(&file.read(WHAT, offset, len)?, offset, max_rows)
    }

    /// Parses a header and key part that stand at `base`.
    pub fn parse(bytes: &[u8], base: u64, max_rows: usize) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes, base);
        let (rows, _) = Self::parse_front(&mut cursor, max_rows)?;
        if cursor.remaining() != 0 {
            return Err(cursor.corrupt(format!("{} bytes follow the key part", cursor.remaining())));
        }
        Ok(rows)
    }

    /// Parses a header and key part, and tells what the header says about what follows.
    pub(super) fn parse_front(
        cursor: &mut Cursor<'_>,
        max_rows: usize,
    ) -> Result<(Self, ColumnPart), FormatError> {
        let base = cursor.offset();
        let header = Header::parse(cursor, max_rows)?;
        let n = header.rows;
        let mut column = |size: usize, kind| {
            let place = Place {
                what: WHAT,
                offset: cursor.offset(),
            };
            codec::decode(cursor.take(size)?, n, header.algorithm, kind, place)
        };
        let uids = match header.uid_size {
            0 => Uids::All(header.uid),
            size => Uids::Each(column(size, Column::Integer)?),
        };
        let versions = column(header.version_size, Column::Integer)?;
        let keys = column(header.key_size, Column::Timestamp)?;
        let pks = match header.pk_columns.as_slice() {
            [] => Vec::new(),
            [pk] => pk.decode(cursor, n)?,
            [first, ..] => {
                let why = Unreadable::PrimaryKeyType(first.data_type);
                return Err(FormatError::unreadable(WHAT, base, why));
            }
        };
        let pk_column = header.pk_columns.first().and_then(|pk| {
            let data_type = DataType::from_code(pk.data_type as i8)?;
            Some((ColumnId(pk.id), data_type))
        });
        let rows = Self {
            suid: header.suid,
            uids,
            keys: keys.into_iter().map(Key).collect(),
            versions: versions.into_iter().map(Version).collect(),
            pks,
            pk_column,
        };
        let rest = ColumnPart {
            format: header.format,
            algorithm: header.algorithm,
            index_size: header.index_size,
        };
        Ok((rows, rest))
    }

    /// Where row `i` stands in the order of table and key.
    pub fn place(&self, i: usize) -> Option<RowPlace<'_>> {
        Some(RowPlace {
            key: *self.keys.get(i)?,
            table: self.table(i),
            pk: self.pks.get(i),
        })
    }

    /// Whether the rows stand in their order.
    pub fn order(&self) -> RowOrder {
        if let (Uids::All(_), []) = (&self.uids, self.pks.as_slice()) {
            return match self.keys.is_sorted_by(|a, b| a < b) {
                true => RowOrder::Strict,
                false if self.keys.is_sorted() => RowOrder::Repeating,
                false => RowOrder::None,
            };
        }
        let mut order = RowOrder::Strict;
        for i in 1..self.len() {
            match self.place(i - 1).cmp(&self.place(i)) {
                Ordering::Less => {}
                Ordering::Equal => order = RowOrder::Repeating,
                Ordering::Greater => return RowOrder::None,
            }
        }
        order
    }

    /// The table of all rows, where the block belongs to one.
    pub fn only_table(&self) -> Option<TableId> {
        match &self.uids {
            Uids::All(_) if !self.is_empty() => Some(self.table(0)),
            _ => None,
        }
    }

    /// The second column of a composite key as values are kept; `None` where there is none.
    pub(super) fn pk_cells(&self) -> Result<Option<Cells>, TooLong> {
        let cells = |(column, data_type)| Cells::of_keys(column, data_type, &self.pks);
        self.pk_column.map(cells).transpose()
    }

    /// Holds the block against the index entry that led to it.
    pub(super) fn check_belongs(
        &self,
        table: TableId,
        rows: u64,
        offset: u64,
    ) -> Result<(), FormatError> {
        let uid_fits = match &self.uids {
            Uids::All(uid) => *uid == table.uid,
            Uids::Each(_) => true,
        };
        if self.suid != table.suid || !uid_fits || self.len() as u64 != rows {
            let detail = format!(
                "the block holds {} rows of super table {}, its index entry says {rows} of {}",
                self.len(),
                self.suid,
                table.suid
            );
            return Err(FormatError::corrupt(WHAT, offset, detail));
        }
        Ok(())
    }
}

/// What a header says about the column part.
pub(super) struct ColumnPart {
    pub(super) format: u64,
    /// How columns are encoded that do not say so themselves.
    pub(super) algorithm: Algorithm,
    /// Bytes of the columns' descriptors.
    pub(super) index_size: usize,
}

struct Header {
    format: u64,
    index_size: usize,
    suid: Suid,
    uid: Uid,
    uid_size: usize,
    version_size: usize,
    key_size: usize,
    rows: usize,
    algorithm: Algorithm,
    pk_columns: Vec<PkColumn>,
}

impl Header {
    fn parse(cursor: &mut Cursor<'_>, max_rows: usize) -> Result<Self, FormatError> {
        let start = cursor.offset();
        let delimiter = cursor.u32()?;
        if delimiter != DELIMITER {
            let detail = format!("it begins with 0x{delimiter:08x}, not 0x{DELIMITER:08x}");
            return Err(FormatError::corrupt(WHAT, start, detail));
        }
        let format = cursor.uvarint()?;
        if format > NEWEST_FORMAT {
            let why = Unreadable::BlockFormat(format.try_into().unwrap_or(u32::MAX));
            return Err(FormatError::unreadable(WHAT, start, why));
        }
        let (suid, uid) = (Suid(cursor.i64()?), Uid(cursor.i64()?));
        let (uid_size, version_size, key_size) =
            (cursor.length()?, cursor.length()?, cursor.length()?);
        let index_size = cursor.length()?;
        let rows = cursor.length()?;
        if rows > max_rows {
            let why = Unreadable::TooManyRows {
                rows: rows as u64,
                limit: max_rows,
            };
            return Err(FormatError::unreadable(WHAT, start, why));
        }
        let word = if format < 2 {
            cursor.u8()?.into()
        } else {
            cursor.u32()?
        };
        let unreadable = |why| FormatError::unreadable(WHAT, start, why);
        let algorithm = Algorithm::from_word(word).map_err(unreadable)?;
        let pk_columns = if format == 0 { 0 } else { cursor.u8()? };
        if pk_columns > MAX_PK_COLUMNS {
            return Err(cursor.corrupt(format!("{pk_columns} primary key columns")));
        }
        let pk_columns = (0..pk_columns)
            .map(|_| PkColumn::parse(cursor, format, algorithm))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            format,
            index_size,
            suid,
            uid,
            uid_size,
            version_size,
            key_size,
            rows,
            algorithm,
            pk_columns,
        })
    }
}

/// Descriptor of a primary key column. SBlockCol: varint id, i8 type, i8 column flag, i8 value flag, varint
/// original size, then sizes of bitmap (if there are NULLs), offsets (if of variable length) and values, and
/// in format 2 the algorithm (0: the block's).
struct PkColumn {
    id: i16,
    data_type: u8,
    original_size: usize,
    offsets_size: usize,
    values_size: usize,
    algorithm: Algorithm,
}

impl PkColumn {
    fn parse(
        cursor: &mut Cursor<'_>,
        format: u64,
        default: Algorithm,
    ) -> Result<Self, FormatError> {
        let start = cursor.offset();
        let id = column_id(cursor)?;
        let data_type = cursor.u8()?;
        let _column_flag = cursor.u8()?;
        let value_flag = cursor.u8()?;
        if value_flag != HAS_VALUE {
            return Err(cursor.corrupt(format!("a primary key column has value flag {value_flag}")));
        }
        let original_size = cursor.length()?;
        let offsets_size = if data_type == types::VARCHAR {
            cursor.length()?
        } else {
            0
        };
        let values_size = cursor.length()?;
        let _offset = cursor.varint()?;
        let word = if format < 2 { 0 } else { cursor.u32()? };
        let algorithm = if word == 0 {
            default
        } else {
            Algorithm::from_word(word).map_err(|why| FormatError::unreadable(WHAT, start, why))?
        };
        Ok(Self {
            id,
            data_type,
            original_size,
            offsets_size,
            values_size,
            algorithm,
        })
    }

    fn decode(&self, cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<PkValue>, FormatError> {
        let start = cursor.offset();
        let mut integers = |size, column| {
            let place = Place {
                what: WHAT,
                offset: cursor.offset(),
            };
            codec::decode(cursor.take(size)?, n, self.algorithm, column, place)
        };
        let signed = |values: Vec<i64>| values.into_iter().map(PkValue::Signed).collect();
        let size = self.values_size;
        let values = match self.data_type {
            types::INT => signed(integers(size, Column::NarrowInteger)?),
            types::BIGINT => signed(integers(size, Column::Integer)?),
            types::UINT => integers(size, Column::NarrowInteger)?
                .into_iter()
                .map(|v| PkValue::Unsigned((v as u32).into()))
                .collect(),
            types::UBIGINT => integers(size, Column::Integer)?
                .into_iter()
                .map(|v| PkValue::Unsigned(v as u64))
                .collect(),
            types::VARCHAR => {
                let offsets = integers(self.offsets_size, Column::NarrowInteger)?;
                if self.original_size > MAX_TEXT * n {
                    return Err(
                        cursor.corrupt(format!("{} bytes of primary keys", self.original_size))
                    );
                }
                let place = Place {
                    what: WHAT,
                    offset: cursor.offset(),
                };
                let packed = cursor.take(self.values_size)?;
                // Nothing but empty texts: nothing was stored, not even a marker.
                let text = match self.original_size {
                    0 => packed.into(),
                    size => codec::unpack_text(packed, size, self.algorithm, place)?,
                };
                text_values(&text, &offsets).ok_or_else(|| {
                    FormatError::corrupt(WHAT, start, "primary key offsets are not ascending")
                })?
            }
            other => {
                let why = Unreadable::PrimaryKeyType(other);
                return Err(FormatError::unreadable(WHAT, start, why));
            }
        };
        Ok(values)
    }
}

/// A column's id, a varint.
pub(super) fn column_id(cursor: &mut Cursor<'_>) -> Result<i16, FormatError> {
    let id = cursor.varint()?;
    i16::try_from(id).map_err(|_| cursor.corrupt(format!("a column's id is {id}")))
}

/// The longest VARCHAR.
const MAX_TEXT: usize = 65_517;

/// Splits `text` at `offsets`, the start of each value.
fn text_values(text: &[u8], offsets: &[i64]) -> Option<Vec<PkValue>> {
    let ends = offsets.iter().skip(1).copied().chain([text.len() as i64]);
    offsets
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let range = usize::try_from(*start).ok()?..usize::try_from(end).ok()?;
            Some(PkValue::Text(PkText::new(text.get(range)?)))
        })
        .collect()
}
