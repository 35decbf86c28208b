//! A file → record batches, table by table.

use super::{
    ParquetError,
    held::{Held, check_pages, place_of},
    thrift,
};
use crate::arrow::{Layout, RowsError, TablesOf};
use ::parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
            ParquetRecordBatchReaderBuilder, RowSelection,
        },
    },
    errors::Result as ParquetResult,
    file::{
        metadata::{ParquetMetaDataReader, RowGroupMetaData},
        statistics::Statistics,
    },
};
use bytes::Bytes;
use model::{ColumnId, Key, KeySpan};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use store::{Store, StoreError};

/// What a file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";
/// At the end: the length of the footer, and the magic.
const TAIL: u64 = 8;
/// The columns before the table's own: the table's name and the version.
const NAMES: usize = 0;
const VERSIONS: usize = 1;
const KEYS: usize = crate::arrow::LEADING;
/// The most rows of a row group that are believed. Our own have an eighth of it.
const MOST_ROWS: u64 = 1 << 20;
/// The most rows of a record batch: what the client library takes in one call.
const BATCH_ROWS: usize = 32_767;
/// About how many bytes a record batch may take.
const BATCH_BYTES: u64 = 4 << 20;

/// Bytes any part of which can be read.
pub trait ReadRange {
    /// How many there are.
    ///
    /// # Errors
    /// They can't be looked at.
    fn length(&self) -> io::Result<u64>;

    /// Those of this range, all of them.
    ///
    /// # Errors
    /// They can't be read, or there are fewer.
    fn read_range(&self, range: Range<u64>) -> io::Result<Vec<u8>>;
}

impl ReadRange for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let length = range.end.saturating_sub(range.start);
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }
}

/// An object of a store.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'s> {
    store: &'s dyn Store,
    name: &'s str,
}

impl<'s> Stored<'s> {
    /// The object of this name, which has to be there when it is read.
    pub fn new(store: &'s dyn Store, name: &'s str) -> Self {
        Self { store, name }
    }
}

impl ReadRange for Stored<'_> {
    fn length(&self) -> io::Result<u64> {
        self.store.length(self.name).map_err(io::Error::other)
    }

    fn read_range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.store
            .get_range(self.name, range)
            .map_err(io::Error::other)
    }
}

impl ReadRange for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let end = |place| usize::try_from(place).map_err(io::Error::other);
        let bytes = self.get(end(range.start)?..end(range.end)?);
        bytes
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Which rows and columns of a file are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Rows of these tables; `None`: of all.
    pub tables: Option<BTreeSet<String>>,
    /// Rows with keys in it.
    pub span: KeySpan,
    /// These columns, and always the key; `None`: all.
    pub columns: Option<BTreeSet<ColumnId>>,
    /// Whether versions are read.
    pub versions: bool,
}

impl Selection {
    /// Everything.
    pub const ALL: Self = Self {
        tables: None,
        span: KeySpan::ALL,
        columns: None,
        versions: true,
    };
}

/// A file whose footer has been read. A clone reads the same file.
///
/// Whoever reads it has checked its digest before. What is damaged nevertheless is an error, whatever it is; a damaged
/// number may remain unnoticed.
#[derive(Debug)]
pub struct ParquetFile<R>(Arc<Opened<R>>);

#[derive(Debug)]
struct Opened<R> {
    source: R,
    place: String,
    length: u64,
    layout: Arc<Layout>,
    metadata: ArrowReaderMetadata,
}

