//! A row batch → a record batch.

use super::layout::{FileColumn, Layout, decimal_of};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, new_null_array,
    types::{
        ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::ArrowError;
use model::{Bits, CellValues, Cells, ColumnId, DataType, Precision, RowBatch, Uid};
use std::sync::Arc;

/// A record batch, and which columns had to be made raw for it.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The rows. If columns were made raw, the schema is that of [`Layout::with_raw`].
    pub batch: RecordBatch,
    /// Columns that the layout does not have as raw, and that hold a value which does not fit.
    pub raw: Vec<ColumnId>,
}

/// A row batch that can't be turned into Arrow.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Nobody knows the table's name.
    #[error("there are rows of a table with the id {0}, whose name is not known")]
    NoName(Uid),
    /// The batch's parts do not fit each other.
    #[error("a batch of rows is not whole: {0} does not have a value for each of its rows")]
    Uneven(String),
    /// The batch is not of the table.
    #[error("column {column:?} is {declared}, its values are {found}")]
    OtherType {
        /// The column's name.
        column: String,
        /// The type it has in the layout.
        declared: DataType,
        /// The type of its values.
        found: DataType,
    },
    /// What the Arrow library says.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Turns a row batch into a record batch. `name_of` tells the names of tables. Columns that the layout does not have are left
/// out, columns that the batch does not have are NULL.
///
/// # Errors
/// A table has no name, or the batch does not fit the layout.
pub fn encode<'n>(
    layout: &Layout,
    batch: RowBatch,
    name_of: &dyn Fn(Uid) -> Option<&'n str>,
) -> Result<Encoded, EncodeError> {
    let rows = batch.len();
    let precision = layout.origin().precision;
    let uneven = |what: &str| EncodeError::Uneven(what.to_owned());
    if batch.versions.len() != rows {
        return Err(uneven("the version"));
    }
    let versions: Vec<i64> = batch
        .versions
        .into_iter()
        .map(|version| version.0)
        .collect();
    let keys: Vec<i64> = batch.keys.into_iter().map(|key| key.0).collect();
    let mut arrays: Vec<ArrayRef> = vec![
        table_names(&batch.tables, rows, name_of)?,
        Arc::new(Int64Array::from(versions)),
        timestamps(keys.into(), None, precision),
    ];
    let mut raw = Vec::new();
    let mut columns = batch.columns.into_iter().peekable();
    let mut later: Vec<Cells> = Vec::new();
    for column in layout.columns().iter().skip(1) {
        // The ids of a table's columns ascend, so that columns mostly come in the batch's order.
        let mut cells = later
            .iter()
            .position(|cells| cells.column == column.id)
            .map(|at| later.swap_remove(at));
        while cells.is_none() {
            match columns.next() {
                Some(next) if next.column == column.id => cells = Some(next),
                Some(next) => later.push(next),
                None => break,
            }
        }
        arrays.push(match cells {
            None => new_null_array(&column.arrow_type(precision), rows),
            Some(cells) => {
                let (array, fits) = array(column, cells, rows, precision)?;
                if !fits {
                    raw.push(column.id);
                }
                array
            }
        });
    }
    let schema = match raw.as_slice() {
        [] => Arc::clone(layout.schema()),
        raw => Arc::clone(layout.with_raw(raw).schema()),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
    Ok(Encoded { batch, raw })
}

/// The name of each row's table.
fn table_names<'n>(
    tables: &[(Uid, usize)],
    rows: usize,
    name_of: &dyn Fn(Uid) -> Option<&'n str>,
) -> Result<ArrayRef, EncodeError> {
    let mut numbers = Vec::with_capacity(rows);
    let mut names = Vec::with_capacity(tables.len());
    for (number, (uid, count)) in (0_i32..).zip(tables) {
        names.push(name_of(*uid).ok_or(EncodeError::NoName(*uid))?);
        if *count > rows - numbers.len() {
            return Err(EncodeError::Uneven("the list of tables".to_owned()));
        }
        numbers.resize(numbers.len() + count, number);
    }
    if numbers.len() != rows {
        return Err(EncodeError::Uneven("the list of tables".to_owned()));
    }
    let names = Arc::new(StringArray::from_iter_values(names));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        Int32Array::from(numbers),
        names,
    )?))
}

