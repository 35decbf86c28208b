//! The command line.

use crate::commands::{
    copy::CopyOptions,
    forget::ForgetOptions,
    import::ImportOptions,
    init::InitOptions,
    key::KeyOptions,
    list::ListOptions,
    manuals::{CompletionOptions, ManOptions},
    prune::PruneOptions,
    restore::RestoreOptions,
    show::ShowOptions,
    verify::VerifyOptions,
};
use clap::{Args, Parser, Subcommand};
use std::{num::NonZeroU64, path::PathBuf};

/// Repositories of TDengine backups, in a directory or an object store.
///
/// This is the taosbackup of the incremental backup project, which works with links that taosdump --incremental makes. It is
/// not the program taosBackup that comes with TDengine 3.4.
#[derive(Debug, Parser)]
#[command(name = "taosbackup", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes:\n  0  done\n  1  failed\n  2  wrong usage; nothing was tried\n  3  done, but something is incomplete\n  4  somebody else was first";

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository
    Init(InitOptions),
    /// Take links that taosdump --incremental made into the repository, as snapshots
    Import(ImportOptions),
    /// List snapshots
    List(ListOptions),
    /// Show one snapshot in full, with the chain that it is made of
    Show(ShowOptions),
    /// Check that everything is there as it was written
    Verify(VerifyOptions),
    /// Write a snapshot back to a server
    Restore(RestoreOptions),
    /// Forget snapshots by rules or by id, and pin them
    Forget(ForgetOptions),
    /// Remove what no snapshot needs
    Prune(PruneOptions),
    /// Copy snapshots to another repository, under its own key
    Copy(CopyOptions),
    /// List, add and remove who can read the repository
    Key(KeyOptions),
    /// Show what takes how much space
    Stats,
    /// Print completions for a shell
    Completion(CompletionOptions),
    /// Print the manual page, or write that of each command
    Man(ManOptions),
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The repository: /a/directory, file:///a/directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix
    #[arg(
        long,
        short,
        global = true,
        env = "TAOSBACKUP_REPO",
        value_name = "URL"
    )]
    pub(crate) repo: Option<String>,

    #[command(flatten)]
    pub(crate) secret: SecretOptions,

    /// The address of a store that speaks like S3 [default: Amazon's]
    #[arg(long, global = true, env = "TAOSBACKUP_S3_ENDPOINT", value_name = "URL", help_heading = STORE)]
    pub(crate) s3_endpoint: Option<String>,

    /// The region of an S3 store [default: what AWS_REGION says]
    #[arg(long, global = true, env = "TAOSBACKUP_S3_REGION", value_name = "REGION", help_heading = STORE)]
    pub(crate) s3_region: Option<String>,

    /// Speak to the store without TLS
    #[arg(long, global = true, help_heading = STORE)]
    pub(crate) allow_http: bool,

    /// Send at most so many bytes per second to the store; K, M and G stand for 1024 and so on
    #[arg(long, global = true, env = "TAOSBACKUP_LIMIT_UPLOAD", value_name = "RATE", value_parser = rate, help_heading = STORE)]
    pub(crate) limit_upload: Option<NonZeroU64>,

    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Show no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

const STORE: &str = "Store";
const KEYS: &str = "Keys";

/// What opens an encrypted repository. The secret itself is never on the command line, which everybody can see.
#[derive(Debug, Args, Clone)]
pub(crate) struct SecretOptions {
    /// The passphrase is the first line of this file, which nobody else may read
    #[arg(long, global = true, env = "TAOSBACKUP_PASSPHRASE_FILE", value_name = "FILE", help_heading = KEYS)]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// This file holds age identities, as age-keygen writes them
    #[arg(long, global = true, env = "TAOSBACKUP_IDENTITY", value_name = "FILE", help_heading = KEYS)]
    pub(crate) identity: Option<PathBuf>,

    /// This command of the shell prints the passphrase or the identities
    #[arg(long, global = true, env = "TAOSBACKUP_KEY_COMMAND", value_name = "COMMAND", help_heading = KEYS)]
    pub(crate) key_command: Option<String>,
}

/// A number of bytes per second.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let wrong = || format!("{text:?} is no rate such as 500K or 10M, and more than 0");
    let (digits, shift) = match text.trim_end_matches("/s").char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 30),
        _ => (Some(text.trim_end_matches("/s")), 0),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.and_then(NonZeroU64::new).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(rate("10M").unwrap().get(), 10 << 20);
        assert_eq!(rate("5k/s").unwrap().get(), 5 << 10);
        assert_eq!(rate("123").unwrap().get(), 123);
        for wrong in ["", "0", "M", "10X", "-1", "99999999999999999999G"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
