//! A place to which no more is sent per second than wanted, so that a backup leaves room for others on the line.

use crate::{Created, Found, Store, StoreError, Upload};
use std::{
    io::{self, Read, Write},
    num::NonZeroU64,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A place with a limit on what is sent to it, for all who write to it together. Reading has none.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Store>,
    rate: Arc<Rate>,
}

/// So many bytes at most are waited for at a time.
const STEP: usize = 1 << 16;

#[derive(Debug)]
struct Rate {
    bytes_per_second: NonZeroU64,
    /// When what was allowed so far is sent, at this rate.
    sent: Mutex<Instant>,
}

impl Rate {
    /// Waits until so many bytes may be sent.
    fn wait(&self, bytes: usize) {
        let takes = bytes as f64 / self.bytes_per_second.get() as f64;
        let until = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*sent).max(Instant::now());
            *sent = begin + Duration::from_secs_f64(takes);
            begin
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}

impl Limited {
    /// The same place, to which at most so many bytes are sent per second.
    pub fn new(inner: Arc<dyn Store>, bytes_per_second: NonZeroU64) -> Self {
        let sent = Mutex::new(Instant::now());
        let rate = Arc::new(Rate {
            bytes_per_second,
            sent,
        });
        Self { inner, rate }
    }
}

/// What is written through it waits for its turn.
#[derive(Debug)]
struct Slow<W> {
    inner: W,
    rate: Arc<Rate>,
}

impl<W: Write> Write for Slow<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let step = buffer.get(..STEP).unwrap_or(buffer);
        self.rate.wait(step.len());
        self.inner.write(step)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for Slow<Box<dyn Upload>> {
    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.inner.finish()
    }
}

impl Store for Limited {
    fn place(&self, name: &str) -> String {
        self.inner.place(name)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        self.inner.open(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.inner.get_range(name, range)
    }

    fn length(&self, name: &str) -> Result<u64, StoreError> {
        self.inner.length(name)
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        self.inner.names()
    }

    fn create(&self, name: &str) -> Result<Box<dyn Write + Send>, StoreError> {
        Ok(Box::new(Slow {
            inner: self.inner.create(name)?,
            rate: Arc::clone(&self.rate),
        }))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.inner.remove(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.rate.wait(bytes.len());
        self.inner.put(name, bytes)
    }

    fn upload(&self, name: &str) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(Slow {
            inner: self.inner.upload(name)?,
            rate: Arc::clone(&self.rate),
        }))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        self.rate.wait(bytes.len());
        self.inner.put_new(name, bytes)
    }

    fn list(
        &self,
        folder: &str,
        each: &mut dyn FnMut(Found) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.inner.list(folder, each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Directory;

    #[test]
    fn no_more_is_sent_per_second_than_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let rate = NonZeroU64::new(1 << 20).unwrap();
        let store = Limited::new(Arc::new(Directory::new(dir.path())), rate);
        let began = Instant::now();
        let mut upload = store.upload("a").unwrap();
        upload.write_all(&vec![7; 1 << 18]).unwrap();
        upload.finish().unwrap();
        // The last step is not waited for: nobody sends anything after it.
        assert!(began.elapsed() >= Duration::from_millis(150));
        assert_eq!(store.length("a").unwrap(), 1 << 18);
    }
}
