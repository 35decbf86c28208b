//! Message types and what a body says.
//!
//! Types are i16 numbers, segment · 256 + 1 + 2 · index (tmsgdef.h). All that change data or tables are the
//! same from server 3.3.0 to 3.3.7.

use super::{
    AlterTable, BatchDelete, CreatedTable, Delete, DroppedTable, SubmitTable, SuperTable, delete,
    meta, submit,
};
use crate::{FormatError, cursor::Cursor};
use model::Uid;

const SUBMIT: i16 = 513;
const CREATE_TABLE: i16 = 515;
const ALTER_TABLE: i16 = 517;
const DROP_TABLE: i16 = 519;
const CREATE_STB: i16 = 531;
const ALTER_STB: i16 = 533;
const DROP_STB: i16 = 535;
const DELETE: i16 = 579;
const BATCH_DEL: i16 = 581;
const ALTER_CONFIG: i16 = 583;
const ALTER_REPLICA: i16 = 585;
const ALTER_CONFIRM: i16 = 587;
const ALTER_HASHRANGE: i16 = 589;
const COMPACT: i16 = 591;
const DROP_TTL_TABLE: i16 = 593;
const TRIM: i16 = 595;
const COMMIT: i16 = 597;
const CREATE_INDEX: i16 = 599;
const DROP_INDEX: i16 = 601;
const DISABLE_WRITE: i16 = 603;
/// 605 in server 3.3.0, where 595..=603 are numbered one further.
const DISABLE_WRITE_3300: i16 = 605;
const FETCH_TTL_EXPIRED: i16 = 615;
const SYNC_NOOP: i16 = 1559;
const SYNC_CONFIG_CHANGE: i16 = 1567;
const TMQ: std::ops::RangeInclusive<i16> = 2048..=2303;

/// What a record's body says, as far as it concerns changes.
#[derive(Debug)]
pub enum Message<'a> {
    /// Rows written, table by table, some with the table's creation.
    Submit(Vec<SubmitTable<'a>>),
    /// Keys deleted; the leader resolved tables and keys before it logged the request.
    Delete(Delete<'a>),
    /// Keys deleted in tables that are given by name.
    BatchDelete(BatchDelete<'a>),
    /// Tables created.
    CreateTables(Vec<CreatedTable<'a>>),
    /// Tables dropped.
    DropTables(Vec<DroppedTable<'a>>),
    /// Tables dropped because their TTL ran out.
    DropExpired(Vec<Uid>),
    /// A table's columns, tags or options changed.
    AlterTable(AlterTable<'a>),
    /// A super table was created.
    CreateSuperTable(SuperTable<'a>),
    /// A super table's columns or tags changed.
    AlterSuperTable(SuperTable<'a>),
    /// A super table and with it all its tables were dropped.
    DropSuperTable(SuperTable<'a>),
    /// File sets past their KEEP may vanish.
    Trim,
    /// Nothing that concerns rows or tables.
    Ignored(Ignored),
    /// Something that may concern every row of the vgroup.
    Opaque(Opaque),
}

/// Records without an effect on rows and tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// A commit begins.
    Commit,
    /// Raft housekeeping.
    Sync,
    /// Subscriptions and their offsets.
    Subscription,
    /// Settings, indexes, and requests whose effects are logged separately.
    Housekeeping,
}

/// Records whose effect on rows can't be told from their body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opaque {
    /// The vgroup was split: rows went elsewhere.
    HashRangeChanged,
    /// The members of the vgroup changed.
    MembersChanged,
    /// File sets are rewritten (Enterprise).
    Compact,
    /// A type this build does not know.
    Unknown(i16),
}

/// Every body begins with length and vgroup, which some paths of the server write wrongly: skipped.
const PREFIX: usize = 8;

impl<'a> Message<'a> {
    /// Takes a body apart. `offset` is where the body stands in its file.
    pub fn decode(message_type: i16, body: &'a [u8], offset: u64) -> Result<Self, FormatError> {
        let cursor = |what| {
            let mut cursor = Cursor::new(what, body, offset);
            cursor.take(PREFIX).map(|_| cursor)
        };
        Ok(match message_type {
            SUBMIT => Self::Submit(submit::decode(cursor("submit message")?, offset)?),
            DELETE => Self::Delete(delete::decode(cursor("delete message")?)?),
            BATCH_DEL => Self::BatchDelete(delete::decode_batch(cursor("batch delete message")?)?),
            CREATE_TABLE => {
                Self::CreateTables(meta::create_tables(cursor("create table message")?)?)
            }
            DROP_TABLE => Self::DropTables(meta::drop_tables(cursor("drop table message")?)?),
            DROP_TTL_TABLE => Self::DropExpired(meta::drop_expired(cursor("TTL message")?)?),
            ALTER_TABLE => Self::AlterTable(meta::alter_table(cursor("alter table message")?)?),
            CREATE_STB => {
                Self::CreateSuperTable(meta::super_table(cursor("create stable message")?)?)
            }
            ALTER_STB => Self::AlterSuperTable(meta::super_table(cursor("alter stable message")?)?),
            DROP_STB => Self::DropSuperTable(meta::super_table(cursor("drop stable message")?)?),
            TRIM => Self::Trim,
            COMMIT => Self::Ignored(Ignored::Commit),
            SYNC_NOOP => Self::Ignored(Ignored::Sync),
            ALTER_CONFIG | ALTER_REPLICA | ALTER_CONFIRM | CREATE_INDEX | DROP_INDEX
            | DISABLE_WRITE | DISABLE_WRITE_3300 | FETCH_TTL_EXPIRED => {
                Self::Ignored(Ignored::Housekeeping)
            }
            other if TMQ.contains(&other) => Self::Ignored(Ignored::Subscription),
            ALTER_HASHRANGE => Self::Opaque(Opaque::HashRangeChanged),
            COMPACT => Self::Opaque(Opaque::Compact),
            SYNC_CONFIG_CHANGE => Self::Opaque(Opaque::MembersChanged),
            other => Self::Opaque(Opaque::Unknown(other)),
        })
    }
}
