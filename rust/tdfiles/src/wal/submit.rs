//! SUBMIT (513): rows, by table.
//!
//! After the 8 opaque bytes: i64 big-endian 1 (the request's version), then a struct {uvarint tables; per
//! table a struct {varint flags; [creation]; i64 suid; i64 uid; varint schema version; rows; i64 ctime; …}}.
//! (tEncodeSSubmitTbData and tEncodeRow of server 3.3.7; the same in 3.3.1 but for blobs.)

use super::{CreatedTable, meta};
use crate::{FormatError, Unreadable, cursor::Cursor, types};
use model::{Key, KeySpan, PkText, PkValue, SchemaVersion, Suid, TableId, Uid};
use std::ops::Range;

const REQUEST_VERSION: i64 = 1;
const AUTO_CREATE: i64 = 1;
const COLUMN_FORMAT: i64 = 2;

/// The rows that one request wrote to one table.
#[derive(Debug)]
pub struct SubmitTable<'a> {
    /// The table.
    pub table: TableId,
    /// Set when the request also asks for the table's creation; if it exists already, nothing is created.
    pub created: Option<CreatedTable<'a>>,
    /// For which version of the table's columns the rows were made.
    pub schema: SchemaVersion,
    /// The rows. Their keys are known to be well-formed.
    pub rows: Rows<'a>,
    /// Where all this stands in the bytes that were parsed, which are a message's body: so it can be read again by itself,
    /// with [`Self::parse`].
    pub place: Range<usize>,
}

impl<'a> SubmitTable<'a> {
    /// Parses the part of a message that [`Self::place`] names; it stands at `offset` of its file.
    pub fn parse(bytes: &'a [u8], offset: u64) -> Result<Self, FormatError> {
        decode_table(Cursor::new("submit message", bytes, offset), offset)
    }
}

/// Checked rows of one table in one request, taken apart on demand.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub(super) layout: Layout<'a>,
    count: usize,
    span: Option<KeySpan>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Layout<'a> {
    /// Rows one behind the other.
    ByRow { rows: &'a [u8], offset: u64 },
    /// The timestamp column, and the primary key column where there is one.
    ByColumn {
        keys: &'a [u8],
        pk: Option<PkColumn<'a>>,
        /// What follows the timestamp column.
        rest: Columns<'a>,
    },
}

/// Columns that have not been looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    /// How many there are.
    pub(super) count: usize,
    /// Whether each ends with its flag.
    pub(super) with_flag: bool,
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKey {
    /// The timestamp.
    pub key: Key,
    /// The second half of a composite key.
    pub pk: Option<PkValue>,
}

impl<'a> Rows<'a> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The smallest span that holds every row; `None` without rows.
    pub fn span(&self) -> Option<KeySpan> {
        self.span
    }

    /// The keys of the rows, in the order they were written. Rows need not be sorted.
    pub fn keys(&self) -> Result<Vec<RowKey>, FormatError> {
        match self.layout {
            Layout::ByRow { rows, offset } => {
                let mut cursor = Cursor::new("row", rows, offset);
                (0..self.count)
                    .map(|_| {
                        let row = Row::parse(&mut cursor)?;
                        Ok(RowKey {
                            key: row.key,
                            pk: row.primary_key()?,
                        })
                    })
                    .collect()
            }
            Layout::ByColumn { keys, pk, .. } => {
                let keys = keys
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|b| Key(i64::from_le_bytes(*b)));
                match pk {
                    None => Ok(keys.map(|key| RowKey { key, pk: None }).collect()),
                    Some(pk) => keys
                        .enumerate()
                        .map(|(i, key)| {
                            Ok(RowKey {
                                key,
                                pk: Some(pk.value(i)?),
                            })
                        })
                        .collect(),
                }
            }
        }
    }

    /// Calls `each` with the timestamp of every row. Cheaper than [`Self::keys`] where a table has no
    /// composite key; see [`Self::has_composite_keys`].
    pub fn for_each_key(&self, mut each: impl FnMut(Key)) {
        match self.layout {
            Layout::ByRow { rows, .. } => {
                let mut rest = rows;
                // Checked when the rows were decoded: every length leads to the next row.
                while let Some((head, _)) = rest.split_first_chunk::<ROW_HEADER>() {
                    let (len, key) = row_length_and_key(head);
                    each(key);
                    rest = rest.get(len..).unwrap_or_default();
                }
            }
            Layout::ByColumn { keys, .. } => {
                keys.as_chunks::<8>()
                    .0
                    .iter()
                    .for_each(|b| each(Key(i64::from_le_bytes(*b))));
            }
        }
    }

    /// Whether the first row has a composite primary key; all rows of a table agree.
    pub fn has_composite_keys(&self) -> bool {
        match self.layout {
            Layout::ByRow { rows, .. } => rows.get(1).is_some_and(|count| *count > 0),
            Layout::ByColumn { pk, .. } => pk.is_some(),
        }
    }
}

