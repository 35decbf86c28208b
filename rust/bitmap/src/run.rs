//! A run: rows in ascending order of their keys, immutable, in chunks; in memory, on disk, or both.

use crate::{
    bytes::Bytes,
    chunk::{self, CHUNK_ROWS, Chunk},
    disk::Serial,
    error::EngineError,
    memory::{Charge, Memory},
    row::{Key, Row},
    run_file::RunFile,
};
use parking_lot::RwLock;
use std::{
    marker::PhantomData,
    mem::size_of,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Where a chunk starts in its run, and the key of its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) first: Key,
    pub(crate) offset: u64,
}

/// Counts the chunks that were read, so that each run can note when it was last used.
static CLOCK: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
struct Resident {
    bytes: Arc<Bytes>,
    _charge: Charge,
}

/// A sorted, immutable sequence of rows.
#[derive(Debug)]
pub(crate) struct Run<R> {
    pub(crate) serial: Serial,
    pub(crate) rows: u64,
    pub(crate) last: Key,
    pub(crate) fences: Vec<Fence>,
    pub(crate) length: u64,
    resident: RwLock<Option<Resident>>,
    file: OnceLock<RunFile>,
    used: AtomicU64,
    _charge: Charge,
    row: PhantomData<R>,
}

/// What a run is made of.
pub(crate) struct RunParts {
    pub(crate) serial: Serial,
    pub(crate) rows: u64,
    pub(crate) last: Key,
    pub(crate) fences: Vec<Fence>,
    pub(crate) length: u64,
}

impl RunParts {
    /// The last key that chunk `index` can hold.
    pub(crate) fn end_of(&self, index: usize) -> Key {
        let next = self.fences.get(index + 1);
        next.map_or(self.last, |f| (f.first.0.saturating_sub(1), u64::MAX))
    }
}

impl<R: Row> Run<R> {
    pub(crate) fn new(
        parts: RunParts,
        bytes: Option<Vec<u8>>,
        file: Option<RunFile>,
        memory: &Arc<Memory>,
    ) -> Self {
        let RunParts {
            serial,
            rows,
            last,
            mut fences,
            length,
        } = parts;
        fences.shrink_to_fit();
        let charge = Charge::new(
            memory,
            size_of::<Self>() + fences.capacity() * size_of::<Fence>(),
        );
        let resident = bytes.map(|bytes| Resident {
            _charge: Charge::new(memory, bytes.len()),
            bytes: Arc::new(bytes.into()),
        });
        let slot = OnceLock::new();
        if let Some(file) = file {
            let _ = slot.set(file);
        }
        Self {
            serial,
            rows,
            last,
            fences,
            length,
            resident: RwLock::new(resident),
            file: slot,
            used: AtomicU64::new(CLOCK.fetch_add(1, Relaxed)),
            _charge: charge,
            row: PhantomData,
        }
    }

    /// The key of the first row.
    pub(crate) fn first(&self) -> Key {
        self.fences.first().map_or(self.last, |fence| fence.first)
    }

    /// The chunk that `key` is in, if it is in one.
    pub(crate) fn chunk_of(&self, key: Key) -> usize {
        self.fences
            .partition_point(|fence| fence.first <= key)
            .saturating_sub(1)
    }

    fn bounds(&self, index: usize) -> Option<(u64, u64)> {
        let start = self.fences.get(index)?.offset;
        let end = self.fences.get(index + 1).map_or(self.length, |f| f.offset);
        Some((start, end))
    }

    /// Chunk `index`, `None` past the last one.
    pub(crate) fn chunk(&self, index: usize) -> Result<Option<Chunk<R>>, EngineError> {
        let Some((start, end)) = self.bounds(index) else {
            return Ok(None);
        };
        let (bytes, at, to) = self.bytes_of(start, end)?;
        Chunk::parse(bytes, at, to)
            .map(Some)
            .map_err(|problem| self.damaged(start, problem.0))
    }

    /// The encoded bytes of chunk `index`, `None` past the last one.
    pub(crate) fn encoded_chunk(&self, index: usize) -> Result<Option<Vec<u8>>, EngineError> {
        let Some((start, end)) = self.bounds(index) else {
            return Ok(None);
        };
        let (bytes, at, to) = self.bytes_of(start, end)?;
        Ok(bytes.get(at..to).map(<[u8]>::to_vec))
    }

