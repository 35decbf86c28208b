//! A link without a server, from what its directories hold: of one that was killed, or does not start any more.
//!
//! Each vnode is read as it was last committed, which is the watermark. What its log has behind that is named, and is in the next
//! link if the server comes back. What can't be read is named, too, and the rest is in the link.

use super::{
    BackupError, BackupJob, BackupOutcome, Changed, Databases, Done, Output, Source, Writing, base,
    finish, known,
};
use crate::watermark;
use capture::{DataDirs, SourceChoice, VnodeDir, catalogue, database, is_in_use};
use model::{Progress, Unit, Version, VgId};
use plan::detect::{self, Request, Since};
use repository::link::{Link, Manifest};
use server::restore_record;
use std::collections::BTreeMap;

/// Stands where links of a server say its version.
const VERSION: &str = "unknown: made from its files alone";

/// Makes a link of what the data directories hold.
pub(super) fn make(
    job: &BackupJob,
    mut out: Output,
    progress: &dyn Progress,
) -> Result<BackupOutcome, BackupError> {
    for dir in &job.data_dirs {
        if is_in_use(dir)? {
            return Err(BackupError::InUse { path: dir.clone() });
        }
    }
    let cluster = watermark::cluster_of_dirs(&job.data_dirs)?;
    let base = job
        .base
        .as_ref()
        .map(|base| base::open(base, &cluster, job.check_base, progress))
        .transpose()?;
    let mut held = vnodes(job)?;
    let databases = databases(&job.databases, &held)?;
    base::must_know_one_of(base.as_ref(), &databases)?;

    let mut manifest = Manifest::new(
        cluster,
        VERSION.to_owned(),
        base.as_ref().map(Link::as_base),
    );
    let mut outcome = Outcome::default();
    for (number, name) in databases.iter().enumerate() {
        progress.go_on()?;
        let replicas = held.remove(name).unwrap_or_default();
        let offline = Offline {
            job,
            base: base.as_ref(),
            progress,
            name,
        };
        let done = offline.database(&mut out, number, replicas, &mut outcome)?;
        manifest.failures.append(&mut outcome.failures);
        let failures = done.failed.iter().map(ToString::to_string);
        manifest.failures.extend(failures);
        manifest.not_covered.extend(done.not_covered);
        manifest.files.extend(done.files);
        manifest.databases.push(done.link);
        outcome.notes.extend(done.notes);
        outcome.failed.extend(done.failed);
    }
    manifest.not_covered.push(
        "users, privileges, functions, topics, streams, views and TSMAs, if there are any: only a running server tells them"
            .to_owned(),
    );
    Ok(BackupOutcome {
        link: finish(out, manifest, &job.out, progress)?,
        exact: outcome.lacks_nothing,
        notes: outcome.notes,
        failed: outcome.failed,
    })
}

/// What is said of all databases.
struct Outcome {
    failures: Vec<String>,
    failed: Vec<model::FailedTable>,
    notes: Vec<String>,
    /// Whether nothing is known that a server might still have.
    lacks_nothing: bool,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            failures: Vec::new(),
            failed: Vec::new(),
            notes: Vec::new(),
            lacks_nothing: true,
        }
    }
}

/// By database the vnodes that the directories have, several of a vgroup where several of its replicas are given.
fn vnodes(job: &BackupJob) -> Result<BTreeMap<String, Vec<VnodeDir>>, BackupError> {
    let mut held: BTreeMap<String, Vec<VnodeDir>> = BTreeMap::new();
    for vnode in DataDirs::new(job.data_dirs.clone())?.replicas()? {
        let database = vnode.config()?.database;
        held.entry(database).or_default().push(vnode);
    }
    Ok(held)
}

fn databases(
    wanted: &Databases,
    held: &BTreeMap<String, Vec<VnodeDir>>,
) -> Result<Vec<String>, BackupError> {
    let names = match wanted {
        Databases::Named(names) => names.clone(),
        Databases::All => {
            let all = held.keys();
            all.filter(|name| *name != restore_record::DATABASE)
                .cloned()
                .collect()
        }
    };
    if let Some(name) = names.iter().find(|name| *name == restore_record::DATABASE) {
        return Err(BackupError::Records(name.clone()));
    }
    let found = held.keys().map(String::as_str).collect::<Vec<_>>();
    match names.iter().find(|name| !held.contains_key(*name)) {
        _ if names.is_empty() => Err(BackupError::NoDatabaseHere),
        None => Ok(names),
        Some(name) => Err(BackupError::NotHere {
            database: name.clone(),
            found: found.join(", "),
        }),
    }
}

/// One database.
struct Offline<'a> {
    job: &'a BackupJob,
    base: Option<&'a Link>,
    progress: &'a dyn Progress,
    name: &'a str,
}

