//! The encoding of up to [`CHUNK_ROWS`] rows: each column is a straight line plus bit-packed distances from it.
//!
//! Value `i` of a column is `base + slope * i / 1024 + bits[i]` (the middle part rounded down), so any value is read in
//! constant time, a column that is constant or evenly spaced costs no bits at all, and no value depends on another one.
//! Layout, little-endian:
//!
//! ```text
//! u32  CRC-32C of everything after it
//! u16  number of rows, 1..=1024
//! u16  number of columns
//! per column: u64 base, i64 slope, u8 width in bits (0..=64)
//! per column: ceil(rows * width / 8) bytes, low bits first
//! 16 zero bytes, so that a read of 16 bytes never leaves the chunk
//! ```

use crate::bytes::Bytes;
use crate::row::{MAX_COLUMNS, Row};
use std::marker::PhantomData;
use std::sync::Arc;

/// Rows in a full chunk.
pub(crate) const CHUNK_ROWS: usize = 1024;

const HEADER: usize = 8;
const COLUMN_HEADER: usize = 17;
const PADDING: usize = 16;

/// The most bytes a chunk can have.
pub(crate) const MAX_CHUNK_BYTES: usize =
    HEADER + MAX_COLUMNS * (COLUMN_HEADER + CHUNK_ROWS * 8) + PADDING;

/// Appends the encoding of `rows`, which holds 1 to [`CHUNK_ROWS`] rows, to `out`.
pub(crate) fn encode<R: Row>(rows: &[R], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(rows.len() as u16).to_le_bytes());
    out.extend_from_slice(&(R::COLUMNS as u16).to_le_bytes());
    let mut values = [0u64; CHUNK_ROWS];
    let mut widths = [0u8; MAX_COLUMNS];
    let headers = out.len();
    out.resize(headers + R::COLUMNS * COLUMN_HEADER, 0);
    for (c, width) in widths.iter_mut().enumerate().take(R::COLUMNS) {
        let first = rows.first().map_or(0, |row| row.column(c));
        let second = rows.get(1).map_or(first, |row| row.column(c));
        let step = second.wrapping_sub(first);
        let (mut expected, mut off) = (first, 0);
        for (value, row) in values.iter_mut().zip(rows) {
            *value = row.column(c);
            off |= *value ^ expected;
            expected = expected.wrapping_add(step);
        }
        let values = &mut values[..rows.len()];
        let line = match Line::even(first, step as i64) {
            Some(line) if off == 0 => line,
            _ => Line::fit(values),
        };
        *width = line.width;
        let at = headers + c * COLUMN_HEADER;
        out[at..at + 8].copy_from_slice(&line.base.to_le_bytes());
        out[at + 8..at + 16].copy_from_slice(&line.slope.to_le_bytes());
        out[at + 16] = line.width;
        pack(values, line.width, out);
    }
    out.extend_from_slice(&[0; PADDING]);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The parts of a unit that a slope is counted in.
const SLOPE_BITS: u32 = CHUNK_ROWS.ilog2();

/// How far a line has risen at `row`.
fn rise(slope: i64, row: usize) -> u64 {
    ((i128::from(slope) * row as i128) >> SLOPE_BITS) as u64
}

/// The line under a column's values.
struct Line {
    base: u64,
    slope: i64,
    width: u8,
}

impl Line {
    /// The line on which values lie that begin with `base` and differ by `step`, if it is not too steep.
    fn even(base: u64, step: i64) -> Option<Self> {
        Some(Self {
            base,
            slope: step.checked_mul(1 << SLOPE_BITS)?,
            width: 0,
        })
    }

    /// Finds the line and leaves in `values` their distances above it.
    fn fit(values: &mut [u64]) -> Self {
        let first = values.first().copied().unwrap_or(0);
        let slope = Self::slope(values);
        // Distances lie within ±2^62 of the line, so they order as signed values.
        let from_line = values.iter().enumerate().map(|(i, value)| {
            let line = first.wrapping_add(rise(slope, i));
            value.wrapping_sub(line) as i64
        });
        let base = match slope {
            0 => values.iter().copied().min().unwrap_or(first),
            _ => first.wrapping_add(from_line.min().unwrap_or(0) as u64),
        };
        let mut all = 0;
        for (i, value) in values.iter_mut().enumerate() {
            *value = value.wrapping_sub(base.wrapping_add(rise(slope, i)));
            all |= *value;
        }
        Self {
            base,
            slope,
            width: (64 - all.leading_zeros()) as u8,
        }
    }

