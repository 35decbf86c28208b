#![no_main]
//! One encoded column: algorithm word, number of values (u16), column kind, bytes.
use libfuzzer_sys::fuzz_target;
use tdfiles::raw::{Algorithm, Column, decode_column};

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_first_chunk::<7>() else {
        return;
    };
    let [w0, w1, w2, w3, n0, n1, kind] = *head;
    let Ok(algorithm) = Algorithm::from_word(u32::from_le_bytes([w0, w1, w2, w3])) else {
        return;
    };
    let n = usize::from(u16::from_le_bytes([n0, n1]) % 4097);
    let column = if kind & 1 == 0 {
        Column::Integer
    } else {
        Column::Timestamp
    };
    if let Ok(values) = decode_column(bytes, n, algorithm, column) {
        assert_eq!(values.len(), n);
    }
});
