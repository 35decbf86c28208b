//! A record batch → a row batch.

use super::rows::{ColumnRows, RowsError, TablesOf, Values};
use model::{Bits, CellValues, Cells, DataType, RowBatch, TooLong, Uid};

/// Turns rows back into a row batch. `uid_of` tells the ids of tables.
///
/// # Errors
/// A table has no id, versions were not read, or the rows are not what their layout says.
pub fn decode(
    rows: &TablesOf,
    uid_of: &dyn Fn(&str) -> Option<Uid>,
) -> Result<RowBatch, RowsError> {
    let mut batch = RowBatch {
        suid: rows.layout().origin().suid,
        tables: Vec::new(),
        keys: Vec::with_capacity(rows.len()),
        versions: Vec::with_capacity(rows.len()),
        columns: Vec::new(),
    };
    for table in rows.tables() {
        let uid = uid_of(table.name)
            .ok_or_else(|| RowsError(format!("the table {:?} has no id", table.name)))?;
        batch.tables.push((uid, table.len()));
        batch.keys.extend(table.keys());
        batch.versions.extend(table.versions());
        for (at, column) in table.columns()?.into_iter().skip(1).enumerate() {
            let found = cells(&column, table.len()).map_err(|problem| {
                RowsError(format!("column {:?}: {problem}", column.column.name))
            })?;
            match batch.columns.get_mut(at) {
                Some(cells) => cells
                    .extend(&found, 0, table.len())
                    .map_err(|error| RowsError(error.to_string()))?,
                None => batch.columns.push(found),
            }
        }
    }
    if batch.versions.len() != batch.keys.len() {
        return Err(RowsError("the versions of rows were not read".to_owned()));
    }
    batch.columns.sort_by_key(|cells| cells.column);
    Ok(batch)
}

/// The cells of a column as the server stores them.
fn cells(column: &ColumnRows<'_>, rows: usize) -> Result<Cells, String> {
    let data_type = column.column.column_type.data_type;
    let valid = column.valid.as_ref().map(|valid| {
        let mut bits = Bits::default();
        valid.iter().for_each(|bit| bits.push(bit));
        bits
    });
    let values = match &column.values {
        Values::Bits(bits) => CellValues::Fixed {
            width: 1,
            bytes: bits.iter().map(u8::from).collect(),
        },
        Values::Fixed { width, bytes } => CellValues::Fixed {
            width: *width,
            bytes: bytes.to_vec(),
        },
        Values::Decimal(values) if data_type == DataType::Decimal64 => CellValues::Fixed {
            width: 8,
            // What does not fit belongs to a row without a value; the layout has the digits.
            bytes: values
                .iter()
                .flat_map(|value| (*value as i64).to_le_bytes())
                .collect(),
        },
        Values::Decimal(values) => CellValues::Fixed {
            width: 16,
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        },
        Values::Variable { .. } => return stored(column, data_type, rows, valid),
    };
    Ok(Cells {
        column: column.column.id,
        data_type,
        valid,
        unset: None,
        values,
    })
}

/// Text and bytes as the server stores them, and what is raw.
fn stored(
    column: &ColumnRows<'_>,
    data_type: DataType,
    rows: usize,
    valid: Option<Bits>,
) -> Result<Cells, String> {
    let raw = column.column.raw;
    let values = match data_type.stored_width() {
        Some(width) => {
            let mut bytes = Vec::with_capacity(rows * width);
            for i in 0..rows {
                match column.bytes(i) {
                    Some(value) if value.len() == width => bytes.extend_from_slice(value),
                    _ if column.is_null(i) => bytes.resize(bytes.len() + width, 0),
                    _ => return Err(format!("a value has not {width} bytes")),
                }
            }
            CellValues::Fixed { width, bytes }
        }
        None => {
            let mut starts = Vec::with_capacity(rows + 1);
            let mut bytes = Vec::new();
            starts.push(0);
            for i in 0..rows {
                let value = column.bytes(i).ok_or("values are missing")?;
                if data_type == DataType::Nchar && !raw {
                    let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
                    bytes.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
                } else {
                    bytes.extend_from_slice(value);
                }
                let end = i32::try_from(bytes.len()).map_err(|_| TooLong.to_string())?;
                starts.push(end);
            }
            CellValues::Variable { starts, bytes }
        }
    };
    Ok(Cells {
        column: column.column.id,
        data_type,
        valid,
        unset: None,
        values,
    })
}
