//! The column of tables' names. As rows come table by table, it is known as a few runs; to look at the name of each row, as
//! the Parquet library would, took a quarter of a file's time.
//!
//! A column chunk is a page with the names (the dictionary) and one with runs of their numbers.

use ::parquet::{
    basic::{BoundaryOrder, Compression, Encoding, Type, ZstdLevel},
    column::writer::ColumnCloseResult,
    errors::{ParquetError, Result},
    file::{
        metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder},
        statistics::Statistics,
    },
    schema::types::ColumnDescPtr,
};
use bytes::Bytes;

/// The names of the tables of a row group.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Length and bytes of each name.
    dictionary: Vec<u8>,
    /// How many rows each of them has.
    runs: Vec<usize>,
    last: Vec<u8>,
    bounds: Option<(Vec<u8>, Vec<u8>)>,
}

impl Names {
    /// Adds rows of a table.
    pub(super) fn add(&mut self, name: &str, rows: usize) {
        let name = name.as_bytes();
        if let Some(run) = self.runs.last_mut().filter(|_| self.last == name) {
            *run += rows;
            return;
        }
        // A table's name has 192 bytes at most.
        self.dictionary.extend((name.len() as u32).to_le_bytes());
        self.dictionary.extend_from_slice(name);
        self.runs.push(rows);
        name.clone_into(&mut self.last);
        match &mut self.bounds {
            Some((first, last)) => {
                if name < first.as_slice() {
                    name.clone_into(first);
                } else if name > last.as_slice() {
                    name.clone_into(last);
                }
            }
            none => *none = Some((name.to_vec(), name.to_vec())),
        }
    }

    /// What the names take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.dictionary.len()
    }

    /// The column chunk of these rows, and what the row group says about it. What follows is another row group.
    pub(super) fn take(&mut self, column: ColumnDescPtr) -> Result<(Bytes, ColumnCloseResult)> {
        let names = std::mem::take(self);
        let rows: usize = names.runs.iter().sum();
        let (first, last) = names.bounds.unwrap_or_default();
        let mut chunk = Chunk::default();
        let count = number(names.runs.len())?;
        // A dictionary (2) with so many values, PLAIN (0).
        let dictionary = chunk.page(2, &names.dictionary, 7, &[count, 0])?;
        let runs = numbered(&names.runs);
        // A data page (0) with so many values, RLE_DICTIONARY (8); levels, which it has none of, are RLE (3).
        let data = chunk.page(0, &runs, 5, &[number(rows)?, 8, 3, 3])?;

        let length = chunk.bytes.len();
        let statistics = Statistics::byte_array(
            Some(first.clone().into()),
            Some(last.clone().into()),
            None,
            Some(0),
            false,
        );
        let metadata = ColumnChunkMetaData::builder(column)
            .set_encodings(vec![
                Encoding::PLAIN,
                Encoding::RLE,
                Encoding::RLE_DICTIONARY,
            ])
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_num_values(rows as i64)
            .set_total_compressed_size(length as i64)
            .set_total_uncompressed_size(chunk.unpacked as i64)
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(dictionary as i64)
            .set_statistics(statistics)
            .build()?;
        let mut column_index = ColumnIndexBuilder::new(Type::BYTE_ARRAY);
        column_index.append(false, first, last, 0, None);
        column_index.set_boundary_order(BoundaryOrder::ASCENDING);
        let mut offset_index = OffsetIndexBuilder::new();
        offset_index.append_row_count(rows as i64);
        offset_index.append_offset_and_size(dictionary as i64, number(data)?);
        let close = ColumnCloseResult {
            bytes_written: length as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(column_index.build()?),
            offset_index: Some(offset_index.build()),
        };
        Ok((Bytes::from(chunk.bytes), close))
    }
}

/// Runs of the numbers from 0 on: the width of a number in bits, then for each run twice its length and the number.
fn numbered(runs: &[usize]) -> Vec<u8> {
    let most = runs.len().saturating_sub(1) as u32;
    let bits = u32::BITS - most.leading_zeros();
    let width = bits.div_ceil(8) as usize;
    let mut bytes = vec![bits as u8];
    for (number, run) in (0_u32..).zip(runs) {
        unsigned(&mut bytes, (*run as u64) << 1);
        bytes.extend(number.to_le_bytes().iter().take(width));
    }
    bytes
}

/// Pages one behind the other.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// What they take with their headers before they are packed.
    unpacked: usize,
}

impl Chunk {
    /// Adds a page of this kind; field `of_kind` of its header is a struct of these numbers. How many bytes it takes.
    fn page(&mut self, kind: i32, page: &[u8], of_kind: u8, numbers: &[i32]) -> Result<usize> {
        let before = self.bytes.len();
        let packed = zstd::bulk::compress(page, 1)?;
        let header = [kind, number(page.len())?, number(packed.len())?];
        for field in header {
            integer(&mut self.bytes, field);
        }
        // Fields are told by how much higher their id is than that of the one before.
        self.bytes.push((of_kind - 3) << 4 | 12);
        for field in numbers {
            integer(&mut self.bytes, *field);
        }
        self.bytes.extend([0, 0]);
        self.unpacked += self.bytes.len() - before + page.len();
        self.bytes.extend(packed);
        Ok(self.bytes.len() - before)
    }
}

/// The next field of a struct, an integer of 32 bits.
fn integer(bytes: &mut Vec<u8>, number: i32) {
    bytes.push(1 << 4 | 5);
    let zigzag = (number << 1 ^ number >> 31) as u32;
    unsigned(bytes, zigzag.into());
}

fn unsigned(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(count: usize) -> Result<i32> {
    i32::try_from(count).map_err(|_| ParquetError::General("a page is too long".to_owned()))
}
