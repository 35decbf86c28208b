//! Rows written as Parquet and read back.
#![allow(clippy::unwrap_used)]

use arrow_array::Array as _;
use model::{
    Bits, Cell, CellValues, Cells, ColumnId, DataType, FileSetId, Key, KeySpan, OwnedValue,
    Precision, RowBatch, Suid, Uid, Version, VgId,
    catalogue::{Column, Schema},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use rows::{
    arrow::{Layout, LayoutError, Origin, decode, encode},
    parquet::{FileWriter, ParquetError, ParquetFile, ParquetRows, RowsWriter, Selection},
    source::{Row as _, RowSource as _},
};
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex},
};

const TYPES: [&str; 20] = [
    "BOOL",
    "TINYINT",
    "SMALLINT",
    "INT",
    "BIGINT",
    "TINYINT UNSIGNED",
    "SMALLINT UNSIGNED",
    "INT UNSIGNED",
    "BIGINT UNSIGNED",
    "FLOAT",
    "DOUBLE",
    "TIMESTAMP",
    "VARCHAR(64)",
    "NCHAR(16)",
    "VARBINARY(64)",
    "GEOMETRY(64)",
    "BLOB",
    "DECIMAL(9, 2)",
    "DECIMAL(18, 0)",
    "DECIMAL(38, 37)",
];

fn column(id: i64, name: &str, column_type: &str) -> Column {
    Column {
        name: name.to_owned(),
        column_type: column_type.parse().unwrap(),
        id: Some(id),
        key: false,
        coding: None,
    }
}

fn schema(columns: &[(&str, &str)]) -> Schema {
    let key = column(1, "ts", "TIMESTAMP");
    let others = (2..).zip(columns);
    let others = others.map(|(id, (name, column_type))| column(id, name, column_type));
    Schema {
        columns: std::iter::once(key).chain(others).collect(),
        tags: Vec::new(),
        options: String::new(),
    }
}

fn origin() -> Origin {
    Origin {
        stable: Some("风's".to_owned()),
        suid: Suid(77),
        vgroup: VgId(3),
        file_set: Some(FileSetId(-1)),
        precision: Precision::Microseconds,
    }
}

fn layout(schema: &Schema) -> Layout {
    Layout::new(schema, origin()).unwrap()
}

fn name_of(uid: Uid) -> Option<&'static str> {
    const NAMES: [&str; 4] = ["d0", "d1", "t '\"", "表"];
    usize::try_from(uid.0)
        .ok()
        .and_then(|at| NAMES.get(at))
        .copied()
}

fn uid_of(name: &str) -> Option<Uid> {
    (0..4).map(Uid).find(|uid| name_of(*uid) == Some(name))
}

/// Where a file's bytes go, so that a test has them afterwards.
#[derive(Debug, Clone, Default)]
struct Files(Arc<Mutex<Vec<Vec<u8>>>>);

struct ToFile(Files, usize);

impl Write for ToFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().unwrap()[self.1].extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write(layout: Layout, batches: Vec<RowBatch>) -> Vec<Vec<u8>> {
    let files = Files::default();
    let mut writer = RowsWriter::new(layout, |number, layout| {
        files.0.lock().unwrap().push(Vec::new());
        let name = format!("{number}.parquet");
        FileWriter::over(ToFile(files.clone(), number), &name, name.clone(), layout)
    });
    for batch in batches {
        writer.write(batch, &|uid| name_of(uid)).unwrap();
    }
    let entries = writer.finish().unwrap();
    let files = std::mem::take(&mut *files.0.lock().unwrap());
    assert_eq!(entries.len(), files.len());
    for (entry, bytes) in entries.iter().zip(&files) {
        assert_eq!(entry.bytes, bytes.len() as u64);
    }
    files
}

fn read(file: &[u8]) -> Vec<RowBatch> {
    let file = ParquetFile::open(file.to_vec(), "f").unwrap();
    let mut batches = file.read(Selection::ALL);
    let mut read = Vec::new();
    while let Some(rows) = batches.next().unwrap() {
        read.push(decode(&rows, &uid_of).unwrap());
    }
    read
}

