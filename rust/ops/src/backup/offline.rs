//! A link without a server, from what its directories hold: of one that was killed, or does not start any more.
//!
//! A database is read up to the end of its logs where these have nothing but rows and deletes behind what is committed. Where they
//! also have changes to tables, of which only a server knows what came, each vnode is read as it was last committed, what its log has
//! behind that is named, and a later link has it if the server comes back. What can't be read is named, too, and the rest is in
//! the link.

use super::{
    BackupError, BackupJob, BackupOutcome, Changed, Databases, Done, Output, Writing, base, finish,
    known, left_out,
};
use crate::watermark;
use capture::{
    CaptureError, Change, DataDirs, ReasonCode, RowView, SourceChoice, Start, VnodeDir, catalogue,
    database, is_in_use,
};
use model::{FailedTable, Progress, Unit, Version, VgId, catalogue::Tables};
use plan::{
    detect::{self, DetectError, Request, Since},
    window::WindowWidth,
};
use repository::link::{Link, Manifest};
use server::restore_record;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

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
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(&job.out).starts_with(real(dir)) {
            return Err(BackupError::OutputInData {
                out: job.out.clone(),
                path: dir.clone(),
            });
        }
    }
    let mut outcome = Outcome::default();
    let (mut held, clusters) = vnodes(job, &mut outcome)?;
    let (cluster, problems) = watermark::cluster_of_dirs(&job.data_dirs, clusters)?;
    for problem in problems {
        outcome.note(format!(
            "{problem} What its vnodes say was taken: they are of cluster {cluster}"
        ));
    }
    let base = job
        .base
        .as_ref()
        .map(|base| base::open(base, &cluster, job.check_base, progress))
        .transpose()?;
    let databases = databases(&job.databases, &held)?;
    base::must_know_one_of(base.as_ref(), &databases)?;

    let mut manifest = Manifest::new(
        cluster,
        VERSION.to_owned(),
        base.as_ref().map(Link::as_base),
    );
    if job.databases == Databases::All {
        outcome.note_what_is_elsewhere(job)?;
    }
    for name in &databases {
        progress.go_on()?;
        let number = manifest.databases.len();
        let replicas = held.remove(name).unwrap_or_default();
        let offline = Offline {
            job,
            base: base.as_ref(),
            progress,
            name,
        };
        let done = match offline.database(&mut out, number, replicas, &mut outcome) {
            Err(error) if base.is_none() && concerns_only(&error) => {
                outcome.failures.push(format!("database {name}: {error}"));
                None
            }
            done => done?,
        };
        manifest.failures.append(&mut outcome.failures);
        let Some(done) = done else { continue };
        done.join(&mut manifest, &mut outcome.notes, &mut outcome.failed);
    }
    if manifest.databases.is_empty() {
        return Err(BackupError::NothingReadable {
            problems: manifest.failures.join("; "),
        });
    }
    for text in left_out(base.as_ref(), &databases) {
        match job.databases {
            Databases::All => outcome.note(text),
            Databases::Named(_) => outcome.notes.push(text),
        }
    }
    for dir in &job.data_dirs {
        // A server that was started meanwhile may have changed what was read.
        if is_in_use(dir)? {
            return Err(BackupError::InUse { path: dir.clone() });
        }
    }
    manifest.not_covered.push(
        "users, privileges, functions, topics, streams, views and TSMAs, if there are any: only a running server tells them"
            .to_owned(),
    );
    Ok(BackupOutcome {
        link: finish(out, manifest, &job.out, progress)?,
        exact: !outcome.lacks_something,
        notes: outcome.notes,
        failed: outcome.failed,
    })
}

/// What is said of all databases.
#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
    failed: Vec<FailedTable>,
    notes: Vec<String>,
    /// Whether something is known that is not in the link, though a server might still have it.
    lacks_something: bool,
}

/// By database its vnodes.
type Held = BTreeMap<String, Vec<VnodeDir>>;

