#![no_main]
//! A WAL segment by its chain of headers, plain and encrypted.
use libfuzzer_sys::fuzz_target;
use model::Version;
use tdfiles::wal::{Message, SegmentName, SegmentReader};

fuzz_target!(|data: &[u8]| {
    for encrypted in [false, true] {
        let name = SegmentName { first: Version(0) };
        let Ok(mut reader) = SegmentReader::new(data, name, encrypted) else {
            return;
        };
        let mut last = None;
        while let Ok(record) = reader.next_record() {
            assert!(last.is_none_or(|last| record.header.version > last));
            last = Some(record.header.version);
            if let Some(body) = record.body {
                let _ = Message::decode(record.header.message_type, body, record.offset);
            }
        }
    }
});
