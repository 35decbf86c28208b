//! Submits of tables with any columns, in every form there is.

use super::message;
use crate::bytes::Put;

const NONE: u8 = 1;
const NULL: u8 = 2;
const VALUE: u8 = 4;
const COLUMN_FORMAT: i64 = 2;

/// A column behind the timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyColumn {
    /// Its id, from 2.
    pub id: i16,
    /// Type number.
    pub kind: u8,
    /// Bytes of a value; `None` for types of variable length.
    pub width: Option<usize>,
}

/// A cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyCell {
    /// The statement did not name the column.
    Unset,
    /// NULL.
    Null,
    /// The value as it is stored.
    Value(Vec<u8>),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyRow {
    /// Timestamp in database precision.
    pub ts: i64,
    /// A cell for each column.
    pub cells: Vec<AnyCell>,
}

/// How the rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyForm {
    /// All columns at fixed places.
    Tuple,
    /// Places of so many bytes (1, 2 or 4), then cells with the ids of their columns.
    KeyValue(u8),
    /// Column by column, without (0) or with (1) a flag at the end of each.
    Columns(u8),
}

/// The rows of one table in one submit.
#[derive(Clone, Debug)]
pub struct AnyRows {
    /// Super table, or 0 for a normal table.
    pub suid: i64,
    /// Table.
    pub uid: i64,
    /// Version of the columns.
    pub sver: i32,
    /// The columns behind the timestamp.
    pub columns: Vec<AnyColumn>,
    /// Whether the first of them is part of the key, and so has a value in each row.
    pub has_pk: bool,
    /// The rows.
    pub rows: Vec<AnyRow>,
    /// How they are laid out.
    pub form: AnyForm,
}

/// Body of a submit to vgroup `vg`.
pub fn submit_any(vg: i32, tables: &[AnyRows]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.raw(&1i64.to_be_bytes());
    rest.structure(|b| {
        b.uvar(tables.len() as u64);
        for table in tables {
            b.structure(|b| table.encode(b));
        }
    });
    message(vg, &rest)
}

impl AnyRows {
    fn encode(&self, b: &mut Vec<u8>) {
        let flags = match self.form {
            AnyForm::Columns(version) => i64::from(version) << 8 | COLUMN_FORMAT,
            _ => 1 << 8,
        };
        b.ivar(flags);
        b.i64(self.suid);
        b.i64(self.uid);
        b.ivar(self.sver.into());
        match self.form {
            AnyForm::Columns(version) => self.by_column(version == 1, b),
            AnyForm::Tuple => self.tuples(b),
            AnyForm::KeyValue(width) => self.by_row(b, |row, b| self.key_value(row, width, b)),
        }
        b.i64(1_704_067_200_000);
    }

    /// The rows one by one, with all columns at fixed places.
    pub(super) fn tuples(&self, b: &mut Vec<u8>) {
        self.by_row(b, |row, b| self.tuple(row, b));
    }

    fn by_row(&self, b: &mut Vec<u8>, encode: impl Fn(&AnyRow, &mut Vec<u8>) -> u8) {
        b.uvar(self.rows.len() as u64);
        for row in &self.rows {
            let mut data = Vec::new();
            let flag = encode(row, &mut data);
            b.u8(flag);
            b.u8(self.has_pk.into());
            b.raw(&(self.sver as u16).to_le_bytes());
            b.u32(16 + data.len() as u32);
            b.i64(row.ts);
            b.raw(&data);
        }
    }

    /// Where the key column's value is, for rows that have one.
    fn put_key(&self, at: usize, data: &mut Vec<u8>) {
        if self.has_pk {
            data.u8(self.columns[0].kind);
            data.uvar(at as u64);
        }
    }

