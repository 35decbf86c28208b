//! An object of a bucket while it is written: in parts, of which few are in memory.

use super::refused;
use crate::{StoreError, Upload};
use bytes::{Bytes, BytesMut};
use object_store::{
    Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, path::Path,
};
use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::Arc,
};
use tokio::{runtime::Runtime, task::JoinHandle};

/// What one part holds. Stores take no less than 5 MiB, but for the last one.
const PART: usize = 8 << 20;

/// After so many parts they become twice as large, as stores take no more than 10 000 of them.
const PARTS_OF_A_SIZE: usize = 2_000;

/// How many parts are on their way at a time.
const ON_THEIR_WAY: usize = 2;

/// An object in parts. One that fits into a part is written as a whole.
#[derive(Debug)]
pub(super) struct BucketUpload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    place: String,
    runtime: Arc<Runtime>,
    buffer: BytesMut,
    parts: usize,
    begun: Option<Box<dyn MultipartUpload>>,
    sent: VecDeque<JoinHandle<Result<(), Error>>>,
}

impl BucketUpload {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        place: String,
        runtime: Arc<Runtime>,
    ) -> Self {
        Self {
            store,
            path,
            place,
            runtime,
            buffer: BytesMut::new(),
            parts: 0,
            begun: None,
            sent: VecDeque::new(),
        }
    }

    fn part_length(&self) -> usize {
        PART << (self.parts / PARTS_OF_A_SIZE).min(6)
    }

    /// Waits until at most so many parts are on their way.
    fn wait(&mut self, left: usize) -> Result<(), StoreError> {
        while self.sent.len() > left {
            let Some(part) = self.sent.pop_front() else {
                break;
            };
            let sent = self
                .runtime
                .block_on(part)
                .unwrap_or_else(|error| Err(Error::JoinError { source: error }));
            sent.map_err(|error| refused(self.place.clone(), error))?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), StoreError> {
        let part: Bytes = self.buffer.split().freeze();
        self.wait(ON_THEIR_WAY - 1)?;
        let begun = match &mut self.begun {
            Some(begun) => begun,
            none => {
                let begun = self.runtime.block_on(self.store.put_multipart(&self.path));
                none.insert(begun.map_err(|error| refused(self.place.clone(), error))?)
            }
        };
        let sending = begun.put_part(PutPayload::from(part));
        self.sent.push_back(self.runtime.spawn(sending));
        self.parts += 1;
        Ok(())
    }
}

impl Write for BucketUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full part is sent only when more comes: the last part is whatever is left.
        if self.buffer.len() >= self.part_length() {
            self.send().map_err(io::Error::other)?;
        }
        let room = self.part_length() - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for BucketUpload {
    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        if self.begun.is_none() {
            let whole = PutPayload::from(self.buffer.split().freeze());
            let put = self.runtime.block_on(self.store.put(&self.path, whole));
            return put
                .map(drop)
                .map_err(|error| refused(self.place.clone(), error));
        }
        self.send()?;
        self.wait(0)?;
        if let Some(begun) = &mut self.begun {
            let completed = self.runtime.block_on(begun.complete());
            completed.map_err(|error| refused(self.place.clone(), error))?;
        }
        self.begun = None;
        Ok(())
    }
}

impl Drop for BucketUpload {
    /// Parts of an object that is not finished cost space until the store is told.
    fn drop(&mut self) {
        for part in &self.sent {
            part.abort();
        }
        if let Some(mut begun) = self.begun.take() {
            let _ = self.runtime.block_on(begun.abort());
        }
    }
}
