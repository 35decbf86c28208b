//! Which blocks a link changes: of tables that stay, those of the plan; of tables that are created, those with rows.

use super::{
    Changes, Known,
    changes::{Planned, Ranges},
    output::write_file,
    row_files::WrittenTables,
};
use bitmap::BlockState;
use model::{
    KeySpan, Uid, Version, VgId,
    catalogue::{Catalogue, Table},
};
use plan::{BlockPlan, Plan};
use repository::bitmaps::{Bitmaps, TableBlocks};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{FileEntry, Store, StoreError};

/// What is known when everything else of a database is written.
pub(super) struct Facts<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) known: Option<&'a Known>,
    pub(super) changes: &'a Changes,
    pub(super) plan: &'a Plan,
    pub(super) reappeared: Option<KeySpan>,
    pub(super) written: &'a WrittenTables,
}

/// Writes the bitmaps of the `number`th database.
pub(super) fn write(
    store: &dyn Store,
    number: usize,
    facts: &Facts<'_>,
) -> Result<FileEntry, StoreError> {
    let name = format!("incremental/{number}.bitmaps");
    let bytes = facts
        .bitmaps()
        .to_bytes()
        .map_err(StoreError::io(store.place(&name)))?;
    write_file(store, name, &bytes)
}

impl Facts<'_> {
    fn bitmaps(&self) -> Bitmaps {
        let mut bitmaps = Bitmaps::new(self.plan.window);
        let reader = Reader {
            facts: self,
            planned: Planned::of(self.plan),
            blocks: by_table(&self.plan.blocks),
            ranges: Ranges::of(self.plan, self.reappeared),
            newest: self.newest(),
        };
        let changed = self.changes.tables.values();
        for change in changed.filter(|change| change.uid.is_some()) {
            let Some(table) = self.catalogue.tables.get(&change.name) else {
                continue;
            };
            let before = self.known.and_then(|known| known.tables.get(&table.name));
            let before = before.filter(|before| before.uid == table.uid);
            let blocks = match before {
                None => reader.created(table),
                Some(before) => {
                    let whole = change.create || change.spans == [KeySpan::ALL];
                    reader.kept(before, table, whole)
                }
            };
            bitmaps.tables.insert(table.uid, blocks);
        }
        let now = Some(&self.catalogue.tables);
        let before = self.known.iter().flat_map(|known| known.tables.beside(now));
        for (gone, now) in before {
            if now.is_some_and(|now| now.uid == gone.uid) {
                continue;
            }
            let blocks = TableBlocks::new(gone.vgroup, BlockState::Deleted);
            bitmaps.tables.insert(gone.uid, blocks);
        }
        bitmaps
    }

    /// The version up to which each vgroup is in the link.
    fn newest(&self) -> BTreeMap<VgId, Version> {
        let vgroups = self.plan.vgroups.iter();
        vgroups.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect()
    }
}

/// A plan's blocks, which are in the order of their ids.
fn by_table(blocks: &[BlockPlan]) -> HashMap<Uid, &[BlockPlan]> {
    let tables = blocks.chunk_by(|a, b| a.uid == b.uid);
    tables
        .filter_map(|blocks| Some((blocks.first()?.uid, blocks)))
        .collect()
}

/// Says of tables which blocks changed.
struct Reader<'a> {
    facts: &'a Facts<'a>,
    planned: Planned<'a>,
    blocks: HashMap<Uid, &'a [BlockPlan]>,
    ranges: Ranges,
    newest: BTreeMap<VgId, Version>,
}

