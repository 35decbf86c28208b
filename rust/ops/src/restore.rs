//! Restoring a chain: every link is checked, then applied in order.
//!
//! A link is applied to each of its databases in this order: super tables and tables that are gone or replaced are
//! dropped, what is new is created, what changed is altered, tags are set, and then for each table ranges are
//! deleted and rows written. Every step may be repeated: a restore that was interrupted is run again, and goes on
//! with the link it was at.

pub mod blocks;
mod existing;
mod rows;
mod schema;

use model::{
    Cancelled, FailedId, FailedTable, MayPass, Progress, Unit,
    catalogue::{Schema, Table},
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
    restore_record::{self, Record, Target},
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
    /// How many connections write rows.
    pub threads: usize,
    /// How many rows go to the server at a time, at most.
    pub batch: usize,
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
            Self::Sql(error) => error.may_pass(),
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
    let mut outcome = RestoreOutcome::default();
    let mut plans = Vec::new();
    for (database, target) in &targets {
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
            outcome.notes.push(format!(
                "database {database} is not in {}: it was not dumped any more; {target} is restored to {}",
                newest.place(),
                last.place()
            ));
        }
        let state = Target::read(&connection, target)?;
        let done = first_step(&steps, &state, database)?;
        if let Some((_, first)) = steps.first() {
            let kept = existing::kept_options(&connection, &state, first)?;
            outcome.notes.extend(kept);
        }
        if done == steps.len() {
            outcome.notes.push(format!(
                "database {target} is at the last link already; nothing was done"
            ));
        }
        plans.push((target, steps.into_iter().skip(done).collect::<Vec<_>>()));
    }
    for link in &links {
        let name = link.place();
        outcome.incomplete.extend(
            link.manifest
                .failures
                .iter()
                .map(|what| format!("{name}: {what}")),
        );
    }
    for (target, steps) in plans {
        for (link, database) in steps {
            progress.go_on()?;
            let source = &database.database.name;
            let mut record = Record::begin(&connection, target, source, &link.manifest.id)?;
            let apply = Apply {
                job,
                library,
                connection: &connection,
                link,
                database,
                target,
                progress,
                failures: Failures::default(),
            };
            apply.run(&mut record, &mut outcome)?;
            if !outcome.failures.is_empty() {
                return Ok(outcome);
            }
            record.finish(&connection)?;
        }
    }
    Ok(outcome)
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

/// How many of the links the target has already. Refuses a target that none of them follows.
fn first_step(
    steps: &[(&Link, &DatabaseLink)],
    state: &Target,
    source: &str,
) -> Result<usize, RestoreError> {
    let Some((first, database)) = steps.first() else {
        return Ok(0);
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
            (true, _) => Ok(0),
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
            return Ok(position + usize::from(at.finished));
        }
        let base = first.manifest.base.as_ref().map(|base| &base.id);
        if database.incremental && base == Some(&at.link) {
            if at.finished {
                return Ok(0);
            }
            return refuse(format!(
                "the restore of the link before it, {}, was not finished; run that one again first",
                at.link
            ));
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
    Ok(0)
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

/// What failed, with the server's words.
#[derive(Debug, Default)]
struct Failures(Mutex<Vec<String>>);

/// Failures beyond this many are not kept.
const FAILURES_KEPT: usize = 100;

impl Failures {
    fn add(&self, failure: String) {
        let mut failures = self.0.lock();
        match failures.len() {
            ..FAILURES_KEPT => failures.push(failure),
            FAILURES_KEPT => failures.push("and more".to_owned()),
            _ => {}
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Apply<'_> {
    fn run(&self, record: &mut Record, outcome: &mut RestoreOutcome) -> Result<(), RestoreError> {
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
        Ok(())
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
        let create = &self.database.database.create;
        let statement =
            ddl::create_database(create, self.target).ok_or_else(|| LinkError::Damaged {
                place: self.link.store.place(MANIFEST),
                problem: format!(
                    "database {} can't be created by {create:?}",
                    self.database.database.name
                ),
            })?;
        self.connection.execute(&statement)?;
        if self.database.incremental {
            schema::alter_database(self.connection, self.target, create, &mut |failure| {
                self.failures.add(failure)
            })?;
        }
        Ok(())
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
    fn try_sql(&self, statement: &str) -> bool {
        match self.connection.execute(statement) {
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
