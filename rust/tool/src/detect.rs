//! `incremental_bitmap_tool --detect`.

use crate::{
    human,
    server::{ServerArgs, source_flags},
};
use capture::SourceChoice;
use clap::{ArgGroup, Args, ValueEnum};
use config::Settings;
use model::{Version, VgId};
use ops::detect::{self, StartAt};
use plan::{
    detect::{Detection, Request},
    report,
    window::WindowWidth,
};
use repository::local::save_checkpoint;
use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Instant,
};
use store::{StoreError, atomic_file};
use terminal::{Exit, progress::Bar, stdout};

/// What `--detect` takes.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("start").args(["since_version", "since"]))]
pub struct DetectArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The server's data directory (dataDir in taos.cfg, the one that holds vnode/); repeat it for every tier
    /// [default: with --host, what the server says]
    #[arg(long = "data-dir", value_name = "DIR")]
    data_dirs: Vec<String>,

    /// The database; may be left out when the directories hold only one
    #[arg(long, value_name = "DB")]
    database: Option<String>,

    /// Only this vgroup
    #[arg(long, value_name = "N")]
    vgroup: Option<i32>,

    /// Start after this version (WAL index) in every vgroup; -1 is the very beginning
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    since_version: Option<i64>,

    /// Start where a checkpoint ended, or at a time: a checkpoint file, epoch seconds, or RFC 3339
    #[arg(long, value_name = "FILE|TIME")]
    since: Option<String>,

    /// Which files to read
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    source: Source,

    /// Write what changed to this file, as JSON
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Write where the next run starts to this file
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,

    /// Width of a block's window in ticks of the database's precision [default: the checkpoint's, else chosen
    /// by how often rows come]
    #[arg(long, value_name = "TICKS")]
    window: Option<i64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    /// The committed files, then the log for what is later
    Auto,
    /// The committed files only
    Tsdb,
    /// The log only
    Wal,
}

impl DetectArgs {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Result<(), String> {
        let settings = self.settings()?;
        self.start(&settings)?;
        self.window()?;
        match settings.source.data_dirs.is_empty() && settings.source.host.is_none() {
            true => Err(
                "where are the server's files? Give --data-dir, or --host to ask the server"
                    .to_owned(),
            ),
            false => Ok(()),
        }
    }

    fn settings(&self) -> Result<Settings, String> {
        let flags = source_flags(&self.data_dirs, self.database.as_ref(), self.since.as_ref());
        let config = self
            .server
            .config(flags)
            .map_err(|error| error.to_string())?;
        Ok(config.settings)
    }

    fn start(&self, settings: &Settings) -> Result<StartAt, String> {
        let start = match (&self.since_version, &settings.source.since) {
            (Some(version), _) if *version >= Version::BEGINNING.0 => {
                StartAt::Version(Version(*version))
            }
            (Some(version), _) => {
                return Err(format!(
                    "--since-version {version}: versions begin at 0, and -1 means before that"
                ));
            }
            (None, Some(text)) => StartAt::parse(text)?,
            (None, None) => {
                return Err(
                    "from when on? Give --since-version, --since, or source.since in --config"
                        .to_owned(),
                );
            }
        };
        let file = match &start {
            StartAt::File(path) => Some(path),
            StartAt::Version(_) | StartAt::Time(_) => None,
        };
        for (flag, other) in [
            ("--checkpoint", self.checkpoint.as_ref()),
            ("--since", file),
        ] {
            if let (Some(output), Some(other)) = (&self.output, other)
                && same_file(output, other)
            {
                return Err(format!(
                    "--output and {flag} are the same file, {}",
                    output.display()
                ));
            }
        }
        Ok(start)
    }

    fn window(&self) -> Result<Option<WindowWidth>, String> {
        let Some(ticks) = self.window else {
            return Ok(None);
        };
        match WindowWidth::from_ticks(ticks) {
            Some(width) => Ok(Some(width)),
            None => Err(format!(
                "--window {ticks}: a width is a positive number of ticks"
            )),
        }
    }

    fn request(&self, settings: &Settings) -> Result<Request, Box<dyn Error>> {
        Ok(Request {
            data_dirs: settings.source.data_dirs.clone(),
            database: settings.source.database.clone(),
            vgroup: self.vgroup.map(VgId),
            since: self.start(settings)?.since()?,
            source: match self.source {
                Source::Auto => SourceChoice::Auto,
                Source::Tsdb => SourceChoice::Tsdb,
                Source::Wal => SourceChoice::Wal,
            },
            window: self.window()?,
        })
    }
}

/// Whether two paths name one file, which need not be there yet.
fn same_file(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let absolute = std::path::absolute(path).ok()?;
        let dir = absolute.parent()?.canonicalize().ok()?;
        Some(dir.join(absolute.file_name()?))
    };
    a == b || resolved(a).is_some_and(|a| resolved(b) == Some(a))
}

/// Runs it: JSON or a table to standard output, files where asked for. Whatever holds the changes is written
/// before the checkpoint, so that a checkpoint never stands for changes that nobody has.
pub fn run(args: &DetectArgs) -> Result<Exit, Box<dyn Error>> {
    let started = Instant::now();
    let settings = args.settings()?;
    let request = args.request(&settings)?;
    let server = match settings.source.host {
        Some(_) => Some(args.server.connect(&settings)?.1),
        None => None,
    };
    let bar = Bar::new();
    let detection = detect::run(server.as_ref(), request, &bar)?;
    bar.finish();
    let taken = started.elapsed();
    let json = match args.json || args.output.is_some() {
        true => Some(report::to_json(&detection)?),
        false => None,
    };
    if let (Some(path), Some(json)) = (&args.output, &json) {
        atomic_file::write(path, json)?;
    }
    let only_printed = args.json && args.output.is_none();
    if let Some(json) = json.as_ref().filter(|_| args.json) {
        // If nobody reads on, nobody has the changes; without a checkpoint that harms nothing.
        let needed = only_printed && args.checkpoint.is_some();
        stdout::print(json, needed).map_err(|problem| {
            format!("{problem}; no checkpoint was written for what it should hold")
        })?;
    }
    if let Some(path) = &args.checkpoint {
        let saved = save_checkpoint(&detection.checkpoint, path);
        saved.map_err(|e| after_output(e, args.output.as_deref()))?;
    }
    if !args.json {
        stdout::print(human::table(&detection, taken).as_bytes(), false)?;
    }
    Ok(exit(&detection))
}

fn after_output(error: StoreError, output: Option<&Path>) -> String {
    match output {
        Some(path) => format!("{error} (but {} is written and complete)", path.display()),
        None => error.to_string(),
    }
}

fn exit(detection: &Detection) -> Exit {
    if detection.plan.is_exact() {
        Exit::Done
    } else {
        Exit::Incomplete
    }
}
