//! Rows of submit messages in every form and type against what was written.

#![allow(clippy::unwrap_used, clippy::panic)]

use model::{
    Cell, ColumnId, DataType, Key, KeySpan, PkText, PkValue, SchemaVersion, Suid, TableId, Uid,
    Version,
    catalogue::{ColumnSize, ColumnType},
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tdfiles::{
    FormatError, Unreadable,
    schema::{Column, ColumnFlags, Schema},
    wal::{LoggedRows, Message, SubmitTable},
};
use tdwriter::wal::{AnyCell, AnyColumn, AnyForm, AnyRow, AnyRows, submit_any};

const SUBMIT: i16 = 513;
const MAX_CELLS: usize = 1 << 20;

const TYPES: [DataType; 19] = [
    DataType::Bool,
    DataType::TinyInt,
    DataType::SmallInt,
    DataType::Int,
    DataType::BigInt,
    DataType::Float,
    DataType::Double,
    DataType::Varchar,
    DataType::Timestamp,
    DataType::Nchar,
    DataType::UTinyInt,
    DataType::USmallInt,
    DataType::UInt,
    DataType::UBigInt,
    DataType::Varbinary,
    DataType::Decimal,
    DataType::Geometry,
    DataType::Decimal64,
    DataType::Varchar,
];

fn column(id: i16, data_type: DataType) -> AnyColumn {
    AnyColumn {
        id,
        kind: data_type as u8,
        width: data_type.stored_width(),
    }
}

fn data_type(column: &AnyColumn) -> DataType {
    DataType::from_code(column.kind as i8).unwrap()
}

fn schema(columns: &[AnyColumn], version: i32) -> Schema {
    let key = column(1, DataType::Timestamp);
    let columns = std::iter::once(&key).chain(columns).map(|column| Column {
        id: ColumnId(column.id),
        name: format!("c{}", column.id),
        column_type: ColumnType {
            data_type: data_type(column),
            size: ColumnSize::Fixed,
        },
        bytes: 8,
        flags: ColumnFlags(1),
        coding: None,
    });
    Schema {
        version: SchemaVersion(version),
        columns: columns.collect(),
    }
}

fn value(column: AnyColumn) -> BoxedStrategy<Vec<u8>> {
    match column.width {
        Some(width) => prop::collection::vec(any::<u8>(), width).boxed(),
        None => prop::collection::vec(any::<u8>(), 0..300).boxed(),
    }
}

fn cell(column: AnyColumn, is_key: bool) -> BoxedStrategy<AnyCell> {
    let value = value(column).prop_map(AnyCell::Value);
    match is_key {
        true => value.boxed(),
        false => prop_oneof![
            2 => value,
            1 => Just(AnyCell::Null),
            1 => Just(AnyCell::Unset),
        ]
        .boxed(),
    }
}

fn columns() -> impl Strategy<Value = (Vec<AnyColumn>, bool)> {
    let key = [
        DataType::Int,
        DataType::BigInt,
        DataType::UInt,
        DataType::UBigInt,
        DataType::Varchar,
    ];
    let key = prop::option::weighted(0.3, prop::sample::select(key.to_vec()));
    let others = prop::collection::vec((prop::sample::select(TYPES.to_vec()), 1..3i16), 1..12);
    (key, others).prop_map(|(key, others)| {
        let mut columns: Vec<AnyColumn> = key.iter().map(|key| column(2, *key)).collect();
        let mut id = 2;
        for (data_type, step) in others {
            id += step;
            columns.push(column(id, data_type));
        }
        (columns, key.is_some())
    })
}

fn form() -> impl Strategy<Value = AnyForm> {
    prop_oneof![
        Just(AnyForm::Tuple),
        // Rows are far longer than 255 bytes.
        Just(AnyForm::KeyValue(2)),
        Just(AnyForm::KeyValue(4)),
        Just(AnyForm::Columns(1)),
    ]
}

fn request() -> impl Strategy<Value = AnyRows> {
    (columns(), form()).prop_flat_map(|((columns, has_pk), form)| {
        let cells: Vec<_> = columns
            .iter()
            .enumerate()
            .map(|(i, column)| cell(*column, has_pk && i == 0))
            .collect();
        let rows = prop::collection::vec((-40..40i64, cells), 1..30);
        rows.prop_map(move |rows| AnyRows {
            suid: 7,
            uid: 8,
            sver: 70_003,
            columns: columns.clone(),
            has_pk,
            rows: rows
                .into_iter()
                .map(|(ts, cells)| AnyRow { ts, cells })
                .collect(),
            form,
        })
    })
}

const TABLE: TableId = TableId {
    suid: Suid(7),
    uid: Uid(8),
};

fn decode(body: &[u8]) -> Result<Vec<SubmitTable<'_>>, FormatError> {
    match Message::decode(SUBMIT, body, 0)? {
        Message::Submit(tables) => Ok(tables),
        other => panic!("{other:?}"),
    }
}

