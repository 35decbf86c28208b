//! Head, data and sma files.

use std::{
    fs::File,
    io::{self, BufWriter},
};

use super::{
    BrinRecord, FileEntry, FileSet, Format, PageWriter, Place, StoredRow, encode_block,
    index::{BRIN_GROUP, Columns, distinct_keys, groups, pk_columns, version_range},
    logical_bytes,
};
use crate::bytes::Put;

type FileWriter = PageWriter<BufWriter<File>>;

/// Data and sma file an edit appends to.
#[derive(Clone, Debug)]
pub struct DataSource {
    /// The data file.
    pub data: FileEntry,
    /// The sma file.
    pub sma: FileEntry,
    /// Version range of the head file the new one replaces.
    pub head_versions: Option<(i64, i64)>,
}

/// Writes head, data and sma file of one file set, block by block.
pub struct DataSetWriter {
    place: Place,
    format: Format,
    data: FileWriter,
    sma: FileWriter,
    source: Option<DataSource>,
    records: Vec<BrinRecord>,
    pending: Vec<StoredRow>,
}

impl DataSetWriter {
    /// Starts three new files.
    pub fn create(place: &Place, format: Format) -> io::Result<Self> {
        let open = |ext| {
            PageWriter::new(
                BufWriter::new(File::create(place.path(ext))?),
                format.page_size,
            )
        };
        Ok(Self {
            data: open("data")?,
            sma: open("sma")?,
            place: place.clone(),
            format,
            source: None,
            records: Vec::new(),
            pending: Vec::new(),
        })
    }

    /// Starts a new head file; data and sma keep their names and content and grow.
    pub fn append(place: &Place, format: Format, source: DataSource) -> io::Result<Self> {
        let open = |entry: &FileEntry, ext| {
            let path = Place {
                cid: entry.cid,
                ..place.clone()
            }
            .path(ext);
            let image = logical_bytes(&path, format.page_size, entry.size)?;
            PageWriter::with_image(
                BufWriter::new(File::create(path)?),
                format.page_size,
                &image,
            )
        };
        Ok(Self {
            data: open(&source.data, "data")?,
            sma: open(&source.sma, "sma")?,
            place: place.clone(),
            format,
            source: Some(source),
            records: Vec::new(),
            pending: Vec::new(),
        })
    }

    /// Adds a row behind the others in order of (suid, uid, ts, key). Blocks end where a table does and when full.
    pub fn push(&mut self, row: StoredRow) -> io::Result<()> {
        let full = self.pending.len() >= self.format.max_rows;
        if full || self.pending.last().is_some_and(|last| last.uid != row.uid) {
            self.flush()?;
        }
        self.pending.push(row);
        Ok(())
    }

    /// Ends the block being filled.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            let rows = std::mem::take(&mut self.pending);
            self.block(&rows)?;
            self.pending = rows;
            self.pending.clear();
        }
        Ok(())
    }

    /// Writes sorted rows of one table as one block.
    fn block(&mut self, rows: &[StoredRow]) -> io::Result<()> {
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        let block = encode_block(rows, false, &self.format);
        let sma = statistics(rows);
        let (min_version, max_version) = version_range(rows);
        self.records.push(BrinRecord {
            suid: first.suid,
            uid: first.uid,
            first_ts: first.row.ts,
            first_version: first.version,
            last_ts: last.row.ts,
            last_version: last.version,
            pks: first.row.pk.clone().zip(last.row.pk.clone()),
            min_version,
            max_version,
            block_offset: self.data.position(),
            sma_offset: self.sma.position(),
            block_size: block.bytes.len() as i32,
            key_size: block.key_size,
            sma_size: sma.len() as i32,
            rows: rows.len() as i32,
            keys: distinct_keys(rows) as i32,
        });
        self.data.write(&block.bytes)?;
        self.sma.write(&sma)
    }

    /// Takes over a block that stays where it is in the data file.
    pub fn keep(&mut self, record: BrinRecord) -> io::Result<()> {
        self.flush()?;
        self.records.push(record);
        Ok(())
    }

    /// Writes the head file; answers the entries for `current.json` and the index records.
    pub fn finish(mut self) -> io::Result<(FileSet, Vec<BrinRecord>)> {
        self.flush()?;
        let place = self.place;
        let range = |f: fn(&BrinRecord) -> i64| self.records.iter().map(f).collect::<Vec<_>>();
        let written = range(|r| r.min_version)
            .into_iter()
            .min()
            .zip(range(|r| r.max_version).into_iter().max());
        let head_size = write_head(&place, &self.format, &self.records)?;
        let old = |entry: Option<&FileEntry>| entry.and_then(|e| e.min_version.zip(e.max_version));
        let (old_data, old_sma) = (
            self.source.as_ref().map(|s| &s.data),
            self.source.as_ref().map(|s| &s.sma),
        );
        let entry = |cid, size, before| {
            let both = union(written, before);
            FileEntry {
                min_version: both.map(|r| r.0),
                max_version: both.map(|r| r.1),
                ..FileEntry::new(place.fid, cid, size)
            }
        };
        let cid = |old: Option<&FileEntry>| old.map_or(place.cid, |e| e.cid);
        let head_before = self.source.as_ref().and_then(|s| s.head_versions);
        let head = entry(place.cid, head_size, head_before);
        let data = FileEntry {
            lcn: -1,
            ..entry(cid(old_data), self.data.finish()?, old(old_data))
        };
        let sma = entry(cid(old_sma), self.sma.finish()?, old(old_sma));
        let set = FileSet {
            fid: place.fid,
            head: Some(head),
            data: Some(data),
            sma: Some(sma),
            ..FileSet::default()
        };
        Ok((set, self.records))
    }
}

