//! Cells as the server's files hold them, made into what SQL gives: NCHAR as UTF-8 and DECIMAL as text.

use model::{CellValues, Cells, DataType, Value, catalogue::ColumnType};

/// A column whose cells are as SQL gives them.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownCells(Cells);

/// Why a column can't be shown as SQL would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotShown {
    /// The files hold another type than the column has.
    #[error("the files hold {0} where the column has another type")]
    OtherType(DataType),
    /// An NCHAR is not text.
    #[error("an NCHAR holds something that is no character")]
    NoCharacter,
    /// The text would not fit into one batch of rows.
    #[error("the text of a column takes more than 2 GiB")]
    TooLong,
}

impl ShownCells {
    /// The cells of a column of this type.
    ///
    /// # Errors
    /// They are of another type, or can't be converted.
    pub fn of(cells: Cells, column: ColumnType) -> Result<Self, NotShown> {
        if cells.data_type != column.data_type {
            return Err(NotShown::OtherType(cells.data_type));
        }
        let values = match (&cells.values, cells.data_type) {
            (CellValues::Variable { starts, bytes }, DataType::Nchar) => utf8(starts, bytes)?,
            (CellValues::Fixed { width, bytes }, data_type) if data_type.is_decimal() => {
                decimals(bytes, *width, column.scale())?
            }
            _ => return Ok(Self(cells)),
        };
        Ok(Self(Cells { values, ..cells }))
    }

    /// The value of row `i`.
    pub fn value(&self, i: usize) -> Value<'_> {
        match self.0.cell(i) {
            model::Cell::Value(bytes) => {
                Value::read(self.0.data_type, bytes).unwrap_or(Value::Null)
            }
            model::Cell::Null | model::Cell::Unset => Value::Null,
        }
    }
}

/// Collects texts.
struct Texts {
    starts: Vec<i32>,
    bytes: Vec<u8>,
}

impl Texts {
    fn new(rows: usize) -> Self {
        let mut starts = Vec::with_capacity(rows + 1);
        starts.push(0);
        Self {
            starts,
            bytes: Vec::new(),
        }
    }

    fn end_text(&mut self) -> Result<(), NotShown> {
        let end = i32::try_from(self.bytes.len()).map_err(|_| NotShown::TooLong)?;
        self.starts.push(end);
        Ok(())
    }

    fn values(self) -> CellValues {
        CellValues::Variable {
            starts: self.starts,
            bytes: self.bytes,
        }
    }
}

fn utf8(starts: &[i32], bytes: &[u8]) -> Result<CellValues, NotShown> {
    let mut texts = Texts::new(starts.len());
    for pair in starts.windows(2) {
        let [start, end] = pair else { continue };
        let stored = bytes.get(*start as usize..*end as usize);
        let (characters, rest) = stored.unwrap_or_default().as_chunks::<4>();
        if !rest.is_empty() {
            return Err(NotShown::NoCharacter);
        }
        for character in characters {
            let character = char::from_u32(u32::from_le_bytes(*character));
            let character = character.ok_or(NotShown::NoCharacter)?;
            let mut buffer = [0; 4];
            let encoded = character.encode_utf8(&mut buffer);
            texts.bytes.extend_from_slice(encoded.as_bytes());
        }
        texts.end_text()?;
    }
    Ok(texts.values())
}

fn decimals(bytes: &[u8], width: usize, scale: u8) -> Result<CellValues, NotShown> {
    let mut texts = Texts::new(bytes.len().checked_div(width).unwrap_or(0));
    for value in bytes.chunks_exact(width.max(1)) {
        let number = match (value.first_chunk::<16>(), value.first_chunk::<8>()) {
            (Some(value), _) => i128::from_le_bytes(*value),
            (None, Some(value)) => i64::from_le_bytes(*value).into(),
            (None, None) => return Err(NotShown::OtherType(DataType::Decimal)),
        };
        texts
            .bytes
            .extend_from_slice(decimal(number, scale).as_bytes());
        texts.end_text()?;
    }
    Ok(texts.values())
}

/// A decimal number of `digits` as the server's text, the last `scale` of them behind the point. Zero has none.
fn decimal(digits: i128, scale: u8) -> String {
    if digits == 0 {
        return "0".to_owned();
    }
    let scale = usize::from(scale);
    let sign = if digits < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    match digits.split_at(digits.len() - scale) {
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Cell, ColumnId};

    #[test]
    fn decimals_are_what_the_server_shows() {
        for (digits, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0"),
            (-5, 2, "-0.05"),
            (1_500, 3, "1.500"),
            (-123, 0, "-123"),
            (
                99_999_999_999_999_999_999_999_999_999_999_999_999,
                38,
                "0.99999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(decimal(digits, scale), text);
        }
    }

    #[test]
    fn what_is_stored_is_shown_as_sql_shows_it() {
        let column = |text: &str| text.parse::<ColumnType>().unwrap();
        let ucs4 = |text: &str| -> Vec<u8> {
            text.chars()
                .flat_map(|c| u32::from(c).to_le_bytes())
                .collect()
        };
        let mut cells = Cells::new(ColumnId(2), DataType::Nchar);
        for text in ["a\u{4e2d}\u{1f600}", ""] {
            cells.push(Cell::Value(&ucs4(text))).unwrap();
        }
        cells.push(Cell::Null).unwrap();
        let shown = ShownCells::of(cells.clone(), column("NCHAR(9)")).unwrap();
        assert_eq!(
            shown.value(0),
            Value::Bytes("a\u{4e2d}\u{1f600}".as_bytes())
        );
        assert_eq!(shown.value(1), Value::Bytes(b""));
        assert_eq!(shown.value(2), Value::Null);
        assert_eq!(
            ShownCells::of(cells.clone(), column("VARCHAR(9)")),
            Err(NotShown::OtherType(DataType::Nchar))
        );
        cells.push(Cell::Value(&0xd800_u32.to_le_bytes())).unwrap();
        assert_eq!(
            ShownCells::of(cells, column("NCHAR(9)")),
            Err(NotShown::NoCharacter)
        );

        let mut cells = Cells::new(ColumnId(2), DataType::Decimal64);
        cells.push(Cell::Value(&(-7i64).to_le_bytes())).unwrap();
        let shown = ShownCells::of(cells, column("DECIMAL(9, 1)")).unwrap();
        assert_eq!(shown.value(0), Value::Bytes(b"-0.7"));
    }
}
