//! Deletes, in tomb files and at the end of stt files.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use super::{FileEntry, Format, PageWriter, Place, Tomb, index::Columns};
use crate::bytes::Put;

/// Lowest and highest version, unless there is nothing.
pub(super) fn versions(tombs: &[Tomb]) -> Option<(i64, i64)> {
    tombs
        .iter()
        .map(|t| t.version)
        .min()
        .zip(tombs.iter().map(|t| t.version).max())
}

/// Writes the records; answers their index.
pub(super) fn tomb_blocks<W: Write>(
    w: &mut PageWriter<W>,
    format: &Format,
    tombs: &[Tomb],
) -> io::Result<Vec<u8>> {
    let mut index = Vec::new();
    for group in tombs.chunks(format.max_rows) {
        let mut bytes = Vec::new();
        let mut columns = Columns {
            comp: format.comp,
            out: &mut bytes,
            sizes: Vec::new(),
        };
        columns.i64s(
            group,
            &[|t| t.suid, |t| t.uid, |t| t.version, |t| t.skey, |t| t.ekey],
        );
        let sizes = columns.sizes;
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let (min_version, max_version) = versions(group).unwrap();
        for v in [
            w.position(),
            bytes.len() as i64,
            first.suid,
            first.uid,
            last.suid,
            last.uid,
            min_version,
            max_version,
        ] {
            index.i64(v);
        }
        index.i32(group.len() as i32);
        for size in sizes {
            index.i32(size);
        }
        index.u8(format.comp);
        index.raw(&[0; 7]);
        w.write(&bytes)?;
    }
    Ok(index)
}

/// Writes a tomb file from deletes sorted by (suid, uid, version).
pub fn write_tomb(place: &Place, format: Format, tombs: &[Tomb]) -> io::Result<FileEntry> {
    let mut w = PageWriter::new(
        BufWriter::new(File::create(place.path("tomb"))?),
        format.page_size,
    )?;
    let index = tomb_blocks(&mut w, &format, tombs)?;
    let mut footer = Vec::new();
    footer.i64(w.position());
    footer.i64(index.len() as i64);
    footer.raw(&[0; 32]);
    w.write(&index)?;
    w.write(&footer)?;
    let range = versions(tombs);
    Ok(FileEntry {
        min_version: range.map(|r| r.0),
        max_version: range.map(|r| r.1),
        ..FileEntry::new(place.fid, place.cid, w.finish()?)
    })
}
