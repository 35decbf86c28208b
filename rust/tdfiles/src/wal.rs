//! The write-ahead log of a vnode: `wal/<first version, 20 digits>.log`.
//!
//! A segment is read by its chain of record headers ([`SegmentReader`]); the `.idx` files beside it are not
//! needed here and, on a live server, may name a record that is not complete yet: whoever follows a log reads them
//! to find its end, and checks the record they name. What a record's body says is
//! taken apart by [`Message::decode`] as far as finding changes needs it.

mod delete;
mod message;
mod meta;
mod record;
mod row_cells;
mod segment;
mod submit;

pub use delete::{BatchDelete, Delete};
pub use message::{Ignored, Message, Opaque};
pub use meta::{AlterTable, CreatedTable, DroppedTable, SuperTable};
pub use record::{HEADER_SIZE, Header};
pub use row_cells::LoggedRows;
pub use segment::{Record, SegmentEnd, SegmentName, SegmentReader};
pub use submit::{RowKey, Rows, SubmitTable};
