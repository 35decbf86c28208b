//! Bodies of messages about tables and super tables.

use super::message;
use crate::bytes::Put;
use crate::codec::{INT, TIMESTAMP, VARCHAR};
use crate::row::PkType;

/// A column in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type number.
    pub kind: u8,
    /// Flags: 1 in block statistics, 2 indexed, 4 part of the primary key.
    pub flags: u8,
    /// Width in bytes, strings with their 2-byte length.
    pub bytes: i32,
    /// Column id.
    pub id: i16,
}

impl Column {
    /// A column.
    pub fn new(id: i16, name: &str, kind: u8, flags: u8, bytes: i32) -> Self {
        Self {
            name: name.into(),
            kind,
            flags,
            bytes,
            id,
        }
    }

    /// The columns of tables that hold [`crate::Row`]s.
    pub fn of_rows(pk: Option<PkType>) -> Vec<Self> {
        let mut columns = vec![Self::new(1, "ts", TIMESTAMP, 1, 8)];
        if let Some(pk) = pk {
            let bytes = match pk {
                PkType::Int => 4,
                PkType::BigInt => 8,
                PkType::VarChar => 66,
            };
            columns.push(Self::new(2, "pk", pk.code(), 5, bytes));
        }
        let next = columns.len() as i16 + 1;
        columns.push(Self::new(next, "value", INT, 1, 4));
        columns.push(Self::new(next + 1, "text", VARCHAR, 1, 66));
        columns
    }
}

fn encode_schema(columns: &[Column], version: i32, b: &mut Vec<u8>) {
    b.ivar(columns.len() as i64);
    b.ivar(version.into());
    for c in columns {
        b.u8(c.kind);
        b.u8(c.flags);
        b.ivar(c.bytes.into());
        b.ivar(c.id.into());
        b.cstr(&c.name);
    }
}

/// Compression words of all columns, in the shape schemas carry them.
fn encode_compression(columns: &[Column], version: i32, b: &mut Vec<u8>) {
    b.ivar(columns.len() as i64);
    b.ivar(version.into());
    for c in columns {
        b.ivar(c.id.into());
        b.u32(match c.kind {
            TIMESTAMP => crate::codec::alg_word(2, 1, 2),
            INT => crate::codec::alg_word(1, 1, 2),
            VARCHAR => crate::codec::alg_word(crate::codec::DISABLED, 3, 2),
            6 | 7 => crate::codec::alg_word(4, 1, 2),
            _ => crate::codec::alg_word(1, 1, 2),
        });
    }
}

/// What kind of table is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A child table.
    Child {
        /// Name of the super table.
        stb: String,
        /// The super table.
        suid: i64,
        /// Value of the only tag, an INT called `groupid`.
        group: i32,
    },
    /// A normal table with the columns of [`crate::Row`].
    Normal {
        /// Composite key column, if any.
        pk: Option<PkType>,
    },
}

/// A table to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// Table.
    pub uid: i64,
    /// Name.
    pub name: String,
    /// Creation time in ms since 1970.
    pub created_ms: i64,
    /// Time to live in days; 0 for ever.
    pub ttl_days: i32,
    /// Comment.
    pub comment: Option<String>,
    /// Kind.
    pub kind: TableKind,
    /// Bytes a newer server might append to this struct.
    pub extra: Vec<u8>,
}

pub(super) fn encode_create(t: &CreateTable, b: &mut Vec<u8>) {
    b.ivar(0);
    b.cstr(&t.name);
    b.i64(t.uid);
    b.i64(t.created_ms);
    b.i32(t.ttl_days);
    b.u8(match t.kind {
        TableKind::Child { .. } => 2,
        TableKind::Normal { .. } => 3,
    });
    match t.comment.as_deref() {
        None => b.i32(-1),
        Some("") => b.i32(0),
        Some(comment) => {
            b.i32(comment.len() as i32);
            b.cstr(comment);
        }
    }
    let mut compression = Vec::new();
    match &t.kind {
        TableKind::Child { stb, suid, group } => {
            let tag_id = 100;
            b.cstr(stb);
            b.u8(1);
            b.i64(*suid);
            let mut tag = Vec::new();
            tag.ivar(tag_id);
            tag.u8(INT);
            tag.i32(*group);
            b.binary(&tag_row(&[tag]));
            b.i32(1);
            b.cstr("groupid");
        }
        TableKind::Normal { pk } => {
            let columns = Column::of_rows(*pk);
            encode_schema(&columns, 1, b);
            encode_compression(&columns, 1, &mut compression);
        }
    }
    // No SQL text; no type modifiers.
    b.i32(0);
    b.raw(&compression);
    b.u8(0);
    b.raw(&t.extra);
}

