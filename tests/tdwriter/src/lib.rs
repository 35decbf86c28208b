//! Test support: writes TDengine vnode directories.
//!
//! Everything here is an encoder, written from the format facts alone and sharing no code with the readers it is used
//! to check. Plain data goes in; files or bytes come out. Broken input panics: this crate never runs outside tests,
//! fuzz seeds and benches.
//!
//! Layers, from the bottom up:
//! - [`codec`]: column compression (Simple-8b, timestamp deltas, second stages);
//! - [`wal`]: write-ahead log records, message bodies, segments;
//! - [`tsdb`]: paged head, data, sma, stt and tomb files, and `current.json`;
//! - [`vnode`]: whole vnode directories that are consistent with themselves, with the truth a reader must find.
//!
//! Timestamps are in the precision of the database (ms, µs or ns since 1970) unless a name says otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bytes;
pub mod codec;
mod row;
pub mod tsdb;
pub mod vnode;
pub mod wal;

pub use row::{Pk, PkType, Row};

/// Lower-case hexadecimal digits, to compare with recorded bytes.
#[cfg(test)]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