type Cells = BTreeMap<ColumnId, Option<Vec<u8>>>;

/// Every row: its key, and the cells that are set.
fn written(request: &AnyRows, span: KeySpan) -> Vec<(Key, Option<PkValue>, Cells)> {
    let mut rows: Vec<_> = request
        .rows
        .iter()
        .filter(|row| span.overlaps(KeySpan::at(Key(row.ts))))
        .map(|row| {
            let pk = match (request.has_pk, &row.cells[0]) {
                (true, AnyCell::Value(bytes)) => Some(match data_type(&request.columns[0]) {
                    DataType::Varchar => PkValue::Text(PkText::new(bytes)),
                    kind => {
                        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                        let signed = matches!(kind, DataType::Int | DataType::BigInt);
                        let filler = if signed && negative { 0xff } else { 0 };
                        let mut wide = [filler; 8];
                        wide[..bytes.len()].copy_from_slice(bytes);
                        match signed {
                            true => PkValue::Signed(i64::from_le_bytes(wide)),
                            false => PkValue::Unsigned(u64::from_le_bytes(wide)),
                        }
                    }
                }),
                _ => None,
            };
            let cells = request.columns.iter().zip(&row.cells);
            let cells = cells.filter_map(|(column, cell)| match cell {
                AnyCell::Unset => None,
                AnyCell::Null => Some((ColumnId(column.id), None)),
                AnyCell::Value(bytes) => Some((ColumnId(column.id), Some(bytes.clone()))),
            });
            (Key(row.ts), pk, cells.collect())
        })
        .collect();
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    rows
}

