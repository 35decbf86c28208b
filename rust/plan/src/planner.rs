//! From changes to a plan.
//!
//! Changes become blocks (one table, one window), each with its exact span of changed keys, its newest version
//! and its number of distinct changed keys. Blocks in neighbouring windows become one span to read.

use crate::{BlockPlan, Ordinals, Plan, TablePlan, VgroupPlan, window::WindowWidth};
use bitmap::{BlockId, BlockState, BlockStates, Mark, WindowNumber};
use capture::{Change, Reason, ReasonCode, RowChange, ScanReport, SourceKind, TableChange};
use model::{Key, KeySpan, PkValue, Suid, TableId, Uid, Version, VgId};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};
use tdfiles::FormatError;

/// Collects the changes of one vgroup after the other.
#[derive(Debug)]
pub struct Planner {
    window: WindowWidth,
    ordinals: Ordinals,
    states: BlockStates,
    blocks: HashMap<BlockId, BlockPlan>,
    plan: Plan,
}

impl Planner {
    /// Starts a plan with the windows and table numbers of the chain.
    pub fn new(window: WindowWidth, ordinals: Ordinals) -> Self {
        let plan = Plan {
            window,
            vgroups: Vec::new(),
            tables: Vec::new(),
            blocks: Vec::new(),
            super_tables_dropped: false,
        };
        Self {
            window,
            ordinals,
            states: BlockStates::default(),
            blocks: HashMap::new(),
            plan,
        }
    }

    /// Starts collecting the changes of a vgroup.
    pub fn vgroup(&self) -> Changes {
        Changes {
            window: self.window,
            tables: BTreeMap::new(),
            by_name: HashMap::new(),
            dropped_stables: HashSet::new(),
            reasons: Vec::new(),
            rows: 0,
        }
    }

    /// Adds a vgroup's changes with what its scan proved.
    pub fn add(&mut self, vgroup: VgId, changes: Changes, report: &ScanReport) {
        let mut reasons = report.coverage.reasons.clone();
        reasons.extend(changes.reasons.iter().cloned());
        self.plan.vgroups.push(VgroupPlan {
            vgroup,
            db_id: Some(report.vnode.db_id),
            from: report.coverage.from,
            to: report.coverage.to,
            source: report.source,
            complete: !reasons.iter().any(|reason| reason.code.is_gap()),
            reasons,
        });
        self.plan.super_tables_dropped |= !changes.dropped_stables.is_empty();
        let ranges = KeySpan::joined(changes.reasons.iter().filter_map(|r| r.range).collect());
        for (uid, mut changed) in changes.tables {
            if changed
                .table
                .is_some_and(|table| changes.dropped_stables.contains(&table.suid))
            {
                changed.life = Life::Dropped;
            }
            changed.unknown.extend_from_slice(&ranges);
            self.add_table(vgroup, uid, changed);
        }
    }

    /// Adds a vgroup that the start knows and that is not on disk.
    pub fn add_gone(&mut self, vgroup: VgId, version: Version, source: SourceKind) {
        self.plan.vgroups.push(VgroupPlan {
            vgroup,
            db_id: None,
            from: version,
            to: version,
            source,
            complete: false,
            reasons: vec![Reason {
                code: ReasonCode::VgroupGone,
                text: "the start knows this vgroup, but no data directory holds it; if it moved to another \
                       dnode, run there; if it was split or dropped, a full backup is needed"
                    .to_owned(),
                range: Some(KeySpan::ALL),
            }],
        });
    }

