#![no_main]
//! A .head file, given without page checksums.
use fuzz::{LIMIT, PAGE, pages};
use libfuzzer_sys::fuzz_target;
use tdfiles::tsdb::{HeadFile, PagedFile};

fuzz_target!(|data: &[u8]| {
    let file = pages(data);
    let Ok(paged) = PagedFile::new(file.as_slice(), PAGE, data.len() as u64) else {
        return;
    };
    let Ok(head) = HeadFile::open(paged) else {
        return;
    };
    for blk in head.blks().iter().take(64) {
        if let Ok(records) = head.records(blk, LIMIT) {
            assert!(records.len() <= LIMIT);
        }
    }
});
