//! The catalogue of a vnode: its tables, their columns and their tag values.
//!
//! It lies in four trees of `meta/main.tdb`:
//!
//! | tree | key | value |
//! |---|---|---|
//! | `uid.idx` | i64 uid | i64 suid, i64 version, i32 schema version: the tables that there are, and which entry of each counts |
//! | `table.db` | i64 version, i64 uid | the table's entry as that request left it; earlier ones may still be there |
//! | `schema.db` | i64 uid, i32 schema version | every version of the columns of super and normal tables |
//! | `name.idx` | name with its NUL | i64 uid |
//!
//! The suid of a super table is its own uid, that of a normal table 0. (metaOpen.c, meta.h of server 3.3.7; `entry` says
//! what is in an entry.)

mod entry;

pub use entry::{ChildTable, NormalTable, SuperTable, Table, TableKind, TableOptions};

use crate::{
    FormatError, Name, ReadAt,
    cursor::Cursor,
    schema::Schema,
    tdb::{Entry, Length, Tdb, Tree},
};
use model::{SchemaVersion, Suid, TableId, Uid, Version};

const WHAT: &str = "catalogue";

/// An opened catalogue.
#[derive(Debug)]
pub struct Meta<S> {
    tdb: Tdb<S>,
    entries: Tree,
    schemas: Tree,
    names: Tree,
    /// What uid.idx says, ascending by uid.
    live: Vec<Live>,
}

/// A table that there is.
#[derive(Debug)]
struct Live {
    uid: Uid,
    suid: Suid,
    version: Version,
}

impl Live {
    fn id(&self) -> TableId {
        TableId {
            suid: self.suid,
            uid: self.uid,
        }
    }

    fn is_super(&self) -> bool {
        self.uid.0 == self.suid.0
    }
}

impl<S: ReadAt> Meta<S> {
    /// Reads which tables there are.
    pub fn open(mut tdb: Tdb<S>) -> Result<Self, FormatError> {
        let mut tree = |name, key, value| {
            let missing = || FormatError::corrupt(WHAT, 0, format!("there is no tree {name}"));
            tdb.tree(name, key, value)?.ok_or_else(missing)
        };
        let uids = tree("uid.idx", Length::Fixed(8), Length::Fixed(20))?;
        let entries = tree("table.db", Length::Fixed(16), Length::Stored)?;
        let schemas = tree("schema.db", Length::Fixed(12), Length::Stored)?;
        let names = tree("name.idx", Length::Stored, Length::Fixed(8))?;
        let mut live: Vec<Live> = Vec::new();
        tdb.scan(uids, |entry| -> Result<(), FormatError> {
            let uid = Uid(key(entry).i64()?);
            in_order(live.last().map(|last| last.uid), uid, entry)?;
            let mut value = value(entry);
            live.push(Live {
                uid,
                suid: Suid(value.i64()?),
                version: Version(value.i64()?),
            });
            Ok(())
        })?;
        Ok(Self {
            tdb,
            entries,
            schemas,
            names,
            live,
        })
    }

