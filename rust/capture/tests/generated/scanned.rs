//! A scan's outcome in a form that can be held against the writer's truth.

use capture::{
    CaptureError, Change, DataDirs, ScanReport, SourceChoice, Start, TableChange, VnodeDir,
};
use model::{PkValue, Version};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use tdwriter::{
    Pk,
    vnode::{Key, Truth},
};

/// What a scan named.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// The newest version of every key.
    pub(crate) rows: BTreeMap<Key, i64>,
    /// Table, first key, last key, version.
    pub(crate) deletes: BTreeSet<(i64, i64, i64, i64)>,
    /// Tables whose rows are not known one by one.
    pub(crate) unknown: BTreeSet<i64>,
    pub(crate) created: BTreeSet<i64>,
    pub(crate) dropped: BTreeSet<i64>,
    pub(crate) dropped_stbs: BTreeSet<i64>,
}

pub(crate) fn vnode(dir: &Path) -> Result<VnodeDir, CaptureError> {
    Ok(DataDirs::new(vec![dir.into()])?.vnodes()?.remove(0))
}

pub(crate) fn scan(
    dir: &Path,
    since: i64,
    source: SourceChoice,
) -> Result<(Scanned, ScanReport), CaptureError> {
    let mut scanned = Scanned::default();
    let start = Start {
        version: Version(since),
        known: None,
    };
    let report = vnode(dir)?.scan(&start, source, &mut |change| scanned.add(change))?;
    Ok((scanned, report))
}

impl Scanned {
    fn add(&mut self, change: Change<'_>) -> Result<(), tdfiles::FormatError> {
        match change {
            Change::Rows(rows) => {
                return rows.for_each(|ts, pk, version| {
                    let key = Key {
                        uid: rows.table.uid.0,
                        ts: ts.0,
                        pk: pk.map(pk_of),
                    };
                    let newest = self.rows.entry(key).or_insert(version.0);
                    *newest = version.0.max(*newest);
                });
            }
            Change::Delete {
                table,
                span,
                version,
            } => {
                self.deletes
                    .insert((table.uid.0, span.first.0, span.last.0, version.0));
            }
            Change::Unknown { table, .. } => {
                self.unknown.insert(table.uid.0);
            }
            Change::Table { change, .. } => match change {
                TableChange::Created { table, .. } => {
                    self.created.insert(table.uid.0);
                }
                TableChange::Dropped { uid: Some(uid), .. } => {
                    self.dropped.insert(uid.0);
                }
                TableChange::SuperTableDropped { suid, .. } => {
                    self.dropped_stbs.insert(suid.0);
                }
                _ => {}
            },
        }
        Ok(())
    }
}

/// The writer's form of a key's second half.
fn pk_of(pk: &PkValue) -> Pk {
    match pk {
        PkValue::Signed(v) => Pk::BigInt(*v),
        PkValue::Unsigned(v) => Pk::BigInt(*v as i64),
        PkValue::Text(text) => Pk::VarChar(text.as_bytes().to_vec()),
    }
}

/// The truth's keys, integers in one width.
pub(crate) fn normalised(key: &Key) -> Key {
    let pk = key.pk.clone().map(|pk| match pk {
        Pk::Int(v) => Pk::BigInt(v.into()),
        other => other,
    });
    Key { pk, ..key.clone() }
}

impl Scanned {
    /// Without what concerns tables that are gone.
    pub(crate) fn of_existing_tables(mut self, truth: &Truth) -> Self {
        self.rows.retain(|key, _| truth.exists(key.uid));
        self.deletes.retain(|(uid, ..)| truth.exists(*uid));
        self
    }

    /// Whether a delete of this version covers the key.
    pub(crate) fn deletes(&self, uid: i64, ts: i64, version: i64) -> bool {
        self.deletes.iter().any(|(table, first, last, by)| {
            *table == uid && *by == version && (first..=last).contains(&&ts)
        })
    }
}
