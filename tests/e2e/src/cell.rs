//! One value of a row as the server holds it: equal only if every bit is equal.

use std::fmt;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// NULL, which is not the empty text.
    Null,
    /// BOOL.
    Bool(bool),
    /// Any signed integer.
    Int(i64),
    /// Any unsigned integer.
    Unsigned(u64),
    /// The bits of a FLOAT: NaNs can be compared, and 0 is not -0.
    Float(u32),
    /// The bits of a DOUBLE.
    Double(u64),
    /// TIMESTAMP in the database's precision.
    Time(i64),
    /// The digits of a DECIMAL.
    Decimal(String),
    /// VARCHAR, NCHAR (in UTF-8) or JSON. Need not be UTF-8.
    Text(Vec<u8>),
    /// VARBINARY, GEOMETRY (as WKB) or BLOB.
    Bytes(Vec<u8>),
}

impl Cell {
    /// The plain words of it; empty for NULL.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => u8::from(*value).to_string(),
            Self::Int(value) | Self::Time(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Float(bits) => f32::from_bits(*bits).to_string(),
            Self::Double(bits) => f64::from_bits(*bits).to_string(),
            Self::Decimal(digits) => digits.clone(),
            Self::Text(bytes) | Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// The bytes to bind it by as a value of the type with this code.
    pub(crate) fn bytes(&self, data_type: u8) -> Vec<u8> {
        let integer = |value: i64| match data_type {
            1 | 2 | 11 => value.to_le_bytes()[..1].to_vec(),
            3 | 12 => value.to_le_bytes()[..2].to_vec(),
            4 | 13 => value.to_le_bytes()[..4].to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        match self {
            Self::Null => integer(0),
            Self::Bool(value) => integer((*value).into()),
            Self::Int(value) | Self::Time(value) => integer(*value),
            Self::Unsigned(value) => integer(*value as i64),
            Self::Float(bits) => bits.to_le_bytes().to_vec(),
            Self::Double(bits) => bits.to_le_bytes().to_vec(),
            Self::Decimal(digits) => digits.clone().into_bytes(),
            Self::Text(bytes) | Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// It as SQL. A float that is no number has none, nor has a text with a NUL: bind these.
    pub fn literal(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) | Self::Time(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            // The server reads it as a DOUBLE and then narrows it.
            Self::Float(bits) => format!("{:e}", f64::from(f32::from_bits(*bits))),
            Self::Double(bits) => format!("{:e}", f64::from_bits(*bits)),
            Self::Decimal(digits) => format!("'{digits}'"),
            Self::Text(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
            }
            Self::Bytes(bytes) => format!("'\\x{}'", hex(bytes)),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(bits) => write!(f, "{:e} (0x{bits:08x})", f32::from_bits(*bits)),
            Self::Double(bits) => write!(f, "{:e} (0x{bits:016x})", f64::from_bits(*bits)),
            Self::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) => write!(f, "{text:?}"),
                Err(_) => write!(f, "\"{}\"", bytes.escape_ascii()),
            },
            Self::Bytes(bytes) if bytes.len() > 24 => {
                let (head, length) = (Self::Bytes(bytes[..24].to_vec()), bytes.len());
                write!(f, "{} and so on, {length} bytes", head.literal())
            }
            Self::Decimal(digits) => f.write_str(digits),
            other => f.write_str(&other.literal()),
        }
    }
}
