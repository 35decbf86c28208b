//! Decoders for columns: those of TSDB indexes and of a block's key part, which become integers, and those of the
//! values that users wrote, which stay bytes.
//!
//! A column is encoded in up to two stages: an encoder that its type or its algorithm names, and a general
//! compressor. Each stage but the packing of BOOL marks with its first byte whether it gave up and stored its input.
//! Format facts: tcompression.c, ttypes.c and tDecompressData of server 3.3.7, checked on recorded files.

mod bit_packed;
mod delta;
mod delta_float;
mod second_stage;
mod simple8b;
mod values;

use crate::{FormatError, Unreadable};
use second_stage::SecondStage;
use std::borrow::Cow;
pub(crate) use values::{Packed, decode_bits, decode_starts, decode_values};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// 64-bit integers.
    Integer,
    /// 32-bit integers; always in simple8b, whatever encoder the algorithm names.
    NarrowInteger,
    /// 64-bit timestamps.
    Timestamp,
}

impl Column {
    /// How many bytes a value takes before encoding.
    fn width(self) -> usize {
        match self {
            Self::NarrowInteger => 4,
            Self::Integer | Self::Timestamp => 8,
        }
    }
}

/// How a column is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm {
    /// The word that says so, for messages.
    word: u32,
    first: FirstStage,
    second: Option<SecondStage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstStage {
    /// The values as they are.
    Raw,
    /// The values as they are, behind a marker byte.
    Plain,
    /// What is usual for the type: simple8b for integers, delta-of-delta for timestamps.
    ByColumn,
    Simple8b,
    DeltaOfDelta,
    BitPacked,
    DeltaFloat,
}

const DISABLED: u32 = 0xff;

impl Algorithm {
    /// The algorithm of a 32-bit word: 0, 1, 2 as in the database option COMP, else the encoder in the top
    /// byte, the compressor in the two bytes below it, and a level that decoding does not need.
    pub fn from_word(word: u32) -> Result<Self, Unreadable> {
        let (first, second) = match (word, word >> 24, word >> 8 & 0xff) {
            (0, ..) => (FirstStage::Raw, None),
            (1, ..) => (FirstStage::ByColumn, None),
            (2, ..) => (FirstStage::ByColumn, Some(SecondStage::Lz4)),
            // The server writes such a column without markers and reads it as if it had them, so no reading of it is right.
            (_, 0, 0) => return Err(Unreadable::Codec(word)),
            (_, first, second) => {
                let first = match first {
                    0 => FirstStage::Plain,
                    1 => FirstStage::Simple8b,
                    2 => FirstStage::DeltaOfDelta,
                    3 => FirstStage::BitPacked,
                    4 => FirstStage::DeltaFloat,
                    DISABLED => FirstStage::Raw,
                    _ => return Err(Unreadable::Codec(word)),
                };
                let second = match second {
                    0 => Some(SecondStage::Stored),
                    1 => Some(SecondStage::Lz4),
                    4 => Some(SecondStage::Tsz),
                    2 => Some(SecondStage::Zlib),
                    3 => Some(SecondStage::Zstd),
                    5 => Some(SecondStage::Xz),
                    DISABLED => None,
                    _ => return Err(Unreadable::Codec(word)),
                };
                (first, second)
            }
        };
        Ok(Self {
            word,
            first,
            second,
        })
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

    /// A column's type does not go with its algorithm, as far as is known.
    fn unknown(self, algorithm: Algorithm) -> FormatError {
        FormatError::unreadable(self.what, self.offset, Unreadable::Codec(algorithm.word))
    }
}

/// Decodes `n` values of a column that stands for itself.
#[cfg(any(test, feature = "internals"))]
pub fn decode_column(
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
        Place {
            what: "column",
            offset: 0,
        },
    )
}

/// Bytes that an encoder may need beyond the plain size of its input.
const STAGE_OVERHEAD: usize = 2;

