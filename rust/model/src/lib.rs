//! The words that every other crate speaks. Nothing here reads, writes or connects.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | the numbers TDengine gives to things: versions, uids, keys and spans of keys |
//! | [`value`] | data types, and the values of cells |
//! | [`cells`] | rows column by column |
//! | [`catalogue`] | databases, super tables, tables and their columns, as SQL tells them |
//! | [`decimal`] | DECIMAL values as text and as digits |
//! | [`schema_change`] | what leads from one schema to the next |
//! | [`sealed`] | JSON with a checksum, as our files end |
//! | `progress` | how work goes on, and whether it should end |
//! | [`retry`] | trying again what may pass |
//! | [`pool`] | workers that share jobs |
//! | `failed_table` | tables that could not be copied or written |

pub mod catalogue;
pub mod cells;
pub mod decimal;
mod failed_table;
pub mod ids;
pub mod pool;
mod progress;
pub mod retry;
pub mod schema_change;
pub mod sealed;
pub mod value;

pub use cells::{Bits, Cell, CellValues, Cells, ColumnId, RowBatch, TooLong};
pub use failed_table::{FailedId, FailedTable};
pub use ids::{
    DbId, FileSetId, Key, KeySpan, LinkId, PkText, PkValue, Precision, SchemaVersion, Suid,
    TableId, Uid, Version, VgId,
};
pub use progress::{Cancelled, Progress, Unit};
pub use retry::{MayPass, Retry};
pub use value::{DataType, OwnedValue, Value};
