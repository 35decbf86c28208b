//! Prepared INSERTs: rows are bound column by column, exactly as they are, and sent in batches.

use crate::{
    Connection, SqlError,
    api::{Handle, RawBind},
    connection::text_at,
};
use model::{DataType, Value, decimal};
use std::{
    ffi::{CString, c_int, c_ulong},
    ptr,
};

/// A prepared INSERT. Closed when dropped.
#[derive(Debug)]
pub struct Statement<'c> {
    connection: &'c Connection,
    handle: Handle,
    sql: String,
}

/// The values of one column of a batch.
#[derive(Debug, Clone)]
pub struct Column {
    pub(crate) data_type: DataType,
    /// Digits behind the point of a DECIMAL.
    scale: u8,
    pub(crate) bytes: Vec<u8>,
    /// The length of each value; `None` for NULL.
    pub(crate) lengths: Vec<Option<usize>>,
}

impl Column {
    /// An empty column.
    pub fn new(data_type: DataType) -> Self {
        Self::decimal(data_type, 0)
    }

    /// An empty column of DECIMALs with `scale` digits behind the point. Their values are text.
    pub fn decimal(data_type: DataType, scale: u8) -> Self {
        Self {
            data_type,
            scale,
            bytes: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// The bytes of one value; `None` for types of variable length.
    pub(crate) fn width(&self) -> Option<usize> {
        match self.data_type {
            DataType::Decimal64 => Some(8),
            DataType::Decimal => Some(16),
            data_type => data_type.width(),
        }
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Adds a value; false, and nothing is added, when it does not fit the type.
    #[must_use]
    pub fn push(&mut self, value: Value<'_>) -> bool {
        let before = self.bytes.len();
        macro_rules! number {
            ($value:expr, $type:ty) => {
                match <$type>::try_from($value) {
                    Ok(value) => self.bytes.extend_from_slice(&value.to_le_bytes()),
                    Err(_) => return false,
                }
            };
        }
        match (self.data_type, value) {
            (_, Value::Null) => {
                let width = self.width().unwrap_or(0);
                self.bytes.extend(std::iter::repeat_n(0, width));
                self.lengths.push(None);
                return true;
            }
            (DataType::Bool, Value::Bool(value)) => self.bytes.push(value.into()),
            (DataType::TinyInt, Value::Int(value)) => number!(value, i8),
            (DataType::SmallInt, Value::Int(value)) => number!(value, i16),
            (DataType::Int, Value::Int(value)) => number!(value, i32),
            (DataType::BigInt | DataType::Timestamp, Value::Int(value)) => number!(value, i64),
            (DataType::UTinyInt, Value::UInt(value)) => number!(value, u8),
            (DataType::USmallInt, Value::UInt(value)) => number!(value, u16),
            (DataType::UInt, Value::UInt(value)) => number!(value, u32),
            (DataType::UBigInt, Value::UInt(value)) => number!(value, u64),
            (DataType::Float, Value::Float(value)) => {
                self.bytes.extend_from_slice(&value.to_le_bytes())
            }
            (DataType::Double, Value::Double(value)) => {
                self.bytes.extend_from_slice(&value.to_le_bytes())
            }
            (DataType::Decimal, Value::Bytes(text)) => match decimal::from_text(text, self.scale) {
                Some(value) => self.bytes.extend_from_slice(&value.to_le_bytes()),
                None => return false,
            },
            (DataType::Decimal64, Value::Bytes(text)) => {
                match decimal::from_text(text, self.scale).map(i64::try_from) {
                    Some(Ok(value)) => self.bytes.extend_from_slice(&value.to_le_bytes()),
                    _ => return false,
                }
            }
            (data_type, Value::Bytes(bytes)) if data_type.width().is_none() => {
                self.bytes.extend_from_slice(bytes);
            }
            _ => return false,
        }
        self.lengths.push(Some(self.bytes.len() - before));
        true
    }

    fn stride(&self) -> usize {
        let longest = || {
            self.lengths
                .iter()
                .flatten()
                .copied()
                .max()
                .unwrap_or(0)
                .max(1)
        };
        self.width().unwrap_or_else(longest)
    }

    /// What the library wants: every value in a slot of the same size.
    fn slots(&self) -> Slots {
        let stride = self.stride();
        let mut buffer;
        if self.width().is_some() {
            buffer = self.bytes.clone();
        } else {
            buffer = vec![0; stride * self.len()];
            let mut at = 0;
            for (slot, length) in buffer.chunks_exact_mut(stride).zip(&self.lengths) {
                let length = length.unwrap_or(0);
                if let (Some(slot), Some(value)) =
                    (slot.get_mut(..length), self.bytes.get(at..at + length))
                {
                    slot.copy_from_slice(value);
                }
                at += length;
            }
        }
        Slots {
            buffer,
            stride,
            lengths: self
                .lengths
                .iter()
                .map(|length| length.unwrap_or(0) as i32)
                .collect(),
            nulls: self
                .lengths
                .iter()
                .map(|length| u8::from(length.is_none()))
                .collect(),
        }
    }
}

struct Slots {
    buffer: Vec<u8>,
    stride: usize,
    lengths: Vec<i32>,
    nulls: Vec<u8>,
}

/// How many rows a batch has.
///
/// # Errors
/// Its columns differ in length, or it is longer than the library takes.
pub(crate) fn row_count(columns: &[Column]) -> Result<c_int, SqlError> {
    let rows = columns.first().map_or(0, Column::len);
    if rows != 0 && columns.iter().any(|column| column.len() != rows) {
        return Err(SqlError::local("the columns of a batch differ in length"));
    }
    c_int::try_from(rows).map_err(|_| SqlError::local("a batch of more than 2^31 rows"))
}

/// A table's name, as the library takes it.
pub(crate) fn table_name(table: &str) -> Result<CString, SqlError> {
    CString::new(table).map_err(|_| SqlError::local("a table name can't hold a NUL"))
}

impl<'c> Statement<'c> {
    pub(crate) fn prepare(connection: &'c Connection, sql: &str) -> Result<Self, SqlError> {
        // SAFETY: the connection is live.
        let handle = unsafe { (connection.api.stmt_init)(connection.handle) };
        if handle.is_null() {
            return Err(crate::connection::last_error(&connection.api, sql));
        }
        let statement = Self {
            connection,
            handle,
            sql: sql.to_owned(),
        };
        // SAFETY: the statement is live, the text as long as said.
        let code = unsafe {
            (connection.api.stmt_prepare)(handle, sql.as_ptr().cast(), sql.len() as c_ulong)
        };
        statement.check(code)?;
        Ok(statement)
    }

    fn check(&self, code: c_int) -> Result<(), SqlError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the statement is live; the text lives until its next call.
        let text = unsafe { text_at((self.connection.api.stmt_errstr)(self.handle)) };
        Err(SqlError {
            code: code as u32,
            text,
            sql: None,
        }
        .in_sql(&self.sql))
    }

    /// Sets the table that the next rows go to; `table` is SQL text, that is escaped.
    pub fn set_table(&mut self, table: &str) -> Result<(), SqlError> {
        let name = table_name(table)?;
        // SAFETY: the statement is live, the name NUL-terminated and copied.
        let code = unsafe { (self.connection.api.stmt_set_tbname)(self.handle, name.as_ptr()) };
        self.check(code)
    }

    /// Sends a batch of rows to the table that is set. All columns are of one length.
    pub fn insert(&mut self, columns: &[Column]) -> Result<(), SqlError> {
        let count = row_count(columns)?;
        if count == 0 {
            return Ok(());
        }
        let mut slots: Vec<Slots> = columns.iter().map(Column::slots).collect();
        let binds: Vec<RawBind> = columns
            .iter()
            .zip(&mut slots)
            .map(|(column, slots)| RawBind {
                buffer_type: column.data_type as c_int,
                buffer: slots.buffer.as_mut_ptr().cast(),
                buffer_length: slots.stride,
                length: if column.width().is_some() {
                    ptr::null_mut()
                } else {
                    slots.lengths.as_mut_ptr()
                },
                is_null: slots.nulls.as_mut_ptr().cast(),
                num: count,
            })
            .collect();
        let api = &self.connection.api;
        // SAFETY: the statement is live; each bind's buffers hold `count` values, and the library has copied them
        // when add_batch returns.
        unsafe {
            self.check((api.stmt_bind_param_batch)(self.handle, binds.as_ptr()))?;
            self.check((api.stmt_add_batch)(self.handle))?;
            self.check((api.stmt_execute)(self.handle))?;
            let written = (api.stmt_affected_rows_once)(self.handle);
            if written != count {
                return Err(SqlError::local(format!(
                    "{count} rows were sent, the server took {written}"
                ))
                .in_sql(&self.sql));
            }
        }
        Ok(())
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live and closed once.
        unsafe {
            (self.connection.api.stmt_close)(self.handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variable_length_get_slots_of_the_longest() {
        let mut column = Column::new(DataType::Varchar);
        for value in [Value::Bytes(b"a\0b"), Value::Null, Value::Bytes(b"")] {
            assert!(column.push(value));
        }
        let slots = column.slots();
        assert_eq!(slots.buffer, b"a\0b\0\0\0\0\0\0");
        assert_eq!(
            (slots.stride, slots.lengths, slots.nulls),
            (3, vec![3, 0, 0], vec![0, 1, 0])
        );
    }

    #[test]
    fn decimals_are_bound_as_the_server_keeps_them() {
        for (text, scale, expected) in [
            ("12.5", 4, Some(125_000)),
            ("-0.5", 1, Some(-5)),
            ("7", 0, Some(7)),
            ("-.25", 2, Some(-25)),
            (
                "99999999999999999999999999999999999999",
                0,
                Some(10_i128.pow(38) - 1),
            ),
            ("1.25", 1, None),
            ("1e3", 1, None),
            ("--1", 0, None),
            ("", 0, None),
            (".", 0, None),
            ("999999999999999999999999999999999999999999", 0, None),
        ] {
            assert_eq!(
                decimal::from_text(text.as_bytes(), scale),
                expected,
                "{text}"
            );
        }
        let mut column = Column::decimal(DataType::Decimal64, 1);
        assert!(column.push(Value::Bytes(b"-0.1")) && column.push(Value::Null));
        assert!(!column.push(Value::Bytes(b"999999999999999999999")));
        let slots = column.slots();
        assert_eq!((slots.stride, slots.nulls), (8, vec![0, 1]));
        assert_eq!(slots.buffer[..8], (-1_i64).to_le_bytes());
    }

    #[test]
    fn a_value_that_does_not_fit_the_type_is_refused() {
        let mut column = Column::new(DataType::TinyInt);
        assert!(!column.push(Value::Int(128)));
        assert!(!column.push(Value::Bytes(b"1")));
        assert!(column.push(Value::Int(-128)));
        assert_eq!(column.slots().buffer, [0x80]);
    }
}