fn read(rows: LoggedRows) -> Vec<(Key, Option<PkValue>, Cells)> {
    let Some(block) = rows.into_block().unwrap() else {
        return Vec::new();
    };
    assert!(block.columns.is_sorted_by_key(|cells| cells.column));
    (0..block.rows.len())
        .map(|i| {
            let cells = block.columns.iter().filter_map(|cells| {
                assert_eq!(cells.len(), block.rows.len());
                match cells.cell(i) {
                    Cell::Unset => None,
                    Cell::Null => Some((cells.column, None)),
                    Cell::Value(bytes) => Some((cells.column, Some(bytes.to_vec()))),
                }
            });
            let pk = block.rows.pks.get(i).cloned();
            (block.rows.keys[i], pk, cells.collect())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_read_as_they_were_written(request in request(), first in -60..60i64, length in 0..120i64) {
        let body = submit_any(2, std::slice::from_ref(&request));
        let tables = decode(&body).unwrap();
        let table = &tables[0];
        prop_assert_eq!(table.schema, SchemaVersion(70_003));
        let schema = schema(&request.columns, 70_003);
        for span in [KeySpan::ALL, KeySpan { first: Key(first), last: Key(first + length) }] {
            let mut rows = LoggedRows::new(TABLE, MAX_CELLS);
            rows.add(Version(5), table, &schema, span).unwrap();
            prop_assert_eq!(read(rows), written(&request, span));
        }
        // By itself, as if nothing else had been read of the message.
        let alone = SubmitTable::parse(&body[table.place.clone()], table.place.start as u64).unwrap();
        prop_assert_eq!(&alone.place, &(0..table.place.len()));
        let mut rows = LoggedRows::new(TABLE, MAX_CELLS);
        rows.add(Version(5), &alone, &schema, KeySpan::ALL).unwrap();
        prop_assert_eq!(read(rows), written(&request, KeySpan::ALL));
    }

    #[test]
    fn rows_of_several_requests_and_versions_of_the_columns_stand_side_by_side(
        request in request(),
        dropped in any::<prop::sample::Index>(),
    ) {
        // The later request knows a column less and another one more.
        let mut columns = request.columns.clone();
        let at = dropped.index(columns.len()).max(usize::from(request.has_pk));
        if at < columns.len() {
            columns.remove(at);
        }
        columns.push(column(100, DataType::Nchar));
        let later = AnyRows {
            sver: 70_004,
            rows: request.rows.iter().map(|row| {
                let mut cells = row.cells.clone();
                if at < cells.len() {
                    cells.remove(at);
                }
                cells.push(AnyCell::Value(vec![1, 0, 0, 0]));
                AnyRow { ts: row.ts, cells }
            }).collect(),
            columns: columns.clone(),
            ..request.clone()
        };
        let mut rows = LoggedRows::new(TABLE, MAX_CELLS);
        let mut expected = Vec::new();
        for (version, request) in (1..).zip([&request, &later]) {
            let body = submit_any(2, std::slice::from_ref(request));
            let schema = schema(&request.columns, request.sver);
            rows.add(Version(version), &decode(&body).unwrap()[0], &schema, KeySpan::ALL).unwrap();
            expected.extend(written(request, KeySpan::ALL));
        }
        let mut found = read(rows);
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn damage_is_an_error_or_other_rows_and_nothing_worse(
        request in request(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = submit_any(2, std::slice::from_ref(&request));
        for (at, byte) in &changes {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        if changes.is_empty() {
            body.truncate(cut.index(body.len()));
        }
        for table in decode(&body).unwrap_or_default() {
            let mut rows = LoggedRows::new(TABLE, 1_000);
            let schema = schema(&request.columns, request.sver);
            if rows.add(Version(5), &table, &schema, KeySpan::ALL).is_ok()
                && let Ok(Some(block)) = rows.into_block()
            {
                for cells in &block.columns {
                    prop_assert_eq!(cells.len(), block.rows.len());
                    prop_assert!(cells.len() * block.columns.len() <= 1_000);
                }
            }
        }
    }
}

fn one_row(form: AnyForm, data_type: DataType, cell: AnyCell) -> AnyRows {
    AnyRows {
        suid: 7,
        uid: 8,
        sver: 1,
        columns: vec![column(2, data_type)],
        has_pk: false,
        rows: vec![AnyRow {
            ts: 3,
            cells: vec![cell],
        }],
        form,
    }
}

fn add(request: &AnyRows, schema: &Schema) -> Result<LoggedRows, FormatError> {
    let body = submit_any(2, std::slice::from_ref(request));
    let mut rows = LoggedRows::new(TABLE, MAX_CELLS);
    rows.add(Version(5), &decode(&body)?[0], schema, KeySpan::ALL)?;
    Ok(rows)
}

#[test]
fn short_places_are_enough_for_short_rows() {
    let value = AnyCell::Value(b"some text".to_vec());
    let request = one_row(AnyForm::KeyValue(1), DataType::Varchar, value);
    let rows = add(&request, &schema(&request.columns, 1)).unwrap();
    assert_eq!(read(rows), written(&request, KeySpan::ALL));
}

#[test]
fn columns_of_the_older_version_end_without_a_flag() {
    for cell in [AnyCell::Unset, AnyCell::Null, AnyCell::Value(vec![1; 4])] {
        let request = one_row(AnyForm::Columns(0), DataType::Int, cell);
        let rows = add(&request, &schema(&request.columns, 1)).unwrap();
        assert_eq!(read(rows), written(&request, KeySpan::ALL));
    }
}

#[test]
fn blobs_are_not_read_but_rows_without_a_value_in_one_are() {
    for form in [AnyForm::Tuple, AnyForm::KeyValue(1), AnyForm::Columns(1)] {
        let request = one_row(form, DataType::Blob, AnyCell::Value(vec![0; 8]));
        let error = add(&request, &schema(&request.columns, 1)).unwrap_err();
        let FormatError::Unreadable { why, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(why, Unreadable::ColumnType(18));
    }
    let request = one_row(AnyForm::Tuple, DataType::Blob, AnyCell::Null);
    let rows = add(&request, &schema(&request.columns, 1)).unwrap();
    assert_eq!(read(rows), written(&request, KeySpan::ALL));
}

#[test]
fn rows_of_other_columns_than_their_request_says_are_damage() {
    let request = one_row(AnyForm::Tuple, DataType::Int, AnyCell::Value(vec![1; 4]));
    let mut body = submit_any(2, std::slice::from_ref(&request));
    // The first row ends before i64 time of the request: 4 bytes of value, 8 of time, and its version 14 before them.
    let at = body.len() - 8 - 4 - 14;
    assert_eq!(body[at], 1);
    body[at] = 2;
    let tables = decode(&body).unwrap();
    let mut rows = LoggedRows::new(TABLE, MAX_CELLS);
    let schema = schema(&request.columns, 1);
    let error = rows
        .add(Version(5), &tables[0], &schema, KeySpan::ALL)
        .unwrap_err();
    assert!(error.to_string().contains("other columns"), "{error}");
}

#[test]
fn more_cells_than_were_asked_for_are_left_to_others() {
    let mut request = one_row(AnyForm::Tuple, DataType::Int, AnyCell::Value(vec![1; 4]));
    request.rows = (0..11)
        .map(|ts| AnyRow {
            ts,
            ..request.rows[0].clone()
        })
        .collect();
    let body = submit_any(2, std::slice::from_ref(&request));
    let schema = schema(&request.columns, 1);
    let add = |max_cells| {
        let mut rows = LoggedRows::new(TABLE, max_cells);
        rows.add(
            Version(5),
            &decode(&body).unwrap()[0],
            &schema,
            KeySpan::ALL,
        )
    };
    assert!(add(11).is_ok());
    assert!(matches!(add(10), Err(FormatError::Unreadable { .. })));
}
