//! Stt files: rows of many tables per block, key ranges per table, deletes.

use std::{
    fs::File,
    io::{self, BufWriter},
};

use super::{
    FileEntry, Format, PageWriter, Place, StoredRow, Tomb, encode_block,
    index::{Columns, Statis, groups, pk_columns, version_range},
    tomb::{tomb_blocks, versions},
};
use crate::bytes::Put;

/// Writes one stt file row by row.
pub struct SttWriter {
    place: Place,
    format: Format,
    level: i32,
    file: PageWriter<BufWriter<File>>,
    blocks: Vec<u8>,
    statis: Vec<Statis>,
    pending: Vec<StoredRow>,
    versions: Option<(i64, i64)>,
}

impl SttWriter {
    /// Starts a file of this level.
    pub fn create(place: &Place, level: i32, format: Format) -> io::Result<Self> {
        let file = PageWriter::new(
            BufWriter::new(File::create(place.path("stt"))?),
            format.page_size,
        )?;
        Ok(Self {
            place: place.clone(),
            format,
            level,
            file,
            blocks: Vec::new(),
            statis: Vec::new(),
            pending: Vec::new(),
            versions: None,
        })
    }

    /// Adds a row behind the others in order of (suid, uid, ts, key).
    pub fn push(&mut self, row: StoredRow) -> io::Result<()> {
        let full = self.pending.len() >= self.format.max_rows;
        let other =
            |last: &StoredRow| last.suid != row.suid || (row.suid == 0 && last.uid != row.uid);
        if full || self.pending.last().is_some_and(other) {
            self.flush()?;
        }
        self.count(&row);
        self.pending.push(row);
        Ok(())
    }

    fn count(&mut self, row: &StoredRow) {
        let (ts, pk) = (row.row.ts, &row.row.pk);
        match self.statis.last_mut().filter(|s| s.uid == row.uid) {
            Some(s) => {
                if s.last_ts != ts || s.pks.as_ref().map(|k| &k.1) != pk.as_ref() {
                    s.count += 1;
                }
                s.last_ts = ts;
                if let (Some(keys), Some(pk)) = (&mut s.pks, pk) {
                    keys.1 = pk.clone();
                }
            }
            None => self.statis.push(Statis {
                suid: row.suid,
                uid: row.uid,
                first_ts: ts,
                last_ts: ts,
                count: 1,
                pks: pk.clone().zip(pk.clone()),
            }),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let rows = &self.pending;
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let block = encode_block(rows, first.suid != 0, &self.format);
        let (min_version, max_version) = version_range(rows);
        let (min, max) = self.versions.unwrap_or((min_version, max_version));
        self.versions = Some((min.min(min_version), max.max(max_version)));
        let stamps = || rows.iter().map(|r| r.row.ts);
        let b = &mut self.blocks;
        for v in [first.suid, first.uid, rows[rows.len() - 1].uid] {
            b.i64(v);
        }
        for v in [
            stamps().min().unwrap(),
            stamps().max().unwrap(),
            min_version,
            max_version,
        ] {
            b.i64(v);
        }
        b.i32(rows.len() as i32);
        b.i32(0);
        b.i64(self.file.position());
        b.i32(block.bytes.len() as i32);
        b.i32(block.key_size);
        self.file.write(&block.bytes)?;
        self.pending.clear();
        Ok(())
    }

    /// Adds the deletes, sorted by (suid, uid, version), and writes the indexes.
    pub fn finish(mut self, tombs: &[Tomb]) -> io::Result<FileEntry> {
        self.flush()?;
        let mut statis_index = Vec::new();
        for group in groups(&self.statis, self.format.max_rows, |s| s.pks.as_ref()) {
            let mut bytes = Vec::new();
            let mut columns = Columns {
                comp: self.format.comp,
                out: &mut bytes,
                sizes: Vec::new(),
            };
            columns.i64s(
                group,
                &[
                    |s| s.suid,
                    |s| s.uid,
                    |s| s.first_ts,
                    |s| s.last_ts,
                    |s| s.count,
                ],
            );
            let sizes = columns.sizes;
            let pks: Vec<_> = group.iter().filter_map(|s| s.pks.clone()).collect();
            if !pks.is_empty() {
                pk_columns(self.format.comp, &pks, &mut bytes);
            }
            let (first, last) = (&group[0], &group[group.len() - 1]);
            for v in [
                self.file.position(),
                bytes.len() as i64,
                first.suid,
                first.uid,
                last.suid,
                last.uid,
            ] {
                statis_index.i64(v);
            }
            statis_index.i32(group.len() as i32);
            for size in sizes {
                statis_index.i32(size);
            }
            statis_index.u8(self.format.comp);
            statis_index.u8((!pks.is_empty()).into());
            statis_index.raw(&[0; 6]);
            self.file.write(&bytes)?;
        }
        let tomb_index = tomb_blocks(&mut self.file, &self.format, tombs)?;
        let mut footer = Vec::new();
        for section in [&self.blocks, &statis_index, &tomb_index] {
            footer.i64(if section.is_empty() {
                0
            } else {
                self.file.position()
            });
            footer.i64(section.len() as i64);
            self.file.write(section)?;
        }
        footer.raw(&[0; 32]);
        self.file.write(&footer)?;
        let all: Vec<_> = self.versions.into_iter().chain(versions(tombs)).collect();
        Ok(FileEntry {
            min_version: all.iter().map(|r| r.0).min(),
            max_version: all.iter().map(|r| r.1).max(),
            stt_level: Some(self.level),
            ..FileEntry::new(self.place.fid, self.place.cid, self.file.finish()?)
        })
    }
}

/// Writes an stt file from rows sorted by (suid, uid, ts, key) and deletes sorted by (suid, uid, version).
pub fn write_stt(
    place: &Place,
    level: i32,
    format: Format,
    rows: impl IntoIterator<Item = StoredRow>,
    tombs: &[Tomb],
) -> io::Result<FileEntry> {
    let mut w = SttWriter::create(place, level, format)?;
    for row in rows {
        w.push(row)?;
    }
    w.finish(tombs)
}
