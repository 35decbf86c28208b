//! `incremental_bitmap_tool --verify`.

use clap::Args;
use repository::verify::{self, Job, Report, Verdict};
use std::{
    error::Error,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use store::atomic_file;
use store::{Directory, Store};
use terminal::{Exit, progress::Bar, stdout};

/// What `--verify` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct VerifyArgs {
    /// A link of the chain; repeat it for each, the oldest first
    #[arg(long = "backup", value_name = "DIR", required = true)]
    links: Vec<PathBuf>,

    /// Also check that the links hold everything in this list of blocks (what --detect --output wrote)
    #[arg(long, value_name = "FILE")]
    blocks: Option<PathBuf>,

    /// Write what was found to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,

    /// How many files are read at a time [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl VerifyArgs {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Result<(), String> {
        for (number, link) in self.links.iter().enumerate() {
            if self.links.iter().take(number).any(|other| other == link) {
                return Err(format!("--backup {} is given twice", link.display()));
            }
        }
        if self.report.is_some() && self.report == self.blocks {
            return Err("--report and --blocks are the same file".to_owned());
        }
        Ok(())
    }
}

/// Problems and notes shown; `--json` and `--report` list all.
const SHOWN: usize = 50;

fn directory(path: &Path) -> Arc<dyn Store> {
    Arc::new(Directory::new(path))
}

/// Runs it: text or JSON to standard output, the report where asked for.
pub fn run(args: &VerifyArgs) -> Result<Exit, Box<dyn Error>> {
    let processors = thread::available_parallelism().map_or(1, |n| n.get());
    let job = Job {
        links: args.links.iter().map(|link| directory(link)).collect(),
        blocks: args.blocks.clone(),
        threads: args.threads.map_or(processors, usize::from),
    };
    let bar = Bar::new();
    let report = verify::run(&job, &bar)?;
    bar.finish();
    let json = report.to_json()?;
    if let Some(path) = &args.report {
        atomic_file::write(path, &json)?;
    }
    match args.json {
        // Whoever reads the JSON decides by it, so a lost one is a failure.
        true => stdout::print(&json, args.report.is_none())?,
        false => stdout::print(text(&report).as_bytes(), false)?,
    }
    Ok(match report.result {
        Verdict::Intact => Exit::Done,
        Verdict::Incomplete => Exit::Incomplete,
        Verdict::Failed => Exit::Failed,
    })
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let w = &mut out; // writing to a string can't fail
    for link in &report.links {
        let _ = writeln!(
            w,
            "{}: {} files, {} bytes, {} rows read",
            link.directory, link.files, link.bytes, link.rows
        );
        let Some(manifest) = &link.manifest else {
            continue;
        };
        let _ = writeln!(w, "  link {} of {}", manifest.id, manifest.finished);
        for database in &manifest.databases {
            let kind = match database.incremental {
                true => "what changed",
                false => "everything",
            };
            let _ = writeln!(
                w,
                "  {}: {kind}: {} rows of {} changed and {} dropped tables (of {})",
                database.name,
                database.rows,
                database.tables_changed,
                database.tables_dropped,
                database.tables
            );
        }
    }
    if let Some(blocks) = &report.blocks {
        let _ = writeln!(
            w,
            "{}: {} of {} changed tables of {} are in the links",
            blocks.file, blocks.tables_covered, blocks.tables, blocks.database
        );
    }
    let notes = report.notes.iter().map(|note| format!("note: {note}"));
    list(w, notes.collect());
    let problems = report.problems.iter();
    list(
        w,
        problems.map(|p| format!("problem: {}", p.text)).collect(),
    );
    let _ = match report.result {
        Verdict::Intact => writeln!(w, "intact: everything is there as it was written"),
        Verdict::Incomplete => writeln!(
            w,
            "INCOMPLETE: everything is there as it was written, but the dump had left something out"
        ),
        Verdict::Failed => writeln!(
            w,
            "FAILED: {} problems; a restore would not give what was backed up",
            report.problems.len()
        ),
    };
    out
}

fn list(out: &mut String, lines: Vec<String>) {
    for line in lines.iter().take(SHOWN) {
        let _ = writeln!(out, "{line}");
    }
    if lines.len() > SHOWN {
        let _ = writeln!(out, "… and {} more (--json lists all)", lines.len() - SHOWN);
    }
}
