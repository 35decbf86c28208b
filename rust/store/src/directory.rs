//! Objects as files of a directory.

use crate::{Created, Found, Store, StoreError, Upload, atomic_file, is_plain};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    ops::Range,
    os::unix::fs::FileExt as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A directory, whose files are the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    root: PathBuf,
}

/// What may be done with a file: objects are backups, and whoever may read one has the data. No umask is asked, as
/// TDengine's client library sets that of its process to 0.
const OWNERS_FILE: u32 = 0o600;

/// What is gathered before it goes to a file.
const BUFFER: usize = 1 << 16;

impl Directory {
    /// The directory at `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn file(&self, name: &str) -> Result<PathBuf, StoreError> {
        match is_plain(name) {
            true => Ok(self.root.join(name)),
            false => Err(StoreError::Outside {
                place: self.place(""),
                name: name.to_owned(),
            }),
        }
    }

    /// Makes the directory that a file is to be in.
    fn make_room(&self, path: &Path) -> Result<(), StoreError> {
        let directory = atomic_file::directory(path);
        let io = StoreError::io(directory.display().to_string());
        match directory.is_dir() {
            true => Ok(()),
            false => atomic_file::make_directories(directory).map_err(io),
        }
    }

    fn add_names(&self, below: &str, names: &mut Vec<String>) -> Result<(), StoreError> {
        let path = match below {
            "" => self.root.clone(),
            below => self.root.join(below),
        };
        let failed = |source| StoreError::io(path.display().to_string())(source);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = match below {
                "" => name,
                below => format!("{below}/{name}"),
            };
            if entry.file_type().map_err(failed)?.is_dir() {
                self.add_names(&name, names)?;
            } else {
                names.push(name);
            }
        }
        Ok(())
    }
}

impl Store for Directory {
    fn place(&self, name: &str) -> String {
        match name {
            "" => self.root.display().to_string(),
            name => self.root.join(name).display().to_string(),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        self.length(name)?;
        let file = File::open(self.file(name)?).map_err(StoreError::io(self.place(name)))?;
        Ok(Box::new(file))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let length = self.length(name)?;
        let read = || {
            let beyond = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let bytes = range.end.min(length).checked_sub(range.start);
            let bytes = bytes.filter(|_| range.end <= length).ok_or_else(beyond)?;
            let mut bytes = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
            File::open(self.root.join(name))?.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        };
        read().map_err(StoreError::io(self.place(name)))
    }

    /// Refuses a pipe or a device: reading it may not end.
    fn length(&self, name: &str) -> Result<u64, StoreError> {
        let metadata =
            fs::metadata(self.file(name)?).and_then(|metadata| match metadata.is_file() {
                true => Ok(metadata),
                false => Err(io::Error::other("it is no file")),
            });
        Ok(metadata.map_err(StoreError::io(self.place(name)))?.len())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        self.add_names("", &mut names)?;
        Ok(names)
    }

    fn create(&self, name: &str) -> Result<Box<dyn Write + Send>, StoreError> {
        let path = self.file(name)?;
        let create = || {
            let mut options = File::options();
            options.write(true).create_new(true).mode(OWNERS_FILE);
            options.open(&path)
        };
        let created = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                atomic_file::make_directories(atomic_file::directory(&path)).and_then(|()| create())
            }
            created => created,
        };
        let file = created.map_err(StoreError::io(self.place(name)))?;
        Ok(Box::new(BufWriter::with_capacity(BUFFER, file)))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.file(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(self.place(name))(error))
            }
            _ => Ok(()),
        }
    }

    fn upload(&self, name: &str) -> Result<Box<dyn Upload>, StoreError> {
        let path = self.file(name)?;
        self.make_room(&path)?;
        let file =
            atomic_file::temporary(&path, OWNERS_FILE).map_err(StoreError::io(self.place(name)))?;
        Ok(Box::new(FileUpload {
            file: BufWriter::with_capacity(BUFFER, file),
            path,
        }))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let path = self.file(name)?;
        self.make_room(&path)?;
        match atomic_file::write_new(&path, bytes, OWNERS_FILE) {
            Ok(()) => Ok(Created::Written),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match self.get(name)? == bytes {
                    true => Ok(Created::Written),
                    false => Ok(Created::AlreadyThere),
                }
            }
            Err(source) => Err(StoreError::Write {
                place: self.place(name),
                source,
            }),
        }
    }

    fn list(
        &self,
        folder: &str,
        each: &mut dyn FnMut(Found) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = match folder {
            "" => self.root.clone(),
            folder => self.file(folder)?,
        };
        let failed = |source| StoreError::io(path.display().to_string())(source);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = match folder {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            if entry.file_type().map_err(failed)?.is_dir() {
                self.list(&name, each)?;
                continue;
            }
            let metadata = match entry.metadata() {
                // Somebody removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(failed)?,
            };
            each(Found {
                name,
                bytes: metadata.len(),
                modified: metadata.modified().map_err(failed)?,
            })?;
        }
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.file(name)?;
        self.make_room(&path)?;
        atomic_file::write_with_mode(&path, bytes, OWNERS_FILE)
    }
}

/// A file that has its name only once it is whole.
#[derive(Debug)]
struct FileUpload {
    file: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

impl Write for FileUpload {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Upload for FileUpload {
    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let Self { file, path } = *self;
        let persist = || {
            let file = file.into_inner().map_err(io::Error::from)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(atomic_file::directory(&path))?.sync_all()
        };
        persist().map_err(|source| StoreError::Write {
            place: path.display().to_string(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_created_once_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let mut object = store.create("a/b").unwrap();
        object.write_all(b"text").unwrap();
        object.flush().unwrap();
        assert_eq!(store.get("a/b").unwrap(), b"text");
        assert_eq!(store.length("a/b").unwrap(), 4);
        assert_eq!(store.names().unwrap(), ["a/b"]);
        let again = store.create("a/b").err().unwrap().to_string();
        assert!(again.contains("a/b"), "{again}");
        store.remove("a/b").unwrap();
        store.remove("a/b").unwrap();
        assert!(!store.holds("a/b").unwrap());
        store.put("c", b"whole").unwrap();
        assert_eq!(store.get("c").unwrap(), b"whole");
    }

    #[test]
    fn only_the_owner_may_read_what_is_made() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        drop(store.create("a/b/c").unwrap());
        store.put("a/d", b"x").unwrap();
        for (name, wanted) in [
            ("a", 0o700),
            ("a/b", 0o700),
            ("a/b/c", 0o600),
            ("a/d", 0o600),
        ] {
            let metadata = fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{name}");
        }
    }

    #[test]
    fn a_name_that_leads_out_of_the_place_is_refused() {
        let store = Directory::new("/link");
        for name in ["", "/etc/passwd", "../x", "a/../../x", "./a"] {
            let error = store.open(name).err().unwrap();
            assert!(matches!(error, StoreError::Outside { .. }), "{name}");
        }
    }

    #[test]
    fn a_pipe_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new("/dev");
        assert!(store.open("null").is_err());
        assert!(Directory::new(dir.path()).open(".").is_err());
    }
}
