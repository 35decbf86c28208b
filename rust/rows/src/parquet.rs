//! Rows as Parquet files: the rows of one super table (or of normal tables with one schema) in one vgroup and file set,
//! sorted by table and key.
//!
//! A writer takes row batches as they come and keeps one row group at most; a reader gives record batches of one row group
//! after the other, of some tables, a span of keys and some columns if so asked. Columns are those of [`crate::arrow`].
//!
//! | module | holds |
//! |---|---|
//! | `writer` | row batches → files |
//! | `names` | the column of tables' names, by runs |
//! | `reader` | a file → record batches, table by table |
//! | `source` | a file → rows, one by one, for whoever takes a [`crate::source::RowSource`] |
//! | `held` | the column chunks of a row group, checked and in memory |
//! | `thrift` | the check that headers claim nothing which the file can't hold |

mod held;
mod names;
mod reader;
mod source;
mod thrift;
mod writer;

pub use reader::{Batches, ParquetFile, ReadRange, Selection, Stored};
pub use source::{ParquetRow, ParquetRows};
pub use writer::{FileWriter, RowsWriter};

use crate::arrow::{EncodeError, LayoutError};
use model::MayPass;
use store::StoreError;

/// A file of rows that can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The file can't be created, opened, written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is not what was written.
    #[error("{place}: {problem}; the file is damaged: take it from another copy of the backup")]
    Corrupt {
        /// The file, and where there is one its row group.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The file is whole, and not for this program.
    #[error("{place}: {source}")]
    Layout {
        /// The file.
        place: String,
        /// Why not.
        source: LayoutError,
    },
    /// A batch of rows that can't be written.
    #[error("{place}: {source}")]
    Encode {
        /// The file.
        place: String,
        /// What is wrong with it.
        source: EncodeError,
    },
    /// Rows could not be written.
    #[error("{place}: {source}")]
    Write {
        /// The file.
        place: String,
        /// What the Parquet library says.
        source: Box<::parquet::errors::ParquetError>,
    },
}

impl MayPass for ParquetError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.may_pass(),
            Self::Write { .. } => true,
            Self::Corrupt { .. } | Self::Layout { .. } | Self::Encode { .. } => false,
        }
    }
}
