//! Restoring a chain: every link is checked, then applied in order.
//!
//! A link is applied to each of its databases in this order: super tables and tables that are gone or replaced are
//! dropped, what is new is created, what changed is altered, tags are set, and then for each table ranges are
//! deleted and rows written. Every step may be repeated: a restore that was interrupted is run again, and goes on
//! with the link it was at.
//!
//! | module | does |
//! |---|---|
//! | `plan` | chooses what is applied to which database, and refuses what can't be |
//! | `preview` | says what would be done |
//! | `loading` | sets what makes loading cheaper, and puts it back |
//! | `claim` | lets one restore at a time write to a target |
//! | `translate` | says what links of another version of the server mean to this one |
//! | `target` | makes the target's options what a link says |
//! | `schema` | creates and alters super tables and tables |
//! | `tables` | creates tables, and sets the tags of children that are there |
//! | `rows` | deletes ranges and writes rows |
//! | `row_files` | writes the rows of files with many tables |
//! | `failures` | keeps what went wrong |
//! | `blocks` | restores a coordinator's archives |
//! | `error` | says why a restore failed |

pub mod blocks;
mod claim;
mod error;
mod failures;
mod loading;
mod plan;
mod preview;
mod row_files;
mod rows;
mod schema;
mod tables;
mod target;
mod translate;

pub use error::RestoreError;
pub use loading::WORTH_ROWS;
pub use preview::{Counts, Preview, PreviewStep};

use failures::Failures;
use plan::{Plan, Step};
use translate::Translator;

use crate::watch::{self, Watch, Work};
use model::{
    FailedId, FailedTable, Progress, Unit,
    catalogue::{Schema, Table, Tables, with_options},
};
use parking_lot::Mutex;
use repository::{
    chain,
    link::{DatabaseLink, Link, LinkError, MANIFEST, TableChange, disagreement},
};
use server::{
    Connection, Library, Login, cluster, ddl,
    restore_lacks::{self, Lacking},
    restore_loading::{self, Loaded},
    restore_record::Record,
    tables::reset_cache,
};
use std::{collections::BTreeMap, sync::Arc};
use store::Store;