/// A row: table, key, version, and a cell for each column.
type OneRow = (Uid, Key, Version, Vec<Option<Vec<u8>>>);

fn rows(batches: &[RowBatch], columns: &[ColumnId]) -> Vec<OneRow> {
    let mut rows = Vec::new();
    for batch in batches {
        let tables = batch.tables.iter();
        let tables = tables.flat_map(|(uid, count)| std::iter::repeat_n(*uid, *count));
        for (at, uid) in tables.enumerate() {
            let cells = columns.iter().map(|id| {
                let cells = batch.columns.iter().find(|cells| cells.column == *id)?;
                match cells.cell(at) {
                    Cell::Value(value) => Some(value.to_vec()),
                    Cell::Null | Cell::Unset => None,
                }
            });
            rows.push((uid, batch.keys[at], batch.versions[at], cells.collect()));
        }
    }
    rows
}

/// A batch of rows of table 0, of these cells.
fn batch(columns: Vec<Cells>, rows: usize) -> RowBatch {
    RowBatch {
        suid: Suid(77),
        tables: vec![(Uid(0), rows)],
        keys: (0..rows as i64).map(Key).collect(),
        versions: (0..rows as i64).map(Version).collect(),
        columns,
    }
}

fn cells(id: i16, column_type: &str, values: &[Option<&[u8]>]) -> Cells {
    let column_type: model::catalogue::ColumnType = column_type.parse().unwrap();
    let mut cells = Cells::new(ColumnId(id), column_type.data_type);
    for value in values.iter() {
        let cell = value.map_or(Cell::Null, Cell::Value);
        cells.push(cell).unwrap();
    }
    cells
}

fn ucs4(text: &str) -> Vec<u8> {
    text.chars()
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect()
}

/// Cells of a type: now and then a value that does not fit it.
fn some_cells(at: usize, rows: usize) -> impl Strategy<Value = Option<Cells>> {
    let text = TYPES[at % TYPES.len()];
    let column_type: model::catalogue::ColumnType = text.parse().unwrap();
    let data_type = column_type.data_type;
    let id = ColumnId(at as i16 + 2);
    let value = match data_type {
        DataType::Bool => (0..2_u8).prop_map(|bit| vec![bit]).boxed(),
        DataType::Varchar => prop_oneof![
            60 => ".{0,8}".prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..9),
            1 => Just(vec![b'x'; 16_000]),
        ]
        .boxed(),
        DataType::Nchar => prop_oneof![
            60 => vec(any::<char>(), 0..5).prop_map(|text| ucs4(&text.into_iter().collect::<String>())),
            1 => vec(any::<u8>(), 0..9),
        ]
        .boxed(),
        DataType::Decimal | DataType::Decimal64 => {
            let width = data_type.stored_width().unwrap();
            let fits = (-999_999_999..=999_999_999_i128).prop_map(i128::to_le_bytes);
            let any = any::<i128>().prop_map(i128::to_le_bytes);
            prop_oneof![30 => fits, 1 => any]
                .prop_map(move |bytes| bytes[..width].to_vec())
                .boxed()
        }
        other => match other.stored_width() {
            Some(width) => vec(any::<u8>(), width).boxed(),
            None => vec(any::<u8>(), 0..20).boxed(),
        },
    };
    let some = vec((prop::option::weighted(0.8, value), any::<bool>()), rows);
    let cells = some.prop_map(move |values| {
        let mut cells = Cells::new(id, data_type);
        let mut unset = Bits::default();
        for (value, is_unset) in values.iter() {
            let cell = value.as_deref().map_or(Cell::Null, Cell::Value);
            cells.push(cell).unwrap();
            unset.push(value.is_none() && *is_unset);
        }
        cells.unset = Some(unset).filter(|unset| unset.count() > 0);
        cells
    });
    let absent = Cells {
        values: CellValues::Absent,
        valid: Some(Bits::filled(false, rows)),
        ..Cells::new(id, data_type)
    };
    prop_oneof![
        8 => cells.prop_map(Some),
        1 => Just(Some(absent)),
        1 => Just(None),
    ]
}

