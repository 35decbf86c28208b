//! `.stt`: rows of many tables, not yet merged into `.data`, with their index and deletes in the same file.
//!
//! The last 80 logical bytes are five {i64 offset, i64 size} pairs: SttBlk array, StatisBlk array, TombBlk
//! array, two reserved. An SttBlk (80 bytes) describes one block of rows of one super table (or of one normal
//! table); a StatisBlk (80 bytes) describes per-table statistics. (tsdbSttFileRW.c, tsdbUtil2.h.)

use super::{
    BrinRecord, KeyRows, PagedFile, RowBlock, TombBlk, TombRecord,
    head::table_range,
    index::{ColumnSet, Extent, read_array},
    tomb,
};
use crate::{FormatError, ReadAt, cursor::Cursor};
use model::{Key, KeySpan, Suid, TableId, Uid, Version};

const FOOTER: usize = 80;
const STT_ENTRY: usize = 80;
const STATIS_ENTRY: usize = 80;
const STATIS_COLUMNS: usize = 5;

/// An opened `.stt` file.
#[derive(Debug)]
pub struct SttFile<S> {
    file: PagedFile<S>,
    blks: Vec<SttBlk>,
    statis: Vec<StatisBlk>,
    tombs: Vec<TombBlk>,
}

/// A block of rows: whose, of which keys and versions, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SttBlk {
    /// The super table, 0 for a normal table.
    pub suid: Suid,
    /// The first table in it.
    pub min_uid: Uid,
    /// The last table in it.
    pub max_uid: Uid,
    /// The keys of all its rows.
    pub span: KeySpan,
    /// The newest version in it.
    pub max_version: Version,
    /// Rows stored.
    pub rows: u64,
    offset: u64,
    size: u64,
    key_size: u64,
}

/// An index entry over per-table statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisBlk {
    /// The first table in it.
    pub min: TableId,
    /// The last table in it.
    pub max: TableId,
    columns: ColumnSet,
}

/// A table's keys in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisRecord {
    /// The table.
    pub table: TableId,
    /// Its first and last key in the file.
    pub span: KeySpan,
    /// Its distinct keys in the file.
    pub distinct: u64,
}

impl<S: ReadAt> SttFile<S> {
    /// Reads the footer and the three indexes.
    pub fn open(file: PagedFile<S>) -> Result<Self, FormatError> {
        const WHAT: &str = "stt file footer";
        let footer = file.footer::<FOOTER>(WHAT)?;
        let mut cursor = Cursor::new(WHAT, &footer, file.size() - FOOTER as u64);
        let (blks, statis, tombs) = (
            Extent::parse(&mut cursor)?,
            Extent::parse(&mut cursor)?,
            Extent::parse(&mut cursor)?,
        );
        Ok(Self {
            blks: read_array::<S, STT_ENTRY, _>(&file, "stt file index", blks, SttBlk::parse)?,
            statis: read_array::<S, STATIS_ENTRY, _>(
                &file,
                "stt file statistics index",
                statis,
                StatisBlk::parse,
            )?,
            tombs: tomb::read_blks(&file, tombs)?,
            file,
        })
    }

    /// The row blocks, ascending by table.
    pub fn blks(&self) -> &[SttBlk] {
        &self.blks
    }

    /// The index over the per-table statistics.
    pub fn statis_blks(&self) -> &[StatisBlk] {
        &self.statis
    }

    /// The index over the deletes.
    pub fn tomb_blks(&self) -> &[TombBlk] {
        &self.tombs
    }

    /// The rows of one block, at most `max_rows`.
    pub fn key_rows(&self, blk: &SttBlk, max_rows: usize) -> Result<KeyRows, FormatError> {
        let rows = KeyRows::read(&self.file, blk.offset, blk.key_size, max_rows)?;
        rows.check_belongs(blk.tables().0, blk.rows, blk.offset)?;
        Ok(rows)
    }

