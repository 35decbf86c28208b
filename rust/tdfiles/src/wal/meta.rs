//! Messages that create, alter or drop tables.
//!
//! | type | after the 8 opaque bytes |
//! |---|---|
//! | CREATE_TABLE 515 | struct {varint n; n × creation struct} |
//! | DROP_TABLE 519 | struct {varint n; n × struct {string name; i64 suid; i64 uid (from 3.3.6); …}} |
//! | ALTER_TABLE 517 | struct {string name; i8 action; …} |
//! | CREATE/ALTER_STB 531/533 | struct {string name; i64 suid; i8 rollup; columns; …} |
//! | DROP_STB 535 | struct {string name; i64 suid; …} |
//! | DROP_TTL_TABLE 593 | struct {i32 time; i32 limit; i32 n; n × i64 uid} |
//!
//! Creation struct: varint flags; string name; i64 uid; i64 created at (ms); i32 ttl; i8 type; i32 comment
//! length [string comment]; for a child: string super table; u8 tags; i64 suid; …; for a normal table: columns; … The leader
//! filled in the uid.

use crate::{
    FormatError,
    cursor::Cursor,
    name::Name,
    schema::Schema,
    types::{CHILD_TABLE, NORMAL_TABLE, VIRTUAL_CHILD_TABLE, VIRTUAL_NORMAL_TABLE},
};
use model::{Suid, Uid};

/// A table that a request creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTable<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Its id.
    pub uid: Uid,
    /// Its super table, 0 for a normal table.
    pub suid: Suid,
    columns: Unparsed<'a>,
}

impl CreatedTable<'_> {
    /// The columns of a normal table; those of a child are its super table's.
    pub fn columns(&self) -> Option<Result<Schema, FormatError>> {
        (self.suid == Suid(0)).then(|| self.columns.parse())
    }
}

/// Columns that were not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unparsed<'a> {
    bytes: &'a [u8],
    offset: u64,
}

impl<'a> Unparsed<'a> {
    fn at(cursor: &Cursor<'a>) -> Self {
        Self {
            bytes: cursor.rest(),
            offset: cursor.offset(),
        }
    }

    fn parse(self) -> Result<Schema, FormatError> {
        Schema::parse(&mut Cursor::new("table message", self.bytes, self.offset))
    }
}

/// A table that a request drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTable<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Its super table, 0 for a normal table.
    pub suid: Suid,
    /// Its id; servers before 3.3.6 leave it out.
    pub uid: Option<Uid>,
}

/// A table whose columns, tags or options a request changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// What changes: 4 and 15 tag values, 5, 6, 7, 10, 13, 14 columns, 9 options, 16..=18 column references.
    pub action: i8,
}

/// A super table that a request creates, alters or drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperTable<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Its id.
    pub suid: Suid,
    columns: Unparsed<'a>,
}

impl SuperTable<'_> {
    /// Its columns as the request leaves them; a request that drops it has none.
    pub fn columns(&self) -> Result<Schema, FormatError> {
        self.columns.parse()
    }
}

impl AlterTable<'_> {
    /// Whether tag values change, rather than columns or options.
    pub fn changes_tags(&self) -> bool {
        matches!(self.action, 4 | 15)
    }

    /// Whether columns change, rather than tag values, comment or TTL.
    pub fn changes_columns(&self) -> bool {
        !self.changes_tags() && self.action != 9
    }
}

pub(super) fn create_tables(mut cursor: Cursor<'_>) -> Result<Vec<CreatedTable<'_>>, FormatError> {
    let mut body = cursor.structure()?;
    let count = body.length()?;
    let mut tables = Vec::with_capacity(body.plausible(count, 4 + 28));
    for _ in 0..count {
        tables.push(created_table(&mut body)?);
    }
    Ok(tables)
}

pub(super) fn created_table<'a>(cursor: &mut Cursor<'a>) -> Result<CreatedTable<'a>, FormatError> {
    let mut table = cursor.structure()?;
    let _flags = table.varint()?;
    let name = Name(table.string()?);
    let uid = Uid(table.i64()?);
    let _created_ms = table.i64()?;
    let _ttl = table.i32()?;
    let kind = table.i8()?;
    if table.i32()? > 0 {
        let _comment = table.string()?;
    }
    let suid = match kind {
        CHILD_TABLE | VIRTUAL_CHILD_TABLE => {
            let _super_table = table.string()?;
            let _tags = table.u8()?;
            Suid(table.i64()?)
        }
        NORMAL_TABLE | VIRTUAL_NORMAL_TABLE => Suid(0),
        other => return Err(table.corrupt(format!("a table of type {other}"))),
    };
    Ok(CreatedTable {
        name,
        uid,
        suid,
        columns: Unparsed::at(&table),
    })
}

pub(super) fn drop_tables(mut cursor: Cursor<'_>) -> Result<Vec<DroppedTable<'_>>, FormatError> {
    let mut body = cursor.structure()?;
    let count = body.length()?;
    let mut tables = Vec::with_capacity(body.plausible(count, 4 + 9));
    for _ in 0..count {
        let mut table = body.structure()?;
        let name = Name(table.string()?);
        let suid = Suid(table.i64()?);
        // Before 3.3.6 only one byte follows, from then on the uid and at least one byte.
        let uid = if table.remaining() > 8 {
            Some(Uid(table.i64()?))
        } else {
            None
        };
        tables.push(DroppedTable { name, suid, uid });
    }
    Ok(tables)
}

pub(super) fn drop_expired(mut cursor: Cursor<'_>) -> Result<Vec<Uid>, FormatError> {
    let mut body = cursor.structure()?;
    let (_time, _limit, count) = (body.i32()?, body.i32()?, body.i32()?);
    let count =
        usize::try_from(count).map_err(|_| body.corrupt(format!("{count} expired tables")))?;
    let mut uids = Vec::with_capacity(body.plausible(count, 8));
    for _ in 0..count {
        uids.push(Uid(body.i64()?));
    }
    Ok(uids)
}

pub(super) fn alter_table(mut cursor: Cursor<'_>) -> Result<AlterTable<'_>, FormatError> {
    let mut body = cursor.structure()?;
    Ok(AlterTable {
        name: Name(body.string()?),
        action: body.i8()?,
    })
}

pub(super) fn super_table(mut cursor: Cursor<'_>) -> Result<SuperTable<'_>, FormatError> {
    let mut body = cursor.structure()?;
    let (name, suid) = (Name(body.string()?), Suid(body.i64()?));
    // A flag for rollups, which a request that drops the table does not have.
    body.take(1.min(body.remaining()))?;
    Ok(SuperTable {
        name,
        suid,
        columns: Unparsed::at(&body),
    })
}