fn some_batch() -> impl Strategy<Value = RowBatch> {
    vec(0..9_usize, 1..4).prop_flat_map(|counts| {
        let rows: usize = counts.iter().sum();
        let columns: Vec<_> = (0..TYPES.len())
            .map(|at| some_cells(at, rows).boxed())
            .collect();
        let versions = vec(any::<i64>(), rows);
        let keys = vec(any::<i64>(), rows);
        (columns, versions, keys).prop_map(move |(columns, versions, mut keys)| {
            let mut at = 0;
            for count in &counts {
                keys[at..at + count].sort_unstable();
                at += count;
            }
            RowBatch {
                suid: Suid(77),
                tables: (0..).map(Uid).zip(counts.iter().copied()).collect(),
                keys: keys.into_iter().map(Key).collect(),
                versions: versions.into_iter().map(Version).collect(),
                columns: columns.into_iter().flatten().collect(),
            }
        })
    })
}

fn every_type() -> Schema {
    let names: Vec<String> = (0..TYPES.len()).map(|at| format!("c{at}")).collect();
    let columns: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(TYPES).collect();
    schema(&columns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_cell_comes_back_as_it_was(mut batches in vec(some_batch(), 1..4)) {
        // One table may be the last of a batch and the first of the next one; keys go on ascending then.
        for (batch, part) in batches.iter_mut().zip(-1..) {
            let keys = batch.keys.iter_mut();
            keys.for_each(|key| key.0 = (key.0 >> 2) + part * (1 << 62));
        }
        let schema = every_type();
        let ids: Vec<ColumnId> = (0..TYPES.len()).map(|at| ColumnId(at as i16 + 2)).collect();
        let files = write(layout(&schema), batches.clone());
        let back: Vec<RowBatch> = files.iter().flat_map(|file| read(file)).collect();
        prop_assert_eq!(rows(&back, &ids), rows(&batches, &ids));
        prop_assert_eq!(files, write(layout(&schema), batches), "the same rows, another file");
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..300), at in any::<Index>()) {
        let _ = ParquetFile::open(bytes.clone(), "f");
        let mut file = small_file();
        let at = at.index(file.len());
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        read_all(&file);
    }
}

/// A file with each kind of column.
fn small_file() -> Vec<u8> {
    let columns = [
        ("i", "INT"),
        ("b", "BOOL"),
        ("v", "VARCHAR(9)"),
        ("d", "DECIMAL(30, 2)"),
    ];
    let digits = 12_345_i128.to_le_bytes();
    let rows = batch(
        vec![
            cells(2, "INT", &[Some(&[1, 0, 0, 0]), None, Some(&[9, 0, 0, 0])]),
            cells(3, "BOOL", &[Some(&[1]), Some(&[0]), None]),
            cells(4, "VARCHAR(9)", &[Some(b"ab"), Some(b""), Some(b"ab")]),
            cells(5, "DECIMAL(30, 2)", &[Some(&digits), None, Some(&digits)]),
        ],
        3,
    );
    write(layout(&schema(&columns)), vec![rows]).remove(0)
}

/// Reads as much as can be had, in both ways; whatever is wrong is an error.
fn read_all(bytes: &[u8]) -> usize {
    let Ok(file) = ParquetFile::open(bytes.to_vec(), "f") else {
        return 0;
    };
    let mut seen = 0;
    let mut batches = file.read(Selection::ALL);
    while let Ok(Some(rows)) = batches.next() {
        seen += rows.len();
        let _ = decode(&rows, &|_| Some(Uid(1)));
    }
    let mut of_table = Selection::ALL;
    of_table.tables = Some(["d0".to_owned()].into());
    let mut rows = ParquetRows::new(&file, of_table);
    while let Ok(Some(row)) = rows.next_row() {
        row.into_owned();
    }
    seen
}

#[test]
fn a_flipped_byte_or_a_cut_is_an_error_or_another_result_and_never_a_panic() {
    let file = small_file();
    assert_eq!(read_all(&file), 3);
    for at in 0..file.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bad = file.clone();
            bad[at] ^= flip;
            read_all(&bad);
        }
        assert_eq!(read_all(&file[..at]), 0, "cut at {at}");
    }
}

