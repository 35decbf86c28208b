//! What a link has to do to every table: the base's catalogue against the present one, and the changed rows.

use super::{BackupError, Known};
use capture::ReasonCode;
use model::{
    KeySpan, Uid, VgId,
    catalogue::{Catalogue, Schema, Table},
    schema_change::{self, Alter},
};
use plan::{Plan, TablePlan};
use repository::link::{AlteredStable, TableChange};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Everything a link changes in a database.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(super) dropped_stables: Vec<String>,
    pub(super) altered_stables: Vec<AlteredStable>,
    /// By table name.
    pub(crate) tables: BTreeMap<String, TableChange>,
    /// Super tables whose tags are other ones now.
    pub(super) tags_moved: BTreeMap<String, TagsMoved>,
    pub(super) notes: Vec<String>,
}

/// How a super table came to other tags than it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagsMoved {
    /// So many stayed, as the first ones, and new ones came, which are NULL until somebody sets them.
    Added(usize),
    /// Children need all their tags set again.
    Replaced,
}

impl TagsMoved {
    fn by(alters: &[Alter], before: usize) -> Option<Self> {
        if !alters.iter().any(Alter::moves_tags) {
            return None;
        }
        let drops = |alter: &Alter| matches!(alter, Alter::DropTag { .. });
        Some(match alters.iter().any(drops) {
            true => Self::Replaced,
            false => Self::Added(before),
        })
    }
}

impl Changes {
    pub(crate) fn between(
        known: Option<&Known>,
        now: &Catalogue,
        plan: &Plan,
        reappeared: Option<KeySpan>,
    ) -> Result<Self, BackupError> {
        let mut changes = Self::default();
        if let Some(known) = known {
            changes.stables(known, now)?;
            changes.dropped_tables(known, now);
        }
        let planned = Planned::of(plan);
        let ranges = Ranges::of(plan, reappeared);
        let mut suspects = Suspects::between(known, now);
        let known = known.map(|known| &known.tables);
        for (table, before) in now.tables.beside(known) {
            // Dropping a super table takes its children.
            let stays = |stable: &str| !changes.dropped_stables.iter().any(|name| name == stable);
            match before {
                Some(before)
                    if before.uid == table.uid && table.stable.as_deref().is_none_or(stays) =>
                {
                    let planned = planned.of_table(table);
                    let is_same = Arc::ptr_eq(before, table);
                    if !is_same || !planned.is_empty() || ranges.concern(table.vgroup) {
                        changes.kept(before, table, &planned, &ranges, &mut suspects);
                    } else if suspects.is_one(before, table) {
                        changes.of(table).spans.push(KeySpan::ALL);
                    }
                }
                before => changes.created(table, before.is_some()),
            }
        }
        changes.notes.extend(suspects.note());
        Ok(changes)
    }

    fn stables(&mut self, known: &Known, now: &Catalogue) -> Result<(), BackupError> {
        for before in &known.link.stables {
            let Some(after) = now
                .stables
                .get(&before.name)
                .filter(|after| after.suid == before.suid)
            else {
                self.dropped_stables.push(before.name.clone());
                continue;
            };
            let mut alters =
                schema_change::alters(&before.schema, &after.schema).map_err(|source| {
                    BackupError::Schema {
                        database: now.database.name.clone(),
                        stable: before.name.clone(),
                        source,
                    }
                })?;
            if before.comment != after.comment {
                alters.push(Alter::Comment {
                    text: after.comment.clone().unwrap_or_default(),
                });
            }
            if let Some(moved) = TagsMoved::by(&alters, before.schema.tags.len()) {
                self.tags_moved.insert(before.name.clone(), moved);
            }
            if !alters.is_empty() {
                self.altered_stables.push(AlteredStable {
                    name: before.name.clone(),
                    alters,
                });
            }
        }
        Ok(())
    }

