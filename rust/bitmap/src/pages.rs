//! The states of a shard, in pages that go to disk one by one when memory is short, least recently used first.
//!
//! When the pages have become too large, one of them is divided (linear hashing). So the states never need much more
//! memory at once, and a mark of a cold block waits only until one page is read.

use crate::error::EngineError;
use crate::memory::{Charge, Memory};
use crate::place::Place;
use crate::status::Status;
use crate::swap::{Slot, Swap};
use crate::tables::Tables;
use crate::{BlockId, StateTransitionError};
use std::mem::size_of;
use std::sync::Arc;

/// About how many bytes a page that may go to disk takes in memory, on average.
const PAGE_BYTES: usize = 16 << 10;
/// How many bytes a page that stays in memory takes at most: lookups in few large tables are faster than in many small
/// ones.
const LASTING_PAGE_BYTES: u64 = 1 << 20;
/// By how much the account of the pages may be off.
const SLACK: usize = 1 << 10;

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In memory.
    Memory,
    /// In memory, and the same in its slot.
    Both,
    /// In its slot only.
    Disk,
}

#[derive(Debug)]
struct Page {
    /// Empty while the page is on disk.
    tables: Tables,
    /// Bytes of `tables`, or what it had when it was written.
    bytes: usize,
    home: Home,
    /// Looked at since the hand passed by.
    used: bool,
    slot: Option<Slot>,
}

impl Page {
    fn new(tables: Tables) -> Self {
        Self {
            bytes: tables.heap_bytes(),
            tables,
            home: Home::Memory,
            used: true,
            slot: None,
        }
    }
}

/// The states of a shard.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: Vec<Page>,
    /// Bytes of the pages in memory, and of all.
    held: usize,
    all: usize,
    /// The page that is looked at next when one has to go.
    hand: usize,
    page_bytes: usize,
    swap: Option<Arc<Swap>>,
    memory: Arc<Memory>,
    charge: Charge,
    charged: usize,
}

impl Pages {
    /// No states. Without `swap` they stay in memory.
    pub(crate) fn new(memory: &Arc<Memory>, swap: Option<Arc<Swap>>) -> Self {
        Self {
            pages: vec![Page::new(Tables::default())],
            held: 0,
            all: 0,
            hand: 0,
            page_bytes: match swap {
                Some(_) => PAGE_BYTES,
                None => (memory.limit() >> 10).min(LASTING_PAGE_BYTES) as usize,
            },
            swap,
            memory: Arc::clone(memory),
            charge: Charge::new(memory, 0),
            charged: 0,
        }
    }

    /// The status of `block`.
    #[inline]
    pub(crate) fn get(&mut self, block: BlockId) -> Result<Status, EngineError> {
        let place = Place::of(block);
        let page = self.load(place.page(self.pages.len()))?;
        Ok(page.tables.get(place, block))
    }

    /// Brings what a lookup of `block` reads into the cache; lookups wait for memory one after another, touches for many
    /// at once. What it returns means nothing.
    #[inline]
    pub(crate) fn touch(&self, block: BlockId) -> u8 {
        let place = Place::of(block);
        let page = &self.pages[place.page(self.pages.len())];
        page.tables.touch(place, block)
    }

    /// Changes the status of `block` to what `change` makes of it, if it makes anything; returns what it was and is.
    #[inline]
    pub(crate) fn change(
        &mut self,
        block: BlockId,
        change: impl FnOnce(Status) -> Result<Status, StateTransitionError>,
    ) -> Result<(Status, Status), EngineError> {
        let place = Place::of(block);
        let page = self.load(place.page(self.pages.len()))?;
        let (from, to) = page
            .tables
            .change(place, block, change)
            .map_err(|source| EngineError::InvalidTransition { block, source })?;
        if from != to {
            page.home = Home::Memory;
            let (before, now) = (page.bytes, page.tables.heap_bytes());
            if before != now {
                page.bytes = now;
                self.held = self.held + now - before;
                self.all = self.all + now - before;
                self.after_growth();
            }
        }
        Ok((from, to))
    }

    /// Page `at`, in memory.
    #[inline]
    fn load(&mut self, at: usize) -> Result<&mut Page, EngineError> {
        if self.pages[at].home == Home::Disk {
            self.read_back(at)?;
        }
        let page = &mut self.pages[at];
        page.used = true;
        Ok(page)
    }

