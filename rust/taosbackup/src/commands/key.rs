//! `key`: who can read the repository.

use crate::{Done, Failure, access, arguments::Global, output};
use clap::{Args, Subcommand};
use repository::repo::keys::{KeyKind, Recipient, Secret};
use serde_json::json;
use std::path::PathBuf;
use terminal::Exit;

/// What `key` takes.
#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    #[command(subcommand)]
    what: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// List the keys
    List,
    /// Let one more passphrase or age identity read the repository
    Add(AddOptions),
    /// Remove a key; whoever has a copy of the repository's data and key can read that copy on
    Remove {
        /// The first digits of its id
        id: String,
    },
    /// Put another passphrase in the place of the one that is given by --passphrase-file or --key-command
    ChangePassphrase {
        /// The new one is the first line of this file, which nobody else may read
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AddOptions {
    /// An age recipient, age1…
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Option<String>,

    /// A passphrase: the first line of this file, which nobody else may read
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

fn of_passphrase(secret: &Secret) -> Result<Recipient, Failure> {
    let recipient = secret.recipients().into_iter().next();
    recipient.ok_or_else(|| Failure::new("there is no passphrase in the file"))
}

pub(crate) fn run(global: &Global, options: &KeyOptions) -> Done {
    let repository = access::repository(global)?;
    let (object, text) = match &options.what {
        KeyCommand::List => {
            let keys = repository.keys()?;
            let mut rows = vec![
                ["ID", "KIND", "RECIPIENT", "MADE", ""]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            for key in &keys {
                rows.push(vec![
                    key.id.short().to_owned(),
                    match key.kind {
                        KeyKind::Passphrase => "passphrase".to_owned(),
                        KeyKind::Age => "age".to_owned(),
                    },
                    key.recipient.clone().unwrap_or_default(),
                    key.created.clone(),
                    if key.current {
                        "this one is in use"
                    } else {
                        ""
                    }
                    .to_owned(),
                ]);
            }
            let text = match keys.is_empty() {
                true => format!(
                    "{} is not encrypted, and so has no keys\n",
                    repository.place()
                ),
                false => output::table(&rows),
            };
            (json!({"result": "done", "keys": keys}), text)
        }
        KeyCommand::Add(add) => {
            let recipient = match (&add.recipient, &add.new_passphrase_file) {
                (Some(text), _) => Recipient::age(text).map_err(Failure::usage)?,
                (None, Some(path)) => of_passphrase(&access::passphrase(path)?)?,
                (None, None) => {
                    return Err(Failure::usage("nothing says for whom the key is to be"));
                }
            };
            let id = repository.add_key(&recipient)?;
            let text = format!("key {} was added\n", id.short());
            (json!({"result": "done", "added": id}), text)
        }
        KeyCommand::Remove { id } => {
            let removed = repository.remove_key(id)?;
            let text = format!("key {} was removed\n", removed.id.short());
            (json!({"result": "done", "removed": removed.id}), text)
        }
        KeyCommand::ChangePassphrase {
            new_passphrase_file,
        } => {
            let new = of_passphrase(&access::passphrase(new_passphrase_file)?)?;
            let id = repository.change_passphrase(&new)?;
            let text = format!(
                "the passphrase was changed; its key is {} now\n",
                id.short()
            );
            (json!({"result": "done", "added": id}), text)
        }
    };
    output::print(global.json, &object, &text, Exit::Done)
}
