//! Index records and the column blocks they are kept in.

use super::StoredRow;
use crate::bytes::Put;
use crate::codec::{BIGINT, INT, VARCHAR, encode};
use crate::row::Pk;

/// Most records of one group in a head file.
pub(super) const BRIN_GROUP: usize = 256;

/// Index record of one block of a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrinRecord {
    /// Super table, or 0.
    pub suid: i64,
    /// Table.
    pub uid: i64,
    /// First timestamp.
    pub first_ts: i64,
    /// Version of the first row.
    pub first_version: i64,
    /// Last timestamp.
    pub last_ts: i64,
    /// Version of the last row.
    pub last_version: i64,
    /// Composite keys of the first and last row, if the table has them.
    pub pks: Option<(Pk, Pk)>,
    /// Lowest version in the block.
    pub min_version: i64,
    /// Highest version in the block.
    pub max_version: i64,
    /// Logical offset in the data file.
    pub block_offset: i64,
    /// Logical offset of its statistics in the sma file.
    pub sma_offset: i64,
    /// Bytes of the block.
    pub block_size: i32,
    /// Bytes of its header and key part.
    pub key_size: i32,
    /// Bytes of its statistics.
    pub sma_size: i32,
    /// Stored rows.
    pub rows: i32,
    /// Different keys among them.
    pub keys: i32,
}

/// A deleted range of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tomb {
    /// Super table, or 0.
    pub suid: i64,
    /// Table.
    pub uid: i64,
    /// WAL index of the delete.
    pub version: i64,
    /// First deleted timestamp.
    pub skey: i64,
    /// Last deleted timestamp, inclusive.
    pub ekey: i64,
}

/// A table's key range in an stt file.
#[derive(Clone, Debug)]
pub(super) struct Statis {
    pub(super) suid: i64,
    pub(super) uid: i64,
    pub(super) first_ts: i64,
    pub(super) last_ts: i64,
    pub(super) count: i64,
    pub(super) pks: Option<(Pk, Pk)>,
}

/// Lowest and highest version of some rows.
pub(super) fn version_range(rows: &[StoredRow]) -> (i64, i64) {
    (
        rows.iter().map(|r| r.version).min().unwrap(),
        rows.iter().map(|r| r.version).max().unwrap(),
    )
}

/// Number of different keys in sorted rows of one table.
pub(super) fn distinct_keys(rows: &[StoredRow]) -> usize {
    1 + rows
        .windows(2)
        .filter(|w| (w[0].row.ts, &w[0].row.pk) != (w[1].row.ts, &w[1].row.pk))
        .count()
}

/// The columns of one group of records: appends them to `out`, their sizes to `sizes`.
pub(super) struct Columns<'a> {
    pub(super) comp: u8,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) sizes: Vec<i32>,
}

impl Columns<'_> {
    /// One 8-byte column per field.
    pub(super) fn i64s<T>(&mut self, records: &[T], fields: &[fn(&T) -> i64]) {
        for field in fields {
            let plain: Vec<_> = records
                .iter()
                .flat_map(|r| field(r).to_le_bytes())
                .collect();
            self.put(BIGINT, &plain);
        }
    }

    /// One 4-byte column per field.
    pub(super) fn i32s<T>(&mut self, records: &[T], fields: &[fn(&T) -> i32]) {
        for field in fields {
            let plain: Vec<_> = records
                .iter()
                .flat_map(|r| field(r).to_le_bytes())
                .collect();
            self.put(INT, &plain);
        }
    }

    fn put(&mut self, kind: u8, plain: &[u8]) {
        let coded = encode(self.comp.into(), kind, plain);
        self.sizes.push(coded.len() as i32);
        self.out.raw(&coded);
    }
}

/// First and last keys of composite-key tables, behind the other columns: both descriptions, then both columns.
pub(super) fn pk_columns(comp: u8, keys: &[(Pk, Pk)], out: &mut Vec<u8>) {
    let mut data = Vec::new();
    for column in [
        keys.iter().map(|k| &k.0).collect::<Vec<_>>(),
        keys.iter().map(|k| &k.1).collect(),
    ] {
        let kind = column[0].kind().code();
        let cells: Vec<_> = column.iter().map(|pk| pk.bytes()).collect();
        let plain = cells.concat();
        let coded = encode(comp.into(), kind, &plain);
        out.u8(0);
        out.u8(comp);
        out.u8(kind);
        if kind == VARCHAR {
            let mut at = 0;
            let mut offsets = Vec::new();
            for cell in &cells {
                offsets.i32(at);
                at += cell.len() as i32;
            }
            let coded = encode(comp.into(), INT, &offsets);
            out.ivar(offsets.len() as i64);
            out.ivar(coded.len() as i64);
            data.raw(&coded);
        }
        out.ivar(plain.len() as i64);
        out.ivar(coded.len() as i64);
        data.raw(&coded);
    }
    out.raw(&data);
}

/// Splits records into groups of at most `most` in which all have keys of the same type.
pub(super) fn groups<T>(
    records: &[T],
    most: usize,
    pks: impl Fn(&T) -> Option<&(Pk, Pk)>,
) -> Vec<&[T]> {
    let kind = |r: &T| pks(r).map(|k| k.0.kind());
    records
        .chunk_by(|a, b| kind(a) == kind(b))
        .flat_map(|same| same.chunks(most))
        .collect()
}
