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
    let words = match split(bytes, n, place)? {
        Coded::Plain(plain) => return super::raw(plain, n, column, place),
        Coded::Words(words) => words,
    };
    let mut values = Vec::with_capacity(n.min(words.len() * SELECTORS[0].0));
    each(words, n, place, |value| values.push(value))?;
    if column == Column::NarrowInteger && values.iter().any(|v| i32::try_from(*v).is_err()) {
        return Err(place.corrupt("a value does not fit in 32 bits"));
    }
    Ok(values)
}

/// Decodes `n` integers of `W` bytes into their bytes.
pub(super) fn decode_bytes<const W: usize>(
    bytes: &[u8],
    n: usize,
    place: Place,
) -> Result<Vec<u8>, FormatError> {
    let words = match split(bytes, n, place)? {
        Coded::Plain(plain) => return super::values::plain(plain, n, W, place),
        Coded::Words(words) => words,
    };
    if words.len() * SELECTORS[0].0 < n {
        return Err(too_few(words.len() * SELECTORS[0].0, n, place)); // before memory is taken for n values
    }
    let mut out = vec![0; n * W];
    let mut slots = out.as_chunks_mut::<W>().0.iter_mut();
    let unused = 64 - 8 * W as u32;
    let mut fits = true;
    each(words, n, place, |value| {
        fits &= value << unused >> unused == value;
        if let (Some(slot), Some(low)) = (slots.next(), value.to_le_bytes().first_chunk::<W>()) {
            *slot = *low;
        }
    })?;
    if fits {
        Ok(out)
    } else {
        Err(place.corrupt(format!("a value does not fit in {} bits", W * 8)))
    }
}

enum Coded<'a> {
    /// The values as they are.
    Plain(&'a [u8]),
    Words(&'a [[u8; 8]]),
}

fn split(bytes: &[u8], n: usize, place: Place) -> Result<Coded<'_>, FormatError> {
    match bytes.split_first() {
        Some((1, plain)) => Ok(Coded::Plain(plain)),
        Some((0, words)) => Ok(Coded::Words(words.as_chunks::<8>().0)),
        Some((marker, _)) => Err(place.corrupt(format!("simple8b marker is {marker}"))),
        None if n == 0 => Ok(Coded::Words(&[])),
        None => Err(place.corrupt("a column is empty")),
    }
}

/// Calls `put` with each of the `n` values.
#[inline]
fn each(
    words: &[[u8; 8]],
    n: usize,
    place: Place,
    mut put: impl FnMut(i64),
) -> Result<(), FormatError> {
    let mut left = n;
    let mut previous = 0i64;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let (count, bits) = SELECTORS[(word & 0xf) as usize];
        let count = count.min(left);
        if bits == 0 {
            (0..count).for_each(|_| put(previous));
        } else {
            let mask = (1u64 << bits) - 1;
            let mut rest = word >> 4;
            for _ in 0..count {
                previous = previous.wrapping_add(unzigzag(rest & mask));
                put(previous);
                rest >>= bits;
            }
        }
        left -= count;
        if left == 0 {
            return Ok(());
        }
    }
    match left {
        0 => Ok(()),
        left => Err(too_few(n - left, n, place)),
    }
}

fn too_few(values: usize, n: usize, place: Place) -> FormatError {
    place.corrupt(format!("simple8b words hold {values} values of {n}"))
}
