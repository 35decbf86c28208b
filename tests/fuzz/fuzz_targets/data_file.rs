#![no_main]
//! A file of rows: the first byte chooses the columns that it is taken for.
use libfuzzer_sys::fuzz_target;
use model::DataType;
use rows::avro::FileReader;
use std::fs;
use store::Directory;

fuzz_target!(|data: &[u8]| {
    let Some((choice, file)) = data.split_first() else {
        return;
    };
    let Ok(dir) = tempfile::tempdir() else { return };
    if fs::write(dir.path().join("rows.avro"), file).is_err() {
        return;
    }
    let types = match choice % 4 {
        0 => vec![DataType::Timestamp, DataType::Int],
        1 => vec![DataType::Timestamp, DataType::Varchar, DataType::UBigInt],
        2 => vec![DataType::Timestamp, DataType::UInt, DataType::Geometry],
        _ => vec![DataType::Timestamp, DataType::Decimal, DataType::Nchar],
    };
    let Ok(mut reader) = FileReader::open(&Directory::new(dir.path()), "rows.avro", types, 1)
    else {
        return;
    };
    while let Ok(Some(_)) = reader.next() {}
});
