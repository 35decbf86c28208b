//! `import`: takes links in as snapshots.

use super::Shown;
use crate::{Done, Failure, access, arguments::Global, output};
use clap::Args;
use repository::{
    link::{Link, LinkError, MANIFEST},
    repo::import::{self, Imported, Notes},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{Directory, Store as _};
use terminal::Exit;

/// What `import` takes.
#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// A link, or a directory with the links of a chain; in any order
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,

    /// What the snapshots are called; repeat it for several
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,

    /// The host that is written down with them [default: this one]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label such as reason=upgrade")),
    }
}

/// This machine's name.
fn this_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}

/// The links in a directory: itself, or those directly below it.
fn links(directory: &Path) -> Result<Vec<Link>, Failure> {
    let open = |path: &Path| Link::open(Arc::new(Directory::new(path)));
    match open(directory) {
        Err(LinkError::NotALink { .. }) => {}
        link => return Ok(vec![link?]),
    }
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display()));
    let mut found = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && Directory::new(&path).holds(MANIFEST)? {
            found.push(open(&path)?);
        }
    }
    match found.is_empty() {
        true => Err(Failure::new(format!(
            "{} is no link, and holds none; give what taosdump --incremental -o wrote to, or the directory above it",
            directory.display()
        ))),
        false => Ok(found),
    }
}

/// So that each comes after the one that it follows, where that is given, too.
fn in_order(mut links: Vec<Link>) -> Vec<Link> {
    let mut ordered: Vec<Link> = Vec::new();
    loop {
        let waiting: HashSet<_> = links.iter().map(|link| link.manifest.id.clone()).collect();
        let (ready, rest): (Vec<Link>, Vec<Link>) = links
            .into_iter()
            .partition(|link| link.follows().is_none_or(|base| !waiting.contains(base)));
        if ready.is_empty() {
            ordered.extend(rest);
            return ordered;
        }
        ordered.extend(ready);
        links = rest;
    }
}

pub(crate) fn run(global: &Global, options: &ImportOptions) -> Done {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for directory in &options.directories {
        let links = links(directory)?;
        found.extend(
            links
                .into_iter()
                .filter(|link| seen.insert(link.manifest.id.clone())),
        );
    }
    let repository = access::repository(global)?;
    let notes = Notes {
        host: options.host.clone().unwrap_or_else(this_host),
        labels: options.label.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    let shown = Shown::new(global);
    let mut text = String::new();
    let mut objects = Vec::new();
    let mut exit = Exit::Done;
    for link in in_order(found) {
        let imported = import::link(&repository, &link, &notes, &shown);
        shown.finish();
        let imported = imported?;
        let snapshot = imported.snapshot();
        let is_new = matches!(imported, Imported::New(_));
        if !snapshot.failures.is_empty() {
            exit = Exit::Incomplete;
        }
        text.push_str(&format!(
            "{}: {} snapshot {} of {}, {}, {} rows\n",
            link.place(),
            if is_new {
                output::kind(snapshot)
            } else {
                "known as"
            },
            snapshot.id.short(),
            snapshot.database_names(),
            output::size(snapshot.link.bytes),
            snapshot.rows()
        ));
        if !snapshot.failures.is_empty() {
            text.push_str("  it is INCOMPLETE: show says what could not be backed up\n");
        }
        let mut object = output::snapshot(snapshot, false);
        if let Some(object) = object.as_object_mut() {
            object.insert("new".to_owned(), is_new.into());
            object.insert("source".to_owned(), link.place().into());
        }
        objects.push(object);
    }
    let result = if exit == Exit::Done {
        "done"
    } else {
        "incomplete"
    };
    let object = json!({"result": result, "snapshots": objects});
    output::print(global.json, &object, &text, exit)
}
