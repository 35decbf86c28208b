//! Timestamp packing: zig-zag deltas of deltas, two at a time.

use crate::bytes::zigzag;

/// Codes timestamps: a 1 byte and, per pair, a byte with both lengths and the significant bytes of both values; or a 0
/// byte and the values where these would be longer, a delta overflows or the first timestamp is negative.
pub fn timestamps(values: &[i64]) -> Vec<u8> {
    packed(values).unwrap_or_else(|| {
        let mut raw = vec![0];
        for v in values {
            raw.extend_from_slice(&v.to_le_bytes());
        }
        raw
    })
}

fn packed(values: &[i64]) -> Option<Vec<u8>> {
    let limit = values.len() * 8;
    let Some(&first) = values.first() else {
        return Some(Vec::new());
    };
    if first < 0 {
        return None;
    }
    let mut second_order = Vec::with_capacity(values.len());
    let (mut prev, mut prev_delta) = (first, -first);
    for &v in values {
        let delta = v.checked_add(prev.wrapping_neg())?;
        second_order.push(zigzag(delta.checked_add(prev_delta.wrapping_neg())?));
        (prev, prev_delta) = (v, delta);
    }
    let mut out = vec![1];
    for pair in second_order.chunks(2) {
        let lengths = [
            significant(pair[0]),
            pair.get(1).map_or(0, |&v| significant(v)),
        ];
        if out.len() >= limit {
            return None;
        }
        out.push((lengths[0] | lengths[1] << 4) as u8);
        for (v, len) in pair.iter().zip(lengths) {
            if out.len() + len > limit {
                return None;
            }
            out.extend_from_slice(&v.to_le_bytes()[..len]);
        }
    }
    Some(out)
}

/// Bytes needed for `v`; none for 0.
fn significant(v: u64) -> usize {
    8 - v.leading_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_recorded_seconds_code_to_the_recorded_bytes() {
        let ts: Vec<_> = (0..50).map(|i| 1_701_475_200_000 + i * 1000).collect();
        let mut expected = vec![1, 0x26, 0x00, 0x58, 0xa6, 0x4f, 0x18, 0x03, 0xd0, 0x07];
        expected.resize(10 + 24, 0);
        assert_eq!(timestamps(&ts), expected);
    }

    #[test]
    fn negative_starts_and_tiny_wide_columns_are_raw() {
        assert_eq!(timestamps(&[-1])[0], 0);
        assert_eq!(timestamps(&[i64::MAX]).len(), 9);
        assert_eq!(timestamps(&[5, -5])[0], 1);
    }
}
