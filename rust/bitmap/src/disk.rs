//! The files of an engine: their names, layouts, and how they are written and read.
//!
//! | file | content |
//! |---|---|
//! | `LOCK` | empty; locked while an engine has the directory open |
//! | `MANIFEST`, `MANIFEST.copy` | which runs make up the trees, and the ranges that were damaged (see manifest.rs) |
//! | `run-<serial>` | one run |
//!
//! Every file is written under a temporary name, synced, renamed and its directory synced. A run's file never
//! changes. A manifest is replaced as a whole, so at any moment the directory holds one complete state.
//!
//! A run, little-endian:
//! ```text
//! 8    magic "TDBMRUN\n"
//! u32  format version, that of the manifest, which is read first
//! u32  tree: 0 records, 1 by time, 2 by WAL
//! u64  rows
//! u64  bytes of chunks
//! u64  chunks
//! u64, u64  key of the last row
//! per chunk: u64, u64 key of its first row, u64 offset from the first chunk
//! u32  CRC-32C of everything before it
//! the chunks, each with its own checksum (see chunk.rs)
//! ```

use crate::{
    bytes::Bytes,
    chunk::{self, Chunk, MAX_CHUNK_BYTES},
    error::EngineError,
    manifest::RunEntry,
    memory::Memory,
    row::{Key, Row},
    run::{Fence, Run, RunBuilder, RunParts, Serial},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The format version of every file.
pub(crate) const FORMAT: u32 = 2;

const RUN_MAGIC: &[u8; 8] = b"TDBMRUN\n";
const RUN_HEADER: usize = 8 + 4 + 4 + 8 + 8 + 8 + 16;
const FENCE: usize = 24;
/// No run has more rows, and so chunks, than two that merging calls full. A file may be sparse: its size proves nothing.
const MOST_CHUNKS: u64 = 1 << 22;
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Which tree a run belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum TreeKind {
    Records = 0,
    ByTime = 1,
    ByWal = 2,
}

/// Files of runs that an engine keeps open, at most: a process may often have no more than 1 024. Others are opened for
/// each chunk that is read.
const MOST_OPEN: usize = 256;

/// A file that is kept open, and counted.
#[derive(Debug)]
struct Open {
    file: File,
    open: Arc<AtomicUsize>,
}

impl Open {
    fn new(file: File, open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Relaxed);
        Self {
            file,
            open: Arc::clone(open),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

/// A run's file.
#[derive(Debug)]
pub(crate) struct RunFile {
    file: Option<Open>,
    path: PathBuf,
    data_start: u64,
}

impl RunFile {
    /// A file that is open for reading.
    fn new(file: File, path: PathBuf, data_start: u64, open: &Arc<AtomicUsize>) -> Self {
        Self {
            file: Some(Open::new(file, open)),
            path,
            data_start,
        }
    }

    /// The same, closed if many are open.
    fn settled(mut self) -> Self {
        self.file = self
            .file
            .filter(|file| file.open.load(Relaxed) <= MOST_OPEN);
        self
    }

    /// Can it be read only as long as it has its name?
    pub(crate) fn needs_its_name(&self) -> bool {
        self.file.is_none()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn data_start(&self) -> u64 {
        self.data_start
    }

    /// `length` bytes of the chunks from `offset` on.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, EngineError> {
        if length > MAX_CHUNK_BYTES {
            return Err(EngineError::Damaged {
                path: self.path.clone(),
                offset,
                what: "a chunk is longer than any chunk can be",
            });
        }
        let mut bytes = vec![0; length];
        let at = self.data_start + offset;
        let read = match &self.file {
            Some(open) => open.file.read_exact_at(&mut bytes, at),
            None => File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, at)),
        };
        read.map_err(io_error("reading", &self.path))?;
        Ok(bytes)
    }
}

/// A run read back: what is whole of it.
pub(crate) enum ReadRun<R> {
    /// All of it.
    Whole(Run<R>),
    /// Not all of it. Its intact chunks, and the key ranges of the others.
    Damaged {
        intact: RunBuilder<R>,
        lost: Vec<(Key, Key)>,
        offset: u64,
        what: &'static str,
    },
}

/// The directory of an engine, locked.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    /// Files of runs that are open.
    open: Arc<AtomicUsize>,
    _lock: File,
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_path_buf();
    move |source| EngineError::Io {
        action,
        path,
        source,
    }
}

