//! Making a link: watermark first, then what changed, then the catalogue, then the rows, the manifest last.
//!
//! Everything is written below a temporary directory in the output directory; the last steps make it durable, move
//! it to its place and write the manifest. Whatever stops a backup before that leaves nothing that can be taken for
//! a link.
//!
//! | module | does |
//! |---|---|
//! | `base` | looks at the link that this one follows |
//! | `found` | finds what changed |
//! | `catalogue` | reads which tables there are |
//! | `offline` | makes a link without a server, from what its directories hold |
//! | `sources` | chooses the vnodes that are read, and waits until they are complete |
//! | `changes` | compares the catalogue with that of the base, and adds the changed rows |
//! | `deletes` | joins many deletes of a table where that is cheaper |
//! | `blobs` | what is said about BLOB values, which queries do not always tell |
//! | `tags` | reads the tags of children, and writes those that changed |
//! | `bitmaps` | writes down which blocks changed |
//! | `rows` | reads the changed rows by SQL, and writes them |
//! | `row_files` | keeps rows as Parquet files, each with the rows of many tables |
//! | `file_rows` | reads them from the server's committed files, where these have them |
//! | `tries` | decides what happens to a table that could not be read |
//! | `origin` | names super tables that no CREATE STABLE makes |
//! | `error` | says why there is no link |
//! | `output` | the output directory, and the files that only taosdump's own restore reads |

mod base;
mod bitmaps;
mod blobs;
mod catalogue;
mod changes;
mod deletes;
mod error;
mod file_rows;
mod found;
mod offline;
mod origin;
pub(crate) mod output;
mod row_files;
mod rows;
mod sources;
mod tags;
mod tries;

pub(crate) use base::Known;
pub(crate) use changes::Changes;
pub use error::BackupError;

use crate::{
    watch::{self, Watch, Work},
    watermark::{self, WatermarkError},
};
use ::rows::avro::Compression;
use capture::{ReasonCode, RowView, database::FileTags};
use model::{
    FailedId, FailedTable, Key, KeySpan, Progress, Uid, Unit, VgId,
    catalogue::{Catalogue, SharedNames, Table, keep_seconds},
    retry::while_busy,
};
use output::Output;
use plan::{Plan, checkpoint::Checkpoint};
use repository::link::{
    DatabaseLink, Link, LinkError, ListWriter, Manifest, TableChange, Totals, VgroupLink,
};
use server::{
    Connection, Library, Login,
    catalogue::{CatalogueError, schema},
    cluster, database as databases, restore_record, tables, uncovered,
};
use sources::Replicated;
use std::{collections::BTreeMap, panic::resume_unwind, path::PathBuf, sync::Arc, thread};
use store::{Directory, FileEntry, Store, StoreError};

/// What to back up, and how.
#[derive(Debug, Clone)]
pub struct BackupJob {
    /// Where to connect.
    pub login: Login,
    /// Which databases.
    pub databases: Databases,
    /// The directory to write the link to.
    pub out: PathBuf,
    /// The link that this one follows.
    pub base: Option<Arc<dyn Store>>,
    /// Whether every file of that link is read and held against its SHA-256, instead of only its length.
    pub check_base: bool,
    /// The server's data directories; empty to ask the server.
    pub data_dirs: Vec<PathBuf>,
    /// Whether to take what is not committed from the log, instead of flushing.
    pub no_flush: bool,
    /// Whether no server is asked: everything comes from the data directories, on which none may run.
    pub offline: bool,
    /// How many connections read rows.
    pub threads: usize,
    /// How data files of tags, and of rows in Avro, are compressed.
    pub compression: Compression,
    /// How rows are kept.
    pub rows: RowsFormat,
}

/// How the rows of a link are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowsFormat {
    /// An Avro file for each table, as taosdump writes them.
    Avro,
    /// Parquet files, each with the rows of many tables. Where the server does not tell the ids of columns, rows are kept
    /// as Avro all the same.
    #[default]
    Parquet,
}

