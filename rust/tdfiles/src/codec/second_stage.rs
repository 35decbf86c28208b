//! The general compressors behind a column's encoder. First byte 0: stored; 1: compressed.

use super::Place;
use crate::FormatError;
use std::{borrow::Cow, io::Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecondStage {
    /// Nothing but the marker.
    Stored,
    /// A bare LZ4 block.
    Lz4,
    /// What the server calls tsz: lossy for floating-point columns where the server is set so, else LZ4. The lossy form
    /// is told apart before a column gets here.
    Tsz,
    /// A zlib stream.
    Zlib,
    /// A zstd frame.
    Zstd,
    /// What the server calls xz: the format of fast-lzma2. A property byte (bit 7: a hash follows; low bits:
    /// dictionary size), then a raw LZMA2 stream. The hash is not checked here: page checksums cover it.
    Xz,
}

impl SecondStage {
    /// The unpacked bytes, at most `limit`.
    pub(super) fn unpack<'a>(
        self,
        bytes: &'a [u8],
        limit: usize,
        place: Place,
    ) -> Result<Cow<'a, [u8]>, FormatError> {
        let packed = match bytes.split_first() {
            Some((0, stored)) => return Ok(Cow::Borrowed(stored)),
            Some((1, packed)) => packed,
            Some((marker, _)) => return Err(place.corrupt(format!("{self:?} marker is {marker}"))),
            None => return Err(place.corrupt("a compressed column is empty")),
        };
        let unpacked = match self {
            Self::Stored => Err("the marker says compressed".to_owned()),
            Self::Lz4 | Self::Tsz => {
                // No byte of an LZ4 block makes more than 255.
                let mut out = vec![0; limit.min(packed.len().saturating_mul(255) + 64)];
                let unpacked = lz4_flex::block::decompress_into(packed, &mut out);
                unpacked.map_err(|e| e.to_string()).map(|n| {
                    out.truncate(n);
                    out
                })
            }
            Self::Zlib => read_up_to(limit, flate2::read::ZlibDecoder::new(packed)),
            Self::Zstd => {
                let window = memory(limit, packed).next_power_of_two().ilog2();
                zstd::stream::read::Decoder::new(packed)
                    .and_then(|mut decoder| decoder.window_log_max(window).map(|()| decoder))
                    .map_err(|e| e.to_string())
                    .and_then(|decoder| read_up_to(limit, decoder))
            }
            Self::Xz => match packed.split_first() {
                // No distance in the stream reaches back further than the output is long, so the
                // dictionary need not be as large as the property byte may claim.
                Some((_property, stream)) => {
                    let dictionary = u32::try_from(memory(limit, stream)).unwrap_or(u32::MAX);
                    read_up_to(
                        limit,
                        lzma_rust2::Lzma2Reader::new(stream, dictionary, None),
                    )
                }
                None => Err("no property byte".to_owned()),
            },
        };
        unpacked
            .map(Cow::Owned)
            .map_err(|e| place.corrupt(format!("{self:?} can't unpack a column: {e}")))
    }
}

/// What a decoder may keep of its output to look back at: all of it, but not more than the packed bytes are
/// ever worth, as the size of the output is only a claim.
fn memory(limit: usize, packed: &[u8]) -> usize {
    limit
        .min(packed.len().saturating_mul(4096).max(8 << 20))
        .clamp(1 << 12, 1 << 27)
}

fn read_up_to(limit: usize, reader: impl Read) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    reader
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|e| e.to_string())?;
    if out.len() > limit {
        Err(format!("more than {limit} bytes"))
    } else {
        Ok(out)
    }
}
