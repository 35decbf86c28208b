//! A link in a repository as a [`Store`], so that whoever reads links reads it as they read a directory.

use super::{
    ObjectId, RepoError,
    chunks::ChunkReader,
    link_index::{LinkIndex, PackedFile, pack_name},
    open::Repository,
};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};
use store::{Created, Found, Store, StoreError, Upload};

/// What is fetched at a time of a file that is read from its beginning.
const AHEAD: u64 = 4 << 20;

/// The files of a link. It is never written to.
#[derive(Debug, Clone)]
pub(crate) struct LinkView {
    repository: Repository,
    id: ObjectId,
    index: Arc<LinkIndex>,
    /// Where the files are in the index.
    files: Arc<HashMap<String, usize>>,
    /// The packs that were opened.
    open: Arc<Mutex<HashMap<usize, Arc<ChunkReader>>>>,
}

impl Repository {
    /// A link of the repository, as whoever reads links takes it.
    ///
    /// # Errors
    /// Its index can't be read.
    pub fn link(&self, id: &ObjectId) -> Result<Arc<dyn Store>, RepoError> {
        Ok(Arc::new(LinkView::open(self, id)?))
    }
}

impl LinkView {
    pub(crate) fn open(repository: &Repository, id: &ObjectId) -> Result<Self, RepoError> {
        let index = LinkIndex::load(repository, id)?;
        let paths = index.files.iter().map(|file| file.path.clone());
        Ok(Self {
            repository: repository.clone(),
            id: id.clone(),
            files: Arc::new(paths.zip(0..).collect()),
            index: Arc::new(index),
            open: Arc::default(),
        })
    }

    pub(crate) fn index(&self) -> &LinkIndex {
        &self.index
    }

    fn file(&self, name: &str) -> Result<&PackedFile, StoreError> {
        let found = self
            .files
            .get(name)
            .and_then(|at| self.index.files.get(*at));
        found.ok_or_else(|| StoreError::io(self.place(name))(io::ErrorKind::NotFound.into()))
    }

    fn pack(&self, number: usize) -> Result<Arc<ChunkReader>, RepoError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = open.get(&number) {
            return Ok(Arc::clone(reader));
        }
        let store = &*self.repository.store;
        let damaged = |place: String, problem: &str| RepoError::Damaged {
            place,
            problem: problem.to_owned(),
        };
        let Some(pack) = self.index.packs.get(number) else {
            return Err(damaged(self.place(""), "a pack is missing in its index"));
        };
        let name = pack_name(&self.id, &pack.id);
        let reader = self.repository.cipher.reader(store, &name)?;
        if reader.length != pack.bytes {
            return Err(damaged(
                store.place(&name),
                "it has not the length that the index says",
            ));
        }
        let reader = Arc::new(reader);
        open.insert(number, Arc::clone(&reader));
        Ok(reader)
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let file = self.file(name)?;
        if range.start > range.end || range.end > file.bytes {
            let end = io::ErrorKind::UnexpectedEof;
            return Err(StoreError::io(self.place(name))(end.into()));
        }
        let at = file.offset + range.start..file.offset + range.end;
        let read = self
            .pack(file.pack)
            .and_then(|pack| pack.read(&*self.repository.store, at));
        read.map_err(|error| match error {
            RepoError::Store(error) => error,
            RepoError::Damaged { place, problem } => StoreError::Differs { place, problem },
            other => StoreError::io(self.place(name))(io::Error::other(other)),
        })
    }

    fn read_only<T>(&self, name: &str) -> Result<T, StoreError> {
        let refused = io::Error::new(
            io::ErrorKind::ReadOnlyFilesystem,
            "a link of a repository is never written to",
        );
        Err(StoreError::io(self.place(name))(refused))
    }
}

/// A file that is read from its beginning.
#[derive(Debug)]
struct FileReader {
    view: LinkView,
    name: String,
    length: u64,
    next: u64,
    ahead: io::Cursor<Vec<u8>>,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.ahead.read(buffer)?;
        if read > 0 || buffer.is_empty() || self.next >= self.length {
            return Ok(read);
        }
        let end = (self.next + AHEAD).min(self.length);
        let bytes = self.view.read(&self.name, self.next..end);
        self.ahead = io::Cursor::new(bytes.map_err(|error| match error {
            StoreError::Io { source, .. } => source,
            other => io::Error::other(other),
        })?);
        self.next = end;
        self.ahead.read(buffer)
    }
}

impl Store for LinkView {
    fn place(&self, name: &str) -> String {
        let link = format!("link {} of {}", self.id.short(), self.repository.place());
        match name {
            "" => link,
            name => format!("{link}: {name}"),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(FileReader {
            length: self.file(name)?.bytes,
            view: self.clone(),
            name: name.to_owned(),
            next: 0,
            ahead: io::Cursor::default(),
        }))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.read(name, range)
    }

    fn length(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.file(name)?.bytes)
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self
            .index
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect())
    }

    fn create(&self, name: &str) -> Result<Box<dyn Write + Send>, StoreError> {
        self.read_only(name)
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.read_only(name)
    }

    fn put(&self, name: &str, _: &[u8]) -> Result<(), StoreError> {
        self.read_only(name)
    }

    fn upload(&self, name: &str) -> Result<Box<dyn Upload>, StoreError> {
        self.read_only(name)
    }

    fn put_new(&self, name: &str, _: &[u8]) -> Result<Created, StoreError> {
        self.read_only(name)
    }

    fn list(
        &self,
        folder: &str,
        each: &mut dyn FnMut(Found) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let below = |name: &str| {
            folder.is_empty()
                || name
                    .strip_prefix(folder)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        for file in self.index.files.iter().filter(|file| below(&file.path)) {
            each(Found {
                name: file.path.clone(),
                bytes: file.bytes,
                modified: std::time::SystemTime::UNIX_EPOCH,
            })?;
        }
        Ok(())
    }
}
