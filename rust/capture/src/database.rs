//! The catalogue of a database by the files of its vnodes, in the words in which SQL tells it.
//!
//! A super table is in every vnode of its database. While it is altered, some have the new columns or tags and others still the
//! old ones; the newest count, as columns and tags are known by their ids. What only the server's mnode has is taken from an
//! earlier catalogue, or missing: comments of super tables, and some options of the database.

use crate::catalogue::{Catalogue as VnodeCatalogue, Kind};
use model::{
    ColumnId, OwnedValue, Precision, Suid, Uid, VgId,
    catalogue::{
        Catalogue, Column, Database, Schema, SuperTable, Table, Tables, quoted, with_options,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tdfiles::{
    meta::SuperTable as StoredSuperTable,
    schema::{Column as StoredColumn, Schema as StoredSchema},
    vnode_json::VnodeJson,
};

/// The tag values of children: by super table, for each child its name and a value for each tag.
#[derive(Debug, Default)]
pub struct FileTags(BTreeMap<String, Vec<(String, Vec<OwnedValue>)>>);

impl FileTags {
    /// The children of a super table.
    pub fn of(&self, stable: &str) -> &[(String, Vec<OwnedValue>)] {
        self.0.get(stable).map_or(&[], Vec::as_slice)
    }
}

/// What the files of a database say.
#[derive(Debug)]
pub struct FileCatalogue {
    /// The database and its tables. Digests of tags are not there.
    pub catalogue: Catalogue,
    /// The tags.
    pub tags: FileTags,
    /// What the files do not say, for the operator.
    pub notes: Vec<String>,
}

/// What an earlier catalogue of the same database says.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The database.
    pub database: &'a Database,
    /// Its super tables.
    pub stables: &'a [SuperTable],
    /// Its tables: those that vnodes say are unchanged are taken from here.
    pub tables: &'a Tables,
}

/// Puts the catalogues of a database's vnodes together.
pub fn join(
    database: &str,
    vnodes: &[(VgId, VnodeCatalogue)],
    before: Option<Before<'_>>,
) -> FileCatalogue {
    let mut joined = FileCatalogue {
        catalogue: Catalogue {
            database: Database {
                name: database.to_owned(),
                create: String::new(),
                precision: Precision::Milliseconds,
            },
            stables: BTreeMap::new(),
            tables: Tables::new(),
            not_covered: Vec::new(),
            unreadable: BTreeMap::new(),
            unreadable_stables: BTreeMap::new(),
        },
        tags: FileTags::default(),
        notes: Vec::new(),
    };
    if let Some((_, first)) = vnodes.first() {
        joined.catalogue.database.precision = first.vnode.precision;
        joined.create(&first.vnode, vnodes.len(), before);
    }
    let stables = newest_stables(vnodes);
    joined.stables(&stables, before);
    if let Some(before) = before {
        joined.catalogue.tables = unchanged(vnodes, before.tables);
    }
    for (vgroup, vnode) in vnodes {
        joined.tables(*vgroup, vnode, &stables);
        let others = vnode.not_covered.iter().cloned();
        joined.catalogue.not_covered.extend(others);
    }
    let Catalogue {
        tables, unreadable, ..
    } = &mut joined.catalogue;
    tables.retain(|table| !unreadable.contains_key(&table.name));
    joined
}

/// The tables that are what they were before.
fn unchanged(vnodes: &[(VgId, VnodeCatalogue)], before: &Tables) -> Tables {
    let unchanged = vnodes.iter().flat_map(|(_, vnode)| &vnode.unchanged);
    let mut unchanged: Vec<Uid> = unchanged.copied().collect();
    if unchanged.is_empty() {
        return Tables::new();
    }
    unchanged.sort_unstable();
    let mut tables = before.clone();
    tables.retain(|table| unchanged.binary_search(&table.uid).is_ok());
    tables
}

/// The super tables, each with its newest columns and tags.
fn newest_stables(vnodes: &[(VgId, VnodeCatalogue)]) -> BTreeMap<Suid, StoredSuperTable> {
    let mut newest: BTreeMap<Suid, StoredSuperTable> = BTreeMap::new();
    for stable in vnodes
        .iter()
        .flat_map(|(_, vnode)| vnode.super_tables.values())
    {
        let known = newest.entry(stable.suid).or_insert_with(|| stable.clone());
        if known.columns.version < stable.columns.version {
            known.columns = stable.columns.clone();
            known.keep = stable.keep;
        }
        if known.tags.version < stable.tags.version {
            known.tags = stable.tags.clone();
        }
    }
    newest
}

impl FileCatalogue {
    /// The statement that creates the database: that of before with what vnodes say now, or else what they say alone.
    fn create(&mut self, vnode: &VnodeJson, vgroups: usize, before: Option<Before<'_>>) {
        let database = &mut self.catalogue.database;
        let mut options = options(vnode);
        if let Some(before) = before {
            database.create = with_options(&before.database.create, &options);
            return;
        }
        options.insert("VGROUPS".to_owned(), vgroups.to_string());
        let bare = format!("CREATE DATABASE {}", quoted(&database.name));
        database.create = with_options(&bare, &options);
        self.notes.push(format!(
            "database {}: SINGLE_STABLE, RETENTIONS and options whose names begin with SS, S3 or COMPACT \
             are not in the files of vnodes; a restore creates the database with the server's defaults for them",
            database.name
        ));
    }

    fn stables(&mut self, stables: &BTreeMap<Suid, StoredSuperTable>, before: Option<Before<'_>>) {
        let catalogue = &mut self.catalogue;
        let mut without_comment = 0;
        for stored in stables.values() {
            let name = &stored.name;
            if stored.is_virtual {
                catalogue
                    .not_covered
                    .push(format!("virtual super table {name}"));
                continue;
            }
            let mut before = before.iter().flat_map(|before| before.stables);
            let before = before.find(|before| before.suid == stored.suid);
            let mut schema = schema(&stored.columns);
            schema.tags = stored.tags.columns.iter().map(tag).collect();
            if let Some(keep) = stored.keep.filter(|minutes| *minutes > 0) {
                let options = format!("KEEP {keep}m {}", schema.options);
                schema.options = options.trim().to_owned();
            }
            without_comment += usize::from(before.is_none());
            let stable = SuperTable {
                name: name.clone(),
                suid: stored.suid,
                schema,
                comment: before.and_then(|before| before.comment.clone()),
                updated: before.map_or_else(String::new, |before| before.updated.clone()),
            };
            if let Some(other) = catalogue.stables.insert(name.clone(), stable) {
                let reason = format!(
                    "vnodes have super tables {} and {} of this name: it was dropped and created again just before the server \
                     stopped",
                    other.suid, stored.suid
                );
                catalogue.unreadable_stables.insert(name.clone(), reason);
            }
        }
        for name in catalogue.unreadable_stables.keys() {
            catalogue.stables.remove(name);
        }
        if without_comment > 0 {
            self.notes.push(format!(
                "database {}: comments of super tables are not in the files of vnodes; {without_comment} super tables may have one \
                 that is not in the link",
                catalogue.database.name
            ));
        }
    }

    fn tables(
        &mut self,
        vgroup: VgId,
        vnode: &VnodeCatalogue,
        stables: &BTreeMap<Suid, StoredSuperTable>,
    ) {
        let mut orders: HashMap<Suid, TagOrder> = HashMap::new();
        let names = stables
            .values()
            .map(|stable| (stable.suid, Arc::from(&*stable.name)));
        let names: HashMap<Suid, Arc<str>> = names.collect();
        for (uid, stored) in &vnode.tables {
            let name = &stored.name;
            let mut table = Table {
                name: name.clone(),
                uid: *uid,
                vgroup,
                stable: None,
                tags: None,
                schema: None,
                ttl: stored.ttl_days.into(),
                comment: stored.comment.clone(),
            };
            match &stored.kind {
                Kind::Child { suid, tags } => {
                    let (Some(here), Some(newest)) =
                        (vnode.super_tables.get(suid), stables.get(suid))
                    else {
                        continue;
                    };
                    let order = orders
                        .entry(*suid)
                        .or_insert_with(|| TagOrder::of(&here.tags, &newest.tags));
                    table.stable = names.get(suid).cloned();
                    let children = self.tags.0.entry(newest.name.clone()).or_default();
                    children.push((name.clone(), order.values(tags)));
                }
                Kind::Normal { columns } => {
                    let schema = schema(columns);
                    if schema.has_lost_precision() {
                        let reason = "the server had lost the precision of its DECIMAL columns when a column was dropped";
                        self.catalogue
                            .unreadable
                            .insert(name.clone(), reason.to_owned());
                        continue;
                    }
                    table.schema = Some(Box::new(schema));
                }
            }
            if let Some(other) = self.catalogue.tables.insert(table) {
                let reason = format!(
                    "vgroups {} and {vgroup} both have a table of this name",
                    other.vgroup
                );
                self.catalogue.unreadable.insert(name.clone(), reason);
            }
        }
    }
}

/// Where the newest tags of a super table stand among those that a vnode has; `None` for a tag that came later.
struct TagOrder(Vec<Option<usize>>);

impl TagOrder {
    fn of(here: &StoredSchema, newest: &StoredSchema) -> Self {
        let place = |id: ColumnId| here.columns.iter().position(|tag| tag.id == id);
        Self(newest.columns.iter().map(|tag| place(tag.id)).collect())
    }

    fn values(&self, tags: &[OwnedValue]) -> Vec<OwnedValue> {
        let value = |place: &Option<usize>| {
            let value = place.and_then(|place| tags.get(place));
            value.cloned().unwrap_or(OwnedValue::Null)
        };
        self.0.iter().map(value).collect()
    }
}

/// The options that the files of a vnode tell, in the server's words.
fn options(vnode: &VnodeJson) -> BTreeMap<String, String> {
    const MB: i64 = 1024 * 1024;
    let stored = &vnode.options;
    let cache_model = |number| match number {
        0 => Some("'none'"),
        1 => Some("'last_row'"),
        2 => Some("'last_value'"),
        3 => Some("'both'"),
        _ => None,
    };
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let keep = match (stored.keep0, stored.keep1, stored.keep2) {
        (Some(a), Some(b), Some(c)) => Some([a, b, c].map(duration).join(",")),
        _ => None,
    };
    let kilobytes = |bytes: usize| Some((bytes / 1024).to_string());
    let options = [
        ("BUFFER", number(stored.buffer.map(|bytes| bytes / MB))),
        ("CACHESIZE", number(stored.cache_size)),
        (
            "CACHEMODEL",
            stored.cache_model.and_then(cache_model).map(str::to_owned),
        ),
        ("COMP", number(stored.compression)),
        ("DURATION", Some(duration(vnode.minutes_per_file))),
        ("WAL_FSYNC_PERIOD", number(stored.wal_fsync_period)),
        ("MAXROWS", Some(vnode.max_rows.to_string())),
        ("MINROWS", number(stored.min_rows)),
        ("STT_TRIGGER", number(stored.stt_trigger)),
        ("KEEP", keep),
        ("PAGES", number(stored.pages)),
        ("PAGESIZE", kilobytes(vnode.meta_page_size)),
        ("PRECISION", Some(format!("'{}'", vnode.precision))),
        ("REPLICA", Some(vnode.replicas.to_string())),
        ("WAL_LEVEL", Some(vnode.wal_level.to_string())),
        ("TSDB_PAGESIZE", kilobytes(vnode.page_size)),
        ("WAL_RETENTION_PERIOD", number(stored.wal_retention_period)),
        ("WAL_RETENTION_SIZE", number(stored.wal_retention_size)),
        ("KEEP_TIME_OFFSET", number(stored.keep_time_offset)),
        ("TABLE_PREFIX", number(stored.table_prefix)),
        ("TABLE_SUFFIX", number(stored.table_suffix)),
    ];
    let told = options
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    told.collect()
}

/// Minutes in the largest unit that the server shows them in.
fn duration(minutes: i64) -> String {
    match minutes {
        days if days % 1440 == 0 => format!("{}d", days / 1440),
        hours if hours % 60 == 0 => format!("{}h", hours / 60),
        minutes => format!("{minutes}m"),
    }
}

fn schema(stored: &StoredSchema) -> Schema {
    let sma = stored.columns.iter().filter(|column| column.flags.sma());
    let sma: Vec<String> = sma.map(|column| quoted(&column.name)).collect();
    Schema {
        columns: stored.columns.iter().map(column).collect(),
        tags: Vec::new(),
        // The default is not told: SMA of all columns, or of none.
        options: match sma.len() {
            some if some > 0 && some < stored.columns.len() => format!("SMA({})", sma.join(",")),
            _ => String::new(),
        },
    }
}

fn column(stored: &StoredColumn) -> Column {
    Column {
        name: stored.name.clone(),
        column_type: stored.column_type,
        id: Some(stored.id.0.into()),
        key: stored.flags.key(),
        coding: stored.coding.clone(),
    }
}

fn tag(stored: &StoredColumn) -> Column {
    Column {
        id: None,
        key: false,
        coding: None,
        ..column(stored)
    }
}