    fn tuple(&self, row: &AnyRow, data: &mut Vec<u8>) -> u8 {
        let flag = kinds(&row.cells);
        if flag == NONE || flag == NULL {
            return flag;
        }
        let bits = bitmap(flag, &row.cells);
        let (mut fixed, mut var) = (Vec::new(), Vec::new());
        for (column, cell) in self.columns.iter().zip(&row.cells) {
            match (column.width, cell) {
                (Some(_), AnyCell::Value(bytes)) => fixed.raw(bytes),
                (Some(width), _) => fixed.resize(fixed.len() + width, 0),
                (None, AnyCell::Value(bytes)) => {
                    fixed.u32(var.len() as u32);
                    var.binary(bytes);
                }
                (None, _) => fixed.u32(0),
            }
        }
        if flag & VALUE == 0 {
            (fixed, var) = (Vec::new(), Vec::new());
        }
        if self.has_pk {
            let text = self.columns[0].width.is_none();
            self.put_key(bits.len() + if text { fixed.len() } else { 0 }, data);
        }
        data.raw(&bits);
        data.raw(&fixed);
        data.raw(&var);
        flag
    }

    fn key_value(&self, row: &AnyRow, width: u8, data: &mut Vec<u8>) -> u8 {
        let (mut index, mut payload, mut count) = (Vec::new(), Vec::new(), 0);
        for (column, cell) in self.columns.iter().zip(&row.cells) {
            if *cell == AnyCell::Unset {
                continue;
            }
            index.raw(&(payload.len() as u32).to_le_bytes()[..usize::from(width)]);
            count += 1;
            match (cell, column.width) {
                (AnyCell::Value(bytes), Some(_)) => {
                    payload.ivar(column.id.into());
                    payload.raw(bytes);
                }
                (AnyCell::Value(bytes), None) => {
                    payload.ivar(column.id.into());
                    payload.binary(bytes);
                }
                _ => payload.ivar((-column.id).into()),
            }
        }
        self.put_key(2 + index.len(), data);
        data.i16(count);
        data.raw(&index);
        data.raw(&payload);
        kinds(&row.cells) | width << 4
    }

    fn by_column(&self, with_flag: bool, b: &mut Vec<u8>) {
        b.uvar(1 + self.columns.len() as u64);
        b.ivar(1);
        b.u8(crate::codec::TIMESTAMP);
        b.ivar(self.rows.len() as i64);
        b.u8(VALUE);
        for row in &self.rows {
            b.i64(row.ts);
        }
        if with_flag {
            b.u8(1);
        }
        for (i, column) in self.columns.iter().enumerate() {
            let cells: Vec<AnyCell> = self.rows.iter().map(|row| row.cells[i].clone()).collect();
            let flag = kinds(&cells);
            b.ivar(column.id.into());
            b.u8(column.kind);
            b.ivar(cells.len() as i64);
            b.u8(flag);
            b.raw(&bitmap(flag, &cells));
            if flag & VALUE != 0 {
                let mut values = Vec::new();
                for cell in &cells {
                    if column.width.is_none() {
                        b.u32(values.len() as u32);
                    }
                    match (cell, column.width) {
                        (AnyCell::Value(bytes), _) => values.raw(bytes),
                        (_, Some(width)) => values.resize(values.len() + width, 0),
                        (_, None) => {}
                    }
                }
                if column.width.is_none() {
                    b.ivar(values.len() as i64);
                }
                b.raw(&values);
            }
            if with_flag {
                b.u8(if self.has_pk && i == 0 { 5 } else { 1 });
            }
        }
    }
}

/// A bit for each kind of cell that occurs.
fn kinds(cells: &[AnyCell]) -> u8 {
    cells.iter().fold(0, |kinds, cell| kinds | kind(cell))
}

fn kind(cell: &AnyCell) -> u8 {
    match cell {
        AnyCell::Unset => NONE,
        AnyCell::Null => NULL,
        AnyCell::Value(_) => VALUE,
    }
}

/// Nothing for one kind, a bit for each cell for two kinds, two for three.
fn bitmap(kinds: u8, cells: &[AnyCell]) -> Vec<u8> {
    let width = match kinds.count_ones() {
        0 | 1 => return Vec::new(),
        2 => 1,
        _ => 2,
    };
    let mut bits = vec![0; (cells.len() * width).div_ceil(8)];
    for (i, cell) in cells.iter().enumerate() {
        let number = match (width, kind(cell)) {
            (1, kind) => u8::from(kind > kinds & kinds.wrapping_neg()),
            (_, kind) => kind.trailing_zeros() as u8,
        };
        bits[i * width / 8] |= number << (i * width % 8);
    }
    bits
}
