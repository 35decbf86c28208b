//! Simple-8b of zig-zag deltas to the previous value (the first to 0).
//!
//! First byte 1: the values follow as they are. First byte 0: 64-bit words; the low 4 bits pick how many
//! values the other 60 hold and how wide they are. Widths of 0 repeat the previous value.

use super::{Column, Place};
use crate::{FormatError, cursor::unzigzag};

/// Values per word and bits per value, by selector.
const SELECTORS: [(usize, u32); 16] = [
    (240, 0),
    (120, 0),
    (60, 1),
    (30, 2),
    (20, 3),
    (15, 4),
    (12, 5),
    (10, 6),
    (8, 7),
    (7, 8),
    (6, 10),
    (5, 12),
    (4, 15),
    (3, 20),
    (2, 30),
    (1, 60),
];

pub(super) fn decode(
    bytes: &[u8],
    n: usize,
    column: Column,
    place: Place,
) -> Result<Vec<i64>, FormatError> {
    let words = match bytes.split_first() {
        Some((1, plain)) => return super::raw(plain, n, column, place),
        Some((0, words)) => words.as_chunks::<8>().0,
        Some((marker, _)) => return Err(place.corrupt(format!("simple8b marker is {marker}"))),
        None if n == 0 => return Ok(Vec::new()),
        None => return Err(place.corrupt("a column is empty")),
    };
    let mut values = Vec::with_capacity(n.min(words.len() * SELECTORS[0].0));
    let mut previous = 0i64;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let (count, bits) = SELECTORS[(word & 0xf) as usize];
        let count = count.min(n - values.len());
        if bits == 0 {
            values.extend(std::iter::repeat_n(previous, count));
        } else {
            let mask = (1u64 << bits) - 1;
            let mut rest = word >> 4;
            for _ in 0..count {
                previous = previous.wrapping_add(unzigzag(rest & mask));
                values.push(previous);
                rest >>= bits;
            }
        }
        if values.len() == n {
            break;
        }
    }
    if values.len() < n {
        return Err(place.corrupt(format!(
            "simple8b words hold {} values of {n}",
            values.len()
        )));
    }
    if column == Column::NarrowInteger && values.iter().any(|v| i32::try_from(*v).is_err()) {
        return Err(place.corrupt("a value does not fit in 32 bits"));
    }
    Ok(values)
}
