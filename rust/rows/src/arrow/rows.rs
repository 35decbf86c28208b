//! A record batch, table by table and column by column.

use super::{
    layout::{FileColumn, LEADING, Layout, TABLE, VERSION},
    shown,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, RecordBatch, StringArray,
    cast::AsArray as _,
    types::{
        Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType as Arrow, TimeUnit};
use model::{DataType, Key, KeySpan, OwnedValue, Version};
use std::{borrow::Cow, collections::BTreeSet, ops::Range, sync::Arc};

/// A record batch that is not of the layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowsError(pub(crate) String);

/// The rows of a record batch, each of which belongs to a table.
#[derive(Debug, Clone)]
pub struct TablesOf {
    layout: Arc<Layout>,
    batch: RecordBatch,
    keys: ScalarBuffer<i64>,
    versions: Option<ScalarBuffer<i64>>,
    /// Whose rows are where.
    tables: Vec<(String, Range<usize>)>,
    /// For each further array of the batch its column in the layout.
    columns: Vec<(usize, usize)>,
}

/// Rows of one table that follow each other.
#[derive(Debug, Clone)]
pub struct TableRows<'a> {
    of: &'a TablesOf,
    /// The table.
    pub name: &'a str,
    rows: Range<usize>,
}

/// Cells of a column that follow each other.
#[derive(Debug, Clone)]
pub struct ColumnRows<'a> {
    /// The column.
    pub column: &'a FileColumn,
    /// Which rows have a value; `None`: all of them.
    pub valid: Option<NullBuffer>,
    /// The values. Rows without a value have one too, which means nothing.
    pub values: Values<'a>,
}

/// The values of a column as they lie in memory.
#[derive(Debug, Clone)]
pub enum Values<'a> {
    /// BOOL.
    Bits(BooleanBuffer),
    /// `width` bytes a row, little-endian: integers, floats and timestamps.
    Fixed {
        /// Bytes of a value.
        width: usize,
        /// All of them.
        bytes: &'a [u8],
    },
    /// DECIMAL: the digits without the point.
    Decimal(&'a [i128]),
    /// Text (UTF-8, unless the column is raw) or bytes.
    Variable {
        /// Where each row's value begins in `bytes`, and at last where the last one ends.
        starts: &'a [i32],
        /// The values one behind the other, and maybe others before and behind them.
        bytes: &'a [u8],
    },
}

impl TablesOf {
    /// Looks at a record batch. It has the columns of the layout or some of them, but always the table's name and the key.
    ///
    /// # Errors
    /// It is not of this layout.
    pub fn new(layout: Arc<Layout>, batch: RecordBatch) -> Result<Self, RowsError> {
        let foreign = |what: &str| RowsError(format!("there are rows without {what}"));
        let schema = layout.schema();
        let mut columns = Vec::new();
        for (at, field) in batch.schema_ref().fields().iter().enumerate() {
            let own = schema.column_with_name(field.name());
            match own {
                Some((_, own)) if own.data_type() != field.data_type() => {
                    let problem = format!("column {:?} is {}", field.name(), field.data_type());
                    return Err(RowsError(problem));
                }
                Some((place, _)) if place >= LEADING => columns.push((at, place - LEADING)),
                Some(_) => {}
                None => return Err(RowsError(format!("column {:?} is unknown", field.name()))),
            }
        }
        let names = batch.column_by_name(TABLE);
        let names = names.ok_or_else(|| foreign("a table's name"))?;
        let mut tables: Vec<(String, Range<usize>)> = Vec::new();
        for (name, rows) in runs_of_tables(names)? {
            let start = tables.last().map_or(0, |(_, rows)| rows.end);
            match tables.last_mut() {
                // A dictionary may hold a name twice.
                Some((last, so_far)) if last == name => so_far.end += rows,
                _ => tables.push((name.to_owned(), start..start + rows)),
            }
        }
        let key = columns.iter().find(|(_, place)| *place == 0);
        let key = key.and_then(|(at, _)| timestamps(batch.column(*at)));
        let keys = key.ok_or_else(|| foreign("a key"))?.clone();
        let versions = batch.column_by_name(VERSION);
        let versions = versions.and_then(|versions| versions.as_primitive_opt::<Int64Type>());
        let versions = versions.map(|versions| versions.values().clone());
        Ok(Self {
            layout,
            batch,
            keys,
            versions,
            tables,
            columns,
        })
    }