/// A column's values, and whether they all fit the type that readers expect; if not, they are raw.
fn array(
    column: &FileColumn,
    cells: Cells,
    rows: usize,
    precision: Precision,
) -> Result<(ArrayRef, bool), EncodeError> {
    let data_type = column.column_type.data_type;
    if cells.data_type != data_type {
        return Err(EncodeError::OtherType {
            column: column.name.clone(),
            declared: data_type,
            found: cells.data_type,
        });
    }
    let uneven = || EncodeError::Uneven(format!("column {:?}", column.name));
    let nulls = match cells.valid {
        None => None,
        Some(valid) if valid.len() == rows => Some(nulls(valid)),
        Some(_) => return Err(uneven()),
    };
    match cells.values {
        CellValues::Absent => Ok((new_null_array(&column.arrow_type(precision), rows), true)),
        CellValues::Fixed { width, bytes } => {
            let whole = rows.checked_mul(width) == Some(bytes.len());
            if !whole || data_type.stored_width() != Some(width) {
                return Err(uneven());
            }
            Ok(fixed(column, bytes, nulls, rows, precision))
        }
        CellValues::Variable { starts, bytes } => {
            let ascending = starts.is_sorted() && starts.first().is_some_and(|first| *first >= 0);
            let end = starts.last().and_then(|end| usize::try_from(*end).ok());
            let within = end.is_some_and(|end| end <= bytes.len());
            if !ascending
                || !within
                || starts.len() != rows + 1
                || data_type.stored_width().is_some()
            {
                return Err(uneven());
            }
            Ok(variable(column, starts, bytes, nulls))
        }
    }
}

fn nulls(valid: Bits) -> NullBuffer {
    let rows = valid.len();
    NullBuffer::new(BooleanBuffer::new(
        Buffer::from_vec(valid.into_bytes()),
        0,
        rows,
    ))
}

/// Bytes as numbers, where they are. Only if an allocator has put them where such numbers can't be, they are copied.
fn numbers<T: ArrowNativeType>(bytes: impl Into<Buffer>) -> ScalarBuffer<T> {
    let mut buffer: Buffer = bytes.into();
    let count = buffer.len() / size_of::<T>();
    if buffer.as_ptr().align_offset(align_of::<T>()) != 0 {
        buffer = Buffer::from_slice_ref(buffer.as_slice());
    }
    ScalarBuffer::new(buffer, 0, count)
}

fn primitive<T: ArrowPrimitiveType>(bytes: Vec<u8>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(numbers(bytes), nulls))
}

fn timestamps(
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
    precision: Precision,
) -> ArrayRef {
    match precision {
        Precision::Milliseconds => {
            Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone("UTC"))
        }
        Precision::Microseconds => {
            Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC"))
        }
        Precision::Nanoseconds => {
            Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone("UTC"))
        }
    }
}

fn fixed(
    column: &FileColumn,
    bytes: Vec<u8>,
    nulls: Option<NullBuffer>,
    rows: usize,
    precision: Precision,
) -> (ArrayRef, bool) {
    let array = match column.column_type.data_type {
        DataType::Bool => {
            let set = |at: usize| bytes.get(at).is_some_and(|byte| *byte != 0);
            Arc::new(BooleanArray::new(
                BooleanBuffer::collect_bool(rows, set),
                nulls,
            ))
        }
        DataType::TinyInt => primitive::<Int8Type>(bytes, nulls),
        DataType::SmallInt => primitive::<Int16Type>(bytes, nulls),
        DataType::Int => primitive::<Int32Type>(bytes, nulls),
        DataType::UTinyInt => primitive::<UInt8Type>(bytes, nulls),
        DataType::USmallInt => primitive::<UInt16Type>(bytes, nulls),
        DataType::UInt => primitive::<UInt32Type>(bytes, nulls),
        DataType::UBigInt => primitive::<UInt64Type>(bytes, nulls),
        DataType::Float => primitive::<Float32Type>(bytes, nulls),
        DataType::Double => primitive::<Float64Type>(bytes, nulls),
        DataType::Timestamp => timestamps(numbers(bytes), nulls, precision),
        DataType::Decimal | DataType::Decimal64 => return decimals(column, bytes, nulls, rows),
        // BIGINT; all others are of variable length.
        _ => primitive::<Int64Type>(bytes, nulls),
    };
    (array, true)
}

