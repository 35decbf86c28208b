//! One link: every file, and whether its lists, its manifest and its parent agree.

use super::{
    DatabaseReport, Kind, LinkReport, ManifestReport, ProblemCode, Problems,
    content::{self, Changed, Content, FileJob},
    coverage::Coverage,
};
use crate::link::{
    DatabaseLink, Link, LinkError, MANIFEST, NotFollowing, TableChange, VgroupLink, disagreement,
    needs_tags,
};
use bitmap::BlockState;
use model::{
    DataType, Progress, Uid,
    catalogue::{Column, Tables},
};
use parking_lot::Mutex;
use plan::checkpoint::{Checkpoint, CheckpointError};
use std::collections::{HashMap, HashSet};
use store::FileEntry;

/// How a link is checked.
pub(super) struct Check<'a> {
    pub(super) threads: usize,
    pub(super) progress: &'a dyn Progress,
    /// Whether it is the first that was given.
    pub(super) is_first: bool,
}

/// A link that was checked.
pub(super) struct Checked {
    pub(super) link: Link,
    /// Its tables by database and name; a database whose list can't be read is missing.
    pub(super) tables: HashMap<String, Tables>,
}

impl Check<'_> {
    pub(super) fn run(
        &self,
        link: Link,
        before: Option<Checked>,
        mut coverage: Option<&mut Coverage>,
        problems: &mut Problems,
        notes: &mut Vec<String>,
    ) -> (LinkReport, Checked) {
        if !self.is_first {
            follows(&link, before.as_ref().map(|before| &before.link), problems);
        }
        for failure in &link.manifest.failures {
            let text = format!(
                "the dump left something out: {failure}; it can't be a base, take the dump again"
            );
            problems.add(ProblemCode::DumpIncomplete, Some(&link.place()), None, text);
        }
        notes.extend(
            link.manifest
                .not_covered
                .iter()
                .map(|what| format!("{}: not in the backup: {what}", link.place())),
        );
        let mut counted = Counted::default();
        let mut named: HashSet<String> = [MANIFEST.to_owned()].into();
        let mut tables = HashMap::new();
        let others: Vec<FileJob<'_>> = link
            .manifest
            .files
            .iter()
            .map(|entry| FileJob {
                entry,
                content: Content::Bytes,
            })
            .collect();
        self.files(&link, &others, &mut counted, &mut named, problems);
        for database in &link.manifest.databases {
            let lists = Lists::read(&link, database, problems);
            for entry in [&database.tables, &database.changes, &database.checkpoint]
                .into_iter()
                .chain(&database.bitmaps)
            {
                counted.add(entry, &mut named);
                self.progress.advance(entry.bytes, 0);
            }
            checkpoint(&link, database, problems);
            bitmaps(&link, database, &lists, problems);
            self.content(&link, database, &lists, &mut counted, &mut named, problems);
            let agree = Agreement {
                link: &link,
                database,
                lists: &lists,
                before: before.as_ref(),
            };
            agree.check(problems);
            if let (Some(coverage), Some(changes)) = (coverage.as_deref_mut(), &lists.changes) {
                let is_export = link.manifest.export;
                coverage.add(database, is_export, lists.tables.as_ref(), changes);
            }
            if let Some(list) = lists.tables {
                tables.insert(database.database.name.clone(), list);
            }
        }
        unknown_files(&link, &named, notes);
        let report = LinkReport {
            directory: link.place().to_string(),
            kind: match link.manifest.export {
                true => Kind::Export,
                false => Kind::Link,
            },
            manifest: Some(manifest(&link)),
            files: counted.files,
            bytes: counted.bytes,
            rows: counted.rows,
        };
        (report, Checked { link, tables })
    }

    /// Tags and rows.
    fn content(
        &self,
        link: &Link,
        database: &DatabaseLink,
        lists: &Lists,
        counted: &mut Counted,
        named: &mut HashSet<String>,
        problems: &mut Problems,
    ) {
        let stables: HashMap<&str, (Vec<DataType>, Vec<DataType>)> = database
            .stables
            .iter()
            .map(|stable| {
                let both = (types(&stable.schema.columns), types(&stable.schema.tags));
                (stable.name.as_str(), both)
            })
            .collect();
        let no_tables = Tables::new();
        let tables = lists.tables.as_ref().unwrap_or(&no_tables);
        let mut jobs = Vec::new();
        let seen = Mutex::default();
        let before = problems.0.len();
        for file in &database.tag_files {
            let Some((_, types)) = stables.get(file.stable.as_str()) else {
                let problem = format!("super table {:?} has tags and no columns", file.stable);
                contradiction(link, Some(&file.file.path), problem, problems);
                continue;
            };
            jobs.push(FileJob {
                entry: &file.file,
                content: Content::Tags {
                    stable: &file.stable,
                    types,
                    tables: lists.tables.as_ref(),
                    seen: &seen,
                },
            });
        }
        let normal: HashMap<&str, Vec<DataType>> = tables
            .values()
            .filter_map(|table| {
                let schema = table.schema.as_ref()?;
                Some((table.name.as_str(), types(&schema.columns)))
            })
            .collect();
        for change in lists.changes.iter().flatten() {
            let Some(entry) = &change.file else { continue };
            let types = match tables.get(&change.name).map(|table| &table.stable) {
                Some(Some(stable)) => stables.get(&**stable).map(|(columns, _)| columns),
                Some(None) => normal.get(change.name.as_str()),
                None => None,
            };
            let content = match types {
                Some(types) => Content::Rows {
                    table: &change.name,
                    types,
                    spans: &change.spans,
                },
                None => {
                    if lists.tables.is_some() {
                        let problem =
                            format!("table {:?} has rows and no known columns", change.name);
                        contradiction(link, Some(&entry.path), problem, problems);
                    }
                    Content::Bytes
                }
            };
            jobs.push(FileJob { entry, content });
        }
        let changed: HashMap<&str, Changed<'_>> = lists
            .changes
            .iter()
            .flatten()
            .filter_map(|change| {
                let table = tables.get(&change.name)?;
                let changed = Changed {
                    stable: table.stable.as_deref(),
                    spans: &change.spans,
                };
                Some((change.name.as_str(), changed))
            })
            .collect();
        let listed = lists.tables.is_some() && lists.changes.is_some();
        let rows = Mutex::default();
        jobs.extend(database.row_files.iter().map(|file| FileJob {
            entry: &file.file,
            content: Content::ManyRows {
                stable: file.stable.as_deref(),
                changed: listed.then_some(&changed),
                counted: &rows,
            },
        }));
        self.files(link, &jobs, counted, named, problems);
        if listed && before == problems.0.len() {
            let rows = rows.into_inner();
            let mut changes = lists.changes.iter().flatten();
            let found = |change: &TableChange| rows.get(&change.name).copied().unwrap_or(0);
            if let Some(change) = changes.find(|change| change.rows != found(change)) {
                let problem = format!(
                    "there are {} rows of table {:?}, the list of changes says {}",
                    found(change),
                    change.name,
                    change.rows
                );
                contradiction(link, None, problem, problems);
            }
        }
        if lists.tables.is_some() && before == problems.0.len() {
            let seen = seen.into_inner();
            let mut changes = lists.changes.iter().flatten();
            let lacks =
                |change: &&TableChange| needs_tags(tables, change) && !seen.contains(&change.name);
            if let Some(change) = changes.find(lacks) {
                let problem = format!("the tags of table {:?} are in no file", change.name);
                contradiction(link, None, problem, problems);
            }
        }
    }

    fn files(
        &self,
        link: &Link,
        jobs: &[FileJob<'_>],
        counted: &mut Counted,
        named: &mut HashSet<String>,
        problems: &mut Problems,
    ) {
        let (rows, faults) = content::check(&*link.store, jobs, self.threads, self.progress);
        counted.rows += rows;
        for fault in faults {
            problems.add(
                fault.code,
                Some(&link.place()),
                Some(&fault.file),
                fault.text,
            );
        }
        for job in jobs {
            counted.add(job.entry, named);
        }
    }
}

