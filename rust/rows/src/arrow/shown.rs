//! Columns of a record batch as a server's answer would have them: NCHAR as UTF-8, DECIMAL as text.

use super::FileColumn;
use arrow_array::{
    Array, ArrayRef, BinaryArray,
    builder::BinaryBuilder,
    cast::AsArray as _,
    types::{
        Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType as Arrow, TimeUnit};
use model::{DataType, Value, decimal};
use std::sync::Arc;

/// The value of a row of a column that is shown.
pub(crate) fn value(array: &dyn Array, row: usize) -> Value<'_> {
    let there = row < array.len() && array.is_valid(row);
    let value = there.then(|| some_value(array, row));
    value.flatten().unwrap_or(Value::Null)
}

fn some_value(array: &dyn Array, row: usize) -> Option<Value<'_>> {
    macro_rules! number {
        ($type:ty, $value:ident) => {
            Value::$value(array.as_primitive_opt::<$type>()?.value(row).into())
        };
    }
    Some(match array.data_type() {
        Arrow::Boolean => Value::Bool(array.as_boolean_opt()?.value(row)),
        Arrow::Int8 => number!(Int8Type, Int),
        Arrow::Int16 => number!(Int16Type, Int),
        Arrow::Int32 => number!(Int32Type, Int),
        Arrow::Int64 => number!(Int64Type, Int),
        Arrow::UInt8 => number!(UInt8Type, UInt),
        Arrow::UInt16 => number!(UInt16Type, UInt),
        Arrow::UInt32 => number!(UInt32Type, UInt),
        Arrow::UInt64 => number!(UInt64Type, UInt),
        Arrow::Float32 => number!(Float32Type, Float),
        Arrow::Float64 => number!(Float64Type, Double),
        Arrow::Timestamp(TimeUnit::Millisecond, _) => number!(TimestampMillisecondType, Int),
        Arrow::Timestamp(TimeUnit::Microsecond, _) => number!(TimestampMicrosecondType, Int),
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => number!(TimestampNanosecondType, Int),
        Arrow::Utf8 => Value::Bytes(array.as_string_opt::<i32>()?.value(row).as_bytes()),
        Arrow::Binary => Value::Bytes(array.as_binary_opt::<i32>()?.value(row)),
        _ => return None,
    })
}

/// A column as a server's answer has it.
pub(crate) fn column(column: &FileColumn, array: &ArrayRef) -> ArrayRef {
    let column_type = column.column_type;
    let is_decimal = column_type.data_type.is_decimal();
    if let Some(digits) = array.as_primitive_opt::<Decimal128Type>() {
        let values = digits.iter();
        return texts(
            values.map(|value| value.map(|value| decimal::to_text(value, column_type.scale()))),
        );
    }
    match array.as_binary_opt::<i32>() {
        Some(stored) if column.raw && is_decimal => texts(stored.iter().map(|value| {
            let value = value.and_then(integer)?;
            Some(decimal::to_text(value, column_type.scale()))
        })),
        Some(stored) if column.raw && column_type.data_type == DataType::Nchar => {
            texts(stored.iter().map(|value| value.map(characters)))
        }
        _ => Arc::clone(array),
    }
}

fn texts<T: AsRef<[u8]>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    values.for_each(|value| builder.append_option(value));
    let array: BinaryArray = builder.finish();
    Arc::new(array)
}

/// The digits of a DECIMAL as the server stores them.
fn integer(bytes: &[u8]) -> Option<i128> {
    match bytes.len() {
        8 => Some(i64::from_le_bytes(bytes.try_into().ok()?).into()),
        16 => Some(i128::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// Numbers of four bytes as UTF-8 was first defined: it has room for those that are no characters, so that whoever is given
/// the text can tell.
pub(super) fn characters(stored: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(stored.len() / 4);
    let (characters, rest) = stored.as_chunks::<4>();
    for character in characters {
        let number = u32::from_le_bytes(*character);
        let (first, more) = match number {
            0..0x80 => (0, 0),
            0x80..0x800 => (0xc0, 1),
            0x800..0x1_0000 => (0xe0, 2),
            0x1_0000..0x20_0000 => (0xf0, 3),
            0x20_0000..0x400_0000 => (0xf8, 4),
            0x400_0000..0x8000_0000 => (0xfc, 5),
            0x8000_0000.. => (0xfe, 6),
        };
        // The first byte of seven has no room for the upper bits.
        let upper = number.checked_shr(6 * more).unwrap_or(0);
        text.push(first | upper as u8);
        for place in (0..more).rev() {
            text.push(0x80 | (number >> (6 * place)) as u8 & 0x3f);
        }
    }
    text.extend_from_slice(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_the_same_utf8_that_everybody_writes() {
        let text = "a\0é风\u{10ffff}";
        let stored: Vec<u8> = text
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        assert_eq!(characters(&stored), text.as_bytes());
        assert_eq!(characters(&0xd800_u32.to_le_bytes()), [0xed, 0xa0, 0x80]);
        assert_eq!(characters(&u32::MAX.to_le_bytes()).len(), 7);
        assert_eq!(characters(b"ab"), b"ab");
    }
}
