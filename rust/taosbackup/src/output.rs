//! What is printed: text for people, or one JSON object.

use crate::{Done, Failure};
use repository::repo::snapshot::Snapshot;
use serde_json::{Value, json};
use terminal::{Exit, stdout};

/// Prints text, or the object in its place.
pub(crate) fn print(json: bool, object: &Value, text: &str, exit: Exit) -> Done {
    let printed = match json {
        // Whoever reads the JSON decides by it, so a lost one is a failure.
        true => stdout::print(format!("{object}\n").as_bytes(), true),
        false => stdout::print(text.as_bytes(), false),
    };
    crate::flush();
    match printed {
        Ok(()) => Ok(exit),
        Err(problem) => Err(Failure::new(problem)),
    }
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

/// What a snapshot is called in text.
pub(crate) fn kind(snapshot: &Snapshot) -> &'static str {
    match (snapshot.failures.is_empty(), snapshot.is_full()) {
        (false, _) => "incomplete",
        (true, true) => "full",
        (true, false) => "incremental",
    }
}

/// A snapshot as JSON, the same in every command.
pub(crate) fn snapshot(snapshot: &Snapshot, pinned: bool) -> Value {
    json!({
        "id": snapshot.id,
        "base": snapshot.base,
        "kind": kind(snapshot),
        "link": snapshot.link.link,
        "bytes": snapshot.link.bytes,
        "rows": snapshot.rows(),
        "started": snapshot.started,
        "finished": snapshot.finished,
        "committed": snapshot.committed,
        "host": snapshot.host,
        "cluster": snapshot.cluster,
        "server": snapshot.server,
        "labels": snapshot.labels,
        "pinned": pinned,
        "databases": snapshot.databases,
        "failures": snapshot.failures,
        "written_by": snapshot.written_by,
    })
}

/// Rows of text in columns; the first row is their heads.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
