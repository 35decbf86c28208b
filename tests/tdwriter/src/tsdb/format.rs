//! What a database's options and a server's age decide about its files.

use crate::codec::DEFAULT_ALG;

/// Choices for all files of a vnode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Page size in bytes; a power of two from 4096.
    pub page_size: usize,
    /// Database option COMP, 0-2: compression of all indexes.
    pub comp: u8,
    /// Format version of blocks: 2 since 3.3, 1 and 0 before.
    pub fmt_ver: u8,
    /// Compression of block columns: an algorithm word ([`crate::codec::alg_word`]) with format version 2, COMP before.
    /// Version 2 may hold 0-2 as well: tables without column options get COMP there.
    pub block_alg: u32,
    /// Most rows a block has, and most records an index block of stt and tomb files has.
    pub max_rows: usize,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            page_size: 4096,
            comp: 2,
            fmt_ver: 2,
            block_alg: DEFAULT_ALG,
            max_rows: 4096,
        }
    }
}