impl<R> Clone for ParquetFile<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: ReadRange> ParquetFile<R> {
    /// Reads the footer; errors name `place`.
    ///
    /// # Errors
    /// It can't be read, it is damaged, or it is not of our format.
    pub fn open(source: R, place: &str) -> Result<Self, ParquetError> {
        let io = || StoreError::io(place);
        let corrupt = |problem: String| ParquetError::Corrupt {
            place: place.to_owned(),
            problem,
        };
        let length = source.length().map_err(io())?;
        let no_file = || corrupt("it is not a whole Parquet file".to_owned());
        let before_tail = length.checked_sub(TAIL).ok_or_else(no_file)?;
        let tail = source.read_range(before_tail..length).map_err(io())?;
        let (footer_length, magic) = tail.split_first_chunk().ok_or_else(no_file)?;
        let footer_length = u32::from_le_bytes(*footer_length).into();
        let footer_start = before_tail.checked_sub(footer_length);
        let footer_start = footer_start.filter(|start| *start >= MAGIC.len() as u64);
        let footer_start = footer_start
            .filter(|_| magic == MAGIC)
            .ok_or_else(no_file)?;
        let footer = source.read_range(footer_start..before_tail).map_err(io())?;
        if thrift::structure(&footer).is_none() {
            return Err(corrupt("its footer is not whole".to_owned()));
        }
        let metadata = caught(|| {
            let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(&footer)?);
            ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())
        });
        let metadata = metadata.map_err(corrupt)?;
        let layout = Layout::from_arrow(metadata.schema());
        let layout = layout.map_err(|source| ParquetError::Layout {
            place: place.to_owned(),
            source,
        })?;
        let columns = layout.schema().fields().len();
        let groups = metadata.metadata().row_groups();
        let whole = |group: &RowGroupMetaData| {
            let rows = u64::try_from(group.num_rows()).is_ok_and(|rows| rows <= MOST_ROWS);
            rows && group.num_columns() == columns
        };
        match groups.iter().position(|group| !whole(group)) {
            Some(at) => Err(corrupt(format!("its row group {at} is none of ours"))),
            None => Ok(Self(Arc::new(Opened {
                source,
                place: place.to_owned(),
                length,
                layout: Arc::new(layout),
                metadata,
            }))),
        }
    }

    /// The file's columns, and where its rows come from.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.0.layout
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        let groups = self.groups().iter();
        groups.map(|group| group.num_rows().unsigned_abs()).sum()
    }

    fn groups(&self) -> &[RowGroupMetaData] {
        self.0.metadata.metadata().row_groups()
    }

    /// The rows of a selection, in the order of the file.
    pub fn read(&self, selection: Selection) -> Batches<R> {
        self.read_groups(0..self.row_groups(), selection)
    }

    /// How many row groups it has.
    pub fn row_groups(&self) -> usize {
        self.groups().len()
    }

    /// The rows of a selection that these row groups have.
    pub fn read_groups(&self, groups: Range<usize>, selection: Selection) -> Batches<R> {
        Batches {
            file: self.clone(),
            selection,
            next_groups: groups,
            current: None,
        }
    }

    /// The name of the table that all rows of a row group are of, if its statistics say that they are of one.
    pub fn only_table(&self, group: usize) -> Option<&[u8]> {
        let names = self.groups().get(group)?.column(NAMES).statistics()?;
        let (first, last) = names.min_bytes_opt().zip(names.max_bytes_opt())?;
        (first == last).then_some(first)
    }

    fn corrupt(&self, group: usize, problem: impl Into<String>) -> ParquetError {
        ParquetError::Corrupt {
            place: format!("{}, row group {group}", self.0.place),
            problem: problem.into(),
        }
    }

    /// Whether a row group can have rows of the selection, as its statistics say.
    fn may_have(&self, group: &RowGroupMetaData, selection: &Selection) -> bool {
        let keys = match group.column(KEYS).statistics() {
            Some(Statistics::Int64(keys)) => keys.min_opt().zip(keys.max_opt()),
            _ => None,
        };
        let in_span = keys.is_none_or(|(first, last)| {
            selection.span.overlaps(KeySpan {
                first: Key(*first),
                last: Key(*last),
            })
        });
        let names = group.column(NAMES).statistics();
        let names = names.and_then(|names| names.min_bytes_opt().zip(names.max_bytes_opt()));
        let of_tables = match (&selection.tables, names) {
            (Some(tables), Some((first, last))) => tables
                .iter()
                .any(|name| (first..=last).contains(&name.as_bytes())),
            (Some(tables), None) => !tables.is_empty(),
            (None, _) => true,
        };
        in_span && of_tables
    }

    /// Reads columns of a row group into memory and checks their pages.
    fn load(
        &self,
        held: &mut Held,
        group: usize,
        columns: impl Iterator<Item = usize>,
    ) -> Result<(), ParquetError> {
        let metadata = self.groups().get(group);
        let metadata = metadata.ok_or_else(|| self.corrupt(group, "it is not there"))?;
        for column in columns {
            let chunk = metadata.columns().get(column);
            let chunk = chunk.ok_or_else(|| self.corrupt(group, "a column is missing"))?;
            let range = place_of(chunk, MAGIC.len() as u64..self.0.length);
            let range = range.map_err(|problem| self.corrupt(group, problem))?;
            let start = range.start;
            let bytes = self.0.source.read_range(range);
            let bytes = bytes.map_err(StoreError::io(&self.0.place))?;
            let checked = check_pages(chunk, &bytes, metadata.num_rows().unsigned_abs());
            checked.map_err(|problem| self.corrupt(group, problem))?;
            held.add(start, Bytes::from(bytes));
        }
        Ok(())
    }

    fn decoder(
        &self,
        held: Held,
        group: usize,
        columns: &[usize],
        rows: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let reader = caught(|| {
            let metadata = self.0.metadata.clone();
            let schema = metadata.parquet_schema();
            let mask = ProjectionMask::leaves(schema, columns.iter().copied());
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(held, metadata)
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(batch_rows);
            if let Some(rows) = rows {
                builder = builder.with_row_selection(rows);
            }
            builder.build()
        });
        reader.map_err(|problem| self.corrupt(group, problem))
    }

    /// The rows of a row group that belong to these tables.
    fn rows_of(
        &self,
        held: &Held,
        group: usize,
        tables: &BTreeSet<String>,
    ) -> Result<Vec<Range<usize>>, ParquetError> {
        let columns = [NAMES, KEYS];
        let mut reader = self.decoder(held.clone(), group, &columns, None, BATCH_ROWS)?;
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut before = 0;
        while let Some(batch) = self.next_of(&mut reader, group)? {
            let rows = batch.record_batch().num_rows();
            for table in batch.tables().filter(|table| tables.contains(table.name)) {
                let Range { start, end } = table.range();
                ranges.push(before + start..before + end);
            }
            before += rows;
        }
        Ok(ranges)
    }

    fn next_of(
        &self,
        reader: &mut ParquetRecordBatchReader,
        group: usize,
    ) -> Result<Option<TablesOf>, ParquetError> {
        let batch = caught(|| Ok(reader.next().transpose()?));
        let batch = batch.map_err(|problem| self.corrupt(group, problem))?;
        let rows = batch.map(|batch| TablesOf::new(Arc::clone(&self.0.layout), batch));
        rows.transpose()
            .map_err(|RowsError(problem)| self.corrupt(group, problem))
    }
}

