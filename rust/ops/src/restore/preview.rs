//! What a restore would do, found out as a restore finds it out, and nothing written.

use super::{
    RestoreError, RestoreJob, incomplete, loading,
    plan::{Plan, Step},
};
use model::catalogue::with_options;
use repository::link::{Link, LinkError};
use server::{ddl, restore_loading::Loaded};
use std::collections::BTreeSet;

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The links that would be applied, in their order, database by database.
    pub steps: Vec<PreviewStep>,
    /// What the links do not hold.
    pub incomplete: Vec<String>,
    /// Things the operator should know.
    pub notes: Vec<String>,
}

/// A link that would be applied to a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviewStep {
    /// The database of the link.
    pub source: String,
    /// The database that it would be applied to.
    pub target: String,
    /// Where the link is.
    pub link: String,
    /// The statement that would make the target; `None` if it is there, or a step before makes it.
    pub create: Option<String>,
    /// Whether all that the target holds would be dropped first.
    pub clears: bool,
    /// Options that the target would have only until the end.
    pub loaded_with: Vec<Loaded>,
    /// How much there is to do.
    pub counts: Counts,
    /// How many connections would write.
    pub connections: usize,
}

/// How much a link has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tables and super tables to drop.
    pub dropped: u64,
    /// Tables to create.
    pub created: u64,
    /// Tables to alter.
    pub altered: u64,
    /// Tables that get tags.
    pub tagged: u64,
    /// Ranges of keys to delete.
    pub deletes: u64,
    /// Rows to write.
    pub rows: u64,
    /// Tables whose rows are written one table after the other.
    pub one_by_one: u64,
    /// Tables whose rows are written several tables at a time, column by column.
    pub together: u64,
    /// Files of the rows of these.
    pub row_files: u64,
    /// Periods that these are written in, one after the other.
    pub periods: u64,
}

impl PreviewStep {
    /// Of a step whose target gets so many rows in all.
    fn of(job: &RestoreJob, step: &Step<'_>, rows: u64) -> Result<Self, RestoreError> {
        let database = &*step.database;
        let mut counts = Counts {
            dropped: database.dropped_stables.len() as u64,
            row_files: database.row_files.len() as u64,
            ..Counts::default()
        };
        let files = database.row_files.iter();
        let periods: BTreeSet<_> = files.map(|file| file.file_set).collect();
        counts.periods = periods.len() as u64;
        step.link.changes(database, &mut |change| {
            counts.dropped += u64::from(change.drop);
            counts.created += u64::from(change.create);
            counts.altered += u64::from(!change.alters.is_empty());
            counts.tagged += u64::from(change.set_tags && !change.create);
            counts.deletes += match change.create {
                true => 0,
                false => change.deletes.len() as u64,
            };
            counts.one_by_one += u64::from(change.file.is_some());
            counts.together += u64::from(change.rows > 0);
            let in_file = change.file.as_ref().map_or(0, |file| file.rows);
            counts.rows += change.rows + in_file;
            Ok::<_, LinkError>(())
        })?;
        let create = with_options(&database.database.create, &job.options);
        let loaded = match step.makes_target {
            true => loading::of(&create, job, Some(&rows)),
            false => Vec::new(),
        };
        let create = loading::create_with(&create, &loaded);
        Ok(Self {
            source: database.database.name.clone(),
            target: step.target.to_owned(),
            link: step.link.place(),
            create: step
                .makes_target
                .then(|| ddl::create_database(&create, step.target))
                .flatten(),
            clears: step.replaces.is_some(),
            loaded_with: loaded,
            counts,
            connections: job.threads.max(1),
        })
    }
}

/// What would be done by this plan.
pub(super) fn of(
    job: &RestoreJob,
    plan: Plan<'_>,
    links: &[Link],
) -> Result<Preview, RestoreError> {
    let rows = plan.rows();
    let rows_of = |step: &Step<'_>| rows.get(step.target).copied().unwrap_or_default();
    let steps = plan.steps.iter();
    let steps = steps.map(|step| PreviewStep::of(job, step, rows_of(step)));
    let incomplete = incomplete(links);
    Ok(Preview {
        steps: steps.collect::<Result<_, _>>()?,
        incomplete,
        notes: plan.notes,
    })
}
