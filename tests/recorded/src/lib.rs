//! The recorded data in `tests/data`: vnodes of a real TDengine 3.3.7.5 in three states, and what SQL answered
//! in two of them.
//!
//! Between `base` and `incr` rows were appended, overwritten, inserted late and deleted, tables created and
//! dropped, a column added and a tag changed. `incr_wal` has those changes in the log only, `incr_flushed` in
//! the committed files.

pub mod catalogue;
mod truth;

use capture::{
    Change, DataDirs, RowView, SourceChoice, Start, TableChange, Unread, VnodeDir, WantedRows,
};
use model::{Cell, ColumnId, Key, KeySpan, RowBatch, Uid, Value, Version};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::{Path, PathBuf},
};
pub use truth::Truth;

/// Both vnodes of `base` are committed up to this version.
pub const BASE: Version = Version(25);

/// Any error, for programs and tests that only report it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The data directory of a recorded state: `base`, `incr_wal` or `incr_flushed`.
pub fn data_dir(state: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../data")
        .join(state)
}

/// The vnodes of a data directory.
pub fn vnodes(dir: &Path) -> Result<Vec<VnodeDir>> {
    Ok(DataDirs::new(vec![dir.into()])?.vnodes()?)
}

/// Every row and delete that a scan names, in a form that can be compared.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Found {
    /// Table, key and the version that wrote it.
    pub rows: BTreeSet<(Uid, Key, Version)>,
    /// Table, keys and the version that deleted them.
    pub deletes: BTreeSet<(Uid, KeySpan, Version)>,
    /// Tables dropped, where the scan names them.
    pub dropped: BTreeSet<Uid>,
    /// Names of tables, where the scan names them.
    pub names: BTreeMap<String, Uid>,
}

/// Scans one vnode.
pub fn find(vnode: &VnodeDir, since: Version, source: SourceChoice) -> Result<Found> {
    let mut found = Found::default();
    let start = Start {
        version: since,
        known: None,
    };
    vnode.scan(&start, source, &mut |change| found.add(change))?;
    Ok(found)
}

impl Found {
    fn add(&mut self, change: Change<'_>) -> std::result::Result<(), tdfiles::FormatError> {
        match change {
            Change::Rows(rows) => {
                return rows.for_each(|key, _, version| {
                    self.rows.insert((rows.table.uid, key, version));
                });
            }
            Change::Delete {
                table,
                span,
                version,
            } => {
                self.deletes.insert((table.uid, span, version));
            }
            Change::Table { change, .. } => match change {
                TableChange::Dropped { uid: Some(uid), .. } => {
                    self.dropped.insert(uid);
                }
                TableChange::Created { table, name } => {
                    self.names.insert(name.to_owned(), table.uid);
                }
                _ => {}
            },
            Change::Unknown { .. } => {}
        }
        Ok(())
    }

    /// The keys that a query would find in each table, if everything was asked for: rows without those that a
    /// later delete hides.
    pub fn live(&self) -> BTreeMap<Uid, BTreeSet<Key>> {
        let mut deletes: BTreeMap<Uid, Vec<(KeySpan, Version)>> = BTreeMap::new();
        for (uid, span, version) in &self.deletes {
            deletes.entry(*uid).or_default().push((*span, *version));
        }
        let mut live: BTreeMap<Uid, BTreeSet<Key>> = BTreeMap::new();
        for (uid, key, version) in &self.rows {
            let hidden = deletes.get(uid).is_some_and(|deletes| {
                deletes.iter().any(|(span, deleted)| {
                    version < deleted && span.first <= *key && *key <= span.last
                })
            });
            if !hidden {
                live.entry(*uid).or_default().insert(*key);
            }
        }
        live
    }
}

/// The keys that a query would find in each table: what the committed files hold, without the tables that the
/// log says were dropped.
pub fn live_keys(dir: &Path) -> Result<BTreeMap<Uid, BTreeSet<Key>>> {
    let mut live = BTreeMap::new();
    for vnode in vnodes(dir)? {
        let dropped = find(&vnode, Version::BEGINNING, SourceChoice::Wal)?.dropped;
        live.extend(find(&vnode, Version::BEGINNING, SourceChoice::Tsdb)?.live());
        live.retain(|uid, _| !dropped.contains(uid));
    }
    Ok(live)
}

