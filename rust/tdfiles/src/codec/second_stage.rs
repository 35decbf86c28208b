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
            Self::Lz4 => {
                let mut out = vec![0; limit];
                lz4_flex::block::decompress_into(packed, &mut out)
                    .map(|n| {
                        out.truncate(n);
                        out
                    })
                    .map_err(|e| e.to_string())
            }
            Self::Zlib => read_up_to(limit, flate2::read::ZlibDecoder::new(packed)),
            Self::Zstd => zstd::bulk::decompress(packed, limit).map_err(|e| e.to_string()),
            Self::Xz => match packed.split_first() {
                // No distance in the stream reaches back further than the output is long, so the
                // dictionary need not be as large as the property byte may claim.
                Some((_property, stream)) => {
                    let dictionary = u32::try_from(limit).unwrap_or(u32::MAX).max(1 << 12);
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