/// `base` is where the message's body begins in its file.
pub(super) fn decode(
    mut cursor: Cursor<'_>,
    base: u64,
) -> Result<Vec<SubmitTable<'_>>, FormatError> {
    let start = cursor.offset();
    let version = cursor.i64_be()?;
    if version != REQUEST_VERSION {
        let why = Unreadable::MessageLayout(version);
        return Err(FormatError::unreadable("submit message", start, why));
    }
    let mut body = cursor.structure()?;
    let count = usize::try_from(body.uvarint()?).unwrap_or(usize::MAX);
    let mut tables = Vec::with_capacity(body.plausible(count, 4 + 16));
    for _ in 0..count {
        tables.push(decode_table(body.structure()?, base)?);
    }
    Ok(tables)
}

fn decode_table(mut cursor: Cursor<'_>, base: u64) -> Result<SubmitTable<'_>, FormatError> {
    let start = (cursor.offset() - base) as usize;
    let place = start..start + cursor.remaining();
    let flags = cursor.varint()?;
    let created = if flags & AUTO_CREATE != 0 {
        Some(meta::created_table(&mut cursor)?)
    } else {
        None
    };
    let table = TableId {
        suid: Suid(cursor.i64()?),
        uid: Uid(cursor.i64()?),
    };
    let schema = cursor.varint()?;
    let schema = i32::try_from(schema)
        .map(SchemaVersion)
        .map_err(|_| cursor.corrupt(format!("{schema} is no version of columns")))?;
    let format_version = flags >> 8 & 0xff;
    let rows = if flags & COLUMN_FORMAT != 0 {
        by_column(&mut cursor, format_version)?
    } else {
        by_row(&mut cursor)?
    };
    Ok(SubmitTable {
        table,
        created,
        schema,
        rows,
        place,
    })
}

/// A row begins: u8 flag, u8 count of primary key columns, u16 schema version, u32 length of the whole row,
/// i64 timestamp.
const ROW_HEADER: usize = 16;

#[inline]
fn row_length_and_key(head: &[u8; ROW_HEADER]) -> (usize, Key) {
    let [_, _, _, _, l0, l1, l2, l3, t0, t1, t2, t3, t4, t5, t6, t7] = *head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    (
        len as usize,
        Key(i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
    )
}

fn by_row<'a>(cursor: &mut Cursor<'a>) -> Result<Rows<'a>, FormatError> {
    let count = usize::try_from(cursor.uvarint()?)
        .ok()
        .filter(|count| *count <= cursor.remaining() / ROW_HEADER)
        .ok_or_else(|| cursor.corrupt("more rows than the message has room for"))?;
    let offset = cursor.offset();
    let all = cursor.rest();
    let mut rest = all;
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    let mut composite = 0;
    for _ in 0..count {
        let next = rest.first_chunk::<ROW_HEADER>().and_then(|head| {
            let (len, key) = row_length_and_key(head);
            first = first.min(key.0);
            last = last.max(key.0);
            composite += usize::from(head[1] != 0);
            if len < ROW_HEADER {
                None
            } else {
                rest.get(len..)
            }
        });
        rest = next.ok_or_else(|| {
            let at = offset + (all.len() - rest.len()) as u64;
            let detail = "a row's length leads out of the message";
            FormatError::corrupt("submit message", at, detail)
        })?;
    }
    let rows = cursor.take(all.len() - rest.len())?;
    let span = (count > 0).then_some(KeySpan {
        first: Key(first),
        last: Key(last),
    });
    let rows = Rows {
        layout: Layout::ByRow { rows, offset },
        count,
        span,
    };
    if composite != 0 && composite != count {
        return Err(cursor.corrupt("only some of the rows have composite keys"));
    }
    if rows.has_composite_keys() {
        rows.keys()?;
    }
    Ok(rows)
}

