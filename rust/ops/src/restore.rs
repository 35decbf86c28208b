//! Restoring a chain: every link is checked, then applied in order.
//!
//! A link is applied to each of its databases in this order: super tables and tables that are gone or replaced are
//! dropped, what is new is created, what changed is altered, tags are set, and then for each table ranges are
//! deleted and rows written. Every step may be repeated: a restore that was interrupted is run again, and goes on
//! with the link it was at.

pub mod blocks;
mod claim;
mod existing;
mod rows;
mod schema;
mod target;

pub use claim::Pulse;

use model::{
    Cancelled, FailedId, FailedTable, KeySpan, LinkId, MayPass, Progress, Unit,
    catalogue::{Schema, Table, with_options},
};
use parking_lot::Mutex;
use repository::{
    chain::{self, ChainError},
    link::{DatabaseLink, Link, LinkError, MANIFEST, TableChange, disagreement},
};
use server::{
    Connection, Library, Login, SqlError,
    catalogue::CatalogueError,
    ddl,
    restore_lacks::{self, Lack, Lacking, Lacks},
    restore_record::{self, Record, Target},
    tables::reset_cache,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
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
    /// Tells whoever runs the restore whether the server answers.
    pub pulse: Arc<Pulse>,
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

/// A restore that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A link can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server refused a statement that everything else needs.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The target can't be looked at.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The links do not follow each other.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The target is not where the first link starts.
    #[error("{place} can't be restored to database {target}: {problem}")]
    Target {
        /// The link.
        place: String,
        /// The database.
        target: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// A database to rename is in no link.
    #[error("-W renames database {name}, which no link holds; they hold {held}")]
    Rename {
        /// The database.
        name: String,
        /// Those there are.
        held: String,
    },
    /// A database to restore is in no link.
    #[error("-D names database {name}, which no link holds; they hold {held}")]
    NotHeld {
        /// The database.
        name: String,
        /// Those there are.
        held: String,
    },
    /// A database would get the name of the one that restores are recorded in.
    #[error(
        "restores are recorded in database {target}, so nothing is restored to it; give another name with -W"
    )]
    Reserved {
        /// The name.
        target: String,
    },
    /// It was cancelled.
    #[error("{0}; the same command goes on with it")]
    Cancelled(#[from] Cancelled),
    /// The server does not answer any more.
    #[error("{server} does not answer: {source}; the same command goes on once it does")]
    NoAnswer {
        /// Where it is.
        server: String,
        /// The client library's words.
        source: SqlError,
    },
    /// The server can't take a database.
    #[error("there is no room for database {target}: {problem}")]
    Room {
        /// The database.
        target: String,
        /// What is missing, and what to do.
        problem: String,
    },
    /// The server does something to a database that does not end.
    #[error(
        "{what} of database {target} did not end in {seconds} s; see SHOW TRANSACTIONS, and run this again once it is \
         done"
    )]
    Unsettled {
        /// The database.
        target: String,
        /// What the server does.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another restore writes to the target.
    #[error(
        "{owner} is restoring to database {target} now; run this again once that is done, or restore to another name \
         with -W"
    )]
    Busy {
        /// The target.
        target: String,
        /// Who restores to it.
        owner: String,
    },
    /// The restore could not say for long that it is alive, so that another one may write to the target.
    #[error(
        "the server did not take the restore's signs of life for too long, or another restore has taken over; the same \
         command goes on with it"
    )]
    Lost,
    /// Two databases would get one name.
    #[error("two databases would be restored to {target}; give them different names with -W")]
    SameTarget {
        /// The name.
        target: String,
    },
}

impl MayPass for RestoreError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Link(error) | Self::Chain(ChainError::Link(error)) => error.may_pass(),
            Self::Sql(error) | Self::NoAnswer { source: error, .. } => error.may_pass(),
            Self::Catalogue(error) => error.may_pass(),
            _ => false,
        }
    }
}

