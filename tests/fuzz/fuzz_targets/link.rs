#![no_main]
//! A manifest whose checksum fits, and a chain check of the directory that holds it.
use backup::{link::Link, verify};
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|data: &[u8]| {
    let Ok(dir) = tempfile::tempdir() else { return };
    let checksum = crc32c::crc32c(data);
    let sealed = [
        data,
        format!(",\"checksum\":\"crc32c:{checksum:08x}\"}}\n").as_bytes(),
    ]
    .concat();
    let incremental = dir.path().join("incremental");
    if fs::create_dir(&incremental).is_err()
        || fs::write(incremental.join("manifest.json"), sealed).is_err()
    {
        return;
    }
    if Link::open(dir.path()).is_ok() {
        let job = verify::Job {
            links: vec![dir.path().into()],
            blocks: None,
            threads: 1,
        };
        let _ = verify::run(&job, &());
    }
});
