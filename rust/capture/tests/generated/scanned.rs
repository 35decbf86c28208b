//! A scan's outcome in a form that can be held against the writer's truth.

use capture::{
    CaptureError, Change, DataDirs, RowView, ScanReport, SourceChoice, Start, TableChange, Unread,
    VnodeDir, WantedRows,
};
use model::{Cell, Key as Key64, KeySpan, PkValue, RowBatch, Suid, TableId, Uid, Value, Version};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use tdwriter::{
    Pk, Row,
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

/// Rows by key, each with the version that last wrote to it.
pub(crate) type Rows = BTreeMap<Key, (i64, Row)>;

/// The rows of a vnode's committed files in these spans of every table that exists, each with the version that last wrote
/// to it. They must come in order, each once.
pub(crate) fn rows_in(dir: &Path, truth: &Truth, spans: &[KeySpan]) -> Rows {
    let view = RowView::open(&vnode(dir).unwrap()).unwrap();
    assert_eq!(view.version().0, truth.commit_version);
    let (rows, unread) = rows_of(&view, truth, spans);
    assert_eq!(unread, []);
    rows
}

/// What files and log say together; `None` if they don't for sure. KEEP is for ever.
pub(crate) fn view_with_log(dir: &Path) -> Option<RowView> {
    RowView::open_with_whole_log(&vnode(dir).unwrap(), Key64(i64::MIN)).unwrap()
}

/// The same of a view, and what it left unread.
pub(crate) fn rows_of(
    view: &RowView,
    truth: &Truth,
    spans: &[KeySpan],
) -> (Rows, Vec<(TableId, KeySpan)>) {
    let existing = truth.tables.iter().filter(|(uid, _)| truth.exists(**uid));
    let wanted: WantedRows = existing
        .map(|(uid, table)| {
            let id = TableId {
                suid: Suid(table.suid),
                uid: Uid(*uid),
            };
            (id, spans.to_vec())
        })
        .collect();
    let composite: BTreeSet<i64> = truth
        .newest
        .keys()
        .filter(|key| key.pk.is_some())
        .map(|key| key.uid)
        .collect();
    let (mut rows, mut unread) = (BTreeMap::new(), Vec::new());
    for (set, _) in view.file_sets() {
        let mut before: Option<(Suid, Key)> = None;
        let left = view.read(set, &wanted, &mut |batch| {
            let mut at = 0;
            for (uid, count) in &batch.tables {
                assert!(*count > 0);
                for i in at..at + count {
                    let (key, row) = row_of(&batch, *uid, composite.contains(&uid.0), i);
                    let place = Some((batch.suid, key.clone()));
                    assert!(before < place, "{before:?} stands before {place:?}");
                    before = place;
                    assert_eq!(rows.insert(key, (batch.versions[i].0, row)), None);
                }
                at += count;
            }
            assert_eq!(at, batch.len());
            Ok(())
        });
        match left.unwrap() {
            Unread::Spans(spans) => unread.extend(spans),
            Unread::Everything => panic!("file set {set} can't be read"),
        }
    }
    (rows, unread)
}

/// A row in the writer's form. Its columns are the second half of the key, if there is one, an INT and a VARCHAR.
fn row_of(batch: &RowBatch, uid: Uid, has_pk: bool, i: usize) -> (Key, Row) {
    let mut row = Row {
        ts: batch.keys[i].0,
        ..Row::default()
    };
    for cells in &batch.columns {
        let Cell::Value(bytes) = cells.cell(i) else {
            continue;
        };
        let value = Value::read(cells.data_type, bytes).unwrap();
        match (cells.column.0, has_pk, value) {
            (2, true, Value::Int(value)) => row.pk = Some(Pk::BigInt(value)),
            (2, true, Value::Bytes(text)) => row.pk = Some(Pk::VarChar(text.to_vec())),
            (2, false, Value::Int(value)) | (3, true, Value::Int(value)) => {
                row.value = Some(value as i32);
            }
            (_, _, Value::Bytes(text)) => row.text = Some(text.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    let key = Key {
        uid: uid.0,
        ts: row.ts,
        pk: row.pk.clone(),
    };
    (key, row)
}
