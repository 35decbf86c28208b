//! What differs between the states that two links of one chain lead to: by the links after the first, up to the second, and
//! without reading a row.
//!
//! Where a link has no bitmaps, its lists say less exactly what it changes.

use bitmap::BlockState;
use model::{
    Cancelled, KeySpan, LinkId, Precision, Progress, Uid, Version, VgId,
    catalogue::{Table, Tables},
};
use plan::window::WindowWidth;
use repository::{
    bitmaps::{Bitmaps, TableBlocks},
    chain::{self, PathError},
    link::{DatabaseLink, Link, LinkError, MANIFEST},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Directory;

/// Which links.
#[derive(Debug, Clone)]
pub struct DiffJob {
    /// The older one's directory.
    pub first: PathBuf,
    /// The newer one's.
    pub second: PathBuf,
    /// Links between them that lie beside neither.
    pub others: Vec<PathBuf>,
}

/// What differs.
#[derive(Debug)]
pub struct Diff {
    /// The first link.
    pub first: LinkId,
    /// The links after it, the last one being the second.
    pub links: Vec<LinkId>,
    /// The databases that a link after the first holds.
    pub databases: Vec<DatabaseDiff>,
    /// Why what is said is wider than what differs, or lacks something.
    pub inexact: Vec<String>,
}

/// What differs in one database.
#[derive(Debug)]
pub struct DatabaseDiff {
    /// Its name.
    pub name: String,
    /// The unit of its keys.
    pub precision: Precision,
    /// The width of its windows.
    pub window: WindowWidth,
    /// Super tables that were altered.
    pub altered_stables: BTreeSet<String>,
    /// Super tables that were dropped.
    pub dropped_stables: BTreeSet<String>,
    /// The tables that differ, by name.
    pub tables: Vec<TableDiff>,
}

/// A table that differs.
#[derive(Debug)]
pub struct TableDiff {
    /// Its id.
    pub uid: Uid,
    /// Its name; `None` if no list has it any more.
    pub name: Option<String>,
    /// Its super table.
    pub stable: Option<String>,
    /// What differs.
    pub blocks: TableBlocks,
}

impl TableDiff {
    /// Whether ranges of it count as a whole, and nothing says what differs in them.
    pub fn is_wide(&self) -> bool {
        self.blocks.ranges.iter().any(|range| !range.emptied)
    }
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A link can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// They are not of one chain.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two links cut the keys of one database in different ways.
    #[error(
        "{place}: database {database} has windows of {found} ticks there and of {before} before, so their blocks can't be \
         compared"
    )]
    Windows {
        /// The link.
        place: String,
        /// The database.
        database: String,
        /// Its windows there.
        found: i64,
        /// Its windows before.
        before: i64,
    },
    /// It was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Compares.
///
/// # Errors
/// See [`DiffError`].
pub fn run(job: &DiffJob, progress: &dyn Progress) -> Result<Diff, DiffError> {
    let open = |path: &Path| Link::open(Arc::new(Directory::new(path)));
    let (first, second) = (open(&job.first)?, open(&job.second)?);
    let mut others = Vec::new();
    for path in &job.others {
        others.push(open(path)?);
    }
    if second.follows() != Some(&first.manifest.id) {
        for path in beside(job) {
            progress.go_on()?;
            // Whatever else lies there is no business of this.
            others.extend(open(&path).ok());
        }
    }
    let links = chain::path(&first, second, &others)?;
    let mut states = States::of(&first);
    let mut inexact = Vec::new();
    for link in &links {
        progress.go_on()?;
        for database in &link.manifest.databases {
            states.add(link, database, &mut inexact)?;
        }
        for failure in &link.manifest.failures {
            let place = link.place();
            inexact.push(format!("{place} is incomplete: {failure}"));
        }
    }
    let databases = states.finish(&mut inexact)?;
    Ok(Diff {
        first: first.manifest.id,
        links: links.into_iter().map(|link| link.manifest.id).collect(),
        databases,
        inexact,
    })
}

