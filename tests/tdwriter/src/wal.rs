//! Write-ahead log: records, segments and message bodies.

mod any_rows;
mod change;
mod meta;
mod msg;
mod record;
mod row_format;
mod submit;

pub use any_rows::{AnyCell, AnyColumn, AnyForm, AnyRow, AnyRows, submit_any};
pub use change::{BatchDelete, Delete, batch_delete, commit, delete, sync_noop};
pub use meta::{
    Alter, Column, CreateTable, DropTable, Stb, TableKind, alter_stb, alter_table, create_stb,
    create_tables, drop_stb, drop_tables, ttl_drop,
};
pub use msg::*;
pub use record::{
    Record, Segment, SegmentWriter, WalFile, encode_record, write_meta, write_segment,
};
pub use submit::{Form, TableRows, submit, submit_columns, submit_rows};

use crate::bytes::Put;

/// A message body: what every message starts with (its length and the vgroup id, both opaque to readers), then `rest`.
fn message(vg: i32, rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + rest.len());
    body.i32(i32::try_from(8 + rest.len()).unwrap());
    body.i32(vg);
    body.raw(rest);
    body
}
