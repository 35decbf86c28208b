//! Writing rows to a table, batch by batch.

use crate::{Connection, SqlError, sql};
use model::{DataType, Key, OwnedValue, catalogue::Schema};
use taos::Column;

/// A batch is sent when it holds this many bytes, or rows: the client library takes no more at a time.
const BATCH_BYTES: usize = 4 << 20;
const MOST_ROWS: usize = 32_767;

/// A statement of SQL text is sent when it holds this many bytes; the server takes 1 MiB.
pub const STATEMENT_BYTES: usize = 512 << 10;

/// The server's "Timestamp data out of range".
const OUT_OF_RANGE: u32 = 0x060b;

/// Rows that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The server refused.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A value that its column does not take.
    #[error("{0}")]
    Value(String),
}

/// How many rows a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Rows that were written.
    pub rows: u64,
    /// Rows that the server does not keep, as they are older than its KEEP. They were left out.
    pub expired: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.expired += more.expired;
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
    /// Whether rows go as SQL text.
    text: bool,
}

impl Shape {
    /// The columns of this schema.
    pub fn of(schema: &Schema) -> Self {
        let columns = &schema.columns;
        let names: Vec<String> = columns.iter().map(|c| sql::name(&c.name)).collect();
        let types: Vec<DataType> = columns.iter().map(|c| c.column_type.data_type).collect();
        Self {
            key: columns.first().map(|c| c.name.clone()).unwrap_or_default(),
            names: names.join(", "),
            columns: columns
                .iter()
                .zip(&types)
                .map(|(column, data_type)| Column::decimal(*data_type, column.column_type.scale()))
                .collect(),
            text: types.iter().any(ends_the_library),
            types,
        }
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
            text: types.iter().any(|t| t.is_decimal() || ends_the_library(t)),
            types,
        }
    }
}

/// The client library (3.3.7.5) ends the process when a row of a table with a BLOB is bound.
fn ends_the_library(data_type: &DataType) -> bool {
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

    /// Sends the rows. Those that the server does not keep are left out and counted, if it refuses them.
    pub fn send(
        &mut self,
        connection: &Connection,
        oldest: Option<Key>,
    ) -> Result<Sent, InsertError> {
        let total = self.rows.len();
        if total == 0 {
            return Ok(Sent::default());
        }
        match self.try_send(connection) {
            Err(InsertError::Sql(error))
                if error.code & 0xffff == OUT_OF_RANGE && oldest.is_some() =>
            {
                self.rows.retain(|row| match row.first() {
                    Some(OwnedValue::Int(key)) => Some(Key(*key)) >= oldest,
                    _ => true,
                });
                if self.rows.len() == total {
                    return Err(error.into());
                }
                self.try_send(connection)?;
            }
            sent => sent?,
        }
        let sent = self.rows.len();
        self.rows.clear();
        self.longest.fill(8);
        Ok(Sent {
            rows: sent as u64,
            expired: (total - sent) as u64,
        })
    }

    fn try_send(&self, connection: &Connection) -> Result<(), InsertError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        if self.shape.text {
            self.send_text(connection)
        } else {
            self.send_bound(connection)
        }
    }

    fn send_bound(&self, connection: &Connection) -> Result<(), InsertError> {
        let mut columns = self.shape.columns.clone();
        for row in &self.rows {
            for (column, value) in columns.iter_mut().zip(row) {
                if !column.push(value.as_value()) {
                    return Err(InsertError::Value(format!(
                        "a value does not fit its column: {value:?}"
                    )));
                }
            }
        }
        let marks = vec!["?"; columns.len()].join(", ");
        let mut statement = connection.prepare(&format!(
            "INSERT INTO ? ({}) VALUES ({marks})",
            self.shape.names
        ))?;
        statement.set_table(&self.table)?;
        Ok(statement.insert(&columns)?)
    }

    fn send_text(&self, connection: &Connection) -> Result<(), InsertError> {
        let head = format!("INSERT INTO {} ({}) VALUES", self.table, self.shape.names);
        let mut text = head.clone();
        for row in &self.rows {
            let literals: Vec<String> = self
                .shape
                .types
                .iter()
                .zip(row)
                .map(|(data_type, value)| sql::literal(*data_type, value.as_value()))
                .collect::<Result<_, _>>()
                .map_err(|error| InsertError::Value(error.to_string()))?;
            text.push_str(&format!(" ({})", literals.join(", ")));
            if text.len() >= STATEMENT_BYTES {
                connection.execute(&text)?;
                text.clone_from(&head);
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
