//! What a source yields: changes, and what it could prove about having seen all of them.

use crate::CaptureError;
use model::{Key, KeySpan, PkValue, Suid, TableId, Uid, Version};
use serde::{Deserialize, Serialize};
use tdfiles::{FormatError, wal};

/// Takes changes one by one. The first error that it returns ends the scan.
pub(crate) type Sink<'s> = dyn FnMut(Change<'_>) -> Result<(), CaptureError> + 's;

/// One change in a vgroup.
#[derive(Debug)]
pub enum Change<'a> {
    /// Rows of one table were written: new, late or overwritten.
    Rows(RowChange<'a>),
    /// Rows of a table in `span` with a version below `version` were deleted.
    Delete {
        /// The table.
        table: TableId,
        /// The keys.
        span: KeySpan,
        /// The version of the DELETE.
        version: Version,
    },
    /// Keys of a table may have changed in a way that can't be told row by row.
    Unknown {
        /// The table.
        table: TableId,
        /// The keys.
        span: KeySpan,
        /// The newest version involved, where known.
        version: Version,
    },
    /// A table, rather than its rows, changed.
    Table {
        /// The version of the request.
        version: Version,
        /// What happened to which table.
        change: TableChange<'a>,
    },
}

/// What a request did to a table or super table. Names are as in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum TableChange<'a> {
    /// A table was created, unless it existed: the server logs such a request either way.
    Created { table: TableId, name: &'a str },
    /// A table was dropped. Servers before 3.3.6 log no uid.
    Dropped {
        uid: Option<Uid>,
        suid: Suid,
        name: Option<&'a str>,
    },
    /// Columns or options of a table changed.
    SchemaAltered { name: &'a str },
    /// Tag values of a table changed.
    TagsAltered { name: &'a str },
    /// A super table was created.
    SuperTableCreated { suid: Suid, name: &'a str },
    /// Columns or tags of a super table changed.
    SuperTableAltered { suid: Suid, name: &'a str },
    /// A super table and every table of it were dropped.
    SuperTableDropped { suid: Suid, name: &'a str },
    /// Rows of a table that is known by name only were deleted.
    DeletedByName { name: &'a str, span: KeySpan },
}

/// Rows written to one table.
#[derive(Debug, Clone, Copy)]
pub struct RowChange<'a> {
    /// The table.
    pub table: TableId,
    /// The smallest span that holds every row.
    pub span: KeySpan,
    /// The newest version among the rows.
    pub version: Version,
    rows: Rows<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Rows<'a> {
    /// What one request wrote, in its order.
    Request(wal::Rows<'a>),
    /// Distinct keys in ascending order, each with the newest version that wrote it.
    Merged {
        keys: &'a [Key],
        versions: &'a [Version],
        pks: &'a [PkValue],
    },
}

impl<'a> RowChange<'a> {
    /// The rows of one request; `None` when it wrote none.
    pub(crate) fn from_request(
        table: TableId,
        version: Version,
        rows: wal::Rows<'a>,
    ) -> Option<Self> {
        Some(Self {
            table,
            span: rows.span()?,
            version,
            rows: Rows::Request(rows),
        })
    }

    /// A change made of the merged rows of a block, for benches.
    #[cfg(feature = "internals")]
    pub fn from_merged(
        table: TableId,
        keys: &'a [Key],
        versions: &'a [Version],
        pks: &'a [PkValue],
    ) -> Option<Self> {
        Self::merged(table, keys, versions, pks)
    }

    /// Rows in ascending order of distinct keys; `None` when there are none. `pks` is empty for a table
    /// without composite key, else as long as `keys`.
    pub(crate) fn merged(
        table: TableId,
        keys: &'a [Key],
        versions: &'a [Version],
        pks: &'a [PkValue],
    ) -> Option<Self> {
        let span = KeySpan {
            first: *keys.first()?,
            last: *keys.last()?,
        };
        let version = *versions.iter().max()?;
        Some(Self {
            table,
            span,
            version,
            rows: Rows::Merged {
                keys,
                versions,
                pks,
            },
        })
    }

    /// Whether the rows are distinct keys in ascending order.
    pub fn is_merged(&self) -> bool {
        matches!(self.rows, Rows::Merged { .. })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self.rows {
            Rows::Request(rows) => rows.len(),
            Rows::Merged { keys, .. } => keys.len(),
        }
    }

    /// Never: a change has at least one row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `each` with every row: its timestamp, the rest of its key if the table has a composite one, and
    /// the version that wrote it.
    pub fn for_each(
        &self,
        mut each: impl FnMut(Key, Option<&PkValue>, Version),
    ) -> Result<(), FormatError> {
        match self.rows {
            Rows::Request(rows) if rows.has_composite_keys() => {
                for row in rows.keys()? {
                    each(row.key, row.pk.as_ref(), self.version);
                }
            }
            Rows::Request(rows) => rows.for_each_key(|key| each(key, None, self.version)),
            Rows::Merged {
                keys,
                versions,
                pks,
            } => {
                for (i, (key, version)) in keys.iter().zip(versions).enumerate() {
                    each(*key, pks.get(i), *version);
                }
            }
        }
        Ok(())
    }
}

/// Which files a scan read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// The committed files.
    #[serde(rename = "tsdb")]
    Tsdb,
    /// The log.
    #[serde(rename = "wal")]
    Wal,
    /// The committed files, and the log for what is later and for changes to tables.
    #[serde(rename = "tsdb+wal")]
    TsdbAndWal,
}

/// What a scan saw, and what of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Changes later than this were looked for.
    pub from: Version,
    /// Every change up to this one was seen, or lies in the range of a reason. Later ones may have been seen
    /// too. The next scan starts here.
    pub to: Version,
    /// Why a range is dirty as a whole, and other things worth knowing.
    pub reasons: Vec<Reason>,
}

/// Something a consumer must know about a scan's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For programs.
    pub code: ReasonCode,
    /// For people: what, where, and what can be done.
    pub text: String,
    /// Every table of the vgroup has to be treated as changed in this range of keys; `None` when the reason
    /// widens nothing.
    pub range: Option<KeySpan>,
}

/// Why a scan's result is wider than the rows it names, or what else it could not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// The vgroup on disk is not the one the start was taken from (other database id or hash range).
    VgroupReplaced,
    /// The start does not know this vgroup: it is new since, or was split off.
    VgroupUnknown,
    /// The start knows a vgroup that is not on disk any more.
    VgroupGone,
    /// The WAL begins later than the start, so the WAL alone can't say what changed.
    WalPruned,
    /// Versions are missing between two WAL segments.
    WalGap,
    /// A WAL record is damaged.
    WalCorrupt,
    /// WAL bodies are encrypted.
    WalEncrypted,
    /// A WAL record is of a type or layout this build does not know.
    WalUnknownMessage,
    /// The vgroup was split or its members changed.
    VgroupReshaped,
    /// A file set was compacted since the start (or at a time the start does not know): deletes may be gone.
    FileSetCompacted,
    /// A file set that the start knows is gone (retention).
    FileSetGone,
    /// Blocks whose rows can't be read; their tables' spans are dirty as a whole.
    UnreadableRows,
    /// TSDB files are encrypted.
    TsdbEncrypted,
    /// The start is a bare version: a replaced vgroup, or file sets gone since, can't be noticed.
    BareVersion,
    /// The WAL does not reach back to the start: created, dropped and altered tables are not all listed.
    TablesNotCovered,
    /// Tables' columns, tags or options changed.
    TablesAltered,
    /// Super tables were created, altered or dropped.
    SuperTablesChanged,
    /// Rows were deleted by table name, and the table's id is not known here.
    DeletedByName,
    /// A table was dropped by name, and its id is not known here (servers before 3.3.6 log none).
    DroppedByName,
    /// The log's tail may still be rolled back on this replica and was left out.
    TailNotCommitted,
    /// What follows the committed version in the WAL can't be read yet and was left out.
    TailNotCovered,
}

impl ReasonCode {
    /// Whether the scan's result is less exact than it should be, as opposed to a remark.
    pub fn is_gap(self) -> bool {
        !matches!(
            self,
            Self::FileSetGone
                | Self::BareVersion
                | Self::TablesNotCovered
                | Self::TablesAltered
                | Self::SuperTablesChanged
                | Self::TailNotCommitted
                | Self::TailNotCovered
        )
    }

    /// Whether tables may have been dropped that nothing names: rows are all found without the log, drops are not.
    pub fn hides_drops(self) -> bool {
        matches!(self, Self::TablesNotCovered | Self::DroppedByName)
    }
}

impl Reason {
    pub(crate) fn remark(code: ReasonCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            range: None,
        }
    }

    pub(crate) fn widening(code: ReasonCode, range: KeySpan, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            range: Some(range),
        }
    }
}
