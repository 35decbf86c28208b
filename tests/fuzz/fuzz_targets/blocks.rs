#![no_main]
//! A list of blocks, with and without a checksum that fits.
use backup::report::Blocks;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let _ = Blocks::parse(data, Path::new("fuzz"));
    let checksum = crc32c::crc32c(data);
    let sealed = [
        data,
        format!(",\"checksum\":\"crc32c:{checksum:08x}\"}}\n").as_bytes(),
    ]
    .concat();
    let _ = Blocks::parse(&sealed, Path::new("fuzz"));
});
