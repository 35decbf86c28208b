//! The seam between whoever reads the rows of a block and whoever takes them.

use model::{DataType, Value};

/// Why rows were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The table and the window whose rows a block stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsOf {
    /// The block.
    pub block: u64,
    /// The first key of the window.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// The database.
    pub database: String,
    /// The table; `None` if it was dropped.
    pub table: Option<String>,
    /// Names and types of its columns, the key first.
    pub columns: Vec<(String, DataType)>,
}

/// Takes the rows of a block as they come.
pub trait RowSink {
    /// Whose rows follow.
    ///
    /// # Errors
    /// `Refused`: they are not taken.
    fn begin(&mut self, of: &RowsOf) -> Result<(), Refused>;

    /// The next row, ascending by key.
    ///
    /// # Errors
    /// `Refused`: it was not taken.
    fn row(&mut self, values: &[Value<'_>]) -> Result<(), Refused>;
}
