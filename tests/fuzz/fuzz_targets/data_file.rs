#![no_main]
//! A file of rows: the first byte chooses the columns that it is taken for.
use backup::data_file::FileReader;
use libfuzzer_sys::fuzz_target;
use std::fs;
use taos::DataType;

fuzz_target!(|data: &[u8]| {
    let Some((choice, file)) = data.split_first() else {
        return;
    };
    let Ok(dir) = tempfile::tempdir() else { return };
    let path = dir.path().join("rows.avro");
    if fs::write(&path, file).is_err() {
        return;
    }
    let types = match choice % 4 {
        0 => vec![DataType::Timestamp, DataType::Int],
        1 => vec![DataType::Timestamp, DataType::Varchar, DataType::UBigInt],
        2 => vec![DataType::Timestamp, DataType::UInt, DataType::Geometry],
        _ => vec![DataType::Timestamp, DataType::Decimal, DataType::Nchar],
    };
    let Ok(mut reader) = FileReader::open(&path, types, 1) else {
        return;
    };
    while let Ok(Some(_)) = reader.next() {}
});
