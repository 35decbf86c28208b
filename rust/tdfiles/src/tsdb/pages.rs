//! Pages: the last 4 bytes of each are the CRC-32C of the rest.
//!
//! Logical offset L lies in page L / (P − 4) at L mod (P − 4), P being the vnode's page size. The first 512
//! logical bytes are a header of zeros. (tsdb.h and tsdbReaderWriter.c of server 3.3.7.)

use crate::{FormatError, ReadAt, checksum, read_at::read_full};
use std::cell::Cell;

const CHECKSUM: usize = 4;

/// A TSDB file read by logical offset.
#[derive(Debug)]
pub struct PagedFile<S> {
    source: S,
    page_size: usize,
    size: u64,
    bytes_read: Cell<u64>,
}

impl<S: ReadAt> PagedFile<S> {
    /// `size` is the logical size that `current.json` gives: nothing beyond it is read, as a server may be
    /// appending there. A file too short for it is refused.
    pub fn new(source: S, page_size: usize, size: u64) -> Result<Self, FormatError> {
        let payload = page_size.saturating_sub(CHECKSUM) as u64;
        let io = |source| FormatError::Io { offset: 0, source };
        let physical = source.size().map_err(io)?;
        if payload == 0 {
            return Err(FormatError::corrupt(
                "TSDB file",
                0,
                "a page has no room for data",
            ));
        }
        if size
            .div_ceil(payload)
            .checked_mul(page_size as u64)
            .is_none_or(|need| need > physical)
        {
            let detail = format!(
                "the file has {physical} bytes, too few for its {size} bytes in pages of {page_size}"
            );
            return Err(FormatError::corrupt("TSDB file", physical, detail));
        }
        Ok(Self {
            source,
            page_size,
            size,
            bytes_read: Cell::new(0),
        })
    }

    /// The logical size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes have been read from the source so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Reads `len` logical bytes at `offset`, checking every page they lie in.
    pub fn read(&self, what: &'static str, offset: u64, len: u64) -> Result<Vec<u8>, FormatError> {
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            let detail = format!(
                "{len} bytes here would end past the file's {} bytes",
                self.size
            );
            return Err(FormatError::corrupt(what, offset, detail));
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        let payload = self.page_size - CHECKSUM;
        let first_page = offset / payload as u64;
        let last_page = (offset + len - 1) / payload as u64;
        let mut pages = vec![0; (last_page - first_page + 1) as usize * self.page_size];
        let start = first_page * self.page_size as u64;
        let n = read_full(&self.source, &mut pages, start).map_err(|source| FormatError::Io {
            offset: start,
            source,
        })?;
        self.bytes_read.set(self.bytes_read.get() + n as u64);
        let mut out = Vec::with_capacity(len as usize);
        let mut skip = (offset % payload as u64) as usize;
        for (i, page) in pages[..n].chunks_exact(self.page_size).enumerate() {
            let (data, checksum) = page.split_at(payload);
            if checksum::crc32c(data).to_le_bytes() != checksum {
                let at = (first_page + i as u64) * self.page_size as u64;
                let detail = format!("the page at physical offset {at} fails its checksum");
                return Err(FormatError::corrupt(what, offset, detail));
            }
            let wanted = (len as usize - out.len()).min(payload - skip);
            out.extend_from_slice(&data[skip..skip + wanted]);
            skip = 0;
        }
        if out.len() < len as usize {
            return Err(FormatError::corrupt(
                what,
                offset,
                "the file became shorter while it was read",
            ));
        }
        Ok(out)
    }

    /// Reads the last `N` logical bytes.
    pub(crate) fn footer<const N: usize>(
        &self,
        what: &'static str,
    ) -> Result<[u8; N], FormatError> {
        let mut footer = [0; N];
        let Some(offset) = self.size.checked_sub(N as u64) else {
            let detail = format!("a file of {} bytes has no room for its footer", self.size);
            return Err(FormatError::corrupt(what, 0, detail));
        };
        footer.copy_from_slice(&self.read(what, offset, N as u64)?);
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `len` logical bytes 0, 1, 2, … in pages of 16 bytes.
    fn file(len: usize) -> Vec<u8> {
        let logical: Vec<u8> = (0..len).map(|i| i as u8).collect();
        logical
            .chunks(12)
            .flat_map(|chunk| {
                let mut page = chunk.to_vec();
                page.resize(12, 0);
                page.extend(checksum::crc32c(&page).to_le_bytes());
                page
            })
            .collect()
    }

    #[test]
    fn reads_cross_pages_and_stop_at_the_logical_size() {
        let bytes = file(40);
        let paged = PagedFile::new(bytes.as_slice(), 16, 40).unwrap();
        assert_eq!(
            paged.read("x", 10, 20).unwrap(),
            (10..30).collect::<Vec<u8>>()
        );
        assert_eq!(paged.footer::<4>("x").unwrap(), [36, 37, 38, 39]);
        assert!(paged.read("x", 38, 3).is_err());
        assert!(paged.read("x", u64::MAX, 1).is_err());
    }

    #[test]
    fn only_the_pages_that_are_read_are_checked() {
        let mut bytes = file(40);
        bytes[17] ^= 1;
        let paged = PagedFile::new(bytes.as_slice(), 16, 40).unwrap();
        assert!(paged.read("x", 0, 12).is_ok());
        let error = paged.read("x", 11, 2).unwrap_err().to_string();
        assert!(error.contains("physical offset 16"), "{error}");
        assert_eq!(paged.bytes_read(), 16 + 32);
    }

    #[test]
    fn a_file_shorter_than_its_logical_size_is_refused() {
        let bytes = file(40);
        assert!(PagedFile::new(&bytes[..bytes.len() - 1], 16, 40).is_err());
        assert!(PagedFile::new(bytes.as_slice(), 16, u64::MAX).is_err());
        assert!(PagedFile::new(bytes.as_slice(), 4, 1).is_err());
    }
}
