//! Rows column by column: what the server's files hold and links keep, without an object per row or cell.

use crate::{DataType, Key, PkValue, Suid, Uid, Version};
use std::fmt;

/// The id of a column within its table. It stays the same when the column is renamed, and no later column of the
/// table gets it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub i16);

impl ColumnId {
    /// The timestamp that every table begins with.
    pub const KEY: Self = Self(1);
}

impl fmt::Display for ColumnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bit for each row, eight to a byte, the first row in the lowest bit, as Arrow keeps them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..self.len).map(|i| u8::from(self.get(i))))
            .finish()
    }
}

impl Bits {
    /// The first `len` bits of `bytes`; `None` if there are fewer.
    pub fn from_bytes(bytes: Vec<u8>, len: usize) -> Option<Self> {
        let mut bits = Self { bytes, len };
        if bits.bytes.len() < len.div_ceil(8) {
            return None;
        }
        bits.bytes.truncate(len.div_ceil(8));
        Some(bits)
    }

    /// `len` times the same bit.
    pub fn filled(bit: bool, len: usize) -> Self {
        let byte = if bit { 0xff } else { 0 };
        Self {
            bytes: vec![byte; len.div_ceil(8)],
            len,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes; what follows the last bit in the last byte means nothing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The bit of row `i`; false behind the last.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        i < self.len
            && self
                .bytes
                .get(i / 8)
                .is_some_and(|byte| byte >> (i % 8) & 1 == 1)
    }

    /// Puts a bit behind the last.
    #[inline]
    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            // What was cut off there may have left a bit.
            *last &= !(1 << (self.len % 8));
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }

    /// Puts `count` times the same bit behind the last.
    pub fn push_many(&mut self, bit: bool, count: usize) {
        let (mut left, filler) = (count, if bit { 0xff } else { 0 });
        while left > 0 && !self.len.is_multiple_of(8) {
            self.push(bit);
            left -= 1;
        }
        self.bytes
            .resize(self.bytes.len() + left.div_ceil(8), filler);
        self.len += left;
    }

    /// Each bit turned around.
    pub fn inverted(&self) -> Self {
        Self {
            bytes: self.bytes.iter().map(|byte| !byte).collect(),
            len: self.len,
        }
    }

    /// How many bits are set.
    pub fn count(&self) -> usize {
        let (whole, rest) = (self.len / 8, self.len % 8);
        let ones = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| byte.count_ones() as usize)
                .sum::<usize>()
        };
        let last = self
            .bytes
            .get(whole)
            .map_or(0, |byte| byte & ((1u16 << rest) - 1) as u8);
        ones(self.bytes.get(..whole).unwrap_or_default()) + last.count_ones() as usize
    }
}

/// The cells of one column, a row after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// The column.
    pub column: ColumnId,
    /// Its type.
    pub data_type: DataType,
    /// Which rows have a value; `None`: all of them.
    pub valid: Option<Bits>,
    /// Of which rows the request said nothing about this column, so that what stood there stays; `None`: of no row.
    /// Such a row has no value.
    pub unset: Option<Bits>,
    /// The values.
    pub values: CellValues,
}

/// The values of a column. Rows without a value have one too, which means nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum CellValues {
    /// No row has a value.
    Absent,
    /// `width` bytes a row, little-endian: integers and floats in their type's width, BOOL a byte, a timestamp in
    /// ticks of the database's precision, DECIMAL the digits without the point as an integer of 8 or 16 bytes.
    Fixed {
        /// Bytes of a value.
        width: usize,
        /// All of them.
        bytes: Vec<u8>,
    },
    /// Bytes of any length: text as the server stores it (NCHAR: 4 bytes a character, little-endian), or bytes.
    Variable {
        /// Where each row's value begins in `bytes`, and at last where the last one ends: one more than there are rows,
        /// ascending.
        starts: Vec<i32>,
        /// The values one behind the other.
        bytes: Vec<u8>,
    },
}

/// A cell of a row that is looked at by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The request said nothing about this column.
    Unset,
    /// NULL.
    Null,
    /// The value's bytes, as [`CellValues`] tells.
    Value(&'a [u8]),
}