#[derive(Default)]
struct Counted {
    files: u64,
    bytes: u64,
    rows: u64,
}

impl Counted {
    fn add(&mut self, entry: &FileEntry, named: &mut HashSet<String>) {
        self.files += 1;
        self.bytes += entry.bytes;
        named.insert(entry.path.clone());
    }
}

fn manifest(link: &Link) -> ManifestReport {
    let manifest = &link.manifest;
    ManifestReport {
        id: manifest.id.clone(),
        sha256: link.manifest_sha256.clone(),
        parent: manifest.base.as_ref().map(|parent| parent.id.clone()),
        cluster: manifest.cluster.clone(),
        server: manifest.server.clone(),
        started: manifest.started.clone(),
        finished: manifest.finished.clone(),
        databases: manifest
            .databases
            .iter()
            .map(|database| DatabaseReport {
                name: database.database.name.clone(),
                incremental: database.incremental,
                tables: database.totals.tables,
                tables_changed: database.totals.tables_changed,
                tables_dropped: database.totals.tables_dropped,
                rows: database.totals.rows,
            })
            .collect(),
    }
}

fn contradiction(link: &Link, file: Option<&str>, problem: String, problems: &mut Problems) {
    let text = format!(
        "{}: {problem}; take a new full backup, and report this",
        link.place()
    );
    problems.add(ProblemCode::Contradiction, Some(&link.place()), file, text);
}

