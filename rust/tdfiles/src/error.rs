//! What can be wrong with bytes that should be in one of TDengine's formats.

use std::{borrow::Cow, io};

/// Why a piece of a file could not be parsed. Offsets are bytes from the start of the parsed input, physical
/// for files read as they are (WAL) and logical (checksum bytes not counted) inside TSDB files.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The bytes contradict the format: a checksum, a length, a magic number, or an end that came too soon.
    #[error("{what} is damaged at offset {offset}: {detail}")]
    Corrupt {
        /// The structure that was being read.
        what: &'static str,
        /// Where.
        offset: u64,
        /// What is wrong.
        detail: Cow<'static, str>,
    },
    /// The bytes are sound, but written in a way this build does not read. Their place and range are known
    /// from the index, so the caller can treat that range as changed as a whole.
    #[error("{what} at offset {offset} can't be read: {why}")]
    Unreadable {
        /// The structure that was being read.
        what: &'static str,
        /// Where.
        offset: u64,
        /// What is missing.
        why: Unreadable,
    },
    /// The operating system refused a read.
    #[error("reading at offset {offset} failed: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// Its answer.
        source: io::Error,
    },
}

/// Sound bytes that this build can't take apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A compression this build has no decoder for.
    #[error("unknown compression 0x{0:08x}")]
    Codec(u32),
    /// A data block format newer than 2.
    #[error("unknown block format {0}")]
    BlockFormat(u32),
    /// A composite primary key of a type that has no documented form.
    #[error("primary key column of type {0}")]
    PrimaryKeyType(u8),
    /// A column or tag of a type whose values this build does not find.
    #[error("column of type {0}")]
    ColumnType(u8),
    /// More rows in a block than the vnode's MAXROWS allows.
    #[error("{rows} rows in one block, more than the limit of {limit}")]
    TooManyRows {
        /// What the block claims.
        rows: u64,
        /// What was allowed.
        limit: usize,
    },
    /// The file or message is encrypted and no key is at hand.
    #[error("encrypted")]
    Encrypted,
    /// Part of the data file lies in shared storage.
    #[error("kept in shared storage")]
    SharedStorage,
    /// A message in a layout newer than this build knows.
    #[error("unknown message layout {0}")]
    MessageLayout(i64),
}

impl FormatError {
    pub(crate) fn corrupt(
        what: &'static str,
        offset: u64,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Corrupt {
            what,
            offset,
            detail: detail.into(),
        }
    }

    pub(crate) fn unreadable(what: &'static str, offset: u64, why: Unreadable) -> Self {
        Self::Unreadable { what, offset, why }
    }
}
