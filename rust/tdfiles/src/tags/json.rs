//! The text of a JSON tag, as SQL gives it.

use model::{DataType, Value};

/// An object that members are added to.
#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a member; the error says why that is none.
    pub(super) fn member(
        &mut self,
        key: &[u8],
        data_type: Option<DataType>,
        value: Value<'_>,
    ) -> Result<(), String> {
        let key = std::str::from_utf8(key).map_err(|_| "a key of JSON is no UTF-8".to_owned())?;
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.string(key);
        self.0.push(':');
        match (data_type, value) {
            (None, _) => self.0.push_str("null"),
            (Some(DataType::Bool), Value::Bool(value)) => self.0.push_str(&value.to_string()),
            (Some(DataType::Double), Value::Double(value)) => self.0.push_str(&number(value)),
            (Some(DataType::Nchar), Value::Bytes(text)) => {
                self.string(std::str::from_utf8(text).unwrap_or_default());
            }
            (Some(other), _) => return Err(format!("a {other} in JSON")),
        }
        Ok(())
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn string(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\u{8}' => self.0.push_str("\\b"),
                '\u{c}' => self.0.push_str("\\f"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                c if c < ' ' => self.0.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

/// A number with 15 digits, or with 17 where 15 don't say which one it is. JSON has no infinities.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let short = general(value, 15);
    let read: f64 = short.parse().unwrap_or(f64::NAN);
    match (read - value).abs() <= read.abs().max(value.abs()) * f64::EPSILON {
        true => short,
        false => general(value, 17),
    }
}

/// A number with so many digits, without zeros at its end: as C's `%g` writes it.
fn general(value: f64, digits: i32) -> String {
    let scientific = format!("{value:.*e}", (digits - 1) as usize);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let shorn = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..digits).contains(&exponent) {
        return shorn(&format!("{value:.*}", (digits - 1 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", shorn(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_server_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-25.0, "-25"),
            (2_147_483_648.0, "2147483648"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333333333333331"),
            (1e15, "1e+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
