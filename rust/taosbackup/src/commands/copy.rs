//! `copy`: snapshots to another repository.

use super::{Shown, zone};
use crate::{
    Done, Failure, access,
    arguments::{Global, SecretOptions},
    output,
};
use clap::Args;
use repository::repo::{Repository, copy, import::Imported};
use serde_json::json;
use std::path::PathBuf;
use terminal::Exit;

/// What `copy` takes.
#[derive(Debug, Args)]
pub(crate) struct CopyOptions {
    /// Snapshots to copy, with all that they are made of [default: all]
    snapshots: Vec<String>,

    /// The repository to copy to
    #[arg(long, value_name = "URL")]
    to: String,

    /// As --passphrase-file, for the repository to copy to
    #[arg(long, value_name = "FILE")]
    to_passphrase_file: Option<PathBuf>,

    /// As --identity, for the repository to copy to
    #[arg(long, value_name = "FILE")]
    to_identity: Option<PathBuf>,

    /// As --key-command, for the repository to copy to
    #[arg(long, value_name = "COMMAND")]
    to_key_command: Option<String>,
}

pub(crate) fn run(global: &Global, options: &CopyOptions) -> Done {
    let to_secret = access::secret(&SecretOptions {
        passphrase_file: options.to_passphrase_file.clone(),
        identity: options.to_identity.clone(),
        key_command: options.to_key_command.clone(),
    })?;
    let from = access::repository(global)?;
    let to = Repository::open(access::place(global, &options.to)?, to_secret.as_ref())?;
    let snapshots = from.snapshots()?;
    let mut chosen = Vec::new();
    match options.snapshots.as_slice() {
        [] => chosen.extend(snapshots.listed()),
        some => {
            for what in some {
                chosen.push(snapshots.find(what, &zone(None)?)?);
            }
        }
    }
    if chosen.is_empty() {
        return Err(Failure::new(format!("{} has no snapshots", from.place())));
    }
    let shown = Shown::new(global);
    let mut new = Vec::new();
    for snapshot in chosen {
        let copied = copy::snapshot(&from, &to, snapshot, &shown);
        shown.finish();
        for imported in copied? {
            if let Imported::New(snapshot) = imported {
                new.push(snapshot);
            }
        }
    }
    let bytes: u64 = new.iter().map(|snapshot| snapshot.link.bytes).sum();
    let objects: Vec<_> = new.iter().map(|one| output::snapshot(one, false)).collect();
    let object = json!({"result": "done", "snapshots": objects, "bytes": bytes});
    let text = format!(
        "copied {} snapshots with {} to {}\n",
        new.len(),
        output::size(bytes),
        to.place()
    );
    output::print(global.json, &object, &text, Exit::Done)
}
