//! `incremental_bitmap_tool --detect`.

use crate::{
    Exit, human,
    progress::Bar,
    server::{ServerArgs, source_flags},
    stdout,
};
use backup::{
    atomic_file,
    detect::{self, Detection, Request, Since},
    names, report,
    window::WindowWidth,
};
use capture::SourceChoice;
use clap::{ArgGroup, Args, ValueEnum};
use config::Settings;
use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Instant,
};
use tdfiles::{Version, VgId};

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
        let request = self.request(&settings)?;
        match request.data_dirs.is_empty() && settings.source.host.is_none() {
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

    fn request(&self, settings: &Settings) -> Result<Request, String> {
        let since = match (&self.since_version, &settings.source.since) {
            (Some(version), _) if *version >= Version::BEGINNING.0 => {
                Since::Version(Version(*version))
            }
            (Some(version), _) => {
                return Err(format!(
                    "--since-version {version}: versions begin at 0, and -1 means before that"
                ));
            }
            (None, Some(text)) => parse_since(text)?,
            (None, None) => {
                return Err(
                    "from when on? Give --since-version, --since, or source.since in --config"
                        .to_owned(),
                );
            }
        };
        let window = match self.window {
            None => None,
            Some(ticks) => Some(WindowWidth::from_ticks(ticks).ok_or_else(|| {
                format!("--window {ticks}: a width is a positive number of ticks")
            })?),
        };
        let start = match &since {
            Since::Checkpoint(path) => Some(path),
            Since::Version(_) | Since::Time(_) | Since::Committed => None,
        };
        for (flag, other) in [
            ("--checkpoint", &self.checkpoint),
            ("--since", &start.cloned()),
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
        Ok(Request {
            data_dirs: settings.source.data_dirs.clone(),
            database: settings.source.database.clone(),
            vgroup: self.vgroup.map(VgId),
            since,
            source: match self.source {
                Source::Auto => SourceChoice::Auto,
                Source::Tsdb => SourceChoice::Tsdb,
                Source::Wal => SourceChoice::Wal,
            },
            window,
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

/// Epoch seconds, RFC 3339, or else a file.
pub fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds
            .checked_mul(1_000_000)
            .filter(|micros| *micros >= 0)
            .map(Since::Time)
            .ok_or_else(|| format!("--since {text}: epoch seconds out of range"));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Since::Time(time.as_microsecond()));
    }
    let path = PathBuf::from(text);
    if path.exists() || !looks_like_a_time(text) {
        Ok(Since::Checkpoint(path))
    } else {
        Err(format!(
            "--since {text}: no such file, and neither epoch seconds nor RFC 3339 with a zone \
             (2026-01-31T08:00:00Z)"
        ))
    }
}

fn looks_like_a_time(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(['-', ':'])
}

/// Runs it: JSON or a table to standard output, files where asked for. Whatever holds the changes is written
/// before the checkpoint, so that a checkpoint never stands for changes that nobody has.
pub fn run(args: &DetectArgs) -> Result<Exit, Box<dyn Error>> {
    let started = Instant::now();
    let settings = args.settings()?;
    let mut request = args.request(&settings)?;
    let server = match settings.source.host {
        Some(_) => Some(args.server.connect(&settings)?.1),
        None => None,
    };
    if let Some(server) = &server {
        request.data_dirs = names::data_dirs(server, &request.data_dirs)?;
    }
    let bar = Bar::new();
    let mut detection = detect::run(&request, &bar)?;
    bar.finish();
    if let Some(server) = &server {
        if request.vgroup.is_none() {
            names::add_elsewhere(server, &detection.database, &mut detection.plan)?;
        }
        names::name_tables(server, &detection.database, &mut detection.plan)?;
    }
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
        let saved = detection.checkpoint.save(path);
        saved.map_err(|e| after_output(e, args.output.as_deref()))?;
    }
    if !args.json {
        stdout::print(human::table(&detection, taken).as_bytes(), false)?;
    }
    Ok(exit(&detection))
}

fn after_output(error: atomic_file::WriteError, output: Option<&Path>) -> String {
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
