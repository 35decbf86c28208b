//! Row batches → files.

use super::{ParquetError, names::Names};
use crate::arrow::{Layout, RowsError, encode, runs_of_tables};
use ::parquet::{
    arrow::{
        ArrowWriter,
        arrow_writer::{
            ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
        },
    },
    basic::{Compression, Encoding, ZstdLevel},
    errors::{ParquetError as LibraryError, Result as ParquetResult},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};
use arrow_array::{Array, RecordBatch, cast::AsArray as _};
use arrow_schema::{DataType as Arrow, SchemaRef};
use model::{RowBatch, Uid};
use std::{io::Write, sync::Arc};
use store::{FileEntry, Hashing, Store, StoreError};

/// The most rows of a row group.
pub(super) const GROUP_ROWS: usize = 1 << 17;
/// The most bytes that a row group's values take before they are encoded, unless a single row takes more. What a writer
/// keeps in memory, and a reader of a row group, follows from it.
const GROUP_BYTES: usize = 16 << 20;
/// A page has all rows of a group, as small pages compress worse; only long texts are cut.
const PAGE_BYTES: usize = 2 << 20;
/// How many values are looked at before a page's size is.
const LOOK_EVERY: usize = 8192;
/// Texts that take more than this do not repeat enough to be worth a dictionary.
const DICTIONARY_BYTES: usize = 64 << 10;

/// Writes one file.
pub struct FileWriter<W: Write + Send = Box<dyn Write + Send>> {
    name: String,
    place: String,
    layout: Arc<Layout>,
    writer: SerializedFileWriter<Hashing<W>>,
    factory: ArrowRowGroupWriterFactory,
    group: Group,
    rows: u64,
}

/// The row group that is being written.
#[derive(Default)]
struct Group {
    names: Names,
    /// One for each column but that of names; none before the first row.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
    /// Bytes of its values before they are encoded.
    bytes: usize,
}

impl<W: Write + Send> std::fmt::Debug for FileWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter")
            .field("place", &self.place)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Creates a file; there must be none of this name.
    ///
    /// # Errors
    /// It can't be created.
    pub fn create(
        store: &dyn Store,
        name: &str,
        layout: Arc<Layout>,
    ) -> Result<Self, ParquetError> {
        Self::over(store.create(name)?, name, store.place(name), layout)
    }
}

impl<W: Write + Send> FileWriter<W> {
    /// Writes a file called `name` to something else than a store; errors name `place`.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub fn over(
        to: W,
        name: &str,
        place: String,
        layout: Arc<Layout>,
    ) -> Result<Self, ParquetError> {
        let options = ArrowWriterOptions::new().with_properties(properties(layout.schema()));
        let schema = Arc::clone(layout.schema());
        let writer = ArrowWriter::try_new_with_options(Hashing::new(to), schema, options);
        let (writer, factory) = writer
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|source| write_error(&place, source))?;
        Ok(Self {
            name: name.to_owned(),
            place,
            layout,
            writer,
            factory,
            group: Group::default(),
            rows: 0,
        })
    }

    /// The layout of the file.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Writes a record batch of the file's layout.
    ///
    /// # Errors
    /// It has another schema, or it can't be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut at = 0;
        while at < batch.num_rows() {
            let room = GROUP_ROWS.saturating_sub(self.group.rows);
            let used = self.group.bytes + self.group.names.bytes();
            let budget = GROUP_BYTES.saturating_sub(used);
            let (count, bytes) = rows_within(batch, at, room, budget, self.group.rows == 0);
            let mut done = Ok(());
            if count > 0 {
                done = self.add(&batch.slice(at, count));
                self.group.bytes += bytes;
                at += count;
            }
            if done.is_ok() && (count == 0 || self.group.rows >= GROUP_ROWS) {
                done = self.end_group();
            }
            done.map_err(|source| write_error(&self.place, source))?;
        }
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch) -> ParquetResult<()> {
        let schema = self.layout.schema();
        if batch.schema_ref() != schema {
            let problem = "the rows are not of the file's layout".to_owned();
            return Err(LibraryError::General(problem));
        }
        let runs = runs_of_tables(batch.column(0))
            .map_err(|RowsError(problem)| LibraryError::General(problem))?;
        for (name, rows) in runs {
            self.group.names.add(name, rows);
        }
        if self.group.columns.is_empty() {
            let number = self.writer.flushed_row_groups().len();
            self.group.columns = self.factory.create_column_writers(number)?;
            self.group.columns.remove(0);
        }
        let columns = schema.fields().iter().zip(batch.columns()).skip(1);
        for ((field, column), writer) in columns.zip(&mut self.group.columns) {
            for leaf in compute_leaves(field, column)? {
                writer.write(&leaf)?;
            }
        }
        self.group.rows += batch.num_rows();
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn end_group(&mut self) -> ParquetResult<()> {
        let mut group = std::mem::take(&mut self.group);
        if group.rows == 0 {
            return Ok(());
        }
        let names = self.writer.schema_descr().column(0);
        let mut writer = self.writer.next_row_group()?;
        let (chunk, close) = group.names.take(names)?;
        writer.append_column(&chunk, close)?;
        for column in group.columns {
            column.close()?.append_to_row_group(&mut writer)?;
        }
        writer.close()?;
        Ok(())
    }

    /// Ends the file: where it was written to, and its entry. It is not yet durable.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self) -> Result<(W, FileEntry), ParquetError> {
        let ended = self.end_group();
        let place = self.place;
        let hashing = ended
            .and_then(|()| self.writer.into_inner())
            .map_err(|source| write_error(&place, source))?;
        let (mut to, entry) = hashing.finish(self.name, self.rows);
        to.flush().map_err(StoreError::io(place))?;
        Ok((to, entry))
    }
}

