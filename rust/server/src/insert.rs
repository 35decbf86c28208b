//! Writing rows to a table, batch by batch.

use crate::{Connection, SqlError, sql};
use model::{
    DataType, Key, MayPass, OwnedValue,
    catalogue::{ColumnSize, ColumnType, Schema},
};
use rows::arrow::FileColumn;
use taos::Column;

/// A batch is sent when it holds this many bytes, or rows: the client library takes no more at a time.
const BATCH_BYTES: usize = 4 << 20;
const MOST_ROWS: usize = 32_767;

/// The client library keeps room for the longest NCHAR in every row of a table. It gets no more than this.
const NCHAR_BYTES: usize = 64 << 20;

/// A statement of SQL text is sent when it holds this many bytes; the server takes 1 MiB.
pub const STATEMENT_BYTES: usize = 512 << 10;

/// The server's "Timestamp data out of range".
const OUT_OF_RANGE: u32 = 0x060b;

/// Rows that could not be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InsertError {
    /// The server refused.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A value that its column does not take.
    #[error("{0}")]
    Value(String),
}

impl InsertError {
    /// Whether one of the rows is refused for what it holds, so that others may be taken.
    fn is_of_a_row(&self) -> bool {
        match self {
            Self::Sql(error) => error.is_of_a_value(),
            Self::Value(_) => true,
        }
    }

    /// Whether a row is older than the server keeps, or newer.
    pub(crate) fn is_out_of_range(&self) -> bool {
        matches!(self, Self::Sql(error) if error.code & 0xffff == OUT_OF_RANGE)
    }
}

impl MayPass for InsertError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Sql(error) if error.may_pass())
    }
}

/// How many rows a batch came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Rows that were written.
    pub rows: u64,
    /// Rows that the server does not keep, as they are older than its KEEP. They were left out.
    pub expired: u64,
    /// Rows that are refused for what they hold. They were left out.
    pub refused: u64,
    /// Why the first of these is refused.
    pub problem: Option<String>,
}

impl Sent {
    /// So many rows were written.
    pub(crate) fn written(rows: usize) -> Self {
        Self {
            rows: rows as u64,
            ..Self::default()
        }
    }

    /// How many rows there were.
    pub fn all(&self) -> u64 {
        self.rows + self.expired + self.refused
    }
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.expired += more.expired;
        self.refused += more.refused;
        if self.problem.is_none() {
            self.problem = more.problem;
        }
    }
}

/// The columns of a table.
#[derive(Debug)]
pub struct Shape {
    key: String,
    names: String,
    types: Vec<DataType>,
    /// Empty ones, to bind.
    columns: Vec<Column>,
    way: Way,
    most_rows: usize,
}

/// How rows go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Bound,
    /// The client library (3.3.7.5) ends the process when a row with a BLOB is bound the usual way.
    BoundWithBlobs,
    Text,
}

impl Shape {
    /// The columns of this schema.
    pub fn of(schema: &Schema) -> Self {
        let columns = schema.columns.iter();
        Self::new(columns.map(|column| (column.name.as_str(), column.column_type)))
    }

    /// The columns of a file of rows.
    pub fn of_file(columns: &[FileColumn]) -> Self {
        let columns = columns.iter();
        Self::new(columns.map(|column| (column.name.as_str(), column.column_type)))
    }

    fn new<'c>(columns: impl Iterator<Item = (&'c str, ColumnType)>) -> Self {
        let (names, types): (Vec<&str>, Vec<ColumnType>) = columns.unzip();
        let quoted: Vec<String> = names.iter().copied().map(sql::name).collect();
        let column =
            |column_type: &ColumnType| Column::decimal(column_type.data_type, column_type.scale());
        let nchar = |column_type: &ColumnType| match (column_type.data_type, column_type.size) {
            (DataType::Nchar, ColumnSize::Length(characters)) => 4 * characters as usize,
            _ => 1,
        };
        let longest = types.iter().map(nchar).max().unwrap_or(1).max(1);
        Self {
            key: names.first().map_or_else(String::new, ToString::to_string),
            names: quoted.join(", "),
            columns: types.iter().map(column).collect(),
            way: match types.iter().any(|kind| is_blob(&kind.data_type)) {
                true => Way::BoundWithBlobs,
                false => Way::Bound,
            },
            most_rows: NCHAR_BYTES / longest,
            types: types.iter().map(|kind| kind.data_type).collect(),
        }
    }

    /// An INSERT of rows of any table with this shape, to be prepared.
    pub(crate) fn insert(&self) -> String {
        let marks = vec!["?"; self.columns.len()].join(", ");
        format!("INSERT INTO ? ({}) VALUES ({marks})", self.names)
    }

    /// How many rows of a table the client library takes.
    pub(crate) fn most_rows(&self) -> usize {
        MOST_ROWS.min(self.most_rows)
    }

    /// The name of the first column.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The columns' types.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Columns of which only names and types are known, not the digits of decimals: these go as text.
    pub fn of_columns(columns: &[(String, DataType)]) -> Self {
        let types: Vec<DataType> = columns.iter().map(|(_, data_type)| *data_type).collect();
        let names: Vec<String> = columns.iter().map(|(name, _)| sql::name(name)).collect();
        Self {
            key: columns.first().map(|c| c.0.clone()).unwrap_or_default(),
            names: names.join(", "),
            columns: types.iter().map(|t| Column::new(*t)).collect(),
            way: match types.iter().any(is_blob) {
                _ if types.iter().any(|kind| kind.is_decimal()) => Way::Text,
                true => Way::BoundWithBlobs,
                false => Way::Bound,
            },
            most_rows: MOST_ROWS,
            types,
        }
    }
}

fn is_blob(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Blob | DataType::MediumBlob)
}

