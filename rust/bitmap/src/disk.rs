//! The files of an engine: their names, layouts, and how they are written and read.
//!
//! | file | content |
//! |---|---|
//! | `LOCK` | empty; locked while an engine has the directory open |
//! | `MANIFEST`, `MANIFEST.copy` | which runs make up the trees, and the ranges that were damaged (see manifest.rs) |
//! | `run-<serial>` | one run (see stored_run.rs) |
//!
//! Every file is written under a temporary name, synced, renamed and its directory synced. A run's file never
//! changes. A manifest is replaced as a whole, so at any moment the directory holds one complete state.

use crate::{
    error::{EngineError, io_error},
    run_file::OpenFiles,
};
use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// The format version of every file.
pub(crate) const FORMAT: u32 = 2;

const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// A run's number, unique in its engine; also the name of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Serial(pub(crate) u64);

/// The directory of an engine, locked.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    pub(crate) open: OpenFiles,
    _lock: File,
}

/// Creates `dir`, an absolute path, and the directories above it that are missing. Their names survive a crash.
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
            open: OpenFiles::default(),
            _lock: lock,
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// The file of the run `serial`.
    pub(crate) fn run_path(&self, serial: Serial) -> PathBuf {
        self.dir.join(format!("run-{:016x}", serial.0))
    }

    /// Writes a file under a temporary name, then renames it to `path`. Until the directory is synced, a crash may undo the
    /// renaming.
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
            // The disk may be full: the unfinished file must not keep its space.
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
    pub(crate) fn remove_leftovers(&self, keep: &HashSet<Serial>) -> Result<(), EngineError> {
        let keep: HashSet<PathBuf> = keep.iter().map(|&serial| self.run_path(serial)).collect();
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

/// Is it a name that [`Disk::run_path`] gives, or its temporary one? Nothing else in the directory is touched.
fn is_run_name(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let serial = name.strip_prefix("run-");
    serial.is_some_and(|serial| serial.len() == 16 && u64::from_str_radix(serial, 16).is_ok())
}