/// Writes row batches into files, of which `create` makes one when it is needed: for the first rows, and whenever a column
/// has to be raw that was not before.
pub struct RowsWriter<W: Write + Send, C> {
    layout: Arc<Layout>,
    create: C,
    current: Option<FileWriter<W>>,
    entries: Vec<FileEntry>,
}

impl<W: Write + Send, C> std::fmt::Debug for RowsWriter<W, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowsWriter")
            .field("current", &self.current)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl<W, C> RowsWriter<W, C>
where
    W: Write + Send,
    C: FnMut(usize, Arc<Layout>) -> Result<FileWriter<W>, ParquetError>,
{
    /// Writes rows of this layout to files that `create` makes, given how many there were before and the layout.
    pub fn new(layout: Layout, create: C) -> Self {
        Self {
            layout: Arc::new(layout),
            create,
            current: None,
            entries: Vec::new(),
        }
    }

    /// Writes a row batch, which follows the ones before by table and key. `name_of` tells the names of tables.
    ///
    /// # Errors
    /// The batch does not fit the layout, or it can't be written.
    pub fn write<'n>(
        &mut self,
        batch: RowBatch,
        name_of: &dyn Fn(Uid) -> Option<&'n str>,
    ) -> Result<(), ParquetError> {
        let encoded = encode(&self.layout, batch, name_of).map_err(|source| {
            let place = self.current.as_ref().map(|file| file.place.clone());
            ParquetError::Encode {
                place: place.unwrap_or_else(|| "the next file of rows".to_owned()),
                source,
            }
        })?;
        if !encoded.raw.is_empty() {
            self.end_file()?;
            self.layout = Arc::new(self.layout.with_raw(&encoded.raw));
        }
        if encoded.batch.num_rows() == 0 {
            return Ok(());
        }
        let file = match &mut self.current {
            Some(file) => file,
            none => {
                let file = (self.create)(self.entries.len(), Arc::clone(&self.layout))?;
                none.insert(file)
            }
        };
        file.write(&encoded.batch)
    }

    fn end_file(&mut self) -> Result<(), ParquetError> {
        if let Some(file) = self.current.take() {
            let (_, entry) = file.finish()?;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Ends the last file: the files in the order of their rows; none if there were no rows.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self) -> Result<Vec<FileEntry>, ParquetError> {
        self.end_file()?;
        Ok(self.entries)
    }
}

fn write_error(place: &str, source: LibraryError) -> ParquetError {
    ParquetError::Write {
        place: place.to_owned(),
        source: Box::new(source),
    }
}

/// How columns are encoded. Numbers are not worth a dictionary; differences of keys, versions and integers are small.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let own = schema.metadata().iter();
    let own = own.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(GROUP_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(LOOK_EVERY)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(own.collect()));
    for field in schema.fields() {
        let column = ColumnPath::new(vec![field.name().clone()]);
        let encoding = match field.data_type() {
            Arrow::Dictionary(..) => continue,
            Arrow::Utf8 | Arrow::Binary => {
                // Where values do not repeat, the dictionary is given up on the way.
                properties = properties
                    .set_column_encoding(column.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                    .set_column_dictionary_page_size_limit(column, DICTIONARY_BYTES);
                continue;
            }
            Arrow::Boolean | Arrow::Float32 | Arrow::Float64 => Encoding::PLAIN,
            Arrow::Decimal128(19.., _) => Encoding::PLAIN,
            _ => Encoding::DELTA_BINARY_PACKED,
        };
        properties = properties
            .set_column_encoding(column.clone(), encoding)
            .set_column_dictionary_enabled(column, false);
    }
    properties.build()
}

/// How many rows from `at` on, `room` at most, take no more than `budget` bytes, and how many they take. If there are to be
/// `some`, it is one at least.
fn rows_within(
    batch: &RecordBatch,
    at: usize,
    room: usize,
    budget: usize,
    some: bool,
) -> (usize, usize) {
    let mut fixed = 0;
    let mut offsets = Vec::new();
    for column in batch.columns() {
        match column.data_type() {
            Arrow::Utf8 => offsets.extend(column.as_string_opt().map(|a| a.value_offsets())),
            Arrow::Binary => offsets.extend(column.as_binary_opt().map(|a| a.value_offsets())),
            Arrow::Boolean => fixed += 1,
            Arrow::Dictionary(..) => fixed += 4,
            other => fixed += other.primitive_width().unwrap_or(16),
        }
    }
    let bytes = |count: usize| {
        let variable = |offsets: &&[i32]| match (offsets.get(at), offsets.get(at + count)) {
            (Some(start), Some(end)) => (end - start) as usize,
            _ => 0,
        };
        count * fixed + offsets.iter().map(variable).sum::<usize>()
    };
    let most = room.min(batch.num_rows() - at);
    let (mut fits, mut too_many) = (usize::from(some).min(most), most + 1);
    while fits + 1 < too_many {
        let middle = fits.midpoint(too_many);
        match bytes(middle) <= budget {
            true => fits = middle,
            false => too_many = middle,
        }
    }
    (fits, bytes(fits))
}
