//! The rows of a block never take much more memory than their binary form, whatever they hold. The only test in its
//! process, as it counts all of that's memory.
#![allow(clippy::unwrap_used)]

use cap::Cap;
use ops::block_rows::BlockRows;
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Rows whose every value is NULL: in memory a value takes eight times its four bytes.
fn all_null(columns: u32, rows: u64) -> Vec<u8> {
    let mut bytes = b"IBROWS2\0".to_vec();
    for number in [1_u64, 0, 999] {
        bytes.extend(number.to_le_bytes());
    }
    for name in ["db", "t"] {
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes.extend(columns.to_le_bytes());
    for _ in 0..columns {
        bytes.extend([9, 0, 0]);
    }
    bytes.extend(rows.to_le_bytes());
    for _ in 0..rows * u64::from(columns) {
        bytes.extend(u32::MAX.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[test]
fn rows_of_nulls_take_no_more_memory_than_one_of_them() {
    for (columns, rows) in [(1, 1_000_000), (4096, 1_000)] {
        let bytes = all_null(columns, rows);
        let before = ALLOCATOR.allocated();
        let block = BlockRows::decode(&bytes).unwrap();
        assert_eq!(block.count(), rows);
        let mut seen = 0;
        let mut most = 0;
        for row in block.rows() {
            let row = row.unwrap();
            assert_eq!(row.len(), columns as usize);
            seen += 1;
            most = ALLOCATOR.allocated().max(most);
        }
        assert_eq!(seen, rows);
        let taken = most.saturating_sub(before);
        assert!(taken < 1 << 20, "{taken} bytes of {}", bytes.len());
    }
    assert!(BlockRows::decode(&all_null(100_000, 0)).is_err());
}
