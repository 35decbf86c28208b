//! The plan: what a backup has to copy, table by table.

use crate::window::WindowWidth;
use bitmap::{BlockId, BlockState};
use capture::{Reason, SourceKind};
use model::{DbId, KeySpan, TableId, Uid, Version, VgId};
use std::collections::{HashMap, HashSet};

/// Everything a backup of one database has to copy.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The width of the windows that blocks are cut by.
    pub window: WindowWidth,
    /// The vgroups, ascending.
    pub vgroups: Vec<VgroupPlan>,
    /// The tables that changed, ascending by vgroup and uid.
    pub tables: Vec<TablePlan>,
    /// The blocks with changed rows, ascending by id.
    pub blocks: Vec<BlockPlan>,
    /// Whether super tables were dropped: of their tables, those are listed that changed since the start, and no others.
    pub super_tables_dropped: bool,
}

/// What is known about the changes of one vgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VgroupPlan {
    /// The vgroup.
    pub vgroup: VgId,
    /// Its database's id; `None` when the vgroup is not on disk.
    pub db_id: Option<DbId>,
    /// Changes later than this were looked for.
    pub from: Version,
    /// Where the next run starts.
    pub to: Version,
    /// What was read.
    pub source: SourceKind,
    /// Whether every change is named exactly. If not, `reasons` say why; a range there concerns every table.
    pub complete: bool,
    /// What to know about it.
    pub reasons: Vec<Reason>,
}

/// A table that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePlan {
    /// Its vgroup.
    pub vgroup: VgId,
    /// The table.
    pub table: TableId,
    /// Its name, where a log record said it.
    pub name: Option<String>,
    /// NEW, DIRTY or DELETED.
    pub state: BlockState,
    /// Distinct keys written; `None` when some rows could not be read.
    pub rows: Option<u64>,
    /// The keys to copy: ascending, apart, beginning and ending with a changed key.
    pub spans: Vec<KeySpan>,
    /// Keys deleted, ascending by version.
    pub deletes: Vec<(KeySpan, Version)>,
}

/// A block with changed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlan {
    /// Its id.
    pub id: BlockId,
    /// Its table.
    pub uid: Uid,
    /// The first and last changed key.
    pub span: KeySpan,
    /// The newest version in it.
    pub version: Version,
    /// Distinct changed keys.
    pub rows: u64,
}

impl Plan {
    /// Distinct keys written, over all tables whose rows could be read.
    pub fn rows(&self) -> u64 {
        self.tables.iter().filter_map(|table| table.rows).sum()
    }

    /// The plan with no other blocks than these. What does not stand in blocks stays: tables that are new or gone,
    /// deletes, and ranges that are dirty as a whole.
    #[must_use]
    pub fn restricted_to(&self, wanted: &HashSet<BlockId>) -> Self {
        let mut spans: HashMap<Uid, Vec<KeySpan>> = HashMap::new();
        let mut left_out: HashSet<Uid> = HashSet::new();
        let mut blocks = Vec::new();
        for block in &self.blocks {
            if wanted.contains(&block.id) {
                spans.entry(block.uid).or_default().push(block.span);
                blocks.push(*block);
            } else {
                left_out.insert(block.uid);
            }
        }
        let restrict = |table: &TablePlan| {
            let mut table = table.clone();
            let uid = table.table.uid;
            if left_out.contains(&uid) && table.rows.is_some() {
                // A block that is left out may hold what was written again after a delete.
                let mut wanted = spans.remove(&uid).unwrap_or_default();
                wanted.extend(table.deletes.iter().map(|(span, _)| *span));
                table.spans = KeySpan::joined(wanted);
                let rows = blocks.iter().filter(|block| block.uid == uid);
                table.rows = Some(rows.map(|block| block.rows).sum());
            }
            table
        };
        Self {
            window: self.window,
            vgroups: self.vgroups.clone(),
            tables: self.tables.iter().map(restrict).collect(),
            blocks: blocks.clone(),
            super_tables_dropped: self.super_tables_dropped,
        }
    }

    /// Whether every vgroup is complete.
    pub fn is_complete(&self) -> bool {
        self.vgroups.iter().all(|vgroup| vgroup.complete)
    }

    /// Whether every change is named exactly, and no dropped table can be missing. A backup by a plan that is not holds
    /// more than what changed, or lacks drops: whoever makes one, or writes the plan down, ends as incomplete.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.unseen_drops().is_empty()
    }

    /// Why tables may be gone that the plan does not name.
    pub fn unseen_drops(&self) -> Vec<String> {
        // Where everything since the beginning was looked for, there was nothing to drop.
        let later = |vgroup: &&VgroupPlan| vgroup.from > Version::BEGINNING;
        let later: Vec<&VgroupPlan> = self.vgroups.iter().filter(later).collect();
        let reasons = later
            .iter()
            .flat_map(|vgroup| vgroup.reasons.iter().map(|reason| (vgroup.vgroup, reason)));
        let unseen = reasons.filter(|(_, reason)| reason.code.hides_drops());
        let mut why: Vec<String> = unseen
            .map(|(vgroup, reason)| {
                format!(
                    "vgroup {vgroup}: dropped tables may be missing: {}",
                    reason.text
                )
            })
            .collect();
        if self.super_tables_dropped && !later.is_empty() {
            let text = "a super table was dropped: of its tables, only those are named that changed since the start";
            why.push(text.to_owned());
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture::ReasonCode;

    #[test]
    fn a_log_that_does_not_reach_back_may_have_held_drops() {
        let vgroup = |from| VgroupPlan {
            vgroup: VgId(2),
            db_id: Some(DbId(1)),
            from,
            to: Version(9),
            source: SourceKind::TsdbAndWal,
            complete: true,
            reasons: vec![Reason {
                code: ReasonCode::TablesNotCovered,
                text: "the WAL begins at version 7".to_owned(),
                range: None,
            }],
        };
        let plan = |from, super_tables_dropped| Plan {
            window: WindowWidth::from_ticks(1_000).unwrap(),
            vgroups: vec![vgroup(from)],
            tables: Vec::new(),
            blocks: Vec::new(),
            super_tables_dropped,
        };
        assert_eq!(plan(Version(3), false).unseen_drops().len(), 1);
        assert_eq!(plan(Version(3), true).unseen_drops().len(), 2);
        assert!(plan(Version::BEGINNING, true).unseen_drops().is_empty());
        assert!(plan(Version::BEGINNING, true).is_exact());
        assert!(!plan(Version(3), false).is_exact());
    }
}
