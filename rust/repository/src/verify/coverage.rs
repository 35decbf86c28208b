//! Whether what a detection found is in a chain: every span and delete it names, up to the version it ends at.

use super::{BlocksReport, Checked, ProblemCode, Problems};
use crate::link::{DatabaseLink, TableChange, VgroupLink};
use bitmap::BlockState;
use capture::ReasonCode;
use model::catalogue::Tables;
use model::{KeySpan, Uid, Version, VgId};
use plan::report::Blocks;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

/// What the links hold of the tables in a list of blocks.
pub(super) struct Coverage {
    file: PathBuf,
    blocks: Blocks,
    held: HashMap<Uid, Held>,
}

/// What they hold of one table.
#[derive(Default)]
struct Held {
    spans: Vec<KeySpan>,
    deletes: Vec<KeySpan>,
}

/// Problems named one by one; the others are counted.
pub(super) const NAMED: usize = 20;

impl Coverage {
    pub(super) fn of(file: &Path, blocks: Blocks) -> Self {
        Self {
            file: file.into(),
            blocks,
            held: HashMap::new(),
        }
    }

    /// Adds what a link holds of a database. Tables of a vgroup that it holds only as it was when the detection began
    /// are left out: it has their ranges, and not their changes.
    pub(super) fn add(
        &mut self,
        link: &DatabaseLink,
        is_export: bool,
        tables: Option<&Tables>,
        changes: &[TableChange],
    ) {
        if link.database.name != self.blocks.database {
            return;
        }
        let plans = self.blocks.plan.vgroups.iter();
        let starts: HashMap<VgId, Version> = plans.map(|plan| (plan.vgroup, plan.from)).collect();
        let ended = |link: &&VgroupLink| {
            let start = starts.get(&link.vgroup);
            // One without a version of its own may hold what the server removed by itself.
            start.is_some_and(|start| link.to <= *start && link.from < link.to)
        };
        let before: HashSet<VgId> = match is_export {
            true => HashSet::new(),
            false => link
                .vgroups
                .iter()
                .filter(ended)
                .map(|v| v.vgroup)
                .collect(),
        };
        for change in changes {
            let Some(uid) = change.uid else { continue };
            let table = tables.and_then(|tables| tables.get(&change.name));
            if table.is_some_and(|table| before.contains(&table.vgroup)) {
                continue;
            }
            let held = self.held.entry(uid).or_default();
            held.spans.extend_from_slice(&change.spans);
            held.deletes.extend_from_slice(&change.deletes);
            held.deletes.extend_from_slice(&change.spans);
        }
    }

    /// Compares, once every link was added; `last` is the newest.
    pub(super) fn finish(
        mut self,
        last: Option<&Checked>,
        problems: &mut Problems,
        notes: &mut Vec<String>,
    ) -> BlocksReport {
        for held in self.held.values_mut() {
            held.spans = KeySpan::joined(std::mem::take(&mut held.spans));
            held.deletes = KeySpan::joined(std::mem::take(&mut held.deletes));
        }
        let file = self.file.display().to_string();
        let tables = self.blocks.plan.tables.len() as u64;
        let mut missing = Vec::new();
        let mut covered = 0;
        match last.and_then(|last| last.tables.get(&self.blocks.database)) {
            None => missing.push(format!(
                "the links hold no readable list of database {:?}",
                self.blocks.database
            )),
            Some(now) => {
                let now: HashMap<Uid, VgId> = now.values().map(|t| (t.uid, t.vgroup)).collect();
                self.versions(last, &mut missing);
                self.ranges(&now, &mut missing);
                for table in &self.blocks.plan.tables {
                    match self.table(table, &now) {
                        Ok(()) => covered += 1,
                        Err(problem) => missing.push(problem),
                    }
                }
            }
        }
        if !self.blocks.plan.is_complete() {
            notes.push(format!(
                "{file}: the detection itself was incomplete, as the reasons in it say"
            ));
        }
        let unseen = self.blocks.plan.unseen_drops().into_iter();
        notes.extend(unseen.map(|why| format!("{file}: {why}")));
        let unnamed = missing.len().saturating_sub(NAMED);
        missing.truncate(NAMED);
        if unnamed > 0 {
            missing.push(format!("and {unnamed} more"));
        }
        for problem in missing {
            let text = format!(
                "{file}: {problem}; give the whole chain up to a link that was made after the detection"
            );
            problems.add(ProblemCode::NotCovered, None, self.file.to_str(), text);
        }
        BlocksReport {
            file,
            database: self.blocks.database,
            tables,
            tables_covered: covered,
        }
    }

