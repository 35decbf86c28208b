//! Integer packing: runs of zig-zag deltas in 64-bit words.

use crate::bytes::zigzag;

/// Values per word, by selector.
const COUNTS: [usize; 16] = [240, 120, 60, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1];
/// Bits per value, by selector. The first two selectors say "no change" and have no bits.
const WIDTHS: [u32; 16] = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60];
/// Deltas from here on cannot be packed.
const TOO_BIG: u64 = (1 << 60) - 2;

/// Codes BIGINTs, see [`simple8b`].
pub fn simple8b_i64(values: &[i64]) -> Vec<u8> {
    simple8b(8, values)
}

/// Codes INTs, see [`simple8b`].
pub fn simple8b_i32(values: &[i32]) -> Vec<u8> {
    simple8b(4, &values.iter().map(|&v| v.into()).collect::<Vec<_>>())
}

/// Codes integers of `width` bytes: a 0 byte and packed words, or, where these would be longer than the values or a
/// delta does not fit, a 1 byte and the values.
pub fn simple8b(width: usize, values: &[i64]) -> Vec<u8> {
    packed(width, values).unwrap_or_else(|| {
        let mut raw = vec![1];
        for v in values {
            raw.extend_from_slice(&v.to_le_bytes()[..width]);
        }
        raw
    })
}

fn packed(width: usize, values: &[i64]) -> Option<Vec<u8>> {
    let limit = values.len() * width + 1;
    let mut out = vec![0];
    let mut prev = 0i64;
    // Deltas of the word being filled. Looking ahead happens before a word is closed, so a delta that cannot be packed
    // is noticed with the word before it.
    let mut deltas = Vec::with_capacity(COUNTS[0]);
    let mut at = 0;
    while at < values.len() {
        deltas.clear();
        let mut selector = 0;
        let mut last = prev;
        let mut full = false;
        for &v in &values[at..] {
            let delta = delta(last, v)?;
            let wanted = selector_for(delta);
            let next = deltas.len() + 1;
            if next > COUNTS[selector] || next > COUNTS[wanted] {
                full = true;
                break;
            }
            selector = selector.max(wanted);
            deltas.push(delta);
            last = v;
        }
        if full {
            // Only whole words can be followed by another one.
            while deltas.len() < COUNTS[selector] {
                selector += 1;
            }
            deltas.truncate(COUNTS[selector]);
        }
        let mut word = selector as u64;
        for (i, delta) in deltas.iter().enumerate().filter(|_| WIDTHS[selector] > 0) {
            word |= delta << (4 + WIDTHS[selector] * i as u32);
        }
        if out.len() + 8 > limit {
            return None;
        }
        out.extend_from_slice(&word.to_le_bytes());
        at += deltas.len();
        prev = values[at - 1];
    }
    Some(out)
}

/// Zig-zag difference, if it can be packed.
fn delta(prev: i64, v: i64) -> Option<u64> {
    let delta = v.checked_add(prev.wrapping_neg())?;
    Some(zigzag(delta)).filter(|&z| z < TOO_BIG)
}

/// The selector with the most values per word that can hold `delta`. Zero fits them all.
fn selector_for(delta: u64) -> usize {
    match 64 - delta.leading_zeros() {
        0 => 0,
        bits => WIDTHS.iter().position(|&w| w >= bits).unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn two_thousand_equal_counts_make_the_recorded_word() {
        // Twenty blocks of 2500 rows: one delta of 2500, then none.
        assert_eq!(
            simple8b_i32(&[2500; 20])[..9],
            [0, 0x8c, 0x38, 1, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn a_first_value_beyond_sixty_bits_is_stored_raw() {
        let suid = 0x3ca3_0d9b_03a6_1edd_i64;
        assert_eq!(
            simple8b_i64(&[suid, suid])[..9],
            [1, 0xdd, 0x1e, 0xa6, 0x03, 0x9b, 0x0d, 0xa3, 0x3c]
        );
    }

    #[test]
    fn recorded_index_columns_are_reproduced() {
        // Ten tables of a recorded head file with two blocks each: uids, block offsets, block sizes.
        let uids: Vec<_> = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x21, 0x22, 0x23, 0x24]
            .iter()
            .flat_map(|n| [0x0615_1fcc_3d30_0000 + n; 2])
            .collect();
        assert_eq!(
            hex(&simple8b_i64(&uids)),
            "002f0200a687f9a3c206041040000104b08388000000000000"
        );
        let sizes: Vec<_> = (0..20).map(|i| [37325, 37836][i % 2]).collect();
        assert_eq!(
            hex(&simple8b_i32(&sizes)),
            "00ad3912fe03d03f00ea7ffffef7ef7fffea7ffffef7ef7fffea7ffffef7ef3f00"
        );
        let mut at = 512;
        let offsets: Vec<_> = sizes
            .iter()
            .map(|&size| (at, at += i64::from(size)).0)
            .collect();
        assert_eq!(
            hex(&simple8b_i64(&offsets)),
            "000d40009a23817912ad39129827a139128d79129a23817912ad39129827a139128d79129a23817912ad39129827a139128d79129a23010000"
        );
    }

    #[test]
    fn a_word_as_long_as_its_only_value_is_packed() {
        assert_eq!(simple8b_i64(&[1]).len(), 9);
        assert_eq!(simple8b_i32(&[1]), [1, 1, 0, 0, 0]);
    }
}