/// The links that lie in the directories of both.
fn beside(job: &DiffJob) -> BTreeSet<PathBuf> {
    let given = [&job.first, &job.second];
    let absolute = given
        .into_iter()
        .filter_map(|path| path.canonicalize().ok());
    let given: BTreeSet<PathBuf> = absolute.collect();
    let parents: BTreeSet<&Path> = given.iter().filter_map(|path| path.parent()).collect();
    let entries = parents.into_iter().filter_map(|dir| fs::read_dir(dir).ok());
    let paths = entries
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let links = paths.filter(|path| path.join(MANIFEST).is_file() && !given.contains(path));
    links.collect()
}

/// The databases on the way from link to link.
struct States {
    by_name: BTreeMap<String, State>,
}

/// A database on the way.
struct State {
    /// Where its tables were listed last.
    link: Link,
    database: DatabaseLink,
    /// Where they were listed in the first link.
    first: Option<(Link, DatabaseLink)>,
    /// What differs so far; `None` before the first change.
    differs: Option<Bitmaps>,
    altered_stables: BTreeSet<String>,
    dropped_stables: BTreeSet<String>,
}

fn tables(link: &Link, database: &DatabaseLink) -> Result<Tables, LinkError> {
    let mut tables = Tables::new();
    link.tables(database, &mut |table| {
        tables.insert(table);
        Ok(())
    })?;
    Ok(tables)
}

fn newest(database: &DatabaseLink) -> HashMap<VgId, Version> {
    let vgroups = database.vgroups.iter();
    vgroups.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect()
}

impl States {
    fn of(first: &Link) -> Self {
        let databases = first.manifest.databases.iter();
        let states = databases.map(|database| {
            let state = State {
                link: first.clone(),
                database: database.clone(),
                first: Some((first.clone(), database.clone())),
                differs: None,
                altered_stables: BTreeSet::new(),
                dropped_stables: BTreeSet::new(),
            };
            (database.database.name.clone(), state)
        });
        Self {
            by_name: states.collect(),
        }
    }

    fn add(
        &mut self,
        link: &Link,
        database: &DatabaseLink,
        inexact: &mut Vec<String>,
    ) -> Result<(), DiffError> {
        let name = &database.database.name;
        let known = self.by_name.remove(name);
        if let Some(known) = &known
            && known.database.window != database.window
        {
            return Err(DiffError::Windows {
                place: link.place(),
                database: name.clone(),
                found: database.window,
                before: known.database.window,
            });
        }
        // A link that holds everything says nothing about what was there before.
        let starts_anew = known.is_some() && !database.incremental;
        let bitmaps = match link.bitmaps(database)? {
            Some(bitmaps) if !starts_anew => bitmaps,
            bitmaps => {
                let place = link.place();
                inexact.push(match bitmaps {
                    Some(_) => format!(
                        "{place} holds database {name} anew: of every table, everything counts as changed"
                    ),
                    None => format!(
                        "{place} is of format {} and has no bitmaps of database {name}: its lists say what it changes, which \
                         may be more than differs, and not in which blocks new tables have rows",
                        link.manifest.format
                    ),
                });
                let before = known
                    .as_ref()
                    .map(|known| tables(&known.link, &known.database));
                let before = before.transpose()?.unwrap_or_default();
                by_lists(link, database, &before, starts_anew)?
            }
        };
        let mut state = known.unwrap_or_else(|| State {
            link: link.clone(),
            database: database.clone(),
            first: None,
            differs: None,
            altered_stables: BTreeSet::new(),
            dropped_stables: BTreeSet::new(),
        });
        match &mut state.differs {
            Some(differs) => differs.then(bitmaps),
            differs => *differs = Some(bitmaps),
        }
        let altered = database.altered_stables.iter();
        let altered = altered.map(|altered| altered.name.clone());
        state.altered_stables.extend(altered);
        let dropped = database.dropped_stables.iter().cloned();
        state.dropped_stables.extend(dropped);
        state.link = link.clone();
        state.database = database.clone();
        self.by_name.insert(name.clone(), state);
        Ok(())
    }