#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) flag: u8,
    pub(super) pk_columns: u8,
    /// The lower half of the version of the columns.
    pub(super) schema: u16,
    pub(super) key: Key,
    pub(super) data: Cursor<'a>,
}

impl<'a> Row<'a> {
    pub(super) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, FormatError> {
        let offset = cursor.offset();
        let head = cursor.array::<ROW_HEADER>()?;
        let (len, key) = row_length_and_key(&head);
        let data_len = len
            .checked_sub(ROW_HEADER)
            .ok_or_else(|| cursor.corrupt("a row is too short"))?;
        let data = Cursor::new("row", cursor.take(data_len)?, offset + ROW_HEADER as u64);
        Ok(Self {
            flag: head[0],
            pk_columns: head[1],
            schema: u16::from_le_bytes([head[2], head[3]]),
            key,
            data,
        })
    }

    /// The data of a row with a composite key begins with {i8 type, uvarint offset} per key column; the offset
    /// counts from the end of these. A row in key-value form (flag's upper half set) has the column's id, a
    /// varint, before the value.
    pub(super) fn primary_key(mut self) -> Result<Option<PkValue>, FormatError> {
        if self.pk_columns == 0 {
            return Ok(None);
        }
        let data_type = self.data.u8()?;
        let value_at = self.data.uvarint()?;
        if self.pk_columns > 1 {
            let why = Unreadable::PrimaryKeyType(data_type);
            return Err(FormatError::unreadable("row", self.data.offset(), why));
        }
        let value_at = usize::try_from(value_at).unwrap_or(usize::MAX);
        self.data.take(value_at)?;
        if self.flag >> 4 != 0 {
            self.data.varint()?;
        }
        let value = match data_type {
            types::VARCHAR => {
                let len = usize::try_from(self.data.uvarint()?).unwrap_or(usize::MAX);
                PkValue::Text(PkText::new(self.data.take(len)?))
            }
            fixed => fixed_value(&mut self.data, fixed)?,
        };
        Ok(Some(value))
    }
}

fn fixed_value(cursor: &mut Cursor<'_>, data_type: u8) -> Result<PkValue, FormatError> {
    Ok(match data_type {
        types::INT => PkValue::Signed(cursor.i32()?.into()),
        types::BIGINT => PkValue::Signed(cursor.i64()?),
        types::UINT => PkValue::Unsigned(cursor.u32()?.into()),
        types::UBIGINT => PkValue::Unsigned(cursor.i64()? as u64),
        other => {
            let why = Unreadable::PrimaryKeyType(other);
            return Err(FormatError::unreadable("row", cursor.offset(), why));
        }
    })
}

/// The primary key column of a submit in column format.
#[derive(Debug, Clone, Copy)]
pub(super) struct PkColumn<'a> {
    data_type: u8,
    /// Start of each value in `values`, for text only.
    offsets: &'a [u8],
    values: &'a [u8],
    offset: u64,
}