/// Rows on their way to a table.
#[derive(Debug)]
pub struct Batch<'a> {
    shape: &'a Shape,
    /// Its name as SQL text.
    table: String,
    rows: Vec<Vec<OwnedValue>>,
    /// The longest value of each column: all values of a column are bound with the same length.
    longest: Vec<usize>,
}

impl<'a> Batch<'a> {
    /// No rows yet, on their way to this table.
    pub fn new(shape: &'a Shape, database: &str, table: &str) -> Self {
        Self {
            shape,
            table: sql::table(database, table),
            rows: Vec::new(),
            longest: vec![8; shape.types.len()],
        }
    }

    /// Adds a row.
    pub fn add(&mut self, values: Vec<OwnedValue>) {
        for (longest, value) in self.longest.iter_mut().zip(&values) {
            if let OwnedValue::Bytes(bytes) = value {
                *longest = bytes.len().max(*longest);
            }
        }
        self.rows.push(values);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it must be sent before another row is added.
    pub fn is_full(&self) -> bool {
        let bytes = self.rows.len() * self.longest.iter().sum::<usize>();
        self.rows.len() >= MOST_ROWS || bytes >= BATCH_BYTES
    }

    /// Sends the rows. Those that the server does not keep, and those that are refused for what they hold, are left out
    /// and counted.
    pub fn send(
        &mut self,
        connection: &Connection,
        oldest: Option<Key>,
    ) -> Result<Sent, InsertError> {
        let rows = std::mem::take(&mut self.rows);
        self.longest.fill(8);
        self.send_some(connection, oldest, &rows)
    }

    fn send_some(
        &self,
        connection: &Connection,
        oldest: Option<Key>,
        rows: &[Vec<OwnedValue>],
    ) -> Result<Sent, InsertError> {
        let error = match self.try_send(connection, rows) {
            Ok(()) => return Ok(Sent::written(rows.len())),
            Err(error) => error,
        };
        match error {
            error if error.is_out_of_range() && oldest.is_some() => {
                let is_kept = |row: &&Vec<OwnedValue>| match row.first() {
                    Some(OwnedValue::Int(key)) => Some(Key(*key)) >= oldest,
                    _ => true,
                };
                let kept: Vec<Vec<OwnedValue>> = rows.iter().filter(is_kept).cloned().collect();
                if kept.len() == rows.len() {
                    return Err(error);
                }
                let mut sent = self.send_some(connection, oldest, &kept)?;
                sent.expired += (rows.len() - kept.len()) as u64;
                Ok(sent)
            }
            error if !error.is_of_a_row() => Err(error),
            error if rows.len() == 1 => Ok(Sent {
                refused: 1,
                problem: Some(error.to_string()),
                ..Sent::default()
            }),
            // One half of them may be taken, and of the other one the half.
            _ => {
                let (first, second) = rows.split_at(rows.len() / 2);
                let mut sent = self.send_some(connection, oldest, first)?;
                sent += self.send_some(connection, oldest, second)?;
                Ok(sent)
            }
        }
    }

    fn try_send(
        &self,
        connection: &Connection,
        rows: &[Vec<OwnedValue>],
    ) -> Result<(), InsertError> {
        match self.shape.way {
            _ if rows.is_empty() => Ok(()),
            Way::Text => self.send_text(connection, rows),
            Way::Bound | Way::BoundWithBlobs => self.send_bound(connection, rows),
        }
    }

    fn send_bound(
        &self,
        connection: &Connection,
        rows: &[Vec<OwnedValue>],
    ) -> Result<(), InsertError> {
        let mut columns = self.shape.columns.clone();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                if !column.push(value.as_value()) {
                    return Err(InsertError::Value(format!(
                        "a value does not fit its column: {value:?}"
                    )));
                }
            }
        }
        let insert = self.shape.insert();
        if self.shape.way == Way::BoundWithBlobs {
            return Ok(connection.insert_with_blobs(&insert, &self.table, &columns)?);
        }
        let mut statement = connection.prepare(&insert)?;
        statement.set_table(&self.table)?;
        Ok(statement.insert(&columns)?)
    }

    fn send_text(
        &self,
        connection: &Connection,
        rows: &[Vec<OwnedValue>],
    ) -> Result<(), InsertError> {
        let head = format!("INSERT INTO {} ({}) VALUES", self.table, self.shape.names);
        let mut text = head.clone().into_bytes();
        for row in rows {
            let literals: Vec<Vec<u8>> = self
                .shape
                .types
                .iter()
                .zip(row)
                .map(|(data_type, value)| sql::literal(*data_type, value.as_value()))
                .collect::<Result<_, _>>()
                .map_err(|error| InsertError::Value(error.to_string()))?;
            text.extend_from_slice(b" (");
            text.extend(literals.join(&b", "[..]));
            text.push(b')');
            if text.len() >= STATEMENT_BYTES {
                connection.execute(&text)?;
                text = head.clone().into_bytes();
            }
        }
        if text.len() > head.len() {
            connection.execute(&text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_by_rows_or_by_the_bytes_it_is_bound_with() {
        let columns = [
            ("ts".to_owned(), DataType::Timestamp),
            ("v".to_owned(), DataType::Varchar),
        ];
        let shape = Shape::of_columns(&columns);
        let rows = |bytes: usize| {
            let mut batch = Batch::new(&shape, "d", "t");
            let mut rows = 0;
            while !batch.is_full() {
                batch.add(vec![
                    OwnedValue::Int(1),
                    OwnedValue::Bytes(vec![b'v'; bytes]),
                ]);
                rows += 1;
            }
            rows
        };
        assert_eq!(rows(1), MOST_ROWS);
        assert_eq!(rows(16_000), BATCH_BYTES.div_ceil(16_008));
    }
}
