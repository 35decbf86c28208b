//! The repository that is meant, and what opens it.

use crate::{
    Failure,
    arguments::{Global, SecretOptions},
};
use repository::repo::{Repository, keys::Secret};
use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use store::{Access, Limited, Store};

/// No secret is longer.
const LONGEST: u64 = 1 << 16;

/// The place that is meant.
pub(crate) fn place(global: &Global, url: &str) -> Result<Arc<dyn Store>, Failure> {
    let access = Access {
        endpoint: global.s3_endpoint.clone(),
        region: global.s3_region.clone(),
        allow_http: global.allow_http,
        ..Access::default()
    };
    let store = store::open(url, &access)?;
    Ok(match global.limit_upload {
        Some(rate) => Arc::new(Limited::new(store, rate)),
        None => store,
    })
}

/// The repository's place.
pub(crate) fn repo_place(global: &Global) -> Result<Arc<dyn Store>, Failure> {
    match &global.repo {
        Some(url) => place(global, url),
        None => Err(Failure::usage(
            "no repository is given; give --repo URL, or set TAOSBACKUP_REPO",
        )),
    }
}

/// The repository, opened.
pub(crate) fn repository(global: &Global) -> Result<Repository, Failure> {
    let secret = secret(&global.secret)?;
    Ok(Repository::open(repo_place(global)?, secret.as_ref())?)
}

/// What opens the repository, if anything is given.
pub(crate) fn secret(options: &SecretOptions) -> Result<Option<Secret>, Failure> {
    let given = [
        options.passphrase_file.is_some(),
        options.identity.is_some(),
        options.key_command.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(Failure::usage(
            "several keys are given; give one of --passphrase-file, --identity and --key-command",
        ));
    }
    if let Some(path) = &options.passphrase_file {
        return passphrase(path).map(Some);
    }
    if let Some(path) = &options.identity {
        let secret = Secret::identities(&file(path)?);
        return secret.map(Some).map_err(|error| of_file(path, &error));
    }
    match &options.key_command {
        Some(command) => {
            let secret = Secret::of_text(&printed(command)?);
            secret.map(Some).map_err(|error| {
                Failure::new(format!("what --key-command printed can't be used: {error}"))
            })
        }
        None => Ok(None),
    }
}

/// A passphrase in a file.
pub(crate) fn passphrase(path: &Path) -> Result<Secret, Failure> {
    Secret::passphrase(&file(path)?).map_err(|error| of_file(path, &error))
}

fn of_file(path: &Path, problem: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {problem}", path.display()))
}

/// A file with a secret, which nobody but its owner may read.
fn file(path: &Path) -> Result<String, Failure> {
    let failed = |problem: &dyn std::fmt::Display| of_file(path, problem);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    let mode = metadata.permissions().mode();
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(failed(&format!(
            "its mode is {:o}, so others may read the secret; chmod 600 it",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(|_| failed(&"it can't be read as UTF-8 text"))?;
    Ok(text)
}

/// What a command of the shell prints.
fn printed(command: &str) -> Result<String, Failure> {
    let failed = |problem: &dyn std::fmt::Display| {
        Failure::new(format!(
            "--key-command: {problem}; run it by hand to see what is wrong"
        ))
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut text = String::new();
    let read = match child.stdout.take() {
        Some(output) => output.take(LONGEST).read_to_string(&mut text),
        None => Ok(0),
    };
    let status = child.wait().map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(failed(&format!("it ended with {status}")));
    }
    read.map_err(|_| failed(&"what it printed is no UTF-8 text"))?;
    Ok(text)
}