impl PkColumn<'_> {
    pub(super) fn value(&self, i: usize) -> Result<PkValue, FormatError> {
        if self.data_type == types::VARCHAR {
            let (starts, _) = self.offsets.as_chunks::<4>();
            let start = |i: usize| starts.get(i).map(|b| u32::from_le_bytes(*b) as usize);
            let end = start(i + 1).unwrap_or(self.values.len());
            return start(i)
                .and_then(|start| self.values.get(start..end))
                .map(|text| PkValue::Text(PkText::new(text)))
                .ok_or_else(|| {
                    FormatError::corrupt(
                        "submit message",
                        self.offset,
                        "key offsets lead out of it",
                    )
                });
        }
        let width = if matches!(self.data_type, types::INT | types::UINT) {
            4
        } else {
            8
        };
        let mut cursor = Cursor::new("submit message", self.values, self.offset);
        cursor.take(i * width)?;
        fixed_value(&mut cursor, self.data_type)
    }
}

/// The value flag of a column: bit 0 has none, bit 1 has NULL, bit 2 has values.
const HAS_VALUE: u8 = 4;
/// A column's flag, written from format version 1 on: part of the primary key.
const IS_KEY: u8 = 4;

/// Column format: uvarint columns; each varint id, u8 type, varint values, u8 value flag, then for columns
/// without NULLs [offsets, varint size] and values, and from format version 1 on u8 column flag. The first
/// column is the timestamp, the second may be part of the key. (tEncodeColDataVersion1.)
fn by_column<'a>(cursor: &mut Cursor<'a>, format_version: i64) -> Result<Rows<'a>, FormatError> {
    let columns = cursor.uvarint()?;
    let _id = cursor.varint()?;
    let data_type = cursor.u8()?;
    let count = cursor.length()?;
    let value_flag = cursor.u8()?;
    if data_type != types::TIMESTAMP || value_flag != HAS_VALUE {
        return Err(cursor.corrupt(format!(
            "the first column has type {data_type} and value flag {value_flag}, not a timestamp's"
        )));
    }
    let size = count
        .checked_mul(8)
        .ok_or_else(|| cursor.corrupt("too many rows"))?;
    let keys = cursor.take(size)?;
    if format_version >= 1 {
        cursor.u8()?;
    }
    let rest = Columns {
        count: usize::try_from(columns.saturating_sub(1)).unwrap_or(usize::MAX),
        with_flag: format_version >= 1,
        bytes: cursor.rest(),
        offset: cursor.offset(),
    };
    let pk = if columns > 1 && format_version >= 1 {
        pk_column(cursor, count)?
    } else {
        None
    };
    let span = keys
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| KeySpan::at(Key(i64::from_le_bytes(*b))));
    let rows = Rows {
        layout: Layout::ByColumn { keys, pk, rest },
        count,
        span: span.reduce(KeySpan::hull),
    };
    if pk.is_some() {
        rows.keys()?;
    }
    Ok(rows)
}

/// The second column, if it is part of the key. A column with NULLs can't be.
fn pk_column<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
) -> Result<Option<PkColumn<'a>>, FormatError> {
    let offset = cursor.offset();
    let _id = cursor.varint()?;
    let data_type = cursor.u8()?;
    let values = cursor.length()?;
    let value_flag = cursor.u8()?;
    if value_flag != HAS_VALUE || values != count {
        return Ok(None);
    }
    let (offsets, size) = match data_type {
        types::INT | types::UINT => (&[][..], count.checked_mul(4)),
        types::BIGINT | types::UBIGINT => (&[][..], count.checked_mul(8)),
        types::VARCHAR => {
            let offsets = cursor.take(count.saturating_mul(4))?;
            (offsets, Some(cursor.length()?))
        }
        _ => return Ok(None), // no other type can be part of a key
    };
    let size = size.ok_or_else(|| cursor.corrupt("too many rows"))?;
    let values = cursor.take(size)?;
    let is_key = cursor.u8()? & IS_KEY != 0;
    Ok(is_key.then_some(PkColumn {
        data_type,
        offsets,
        values,
        offset,
    }))
}