#[test]
fn errors_name_the_file_and_the_row_group() {
    let mut file = small_file();
    // The first page begins behind the magic.
    file[4..40].fill(0xff);
    let file = ParquetFile::open(file, "backup/rows").unwrap();
    let error = file.read(Selection::ALL).next().unwrap_err().to_string();
    assert!(error.starts_with("backup/rows, row group 0: "), "{error}");
}

#[test]
fn columns_of_one_name_get_names_that_readers_can_tell_apart() {
    let columns = [
        ("tbname", "INT"),
        ("_VERSION", "INT"),
        ("TS", "INT"),
        ("ts_2", "INT"),
        ("plain", "INT"),
    ];
    let layout = layout(&schema(&columns));
    let fields = layout.schema().fields().iter();
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    let expected = [
        "tbname",
        "_version",
        "ts",
        "tbname_2",
        "_VERSION_2",
        "TS_3",
        "ts_2",
        "plain",
    ];
    assert_eq!(names, expected);
    let back = Layout::from_arrow(layout.schema()).unwrap();
    assert_eq!(back, layout);
    assert_eq!(back.columns()[3].name, "TS");
}

#[test]
fn a_text_that_is_not_utf8_begins_a_file_in_which_the_column_is_bytes() {
    let columns = [("v", "VARCHAR(9)"), ("w", "VARCHAR(9)")];
    let texts = |v: &[u8]| {
        batch(
            vec![
                cells(2, "VARCHAR(9)", &[Some(v)]),
                cells(3, "VARCHAR(9)", &[Some(b"w")]),
            ],
            1,
        )
    };
    let batches = vec![texts(b"one"), texts(b"\xff"), texts(b"three")];
    let files = write(layout(&schema(&columns)), batches.clone());
    let of_files: Vec<_> = files.iter().map(|file| read(file)).collect();
    assert_eq!(of_files.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    let ids = [ColumnId(2), ColumnId(3)];
    assert_eq!(rows(&of_files.concat(), &ids), rows(&batches, &ids));
    let raw = |file: &Vec<u8>| {
        let file = ParquetFile::open(file.clone(), "f").unwrap();
        let columns = file.layout().columns().iter();
        columns.map(|column| column.raw).collect::<Vec<_>>()
    };
    assert_eq!(raw(&files[0]), [false, false, false]);
    assert_eq!(raw(&files[1]), [false, true, false]);
}

#[test]
fn text_is_cut_between_characters_only() {
    // Both halves of a character are no text, though the bytes of the whole column are.
    let rows = batch(
        vec![cells(2, "VARCHAR(9)", &[Some(b"\xc3"), Some(b"\xa9")])],
        2,
    );
    let files = write(layout(&schema(&[("v", "VARCHAR(9)")])), vec![rows.clone()]);
    let ids = [ColumnId(2)];
    assert_eq!(
        self::rows(&read(&files[0]), &ids),
        self::rows(&[rows], &ids)
    );
}

#[test]
fn nchar_of_every_plane_is_utf8_and_numbers_that_are_no_characters_survive() {
    let planes: String = (0..=0x10_u32)
        .filter_map(|plane| char::from_u32(plane << 16 | 0x41))
        .collect();
    let good = ucs4(&planes);
    let column = ("n", "NCHAR(64)");
    let of = |value: &[u8]| batch(vec![cells(2, column.1, &[Some(value), None])], 2);
    let layout = layout(&schema(&[column]));
    let encoded = encode(&layout, of(&good), &|uid| name_of(uid)).unwrap();
    assert_eq!(encoded.raw, []);
    let text = encoded.batch.column(3).as_any();
    let text = text.downcast_ref::<arrow_array::StringArray>().unwrap();
    assert_eq!(text.value(0), planes);

    for bad in [0xd800_u32, 0xdfff, 0x11_0000, u32::MAX] {
        let value = [ucs4("a"), bad.to_le_bytes().to_vec()].concat();
        let encoded = encode(&layout, of(&value), &|uid| name_of(uid)).unwrap();
        assert_eq!(encoded.raw, [ColumnId(2)]);
        let files = write(layout.clone(), vec![of(&good), of(&value)]);
        assert_eq!(files.len(), 2);
        let back = read(&files[1]);
        assert_eq!(rows(&back, &[ColumnId(2)])[0].3, [Some(value)]);
    }
}

#[test]
fn a_decimal_with_more_digits_than_declared_survives_and_so_does_one_without_precision() {
    let mut schema = schema(&[("d", "DECIMAL(9, 2)"), ("e", "DECIMAL(0, 2)")]);
    schema.columns[2].column_type.data_type = DataType::Decimal64;
    let values = |d: i64| {
        let narrow = |id, d: i64| {
            let mut cells = Cells::new(ColumnId(id), DataType::Decimal64);
            cells.push(Cell::Value(&d.to_le_bytes())).unwrap();
            cells
        };
        batch(vec![narrow(2, d), narrow(3, d)], 1)
    };
    let batches = vec![values(-999_999_999), values(1_000_000_000)];
    let files = write(layout(&schema), batches.clone());
    assert_eq!(files.len(), 2);
    let ids = [ColumnId(2), ColumnId(3)];
    let back: Vec<_> = files.iter().flat_map(|file| read(file)).collect();
    assert_eq!(rows(&back, &ids), rows(&batches, &ids));
    let file = ParquetFile::open(files[1].clone(), "f").unwrap();
    let mut shown = ParquetRows::new(&file, Selection::ALL);
    let row = shown.next_row().unwrap().unwrap().into_owned();
    let text = OwnedValue::Bytes(b"10000000.00".to_vec());
    assert_eq!(row[1..], [text.clone(), text]);
}

#[test]
fn columns_are_matched_by_id_and_not_by_name_or_place() {
    let mut schema = schema(&[("a", "INT"), ("b", "INT"), ("c", "INT")]);
    // "a" was dropped and added again; the batch has the dropped one, and lacks "c".
    schema.columns[1].id = Some(9);
    let rows = batch(
        vec![
            cells(2, "INT", &[Some(&[2; 4])]),
            cells(3, "INT", &[Some(&[3; 4])]),
            cells(9, "INT", &[Some(&[9; 4])]),
        ],
        1,
    );
    let back = read(&write(layout(&schema), vec![rows]).remove(0));
    let ids: Vec<i16> = back[0].columns.iter().map(|cells| cells.column.0).collect();
    assert_eq!(ids, [3, 4, 9]);
    let ids = ids.into_iter().map(ColumnId).collect::<Vec<_>>();
    let expected = [Some(vec![3; 4]), None, Some(vec![9; 4])];
    assert_eq!(self::rows(&back, &ids)[0].3, expected);
}

#[test]
fn a_batch_that_is_not_whole_is_refused() {
    let layout = layout(&schema(&[("a", "INT"), ("v", "VARCHAR(9)")]));
    let refused = |change: &dyn Fn(&mut RowBatch)| {
        let mut rows = batch(
            vec![
                cells(2, "INT", &[Some(&[2; 4]), None]),
                cells(3, "VARCHAR(9)", &[Some(b"ab"), None]),
            ],
            2,
        );
        change(&mut rows);
        encode(&layout, rows, &|uid| name_of(uid))
            .unwrap_err()
            .to_string()
    };
    let not_whole = "is not whole";
    assert!(refused(&|rows| rows.tables[0].0 = Uid(99)).contains("99"));
    assert!(refused(&|rows| rows.tables[0].1 = 3).contains(not_whole));
    assert!(refused(&|rows| rows.tables[0].1 = 1).contains(not_whole));
    assert!(refused(&|rows| rows.versions.truncate(1)).contains(not_whole));
    assert!(refused(&|rows| rows.columns[0].data_type = DataType::UInt).contains("INT"));
    assert!(refused(&|rows| rows.columns[0].valid = Some(Bits::filled(true, 1))).contains("\"a\""));
    for wrong in [vec![0, 2], vec![0, 2, 3], vec![2, 0, 2], vec![-1, 0, 2]] {
        let change = |rows: &mut RowBatch| {
            if let CellValues::Variable { starts, .. } = &mut rows.columns[1].values {
                *starts = wrong.clone();
            }
        };
        assert!(refused(&change).contains("\"v\""), "{wrong:?}");
    }
}

/// Three tables with 100 000 rows each: a row group boundary lies within the second.
fn big_file() -> Vec<u8> {
    let batches = (0..3_i64).flat_map(|uid| {
        (0..10).map(move |part| {
            let keys = part * 10_000..(part + 1) * 10_000;
            let mut values = Cells::new(ColumnId(2), DataType::BigInt);
            for key in keys.clone() {
                let value = (key * 10 + uid).to_le_bytes();
                values.push(Cell::Value(&value)).unwrap();
            }
            RowBatch {
                suid: Suid(77),
                tables: vec![(Uid(uid), 10_000)],
                keys: keys.map(Key).collect(),
                versions: vec![Version(5); 10_000],
                columns: vec![values],
            }
        })
    });
    write(layout(&schema(&[("v", "BIGINT")])), batches.collect()).remove(0)
}

/// Counts what is read of a file.
struct Counting(Vec<u8>, Arc<Mutex<u64>>);

impl rows::parquet::ReadRange for Counting {
    fn length(&self) -> std::io::Result<u64> {
        self.0.length()
    }

    fn read_range(&self, range: std::ops::Range<u64>) -> std::io::Result<Vec<u8>> {
        *self.1.lock().unwrap() += range.end - range.start;
        self.0.read_range(range)
    }
}

#[test]
fn a_selection_gives_just_its_rows_and_reads_only_row_groups_that_may_have_them() {
    let read = Arc::new(Mutex::new(0));
    let file = ParquetFile::open(Counting(big_file(), Arc::clone(&read)), "f").unwrap();
    assert_eq!(file.rows(), 300_000);
    let footer = *read.lock().unwrap();
    let select = |tables: &[&str], first, last| {
        let mut selection = Selection::ALL;
        if !tables.is_empty() {
            selection.tables = Some(tables.iter().map(|name| (*name).to_owned()).collect());
        }
        selection.span = KeySpan {
            first: Key(first),
            last: Key(last),
        };
        *read.lock().unwrap() = 0;
        let mut batches = file.read(selection);
        let mut rows: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        while let Some(batch) = batches.next().unwrap() {
            for table in batch.tables() {
                let values = rows.entry(table.name.to_owned()).or_default();
                let columns = table.columns().unwrap();
                for (row, key) in table.keys().enumerate() {
                    let value = columns[1].bytes(row).unwrap().try_into().unwrap();
                    assert_eq!(i64::from_le_bytes(value) / 10, key.0);
                    values.push(key.0);
                }
            }
        }
        (rows, *read.lock().unwrap())
    };
    let (rows, _) = select(&["d1"], i64::MIN, i64::MAX);
    assert_eq!(rows, [("d1".to_owned(), (0..100_000).collect())].into());
    // The third table lies in the last row groups only, and its early rows in one of them.
    let (rows, some) = select(&["t '\""], 5, 7);
    assert_eq!(rows, [("t '\"".to_owned(), vec![5, 6, 7])].into());
    let (_, all) = select(&[], i64::MIN, i64::MAX);
    assert!(some * 2 < all, "{some} of {all}");
    let (rows, none) = select(&["zzz", "a"], i64::MIN, i64::MAX);
    assert_eq!((rows.len(), none), (0, 0));
    assert_eq!(select(&[], 200_000, 300_000), (BTreeMap::new(), 0));
    assert!(footer < 4_000, "{footer}");
}

#[test]
fn only_chosen_columns_are_given_and_always_the_key() {
    let file = ParquetFile::open(small_file(), "f").unwrap();
    let mut selection = Selection::ALL;
    selection.columns = Some([ColumnId(4), ColumnId(2)].into());
    let mut shown = ParquetRows::new(&file, selection.clone());
    assert_eq!(
        shown.types(),
        [DataType::Timestamp, DataType::Int, DataType::Varchar]
    );
    let row = shown.next_row().unwrap().unwrap().into_owned();
    let text = OwnedValue::Bytes(b"ab".to_vec());
    assert_eq!(row, [OwnedValue::Int(0), OwnedValue::Int(1), text]);
    assert_eq!(shown.table(), Some("d0"));
    selection.columns = Some([].into());
    let mut shown = ParquetRows::new(&file, selection);
    let mut rows = 0;
    while let Some(row) = shown.next_row().unwrap() {
        assert_eq!(row.into_owned(), [OwnedValue::Int(rows)]);
        rows += 1;
    }
    assert_eq!(rows, 3);
}

#[test]
fn rows_are_shown_as_a_server_would() {
    let columns = [
        ("u", "TINYINT UNSIGNED"),
        ("n", "NCHAR(9)"),
        ("d", "DECIMAL(30, 2)"),
        ("f", "FLOAT"),
        ("b", "BOOL"),
    ];
    let digits = (-12_i128).to_le_bytes();
    let rows = batch(
        vec![
            cells(2, columns[0].1, &[Some(&[255]), None]),
            cells(3, columns[1].1, &[Some(&ucs4("风")), None]),
            cells(4, columns[2].1, &[Some(&digits), None]),
            cells(5, columns[3].1, &[Some(&(-0.0_f32).to_le_bytes()), None]),
            cells(6, columns[4].1, &[Some(&[1]), None]),
        ],
        2,
    );
    let file = write(layout(&schema(&columns)), vec![rows]).remove(0);
    let file = ParquetFile::open(file, "f").unwrap();
    let mut shown = ParquetRows::new(&file, Selection::ALL);
    let row = shown.next_row().unwrap().unwrap();
    let model::Value::Float(zero) = row.value(4) else {
        panic!("no float");
    };
    assert!(zero.is_sign_negative());
    let row = row.into_owned();
    let bytes = |text: &str| OwnedValue::Bytes(text.as_bytes().to_vec());
    assert_eq!(
        row[1..4],
        [OwnedValue::UInt(255), bytes("风"), bytes("-0.12")]
    );
    assert_eq!(row[5], OwnedValue::Bool(true));
    let row = shown.next_row().unwrap().unwrap();
    assert_eq!(row.into_owned()[1..], [const { OwnedValue::Null }; 5]);
    assert!(shown.next_row().unwrap().is_none());
}

#[test]
fn what_a_file_is_stands_in_its_metadata_and_a_newer_format_is_refused_as_such() {
    let layout = layout(&every_type());
    let back = Layout::from_arrow(layout.schema()).unwrap();
    assert_eq!((back.origin(), &back), (&origin(), &layout));
    let changed = |key: &str, value: Option<&str>| {
        let mut schema = (**layout.schema()).clone();
        match value {
            Some(value) => schema.metadata.insert(key, value),
            None => schema.metadata.remove(key),
        };
        Layout::from_arrow(&schema)
    };
    let newer = changed("tdengine.format", Some("3"));
    assert_eq!(newer, Err(LayoutError::NewerFormat(3)));
    for (key, value) in [
        ("tdengine.format", Some("1")),
        ("tdengine.format", None),
        ("tdengine.suid", Some("x")),
        ("tdengine.precision", None),
    ] {
        let found = changed(key, value);
        assert!(matches!(found, Err(LayoutError::Foreign(_))), "{key}");
    }
    let mut other = every_type();
    other.columns[3].id = None;
    let no_id = Layout::new(&other, origin());
    assert_eq!(no_id, Err(LayoutError::NoId("c2".to_owned())));
}

#[test]
fn no_rows_make_no_file_and_another_file_is_not_taken_for_one() {
    let layout = layout(&every_type());
    assert_eq!(write(layout, vec![batch(Vec::new(), 0)]).len(), 0);
    for bytes in [
        &b""[..],
        b"PAR1PAR1",
        b"PAR1\xff\xff\xff\xffPAR1",
        &[0; 100],
    ] {
        let error = ParquetFile::open(bytes.to_vec(), "f").unwrap_err();
        assert!(matches!(error, ParquetError::Corrupt { .. }), "{error}");
    }
}
