//! XXH32, the checksum at the end of an xz column.

const P1: u32 = 0x9E37_79B1;
const P2: u32 = 0x85EB_CA77;
const P3: u32 = 0xC2B2_AE3D;
const P4: u32 = 0x27D4_EB2F;
const P5: u32 = 0x1656_67B1;

/// XXH32 with seed 0.
pub fn xxh32(data: &[u8]) -> u32 {
    let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
    let (stripes, rest) = data.split_at(data.len() / 16 * 16);
    let mut h = P5;
    if !stripes.is_empty() {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u32.wrapping_sub(P1)];
        for stripe in stripes.chunks(16) {
            for (lane, b) in lanes.iter_mut().zip(stripe.chunks(4)) {
                *lane = lane
                    .wrapping_add(word(b).wrapping_mul(P2))
                    .rotate_left(13)
                    .wrapping_mul(P1);
            }
        }
        h = lanes
            .iter()
            .zip([1, 7, 12, 18])
            .fold(0u32, |h, (lane, by)| h.wrapping_add(lane.rotate_left(by)));
    }
    h = h.wrapping_add(data.len() as u32);
    let words = rest.chunks_exact(4);
    let tail = words.remainder();
    for b in words {
        h = h
            .wrapping_add(word(b).wrapping_mul(P3))
            .rotate_left(17)
            .wrapping_mul(P4);
    }
    for &b in tail {
        h = h
            .wrapping_add(u32::from(b).wrapping_mul(P5))
            .rotate_left(11)
            .wrapping_mul(P1);
    }
    h = (h ^ (h >> 15)).wrapping_mul(P2);
    h = (h ^ (h >> 13)).wrapping_mul(P3);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(xxh32(b""), 0x02CC_5D05);
        assert_eq!(xxh32(b"abc"), 0x32D1_53FF);
        assert_eq!(
            xxh32(b"Nobody inspects the spammish repetition"),
            0xE229_3B2F
        );
    }
}
