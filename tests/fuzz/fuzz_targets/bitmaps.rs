#![no_main]
//! What is in the frame of a link's bitmaps, packed and sealed as if it had been written so. What is understood is written
//! again, and read again as the same.
use libfuzzer_sys::fuzz_target;
use repository::bitmaps::Bitmaps;

fuzz_target!(|data: &[u8]| {
    let _ = Bitmaps::parse(data, "fuzz");
    let Ok(frame) = zstd::encode_all(data, 1) else {
        return;
    };
    let mut bytes = [&b"IBBITMAP\x01\0\0\0"[..], &frame].concat();
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    if let Ok(bitmaps) = Bitmaps::parse(&bytes, "fuzz") {
        let again = bitmaps.to_bytes().expect("what was read can be written");
        assert_eq!(
            Bitmaps::parse(&again, "fuzz").expect("it can be read"),
            bitmaps
        );
        let mut twice = bitmaps.clone();
        twice.then(bitmaps);
    }
});