    fn versions(&self, last: Option<&Checked>, missing: &mut Vec<String>) {
        let link = last.and_then(|last| last.link.database(&self.blocks.database));
        for vgroup in &self.blocks.plan.vgroups {
            let ended = link
                .and_then(|link| link.vgroups.iter().find(|v| v.vgroup == vgroup.vgroup))
                .map(|link| link.to);
            // A vgroup that is gone for both has nothing to hold.
            if vgroup.db_id.is_some() && ended.is_none_or(|ended| ended < vgroup.to) {
                let ended = ended.map_or("nothing".to_owned(), |to| format!("version {to}"));
                missing.push(format!(
                    "vgroup {}: the links hold {ended}, the detection saw version {}",
                    vgroup.vgroup, vgroup.to
                ));
            }
        }
    }

    /// Ranges that concern every table of a vgroup.
    fn ranges(&self, now: &HashMap<Uid, VgId>, missing: &mut Vec<String>) {
        for vgroup in &self.blocks.plan.vgroups {
            for reason in &vgroup.reasons {
                let expired = reason.code == ReasonCode::FileSetGone;
                let Some(range) = reason.range else { continue };
                if reason.code == ReasonCode::UnreadableRows {
                    continue;
                }
                let uncovered = now
                    .iter()
                    .filter(|(uid, of)| {
                        let held = self.held.get(uid).map(|held| match expired {
                            true => &held.deletes,
                            false => &held.spans,
                        });
                        **of == vgroup.vgroup && !held.is_some_and(|held| within(range, held))
                    })
                    .count();
                if uncovered > 0 {
                    missing.push(format!(
                        "vgroup {}: {uncovered} tables are not held in the range that is dirty as a whole ({})",
                        vgroup.vgroup, reason.text
                    ));
                }
            }
        }
    }

    fn table(&self, table: &plan::TablePlan, now: &HashMap<Uid, VgId>) -> Result<(), String> {
        let uid = table.table.uid;
        let name = match &table.name {
            Some(name) => format!("table {name:?} (uid {uid})"),
            None => format!("the table with uid {uid}"),
        };
        match (table.state, now.contains_key(&uid)) {
            (BlockState::Deleted, true) => {
                return Err(format!("{name} was dropped, and the links have it"));
            }
            // Dropped since, or never the server's: there is nothing to hold.
            (_, false) => return Ok(()),
            _ => {}
        }
        let none = Held::default();
        let held = self.held.get(&uid).unwrap_or(&none);
        for span in &table.spans {
            if !within(*span, &held.spans) {
                return Err(format!(
                    "{name}: keys {} to {} changed, and the links do not hold them all",
                    span.first, span.last
                ));
            }
        }
        for (span, version) in &table.deletes {
            if !within(*span, &held.deletes) {
                return Err(format!(
                    "{name}: keys {} to {} were deleted by version {version}, and the links do not say so",
                    span.first, span.last
                ));
            }
        }
        Ok(())
    }
}

/// Whether one of the joined ranges holds all of `span`.
fn within(span: KeySpan, ranges: &[KeySpan]) -> bool {
    ranges
        .iter()
        .any(|range| range.first <= span.first && span.last <= range.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Key;

    #[test]
    fn a_span_is_held_only_by_one_range_that_reaches_over_it() {
        let span = |first, last| KeySpan {
            first: Key(first),
            last: Key(last),
        };
        let ranges = KeySpan::joined(vec![span(0, 4), span(5, 9), span(20, 30)]);
        assert!(within(span(0, 9), &ranges), "touching ranges are one");
        assert!(within(span(20, 20), &ranges));
        for outside in [span(-1, 3), span(9, 10), span(5, 25), span(40, 41)] {
            assert!(!within(outside, &ranges), "{outside:?}");
        }
    }
}
