//! Blocks of rows in data and stt files.

use super::{Format, StoredRow};
use crate::bytes::Put;
use crate::codec::{BIGINT, INT, TIMESTAMP, TINYINT, VARCHAR, encode};
use crate::row::Pk;

const MAGIC: u32 = 0xF00A_FA0F;
const HAS_NULL: u8 = 2;
const HAS_VALUE: u8 = 4;
/// Column flag: in the block statistics.
const SMA: u8 = 1;
/// Column flag: part of the primary key.
const IS_KEY: u8 = 4;

/// A coded block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Header, key part, column descriptors, columns.
    pub bytes: Vec<u8>,
    /// Bytes of header and key part.
    pub key_size: i32,
}

/// Codes rows of one table, or with `many_tables` of several tables of one super table (header uid 0, uid column).
pub fn encode_block(rows: &[StoredRow], many_tables: bool, format: &Format) -> Block {
    let words = |of: &dyn Fn(&StoredRow) -> i64| {
        rows.iter()
            .flat_map(|r| of(r).to_le_bytes())
            .collect::<Vec<_>>()
    };
    let alg = format.block_alg;
    let uids = if many_tables {
        encode(alg, BIGINT, &words(&|r| r.uid))
    } else {
        Vec::new()
    };
    let versions = encode(alg, BIGINT, &words(&|r| r.version));
    let stamps = encode(alg, TIMESTAMP, &words(&|r| r.row.ts));

    let pk = rows[0].row.pk.as_ref().map(|pk| {
        let cells: Vec<_> = rows
            .iter()
            .map(|r| r.row.pk.as_ref().map(Pk::bytes))
            .collect();
        Column::encode(2, pk.kind().code(), SMA | IS_KEY, &cells, alg)
    });
    let next = if pk.is_some() { 3 } else { 2 };
    let values: Vec<_> = rows
        .iter()
        .map(|r| r.row.value.map(i32::to_le_bytes))
        .collect();
    let texts: Vec<_> = rows.iter().map(|r| r.row.text.as_deref()).collect();
    let columns = [
        Column::encode(next, INT, SMA, &values, alg),
        Column::encode(next + 1, VARCHAR, SMA, &texts, alg),
    ];

    let mut descriptors = Vec::new();
    let mut data = Vec::new();
    for column in &columns {
        column.describe(data.len(), format, &mut descriptors);
        data.raw(&column.data);
    }

    let mut b = Vec::new();
    b.u32(MAGIC);
    b.uvar(format.fmt_ver.into());
    b.i64(rows[0].suid);
    b.i64(if many_tables { 0 } else { rows[0].uid });
    for size in [
        uids.len(),
        versions.len(),
        stamps.len(),
        descriptors.len(),
        rows.len(),
    ] {
        b.ivar(size as i64);
    }
    match format.fmt_ver {
        2 => b.u32(alg),
        _ => b.u8(alg as u8),
    }
    if format.fmt_ver >= 1 {
        b.u8(pk.is_some().into());
        if let Some(pk) = &pk {
            pk.describe(0, format, &mut b);
        }
    }
    assert!(
        format.fmt_ver >= 1 || pk.is_none(),
        "format version 0 has no composite keys"
    );
    for part in [&uids, &versions, &stamps] {
        b.raw(part);
    }
    if let Some(pk) = &pk {
        b.raw(&pk.data);
    }
    let key_size = b.len() as i32;
    b.raw(&descriptors);
    b.raw(&data);
    Block { bytes: b, key_size }
}

/// A coded column with what its descriptor says.
struct Column {
    id: i64,
    kind: u8,
    column_flag: u8,
    flag: u8,
    size: usize,
    bitmap: usize,
    offsets: usize,
    values: usize,
    alg: u32,
    data: Vec<u8>,
}

impl Column {
    fn encode<T: AsRef<[u8]>>(
        id: i64,
        kind: u8,
        column_flag: u8,
        cells: &[Option<T>],
        alg: u32,
    ) -> Self {
        let flag = cells.iter().fold(0, |flag, c| {
            flag | if c.is_some() { HAS_VALUE } else { HAS_NULL }
        });
        let mut c = Self {
            id,
            kind,
            column_flag,
            flag,
            size: 0,
            bitmap: 0,
            offsets: 0,
            values: 0,
            alg,
            data: Vec::new(),
        };
        if flag == HAS_NULL {
            return c;
        }
        if flag != HAS_VALUE {
            let mut bits = vec![0u8; cells.len().div_ceil(8)];
            for (i, _) in cells.iter().enumerate().filter(|(_, c)| c.is_some()) {
                bits[i / 8] |= 1 << (i % 8);
            }
            c.bitmap = c.put(TINYINT, &bits);
        }
        let mut plain = Vec::new();
        let mut offsets = Vec::new();
        for cell in cells {
            offsets.i32(plain.len() as i32);
            match cell {
                Some(cell) => plain.raw(cell.as_ref()),
                None if kind == VARCHAR => {}
                None => plain.raw(&[0; 4]),
            }
        }
        if kind == VARCHAR {
            c.offsets = c.put(INT, &offsets);
        }
        c.size = plain.len();
        if !plain.is_empty() {
            c.values = c.put(kind, &plain);
        }
        c
    }

    fn put(&mut self, kind: u8, plain: &[u8]) -> usize {
        let coded = encode(self.alg, kind, plain);
        self.data.raw(&coded);
        coded.len()
    }

    fn describe(&self, offset: usize, format: &Format, b: &mut Vec<u8>) {
        b.ivar(self.id);
        b.u8(self.kind);
        b.u8(self.column_flag);
        b.u8(self.flag);
        b.ivar(self.size as i64);
        if self.flag != HAS_NULL {
            if self.flag != HAS_VALUE {
                b.ivar(self.bitmap as i64);
            }
            if self.kind == VARCHAR {
                b.ivar(self.offsets as i64);
            }
            b.ivar(self.values as i64);
            b.ivar(offset as i64);
        }
        if format.fmt_ver >= 2 {
            b.u32(self.alg);
        }
    }
}
