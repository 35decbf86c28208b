//! Bodies of submit messages.

use super::any_rows::{AnyCell, AnyColumn, AnyForm, AnyRow, AnyRows};
use super::message;
use super::meta::{CreateTable, encode_create};
use super::row_format::{is_var, key_value, tuple};
use crate::bytes::Put;
use crate::codec::{INT, TIMESTAMP, VARCHAR};
use crate::row::Row;

const AUTO_CREATE: i64 = 1;
const COLUMN_FORMAT: i64 = 2;
const HAS_NULL: u8 = 2;
const HAS_VALUE: u8 = 4;
/// Column flag: in the block statistics.
const SMA: u8 = 1;
/// Column flag: part of the primary key.
const IS_KEY: u8 = 4;

/// How the rows of a table are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Rows with all columns at fixed places, as SQL makes them.
    #[default]
    Tuple,
    /// Rows with an offset array, as the server prefers for sparse rows.
    KeyValue,
    /// Columns without flag byte (format version 0).
    ColumnsV0,
    /// Columns with a flag byte at the end of each (format version 1), as restored dumps make them.
    ColumnsV1,
}

/// The part of a submit that belongs to one table.
#[derive(Clone, Debug, Default)]
pub struct TableRows {
    /// Super table, or 0 for a normal table.
    pub suid: i64,
    /// Table.
    pub uid: i64,
    /// Schema version.
    pub sver: i32,
    /// Rows; a server sorts them by key, but readers must not rely on it.
    pub rows: Vec<Row>,
    /// INT columns that the table has behind those of the rows, and that no row sets.
    pub unset: usize,
    /// Layout of the rows.
    pub form: Form,
    /// The table to be created if it does not exist.
    pub create: Option<CreateTable>,
    /// Further bits of the low flag byte: 4 from a file, 8 from taosX, 0x20 schema changed meanwhile.
    pub flags: u8,
    /// When the request was made, in ms since 1970.
    pub requested_ms: i64,
    /// Bytes a newer server might append to this table's struct.
    pub extra: Vec<u8>,
}

/// Body of a submit to vgroup `vg`, each table in its own form. `extra` stands for what a newer server might append.
pub fn submit(vg: i32, tables: &[TableRows], extra: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.raw(&1i64.to_be_bytes());
    rest.structure(|b| {
        b.uvar(tables.len() as u64);
        for table in tables {
            b.structure(|b| encode_table(table, b));
        }
        b.raw(extra);
    });
    message(vg, &rest)
}

/// Body of a submit with all tables in row format ([`Form::Tuple`]).
pub fn submit_rows(vg: i32, tables: &[TableRows]) -> Vec<u8> {
    submit(vg, &in_form(tables, Form::Tuple), &[])
}

/// Body of a submit with all tables in column format of `version` 0 or 1.
pub fn submit_columns(vg: i32, tables: &[TableRows], version: u8) -> Vec<u8> {
    let form = if version == 0 {
        Form::ColumnsV0
    } else {
        Form::ColumnsV1
    };
    submit(vg, &in_form(tables, form), &[])
}

fn in_form(tables: &[TableRows], form: Form) -> Vec<TableRows> {
    tables
        .iter()
        .cloned()
        .map(|t| TableRows { form, ..t })
        .collect()
}

fn encode_table(table: &TableRows, b: &mut Vec<u8>) {
    let columns = matches!(table.form, Form::ColumnsV0 | Form::ColumnsV1);
    let version = i64::from(table.form != Form::ColumnsV0);
    let mut flags = version << 8 | i64::from(table.flags);
    flags |= if columns { COLUMN_FORMAT } else { 0 };
    flags |= if table.create.is_some() {
        AUTO_CREATE
    } else {
        0
    };
    b.ivar(flags);
    if let Some(create) = &table.create {
        b.structure(|b| encode_create(create, b));
    }
    b.i64(table.suid);
    b.i64(table.uid);
    b.ivar(table.sver.into());
    if columns {
        encode_columns(&table.rows, version == 1, b);
    } else if table.form == Form::Tuple && table.unset > 0 {
        with_unset(table).tuples(b);
    } else {
        b.uvar(table.rows.len() as u64);
        for row in &table.rows {
            match table.form {
                Form::KeyValue => key_value(row, table.sver as u16, b),
                _ => tuple(row, table.sver as u16, b),
            }
        }
    }
    b.i64(table.requested_ms);
    b.raw(&table.extra);
}