    fn dropped_tables(&mut self, known: &Known, now: &Catalogue) {
        for (before, now) in known.tables.beside(Some(&now.tables)) {
            let with_stable = before
                .stable
                .as_deref()
                .is_some_and(|stable| self.dropped_stables.iter().any(|name| name == stable));
            if now.is_none() && !with_stable {
                self.drop_table(&before.name);
            }
        }
    }

    /// A table of the base that is gone.
    pub(super) fn drop_table(&mut self, name: &str) {
        self.tables.insert(
            name.to_owned(),
            TableChange {
                drop: true,
                ..TableChange::named(name)
            },
        );
    }

    /// A table that the base does not know, or knows as another one of this name.
    fn created(&mut self, table: &Table, replaces: bool) {
        let change = TableChange {
            uid: Some(table.uid),
            drop: replaces,
            create: true,
            spans: vec![KeySpan::ALL],
            ..TableChange::named(&table.name)
        };
        self.tables.insert(table.name.clone(), change);
    }

    /// A table that the base knows.
    fn kept(
        &mut self,
        before: &Table,
        table: &Table,
        planned: &[&TablePlan],
        ranges: &Ranges,
        suspects: &mut Suspects,
    ) {
        let alters = match own_alters(before, table) {
            Ok(alters) => alters,
            // It has to be made again.
            Err(_) => return self.created(table, true),
        };
        let mut deletes = Vec::new();
        let mut spans = Vec::new();
        // A split may have moved it since the plan was made.
        let vgroups = BTreeSet::from([before.vgroup, table.vgroup]);
        for widened in vgroups.iter().filter_map(|of| ranges.widened.get(of)) {
            deletes.extend_from_slice(widened);
            spans.extend_from_slice(widened);
        }
        for planned in planned {
            spans.extend(with_deletes_around(planned));
            deletes.extend(planned.deletes.iter().map(|(span, _)| *span));
            if planned.rows.is_none() {
                // Which rows are meant could not be read, so they replace what is there.
                deletes.extend_from_slice(&planned.spans);
            }
        }
        deletes.extend(ranges.reappeared);
        spans.extend(ranges.reappeared);
        if suspects.is_one(before, table) {
            spans.push(KeySpan::ALL);
        }
        for expired in vgroups.iter().filter_map(|of| ranges.expired.get(of)) {
            deletes.extend_from_slice(expired);
        }
        let change = TableChange {
            uid: Some(table.uid),
            alters,
            deletes: KeySpan::joined(deletes),
            spans: KeySpan::joined(spans),
            ..TableChange::named(&table.name)
        };
        if change != TableChange::empty(table) {
            self.tables.insert(table.name.clone(), change);
        }
    }

    /// The change of a table, for what is found out about it later.
    pub(super) fn of(&mut self, table: &Table) -> &mut TableChange {
        self.tables
            .entry(table.name.clone())
            .or_insert_with(|| TableChange::empty(table))
    }
}

/// The changed rows of a table. Where some lie in a deleted range, the range is read as a whole: nothing else is left in it,
/// and one query takes the place of many. A delete behind which nothing was written again needs no query at all.
fn with_deletes_around(planned: &TablePlan) -> Vec<KeySpan> {
    let changed = KeySpan::joined(planned.spans.clone());
    let mut spans = changed.clone();
    for (delete, _) in &planned.deletes {
        let next = changed.partition_point(|span| span.last < delete.first);
        if changed.get(next).is_some_and(|span| span.overlaps(*delete)) {
            spans.push(*delete);
        }
    }
    spans
}

