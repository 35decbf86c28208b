//! Rows as they travel in row-format submits.

use crate::bytes::Put;
use crate::codec::VARCHAR;
use crate::row::{Pk, PkType, Row};

const HAS_NULL: u8 = 2;
const HAS_VALUE: u8 = 4;
/// Key-value rows with one-byte offsets.
const KEY_VALUE_SMALL: u8 = 0x10;
/// Key-value rows with two-byte offsets.
const KEY_VALUE_MEDIUM: u8 = 0x20;

/// A cell behind the timestamp: column id, its bytes unless NULL, and whether it is of variable length.
struct Cell {
    id: i64,
    bytes: Option<Vec<u8>>,
    var: bool,
}

fn cells(row: &Row) -> Vec<Cell> {
    let pk = row
        .pk
        .as_ref()
        .map(|pk| (Some(pk.bytes()), matches!(pk, Pk::VarChar(_))));
    let rest = [
        (row.value.map(|v| v.to_le_bytes().to_vec()), false),
        (row.text.clone(), true),
    ];
    pk.into_iter()
        .chain(rest)
        .zip(2..)
        .map(|((bytes, var), id)| Cell { id, bytes, var })
        .collect()
}

fn head(row: &Row, flag: u8, sver: u16, data: &[u8], out: &mut Vec<u8>) {
    out.u8(flag);
    out.u8(row.pk.is_some().into());
    out.raw(&sver.to_le_bytes());
    out.u32(16 + data.len() as u32);
    out.i64(row.ts);
    out.raw(data);
}

fn presence(cells: &[Cell]) -> u8 {
    let null = cells.iter().any(|c| c.bytes.is_none());
    let value = cells.iter().any(|c| c.bytes.is_some());
    (u8::from(null) * HAS_NULL) | (u8::from(value) * HAS_VALUE)
}

/// Key description of a row: type and where the key lies, counted from the end of this description.
fn key(row: &Row, offset: usize, data: &mut Vec<u8>) {
    if let Some(pk) = &row.pk {
        data.u8(pk.kind().code());
        data.uvar(offset as u64);
    }
}

/// The fixed layout: all columns in order of id, strings at the end.
pub(super) fn tuple(row: &Row, sver: u16, out: &mut Vec<u8>) {
    let cells = cells(row);
    let flag = presence(&cells);
    if flag == HAS_NULL {
        return head(row, flag, sver, &[], out);
    }
    let bitmap = if flag == HAS_VALUE {
        0
    } else {
        cells.len().div_ceil(8)
    };
    let fixed: usize = cells.iter().map(width).sum();
    let mut body = vec![0; bitmap];
    let mut var = Vec::new();
    let mut key_at = 0;
    for (i, cell) in cells.iter().enumerate() {
        if i == 0 {
            key_at = bitmap + if cell.var { fixed } else { 0 };
        }
        if bitmap > 0 && cell.bytes.is_some() {
            body[i / 8] |= 1 << (i % 8);
        }
        match (&cell.bytes, cell.var) {
            (Some(bytes), true) => {
                body.u32(var.len() as u32);
                var.binary(bytes);
            }
            (Some(bytes), false) => body.raw(bytes),
            (None, _) => body.raw(&[0; 4]),
        }
    }
    body.raw(&var);
    let mut data = Vec::new();
    key(row, key_at, &mut data);
    data.raw(&body);
    head(row, flag, sver, &data, out);
}

/// Bytes of a cell in the fixed part; strings have an offset there.
fn width(cell: &Cell) -> usize {
    match (&cell.bytes, cell.var) {
        (Some(bytes), false) => bytes.len(),
        _ => 4,
    }
}

/// The sparse layout: an offset array, then cells behind their column ids, negative for NULL.
pub(super) fn key_value(row: &Row, sver: u16, out: &mut Vec<u8>) {
    let cells = cells(row);
    let flag = presence(&cells);
    if flag == HAS_NULL {
        return head(row, flag, sver, &[], out);
    }
    let mut payload = Vec::new();
    let mut offsets = Vec::new();
    for cell in &cells {
        offsets.push(payload.len());
        match &cell.bytes {
            None => payload.ivar(-cell.id),
            Some(bytes) => {
                payload.ivar(cell.id);
                if cell.var {
                    payload.binary(bytes)
                } else {
                    payload.raw(bytes)
                }
            }
        }
    }
    let small = offsets.iter().all(|&o| o < 256);
    let mut index = Vec::new();
    index.i16(cells.len() as i16);
    for &offset in &offsets {
        index.raw(&(offset as u16).to_le_bytes()[..if small { 1 } else { 2 }]);
    }
    let mut data = Vec::new();
    key(row, index.len(), &mut data);
    data.raw(&index);
    data.raw(&payload);
    head(
        row,
        flag | if small {
            KEY_VALUE_SMALL
        } else {
            KEY_VALUE_MEDIUM
        },
        sver,
        &data,
        out,
    );
}

/// Whether a key column of this type has an offset array in column format.
pub(super) fn is_var(pk: PkType) -> bool {
    pk.code() == VARCHAR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(row: &Row, layout: fn(&Row, u16, &mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        layout(row, 1, &mut out);
        crate::hex(&out)
    }

    #[test]
    fn a_full_tuple_holds_offsets_into_its_tail() {
        let row = Row::new(7, 1).with_text("ab");
        assert_eq!(
            bytes(&row, tuple),
            "040001001b0000000700000000000000010000000000000002".to_owned() + "6162"
        );
    }

    #[test]
    fn keys_say_where_they_are() {
        let int = Row::new(7, 1).with_pk(Pk::Int(9));
        // Type 4 at offset 1 behind the one-byte bitmap, whose third column is NULL.
        assert_eq!(
            bytes(&int, tuple),
            "060101001f0000000700000000000000040103090000000100000000000000"
        );
        let text = Row::new(7, 1)
            .with_pk(Pk::VarChar(b"k".to_vec()))
            .with_text("");
        assert_eq!(
            bytes(&text, tuple),
            "04010100210000000700000000000000080c".to_owned()
                + "00000000"
                + "01000000"
                + "02000000"
                + "016b"
                + "00"
        );
        assert_eq!(
            bytes(&text, key_value),
            "14010100210000000700000000000000".to_owned()
                + "0805"
                + "0300000308"
                + "04016b"
                + "0601000000"
                + "0800"
        );
    }
}
