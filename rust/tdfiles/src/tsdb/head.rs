//! `.head`: the index of a `.data` file.
//!
//! The last 48 logical bytes are {i64 offset, i64 size} of the BrinBlk array and 32 reserved bytes. A BrinBlk
//! (136 bytes) describes up to 256 records stored as 15 columns; a record describes one data block. Records
//! are ordered by (suid, uid, first key) and a block belongs to one table. (tsdbUtil2.h, tsdbDataFileRW.c.)

use super::{
    PagedFile,
    index::{ColumnSet, Extent, read_array, read_footer},
};
use crate::{FormatError, ReadAt, cursor::Cursor};
use model::{Key, KeySpan, Suid, TableId, Uid, Version};

const ENTRY: usize = 136;
/// The server writes at most this many records per BrinBlk by default; MAXROWS bounds it in any case.
const WIDE_COLUMNS: usize = 10;
const COLUMNS: usize = 15;

/// An opened `.head` file.
#[derive(Debug)]
pub struct HeadFile<S> {
    file: PagedFile<S>,
    blks: Vec<BrinBlk>,
}

/// An index entry: up to 256 records, the tables they cover and their newest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrinBlk {
    /// The first table in it.
    pub min: TableId,
    /// The last table in it.
    pub max: TableId,
    /// The newest version of any row in its blocks.
    pub max_version: Version,
    columns: ColumnSet,
}

/// A data block: whose rows it holds, of which keys and versions, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrinRecord {
    /// The table.
    pub table: TableId,
    /// Its first and last key in the block.
    pub span: KeySpan,
    /// The oldest version in the block.
    pub min_version: Version,
    /// The newest version in the block.
    pub max_version: Version,
    /// Logical offset in the `.data` file.
    pub offset: u64,
    /// Size of the whole block.
    pub size: u64,
    /// Size of the header and the key part together.
    pub key_size: u64,
    /// Rows stored.
    pub rows: u64,
    /// Distinct keys.
    pub distinct: u64,
}

impl<S: ReadAt> HeadFile<S> {
    /// Reads the footer and the index entries.
    pub fn open(file: PagedFile<S>) -> Result<Self, FormatError> {
        let extent = read_footer(&file, "head file footer")?;
        let blks = read_array::<S, ENTRY, _>(&file, "head file index", extent, BrinBlk::parse)?;
        Ok(Self { file, blks })
    }

    /// The index entries, ascending by table.
    pub fn blks(&self) -> &[BrinBlk] {
        &self.blks
    }

    /// The records of one entry; `max_records` bounds what a hostile file can make us allocate.
    pub fn records(
        &self,
        blk: &BrinBlk,
        max_records: usize,
    ) -> Result<Vec<BrinRecord>, FormatError> {
        const WHAT: &str = "head file records";
        let columns = blk
            .columns
            .read(&self.file, WHAT, WIDE_COLUMNS, max_records)?;
        let offset = blk.columns.extent.offset;
        let unsigned = |value: i64| {
            u64::try_from(value).map_err(|_| {
                FormatError::corrupt(WHAT, offset, format!("a size or offset is {value}"))
            })
        };
        (0..blk.columns.records)
            .map(|i| {
                let at = |column: usize| columns[column][i];
                Ok(BrinRecord {
                    table: TableId {
                        suid: Suid(at(0)),
                        uid: Uid(at(1)),
                    },
                    span: KeySpan {
                        first: Key(at(2)),
                        last: Key(at(4)),
                    },
                    min_version: Version(at(6)),
                    max_version: Version(at(7)),
                    offset: unsigned(at(8))?,
                    size: unsigned(at(10))?,
                    key_size: unsigned(at(11))?,
                    rows: unsigned(at(13))?,
                    distinct: unsigned(at(14))?,
                })
            })
            .collect()
    }

    /// Bytes read from the file so far.
    pub fn bytes_read(&self) -> u64 {
        self.file.bytes_read()
    }
}

impl BrinBlk {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let extent = Extent::parse(cursor)?;
        let (min, max) = table_range(cursor)?;
        let _min_version = cursor.i64()?;
        let max_version = Version(cursor.i64()?);
        let columns = ColumnSet::parse::<COLUMNS>(cursor, extent)?;
        Ok(Self {
            min,
            max,
            max_version,
            columns,
        })
    }
}

/// minSuid, minUid, maxSuid, maxUid, as index entries hold them.
pub(super) fn table_range(cursor: &mut Cursor<'_>) -> Result<(TableId, TableId), FormatError> {
    let mut table = || {
        Ok::<_, FormatError>(TableId {
            suid: Suid(cursor.i64()?),
            uid: Uid(cursor.i64()?),
        })
    };
    Ok((table()?, table()?))
}
