//! `prune`: removes what no snapshot needs.

use super::Shown;
use crate::{Done, Failure, access, arguments::Global, output};
use clap::Args;
use jiff::{Span, SpanRelativeTo};
use repository::repo::{prune, retention};
use serde_json::json;
use std::time::Duration;
use terminal::Exit;

/// What `prune` takes.
#[derive(Debug, Args)]
pub(crate) struct PruneOptions {
    /// Leave what is younger than this: no run may take longer than that [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = grace, allow_hyphen_values = true)]
    grace: Option<Duration>,

    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

fn grace(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let span: Span = retention::span(text)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let length = length.map_err(|error| error.to_string())?;
    Duration::try_from(length).map_err(|error| error.to_string())
}

pub(crate) fn run(global: &Global, options: &PruneOptions) -> Done {
    let repository = access::repository(global)?;
    let shown = Shown::new(global);
    let grace = options.grace.unwrap_or(prune::GRACE);
    let pruned = prune::run(&repository, grace, options.dry_run, &shown).map_err(Failure::from);
    shown.finish();
    let pruned = pruned?;
    let object = json!({
        "result": if options.dry_run { "planned" } else { "done" },
        "snapshots": pruned.snapshots,
        "links": pruned.links,
        "objects": pruned.objects,
        "bytes": pruned.bytes,
        "needed": pruned.needed,
        "too_young": pruned.too_young,
    });
    let mut text = format!(
        "{}: {} forgotten snapshots, {} links, {} objects in all, {}\n",
        if options.dry_run {
            "would be removed"
        } else {
            "removed"
        },
        pruned.snapshots,
        pruned.links,
        pruned.objects,
        output::size(pruned.bytes)
    );
    if pruned.needed > 0 {
        text.push_str(&format!(
            "{} forgotten snapshots stay: kept ones are made of their links\n",
            pruned.needed
        ));
    }
    if pruned.too_young > 0 {
        text.push_str(&format!(
            "{} objects and snapshots that nothing needs are younger than the grace period\n",
            pruned.too_young
        ));
    }
    output::print(global.json, &object, &text, Exit::Done)
}
