//! A decoder of TSDB files, just good enough to read back what the writer makes. It shares no code with it.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::path::Path;

/// Logical bytes of a file whose page checksums are all right.
pub(crate) fn logical(path: &Path, page_size: usize, size: usize) -> Vec<u8> {
    let file = std::fs::read(path).unwrap();
    assert_eq!(
        file.len(),
        size.div_ceil(page_size - 4) * page_size,
        "{}",
        path.display()
    );
    let mut out = Vec::new();
    for page in file.chunks(page_size) {
        let (data, sum) = page.split_at(page_size - 4);
        assert_eq!(crc32c::crc32c(data).to_le_bytes(), sum);
        out.extend_from_slice(data);
    }
    out.truncate(size);
    assert!(out[..512].iter().all(|&b| b == 0));
    out
}

pub(crate) fn i64_at(b: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

pub(crate) fn i32_at(b: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

fn second(kind: u8, b: &[u8]) -> Vec<u8> {
    if b[0] == 0 {
        return b[1..].to_vec();
    }
    let (b, mut out) = (&b[1..], Vec::new());
    match kind {
        1 | 4 => return lz4_flex::block::decompress(b, 1 << 20).unwrap(),
        2 => flate2::read::ZlibDecoder::new(b)
            .read_to_end(&mut out)
            .unwrap(),
        3 => return zstd::bulk::decompress(b, 1 << 20).unwrap(),
        5 => lzma_rust2::Lzma2Reader::new(&b[1..], 1 << 24, None)
            .read_to_end(&mut out)
            .unwrap(),
        other => panic!("{other}"),
    };
    out
}

fn raw_words(b: &[u8], width: usize) -> Vec<i64> {
    b.chunks_exact(width)
        .map(|c| {
            if width == 8 {
                i64_at(c, 0)
            } else {
                i32_at(c, 0).into()
            }
        })
        .collect()
}

fn packed_ints(b: &[u8], width: usize, n: usize) -> Vec<i64> {
    if b[0] == 1 {
        return raw_words(&b[1..], width);
    }
    let (mut out, mut prev) = (Vec::new(), 0i64);
    for word in b[1..].chunks(8) {
        let word = i64_at(word, 0) as u64;
        let (count, bits) = match word & 15 {
            0 => (240, 0),
            1 => (120, 0),
            s => {
                let bits = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60][s as usize - 2];
                (60 / bits, bits)
            }
        };
        for i in 0..count {
            if bits > 0 {
                prev += unzigzag(word >> (4 + bits * i) & ((1 << bits) - 1));
            }
            out.push(prev);
        }
    }
    out.truncate(n);
    out
}

fn packed_stamps(b: &[u8], n: usize) -> Vec<i64> {
    if b[0] == 0 {
        return raw_words(&b[1..], 8);
    }
    let (mut out, mut at, mut prev, mut delta) = (Vec::new(), 1, 0i64, 0i64);
    while out.len() < n {
        let lengths = b[at];
        at += 1;
        for len in [lengths & 15, lengths >> 4].map(usize::from) {
            let mut word = [0; 8];
            word[..len].copy_from_slice(&b[at..at + len]);
            at += len;
            let first = out.is_empty();
            delta += unzigzag(u64::from_le_bytes(word));
            prev += delta;
            out.push(prev);
            if first {
                delta = 0;
            }
        }
    }
    out.truncate(n);
    out
}

/// A column of 8-byte integers or timestamps (4-byte ones with `width` 4).
pub(crate) fn column(alg: u32, stamps: bool, width: usize, b: &[u8], n: usize) -> Vec<i64> {
    let [_, stage2, _, encoder] = alg.to_le_bytes();
    let native = if stamps { 2 } else { 1 };
    let (encoder, stage2) = match alg {
        0 => (255, 255),
        1 => (native, 255),
        2 => (native, 1),
        _ if (encoder, stage2) == (0, 0) => (255, 255),
        _ => (encoder, stage2),
    };
    let plain = if stage2 == 255 {
        b.to_vec()
    } else {
        second(stage2, b)
    };
    let out = match encoder {
        255 => raw_words(&plain, width),
        0 => raw_words(&plain[1..], width),
        1 => packed_ints(&plain, width, n),
        2 => packed_stamps(&plain, n),
        other => panic!("{other}"),
    };
    assert_eq!(out.len(), n);
    out
}

/// Columns of an index group: `sizes` are in the index entry from `at` on.
fn index_columns(file: &[u8], entry: &[u8], at: usize, widths: &[usize]) -> Vec<Vec<i64>> {
    let n = i32_at(entry, at) as usize;
    let comp = u32::from(entry[at + 4 + 4 * widths.len()]);
    let mut offset = i64_at(entry, 0) as usize;
    widths
        .iter()
        .enumerate()
        .map(|(i, &width)| {
            let size = i32_at(entry, at + 4 + 4 * i) as usize;
            offset += size;
            column(comp, false, width, &file[offset - size..offset], n)
        })
        .collect()
}

/// All index records of a head file, field by field as in the format.
pub(crate) fn head(path: &Path, page_size: usize, size: i64) -> Vec<[i64; 15]> {
    let file = logical(path, page_size, size as usize);
    let footer = &file[file.len() - 48..];
    let (offset, len) = (i64_at(footer, 0) as usize, i64_at(footer, 8) as usize);
    assert_eq!(offset + len + 48, file.len());
    let mut out = Vec::new();
    for entry in file[offset..offset + len].chunks_exact(136) {
        let columns = index_columns(
            &file,
            entry,
            64,
            &[8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4],
        );
        out.extend((0..columns[0].len()).map(|i| std::array::from_fn(|c| columns[c][i])));
    }
    out
}

/// Rows (uid, version, ts) of a block from its key part.
pub(crate) fn key_part(b: &[u8]) -> Vec<(i64, i64, i64)> {
    let mut at = 4;
    assert_eq!(b[..4], [0x0f, 0xfa, 0x0a, 0xf0]);
    let uvar = |at: &mut usize| {
        let (mut v, mut shift) = (0u64, 0);
        loop {
            let byte = b[*at];
            *at += 1;
            v |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return v;
            }
        }
    };
    let fmt_ver = uvar(&mut at);
    let uid = i64_at(b, at + 8);
    at += 16;
    let sizes: [usize; 5] = std::array::from_fn(|_| unzigzag(uvar(&mut at)) as usize);
    let [uids, versions, stamps, _, n] = sizes;
    let alg = if fmt_ver == 2 {
        at += 4;
        i32_at(b, at - 4) as u32
    } else {
        at += 1;
        b[at - 1].into()
    };
    if fmt_ver >= 1 {
        at += 1;
        if b[at - 1] == 1 {
            uvar(&mut at);
            let kind = b[at];
            assert_eq!(b[at + 1..at + 3], [5, 4]);
            at += 3;
            for _ in 0..if kind == 8 { 4 } else { 3 } {
                uvar(&mut at);
            }
            at += if fmt_ver >= 2 { 4 } else { 0 };
        }
    }
    let mut next = |size: usize| {
        at += size;
        &b[at - size..at]
    };
    let uids = match uids {
        0 => vec![uid; n],
        size => column(alg, false, 8, next(size), n),
    };
    let versions = column(alg, false, 8, next(versions), n);
    let stamps = column(alg, true, 8, next(stamps), n);
    (0..n).map(|i| (uids[i], versions[i], stamps[i])).collect()
}