/// Which databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// These.
    Named(Vec<String>),
    /// All but the server's own, and the one that restores are recorded in.
    All,
}

/// What a backup did.
#[derive(Debug)]
pub struct BackupOutcome {
    /// The finished link.
    pub link: Link,
    /// Whether it was known exactly what to copy, no dropped table can be missing, and nothing is known that only a server that
    /// does not run could tell; if not, the notes say why.
    pub exact: bool,
    /// Things the operator should know.
    pub notes: Vec<String>,
    /// What could not be copied. The manifest names it, too.
    pub failed: Vec<FailedTable>,
}

/// Makes a link.
pub fn run(
    job: &BackupJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<BackupOutcome, BackupError> {
    let out = Output::open(&job.out)?;
    if job.offline {
        return offline::make(job, out, progress);
    }
    let watch = Watch::new(Work::Dump, job.login.to_string());
    let question = watch::question(library, &job.login);
    let outcome = watch.over(progress, question, |progress| {
        make(job, library, progress, out, &watch)
    });
    unless_given_up(outcome, &watch)
}

/// Work that was cancelled as nobody answered says so.
pub(crate) fn unless_given_up<T>(
    outcome: Result<T, BackupError>,
    watch: &Watch,
) -> Result<T, BackupError> {
    match (outcome, watch.gave_up()) {
        (Err(BackupError::Cancelled(_)), Some(error)) => Err(error.into()),
        (outcome, _) => outcome,
    }
}

/// Makes a link, while somebody looks whether the server is there.
fn make(
    job: &BackupJob,
    library: &Library,
    progress: &dyn Progress,
    mut out: Output,
    watch: &Watch,
) -> Result<BackupOutcome, BackupError> {
    let connection = &library.connect(&job.login)?;
    watch.has_endpoints(&cluster::endpoints(connection)?);
    let cluster = cluster::id(connection)?;
    let base = job
        .base
        .as_ref()
        .map(|base| base::open(base, &cluster, job.check_base, progress))
        .transpose()?;
    let databases = databases(connection, &job.databases)?;
    base::must_know_one_of(base.as_ref(), &databases)?;
    let dirs = watermark::data_dirs(connection, &cluster, &job.data_dirs)?;
    let replicated = Replicated::find(job, library, connection, &databases, progress)?;

    let server = cluster::version(connection);
    let mut manifest = Manifest::new(cluster, server, base.as_ref().map(Link::as_base));
    let (mut notes, mut failed) = (Vec::new(), Vec::new());
    let backup = Backup {
        job,
        library,
        connection,
        watch,
        base: base.as_ref(),
        dirs: &dirs,
        replicated: &replicated,
        progress,
    };
    for (number, database) in databases.iter().enumerate() {
        let done = backup.database(&mut out, number, database)?;
        done.join(&mut manifest, &mut notes, &mut failed);
    }
    manifest
        .not_covered
        .extend(uncovered::functions(connection)?);
    notes.extend(left_out(base.as_ref(), &databases));
    watch.is_over();
    let link = finish(out, manifest, &job.out, progress)?;
    Ok(BackupOutcome {
        link,
        // What could not be told was copied whole, and the base's catalogue says which tables are gone.
        exact: true,
        notes,
        failed,
    })
}

/// Says which databases of the base are not among those of the link.
fn left_out(base: Option<&Link>, databases: &[String]) -> impl Iterator<Item = String> {
    let before = base.into_iter().flat_map(|base| &base.manifest.databases);
    let names = before.map(|before| &before.database.name);
    names
        .filter(|name| !databases.contains(name))
        .map(|name| {
            format!("database {name} of the base is not in this link; a restore leaves it as the base has it")
        })
}

/// Writes the last files and makes the output a link.
pub(crate) fn finish(
    out: Output,
    mut manifest: Manifest,
    path: &std::path::Path,
    progress: &dyn Progress,
) -> Result<Link, BackupError> {
    manifest.files.extend(out.write_main_dbs_sql(&manifest)?);
    manifest.finish();
    progress.go_on()?;
    progress.step("sealing", Unit::Tables, 0);
    out.seal(&manifest)?;
    Ok(Link::open(Arc::new(Directory::new(path)))?)
}

fn databases(connection: &Connection, wanted: &Databases) -> Result<Vec<String>, BackupError> {
    let mut names = databases::list(connection)?;
    names.retain(|name| name != restore_record::DATABASE);
    if let Databases::Named(wanted) = wanted {
        return match wanted.iter().find(|name| !names.contains(name)) {
            None => Ok(wanted.clone()),
            Some(name) if name == restore_record::DATABASE => {
                Err(BackupError::Records(name.clone()))
            }
            Some(name) => Err(BackupError::UnknownDatabase(name.clone())),
        };
    }
    if names.is_empty() {
        return Err(BackupError::NoDatabase);
    }
    Ok(names)
}

/// What a backup of one database needs.
struct Backup<'a> {
    job: &'a BackupJob,
    library: &'a Library,
    connection: &'a Connection,
    watch: &'a Watch,
    base: Option<&'a Link>,
    dirs: &'a [PathBuf],
    replicated: &'a Replicated,
    progress: &'a dyn Progress,
}