/// Creates `dir`, an absolute path, and what it lies in where they are missing. Their names survive a crash.
fn create_durably(dir: &Path) -> Result<(), EngineError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir).map_err(io_error("creating", dir))?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(io_error("syncing", parent))?;
    }
    Ok(())
}

/// Locks `lock`. A program that forks holds the lock of a closed engine until its child executes another program,
/// so a taken lock is tried again for a moment.
fn lock_exclusively(lock: &File, dir: &Path) -> Result<(), EngineError> {
    for attempt in 1.. {
        match rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if attempt < LOCK_ATTEMPTS => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(EngineError::Locked {
                    path: dir.to_path_buf(),
                });
            }
            Err(error) => return Err(io_error("locking", dir)(error.into())),
        }
    }
    Ok(())
}

impl Disk {
    /// Creates the directory where it is missing and locks it.
    pub(crate) fn open(dir: &Path) -> Result<Self, EngineError> {
        // The process may change its working directory while the engine runs.
        let dir = &std::path::absolute(dir).map_err(io_error("finding", dir))?;
        create_durably(dir)?;
        let path = dir.join("LOCK");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("opening", &path))?;
        lock_exclusively(&lock, dir)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            open: Arc::default(),
            _lock: lock,
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    fn run_path(&self, serial: Serial) -> PathBuf {
        self.dir.join(format!("run-{:016x}", serial.0))
    }

