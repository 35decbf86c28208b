//! Delta-d, the encoder of FLOAT and DOUBLE: each value is stored as its difference (exclusive or) to the one before, the
//! first to 0.
//!
//! First byte 1: the values follow as they are. First byte 0: per pair of values one flag byte (of the first value in the
//! low half), then the bytes of both differences, the lowest first. Of a half, bits 0 to 2 say how many bytes there are,
//! less one, and bit 3 that they are the highest bytes of the difference instead of the lowest. With an odd number of
//! values a byte of padding ends the column.

use super::Place;
use crate::FormatError;

/// The bytes of `n` values of `W` bytes each.
pub(super) fn decode<const W: usize>(
    bytes: &[u8],
    n: usize,
    place: Place,
) -> Result<Vec<u8>, FormatError> {
    let mut rest = match bytes.split_first() {
        Some((1, plain)) => return super::values::plain(plain, n, W, place),
        Some((0, rest)) => rest,
        Some((marker, _)) => return Err(place.corrupt(format!("delta-d marker is {marker}"))),
        None if n == 0 => return Ok(Vec::new()),
        None => return Err(place.corrupt("a column is empty")),
    };
    let ends = || place.corrupt(format!("delta-d bytes end before {n} values do"));
    if rest.len() < n {
        return Err(ends()); // before memory is taken for n values, each of which takes a byte at least
    }
    let mut out = vec![0; n * W];
    let mut previous = 0u64;
    for pair in out.as_chunks_mut::<W>().0.chunks_mut(2) {
        let (mut flags, tail) = rest
            .split_first()
            .map(|(f, tail)| (*f, tail))
            .ok_or_else(ends)?;
        rest = tail;
        for slot in pair {
            let size = usize::from(flags & 7) + 1;
            if size > W {
                return Err(place.corrupt(format!("a difference of {size} bytes")));
            }
            // Eight bytes are read at once where there are as many, which is faster than byte by byte.
            let low = match rest.first_chunk::<8>() {
                Some(eight) => u64::from_le_bytes(*eight) & (u64::MAX >> (64 - 8 * size)),
                None => {
                    let mut word = [0; 8];
                    let bytes = rest.get(..size).ok_or_else(ends)?;
                    word.get_mut(..size)
                        .ok_or_else(ends)?
                        .copy_from_slice(bytes);
                    u64::from_le_bytes(word)
                }
            };
            rest = rest.get(size..).ok_or_else(ends)?;
            let shift = if flags & 8 == 0 { 0 } else { 8 * (W - size) };
            previous ^= low << shift;
            if let Some(value) = previous.to_le_bytes().first_chunk::<W>() {
                *slot = *value;
            }
            flags >>= 4;
        }
    }
    Ok(out)
}