/// Cells by table and key.
pub type Cells = BTreeMap<Uid, BTreeMap<Key, Vec<String>>>;

/// What a query would show of each table, by its committed files alone: the columns `current`, `voltage`, `phase`, `note`
/// and, where a row has it, `extra`, as [`Truth::cells`] has them.
pub fn live_cells(dir: &Path) -> Result<Cells> {
    cells_of(dir, SourceChoice::Tsdb, &|vnode| Ok(RowView::open(vnode)?))
}

/// The same by the committed files and what only the log has.
pub fn live_cells_with_log(dir: &Path) -> Result<Cells> {
    cells_of(dir, SourceChoice::Auto, &|vnode| {
        RowView::open_with_whole_log(vnode, Key(i64::MIN))?
            .ok_or_else(|| "the log can't be read".into())
    })
}

fn cells_of(
    dir: &Path,
    source: SourceChoice,
    open: &dyn Fn(&VnodeDir) -> Result<RowView>,
) -> Result<Cells> {
    let mut cells = Cells::new();
    for vnode in vnodes(dir)? {
        let dropped = find(&vnode, Version::BEGINNING, SourceChoice::Wal)?.dropped;
        let mut wanted = WantedRows::new();
        let start = Start {
            version: Version::BEGINNING,
            known: None,
        };
        vnode.scan(&start, source, &mut |change| {
            if let Change::Rows(rows) = change
                && !dropped.contains(&rows.table.uid)
            {
                wanted.insert(rows.table, vec![KeySpan::ALL]);
            }
            Ok(())
        })?;
        let view = open(&vnode)?;
        for (set, _) in view.file_sets() {
            let unread = view.read(set, &wanted, &mut |batch| {
                let mut row = 0;
                for (uid, count) in &batch.tables {
                    for _ in 0..*count {
                        let shown = COLUMNS.map(|column| shown(&batch, column, row));
                        cells
                            .entry(*uid)
                            .or_default()
                            .insert(batch.keys[row], shown.to_vec());
                        row += 1;
                    }
                }
                Ok(())
            })?;
            if unread != Unread::Spans(Vec::new()) {
                return Err(format!("{unread:?} can't be read").into());
            }
        }
    }
    Ok(cells)
}

/// The ids of `current`, `voltage`, `phase`, `note` and `extra`; 6 and 7 are tags.
const COLUMNS: [ColumnId; 5] = [
    ColumnId(2),
    ColumnId(3),
    ColumnId(4),
    ColumnId(5),
    ColumnId(8),
];

/// A cell as SQL shows it.
fn shown(batch: &RowBatch, column: ColumnId, row: usize) -> String {
    let cells = batch.columns.iter().find(|cells| cells.column == column);
    let Some((cells, Cell::Value(bytes))) = cells.map(|cells| (cells, cells.cell(row))) else {
        return "NULL".to_owned();
    };
    match Value::read(cells.data_type, bytes) {
        Some(Value::Float(value)) => format!("{value:.7}"),
        Some(Value::Int(value)) => value.to_string(),
        Some(Value::Bytes(text)) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

/// Reads every page of every committed file and every record of every log segment, and returns how many of
/// each there are. Fails at the first wrong checksum.
pub fn check_every_checksum(dir: &Path) -> Result<(u64, u64)> {
    let (mut pages, mut records) = (0, 0);
    for vnode in vnodes(dir)? {
        let config = vnode.config()?;
        let tsdb = vnode.primary.join("tsdb");
        for entry in std::fs::read_dir(&tsdb)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                continue;
            }
            let bytes = std::fs::read(&path)?;
            let count = bytes.len() / config.page_size;
            let size = (count * (config.page_size - 4)) as u64;
            tdfiles::tsdb::PagedFile::new(bytes.as_slice(), config.page_size, size)?
                .read("file", 0, size)
                .map_err(|e| format!("{}: {e}", path.display()))?;
            pages += count as u64;
        }
        let mut wal =
            capture::WalSource::open(&vnode, &config, Version::BEGINNING, Version::BEGINNING)?;
        let coverage = wal.scan(Version::BEGINNING, &mut |_| Ok(()))?;
        if let Some(gap) = coverage.reasons.iter().find(|reason| reason.code.is_gap()) {
            return Err(gap.text.clone().into());
        }
        records += (coverage.to.0 + 1) as u64;
    }
    Ok((pages, records))
}