/// What is needed to write what changed in a database, once that is known.
pub(crate) struct Writing<'a> {
    pub(crate) job: &'a BackupJob,
    pub(crate) base: Option<&'a Link>,
    /// Who is asked for what the files can't give. Without a server, rows that they can't give are missing.
    pub(crate) server: Option<Server<'a>>,
    /// Where tags come from, if not from the server.
    pub(crate) tags: Option<&'a FileTags>,
    pub(crate) progress: &'a dyn Progress,
}

/// A server that is asked.
#[derive(Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) library: &'a Library,
    pub(crate) connection: &'a Connection,
    pub(crate) watch: &'a Watch,
}

/// What is known to have changed in a database.
#[derive(Clone, Copy)]
pub(crate) struct Changed<'a> {
    pub(crate) plan: &'a Plan,
    /// Where the next link starts.
    pub(crate) checkpoint: &'a Checkpoint,
    /// The rows of vgroups at the watermark. The rows of others are asked for by SQL.
    pub(crate) rows: &'a BTreeMap<VgId, RowView>,
}

/// Whether the server is busy with something that ends soon. A lost connection has its own rules.
fn is_busy(error: &BackupError) -> bool {
    match error {
        BackupError::Sql(error)
        | BackupError::Catalogue(CatalogueError::Sql(error))
        | BackupError::Watermark(WatermarkError::Sql(error)) => error.is_busy(),
        _ => false,
    }
}

/// A database that was backed up.
pub(crate) struct Done {
    pub(crate) link: DatabaseLink,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) failed: Vec<FailedTable>,
    pub(crate) not_covered: Vec<String>,
    pub(crate) notes: Vec<String>,
    /// Whether a table has BLOB columns.
    pub(crate) has_blobs: bool,
}

impl Done {
    /// Adds it to the link, and what is said of it to what is said of the others.
    fn join(self, manifest: &mut Manifest, notes: &mut Vec<String>, failed: &mut Vec<FailedTable>) {
        let failures = self.failed.iter().map(ToString::to_string);
        manifest.failures.extend(failures);
        manifest.not_covered.extend(self.not_covered);
        manifest.files.extend(self.files);
        manifest.databases.push(self.link);
        notes.extend(self.notes);
        failed.extend(self.failed);
    }
}

/// Does it, and again while the server is busy with something that it needs: while a vgroup moves to another dnode, or has
/// no leader yet.
fn patiently<T>(
    progress: &dyn Progress,
    attempt: impl FnMut() -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    while_busy(progress, is_busy, attempt)
}

