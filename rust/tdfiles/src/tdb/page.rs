//! A page: its kind, and its cells.
//!
//! ```text
//! u8 flags (1 root, 2 leaf, 4 overflow, 8 the stack of free pages)   [u32 last child, unless it is a leaf]
//! number of cells   begin of the cells   first free cell   free bytes      u16 each; u24 in pages of 64 KiB or more
//! offset of each cell                                                      likewise
//! …                 the cells, in any order
//! 4 bytes, unused
//! ```
//!
//! A u24 is its highest byte, then the other two as a u16. Cells: inner node {u32 child, key}; leaf {[uvarint key
//! length] [uvarint value length], key and value, or a part of them and u32 the page where they go on}; overflow {the
//! next part, u32 next page}. (tdbPage.c, tdbBtree.c of server 3.3.7.)

use crate::{FormatError, cursor::Cursor};

const LEAF: u8 = 2;
const OVERFLOW: u8 = 4;
/// The bytes that nothing is stored in, at the end of every page.
const FOOTER: usize = 4;
/// The flags of a leaf; an inner node and a page of overflow have a page number as well.
const LEAF_HEADER: usize = 1;
const INNER_HEADER: usize = 5;
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 512..=16_777_216;

/// What follows from the size of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    page_size: usize,
    /// Bytes of a number in the header.
    number: usize,
}

impl Layout {
    pub(super) fn new(page_size: usize) -> Option<Self> {
        PAGE_SIZES.contains(&page_size).then_some(Self {
            page_size,
            number: if page_size < 65_536 { 2 } else { 3 },
        })
    }

    pub(super) fn page_size(self) -> usize {
        self.page_size
    }

    /// Where a page lies in the file.
    pub(super) fn offset(self, number: u32) -> u64 {
        u64::from(number.saturating_sub(1)) * self.page_size as u64
    }

    /// The most bytes of one cell.
    fn capacity(self, header: usize) -> usize {
        self.page_size - header - 5 * self.number - FOOTER
    }

    /// The bytes of an entry in a page of overflow.
    pub(super) fn overflow_capacity(self) -> usize {
        self.capacity(INNER_HEADER) - 4
    }

    /// How many of the `length` bytes of an entry lie in its leaf, behind `header` bytes of lengths: all, or what is left
    /// beyond whole pages, or as few as possible. `None` if there is no place for the number of the next page.
    pub(super) fn local(self, header: usize, length: usize) -> Option<usize> {
        let max = self.capacity(LEAF_HEADER);
        let size = header.checked_add(length)?;
        if size <= max {
            return Some(length);
        }
        let min = self.capacity(INNER_HEADER) / 4 / 2;
        let filling = min + (size - min) % (max - 4);
        let cell = if filling <= max { filling } else { min };
        cell.checked_sub(header + 4)
    }
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Inner { last_child: u32 },
    Overflow,
}

/// A page whose header and offsets lie within it.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) kind: Kind,
    /// The page without its unused end.
    bytes: &'a [u8],
    /// The offsets of the cells.
    index: &'a [u8],
    /// Where the index ends: no cell begins before that.
    index_end: usize,
    layout: Layout,
    offset: u64,
}

impl<'a> Page<'a> {
    pub(super) fn parse(bytes: &'a [u8], layout: Layout, offset: u64) -> Result<Self, FormatError> {
        let bytes = bytes.get(..layout.page_size - FOOTER).unwrap_or(bytes);
        let mut cursor = Cursor::new("TDB page", bytes, offset);
        let flags = cursor.u8()?;
        let kind = if flags & LEAF != 0 {
            Kind::Leaf
        } else {
            let last_child = cursor.u32()?;
            match flags & OVERFLOW {
                0 => Kind::Inner { last_child },
                _ => Kind::Overflow,
            }
        };
        let cells = number(cursor.take(layout.number)?);
        cursor.take(3 * layout.number)?;
        let index = cursor.take(cells * layout.number)?;
        Ok(Self {
            kind,
            bytes,
            index,
            index_end: bytes.len() - cursor.remaining(),
            layout,
            offset,
        })
    }

    /// How many cells it has.
    pub(super) fn cells(&self) -> usize {
        self.index.len() / self.layout.number
    }

    /// What stands from the beginning of a cell on; where the cell ends only its content says.
    pub(super) fn cell(&self, cell: usize) -> Result<Cursor<'a>, FormatError> {
        let at = self
            .index
            .chunks_exact(self.layout.number)
            .nth(cell)
            .map(number);
        match at.and_then(|at| Some((at, self.bytes.get(at..)?))) {
            Some((at, bytes)) if at >= self.index_end => {
                Ok(Cursor::new("TDB cell", bytes, self.offset + at as u64))
            }
            _ => {
                let detail = format!("cell {cell} of {} has no place", self.cells());
                Err(FormatError::corrupt("TDB page", self.offset, detail))
            }
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    match *bytes {
        [low, high] => usize::from(high) << 8 | usize::from(low),
        [top, low, high] => usize::from(top) << 16 | usize::from(high) << 8 | usize::from(low),
        _ => 0,
    }
}
