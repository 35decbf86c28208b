//! Column compression as TDengine does it.
//!
//! A column is coded in up to two stages. Stage one depends on the data type ([`simple8b`], [`timestamps`]); stage two
//! is a general compressor behind a marker byte ([`second_stage`]). [`encode`] combines them as an algorithm word says.

mod second;
mod simple8b;
mod timestamp;
mod xxhash;

pub use second::{Second, second_stage};
pub use simple8b::{simple8b, simple8b_i32, simple8b_i64};
pub use timestamp::timestamps;
pub use xxhash::xxh32;

/// Type number of TINYINT (1 byte); bitmaps are coded as this.
pub const TINYINT: u8 = 2;
/// Type number of INT (4 bytes).
pub const INT: u8 = 4;
/// Type number of BIGINT (8 bytes).
pub const BIGINT: u8 = 5;
/// Type number of VARCHAR (bytes; offsets are a column of their own).
pub const VARCHAR: u8 = 8;
/// Type number of TIMESTAMP (8 bytes).
pub const TIMESTAMP: u8 = 9;

/// Encoder or second stage that is switched off in an algorithm word.
pub const DISABLED: u8 = 255;

/// Algorithm word of a format-version-2 block: byte 3 is the encoder (0 plain, 1 Simple-8b, 2 timestamp deltas,
/// [`DISABLED`]), bytes 1-2 the second stage (0 stored, 1 LZ4, 2 zlib, 3 zstd, 4 tsz, 5 xz, [`DISABLED`]), byte 0 the
/// level (1 low, 2 medium, 3 high).
pub const fn alg_word(encoder: u8, second: u8, level: u8) -> u32 {
    (encoder as u32) << 24 | (second as u32) << 8 | level as u32
}

/// The word a timestamp column has by default: timestamp deltas, then LZ4 at medium level.
pub const DEFAULT_ALG: u32 = alg_word(2, 1, 2);

/// Codes one column of little-endian values (or VARCHAR bytes).
///
/// `alg` 0, 1 and 2 are the database option COMP: raw, stage one, stage one and LZ4. Any other value is an algorithm
/// word ([`alg_word`]). INT and TINYINT always use Simple-8b as their encoder; tsz means LZ4 for the types here.
pub fn encode(alg: u32, data_type: u8, raw: &[u8]) -> Vec<u8> {
    match alg {
        0 => raw.to_vec(),
        1 | 2 if data_type == VARCHAR => second_stage(Second::Lz4, 1, raw),
        1 => stage_one(native_encoder(data_type), data_type, raw),
        2 => second_stage(
            Second::Lz4,
            1,
            &stage_one(native_encoder(data_type), data_type, raw),
        ),
        _ => encode_word(alg, data_type, raw),
    }
}

fn encode_word(alg: u32, data_type: u8, raw: &[u8]) -> Vec<u8> {
    let [level, second, _, encoder] = alg.to_le_bytes();
    if (encoder, second) == (0, 0) || (encoder, second) == (DISABLED, DISABLED) {
        return raw.to_vec();
    }
    if data_type == VARCHAR {
        // The level number reaches the compressor unmapped for strings.
        return match second {
            DISABLED => second_stage(Second::Stored, level, raw),
            _ => second_stage(Second::of(second), level, raw),
        };
    }
    let encoder = match data_type {
        INT | TINYINT => 1,
        _ => encoder,
    };
    let coded = match encoder {
        DISABLED => raw.to_vec(),
        _ => stage_one(encoder, data_type, raw),
    };
    match second {
        DISABLED => coded,
        _ => second_stage(Second::of(second), Second::of(second).level(level), &coded),
    }
}

/// Encoder of a type when only COMP is given.
fn native_encoder(data_type: u8) -> u8 {
    match data_type {
        TIMESTAMP => 2,
        _ => 1,
    }
}

fn stage_one(encoder: u8, data_type: u8, raw: &[u8]) -> Vec<u8> {
    match encoder {
        0 => [&[0], raw].concat(),
        1 => match data_type {
            TINYINT => simple8b(
                1,
                &raw.iter().map(|&b| i64::from(b as i8)).collect::<Vec<_>>(),
            ),
            INT => simple8b(
                4,
                &raw.chunks(4)
                    .map(|c| i32::from_le_bytes(c.try_into().unwrap()).into())
                    .collect::<Vec<_>>(),
            ),
            _ => simple8b(8, &words(raw)),
        },
        2 => timestamps(&words(raw)),
        other => panic!("encoder {other} is not one for keys"),
    }
}

fn words(raw: &[u8]) -> Vec<i64> {
    raw.chunks(8)
        .map(|c| i64::from_le_bytes(c.try_into().unwrap()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_castagnoli() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn words_with_both_stages_off_store_raw() {
        let raw = 5i64.to_le_bytes();
        assert_eq!(encode(alg_word(DISABLED, DISABLED, 0), BIGINT, &raw), raw);
        assert_eq!(encode(0, TIMESTAMP, &raw), raw);
        assert_eq!(encode(3, TIMESTAMP, &raw), raw);
    }

    #[test]
    fn one_stage_off_leaves_out_its_marker() {
        let raw = 5i64.to_le_bytes();
        assert_eq!(
            encode(alg_word(DISABLED, 1, 2), BIGINT, &raw),
            [&[0][..], &raw].concat()
        );
        assert_eq!(
            encode(alg_word(2, DISABLED, 2), TIMESTAMP, &raw),
            [1, 1, 10]
        );
    }

    #[test]
    fn ints_are_always_simple8b() {
        let raw = 5i32.to_le_bytes();
        assert_eq!(
            encode(alg_word(2, DISABLED, 2), INT, &raw),
            encode(1, INT, &raw)
        );
    }
}
