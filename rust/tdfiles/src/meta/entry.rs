//! An entry of `table.db`: what one table is.
//!
//! Entry: struct {i64 version; i8 type; i64 uid; string name; …}, and then by type
//!
//! | type | fields |
//! |---|---|
//! | 1 super table | u8 flags (1 rollup, 2 has coding, 4 virtual); columns; tags; [rollup]; [coding]; [digits of DECIMALs]; i64 KEEP |
//! | 2 child, 9 virtual child | i64 created at (ms); i32 TTL (days); varint comment length [string comment]; i64 suid; tag values; … |
//! | 3 normal, 8 virtual normal | i64 created at (ms); i32 TTL; varint comment length [comment]; varint next column id; columns; [coding]; [digits] |
//!
//! A comment's length is −1 where there is none. (metaEntry.c of server 3.3.7.)

use crate::{
    FormatError, Name,
    cursor::Cursor,
    schema::Schema,
    tags::Tags,
    types::{CHILD_TABLE, NORMAL_TABLE, SUPER_TABLE, VIRTUAL_CHILD_TABLE, VIRTUAL_NORMAL_TABLE},
};
use model::{Suid, Uid, Version};

const ROLLUP: u8 = 1;
const HAS_CODING: u8 = 2;
const VIRTUAL: u8 = 4;

/// A super table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperTable {
    /// Its name.
    pub name: String,
    /// Its id.
    pub suid: Suid,
    /// The version of the request that created or altered it last.
    pub version: Version,
    /// Its columns, the timestamp first.
    pub columns: Schema,
    /// Its tags.
    pub tags: Schema,
    /// How long it keeps rows, in minutes, if the database's KEEP does not say.
    pub keep: Option<i64>,
    /// Its tables are virtual.
    pub is_virtual: bool,
}

/// A table that is no super table.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Its id.
    pub uid: Uid,
    /// The version of the request that created or altered it last.
    pub version: Version,
    /// What it is, with what only such a table has.
    pub kind: TableKind<'a>,
}

/// What a table is.
#[derive(Debug, Clone)]
pub enum TableKind<'a> {
    /// A table of a super table.
    Child(ChildTable<'a>),
    /// A table with columns of its own.
    Normal(NormalTable<'a>),
    /// A table of references to columns of others.
    VirtualNormal,
    /// A table of references to columns of others, of a super table.
    VirtualChild,
    /// Something else that the server keeps here, with its number for it; an aggregate (TSMA) is 6.
    Other(i8),
}

/// What a child table has.
#[derive(Debug, Clone, Copy)]
pub struct ChildTable<'a> {
    /// Its super table.
    pub suid: Suid,
    /// Its tag values.
    pub tags: Tags<'a>,
    /// What any table has that holds rows.
    pub options: TableOptions<'a>,
}

/// What a normal table has.
#[derive(Debug, Clone)]
pub struct NormalTable<'a> {
    /// Its columns, the timestamp first.
    pub columns: Schema,
    /// What any table has that holds rows.
    pub options: TableOptions<'a>,
}

/// What child and normal tables have alike.
#[derive(Debug, Clone, Copy)]
pub struct TableOptions<'a> {
    /// When it was created, in milliseconds since the epoch.
    pub created_ms: i64,
    /// Its TTL in days; 0 for none.
    pub ttl_days: i32,
    /// Its comment, as it stood between the quotes of the statement that set it.
    pub comment: Option<&'a [u8]>,
}

/// Opens the struct that an entry is, which must be the table's.
pub(super) fn open<'a>(
    mut value: Cursor<'a>,
    version: Version,
    uid: Uid,
) -> Result<Cursor<'a>, FormatError> {
    let entry = value.structure()?;
    let mut header = entry;
    let (stated, _type, of) = (Version(header.i64()?), header.i8()?, Uid(header.i64()?));
    match (stated, of) == (version, uid) {
        true => Ok(entry),
        false => {
            let detail = format!("the entry of table {uid} says it is of table {of} at {stated}");
            Err(entry.corrupt(detail))
        }
    }
}

impl SuperTable {
    pub(super) fn parse(mut entry: Cursor<'_>) -> Result<Self, FormatError> {
        let version = Version(entry.i64()?);
        let kind = entry.i8()?;
        if kind != SUPER_TABLE {
            return Err(entry.corrupt(format!("a table of type {kind} among the super tables")));
        }
        let suid = Suid(entry.i64()?);
        let name = std::str::from_utf8(entry.string()?)
            .map_err(|_| entry.corrupt("a super table's name is no UTF-8"))?
            .to_owned();
        let flags = entry.u8()?;
        let mut columns = Schema::parse(&mut entry)?;
        let tags = Schema::parse(&mut entry)?;
        if flags & ROLLUP != 0 {
            skip_rollup(&mut entry)?;
        }
        if flags & HAS_CODING != 0 {
            columns.read_coding(&mut entry)?;
        }
        if columns.has_digits() {
            columns.read_digits(&mut entry)?;
        }
        // Servers before the option leave it out.
        let keep = match entry.remaining() {
            0..8 => None,
            _ => Some(entry.i64()?).filter(|minutes| *minutes > 0),
        };
        Ok(Self {
            name,
            suid,
            version,
            columns,
            tags,
            keep,
            is_virtual: flags & VIRTUAL != 0,
        })
    }
}

/// Twice {varint delay, varint watermark, varint length of a plan [uvarint length, the plan]}.
fn skip_rollup(entry: &mut Cursor<'_>) -> Result<(), FormatError> {
    for _ in 0..2 {
        let (_delay, _watermark, plan) = (entry.varint()?, entry.varint()?, entry.varint()?);
        if plan > 0 {
            entry.string()?;
        }
    }
    Ok(())
}

impl<'a> Table<'a> {
    pub(super) fn parse(mut entry: Cursor<'a>) -> Result<Self, FormatError> {
        let version = Version(entry.i64()?);
        let kind = entry.i8()?;
        let uid = Uid(entry.i64()?);
        let name = Name(entry.string()?);
        let kind = match kind {
            CHILD_TABLE => {
                let options = TableOptions::parse(&mut entry)?;
                let suid = Suid(entry.i64()?);
                let tags = Tags::parse(&mut entry)?;
                TableKind::Child(ChildTable {
                    suid,
                    tags,
                    options,
                })
            }
            NORMAL_TABLE => {
                let options = TableOptions::parse(&mut entry)?;
                let _next_column = entry.varint()?;
                let mut columns = Schema::parse(&mut entry)?;
                if entry.remaining() > 0 {
                    columns.read_coding(&mut entry)?;
                }
                // 3.3.7.5 loses them when the last column is dropped.
                if columns.has_digits() && entry.remaining() > 0 {
                    columns.read_digits(&mut entry)?;
                }
                TableKind::Normal(NormalTable { columns, options })
            }
            VIRTUAL_NORMAL_TABLE => TableKind::VirtualNormal,
            VIRTUAL_CHILD_TABLE => TableKind::VirtualChild,
            other => TableKind::Other(other),
        };
        Ok(Self {
            name,
            uid,
            version,
            kind,
        })
    }
}

impl<'a> TableOptions<'a> {
    fn parse(entry: &mut Cursor<'a>) -> Result<Self, FormatError> {
        let (created_ms, ttl_days) = (entry.i64()?, entry.i32()?);
        let comment = match entry.varint()? {
            ..0 => None,
            0 => Some(&[][..]),
            _ => Some(entry.string()?),
        };
        Ok(Self {
            created_ms,
            ttl_days,
            comment,
        })
    }
}
