//! `incremental_bitmap_tool --diff`.

use crate::human::span;
use bitmap::BlockState;
use clap::Args;
use model::{KeySpan, LinkId, Precision, sealed};
use ops::diff::{self, DatabaseDiff, Diff, DiffJob, TableDiff};
use plan::report::state_name;
use serde::Serialize;
use std::{collections::BTreeSet, error::Error, fmt::Write as _, path::PathBuf};
use terminal::{Exit, progress::Bar, stdout};

/// The only format there is.
const FORMAT: u32 = 1;

/// Tables and remarks shown; `--json` lists all.
const SHOWN: usize = 50;

/// What `--diff` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct DiffArgs {
    /// The job: show which tables and blocks differ between the states that two links of one chain lead to, the older
    /// link first
    #[arg(long = "diff", value_names = ["LINK", "LINK"], num_args = 2, required = true)]
    pair: Vec<PathBuf>,

    /// A link between the two that lies beside neither; repeat it for each
    #[arg(long = "backup", value_name = "DIR")]
    others: Vec<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl DiffArgs {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Result<(), String> {
        match self.pair.as_slice() {
            [first, second] if first != second => Ok(()),
            _ => Err("--diff: give two different links".to_owned()),
        }
    }
}

/// Runs it: JSON or a table to standard output.
pub fn run(args: &DiffArgs) -> Result<Exit, Box<dyn Error>> {
    let [first, second] = args.pair.as_slice() else {
        return Ok(Exit::Usage);
    };
    let job = DiffJob {
        first: first.clone(),
        second: second.clone(),
        others: args.others.clone(),
    };
    let bar = Bar::new();
    let diff = diff::run(&job, &bar)?;
    bar.finish();
    match args.json {
        // Whoever reads the JSON decides by it, so a lost one is a failure.
        true => stdout::print(&sealed::seal(&Document::from(&diff))?, true)?,
        false => stdout::print(text(&diff).as_bytes(), false)?,
    }
    Ok(match diff.inexact.is_empty() {
        true => Exit::Done,
        false => Exit::Incomplete,
    })
}

fn text(diff: &Diff) -> String {
    let mut out = String::new();
    let w = &mut out; // writing to a string can't fail
    let last = diff.links.last().unwrap_or(&diff.first);
    let count = match diff.links.len() {
        1 => "one link".to_owned(),
        count => format!("{count} links"),
    };
    let _ = writeln!(w, "from link {} to link {last}: {count}", diff.first);
    for database in &diff.databases {
        of_database(w, database);
    }
    for why in diff.inexact.iter().take(SHOWN) {
        let _ = writeln!(w, "inexact: {why}");
    }
    if diff.inexact.len() > SHOWN {
        let more = diff.inexact.len() - SHOWN;
        let _ = writeln!(w, "… and {more} more (--json lists all)");
    }
    out
}

fn of_database(w: &mut String, database: &DatabaseDiff) {
    let precision = database.precision;
    let _ = writeln!(
        w,
        "\ndatabase {}, precision {precision}, window {} {precision}",
        database.name,
        database.window.ticks()
    );
    for (what, stables) in [
        ("altered", &database.altered_stables),
        ("dropped", &database.dropped_stables),
    ] {
        if !stables.is_empty() {
            let names: Vec<&str> = stables.iter().map(String::as_str).collect();
            let _ = writeln!(w, "super tables {what}: {}", names.join(", "));
        }
    }
    if database.tables.is_empty() {
        let _ = writeln!(w, "no table differs");
        return;
    }
    let shown = database.tables.iter().take(SHOWN);
    let names: Vec<String> = shown.map(name).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    let _ = writeln!(
        w,
        "{:<width$}  {:>6}  {:<7}  {:>6}  {:>6}  {:>7}  {:>6}  keys",
        "table", "vgroup", "state", "new", "dirty", "deleted", "ranges"
    );
    for (table, name) in database.tables.iter().zip(&names) {
        let states = [BlockState::New, BlockState::Dirty, BlockState::Deleted];
        let [new, dirty, deleted] = states.map(|state| count(table, state));
        let keys = states.map(|state| table.blocks.keys(database.window, state));
        let hull = keys.into_iter().flatten().reduce(KeySpan::hull);
        let keys = hull.map_or(String::new(), |hull| span(hull, precision));
        let line = format!(
            "{name:<width$}  {:>6}  {:<7}  {new:>6}  {dirty:>6}  {deleted:>7}  {:>6}  {keys}",
            table.blocks.vgroup.0,
            state_name(table.blocks.state),
            table.blocks.ranges.len()
        );
        let _ = writeln!(w, "{}", line.trim_end());
    }
    if database.tables.len() > SHOWN {
        let more = database.tables.len() - SHOWN;
        let _ = writeln!(w, "… and {more} more tables (--json lists them all)");
    }
    let tables = |state| {
        let tables = database.tables.iter();
        tables.filter(|table| table.blocks.state == state).count()
    };
    let blocks = database
        .tables
        .iter()
        .map(|table| table.blocks.blocks.len());
    let _ = writeln!(
        w,
        "{} tables differ ({} new, {} dirty, {} deleted), in {} blocks",
        database.tables.len(),
        tables(BlockState::New),
        tables(BlockState::Dirty),
        tables(BlockState::Deleted),
        blocks.sum::<usize>()
    );
}