    fn add_table(&mut self, vgroup: VgId, uid: Uid, changed: ChangedTable) {
        let known = self.ordinals.contains(uid);
        let state = match changed.life {
            Life::Dropped => BlockState::Deleted,
            // A request to create a table is logged even if the table exists.
            Life::Created if !known => BlockState::New,
            Life::Created | Life::Existing => BlockState::Dirty,
        };
        let Some(table) = changed.table else { return };
        let mut plan = TablePlan {
            vgroup,
            table,
            name: changed.name,
            state,
            rows: Some(0),
            spans: Vec::new(),
            deletes: Vec::new(),
        };
        if state != BlockState::Deleted {
            let ordinal = self.ordinals.of(uid);
            let mark = if state == BlockState::New {
                Mark::New
            } else {
                Mark::Dirty
            };
            let blocks = changed.rows.blocks();
            for (window, block) in &blocks {
                let id = BlockId::new(ordinal, *window);
                // A fresh plan's blocks are clean, and a clean block can become anything.
                let _ = self.states.mark(id, mark);
                let plan = BlockPlan {
                    id,
                    uid,
                    span: block.span,
                    version: block.version,
                    rows: block.rows,
                };
                self.blocks.insert(id, plan);
            }
            let rows: u64 = blocks.values().map(|block| block.rows).sum();
            plan.rows = changed.unknown.is_empty().then_some(rows);
            plan.spans = merged_spans(&blocks, &changed.unknown);
            plan.deletes = merged_deletes(changed.deletes);
        }
        self.plan.tables.push(plan);
    }

    /// The finished plan and the table numbers for the next one.
    pub fn finish(mut self) -> (Plan, Ordinals) {
        self.plan.vgroups.sort_by_key(|vgroup| vgroup.vgroup);
        self.plan
            .tables
            .sort_by_key(|table| (table.vgroup, table.table.uid));
        let copied = self.states.dirty_or_new();
        self.plan.blocks = copied.filter_map(|id| self.blocks.remove(&id)).collect();
        (self.plan, self.ordinals)
    }
}

/// Spans of neighbouring windows become one; `unknown` spans are added as they are.
fn merged_spans(blocks: &BTreeMap<WindowNumber, Block>, unknown: &[KeySpan]) -> Vec<KeySpan> {
    let mut spans: Vec<KeySpan> = Vec::new();
    let mut last_window = None;
    for (window, block) in blocks {
        match spans.last_mut() {
            Some(span) if last_window == window.0.checked_sub(1) => *span = span.hull(block.span),
            _ => spans.push(block.span),
        }
        last_window = Some(window.0);
    }
    if unknown.is_empty() {
        return spans;
    }
    spans.extend_from_slice(unknown);
    KeySpan::joined(spans)
}

/// One DELETE leaves a record in every file set it touches, cut at the sets' borders: such pieces become one
/// again. Pieces with anything between them stay apart, as what lies there may not have been deleted.
fn merged_deletes(mut deletes: Vec<(Version, KeySpan)>) -> Vec<(KeySpan, Version)> {
    deletes.sort_unstable();
    deletes.dedup_by(|next, delete| next.0 == delete.0 && delete.1.join_touching(next.1));
    deletes
        .into_iter()
        .map(|(version, span)| (span, version))
        .collect()
}

/// The changes of one vgroup while they are collected.
#[derive(Debug)]
pub struct Changes {
    window: WindowWidth,
    tables: BTreeMap<Uid, ChangedTable>,
    by_name: HashMap<String, Uid>,
    dropped_stables: HashSet<Suid>,
    reasons: Vec<Reason>,
    rows: u64,
}

/// Ends the text of a reason that stands for several.
const MORE: &str = " (and more of this kind)";

#[derive(Debug, Default)]
struct ChangedTable {
    table: Option<TableId>,
    name: Option<String>,
    life: Life,
    rows: ChangedRows,
    deletes: Vec<(Version, KeySpan)>,
    unknown: Vec<KeySpan>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Life {
    #[default]
    Existing,
    Created,
    Dropped,
}

impl Changes {
    /// Rows collected so far, before repeated keys are counted once; for progress.
    pub fn rows_seen(&self) -> u64 {
        self.rows
    }

