//! Pages with checksums under a run of logical bytes.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Zero bytes at the start of every file.
const HEADER: usize = 512;

/// Writes logical bytes as pages; the last 4 bytes of a page are the CRC-32C of the others.
pub struct PageWriter<W: Write> {
    inner: W,
    page: Vec<u8>,
    page_size: usize,
    position: u64,
}

impl<W: Write> PageWriter<W> {
    /// Starts a file with the zero header.
    pub fn new(inner: W, page_size: usize) -> io::Result<Self> {
        Self::with_image(inner, page_size, &[0; HEADER])
    }

    /// Starts a file with the logical bytes of an older one.
    pub fn with_image(inner: W, page_size: usize, image: &[u8]) -> io::Result<Self> {
        let mut w = Self {
            inner,
            page: Vec::with_capacity(page_size),
            page_size,
            position: 0,
        };
        w.write(image)?;
        Ok(w)
    }

    /// Logical bytes so far, the header included.
    pub fn position(&self) -> i64 {
        self.position as i64
    }

    /// Appends logical bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) =
                bytes.split_at(bytes.len().min(self.page_size - 4 - self.page.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == self.page_size - 4 {
                self.flush_page()?;
            }
        }
        Ok(())
    }

    fn flush_page(&mut self) -> io::Result<()> {
        self.page.resize(self.page_size - 4, 0);
        let sum = crc32c::crc32c(&self.page);
        self.page.extend_from_slice(&sum.to_le_bytes());
        self.inner.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }

    /// Writes the last page; answers the logical size.
    pub fn finish(mut self) -> io::Result<i64> {
        if !self.page.is_empty() {
            self.flush_page()?;
        }
        self.inner.flush()?;
        Ok(self.position())
    }
}

/// The first `size` logical bytes of a file. Checksums are not looked at.
pub fn logical_bytes(path: &Path, page_size: usize, size: i64) -> io::Result<Vec<u8>> {
    let mut bytes: Vec<u8> = fs::read(path)?
        .chunks(page_size)
        .flat_map(|p| p[..page_size - 4].to_vec())
        .collect();
    bytes.truncate(size as usize);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_their_checksum_and_the_tail_is_zero() {
        let mut out = Vec::new();
        let mut w = PageWriter::new(&mut out, 4096).unwrap();
        w.write(&[1; 4000]).unwrap();
        assert_eq!(w.finish().unwrap(), 4512);
        assert_eq!(out.len(), 2 * 4096);
        for page in out.chunks(4096) {
            assert_eq!(crc32c::crc32c(&page[..4092]).to_le_bytes(), page[4092..]);
        }
        assert_eq!(out[511..513], [0, 1]);
        assert_eq!(out[4096 + 4512 - 4092 - 1..][..2], [1, 0]);
    }
}
