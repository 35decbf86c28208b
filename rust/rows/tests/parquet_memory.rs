//! What a writer and a reader keep in memory does not depend on how many rows there are, nor on how long they are. The only
//! test in its process, as it counts all of that's memory.
#![allow(clippy::unwrap_used)]

use cap::Cap;
use model::{
    Cell, Cells, ColumnId, DataType, Key, Precision, RowBatch, Suid, Uid, Version, VgId,
    catalogue::{Column, Schema},
};
use rows::{
    arrow::{Layout, Origin},
    parquet::{FileWriter, ParquetFile, RowsWriter, Selection},
};
use std::{alloc::System, fs::File};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn layout() -> Layout {
    let column = |id, name: &str, column_type: &str| Column {
        name: name.to_owned(),
        column_type: column_type.parse().unwrap(),
        id: Some(id),
        key: false,
        coding: None,
    };
    let schema = Schema {
        columns: vec![
            column(1, "ts", "TIMESTAMP"),
            column(2, "v", "VARCHAR(60000)"),
        ],
        tags: Vec::new(),
        options: String::new(),
    };
    let origin = Origin {
        stable: None,
        suid: Suid(0),
        vgroup: VgId(2),
        file_set: None,
        precision: Precision::Milliseconds,
    };
    Layout::new(&schema, origin).unwrap()
}

/// Texts of this length that hardly get smaller when they are packed, or much.
fn batch(number: usize, rows: usize, length: usize, packs: bool) -> RowBatch {
    let mut texts = Cells::new(ColumnId(2), DataType::Varchar);
    let mut state = number as u64 + 1;
    for _ in 0..rows {
        let letter = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            if packs {
                b'x'
            } else {
                32 + (state >> 58) as u8
            }
        };
        let text: Vec<u8> = (0..length).map(letter).collect();
        texts.push(Cell::Value(&text)).unwrap();
    }
    let first = (number * rows) as i64;
    RowBatch {
        suid: Suid(0),
        tables: vec![(Uid(1), rows)],
        keys: (first..first + rows as i64).map(Key).collect(),
        versions: vec![Version(1); rows],
        columns: vec![texts],
    }
}

#[test]
fn neither_many_rows_nor_long_ones_take_much_memory() {
    let dir = tempfile::tempdir().unwrap();
    for (batches, rows, length, packs) in [
        (10, 100, 60_000, false),
        (10, 100, 60_000, true),
        (30, 20_000, 5, false),
    ] {
        let path = dir.path().join(format!("{length} {packs}"));
        let mut writer = RowsWriter::new(layout(), |_, layout| {
            FileWriter::over(File::create(&path).unwrap(), "f", "f".to_owned(), layout)
        });
        let mut most = 0;
        let before = ALLOCATOR.allocated();
        for number in 0..batches {
            let batch = batch(number, rows, length, packs);
            writer.write(batch, &|_| Some("d1")).unwrap();
            most = most.max(ALLOCATOR.allocated() - before);
        }
        writer.finish().unwrap();
        assert!(most < 32 << 20, "a writer keeps {most} bytes");

        let file = ParquetFile::open(File::open(&path).unwrap(), "f").unwrap();
        let mut batches_of_file = file.read(Selection::ALL);
        let (mut seen, mut most) = (0, 0);
        while let Some(rows) = batches_of_file.next().unwrap() {
            seen += rows.len();
            most = most.max(ALLOCATOR.allocated() - before);
        }
        assert_eq!(seen, batches * rows);
        assert!(most < 48 << 20, "a reader keeps {most} bytes");
    }
}
