//! The key part of a row block: which rows it holds and the version that wrote each.
//!
//! A block is a header, the key part and the column part; only the first two are read. Varints are zig-zag
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
use model::{Key, PkText, PkValue, Suid, TableId, Uid, Version};

const WHAT: &str = "row block";
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
        let header = Header::parse(&mut cursor, max_rows)?;
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
            [pk] => pk.decode(&mut cursor, n)?,
            [first, ..] => {
                let why = Unreadable::PrimaryKeyType(first.data_type);
                return Err(FormatError::unreadable(WHAT, base, why));
            }
        };
        if cursor.remaining() != 0 {
            return Err(cursor.corrupt(format!("{} bytes follow the key part", cursor.remaining())));
        }
        Ok(Self {
            suid: header.suid,
            uids,
            keys: keys.into_iter().map(Key).collect(),
            versions: versions.into_iter().map(Version).collect(),
            pks,
        })
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

struct Header {
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
        let _column_index_size = cursor.length()?;
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
        let _column_id = cursor.varint()?;
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
