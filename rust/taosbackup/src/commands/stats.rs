//! `stats`: what takes how much space.

use crate::{Done, access, arguments::Global, output};
use repository::repo::stats;
use serde_json::json;
use std::fmt::Write as _;
use terminal::Exit;

pub(crate) fn run(global: &Global) -> Done {
    let repository = access::repository(global)?;
    let stats = stats::of(&repository)?;
    let databases: Vec<_> = stats
        .databases
        .iter()
        .map(|(names, (count, bytes))| json!({"databases": names, "snapshots": count, "bytes": bytes}))
        .collect();
    let object = json!({
        "result": "done",
        "repository": repository.id(),
        "created": repository.created(),
        "encrypted": repository.is_encrypted(),
        "snapshots": stats.snapshots,
        "full": stats.full,
        "forgotten": stats.forgotten,
        "objects": stats.objects,
        "bytes": stats.bytes,
        "databases": databases,
    });
    let mut text = format!(
        "{}: repository {}, {}, made {}\n{} snapshots ({} full), {} forgotten and not pruned; {} objects, {}\n",
        repository.place(),
        repository.id().short(),
        if repository.is_encrypted() {
            "encrypted"
        } else {
            "not encrypted"
        },
        repository.created(),
        stats.snapshots,
        stats.full,
        stats.forgotten,
        stats.objects,
        output::size(stats.bytes)
    );
    for (names, (count, bytes)) in &stats.databases {
        let _ = writeln!(
            text,
            "{names}: {count} snapshots, links of {}",
            output::size(*bytes)
        );
    }
    output::print(global.json, &object, &text, Exit::Done)
}