fn name(table: &TableDiff) -> String {
    match &table.name {
        Some(name) => name.clone(),
        None => format!("uid {}", table.uid),
    }
}

fn count(table: &TableDiff, state: BlockState) -> usize {
    let blocks = table.blocks.blocks.iter();
    blocks.filter(|block| block.state == state).count()
}

/// The JSON. 64-bit numbers stand as strings, as JSON numbers lose digits above 2^53.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    first: &'a LinkId,
    links: &'a [LinkId],
    databases: Vec<Database<'a>>,
    inexact: &'a [String],
}

#[derive(Serialize)]
struct Database<'a> {
    database: &'a str,
    precision: Precision,
    window: String,
    altered_stables: &'a BTreeSet<String>,
    dropped_stables: &'a BTreeSet<String>,
    tables: Vec<Table<'a>>,
}

#[derive(Serialize)]
struct Table<'a> {
    name: Option<&'a str>,
    stable: Option<&'a str>,
    uid: String,
    vgroup: i32,
    state: &'static str,
    blocks: Counts,
    new: Vec<[String; 2]>,
    dirty: Vec<[String; 2]>,
    deleted: Vec<[String; 2]>,
    whole: bool,
}

#[derive(Serialize)]
struct Counts {
    new: usize,
    dirty: usize,
    deleted: usize,
}

impl<'a> From<&'a Diff> for Document<'a> {
    fn from(diff: &'a Diff) -> Self {
        Self {
            format: FORMAT,
            first: &diff.first,
            links: &diff.links,
            databases: diff.databases.iter().map(Database::from).collect(),
            inexact: &diff.inexact,
        }
    }
}

impl<'a> From<&'a DatabaseDiff> for Database<'a> {
    fn from(diff: &'a DatabaseDiff) -> Self {
        let table = |table: &'a TableDiff| {
            let spans = |state| {
                let spans = table.blocks.keys(diff.window, state).into_iter();
                spans
                    .map(|span| [span.first, span.last].map(|key| key.to_string()))
                    .collect()
            };
            Table {
                name: table.name.as_deref(),
                stable: table.stable.as_deref(),
                uid: table.uid.to_string(),
                vgroup: table.blocks.vgroup.0,
                state: state_name(table.blocks.state),
                blocks: Counts {
                    new: count(table, BlockState::New),
                    dirty: count(table, BlockState::Dirty),
                    deleted: count(table, BlockState::Deleted),
                },
                new: spans(BlockState::New),
                dirty: spans(BlockState::Dirty),
                deleted: spans(BlockState::Deleted),
                whole: table.is_wide(),
            }
        };
        Self {
            database: &diff.name,
            precision: diff.precision,
            window: diff.window.ticks().to_string(),
            altered_stables: &diff.altered_stables,
            dropped_stables: &diff.dropped_stables,
            tables: diff.tables.iter().map(table).collect(),
        }
    }
}
