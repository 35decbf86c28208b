//! `show`: one snapshot in full.

use super::zone;
use crate::{Done, access, arguments::Global, output};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use terminal::Exit;

/// What `show` takes.
#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// The first digits of its id, latest, latest:DATABASE, or a time: the last one that was finished by then
    snapshot: String,

    /// The time zone of the time [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

pub(crate) fn run(global: &Global, options: &ShowOptions) -> Done {
    let zone = zone(options.time_zone.as_deref())?;
    let repository = access::repository(global)?;
    let snapshots = repository.snapshots()?;
    let snapshot = snapshots.find(&options.snapshot, &zone)?;
    let chain = snapshots.chain(snapshot)?;
    let is_pinned = snapshots.is_pinned(&snapshot.id);
    let mut object = output::snapshot(snapshot, is_pinned);
    if let Some(object) = object.as_object_mut() {
        let parts: Vec<Value> = chain
            .iter()
            .map(|part| {
                json!({
                    "id": part.id,
                    "forgotten": snapshots.is_forgotten(&part.id),
                    "link": part.link.link,
                    "finished": part.finished,
                    "bytes": part.link.bytes,
                    "rows": part.rows(),
                })
            })
            .collect();
        object.insert("result".to_owned(), "done".into());
        object.insert("chain".to_owned(), parts.into());
    }
    let mut text = String::new();
    let w = &mut text; // writing to a string can't fail
    let _ = writeln!(
        w,
        "snapshot   {}{}",
        snapshot.id,
        if is_pinned { ", pinned" } else { "" }
    );
    let _ = writeln!(w, "kind       {}", output::kind(snapshot));
    let _ = writeln!(
        w,
        "read       {} to {}",
        snapshot.started, snapshot.finished
    );
    let _ = writeln!(
        w,
        "committed  {} by {}",
        snapshot.committed, snapshot.written_by
    );
    let _ = writeln!(w, "host       {}", snapshot.host);
    let _ = writeln!(
        w,
        "server     {} of cluster {}",
        snapshot.server, snapshot.cluster
    );
    for (key, value) in &snapshot.labels {
        let _ = writeln!(w, "label      {key}={value}");
    }
    for database in &snapshot.databases {
        let _ = writeln!(
            w,
            "database   {}: {} tables; this link: {}, {} changed and {} dropped tables, {} rows",
            database.name,
            database.tables,
            if database.incremental {
                "what changed"
            } else {
                "everything"
            },
            database.tables_changed,
            database.tables_dropped,
            database.rows
        );
        let marks: Vec<String> = database
            .watermarks
            .iter()
            .map(|mark| format!("v{}={}", mark.vgroup, mark.version))
            .collect();
        let _ = writeln!(w, "           up to {}", marks.join(" "));
    }
    let _ = writeln!(w, "chain      {} links, the oldest first:", chain.len());
    for part in &chain {
        let _ = writeln!(
            w,
            "           {} of {}: {}, {} rows{}",
            part.id.short(),
            part.finished,
            output::size(part.link.bytes),
            part.rows(),
            if snapshots.is_forgotten(&part.id) {
                ", forgotten"
            } else {
                ""
            }
        );
    }
    for failure in &snapshot.failures {
        let _ = writeln!(w, "missing    {failure}");
    }
    output::print(global.json, &object, &text, Exit::Done)
}
