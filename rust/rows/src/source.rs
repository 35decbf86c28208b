//! The seam to whoever has rows: a server's answer, a data file.

use model::{DataType, OwnedValue, Value};

/// A row, whose values are asked for by column, from 0 on.
pub trait Row {
    /// The value of a column; NULL for one that is not there.
    fn value(&self, column: usize) -> Value<'_>;

    /// All values, for whoever keeps them.
    fn into_owned(self) -> Vec<OwnedValue>;
}

/// Gives the rows of a table, one after the other.
pub trait RowSource {
    /// Why the next row can't be had.
    type Error;

    /// A row, until the next one is asked for.
    type Row<'r>: Row
    where
        Self: 'r;

    /// The types of the columns, the key first.
    fn types(&self) -> Vec<DataType>;

    /// The next row; `None` behind the last.
    ///
    /// # Errors
    /// It can't be read. Nothing follows then.
    fn next_row(&mut self) -> Result<Option<Self::Row<'_>>, Self::Error>;
}
