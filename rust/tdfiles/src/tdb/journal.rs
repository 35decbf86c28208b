//! A journal, `main.tdb-journal.<transaction>`: what pages held before a transaction changed them.
//!
//! Entries {u32 page, the page's bytes}, one behind the other. The server appends a page's entry before it writes the page,
//! and only pages that the file had when the transaction began have one. Where a page has two entries, the first is what was
//! committed. While a commit is under way there are two journals, its own and that of the transaction after it;
//! the older one counts. (tdbPager.c of server 3.3.7.)

use super::page::Layout;
use crate::{FormatError, ReadAt, read_at::read_full};
use std::collections::{HashMap, hash_map};

#[derive(Debug)]
pub(super) struct Journal<S> {
    file: S,
    /// Up to where its entries are known.
    known: u64,
    /// Where each page's bytes are.
    pages: HashMap<u32, u64>,
}

impl<S: ReadAt> Journal<S> {
    pub(super) fn new(file: S) -> Self {
        Self {
            file,
            known: 0,
            pages: HashMap::new(),
        }
    }

    /// Puts a page's bytes into `buffer` if the journal has them; it may have grown since the last call.
    pub(super) fn read(
        &mut self,
        page: u32,
        layout: Layout,
        buffer: &mut [u8],
    ) -> Result<bool, FormatError> {
        self.follow(layout)?;
        let Some(&offset) = self.pages.get(&page) else {
            return Ok(false);
        };
        let read = read_full(&self.file, buffer, offset);
        if read.map_err(|source| FormatError::Io { offset, source })? < buffer.len() {
            let detail = "it became shorter while it was read";
            return Err(FormatError::corrupt("TDB journal", offset, detail));
        }
        Ok(true)
    }

    /// Takes note of the entries that are complete. One that is cut off is being written: its page is not changed yet.
    fn follow(&mut self, layout: Layout) -> Result<(), FormatError> {
        let entry = 4 + layout.page_size() as u64;
        let io = |offset| move |source| FormatError::Io { offset, source };
        let size = self.file.size().map_err(io(0))?;
        while self.known + entry <= size {
            let mut page = [0; 4];
            let offset = self.known;
            read_full(&self.file, &mut page, offset).map_err(io(offset))?;
            if let hash_map::Entry::Vacant(first) = self.pages.entry(u32::from_le_bytes(page)) {
                first.insert(offset + 4);
            }
            self.known += entry;
        }
        Ok(())
    }
}
