//! What lies in an archive: the first file says which format it has, the last one, sealed, what the others hold.
//!
//! | file | holds |
//! |---|---|
//! | `format.json` | `{"archive": "blocks", "format": 3}`, sealed; it is judged before anything else is read |
//! | `NNNNNNNN.avro` | rows of one table, ascending by key, as the data files of a link ([`rows::avro`]) |
//! | `NNNNNNNN.data` | what a host's reader gave for a block |
//! | `manifest.json` | [`Contents`], sealed |

use serde::{Deserialize, Serialize};
use store::FileEntry;

/// The format that is written.
pub(super) const FORMAT: u32 = 3;

/// What archives of blocks call themselves.
const KIND: &str = "blocks";

/// The names of the first and the last file.
pub(super) const FORMAT_FILE: &str = "format.json";
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// The first file. What else a newer format may say there is not looked at.
#[derive(Serialize, Deserialize)]
pub(super) struct Format {
    archive: String,
    format: u32,
}

impl Format {
    pub(super) fn ours() -> Self {
        Self {
            archive: KIND.to_owned(),
            format: FORMAT,
        }
    }

    /// Why the archive can't be read here, if it can't.
    pub(super) fn problem(&self) -> Option<String> {
        match (self.archive == KIND, self.format == FORMAT) {
            (true, true) => None,
            (true, false) => Some(format!(
                "its format is {}, this program reads format {FORMAT} and earlier ones: use the version that wrote it",
                self.format
            )),
            (false, _) => Some("it is no archive of blocks".to_owned()),
        }
    }
}

/// The last file: what the others hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) blocks: Vec<BlockEntry>,
    /// Files of blocks that could not be read to their end. Nothing of them counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unused: Vec<FileEntry>,
}

/// A block with its latest mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockEntry {
    pub(super) block: u64,
    pub(super) wal: u64,
    pub(super) time: i64,
    pub(super) content: ContentEntry,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum ContentEntry {
    /// What a host's reader gave.
    Data(FileEntry),
    Rows(RowsEntry),
}

/// The rows of a table in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowsEntry {
    pub(super) database: String,
    /// `None` if the table was dropped; then there are no columns and no parts.
    pub(super) table: Option<String>,
    /// The window, in ticks of the database's precision.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) columns: Vec<ColumnEntry>,
    /// Their windows make up the block's, one after the other.
    pub(super) parts: Vec<PartEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnEntry {
    pub(super) name: String,
    /// TDengine's number.
    #[serde(rename = "type")]
    pub(super) data_type: i8,
}

/// So many rows as one file takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartEntry {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) file: FileEntry,
}

impl Contents {
    /// All files but the first and the last, in the order of the blocks; those that are not used come last.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let used = self.blocks.iter().flat_map(BlockEntry::files);
        used.chain(&self.unused)
    }
}

impl BlockEntry {
    pub(super) fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let (data, parts) = match &self.content {
            ContentEntry::Data(file) => (Some(file), None),
            ContentEntry::Rows(rows) => (None, Some(rows.parts.iter().map(|part| &part.file))),
        };
        data.into_iter().chain(parts.into_iter().flatten())
    }
}
