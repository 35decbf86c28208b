//! A link of a backup chain on disk: a directory that taosdump's own restore understands, and in its
//! `incremental/` what makes it exact.
//!
//! | file | holds |
//! |---|---|
//! | `incremental/manifest.json` | [`Manifest`], sealed with a checksum; written last, so a directory without it is no link |
//! | `incremental/N.tables.zst` | the catalogue: a [`Table`] per line |
//! | `incremental/N.changes.zst` | what the link changes: a [`TableChange`] per line |
//! | `incremental/N.checkpoint` | where the next link starts |
//! | `dbs.sql`, `taosdump.N/…` | as taosdump writes them |
//!
//! `N` numbers the link's databases. The manifest names every other file with its SHA-256.

use model::{
    Cancelled, KeySpan, LinkId, MayPass, Progress, Uid, Version, VgId,
    catalogue::{Database, SuperTable, Table},
    schema_change::Alter,
    sealed::{self, NewerFormat},
};
use rows::avro::DataFileError;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, BufReader, Write},
    sync::Arc,
};
use store::{FileEntry, Hashing, Store, StoreError, hex, is_plain};

/// The only format there is.
const FORMAT: u32 = 1;

/// Where the manifest is, from the link's directory.
pub const MANIFEST: &str = "incremental/manifest.json";

/// Longer lines of a list are not ours.
const LONGEST_LINE: u64 = 64 << 20;

/// A link that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no manifest.
    #[error(
        "{place} is no link of a backup chain: it has no {MANIFEST}; give the directory that a dump with --incremental finished"
    )]
    NotALink {
        /// Where it was looked for.
        place: String,
    },
    /// A file is not what was written.
    #[error("{place}: {problem}; take the link from another copy, or take a new full backup")]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A file is of a newer format.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
    /// A data file can't be written or read.
    #[error(transparent)]
    Data(#[from] DataFileError),
    /// A file can't be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl MayPass for LinkError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Data(error) => error.may_pass(),
            Self::Store(error) => error.may_pass(),
            Self::NotALink { .. } | Self::Damaged { .. } | Self::Newer(_) | Self::Cancelled(_) => {
                false
            }
        }
    }
}

/// The link that another one follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its id.
    pub id: LinkId,
    /// The SHA-256 of its manifest.
    pub manifest_sha256: String,
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format's number.
    pub format: u32,
    /// The program that wrote it.
    pub written_by: String,
    /// The link's id.
    pub id: LinkId,
    /// The link it follows; `None` for the first one.
    pub parent: Option<Parent>,
    /// Whether it is an export of a list of blocks, which follows no link and none follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub export: bool,
    /// The cluster's id.
    pub cluster: String,
    /// The server's version.
    pub server: String,
    /// When the dump began and ended, RFC 3339.
    pub started: String,
    /// See `started`.
    pub finished: String,
    /// What could not be dumped. A link with any is incomplete and can't be a base.
    pub failures: Vec<String>,
    /// What the databases hold that no link does.
    pub not_covered: Vec<String>,
    /// The databases.
    pub databases: Vec<DatabaseLink>,
    /// The files that no list names.
    pub files: Vec<FileEntry>,
}

/// One database of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseLink {
    /// Its name and options.
    pub database: Database,
    /// Where its files are.
    pub directory: String,
    /// Whether this link holds what changed since the parent; else it holds everything.
    pub incremental: bool,
    /// The versions it covers, by vgroup.
    pub vgroups: Vec<VgroupLink>,
    /// The width of its windows, in ticks.
    pub window: i64,
    /// Its super tables.
    pub stables: Vec<SuperTable>,
    /// Super tables to drop before anything else.
    pub dropped_stables: Vec<String>,
    /// Super tables to alter.
    pub altered_stables: Vec<AlteredStable>,
    /// Tags files.
    pub tag_files: Vec<TagFile>,
    /// The list of its tables.
    pub tables: FileEntry,
    /// The list of changes.
    pub changes: FileEntry,
    /// Where the next link starts.
    pub checkpoint: FileEntry,
    /// Sums over the changes.
    pub totals: Totals,
}

/// The versions that a link covers in a vgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VgroupLink {
    /// The vgroup.
    pub vgroup: VgId,
    /// Changes later than this are in the link.
    pub from: Version,
    /// Changes up to this are in the link.
    pub to: Version,
    /// Why ranges were copied as a whole.
    pub widened: Vec<String>,
}

