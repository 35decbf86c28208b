//! The column chunks of a row group, checked and in memory.

use super::thrift::page_header;
use ::parquet::{
    errors::{ParquetError, Result},
    file::{
        metadata::ColumnChunkMetaData,
        reader::{ChunkReader, Length},
    },
};
use bytes::{Buf as _, Bytes, buf::Reader};
use std::ops::Range;

/// The most bytes of a column chunk, packed or unpacked. Our own have 16 MiB, unless a single row takes more.
const MOST_BYTES: u64 = 256 << 20;

/// Parts of a file, at their places.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    file_length: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Held {
    pub(super) fn new(file_length: u64) -> Self {
        Self {
            file_length,
            parts: Vec::new(),
        }
    }

    /// Adds a column chunk that lies at `at`.
    pub(super) fn add(&mut self, at: u64, bytes: Bytes) {
        self.parts.push((at, bytes));
    }

    /// The bytes from `start` to the end of their part.
    fn from(&self, start: u64) -> Result<Bytes> {
        let within = self.parts.iter().find_map(|(at, bytes)| {
            let offset = usize::try_from(start.checked_sub(*at)?).ok()?;
            (offset < bytes.len()).then(|| bytes.slice(offset..))
        });
        within.ok_or_else(|| ParquetError::EOF(format!("nothing was read at {start}")))
    }
}

impl Length for Held {
    fn len(&self) -> u64 {
        self.file_length
    }
}

impl ChunkReader for Held {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        match bytes.len() >= length {
            true => Ok(bytes.slice(..length)),
            false => Err(ParquetError::EOF(format!(
                "{length} bytes at {start} are more than there are"
            ))),
        }
    }
}

/// Where a column chunk lies, between `begin` and `end` of the file.
pub(super) fn place_of(
    chunk: &ColumnChunkMetaData,
    file: Range<u64>,
) -> std::result::Result<Range<u64>, String> {
    let start = match chunk.dictionary_page_offset() {
        Some(offset) if offset < chunk.data_page_offset() => offset,
        _ => chunk.data_page_offset(),
    };
    let range = u64::try_from(start).ok().zip(
        u64::try_from(chunk.compressed_size())
            .ok()
            .filter(|length| *length <= MOST_BYTES),
    );
    let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    range
        .filter(|range| range.start >= file.start && range.end <= file.end)
        .ok_or_else(|| "a column chunk does not lie in the file".to_owned())
}

/// Checks that the pages of a column chunk are as long and hold as many values as their headers say they may.
pub(super) fn check_pages(
    chunk: &ColumnChunkMetaData,
    bytes: &[u8],
    rows: u64,
) -> std::result::Result<(), String> {
    let mut rest = bytes;
    let mut unpacked = 0_u64;
    let problem = |bytes: &[u8], rest: &[u8], problem: &str| {
        let at = bytes.len() - rest.len();
        let column = chunk.column_path();
        Err(format!("column {column}: {problem} at byte {at} of it"))
    };
    while !rest.is_empty() {
        let Some(header) = page_header(rest) else {
            return problem(bytes, rest, "there is no page");
        };
        let numbers = [header.unpacked, header.packed, header.values].map(u64::try_from);
        let [Ok(full), Ok(packed), Ok(values)] = numbers else {
            return problem(bytes, rest, "a page has a negative length");
        };
        unpacked += full;
        if unpacked > MOST_BYTES || values > rows {
            return problem(bytes, rest, "a page is longer than any that is written");
        }
        let next = usize::try_from(packed).ok().and_then(|packed| {
            let next = header.length.checked_add(packed)?;
            rest.get(next..)
        });
        match next {
            Some(next) => rest = next,
            None => return problem(bytes, rest, "a page does not end"),
        }
    }
    Ok(())
}
