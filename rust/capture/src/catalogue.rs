//! The catalogue of a vnode as it was last committed, taken from a directory that a server may be writing to.
//!
//! The server changes `meta/main.tdb` in place, and keeps what pages held before in a journal per transaction: one for the
//! transaction that is open, and during a commit that of the transaction which is committed. With the journals laid over it,
//! the file is what the last commit left, as long as they stay. A commit makes its journal, renames `vnode_tmp.json` to
//! `vnode.json`, and then removes the journal; between the two the file's committed state is already that of the new
//! `vnode.json`, and the older journal must not be laid over the file any more. So while there are two journals and no
//! `vnode_tmp.json`, and whenever journals or `vnode.json` changed meanwhile, the read starts over. Where no server runs
//! nothing will change, and the newer journal alone gives the state. (Observed on server 3.3.7.)

use crate::{
    CaptureError, VnodeDir,
    data_dirs::{exists, is_in_use},
    retry::{ATTEMPTS, pause},
};
use model::{OwnedValue, SchemaVersion, Suid, TableId, Uid, Version};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tdfiles::{
    FormatError, Name, Unreadable,
    meta::{Meta, SuperTable, TableKind, TableOptions},
    schema::Schema,
    tdb::Tdb,
    vnode_json::VnodeJson,
};

/// The tables of a vnode.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// The configuration and the committed version that it belongs to.
    pub vnode: VnodeJson,
    /// The super tables, also those without a table in this vnode.
    pub super_tables: BTreeMap<Suid, SuperTable>,
    /// The child and normal tables, by uid; without those that are unchanged.
    pub tables: BTreeMap<Uid, Table>,
    /// The tables that are what they were at an earlier version, ascending.
    pub unchanged: Vec<Uid>,
    /// Every version of the columns of the super and normal tables, also of those that were dropped.
    pub schemas: BTreeMap<(Uid, SchemaVersion), Schema>,
    /// What else there is: virtual tables, and what the server makes for itself.
    pub not_covered: Vec<String>,
    /// What the vnode's lists of tables contradict each other in: some are missing here, and nobody knows how many.
    pub contradiction: Option<String>,
}

/// A child or normal table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The version of the request that created or altered it last.
    pub version: Version,
    /// When it was created, in milliseconds since the epoch.
    pub created_ms: i64,
    /// Its TTL in days; 0 for none.
    pub ttl_days: i32,
    /// Its comment, as it stood between the quotes of the statement that set it.
    pub comment: Option<String>,
    /// Its place among the tables.
    pub kind: Kind,
}

/// Whether a table has a super table.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// It has.
    Child {
        /// Which.
        suid: Suid,
        /// A value for each tag of the super table, in its order. NCHAR is given as UTF-8, JSON as its text.
        tags: Vec<OwnedValue>,
    },
    /// It has columns of its own.
    Normal {
        /// They.
        columns: Schema,
    },
}

/// Which tables are known already, and read again only if they were altered.
pub struct UnlessAltered<'k> {
    /// The version at which they are known, or an earlier one.
    pub since: Version,
    /// Whether a table is one of them.
    pub has: &'k dyn Fn(TableId) -> bool,
}

impl VnodeDir {
    /// Reads the catalogue as it was last committed.
    pub fn catalogue(&self) -> Result<Catalogue, CaptureError> {
        let nothing_is_known = UnlessAltered {
            since: Version::BEGINNING,
            has: &|_| false,
        };
        self.catalogue_but(&nothing_is_known)
    }

    /// Reads the catalogue as it was last committed, but for the tables that are known and were not altered since. Children of
    /// a super table that was altered since are all read.
    pub fn catalogue_but(&self, known: &UnlessAltered<'_>) -> Result<Catalogue, CaptureError> {
        self.read_catalogue(&|vnode, meta| collect(vnode.clone(), meta, known))
    }

    /// Reads something of the catalogue as it was last committed; `read` may be called several times.
    pub(crate) fn read_catalogue<T>(&self, read: &ReadMeta<'_, T>) -> Result<T, CaptureError> {
        for attempt in 0..ATTEMPTS {
            let before = State::of(self)?;
            let was_cut_off = before.is_commit_ending(self)?;
            if !was_cut_off || !is_in_use(self.data_dir())? {
                let outcome = before.read(self, was_cut_off, read);
                // An error may come from what changed meanwhile.
                if State::of(self)? == before {
                    return outcome;
                }
            }
            pause(attempt);
        }
        let path = self.primary.clone();
        Err(match State::of(self)?.is_commit_ending(self)? {
            true => CaptureError::CommitCutOff {
                path: path.join("meta"),
            },
            false => CaptureError::NeverStable {
                path,
                attempts: ATTEMPTS,
            },
        })
    }
}

/// Takes what is wanted from the catalogue that belongs to a configuration.
type ReadMeta<'r, T> = dyn Fn(&VnodeJson, &mut Meta<File>) -> Result<T, FormatError> + 'r;

/// What must stay as it is while the catalogue is read.
#[derive(Debug, PartialEq)]
struct State {
    vnode: VnodeJson,
    /// The number of the transaction of each journal, and the file's inode: numbers begin anew with each start.
    journals: BTreeMap<i64, u64>,
}

