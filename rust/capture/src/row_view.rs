//! The rows of a vnode as they were at one version: at a commit, or at the end of its log.

use crate::{
    CaptureError, Snapshot, VnodeDir,
    log_rows::LogRows,
    retry::{ATTEMPTS, pause, read_racing},
    row_batches::{BatchSink, Batches},
    row_choice::{RowChoice, WantedRows},
    row_merge::{RowRun, merge_rows},
    tsdb_source::{shared_storage, tables_of},
};
use model::{FileSetId, KeySpan, TableId, Version};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};
use tdfiles::{
    FormatError,
    current_json::{FileEntry, FileSet},
    tsdb::{BrinRecord, HeadFile, SttFile, TombFile, TombRecord},
};

/// The rows of a vnode as they were at one version, for as long as this exists: its files are open, and a server that
/// deletes or replaces them does not change what is read.
#[derive(Debug)]
pub struct RowView {
    snapshot: Snapshot,
    /// What is later than the files.
    log: Option<LogRows>,
    /// What was found damaged, where that does not end the reading.
    damage: Option<Mutex<Vec<String>>>,
}

/// Damaged places that are told; a disk that dies has any number of them.
const DAMAGE_TOLD: usize = 20;

/// What [`RowView::read`] could not read, so that another source has to be asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Wanted keys of these tables; none of their rows were handed on.
    Spans(Vec<(TableId, KeySpan)>),
    /// All that was wanted of the file set, as an index is of a form that is not known, or everything is encrypted. What
    /// was handed on is to be forgotten.
    Everything,
}

impl RowView {
    /// Opens the committed files of a vnode.
    ///
    /// # Errors
    /// A file can't be read, or the directory does not hold still.
    pub fn open(dir: &VnodeDir) -> Result<Self, CaptureError> {
        for attempt in 0..ATTEMPTS {
            let snapshot = Snapshot::open(dir, Version::BEGINNING)?;
            if snapshot.is_exact(dir)? {
                return Ok(Self::of(snapshot, None));
            }
            pause(attempt);
        }
        Err(CaptureError::NeverStable {
            path: dir.primary.clone(),
            attempts: ATTEMPTS,
        })
    }

