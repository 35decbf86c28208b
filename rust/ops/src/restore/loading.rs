//! Options that make loading a database cheaper for the server. A restore sets them where it makes the database itself,
//! and puts the database's own in their place at the end. What to put back is noted before, so that the next restore
//! does it where one is killed.

use super::RestoreJob;
use model::catalogue::{database_options, with_options};
use server::{
    Connection, Library, Login, SqlError, database,
    restore_loading::{self, Loaded},
    tables::reset_cache,
};
use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender},
    },
};

/// With one file for each commit the server merges once what it otherwise merges several times; and of the log it keeps
/// what is not committed, not what was written in the last hour.
const MEANWHILE: [(&str, &str); 2] = [("STT_TRIGGER", "1"), ("WAL_RETENTION_PERIOD", "0")];

/// From how many rows on it is worth it. A server takes up to 2 s to change options of a database, whatever the database
/// holds: beside the last of so many rows that costs nothing.
pub const WORTH_ROWS: u64 = 20_000_000;
const LAST_ROWS: u64 = 10_000_000;

/// The options that a database has while it is loaded, if it is worth it; none for few rows, or if its own are these.
pub(super) fn of(create: &str, job: &RestoreJob, rows: Option<&u64>) -> Vec<Loaded> {
    match rows {
        Some(rows) if *rows >= job.worth_options => those_of(create),
        _ => Vec::new(),
    }
}

fn those_of(create: &str) -> Vec<Loaded> {
    let own = database_options(create);
    let differing = MEANWHILE.into_iter().filter_map(|(name, meanwhile)| {
        let then = own.get(name).filter(|then| *then != meanwhile)?;
        Some(Loaded {
            name: name.to_owned(),
            meanwhile: meanwhile.to_owned(),
            then: then.clone(),
        })
    });
    differing.collect()
}

/// The statement that creates a database, with the options that it is loaded with.
pub(super) fn create_with(create: &str, loaded: &[Loaded]) -> String {
    let options = loaded.iter();
    let options = options.map(|loaded| (loaded.name.clone(), loaded.meanwhile.clone()));
    with_options(create, &options.collect::<BTreeMap<_, _>>())
}

/// What is to be put back, as this statement has it: the options of a later link are others.
pub(super) fn then_of(create: &str, loaded: &[Loaded]) -> Vec<Loaded> {
    let own = database_options(create);
    let mut loaded = loaded.to_vec();
    for option in &mut loaded {
        if let Some(then) = own.get(&option.name) {
            option.then.clone_from(then);
        }
    }
    loaded
}

/// Gives the target the options that it is to have, where it does not have them.
fn set(connection: &Connection, target: &str, loaded: &[Loaded]) -> Result<(), SqlError> {
    reset_cache(connection)?;
    let present = database::options(connection, target)?;
    let differs = |loaded: &&Loaded| present.get(&loaded.name) != Some(&loaded.then);
    let options = loaded.iter().filter(differs);
    let options: Vec<(&str, &str)> = options
        .map(|loaded| (loaded.name.as_str(), loaded.then.as_str()))
        .collect();
    match options.is_empty() {
        true => Ok(()),
        false => database::set_options(connection, target, &options),
    }
}

/// Puts back what the target was not to have for longer; false if nothing is noted.
pub(super) fn put_back(connection: &Connection, target: &str) -> Result<bool, SqlError> {
    let loaded = restore_loading::read(connection, target)?;
    if loaded.is_empty() {
        return Ok(false);
    }
    set(connection, target, &loaded)?;
    restore_loading::forget(connection, target)?;
    Ok(true)
}

/// Whether a restore that was killed has left something to be put back.
pub(super) fn is_any_left<'t>(
    connection: &Connection,
    targets: impl IntoIterator<Item = &'t String>,
) -> Result<bool, SqlError> {
    for target in targets {
        if !restore_loading::read(connection, target)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many rows are still to be written; says when these are the last ones.
#[derive(Debug)]
pub(super) struct Left {
    rows: AtomicU64,
    near_end: SyncSender<()>,
}

impl Left {
    pub(super) fn new(rows: u64, near_end: SyncSender<()>) -> Self {
        let left = Self {
            rows: AtomicU64::new(rows),
            near_end,
        };
        left.written(0);
        left
    }

    /// So many rows were written.
    pub(super) fn written(&self, rows: u64) {
        let before = self.rows.fetch_sub(rows, Ordering::Relaxed);
        if before.saturating_sub(rows) <= LAST_ROWS {
            // It was said before, or nobody listens.
            let _ = self.near_end.try_send(());
        }
    }
}

/// Puts the options back when the last rows are written: beside them, it costs no time. What fails here is tried again at
/// the end.
pub(super) fn put_back_near_end(
    near_end: &Receiver<()>,
    library: &Library,
    login: &Login,
    target: &str,
    loaded: &[Loaded],
) {
    if near_end.recv().is_err() {
        return;
    }
    let outcome = library
        .connect(login)
        .and_then(|connection| set(&connection, target, loaded));
    if let Err(error) = outcome {
        tracing::debug!("the options of {target} are put back later: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const CREATE: &str = "CREATE DATABASE `a` STT_TRIGGER 2 WAL_RETENTION_PERIOD 3600";

    #[test]
    fn only_what_differs_is_set() {
        let loaded = those_of(CREATE);
        assert_eq!(
            create_with(CREATE, &loaded),
            "CREATE DATABASE `a` STT_TRIGGER 1 WAL_RETENTION_PERIOD 0"
        );
        let then: Vec<&str> = loaded.iter().map(|loaded| loaded.then.as_str()).collect();
        assert_eq!(then, ["2", "3600"]);
        let own = "CREATE DATABASE `a` STT_TRIGGER 1";
        assert_eq!(those_of(own), []);
        let later = then_of("CREATE DATABASE `a` STT_TRIGGER 8", &loaded);
        assert_eq!(
            (later[0].then.as_str(), later[1].then.as_str()),
            ("8", "3600")
        );
    }

    #[test]
    fn the_end_is_said_to_be_near_when_the_last_rows_are_left() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let left = Left::new(LAST_ROWS + 2, sender);
        left.written(1);
        assert!(receiver.try_recv().is_err());
        left.written(1);
        assert!(receiver.try_recv().is_ok());
        let (sender, receiver) = mpsc::sync_channel(1);
        drop(Left::new(5, sender));
        assert!(receiver.recv().is_ok(), "few rows are all the last ones");
    }
}