    /// Keeps only rows of these tables (`None`: all) whose keys lie in the span.
    ///
    /// # Errors
    /// The keys of a table do not ascend.
    pub(crate) fn narrow(
        &mut self,
        tables: Option<&BTreeSet<String>>,
        span: KeySpan,
    ) -> Result<(), RowsError> {
        let keys = &self.keys;
        let mut ascending = true;
        self.tables.retain_mut(|(name, rows)| {
            if tables.is_some_and(|tables| !tables.contains(name)) {
                return false;
            }
            let of_table = keys.get(rows.clone()).unwrap_or_default();
            ascending &= of_table.is_sorted();
            let before = of_table.partition_point(|key| *key < span.first.0);
            let through = of_table.partition_point(|key| *key <= span.last.0);
            *rows = rows.start + before..rows.start + through;
            before < through
        });
        match ascending {
            true => Ok(()),
            false => Err(RowsError("its rows are not sorted by key".to_owned())),
        }
    }

    /// The layout of the file.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The tables in the order of their rows.
    pub fn tables(&self) -> impl Iterator<Item = TableRows<'_>> {
        self.tables.iter().map(|(name, rows)| TableRows {
            of: self,
            name,
            rows: rows.clone(),
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The whole record batch; rows that were not asked for may be in it.
    pub fn record_batch(&self) -> &RecordBatch {
        &self.batch
    }
}

impl<'a> TableRows<'a> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Where the rows are in the record batch.
    pub fn range(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Some of the rows, counted from the first of these.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let end = |place: usize| self.rows.start.saturating_add(place).min(self.rows.end);
        Self {
            of: self.of,
            name: self.name,
            rows: end(rows.start)..end(rows.end).max(end(rows.start)),
        }
    }

    /// The rows one by one, as a server's answer would have them: NCHAR as UTF-8, DECIMAL as text. Their values are in the
    /// order of [`Self::columns`].
    pub fn shown(&self) -> impl Iterator<Item = Vec<OwnedValue>> + use<> {
        let columns = self.of.columns.iter().filter_map(|(at, place)| {
            let column = self.of.layout.columns().get(*place)?;
            let array = self.of.batch.column(*at);
            let array = array.slice(self.rows.start, self.rows.len());
            Some(shown::column(column, &array))
        });
        let columns: Vec<ArrayRef> = columns.collect();
        (0..self.rows.len()).map(move |row| {
            let values = columns.iter();
            values
                .map(|array| shown::value(array, row).into())
                .collect()
        })
    }

    /// The keys, ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = Key> + use<'a> {
        let keys = self.of.keys.get(self.rows.clone());
        keys.unwrap_or_default().iter().map(|key| Key(*key))
    }

    /// The versions that last wrote to the rows; none if they were not asked for.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = Version> + use<'a> {
        let versions = self.of.versions.as_ref();
        let versions = versions.and_then(|versions| versions.get(self.rows.clone()));
        let versions = versions.unwrap_or_default().iter();
        versions.map(|version| Version(*version))
    }

    /// The columns in the order of the layout, the key first; those that were not asked for are not among them.
    ///
    /// # Errors
    /// A column is not what the layout says.
    pub fn columns(&self) -> Result<Vec<ColumnRows<'a>>, RowsError> {
        let of = self.of;
        let columns = of.columns.iter().map(|(at, place)| {
            let column = of.layout.columns().get(*place);
            let column = column.ok_or_else(|| RowsError("a column is unknown".to_owned()))?;
            let array = of.batch.column(*at);
            let wrong = || {
                let found = array.data_type();
                RowsError(format!("column {:?} is kept as {found}", column.name))
            };
            Ok(ColumnRows {
                column,
                valid: array
                    .nulls()
                    .map(|nulls| nulls.slice(self.rows.start, self.rows.len())),
                values: values(array, &self.rows).ok_or_else(wrong)?,
            })
        });
        columns.collect()
    }
}

impl ColumnRows<'_> {
    /// Whether row `i` has no value.
    #[inline]
    pub fn is_null(&self, i: usize) -> bool {
        self.valid
            .as_ref()
            .is_some_and(|valid| i >= valid.len() || valid.is_null(i))
    }

    /// How many bytes the values take.
    pub fn value_bytes(&self) -> usize {
        match &self.values {
            Values::Bits(bits) => bits.len(),
            Values::Fixed { bytes, .. } => bytes.len(),
            Values::Decimal(values) => size_of_val(*values),
            Values::Variable { starts, .. } => match (starts.first(), starts.last()) {
                (Some(first), Some(last)) => usize::try_from(last - first).unwrap_or(0),
                _ => 0,
            },
        }
    }

    /// The bytes of the value of row `i`, where values lie in memory as bytes.
    #[inline]
    pub fn bytes(&self, i: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Fixed { width, bytes } => bytes.get(i * width..(i + 1) * width),
            Values::Variable { starts, bytes } => match starts.get(i..i + 2) {
                Some([start, end]) => bytes.get(*start as usize..*end as usize),
                _ => None,
            },
            Values::Bits(_) | Values::Decimal(_) => None,
        }
    }
}