    /// Opens the committed files of a vnode and its log; `None` if they can't tell for sure which rows there are, as the log
    /// is encrypted or has gaps, or says something that this build does not know.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_log(dir: &VnodeDir) -> Result<Option<Self>, CaptureError> {
        dir.rows_with_log()
    }

    /// The rows of files that are open, all of them, and of one commit, and those that are later.
    pub(crate) fn of(snapshot: Snapshot, log: Option<LogRows>) -> Self {
        Self {
            snapshot,
            log,
            damage: None,
        }
    }

    /// From now on damaged blocks count as unread, and the rest of a file is read: for files of which there is no other copy.
    #[must_use]
    pub fn past_damage(mut self) -> Self {
        self.damage = Some(Mutex::default());
        self
    }

    /// What [`Self::read`] has found damaged, the first places of it.
    pub fn damage(&self) -> Vec<String> {
        let found = self.damage.as_ref();
        found.map_or_else(Vec::new, |found| found.lock().clone())
    }

    /// Whether an error only means that something is unread.
    fn is_passed(&self, path: &Path, error: &FormatError) -> bool {
        if matches!(error, FormatError::Unreadable { .. }) {
            return true;
        }
        let Some(damage) = &self.damage else {
            return false;
        };
        let mut damage = damage.lock();
        if damage.len() < DAMAGE_TOLD {
            damage.push(format!("{}: {error}", path.display()));
        }
        true
    }

    /// As [`Self::open_with_log`], without the catalogue: the log must reach back to the first request. Keys before `oldest`
    /// are past KEEP.
    #[cfg(feature = "internals")]
    pub fn open_with_whole_log(
        dir: &VnodeDir,
        oldest: model::Key,
    ) -> Result<Option<Self>, CaptureError> {
        let snapshot = Snapshot::open(dir, Version::BEGINNING)?;
        let vnode = &snapshot.vnode;
        let log = crate::WalSource::open(dir, vnode, Version::BEGINNING, Version::BEGINNING)?;
        let log = LogRows::of_whole(&log, vnode, oldest)?;
        Ok(log.map(|log| Self::of(snapshot, Some(log))))
    }

    /// Every row up to this version is there, and none that is later.
    pub fn version(&self) -> Version {
        let committed = self.snapshot.vnode.committed;
        self.log.as_ref().map_or(committed, LogRows::last)
    }

    /// The file sets, ascending, each with the keys that it can hold. Some may not have been written yet.
    pub fn file_sets(&self) -> Vec<(FileSetId, KeySpan)> {
        let written = self.snapshot.current.file_sets.iter().map(|set| set.fid);
        let mut sets: BTreeSet<FileSetId> = written.collect();
        sets.extend(self.log.iter().flat_map(LogRows::file_sets));
        sets.into_iter()
            .map(|set| (set, self.snapshot.vnode.key_range(set)))
            .collect()
    }

    /// Hands on the wanted rows of a file set, in the order of table and key. The first error of `sink` ends the reading.
    ///
    /// # Errors
    /// The files are damaged.
    pub fn read(
        &self,
        fid: FileSetId,
        wanted: &WantedRows,
        sink: &mut BatchSink<'_>,
    ) -> Result<Unread, CaptureError> {
        if self.snapshot.vnode.tsdb_encrypted {
            return Ok(Unread::Everything);
        }
        match self.read_readable(fid, wanted, sink) {
            Ok(spans) => Ok(Unread::Spans(spans)),
            Err(CaptureError::Format { path, source }) if self.is_passed(&path, &source) => {
                Ok(Unread::Everything)
            }
            Err(error) => Err(error),
        }
    }

    fn read_readable(
        &self,
        fid: FileSetId,
        wanted: &WantedRows,
        sink: &mut BatchSink<'_>,
    ) -> Result<Vec<(TableId, KeySpan)>, CaptureError> {
        let sets = &self.snapshot.current.file_sets;
        let set = sets.iter().find(|set| set.fid == fid);
        let mut stt_files = Vec::new();
        for entry in set.iter().flat_map(|set| &set.stt) {
            if let Some((file, path)) = self.snapshot.paged(entry)? {
                let opened = SttFile::open(file).map_err(CaptureError::format(path))?;
                stt_files.push((opened, path));
            }
        }
        let range = self.snapshot.vnode.key_range(fid);
        let mut deletes = self.deletes(set, &stt_files)?;
        if let Some(log) = &self.log {
            deletes.extend(log.deletes(|table| wanted.contains_key(&table)));
        }
        let choice = RowChoice::new(wanted, range, deletes);
        let head = match set.and_then(|set| set.merged.as_ref()) {
            Some((head, data)) => self.snapshot.paged(head)?.map(|head| (head, data)),
            None => None,
        };
        let head = match head {
            Some(((file, path), data)) => {
                let head = HeadFile::open(file).map_err(CaptureError::format(path))?;
                Some((head, path, data))
            }
            None => None,
        };
        let mut runs = Vec::new();
        if let Some((head, path, data)) = &head {
            runs.push(self.data_run(head, path, data, &choice)?);
        }
        for (file, path) in &stt_files {
            runs.push(self.stt_run(file, path, &choice));
        }
        if let Some(log) = &self.log {
            log.note_doubts(&choice, range);
            let path = PathBuf::from("the rows of the log");
            runs.push(RowRun::new(path, log.blocks(&choice, range)));
        }
        merge_rows(runs, &choice, &mut Batches::new(sink))?;
        Ok(choice.unread())
    }

    fn deletes(
        &self,
        set: Option<&FileSet>,
        stt_files: &[(SttFile<&File>, &Path)],
    ) -> Result<Vec<TombRecord>, CaptureError> {
        let max = self.snapshot.vnode.max_records();
        let mut tombs = Vec::new();
        for (file, path) in stt_files {
            for blk in file.tomb_blks() {
                tombs.extend(file.tombs(blk, max).map_err(CaptureError::format(*path))?);
            }
        }
        if let Some(entry) = set.and_then(|set| set.tomb.as_ref())
            && let Some((file, path)) = self.snapshot.paged(entry)?
        {
            let file = TombFile::open(file).map_err(CaptureError::format(path))?;
            for blk in file.blks() {
                tombs.extend(file.records(blk, max).map_err(CaptureError::format(path))?);
            }
        }
        Ok(tombs)
    }

    /// The blocks of a `.data` file that hold something wanted.
    fn data_run<'a>(
        &'a self,
        head: &'a HeadFile<&'a File>,
        head_path: &'a Path,
        data: &FileEntry,
        choice: &'a RowChoice<'_>,
    ) -> Result<RowRun<'a>, CaptureError> {
        let data = self.snapshot.paged(data)?;
        let path = data
            .as_ref()
            .map_or(head_path, |(_, path)| path)
            .to_path_buf();
        let mut blks = head
            .blks()
            .iter()
            .filter(|blk| choice.wants_between(blk.min, blk.max));
        let mut records = Vec::new().into_iter();
        Ok(RowRun::new(path, move || {
            loop {
                let record: BrinRecord = match records.next() {
                    Some(record) => record,
                    None => {
                        let Some(blk) = blks.next() else {
                            return Ok(None);
                        };
                        let mut all = head
                            .records(blk, self.snapshot.vnode.max_records())
                            .map_err(CaptureError::format(head_path))?;
                        all.retain(|record| choice.wants_some(record.table, record.span));
                        records = all.into_iter();
                        continue;
                    }
                };
                let (block, path) = match &data {
                    Some((file, path)) => {
                        let read = || file.row_block(&record, self.snapshot.vnode.max_rows);
                        (read_racing(read), *path)
                    }
                    None => (Err(shared_storage(record.offset)), head_path),
                };
                match block {
                    Ok(block) => return Ok(Some(block)),
                    Err(error) if self.is_passed(path, &error) => {
                        choice.cant_read(record.table, record.span);
                    }
                    Err(error) => return Err(CaptureError::format(path)(error)),
                }
            }
        }))
    }

    /// The blocks of a `.stt` file that hold something wanted.
    fn stt_run<'a>(
        &'a self,
        file: &'a SttFile<&'a File>,
        path: &'a Path,
        choice: &'a RowChoice<'_>,
    ) -> RowRun<'a> {
        let mut blks = file.blks().iter().filter(|blk| {
            let (first, last) = blk.tables();
            choice.wants_some_between(first, last, blk.span)
        });
        RowRun::new(path.to_path_buf(), move || {
            loop {
                let Some(blk) = blks.next() else {
                    return Ok(None);
                };
                match file.row_block(blk, self.snapshot.vnode.max_rows) {
                    Ok(block) => return Ok(Some(block)),
                    Err(error) if self.is_passed(path, &error) => {
                        match tables_of(file, blk, self.snapshot.vnode.max_records()) {
                            Ok(tables) => {
                                for (table, span) in tables {
                                    choice.cant_read(table, span);
                                }
                            }
                            Err(error) if self.is_passed(path, &error) => {
                                let (first, last) = blk.tables();
                                choice.cant_read_between(first, last, blk.span);
                            }
                            Err(error) => return Err(CaptureError::format(path)(error)),
                        }
                    }
                    Err(error) => return Err(CaptureError::format(path)(error)),
                }
            }
        })
    }
}