impl Cells {
    /// A column whose rows are still to come.
    pub fn new(column: ColumnId, data_type: DataType) -> Self {
        let values = match data_type.stored_width() {
            Some(width) => CellValues::Fixed {
                width,
                bytes: Vec::new(),
            },
            None => CellValues::Variable {
                starts: vec![0],
                bytes: Vec::new(),
            },
        };
        Self {
            column,
            data_type,
            valid: None,
            unset: None,
            values,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        match &self.values {
            CellValues::Fixed { width, bytes } => bytes.len().checked_div(*width).unwrap_or(0),
            CellValues::Variable { starts, .. } => starts.len().saturating_sub(1),
            CellValues::Absent => self.valid.as_ref().map_or(0, Bits::len),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all values.
    pub fn value_bytes(&self) -> usize {
        match &self.values {
            CellValues::Fixed { bytes, .. } | CellValues::Variable { bytes, .. } => bytes.len(),
            CellValues::Absent => 0,
        }
    }

    /// The cell of row `i`.
    #[inline]
    pub fn cell(&self, i: usize) -> Cell<'_> {
        if self.valid.as_ref().is_some_and(|valid| !valid.get(i)) {
            return match &self.unset {
                Some(unset) if unset.get(i) => Cell::Unset,
                _ => Cell::Null,
            };
        }
        let value = match &self.values {
            CellValues::Absent => None,
            CellValues::Fixed { width, bytes } => bytes.get(i * width..(i + 1) * width),
            CellValues::Variable { starts, bytes } => match starts.get(i..i + 2) {
                Some([start, end]) => bytes.get(*start as usize..*end as usize),
                _ => None,
            },
        };
        value.map_or(Cell::Null, Cell::Value)
    }

    /// Puts a cell behind those that are there. A cell that is not set becomes NULL.
    ///
    /// # Errors
    /// The column would become longer than 2 GiB.
    pub fn push(&mut self, cell: Cell<'_>) -> Result<(), TooLong> {
        let value = match cell {
            Cell::Value(value) => Some(value),
            Cell::Null | Cell::Unset => None,
        };
        let rows = self.len();
        match (&mut self.valid, value) {
            (None, Some(_)) => {}
            (valid, value) => valid
                .get_or_insert_with(|| Bits::filled(true, rows))
                .push(value.is_some()),
        }
        match &mut self.values {
            CellValues::Absent => {}
            CellValues::Fixed { width, bytes } => match value {
                Some(value) => bytes.extend_from_slice(value),
                None => bytes.resize(bytes.len() + *width, 0),
            },
            CellValues::Variable { starts, bytes } => {
                bytes.extend_from_slice(value.unwrap_or_default());
                starts.push(i32::try_from(bytes.len()).map_err(|_| TooLong)?);
            }
        }
        Ok(())
    }

    /// Puts `count` cells of `from`, beginning at its row `at`, behind those that are there. Cells that are not set become
    /// NULL.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn extend(&mut self, from: &Self, at: usize, count: usize) -> Result<(), TooLong> {
        let rows = self.len();
        let end = at.saturating_add(count);
        match (&mut self.values, &from.values) {
            (
                CellValues::Fixed { width, bytes },
                CellValues::Fixed {
                    width: theirs,
                    bytes: source,
                },
            ) if width == theirs => {
                bytes.extend_from_slice(source.get(at * *width..end * *width).unwrap_or_default());
            }
            (
                CellValues::Variable { starts, bytes },
                CellValues::Variable {
                    starts: theirs,
                    bytes: source,
                },
            ) => {
                let ends = theirs.get(at..=end).unwrap_or_default();
                let (first, last) = match ends {
                    [first, .., last] => (*first, *last),
                    _ => (0, 0),
                };
                let base = i32::try_from(bytes.len()).map_err(|_| TooLong)?;
                base.checked_add(last - first).ok_or(TooLong)?;
                starts.extend(ends.iter().skip(1).map(|end| base + (end - first)));
                bytes.extend_from_slice(
                    source
                        .get(first as usize..last as usize)
                        .unwrap_or_default(),
                );
            }
            _ => {
                for i in 0..count {
                    self.push(from.cell(at + i))?;
                }
                return Ok(());
            }
        }
        match (&mut self.valid, &from.valid) {
            (None, None) => {}
            (Some(valid), None) => valid.push_many(true, count),
            (valid, Some(theirs)) => {
                let valid = valid.get_or_insert_with(|| Bits::filled(true, rows));
                (at..end).for_each(|i| valid.push(theirs.get(i)));
            }
        }
        Ok(())
    }

    /// Puts a cell behind those that are there, as it is: one that is not set stays so.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn keep(&mut self, cell: Cell<'_>) -> Result<(), TooLong> {
        let rows = self.len();
        let is_unset = cell == Cell::Unset;
        if is_unset || self.unset.is_some() {
            let unset = self.unset.get_or_insert_with(|| Bits::filled(false, rows));
            unset.push(is_unset);
        }
        self.push(cell)
    }

    /// Puts `count` cells that are not set behind those that are there.
    pub fn extend_with_unset(&mut self, count: usize) {
        let rows = self.len();
        let unset = self.unset.get_or_insert_with(|| Bits::filled(false, rows));
        unset.push_many(true, count);
        self.extend_with_null(count);
    }

