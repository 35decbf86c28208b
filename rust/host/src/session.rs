//! Backups that a host process drives, one after the other: detect, export, verify, and only then move on.
//!
//! What a [`Session::backup`] leaves behind, below the directory for backups:
//!
//! | path | holds |
//! |---|---|
//! | `RUN/blocks.json` | what changed ([`plan::report`]) |
//! | `RUN/export/` | the rows ([`ops::export`]) |
//! | `RUN/report.json` | that it was verified ([`repository::verify`]) |
//!
//! `RUN` is the time in UTC and a random part. Where the next one starts is kept apart, in a checkpoint that moves
//! only after a run was verified as intact.

mod estimate;

use capture::SourceChoice;
use model::{FailedId, FailedTable, Progress, Retry, Suid, Uid, Version, VgId};
use ops::{
    backup::{BackupError, BackupOutcome},
    detect::{self, FindError, StartAt},
    export::{self, ExportJob},
    restore::{self, RestoreError, RestoreJob, RestoreOutcome},
    verify,
};
use plan::{
    VgroupPlan,
    checkpoint::{Checkpoint, CheckpointError},
    detect::{Detection, Request},
    report::{self, Blocks},
};
use repository::{
    chain::{self, ChainError},
    link::new_id,
    local::{LocalFileError, load_checkpoint, save_checkpoint},
    verify::Verdict,
};
use rows::avro::Compression;
use server::{Library, Login, SqlError};
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use store::{Directory, Store, StoreError, atomic_file};

/// Where backups are taken from.
#[derive(Debug)]
pub struct Session {
    /// The server's client library and how to log in; without it only detection works.
    pub server: Option<(Library, Login)>,
    /// The server's data directories; empty to ask the server.
    pub data_dirs: Vec<PathBuf>,
    /// How many connections read or write rows.
    pub threads: usize,
    /// How many rows are restored at a time, at most.
    pub batch: usize,
    /// How data files are compressed.
    pub compression: Compression,
    /// What is done about an export that failed.
    pub retry: Retry,
    /// How often exports were tried again.
    pub retried: AtomicU32,
}