/// A normal table's changes of schema, and any table's changes of options.
fn own_alters(before: &Table, table: &Table) -> Result<Vec<Alter>, schema_change::NoWay> {
    if before.stable != table.stable {
        return Err(schema_change::NoWay(
            "it moved to another super table".to_owned(),
        ));
    }
    let mut alters = match (&before.schema, &table.schema) {
        (Some(before), Some(after)) => schema_change::alters(before, after)?,
        _ => Vec::new(),
    };
    let drops = |alter: &Alter| matches!(alter, Alter::DropColumn { .. });
    if alters.iter().any(drops) && before.schema.as_deref().is_some_and(Schema::has_decimals) {
        return Err(schema_change::NoWay(
            "a server that drops its column may lose the precision of its DECIMALs".to_owned(),
        ));
    }
    if before.comment != table.comment {
        alters.push(Alter::Comment {
            text: table.comment.clone().unwrap_or_default(),
        });
    }
    if before.ttl != table.ttl {
        alters.push(Alter::Ttl { days: table.ttl });
    }
    Ok(alters)
}

/// A plan's tables, to be found by what the catalogue says of a table.
pub(super) struct Planned<'a> {
    by_uid: HashMap<Uid, &'a TablePlan>,
    by_name: HashMap<&'a str, Vec<&'a TablePlan>>,
}

impl<'a> Planned<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let mut planned = Self {
            by_uid: HashMap::new(),
            by_name: HashMap::new(),
        };
        for table in &plan.tables {
            planned.by_uid.insert(table.table.uid, table);
            if let Some(name) = &table.name {
                planned.by_name.entry(name).or_default().push(table);
            }
        }
        planned
    }

    /// What the plan has of a table that is the same as before. Of two inserts that create one table together, the log
    /// holds a uid each, and the server keeps the first: what is listed under its name with another uid is the
    /// table's, too, as the second may be all that lies behind the start.
    pub(super) fn of_table(&self, table: &Table) -> Vec<&'a TablePlan> {
        let named = self.by_name.get(table.name.as_str());
        let others = named.into_iter().flatten().copied();
        let others = others.filter(|planned| planned.table.uid != table.uid);
        self.by_uid
            .get(&table.uid)
            .copied()
            .into_iter()
            .chain(others)
            .collect()
    }
}

/// Ranges of keys that concern every table of a vgroup.
pub(super) struct Ranges {
    /// Anything may have changed there.
    pub(super) widened: HashMap<VgId, Vec<KeySpan>>,
    /// The server removed the rows there, past the database's KEEP.
    pub(super) expired: HashMap<VgId, Vec<KeySpan>>,
    /// The server hid the rows there, past a KEEP that has grown since.
    pub(super) reappeared: Option<KeySpan>,
}

impl Ranges {
    /// Whether there is one of a vgroup.
    fn concern(&self, vgroup: VgId) -> bool {
        self.widened.contains_key(&vgroup)
            || self.expired.contains_key(&vgroup)
            || self.reappeared.is_some()
    }

    pub(super) fn of(plan: &Plan, reappeared: Option<KeySpan>) -> Self {
        let collect = |wanted: fn(ReasonCode) -> bool| {
            let mut ranges: HashMap<VgId, Vec<KeySpan>> = HashMap::new();
            for vgroup in &plan.vgroups {
                let reasons = vgroup.reasons.iter().filter(|reason| wanted(reason.code));
                let spans: Vec<KeySpan> = reasons.filter_map(|reason| reason.range).collect();
                if !spans.is_empty() {
                    ranges.insert(vgroup.vgroup, KeySpan::joined(spans));
                }
            }
            ranges
        };
        Self {
            // Rows that can't be read name their tables themselves.
            widened: collect(|code| {
                !matches!(code, ReasonCode::UnreadableRows | ReasonCode::FileSetGone)
            }),
            expired: collect(|code| code == ReasonCode::FileSetGone),
            reappeared,
        }
    }
}

/// Tables whose column may have been dropped and added again under its name, without column ids on both sides to tell:
/// servers before 3.3.7. Only the time of the last change of a super table's schema hints at it; a normal table has not
/// even that. Their rows are all copied when the schema changed, so that old values of such a column do not stay.
#[derive(Default)]
struct Suspects {
    stables: BTreeSet<String>,
    found: BTreeSet<String>,
}