/// The vnodes that the directories have, several of a vgroup where several of its replicas are given, and which of them are of
/// which cluster.
fn vnodes(
    job: &BackupJob,
    outcome: &mut Outcome,
) -> Result<(Held, Vec<(PathBuf, String)>), BackupError> {
    let (mut held, mut clusters) = (Held::new(), Vec::new());
    let (vnodes, problems) = DataDirs::new(job.data_dirs.clone())?.replicas_that_can_be_read()?;
    for problem in problems {
        outcome.note(format!(
            "{problem}; because of that the link may lack tables, or have some of a vnode that was being dropped"
        ));
    }
    for vnode in vnodes {
        match vnode.config() {
            Ok(config) => {
                let cluster = config.cluster.into_iter();
                clusters.extend(cluster.map(|cluster| (vnode.primary.clone(), cluster)));
                held.entry(config.database).or_default().push(vnode);
            }
            Err(error) => outcome.note(format!(
                "vgroup {} can't be read, and nobody knows which database it is of: {error}",
                vnode.vgroup
            )),
        }
    }
    Ok((held, clusters))
}

/// Whether other databases may be read all the same.
fn concerns_only(error: &BackupError) -> bool {
    matches!(
        error,
        BackupError::Capture(_) | BackupError::Detect(DetectError::Capture(_))
    )
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
    ) -> Result<Option<Done>, BackupError> {
        let known = known(self.base, self.name)?;
        let step = format!("reading the catalogue of {}", self.name);
        self.progress
            .step(&step, Unit::Vnodes, replicas.len() as u64);
        let (mut vnodes, mut catalogues, mut tails) = (Vec::new(), Vec::new(), Vec::new());
        for replicas in by_vgroup(replicas) {
            self.progress.go_on()?;
            let Some(chosen) = self.furthest(&replicas, outcome) else {
                continue;
            };
            if let Some(problem) = &chosen.catalogue.contradiction {
                outcome.failures.push(format!(
                    "database {}: tables of vgroup {}: its catalogue is damaged, and the link lacks some of them: {problem}",
                    self.name, chosen.dir.vgroup
                ));
            }
            tails.push((
                chosen.dir.vgroup,
                chosen.catalogue.vnode.committed,
                chosen.tail,
            ));
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
        let Some((_, first)) = catalogues.first() else {
            return Ok(None);
        };
        let precision = first.vnode.precision;
        let since = match (self.base, &known) {
            (Some(base), Some(known)) => {
                let checkpoint = base::read_checkpoint(base, &known.link)?;
                base::check_ids(base, self.name, &checkpoint, &vnodes)?;
                Since::Checkpoint(Box::new(checkpoint))
            }
            _ => Since::Committed,
        };
        let mut request = Request {
            data_dirs: self.job.data_dirs.clone(),
            database: Some(self.name.to_owned()),
            vgroup: None,
            since,
            source: SourceChoice::Auto,
            window: None,
        };
        let by_log = match tails.iter().all(|(.., tail)| tail.obstacle.is_none()) {
            true => match detect::with_rows(vnodes.clone(), &request, self.progress) {
                // It is tried without the log.
                Err(DetectError::Capture(_)) => None,
                found => Some(found?),
            },
            false => None,
        };
        let (found, rows) = match by_log {
            Some((found, rows)) if rows.len() == vnodes.len() => (found, rows),
            _ => {
                outcome.note_tails(self.name, &tails);
                request.source = SourceChoice::Tsdb;
                match detect::with_rows(vnodes.clone(), &request, self.progress) {
                    // With a width that is given, a full link needs no index of a file before its rows are read.
                    Err(DetectError::Capture(_)) if known.is_none() => {
                        request.window = Some(WindowWidth::choose(precision, Vec::new()));
                        detect::with_rows(vnodes, &request, self.progress)?
                    }
                    found => found?,
                }
            }
        };
        let rows: BTreeMap<VgId, RowView> = rows
            .into_iter()
            .map(|(vgroup, view)| (vgroup, view.past_damage()))
            .collect();
        let tables = Tables::new();
        let before = known.as_ref().map(|known| database::Before {
            database: &known.link.database,
            stables: &known.link.stables,
            tables: &tables,
        });
        let joined = database::join(self.name, &catalogues, before);
        outcome.notes.extend(joined.notes);
        let writing = Writing {
            job: self.job,
            base: self.base,
            server: None,
            tags: Some(&joined.tags),
            progress: self.progress,
        };
        let changed = Changed {
            plan: &found.plan,
            checkpoint: &found.checkpoint,
            rows: &rows,
        };
        let done = writing.write(out, number, joined.catalogue, known.as_ref(), changed)?;
        for (vgroup, view) in &rows {
            let damage = view.damage().into_iter();
            outcome.notes.extend(
                damage.map(|text| format!("vgroup {vgroup} of database {}: {text}", self.name)),
            );
        }
        Ok(Some(done))
    }

    /// Of the replicas of a vgroup the one whose committed files hold most. Replicas that can't be read are named.
    fn furthest(&self, replicas: &[VnodeDir], outcome: &mut Outcome) -> Option<Chosen> {
        let (mut best, mut newest, mut of) = (None::<Chosen>, Version::BEGINNING, 1);
        let mut problems = Vec::new();
        for dir in replicas {
            // Whether all files are there shows when they are opened.
            let catalogue = dir
                .catalogue()
                .and_then(|catalogue| RowView::open(dir).map(|_| catalogue));
            let catalogue = match catalogue {
                Ok(catalogue) => catalogue,
                Err(error) => {
                    problems.push(format!("{}: {error}", dir.primary.display()));
                    continue;
                }
            };
            of = of.max(catalogue.vnode.replicas);
            let tail = Tail::read(dir, &catalogue);
            let tail = tail.unwrap_or_else(|error| Tail::unreadable(&error));
            if let Some(damage) = &tail.damage {
                outcome.note(format!(
                    "vgroup {} of database {}: its log can't be read to its end, so nobody knows what it had that is not in the link: \
                     {damage}",
                    dir.vgroup, self.name
                ));
            }
            newest = newest.max(tail.to);
            let is_better = best
                .as_ref()
                .is_none_or(|best| best.catalogue.vnode.committed < catalogue.vnode.committed);
            if is_better {
                best = Some(Chosen {
                    dir: dir.clone(),
                    catalogue,
                    tail,
                });
            }
        }
        let Some(mut best) = best else {
            outcome.failures.push(format!(
                "database {}: its tables in a vgroup that can't be read: {}",
                self.name,
                problems.join("; ")
            ));
            return None;
        };
        let readable = replicas.len() - problems.len();
        for problem in problems {
            outcome.note(format!(
                "database {}: a replica that can't be read may hold more than the one that was taken: {problem}",
                self.name
            ));
        }
        let vgroup = best.dir.vgroup;
        best.tail.to = newest;
        if of > 1 {
            let why = "what one replica has in its log the others need not have agreed to";
            best.tail.obstacle.get_or_insert_with(|| why.to_owned());
        }
        if let Some(text) = &best.tail.cut_off {
            outcome.note(format!(
                "vgroup {vgroup} of database {}: the server was killed while it wrote to its log, and what that was is lost: {text}",
                self.name
            ));
        }
        if (readable as i64) < of {
            outcome.note(format!(
                "vgroup {vgroup} of database {} has {of} replicas, of which {readable} could be read: another one may hold more; give the \
                 data directories of all dnodes",
                self.name
            ));
        }
        Some(best)
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
            next = next.max(last.saturating_add(1));
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

/// What a vnode's log has behind the committed version.
struct Tail {
    to: Version,
    /// Why it is not in the link, if it is more than rows and deletes.
    obstacle: Option<String>,
    /// What is said of its end, if it was not written to its end.
    cut_off: Option<String>,
    /// What is said of it, if it is damaged or not there, so that nobody knows what it had.
    damage: Option<String>,
}

impl Tail {
    fn read(dir: &VnodeDir, of: &catalogue::Catalogue) -> Result<Self, CaptureError> {
        let start = Start {
            version: of.vnode.committed,
            known: None,
        };
        let mut obstacle = None;
        let report = dir.scan(&start, SourceChoice::Wal, &mut |change| {
            if !matches!(change, Change::Rows(_) | Change::Delete { .. }) {
                obstacle
                    .get_or_insert_with(|| "tables of the database were changed there".to_owned());
            }
            Ok(())
        })?;
        let (mut cut_off, mut damage) = (None, None);
        for reason in report.coverage.reasons {
            match reason.code {
                ReasonCode::BareVersion => {}
                ReasonCode::TailNotCovered => cut_off = Some(reason.text),
                ReasonCode::WalCorrupt
                | ReasonCode::WalGap
                | ReasonCode::WalPruned
                | ReasonCode::WalEncrypted
                | ReasonCode::WalUnknownMessage => drop(damage.get_or_insert(reason.text)),
                _ => drop(obstacle.get_or_insert(reason.text)),
            }
        }
        if of.vnode.wal_level > 0 && !dir.has_log()? {
            damage.get_or_insert_with(|| "there is no log".to_owned());
        }
        if let Some(damage) = &damage {
            obstacle.get_or_insert_with(|| damage.clone());
        }
        Ok(Self {
            to: report.coverage.to.max(dir.newest_logged()?),
            obstacle,
            cut_off,
            damage,
        })
    }

    fn unreadable(error: &CaptureError) -> Self {
        Self {
            to: Version::BEGINNING,
            obstacle: Some(error.to_string()),
            cut_off: None,
            damage: Some(error.to_string()),
        }
    }
}

impl Outcome {
    /// Names what the directories say is somewhere else.
    fn note_what_is_elsewhere(&mut self, job: &BackupJob) -> Result<(), BackupError> {
        let (given, all) = watermark::dnodes(&job.data_dirs);
        if given < all {
            self.note(format!(
                "the cluster has {all} dnodes, and the data directories of {given} were given: databases that are only on the others \
                 are not in the link"
            ));
        }
        for vgroup in DataDirs::new(job.data_dirs.clone())?.lost()? {
            self.note(format!(
                "vgroup {vgroup}: the server counts it among its vnodes, and its directory is not there; nobody knows which database \
                 it is of"
            ));
        }
        Ok(())
    }

    /// Names what is only in the logs.
    fn note_tails(&mut self, database: &str, tails: &[(VgId, Version, Tail)]) {
        let mut obstacles = tails
            .iter()
            .filter_map(|(.., tail)| tail.obstacle.as_deref());
        let why = obstacles
            .next()
            .unwrap_or("the log does not tell them for sure");
        for (vgroup, committed, tail) in tails.iter().filter(|(_, at, tail)| tail.to > *at) {
            self.note(format!(
                "vgroup {vgroup} of database {database}: the link is the state at version {committed}, as last committed; versions \
                 {} to {} are only in the log and not in the link ({why}); a link that is made once the server runs again has what the \
                 server still reads of them",
                committed.next(),
                tail.to
            ));
        }
    }

    /// Says something for which the link is not all that there is.
    fn note(&mut self, text: String) {
        self.lacks_something = true;
        self.notes.push(text);
    }
}

/// The replica of a vgroup that is read.
struct Chosen {
    dir: VnodeDir,
    catalogue: catalogue::Catalogue,
    tail: Tail,
}

/// The replicas of each vgroup.
fn by_vgroup(vnodes: Vec<VnodeDir>) -> Vec<Vec<VnodeDir>> {
    let mut vgroups: BTreeMap<VgId, Vec<VnodeDir>> = BTreeMap::new();
    for vnode in vnodes {
        vgroups.entry(vnode.vgroup).or_default().push(vnode);
    }
    vgroups.into_values().collect()
}