/// Rows of a file, one record batch after the other.
pub struct Batches<R> {
    file: ParquetFile<R>,
    selection: Selection,
    next_groups: Range<usize>,
    current: Option<(usize, ParquetRecordBatchReader)>,
}

impl<R> std::fmt::Debug for Batches<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches")
            .field("place", &self.file.0.place)
            .field("next_groups", &self.next_groups)
            .finish_non_exhaustive()
    }
}

impl<R: ReadRange> Batches<R> {
    /// The next rows, at least one; `None` behind the last.
    ///
    /// # Errors
    /// They can't be read. Nothing follows then.
    #[expect(
        clippy::should_implement_trait,
        reason = "errors end a file, they do not repeat"
    )]
    pub fn next(&mut self) -> Result<Option<TablesOf>, ParquetError> {
        loop {
            let Some((group, reader)) = &mut self.current else {
                match self.next_group()? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let Some(mut rows) = self.file.next_of(reader, *group)? else {
                self.current = None;
                continue;
            };
            rows.narrow(self.selection.tables.as_ref(), self.selection.span)
                .map_err(|RowsError(problem)| self.file.corrupt(*group, problem))?;
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
    }

    /// Begins the next row group that has rows of the selection; false if there is none.
    fn next_group(&mut self) -> Result<bool, ParquetError> {
        let file = self.file.clone();
        while let Some(group) = self.next_groups.next() {
            let Some(metadata) = file.groups().get(group) else {
                break;
            };
            if !file.may_have(metadata, &self.selection) {
                continue;
            }
            let mut held = Held::new(file.0.length);
            file.load(&mut held, group, [NAMES, KEYS].into_iter())?;
            let rows = match &self.selection.tables {
                None => None,
                Some(tables) => {
                    let ranges = file.rows_of(&held, group, tables)?;
                    if ranges.is_empty() {
                        continue;
                    }
                    let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
                    Some(RowSelection::from_consecutive_ranges(
                        ranges.into_iter(),
                        rows,
                    ))
                }
            };
            let columns = self.columns();
            let others = columns.iter().copied();
            let others = others.filter(|column| ![NAMES, KEYS].contains(column));
            file.load(&mut held, group, others)?;
            let batch_rows = batch_rows(metadata, &columns);
            let reader = file.decoder(held, group, &columns, rows, batch_rows)?;
            self.current = Some((group, reader));
            return Ok(true);
        }
        Ok(false)
    }

    /// The columns to read, by their places in the file.
    fn columns(&self) -> Vec<usize> {
        let own = self.file.0.layout.columns().iter().enumerate();
        let own = own.filter(|(at, column)| {
            let chosen = self.selection.columns.as_ref();
            *at == 0 || chosen.is_none_or(|chosen| chosen.contains(&column.id))
        });
        let versions = self.selection.versions.then_some(VERSIONS);
        let leading = std::iter::once(NAMES).chain(versions);
        leading.chain(own.map(|(at, _)| KEYS + at)).collect()
    }
}

/// How many rows a record batch gets, so that it does not take much memory.
fn batch_rows(group: &RowGroupMetaData, columns: &[usize]) -> usize {
    let bytes = columns.iter().filter_map(|column| {
        let chunk = group.columns().get(*column)?;
        u64::try_from(chunk.uncompressed_size()).ok()
    });
    let bytes = bytes.fold(1_u64, u64::saturating_add);
    let rows = group.num_rows().unsigned_abs().saturating_mul(BATCH_BYTES) / bytes;
    usize::try_from(rows)
        .unwrap_or(BATCH_ROWS)
        .clamp(1, BATCH_ROWS)
}

/// Runs the Parquet library on bytes that may be anything. It panics on some of them; here that is an error as any other.
fn caught<T>(run: impl FnOnce() -> ParquetResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the Parquet library gave up on it".to_owned()),
    }
}
