//! The bytes of a run in memory.
//!
//! Large ones lie in pages of their own, so that giving them back gives memory back to the system: in the
//! allocator's arenas, runs of all sizes that come and go left a quarter of the memory limit unusable.

use memmap2::MmapMut;
use std::ops::Deref;

/// The allocator keeps fewer bytes than this.
const OWN_PAGES: usize = 64 << 10;

/// Bytes in memory.
#[derive(Debug)]
pub(crate) enum Bytes {
    Heap(Vec<u8>),
    Pages(MmapMut),
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() < OWN_PAGES {
            return Self::Heap(bytes);
        }
        match MmapMut::map_anon(bytes.len()) {
            Ok(mut pages) => {
                pages.copy_from_slice(&bytes);
                Self::Pages(pages)
            }
            Err(_) => Self::Heap(bytes),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}