pub(crate) fn decode(
    bytes: &[u8],
    n: usize,
    algorithm: Algorithm,
    column: Column,
    place: Place,
) -> Result<Vec<i64>, FormatError> {
    let unpacked = match algorithm.second {
        None => Cow::Borrowed(bytes),
        Some(second) => second.unpack(bytes, n * column.width() + STAGE_OVERHEAD, place)?,
    };
    let first = match (algorithm.first, column) {
        (FirstStage::Raw, Column::NarrowInteger) if algorithm.second.is_none() => FirstStage::Raw,
        (_, Column::NarrowInteger) | (FirstStage::ByColumn, Column::Integer) => {
            FirstStage::Simple8b
        }
        (FirstStage::ByColumn, Column::Timestamp) => FirstStage::DeltaOfDelta,
        (first, _) => first,
    };
    match first {
        FirstStage::Raw => raw(&unpacked, n, column, place),
        FirstStage::Plain => match unpacked.split_first() {
            Some((_marker, plain)) => raw(plain, n, column, place),
            None => Err(place.corrupt("a column is empty")),
        },
        FirstStage::Simple8b => simple8b::decode(&unpacked, n, column, place),
        FirstStage::ByColumn | FirstStage::DeltaOfDelta => {
            delta::decode(&unpacked, n, column, place)
        }
        FirstStage::BitPacked | FirstStage::DeltaFloat => Err(place.unknown(algorithm)),
    }
}

/// Unpacks text, `size` bytes of it. Text has no encoder of its own, and COMP 1 means LZ4 for it.
pub(crate) fn unpack_text<'a>(
    bytes: &'a [u8],
    size: usize,
    algorithm: Algorithm,
    place: Place,
) -> Result<Cow<'a, [u8]>, FormatError> {
    let stage = match algorithm {
        Algorithm {
            first: FirstStage::Raw,
            second: None,
            ..
        } => None,
        Algorithm {
            first: FirstStage::ByColumn,
            ..
        } => Some(SecondStage::Lz4),
        Algorithm { second, .. } => Some(second.unwrap_or(SecondStage::Stored)),
    };
    let unpacked = match stage {
        None => Cow::Borrowed(bytes),
        Some(stage) => stage.unpack(bytes, size + STAGE_OVERHEAD, place)?,
    };
    if unpacked.len() != size {
        return Err(place.corrupt(format!(
            "{} bytes unpacked, {size} expected",
            unpacked.len()
        )));
    }
    Ok(unpacked)
}

/// Values as they are.
fn raw(bytes: &[u8], n: usize, column: Column, place: Place) -> Result<Vec<i64>, FormatError> {
    let width = column.width();
    if bytes.len() != n * width {
        return Err(place.corrupt(format!(
            "{} bytes hold {n} values of {width} bytes",
            bytes.len()
        )));
    }
    Ok(match column {
        Column::NarrowInteger => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b).into())
            .collect(),
        Column::Integer | Column::Timestamp => bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_unknown_codecs_are_named() {
        for word in [0x0500_0102, 0x0200_0602, 0x0000_0003, 7] {
            assert_eq!(Algorithm::from_word(word), Err(Unreadable::Codec(word)));
        }
        for word in [0x0300_ff02, 0x0400_ff02] {
            let algorithm = Algorithm::from_word(word).unwrap();
            let error = decode_column(&[1; 9], 1, algorithm, Column::Timestamp).unwrap_err();
            assert!(
                matches!(error, FormatError::Unreadable { why: Unreadable::Codec(unknown), .. } if unknown == word),
                "{error}"
            );
        }
    }

    #[test]
    fn raw_columns_have_no_marker_byte() {
        let bytes: Vec<u8> = [5i64, -7].iter().flat_map(|v| v.to_le_bytes()).collect();
        for word in [0, 0xff00_ff00] {
            let algorithm = Algorithm::from_word(word).unwrap();
            assert_eq!(
                decode_column(&bytes, 2, algorithm, Column::Integer).unwrap(),
                [5, -7]
            );
            assert!(decode_column(&bytes, 3, algorithm, Column::Integer).is_err());
        }
    }
}