impl State {
    fn of(dir: &VnodeDir) -> Result<Self, CaptureError> {
        let vnode = dir.config()?;
        let meta = dir.primary.join("meta");
        let mut journals = BTreeMap::new();
        for entry in fs::read_dir(&meta).map_err(CaptureError::io(&meta))? {
            let entry = entry.map_err(CaptureError::io(&meta))?;
            let name = entry.file_name();
            let transaction = name.to_str().and_then(|name| name.strip_prefix(JOURNAL));
            if let Some(transaction) = transaction.and_then(|number| number.parse().ok()) {
                match entry.metadata() {
                    Ok(metadata) => drop(journals.insert(transaction, metadata.ino())),
                    // Removed since the directory was listed.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(e) => return Err(CaptureError::io(entry.path())(e)),
                }
            }
        }
        Ok(Self { vnode, journals })
    }

    /// Whether a commit has replaced `vnode.json` and not removed its journal yet.
    fn is_commit_ending(&self, dir: &VnodeDir) -> Result<bool, CaptureError> {
        Ok(self.journals.len() > 1 && !exists(&dir.primary.join("vnode_tmp.json"))?)
    }

    /// Reads the catalogue. Where a commit was cut off after it had replaced `vnode.json`, only the newest journal counts.
    fn read<T>(
        &self,
        dir: &VnodeDir,
        was_cut_off: bool,
        read: &ReadMeta<'_, T>,
    ) -> Result<T, CaptureError> {
        let meta = dir.primary.join("meta");
        let path = meta.join(MAIN);
        let damage = |source| CaptureError::format(&path)(source);
        if self.vnode.meta_encrypted {
            return Err(damage(FormatError::Unreadable {
                what: "catalogue",
                offset: 0,
                why: Unreadable::Encrypted,
            }));
        }
        let ended = if was_cut_off {
            self.journals.len().saturating_sub(1)
        } else {
            0
        };
        let journals = self.journals.keys().skip(ended);
        let journals = journals.map(|number| open(&meta.join(format!("{JOURNAL}{number}"))));
        let journals = journals.collect::<Result<_, _>>()?;
        let tdb = Tdb::open(open(&path)?, journals, self.vnode.meta_page_size);
        let mut meta = Meta::open(tdb.map_err(damage)?).map_err(damage)?;
        read(&self.vnode, &mut meta).map_err(damage)
    }
}

const MAIN: &str = "main.tdb";
const JOURNAL: &str = "main.tdb-journal.";

fn open(path: &Path) -> Result<File, CaptureError> {
    File::open(path).map_err(CaptureError::io(PathBuf::from(path)))
}

fn collect(
    vnode: VnodeJson,
    meta: &mut Meta<File>,
    known: &UnlessAltered<'_>,
) -> Result<Catalogue, FormatError> {
    let super_tables = meta.super_tables()?.into_iter();
    let super_tables: BTreeMap<Suid, SuperTable> =
        super_tables.map(|table| (table.suid, table)).collect();
    let is_unchanged = |(id, version): &(TableId, Version)| {
        let super_table = super_tables.get(&id.suid);
        let is_super = id.uid.0 == id.suid.0;
        *version <= known.since
            && super_table.is_none_or(|super_table| super_table.version <= known.since)
            && !is_super
            && (known.has)(*id)
    };
    // Ascending, as ids are.
    let unchanged: Vec<Uid> = meta
        .ids()
        .filter(is_unchanged)
        .map(|(id, _)| id.uid)
        .collect();
    let mut tables = BTreeMap::new();
    let mut not_covered = Vec::new();
    let is_changed = |id: TableId| unchanged.binary_search(&id.uid).is_err();
    meta.tables(is_changed, |table| -> Result<(), FormatError> {
        let (options, kind) = match table.kind {
            TableKind::Child(child) => {
                let super_table = super_tables.get(&child.suid);
                let super_table = super_table.ok_or_else(|| {
                    corrupt(format!(
                        "table {} has no super table {}",
                        table.uid, child.suid
                    ))
                })?;
                let kind = Kind::Child {
                    suid: child.suid,
                    tags: child.tags.values(&super_table.tags)?,
                };
                (child.options, kind)
            }
            TableKind::Normal(normal) => {
                let columns = normal.columns;
                (normal.options, Kind::Normal { columns })
            }
            TableKind::VirtualNormal => {
                not_covered.push(format!("virtual normal table {}", table.name));
                return Ok(());
            }
            TableKind::VirtualChild => {
                not_covered.push(format!("virtual child table {}", table.name));
                return Ok(());
            }
            TableKind::Other(kind) => {
                not_covered.push(format!("table {} of type {kind}", table.name));
                return Ok(());
            }
        };
        let TableOptions {
            created_ms,
            ttl_days,
            comment,
        } = options;
        let name = name(table.name)?;
        if comment.is_some_and(|text| std::str::from_utf8(text).is_err()) {
            not_covered.push(format!(
                "bytes that are not UTF-8 in the comment of table {name}"
            ));
        }
        let entry = Table {
            name,
            version: table.version,
            created_ms,
            ttl_days,
            comment: comment.map(|text| String::from_utf8_lossy(text).into_owned()),
            kind,
        };
        tables.insert(table.uid, entry);
        Ok(())
    })?;
    let mut schemas = BTreeMap::new();
    meta.schemas(|uid, schema| -> Result<(), FormatError> {
        schemas.insert((uid, schema.version), schema);
        Ok(())
    })?;
    Ok(Catalogue {
        vnode,
        super_tables,
        tables,
        unchanged,
        schemas,
        not_covered,
        contradiction: meta.contradiction(),
    })
}

/// A name by which a table is told from others, so nothing in it may be replaced.
fn name(name: Name<'_>) -> Result<String, FormatError> {
    match std::str::from_utf8(name.0) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err(corrupt(format!("the name {name:?} is no UTF-8"))),
    }
}

fn corrupt(detail: String) -> FormatError {
    FormatError::Corrupt {
        what: "catalogue",
        offset: 0,
        detail: detail.into(),
    }
}