/// Whether the link follows the one before it.
fn follows(link: &Link, before: Option<&Link>, problems: &mut Problems) {
    let root = link.place();
    let Some(before) = before else {
        let text = format!("{root}: the link before it can't be used, so its place is not proved");
        return problems.add(ProblemCode::WrongOrder, Some(&link.place()), None, text);
    };
    let Err(problem) = link.must_follow(before) else {
        return;
    };
    let code = match problem {
        NotFollowing::Changed => ProblemCode::ParentChanged,
        _ => ProblemCode::WrongOrder,
    };
    let text = format!(
        "{root} does not follow {}: {problem}; give the links of one chain, the oldest first",
        before.place()
    );
    problems.add(code, Some(&link.place()), None, text);
}

/// A database's lists; `None` for one that can't be read.
struct Lists {
    tables: Option<Tables>,
    changes: Option<Vec<TableChange>>,
}

impl Lists {
    fn read(link: &Link, database: &DatabaseLink, problems: &mut Problems) -> Self {
        let mut tables = Tables::new();
        let mut twice = None;
        let read = intact(link, &database.tables, problems).then(|| {
            link.tables(database, &mut |table| {
                if let Some(table) = tables.insert(table) {
                    twice.get_or_insert_with(|| table.name.clone());
                }
                Ok(())
            })
        });
        let tables_read = understood(link, &database.tables, read, problems);
        if let Some(name) = twice {
            let problem = format!("table {name:?} is listed twice");
            contradiction(link, Some(&database.tables.path), problem, problems);
        }
        let mut changes = Vec::new();
        let read = intact(link, &database.changes, problems).then(|| {
            link.changes(database, &mut |change| {
                changes.push(change);
                Ok(())
            })
        });
        let changes_read = understood(link, &database.changes, read, problems);
        if tables_read
            && changes_read
            && let Some(problem) = disagreement(database, &tables, &changes)
        {
            contradiction(link, Some(&database.changes.path), problem, problems);
        }
        Self {
            tables: tables_read.then_some(tables),
            changes: changes_read.then_some(changes),
        }
    }
}

/// Whether a file is what was written.
fn intact(link: &Link, entry: &FileEntry, problems: &mut Problems) -> bool {
    match content::bytes(&*link.store, entry) {
        Ok(()) => true,
        Err((code, text)) => {
            problems.add(code, Some(&link.place()), Some(&entry.path), text);
            false
        }
    }
}

/// Whether a list was read; what it names is not checked otherwise.
fn understood(
    link: &Link,
    entry: &FileEntry,
    read: Option<Result<(), LinkError>>,
    problems: &mut Problems,
) -> bool {
    match read {
        Some(Ok(())) => true,
        None => false,
        Some(Err(error)) => {
            let text = error.to_string();
            let code = ProblemCode::ContentUnreadable;
            problems.add(code, Some(&link.place()), Some(&entry.path), text);
            false
        }
    }
}

