//! The plan as JSON, format 1, for programs. docs/detect-output.md describes it, docs/detect-output.schema.json
//! is its schema. 64-bit numbers stand as strings, as JSON numbers lose digits above 2^53.

use crate::{BlockPlan, Plan, TablePlan, VgroupPlan, detect::Detection, window::WindowWidth};
use bitmap::{BlockId, BlockState};
use capture::{Reason, ReasonCode, SourceKind};
use model::{
    DbId, Key, KeySpan, Precision, Suid, TableId, Uid, Version, VgId,
    sealed::{self, NewerFormat},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, fmt::Display, str::FromStr};

/// The only format there is.
const FORMAT: u32 = 1;

/// The whole document as bytes: one line, sealed with a checksum.
pub fn to_json(detection: &Detection) -> serde_json::Result<Vec<u8>> {
    let plan = &detection.plan;
    sealed::seal(&Document {
        format: FORMAT,
        database: detection.database.as_str().into(),
        precision: detection.precision,
        window: plan.window,
        vnodes: plan.vgroups.iter().map(Vnode::from).collect(),
        tables: plan.tables.iter().map(Table::from).collect(),
        blocks: plan.blocks.iter().map(Block::from).collect(),
        super_tables_dropped: Some(plan.super_tables_dropped),
    })
}

/// A document read back.
#[derive(Debug, Clone)]
pub struct Blocks {
    /// The database.
    pub database: String,
    /// The unit of its keys.
    pub precision: Precision,
    /// What changed.
    pub plan: Plan,
}

/// Bytes that are no list of blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlocksError {
    /// They are not what this program wrote.
    #[error("{place} is no list of blocks: {problem}; write it again with --detect --output")]
    Invalid {
        /// Where the bytes are from.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// They are of a newer format.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
}

impl Blocks {
    /// Parses a document's bytes; `place` says in messages where they are from.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self, BlocksError> {
        let invalid = |problem: String| BlocksError::Invalid {
            place: place.to_owned(),
            problem,
        };
        let document: Document<'_> =
            sealed::open(bytes, FORMAT).map_err(|error| error.of_file(place, invalid))?;
        let vnodes = &document.vnodes;
        let mut remarks = vnodes.iter().flat_map(|vnode| &vnode.reasons);
        // Before there was the key, a remark said that super tables were created, altered or dropped, and not which of it.
        let super_tables_dropped = document
            .super_tables_dropped
            .unwrap_or_else(|| remarks.any(|reason| reason.code == ReasonCode::SuperTablesChanged));
        Ok(Self {
            database: document.database.into_owned(),
            precision: document.precision,
            plan: Plan {
                window: document.window,
                vgroups: document.vnodes.into_iter().map(Into::into).collect(),
                tables: document.tables.into_iter().map(Into::into).collect(),
                blocks: document.blocks.into_iter().map(Into::into).collect(),
                super_tables_dropped,
            },
        })
    }
}

impl From<Detection> for Blocks {
    fn from(detection: Detection) -> Self {
        Self {
            database: detection.database,
            precision: detection.precision,
            plan: detection.plan,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Document<'a> {
    format: u32,
    database: Cow<'a, str>,
    precision: Precision,
    window: WindowWidth,
    vnodes: Vec<Vnode<'a>>,
    tables: Vec<Table<'a>>,
    blocks: Vec<Block>,
    #[serde(default)]
    super_tables_dropped: Option<bool>,
}

/// A number that stands as a string.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let number = text.parse().map_err(|_| {
            serde::de::Error::custom(format_args!("{text:?} is no number of this kind"))
        })?;
        Ok(Self(number))
    }
}

#[derive(Serialize, Deserialize)]
struct Vnode<'a> {
    vgroup: i32,
    db_id: Option<Text<i64>>,
    from_version: Text<i64>,
    to_version: Text<i64>,
    source: SourceKind,
    complete: bool,
    reasons: Vec<ReasonOut<'a>>,
}