    #[cold]
    fn read_back(&mut self, at: usize) -> Result<(), EngineError> {
        let needed = self.pages[at].bytes as u64;
        if self.memory.current() + needed > self.memory.comfortable() {
            // A page that can't be written stays in memory. Whether there is room for more marks is decided elsewhere.
            let _ = self.evict(needed as usize);
        }
        let page = &mut self.pages[at];
        if let (Some(swap), Some(slot)) = (&self.swap, &page.slot) {
            let bytes = swap.read(slot)?;
            page.tables = Tables::decode(&bytes).ok_or_else(|| swap.damaged(slot))?;
        }
        page.home = Home::Both;
        let (before, now) = (page.bytes, page.tables.heap_bytes());
        page.bytes = now;
        self.held += now;
        self.all = self.all + now - before;
        self.account();
        Ok(())
    }

    #[inline]
    fn after_growth(&mut self) {
        if self.all > self.pages.len() * self.page_bytes {
            self.divide();
        }
        if self.held.abs_diff(self.charged) > SLACK {
            self.account();
        }
    }

    /// Divides one page. If it can't be read now, pages stay larger for a while.
    #[cold]
    fn divide(&mut self) {
        let pages = self.pages.len() + 1;
        let at = Place::divided(pages);
        if self.load(at).is_err() {
            return;
        }
        let page = &mut self.pages[at];
        let other = Page::new(page.tables.split_off(pages - 1, pages));
        page.home = Home::Memory;
        let before = page.bytes;
        page.bytes = page.tables.heap_bytes();
        let now = page.bytes + other.bytes;
        self.held = self.held + now - before;
        self.all = self.all + now - before;
        self.pages.push(other);
    }

    fn account(&mut self) {
        self.charged = self.held;
        let directory = self.pages.capacity() * size_of::<Page>();
        self.charge.resize(self.held + directory);
    }

    /// Moves pages to disk until `bytes` are given back or all have gone. Returns what was given back.
    pub(crate) fn evict(&mut self, bytes: usize) -> Result<usize, EngineError> {
        let Some(swap) = self.swap.clone() else {
            return Ok(0);
        };
        let mut freed = 0;
        let mut buffer = Vec::new();
        for _ in 0..2 * self.pages.len() {
            if freed >= bytes {
                break;
            }
            self.hand = (self.hand + 1) % self.pages.len();
            let page = &mut self.pages[self.hand];
            if page.home == Home::Disk || page.bytes == 0 || std::mem::take(&mut page.used) {
                continue;
            }
            if page.home == Home::Memory {
                buffer.clear();
                let written = page
                    .tables
                    .encode(&mut buffer)
                    .map_err(|source| EngineError::Io {
                        action: "encoding",
                        path: "states".into(),
                        source,
                    })
                    .and_then(|()| swap.write(&buffer, &mut page.slot));
                if let Err(error) = written {
                    self.account();
                    return Err(error);
                }
            }
            page.tables = Tables::default();
            page.home = Home::Disk;
            self.held -= page.bytes;
            freed += page.bytes;
        }
        self.account();
        Ok(freed)
    }

    /// What the pages take that are in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held
    }

    /// Is any page on disk only?
    pub(crate) fn is_spilled(&self) -> bool {
        self.held < self.all
    }

    /// Gives back memory without moving anything.
    pub(crate) fn compact(&mut self) {
        for page in self.pages.iter_mut().filter(|p| p.home != Home::Disk) {
            page.tables.compact();
            let (before, now) = (page.bytes, page.tables.heap_bytes());
            page.bytes = now;
            self.held = self.held + now - before;
            self.all = self.all + now - before;
        }
        self.account();
    }

    /// The known blocks from `first` to `last`, in no order.
    pub(crate) fn known_in(
        &mut self,
        first: BlockId,
        last: BlockId,
    ) -> Result<Vec<BlockId>, EngineError> {
        let mut found = Vec::new();
        for at in 0..self.pages.len() {
            found.extend(self.load(at)?.tables.known_in(first, last));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockState;
    use crate::memory::MB;

    #[test]
    fn pages_come_back_from_disk_as_they_went() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(MB);
        let swap = Arc::new(Swap::create(dir.path()).unwrap());
        let mut pages = Pages::new(&memory, Some(swap));
        let id = |i: u64| BlockId(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let status = |i: u64| Status::known(BlockState::Dirty, i.is_multiple_of(3));
        for i in 0..20_000 {
            pages.change(id(i), |_| Ok(status(i))).unwrap();
            if i % 1000 == 999 {
                pages.evict(usize::MAX).unwrap();
                assert_eq!(pages.held, 0);
            }
        }
        assert!(pages.is_spilled());
        for i in 0..20_000 {
            assert_eq!(pages.get(id(i)).unwrap(), status(i), "{i}");
        }
        assert_eq!(pages.get(id(20_000)).unwrap(), Status::UNKNOWN);
        let found = pages.known_in(BlockId(0), BlockId(u64::MAX)).unwrap();
        assert_eq!(found.len(), 20_000);
        assert!(memory.usage().peak < MB * 3 / 4, "{:?}", memory.usage());
    }
}