    /// The cells of these rows in this order, as they are.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn picked(&self, rows: &[usize]) -> Result<Self, TooLong> {
        let mut picked = Self::new(self.column, self.data_type);
        for row in rows {
            picked.keep(self.cell(*row))?;
        }
        Ok(picked)
    }

    /// Puts `count` NULLs behind the cells that are there.
    pub fn extend_with_null(&mut self, count: usize) {
        let rows = self.len();
        let valid = self.valid.get_or_insert_with(|| Bits::filled(true, rows));
        valid.push_many(false, count);
        match &mut self.values {
            CellValues::Absent => {}
            CellValues::Fixed { width, bytes } => bytes.resize(bytes.len() + *width * count, 0),
            CellValues::Variable { starts, .. } => {
                let end = starts.last().copied().unwrap_or_default();
                starts.extend(std::iter::repeat_n(end, count));
            }
        }
    }

    /// The second halves of composite keys as the column they are stored as.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn of_keys(
        column: ColumnId,
        data_type: DataType,
        keys: &[PkValue],
    ) -> Result<Self, TooLong> {
        let mut cells = Self::new(column, data_type);
        let width = data_type.stored_width().unwrap_or(8).min(8);
        for key in keys {
            let number;
            let bytes = match key {
                PkValue::Signed(value) => {
                    number = value.to_le_bytes();
                    &number[..width]
                }
                PkValue::Unsigned(value) => {
                    number = value.to_le_bytes();
                    &number[..width]
                }
                PkValue::Text(text) => text.as_bytes(),
            };
            cells.push(Cell::Value(bytes))?;
        }
        Ok(cells)
    }
}

/// Values of a column took more than 2 GiB in one batch of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the values of one column take more than 2 GiB in one batch of rows")]
pub struct TooLong;

/// Rows of tables of one super table, or of one normal table, column by column, in the order of table and key. Each key
/// stands there once, with what a query would show of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RowBatch {
    /// The super table, 0 for a normal table.
    pub suid: Suid,
    /// The tables in the order of their rows, each with the number of its rows.
    pub tables: Vec<(Uid, usize)>,
    /// The key of each row, in ticks of the database's precision.
    pub keys: Vec<Key>,
    /// The version that last wrote to each row.
    pub versions: Vec<Version>,
    /// The other columns, ascending by their ids. A column that is not here is NULL in every row; one that the table
    /// does not have any more can be here.
    pub columns: Vec<Cells>,
}

impl RowBatch {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_kept_lowest_first() {
        let mut bits = Bits::from_bytes(vec![0b101, 0xff], 3).unwrap();
        assert_eq!(
            (bits.get(0), bits.get(1), bits.get(2), bits.get(3)),
            (true, false, true, false)
        );
        bits.push(false);
        bits.push_many(true, 9);
        assert_eq!((bits.len(), bits.count()), (13, 11));
        assert_eq!(bits.inverted().count(), 2);
        assert_eq!(Bits::from_bytes(vec![0xff], 9), None);
    }

    #[test]
    fn cells_are_the_same_taken_one_by_one_or_in_runs() {
        let mut texts = Cells::new(ColumnId(3), DataType::Varchar);
        let cells = [
            Cell::Value(b"ab".as_slice()),
            Cell::Null,
            Cell::Value(b""),
            Cell::Value(b"c"),
        ];
        for cell in cells {
            texts.push(cell).unwrap();
        }
        let mut numbers = Cells::new(ColumnId(2), DataType::Int);
        for i in 0..4 {
            let value = [i as u8, 0, 0, 0];
            let cell = if i == 2 {
                Cell::Null
            } else {
                Cell::Value(&value)
            };
            numbers.push(cell).unwrap();
        }
        for column in [texts, numbers] {
            for at in 0..=4 {
                for count in 0..=4 - at {
                    let mut by_run = Cells::new(column.column, column.data_type);
                    by_run.push(Cell::Null).unwrap();
                    let mut by_cell = by_run.clone();
                    by_run.extend(&column, at, count).unwrap();
                    for i in 0..count {
                        by_cell.push(column.cell(at + i)).unwrap();
                    }
                    assert_eq!(by_run, by_cell, "{count} from {at}");
                    assert_eq!(
                        (0..count).map(|i| by_run.cell(1 + i)).collect::<Vec<_>>(),
                        (at..at + count).map(|i| column.cell(i)).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    #[test]
    fn cells_that_are_kept_or_picked_stay_what_they_are() {
        let value = 7i32.to_le_bytes();
        let all = [Cell::Value(&value), Cell::Unset, Cell::Null, Cell::Unset];
        let mut cells = Cells::new(ColumnId(2), DataType::Int);
        for cell in all {
            cells.keep(cell).unwrap();
        }
        cells.extend_with_unset(2);
        cells.keep(Cell::Value(&value)).unwrap();
        let kept: Vec<_> = (0..cells.len()).map(|i| cells.cell(i)).collect();
        let (first, rest) = kept.split_at(4);
        assert_eq!(first, all);
        assert_eq!(rest, [Cell::Unset, Cell::Unset, Cell::Value(&value)]);

        let picked = cells.picked(&[2, 0, 1, 0]).unwrap();
        let picked: Vec<_> = (0..picked.len()).map(|i| picked.cell(i)).collect();
        assert_eq!(picked, [all[2], all[0], all[1], all[0]]);
    }

    #[test]
    fn composite_keys_become_the_column_that_the_server_stores() {
        let keys = [PkValue::Signed(-2), PkValue::Signed(7)];
        let cells = Cells::of_keys(ColumnId(2), DataType::Int, &keys).unwrap();
        assert_eq!(cells.cell(0), Cell::Value(&(-2i32).to_le_bytes()));
        assert_eq!(cells.cell(1), Cell::Value(&7i32.to_le_bytes()));
    }
}
