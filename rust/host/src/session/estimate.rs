//! How many bytes an export will write, from an export of a few of its tables.
//!
//! Files of tables of one super table differ by their rows: each has a header, and then bytes in proportion to the
//! rows. So of each super table, and of the normal tables together, a few tables of different sizes are exported to a
//! temporary directory, a line is drawn through what came out, and every table is measured by it.

use super::{Session, SessionError};
use bitmap::{BlockId, BlockState};
use model::{Suid, Uid};
use ops::backup::BackupError;
use plan::{Plan, TablePlan, report::Blocks};
use repository::link::{DatabaseLink, Link, TableChange};
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};
use store::StoreError;

/// Tables that are exported of each super table.
const SAMPLES: usize = 5;

/// Rows exported of each, if the table has blocks enough to choose from.
const ROWS: u64 = 50_000;

/// Bytes of the rows and tags that an export of `blocks` would write.
pub(super) fn estimate(
    session: &Session,
    blocks: &Blocks,
    temporary: &Path,
) -> Result<u64, SessionError> {
    let mut groups: BTreeMap<Suid, Vec<&TablePlan>> = BTreeMap::new();
    let live = blocks.plan.tables.iter();
    for table in live.filter(|t| t.state != BlockState::Deleted && t.rows.is_some_and(|n| n > 0)) {
        groups.entry(table.table.suid).or_default().push(table);
    }
    let mut samples = HashSet::new();
    for tables in groups.values_mut() {
        tables.sort_by_key(|table| table.rows);
        let last = tables.len() - 1;
        let picked = (0..SAMPLES).filter_map(|n| tables.get(last * n / (SAMPLES - 1)));
        samples.extend(picked.map(|table| table.table.uid));
    }
    let directory = tempfile::Builder::new()
        .prefix("incremental-bitmap-")
        .tempdir_in(temporary)
        .map_err(StoreError::io(temporary.display().to_string()))?;
    let sample = Blocks {
        database: blocks.database.clone(),
        precision: blocks.precision,
        plan: part(&blocks.plan, &samples),
    };
    let outcome = session.export(sample, &directory.path().join("sample"), &())?;
    let link = &outcome.link;
    let mut measured: BTreeMap<Uid, (u64, u64)> = BTreeMap::new();
    let mut tags = 0;
    for database in &link.manifest.databases {
        tags += database
            .tag_files
            .iter()
            .map(|tags| tags.file.bytes)
            .sum::<u64>();
        measure(link, database, &mut measured)?;
    }
    let rows: u64 = groups
        .values()
        .map(|tables| of_group(tables, &measured))
        .sum();
    Ok(rows + tags)
}

/// Rows and bytes of the tables in a link.
fn measure(
    link: &Link,
    database: &DatabaseLink,
    measured: &mut BTreeMap<Uid, (u64, u64)>,
) -> Result<(), SessionError> {
    let mut add = |change: TableChange| {
        if let (Some(uid), Some(file)) = (change.uid, change.file) {
            measured.insert(uid, (file.rows, file.bytes));
        }
        Ok(())
    };
    link.changes(database, &mut add)
        .map_err(|error| BackupError::from(error).into())
}

/// The plan with a few rows of these tables only.
fn part(plan: &Plan, samples: &HashSet<Uid>) -> Plan {
    let mut rows: BTreeMap<Uid, u64> = BTreeMap::new();
    let mut wanted: HashSet<BlockId> = HashSet::new();
    for block in plan
        .blocks
        .iter()
        .filter(|block| samples.contains(&block.uid))
    {
        let so_far = rows.entry(block.uid).or_default();
        if *so_far < ROWS {
            *so_far += block.rows;
            wanted.insert(block.id);
        }
    }
    let mut part = plan.restricted_to(&wanted);
    part.vgroups
        .iter_mut()
        .for_each(|vgroup| vgroup.reasons.clear());
    part.tables.retain_mut(|table| {
        table.deletes.clear();
        // As a new table it would be exported whole.
        table.state = BlockState::Dirty;
        samples.contains(&table.table.uid)
    });
    part
}

/// The bytes of one super table's children.
fn of_group(tables: &[&TablePlan], measured: &BTreeMap<Uid, (u64, u64)>) -> u64 {
    let points: Vec<(f64, f64)> = tables
        .iter()
        .filter_map(|table| measured.get(&table.table.uid))
        .map(|(rows, bytes)| (*rows as f64, *bytes as f64))
        .collect();
    let count = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| {
        (x + point.0 / count, y + point.1 / count)
    });
    let (spread, slope) = points.iter().fold((0.0, 0.0), |(xx, xy), point| {
        let dx = point.0 - x;
        (xx + dx * dx, xy + dx * (point.1 - y))
    });
    // Tables of one size tell nothing of the header.
    let slope = match spread > 0.0 {
        true => (slope / spread).max(0.0),
        false => y / x.max(1.0),
    };
    let header = (y - slope * x).max(0.0);
    let bytes = |table: &&TablePlan| header + slope * table.rows.unwrap_or(0) as f64;
    tables.iter().map(bytes).sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{TableId, VgId};

    #[test]
    fn tables_are_measured_by_the_line_through_the_samples() {
        let table = |uid: i64, rows: u64| TablePlan {
            vgroup: VgId(2),
            table: TableId {
                suid: Suid(1),
                uid: Uid(uid),
            },
            name: None,
            state: BlockState::Dirty,
            rows: Some(rows),
            spans: Vec::new(),
            deletes: Vec::new(),
        };
        let tables = [table(1, 10), table(2, 100), table(3, 1_000), table(4, 500)];
        let refs: Vec<&TablePlan> = tables.iter().collect();
        let measured = [(Uid(1), (10, 320)), (Uid(3), (1_000, 2_300))].into();
        assert_eq!(of_group(&refs, &measured), 320 + 500 + 2_300 + 1_300);
        let same = [(Uid(1), (10, 40))].into();
        assert_eq!(of_group(&refs, &same), 4 * 1_610);
        assert_eq!(of_group(&refs, &BTreeMap::new()), 0);
    }
}
