#![no_main]
//! The values of rows in the body of a submit: how many columns the table has behind the timestamp (u8), a type for each (u8),
//! then the body.
use fuzz::LIMIT;
use libfuzzer_sys::fuzz_target;
use model::{
    Cell, ColumnId, DataType, KeySpan, SchemaVersion, Version,
    catalogue::{ColumnSize, ColumnType},
};
use tdfiles::{
    schema::{Column, ColumnFlags, Schema},
    wal::{LoggedRows, Message},
};

const SUBMIT: i16 = 513;

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let Some((types, body)) = rest.split_at_checked(usize::from(*count)) else {
        return;
    };
    let types = types
        .iter()
        .filter_map(|code| DataType::from_code((code % 22) as i8));
    let columns = std::iter::once(DataType::Timestamp).chain(types);
    let columns = columns.zip(1..).map(|(data_type, id)| Column {
        id: ColumnId(id),
        name: String::new(),
        column_type: ColumnType {
            data_type,
            size: ColumnSize::Fixed,
        },
        bytes: 0,
        flags: ColumnFlags(0),
        coding: None,
    });
    let schema = Schema {
        version: SchemaVersion(1),
        columns: columns.collect(),
    };
    let Ok(Message::Submit(tables)) = Message::decode(SUBMIT, body, 0) else {
        return;
    };
    for request in tables {
        let mut rows = LoggedRows::new(request.table, LIMIT);
        if rows
            .add(Version(1), &request, &schema, KeySpan::ALL)
            .is_err()
        {
            continue;
        }
        let Ok(Some(block)) = rows.into_block() else {
            continue;
        };
        let rows = block.rows.len();
        assert_eq!(rows, request.rows.len());
        assert!(rows * block.columns.len() <= LIMIT);
        assert!(block.rows.keys.is_sorted());
        for cells in &block.columns {
            assert_eq!(cells.len(), rows);
            for i in 0..rows {
                if let Cell::Value(value) = cells.cell(i) {
                    let width = cells.data_type.stored_width();
                    assert!(width.is_none_or(|width| width == value.len()));
                }
            }
        }
    }
});
