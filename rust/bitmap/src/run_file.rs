//! The file of a run: open or not, its chunks are read by their offsets.

use crate::{
    chunk::MAX_CHUNK_BYTES,
    error::{EngineError, io_error},
};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// How many files of runs an engine keeps open at most: a process may often have no more than 1 024. The other files
/// are opened for each chunk that is read.
const MOST_OPEN: usize = 256;

/// Counts the files of runs that an engine keeps open.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenFiles(Arc<AtomicUsize>);

/// A file that is kept open, and counted.
#[derive(Debug)]
struct Open {
    file: File,
    open: OpenFiles,
}

impl Open {
    fn new(file: File, open: &OpenFiles) -> Self {
        open.0.fetch_add(1, Relaxed);
        Self {
            file,
            open: open.clone(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.0.fetch_sub(1, Relaxed);
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
    pub(crate) fn new(file: File, path: PathBuf, data_start: u64, open: &OpenFiles) -> Self {
        Self {
            file: Some(Open::new(file, open)),
            path,
            data_start,
        }
    }

    /// Closes the file if the engine has many open.
    pub(crate) fn settled(mut self) -> Self {
        self.file = self
            .file
            .filter(|file| file.open.0.load(Relaxed) <= MOST_OPEN);
        self
    }

    /// Is the file closed, so that it can be read only as long as it has its name?
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
