//! What a dump or restore did, for people or as one JSON object.

use crate::{Exit, say, stdout};
use ops::{
    backup::BackupOutcome,
    restore::{Preview, PreviewStep, RestoreOutcome},
};
use serde_json::json;
use std::io::{self, Write};

/// Failures shown; all are counted.
const SHOWN: usize = 20;

/// Says what a backup or export did; the exit code is that of the program.
pub fn dumped(outcome: &BackupOutcome, json: bool) -> Exit {
    let manifest = &outcome.link.manifest;
    let exit = match manifest.failures.is_empty() && outcome.exact {
        true => Exit::Done,
        false => Exit::Incomplete,
    };
    if json {
        return print(&json!({
            "result": if exit == Exit::Done { "done" } else { "incomplete" },
            "link": manifest.id,
            "directory": outcome.link.place(),
            "parent": manifest.base.as_ref().map(|parent| &parent.id),
            "started": manifest.started,
            "finished": manifest.finished,
            "databases": manifest.databases.iter().map(|database| json!({
                "name": database.database.name,
                "incremental": database.incremental,
                "totals": database.totals,
            })).collect::<Vec<_>>(),
            "failures": manifest.failures,
            "not_covered": manifest.not_covered,
            "notes": outcome.notes,
        }))
        .map_or_else(lost, |()| exit);
    }
    for note in &outcome.notes {
        say(&format!("note: {note}"));
    }
    for what in &manifest.not_covered {
        say(&format!("note: not in the backup: {what}"));
    }
    let mut text = String::new();
    for database in &manifest.databases {
        let totals = &database.totals;
        let kind = if database.incremental {
            "what changed"
        } else {
            "everything"
        };
        text.push_str(&format!(
            "{}: {kind}: {} rows of {} changed and {} dropped tables (of {}), {} bytes\n",
            database.database.name,
            totals.rows,
            totals.tables_changed,
            totals.tables_dropped,
            totals.tables,
            totals.bytes
        ));
    }
    text.push_str(&format!(
        "{} {} is in {}\n",
        match manifest.export {
            true => "export",
            false => "link",
        },
        manifest.id,
        outcome.link.place()
    ));
    let _ = io::stdout().write_all(text.as_bytes());
    if !outcome.exact {
        say(match manifest.export {
            true => {
                "the export is INCOMPLETE: it holds more than what changed, or lacks dropped tables, as the notes say"
            }
            false => "the link is INCOMPLETE: the notes say what it lacks",
        });
    }
    if !manifest.failures.is_empty() {
        list("not dumped", &manifest.failures);
        say(
            "the link is INCOMPLETE and can't be a base: repair what is named above, and dump again",
        );
    }
    exit
}

/// Says what a restore did; the exit code is that of the program.
pub fn restored(outcome: &RestoreOutcome, json: bool) -> Exit {
    let exit = match (outcome.failures.is_empty(), outcome.incomplete.is_empty()) {
        (false, _) => Exit::Failed,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Done,
    };
    if json {
        return print(&json!({
            "result": match exit { Exit::Done => "done", Exit::Incomplete => "incomplete", _ => "failed" },
            "rows": outcome.rows,
            "tables": outcome.tables,
            "failures": outcome.failures,
            "incomplete": outcome.incomplete,
            "notes": outcome.notes,
        }))
        .map_or_else(lost, |()| exit);
    }
    for note in &outcome.notes {
        say(&format!("note: {note}"));
    }
    list("failed", &outcome.failures);
    list("missing", &outcome.incomplete);
    match exit {
        Exit::Failed => {
            say(
                "the restore FAILED: the database is not what was backed up; repair the cause and run it again",
            );
        }
        _ => {
            let text = format!(
                "restored: {} rows of {} tables\n",
                outcome.rows, outcome.tables
            );
            let _ = io::stdout().write_all(text.as_bytes());
        }
    }
    exit
}

/// Says what a restore would do; the exit code is that of the program.
pub fn previewed(preview: &Preview, json: bool) -> Exit {
    let exit = match preview.incomplete.is_empty() {
        true => Exit::Done,
        false => Exit::Incomplete,
    };
    if json {
        return print(&json!({
            "result": "planned",
            "steps": preview.steps.iter().map(|step| json!({
                "source": step.source,
                "target": step.target,
                "link": step.link,
                "create": step.create,
                "clears": step.clears,
                "loaded_with": step.loaded_with.iter().map(|loaded| json!({
                    "option": loaded.name,
                    "value": loaded.meanwhile,
                    "then": loaded.then,
                })).collect::<Vec<_>>(),
                "tables_dropped": step.counts.dropped,
                "tables_created": step.counts.created,
                "tables_altered": step.counts.altered,
                "tables_tagged": step.counts.tagged,
                "ranges_deleted": step.counts.deletes,
                "rows": step.counts.rows,
                "tables_one_by_one": step.counts.one_by_one,
                "tables_together": step.counts.together,
                "row_files": step.counts.row_files,
                "periods": step.counts.periods,
                "connections": step.connections,
            })).collect::<Vec<_>>(),
            "incomplete": preview.incomplete,
            "notes": preview.notes,
        }))
        .map_or_else(lost, |()| exit);
    }
    for note in &preview.notes {
        say(&format!("note: {note}"));
    }
    list("missing", &preview.incomplete);
    let mut text: String = preview.steps.iter().map(planned).collect();
    text.push_str("this was --dry-run: nothing was written\n");
    let _ = io::stdout().write_all(text.as_bytes());
    exit
}

/// A step of a plan in words.
fn planned(step: &PreviewStep) -> String {
    let counts = &step.counts;
    let mut text = format!("{}: {} of {}\n", step.target, step.source, step.link);
    if step.clears {
        text.push_str("  drops all that the database holds\n");
    }
    if let Some(create) = &step.create {
        text.push_str(&format!("  {create}\n"));
    }
    for loaded in &step.loaded_with {
        text.push_str(&format!(
            "  {} is {} while rows are written, {} at the end\n",
            loaded.name, loaded.meanwhile, loaded.then
        ));
    }
    text.push_str(&format!(
        "  drops {}, creates {}, alters {} and sets the tags of {} tables, deletes {} ranges\n",
        counts.dropped, counts.created, counts.altered, counts.tagged, counts.deletes
    ));
    text.push_str(&format!(
        "  writes {} rows over {} connections",
        counts.rows, step.connections
    ));
    if counts.together > 0 {
        text.push_str(&format!(
            "; of {} tables together, column by column, from {} files in {} periods of time",
            counts.together, counts.row_files, counts.periods
        ));
    }
    if counts.one_by_one > 0 {
        text.push_str(&format!("; of {} tables one by one", counts.one_by_one));
    }
    text.push('\n');
    text
}

/// Says why something could not be done.
pub fn failed(error: &dyn std::error::Error, json: bool) {
    if json {
        let printed = print(&json!({"result": "failed", "failures": [error.to_string()]}));
        let _ = printed.map_err(lost);
    }
    say(&format!("taosdump: {error}"));
}

fn list(what: &str, items: &[String]) {
    for item in items.iter().take(SHOWN) {
        say(&format!("{what}: {item}"));
    }
    if items.len() > SHOWN {
        say(&format!("{what}: and {} more", items.len() - SHOWN));
    }
}

fn print(value: &serde_json::Value) -> Result<(), String> {
    stdout::print(format!("{value}\n").as_bytes(), true)
}

/// Whoever reads the JSON decides by it, so a lost one is a failure.
fn lost(problem: String) -> Exit {
    say(&format!(
        "taosdump: {problem}; the result could not be printed"
    ));
    Exit::Failed
}