impl Backup<'_> {
    fn patiently<T>(
        &self,
        attempt: impl FnMut() -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        patiently(self.progress, attempt)
    }

    fn database(
        &self,
        out: &mut Output,
        number: usize,
        database: &str,
    ) -> Result<Done, BackupError> {
        self.progress.go_on()?;
        let step = format!("finding what changed in {database}");
        self.progress.step(&step, Unit::Vnodes, 0);
        let base = self.base;
        // The server commits meanwhile.
        let (found, known) = thread::scope(|scope| {
            let known = scope.spawn(|| known(base, database));
            let found = self.detect(database, base.and_then(|base| base.database(database)));
            (
                found,
                known.join().unwrap_or_else(|panic| resume_unwind(panic)),
            )
        });
        let (found, known) = (found?, known?);
        self.progress.go_on()?;
        let step = format!("reading the catalogue of {database}");
        self.progress.step(&step, Unit::Tables, 0);
        let told = self.patiently(|| self.catalogue(database, known.as_ref(), &found))?;
        let catalogue = told.catalogue;
        // Rows come from the leaders: it is their memory that must have been flushed before BLOBs are read.
        if let Some(vgroup) = found.followers.first()
            && has_blobs(&catalogue)
        {
            return Err(WatermarkError::LeaderElsewhere {
                database: database.to_owned(),
                vgroup: *vgroup,
            }
            .into());
        }
        let changed = Changed {
            plan: &found.plan,
            checkpoint: &found.checkpoint,
            rows: &found.rows,
        };
        let writing = Writing {
            job: self.job,
            base: self.base,
            server: Some(Server {
                library: self.library,
                connection: self.connection,
                watch: self.watch,
            }),
            tags: told.tags.as_ref(),
            progress: self.progress,
        };
        let mut done = writing.write(out, number, catalogue, known.as_ref(), changed)?;
        done.notes.extend(found.notes);
        done.notes.extend(told.notes);
        done.notes
            .extend(blobs::note(&done, &found.vnodes, &found.plan)?);
        Ok(done)
    }
}