    /// How many tables there are, super tables included.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is no table.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The ids of all tables, ascending by their own; a super table has its own as that of its super table. With each the
    /// version of the request that created or altered it last.
    pub fn ids(&self) -> impl Iterator<Item = (TableId, Version)> + '_ {
        self.live.iter().map(|live| (live.id(), live.version))
    }

    /// The super tables.
    pub fn super_tables(&mut self) -> Result<Vec<SuperTable>, FormatError> {
        let mut tables = Vec::new();
        self.entries(Live::is_super, |entry| {
            tables.push(SuperTable::parse(entry)?);
            Ok::<_, FormatError>(())
        })?;
        Ok(tables)
    }

    /// Calls `visit` with every table of which `wanted` is true but the super tables, in the order in which they were created
    /// or altered last.
    pub fn tables<E: From<FormatError>>(
        &mut self,
        wanted: impl Fn(TableId) -> bool,
        mut visit: impl FnMut(Table<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries(
            |live| !live.is_super() && wanted(live.id()),
            |entry| visit(Table::parse(entry)?),
        )
    }

    /// Calls `visit` with the versions of the columns of each super and normal table. Types are as wide as they were in
    /// that version; digits of DECIMALs and coding are not told. There may be tables that were dropped.
    pub fn schemas<E: From<FormatError>>(
        &mut self,
        mut visit: impl FnMut(Uid, Schema) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = None;
        self.tdb.scan(self.schemas, |entry| {
            let mut key = key(entry);
            let (uid, version) = (Uid(key.i64()?), SchemaVersion(key.i32()?));
            in_order(last.replace((uid, version)), (uid, version), entry)?;
            let mut value = value(entry);
            let schema = Schema::parse(&mut value)?;
            if schema.version != version {
                let other = schema.version;
                return Err(value
                    .corrupt(format!("schema {version} says it is schema {other}"))
                    .into());
            }
            visit(uid, schema)
        })
    }

    /// Calls `visit` with the name of every table, super tables included, in the order of their bytes.
    pub fn names<E: From<FormatError>>(
        &mut self,
        mut visit: impl FnMut(Name<'_>, Uid) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last: Option<Vec<u8>> = None;
        self.tdb.scan(self.names, |entry| {
            in_order(last.as_deref(), entry.key, entry)?;
            last = Some(entry.key.to_vec());
            let name = entry.key.strip_suffix(&[0]).unwrap_or(entry.key);
            visit(Name(name), Uid(value(entry).i64()?))
        })
    }

    /// What its two lists of tables, `uid.idx` and `name.idx`, contradict each other in: a damaged page can lack tables without
    /// looking damaged.
    pub fn contradiction(&mut self) -> Option<String> {
        let Self {
            tdb, names, live, ..
        } = self;
        let (mut named, mut unlisted, mut first) = (Vec::with_capacity(live.len()), 0, None);
        let read = tdb.scan(*names, |entry| -> Result<(), FormatError> {
            let uid = Uid(value(entry).i64()?);
            named.push(uid);
            if live.binary_search_by_key(&uid, |live| live.uid).is_err() {
                unlisted += 1;
                let name = entry.key.strip_suffix(&[0]).unwrap_or(entry.key);
                first.get_or_insert_with(|| Name(name).to_string());
            }
            Ok(())
        });
        if let Err(error) = read {
            return Some(format!("its list of names can't be read: {error}"));
        }
        named.sort_unstable();
        let nameless = live
            .iter()
            .filter(|live| named.binary_search(&live.uid).is_err())
            .count();
        match (first, nameless) {
            (None, 0) => None,
            (None, nameless) => Some(format!(
                "{nameless} of its tables are missing in its list of names"
            )),
            (Some(first), nameless) => Some(format!(
                "{unlisted} tables are in its list of names and not in its list of tables, one of them {first}, and {nameless} the \
                 other way round"
            )),
        }
    }

    /// Calls `visit` with the entry that counts of every table that is `wanted`.
    fn entries<E: From<FormatError>>(
        &mut self,
        wanted: impl Fn(&Live) -> bool,
        mut visit: impl FnMut(Cursor<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let live = &self.live;
        let mut missing = live.iter().filter(|live| wanted(live)).count();
        if missing == 0 {
            return Ok(());
        }
        let mut last = None;
        self.tdb.scan(self.entries, |entry| -> Result<(), E> {
            let mut key = key(entry);
            let (version, uid) = (Version(key.i64()?), Uid(key.i64()?));
            in_order(last.replace((version, uid)), (version, uid), entry)?;
            let found = live.binary_search_by_key(&uid, |live| live.uid);
            let Some(live) = found.ok().and_then(|at| live.get(at)) else {
                return Ok(());
            };
            if live.version != version || !wanted(live) {
                return Ok(());
            }
            missing -= 1;
            let body = entry::open(value(entry), version, uid)?;
            visit(body)
        })?;
        match missing {
            0 => Ok(()),
            missing => {
                let detail = format!("{missing} tables have no entry of their version");
                Err(FormatError::corrupt(WHAT, 0, detail).into())
            }
        }
    }
}

fn key<'a>(entry: Entry<'a>) -> Cursor<'a> {
    Cursor::new(WHAT, entry.key, entry.offset)
}

fn value<'a>(entry: Entry<'a>) -> Cursor<'a> {
    Cursor::new(WHAT, entry.value, entry.offset)
}

/// Keys ascend in a tree.
fn in_order<K: Ord>(last: Option<K>, key: K, entry: Entry<'_>) -> Result<(), FormatError> {
    match last {
        Some(last) if last >= key => Err(FormatError::corrupt(
            WHAT,
            entry.offset,
            "a key is out of order",
        )),
        _ => Ok(()),
    }
}
