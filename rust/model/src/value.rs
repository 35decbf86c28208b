//! Data types and values.

use std::{fmt, str::FromStr};

/// A column's or tag's data type. The numbers are those of taos.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i8)]
#[expect(missing_docs, reason = "they are SQL's types")]
pub enum DataType {
    Bool = 1,
    TinyInt = 2,
    SmallInt = 3,
    Int = 4,
    BigInt = 5,
    Float = 6,
    Double = 7,
    Varchar = 8,
    Timestamp = 9,
    Nchar = 10,
    UTinyInt = 11,
    USmallInt = 12,
    UInt = 13,
    UBigInt = 14,
    Json = 15,
    Varbinary = 16,
    /// More than 18 digits. Values are text.
    Decimal = 17,
    Blob = 18,
    MediumBlob = 19,
    Geometry = 20,
    /// Up to 18 digits. Values are text.
    Decimal64 = 21,
}

const TYPES: [(DataType, &str); 21] = [
    (DataType::Bool, "BOOL"),
    (DataType::TinyInt, "TINYINT"),
    (DataType::SmallInt, "SMALLINT"),
    (DataType::Int, "INT"),
    (DataType::BigInt, "BIGINT"),
    (DataType::Float, "FLOAT"),
    (DataType::Double, "DOUBLE"),
    (DataType::Varchar, "VARCHAR"),
    (DataType::Timestamp, "TIMESTAMP"),
    (DataType::Nchar, "NCHAR"),
    (DataType::UTinyInt, "TINYINT UNSIGNED"),
    (DataType::USmallInt, "SMALLINT UNSIGNED"),
    (DataType::UInt, "INT UNSIGNED"),
    (DataType::UBigInt, "BIGINT UNSIGNED"),
    (DataType::Json, "JSON"),
    (DataType::Varbinary, "VARBINARY"),
    (DataType::Decimal, "DECIMAL128"),
    (DataType::Blob, "BLOB"),
    (DataType::MediumBlob, "MEDIUMBLOB"),
    (DataType::Geometry, "GEOMETRY"),
    (DataType::Decimal64, "DECIMAL64"),
];

impl DataType {
    /// The type of this number.
    pub fn from_code(code: i8) -> Option<Self> {
        TYPES
            .iter()
            .map(|(data_type, _)| *data_type)
            .find(|data_type| *data_type as i8 == code)
    }

    /// Whether values are UTF-8 text (which VARCHAR does not enforce).
    pub fn is_text(self) -> bool {
        matches!(self, Self::Varchar | Self::Nchar | Self::Json)
    }

    /// Whether values are bytes that no charset applies to.
    pub fn is_binary(self) -> bool {
        matches!(
            self,
            Self::Varbinary | Self::Blob | Self::MediumBlob | Self::Geometry
        )
    }

    /// Whether values are decimal numbers, kept as text.
    pub fn is_decimal(self) -> bool {
        matches!(self, Self::Decimal | Self::Decimal64)
    }

    /// Whether values are kept apart from the others.
    pub fn is_blob(self) -> bool {
        matches!(self, Self::Blob | Self::MediumBlob)
    }

    /// The bytes of one value in the server's files, where a DECIMAL is an integer; `None` for types of variable length.
    pub fn stored_width(self) -> Option<usize> {
        match self {
            Self::Decimal64 => Some(8),
            Self::Decimal => Some(16),
            other => other.width(),
        }
    }

    /// The bytes of one value; `None` for types of variable length.
    pub fn width(self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::TinyInt | Self::UTinyInt => 1,
            Self::SmallInt | Self::USmallInt => 2,
            Self::Int | Self::UInt | Self::Float => 4,
            Self::BigInt | Self::UBigInt | Self::Double | Self::Timestamp => 8,
            _ => return None,
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TYPES
            .iter()
            .find(|(data_type, _)| data_type == self)
            .map_or("?", |(_, name)| *name);
        f.write_str(name)
    }
}

/// A type's name as DESCRIBE writes it, without its width: `VARCHAR`, `DECIMAL(10, 3)`.
impl FromStr for DataType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix("DECIMAL(") {
            let precision = digits
                .split(',')
                .next()
                .and_then(|digits| digits.trim().parse::<u8>().ok());
            return match precision {
                Some(..=18) => Ok(Self::Decimal64),
                Some(_) => Ok(Self::Decimal),
                None => Err(format!("unknown data type {text:?}")),
            };
        }
        let name = if text == "BINARY" { "VARCHAR" } else { text };
        TYPES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(data_type, _)| *data_type)
            .ok_or_else(|| format!("unknown data type {text:?}"))
    }
}

/// A cell's value. Its type says how to read an integer or bytes: a timestamp is an `Int` in the database's
/// precision, a DECIMAL is `Bytes` of text.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the variants are what their names say")]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value as an integer, if it is one.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::UInt(value) => i64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The value as text, if it is text.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A value from its bytes; `None` if they are not as many as the type has.
    pub fn read(data_type: DataType, bytes: &'a [u8]) -> Option<Self> {
        macro_rules! number {
            ($type:ty) => {
                <$type>::from_le_bytes(bytes.try_into().ok()?)
            };
        }
        Some(match data_type {
            DataType::Bool => Self::Bool(number!(u8) != 0),
            DataType::TinyInt => Self::Int(number!(i8).into()),
            DataType::SmallInt => Self::Int(number!(i16).into()),
            DataType::Int => Self::Int(number!(i32).into()),
            DataType::BigInt | DataType::Timestamp => Self::Int(number!(i64)),
            DataType::UTinyInt => Self::UInt(number!(u8).into()),
            DataType::USmallInt => Self::UInt(number!(u16).into()),
            DataType::UInt => Self::UInt(number!(u32).into()),
            DataType::UBigInt => Self::UInt(number!(u64)),
            DataType::Float => Self::Float(number!(f32)),
            DataType::Double => Self::Double(number!(f64)),
            // Text in a buffer that is longer.
            DataType::Decimal | DataType::Decimal64 => {
                Self::Bytes(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
            }
            _ => Self::Bytes(bytes),
        })
    }
}

/// A value that owns its bytes.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in `Value`")]
pub enum OwnedValue {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
}

impl OwnedValue {
    /// The value, borrowed.
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::UInt(value) => Value::UInt(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::UInt(value) => Self::UInt(value),
            Value::Float(value) => Self::Float(value),
            Value::Double(value) => Self::Double(value),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_its_name_and_by_its_number() {
        for (data_type, name) in TYPES {
            assert_eq!(DataType::from_code(data_type as i8), Some(data_type));
            assert_eq!(name.parse(), Ok(data_type));
        }
        assert_eq!("DECIMAL(18, 2)".parse(), Ok(DataType::Decimal64));
        assert_eq!("DECIMAL(19, 2)".parse(), Ok(DataType::Decimal));
        assert!("VARCHAR(20)".parse::<DataType>().is_err());
        assert_eq!(DataType::from_code(0), None);
    }
}