fn checkpoint(link: &Link, database: &DatabaseLink, problems: &mut Problems) {
    let entry = &database.checkpoint;
    if !intact(link, entry, problems) {
        return;
    }
    let unreadable = |code, error: String, problems: &mut Problems| {
        problems.add(code, Some(&link.place()), Some(&entry.path), error);
    };
    let bytes = match link.store.get(&entry.path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let code = ProblemCode::FileUnreadable;
            return unreadable(code, error.to_string(), problems);
        }
    };
    let read = Checkpoint::parse(&bytes, &link.store.place(&entry.path));
    let text = match read {
        Ok(checkpoint) if checkpoint.database == database.database.name => {
            let goes_on = |vgroup: &VgroupLink| {
                let found = checkpoint.vgroups.get(&vgroup.vgroup);
                found.is_some_and(|(version, _)| *version == vgroup.to)
            };
            match database.vgroups.iter().find(|vgroup| !goes_on(vgroup)) {
                None => return,
                Some(vgroup) => format!(
                    "it does not go on from version {} in vgroup {}, where the link ends",
                    vgroup.to, vgroup.vgroup
                ),
            }
        }
        Ok(checkpoint) => format!("it is of database {:?}", checkpoint.database),
        Err(error) => {
            let code = match &error {
                CheckpointError::Newer(_) => ProblemCode::NewerFormat,
                CheckpointError::Invalid { .. } => ProblemCode::ContentUnreadable,
            };
            return unreadable(code, error.to_string(), problems);
        }
    };
    contradiction(link, Some(&entry.path), text, problems);
}

/// The bitmaps name the tables that the lists name.
fn bitmaps(link: &Link, database: &DatabaseLink, lists: &Lists, problems: &mut Problems) {
    let Some(entry) = &database.bitmaps else {
        return;
    };
    if !intact(link, entry, problems) {
        return;
    }
    let bitmaps = match link.bitmaps(database) {
        Ok(Some(bitmaps)) => bitmaps,
        Ok(None) => return,
        Err(error) => {
            let code = match &error {
                LinkError::Newer(_) => ProblemCode::NewerFormat,
                _ => ProblemCode::ContentUnreadable,
            };
            let text = error.to_string();
            return problems.add(code, Some(&link.place()), Some(&entry.path), text);
        }
    };
    let (Some(tables), Some(changes)) = (&lists.tables, &lists.changes) else {
        return;
    };
    let of = |uid| bitmaps.tables.get(&uid).map(|table| table.state);
    let there: HashSet<Uid> = tables.values().map(|table| table.uid).collect();
    let changed: HashSet<Uid> = changes.iter().filter_map(|change| change.uid).collect();
    let mut wrong = Vec::new();
    for change in changes {
        let Some(uid) = change.uid else { continue };
        match of(uid) {
            Some(BlockState::Dirty) => {}
            Some(BlockState::New) if change.create => {}
            state => {
                let state = state.map_or("missing".to_owned(), |state| state.to_string());
                wrong.push(format!(
                    "table {:?} is changed, and {state} there",
                    change.name
                ));
            }
        }
    }
    for (uid, table) in &bitmaps.tables {
        let dropped = table.state == BlockState::Deleted;
        let fits = match dropped {
            true => !there.contains(uid),
            false => changed.contains(uid),
        };
        if !fits {
            let state = table.state;
            wrong.push(format!(
                "the table with uid {uid} is {state} there, and nowhere else"
            ));
        }
    }
    if let Some(first) = wrong.first() {
        let problem = format!(
            "{} tables of database {:?} are not what the lists say: {first}",
            wrong.len(),
            database.database.name
        );
        contradiction(link, Some(&entry.path), problem, problems);
    }
}

fn types(columns: &[Column]) -> Vec<DataType> {
    let types = columns.iter().map(|column| column.column_type.data_type);
    types.collect()
}

/// One database's lists against its manifest and the parent's.
struct Agreement<'a> {
    link: &'a Link,
    database: &'a DatabaseLink,
    lists: &'a Lists,
    before: Option<&'a Checked>,
}