impl Writing<'_> {
    fn patiently<T>(
        &self,
        attempt: impl FnMut() -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        patiently(self.progress, attempt)
    }

    /// When the database was created; `None` if it is gone.
    fn created(&self, server: &Server<'_>, database: &str) -> Result<Option<i64>, BackupError> {
        self.patiently(|| Ok(databases::created(server.connection, database)?))
    }

    /// Writes what a plan says of a database, and what differs from `known`.
    pub(crate) fn write(
        &self,
        out: &mut Output,
        number: usize,
        mut catalogue: Catalogue,
        known: Option<&Known>,
        changed: Changed<'_>,
    ) -> Result<Done, BackupError> {
        let Changed {
            plan, checkpoint, ..
        } = changed;
        let database = &catalogue.database.name.clone();
        let mut notes = Vec::new();
        let vgroups = vgroup_links(plan, &mut notes);
        notes.extend(expiry(database, plan));
        let layout = out.add_database(&catalogue);
        let store = out.files();

        let mut failed = Vec::new();
        for (table, reason) in &catalogue.unreadable {
            let before = known.and_then(|known| known.tables.shared(table));
            failed.push(FailedTable {
                database: database.clone(),
                name: table.clone(),
                id: before.map_or(FailedId::Unknown, |before| FailedId::Table(before.uid)),
                problem: reason.clone(),
            });
            // It stays what it was in the base.
            if let Some(before) = before {
                catalogue.tables.insert(Arc::clone(before));
            }
        }
        failed.extend(keep_unreadable_stables(&mut catalogue, known));
        let created = match &self.server {
            Some(server) => self.created(server, database)?,
            None => None,
        };
        let reappeared = known.and_then(|known| self.reappeared(known, &catalogue));
        let mut changes = Changes::between(known, &catalogue, plan, reappeared)?;
        changes
            .tables
            .retain(|name, change| change.uid.is_none() || is_readable(&catalogue, name));
        deletes::join(self, &catalogue, &mut changes)?;
        let tag_files = tags::copy(self, store, &layout, &mut catalogue, &mut changes, known)?;
        let copied = rows::copy(self, store, &layout, &catalogue, &mut changes, changed)?;
        notes.extend(changes.notes.iter().cloned());
        failed.extend(copied.failed);
        if let Some(server) = &self.server {
            let connection = server.connection;
            notes.extend(origin::note(connection, &catalogue, known)?);
            // Rows and tags from the files are of the same commit as the catalogue that is read there.
            let by_files = self.tags.is_some();
            let was_asked = |change: &TableChange| !by_files || copied.asked.contains(&change.name);
            failed.extend(
                self.patiently(|| altered_meanwhile(connection, &catalogue, &changes, &was_asked))?,
            );
            if created.is_none() || self.created(server, database)? != created {
                return Err(BackupError::DatabaseGone {
                    database: database.to_owned(),
                });
            }
        }

        let full = known.is_none();
        // Taosdump's own restore does not read row files: it would restore empty tables, and say that all went well.
        let mut files = match copied.has_row_files {
            true => Vec::new(),
            false => output::write_stock_files(store, &layout, &catalogue, &changes, full)?,
        };
        files.extend(copied.stable_names);
        let tables = self.write_tables(store, number, &catalogue, known)?;
        let (changed, mut totals) = write_changes(store, number, &changes)?;
        totals.bytes += copied
            .row_files
            .iter()
            .map(|rows| rows.file.bytes)
            .sum::<u64>();
        totals.tables = catalogue.tables.len() as u64;
        let bitmaps = copied.written.as_ref().map(|written| {
            let facts = bitmaps::Facts {
                catalogue: &catalogue,
                known,
                changes: &changes,
                plan,
                reappeared,
                written,
            };
            bitmaps::write(store, number, &facts)
        });
        let checkpoint = write_checkpoint(store, number, checkpoint)?;
        let link = DatabaseLink {
            database: catalogue.database.clone(),
            directory: layout.directory().to_owned(),
            incremental: known.is_some(),
            vgroups,
            window: plan.window.ticks(),
            stables: catalogue.stables.values().cloned().collect(),
            dropped_stables: changes.dropped_stables,
            altered_stables: changes.altered_stables,
            tag_files,
            row_files: copied.row_files,
            bitmaps: bitmaps.transpose()?,
            tables,
            changes: changed,
            checkpoint,
            totals,
        };
        let not_covered = catalogue
            .not_covered
            .iter()
            .map(|what| format!("{database}: {what}"))
            .collect();
        Ok(Done {
            link,
            files,
            failed,
            not_covered,
            notes,
            has_blobs: has_blobs(&catalogue),
        })
    }

    /// Writes the list of tables. Where it is that of the base, the base's file is copied.
    fn write_tables(
        &self,
        store: &dyn Store,
        number: usize,
        catalogue: &Catalogue,
        known: Option<&Known>,
    ) -> Result<FileEntry, LinkError> {
        let name = format!("incremental/{number}.tables.zst");
        let same = known.filter(|known| known.tables.is_shared_with(&catalogue.tables));
        if let (Some(base), Some(known)) = (self.base, same) {
            let bytes = base.store.get(&known.link.tables.path)?;
            let written = output::write_file(store, name, &bytes)?;
            if written.sha256 != known.link.tables.sha256 {
                return Err(LinkError::Damaged {
                    place: base.store.place(&known.link.tables.path),
                    problem: "it was changed while it was read".to_owned(),
                });
            }
            return Ok(FileEntry {
                rows: known.link.tables.rows,
                ..written
            });
        }
        let mut list = ListWriter::create(store, name)?;
        for table in catalogue.tables.values() {
            list.add(table)?;
        }
        list.finish()
    }

    /// The rows that the server hid when the base was made, as they were older than KEEP, and shows again now that KEEP
    /// is longer. Their versions are old, so no plan names them.
    fn reappeared(&self, known: &Known, now: &Catalogue) -> Option<KeySpan> {
        let before = keep_seconds(&known.link.database.create)?;
        if keep_seconds(&now.database.create)? <= before {
            return None;
        }
        let started: jiff::Timestamp = self.base?.manifest.started.parse().ok()?;
        let ticks = now.database.precision.ticks_per_second();
        // A day for clocks that differ.
        let last = started.as_second() - before + 86_400;
        Some(KeySpan {
            first: KeySpan::ALL.first,
            last: Key(last.saturating_mul(ticks)),
        })
    }
}

