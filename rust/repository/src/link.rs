//! A link of a backup chain on disk: a directory that taosdump's own restore understands, and in its
//! `incremental/` what makes it exact.
//!
//! | file | holds |
//! |---|---|
//! | `incremental/manifest.json` | [`Manifest`], sealed with a checksum; written last, so a directory without it is no link |
//! | `incremental/N.tables.zst` | the catalogue: a [`Table`] per line |
//! | `incremental/N.changes.zst` | what the link changes: a [`TableChange`] per line |
//! | `incremental/N.bitmaps` | in format 2, [which blocks](crate::bitmaps) the link changes |
//! | `incremental/N.checkpoint` | where the next link starts |
//! | `dbs.sql`, `taosdump.N/…` | as taosdump writes them |
//! | `rows/…` | in format 2, rows as Parquet files |
//!
//! `N` numbers the link's databases. The manifest names every other file with its SHA-256.

pub use crate::{
    link_error::LinkError,
    list::ListWriter,
    manifest::{
        AlteredStable, Base, DatabaseLink, MANIFEST, Manifest, RowFile, TableChange, TagFile,
        Totals, VgroupLink, new_id,
    },
};

use crate::{bitmaps::Bitmaps, list, manifest::FORMAT};
use model::{
    LinkId, Progress,
    catalogue::{Table, Tables},
    sealed,
};
use sha2::{Digest, Sha256};
use std::{collections::HashSet, sync::Arc};
use store::{FileEntry, Store, hex, is_plain};

/// Why a link does not follow another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowing {
    /// It follows none.
    #[error("it is the first link of a chain")]
    First,
    /// It follows another one.
    #[error("its parent is link {parent}, and that is link {given}")]
    Other {
        /// The one that it follows.
        parent: LinkId,
        /// The one that was given.
        given: LinkId,
    },
    /// The one that it follows is not as it was.
    #[error("that link was changed since")]
    Changed,
    /// They are of different clusters.
    #[error("it is of cluster {found}, that one of {before}")]
    OtherCluster {
        /// Its cluster.
        found: String,
        /// The other's.
        before: String,
    },
}

/// A link opened for reading.
#[derive(Debug, Clone)]
pub struct Link {
    /// Where its files are.
    pub store: Arc<dyn Store>,
    /// What it says about itself.
    pub manifest: Manifest,
    /// The SHA-256 of the manifest.
    pub manifest_sha256: String,
}

impl Link {
    /// Opens a link and checks its manifest, but no other file.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, LinkError> {
        let bytes = match store.get(MANIFEST) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                return Err(LinkError::NotALink {
                    place: store.place(""),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let place = store.place(MANIFEST);
        let damaged = |problem: String| LinkError::Damaged {
            place: place.clone(),
            problem,
        };
        let manifest: Manifest =
            sealed::open(&bytes, FORMAT).map_err(|error| error.of_file(&place, damaged))?;
        let mut names = HashSet::new();
        let twice = |link: &&DatabaseLink| !names.insert(link.database.name.clone());
        if let Some(link) = manifest.databases.iter().find(twice) {
            let name = &link.database.name;
            return Err(damaged(format!("it holds database {name:?} twice")));
        }
        let without = |link: &&DatabaseLink| !link.row_files.is_empty() && link.bitmaps.is_none();
        if let Some(link) = manifest.databases.iter().find(without) {
            let name = &link.database.name;
            return Err(damaged(format!(
                "database {name:?} has files with rows of many tables, and no bitmaps"
            )));
        }
        let link = Self {
            store,
            manifest,
            manifest_sha256: hex(&Sha256::digest(&bytes)),
        };
        for entry in link.listed().chain(link.row_files()) {
            link.must_be_inside(entry)?;
        }
        Ok(link)
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        self.store.place("")
    }

    /// Refuses a file that would lie outside of the link.
    fn must_be_inside(&self, entry: &FileEntry) -> Result<(), LinkError> {
        match is_plain(&entry.path) {
            true => Ok(()),
            false => Err(LinkError::Damaged {
                place: self.store.place(MANIFEST),
                problem: format!("it names a file outside of the link: {:?}", entry.path),
            }),
        }
    }

    /// Refuses a link that does not follow `before`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn must_follow(&self, before: &Self) -> Result<(), NotFollowing> {
        match &self.manifest.base {
            None => Err(NotFollowing::First),
            Some(parent) if parent.id != before.manifest.id => Err(NotFollowing::Other {
                parent: parent.id.clone(),
                given: before.manifest.id.clone(),
            }),
            Some(parent) if parent.manifest_sha256 != before.manifest_sha256 => {
                Err(NotFollowing::Changed)
            }
            Some(_) if before.manifest.cluster != self.manifest.cluster => {
                Err(NotFollowing::OtherCluster {
                    found: self.manifest.cluster.clone(),
                    before: before.manifest.cluster.clone(),
                })
            }
            Some(_) => Ok(()),
        }
    }