/// What to restore, and where to.
#[derive(Debug, Clone)]
pub struct RestoreJob {
    /// Where to connect.
    pub login: Login,
    /// The links, the oldest first.
    pub links: Vec<Arc<dyn Store>>,
    /// The databases to restore, by the names that the links have for them; empty for all.
    pub databases: Vec<String>,
    /// New names of databases.
    pub rename: BTreeMap<String, String>,
    /// Options that databases are created with instead of their own, such as REPLICA.
    pub options: BTreeMap<String, String>,
    /// How many connections write rows.
    pub threads: usize,
    /// How many rows go to the server at a time, at most.
    pub batch: usize,
    /// From how many rows on a database that the restore makes has other options until the end, which make loading it
    /// cheaper.
    pub worth_options: u64,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreOutcome {
    /// Every statement that failed, with the server's words.
    pub failures: Vec<String>,
    /// What the links do not hold.
    pub incomplete: Vec<String>,
    /// Things the operator should know.
    pub notes: Vec<String>,
    /// Rows written.
    pub rows: u64,
    /// Tables written to.
    pub tables: u64,
}

/// Restores links.
pub fn run(
    job: &RestoreJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<RestoreOutcome, RestoreError> {
    let (links, targets) = checked(job, progress)?;
    let watch = Watch::new(Work::Restore, job.login.to_string());
    let life = Arc::default();
    let question = claim::Life::question(&life, library, &job.login);
    watch.over(progress, question, |progress| {
        let outcome = connected(job, library, &links, &targets, &watch, &life, progress);
        watch.is_over();
        match (outcome, watch.gave_up()) {
            (Err(RestoreError::Cancelled(_)), Some(error)) => Err(error.into()),
            (Err(RestoreError::Cancelled(_)), None) if watch.must_end() => Err(RestoreError::Lost),
            (outcome, _) => outcome,
        }
    })
}

/// Says what restoring links would do. Checks all that a restore checks before it writes, and writes nothing.
pub fn preview(
    job: &RestoreJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<Preview, RestoreError> {
    let (links, targets) = checked(job, progress)?;
    let watch = Watch::new(Work::Restore, job.login.to_string());
    let question = watch::question(library, &job.login);
    watch.over(progress, question, |progress| {
        let looked_at = || {
            let connection = library.connect(&job.login)?;
            watch.has_endpoints(&cluster::endpoints(&connection)?);
            progress.step("looking at what is there", Unit::Tables, 0);
            let translator = Translator::of(&connection, &links)?;
            let plan = Plan::of(job, &links, &targets, &translator, &connection)?;
            preview::of(job, plan, &links)
        };
        let outcome = looked_at();
        watch.is_over();
        match (outcome, watch.gave_up()) {
            (Err(RestoreError::Cancelled(_)), Some(error)) => Err(error.into()),
            (outcome, _) => outcome,
        }
    })
}

/// Opens links and checks every file of them; and the databases that they hold, with the names to restore them to.
fn checked(
    job: &RestoreJob,
    progress: &dyn Progress,
) -> Result<(Vec<Link>, BTreeMap<String, String>), RestoreError> {
    let links = chain::open(&job.links)?;
    let targets = plan::chosen(plan::targets(&links, &job.rename)?, &job.databases)?;
    plan::check_names(&targets)?;
    for link in &links {
        let step = format!("checking {}", link.place());
        progress.step(&step, Unit::Bytes, link.bytes());
        link.check_files(progress)?;
    }
    Ok((links, targets))
}

/// What the links do not hold.
fn incomplete(links: &[Link]) -> Vec<String> {
    let named = links.iter().map(|link| (link.place(), link));
    let failures = named.flat_map(|(name, link)| {
        let failures = link.manifest.failures.iter();
        failures.map(move |what| format!("{name}: {what}"))
    });
    failures.collect()
}

/// Restores links that were checked.
fn connected(
    job: &RestoreJob,
    library: &Library,
    links: &[Link],
    targets: &BTreeMap<String, String>,
    watch: &Watch,
    life: &claim::Life,
    progress: &dyn Progress,
) -> Result<RestoreOutcome, RestoreError> {
    let connection = library.connect(&job.login)?;
    watch.has_endpoints(&cluster::endpoints(&connection)?);
    let translator = Translator::of(&connection, links)?;
    let restore = Restore {
        job,
        library,
        connection: &connection,
        translator: &translator,
        progress,
    };
    let plan = || Plan::of(job, links, targets, &translator, &connection);
    progress.step("looking at what is there", Unit::Tables, 0);
    // What can't be restored is refused before anything is written, a claim included.
    let planned = match plan() {
        Ok(planned) => planned,
        Err(refused) => {
            tracing::debug!("the restore can't be planned: {refused}");
            claim::must_be_idle(&connection, targets.values(), progress)?;
            // A restore that was in the way may have come to its end since.
            plan()?
        }
    };
    if planned.steps.is_empty() && !loading::is_any_left(&connection, targets.values())? {
        return restore.apply(links, targets, planned);
    }
    // Also those that nothing is to be done to: it may be otherwise once they are claimed.
    let mut wanted: Vec<&str> = targets.values().map(String::as_str).collect();
    // Two restores claim in one order, so that not each of them has what the other one wants.
    wanted.sort_unstable();
    let held = claim::Held::take(&connection, life, watch.heard(), &wanted, progress)?;
    // Another restore may have come to its end since.
    let outcome = plan().and_then(|planned| restore.apply(links, targets, planned));
    drop(held);
    outcome
}

/// A restore whose targets are claimed.
struct Restore<'a> {
    job: &'a RestoreJob,
    library: &'a Library,
    connection: &'a Connection,
    translator: &'a Translator,
    progress: &'a dyn Progress,
}

impl Restore<'_> {
    fn apply(
        &self,
        links: &[Link],
        targets: &BTreeMap<String, String>,
        plan: Plan<'_>,
    ) -> Result<RestoreOutcome, RestoreError> {
        let rows_of = plan.rows();
        let mut outcome = RestoreOutcome {
            notes: plan.notes,
            incomplete: incomplete(links),
            ..RestoreOutcome::default()
        };
        let mut steps = plan.steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            let is_last = steps.peek().is_none_or(|next| next.target != step.target);
            let Step {
                target,
                link,
                database,
                replaces,
                makes_target,
            } = step;
            self.progress.go_on()?;
            if let Some(before) = replaces {
                // Until all of it is gone, the target equals no link.
                let source = &database.database.name;
                drop(Record::begin(self.connection, target, source, &before)?);
                target::clear(self.connection, target)?;
            }
            let source = &database.database.name;
            let mut record = Record::begin(self.connection, target, source, &link.manifest.id)?;
            let create = with_options(&database.database.create, &self.job.options);
            let loaded = match makes_target {
                true => loading::of(&create, self.job, rows_of.get(target)),
                false => {
                    loading::then_of(&create, &restore_loading::read(self.connection, target)?)
                }
            };
            if !loaded.is_empty() {
                restore_loading::write(self.connection, target, &loaded)?;
            }
            let before = match database.incremental || link.manifest.export {
                true => restore_lacks::read(self.connection, target)?,
                false => Lacking::new(),
            };
            let apply = Apply {
                job: self.job,
                library: self.library,
                connection: self.connection,
                link,
                database: &database,
                target,
                loaded,
                is_last,
                progress: self.progress,
                failures: Failures {
                    failed: Mutex::default(),
                    lacking: Mutex::new(before),
                },
            };
            let lacking = apply.run(&mut record, &mut outcome)?;
            if !outcome.failures.is_empty() {
                return Ok(outcome);
            }
            restore_lacks::write(self.connection, target, &lacking)?;
            record.finish(self.connection)?;
        }
        for (database, target) in targets {
            if loading::put_back(self.connection, target)? {
                target::wait_until_settled(self.connection, target, self.progress)?;
            }
            self.name_lacking(target, &mut outcome)?;
            let mut links = links.iter().rev();
            let last = links.find_map(|link| Some((link, link.database(database)?)));
            if let Some((link, last)) = last.filter(|_| rows_of.contains_key(target)) {
                let create = self.translator.create(link, last);
                let create = with_options(&create, &self.job.options);
                let note = target::of_its_own(self.connection, target, &create)?;
                outcome.notes.extend(note);
            }
        }
        Ok(outcome)
    }

