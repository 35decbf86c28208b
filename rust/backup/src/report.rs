//! The plan as JSON, format 1, for programs. docs/detect-output.md describes it, docs/detect-output.schema.json
//! is its schema. 64-bit numbers stand as strings, as JSON numbers lose digits above 2^53.

use crate::{
    detect::Detection,
    plan::{BlockPlan, TablePlan, VgroupPlan},
    sealed,
    window::WindowWidth,
};
use bitmap::BlockState;
use capture::{ReasonCode, SourceKind};
use serde::{Serialize, Serializer};
use std::fmt::Display;
use tdfiles::{KeySpan, Precision};

/// The only format there is.
const FORMAT: u32 = 1;

/// The whole document as bytes: one line, sealed with a checksum.
pub fn to_json(detection: &Detection) -> serde_json::Result<Vec<u8>> {
    let plan = &detection.plan;
    sealed::seal(&Document {
        format: FORMAT,
        database: &detection.database,
        precision: detection.precision,
        window: plan.window,
        vnodes: plan.vgroups.iter().map(Vnode::from).collect(),
        tables: plan.tables.iter().map(Table::from).collect(),
        blocks: plan.blocks.iter().map(Block::from).collect(),
    })
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    database: &'a str,
    precision: Precision,
    window: WindowWidth,
    vnodes: Vec<Vnode<'a>>,
    tables: Vec<Table<'a>>,
    blocks: Vec<Block>,
}

/// A number that stands as a string.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
struct Vnode<'a> {
    vgroup: i32,
    db_id: Option<Text<i64>>,
    from_version: Text<i64>,
    to_version: Text<i64>,
    source: SourceKind,
    complete: bool,
    reasons: Vec<ReasonOut<'a>>,
}

#[derive(Serialize)]
struct ReasonOut<'a> {
    code: ReasonCode,
    text: &'a str,
    first: Option<Text<i64>>,
    last: Option<Text<i64>>,
}

#[derive(Serialize)]
struct Table<'a> {
    vgroup: i32,
    suid: Text<i64>,
    uid: Text<i64>,
    name: Option<&'a str>,
    state: &'static str,
    rows: Option<u64>,
    spans: Vec<[Text<i64>; 2]>,
    deletes: Vec<Delete>,
}

#[derive(Serialize)]
struct Delete {
    first: Text<i64>,
    last: Text<i64>,
    version: Text<i64>,
}

#[derive(Serialize)]
struct Block {
    block_id: Text<u64>,
    uid: Text<i64>,
    first: Text<i64>,
    last: Text<i64>,
    wal_version: Text<i64>,
    rows: u64,
}

impl<'a> From<&'a VgroupPlan> for Vnode<'a> {
    fn from(plan: &'a VgroupPlan) -> Self {
        let reasons = plan.reasons.iter().map(|reason| ReasonOut {
            code: reason.code,
            text: &reason.text,
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
            name: plan.name.as_deref(),
            state: state_name(plan.state),
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

/// A table's state as it stands in reports.
pub fn state_name(state: BlockState) -> &'static str {
    match state {
        BlockState::Clean => "clean",
        BlockState::Dirty => "dirty",
        BlockState::New => "new",
        BlockState::Deleted => "deleted",
    }
}
