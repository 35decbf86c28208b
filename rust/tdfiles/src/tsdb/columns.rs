//! The column part of a row block: the values that users wrote.
//!
//! It begins with a descriptor for each column that has a value or a NULL in the block (SBlockCol): varint id, u8 type,
//! u8 column flag, u8 value flag, varint size of the values; unless the value flag says that there are only NULLs, then
//! [varint size of the bitmap, if some rows have no value] [varint size of the offsets, for types of variable length]
//! [varint size of the values, if some rows have one] varint offset; in format 2 u32 algorithm (0: the block's). Then come
//! the columns, each as bitmap, offsets and values, at its offset from the first one.
//!
//! The value flag has a bit for each kind of cell that occurs: 1 not set, 2 NULL, 4 a value. With two kinds the bitmap
//! has a bit a row, set for the higher kind; with all three it has two bits a row, the kind's number from 0 on.
//! (tsdbUtil.c and tdataformat.c of server 3.3.7, checked on recorded files.)

use super::{
    PagedFile,
    block::{ColumnPart, KeyRows, WHAT, column_id},
};
use crate::{
    FormatError, ReadAt, Unreadable,
    codec::{self, Algorithm, Packed, Place},
    cursor::Cursor,
};
use model::{Bits, CellValues, Cells, ColumnId, DataType};

const UNSET: u8 = 1;
const NULL: u8 = 2;
const VALUE: u8 = 4;

/// The longest text, in bytes: 65 517 for most types, 16 bits in any case.
const MAX_TEXT: usize = 1 << 16;

/// All rows of one block with all their cells, in the order they are stored: by table, key and version.
#[derive(Debug, Clone, PartialEq)]
pub struct RowBlock {
    /// Which rows there are.
    pub rows: KeyRows,
    /// The columns beyond the timestamp, ascending by id; a column that no row has set is not here.
    pub columns: Vec<Cells>,
}

impl RowBlock {
    /// Reads the block at `offset`, `len` bytes of which the first `key_size` are its header and key part.
    pub(super) fn read<S: ReadAt>(
        file: &PagedFile<S>,
        offset: u64,
        key_size: u64,
        len: u64,
        max_rows: usize,
    ) -> Result<Self, FormatError> {
        let bytes = file.read(WHAT, offset, len)?;
        let (block, key_part) = Self::parse_parts(&bytes, offset, max_rows)?;
        match key_part == key_size {
            true => Ok(block),
            false => Err(FormatError::corrupt(
                WHAT,
                offset + key_part,
                format!(
                    "the key part ends after {key_part} bytes, its index entry says {key_size}"
                ),
            )),
        }
    }

    /// Parses a block that stands at `base`.
    ///
    /// # Errors
    /// The bytes are none, or in a form that is not known, with which the whole block can't be read.
    pub fn parse(bytes: &[u8], base: u64, max_rows: usize) -> Result<Self, FormatError> {
        Ok(Self::parse_parts(bytes, base, max_rows)?.0)
    }

    /// The block, and the bytes of its header and key part.
    fn parse_parts(bytes: &[u8], base: u64, max_rows: usize) -> Result<(Self, u64), FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes, base);
        let (rows, part) = KeyRows::parse_front(&mut cursor, max_rows)?;
        let key_part = cursor.offset() - base;
        let start = cursor.offset();
        let mut descriptors = Cursor::new(WHAT, cursor.take(part.index_size)?, start);
        let mut columns = Vec::new();
        let too_long = |_| FormatError::corrupt(WHAT, base, "its keys take more than 2 GiB");
        columns.extend(rows.pk_cells().map_err(too_long)?);
        let data = cursor;
        while descriptors.remaining() > 0 {
            let column = Descriptor::parse(&mut descriptors, &part)?;
            if columns
                .last()
                .is_some_and(|last: &Cells| last.column >= column.id)
            {
                return Err(descriptors.corrupt("columns are not ascending by their ids"));
            }
            columns.push(column.decode(data, rows.len())?);
        }
        Ok((Self { rows, columns }, key_part))
    }
}

struct Descriptor {
    id: ColumnId,
    data_type: DataType,
    value_flag: u8,
    original_size: usize,
    bitmap_size: usize,
    offsets_size: usize,
    values_size: usize,
    offset: usize,
    algorithm: Algorithm,
}

