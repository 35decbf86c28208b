//! The manifest of a link, and what its lists hold: everything in it that has a fixed form.

use model::{
    FileSetId, KeySpan, LinkId, Uid, Version, VgId,
    catalogue::{Database, SuperTable, Table},
    schema_change::Alter,
    sealed,
};
use serde::{Deserialize, Serialize};
use store::FileEntry;

/// The newest format. A link has the lowest one that can say what is in it, so that an older program reads what it can, and
/// refuses what it can't instead of calling it damaged.
pub(crate) const FORMAT: u32 = 2;

/// Format 1 knows neither row files nor bitmaps, nor that the KEEP of a super table was altered.
const FIRST: u32 = 1;

/// Where the manifest is, from the link's directory.
pub const MANIFEST: &str = "incremental/manifest.json";

/// The link that another one follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
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
    #[serde(rename = "parent")]
    pub base: Option<Base>,
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
    /// Files with the rows of many tables, in format 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_files: Vec<RowFile>,
    /// Which blocks it changes, in format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitmaps: Option<FileEntry>,
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

/// Rows of tables of one super table, or of normal tables with the same columns, in order of table and key. The file itself
/// says which columns it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowFile {
    /// The super table; `None` for normal tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The vgroup that the rows were read from.
    pub vgroup: VgId,
    /// The file set that they were read from; `None` if they came by SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_set: Option<FileSetId>,
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
    /// So many of its tags, from the first one on, are what they were in the base, and need not be set.
    #[serde(default, skip_serializing_if = "is_none")]
    pub kept_tags: usize,
    /// Its own changes of schema or options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alters: Vec<Alter>,
    /// Ranges of keys to delete before the rows are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletes: Vec<KeySpan>,
    /// The ranges whose rows are in the file, or in the row files of the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<KeySpan>,
    /// Its rows in format 1, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEntry>,
    /// How many rows it has in the row files of the database.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_none(value: &usize) -> bool {
    *value == 0
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
            kept_tags: 0,
            alters: Vec::new(),
            deletes: Vec::new(),
            spans: Vec::new(),
            file: None,
            rows: 0,
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

/// A random name for a link.
pub fn new_id() -> LinkId {
    LinkId(uuid::Uuid::new_v4().to_string())
}

impl Manifest {
    /// A manifest of nothing, with an id of its own, that begins now.
    pub fn new(cluster: String, server: String, base: Option<Base>) -> Self {
        Self {
            format: FIRST,
            written_by: format!("incremental-bitmap {}", env!("CARGO_PKG_VERSION")),
            id: new_id(),
            base,
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

    /// Everything is in it: it ends now, and gets the number of its format.
    pub fn finish(&mut self) {
        self.finished = jiff::Timestamp::now().to_string();
        let mut altered = self
            .databases
            .iter()
            .flat_map(|database| &database.altered_stables);
        let keeps = |alter: &Alter| matches!(alter, Alter::Keep { .. });
        let keep = altered.any(|altered| altered.alters.iter().any(keeps));
        let is_second =
            |database: &DatabaseLink| !database.row_files.is_empty() || database.bitmaps.is_some();
        self.format = match keep || self.databases.iter().any(is_second) {
            true => FORMAT,
            false => FIRST,
        };
    }

    /// The bytes of the file that makes a directory a link.
    ///
    /// # Errors
    /// None that is known: JSON has a form for everything that a manifest holds.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        sealed::seal(self)
    }
}
