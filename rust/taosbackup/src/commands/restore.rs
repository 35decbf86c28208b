//! `restore`: writes a snapshot back to a server.

use super::{Shown, zone};
use crate::{Done, Failure, access, arguments::Global};
use clap::Args;
use config::{Config, Layers};
use ops::restore::{self, RestoreJob, WORTH_ROWS};
use server::{Library, login};
use std::{collections::BTreeMap, path::PathBuf};
use terminal::report;

/// Rows that go to the server at a time, as with taosdump.
const BATCH: usize = 16_383;

/// Connections that write rows, as with taosdump.
const CONNECTIONS: u16 = 8;

/// What `restore` takes.
#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The first digits of its id, latest, latest:DATABASE, or a time: the last one that was finished by then
    snapshot: String,

    /// Only these databases of it; commas between
    #[arg(long, short = 'D', value_name = "NAME", value_delimiter = ',')]
    database: Vec<String>,

    /// Restore database A under the name B
    #[arg(long = "as", value_name = "A=B", value_parser = pair)]
    rename: Vec<(String, String)>,

    /// Make databases with this option instead of their own, such as REPLICA=1
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    option: Vec<(String, String)>,

    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// How many connections write rows
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,

    /// The server's name or address
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// The server's port [default: the client library's]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,

    /// The user; the password is taken from the environment, TD_PASSWORD
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// The directory of taos.cfg
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,

    /// The time zone of the time [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{text:?} has no two parts with = between")),
    }
}

pub(crate) fn run(global: &Global, options: &RestoreOptions) -> Done {
    let zone = zone(options.time_zone.as_deref())?;
    let mut layers = Layers::default().process_env();
    for (key, value) in [
        ("source.host", &options.host),
        ("source.port", &options.port),
        ("source.user", &options.user),
    ] {
        if let Some(value) = value {
            layers = layers.flag(key, value);
        }
    }
    let config = Config::from(&layers).map_err(Failure::usage)?;
    let repository = access::repository(global)?;
    let snapshots = repository.snapshots()?;
    let snapshot = snapshots.find(&options.snapshot, &zone)?;
    let job = RestoreJob {
        login: login(&config.settings),
        links: repository.chain(&snapshots, snapshot)?,
        databases: options.database.clone(),
        rename: options.rename.iter().cloned().collect::<BTreeMap<_, _>>(),
        options: options.option.iter().cloned().collect::<BTreeMap<_, _>>(),
        threads: options.jobs.into(),
        batch: BATCH,
        worth_options: WORTH_ROWS,
    };
    let library = Library::find(options.config_dir.as_deref()).map_err(Failure::new)?;
    let shown = Shown::new(global);
    if options.dry_run {
        let preview = restore::preview(&job, &library, &shown);
        shown.finish();
        return Ok(report::previewed(&preview?, global.json));
    }
    let outcome = restore::run(&job, &library, &shown);
    shown.finish();
    Ok(report::restored(&outcome?, global.json))
}