    /// Writes a file under a temporary name and gives it its own, which a crash may take back until the directory is synced.
    pub(crate) fn publish(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<File, EngineError> {
        let temporary = path.with_extension("tmp");
        let file = Self::write_synced(&temporary, write);
        let file = file.and_then(|file| {
            fs::rename(&temporary, path).map_err(io_error("renaming", &temporary))?;
            Ok(file)
        });
        if file.is_err() {
            // It may hold the space whose lack is the error.
            let _ = fs::remove_file(&temporary);
        }
        file
    }

    /// Writes a file and waits until its content is on disk.
    fn write_synced(
        temporary: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<File, EngineError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(temporary)
            .map_err(io_error("creating", temporary))?;
        let mut writer = BufWriter::with_capacity(1 << 18, &file);
        write(&mut writer)
            .and_then(|()| writer.flush())
            .map_err(io_error("writing", temporary))?;
        drop(writer);
        file.sync_all().map_err(io_error("syncing", temporary))?;
        Ok(file)
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync_directory(&self) -> Result<(), EngineError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(io_error("syncing", &self.dir))
    }

    /// Writes the file of a run that is in memory. It counts once a manifest names it.
    pub(crate) fn write_run<R: Row>(
        &self,
        run: &Run<R>,
        kind: TreeKind,
    ) -> Result<(), EngineError> {
        let Some(bytes) = run.resident_bytes() else {
            return Ok(());
        };
        let mut header = Vec::with_capacity(RUN_HEADER + run.fences.len() * FENCE + 4);
        header.extend_from_slice(RUN_MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&(kind as u32).to_le_bytes());
        for value in [
            run.rows,
            run.length,
            run.fences.len() as u64,
            run.last.0,
            run.last.1,
        ] {
            header.extend_from_slice(&value.to_le_bytes());
        }
        for fence in &run.fences {
            for value in [fence.first.0, fence.first.1, fence.offset] {
                header.extend_from_slice(&value.to_le_bytes());
            }
        }
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        let path = self.run_path(run.serial);
        let file = self.publish(&path, |writer| {
            writer.write_all(&header)?;
            writer.write_all(&bytes)
        })?;
        run.set_file(RunFile::new(file, path, header.len() as u64, &self.open).settled());
        Ok(())
    }

    /// Reads the run that the manifest calls `entry`, checking every byte of it.
    pub(crate) fn read_run<R: Row>(
        &self,
        entry: &RunEntry,
        kind: TreeKind,
        memory: &Arc<Memory>,
    ) -> Result<ReadRun<R>, EngineError> {
        let path = self.run_path(Serial(entry.serial));
        let all_lost = |what| ReadRun::Damaged {
            intact: RunBuilder::new(),
            lost: vec![(entry.first, entry.last)],
            offset: 0,
            what,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(all_lost("the file is missing"));
            }
            Err(error) => return Err(io_error("opening", &path)(error)),
        };
        let size = file.metadata().map_err(io_error("reading", &path))?.len();
        let read = |offset: u64, length: usize| -> Result<Option<Vec<u8>>, EngineError> {
            if offset
                .checked_add(length as u64)
                .is_none_or(|end| end > size)
            {
                return Ok(None);
            }
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)
                .map_err(io_error("reading", &path))?;
            Ok(Some(bytes))
        };
        let Some(mut header) = read(0, RUN_HEADER)? else {
            return Ok(all_lost("the header is cut off"));
        };
        if !header.starts_with(RUN_MAGIC) {
            return Ok(all_lost("it does not start like a run"));
        }
        let chunks = long(&header, 32);
        let fences_end = chunks
            .checked_mul(FENCE as u64)
            .and_then(|bytes| bytes.checked_add(4))
            .filter(|&bytes| bytes <= size && chunks <= MOST_CHUNKS);
        let Some(fences_length) = fences_end else {
            return Ok(all_lost("the number of chunks is too large"));
        };
        let Some(rest) = read(RUN_HEADER as u64, fences_length as usize)? else {
            return Ok(all_lost("the header is cut off"));
        };
        header.extend_from_slice(&rest);
        let Some((body, crc)) = header.split_last_chunk::<4>() else {
            return Ok(all_lost("the header is cut off"));
        };
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return Ok(all_lost("the checksum of the header does not match"));
        }
        let version = short(body, 8);
        if version != FORMAT {
            return Err(EngineError::UnknownFormat {
                path,
                found: version,
                known: FORMAT,
            });
        }
        let parts = RunParts {
            serial: Serial(entry.serial),
            rows: long(body, 16),
            length: long(body, 24),
            last: (long(body, 40), long(body, 48)),
            fences: body[RUN_HEADER..]
                .chunks_exact(FENCE)
                .map(|fence| Fence {
                    first: (long(fence, 0), long(fence, 8)),
                    offset: long(fence, 16),
                })
                .collect(),
        };
        let ascending = parts.fences.windows(2).all(|w| {
            w[0].first < w[1].first
                && w[0].offset < w[1].offset
                && w[1].offset - w[0].offset <= MAX_CHUNK_BYTES as u64
        });
        let starts = parts
            .fences
            .first()
            .is_some_and(|fence| fence.offset == 0 && fence.first == entry.first);
        let ends = parts.fences.last().is_some_and(|fence| {
            fence.first <= parts.last
                && fence.offset < parts.length
                && parts.length - fence.offset <= MAX_CHUNK_BYTES as u64
        });
        if short(body, 12) != kind as u32
            || parts.last != entry.last
            || !ascending
            || !starts
            || !ends
        {
            return Ok(all_lost("it is not the run the manifest names"));
        }
        let data_start = header.len() as u64;
        let file = RunFile::new(file, path, data_start, &self.open);
        check_chunks(parts, file, size, memory)
    }

    /// The files of runs in the directory, unfinished ones too.
    pub(crate) fn run_files(&self) -> Result<Vec<PathBuf>, EngineError> {
        let entries = fs::read_dir(&self.dir).map_err(io_error("listing", &self.dir))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("listing", &self.dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(is_run_name) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Removes the run files that are not among `keep`, and unfinished ones.
    pub(crate) fn remove_leftovers(
        &self,
        keep: &std::collections::HashSet<Serial>,
    ) -> Result<(), EngineError> {
        let keep: std::collections::HashSet<PathBuf> =
            keep.iter().map(|&serial| self.run_path(serial)).collect();
        for path in self.run_files()? {
            if !keep.contains(&path) {
                fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Removes the file of a run that no manifest names any more.
    pub(crate) fn remove_run(&self, serial: Serial) -> Result<(), EngineError> {
        let path = self.run_path(serial);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

fn check_chunks<R: Row>(
    parts: RunParts,
    file: RunFile,
    size: u64,
    memory: &Arc<Memory>,
) -> Result<ReadRun<R>, EngineError> {
    let mut intact = RunBuilder::new();
    let mut lost = Vec::new();
    let mut first_damage = None;
    let mut count = 0;
    for (i, fence) in parts.fences.iter().enumerate() {
        let next = parts.fences.get(i + 1);
        let end = next.map_or(parts.length, |fence| fence.offset);
        let cut = file
            .data_start
            .checked_add(end)
            .is_none_or(|end| end > size);
        let rows = if cut {
            Err("a chunk is cut off")
        } else {
            let bytes = file.read(fence.offset, (end - fence.offset) as usize)?;
            let kept = first_damage.is_some().then_some(&mut intact);
            read_chunk(bytes, fence.first, kept)
        };
        match rows {
            Ok(rows) => count += rows,
            Err(what) => {
                if first_damage.is_none() {
                    first_damage = Some((fence.offset, what));
                    keep_chunks(&parts, &file, i, &mut intact, &mut lost)?;
                }
                lost.push((fence.first, parts.end_of(i)));
            }
        }
    }
    if let Some((offset, what)) = first_damage {
        return Ok(ReadRun::Damaged {
            intact,
            lost,
            offset: file.data_start + offset,
            what,
        });
    }
    if count != parts.rows || file.data_start + parts.length != size {
        return Ok(ReadRun::Damaged {
            intact: RunBuilder::new(),
            lost: vec![(
                parts.fences.first().map_or(parts.last, |f| f.first),
                parts.last,
            )],
            offset: 0,
            what: "its length does not fit its header",
        });
    }
    Ok(ReadRun::Whole(Run::new(
        parts,
        None,
        Some(file.settled()),
        memory,
    )))
}

/// Checks a chunk and adds it to `kept`. Returns its number of rows, or what is wrong with it.
fn read_chunk<R: Row>(
    bytes: Vec<u8>,
    first: Key,
    kept: Option<&mut RunBuilder<R>>,
) -> Result<u64, &'static str> {
    if !chunk::is_intact(&bytes) {
        return Err("the checksum of a chunk does not match");
    }
    let length = bytes.len();
    let bytes = Arc::new(Bytes::from(bytes));
    let chunk = Chunk::<R>::parse(Arc::clone(&bytes), 0, length).map_err(|problem| problem.0)?;
    let rows = chunk.len();
    if let Some(kept) = kept {
        kept.push_chunk(&bytes, first, chunk.row(rows - 1).key(), rows as u64);
    }
    Ok(rows as u64)
}

/// Adds the first `chunks` chunks, which were found intact, to `kept`.
fn keep_chunks<R: Row>(
    parts: &RunParts,
    file: &RunFile,
    chunks: usize,
    kept: &mut RunBuilder<R>,
    lost: &mut Vec<(Key, Key)>,
) -> Result<(), EngineError> {
    for (i, fence) in parts.fences.iter().enumerate().take(chunks) {
        let end = parts.fences.get(i + 1).map_or(parts.length, |f| f.offset);
        let bytes = file.read(fence.offset, (end - fence.offset) as usize)?;
        // A disk that fails may have changed it since.
        if read_chunk(bytes, fence.first, Some(&mut *kept)).is_err() {
            lost.push((fence.first, parts.end_of(i)));
        }
    }
    Ok(())
}

/// Is it a name that [`Disk::run_path`] gives, or its temporary one? Nothing else in the directory is touched.
fn is_run_name(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let serial = name.strip_prefix("run-");
    serial.is_some_and(|serial| serial.len() == 16 && u64::from_str_radix(serial, 16).is_ok())
}

/// The `u64` at `at`, 0 past the end.
fn long(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// The `u32` at `at`, 0 past the end.
fn short(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}
