//! `incremental_bitmap_tool --export` and `--print-range`.

use crate::server::ServerArgs;
use bitmap::BlockState;
use capture::ReasonCode;
use clap::Args;
use model::KeySpan;
use ops::export::{self, ExportJob};
use plan::report::Blocks;
use repository::local::load_blocks;
use rows::avro::Compression;
use server::login;
use std::{error::Error, path::PathBuf, thread};
use terminal::{Exit, progress::Bar, report, stdout};

/// What `--export` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ExportArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// What changed: a file that --detect --output wrote
    #[arg(long, value_name = "FILE", required = true)]
    blocks: PathBuf,

    /// The directory to write to; it must be empty or not there
    #[arg(long, value_name = "DIR", required = true)]
    output: PathBuf,

    /// How many connections read rows [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// What `--print-range` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct RangeArgs {
    /// What changed: a file that --detect --output wrote
    #[arg(long, value_name = "FILE", required = true)]
    blocks: PathBuf,
}

impl ExportArgs {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Result<(), String> {
        let config = self.server.config([]).map_err(|error| error.to_string());
        config?.settings.must_be_plain()
    }
}

/// Reads the rows of the blocks from the server.
pub fn run(args: &ExportArgs) -> Result<Exit, Box<dyn Error>> {
    let settings = args.server.config([])?.settings;
    let processors = thread::available_parallelism().map_or(1, |n| n.get());
    let job = ExportJob {
        login: login(&settings),
        blocks: load_blocks(&args.blocks)?,
        out: args.output.clone(),
        threads: args.threads.map_or(processors, usize::from),
        compression: match settings.backup.compression {
            true => Compression::default(),
            false => Compression::Null,
        },
    };
    let library = args.server.library()?;
    let bar = Bar::new();
    let outcome = export::run(job, &library, &bar);
    bar.finish();
    Ok(report::dumped(&outcome?, args.json))
}

/// Prints the first and the last key of everything that is to be copied, `-` for one that is open; nothing if there
/// is nothing to copy.
pub fn print_range(args: &RangeArgs) -> Result<Exit, Box<dyn Error>> {
    let blocks = load_blocks(&args.blocks)?;
    if let Some(range) = range(&blocks) {
        // taosdump takes times from 1970 on; before and after all rows it wants none.
        let first = match range.first.0 {
            ..=0 => "-".to_owned(),
            first => first.to_string(),
        };
        let last = match range.last.0 {
            ..=0 | i64::MAX => "-".to_owned(),
            last => last.to_string(),
        };
        stdout::print(format!("{first} {last}\n").as_bytes(), true)?;
    }
    Ok(Exit::Done)
}

fn range(blocks: &Blocks) -> Option<KeySpan> {
    let tables = blocks.plan.tables.iter();
    let spans = tables
        .filter(|table| table.state != BlockState::Deleted)
        .flat_map(|table| table.spans.iter().copied());
    let reasons = blocks
        .plan
        .vgroups
        .iter()
        .flat_map(|vgroup| &vgroup.reasons);
    let widened = reasons
        .filter(|reason| reason.code != ReasonCode::FileSetGone)
        .filter_map(|reason| reason.range);
    spans.chain(widened).reduce(KeySpan::hull)
}
