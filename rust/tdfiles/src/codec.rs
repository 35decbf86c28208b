//! Decoders for the integer columns of TSDB indexes and of a block's key part.
//!
//! A column is encoded in up to two stages: an encoder for integers (simple8b or delta-of-delta) and a
//! general compressor. Each stage marks with its first byte whether it gave up and stored its input.
//! Format facts: tcompression.c and tDecompressData of server 3.3.7, checked on recorded files.

mod delta;
mod second_stage;
mod simple8b;

use crate::{FormatError, Unreadable};
use second_stage::SecondStage;
use std::borrow::Cow;

/// What a column holds; the one-byte algorithms 1 and 2 pick their first stage by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Integers: simple8b.
    Integer,
    /// Timestamps: delta-of-delta.
    Timestamp,
}

/// How a column is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm {
    first: FirstStage,
    second: Option<SecondStage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstStage {
    /// The values as they are, without a marker byte.
    Raw,
    /// The column's own encoder.
    ByColumn,
    Simple8b,
    DeltaOfDelta,
}

const DISABLED: u32 = 0xff;

impl Algorithm {
    /// The algorithm of a 32-bit word: 0, 1, 2 as in the database option COMP, else the encoder in the top
    /// byte, the compressor in the two bytes below it, and a level that decoding does not need.
    pub fn from_word(word: u32) -> Result<Self, Unreadable> {
        let unknown = Err(Unreadable::Codec(word));
        let (first, second) = match word {
            0 => (FirstStage::Raw, None),
            1 => (FirstStage::ByColumn, None),
            2 => (FirstStage::ByColumn, Some(SecondStage::Lz4)),
            _ => {
                let first = match word >> 24 {
                    1 => FirstStage::Simple8b,
                    2 => FirstStage::DeltaOfDelta,
                    DISABLED => FirstStage::Raw,
                    _ => return unknown,
                };
                let second = match word >> 8 & 0xff {
                    1 | 4 => Some(SecondStage::Lz4), // 4 is tsz, which is LZ4 for integers
                    2 => Some(SecondStage::Zlib),
                    3 => Some(SecondStage::Zstd),
                    5 => Some(SecondStage::Xz),
                    DISABLED => None,
                    _ => return unknown,
                };
                (first, second)
            }
        };
        Ok(Self { first, second })
    }
}

/// Where an encoded column stands, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) what: &'static str,
    pub(crate) offset: u64,
}

impl Place {
    fn corrupt(self, detail: impl Into<Cow<'static, str>>) -> FormatError {
        FormatError::corrupt(self.what, self.offset, detail)
    }
}

/// Decodes `n` 64-bit integers.
pub fn decode_i64(
    bytes: &[u8],
    n: usize,
    algorithm: Algorithm,
    column: Column,
) -> Result<Vec<i64>, FormatError> {
    decode(
        bytes,
        n,
        algorithm,
        column,
        Width::Eight,
        Place {
            what: "column",
            offset: 0,
        },
    )
}

/// How many bytes a value takes before encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Four,
    Eight,
}

impl Width {
    fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    fn read(self, bytes: &[u8]) -> Vec<i64> {
        match self {
            Self::Four => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b).into())
                .collect(),
            Self::Eight => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b))
                .collect(),
        }
    }
}

/// Bytes that an encoder may need beyond the plain size of its input.
const STAGE_OVERHEAD: usize = 2;

pub(crate) fn decode(
    bytes: &[u8],
    n: usize,
    algorithm: Algorithm,
    column: Column,
    width: Width,
    place: Place,
) -> Result<Vec<i64>, FormatError> {
    let unpacked = match algorithm.second {
        None => Cow::Borrowed(bytes),
        Some(second) => second.unpack(bytes, n * width.bytes() + STAGE_OVERHEAD, place)?,
    };
    let first = match (algorithm.first, column) {
        (FirstStage::ByColumn, Column::Integer) => FirstStage::Simple8b,
        (FirstStage::ByColumn, Column::Timestamp) => FirstStage::DeltaOfDelta,
        (first, _) => first,
    };
    match first {
        FirstStage::Raw => raw(&unpacked, n, width, place),
        FirstStage::Simple8b => simple8b::decode(&unpacked, n, width, place),
        FirstStage::ByColumn | FirstStage::DeltaOfDelta => {
            delta::decode(&unpacked, n, width, place)
        }
    }
}

/// Unpacks bytes that have no integer encoding, `size` of them.
pub(crate) fn unpack_bytes<'a>(
    bytes: &'a [u8],
    size: usize,
    algorithm: Algorithm,
    place: Place,
) -> Result<Cow<'a, [u8]>, FormatError> {
    let unpacked = match algorithm.second {
        None => Cow::Borrowed(bytes),
        Some(second) => second.unpack(bytes, size + STAGE_OVERHEAD, place)?,
    };
    if unpacked.len() != size {
        return Err(place.corrupt(format!(
            "{} bytes unpacked, {size} expected",
            unpacked.len()
        )));
    }
    Ok(unpacked)
}

fn raw(bytes: &[u8], n: usize, width: Width, place: Place) -> Result<Vec<i64>, FormatError> {
    if bytes.len() != n * width.bytes() {
        return Err(place.corrupt(format!(
            "{} bytes hold {n} values of {} bytes",
            bytes.len(),
            width.bytes()
        )));
    }
    Ok(width.read(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_unknown_codecs_are_named() {
        for word in [0x0300_0102, 0x0200_0002, 0x0200_0602, 0x0000_0003, 7] {
            assert_eq!(Algorithm::from_word(word), Err(Unreadable::Codec(word)));
        }
    }

    #[test]
    fn raw_columns_have_no_marker_byte() {
        let bytes: Vec<u8> = [5i64, -7].iter().flat_map(|v| v.to_le_bytes()).collect();
        for word in [0, 0xff00_ff00] {
            let algorithm = Algorithm::from_word(word).unwrap();
            assert_eq!(
                decode_i64(&bytes, 2, algorithm, Column::Integer).unwrap(),
                [5, -7]
            );
            assert!(decode_i64(&bytes, 3, algorithm, Column::Integer).is_err());
        }
    }
}
