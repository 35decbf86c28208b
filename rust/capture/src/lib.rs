//! Change sources: what changed in a vgroup since a version, found in the vnode's own files.
//!
//! Every row and delete on disk carries the version of the request that wrote it, so a vnode's files say what
//! changed since any version. Two sources read them: [`TsdbSource`] the committed files, [`WalSource`] the
//! log. Both yield [`Change`]s and say in a [`Coverage`] what they could prove; [`VnodeDir::scan`] joins them.
//! **Never miss a change**: where a source can't prove that it saw everything, it says so with a [`Reason`] and
//! the range of keys that has to be treated as changed as a whole.
//!
//! The directories may belong to a running server: files are opened in an order that gives a consistent
//! state and reads are repeated, a bounded number of times, when the server replaced a file meanwhile.
//! What is done with a change is no concern of this crate.

mod change;
mod data_dirs;
mod error;
mod merge;
mod retry;
mod scan;
mod snapshot;
mod table_names;
mod tsdb_source;
mod unreadable;
mod wal_scan;
mod wal_segments;
mod wal_source;

pub use change::{Change, Coverage, Reason, ReasonCode, RowChange, SourceKind, TableChange};
pub use data_dirs::{DataDirs, VnodeDir};
pub use error::CaptureError;
pub use scan::{KnownVnode, ScanReport, SourceChoice, Start};
pub use snapshot::Snapshot;
pub use tsdb_source::TsdbSource;
pub use wal_source::WalSource;