#[derive(Serialize, Deserialize)]
struct ReasonOut<'a> {
    code: ReasonCode,
    text: Cow<'a, str>,
    first: Option<Text<i64>>,
    last: Option<Text<i64>>,
}

#[derive(Serialize, Deserialize)]
struct Table<'a> {
    vgroup: i32,
    suid: Text<i64>,
    uid: Text<i64>,
    name: Option<Cow<'a, str>>,
    state: State,
    rows: Option<u64>,
    spans: Vec<[Text<i64>; 2]>,
    deletes: Vec<Delete>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Clean,
    Dirty,
    New,
    Deleted,
}

#[derive(Serialize, Deserialize)]
struct Delete {
    first: Text<i64>,
    last: Text<i64>,
    version: Text<i64>,
}

#[derive(Serialize, Deserialize)]
struct Block {
    block_id: Text<u64>,
    uid: Text<i64>,
    first: Text<i64>,
    last: Text<i64>,
    wal_version: Text<i64>,
    rows: u64,
}

fn span(first: &Text<i64>, last: &Text<i64>) -> KeySpan {
    KeySpan {
        first: Key(first.0),
        last: Key(last.0),
    }
}

impl<'a> From<&'a VgroupPlan> for Vnode<'a> {
    fn from(plan: &'a VgroupPlan) -> Self {
        let reasons = plan.reasons.iter().map(|reason| ReasonOut {
            code: reason.code,
            text: reason.text.as_str().into(),
            first: reason.range.map(|span| Text(span.first.0)),
            last: reason.range.map(|span| Text(span.last.0)),
        });
        Self {
            vgroup: plan.vgroup.0,
            db_id: plan.db_id.map(|id| Text(id.0)),
            from_version: Text(plan.from.0),
            to_version: Text(plan.to.0),
            source: plan.source,
            complete: plan.complete,
            reasons: reasons.collect(),
        }
    }
}

impl From<Vnode<'_>> for VgroupPlan {
    fn from(vnode: Vnode<'_>) -> Self {
        let reasons = vnode.reasons.into_iter().map(|reason| Reason {
            code: reason.code,
            text: reason.text.into_owned(),
            range: match (reason.first, reason.last) {
                (Some(first), Some(last)) => Some(span(&first, &last)),
                _ => None,
            },
        });
        Self {
            vgroup: VgId(vnode.vgroup),
            db_id: vnode.db_id.map(|id| DbId(id.0)),
            from: Version(vnode.from_version.0),
            to: Version(vnode.to_version.0),
            source: vnode.source,
            complete: vnode.complete,
            reasons: reasons.collect(),
        }
    }
}

impl<'a> From<&'a TablePlan> for Table<'a> {
    fn from(plan: &'a TablePlan) -> Self {
        let deletes = plan.deletes.iter().map(|(span, version)| Delete {
            first: Text(span.first.0),
            last: Text(span.last.0),
            version: Text(version.0),
        });
        Self {
            vgroup: plan.vgroup.0,
            suid: Text(plan.table.suid.0),
            uid: Text(plan.table.uid.0),
            name: plan.name.as_deref().map(Cow::Borrowed),
            state: match plan.state {
                BlockState::Clean => State::Clean,
                BlockState::Dirty => State::Dirty,
                BlockState::New => State::New,
                BlockState::Deleted => State::Deleted,
            },
            rows: plan.rows,
            spans: plan
                .spans
                .iter()
                .map(|KeySpan { first, last }| [Text(first.0), Text(last.0)])
                .collect(),
            deletes: deletes.collect(),
        }
    }
}

