//! Dumping a link: watermark first, then what changed, then the catalogue, then the rows, the manifest last.
//!
//! Everything is written below a temporary directory in the output directory; the last steps make it durable, move
//! it to its place and write the manifest. Whatever stops a dump before that leaves nothing that can be taken for
//! a link.

mod changes;
mod export;
mod layout;
mod rows;
mod tags;

pub use export::{ExportJob, export};
pub(crate) use layout::{PARTIAL, where_clause};

use crate::{
    catalogue::{self, Catalogue, CatalogueError, NoWay, read::database_created},
    checkpoint::Checkpoint,
    data_file::{Compression, DataFileError, FileEntry},
    detect::{self, DetectError, Request, Since},
    link::{DatabaseLink, Link, LinkError, ListWriter, Manifest, Totals, VgroupLink},
    plan::Plan,
    watermark::{self, WatermarkError},
};
use capture::{SourceChoice, VnodeDir};
use changes::Changes;
use layout::{Layout, OutDir};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use taos::{Connection, Library, Login, SqlError, sql};
use tdfiles::{Key, KeySpan};

/// What to dump, and how.
#[derive(Debug, Clone)]
pub struct DumpJob {
    /// Where to connect.
    pub login: Login,
    /// Which databases.
    pub databases: Databases,
    /// The directory to write the link to.
    pub out: PathBuf,
    /// The link that this one follows.
    pub base: Option<PathBuf>,
    /// The server's data directories; empty to ask the server.
    pub data_dirs: Vec<PathBuf>,
    /// Whether to take what is not committed from the log, instead of flushing.
    pub no_flush: bool,
    /// How many connections read rows.
    pub threads: usize,
    /// How data files are compressed.
    pub compression: Compression,
}

/// Which databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// These.
    Named(Vec<String>),
    /// All but the server's own, and the one that restores are recorded in.
    All,
}

/// What a dump did.
#[derive(Debug)]
pub struct DumpOutcome {
    /// The finished link.
    pub link: Link,
    /// Whether it was known exactly what to copy, and no dropped table can be missing; if not, the notes say why.
    pub exact: bool,
    /// Things the operator should know.
    pub notes: Vec<String>,
}

/// A dump that did not make a link.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The server refused a statement.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The catalogue could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The base, or a file of the new link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The watermark could not be set.
    #[error(transparent)]
    Watermark(#[from] WatermarkError),
    /// What changed could not be told.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// A data file could not be written.
    #[error(transparent)]
    Data(#[from] DataFileError),
    /// A file or directory could not be written.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The output directory is in use.
    #[error("{path} holds {found} already; give an empty directory")]
    OutNotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Another dump is writing there.
    #[error("another dump is writing to {path}; wait for it, or give another directory")]
    OutInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A database was dropped while it was dumped.
    #[error("database {database} was dropped while it was dumped; run the dump again")]
    DatabaseGone {
        /// The database.
        database: String,
    },
    /// The base can't be followed.
    #[error("{path} can't be the base: {problem}")]
    Base {
        /// Its directory.
        path: PathBuf,
        /// Why not, and what to do.
        problem: String,
    },
    /// A list of blocks does not fit the server.
    #[error("database {database}: {problem}; detect again on this server")]
    Blocks {
        /// The database.
        database: String,
        /// What does not fit.
        problem: String,
    },
    /// There is nothing to dump.
    #[error("there is no database to dump on the server")]
    NoDatabase,
    /// A change of schema that can't be expressed.
    #[error(
        "super table {stable} of database {database}: {source}; take a new full backup (without --base)"
    )]
    Schema {
        /// The database.
        database: String,
        /// The super table.
        stable: String,
        /// What changed.
        source: NoWay,
    },
    /// A table is listed, but not among its super table's children.
    #[error("the server lists table {table}, but did not tell its tags; run the dump again")]
    NoTags {
        /// The table.
        table: String,
    },
    /// The connection was lost and did not come back.
    #[error(
        "the server went away while table {table} was read: {source}; the dump was given up, run it again"
    )]
    Disconnected {
        /// The table.
        table: String,
        /// What the client library said.
        source: SqlError,
    },
}