fn decimals(
    column: &FileColumn,
    bytes: Vec<u8>,
    nulls: Option<NullBuffer>,
    rows: usize,
) -> (ArrayRef, bool) {
    let width = bytes.len() / rows.max(1);
    let bytes = Buffer::from_vec(bytes);
    let wanted = decimal_of(column.column_type).filter(|_| !column.raw);
    if let Some((precision, scale)) = wanted {
        let values: ScalarBuffer<i128> = match column.column_type.data_type {
            DataType::Decimal64 => {
                let narrow: ScalarBuffer<i64> = numbers(bytes.clone());
                narrow.iter().map(|value| i128::from(*value)).collect()
            }
            _ => numbers(bytes.clone()),
        };
        let limit = 10_u128.pow(precision.into());
        let has_value = |at| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at));
        let fits = |(at, value): (usize, &i128)| value.unsigned_abs() < limit || !has_value(at);
        if values.iter().enumerate().all(fits) {
            let array = PrimitiveArray::new(values, nulls);
            let data_type = arrow_schema::DataType::Decimal128(precision, scale);
            let array: Decimal128Array = array.with_data_type(data_type);
            return (Arc::new(array), true);
        }
    }
    let lengths = std::iter::repeat_n(width, rows);
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = BinaryArray::new(offsets, bytes, nulls);
    (Arc::new(array), wanted.is_none())
}

fn variable(
    column: &FileColumn,
    starts: Vec<i32>,
    bytes: Vec<u8>,
    nulls: Option<NullBuffer>,
) -> (ArrayRef, bool) {
    let offsets = OffsetBuffer::new(starts.into());
    let bytes = Buffer::from_vec(bytes);
    let wanted = column.column_type.data_type.is_text() && !column.raw;
    if wanted {
        let text = match column.column_type.data_type {
            DataType::Nchar => utf8(&offsets, &bytes),
            _ => Some((offsets.clone(), bytes.clone())),
        };
        let text = text
            .and_then(|(offsets, bytes)| StringArray::try_new(offsets, bytes, nulls.clone()).ok());
        if let Some(text) = text {
            return (Arc::new(text), true);
        }
    }
    let array = BinaryArray::new(offsets, bytes, nulls);
    (Arc::new(array), !wanted)
}

/// NCHAR, four bytes a character, as UTF-8; `None` if a number is no character.
fn utf8(offsets: &OffsetBuffer<i32>, bytes: &[u8]) -> Option<(OffsetBuffer<i32>, Buffer)> {
    let mut text = Vec::with_capacity(bytes.len() / 4);
    let mut starts = Vec::with_capacity(offsets.len());
    starts.push(0);
    let mut start = *offsets.iter().next()? as usize;
    for end in offsets.iter().skip(1) {
        let value = bytes.get(start..*end as usize)?;
        let (characters, []) = value.as_chunks::<4>() else {
            return None;
        };
        for character in characters {
            match u32::from_le_bytes(*character) {
                ascii @ ..0x80 => text.push(ascii as u8),
                other => {
                    let character = char::from_u32(other)?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        starts.push(i32::try_from(text.len()).ok()?);
        start = *end as usize;
    }
    Some((OffsetBuffer::new(starts.into()), Buffer::from_vec(text)))
}