    /// Takes in a change. Changes of the log must come before those of the committed files.
    pub fn add(&mut self, change: Change<'_>) -> Result<(), FormatError> {
        match change {
            Change::Rows(rows) => {
                self.rows += rows.len() as u64;
                let window = self.window;
                self.table(rows.table).rows.add(rows, window)?;
            }
            Change::Delete {
                table,
                span,
                version,
            } => {
                self.table(table).deletes.push((version, span));
            }
            Change::Unknown {
                table,
                span,
                version: _,
            } => self.table(table).unknown.push(span),
            Change::Table { version, change } => self.table_change(version, &change),
        }
        Ok(())
    }

    fn table(&mut self, table: TableId) -> &mut ChangedTable {
        let entry = self.tables.entry(table.uid).or_default();
        entry.table = Some(table);
        entry
    }

    fn created(&mut self, table: TableId, name: &str) {
        self.by_name.insert(name.to_owned(), table.uid);
        let entry = self.table(table);
        entry.name = Some(name.to_owned());
        if entry.life == Life::Existing {
            entry.life = Life::Created;
        }
    }

    fn table_change(&mut self, version: Version, change: &TableChange<'_>) {
        match *change {
            TableChange::Created { table, name } => self.created(table, name),
            TableChange::Dropped { uid, suid, name } => {
                let by_name = || name.and_then(|name| self.by_name.get(name).copied());
                match uid.or_else(by_name) {
                    Some(uid) => self.drop_table(uid, suid, name),
                    None => {
                        let name = name.unwrap_or("?");
                        let text = format!(
                            "version {version} dropped table {name}, and its log record holds no id"
                        );
                        self.reason(ReasonCode::DroppedByName, None, text);
                    }
                }
            }
            TableChange::SuperTableDropped { suid, .. } => {
                self.dropped_stables.insert(suid);
            }
            TableChange::DeletedByName { name, span } => match self.by_name.get(name) {
                Some(uid) => {
                    if let Some(changed) = self.tables.get_mut(uid) {
                        changed.deletes.push((version, span));
                    }
                }
                None => {
                    let text = format!(
                        "version {version} deleted rows of table {name}, whose id is not known here"
                    );
                    self.reason(ReasonCode::DeletedByName, Some(span), text);
                }
            },
            // Told by the scan's reasons; a plan of rows has no place for them.
            TableChange::SchemaAltered { .. }
            | TableChange::TagsAltered { .. }
            | TableChange::SuperTableCreated { .. }
            | TableChange::SuperTableAltered { .. } => {}
        }
    }

    /// One reason per code: a later one widens its range.
    fn reason(&mut self, code: ReasonCode, range: Option<KeySpan>, text: String) {
        match self.reasons.iter_mut().find(|reason| reason.code == code) {
            Some(known) => {
                if !known.text.ends_with(MORE) {
                    known.text += MORE;
                }
                known.range = known.range.zip(range).map(|(a, b)| a.hull(b));
            }
            None => self.reasons.push(Reason { code, text, range }),
        }
    }

    fn drop_table(&mut self, uid: Uid, suid: Suid, name: Option<&str>) {
        let entry = self.tables.entry(uid).or_default();
        entry.table.get_or_insert(TableId { suid, uid });
        entry.life = Life::Dropped;
        if let Some(name) = name {
            entry.name = Some(name.to_owned());
            self.by_name.remove(name);
        }
    }
}

/// The changed rows of one table, as blocks.
#[derive(Debug, Default)]
struct ChangedRows {
    blocks: BTreeMap<WindowNumber, Block>,
    log: LogKeys<Key>,
    composite_log: LogKeys<(Key, PkValue)>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    span: KeySpan,
    version: Version,
    rows: u64,
}

impl ChangedRows {
    fn add(&mut self, rows: RowChange<'_>, window: WindowWidth) -> Result<(), FormatError> {
        let Self {
            blocks,
            log,
            composite_log,
        } = self;
        let mut cursor = BlockCursor {
            window,
            blocks,
            current: None,
        };
        if !rows.is_merged() {
            return rows.for_each(|key, pk, version| {
                cursor.touch(key, version);
                match pk {
                    None => log.push(key),
                    Some(pk) => composite_log.push((key, pk.clone())),
                }
            });
        }
        log.sort();
        composite_log.sort();
        let mut at = log.keys.partition_point(|key| *key < rows.span.first);
        let mut composite_at = composite_log
            .keys
            .partition_point(|(key, _)| *key < rows.span.first);
        rows.for_each(|key, pk, version| {
            cursor.touch(key, version).rows += 1;
            match pk {
                None => at = log.count(at, |known| known.cmp(&key)),
                Some(pk) => {
                    let order = |known: &(Key, PkValue)| (known.0, &known.1).cmp(&(key, pk));
                    composite_at = composite_log.count(composite_at, order);
                }
            }
        })
    }