impl Suspects {
    fn between(known: Option<&Known>, now: &Catalogue) -> Self {
        let mut stables = BTreeSet::new();
        for before in known.iter().flat_map(|known| &known.link.stables) {
            if let Some(after) = now.stables.get(&before.name)
                && after.suid == before.suid
                && after.updated != before.updated
                && (has_no_ids(&before.schema) || has_no_ids(&after.schema))
            {
                stables.insert(before.name.clone());
            }
        }
        Self {
            stables,
            found: BTreeSet::new(),
        }
    }

    fn is_one(&mut self, before: &Table, table: &Table) -> bool {
        let mut schemas = before.schema.iter().chain(&table.schema);
        let name: &str = match &table.stable {
            Some(stable) if self.stables.contains(&**stable) => stable,
            None if schemas.any(|schema| has_no_ids(schema)) => &table.name,
            _ => return false,
        };
        self.found.insert(name.to_owned());
        true
    }

    fn note(&self) -> Option<String> {
        let names: Vec<&str> = self.found.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| {
            format!(
                "the server does not tell column ids, or did not at the base: all rows of {} were copied, as a \
                 column may have been dropped and added again",
                names.join(", ")
            )
        })
    }
}

fn has_no_ids(schema: &Schema) -> bool {
    schema.columns.iter().any(|column| column.id.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitmap::BlockState;
    use model::{Key, Suid, TableId};
    use plan::window::WindowWidth;

    fn table(name: &str, uid: i64) -> Table {
        Table {
            name: name.to_owned(),
            uid: Uid(uid),
            vgroup: VgId(2),
            stable: Some("s".into()),
            tags: None,
            schema: None,
            ttl: 0,
            comment: None,
        }
    }

    fn planned(name: Option<&str>, uid: i64, spans: &[KeySpan]) -> TablePlan {
        TablePlan {
            vgroup: VgId(2),
            table: TableId {
                suid: Suid(9),
                uid: Uid(uid),
            },
            name: name.map(str::to_owned),
            state: BlockState::New,
            rows: Some(1),
            spans: spans.to_vec(),
            deletes: Vec::new(),
        }
    }

    #[test]
    fn rows_under_a_uid_that_the_server_did_not_keep_are_the_table_s_of_that_name() {
        let span = |at| KeySpan::at(Key(at));
        let plan = Plan {
            tables: vec![
                planned(None, 1, &[span(10)]),
                planned(Some("t"), 2, &[span(20)]),
                planned(Some("other"), 3, &[span(30)]),
            ],
            blocks: Vec::new(),
            vgroups: Vec::new(),
            super_tables_dropped: false,
            window: WindowWidth::from_ticks(1_000).unwrap(),
        };
        let kept = table("t", 1);
        let mut changes = Changes::default();
        changes.kept(
            &kept,
            &kept,
            &Planned::of(&plan).of_table(&kept),
            &Ranges::of(&plan, None),
            &mut Suspects::default(),
        );
        assert_eq!(changes.tables["t"].spans, [span(10), span(20)]);
    }

    #[test]
    fn a_range_that_is_dirty_as_a_whole_holds_for_tables_that_moved_since() {
        let span = KeySpan::at(Key(10));
        let ranges = Ranges {
            widened: [(VgId(2), vec![span])].into(),
            expired: [(VgId(2), vec![KeySpan::at(Key(20))])].into(),
            reappeared: None,
        };
        let before = table("t", 1);
        let moved = Table {
            vgroup: VgId(7),
            ..before.clone()
        };
        let mut changes = Changes::default();
        changes.kept(&before, &moved, &[], &ranges, &mut Suspects::default());
        let change = &changes.tables["t"];
        assert_eq!(change.spans, [span]);
        assert_eq!(change.deletes, [span, KeySpan::at(Key(20))]);
    }
}
