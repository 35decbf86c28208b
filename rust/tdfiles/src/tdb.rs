//! TDB, the server's embedded store: one file of pages with several B+trees in it, `meta/main.tdb` of a vnode.
//!
//! Page n (from 1) lies at (n − 1) · page size. Page 1 is the root of the directory, whose keys are the trees' names
//! (with a NUL) and whose values are {u32 root page, i32 levels, i32 entries}. The server writes pages in place, also
//! before a commit; what a page held when the transaction began lies in a journal beside the file, so the last
//! committed state is the file with the journals laid over it. (`journal` says how, `page` what is in a page.)
//! (tdbPager.c, tdbTable.c of server 3.3.7.)
//!
//! There are no checksums: what protects a reader is that every page may be reached once only, that lengths must fit,
//! and that whoever knows the keys checks their order.

mod journal;
mod page;

use crate::{FormatError, ReadAt, cursor::Cursor, read_at::read_full};
use journal::Journal;
use page::{Kind, Layout, Page};

const WHAT: &str = "TDB file";

/// A TDB file with its journals.
#[derive(Debug)]
pub struct Tdb<S> {
    main: S,
    journals: Vec<Journal<S>>,
    layout: Layout,
}

/// A B+tree of the file.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    root: u32,
    key: Length,
    value: Length,
}

/// How long the keys or the values of a tree are. The file does not say: it is part of the format of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// All of them this long.
    Fixed(usize),
    /// Each as long as its cell says.
    Stored,
}

/// An entry of a tree.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Where its cell stands in the file, for messages.
    pub offset: u64,
}

impl<S: ReadAt> Tdb<S> {
    /// Takes the file and its journals, the oldest first. The file may be written to meanwhile: a page is read before
    /// its journals are looked at, and the server writes the journal first.
    pub fn open(main: S, journals: Vec<S>, page_size: usize) -> Result<Self, FormatError> {
        let layout = Layout::new(page_size)
            .ok_or_else(|| FormatError::corrupt(WHAT, 0, format!("pages of {page_size} bytes")))?;
        let journals = journals.into_iter().map(Journal::new).collect();
        Ok(Self {
            main,
            journals,
            layout,
        })
    }

