//! Names and values as SQL text.

use geozero::{ToWkt as _, wkb::Wkb};
use model::{DataType, Value};

/// A name in backticks.
pub fn name(name: &str) -> String {
    model::catalogue::quoted(name)
}

/// A table's name with its database's.
pub fn table(database: &str, table: &str) -> String {
    format!("{}.{}", name(database), name(table))
}

/// A text in single quotes.
pub fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match u8::try_from(c).ok().and_then(escape) {
            Some(escape) => quoted.push_str(escape),
            None => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// Bytes in single quotes, whatever they are.
fn quoted_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(bytes.len() + 2);
    quoted.push(b'\'');
    for byte in bytes {
        match escape(*byte) {
            Some(escape) => quoted.extend_from_slice(escape.as_bytes()),
            None => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

fn escape(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'\'' => "\\'",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        _ => return None,
    })
}

/// A value that no SQL text stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {data_type} value can't be written as SQL text: {problem}")]
pub struct NoLiteral {
    /// The value's type.
    pub data_type: DataType,
    /// Why.
    pub problem: &'static str,
}

/// The literal of a value: what an INSERT or a TAGS clause turns into exactly this value. A VARCHAR is its bytes, UTF-8
/// or not.
pub fn literal(data_type: DataType, value: Value<'_>) -> Result<Vec<u8>, NoLiteral> {
    let fail = |problem| NoLiteral { data_type, problem };
    let literal = match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        // As a double: the server reads every number as one, and this one is exactly the float.
        Value::Float(value) if value.is_finite() => format!("{:e}", f64::from(value)),
        Value::Double(value) if value.is_finite() => format!("{value:e}"),
        Value::Float(_) | Value::Double(_) => return Err(fail("it is not a number")),
        Value::Bytes(bytes) if data_type == DataType::Geometry => {
            let geometry = Wkb(bytes.to_vec()).to_wkt();
            text(&geometry.map_err(|_| fail("it is no geometry in WKB"))?)
        }
        Value::Bytes(bytes) if data_type.is_binary() => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{digits}'")
        }
        Value::Bytes(bytes) if bytes.contains(&0) => return Err(fail("it holds a NUL")),
        Value::Bytes(bytes) if data_type == DataType::Varchar => return Ok(quoted_bytes(bytes)),
        Value::Bytes(bytes) => {
            let value = std::str::from_utf8(bytes).map_err(|_| fail("it is not UTF-8"))?;
            if data_type.is_decimal() {
                value.to_owned()
            } else {
                text(value)
            }
        }
    };
    Ok(literal.into_bytes())
}

/// Whether there is a literal of a value.
///
/// # Errors
/// Why there is none.
pub fn must_have_literal(data_type: DataType, value: Value<'_>) -> Result<(), NoLiteral> {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) => Ok(()),
        value => literal(data_type, value).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_escaped() {
        let varchar = |bytes| literal(DataType::Varchar, Value::Bytes(bytes)).unwrap();
        assert_eq!(varchar(b"it's \\ \n"), br"'it\'s \\ \n'");
        assert_eq!(varchar(b"\xff'"), b"'\xff\\''");
        assert_eq!(
            literal(DataType::Varbinary, Value::Bytes(&[0, 0xff])).unwrap(),
            br"'\x00ff'"
        );
        assert_eq!(
            literal(DataType::Float, Value::Float(0.1)).unwrap(),
            b"1.0000000149011612e-1"
        );
        assert!(literal(DataType::Varchar, Value::Bytes(b"a\0")).is_err());
        assert_eq!(table("d", "a`b"), "`d`.`a``b`");
    }

    #[test]
    fn a_geometry_is_written_with_all_digits() {
        let mut point = vec![1, 1, 0, 0, 0];
        point.extend_from_slice(&0.1_f64.to_le_bytes());
        point.extend_from_slice(&(-1e-7_f64).to_le_bytes());
        assert_eq!(
            literal(DataType::Geometry, Value::Bytes(&point)).unwrap(),
            b"'POINT(0.1 -0.0000001)'"
        );
        assert!(literal(DataType::Geometry, Value::Bytes(b"\x01")).is_err());
    }
}