    /// Names the tables that lack something, also what links lacked that were restored before.
    fn name_lacking(&self, target: &str, outcome: &mut RestoreOutcome) -> Result<(), RestoreError> {
        for (name, lack) in restore_lacks::read(self.connection, target)? {
            let failed = FailedTable {
                database: target.to_owned(),
                name,
                id: FailedId::Unknown,
                problem: lack.problem,
            };
            outcome.incomplete.push(failed.to_string());
        }
        Ok(())
    }
}

/// One link being applied to one database.
struct Apply<'a> {
    job: &'a RestoreJob,
    library: &'a Library,
    connection: &'a Connection,
    link: &'a Link,
    database: &'a DatabaseLink,
    target: &'a str,
    /// Options that the target has only until all links are applied.
    loaded: Vec<Loaded>,
    /// Whether no further link is applied to it.
    is_last: bool,
    progress: &'a dyn Progress,
    failures: Failures,
}

impl Apply<'_> {
    /// Applies the link; returns the tables that lack something then.
    fn run(
        &self,
        record: &mut Record,
        outcome: &mut RestoreOutcome,
    ) -> Result<Lacking, RestoreError> {
        let tables = self.tables()?;
        let mut changes = Vec::new();
        self.link.changes(self.database, &mut |change| {
            changes.push(change);
            Ok(())
        })?;
        if let Some(problem) = disagreement(self.database, &tables, &changes) {
            return Err(self.damaged(&self.database.changes.path, problem).into());
        }
        // What others did to the target since is not known. What the library learns from here on, as it creates tables, it
        // need not ask for when rows are written.
        reset_cache(self.connection)?;
        self.database_itself()?;
        record.created(self.connection)?;
        self.failures.made_whole(&tables, &changes);
        self.drops(&changes)?;
        self.stables()?;
        self.tables_and_tags(&tables, &changes)?;
        if self.alters(&changes) {
            // The client library goes on using the schemas it knew before they were altered.
            reset_cache(self.connection)?;
        }
        let written = rows::write(self, &tables, &changes)?;
        outcome.rows += written.rows;
        outcome.tables += written.tables;
        if written.expired > 0 {
            outcome.incomplete.push(format!(
                "{} rows of {} are older than KEEP of database {} and were refused by the server; create the database \
                 with a longer KEEP before restoring, if you need them",
                written.expired,
                self.link.place(),
                self.target
            ));
        }
        outcome.failures.extend(self.failures.take());
        Ok(std::mem::take(&mut self.failures.lacking.lock()))
    }

    /// Whether the link changes a table or super table that was there before, or takes it away.
    fn alters(&self, changes: &[TableChange]) -> bool {
        let database = self.database;
        let alters = |change: &TableChange| change.drop || !change.alters.is_empty();
        self.link.manifest.export
            || !database.altered_stables.is_empty()
            || !database.dropped_stables.is_empty()
            || changes.iter().any(alters)
    }

    /// The tables of the catalogue that changed; all others need no looking up.
    fn tables(&self) -> Result<Tables, RestoreError> {
        let mut tables = Tables::new();
        self.link.tables(self.database, &mut |table| {
            tables.insert(table);
            Ok(())
        })?;
        Ok(tables)
    }

    fn database_itself(&self) -> Result<(), RestoreError> {
        let create = with_options(&self.database.database.create, &self.job.options);
        let create = loading::create_with(&create, &self.loaded);
        let statement =
            ddl::create_database(&create, self.target).ok_or_else(|| LinkError::Damaged {
                place: self.link.store.place(MANIFEST),
                problem: format!(
                    "database {} can't be created by {create:?}",
                    self.database.database.name
                ),
            })?;
        self.connection
            .execute_until_cancelled(&statement, self.progress)?;
        if !self.loaded.is_empty() {
            // Now it is known which database it is.
            restore_loading::write(self.connection, self.target, &self.loaded)?;
        }
        let settled = || target::wait_until_settled(self.connection, self.target, self.progress);
        if self.database.incremental {
            // While the server alters it, it takes no other ALTER.
            settled()?;
            target::carry_over(self.connection, self.target, &create, &mut |failure| {
                self.failures.add(failure)
            })?;
        }
        settled()
    }

    fn drops(&self, changes: &[TableChange]) -> Result<(), RestoreError> {
        for stable in &self.database.dropped_stables {
            self.try_sql(&ddl::drop_super_table(self.target, stable));
        }
        let dropped = changes.iter().filter(|change| change.drop);
        let drop_table = |change: &TableChange| ddl::drop_table(self.target, &change.name);
        let statements: Vec<String> = dropped.map(drop_table).collect();
        for statements in statements.chunks(tables::TOGETHER) {
            self.progress.go_on()?;
            let outcomes = tables::together(self.connection, statements, self.progress);
            for error in outcomes.into_iter().filter_map(Result::err) {
                self.failures.add(error.to_string());
            }
        }
        Ok(())
    }

    /// Runs a statement; a failure is kept, and false returned.
    fn try_sql<S: AsRef<[u8]> + ?Sized>(&self, statement: &S) -> bool {
        match self
            .connection
            .execute_until_cancelled(statement, self.progress)
        {
            Ok(_) => true,
            Err(error) => {
                self.failures.add(error.to_string());
                false
            }
        }
    }

    fn damaged(&self, file: &str, problem: String) -> LinkError {
        LinkError::Damaged {
            place: self.link.store.place(file),
            problem,
        }
    }

    /// A table that could not be made what the link says.
    fn fail(&self, name: &str, id: FailedId, problem: impl ToString) {
        let failed = FailedTable {
            database: self.target.to_owned(),
            name: name.to_owned(),
            id,
            problem: problem.to_string(),
        };
        self.failures.add(failed.to_string());
    }

    /// The columns and tags that the link has for a table.
    fn schema_of<'t>(&'t self, table: &'t Table) -> Option<&'t Schema> {
        let Some(stable) = &table.stable else {
            return table.schema.as_deref();
        };
        let mut stables = self.database.stables.iter();
        let found = stables.find(|known| *known.name == **stable);
        found.map(|stable| &stable.schema)
    }
}
