//! Objects of an object store: S3 and what speaks like it, Google's, Azure's.
//!
//! The store's client is asynchronous; here is its blocking face, with a runtime of its own. It may not be used from within
//! another runtime.

mod upload;

use crate::{Created, Found, Store, StoreError, Upload, is_plain};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path,
};
use std::{
    io::{self, Read, Write},
    ops::Range,
    sync::Arc,
};
use tokio::runtime::{Builder, Runtime};
use upload::BucketUpload;

/// Objects below a prefix of a bucket.
#[derive(Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// As people write it, without a slash at its end.
    url: String,
    prefix: Path,
    runtime: Arc<Runtime>,
}

/// How often an object is created that must not be there yet, when it stays unknown whether it was.
const TRIES: u32 = 4;

impl Bucket {
    /// What lies below `prefix` in a store, which is called `url` in messages.
    ///
    /// # Errors
    /// The prefix can't be one, or the system gives no threads.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        url: impl Into<String>,
        prefix: &str,
    ) -> Result<Self, StoreError> {
        let url = url.into();
        let prefix = Path::parse(prefix).map_err(|error| StoreError::Location {
            place: url.clone(),
            problem: format!("{error}; give a prefix without empty parts, \".\" and \"..\""),
        })?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(StoreError::io(url.clone()))?;
        Ok(Self {
            store,
            url,
            prefix,
            runtime: Arc::new(runtime),
        })
    }

    /// Where an object is in the bucket. Its name is taken as it is: what needs escapes in a request gets them there.
    fn path(&self, name: &str) -> Result<Path, StoreError> {
        let outside = || StoreError::Outside {
            place: self.place(""),
            name: name.to_owned(),
        };
        let path = match self.prefix.as_ref() {
            _ if !is_plain(name) => return Err(outside()),
            "" => Path::parse(name),
            prefix => Path::parse(format!("{prefix}/{name}")),
        };
        // A name with empty parts would be another one there.
        path.ok()
            .filter(|path| path.as_ref().ends_with(name))
            .ok_or_else(outside)
    }

    fn failed(&self, name: &str) -> impl Fn(Error) -> StoreError + use<> {
        let place = self.place(name);
        move |error| refused(place.clone(), error)
    }

    /// Whether an object is there and holds these bytes.
    fn holds_bytes(&self, name: &str, bytes: &[u8]) -> Result<Option<bool>, StoreError> {
        match self.length(name) {
            Ok(length) if length != bytes.len() as u64 => Ok(Some(false)),
            Ok(_) => Ok(Some(self.get(name)? == bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What the store said, and what to do about it.
fn refused(place: String, error: Error) -> StoreError {
    let with = |kind: io::ErrorKind, text: String| io::Error::new(kind, text);
    let source = match error {
        Error::NotFound { .. } => with(
            io::ErrorKind::NotFound,
            "there is no such object; look at bucket and prefix".to_owned(),
        ),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => with(
            io::ErrorKind::AlreadyExists,
            "it is there already".to_owned(),
        ),
        Error::PermissionDenied { source, .. } => with(
            io::ErrorKind::PermissionDenied,
            format!(
                "the store does not allow it; look at the rights of this key and at the bucket's policy: {source}"
            ),
        ),
        Error::Unauthenticated { source, .. } => with(
            io::ErrorKind::PermissionDenied,
            format!(
                "the store does not know this key; look at the variables of the environment that hold it: {source}"
            ),
        ),
        error @ (Error::NotImplemented { .. } | Error::NotSupported { .. }) => with(
            io::ErrorKind::Unsupported,
            format!("the store can't do this: {error}"),
        ),
        error => with(
            io::ErrorKind::Other,
            format!(
                "the store did not do it; look whether it can be reached and has room: {error}"
            ),
        ),
    };
    StoreError::Io { place, source }
}

/// An object that is read from its beginning.
struct Reader {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    rest: Bytes,
    place: String,
    runtime: Arc<Runtime>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => {
                    return Err(match refused(self.place.clone(), error) {
                        StoreError::Io { source, .. } => source,
                        other => io::Error::other(other),
                    });
                }
            }
        }
        let count = buffer.len().min(self.rest.len());
        let taken = self.rest.split_to(count);
        if let Some(buffer) = buffer.get_mut(..count) {
            buffer.copy_from_slice(&taken);
        }
        Ok(count)
    }
}

impl Store for Bucket {
    fn place(&self, name: &str) -> String {
        match name {
            "" => self.url.clone(),
            name => format!("{}/{name}", self.url),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        let path = self.path(name)?;
        let found = self.runtime.block_on(self.store.get(&path));
        Ok(Box::new(Reader {
            stream: found.map_err(self.failed(name))?.into_stream(),
            rest: Bytes::new(),
            place: self.place(name),
            runtime: Arc::clone(&self.runtime),
        }))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.path(name)?;
        let length = range.end - range.start;
        let read = self.runtime.block_on(self.store.get_range(&path, range));
        let bytes = read.map_err(self.failed(name))?;
        match bytes.len() as u64 == length {
            true => Ok(bytes.into()),
            false => Err(StoreError::io(self.place(name))(
                io::ErrorKind::UnexpectedEof.into(),
            )),
        }
    }

    fn length(&self, name: &str) -> Result<u64, StoreError> {
        let path = self.path(name)?;
        let found = self.runtime.block_on(self.store.head(&path));
        Ok(found.map_err(self.failed(name))?.size)
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        self.list("", &mut |found| {
            names.push(found.name);
            Ok(())
        })?;
        Ok(names)
    }

    /// Refused: an object of a bucket is written by [`Store::upload`], which knows when it is whole.
    fn create(&self, name: &str) -> Result<Box<dyn Write + Send>, StoreError> {
        Err(StoreError::io(self.place(name))(io::Error::new(
            io::ErrorKind::Unsupported,
            "an object store has no unfinished objects; write to a directory",
        )))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        match self.runtime.block_on(self.store.delete(&path)) {
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed.map_err(self.failed(name)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name)?;
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let put = self.runtime.block_on(self.store.put(&path, payload));
        put.map(drop).map_err(self.failed(name))
    }

    fn upload(&self, name: &str) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(BucketUpload::new(
            Arc::clone(&self.store),
            self.path(name)?,
            self.place(name),
            Arc::clone(&self.runtime),
        )))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let path = self.path(name)?;
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let mut tries = 1;
        loop {
            let options = PutOptions::from(PutMode::Create);
            let put = self.store.put_opts(&path, payload.clone(), options);
            let error = match self.runtime.block_on(put) {
                Ok(_) => return Ok(Created::Written),
                Err(
                    error @ (Error::NotImplemented { .. }
                    | Error::NotSupported { .. }
                    | Error::PermissionDenied { .. }
                    | Error::Unauthenticated { .. }),
                ) => return Err(refused(self.place(name), error)),
                Err(error) => error,
            };
            // It is there already, or nobody knows: the answer may be lost of a try that did it. What is there says it.
            match self.holds_bytes(name, bytes) {
                Ok(Some(true)) => return Ok(Created::Written),
                Ok(Some(false)) => return Ok(Created::AlreadyThere),
                Ok(None) if tries < TRIES => tries += 1,
                Ok(None) | Err(_) => return Err(refused(self.place(name), error)),
            }
        }
    }

    fn list(
        &self,
        folder: &str,
        each: &mut dyn FnMut(Found) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let below = match folder {
            "" => self.prefix.clone(),
            folder => self.path(folder)?,
        };
        let mut listed = self.store.list(Some(&below));
        while let Some(object) = self.runtime.block_on(listed.next()) {
            let object = object.map_err(self.failed(folder))?;
            let location = object.location.as_ref();
            let name = match self.prefix.as_ref() {
                "" => Some(location),
                prefix => location
                    .strip_prefix(prefix)
                    .and_then(|rest| rest.strip_prefix('/')),
            };
            let Some(name) = name.filter(|name| is_plain(name)) else {
                continue;
            };
            each(Found {
                name: name.to_owned(),
                bytes: object.size,
                modified: object.last_modified.into(),
            })?;
        }
        Ok(())
    }
}
