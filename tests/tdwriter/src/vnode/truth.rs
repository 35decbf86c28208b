//! What a reader of a written vnode must find.

use std::collections::{BTreeMap, BTreeSet};

use crate::row::{Pk, PkType, Row};
use crate::tsdb::Tomb;

/// Key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Table.
    pub uid: i64,
    /// Timestamp.
    pub ts: i64,
    /// Second part of a composite key.
    pub pk: Option<Pk>,
}

/// A table that was created at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Super table, or 0.
    pub suid: i64,
    /// Name.
    pub name: String,
    /// Type of the second part of its key, if there is one.
    pub pk: Option<PkType>,
    /// Version that created it.
    pub created: i64,
    /// Version that dropped it (or its super table).
    pub dropped: Option<i64>,
    /// Version of its last tag change.
    pub altered: Option<i64>,
}

/// What was done to a vnode, and what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Newest version of every key ever written, in tables that still exist. Deleted rows are in here: they stay in the
    /// files.
    pub newest: BTreeMap<Key, i64>,
    /// The rows of `newest` that no later delete covers: what SQL answers.
    pub live: BTreeMap<Key, i64>,
    /// What the newest write to each key of `newest` wrote.
    pub rows: BTreeMap<Key, Row>,
    /// Deletes that had an effect, one per table, in order of version, not clipped to file sets. Deletes of tables dropped later are
    /// left out.
    pub deletes: Vec<Tomb>,
    /// All tables ever created, by uid.
    pub tables: BTreeMap<i64, TableInfo>,
    /// Dropped super tables and the versions that dropped them.
    pub dropped_stbs: BTreeMap<i64, i64>,
    /// Last version in the TSDB files; -1 before the first commit.
    pub commit_version: i64,
    /// Last version in the log.
    pub last_version: i64,
}

impl Truth {
    /// (uid, ts, version) of the newest version of every key written after version `since`, deleted or not.
    pub fn rows_since(&self, since: i64) -> BTreeSet<(i64, i64, i64)> {
        self.newest
            .iter()
            .filter(|&(_, &v)| v > since)
            .map(|(k, &v)| (k.uid, k.ts, v))
            .collect()
    }

    /// Deletes after version `since`.
    pub fn deletes_since(&self, since: i64) -> Vec<Tomb> {
        self.deletes
            .iter()
            .filter(|t| t.version > since)
            .copied()
            .collect()
    }

    /// Tables created after version `since` that still exist.
    pub fn created_since(&self, since: i64) -> BTreeSet<i64> {
        self.tables
            .iter()
            .filter(|(_, t)| t.created > since && t.dropped.is_none())
            .map(|(&uid, _)| uid)
            .collect()
    }

    /// Tables dropped after version `since`.
    pub fn dropped_since(&self, since: i64) -> BTreeSet<i64> {
        self.tables
            .iter()
            .filter(|(_, t)| t.dropped > Some(since))
            .map(|(&uid, _)| uid)
            .collect()
    }

    /// Whether this table exists.
    pub fn exists(&self, uid: i64) -> bool {
        self.tables.get(&uid).is_some_and(|t| t.dropped.is_none())
    }

    pub(super) fn write(&mut self, uid: i64, row: &Row, version: i64) {
        let key = Key {
            uid,
            ts: row.ts,
            pk: row.pk.clone(),
        };
        self.rows.insert(key.clone(), row.clone());
        self.newest.insert(key.clone(), version);
        self.live.insert(key, version);
    }

    /// First and last live timestamp of a table within a range, and how many rows there are.
    pub(super) fn matching(&self, uid: i64, skey: i64, ekey: i64) -> Option<(i64, i64, i64)> {
        let mut hits = self.live_range(uid, skey, ekey).map(|k| k.ts);
        let first = hits.next()?;
        let (last, count) = hits.fold((first, 1), |(_, n), ts| (ts, n + 1));
        Some((first, last, count))
    }

    fn live_range(&self, uid: i64, skey: i64, ekey: i64) -> impl Iterator<Item = &Key> {
        let from = Key {
            uid,
            ts: skey,
            pk: None,
        };
        self.live
            .range(from..)
            .map(|(k, _)| k)
            .take_while(move |k| k.uid == uid && k.ts <= ekey)
    }

    pub(super) fn delete(&mut self, tomb: Tomb) {
        let gone: Vec<_> = self
            .live_range(tomb.uid, tomb.skey, tomb.ekey)
            .cloned()
            .collect();
        for key in gone {
            self.live.remove(&key);
        }
        self.deletes.push(tomb);
    }

    pub(super) fn drop_table(&mut self, uid: i64, version: i64) {
        if let Some(table) = self.tables.get_mut(&uid) {
            table.dropped = Some(version);
        }
        self.newest.retain(|k, _| k.uid != uid);
        self.live.retain(|k, _| k.uid != uid);
        self.deletes.retain(|t| t.uid != uid);
    }
}
