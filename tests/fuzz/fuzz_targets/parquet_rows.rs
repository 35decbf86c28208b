#![no_main]
//! A Parquet file of rows, read as record batches, as a row batch and as rows.
use libfuzzer_sys::fuzz_target;
use model::Uid;
use rows::{
    arrow::decode,
    parquet::{ParquetFile, ParquetRows, Selection},
    source::{Row, RowSource},
};
use std::sync::Once;

static QUIET: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    // The reader turns a panic of the Parquet library into an error, which the fuzzer's hook would forestall. A panic that
    // gets out of the reader still ends the fuzzer.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let Ok(file) = ParquetFile::open(data.to_vec(), "file") else {
        return;
    };
    let mut batches = file.read(Selection::ALL);
    while let Ok(Some(rows)) = batches.next() {
        let _ = decode(&rows, &|_| Some(Uid(1)));
    }
    let mut of_table = Selection::ALL;
    of_table.tables = Some(["d1".to_owned()].into());
    let mut rows = ParquetRows::new(&file, of_table);
    while let Ok(Some(row)) = rows.next_row() {
        row.into_owned();
    }
});
