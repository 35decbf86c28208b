//! A target database as a whole: whether there is room for it, its options, and what the server still does to it.

use super::RestoreError;
use model::{
    MayPass as _, Progress,
    catalogue::{database_options, seconds},
    retry::pause,
};
use server::{
    Connection, SqlError, cluster, database, ddl,
    tables::{self, reset_cache},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Options that later links carry over by ALTER DATABASE, by the names of all versions.
const ALTERABLE: [&str; 19] = [
    "BUFFER",
    "CACHEMODEL",
    "CACHESIZE",
    "COMPACT_INTERVAL",
    "COMPACT_TIME_OFFSET",
    "COMPACT_TIME_RANGE",
    "KEEP",
    "KEEP_TIME_OFFSET",
    "MINROWS",
    "PAGES",
    "S3_COMPACT",
    "S3_KEEPLOCAL",
    "SS_COMPACT",
    "SS_KEEPLOCAL",
    "STT_TRIGGER",
    "WAL_FSYNC_PERIOD",
    "WAL_LEVEL",
    "WAL_RETENTION_PERIOD",
    "WAL_RETENTION_SIZE",
];

/// An ALTER DATABASE that does not name this one sets it to its default.
const OFFSET: &str = "KEEP_TIME_OFFSET";

/// How long the server may take for what it does to a database after it has answered.
const SETTLED: Duration = Duration::from_secs(600);
/// What is waited for is said after this time, and again as often.
pub(super) const SAID: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(500);

/// Whether the server can take a database that does not exist yet.
///
/// # Errors
/// It can't.
pub(super) fn must_fit(
    connection: &Connection,
    create: &str,
    target: &str,
) -> Result<(), RestoreError> {
    let wanted = database_options(create);
    let number = |option: &str| -> i64 {
        let value = wanted.get(option).and_then(|value| value.parse().ok());
        value.unwrap_or(1)
    };
    let (replica, vgroups) = (number("REPLICA"), number("VGROUPS"));
    let room = cluster::room(connection)?;
    let refuse = |problem: String| {
        Err(RestoreError::Room {
            target: target.to_owned(),
            problem,
        })
    };
    if replica > room.dnodes {
        return refuse(format!(
            "it is to have REPLICA {replica}, and {} dnodes of the cluster are ready; restore it with --option REPLICA=1",
            room.dnodes
        ));
    }
    if replica.saturating_mul(vgroups) > room.vnodes {
        return refuse(format!(
            "it is to have {vgroups} vgroups of {replica} vnodes, and the dnodes have room for {} vnodes; restore it with \
             fewer vgroups by --option VGROUPS=n, or raise supportVnodes",
            room.vnodes
        ));
    }
    Ok(())
}

/// Whether a database that does not exist yet can have the options that were given for it.
///
/// # Errors
/// It can't.
pub(super) fn must_go_together(
    given: &BTreeMap<String, String>,
    create: &str,
    target: &str,
) -> Result<(), RestoreError> {
    let options = database_options(create);
    let length = |option: &str| seconds(options.get(option)?.split(',').next()?);
    match (given.get("KEEP"), length("KEEP"), length("DURATION")) {
        (Some(keep), Some(shortest), Some(duration)) if shortest < duration.saturating_mul(3) => {
            Err(RestoreError::Options {
                target: target.to_owned(),
                problem: format!(
                    "KEEP {keep} is shorter than three times its DURATION, which is {duration} s; give a longer one with \
                     --option KEEP"
                ),
            })
        }
        _ => Ok(()),
    }
}

/// Gives the target the options of `create` that can be altered. One that is refused is reported.
pub(super) fn carry_over(
    connection: &Connection,
    target: &str,
    create: &str,
    fail: &mut dyn FnMut(String),
) -> Result<(), SqlError> {
    // The client library goes on using the options that it knew before they were altered.
    reset_cache(connection)?;
    let present = database::options(connection, target)?;
    let wanted = database_options(create);
    let changed: Vec<(&str, &str)> = ALTERABLE
        .iter()
        .filter_map(|option| Some((*option, wanted.get(*option)?.as_str())))
        .filter(|(option, value)| present.get(*option).is_none_or(|now| now != value))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let offset = wanted.get(OFFSET).map(|value| (OFFSET, value.as_str()));
    let alter = |options: &[(&str, &str)]| {
        let is_named = |(named, _): &(&str, &str)| *named == OFFSET;
        let more = offset.filter(|_| !options.iter().any(is_named));
        let options: Vec<(&str, &str)> = options.iter().copied().chain(more).collect();
        database::set_options(connection, target, &options)
    };
    match alter(&changed) {
        Err(error) if error.may_pass() => return Err(error),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    // One of them is refused: all others are set.
    for option in changed {
        if let Err(error) = alter(&[option]) {
            fail(error.to_string());
        }
    }
    Ok(())
}

/// What a target has otherwise than the backup, and keeps: what no ALTER changes, where its data lies, and all options of
/// a database that was there before a first link was restored to it.
pub(super) fn of_its_own(
    connection: &Connection,
    target: &str,
    create: &str,
) -> Result<Option<String>, SqlError> {
    reset_cache(connection)?;
    let present = database::options(connection, target)?;
    let differ: Vec<String> = database_options(create)
        .into_iter()
        .filter_map(|(option, value)| {
            let now = present.get(&option)?;
            (*now != value).then(|| format!("{option} {now} (the backup has {value})"))
        })
        .collect();
    Ok((!differ.is_empty()).then(|| {
        format!(
            "database {target} keeps its {}; to have those of the backup, drop it before its first link is restored",
            differ.join(", ")
        )
    }))
}

/// Waits until the server has done what it still does to a database after it has answered, such as moving its vgroups.
/// Rows that are written meanwhile may be refused.
pub(super) fn wait_until_settled(
    connection: &Connection,
    target: &str,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let began = Instant::now();
    let mut said = Duration::ZERO;
    // A server that does not tell its transactions has none that could be waited for.
    while let Ok(Some(what)) = database::transaction(connection, target) {
        let waited = began.elapsed();
        if waited >= SETTLED {
            return Err(RestoreError::Unsettled {
                target: target.to_owned(),
                what,
                seconds: waited.as_secs(),
            });
        }
        if waited >= said + SAID {
            said = waited;
            progress.waits(&format!(
                "waiting for {what} of database {target} on the server, for up to {} s more",
                (SETTLED - waited).as_secs()
            ));
        }
        pause(LOOK, progress)?;
    }
    Ok(())
}

/// Drops everything that a target holds.
pub(super) fn clear(connection: &Connection, target: &str) -> Result<(), SqlError> {
    for stable in tables::super_tables(connection, target)? {
        connection.execute(&ddl::drop_super_table(target, &stable))?;
    }
    for table in tables::list(connection, target)? {
        connection.execute(&ddl::drop_table(target, &table.name))?;
    }
    Ok(())
}