/// Restores links.
pub fn run(
    job: &RestoreJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<RestoreOutcome, RestoreError> {
    let links = chain::open(&job.links)?;
    let targets = chosen(targets(&links, &job.rename)?, &job.databases)?;
    check_names(&targets)?;
    for link in &links {
        let step = format!("checking {}", link.place());
        progress.step(&step, Unit::Bytes, link.bytes());
        link.check_files(progress)?;
    }
    let connection = library.connect(&job.login)?;
    // What can't be restored is refused before anything is written, a claim included.
    let planned = Plan::of(job, &links, &targets, &connection)?;
    let wanted: Vec<&str> = planned.targets().collect();
    let held = claim::Held::take(&connection, library, job, &wanted, progress)?;
    // Another restore may have come to its end since.
    let planned = Plan::of(job, &links, &targets, &connection)?;
    let watched = held.watched(progress);
    let restore = Restore {
        job,
        library,
        connection: &connection,
        progress: &watched,
    };
    match restore.apply(&links, &targets, planned) {
        Err(RestoreError::Cancelled(_)) if held.is_lost() => Err(RestoreError::Lost),
        outcome => outcome,
    }
}

/// What is applied to which database.
#[derive(Debug, Default)]
struct Plan<'a> {
    steps: Vec<Step<'a>>,
    notes: Vec<String>,
}

/// A link that is applied to a database.
#[derive(Debug)]
struct Step<'a> {
    target: &'a str,
    link: &'a Link,
    database: &'a DatabaseLink,
    /// The link that the target is at and that this one, which holds everything, replaces.
    replaces: Option<LinkId>,
}

impl<'a> Plan<'a> {
    fn of(
        job: &RestoreJob,
        links: &'a [Link],
        targets: &'a BTreeMap<String, String>,
        connection: &Connection,
    ) -> Result<Self, RestoreError> {
        let mut plan = Self::default();
        for (database, target) in targets {
            let mut steps: Vec<(&Link, &DatabaseLink)> = links
                .iter()
                .filter_map(|link| Some((link, link.database(database)?)))
                .collect();
            // A link that holds all of it begins anew, whatever the links before it hold.
            let whole = steps.iter().rposition(|(_, step)| !step.incremental);
            steps.drain(..whole.unwrap_or(0));
            if let (Some((last, _)), Some(newest)) = (steps.last(), links.last())
                && last.manifest.id != newest.manifest.id
            {
                plan.notes.push(format!(
                    "database {database} is not in {}: it was not dumped any more; {target} is restored to {}",
                    newest.place(),
                    last.place()
                ));
            }
            let state = Target::read(connection, target)?;
            let (done, mut replaces) = first_step(&steps, &state, database, links)?;
            if let (None, Some((_, first))) = (state.precision, steps.get(done)) {
                let create = with_options(&first.database.create, &job.options);
                target::must_fit(connection, &create, target)?;
            }
            if let Some((_, first)) = steps.first() {
                let kept = existing::kept_options(connection, &state, first)?;
                plan.notes.extend(kept);
            }
            if let Some(before) = &replaces {
                plan.notes.push(format!(
                    "database {target} is at link {before}, before this one; what it holds is dropped, as {} holds all \
                     of it",
                    steps.get(done).map_or_else(String::new, |(link, _)| link.place())
                ));
            }
            if done == steps.len() {
                plan.notes.push(format!(
                    "database {target} is at the last link already; nothing was done"
                ));
            }
            let steps = steps.into_iter().skip(done);
            plan.steps.extend(steps.map(|(link, database)| Step {
                target,
                link,
                database,
                replaces: replaces.take(),
            }));
        }
        Ok(plan)
    }

    /// The databases that are written to.
    fn targets(&self) -> impl Iterator<Item = &'a str> {
        let targets: BTreeSet<&str> = self.steps.iter().map(|step| step.target).collect();
        targets.into_iter()
    }
}

/// A restore whose targets are claimed.
struct Restore<'a> {
    job: &'a RestoreJob,
    library: &'a Library,
    connection: &'a Connection,
    progress: &'a dyn Progress,
}

