//! The values that users wrote: each column becomes the bytes of its values, or the bytes of its texts.

use super::{
    Algorithm, FirstStage, Place, STAGE_OVERHEAD, SecondStage, bit_packed, delta, delta_float,
    simple8b,
};
use crate::{FormatError, Unreadable};
use model::DataType;
use std::borrow::Cow;

/// An encoded piece of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) algorithm: Algorithm,
    pub(crate) place: Place,
}

/// The bytes of `n` values of a type of fixed width.
pub(crate) fn decode_values(
    packed: Packed<'_>,
    n: usize,
    data_type: DataType,
) -> Result<Vec<u8>, FormatError> {
    let Packed {
        algorithm, place, ..
    } = packed;
    let Some(width) = data_type.stored_width() else {
        return Err(FormatError::unreadable(
            place.what,
            place.offset,
            Unreadable::ColumnType(data_type as i8 as u8),
        ));
    };
    if let Some((first, values)) = packed.bytes.split_first()
        && is_lossy(*first, algorithm, data_type)
    {
        return match first & 1 {
            0 => plain(values, n, width, place),
            _ => Err(place.unknown(algorithm)),
        };
    }
    let unpacked = packed.unpack(n * width)?;
    let stored = algorithm.first == FirstStage::Raw && algorithm.second.is_none();
    match (data_type, width) {
        _ if stored => plain(&unpacked, n, width, place),
        (DataType::Bool, _) => bit_packed::decode(&unpacked, n, place),
        (DataType::Float, _) => floats::<4>(&unpacked, n, algorithm, place),
        (DataType::Double, _) => floats::<8>(&unpacked, n, algorithm, place),
        // Narrow integers are encoded the same way, whatever the algorithm names.
        (_, 1) => simple8b::decode_bytes::<1>(&unpacked, n, place),
        (_, 2) => simple8b::decode_bytes::<2>(&unpacked, n, place),
        (_, 4) => simple8b::decode_bytes::<4>(&unpacked, n, place),
        (_, width) => wide(&unpacked, n, width, data_type, algorithm, place),
    }
}

/// `n` bits, or pairs of bits, in `bytes` bytes: a bitmap is coded like a TINYINT column.
pub(crate) fn decode_bits(packed: Packed<'_>, bytes: usize) -> Result<Vec<u8>, FormatError> {
    decode_values(packed, bytes, DataType::TinyInt)
}

/// Where each of `n` texts begins: coded like an INT column.
pub(crate) fn decode_starts(packed: Packed<'_>, n: usize) -> Result<Vec<u8>, FormatError> {
    decode_values(packed, n, DataType::Int)
}

impl<'a> Packed<'a> {
    /// What the general compressor was given, which is little more than `size` bytes.
    fn unpack(self, size: usize) -> Result<Cow<'a, [u8]>, FormatError> {
        match self.algorithm.second {
            None => Ok(Cow::Borrowed(self.bytes)),
            Some(second) => second.unpack(self.bytes, size + STAGE_OVERHEAD, self.place),
        }
    }
}

/// Whether a floating-point column is in the lossy form of tsz, as its first byte tells. The lowest bit of that says whether
/// values could be packed.
fn is_lossy(first: u8, algorithm: Algorithm, data_type: DataType) -> bool {
    let float = matches!(data_type, DataType::Float | DataType::Double);
    float && algorithm.second == Some(SecondStage::Tsz) && first >> 1 == 1
}

fn floats<const W: usize>(
    unpacked: &[u8],
    n: usize,
    algorithm: Algorithm,
    place: Place,
) -> Result<Vec<u8>, FormatError> {
    match algorithm.first {
        FirstStage::ByColumn | FirstStage::DeltaFloat => {
            delta_float::decode::<W>(unpacked, n, place)
        }
        FirstStage::Raw => plain(unpacked, n, W, place),
        FirstStage::Plain => marked(unpacked, n, W, place),
        _ => Err(place.unknown(algorithm)),
    }
}

/// Integers of 8 bytes, timestamps and decimals.
fn wide(
    unpacked: &[u8],
    n: usize,
    width: usize,
    data_type: DataType,
    algorithm: Algorithm,
    place: Place,
) -> Result<Vec<u8>, FormatError> {
    let first = match (algorithm.first, data_type) {
        (FirstStage::ByColumn, DataType::BigInt | DataType::UBigInt) => FirstStage::Simple8b,
        (FirstStage::ByColumn, DataType::Timestamp) => FirstStage::DeltaOfDelta,
        (first, _) => first,
    };
    match first {
        FirstStage::Raw => plain(unpacked, n, width, place),
        FirstStage::Plain => marked(unpacked, n, width, place),
        FirstStage::Simple8b if !data_type.is_decimal() => {
            simple8b::decode_bytes::<8>(unpacked, n, place)
        }
        FirstStage::DeltaOfDelta if !data_type.is_decimal() => {
            let values = delta::decode(unpacked, n, super::Column::Integer, place)?;
            Ok(values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect())
        }
        _ => Err(place.unknown(algorithm)),
    }
}

/// Values behind a marker byte that says nothing.
fn marked(unpacked: &[u8], n: usize, width: usize, place: Place) -> Result<Vec<u8>, FormatError> {
    match unpacked.split_first() {
        Some((_marker, values)) => plain(values, n, width, place),
        None => Err(place.corrupt("a column is empty")),
    }
}

/// Values as they are.
pub(super) fn plain(
    bytes: &[u8],
    n: usize,
    width: usize,
    place: Place,
) -> Result<Vec<u8>, FormatError> {
    if bytes.len() == n * width {
        Ok(bytes.to_vec())
    } else {
        let detail = format!("{} bytes hold {n} values of {width} bytes", bytes.len());
        Err(place.corrupt(detail))
    }
}