    /// The slope from the first to the last of values that ascend; 0 for others.
    fn slope(values: &[u64]) -> i64 {
        let (Some(&first), Some(&last)) = (values.first(), values.last()) else {
            return 0;
        };
        let steps = values.len() as u128 - 1;
        if steps == 0 || !values.is_sorted() || last - first >= 1 << 62 {
            return 0;
        }
        i64::try_from((u128::from(last - first) << SLOPE_BITS) / steps).unwrap_or(0)
    }
}

fn pack(values: &[u64], width: u8, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mut buffer = 0u128;
    let mut bits = 0u32;
    for &value in values {
        buffer |= u128::from(value) << bits;
        bits += u32::from(width);
        if bits >= 64 {
            out.extend_from_slice(&(buffer as u64).to_le_bytes());
            buffer >>= 64;
            bits -= 64;
        }
    }
    let rest = bits.div_ceil(8) as usize;
    out.extend_from_slice(&(buffer as u64).to_le_bytes()[..rest]);
}

#[derive(Debug, Clone, Copy, Default)]
struct Column {
    base: u64,
    slope: i64,
    start: usize,
    width: u8,
}

impl Column {
    fn value(&self, bytes: &[u8], row: usize) -> u64 {
        let line = self.base.wrapping_add(rise(self.slope, row));
        if self.width == 0 {
            return line;
        }
        let bit = row * usize::from(self.width);
        let at = self.start + bit / 8;
        let shift = bit % 8;
        let mask = u64::MAX >> (64 - u32::from(self.width));
        let distance = if self.width <= 56 {
            word::<8>(bytes, at).map_or(0, |b| u64::from_le_bytes(b) >> shift)
        } else {
            word::<16>(bytes, at).map_or(0, |b| (u128::from_le_bytes(b) >> shift) as u64)
        };
        line.wrapping_add(distance & mask)
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A chunk that was found whole: any of its values is read in constant time.
#[derive(Debug, Clone)]
pub(crate) struct Chunk<R> {
    bytes: Arc<Bytes>,
    columns: [Column; MAX_COLUMNS],
    rows: usize,
    row: PhantomData<R>,
}

/// Why bytes are not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAChunk(pub(crate) &'static str);

/// Does the checksum of the chunk in `bytes` match?
pub(crate) fn is_intact(bytes: &[u8]) -> bool {
    match (word::<4>(bytes, 0), bytes.get(4..)) {
        (Some(crc), Some(rest)) => u32::from_le_bytes(crc) == crc32c::crc32c(rest),
        _ => false,
    }
}

impl<R: Row> Chunk<R> {
    /// Reads the chunk that fills `start..end` of `bytes`. The caller checks the checksum ([`is_intact`]).
    pub(crate) fn parse(bytes: Arc<Bytes>, start: usize, end: usize) -> Result<Self, NotAChunk> {
        let chunk = bytes.get(start..end).ok_or(NotAChunk("it is cut off"))?;
        let (Some(rows), Some(columns)) = (word::<2>(chunk, 4), word::<2>(chunk, 6)) else {
            return Err(NotAChunk("its header is cut off"));
        };
        let rows = usize::from(u16::from_le_bytes(rows));
        if rows == 0 || rows > CHUNK_ROWS {
            return Err(NotAChunk("its number of rows is out of range"));
        }
        if usize::from(u16::from_le_bytes(columns)) != R::COLUMNS {
            return Err(NotAChunk("its number of columns is wrong"));
        }
        let mut parsed = [Column::default(); MAX_COLUMNS];
        let mut data = HEADER + R::COLUMNS * COLUMN_HEADER;
        for (c, column) in parsed.iter_mut().enumerate().take(R::COLUMNS) {
            let at = HEADER + c * COLUMN_HEADER;
            let (Some(base), Some(slope), Some(&width)) =
                (word(chunk, at), word(chunk, at + 8), chunk.get(at + 16))
            else {
                return Err(NotAChunk("its column headers are cut off"));
            };
            if width > 64 {
                return Err(NotAChunk("a column is wider than 64 bits"));
            }
            *column = Column {
                base: u64::from_le_bytes(base),
                slope: i64::from_le_bytes(slope),
                start: start + data,
                width,
            };
            data += (rows * usize::from(width)).div_ceil(8);
        }
        if data + PADDING != chunk.len() {
            return Err(NotAChunk("its length does not fit its columns"));
        }
        Ok(Self {
            bytes,
            columns: parsed,
            rows,
            row: PhantomData,
        })
    }

    /// The number of rows, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Row `i`, which is below [`Self::len`].
    pub(crate) fn row(&self, i: usize) -> R {
        R::from_columns(|c| self.columns[c].value(&self.bytes, i))
    }

    /// The first column of row `i`.
    pub(crate) fn first_column(&self, i: usize) -> u64 {
        self.columns[0].value(&self.bytes, i)
    }

    /// The first row whose key is not below `key`, or [`Self::len`].
    pub(crate) fn seek(&self, key: crate::row::Key) -> usize {
        let first = &self.columns[0];
        let second = &self.columns[1];
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low.midpoint(high);
            let value = first.value(&self.bytes, middle);
            let below = value < key.0
                || (value == key.0 && R::COLUMNS == 2 && second.value(&self.bytes, middle) < key.1);
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockId;
    use crate::row::Entry;
    use proptest::prelude::*;

    fn round_trip(values: &[(u64, u64)]) -> usize {
        let rows: Vec<Entry> = values
            .iter()
            .map(|&(at, block)| Entry {
                at,
                block: BlockId(block),
            })
            .collect();
        let mut bytes = Vec::new();
        encode(&rows, &mut bytes);
        assert!(is_intact(&bytes) && bytes.len() <= MAX_CHUNK_BYTES);
        let length = bytes.len();
        let chunk = Chunk::<Entry>::parse(Arc::new(bytes.into()), 0, length).unwrap();
        assert_eq!(chunk.len(), rows.len());
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(chunk.row(i), *row);
        }
        length
    }

    #[test]
    fn evenly_spaced_columns_cost_no_bits() {
        let rows: Vec<_> = (0..1024).map(|i| (5 + i * 1000, 1 << 40 | i)).collect();
        assert_eq!(round_trip(&rows), HEADER + 2 * COLUMN_HEADER + PADDING);
    }

    #[test]
    fn columns_that_rise_by_less_than_one_a_row_cost_few_bits() {
        let rows: Vec<_> = (0..1024).map(|i| (i / 3, 1_000_000 - i)).collect();
        let one_bit = CHUNK_ROWS / 8;
        assert_eq!(
            round_trip(&rows),
            HEADER + 2 * COLUMN_HEADER + one_bit + PADDING
        );
    }

    #[test]
    fn the_extremes_survive() {
        round_trip(&[(0, u64::MAX), (u64::MAX, 0)]);
        round_trip(&[(u64::MAX, u64::MAX)]);
        round_trip(&[(0, 1 << 63), (1, 1), (u64::MAX, 1 << 62)]);
    }

    proptest! {
        #[test]
        fn any_rows_survive(rows in proptest::collection::vec(any::<(u64, u64)>(), 1..1024)) {
            round_trip(&rows);
        }

        #[test]
        fn sorted_rows_are_found(mut rows in proptest::collection::vec((0u64..50, 0u64..50), 1..300), key in (0u64..55, 0u64..55)) {
            rows.sort_unstable();
            let entries: Vec<_> = rows.iter().map(|&(at, block)| Entry { at, block: BlockId(block) }).collect();
            let mut bytes = Vec::new();
            encode(&entries, &mut bytes);
            let end = bytes.len();
            let chunk = Chunk::<Entry>::parse(Arc::new(bytes.into()), 0, end).unwrap();
            prop_assert_eq!(chunk.seek(key), rows.partition_point(|&row| row < key));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows: u8, width in 0u8..66) {
            let mut bytes = bytes;
            if bytes.len() > 24 {
                (bytes[4], bytes[5], bytes[6], bytes[7], bytes[24]) = (rows, 0, 2, 0, width);
            }
            let end = bytes.len();
            if let Ok(chunk) = Chunk::<Entry>::parse(Arc::new(bytes.into()), 0, end) {
                let rows: Vec<_> = (0..chunk.len()).map(|i| chunk.row(i)).collect();
                prop_assert!(rows.len() <= CHUNK_ROWS);
            }
        }

        #[test]
        fn any_flipped_byte_is_noticed(rows in proptest::collection::vec(any::<(u64, u64)>(), 1..50), at: proptest::sample::Index, flip in 1u8..) {
            let entries: Vec<_> = rows.iter().map(|&(at, block)| Entry { at, block: BlockId(block) }).collect();
            let mut bytes = Vec::new();
            encode(&entries, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(!is_intact(&bytes));
        }
    }
}
