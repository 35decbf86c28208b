#![no_main]
//! An .stt file, given without page checksums: rows, statistics and deletes.
use fuzz::{LIMIT, PAGE, pages};
use libfuzzer_sys::fuzz_target;
use tdfiles::tsdb::{PagedFile, SttFile};

fuzz_target!(|data: &[u8]| {
    let file = pages(data);
    let Ok(paged) = PagedFile::new(file.as_slice(), PAGE, data.len() as u64) else {
        return;
    };
    let Ok(stt) = SttFile::open(paged) else {
        return;
    };
    for blk in stt.blks().iter().take(64) {
        if let Ok(rows) = stt.key_rows(blk, LIMIT) {
            assert!(rows.len() <= LIMIT && rows.versions.len() == rows.len());
        }
    }
    for blk in stt.statis_blks().iter().take(64) {
        let _ = stt.statis(blk, LIMIT);
    }
    for blk in stt.tomb_blks().iter().take(64) {
        let _ = stt.tombs(blk, LIMIT);
    }
});