impl Restore<'_> {
    fn apply(
        &self,
        links: &[Link],
        targets: &BTreeMap<String, String>,
        plan: Plan<'_>,
    ) -> Result<RestoreOutcome, RestoreError> {
        let mut outcome = RestoreOutcome {
            notes: plan.notes,
            ..RestoreOutcome::default()
        };
        for link in links {
            let name = link.place();
            outcome.incomplete.extend(
                link.manifest
                    .failures
                    .iter()
                    .map(|what| format!("{name}: {what}")),
            );
        }
        for step in plan.steps {
            let Step {
                target,
                link,
                database,
                replaces,
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
            let before = match database.incremental || link.manifest.export {
                true => restore_lacks::read(self.connection, target)?,
                false => Lacking::new(),
            };
            let apply = Apply {
                job: self.job,
                library: self.library,
                connection: self.connection,
                link,
                database,
                target,
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
            self.name_lacking(target, &mut outcome)?;
            let last = links.iter().rev().find_map(|link| link.database(database));
            if let Some(last) = last {
                let create = &last.database.create;
                let note = target::of_its_own(self.connection, target, create)?;
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

/// The databases of the links, with the names to restore them to.
fn targets(
    links: &[Link],
    rename: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, RestoreError> {
    let mut targets = BTreeMap::new();
    for database in links.iter().flat_map(|link| &link.manifest.databases) {
        let name = &database.database.name;
        targets.insert(name.clone(), rename.get(name).unwrap_or(name).clone());
    }
    if let Some(name) = rename.keys().find(|name| !targets.contains_key(*name)) {
        let held: Vec<&str> = targets.keys().map(String::as_str).collect();
        return Err(RestoreError::Rename {
            name: name.clone(),
            held: held.join(", "),
        });
    }
    Ok(targets)
}

/// Those of the databases that were asked for.
fn chosen(
    mut targets: BTreeMap<String, String>,
    wanted: &[String],
) -> Result<BTreeMap<String, String>, RestoreError> {
    if wanted.is_empty() {
        return Ok(targets);
    }
    if let Some(name) = wanted.iter().find(|name| !targets.contains_key(*name)) {
        let held: Vec<&str> = targets.keys().map(String::as_str).collect();
        return Err(RestoreError::NotHeld {
            name: name.clone(),
            held: held.join(", "),
        });
    }
    targets.retain(|name, _| wanted.contains(name));
    Ok(targets)
}

/// Whether each database gets a name that nothing else has.
fn check_names(targets: &BTreeMap<String, String>) -> Result<(), RestoreError> {
    if let Some(target) = targets
        .values()
        .find(|name| *name == restore_record::DATABASE)
    {
        return Err(RestoreError::Reserved {
            target: target.clone(),
        });
    }
    let mut names: Vec<&String> = targets.values().collect();
    names.sort();
    let twice = names.windows(2).find(|pair| pair.first() == pair.last());
    if let Some(target) = twice.and_then(|pair| pair.first()) {
        return Err(RestoreError::SameTarget {
            target: (*target).clone(),
        });
    }
    Ok(())
}

/// How many of the links the target has already, and the link that the first of the others replaces. Refuses a target
/// that none of them follows.
fn first_step(
    steps: &[(&Link, &DatabaseLink)],
    state: &Target,
    source: &str,
    links: &[Link],
) -> Result<(usize, Option<LinkId>), RestoreError> {
    let none = |done| Ok((done, None));
    let Some((first, database)) = steps.first() else {
        return none(0);
    };
    let refuse = |problem: String| {
        Err(RestoreError::Target {
            place: first.place(),
            target: state.name.clone(),
            problem,
        })
    };
    if let Some(precision) = &state.precision
        && *precision != database.database.precision
    {
        return refuse(format!(
            "it exists with precision {precision:?}, the backup has {:?}; restore to another name with -W",
            database.database.precision
        ));
    }
    if first.manifest.export {
        return match (state.precision.is_some(), steps.len()) {
            (_, 2..) => refuse("it is an export of blocks, and no chain goes on from one".to_owned()),
            (false, _) => refuse(
                "it holds only what changed, and the database does not exist; restore what was backed up before first"
                    .to_owned(),
            ),
            // Applied twice it gives the same.
            (true, _) => none(0),
        };
    }
    if let Some(at) = &state.at {
        if at.source != source {
            return refuse(format!(
                "database {} was restored to it; drop the database, or restore to another name with -W",
                at.source
            ));
        }
        if let Some(position) = steps
            .iter()
            .position(|(link, _)| link.manifest.id == at.link)
        {
            return none(position + usize::from(at.finished));
        }
        let base = first.manifest.base.as_ref().map(|base| &base.id);
        if database.incremental && base == Some(&at.link) {
            if at.finished {
                return none(0);
            }
            return refuse(format!(
                "the restore of the link before it, {}, was not finished; run that one again first",
                at.link
            ));
        }
        // The database was left out of links in between, and this one holds all of it. Where links before this one are
        // given, the target must be at one of them.
        let is_given = links.iter().any(|link| link.manifest.id == at.link);
        let is_alone = links
            .first()
            .is_some_and(|link| link.manifest.id == first.manifest.id);
        if !database.incremental && base.is_some() && (is_given || is_alone) {
            return Ok((0, Some(at.link.clone())));
        }
        return refuse(format!(
            "it is at link {} of a restore; give the link that follows that one, drop the database, or restore to \
             another name with -W",
            at.link
        ));
    }
    if database.incremental {
        return refuse(match &first.manifest.base {
            Some(base) => format!(
                "it holds only what changed since link {}, and the database was not restored to that link; give the \
                 chain from its first link on",
                base.id
            ),
            None => "it holds only what changed; give the chain from its first link on".to_owned(),
        });
    }
    if !state.is_empty {
        return refuse(
            "it exists and holds tables that no restore of this chain made; drop it, or restore to another name with \
             -W"
                .to_owned(),
        );
    }
    none(0)
}

/// One link being applied to one database.
struct Apply<'a> {
    job: &'a RestoreJob,
    library: &'a Library,
    connection: &'a Connection,
    link: &'a Link,
    database: &'a DatabaseLink,
    target: &'a str,
    progress: &'a dyn Progress,
    failures: Failures,
}

/// What went wrong.
#[derive(Debug, Default)]
struct Failures {
    /// What failed, with the server's words. The link has to be applied again.
    failed: Mutex<Vec<String>>,
    /// The tables that lack what the server takes from nobody. The next link can be applied all the same.
    lacking: Mutex<Lacking>,
}

/// Failures beyond this many are not kept.
const FAILURES_KEPT: usize = 100;

impl Failures {
    fn add(&self, failure: String) {
        let mut failures = self.failed.lock();
        match failures.len() {
            ..FAILURES_KEPT => failures.push(failure),
            FAILURES_KEPT => failures.push("and more".to_owned()),
            _ => {}
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.failed.lock())
    }

    /// A table that lacks something. Of several things, one that is not there at all counts.
    fn lacks(&self, table: &str, what: Lacks, problem: String) {
        let mut lacking = self.lacking.lock();
        match lacking.get(table) {
            Some(before) if before.what == Lacks::Itself => {}
            _ => drop(lacking.insert(table.to_owned(), Lack { what, problem })),
        }
    }

    /// Whether a table is not there, as the server took it from nobody.
    fn is_absent(&self, table: &str) -> bool {
        let lacking = self.lacking.lock();
        lacking
            .get(table)
            .is_some_and(|lack| lack.what == Lacks::Itself)
    }

    /// The tables that lack nothing any more once these changes are made.
    fn made_whole(&self, tables: &BTreeMap<String, Table>, changes: &[TableChange]) {
        let mut lacking = self.lacking.lock();
        // What was dropped with its super table is in no change.
        lacking.retain(|name, _| tables.contains_key(name));
        for change in changes {
            let whole = lacking
                .get(&change.name)
                .is_some_and(|lack| match lack.what {
                    _ if change.create || change.drop => true,
                    Lacks::Itself => false,
                    Lacks::Tags => change.set_tags,
                    Lacks::Rows => change.deletes.contains(&KeySpan::ALL),
                });
            if whole {
                lacking.remove(&change.name);
            }
        }
    }
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
        self.database_itself()?;
        record.created(self.connection)?;
        self.failures.made_whole(&tables, &changes);
        self.drops(&changes);
        self.stables()?;
        self.tables_and_tags(&tables, &changes)?;
        // The client library goes on using the schemas it knew before they were altered.
        reset_cache(self.connection)?;
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

    /// The tables of the catalogue that changed; all others need no looking up.
    fn tables(&self) -> Result<BTreeMap<String, Table>, RestoreError> {
        let mut tables = BTreeMap::new();
        self.link.tables(self.database, &mut |table| {
            tables.insert(table.name.clone(), table);
            Ok(())
        })?;
        Ok(tables)
    }

    fn database_itself(&self) -> Result<(), RestoreError> {
        let create = with_options(&self.database.database.create, &self.job.options);
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

    fn drops(&self, changes: &[TableChange]) {
        for stable in &self.database.dropped_stables {
            self.try_sql(&ddl::drop_super_table(self.target, stable));
        }
        for change in changes.iter().filter(|change| change.drop) {
            self.try_sql(&ddl::drop_table(self.target, &change.name));
        }
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
            return table.schema.as_ref();
        };
        let mut stables = self.database.stables.iter();
        let found = stables.find(|known| known.name == *stable);
        found.map(|stable| &stable.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_restored_to_the_database_that_restores_are_recorded_in() {
        let named = |to: &str| check_names(&[("db".to_owned(), to.to_owned())].into());
        assert!(named("other").is_ok());
        let error = named(restore_record::DATABASE).unwrap_err().to_string();
        assert!(error.contains(restore_record::DATABASE), "{error}");
    }
}