    /// The id of the link that it follows.
    pub fn follows(&self) -> Option<&LinkId> {
        self.manifest.base.as_ref().map(|base| &base.id)
    }

    /// As another link's parent.
    pub fn as_base(&self) -> Base {
        Base {
            id: self.manifest.id.clone(),
            manifest_sha256: self.manifest_sha256.clone(),
        }
    }

    /// What it holds of a database.
    pub fn database(&self, name: &str) -> Option<&DatabaseLink> {
        self.manifest
            .databases
            .iter()
            .find(|link| link.database.name == name)
    }

    /// The files with the rows of many tables.
    fn row_files(&self) -> impl Iterator<Item = &FileEntry> {
        let databases = self.manifest.databases.iter();
        let files = databases.flat_map(|database| &database.row_files);
        files.map(|rows| &rows.file)
    }

    /// The other files that the manifest itself names.
    fn listed(&self) -> impl Iterator<Item = &FileEntry> {
        let databases = self.manifest.databases.iter().flat_map(|database| {
            let tags = database.tag_files.iter().map(|tags| &tags.file);
            [&database.tables, &database.changes, &database.checkpoint]
                .into_iter()
                .chain(&database.bitmaps)
                .chain(tags)
        });
        self.manifest.files.iter().chain(databases)
    }

    /// Reads the list of a database's tables, after checking it.
    pub fn tables(
        &self,
        database: &DatabaseLink,
        each: &mut dyn FnMut(Table) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        list::read(&*self.store, &database.tables, each)
    }

    /// Reads the list of a database's changes, after checking it.
    pub fn changes(
        &self,
        database: &DatabaseLink,
        each: &mut dyn FnMut(TableChange) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        list::read(
            &*self.store,
            &database.changes,
            &mut |change: TableChange| {
                if let Some(file) = &change.file {
                    self.must_be_inside(file)?;
                }
                each(change)
            },
        )
    }

    /// Which blocks of a database it changes, after checking the file; `None` for a database whose link has no bitmaps.
    pub fn bitmaps(&self, database: &DatabaseLink) -> Result<Option<Bitmaps>, LinkError> {
        let Some(entry) = &database.bitmaps else {
            return Ok(None);
        };
        store::check(&*self.store, entry)?;
        let place = self.store.place(&entry.path);
        let bitmaps = Bitmaps::parse(&self.store.get(&entry.path)?, &place)?;
        match bitmaps.window.ticks() == database.window {
            true => Ok(Some(bitmaps)),
            false => Err(LinkError::Damaged {
                place,
                problem: format!(
                    "its windows have {} ticks, those of the link {}",
                    bitmaps.window.ticks(),
                    database.window
                ),
            }),
        }
    }

    /// Reads every file and holds it against its SHA-256.
    ///
    /// # Errors
    /// A file is missing, can't be read or is not what was written, or it was cancelled.
    pub fn check_files(&self, progress: &dyn Progress) -> Result<(), LinkError> {
        let check = |entry: &FileEntry| {
            progress.go_on()?;
            store::check(&*self.store, entry)?;
            progress.advance(entry.bytes, entry.rows);
            Ok::<_, LinkError>(())
        };
        self.each_file(&check)
    }