/// How a super table changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlteredStable {
    /// Its name.
    pub name: String,
    /// The changes in order.
    pub alters: Vec<Alter>,
}

/// The tags of some children of a super table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagFile {
    /// The super table.
    pub stable: String,
    /// The file.
    pub file: FileEntry,
}

/// Sums over a link's changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are counts of what their names say")]
pub struct Totals {
    pub tables: u64,
    pub tables_changed: u64,
    pub tables_dropped: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// What a link does to a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChange {
    /// The table's name.
    pub name: String,
    /// Its id; `None` when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Whether a table of this name was there that is to be dropped first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop: bool,
    /// Whether to create it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
    /// Whether its tags are in a tags file, to be set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_tags: bool,
    /// Its own changes of schema or options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alters: Vec<Alter>,
    /// Ranges of keys to delete before the rows are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletes: Vec<KeySpan>,
    /// The ranges whose rows are in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<KeySpan>,
    /// Its rows, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEntry>,
}

impl TableChange {
    /// A change that does nothing, to a table that is gone.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: None,
            drop: false,
            create: false,
            set_tags: false,
            alters: Vec::new(),
            deletes: Vec::new(),
            spans: Vec::new(),
            file: None,
        }
    }

    /// A change that does nothing.
    pub fn empty(table: &Table) -> Self {
        Self {
            uid: Some(table.uid),
            ..Self::named(&table.name)
        }
    }
}

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
        let link = Self {
            store,
            manifest,
            manifest_sha256: hex(&Sha256::digest(&bytes)),
        };
        for entry in link.listed() {
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
        match &self.manifest.parent {
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

    /// As another link's parent.
    pub fn as_parent(&self) -> Parent {
        Parent {
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

    /// The files that the manifest itself names.
    fn listed(&self) -> impl Iterator<Item = &FileEntry> {
        let databases = self.manifest.databases.iter().flat_map(|database| {
            let tags = database.tag_files.iter().map(|tags| &tags.file);
            [&database.tables, &database.changes, &database.checkpoint]
                .into_iter()
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
        self.read_list(&database.tables, each)
    }

    /// Reads the list of a database's changes, after checking it.
    pub fn changes(
        &self,
        database: &DatabaseLink,
        each: &mut dyn FnMut(TableChange) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        self.read_list(&database.changes, &mut |change: TableChange| {
            if let Some(file) = &change.file {
                self.must_be_inside(file)?;
            }
            each(change)
        })
    }

    fn read_list<T: DeserializeOwned>(
        &self,
        entry: &FileEntry,
        each: &mut dyn FnMut(T) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        store::check(&*self.store, entry)?;
        let place = self.store.place(&entry.path);
        let io = |source| StoreError::io(place.clone())(source);
        let decoder = zstd::Decoder::new(self.store.open(&entry.path)?).map_err(io)?;
        let mut lines = BufReader::with_capacity(1 << 16, decoder);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = io::Read::take(&mut lines, LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .map_err(io)?;
            if read == 0 {
                break;
            }
            let item = serde_json::from_slice(&line).map_err(|error| LinkError::Damaged {
                place: place.clone(),
                problem: format!("line {number}: {error}"),
            })?;
            each(item)?;
        }
        Ok(())
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
        self.listed().try_for_each(check)?;
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
    tables: &BTreeMap<String, Table>,
    changes: &[TableChange],
) -> Option<String> {
    let mut seen = HashSet::new();
    let wrong = changes.iter().find_map(|change| {
        if !seen.insert(&change.name) {
            return Some(format!("table {:?} is changed twice", change.name));
        }
        (change.uid.is_some() && !tables.contains_key(&change.name))
            .then(|| format!("table {:?} is changed and not listed", change.name))
    });
    wrong.or_else(|| {
        let created = changes.iter().filter(|change| change.create);
        let created: HashSet<&String> = created.map(|change| &change.name).collect();
        let mut names = tables.keys().filter(|_| !database.incremental);
        let name = names.find(|name| !created.contains(name))?;
        Some(format!(
            "the link holds everything, and table {name:?} is listed and not created"
        ))
    })
}

/// Whether the change needs the table's tags: to create a child, or to set them.
pub fn needs_tags(tables: &BTreeMap<String, Table>, change: &TableChange) -> bool {
    let is_child = |table: &Table| table.stable.is_some();
    change.set_tags || change.create && tables.get(&change.name).is_some_and(is_child)
}

/// A random name for a link.
pub fn new_id() -> LinkId {
    LinkId(uuid::Uuid::new_v4().to_string())
}

impl Manifest {
    /// A manifest of nothing, with an id of its own, that begins now.
    pub fn new(cluster: String, server: String, parent: Option<Parent>) -> Self {
        Self {
            format: FORMAT,
            written_by: format!("incremental-bitmap {}", env!("CARGO_PKG_VERSION")),
            id: new_id(),
            parent,
            export: false,
            cluster,
            server,
            started: jiff::Timestamp::now().to_string(),
            finished: String::new(),
            failures: Vec::new(),
            not_covered: Vec::new(),
            databases: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The bytes of the file that makes a directory a link.
    ///
    /// # Errors
    /// None that is known: JSON has a form for everything that a manifest holds.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        sealed::seal(self)
    }
}

/// Writes a list, one JSON object per line, compressed.
pub struct ListWriter {
    place: String,
    name: String,
    encoder: zstd::Encoder<'static, Hashing<Box<dyn Write + Send>>>,
    rows: u64,
}

impl std::fmt::Debug for ListWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListWriter")
            .field("place", &self.place)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl ListWriter {
    /// Creates the list `name`; there must be none.
    pub fn create(store: &dyn Store, name: String) -> Result<Self, LinkError> {
        let place = store.place(&name);
        let file = Hashing::new(store.create(&name)?);
        let encoder = zstd::Encoder::new(file, 1).map_err(StoreError::io(place.clone()))?;
        Ok(Self {
            place,
            name,
            encoder,
            rows: 0,
        })
    }

    fn failed(&self, source: io::Error) -> LinkError {
        StoreError::io(self.place.clone())(source).into()
    }

    /// Adds an item. One that is too long to be read again is refused.
    pub fn add<T: Serialize>(&mut self, item: &T) -> Result<(), LinkError> {
        let mut line = serde_json::to_vec(item).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        if line.len() as u64 > LONGEST_LINE {
            let problem = "a table changed in too many ranges; take a full backup";
            return Err(self.failed(io::Error::other(problem)));
        }
        self.rows += 1;
        let written = self.encoder.write_all(&line);
        written.map_err(|error| self.failed(error))
    }

    /// Finishes the list. It is not yet durable.
    pub fn finish(self) -> Result<FileEntry, LinkError> {
        let failed = |source| StoreError::io(self.place.clone())(source);
        let hashing = self.encoder.finish().map_err(failed)?;
        let (mut file, entry) = hashing.finish(self.name, self.rows);
        file.flush().map_err(failed)?;
        Ok(entry)
    }
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
    fn a_list_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let mut list = ListWriter::create(&store, "incremental/l.zst".to_owned()).unwrap();
        let spans = |n: i64| {
            vec![KeySpan {
                first: model::Key(n),
                last: model::Key(n + 1),
            }]
        };
        for n in 0..1000 {
            list.add(&spans(n)).unwrap();
        }
        let entry = list.finish().unwrap();
        assert_eq!(entry.rows, 1000);
        let link = link(store);
        let mut read: Vec<Vec<KeySpan>> = Vec::new();
        link.read_list(&entry, &mut |item| {
            read.push(item);
            Ok(())
        })
        .unwrap();
        assert_eq!(read, (0..1000).map(spans).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_that_could_not_be_read_again_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = ListWriter::create(&Directory::new(dir.path()), "l.zst".to_owned()).unwrap();
        // With quotes and the end of the line, one byte too long.
        let too_long = "x".repeat(LONGEST_LINE as usize - 2);
        let error = list.add(&too_long).unwrap_err().to_string();
        assert!(error.contains("l.zst"), "{error}");
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
        let newer = serde_json::json!({"format": 2, "id": {"a": 1}, "databases": "elsewhere"});
        std::fs::create_dir(dir.path().join("incremental")).unwrap();
        store.put(MANIFEST, &sealed::seal(&newer).unwrap()).unwrap();
        let expected = format!(
            "{} has format 2; this program reads up to 1: it was written by a newer version, use that one",
            store.place(MANIFEST)
        );
        let error = Link::open(Arc::new(store)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