impl Reader<'_> {
    fn newest(&self, table: &Table) -> Version {
        let newest = self.newest.get(&table.vgroup).copied();
        newest.unwrap_or(Version::BEGINNING)
    }

    /// The blocks of the rows that were written, which are all that it has.
    fn written(&self, table: &Table, blocks: &mut TableBlocks) {
        let written = self.facts.written.get(&table.uid);
        for (window, version) in written.iter().flat_map(|written| &written.windows) {
            // SQL does not tell versions.
            let version = match *version == Version::BEGINNING {
                true => self.newest(table),
                false => *version,
            };
            blocks.rows_in(*window, version);
        }
        blocks.settle();
    }

    fn created(&self, table: &Table) -> TableBlocks {
        let mut blocks = TableBlocks::new(table.vgroup, BlockState::New);
        self.written(table, &mut blocks);
        blocks
    }

    /// As [`Changes`] finds its rows and deletes; `whole` if nothing is known but that everything was copied.
    fn kept(&self, before: &Table, table: &Table, whole: bool) -> TableBlocks {
        let (width, newest) = (self.facts.plan.window, self.newest(table));
        let mut blocks = TableBlocks::new(table.vgroup, BlockState::Dirty);
        for planned in self.planned.of_table(table) {
            let changed = self.blocks.get(&planned.table.uid);
            blocks.plan(planned, changed.copied().unwrap_or_default(), width, newest);
        }
        if whole {
            blocks.may_differ(KeySpan::ALL, width, newest);
        }
        let vgroups = BTreeSet::from([before.vgroup, table.vgroup]);
        let widened = vgroups
            .iter()
            .filter_map(|of| self.ranges.widened.get(of))
            .flatten();
        for span in widened.chain(&self.ranges.reappeared) {
            blocks.may_differ(*span, width, newest);
        }
        let expired = vgroups
            .iter()
            .filter_map(|of| self.ranges.expired.get(of))
            .flatten();
        for span in expired {
            blocks.rows_deleted(*span, width, newest);
        }
        blocks.settle();
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::{super::row_files::Written, *};
    use capture::{Reason, ReasonCode, SourceKind};
    use model::{
        DbId, Key, Precision, Suid, TableId,
        catalogue::Tables,
        catalogue::{Database, Schema},
    };
    use plan::{Ordinals, TablePlan, VgroupPlan, window::WindowWidth};
    use repository::link::{DatabaseLink, TableChange, Totals};

    fn table(name: &str, uid: i64) -> Table {
        Table {
            name: name.to_owned(),
            uid: Uid(uid),
            vgroup: VgId(2),
            stable: None,
            tags: None,
            schema: Some(Box::new(Schema {
                columns: Vec::new(),
                tags: Vec::new(),
                options: String::new(),
            })),
            ttl: 0,
            comment: None,
        }
    }

    fn known(tables: &[Table]) -> Known {
        let entry = FileEntry {
            path: String::new(),
            bytes: 0,
            sha256: String::new(),
            rows: 0,
        };
        let link = DatabaseLink {
            database: database(),
            directory: String::new(),
            incremental: true,
            vgroups: Vec::new(),
            window: 10,
            stables: Vec::new(),
            dropped_stables: Vec::new(),
            altered_stables: Vec::new(),
            tag_files: Vec::new(),
            row_files: Vec::new(),
            bitmaps: None,
            tables: entry.clone(),
            changes: entry.clone(),
            checkpoint: entry,
            totals: Totals::default(),
        };
        Known {
            link,
            tables: by_name(tables),
        }
    }

    fn by_name(tables: &[Table]) -> Tables {
        tables.iter().cloned().collect()
    }

    fn database() -> Database {
        Database {
            name: "d".to_owned(),
            create: String::new(),
            precision: Precision::Milliseconds,
        }
    }

    fn plan(ordinals: &mut Ordinals, reasons: Vec<Reason>) -> Plan {
        let width = WindowWidth::from_ticks(10).unwrap();
        let block = |ordinals: &mut Ordinals, uid, key| BlockPlan {
            id: bitmap::BlockId::new(ordinals.of(Uid(uid)), width.window_of(Key(key))),
            uid: Uid(uid),
            span: KeySpan::at(Key(key)),
            version: Version(30),
            rows: 1,
        };
        let blocks = vec![block(ordinals, 1, 15), block(ordinals, 1, 95)];
        let changed = TablePlan {
            vgroup: VgId(2),
            table: TableId {
                suid: Suid(0),
                uid: Uid(1),
            },
            name: None,
            state: BlockState::Dirty,
            rows: Some(2),
            spans: blocks.iter().map(|block| block.span).collect(),
            deletes: Vec::new(),
        };
        Plan {
            tables: vec![changed],
            blocks,
            vgroups: vec![VgroupPlan {
                vgroup: VgId(2),
                db_id: Some(DbId(1)),
                from: Version(3),
                to: Version(40),
                source: SourceKind::Tsdb,
                complete: true,
                reasons,
            }],
            super_tables_dropped: false,
            window: width,
        }
    }

    fn bitmaps(reasons: Vec<Reason>) -> Bitmaps {
        let now = [table("kept", 1), table("tagged", 2), table("made", 8)];
        let before = known(&[table("kept", 1), table("tagged", 2), table("made", 7)]);
        let plan = plan(&mut Ordinals::default(), reasons);
        let catalogue = Catalogue {
            database: database(),
            stables: BTreeMap::new(),
            tables: by_name(&now),
            not_covered: Vec::new(),
            unreadable_stables: Default::default(),
            unreadable: BTreeMap::new(),
        };
        let mut changes = Changes::between(Some(&before), &catalogue, &plan, None).unwrap();
        let tagged = &now[1];
        changes
            .tables
            .entry("tagged".to_owned())
            .or_insert_with(|| TableChange::empty(tagged))
            .set_tags = true;
        let window = plan.window.window_of(Key(50));
        let written = Written {
            rows: 3,
            windows: vec![(window, Version::BEGINNING), (window, Version(31))],
        };
        let facts = Facts {
            catalogue: &catalogue,
            known: Some(&before),
            changes: &changes,
            plan: &plan,
            reappeared: None,
            written: &[(Uid(8), written)].into(),
        };
        facts.bitmaps()
    }

    #[test]
    fn each_table_that_differs_is_named_with_its_blocks() {
        let bitmaps = bitmaps(Vec::new());
        let states = |table: &TableBlocks| {
            let blocks = table.blocks.iter();
            let middle = bitmaps.window.window_of(Key(0)).0;
            let blocks = blocks.map(|b| (b.window.0 - middle, b.state, b.version.0));
            (table.state, blocks.collect::<Vec<_>>(), table.ranges.len())
        };
        let found: Vec<_> = bitmaps
            .tables
            .iter()
            .map(|(uid, table)| (uid.0, states(table)))
            .collect();
        let (dirty, new) = (BlockState::Dirty, BlockState::New);
        let expected = [
            (1, (dirty, vec![(1, dirty, 30), (9, dirty, 30)], 0)),
            (2, (dirty, vec![], 0)),
            (7, (BlockState::Deleted, vec![], 0)),
            // One of its files came by SQL, which may have seen what was written up to the end.
            (8, (new, vec![(5, new, 40)], 0)),
        ];
        assert_eq!(found, expected);
        let bytes = bitmaps.to_bytes().unwrap();
        assert_eq!(Bitmaps::parse(&bytes, "b").unwrap(), bitmaps);
    }

    #[test]
    fn a_range_that_is_dirty_as_a_whole_is_so_in_every_table_that_stays() {
        let reason = |code, first, last| Reason {
            code,
            text: String::new(),
            range: Some(KeySpan {
                first: Key(first),
                last: Key(last),
            }),
        };
        let bitmaps = bitmaps(vec![
            reason(ReasonCode::FileSetCompacted, 20, 29),
            reason(ReasonCode::FileSetGone, i64::MIN, -1),
        ]);
        for uid in [1, 2] {
            let table = &bitmaps.tables[&Uid(uid)];
            let keys = |state| table.keys(bitmaps.window, state);
            let dirty = keys(BlockState::Dirty);
            assert!(
                dirty
                    .iter()
                    .any(|span| span.first <= Key(20) && Key(29) <= span.last)
            );
            let deleted = keys(BlockState::Deleted);
            assert_eq!(
                deleted,
                [KeySpan {
                    first: Key(i64::MIN),
                    last: Key(-1)
                }]
            );
        }
        assert!(bitmaps.tables[&Uid(8)].ranges.is_empty());
    }
}
