//! A directory that is written as a whole: under a temporary name inside, until everything is on disk.

use crate::{Directory, Store, StoreError, atomic_file};
use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

/// What the names of directories begin with that are being written.
pub const PARTIAL: &str = ".partial-";

/// An output directory while it is written. Whatever stops the writer before [`Self::finish`] leaves nothing behind that
/// can be taken for a finished one.
#[derive(Debug)]
pub struct Staging {
    out: Directory,
    partial: Directory,
    /// Locked as long as the writer runs, and opened before anything is written: errors of writing that the system finds
    /// later are reported to whoever had the directory open.
    handle: File,
}

impl Staging {
    /// Takes an output directory into use, as `.partial-ID` inside it. What an interrupted writer left there is removed:
    /// its partial directories, and the names that `is_leftover` knows. Anything else is refused.
    ///
    /// # Errors
    /// The directory can't be made, another process writes there ([`StoreError::Busy`]), or it holds something else
    /// ([`StoreError::NotEmpty`]).
    pub fn open(
        out: &Path,
        id: i64,
        is_leftover: &dyn Fn(&Directory, &str) -> bool,
    ) -> Result<Self, StoreError> {
        let failed = |path: &Path| StoreError::io(path.display().to_string());
        atomic_file::make_directories(out).map_err(failed(out))?;
        let handle = File::open(out).map_err(failed(out))?;
        let locked = rustix::fs::flock(
            &handle,
            rustix::fs::FlockOperation::NonBlockingLockExclusive,
        );
        let out = Directory::new(out);
        match locked {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let place = out.place("");
                return Err(StoreError::Busy { place });
            }
            locked => locked.map_err(|error| failed(out.path())(error.into()))?,
        }
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(out.path()).map_err(failed(out.path()))? {
            let entry = entry.map_err(failed(out.path()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(PARTIAL) || is_leftover(&out, &name) {
                leftovers.push(entry.path());
            } else {
                return Err(StoreError::NotEmpty {
                    place: out.place(""),
                    found: name,
                });
            }
        }
        for path in leftovers {
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(failed(&path))?;
        }
        let partial = out.path().join(format!("{PARTIAL}{id}"));
        atomic_file::make_directories(&partial).map_err(failed(&partial))?;
        Ok(Self {
            out,
            partial: Directory::new(partial),
            handle,
        })
    }

    /// Where files are written until then.
    pub fn files(&self) -> &Directory {
        &self.partial
    }

    /// Makes everything durable, moves it to its place, and then writes the object that makes it count.
    ///
    /// # Errors
    /// Something can't be synced, moved or written. The directory is not finished then.
    pub fn finish(self, last: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let partial = self.partial.path();
        let failed = |path: &Path| StoreError::io(path.display().to_string());
        // One call for all files: a sync of each of 100 000 new files would take minutes. But it does not say which file
        // could not be written, so each is synced as well, which costs little once nothing is left to write.
        rustix::fs::syncfs(self.handle.as_fd()).map_err(|error| failed(partial)(error.into()))?;
        sync_all(partial)?;
        for entry in fs::read_dir(partial).map_err(failed(partial))? {
            let entry = entry.map_err(failed(partial))?;
            let to: PathBuf = self.out.path().join(entry.file_name());
            fs::rename(entry.path(), to).map_err(failed(&entry.path()))?;
        }
        fs::remove_dir(partial).map_err(failed(partial))?;
        self.handle.sync_all().map_err(failed(self.out.path()))?;
        self.out.put(last, bytes)
    }
}

/// Syncs every file and directory below a directory, and itself.
fn sync_all(directory: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path| StoreError::io(path.display().to_string());
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            let file = File::open(&path).map_err(failed(&path))?;
            file.sync_all().map_err(failed(&path))?;
        }
    }
    let handle = File::open(directory).map_err(failed(directory))?;
    handle.sync_all().map_err(failed(directory))
}