impl Offline<'_> {
    fn database(
        &self,
        out: &mut Output,
        number: usize,
        replicas: Vec<VnodeDir>,
        outcome: &mut Outcome,
    ) -> Result<Done, BackupError> {
        let known = known(self.base, self.name)?;
        let step = format!("reading the catalogue of {}", self.name);
        self.progress
            .step(&step, Unit::Vnodes, replicas.len() as u64);
        let (mut vnodes, mut catalogues) = (Vec::new(), Vec::new());
        for replicas in by_vgroup(replicas) {
            self.progress.go_on()?;
            let Some(chosen) = self.furthest(&replicas, outcome)? else {
                continue;
            };
            catalogues.push((chosen.dir.vgroup, chosen.catalogue));
            vnodes.push(chosen.dir);
            self.progress.advance(1, 0);
        }
        outcome.failures.extend(self.missing(&catalogues));
        if let (Some(failure), Some(base)) = (outcome.failures.first(), self.base) {
            // Tables of the base that are not read would count as dropped.
            return Err(BackupError::Base {
                place: base.place(),
                problem: format!(
                    "{failure}; a link that follows another one needs all of the database: make a full link (without --base) of \
                     what is left"
                ),
            });
        }
        let since = match (self.base, &known) {
            (Some(base), Some(known)) => {
                let checkpoint = base::read_checkpoint(base, &known.link)?;
                base::check_ids(base, self.name, &checkpoint, &vnodes)?;
                Since::Checkpoint(Box::new(checkpoint))
            }
            _ => Since::Committed,
        };
        let request = Request {
            data_dirs: self.job.data_dirs.clone(),
            database: Some(self.name.to_owned()),
            vgroup: None,
            since,
            source: SourceChoice::Tsdb,
            window: None,
        };
        let (found, rows) = detect::with_rows(vnodes, &request, self.progress)?;
        let before = known.as_ref().map(|known| database::Before {
            database: &known.link.database,
            stables: &known.link.stables,
        });
        let joined = database::join(self.name, &catalogues, before);
        outcome.notes.extend(joined.notes);
        let writing = Writing {
            job: self.job,
            base: self.base,
            source: Source::Files(&joined.tags),
            progress: self.progress,
        };
        let changed = Changed {
            plan: &found.plan,
            checkpoint: &found.checkpoint,
            rows: &rows,
        };
        writing.write(out, number, joined.catalogue, known.as_ref(), changed)
    }

    /// Of the replicas of a vgroup the one whose committed files hold most. Replicas that can't be read are named.
    fn furthest(
        &self,
        replicas: &[VnodeDir],
        outcome: &mut Outcome,
    ) -> Result<Option<Chosen>, BackupError> {
        let (mut best, mut newest, mut of) = (None::<Chosen>, Version::BEGINNING, 1);
        let mut problems = Vec::new();
        for dir in replicas {
            let catalogue = match dir.catalogue() {
                Ok(catalogue) => catalogue,
                Err(error) => {
                    problems.push(format!("{}: {error}", dir.primary.display()));
                    continue;
                }
            };
            of = of.max(catalogue.vnode.replicas);
            match dir.newest_logged() {
                Ok(logged) => newest = newest.max(logged),
                Err(error) => outcome.note(format!(
                    "vgroup {} of database {}: its log can't be read ({error}), so nobody knows what it has that is not in the \
                     link",
                    dir.vgroup, self.name
                )),
            }
            let is_better = best
                .as_ref()
                .is_none_or(|best| best.catalogue.vnode.committed < catalogue.vnode.committed);
            if is_better {
                best = Some(Chosen {
                    dir: dir.clone(),
                    catalogue,
                });
            }
        }
        let Some(best) = best else {
            outcome.failures.push(format!(
                "database {}: its tables in a vgroup that can't be read: {}",
                self.name,
                problems.join("; ")
            ));
            return Ok(None);
        };
        for problem in problems {
            outcome
                .notes
                .push(format!("another replica was taken: {problem}"));
        }
        let vgroup = best.dir.vgroup;
        let committed = best.catalogue.vnode.committed;
        if newest > committed {
            outcome.note(format!(
                "vgroup {vgroup} of database {}: the link is the state at version {committed}, as last committed; versions {} to \
                 {newest} are only in the log and not in the link; a link that is made once the server runs again has them",
                self.name,
                committed.next()
            ));
        }
        if (replicas.len() as i64) < of {
            outcome.note(format!(
                "vgroup {vgroup} of database {} has {of} replicas, of which {} were given: another one may hold more; give the data \
                 directories of all dnodes",
                self.name,
                replicas.len()
            ));
        }
        Ok(Some(best))
    }

    /// What is missing where the vgroups do not cover all names of tables.
    fn missing(&self, vnodes: &[(VgId, catalogue::Catalogue)]) -> Option<String> {
        let mut ranges: Vec<(i64, i64)> = vnodes
            .iter()
            .map(|(_, catalogue)| catalogue.vnode.hash_range)
            .collect();
        ranges.sort_unstable();
        let mut next = 0;
        for (first, last) in ranges {
            if first > next {
                break;
            }
            next = next.max(last + 1);
        }
        (next <= i64::from(u32::MAX)).then(|| {
            format!(
                "database {}: a vgroup is not in the given data directories or can't be read, and its tables are not in the link; \
                 give the data directories of all dnodes",
                self.name
            )
        })
    }
}

impl Outcome {
    /// Says something for which the link is not all that there is.
    fn note(&mut self, text: String) {
        self.lacks_nothing = false;
        self.notes.push(text);
    }
}

/// The replica of a vgroup that is read.
struct Chosen {
    dir: VnodeDir,
    catalogue: catalogue::Catalogue,
}

/// The replicas of each vgroup.
fn by_vgroup(vnodes: Vec<VnodeDir>) -> Vec<Vec<VnodeDir>> {
    let mut vgroups: BTreeMap<VgId, Vec<VnodeDir>> = BTreeMap::new();
    for vnode in vnodes {
        vgroups.entry(vnode.vgroup).or_default().push(vnode);
    }
    vgroups.into_values().collect()
}
