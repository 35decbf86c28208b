//! Second stage: a general compressor behind a marker byte.

use std::io::Write;

use super::xxh32;

/// Dictionary size property of an xz stream: 64 KiB, more than a column ever has here in practice.
const XZ_DICT_PROP: u8 = 8;

/// Second-stage compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// Marker 0 and the bytes as they are.
    Stored,
    /// LZ4 block without frame.
    Lz4,
    /// zlib stream.
    Zlib,
    /// zstd frame.
    Zstd,
    /// What TDengine calls xz: a property byte, raw LZMA2 and an XXH32 of the plain bytes.
    Xz,
    /// The same without the hash.
    XzNoHash,
}

impl Second {
    /// The compressor with this number in an algorithm word; tsz is LZ4 for all types but floating point.
    pub(crate) fn of(number: u8) -> Self {
        match number {
            0 => Self::Stored,
            1 | 4 => Self::Lz4,
            2 => Self::Zlib,
            3 => Self::Zstd,
            5 => Self::Xz,
            other => panic!("second stage {other} does not exist"),
        }
    }

    /// Level of the compressor for the levels low, medium, high of an algorithm word.
    pub(crate) fn level(self, level: u8) -> u8 {
        let levels = match self {
            Self::Zstd => [1, 11, 22],
            Self::Zlib | Self::Xz | Self::XzNoHash => [1, 6, 9],
            Self::Stored | Self::Lz4 => [1, 2, 3],
        };
        match level {
            1..=3 => levels[usize::from(level) - 1],
            _ => 1,
        }
    }
}

/// Marker 1 and the compressed bytes, or marker 0 and the plain bytes if compression makes them longer.
///
/// `level` is the compressor's own; LZ4 has none.
pub fn second_stage(second: Second, level: u8, plain: &[u8]) -> Vec<u8> {
    let packed = match second {
        Second::Stored => None,
        Second::Lz4 => Some(lz4_flex::block::compress(plain)),
        Second::Zlib => Some(zlib(level, plain)),
        Second::Zstd => Some(zstd::bulk::compress(plain, level.into()).unwrap()),
        Second::Xz => Some(xz(level, plain, true)),
        Second::XzNoHash => Some(xz(level, plain, false)),
    };
    match packed {
        Some(packed) if packed.len() <= plain.len() => [&[1], &packed[..]].concat(),
        _ => [&[0], plain].concat(),
    }
}

fn zlib(level: u8, plain: &[u8]) -> Vec<u8> {
    let mut w = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level.into()));
    w.write_all(plain).unwrap();
    w.finish().unwrap()
}

fn xz(level: u8, plain: &[u8], hash: bool) -> Vec<u8> {
    let mut options = lzma_rust2::Lzma2Options::with_preset(level.into());
    options.lzma_options.dict_size = 1 << 16;
    let mut w = lzma_rust2::Lzma2Writer::new(vec![u8::from(hash) << 7 | XZ_DICT_PROP], options);
    w.write_all(plain).unwrap();
    let mut out = w.finish().unwrap();
    if hash {
        out.extend_from_slice(&xxh32(plain).to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_compressor_gives_its_input_back() {
        let plain: Vec<u8> = (0..5000u32).map(|i| (i / 50) as u8).collect();
        let packed = |second| {
            let out = second_stage(second, 1, &plain);
            assert_eq!(out[0], 1);
            out[1..].to_vec()
        };
        assert_eq!(
            lz4_flex::block::decompress(&packed(Second::Lz4), plain.len()).unwrap(),
            plain
        );
        assert_eq!(
            zstd::bulk::decompress(&packed(Second::Zstd), plain.len()).unwrap(),
            plain
        );
        let mut out = Vec::new();
        flate2::read::ZlibDecoder::new(&packed(Second::Zlib)[..])
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, plain);
        let xz = packed(Second::Xz);
        let mut out = Vec::new();
        lzma_rust2::Lzma2Reader::new(&xz[1..], 1 << 16, None)
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, plain);
        assert_eq!(xz[0], 0x88);
        assert_eq!(xz[xz.len() - 4..], xxh32(&plain).to_be_bytes());
        let bare = packed(Second::XzNoHash);
        assert_eq!((bare[0], bare.len()), (8, xz.len() - 4));
    }

    #[test]
    fn bytes_that_do_not_shrink_are_stored() {
        assert_eq!(second_stage(Second::Lz4, 1, b"abc"), b"\0abc");
        assert_eq!(second_stage(Second::Zstd, 1, b"abc"), b"\0abc");
    }
}