impl DumpError {
    /// Whether another try may do better: the server was not reached, or a file could not be written.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Sql(_)
                | Self::Catalogue(CatalogueError::Sql(_))
                | Self::Data(_)
                | Self::Io { .. }
                | Self::NoTags { .. }
        )
    }
}

impl DumpError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// Told how a dump or restore goes on. Called from several threads.
pub trait Progress: Sync {
    /// A step begins.
    fn step(&self, what: &str);
    /// `done` of `total` tables of the step are finished, with `rows` rows.
    fn tables(&self, done: u64, total: u64, rows: u64);
}

/// Nobody is told.
impl Progress for () {
    fn step(&self, _: &str) {}
    fn tables(&self, _: u64, _: u64, _: u64) {}
}

/// The database in which restores are recorded on the target server. Never dumped.
pub const RESTORE_RECORD: &str = "taosdump_incremental";

/// Dumps a link.
pub fn run(
    job: &DumpJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<DumpOutcome, DumpError> {
    let mut out = OutDir::open(&job.out)?;
    let connection = library.connect(&job.login)?;
    let cluster = cluster_id(&connection)?;
    let base = job
        .base
        .as_deref()
        .map(|path| open_base(path, &cluster))
        .transpose()?;
    let databases = databases(&connection, &job.databases)?;
    check_databases(base.as_ref(), &databases)?;
    let dirs = watermark::data_dirs(&connection, &cluster, &job.data_dirs)?;

    let server = connection.server_version();
    let server = server.lines().next().unwrap_or_default().to_owned();
    let mut manifest = Manifest::new(cluster, server, base.as_ref().map(Link::as_parent));
    let mut notes = Vec::new();
    let dump = Dump {
        job,
        library,
        connection: &connection,
        base: base.as_ref(),
        dirs: &dirs,
        progress,
    };
    for (number, database) in databases.iter().enumerate() {
        let dumped = dump.database(&mut out, number, database)?;
        manifest.failures.extend(dumped.failures);
        manifest.not_covered.extend(dumped.not_covered);
        manifest.files.extend(dumped.files);
        manifest.databases.push(dumped.link);
        notes.extend(dumped.notes);
    }
    let held = |name: &String| databases.contains(name);
    for before in base.iter().flat_map(|base| &base.manifest.databases) {
        if !held(&before.database.name) {
            notes.push(format!(
                "database {} of the base is not in this link; a restore leaves it as the base has it",
                before.database.name
            ));
        }
    }
    manifest.files.push(out.write_main_dbs_sql(&manifest)?);
    manifest.finished = jiff::Timestamp::now().to_string();
    progress.step("sealing");
    out.seal(&manifest)?;
    Ok(DumpOutcome {
        link: Link::open(&job.out)?,
        // What could not be told was copied whole, and the base's catalogue says which tables are gone.
        exact: true,
        notes,
    })
}

pub(crate) fn cluster_id(connection: &Connection) -> Result<String, SqlError> {
    let mut rows = connection.query("SELECT id FROM information_schema.ins_cluster")?;
    let id = rows.next()?.and_then(|row| row.get(0).as_i64());
    Ok(id.map(|id| id.to_string()).unwrap_or_default())
}

fn open_base(path: &Path, cluster: &str) -> Result<Link, DumpError> {
    let link = Link::open(path)?;
    let refuse = |problem: String| {
        Err(DumpError::Base {
            path: path.into(),
            problem,
        })
    };
    if let Some(failure) = link.manifest.failures.first() {
        return refuse(format!(
            "it is incomplete ({failure}); use the link before it, or take a new full backup"
        ));
    }
    if link.manifest.export {
        return refuse(
            "it is an export of blocks, which is no part of a chain; give a link of a dump"
                .to_owned(),
        );
    }
    if link.manifest.cluster != cluster {
        return refuse(format!(
            "it is of cluster {}, the server is cluster {cluster}; take a new full backup of this one",
            link.manifest.cluster
        ));
    }
    Ok(link)
}

fn databases(connection: &Connection, wanted: &Databases) -> Result<Vec<String>, DumpError> {
    if let Databases::Named(names) = wanted {
        return Ok(names.clone());
    }
    let mut names = Vec::new();
    connection.query("SHOW DATABASES")?.for_each(|row| {
        names.push(row.text(0));
        Ok::<_, SqlError>(())
    })?;
    let own = [
        "information_schema",
        "performance_schema",
        "log",
        "audit",
        RESTORE_RECORD,
    ];
    names.retain(|name| !own.contains(&name.as_str()));
    if names.is_empty() {
        return Err(DumpError::NoDatabase);
    }
    Ok(names)
}

/// A base must know at least one of the databases.
fn check_databases(base: Option<&Link>, databases: &[String]) -> Result<(), DumpError> {
    let Some(base) = base else { return Ok(()) };
    if databases.iter().any(|name| base.database(name).is_some()) {
        return Ok(());
    }
    let held: Vec<&str> = base
        .manifest
        .databases
        .iter()
        .map(|link| link.database.name.as_str())
        .collect();
    Err(DumpError::Base {
        path: base.root.clone(),
        problem: format!(
            "it holds database {}, and not {}; give a base of this database, or take a new full backup",
            held.join(", "),
            databases.join(", ")
        ),
    })
}

struct Dump<'a> {
    job: &'a DumpJob,
    library: &'a Library,
    connection: &'a Connection,
    base: Option<&'a Link>,
    dirs: &'a [PathBuf],
    progress: &'a dyn Progress,
}

