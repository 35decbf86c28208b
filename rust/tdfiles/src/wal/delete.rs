//! DELETE (579) and BATCH_DEL (581).
//!
//! DELETE, no struct around it: i64 suid; varint n; n × i64 uid; i64 first key; i64 last key; zig-zag varint
//! rows removed; string table; string timestamp column; … The leader resolved it: the keys are those of the
//! first and last row that matched. A delete on a super table lists all its tables in the vgroup.
//! BATCH_DEL comes from streams: i64 suid; i32 n; n × {string table; i64 first; i64 last}.
//! (tEncodeDeleteRes and tEncodeSBatchDeleteReq of server 3.3.7.)

use crate::{FormatError, cursor::Cursor, name::Name};
use model::{Key, KeySpan, Suid, Uid};

/// A resolved DELETE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete<'a> {
    /// The super table, 0 for a normal table.
    pub suid: Suid,
    /// The tables it was run on.
    pub uids: Vec<Uid>,
    /// The keys from the first to the last matching row.
    pub span: KeySpan,
    /// Rows that were removed; with 0 the server ignores the request.
    pub affected: i64,
    /// The table in the statement: a child, normal or super table.
    pub name: Name<'a>,
}

/// A delete by table name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchDelete<'a> {
    /// The super table.
    pub suid: Suid,
    /// Tables and keys.
    pub deletes: Vec<(Name<'a>, KeySpan)>,
}

pub(super) fn decode(mut cursor: Cursor<'_>) -> Result<Delete<'_>, FormatError> {
    let suid = Suid(cursor.i64()?);
    let count = cursor.length()?;
    let mut uids = Vec::with_capacity(cursor.plausible(count, 8));
    for _ in 0..count {
        uids.push(Uid(cursor.i64()?));
    }
    let span = KeySpan {
        first: Key(cursor.i64()?),
        last: Key(cursor.i64()?),
    };
    let affected = cursor.varint()?;
    let name = Name(cursor.string()?);
    Ok(Delete {
        suid,
        uids,
        span,
        affected,
        name,
    })
}

pub(super) fn decode_batch(mut cursor: Cursor<'_>) -> Result<BatchDelete<'_>, FormatError> {
    let suid = Suid(cursor.i64()?);
    let count = cursor.i32()?;
    let count =
        usize::try_from(count).map_err(|_| cursor.corrupt(format!("{count} single deletes")))?;
    let mut deletes = Vec::with_capacity(cursor.plausible(count, 17));
    for _ in 0..count {
        let name = Name(cursor.string()?);
        deletes.push((
            name,
            KeySpan {
                first: Key(cursor.i64()?),
                last: Key(cursor.i64()?),
            },
        ));
    }
    Ok(BatchDelete { suid, deletes })
}