fn union(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        _ => a.or(b),
    }
}

/// Block statistics: of the INT column only.
fn statistics(rows: &[StoredRow]) -> Vec<u8> {
    let values = || rows.iter().filter_map(|r| r.row.value).map(i64::from);
    let mut b = Vec::new();
    if let Some(max) = values().max() {
        b.ivar(if rows[0].row.pk.is_some() { 3 } else { 2 });
        b.ivar((rows.len() - values().count()) as i64);
        b.i64(values().sum());
        b.i64(max);
        b.i64(values().min().unwrap());
    }
    b
}

fn write_head(place: &Place, format: &Format, records: &[BrinRecord]) -> io::Result<i64> {
    let mut w = PageWriter::new(
        BufWriter::new(File::create(place.path("head"))?),
        format.page_size,
    )?;
    let mut index = Vec::new();
    for group in groups(records, BRIN_GROUP, |r| r.pks.as_ref()) {
        let mut bytes = Vec::new();
        let mut columns = Columns {
            comp: format.comp,
            out: &mut bytes,
            sizes: Vec::new(),
        };
        columns.i64s(
            group,
            &[
                |r| r.suid,
                |r| r.uid,
                |r| r.first_ts,
                |r| r.first_version,
                |r| r.last_ts,
                |r| r.last_version,
                |r| r.min_version,
                |r| r.max_version,
                |r| r.block_offset,
                |r| r.sma_offset,
            ],
        );
        columns.i32s(
            group,
            &[
                |r| r.block_size,
                |r| r.key_size,
                |r| r.sma_size,
                |r| r.rows,
                |r| r.keys,
            ],
        );
        let sizes = columns.sizes;
        let pks: Vec<_> = group.iter().filter_map(|r| r.pks.clone()).collect();
        if !pks.is_empty() {
            pk_columns(format.comp, &pks, &mut bytes);
        }
        let (first, last) = (&group[0], &group[group.len() - 1]);
        for v in [
            w.position(),
            bytes.len() as i64,
            first.suid,
            first.uid,
            last.suid,
            last.uid,
        ] {
            index.i64(v);
        }
        index.i64(group.iter().map(|r| r.min_version).min().unwrap());
        index.i64(group.iter().map(|r| r.max_version).max().unwrap());
        index.i32(group.len() as i32);
        for size in sizes {
            index.i32(size);
        }
        index.u8(format.comp);
        index.u8((!pks.is_empty()).into());
        index.raw(&[0; 6]);
        w.write(&bytes)?;
    }
    let mut footer = Vec::new();
    footer.i64(w.position());
    footer.i64(index.len() as i64);
    footer.raw(&[0; 32]);
    w.write(&index)?;
    w.write(&footer)?;
    w.finish()
}

/// Writes a file set without stt and tomb files from rows sorted by (suid, uid, ts, key).
pub fn write_data_file_set(
    place: &Place,
    format: Format,
    rows: impl IntoIterator<Item = StoredRow>,
) -> io::Result<(FileSet, Vec<BrinRecord>)> {
    let mut w = DataSetWriter::create(place, format)?;
    for row in rows {
        w.push(row)?;
    }
    w.finish()
}
