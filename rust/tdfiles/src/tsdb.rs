//! TSDB files: what `current.json` names.
//!
//! Every file is a sequence of pages with a checksum each; all offsets in the indexes are logical, as if the
//! checksums were not there. [`PagedFile`] hides that. An index says which blocks hold which tables, keys and
//! versions; [`KeyRows`] is the part of a block that names its rows, which stands first, so that the rest of
//! the block need not be read. [`RowBlock`] is a block with everything in it.

mod block;
mod columns;
mod head;
mod index;
mod pages;
mod stt;
mod tomb;

pub use block::{KeyRows, RowOrder, RowPlace};
pub use columns::RowBlock;
pub use head::{BrinBlk, BrinRecord, HeadFile};
pub use pages::PagedFile;
pub use stt::{StatisBlk, StatisRecord, SttBlk, SttFile};
pub use tomb::{TombBlk, TombFile, TombRecord};
