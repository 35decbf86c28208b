//! Positioned reads, from a file or from bytes in memory.

use std::{fs::File, io, os::unix::fs::FileExt};

/// A source of bytes that is read by position, so that one open descriptor serves every reader.
pub trait ReadAt {
    /// Reads up to `buf.len()` bytes at `offset` and returns how many; 0 at or past the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The present length in bytes.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..))
            .unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

/// The beginning of a source: what follows is not there.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<S> {
    source: S,
    size: u64,
}

impl<S> Beginning<S> {
    /// The first `size` bytes.
    pub fn new(source: S, size: u64) -> Self {
        Self { source, size }
    }
}

impl<S: ReadAt> ReadAt for Beginning<S> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.size.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(buf.len()).min(buf.len());
        self.source.read_at(&mut buf[..wanted], offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size.min(self.source.size()?))
    }
}

/// Reads until `buf` is full or the source ends, and returns how many bytes were read.
pub(crate) fn read_full<S: ReadAt + ?Sized>(
    source: &S,
    buf: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match source.read_at(&mut buf[n..], offset + n as u64) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}
