#![no_main]
//! The header and key part of a row block.
use fuzz::LIMIT;
use libfuzzer_sys::fuzz_target;
use tdfiles::tsdb::KeyRows;

fuzz_target!(|data: &[u8]| {
    if let Ok(rows) = KeyRows::parse(data, 0, LIMIT) {
        assert!(rows.len() <= LIMIT && rows.versions.len() == rows.len());
        assert!(rows.pks.is_empty() || rows.pks.len() == rows.len());
        for i in 0..rows.len() {
            let _ = rows.table(i);
        }
    }
});