/// Super and normal tables whose schema is not any more what it was when the catalogue was read, of those that the server was
/// asked for: their rows may not fit what the link says of them.
fn altered_meanwhile(
    connection: &Connection,
    catalogue: &Catalogue,
    changes: &Changes,
    was_asked: &dyn Fn(&TableChange) -> bool,
) -> Result<Vec<FailedTable>, BackupError> {
    let database = &catalogue.database.name;
    tables::reset_cache(connection)?;
    let mut copied = BTreeMap::new();
    for change in changes
        .tables
        .values()
        .filter(|change| change.uid.is_some() && was_asked(change))
    {
        let Some(table) = catalogue.tables.get(&change.name) else {
            continue;
        };
        match (&table.stable, &table.schema) {
            (Some(stable), _) => {
                if let Some(stable) = catalogue.stables.get(&**stable) {
                    let id = FailedId::SuperTable(stable.suid);
                    copied.insert(&stable.name, (id, &stable.schema, &stable.comment));
                }
            }
            (None, Some(schema)) if change.file.is_some() || change.rows > 0 => {
                let id = FailedId::Table(table.uid);
                copied.insert(&table.name, (id, schema, &table.comment));
            }
            _ => {}
        }
    }
    let mut altered = Vec::new();
    for (name, (id, before, comment)) in copied {
        let now = schema(connection, database, name, comment.as_deref());
        let same = match now {
            // Dropped: the next link drops it too.
            Ok(None) => true,
            Ok(Some(now)) => now.looks_like(before),
            Err(CatalogueError::NotUnderstood { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if !same {
            altered.push(FailedTable {
                database: database.clone(),
                name: name.clone(),
                id,
                problem: "it was altered while it was dumped; run the dump again".to_owned(),
            });
        }
    }
    Ok(altered)
}

/// What the base says of a database.
fn known(base: Option<&Link>, database: &str) -> Result<Option<Known>, BackupError> {
    let Some(base) = base else {
        return Ok(None);
    };
    let Some(link) = base.database(database) else {
        return Ok(None);
    };
    let mut stables = SharedNames::default();
    let mut tables = Vec::new();
    base.tables(link, &mut |mut table| {
        if let Some(stable) = &mut table.stable {
            *stable = stables.get(stable);
        }
        tables.push(Arc::new(table));
        Ok(())
    })?;
    Ok(Some(Known {
        link: link.clone(),
        tables: tables.into_iter().collect(),
    }))
}

/// Super tables that can't be read stay what they were in the base, with those children that were there.
fn keep_unreadable_stables(catalogue: &mut Catalogue, known: Option<&Known>) -> Vec<FailedTable> {
    let mut failed = Vec::new();
    for (name, reason) in &catalogue.unreadable_stables {
        let mut stables = known.iter().flat_map(|known| &known.link.stables);
        let before = stables.find(|stable| stable.name == *name);
        failed.push(FailedTable {
            database: catalogue.database.name.clone(),
            name: name.clone(),
            id: before.map_or(FailedId::Unknown, |before| {
                FailedId::SuperTable(before.suid)
            }),
            problem: format!("{reason}; its children are not in the link"),
        });
        if let Some(before) = before {
            catalogue.stables.insert(name.clone(), before.clone());
        }
        let is_child = |table: &&Table| table.stable.as_deref() == Some(&**name);
        let children = catalogue.tables.values().filter(is_child);
        let children: Vec<(String, Uid)> = children
            .map(|child| (child.name.clone(), child.uid))
            .collect();
        for (child, uid) in children {
            catalogue.tables.remove(&child);
            let before = known.and_then(|known| known.tables.shared(&child));
            if let Some(before) = before.filter(|before| before.uid == uid) {
                catalogue.tables.insert(Arc::clone(before));
            }
        }
    }
    failed
}

/// Whether a table of the catalogue was read, and not taken from the base.
fn is_readable(catalogue: &Catalogue, name: &str) -> bool {
    let stable = catalogue
        .tables
        .get(name)
        .and_then(|table| table.stable.as_deref());
    !catalogue.unreadable.contains_key(name)
        && !stable.is_some_and(|stable| catalogue.unreadable_stables.contains_key(stable))
}

/// Says what became too old for the database's KEEP.
fn expiry(database: &str, plan: &Plan) -> Option<String> {
    let reasons = plan.vgroups.iter().flat_map(|vgroup| &vgroup.reasons);
    let gone = reasons.filter(|reason| reason.code == ReasonCode::FileSetGone);
    match gone.count() {
        0 => None,
        count => Some(format!(
            "the server has removed {count} file sets of database {database} that were past its KEEP; a restore deletes \
             their rows, too"
        )),
    }
}

fn has_blobs(catalogue: &Catalogue) -> bool {
    let stables = catalogue.stables.values().map(|stable| &stable.schema);
    let tables = catalogue
        .tables
        .values()
        .filter_map(|table| table.schema.as_deref());
    stables
        .chain(tables)
        .any(model::catalogue::Schema::has_blobs)
}

fn write_changes(
    store: &dyn Store,
    number: usize,
    changes: &Changes,
) -> Result<(FileEntry, Totals), LinkError> {
    let mut list = ListWriter::create(store, format!("incremental/{number}.changes.zst"))?;
    let mut totals = Totals::default();
    for change in changes.tables.values() {
        list.add(change)?;
        totals.tables_dropped += u64::from(change.uid.is_none());
        totals.tables_changed += u64::from(change.uid.is_some());
        totals.rows += change.rows;
        if let Some(file) = &change.file {
            totals.rows += file.rows;
            totals.bytes += file.bytes;
        }
    }
    Ok((list.finish()?, totals))
}

fn write_checkpoint(
    store: &dyn Store,
    number: usize,
    checkpoint: &Checkpoint,
) -> Result<FileEntry, StoreError> {
    let name = format!("incremental/{number}.checkpoint");
    let bytes = checkpoint
        .to_bytes()
        .map_err(|error| StoreError::io(store.place(&name))(error.into()))?;
    output::write_file(store, name, &bytes)
}

fn vgroup_links(plan: &Plan, notes: &mut Vec<String>) -> Vec<VgroupLink> {
    let mut links = Vec::new();
    for vgroup in plan.vgroups.iter().filter(|vgroup| vgroup.db_id.is_some()) {
        let widening = vgroup
            .reasons
            .iter()
            .filter(|reason| reason.range.is_some());
        let widened: Vec<String> = widening.map(|reason| reason.text.clone()).collect();
        // What KEEP has removed is told once for all vgroups.
        let copied = vgroup
            .reasons
            .iter()
            .filter(|reason| reason.range.is_some() && reason.code != ReasonCode::FileSetGone);
        notes.extend(copied.map(|reason| {
            format!(
                "vgroup {}: copied more than the changed rows: {}",
                vgroup.vgroup, reason.text
            )
        }));
        links.push(VgroupLink {
            vgroup: vgroup.vgroup,
            from: vgroup.from,
            to: vgroup.to,
            widened,
        });
    }
    links
}