    /// Finds a tree; `None` if the file has none of this name.
    pub fn tree(
        &mut self,
        name: &str,
        key: Length,
        value: Length,
    ) -> Result<Option<Tree>, FormatError> {
        let mut found = None;
        if self.main_size()? == 0 {
            return Ok(found);
        }
        let directory = Tree {
            root: 1,
            key: Length::Stored,
            value: Length::Fixed(12),
        };
        self.scan(directory, |entry| -> Result<(), FormatError> {
            if entry.key.strip_suffix(&[0]) == Some(name.as_bytes()) {
                let root = Cursor::new("TDB directory", entry.value, entry.offset).u32()?;
                found = Some(Tree { root, key, value });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `visit` with every entry of a tree, in the order of its keys.
    pub fn scan<E: From<FormatError>>(
        &mut self,
        tree: Tree,
        mut visit: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reached = Reached::default();
        let (mut buffer, mut overflow, mut payload) = (Vec::new(), Vec::new(), Vec::new());
        let mut pending = vec![self.reach(&mut reached, tree.root)?];
        while let Some(number) = pending.pop() {
            self.read(number, &mut buffer)?;
            let page = Page::parse(&buffer, self.layout, self.layout.offset(number))?;
            match page.kind {
                Kind::Inner { last_child } => {
                    // The first child is to be the next that is taken.
                    let first = pending.len();
                    for cell in 0..page.cells() {
                        let child = page.cell(cell)?.u32()?;
                        pending.push(self.reach(&mut reached, child)?);
                    }
                    pending.push(self.reach(&mut reached, last_child)?);
                    if let Some(children) = pending.get_mut(first..) {
                        children.reverse();
                    }
                }
                Kind::Leaf => {
                    for cell in 0..page.cells() {
                        let mut cell = page.cell(cell)?;
                        let offset = cell.offset();
                        let cell = LeafCell::parse(&mut cell, tree, self.layout)?;
                        let entry = match cell.next_page {
                            None => cell.local,
                            Some(next) => {
                                payload.clear();
                                payload.extend_from_slice(cell.local);
                                self.overflow(
                                    &mut reached,
                                    next,
                                    cell.length,
                                    &mut overflow,
                                    &mut payload,
                                )?;
                                &payload
                            }
                        };
                        let (key, value) =
                            entry.split_at_checked(cell.key_length).ok_or_else(|| {
                                FormatError::corrupt(WHAT, offset, "a key is longer than its cell")
                            })?;
                        visit(Entry { key, value, offset })?;
                    }
                }
                Kind::Overflow => {
                    let detail = "a page of overflow where a node of a tree should be";
                    return Err(
                        FormatError::corrupt(WHAT, self.layout.offset(number), detail).into(),
                    );
                }
            }
        }
        Ok(())
    }

    /// Appends to `payload` what the pages from `next` on hold of it, until it has `length` bytes.
    fn overflow(
        &mut self,
        reached: &mut Reached,
        mut next: u32,
        length: usize,
        buffer: &mut Vec<u8>,
        payload: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        while let Some(left) = length.checked_sub(payload.len()).filter(|left| *left > 0) {
            let number = self.reach(reached, next)?;
            self.read(number, buffer)?;
            let page = Page::parse(buffer, self.layout, self.layout.offset(number))?;
            if page.kind != Kind::Overflow {
                let at = self.layout.offset(number);
                return Err(FormatError::corrupt(WHAT, at, "not a page of overflow"));
            }
            let mut cell = page.cell(0)?;
            payload.extend_from_slice(cell.take(left.min(self.layout.overflow_capacity()))?);
            next = cell.u32()?;
        }
        match next {
            0 => Ok(()),
            page => {
                let detail = format!("an entry has all its bytes and goes on in page {page}");
                Err(FormatError::corrupt(WHAT, self.layout.offset(page), detail))
            }
        }
    }

    /// Takes note that a page is reached, which may happen once in a scan.
    fn reach(&self, reached: &mut Reached, number: u32) -> Result<u32, FormatError> {
        let place = self.layout.offset(number);
        let wrong = |detail: String| Err(FormatError::corrupt(WHAT, place, detail));
        if number == 0 {
            return wrong("a page leads to page 0, which there is not".to_owned());
        }
        let size = self.main_size()?;
        if place + self.layout.page_size() as u64 > size {
            return wrong(format!("page {number} lies behind the end, at {size}"));
        }
        match reached.insert(number) {
            true => Ok(number),
            false => wrong(format!("page {number} is reached twice")),
        }
    }

    /// Reads a page as it was committed.
    fn read(&mut self, number: u32, buffer: &mut Vec<u8>) -> Result<(), FormatError> {
        let offset = self.layout.offset(number);
        buffer.resize(self.layout.page_size(), 0);
        let io = |source| FormatError::Io { offset, source };
        let read = read_full(&self.main, buffer, offset).map_err(io)?;
        for journal in &mut self.journals {
            if journal.read(number, self.layout, buffer)? {
                return Ok(());
            }
        }
        if read < buffer.len() {
            return Err(FormatError::corrupt(WHAT, offset, "the page is cut short"));
        }
        Ok(())
    }

    fn main_size(&self) -> Result<u64, FormatError> {
        self.main
            .size()
            .map_err(|source| FormatError::Io { offset: 0, source })
    }
}

/// The pages that a scan has reached, a bit each. They are below the file's number of pages, so this is a small part of
/// the file's size.
#[derive(Debug, Default)]
struct Reached(Vec<u64>);

impl Reached {
    /// Whether the page is reached for the first time.
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// A cell of a leaf: its key and value, or the beginning of them where they go on in pages of overflow.
struct LeafCell<'a> {
    key_length: usize,
    /// Of key and value.
    length: usize,
    local: &'a [u8],
    next_page: Option<u32>,
}

impl<'a> LeafCell<'a> {
    fn parse(cell: &mut Cursor<'a>, tree: Tree, layout: Layout) -> Result<Self, FormatError> {
        let start = cell.remaining();
        let mut length_of = |length| match length {
            Length::Fixed(length) => Ok(length),
            Length::Stored => {
                let length = cell.uvarint()?;
                usize::try_from(length).map_err(|_| cell.corrupt("a length exceeds the memory"))
            }
        };
        let key_length = length_of(tree.key)?;
        let value_length = length_of(tree.value)?;
        let header = start - cell.remaining();
        let length = key_length
            .checked_add(value_length)
            .ok_or_else(|| cell.corrupt("a key and a value exceed the memory"))?;
        let local = layout
            .local(header, length)
            .ok_or_else(|| cell.corrupt(format!("a cell of {length} bytes has no place")))?;
        Ok(Self {
            key_length,
            length,
            local: cell.take(local)?,
            next_page: match local < length {
                true => Some(cell.u32()?),
                false => None,
            },
        })
    }
}

#[cfg(test)]
mod tests;