/// A step that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no server.
    #[error("{0} needs a server: give its host (source.host, TD_CONNECT_IP)")]
    NoServer(&'static str),
    /// The server refused a statement.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// What changed could not be told.
    #[error(transparent)]
    Detect(#[from] FindError),
    /// A checkpoint can't be used.
    #[error(transparent)]
    Checkpoint(#[from] LocalFileError),
    /// The rows could not be exported.
    #[error(transparent)]
    Export(#[from] BackupError),
    /// What is to be restored is no link.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A backup could not be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A file or directory can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written is not what should be there.
    #[error("the backup in {path} is not intact: {problem}; it does not count, run it again")]
    NotIntact {
        /// The run's directory.
        path: PathBuf,
        /// The first problem.
        problem: String,
    },
}

/// A backup that was done and verified.
#[derive(Debug)]
pub struct Done {
    /// Its directory.
    pub run: PathBuf,
    /// Blocks with changed rows.
    pub blocks: u64,
    /// Of these, blocks of tables that could not be read. With any, the next backup starts where this one did.
    pub failed: u64,
    /// Bytes exported.
    pub bytes: u64,
    /// Whether the detection was exact, and no dropped table can be missing in it.
    pub exact: bool,
    /// Things the operator should know.
    pub notes: Vec<String>,
}

impl Session {
    fn connected(&self, what: &'static str) -> Result<(&Library, &Login), SessionError> {
        let server = self.server.as_ref().ok_or(SessionError::NoServer(what))?;
        Ok((&server.0, &server.1))
    }

    /// Finds what changed.
    pub fn detect(
        &self,
        database: Option<&str>,
        start: StartAt,
        progress: &dyn Progress,
    ) -> Result<Detection, SessionError> {
        let connection = match &self.server {
            Some((library, login)) => Some(library.connect(login)?),
            None if self.data_dirs.is_empty() => {
                return Err(SessionError::NoServer("detection without data directories"));
            }
            None => None,
        };
        let request = Request {
            data_dirs: self.data_dirs.clone(),
            database: database.map(str::to_owned),
            vgroup: None,
            since: start.since()?,
            source: SourceChoice::Auto,
            window: None,
        };
        Ok(detect::run(connection.as_ref(), request, progress)?)
    }

    /// Reads the rows of blocks from the server.
    pub fn export(
        &self,
        blocks: Blocks,
        out: &Path,
        progress: &dyn Progress,
    ) -> Result<BackupOutcome, SessionError> {
        let (library, login) = self.connected("an export")?;
        let again = |error: &BackupError| {
            self.retried.fetch_add(1, Relaxed);
            tracing::warn!("the export failed, and is tried again: {error}");
        };
        let outcome = self.retry.run(progress, again, || {
            let job = ExportJob {
                login: login.clone(),
                blocks: blocks.clone(),
                out: out.into(),
                threads: self.threads,
                compression: self.compression,
            };
            // What a try left behind, the next one removes.
            export::run(job, library, progress)
        });
        Ok(outcome?)
    }

    /// How many bytes an export of these blocks would write for rows and tags. A few tables are exported to a directory
    /// below `temporary` to find out, which is removed.
    pub fn estimate(&self, blocks: &Blocks, temporary: &Path) -> Result<u64, SessionError> {
        self.connected("an estimate")?;
        estimate::estimate(self, blocks, temporary)
    }

    /// Restores a link or an export to a database of this name.
    pub fn restore(
        &self,
        path: &Path,
        target: &str,
        progress: &dyn Progress,
    ) -> Result<RestoreOutcome, SessionError> {
        let (library, login) = self.connected("a restore")?;
        let store: Arc<dyn Store> = Arc::new(Directory::new(path));
        let links = vec![store];
        let mut rename = BTreeMap::new();
        for link in chain::open(&links)? {
            for database in &link.manifest.databases {
                rename.insert(database.database.name.clone(), target.to_owned());
            }
        }
        let job = RestoreJob {
            login: login.clone(),
            links,
            databases: Vec::new(),
            rename,
            options: BTreeMap::new(),
            threads: self.threads,
            batch: self.batch,
            worth_options: restore::WORTH_ROWS,
        };
        Ok(restore::run(&job, library, progress)?)
    }

    /// Does a whole backup: from `start`, else from where the last one ended, else from `first`.
    /// `cache` is the directory of the checkpoint, `out` the one for backups.
    pub fn backup(
        &self,
        database: &str,
        start: Option<StartAt>,
        first: StartAt,
        cache: &Path,
        out: &Path,
        progress: &dyn Progress,
    ) -> Result<Done, SessionError> {
        let io = |path: &Path| StoreError::io(path.display().to_string());
        self.connected("a backup")?;
        let checkpoint = checkpoint_path(cache, database);
        let start = match start {
            Some(start) => start,
            None if there_is(&checkpoint).map_err(io(&checkpoint))? => {
                StartAt::File(checkpoint.clone())
            }
            None => first,
        };
        fs::create_dir_all(cache).map_err(io(cache))?;
        let run = out.join(format!(
            "{}-{:.8}",
            jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"),
            new_id().0
        ));
        fs::create_dir_all(&run).map_err(io(&run))?;

        let detection = self.detect(Some(database), start, progress)?;
        let blocks_file = run.join("blocks.json");
        let json = report::to_json(&detection).map_err(|error| io(&blocks_file)(error.into()))?;
        atomic_file::write(&blocks_file, &json)?;
        let blocks = detection.plan.blocks.len() as u64;

        let out = run.join("export");
        let next = detection.checkpoint.clone();
        let vgroups = detection.plan.vgroups.clone();
        let suids: BTreeMap<Uid, Suid> = detection
            .plan
            .tables
            .iter()
            .map(|table| (table.table.uid, table.table.suid))
            .collect();
        let by_block: Vec<Uid> = detection.plan.blocks.iter().map(|b| b.uid).collect();
        let outcome = self.export(detection.into(), &out, progress)?;
        let failed = Failed::of(&outcome.failed);
        let is_failed = |uid: &&Uid| failed.has(**uid, suids.get(*uid).copied());
        let failed_blocks = by_block.iter().filter(is_failed).count() as u64;

        let verified = verify::run(
            &verify::Job {
                links: vec![Arc::new(Directory::new(&out))],
                blocks: Some(blocks_file),
                threads: self.threads,
            },
            progress,
        )
        .map_err(BackupError::from)?;
        let report_file = run.join("report.json");
        let json = verified
            .to_json()
            .map_err(|error| io(&report_file)(error.into()))?;
        atomic_file::write(&report_file, &json)?;
        let mut moved = true;
        match verified.result {
            Verdict::Intact => moved = advance(&checkpoint, &vgroups, &next)?,
            Verdict::Incomplete if !outcome.failed.is_empty() => {}
            _ => {
                let problem = verified.problems.into_iter().next();
                return Err(SessionError::NotIntact {
                    path: run,
                    problem: problem.map(|problem| problem.text).unwrap_or_default(),
                });
            }
        }
        let mut notes = outcome.notes;
        notes.extend(outcome.failed.iter().map(ToString::to_string));
        if !moved {
            notes.push(STAYS.to_owned());
        }
        Ok(Done {
            run,
            blocks,
            failed: match outcome.failed.is_empty() {
                true => 0,
                false => failed_blocks.max(1),
            },
            bytes: outcome.link.bytes(),
            exact: outcome.exact,
            notes,
        })
    }
}

/// Which tables failed.
#[derive(Default)]
struct Failed {
    tables: HashSet<Uid>,
    super_tables: HashSet<Suid>,
}

impl Failed {
    fn of(failed: &[FailedTable]) -> Self {
        let mut all = Self::default();
        for table in failed {
            match table.id {
                FailedId::Table(uid) => drop(all.tables.insert(uid)),
                FailedId::SuperTable(suid) => drop(all.super_tables.insert(suid)),
                FailedId::Unknown => {}
            }
        }
        all
    }

    fn has(&self, uid: Uid, suid: Option<Suid>) -> bool {
        self.tables.contains(&uid) || suid.is_some_and(|suid| self.super_tables.contains(&suid))
    }
}

const STAYS: &str = "the backup starts later than the last one ended, so the checkpoint stays where it is: what changed in \
                     between comes with the next backup";

/// Moves the checkpoint to `next`, where a detection of these vgroups ended; false if it began later than where the
/// checkpoint is, or that is damaged. What changed in between is in no backup then, and stays to be found.
pub fn advance(
    checkpoint: &Path,
    vgroups: &[VgroupPlan],
    next: &Checkpoint,
) -> Result<bool, StoreError> {
    let known = match load_checkpoint(checkpoint) {
        Ok(known) => Some(known.vgroups),
        Err(LocalFileError::Store(error)) if error.is_not_found() => None,
        // It may be read another time.
        Err(LocalFileError::Store(error)) => return Err(error),
        // A newer version of this program goes by it.
        Err(LocalFileError::Checkpoint(CheckpointError::Newer(newer))) => {
            let newer = io::Error::other(newer);
            return Err(StoreError::io(checkpoint.display().to_string())(newer));
        }
        // Damaged: nobody knows where the last backup ended.
        Err(_) => Some(BTreeMap::new()),
    };
    if let Some(known) = known {
        let is_in_plan = |vgroup: &VgId| vgroups.iter().any(|plan| plan.vgroup == *vgroup);
        let misses_nothing = |plan: &VgroupPlan| match known.get(&plan.vgroup) {
            _ if plan.from == Version::BEGINNING => true,
            None => false,
            Some((version, vnode)) => match plan.db_id.is_none_or(|id| id == vnode.db_id) {
                true => plan.from <= *version,
                // Another database has the vgroup's number now: its versions count only if the checkpoint was the start,
                // since the detection noticed then.
                false => plan.from == *version,
            },
        };
        if !known.keys().all(is_in_plan) || !vgroups.iter().all(misses_nothing) {
            tracing::warn!("{STAYS}");
            return Ok(false);
        }
    }
    save_checkpoint(next, checkpoint)?;
    Ok(true)
}

/// Whether there is a checkpoint. One that can't be looked at is not one that is missing: a backup would begin anew.
pub fn there_is(checkpoint: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(checkpoint) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where the checkpoint of a database is kept.
pub fn checkpoint_path(dir: &Path, database: &str) -> PathBuf {
    dir.join(format!("{}.checkpoint", file_name(database)))
}

/// A database's name as that of a file.
fn file_name(database: &str) -> String {
    database
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_make_different_files_in_one_directory() {
        assert_eq!(file_name("db_1"), "db_1");
        for name in ["../x", "a/b", "风", ".", "%2e", ""] {
            let file = file_name(name);
            assert!(!file.contains(['/', '.']), "{file}");
        }
        assert_ne!(file_name("%2e"), file_name("."));
    }

    #[test]
    fn a_checkpoint_stays_if_a_later_start_would_leave_changes_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let checkpoint = |version| Checkpoint {
            database: "d".to_owned(),
            precision: model::Precision::Milliseconds,
            window: plan::window::WindowWidth::from_ticks(1_000).unwrap(),
            vgroups: [(
                VgId(2),
                (
                    Version(version),
                    capture::KnownVnode {
                        db_id: model::DbId(1),
                        hash_range: (0, 9),
                        compactions: BTreeMap::new(),
                    },
                ),
            )]
            .into(),
            ordinals: Default::default(),
        };
        let from = |vgroup, version, database| VgroupPlan {
            vgroup: VgId(vgroup),
            db_id: Some(model::DbId(database)),
            from: Version(version),
            to: Version(20),
            source: capture::SourceKind::TsdbAndWal,
            complete: true,
            reasons: Vec::new(),
        };
        let at = || load_checkpoint(&path).unwrap().vgroups[&VgId(2)].0;
        // There is none yet.
        assert!(advance(&path, &[from(2, 5, 1)], &checkpoint(10)).unwrap());
        for (starts, moves) in [
            (vec![from(2, 11, 1)], false),
            // The vgroup of the checkpoint was not looked at.
            (vec![from(3, -1, 1)], false),
            // What the vgroup held before, which the checkpoint does not know.
            (vec![from(2, 10, 1), from(3, 1, 1)], false),
            // The number of the vgroup was given again.
            (vec![from(2, 9, 2)], false),
            (vec![from(2, 10, 2)], true),
            (vec![from(2, -1, 2)], true),
            (vec![from(2, 10, 1)], true),
            (vec![from(2, 3, 1), from(3, -1, 1)], true),
        ] {
            save_checkpoint(&checkpoint(10), &path).unwrap();
            let moved = advance(&path, &starts, &checkpoint(20));
            assert_eq!(moved.unwrap(), moves, "{starts:?}");
            assert_eq!(at(), Version(if moves { 20 } else { 10 }));
        }
        fs::write(&path, "damaged").unwrap();
        assert!(!advance(&path, &[from(2, 30, 1)], &checkpoint(40)).unwrap());
        assert!(advance(&path, &[from(2, -1, 1)], &checkpoint(40)).unwrap());
        let newer = model::sealed::seal(&serde_json::json!({"format": 2})).unwrap();
        fs::write(&path, &newer).unwrap();
        let refused = advance(&path, &[from(2, -1, 1)], &checkpoint(40)).unwrap_err();
        assert!(refused.to_string().contains("newer version"), "{refused}");
        assert_eq!(
            fs::read(&path).unwrap(),
            newer,
            "a newer version goes by it"
        );
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let moved = advance(&path, &[from(2, 50, 1)], &checkpoint(60));
        assert!(moved.is_err(), "what can't be read now may hold a start");
    }

    #[test]
    fn a_checkpoint_that_cannot_be_looked_at_is_not_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert!(!there_is(&path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(there_is(&path).unwrap());
        assert!(there_is(&path.join("in a file")).is_err());
    }

    #[test]
    fn without_a_server_what_needs_one_is_refused() {
        let session = Session {
            server: None,
            data_dirs: Vec::new(),
            threads: 1,
            batch: 1,
            compression: Compression::default(),
            retry: Retry::default(),
            retried: AtomicU32::new(0),
        };
        let dir = tempfile::tempdir().unwrap();
        let backup = session.backup("d", None, StartAt::Time(0), dir.path(), dir.path(), &());
        assert!(matches!(backup, Err(SessionError::NoServer(_))));
        let detected = session.detect(None, StartAt::Time(0), &());
        assert!(matches!(detected, Err(SessionError::NoServer(_))));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing was made"
        );
    }

    #[test]
    fn a_super_table_that_failed_counts_with_all_its_children() {
        let table = |id| FailedTable {
            database: "d".to_owned(),
            name: "t".to_owned(),
            id,
            problem: "no".to_owned(),
        };
        let failed = Failed::of(&[
            table(FailedId::SuperTable(Suid(7))),
            table(FailedId::Table(Uid(3))),
            table(FailedId::Unknown),
        ]);
        assert!(failed.has(Uid(3), None));
        assert!(failed.has(Uid(4), Some(Suid(7))));
        assert!(!failed.has(Uid(4), Some(Suid(0))));
        assert!(!failed.has(Uid(4), None));
    }
}
