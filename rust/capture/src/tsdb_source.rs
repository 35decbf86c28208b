//! Changes from the committed files.
//!
//! Indexes name the blocks with a version above the start; the key part of those blocks names the rows. What
//! was overwritten after the commit that is read is reported with its newer version: a consumer that reads
//! rows later sees that one. Versions above the committed one are therefore kept, never cut off.

use crate::{
    CaptureError, Change, Coverage, ReasonCode, RowView, Snapshot, VnodeDir,
    change::Sink,
    log_rows::LogRows,
    merge::{Run, merge},
    retry::read_racing,
    unreadable::{Reasons, Unreadables},
};
use model::{FileSetId, KeySpan, TableId, Version};
use std::{cell::Cell, collections::BTreeMap, fs::File, path::Path};
use tdfiles::{
    FormatError, Unreadable,
    current_json::{FileEntry, FileKind, FileSet},
    tsdb::{
        BrinRecord, HeadFile, StatisBlk, StatisRecord, SttBlk, SttFile, TombBlk, TombFile,
        TombRecord,
    },
    vnode_json::VnodeJson,
};

/// The committed files of one vnode.
#[derive(Debug)]
pub struct TsdbSource {
    snapshot: Snapshot,
    since: Version,
    compactions: Option<BTreeMap<FileSetId, i64>>,
    bytes_read: Cell<u64>,
    blocks_indexed: Cell<u64>,
}

/// Some rows of one table, as an index describes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) table: TableId,
    pub(crate) span: KeySpan,
    pub(crate) distinct: u64,
}

impl From<StatisRecord> for Piece {
    fn from(
        StatisRecord {
            table,
            span,
            distinct,
        }: StatisRecord,
    ) -> Self {
        Self {
            table,
            span,
            distinct,
        }
    }
}

impl From<BrinRecord> for Piece {
    fn from(
        BrinRecord {
            table,
            span,
            distinct,
            ..
        }: BrinRecord,
    ) -> Self {
        Self {
            table,
            span,
            distinct,
        }
    }
}

/// What can't be read counts as empty.
fn readable<T>(records: Result<Vec<T>, FormatError>) -> Result<Vec<T>, FormatError> {
    match records {
        Err(FormatError::Unreadable { .. }) => Ok(Vec::new()),
        records => records,
    }
}

impl TsdbSource {
    /// Opens the files that can hold something later than `since`.
    ///
    /// `compactions` is each file set's `last compact` time at the start, as [`Self::compactions`] gives it:
    /// where it differs now, deletes may have been applied and forgotten. Without it every compacted set is
    /// taken to have been compacted after the start.
    pub fn open(
        dir: &VnodeDir,
        since: Version,
        compactions: Option<BTreeMap<FileSetId, i64>>,
    ) -> Result<Self, CaptureError> {
        Ok(Self {
            snapshot: Snapshot::open(dir, since)?,
            since,
            compactions,
            bytes_read: Cell::new(0),
            blocks_indexed: Cell::new(0),
        })
    }

    /// The state that is read.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The rows of the files, which must all have been opened, and those that are later.
    pub(crate) fn into_view(self, log: Option<LogRows>) -> RowView {
        RowView::of(self.snapshot, log)
    }

    /// Each file set's `last compact` time, ms since the epoch; 0 for never.
    pub fn compactions(&self) -> BTreeMap<FileSetId, i64> {
        self.snapshot
            .current
            .file_sets
            .iter()
            .map(|set| (set.fid, set.last_compact.unwrap_or(0)))
            .collect()
    }

    /// Whether every file set says when it was last compacted; servers before 3.3.6 do not.
    pub(crate) fn compactions_show(&self) -> bool {
        self.snapshot
            .current
            .file_sets
            .iter()
            .all(|set| set.last_compact.is_some())
    }

    /// Bytes read from TSDB files so far.
    #[cfg(feature = "internals")]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Blocks that the indexes read so far describe.
    #[cfg(feature = "internals")]
    pub fn blocks_indexed(&self) -> u64 {
        self.blocks_indexed.get()
    }