/// The same rows with the columns that they do not set, which other forms leave out.
fn with_unset(table: &TableRows) -> AnyRows {
    let pk = table.rows.first().and_then(|row| row.pk.as_ref());
    let pk_column = pk.map(|pk| {
        (
            pk.kind().code(),
            (!is_var(pk.kind())).then(|| pk.bytes().len()),
        )
    });
    let kinds = pk_column
        .into_iter()
        .chain([(INT, Some(4)), (VARCHAR, None)])
        .chain(std::iter::repeat_n((INT, Some(4)), table.unset));
    let columns = kinds
        .zip(2..)
        .map(|((kind, width), id)| AnyColumn { id, kind, width });
    let cell = |bytes: Option<Vec<u8>>| bytes.map_or(AnyCell::Null, AnyCell::Value);
    let rows = table.rows.iter().map(|row| {
        let pk = row.pk.as_ref().map(|pk| AnyCell::Value(pk.bytes()));
        let value = cell(row.value.map(|value| value.to_le_bytes().to_vec()));
        let unset = std::iter::repeat_n(AnyCell::Unset, table.unset);
        AnyRow {
            ts: row.ts,
            cells: pk
                .into_iter()
                .chain([value, cell(row.text.clone())])
                .chain(unset)
                .collect(),
        }
    });
    AnyRows {
        suid: table.suid,
        uid: table.uid,
        sver: table.sver,
        columns: columns.collect(),
        has_pk: pk.is_some(),
        rows: rows.collect(),
        form: AnyForm::Tuple,
    }
}

fn encode_columns(rows: &[Row], with_flag: bool, b: &mut Vec<u8>) {
    let pk = rows.first().and_then(|r| r.pk.as_ref()).map(|pk| pk.kind());
    b.uvar(3 + u64::from(pk.is_some()));
    let mut id = 1;
    let mut put = |kind: u8, var: bool, flag: u8, cells: &[Option<Vec<u8>>]| {
        column(id, kind, var, cells, b);
        if with_flag {
            b.u8(flag);
        }
        id += 1;
    };
    let cells = |of: &dyn Fn(&Row) -> Option<Vec<u8>>| rows.iter().map(of).collect::<Vec<_>>();
    put(
        TIMESTAMP,
        false,
        SMA,
        &cells(&|r| Some(r.ts.to_le_bytes().to_vec())),
    );
    if let Some(pk) = pk {
        put(
            pk.code(),
            is_var(pk),
            SMA | IS_KEY,
            &cells(&|r| r.pk.as_ref().map(|pk| pk.bytes())),
        );
    }
    put(
        INT,
        false,
        SMA,
        &cells(&|r| r.value.map(|v| v.to_le_bytes().to_vec())),
    );
    put(VARCHAR, true, SMA, &cells(&|r| r.text.clone()));
}

fn column(id: i64, kind: u8, var: bool, cells: &[Option<Vec<u8>>], b: &mut Vec<u8>) {
    let flag = cells.iter().fold(0, |flag, c| {
        flag | if c.is_some() { HAS_VALUE } else { HAS_NULL }
    });
    b.ivar(id);
    b.u8(kind);
    b.ivar(cells.len() as i64);
    b.u8(flag);
    if flag == HAS_NULL | HAS_VALUE {
        let mut bitmap = vec![0u8; cells.len().div_ceil(8)];
        for (i, _) in cells.iter().enumerate().filter(|(_, c)| c.is_some()) {
            bitmap[i / 8] |= 1 << (i % 8);
        }
        b.raw(&bitmap);
    }
    if flag & HAS_VALUE == 0 {
        return;
    }
    if var {
        let mut data = Vec::new();
        for cell in cells {
            b.i32(data.len() as i32);
            data.raw(cell.as_deref().unwrap_or_default());
        }
        b.ivar(data.len() as i64);
        b.raw(&data);
    } else {
        for cell in cells {
            b.raw(cell.as_deref().unwrap_or(&[0; 4]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: Vec<Row>) -> TableRows {
        TableRows {
            suid: 0x11,
            uid: 0x22,
            sver: 1,
            rows,
            ..TableRows::default()
        }
    }

    #[test]
    fn a_row_submit_starts_like_the_recorded_ones() {
        let body = submit_rows(2, &[table(vec![Row::new(7, 1)])]);
        let hex = crate::hex(&body);
        // Length of all, vgroup, big-endian 1, struct, one table, struct, flags 0x100 as zig-zag.
        assert!(
            hex.starts_with(
                "4e000000020000000000000000000001 3a000000 01 35000000 8004"
                    .replace(' ', "")
                    .as_str()
            ),
            "{hex}"
        );
    }

    #[test]
    fn column_versions_differ_by_one_flag_byte_per_column() {
        let rows = vec![
            Row::new(7, 1),
            Row {
                value: None,
                ..Row::new(8, 0)
            },
        ];
        let (v0, v1) = (
            submit_columns(2, &[table(rows.clone())], 0),
            submit_columns(2, &[table(rows)], 1),
        );
        // Version 0 has smaller flags (one byte instead of two).
        assert_eq!(v1.len(), v0.len() + 3 + 1);
    }
}