    /// The rows of one block, at most `max_rows`, with all their cells.
    pub fn row_block(&self, blk: &SttBlk, max_rows: usize) -> Result<RowBlock, FormatError> {
        let block = RowBlock::read(&self.file, blk.offset, blk.key_size, blk.size, max_rows)?;
        block
            .rows
            .check_belongs(blk.tables().0, blk.rows, blk.offset)?;
        Ok(block)
    }

    /// The tables of one entry and their keys.
    pub fn statis(
        &self,
        blk: &StatisBlk,
        max_records: usize,
    ) -> Result<Vec<StatisRecord>, FormatError> {
        const WHAT: &str = "stt file statistics";
        let columns = blk
            .columns
            .read(&self.file, WHAT, STATIS_COLUMNS, max_records)?;
        Ok((0..blk.columns.records)
            .map(|i| StatisRecord {
                table: TableId {
                    suid: Suid(columns[0][i]),
                    uid: Uid(columns[1][i]),
                },
                span: KeySpan {
                    first: Key(columns[2][i]),
                    last: Key(columns[3][i]),
                },
                distinct: columns[4][i].max(0) as u64,
            })
            .collect())
    }

    /// The deletes of one entry.
    pub fn tombs(&self, blk: &TombBlk, max_records: usize) -> Result<Vec<TombRecord>, FormatError> {
        tomb::read_records(&self.file, blk, max_records)
    }

    /// Bytes read from the file so far.
    pub fn bytes_read(&self) -> u64 {
        self.file.bytes_read()
    }
}

impl<S: ReadAt> PagedFile<S> {
    /// The rows of the block that a `.head` record describes; this file is its `.data` file.
    pub fn key_rows(&self, record: &BrinRecord, max_rows: usize) -> Result<KeyRows, FormatError> {
        let rows = KeyRows::read(self, record.offset, record.key_size, max_rows)?;
        rows.check_belongs(record.table, record.rows, record.offset)?;
        Ok(rows)
    }

    /// The same rows with all their cells.
    pub fn row_block(&self, record: &BrinRecord, max_rows: usize) -> Result<RowBlock, FormatError> {
        let (key_size, size) = (record.key_size, record.size);
        let block = RowBlock::read(self, record.offset, key_size, size, max_rows)?;
        block
            .rows
            .check_belongs(record.table, record.rows, record.offset)?;
        Ok(block)
    }
}

impl SttBlk {
    /// The first and the last table in it.
    pub fn tables(&self) -> (TableId, TableId) {
        let table = |uid| TableId {
            suid: self.suid,
            uid,
        };
        (table(self.min_uid), table(self.max_uid))
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let suid = Suid(cursor.i64()?);
        let (min_uid, max_uid) = (Uid(cursor.i64()?), Uid(cursor.i64()?));
        let span = KeySpan {
            first: Key(cursor.i64()?),
            last: Key(cursor.i64()?),
        };
        let _min_version = cursor.i64()?;
        let max_version = Version(cursor.i64()?);
        let rows = cursor.i32()?;
        let _padding = cursor.i32()?;
        let offset = cursor.i64()?;
        let size = cursor.i32()?;
        let key_size = cursor.i32()?;
        match (
            u64::try_from(rows),
            u64::try_from(offset),
            u64::try_from(size),
            u64::try_from(key_size),
        ) {
            (Ok(rows), Ok(offset), Ok(size), Ok(key_size)) => Ok(Self {
                suid,
                min_uid,
                max_uid,
                span,
                max_version,
                rows,
                offset,
                size,
                key_size,
            }),
            _ => Err(cursor.corrupt(format!(
                "a block of {rows} rows and {key_size} key bytes at {offset}"
            ))),
        }
    }
}

impl StatisBlk {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let extent = Extent::parse(cursor)?;
        let (min, max) = table_range(cursor)?;
        let columns = ColumnSet::parse::<STATIS_COLUMNS>(cursor, extent)?;
        Ok(Self { min, max, columns })
    }
}