    /// Looks whether every file is there and has its length, without reading any data.
    ///
    /// # Errors
    /// A file is missing or has another length, or it was cancelled.
    pub fn check_lengths(&self, progress: &dyn Progress) -> Result<(), LinkError> {
        let check = |entry: &FileEntry| {
            progress.go_on()?;
            Ok::<_, LinkError>(store::check_length(&*self.store, entry)?)
        };
        self.each_file(&check)
    }

    /// Calls `check` with every file, until one fails.
    pub(crate) fn each_file(
        &self,
        check: &dyn Fn(&FileEntry) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        self.listed().chain(self.row_files()).try_for_each(check)?;
        for database in &self.manifest.databases {
            self.changes(database, &mut |change| {
                change.file.as_ref().map_or(Ok(()), check)
            })?;
        }
        Ok(())
    }

    /// The bytes of all files together.
    pub fn bytes(&self) -> u64 {
        let listed: u64 = self.listed().map(|entry| entry.bytes).sum();
        listed
            + self
                .manifest
                .databases
                .iter()
                .map(|database| database.totals.bytes)
                .sum::<u64>()
    }
}

/// What lists of tables and changes contradict each other in, if anything: a restore would leave it out, or do it twice
/// at a time.
pub fn disagreement(
    database: &DatabaseLink,
    tables: &Tables,
    changes: &[TableChange],
) -> Option<String> {
    let mut seen = HashSet::new();
    let wrong = changes.iter().find_map(|change| {
        if !seen.insert(&change.name) {
            return Some(format!("table {:?} is changed twice", change.name));
        }
        if change.uid.is_some() && !tables.contains(&change.name) {
            return Some(format!("table {:?} is changed and not listed", change.name));
        }
        sets_nothing(database, tables, change).then(|| {
            format!(
                "tags of table {:?} are to be set, and all of them kept",
                change.name
            )
        })
    });
    wrong.or_else(|| {
        let created = changes.iter().filter(|change| change.create);
        let created: HashSet<&String> = created.map(|change| &change.name).collect();
        let mut names = tables
            .values()
            .map(|table| &table.name)
            .filter(|_| !database.incremental);
        let name = names.find(|name| !created.contains(name))?;
        Some(format!(
            "the link holds everything, and table {name:?} is listed and not created"
        ))
    })
}

/// Whether tags of the table are to be set, and none is left that would be.
fn sets_nothing(database: &DatabaseLink, tables: &Tables, change: &TableChange) -> bool {
    if change.kept_tags == 0 {
        return false;
    }
    let stable = tables
        .get(&change.name)
        .and_then(|table| table.stable.as_deref());
    let mut stables = database.stables.iter();
    let stable = stables.find(|known| Some(&*known.name) == stable);
    !change.set_tags || stable.is_none_or(|stable| change.kept_tags >= stable.schema.tags.len())
}

/// Whether the change needs the table's tags: to create a child, or to set them.
pub fn needs_tags(tables: &Tables, change: &TableChange) -> bool {
    let is_child = |table: &Table| table.stable.is_some();
    change.set_tags || change.create && tables.get(&change.name).is_some_and(is_child)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Directory;

    fn link(store: Directory) -> Link {
        Link {
            store: Arc::new(store),
            manifest: Manifest::new("1".into(), "v".into(), None),
            manifest_sha256: String::new(),
        }
    }

    #[test]
    fn a_path_out_of_the_link_is_refused() {
        let link = link(Directory::new("/link"));
        let entry = |path: &str| FileEntry {
            path: path.to_owned(),
            bytes: 0,
            sha256: String::new(),
            rows: 0,
        };
        for path in ["", "/etc/passwd", "../x", "a/../../x", "./a"] {
            assert!(link.must_be_inside(&entry(path)).is_err(), "{path}");
        }
        assert!(link.must_be_inside(&entry("a/b")).is_ok());
    }

    #[test]
    fn a_newer_format_is_named_and_not_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let newer = serde_json::json!({"format": 3, "id": {"a": 1}, "databases": "elsewhere"});
        std::fs::create_dir(dir.path().join("incremental")).unwrap();
        store.put(MANIFEST, &sealed::seal(&newer).unwrap()).unwrap();
        let expected = format!(
            "{} has format 3; this program reads up to 2: it was written by a newer version, use that one",
            store.place(MANIFEST)
        );
        let error = Link::open(Arc::new(store)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
