#![no_main]
//! A checkpoint, with and without a checksum that fits.
use libfuzzer_sys::fuzz_target;
use plan::checkpoint::Checkpoint;

fuzz_target!(|data: &[u8]| {
    let _ = Checkpoint::parse(data, "fuzz");
    let checksum = crc32c::crc32c(data);
    let sealed = [
        data,
        format!(",\"checksum\":\"crc32c:{checksum:08x}\"}}\n").as_bytes(),
    ]
    .concat();
    let _ = Checkpoint::parse(&sealed, "fuzz");
});
