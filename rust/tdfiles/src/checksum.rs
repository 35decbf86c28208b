//! CRC-32C (Castagnoli, reflected, all ones at both ends): the checksum of WAL records and TSDB pages.

use crc_fast::{CrcAlgorithm, checksum};

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_is_that_of_castagnoli() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(super::crc32c(b""), 0);
    }
}