/// All rows of the data file that this head file names.
pub(crate) fn data_rows(head_records: &[[i64; 15]], data: &[u8]) -> Vec<(i64, i64, i64)> {
    let mut out = Vec::new();
    for r in head_records {
        let (offset, key_size) = (r[8] as usize, r[11] as usize);
        let rows = key_part(&data[offset..offset + key_size]);
        assert_eq!(rows.len() as i64, r[13]);
        assert!(rows.iter().all(|row| row.0 == r[1]));
        assert_eq!((rows[0].2, rows[0].1), (r[2], r[3]));
        assert_eq!(
            (rows[rows.len() - 1].2, rows[rows.len() - 1].1),
            (r[4], r[5])
        );
        assert_eq!(rows.iter().map(|r| r.1).min(), Some(r[6]));
        assert_eq!(rows.iter().map(|r| r.1).max(), Some(r[7]));
        out.extend(rows);
    }
    out
}

/// Deletes (suid, uid, version, skey, ekey) from the index section at `offset`.
fn tombs_at(file: &[u8], offset: usize, len: usize) -> Vec<[i64; 5]> {
    let mut out = Vec::new();
    for entry in file[offset..offset + len].chunks_exact(96) {
        let columns = index_columns(file, entry, 64, &[8; 5]);
        out.extend((0..columns[0].len()).map(|i| std::array::from_fn(|c| columns[c][i])));
    }
    out
}

/// Deletes of a tomb file.
pub(crate) fn tomb(path: &Path, page_size: usize, size: i64) -> Vec<[i64; 5]> {
    let file = logical(path, page_size, size as usize);
    let footer = &file[file.len() - 48..];
    tombs_at(
        &file,
        i64_at(footer, 0) as usize,
        i64_at(footer, 8) as usize,
    )
}

/// An stt file: rows (uid, version, ts), key ranges (suid, uid, first, last, count), deletes.
#[derive(Debug, Default)]
pub(crate) struct Stt {
    pub(crate) rows: Vec<(i64, i64, i64)>,
    pub(crate) ranges: Vec<[i64; 5]>,
    pub(crate) tombs: Vec<[i64; 5]>,
}

/// Reads an stt file.
pub(crate) fn stt(path: &Path, page_size: usize, size: i64) -> Stt {
    let file = logical(path, page_size, size as usize);
    let footer = &file[file.len() - 80..];
    let section = |i: usize| {
        (
            i64_at(footer, 16 * i) as usize,
            i64_at(footer, 16 * i + 8) as usize,
        )
    };
    let mut out = Stt::default();
    let (offset, len) = section(0);
    for entry in file[offset..offset + len].chunks_exact(80) {
        let (at, key_size) = (i64_at(entry, 64) as usize, i32_at(entry, 76) as usize);
        let rows = key_part(&file[at..at + key_size]);
        assert_eq!(rows.len() as i32, i32_at(entry, 56));
        assert_eq!(rows.iter().map(|r| r.2).min(), Some(i64_at(entry, 24)));
        assert_eq!(rows.iter().map(|r| r.1).max(), Some(i64_at(entry, 48)));
        out.rows.extend(rows);
    }
    let (offset, len) = section(1);
    for entry in file[offset..offset + len].chunks_exact(80) {
        let columns = index_columns(&file, entry, 48, &[8; 5]);
        out.ranges
            .extend((0..columns[0].len()).map(|i| std::array::from_fn(|c| columns[c][i])));
    }
    let (offset, len) = section(2);
    out.tombs = tombs_at(&file, offset, len);
    out
}
