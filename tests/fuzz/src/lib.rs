//! What several fuzz targets need.

/// A page size of a TSDB file.
pub const PAGE: usize = 4096;

/// `logical` bytes in pages with right checksums, so that the fuzzer gets past them.
pub fn pages(logical: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for chunk in logical.chunks(PAGE - 4) {
        let mut page = chunk.to_vec();
        page.resize(PAGE - 4, 0);
        let checksum = crc32c::crc32c(&page);
        page.extend(checksum.to_le_bytes());
        file.extend(page);
    }
    file
}

/// Rows per block, and records per index entry, that the targets allow.
pub const LIMIT: usize = 4096;
