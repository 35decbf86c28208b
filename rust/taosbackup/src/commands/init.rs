//! `init`: makes a repository.

use crate::{Done, Failure, access, arguments::Global, output};
use clap::Args;
use repository::repo::{Repository, keys::Recipient};
use serde_json::json;
use terminal::Exit;

/// What `init` takes.
#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// Encrypt everything, for whoever has the passphrase or the identity that is given, and for the recipients
    #[arg(long)]
    encrypt: bool,

    /// An age recipient (age1…) who can read it, too; repeat it for several
    #[arg(long, value_name = "RECIPIENT", requires = "encrypt")]
    recipient: Vec<String>,
}

pub(crate) fn run(global: &Global, options: &InitOptions) -> Done {
    let secret = access::secret(&global.secret)?;
    let mut recipients: Vec<Recipient> =
        secret.map(|secret| secret.recipients()).unwrap_or_default();
    match (options.encrypt, recipients.is_empty()) {
        (false, false) => {
            return Err(Failure::usage(
                "a key is given, and the repository would not be encrypted; add --encrypt, or leave the key away",
            ));
        }
        (true, true) if options.recipient.is_empty() => {
            return Err(Failure::usage(
                "--encrypt needs to know for whom; give --passphrase-file, --identity, --key-command or --recipient",
            ));
        }
        _ => {}
    }
    for text in &options.recipient {
        recipients.push(Recipient::age(text).map_err(Failure::usage)?);
    }
    let repository = Repository::init(access::repo_place(global)?, &recipients)?;
    let object = json!({
        "result": "done",
        "repository": repository.id(),
        "place": repository.place(),
        "encrypted": repository.is_encrypted(),
        "keys": repository.keys()?,
    });
    let warning = match repository.is_encrypted() {
        true => {
            "it is encrypted: without its passphrase or an identity that it is made for nothing in it can ever be read\n"
        }
        false => "it is not encrypted: whoever can read the place can read the data\n",
    };
    let text = format!(
        "{} is repository {} now\n{warning}",
        repository.place(),
        repository.id().short()
    );
    output::print(global.json, &object, &text, Exit::Done)
}
