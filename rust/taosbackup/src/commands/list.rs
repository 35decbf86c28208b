//! `list`: the snapshots of a repository.

use super::zone;
use crate::{Done, access, arguments::Global, output};
use clap::Args;
use repository::repo::snapshot::Snapshot;
use serde_json::{Value, json};
use terminal::Exit;

/// What `list` takes.
#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Only snapshots with this database
    #[arg(long, short = 'D', value_name = "NAME")]
    database: Option<String>,

    /// Only the last so many
    #[arg(long, value_name = "N")]
    last: Option<usize>,

    /// The time zone that times are shown in [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

pub(crate) fn run(global: &Global, options: &ListOptions) -> Done {
    let zone = zone(options.time_zone.as_deref())?;
    let repository = access::repository(global)?;
    let snapshots = repository.snapshots()?;
    let wanted = |snapshot: &&Snapshot| {
        let is_meant = |name: &String| snapshot.databases.iter().any(|found| found.name == *name);
        options.database.as_ref().is_none_or(is_meant)
    };
    let mut found: Vec<&Snapshot> = snapshots.listed().filter(wanted).collect();
    if let Some(last) = options.last {
        found.drain(..found.len().saturating_sub(last));
    }
    let objects: Vec<Value> = found
        .iter()
        .map(|snapshot| output::snapshot(snapshot, snapshots.is_pinned(&snapshot.id)))
        .collect();
    let object = json!({"result": "done", "repository": repository.id(), "snapshots": objects});
    let heads = [
        "ID",
        "TIME",
        "DATABASES",
        "KIND",
        "SIZE",
        "ROWS",
        "HOST",
        "LABELS",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for snapshot in &found {
        let time = snapshot.time().map(|time| time.to_zoned(zone.clone()));
        let mut labels: Vec<String> = snapshot
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if snapshots.is_pinned(&snapshot.id) {
            labels.insert(0, "pinned".to_owned());
        }
        rows.push(vec![
            snapshot.id.short().to_owned(),
            time.map_or_else(String::new, |time| {
                time.strftime("%Y-%m-%d %H:%M:%S").to_string()
            }),
            snapshot.database_names(),
            output::kind(snapshot).to_owned(),
            output::size(snapshot.link.bytes),
            snapshot.rows().to_string(),
            snapshot.host.clone(),
            labels.join(" "),
        ]);
    }
    let text = match found.is_empty() {
        true => format!("{} has no snapshots\n", repository.place()),
        false => output::table(&rows),
    };
    output::print(global.json, &object, &text, Exit::Done)
}
