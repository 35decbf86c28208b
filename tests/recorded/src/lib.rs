//! The recorded data in `tests/data`: vnodes of a real TDengine 3.3.7.5 in three states, and what SQL answered
//! in two of them.
//!
//! Between `base` and `incr` rows were appended, overwritten, inserted late and deleted, tables created and
//! dropped, a column added and a tag changed. `incr_wal` has those changes in the log only, `incr_flushed` in
//! the committed files.

mod truth;

use capture::{Change, DataDirs, SourceChoice, Start, TableChange, VnodeDir};
use model::{Key, KeySpan, Uid, Version};
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