impl From<Table<'_>> for TablePlan {
    fn from(table: Table<'_>) -> Self {
        let deletes = table
            .deletes
            .iter()
            .map(|delete| (span(&delete.first, &delete.last), Version(delete.version.0)));
        Self {
            vgroup: VgId(table.vgroup),
            table: TableId {
                suid: Suid(table.suid.0),
                uid: Uid(table.uid.0),
            },
            name: table.name.map(Cow::into_owned),
            state: match table.state {
                State::Clean => BlockState::Clean,
                State::Dirty => BlockState::Dirty,
                State::New => BlockState::New,
                State::Deleted => BlockState::Deleted,
            },
            rows: table.rows,
            spans: table
                .spans
                .iter()
                .map(|[first, last]| span(first, last))
                .collect(),
            deletes: deletes.collect(),
        }
    }
}

impl From<&BlockPlan> for Block {
    fn from(plan: &BlockPlan) -> Self {
        Self {
            block_id: Text(plan.id.0),
            uid: Text(plan.uid.0),
            first: Text(plan.span.first.0),
            last: Text(plan.span.last.0),
            wal_version: Text(plan.version.0),
            rows: plan.rows,
        }
    }
}

impl From<Block> for BlockPlan {
    fn from(block: Block) -> Self {
        Self {
            id: BlockId(block.block_id.0),
            uid: Uid(block.uid.0),
            span: span(&block.first, &block.last),
            version: Version(block.wal_version.0),
            rows: block.rows,
        }
    }
}

/// A table's state as it stands in reports.
pub fn state_name(state: BlockState) -> &'static str {
    match state {
        BlockState::Clean => "clean",
        BlockState::Dirty => "dirty",
        BlockState::New => "new",
        BlockState::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_named_and_not_called_damaged() {
        let newer = serde_json::json!({"format": 2, "vnodes": {}, "tables": 1, "database": 7});
        let bytes = sealed::seal(&newer).unwrap();
        let error = Blocks::parse(&bytes, "b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "b has format 2; this program reads up to 1: it was written by a newer version, use that one"
        );
    }

    fn detection(super_tables_dropped: bool, code: ReasonCode) -> Detection {
        let window = WindowWidth::from_ticks(1_000).unwrap();
        let reason = Reason {
            code,
            text: "super table s".to_owned(),
            range: None,
        };
        Detection {
            database: "d".to_owned(),
            precision: Precision::Milliseconds,
            plan: Plan {
                window,
                vgroups: vec![VgroupPlan {
                    vgroup: VgId(2),
                    db_id: Some(DbId(1)),
                    from: Version(3),
                    to: Version(9),
                    source: SourceKind::TsdbAndWal,
                    complete: true,
                    reasons: vec![reason],
                }],
                tables: Vec::new(),
                blocks: Vec::new(),
                super_tables_dropped,
            },
            checkpoint: crate::checkpoint::Checkpoint {
                database: "d".to_owned(),
                precision: Precision::Milliseconds,
                window,
                vgroups: Default::default(),
                ordinals: Default::default(),
            },
        }
    }

    #[test]
    fn what_is_read_back_is_as_exact_as_what_was_written() {
        for dropped in [false, true] {
            let detection = detection(dropped, ReasonCode::SuperTablesChanged);
            let json = to_json(&detection).unwrap();
            let plan = Blocks::parse(&json, "b").unwrap().plan;
            assert_eq!(plan.unseen_drops(), detection.plan.unseen_drops());
            assert_eq!(plan.unseen_drops().len(), usize::from(dropped));
        }
    }

    #[test]
    fn a_list_from_before_the_key_may_lack_tables_of_each_super_table_it_remarks() {
        for (code, unseen) in [
            (ReasonCode::SuperTablesChanged, 1),
            (ReasonCode::TablesAltered, 0),
        ] {
            let json = to_json(&detection(false, code)).unwrap();
            let mut old: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let keys = old.as_object_mut().unwrap();
            keys.retain(|key, _| key != "super_tables_dropped" && key != "checksum");
            // The keys of a value are in another order: `format` is not the first one here.
            let blocks = Blocks::parse(&sealed::seal(&old).unwrap(), "b").unwrap();
            assert_eq!(blocks.plan.unseen_drops().len(), unseen, "{code:?}");
        }
    }
}