    /// The blocks, with the keys of the log counted.
    fn blocks(mut self) -> BTreeMap<WindowNumber, Block> {
        let plain = self.log.uncounted().copied().collect::<Vec<_>>();
        let composite = self.composite_log.uncounted().map(|(key, _)| *key);
        // A table has either plain or composite keys.
        let mut keys = plain.into_iter().chain(composite).peekable();
        for block in self.blocks.values_mut() {
            while keys.next_if(|key| *key <= block.span.last).is_some() {
                block.rows += 1;
            }
        }
        self.blocks
    }
}

/// Keys that the log names: in any order, some repeated, and some also among the merged rows.
#[derive(Debug)]
struct LogKeys<K> {
    keys: Vec<K>,
    /// For each key, once sorted, whether it stood among the merged rows.
    counted: Vec<bool>,
}

impl<K> Default for LogKeys<K> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            counted: Vec::new(),
        }
    }
}

impl<K: Ord> LogKeys<K> {
    fn push(&mut self, key: K) {
        self.counted.clear();
        self.keys.push(key);
    }

    fn sort(&mut self) {
        if self.counted.is_empty() && !self.keys.is_empty() {
            self.keys.sort_unstable();
            self.keys.dedup();
            self.counted = vec![false; self.keys.len()];
        }
    }

    /// Notes that a merged row has the key that `order` compares to, looking from `at` on. Returns where to
    /// look for the next.
    fn count(&mut self, mut at: usize, order: impl Fn(&K) -> Ordering) -> usize {
        while let Some(known) = self.keys.get(at) {
            match order(known) {
                Ordering::Less => at += 1,
                Ordering::Equal => {
                    self.counted[at] = true;
                    return at + 1;
                }
                Ordering::Greater => break,
            }
        }
        at
    }

    /// The keys that no merged row had, ascending.
    fn uncounted(&mut self) -> impl Iterator<Item = &K> {
        self.sort();
        self.keys
            .iter()
            .zip(&self.counted)
            .filter(|(_, counted)| !**counted)
            .map(|(key, _)| key)
    }
}

/// The block that the last row fell into: rows mostly come in order.
struct BlockCursor<'a> {
    window: WindowWidth,
    blocks: &'a mut BTreeMap<WindowNumber, Block>,
    current: Option<(WindowNumber, KeySpan)>,
}

impl BlockCursor<'_> {
    /// The block of a changed row, with the row in its span.
    fn touch(&mut self, key: Key, version: Version) -> &mut Block {
        let number = match self.current {
            Some((number, keys)) if keys.first <= key && key <= keys.last => number,
            _ => {
                let number = self.window.window_of(key);
                self.current = Some((number, self.window.keys_of(number)));
                number
            }
        };
        let fresh = Block {
            span: KeySpan::at(key),
            version,
            rows: 0,
        };
        let block = self.blocks.entry(number).or_insert(fresh);
        block.span = block.span.hull(KeySpan::at(key));
        block.version = block.version.max(version);
        block
    }
}
