//! TDengine's on-disk formats, as far as finding changes needs them.
//!
//! | module | reads |
//! |---|---|
//! | [`vnode_json`] | a vnode's configuration and its committed version |
//! | [`vnodes_json`] | which vnodes are about to be dropped |
//! | [`current_json`] | the names and sizes of a vnode's TSDB files |
//! | [`wal`] | write-ahead log segments and the messages in them |
//! | [`tsdb`] | `.head`, `.stt` and `.tomb` indexes and the key part of data blocks |
//! | [`tdb`] | the pages and B+trees of `meta/main.tdb`, and its journals |
//! | [`meta`] | the catalogue that it holds: tables, their columns and tag values |
//! | [`schema`], [`tags`] | columns and tag values, which log and catalogue store alike |
//! | `codec` | the encodings of columns |
//! | `cursor`, `read_at`, `json` | bytes, files and JSON, with bounds |
//! | `checksum`, `types`, `name`, `error` | checksums, the server's numbers for types, names, and what can be wrong with an input |
//!
//! Everything here is pure parsing over bytes that may be hostile: an input either parses or gives a
//! [`FormatError`] with the offset; it never panics, hangs, or allocates more than a small multiple of the
//! input plus the stated row limit. What to do about an error, how to read a directory that a server is
//! writing to, and what a change means for a backup are no concern of this crate.

mod checksum;
#[cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "`raw` shows them to fuzz targets")
)]
mod codec;
pub mod current_json;
mod cursor;
mod error;
mod json;
pub mod meta;
mod name;
mod read_at;
pub mod schema;
pub mod tags;
pub mod tdb;
pub mod tsdb;
mod types;
pub mod vnode_json;
pub mod vnodes_json;
pub mod wal;

pub use error::{FormatError, Unreadable};
pub use name::Name;
pub use read_at::{Beginning, ReadAt};

/// Parts of the parsers that fuzz targets drive by themselves.
#[cfg(feature = "internals")]
pub mod raw {
    pub use crate::codec::{Algorithm, Column, decode_column};
}