impl Agreement<'_> {
    fn check(&self, problems: &mut Problems) {
        self.totals(problems);
        let name = &self.database.database.name;
        let Some(before) = self.before.filter(|_| self.database.incremental) else {
            return;
        };
        let Some(parent) = before.link.database(name) else {
            let problem = format!("it has changes of database {name:?}, which its parent lacks");
            return contradiction(self.link, None, problem, problems);
        };
        self.versions(parent, problems);
        if let (Some(before), Some(tables), Some(changes)) = (
            before.tables.get(name),
            &self.lists.tables,
            &self.lists.changes,
        ) {
            self.catalogue(before, tables, changes, problems);
        }
    }

    fn totals(&self, problems: &mut Problems) {
        let totals = &self.database.totals;
        let mut differing = Vec::new();
        let mut compare = |what: &str, said: u64, found: u64| {
            if said != found {
                differing.push(format!(
                    "the manifest says {said} {what}, the lists {found}"
                ));
            }
        };
        if let Some(tables) = &self.lists.tables {
            compare("tables", totals.tables, tables.len() as u64);
        }
        if let Some(changes) = &self.lists.changes {
            let files = || changes.iter().filter_map(|change| change.file.as_ref());
            let of_many: u64 = changes.iter().map(|change| change.rows).sum();
            let rows = files().map(|file| file.rows).sum::<u64>() + of_many;
            compare("rows", totals.rows, rows);
            let row_files = self.database.row_files.iter();
            let bytes = row_files.map(|rows| rows.file.bytes).sum::<u64>();
            let bytes = bytes + files().map(|file| file.bytes).sum::<u64>();
            compare("bytes of rows", totals.bytes, bytes);
            let dropped = changes.iter().filter(|change| change.uid.is_none()).count() as u64;
            compare("dropped tables", totals.tables_dropped, dropped);
            let changed = changes.len() as u64 - dropped;
            compare("changed tables", totals.tables_changed, changed);
        }
        if !differing.is_empty() {
            let problem = format!(
                "database {:?}: {}",
                self.database.database.name,
                differing.join(", ")
            );
            contradiction(self.link, None, problem, problems);
        }
    }

    /// Each vgroup goes on from where the parent ended.
    fn versions(&self, parent: &DatabaseLink, problems: &mut Problems) {
        for vgroup in &self.database.vgroups {
            let ended = parent.vgroups.iter().find(|v| v.vgroup == vgroup.vgroup);
            if let Some(ended) = ended
                && vgroup.from > ended.to
            {
                let text = format!(
                    "{}: vgroup {} of database {} begins after version {}, and the link before ends at {}: changes \
                     between them are in neither; take a new full backup",
                    self.link.place(),
                    vgroup.vgroup,
                    self.database.database.name,
                    vgroup.from,
                    ended.to
                );
                problems.add(ProblemCode::Gap, Some(&self.link.place()), None, text);
            }
        }
    }

    /// The parent's tables, changed as the link says, are the link's tables.
    fn catalogue(
        &self,
        before: &Tables,
        tables: &Tables,
        changes: &[TableChange],
        problems: &mut Problems,
    ) {
        let changes: HashMap<&str, &TableChange> = changes
            .iter()
            .map(|change| (change.name.as_str(), change))
            .collect();
        let mut wrong = Vec::new();
        for table in tables.values() {
            let created = changes.get(table.name.as_str()).is_some_and(|c| c.create);
            let known = before.get(&table.name).is_some_and(|b| b.uid == table.uid);
            if !created && !known {
                wrong.push(format!("{:?} is there and was not created", table.name));
            }
        }
        let dropped = &self.database.dropped_stables;
        for table in before.values() {
            let with_stable = table
                .stable
                .as_deref()
                .is_some_and(|s| dropped.iter().any(|name| name == s));
            let change = changes.get(table.name.as_str());
            let kept = tables.contains(&table.name);
            if !kept && !with_stable && change.is_none_or(|change| !change.drop) {
                wrong.push(format!("{:?} is gone and was not dropped", table.name));
            }
        }
        if let Some(first) = wrong.first() {
            let problem = format!(
                "{} tables of database {:?} do not follow from the parent's, such as {first}",
                wrong.len(),
                self.database.database.name
            );
            contradiction(self.link, None, problem, problems);
        }
    }
}

/// Files that the manifest does not name: a restore by this program ignores them, taosdump's own does not.
fn unknown_files(link: &Link, named: &HashSet<String>, notes: &mut Vec<String>) {
    let place = link.place();
    let mut found = match link.store.names() {
        Ok(names) => names,
        Err(error) => {
            return notes.push(format!(
                "{place}: not looked through for files that do not belong there: {error}"
            ));
        }
    };
    found.retain(|name| !named.contains(name));
    found.sort();
    if let Some(first) = found.first() {
        notes.push(format!(
            "{place}: {} files do not belong to the link, such as {first}; taosdump's own restore would read them",
            found.len()
        ));
    }
}
