//! `verify`: whether everything is there as it was written.

use super::{Shown, processors, zone};
use crate::{Done, access, arguments::Global, output};
use clap::Args;
use repository::repo::check::{self, Depth};
use serde_json::{Value, json};
use terminal::Exit;

/// What `verify` takes.
#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// Snapshots to check, with all that they are made of [default: all]
    snapshots: Vec<String>,

    /// Only look whether every object is there and as long as it should be
    #[arg(long, conflicts_with = "sample")]
    quick: bool,

    /// Read only so many percent, chosen at random, such as 5%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<f64>,

    /// How many links are checked at a time [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('%').parse().ok();
    let fits = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    fits.ok_or_else(|| format!("{text:?} is no share such as 5%, more than 0% and at most 100%"))
}

pub(crate) fn run(global: &Global, options: &VerifyOptions) -> Done {
    let repository = access::repository(global)?;
    let mut chosen = Vec::new();
    if !options.snapshots.is_empty() {
        let snapshots = repository.snapshots()?;
        for what in &options.snapshots {
            chosen.push(snapshots.find(what, &zone(None)?)?.id.clone());
        }
    }
    let depth = match (options.quick, options.sample) {
        (true, _) => Depth::Quick,
        (false, Some(percent)) => Depth::Sample(percent),
        (false, None) => Depth::Full,
    };
    let shown = Shown::new(global);
    let threads = options.threads.map_or_else(processors, usize::from);
    let chosen = (!chosen.is_empty()).then_some(chosen.as_slice());
    let report = check::run(&repository, chosen, depth, threads, &shown);
    shown.finish();
    let report = report?;
    let (exit, result) = match (report.problems.is_empty(), report.incomplete.is_empty()) {
        (false, _) => (Exit::Failed, "failed"),
        (true, false) => (Exit::Incomplete, "incomplete"),
        (true, true) => (Exit::Done, "intact"),
    };
    let problems: Vec<Value> = report
        .problems
        .iter()
        .map(|problem| json!({"snapshots": problem.snapshots, "text": problem.text}))
        .collect();
    let object = json!({
        "result": result,
        "snapshots": report.snapshots,
        "links": report.links,
        "bytes_read": report.bytes,
        "problems": problems,
        "incomplete": report.incomplete,
    });
    let mut text = String::new();
    for problem in &report.problems {
        let ids: Vec<&str> = problem.snapshots.iter().map(|id| id.short()).collect();
        text.push_str(&format!(
            "problem: {} (snapshots {})\n",
            problem.text,
            ids.join(", ")
        ));
    }
    for id in &report.incomplete {
        text.push_str(&format!(
            "note: snapshot {} was incomplete when it was made\n",
            id.short()
        ));
    }
    text.push_str(&match exit {
        Exit::Failed => format!(
            "FAILED: {} problems; the snapshots that they name can't be restored as they were backed up\n",
            report.problems.len()
        ),
        _ => format!(
            "{result}: {} snapshots of {} links are there as they were written; {} were read\n",
            report.snapshots,
            report.links,
            output::size(report.bytes)
        ),
    });
    output::print(global.json, &object, &text, exit)
}