/// Tag values of a child table: a small header with an offset per tag, then the tags.
fn tag_row(tags: &[Vec<u8>]) -> Vec<u8> {
    let size = 9 + tags.len() + tags.iter().map(Vec::len).sum::<usize>();
    let mut b = vec![0];
    b.i16(size as i16);
    b.i16(tags.len() as i16);
    b.i32(1);
    let mut at = 0;
    for tag in tags {
        b.u8(at as u8);
        at += tag.len();
    }
    b.raw(&tags.concat());
    b
}

/// Body of a message that creates tables. `extra` stands for what a newer server might append.
pub fn create_tables(vg: i32, tables: &[CreateTable], extra: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.structure(|b| {
        b.ivar(tables.len() as i64);
        for t in tables {
            b.structure(|b| encode_create(t, b));
        }
        b.u8(0);
        b.raw(extra);
    });
    message(vg, &rest)
}

/// A table to be dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropTable {
    /// Name.
    pub name: String,
    /// Super table, or 0 for a normal table.
    pub suid: i64,
    /// Table; `None` writes the older shape (before 3.3.6), which has the name only.
    pub uid: Option<i64>,
    /// Bytes a newer server might append to this struct (to the one with uid).
    pub extra: Vec<u8>,
}

/// Body of a message that drops tables. `extra` stands for what a newer server might append.
pub fn drop_tables(vg: i32, tables: &[DropTable], extra: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.structure(|b| {
        b.ivar(tables.len() as i64);
        for t in tables {
            b.structure(|b| {
                b.cstr(&t.name);
                b.i64(t.suid);
                match t.uid {
                    Some(uid) => {
                        b.i64(uid);
                        b.raw(&[0, 0]);
                    }
                    None => b.u8(0),
                }
                b.raw(&t.extra);
            });
        }
        b.raw(extra);
    });
    message(vg, &rest)
}

/// A change of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alter {
    /// A new tag value.
    SetTag {
        /// Column id of the tag.
        id: i32,
        /// Name of the tag.
        name: String,
        /// Type number of the tag.
        kind: u8,
        /// The value's bytes; `None` is NULL.
        value: Option<Vec<u8>>,
    },
    /// A new column.
    AddColumn(Column),
    /// A column dropped, by name.
    DropColumn(String),
    /// A column renamed: old and new name.
    RenameColumn(String, String),
    /// Other options.
    Options {
        /// New time to live in days.
        ttl_days: Option<i32>,
        /// New comment.
        comment: Option<String>,
    },
}

/// Body of a change of the table called `table`, made at `created_ms` (ms since 1970).
pub fn alter_table(vg: i32, table: &str, alter: &Alter, created_ms: i64, extra: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.structure(|b| {
        b.cstr(table);
        let start = |b: &mut Vec<u8>, action: u8, id: i32| {
            b.u8(action);
            b.i32(id);
        };
        let mut type_modifier = false;
        match alter {
            Alter::SetTag {
                id,
                name,
                kind,
                value,
            } => {
                start(b, 4, *id);
                b.cstr(name);
                b.u8(value.is_none().into());
                b.u8(*kind);
                if let Some(value) = value {
                    b.binary(value);
                }
            }
            Alter::AddColumn(c) => {
                start(b, 5, 0);
                b.cstr(&c.name);
                b.u8(c.kind);
                b.u8(c.flags);
                b.ivar(c.bytes.into());
                type_modifier = true;
            }
            Alter::DropColumn(name) => {
                start(b, 6, 0);
                b.cstr(name);
            }
            Alter::RenameColumn(old, new) => {
                start(b, 10, 0);
                b.cstr(old);
                b.cstr(new);
            }
            Alter::Options { ttl_days, comment } => {
                start(b, 9, 0);
                b.u8(ttl_days.is_some().into());
                if let Some(days) = ttl_days {
                    b.ivar((*days).into());
                }
                b.ivar(comment.as_ref().map_or(-1, |c| c.len() as i64));
                if let Some(comment) = comment.as_ref().filter(|c| !c.is_empty()) {
                    b.cstr(comment);
                }
            }
        }
        b.i64(created_ms);
        b.u8(0);
        if type_modifier {
            b.i32(0);
        }
        b.raw(extra);
    });
    message(vg, &rest)
}

/// A super table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stb {
    /// Name.
    pub name: String,
    /// Its id.
    pub suid: i64,
    /// Columns, the timestamp first.
    pub columns: Vec<Column>,
    /// Tags.
    pub tags: Vec<Column>,
    /// Version of the columns, from 1; one more for every change.
    pub version: i32,
}

