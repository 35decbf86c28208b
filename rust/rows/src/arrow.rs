//! Row batches as Arrow record batches, and back.
//!
//! A record batch has the columns `tbname`, `_version` and then those of the table, under their own names. What a column is
//! to TDengine stands in its field: the column's id is its field id, type and true name are in the field's metadata. So
//! whoever reads Arrow or Parquet reads plain tables, and we lose nothing.
//!
//! Numbers, bytes and which rows have a value are handed over as they are, without a copy. NCHAR becomes UTF-8, BOOL bits,
//! and DECIMAL 16 bytes wide.
//!
//! A column in which a value does not fit the type that readers expect is *raw*: bytes as the server stores them. These are a
//! VARCHAR that is not UTF-8, an NCHAR with numbers that are no characters, and a DECIMAL with more digits than it is
//! declared with. Whether a column is raw holds for a whole file.
//!
//! | module | holds |
//! |---|---|
//! | `layout` | which columns a file has, and how that is said in Arrow's schema |
//! | `encode` | a row batch → a record batch |
//! | `rows` | a record batch, table by table and column by column |
//! | `shown` | the columns of a record batch as a server's answer would have them |
//! | `decode` | a record batch → a row batch |

mod decode;
mod encode;
mod layout;
mod rows;
pub(crate) mod shown;

pub use decode::decode;
pub use encode::{EncodeError, Encoded, encode};
pub(crate) use layout::LEADING;
pub use layout::{FileColumn, Layout, LayoutError, Origin};
pub(crate) use rows::runs_of_tables;
pub use rows::{ColumnRows, RowsError, TableRows, TablesOf, Values};