    fn bytes_of(&self, start: u64, end: u64) -> Result<(Arc<Bytes>, usize, usize), EngineError> {
        self.used.store(CLOCK.fetch_add(1, Relaxed), Relaxed);
        if let Some(resident) = &*self.resident.read() {
            return Ok((Arc::clone(&resident.bytes), start as usize, end as usize));
        }
        let Some(file) = self.file.get() else {
            return Err(self.damaged(start, "the run has neither memory nor a file"));
        };
        let bytes = file.read(start, (end - start) as usize)?;
        if !chunk::is_intact(&bytes) {
            return Err(self.damaged(start, "the checksum of a chunk does not match"));
        }
        let length = bytes.len();
        Ok((Arc::new(bytes.into()), 0, length))
    }

    fn damaged(&self, offset: u64, what: &'static str) -> EngineError {
        let (path, start) = match self.file.get() {
            Some(file) => (file.path().to_path_buf(), file.data_start()),
            None => (PathBuf::from("memory"), 0),
        };
        EngineError::Damaged {
            path,
            offset: start + offset,
            what,
        }
    }

    /// All bytes, if they are in memory.
    pub(crate) fn resident_bytes(&self) -> Option<Arc<Bytes>> {
        let resident = self.resident.read();
        resident
            .as_ref()
            .map(|resident| Arc::clone(&resident.bytes))
    }

    /// Drops the copy in memory of a run that is on disk.
    pub(crate) fn evict(&self) {
        if self.file.get().is_some() {
            *self.resident.write() = None;
        }
    }

    /// When the run was last read, in ticks of the clock.
    pub(crate) fn last_used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The run's file, once it has one.
    pub(crate) fn file(&self) -> Option<&RunFile> {
        self.file.get()
    }

    /// The run is on disk now.
    pub(crate) fn set_file(&self, file: RunFile) {
        let _ = self.file.set(file);
    }
}

/// Makes a run of rows that come in ascending order.
pub(crate) struct RunBuilder<R> {
    pending: Vec<R>,
    bytes: Vec<u8>,
    fences: Vec<Fence>,
    rows: u64,
    last: Key,
}

impl<R: Row> RunBuilder<R> {
    pub(crate) fn new() -> Self {
        Self {
            pending: Vec::with_capacity(CHUNK_ROWS),
            bytes: Vec::new(),
            fences: Vec::new(),
            rows: 0,
            last: (0, 0),
        }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> u64 {
        self.rows + self.pending.len() as u64
    }

    /// Adds the next row.
    #[inline]
    pub(crate) fn push(&mut self, row: R) {
        self.pending.push(row);
        if self.pending.len() == CHUNK_ROWS {
            self.encode_pending();
        }
    }

    /// Adds all rows of an encoded chunk, which come next.
    pub(crate) fn push_chunk(&mut self, encoded: &[u8], first: Key, last: Key, rows: u64) {
        self.encode_pending();
        self.fences.push(Fence {
            first,
            offset: self.bytes.len() as u64,
        });
        self.bytes.extend_from_slice(encoded);
        self.rows += rows;
        self.last = last;
    }

    /// Adds sorted rows without a copy.
    pub(crate) fn push_all(&mut self, rows: &[R]) {
        for rows in rows.chunks(CHUNK_ROWS) {
            self.encode_pending();
            self.encode(rows);
        }
    }

    fn encode_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.encode(&pending);
        self.pending = pending;
        self.pending.clear();
    }

    fn encode(&mut self, rows: &[R]) {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return;
        };
        self.fences.push(Fence {
            first: first.key(),
            offset: self.bytes.len() as u64,
        });
        self.last = last.key();
        self.rows += rows.len() as u64;
        chunk::encode(rows, &mut self.bytes);
    }

    /// The run, if any row was added.
    pub(crate) fn finish(mut self, serial: Serial, memory: &Arc<Memory>) -> Option<Run<R>> {
        self.encode_pending();
        if self.rows == 0 {
            return None;
        }
        self.bytes.shrink_to_fit();
        let parts = RunParts {
            serial,
            rows: self.rows,
            last: self.last,
            fences: self.fences,
            length: self.bytes.len() as u64,
        };
        Some(Run::new(parts, Some(self.bytes), None, memory))
    }
}

/// A run of any tree.
pub(crate) trait OnDisk: std::fmt::Debug + Send + Sync {
    fn serial(&self) -> Serial;
    fn evict(&self);
    fn needs_its_name(&self) -> bool;
}

impl<R: Row> OnDisk for Run<R> {
    fn serial(&self) -> Serial {
        self.serial
    }

    fn evict(&self) {
        self.evict();
    }

    fn needs_its_name(&self) -> bool {
        self.file().is_none_or(RunFile::needs_its_name)
    }
}