impl Descriptor {
    fn parse(cursor: &mut Cursor<'_>, part: &ColumnPart) -> Result<Self, FormatError> {
        let start = cursor.offset();
        let unreadable = |why| FormatError::unreadable(WHAT, start, why);
        let id = ColumnId(column_id(cursor)?);
        let code = cursor.u8()?;
        let data_type = DataType::from_code(code as i8)
            .filter(|data_type| !matches!(data_type, DataType::Blob | DataType::MediumBlob))
            .ok_or_else(|| unreadable(Unreadable::ColumnType(code)))?;
        let _column_flag = cursor.u8()?;
        let value_flag = cursor.u8()?;
        if !(NULL..=UNSET | NULL | VALUE).contains(&value_flag) {
            return Err(cursor.corrupt(format!("a column has value flag {value_flag}")));
        }
        let original_size = cursor.length()?;
        let mut size_if = |given: bool| if given { cursor.length() } else { Ok(0) };
        let stored = value_flag != NULL;
        let bitmap_size = size_if(stored && value_flag != VALUE)?;
        let offsets_size = size_if(stored && data_type.stored_width().is_none())?;
        let values_size = size_if(stored && value_flag & VALUE != 0)?;
        let offset = size_if(stored)?;
        let word = if part.format < 2 { 0 } else { cursor.u32()? };
        let algorithm = match word {
            0 => part.algorithm,
            word => Algorithm::from_word(word).map_err(unreadable)?,
        };
        Ok(Self {
            id,
            data_type,
            value_flag,
            original_size,
            bitmap_size,
            offsets_size,
            values_size,
            offset,
            algorithm,
        })
    }

    /// Decodes the column; `data` stands where the first one begins.
    fn decode(&self, mut data: Cursor<'_>, n: usize) -> Result<Cells, FormatError> {
        data.take(self.offset)?;
        let algorithm = self.algorithm;
        let mut piece = |size| {
            let place = Place {
                what: WHAT,
                offset: data.offset(),
            };
            Ok::<_, FormatError>(Packed {
                bytes: data.take(size)?,
                algorithm,
                place,
            })
        };
        let (valid, unset) = match self.value_flag {
            VALUE => (None, None),
            NULL => (Some(Bits::filled(false, n)), None),
            flag => states(flag, piece(self.bitmap_size)?, n)?,
        };
        let values = if self.value_flag & VALUE == 0 {
            CellValues::Absent
        } else if self.data_type.stored_width().is_some() {
            let bytes = codec::decode_values(piece(self.values_size)?, n, self.data_type)?;
            let width = bytes.len().checked_div(n).unwrap_or_default();
            CellValues::Fixed { width, bytes }
        } else {
            self.texts(piece(self.offsets_size)?, piece(self.values_size)?, n)?
        };
        Ok(Cells {
            column: self.id,
            data_type: self.data_type,
            valid,
            unset,
            values,
        })
    }

    fn texts(
        &self,
        offsets: Packed<'_>,
        values: Packed<'_>,
        n: usize,
    ) -> Result<CellValues, FormatError> {
        let place = values.place;
        let corrupt = |detail| FormatError::corrupt(WHAT, place.offset, detail);
        if self.original_size > MAX_TEXT.saturating_mul(n) {
            let detail = format!("{} bytes of text in {n} rows", self.original_size);
            return Err(FormatError::corrupt(WHAT, place.offset, detail));
        }
        let end = i32::try_from(self.original_size)
            .map_err(|_| corrupt("a column takes more than 2 GiB"))?;
        let offsets = codec::decode_starts(offsets, n)?;
        let offsets = offsets.as_chunks::<4>().0.iter();
        let starts: Vec<i32> = offsets
            .map(|start| i32::from_le_bytes(*start))
            .chain([end])
            .collect();
        if starts.first().is_some_and(|first| *first != 0) || !starts.is_sorted() {
            return Err(corrupt("offsets of texts are not ascending"));
        }
        let bytes = match self.original_size {
            // Nothing but empty texts: nothing was stored, not even a marker.
            0 => Vec::new(),
            size => codec::unpack_text(values.bytes, size, values.algorithm, place)?.into_owned(),
        };
        Ok(CellValues::Variable { starts, bytes })
    }
}

/// Which rows have a value, and which are not set.
fn states(
    value_flag: u8,
    bitmap: Packed<'_>,
    n: usize,
) -> Result<(Option<Bits>, Option<Bits>), FormatError> {
    let place = bitmap.place;
    let two_bits = value_flag == UNSET | NULL | VALUE;
    let bytes = codec::decode_bits(
        bitmap,
        if two_bits {
            n.div_ceil(4)
        } else {
            n.div_ceil(8)
        },
    )?;
    let bits = |bytes| {
        Bits::from_bytes(bytes, n)
            .ok_or_else(|| FormatError::corrupt(WHAT, place.offset, "a bitmap is too short"))
    };
    if two_bits {
        let (mut valid, mut unset) = (Bits::default(), Bits::default());
        for i in 0..n {
            let kind = bytes.get(i / 4).map_or(0, |byte| byte >> (2 * (i % 4)) & 3);
            if kind > 2 {
                return Err(FormatError::corrupt(
                    WHAT,
                    place.offset,
                    "a cell is of no known kind",
                ));
            }
            valid.push(kind == 2);
            unset.push(kind == 0);
        }
        return Ok((Some(valid), Some(unset)));
    }
    let higher = bits(bytes)?;
    Ok(match value_flag & VALUE == 0 {
        true => (Some(Bits::filled(false, n)), Some(higher.inverted())),
        false if value_flag & NULL == 0 => {
            let unset = higher.inverted();
            (Some(higher), Some(unset))
        }
        false => (Some(higher), None),
    })
}