impl Stb {
    /// A new super table for [`crate::Row`]s with one INT tag called `groupid`.
    pub fn of_rows(name: &str, suid: i64, pk: Option<PkType>) -> Self {
        Self {
            name: name.into(),
            suid,
            columns: Column::of_rows(pk),
            tags: vec![Column::new(100, "groupid", INT, 2, 4)],
            version: 1,
        }
    }
}

/// Body of a message that creates a super table.
pub fn create_stb(vg: i32, stb: &Stb, extra: &[u8]) -> Vec<u8> {
    stb_message(vg, stb, &[], extra)
}

/// Body of a message that changes a super table; `original` is the opaque request it came from.
pub fn alter_stb(vg: i32, stb: &Stb, original: &[u8], extra: &[u8]) -> Vec<u8> {
    stb_message(vg, stb, original, extra)
}

fn stb_message(vg: i32, stb: &Stb, original: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.structure(|b| {
        b.cstr(&stb.name);
        b.i64(stb.suid);
        b.u8(0);
        encode_schema(&stb.columns, stb.version, b);
        encode_schema(&stb.tags, 1, b);
        b.i32(original.len() as i32);
        if !original.is_empty() {
            b.binary(original);
        }
        b.u8(0);
        b.u8(1);
        encode_compression(&stb.columns, stb.version, b);
        // Keep of its own: none.
        b.i64(-1);
        b.raw(&[0, 0]);
        b.raw(extra);
    });
    message(vg, &rest)
}

/// Body of a message that drops a super table with all children.
pub fn drop_stb(vg: i32, name: &str, suid: i64, extra: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.structure(|b| {
        b.cstr(name);
        b.i64(suid);
        b.raw(extra);
    });
    message(vg, &rest)
}

/// Body of a message that drops tables whose time to live passed at `now_s` (seconds since 1970).
pub fn ttl_drop(vg: i32, now_s: i32, uids: &[i64]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.structure(|b| {
        b.i32(now_s);
        b.i32(i32::MAX);
        b.i32(uids.len() as i32);
        for &uid in uids {
            b.i64(uid);
        }
    });
    message(vg, &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUID: i64 = 0x3ca3_0d9b_03a6_1edd;

    #[test]
    fn the_recorded_drop_is_reproduced() {
        let d = DropTable {
            name: "d16".into(),
            suid: SUID,
            uid: Some(0x0615_1fcc_3d30_001e),
            extra: Vec::new(),
        };
        let recorded =
            "28000000030000001c00000002170000000464313600dd1ea6039b0da33c1e00303dcc1f15060000";
        assert_eq!(
            crate::hex(&drop_tables(3, std::slice::from_ref(&d), &[])),
            recorded
        );
        let older = drop_tables(3, &[DropTable { uid: None, ..d }], &[]);
        assert_eq!(older.len(), recorded.len() / 2 - 9);
    }

    #[test]
    fn the_recorded_tag_change_is_reproduced() {
        let alter = Alter::SetTag {
            id: 7,
            name: "location".into(),
            kind: VARCHAR,
            value: Some(b"moved-here".to_vec()),
        };
        let recorded = "36000000030000002a00000004643138000407000000096c6f636174696f6e0000080a6d6f7665642d68657265aaadc5\
                        fca101000000";
        assert_eq!(
            crate::hex(&alter_table(3, "d18", &alter, 1_795_242_175_914, &[])),
            recorded
        );
    }

    #[test]
    fn the_recorded_super_table_is_reproduced() {
        let stb = Stb {
            name: "meters".into(),
            suid: SUID,
            columns: vec![
                Column::new(1, "ts", TIMESTAMP, 1, 8),
                Column::new(2, "current", 6, 1, 4),
                Column::new(3, "voltage", INT, 1, 4),
                Column::new(4, "phase", 6, 1, 4),
                Column::new(5, "note", VARCHAR, 1, 18),
            ],
            tags: vec![
                Column::new(6, "groupid", INT, 2, 4),
                Column::new(7, "location", VARCHAR, 0, 26),
            ],
            version: 1,
        };
        let recorded = "9e0000000200000092000000076d657465727300dd1ea6039b0da33c000a0209011002037473000601080408637572\
                        72656e74000401080608766f6c746167650006010808067068617365000801240a056e6f746500040204020\
                        80c0867726f75706964000800340e096c6f636174696f6e000000000000010a02020201000204020100040602\
                        01000108020100040a020300ffffffffffffffffff0000";
        assert_eq!(crate::hex(&create_stb(2, &stb, &[])), recorded);
    }

    #[test]
    fn tag_rows_have_the_recorded_shape() {
        let tags = [vec![0x0c, 4, 3, 0, 0, 0], vec![0x0e, 8, 1, 0x36]];
        assert_eq!(
            crate::hex(&tag_row(&tags)),
            "0015000200010000000006".to_owned() + "0c0403000000" + "0e080136"
        );
    }
}
