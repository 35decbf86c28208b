#![no_main]
//! The rows of a block, with and without a checksum that fits.
use libfuzzer_sys::fuzz_target;
use ops::block_rows::BlockRows;

fuzz_target!(|data: &[u8]| {
    let _ = BlockRows::decode(data);
    let mut sealed = [b"IBROWS2\0", data].concat();
    let checksum = crc32c::crc32c(&sealed);
    sealed.extend(checksum.to_le_bytes());
    if let Ok(rows) = BlockRows::decode(&sealed) {
        let mut count = 0;
        for row in rows.rows() {
            // What was checked once can be read.
            assert_eq!(row.expect("a checked row").len(), rows.columns.len());
            count += 1;
        }
        assert_eq!(count, rows.count());
    }
});
