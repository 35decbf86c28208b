//! Change sources: what changed in a vgroup since a version, found in the vnode's own files.
//!
//! Every row and delete on disk carries the version of the request that wrote it, so a vnode's files say what
//! changed since any version. Two sources read them: one the committed files, the other the log. Both yield
//! [`Change`]s and say in a [`Coverage`] what they could prove; [`VnodeDir::scan`] joins them.
//! **Never miss a change**: where a source can't prove that it saw everything, it says so with a [`Reason`] and
//! the range of keys that has to be treated as changed as a whole.
//!
//! The directories may belong to a running server: files are opened in an order that gives a consistent
//! state and reads are repeated, a bounded number of times, when the server replaced a file meanwhile.
//! What is done with a change is no concern of this crate.
//!
//! | module | holds |
//! |---|---|
//! | `data_dirs` | data directories, and the vnodes in them |
//! | `scan` | a scan of one vnode: which source is asked for what, and what the answer is worth |
//! | `change` | what a scan yields, and why its result may be wider than the rows it names |
//! | `tsdb_source`, `merge`, `unreadable` | changes from the committed files; their sorted runs as one; blocks that can't be read |
//! | `snapshot` | a consistent view of the committed files |
//! | `wal_source`, `wal_scan`, `wal_segments` | changes from the log; one pass over it; its segments |
//! | `row_view` | the rows of a vnode as they were at one version |
//! | `log_rows`, `known_tables` | those that only the log has; the tables that it writes to |
//! | `row_choice`, `row_merge`, `row_batches` | which of them are handed on; their sorted runs as one; rows on their way out |
//! | `table_names` | which table a name stands for, as far as the log tells |
//! | [`catalogue`] | the tables of a vnode, their columns and tag values |
//! | `retry` | bounded repetition of reads that race with the server |
//! | `error` | why a scan could not be done |

pub mod catalogue;
mod change;
mod data_dirs;
pub mod database;
mod error;
mod known_tables;
mod log_rows;
mod merge;
mod retry;
mod row_batches;
mod row_choice;
mod row_merge;
mod row_view;
mod scan;
#[cfg_attr(not(feature = "internals"), expect(unreachable_pub))]
mod snapshot;
mod table_names;
#[cfg_attr(not(feature = "internals"), expect(unreachable_pub))]
mod tsdb_source;
mod unreadable;
mod wal_scan;
mod wal_segments;
#[cfg_attr(not(feature = "internals"), expect(unreachable_pub))]
mod wal_source;

pub use change::{Change, Coverage, Reason, ReasonCode, RowChange, SourceKind, TableChange};
pub use data_dirs::{DataDirs, VnodeDir, is_in_use, no_vgroup_twice};
pub use error::CaptureError;
pub use row_choice::WantedRows;
pub use row_view::{RowView, Unread};
pub use scan::{KnownVnode, ScanReport, SourceChoice, Start};
#[cfg(feature = "internals")]
pub use {snapshot::Snapshot, tsdb_source::TsdbSource, wal_source::WalSource};
#[cfg(not(feature = "internals"))]
use {snapshot::Snapshot, tsdb_source::TsdbSource, wal_source::WalSource};
