#![no_main]
//! The body of a WAL record; its type is the first two bytes.
use libfuzzer_sys::fuzz_target;
use tdfiles::wal::Message;

fuzz_target!(|data: &[u8]| {
    let Some((number, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    if let Ok(Message::Submit(tables)) = Message::decode(i16::from_le_bytes(*number), body, 0) {
        for table in tables {
            let rows = table.rows;
            // What was checked when it was decoded must be there when it is asked for.
            let keys = rows.keys().expect("decoded rows have keys");
            assert_eq!(keys.len(), rows.len());
            let first = keys.iter().map(|row| row.key).min();
            let last = keys.iter().map(|row| row.key).max();
            assert_eq!(
                rows.span()
                    .map(|span| (Some(span.first), Some(span.last)))
                    .unwrap_or((None, None)),
                (first, last)
            );
            let mut plain = Vec::new();
            rows.for_each_key(|key| plain.push(key));
            assert!(plain.iter().eq(keys.iter().map(|row| &row.key)));
        }
    }
});
