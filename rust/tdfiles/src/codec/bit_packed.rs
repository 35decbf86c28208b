//! BOOL: two bits a value, the first value in the lowest bits: 0 false, 1 true, 2 what was once NULL. There is no marker.

use super::Place;
use crate::FormatError;

/// A byte for each of the `n` values, 0 or 1.
pub(super) fn decode(bytes: &[u8], n: usize, place: Place) -> Result<Vec<u8>, FormatError> {
    if bytes.len() != n.div_ceil(4) {
        return Err(place.corrupt(format!("{} bytes hold {n} packed BOOLs", bytes.len())));
    }
    let values = bytes
        .iter()
        .flat_map(|byte| [0, 2, 4, 6].map(|shift| u8::from(byte >> shift & 3 == 1)));
    Ok(values.take(n).collect())
}