    /// The pieces of tables in the opened files, newest file set first, by their indexes alone, until `each`
    /// returns false. What can't be read is left out.
    pub(crate) fn pieces(&self, each: &mut dyn FnMut(Piece) -> bool) -> Result<(), CaptureError> {
        let sets = self.snapshot.current.file_sets.iter().rev();
        let entries = |set: &'_ FileSet| {
            let head = set.merged.as_ref().map(|(head, _)| head.clone());
            set.stt.iter().cloned().chain(head).collect::<Vec<_>>()
        };
        for entry in sets.flat_map(entries) {
            let Some((file, path)) = self.snapshot.paged(&entry)? else {
                continue;
            };
            let format = || CaptureError::format(path);
            if entry.kind == FileKind::Stt {
                let stt = SttFile::open(file).map_err(format())?;
                for blk in stt.statis_blks() {
                    let records =
                        readable(stt.statis(blk, self.vnode().max_records())).map_err(format())?;
                    let mut pieces = records.into_iter().map(Piece::from);
                    if !pieces.all(&mut *each) {
                        return Ok(());
                    }
                }
            } else {
                let head = HeadFile::open(file).map_err(format())?;
                for blk in head.blks() {
                    let records =
                        readable(head.records(blk, self.vnode().max_records())).map_err(format())?;
                    let mut pieces = records.into_iter().map(Piece::from);
                    if !pieces.all(&mut *each) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls `sink` with every change later than `since` and returns what is proven about them. The first error of
    /// `sink` ends the scan.
    pub fn scan(
        &mut self,
        since: Version,
        sink: &mut dyn FnMut(Change<'_>) -> Result<(), CaptureError>,
    ) -> Result<Coverage, CaptureError> {
        debug_assert!(
            since >= self.since,
            "the files were opened for a later start"
        );
        self.since = since.max(self.since);
        let mut reasons = Reasons::default();
        let to = self.vnode().committed;
        if self.vnode().tsdb_encrypted {
            let text = "the TSDB files are encrypted, so no row of them can be read";
            reasons.add(ReasonCode::TsdbEncrypted, KeySpan::ALL, text.to_owned());
        } else if to > since {
            for set in &self.snapshot.current.file_sets {
                self.scan_set(set, sink, &mut reasons)?;
            }
        }
        Ok(Coverage {
            from: since,
            to: to.max(since),
            reasons: reasons.0,
        })
    }
    fn vnode(&self) -> &VnodeJson {
        &self.snapshot.vnode
    }

    fn compacted_since_start(&self, set: &FileSet) -> bool {
        if self.since <= Version::BEGINNING {
            return false; // every row is listed, and there is nothing that a delete could be missing in
        }
        let last = set.last_compact.unwrap_or(0);
        let at_start = self
            .compactions
            .as_ref()
            .and_then(|known| known.get(&set.fid));
        last != 0 && at_start != Some(&last)
    }

    fn scan_set(
        &self,
        set: &FileSet,
        sink: &mut Sink<'_>,
        reasons: &mut Reasons,
    ) -> Result<(), CaptureError> {
        let range = self.vnode().key_range(set.fid);
        if self.compacted_since_start(set) {
            let text = format!(
                "file set {} was compacted after the start, which may have applied and forgotten deletes",
                set.fid
            );
            reasons.add(ReasonCode::FileSetCompacted, range, text);
        }
        let unreadable = Unreadables::default();
        let mut stt_files = Vec::new();
        for entry in &set.stt {
            if let Some((file, path)) = self.snapshot.paged(entry)? {
                let opened = SttFile::open(file).map_err(CaptureError::format(path))?;
                stt_files.push((opened, path));
            }
        }
        let mut head_file = None;
        let mut runs = Vec::new();
        if let Some((head, data)) = &set.merged
            && let Some((file, path)) = self.snapshot.paged(head)?
        {
            let head = HeadFile::open(file).map_err(CaptureError::format(path))?;
            let head = head_file.insert(head);
            runs.push(self.data_run(head, path, data, &unreadable)?);
        }
        for (file, path) in &stt_files {
            runs.push(self.stt_run(file, path, &unreadable)?);
        }
        merge(runs, sink)?;

        let mut tombs = Vec::new();
        for (file, path) in &stt_files {
            let read = |blk: &TombBlk| file.tombs(blk, self.vnode().max_records());
            tombs.extend(self.deletes(path, file.tomb_blks(), read, range, &unreadable)?);
            self.count(file.bytes_read());
        }
        if let Some(entry) = &set.tomb
            && let Some((file, path)) = self.snapshot.paged(entry)?
        {
            let file = TombFile::open(file).map_err(CaptureError::format(path))?;
            let read = |blk: &TombBlk| file.records(blk, self.vnode().max_records());
            tombs.extend(self.deletes(path, file.blks(), read, range, &unreadable)?);
            self.count(file.bytes_read());
        }
        self.count(head_file.map_or(0, |head| head.bytes_read()));
        tombs.sort_unstable();
        tombs.dedup(); // a delete can stand in several files of a set
        for TombRecord {
            table,
            version,
            span,
        } in tombs
        {
            sink(Change::Delete {
                table,
                span,
                version,
            })?;
        }
        unreadable.report(range, sink, reasons)
    }

    /// The deletes in a file of a set that covers `range`, as far as they are later than the start.
    fn deletes(
        &self,
        path: &Path,
        blks: &[TombBlk],
        read: impl Fn(&TombBlk) -> Result<Vec<TombRecord>, FormatError>,
        range: KeySpan,
        unreadable: &Unreadables,
    ) -> Result<Vec<TombRecord>, CaptureError> {
        let mut deletes = Vec::new();
        for blk in blks.iter().filter(|blk| blk.max_version > self.since) {
            match read(blk) {
                Ok(records) => deletes.extend(records),
                Err(FormatError::Unreadable { why, .. }) => {
                    unreadable.all_tables(path, why, range);
                }
                Err(error) => return Err(CaptureError::format(path)(error)),
            }
        }
        deletes.retain(|record| record.version > self.since);
        Ok(deletes)
    }

    /// The blocks of a `.data` file that hold something later than the start.
    fn data_run<'a>(
        &'a self,
        head: &'a HeadFile<PagedFileSource<'a>>,
        head_path: &'a Path,
        data: &FileEntry,
        unreadable: &'a Unreadables,
    ) -> Result<Run<'a>, CaptureError> {
        let range = self.vnode().key_range(data.fid);
        let data = self.snapshot.paged(data)?;
        let path = data
            .as_ref()
            .map_or(head_path, |(_, path)| path)
            .to_path_buf();
        let mut blks = head
            .blks()
            .iter()
            .filter(|blk| blk.max_version > self.since);
        let mut records = Vec::new().into_iter();
        Run::new(path, self.since, move || {
            loop {
                let Some(record) = records.next() else {
                    let Some(blk) = blks.next() else {
                        if let Some((file, _)) = &data {
                            self.count(file.bytes_read());
                        }
                        return Ok(None);
                    };
                    match head.records(blk, self.vnode().max_records()) {
                        Ok(all) => {
                            self.blocks_indexed
                                .set(self.blocks_indexed.get() + all.len() as u64);
                            let mut later = all;
                            later.retain(|record| record.max_version > self.since);
                            records = later.into_iter();
                        }
                        Err(FormatError::Unreadable { why, .. }) => {
                            unreadable.all_tables(head_path, why, range);
                        }
                        Err(error) => return Err(CaptureError::format(head_path)(error)),
                    }
                    continue;
                };
                let rows = match &data {
                    Some((file, path)) => {
                        read_racing(|| file.key_rows(&record, self.vnode().max_rows))
                            .map_err(|e| (e, *path))
                    }
                    None => Err((shared_storage(record.offset), head_path)),
                };
                match rows {
                    Ok(rows) => return Ok(Some(rows)),
                    Err((FormatError::Unreadable { why, .. }, path)) => {
                        unreadable.block(
                            path,
                            why,
                            record.max_version,
                            [(record.table, record.span)],
                        );
                    }
                    Err((error, path)) => return Err(CaptureError::format(path)(error)),
                }
            }
        })
    }

    /// The blocks of a `.stt` file that hold something later than the start.
    fn stt_run<'a>(
        &'a self,
        file: &'a SttFile<PagedFileSource<'a>>,
        path: &'a Path,
        unreadable: &'a Unreadables,
    ) -> Result<Run<'a>, CaptureError> {
        self.blocks_indexed
            .set(self.blocks_indexed.get() + file.blks().len() as u64);
        let mut blks = file
            .blks()
            .iter()
            .filter(|blk| blk.max_version > self.since);
        Run::new(path.to_path_buf(), self.since, move || {
            loop {
                let Some(blk) = blks.next() else {
                    return Ok(None);
                };
                match file.key_rows(blk, self.vnode().max_rows) {
                    Ok(rows) => return Ok(Some(rows)),
                    Err(FormatError::Unreadable { why, .. }) => {
                        match tables_of(file, blk, self.vnode().max_records()) {
                            Ok(tables) => unreadable.block(path, why, blk.max_version, tables),
                            // Not even the statistics can be read: every table is concerned.
                            Err(FormatError::Unreadable { .. }) => {
                                unreadable.all_tables(path, why, blk.span);
                            }
                            Err(error) => return Err(CaptureError::format(path)(error)),
                        }
                    }
                    Err(error) => return Err(CaptureError::format(path)(error)),
                }
            }
        })
    }

    fn count(&self, bytes: u64) {
        self.bytes_read.set(self.bytes_read.get() + bytes);
    }
}

type PagedFileSource<'a> = &'a File;

/// The tables that a block of an `.stt` file can hold rows of, by the file's statistics, and the keys that those rows
/// can have.
pub(crate) fn tables_of(
    file: &SttFile<PagedFileSource<'_>>,
    blk: &SttBlk,
    max_records: usize,
) -> Result<Vec<(TableId, KeySpan)>, FormatError> {
    let (first, last) = blk.tables();
    let mut tables = Vec::new();
    let may_hold = |statis: &&StatisBlk| statis.min <= last && first <= statis.max;
    for statis in file.statis_blks().iter().filter(may_hold) {
        for record in file.statis(statis, max_records)? {
            if (first..=last).contains(&record.table) && record.span.overlaps(blk.span) {
                let first = record.span.first.max(blk.span.first);
                let last = record.span.last.min(blk.span.last);
                tables.push((record.table, KeySpan { first, last }));
            }
        }
    }
    Ok(tables)
}

pub(crate) fn shared_storage(offset: u64) -> FormatError {
    FormatError::Unreadable {
        what: "row block",
        offset,
        why: Unreadable::SharedStorage,
    }
}