    fn finish(self, inexact: &mut Vec<String>) -> Result<Vec<DatabaseDiff>, DiffError> {
        let mut databases = Vec::new();
        for (name, state) in self.by_name {
            let Some(differs) = state.differs else {
                continue;
            };
            let now = tables(&state.link, &state.database)?;
            let before = state.first.as_ref();
            let before = before.map(|(link, database)| tables(link, database));
            let before = before.transpose()?.unwrap_or_default();
            let by_uid: HashMap<Uid, &Table> = before
                .values()
                .chain(now.values())
                .map(|table| (table.uid, table))
                .collect();
            let tables = differs.tables.into_iter().map(|(uid, blocks)| {
                let table = by_uid.get(&uid);
                TableDiff {
                    uid,
                    name: table.map(|table| table.name.clone()),
                    stable: table.and_then(|table| table.stable.as_deref().map(str::to_owned)),
                    blocks,
                }
            });
            let mut tables: Vec<TableDiff> = tables.collect();
            tables.sort_by(|a, b| {
                let order = |table: &TableDiff| (table.blocks.vgroup, table.uid);
                a.name.cmp(&b.name).then_with(|| order(a).cmp(&order(b)))
            });
            let wide = tables.iter().filter(|table| table.is_wide()).count();
            if wide > 0 {
                inexact.push(format!(
                    "database {name}: {wide} tables have ranges that count as changed as a whole"
                ));
            }
            databases.push(DatabaseDiff {
                name,
                precision: state.database.database.precision,
                window: differs.window,
                altered_stables: state.altered_stables,
                dropped_stables: state.dropped_stables,
                tables,
            });
        }
        Ok(databases)
    }
}

/// What a link changes by its lists; everything if it starts anew.
fn by_lists(
    link: &Link,
    database: &DatabaseLink,
    before: &Tables,
    starts_anew: bool,
) -> Result<Bitmaps, DiffError> {
    let Some(window) = WindowWidth::from_ticks(database.window) else {
        return Err(LinkError::Damaged {
            place: link.store.place(MANIFEST),
            problem: format!("windows of {} ticks", database.window),
        }
        .into());
    };
    let now = tables(link, database)?;
    let known: HashMap<Uid, &Table> = before.values().map(|t| (t.uid, t)).collect();
    let newest = newest(database);
    let mut bitmaps = Bitmaps::new(window);
    link.changes(database, &mut |change| {
        let Some(uid) = change.uid else { return Ok(()) };
        let Some(table) = now.get(&change.name) else {
            return Ok(());
        };
        let newest = newest.get(&table.vgroup).copied();
        let newest = newest.unwrap_or(Version::BEGINNING);
        let mut blocks = match known.contains_key(&uid) {
            false => TableBlocks::new(table.vgroup, BlockState::New),
            true => TableBlocks::new(table.vgroup, BlockState::Dirty),
        };
        if blocks.state == BlockState::New || change.create || starts_anew {
            blocks.may_differ(KeySpan::ALL, window, newest);
        } else {
            for span in &change.deletes {
                blocks.rows_deleted(*span, window, newest);
            }
            for span in &change.spans {
                blocks.may_differ(*span, window, newest);
            }
        }
        blocks.settle();
        bitmaps.tables.insert(uid, blocks);
        Ok(())
    })?;
    let now: BTreeSet<Uid> = now.values().map(|table| table.uid).collect();
    for gone in before.values().filter(|table| !now.contains(&table.uid)) {
        let blocks = TableBlocks::new(gone.vgroup, BlockState::Deleted);
        bitmaps.tables.insert(gone.uid, blocks);
    }
    Ok(bitmaps)
}
