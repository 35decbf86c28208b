//! Delta-of-delta, TDengine's encoder for timestamps.
//!
//! First byte 0: the values follow as they are. First byte 1: per pair of values one flag byte (byte count of
//! the first in the low nibble, of the second in the high one) and that many bytes of each, little-endian and
//! zig-zag. The first value stands as its own delta and does not count as one for the second.

use super::{Column, Place};
use crate::{FormatError, cursor::unzigzag};

pub(super) fn decode(
    bytes: &[u8],
    n: usize,
    column: Column,
    place: Place,
) -> Result<Vec<i64>, FormatError> {
    if column == Column::NarrowInteger {
        return Err(place.corrupt("a delta column is not 64 bits wide"));
    }
    let mut rest = match bytes.split_first() {
        Some((0, plain)) => return super::raw(plain, n, column, place),
        Some((1, rest)) => rest,
        Some((marker, _)) => return Err(place.corrupt(format!("delta marker is {marker}"))),
        None if n == 0 => return Ok(Vec::new()),
        None => return Err(place.corrupt("a column is empty")),
    };
    // A pair of values takes a byte at least.
    let mut values = Vec::with_capacity(n.min(rest.len().saturating_mul(2)));
    let (mut value, mut delta) = (0i64, 0i64);
    while values.len() < n {
        let Some((flags, tail)) = rest.split_first() else {
            return Err(place.corrupt(format!("delta bytes hold {} values of {n}", values.len())));
        };
        rest = tail;
        for size in [flags & 0xf, flags >> 4] {
            if values.len() == n {
                break;
            }
            let Some((encoded, tail)) = rest.split_at_checked(size.into()).filter(|_| size <= 8)
            else {
                return Err(place.corrupt(format!("a delta of {size} bytes does not fit")));
            };
            rest = tail;
            let mut word = [0; 8];
            word[..encoded.len()].copy_from_slice(encoded);
            let decoded = unzigzag(u64::from_le_bytes(word));
            if values.is_empty() {
                value = decoded;
            } else {
                delta = delta.wrapping_add(decoded);
                value = value.wrapping_add(delta);
            }
            values.push(value);
        }
    }
    Ok(values)
}