impl ColumnRows<'_> {
    /// The value of row `i` as a server's answer would have it, where values have any length: NCHAR is UTF-8, also if the
    /// column is raw.
    pub fn text(&self, i: usize) -> Option<Cow<'_, [u8]>> {
        let bytes = self.bytes(i)?;
        let is_raw = self.column.raw && self.column.column_type.data_type == DataType::Nchar;
        Some(match is_raw {
            true => shown::characters(bytes).into(),
            false => bytes.into(),
        })
    }
}

/// Whose rows follow each other, and how many.
pub(crate) fn runs_of_tables(
    names: &ArrayRef,
) -> Result<impl Iterator<Item = (&str, usize)>, RowsError> {
    let no_name = || RowsError("there are rows without a table's name".to_owned());
    let names = names.as_dictionary_opt::<Int32Type>().ok_or_else(no_name)?;
    let numbers = names.keys();
    let texts = names.values().as_string_opt::<i32>();
    let texts = texts.ok_or_else(no_name)?;
    let known = |number: &i32| usize::try_from(*number).is_ok_and(|number| number < texts.len());
    if numbers.null_count() > 0 || texts.null_count() > 0 || !numbers.values().iter().all(known) {
        return Err(no_name());
    }
    let runs = numbers.values().chunk_by(|a, b| a == b);
    Ok(runs.map(|run| {
        let number = run.first().copied().unwrap_or_default();
        (texts.value(number as usize), run.len())
    }))
}

fn timestamps(array: &dyn Array) -> Option<&ScalarBuffer<i64>> {
    let array = match array.data_type() {
        Arrow::Timestamp(TimeUnit::Millisecond, _) => array
            .as_primitive_opt::<TimestampMillisecondType>()?
            .values(),
        Arrow::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive_opt::<TimestampMicrosecondType>()?
            .values(),
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive_opt::<TimestampNanosecondType>()?
            .values(),
        _ => return None,
    };
    Some(array)
}

/// The values of these rows.
fn values<'a>(array: &'a dyn Array, rows: &Range<usize>) -> Option<Values<'a>> {
    macro_rules! fixed {
        ($type:ty, $width:literal) => {
            Values::Fixed {
                width: $width,
                bytes: array
                    .as_primitive_opt::<$type>()?
                    .values()
                    .inner()
                    .as_slice()
                    .get(rows.start * $width..rows.end * $width)?,
            }
        };
    }
    let variable = |starts: &'a [i32], bytes: &'a [u8]| {
        Some(Values::Variable {
            starts: starts.get(rows.start..=rows.end)?,
            bytes,
        })
    };
    Some(match array.data_type() {
        Arrow::Boolean => {
            let array: &BooleanArray = array.as_boolean_opt()?;
            Values::Bits(array.values().slice(rows.start, rows.len()))
        }
        Arrow::Int8 => fixed!(Int8Type, 1),
        Arrow::Int16 => fixed!(Int16Type, 2),
        Arrow::Int32 => fixed!(Int32Type, 4),
        Arrow::Int64 => fixed!(Int64Type, 8),
        Arrow::UInt8 => fixed!(UInt8Type, 1),
        Arrow::UInt16 => fixed!(UInt16Type, 2),
        Arrow::UInt32 => fixed!(UInt32Type, 4),
        Arrow::UInt64 => fixed!(UInt64Type, 8),
        Arrow::Float32 => fixed!(Float32Type, 4),
        Arrow::Float64 => fixed!(Float64Type, 8),
        Arrow::Timestamp(..) => Values::Fixed {
            width: 8,
            bytes: timestamps(array)?
                .inner()
                .as_slice()
                .get(rows.start * 8..rows.end * 8)?,
        },
        Arrow::Decimal128(..) => {
            let array = array.as_primitive_opt::<Decimal128Type>()?;
            Values::Decimal(array.values().get(rows.clone())?)
        }
        Arrow::Utf8 => {
            let array: &StringArray = array.as_string_opt()?;
            return variable(array.value_offsets(), array.value_data());
        }
        Arrow::Binary => {
            let array: &BinaryArray = array.as_binary_opt()?;
            return variable(array.value_offsets(), array.value_data());
        }
        _ => return None,
    })
}
