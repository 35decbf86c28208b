//! Deletes: `.tomb` files and the delete section of `.stt` files.
//!
//! A `.tomb` footer is like a `.head` footer. A TombBlk (96 bytes) describes records stored as 5 columns of
//! i64: suid, uid, version, first key, last key. One DELETE leaves a record in every file set it touches,
//! clipped to the set's keys. (tsdbUtil2.h, tsdbDataFileRW.c.)

use super::{
    PagedFile,
    head::table_range,
    index::{ColumnSet, Extent, read_array, read_footer},
};
use crate::{FormatError, ReadAt};
use model::{Key, KeySpan, Suid, TableId, Uid, Version};

const ENTRY: usize = 96;
const COLUMNS: usize = 5;

/// An opened `.tomb` file.
#[derive(Debug)]
pub struct TombFile<S> {
    file: PagedFile<S>,
    blks: Vec<TombBlk>,
}

/// An index entry: some deletes and their newest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TombBlk {
    /// The newest version of any delete in it.
    pub max_version: Version,
    columns: ColumnSet,
}

/// Keys of a table that a DELETE removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TombRecord {
    /// The table.
    pub table: TableId,
    /// The version of the DELETE: it hides rows in the span with a lower version.
    pub version: Version,
    /// The keys.
    pub span: KeySpan,
}

impl<S: ReadAt> TombFile<S> {
    /// Reads the footer and the index entries.
    pub fn open(file: PagedFile<S>) -> Result<Self, FormatError> {
        let extent = read_footer(&file, "tomb file footer")?;
        let blks = read_blks(&file, extent)?;
        Ok(Self { file, blks })
    }

    /// The index entries.
    pub fn blks(&self) -> &[TombBlk] {
        &self.blks
    }

    /// The deletes of one entry; `max_records` bounds what a hostile file can make us allocate.
    pub fn records(
        &self,
        blk: &TombBlk,
        max_records: usize,
    ) -> Result<Vec<TombRecord>, FormatError> {
        read_records(&self.file, blk, max_records)
    }

    /// Bytes read from the file so far.
    pub fn bytes_read(&self) -> u64 {
        self.file.bytes_read()
    }
}

pub(super) fn read_blks<S: ReadAt>(
    file: &PagedFile<S>,
    extent: Extent,
) -> Result<Vec<TombBlk>, FormatError> {
    read_array::<S, ENTRY, _>(file, "delete index", extent, |cursor| {
        let extent = Extent::parse(cursor)?;
        let _tables = table_range(cursor)?;
        let _min_version = cursor.i64()?;
        let max_version = Version(cursor.i64()?);
        let columns = ColumnSet::parse::<COLUMNS>(cursor, extent)?;
        Ok(TombBlk {
            max_version,
            columns,
        })
    })
}

pub(super) fn read_records<S: ReadAt>(
    file: &PagedFile<S>,
    blk: &TombBlk,
    max_records: usize,
) -> Result<Vec<TombRecord>, FormatError> {
    let columns = blk
        .columns
        .read(file, "delete records", COLUMNS, max_records)?;
    Ok((0..blk.columns.records)
        .map(|i| TombRecord {
            table: TableId {
                suid: Suid(columns[0][i]),
                uid: Uid(columns[1][i]),
            },
            version: Version(columns[2][i]),
            span: KeySpan {
                first: Key(columns[3][i]),
                last: Key(columns[4][i]),
            },
        })
        .collect())
}
