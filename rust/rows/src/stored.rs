//! Cells as the server's files hold them, and as SQL gives them: NCHAR as UTF-8, DECIMAL as text. Each is made into the
//! other.

use model::{
    Cell, CellValues, Cells, ColumnId, DataType, Key, RowBatch, Suid, TableId, TooLong, Value,
    Version, catalogue::ColumnType, decimal,
};

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
            Cell::Value(bytes) => Value::read(self.0.data_type, bytes).unwrap_or(Value::Null),
            Cell::Null | Cell::Unset => Value::Null,
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
            .extend_from_slice(decimal::to_text(number, scale).as_bytes());
        texts.end_text()?;
    }
    Ok(texts.values())
}

/// SQL's rows of a table on their way into a row batch, as the server's files would have them.
#[derive(Debug)]
pub struct StoredRows {
    table: TableId,
    columns: Vec<(ColumnId, ColumnType)>,
    batch: RowBatch,
}

/// The version of rows of which nobody knows which one wrote them.
const UNKNOWN: Version = Version(-1);

/// A batch is full with so many rows, or so many bytes in a column.
const FULL_ROWS: usize = 4096;
const FULL_BYTES: usize = 4 << 20;

/// Why a value of SQL can't be kept as the server's files would have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// A row without a timestamp.
    #[error("a row has no timestamp")]
    NoKey,
    /// A value is none of its column's type.
    #[error("column {0} has a value that is none of its type")]
    Value(ColumnId),
    /// The values do not fit into one batch of rows.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl StoredRows {
    /// No row yet of a table with these columns behind the key.
    pub fn new(table: TableId, columns: Vec<(ColumnId, ColumnType)>) -> Self {
        let batch = empty(table.suid, &columns);
        Self {
            table,
            columns,
            batch,
        }
    }

    /// Adds a row, whose values are asked for by column, the key being column 0.
    ///
    /// # Errors
    /// A value can't be kept. The rows are of no use then.
    pub fn push<'v>(&mut self, values: &dyn Fn(usize) -> Value<'v>) -> Result<(), NotStored> {
        let Value::Int(key) = values(0) else {
            return Err(NotStored::NoKey);
        };
        let mut buffer = Vec::new();
        for (at, (cells, (id, column))) in
            self.batch.columns.iter_mut().zip(&self.columns).enumerate()
        {
            let value = values(at + 1);
            buffer.clear();
            match value {
                Value::Null => cells.push(Cell::Null)?,
                Value::Bytes(bytes)
                    if !column.data_type.is_decimal() && column.data_type != DataType::Nchar =>
                {
                    cells.push(Cell::Value(bytes))?;
                }
                value => {
                    store(value, *column, &mut buffer).ok_or(NotStored::Value(*id))?;
                    cells.push(Cell::Value(&buffer))?;
                }
            }
        }
        self.batch.keys.push(Key(key));
        self.batch.versions.push(UNKNOWN);
        Ok(())
    }

    /// Whether the batch should be taken.
    pub fn is_full(&self) -> bool {
        let long = |cells: &Cells| cells.value_bytes() >= FULL_BYTES;
        self.batch.len() >= FULL_ROWS || self.batch.columns.iter().any(long)
    }

    /// The rows so far; those that follow make another batch.
    pub fn take(&mut self) -> RowBatch {
        let empty = empty(self.table.suid, &self.columns);
        let mut batch = std::mem::replace(&mut self.batch, empty);
        batch.tables = vec![(self.table.uid, batch.len())];
        batch.columns.sort_by_key(|cells| cells.column);
        batch
    }
}

fn empty(suid: Suid, columns: &[(ColumnId, ColumnType)]) -> RowBatch {
    let columns = columns.iter();
    RowBatch {
        suid,
        tables: Vec::new(),
        keys: Vec::new(),
        versions: Vec::new(),
        columns: columns
            .map(|(id, column)| Cells::new(*id, column.data_type))
            .collect(),
    }
}

/// The bytes of a value as the server keeps them; `None` if it is none of the type.
fn store(value: Value<'_>, column: ColumnType, to: &mut Vec<u8>) -> Option<()> {
    let width = column.data_type.stored_width();
    match (value, width) {
        (Value::Bool(value), Some(1)) => to.push(value.into()),
        (Value::Int(value), Some(width @ 1..=8)) => {
            to.extend_from_slice(value.to_le_bytes().get(..width)?);
        }
        (Value::UInt(value), Some(width @ 1..=8)) => {
            to.extend_from_slice(value.to_le_bytes().get(..width)?);
        }
        (Value::Float(value), Some(4)) => to.extend_from_slice(&value.to_le_bytes()),
        (Value::Double(value), Some(8)) => to.extend_from_slice(&value.to_le_bytes()),
        (Value::Bytes(text), Some(width)) => {
            let digits = decimal::from_text(text, column.scale())?;
            match width {
                8 => to.extend_from_slice(&i64::try_from(digits).ok()?.to_le_bytes()),
                _ => to.extend_from_slice(&digits.to_le_bytes()),
            }
        }
        (Value::Bytes(text), None) => {
            let text = std::str::from_utf8(text).ok()?;
            to.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Uid;

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

    #[test]
    fn what_sql_shows_is_stored_and_shown_again() {
        let types = [
            "INT UNSIGNED",
            "TINYINT",
            "FLOAT",
            "NCHAR(9)",
            "VARCHAR(9)",
            "DECIMAL(9, 2)",
            "DECIMAL(30, 3)",
            "BOOL",
        ];
        let columns: Vec<(ColumnId, ColumnType)> = types
            .iter()
            .zip(2..)
            .map(|(text, id)| (ColumnId(id), text.parse().unwrap()))
            .collect();
        let row = [
            Value::Int(7),
            Value::UInt(4_000_000_000),
            Value::Int(-3),
            Value::Float(f32::NAN),
            Value::Bytes("\u{4e2d}a".as_bytes()),
            Value::Bytes(b"\xff"),
            Value::Bytes(b"-0.05"),
            Value::Bytes(b"123456789012345678901234567.125"),
            Value::Bool(true),
        ];
        let table = TableId {
            suid: Suid(1),
            uid: Uid(2),
        };
        let mut rows = StoredRows::new(table, columns.clone());
        rows.push(&|at| row[at]).unwrap();
        rows.push(&|at| if at == 0 { Value::Int(8) } else { Value::Null })
            .unwrap();
        assert_eq!(rows.push(&|_| Value::Null), Err(NotStored::NoKey));
        let batch = rows.take();
        assert_eq!(
            (batch.len(), batch.tables.as_slice()),
            (2, [(Uid(2), 2)].as_slice())
        );
        for (at, (cells, (_, column))) in batch.columns.into_iter().zip(columns).enumerate() {
            let shown = ShownCells::of(cells, column).unwrap();
            match (shown.value(0), row[at + 1]) {
                (Value::Float(found), Value::Float(value)) => {
                    assert_eq!(found.to_bits(), value.to_bits())
                }
                (found, value) => assert_eq!(found, value),
            }
            assert_eq!(shown.value(1), Value::Null);
        }
        let mut rows = StoredRows::new(table, vec![(ColumnId(2), "INT".parse().unwrap())]);
        let wrong = rows.push(&|at| {
            if at == 0 {
                Value::Int(1)
            } else {
                Value::Double(1.0)
            }
        });
        assert_eq!(wrong, Err(NotStored::Value(ColumnId(2))));
    }
}
