//! What is restored to where: which links are applied to which database, and what is refused before anything is written.

use super::{RestoreError, RestoreJob, target, translate::Translator};
use model::{LinkId, catalogue::with_options};
use repository::link::{DatabaseLink, Link};
use server::{
    Connection,
    restore_record::{self, Target},
};
use std::{borrow::Cow, collections::BTreeMap};

/// What is applied to which database.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    pub(super) notes: Vec<String>,
}

/// A link that is applied to a database.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) target: &'a str,
    pub(super) link: &'a Link,
    /// In the words of the target server.
    pub(super) database: Cow<'a, DatabaseLink>,
    /// The link that the target is at and that this one, which holds everything, replaces.
    pub(super) replaces: Option<LinkId>,
    /// The database is not there before it.
    pub(super) makes_target: bool,
}

impl<'a> Plan<'a> {
    pub(super) fn of(
        job: &RestoreJob,
        links: &'a [Link],
        targets: &'a BTreeMap<String, String>,
        translator: &Translator,
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
                target::must_go_together(&job.options, &create, target)?;
                target::must_fit(connection, &create, target)?;
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
            let steps = steps.get(done..).unwrap_or_default();
            for (link, database) in steps {
                translator.must_be_possible(link, database, target)?;
            }
            if let Some((link, last)) = steps.last() {
                plan.notes.extend(translator.left_out(link, last, target));
            }
            let mut is_missing = state.precision.is_none();
            plan.steps.extend(steps.iter().map(|(link, database)| Step {
                target,
                link,
                database: translator.database(link, database),
                replaces: replaces.take(),
                makes_target: std::mem::take(&mut is_missing),
            }));
        }
        Ok(plan)
    }
}

impl Plan<'_> {
    /// How many rows each target gets.
    pub(super) fn rows(&self) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        for step in &self.steps {
            *rows.entry(step.target.to_owned()).or_default() += step.database.totals.rows;
        }
        rows
    }
}

/// The databases of the links, with the names to restore them to.
pub(super) fn targets(
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
pub(super) fn chosen(
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
pub(super) fn check_names(targets: &BTreeMap<String, String>) -> Result<(), RestoreError> {
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
