#![no_main]
//! A manifest whose checksum fits, and a chain check of the directory that holds it.
use libfuzzer_sys::fuzz_target;
use repository::{link::Link, verify};
use std::{fs, sync::Arc};
use store::{Directory, Store};

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
    let store: Arc<dyn Store> = Arc::new(Directory::new(dir.path()));
    if Link::open(Arc::clone(&store)).is_ok() {
        let job = verify::Job {
            links: vec![store],
            blocks: None,
            threads: 1,
        };
        let _ = verify::run(&job, &());
    }
});