/// A dumped database.
struct Dumped {
    link: DatabaseLink,
    files: Vec<FileEntry>,
    failures: Vec<String>,
    not_covered: Vec<String>,
    notes: Vec<String>,
}

/// What the parent says about a database.
pub(crate) struct Known {
    pub(crate) link: DatabaseLink,
    pub(crate) tables: BTreeMap<String, catalogue::Table>,
}

impl Dump<'_> {
    fn database(
        &self,
        out: &mut OutDir,
        number: usize,
        database: &str,
    ) -> Result<Dumped, DumpError> {
        let known = self.known(database)?;
        self.progress
            .step(&format!("finding what changed in {database}"));
        let (plan, checkpoint) = self.detect(database, known.as_ref())?;
        self.progress
            .step(&format!("reading the catalogue of {database}"));
        let catalogue = catalogue::read(self.connection, database)?;
        self.write(out, number, catalogue, known.as_ref(), &plan, &checkpoint)
    }

    /// Writes what a plan says of a database, and what differs from `known`.
    fn write(
        &self,
        out: &mut OutDir,
        number: usize,
        mut catalogue: Catalogue,
        known: Option<&Known>,
        plan: &Plan,
        checkpoint: &Checkpoint,
    ) -> Result<Dumped, DumpError> {
        let database = &catalogue.database.name.clone();
        let mut notes = Vec::new();
        let vgroups = vgroup_links(plan, &mut notes);
        let layout = out.add_database(&catalogue)?;

        let mut failures = Vec::new();
        for (table, reason) in &catalogue.unreadable {
            failures.push(format!("table {}: {reason}", sql::table(database, table)));
            // It stays what it was in the base.
            if let Some(before) = known.and_then(|known| known.tables.get(table)) {
                catalogue.tables.insert(table.clone(), before.clone());
            }
        }
        let created = database_created(self.connection, database)?;
        let reappeared = known.and_then(|known| self.reappeared(known, &catalogue));
        let mut changes = Changes::between(known, &catalogue, plan, reappeared)?;
        changes
            .tables
            .retain(|name, _| !catalogue.unreadable.contains_key(name));
        let tag_files = tags::dump(self, &layout, &mut catalogue, &mut changes, known)?;
        self.progress
            .step(&format!("dumping the rows of {database}"));
        let dumped = rows::dump(self, &layout, &mut catalogue, &mut changes)?;
        notes.extend(changes.notes.iter().cloned());
        failures.extend(dumped.failures);
        failures.extend(self.altered_meanwhile(&catalogue, &changes)?);
        if created.is_none() || database_created(self.connection, database)? != created {
            return Err(DumpError::DatabaseGone {
                database: database.to_owned(),
            });
        }

        let mut files = layout.write_stock_files(&catalogue, &changes, known.is_none())?;
        files.extend(dumped.stable_names);
        let tables = self.write_tables(&layout, number, &catalogue)?;
        let (changed, mut totals) = self.write_changes(&layout, number, &changes)?;
        totals.tables = catalogue.tables.len() as u64;
        let checkpoint_name = format!("incremental/{number}.checkpoint");
        checkpoint
            .save(&layout.root().join(&checkpoint_name))
            .map_err(LinkError::from)?;
        let checkpoint = layout.entry_of(&checkpoint_name)?;
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
        Ok(Dumped {
            link,
            files,
            failures,
            not_covered,
            notes,
        })
    }

    /// The rows that the server hid when the base was made, as they were older than KEEP, and shows again now that KEEP
    /// is longer. Their versions are old, so no plan names them.
    fn reappeared(&self, known: &Known, now: &Catalogue) -> Option<KeySpan> {
        let before = catalogue::keep_seconds(&known.link.database.create)?;
        if catalogue::keep_seconds(&now.database.create)? <= before {
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

    /// Super and normal tables whose schema is not any more what it was when the catalogue was read: their rows may
    /// not fit what the link says of them.
    fn altered_meanwhile(
        &self,
        catalogue: &Catalogue,
        changes: &Changes,
    ) -> Result<Vec<String>, DumpError> {
        let database = &catalogue.database.name;
        self.connection.execute("RESET QUERY CACHE")?;
        let mut dumped = BTreeMap::new();
        for change in changes
            .tables
            .values()
            .filter(|change| change.uid.is_some())
        {
            let Some(table) = catalogue.tables.get(&change.name) else {
                continue;
            };
            match (&table.stable, &table.schema) {
                (Some(stable), _) => {
                    if let Some(stable) = catalogue.stables.get(stable) {
                        dumped.insert(&stable.name, (&stable.schema, &stable.comment));
                    }
                }
                (None, Some(schema)) if change.file.is_some() => {
                    dumped.insert(&table.name, (schema, &table.comment));
                }
                _ => {}
            }
        }
        let mut altered = Vec::new();
        for (name, (schema, comment)) in dumped {
            let now = catalogue::read::schema(self.connection, database, name, comment.as_deref());
            let same = match now {
                // Dropped: the next link drops it too.
                Ok(None) => true,
                Ok(Some(now)) => now.looks_like(schema),
                Err(CatalogueError::NotUnderstood { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            if !same {
                altered.push(format!(
                    "table {}: it was altered while it was dumped; run the dump again",
                    sql::table(database, name)
                ));
            }
        }
        Ok(altered)
    }

    fn known(&self, database: &str) -> Result<Option<Known>, DumpError> {
        let Some(base) = self.base else {
            return Ok(None);
        };
        let Some(link) = base.database(database) else {
            return Ok(None);
        };
        let mut tables = BTreeMap::new();
        base.tables(link, &mut |table| {
            tables.insert(table.name.clone(), table);
            Ok(())
        })?;
        crate::data_file::check(&base.root, &link.checkpoint)?;
        Ok(Some(Known {
            link: link.clone(),
            tables,
        }))
    }

    /// Sets the watermark, and finds what changed up to it.
    fn detect(
        &self,
        database: &str,
        known: Option<&Known>,
    ) -> Result<(Plan, Checkpoint), DumpError> {
        let vnodes = watermark::vnodes(self.connection, database, self.dirs)?;
        let mut by_log = self.job.no_flush;
        for vnode in &vnodes {
            let config = vnode.config().map_err(WatermarkError::from)?;
            by_log |= config.tsdb_encrypted;
            if by_log && config.wal_level == 0 {
                return Err(WatermarkError::NoLog {
                    database: database.to_owned(),
                }
                .into());
            }
        }
        if !by_log {
            watermark::flush(self.connection, database, &vnodes)?;
        }
        let since = match (self.base, known) {
            (Some(base), Some(known)) => {
                let path = base.inside(&known.link.checkpoint.path)?;
                self.check_ids(base, database, &path, &vnodes)?;
                Since::Checkpoint(path)
            }
            _ => Since::Committed,
        };
        let request = Request {
            data_dirs: self.dirs.to_vec(),
            database: Some(database.to_owned()),
            vgroup: None,
            since,
            source: if by_log {
                SourceChoice::Auto
            } else {
                SourceChoice::Tsdb
            },
            window: None,
        };
        let found = detect::run(&request, &())?;
        if by_log {
            let versions = found
                .plan
                .vgroups
                .iter()
                .filter(|vgroup| vgroup.db_id.is_some());
            let versions = versions.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect();
            watermark::wait_applied(self.connection, database, &versions)?;
        }
        Ok((found.plan, found.checkpoint))
    }

    /// A database that was dropped and created again has another id.
    fn check_ids(
        &self,
        base: &Link,
        database: &str,
        checkpoint: &Path,
        vnodes: &[VnodeDir],
    ) -> Result<(), DumpError> {
        let checkpoint = Checkpoint::load(checkpoint).map_err(DetectError::from)?;
        for vnode in vnodes {
            let now = vnode.config().map_err(WatermarkError::from)?.db_id;
            if checkpoint
                .vgroups
                .values()
                .all(|(_, known)| known.db_id != now)
            {
                return Err(DumpError::Base {
                    path: base.root.clone(),
                    problem: format!(
                        "database {database} was dropped and created again since; take a new full backup (without \
                         --base)"
                    ),
                });
            }
        }
        Ok(())
    }

    fn write_tables(
        &self,
        layout: &Layout,
        number: usize,
        catalogue: &Catalogue,
    ) -> Result<FileEntry, DumpError> {
        let mut list =
            ListWriter::create(layout.root(), format!("incremental/{number}.tables.zst"))?;
        for table in catalogue.tables.values() {
            list.add(table)?;
        }
        Ok(list.finish()?)
    }

    fn write_changes(
        &self,
        layout: &Layout,
        number: usize,
        changes: &Changes,
    ) -> Result<(FileEntry, Totals), DumpError> {
        let mut list =
            ListWriter::create(layout.root(), format!("incremental/{number}.changes.zst"))?;
        let mut totals = Totals::default();
        for change in changes.tables.values() {
            list.add(change)?;
            totals.tables_dropped += u64::from(change.uid.is_none());
            totals.tables_changed += u64::from(change.uid.is_some());
            if let Some(file) = &change.file {
                totals.rows += file.rows;
                totals.bytes += file.bytes;
            }
        }
        Ok((list.finish()?, totals))
    }
}

fn vgroup_links(plan: &Plan, notes: &mut Vec<String>) -> Vec<VgroupLink> {
    let mut links = Vec::new();
    for vgroup in plan.vgroups.iter().filter(|vgroup| vgroup.db_id.is_some()) {
        let widening = vgroup
            .reasons
            .iter()
            .filter(|reason| reason.range.is_some());
        let widened: Vec<String> = widening.map(|reason| reason.text.clone()).collect();
        notes.extend(widened.iter().map(|text| {
            format!(
                "vgroup {}: copied more than the changed rows: {text}",
                vgroup.vgroup
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
