#![no_main]
//! The rows of a block, with and without a checksum that fits.
use backup::block_rows::BlockRows;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = BlockRows::decode(data);
    let mut sealed = [b"IBROWS2\0", data].concat();
    let checksum = crc32c::crc32c(&sealed);
    sealed.extend(checksum.to_le_bytes());
    if let Ok(rows) = BlockRows::decode(&sealed) {
        assert!(rows.rows.iter().all(|row| row.len() == rows.columns.len()));
    }
});
