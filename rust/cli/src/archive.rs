//! `incremental_bitmap_tool --restore-archive`: archives of a coordinator, checked and written back.

use crate::{Exit, server::ServerArgs, stdout};
use backup::{
    archive::{self, Key},
    block_rows::BlockRows,
    restore::blocks::{self, BlockRestoreError},
};
use clap::Args;
use std::{error::Error, path::PathBuf};

/// What `--restore-archive` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ArchiveArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// An archive; several times, the oldest first
    #[arg(long, value_name = "FILE", required = true)]
    archive: Vec<PathBuf>,

    /// The key file that the archives were encrypted with [default: backup.key_file]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Write to this database instead of the one that the rows are from
    #[arg(long, value_name = "NAME")]
    database: Option<String>,

    /// Only check the archives and say what they hold; no server is needed
    #[arg(long)]
    check: bool,
}

impl ArchiveArgs {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Result<(), String> {
        let config = self.server.config([]).map_err(|error| error.to_string())?;
        match self.check || config.settings.source.host.is_some() {
            true => Ok(()),
            false => Err("where to? Give --host, or --check to write nothing".to_owned()),
        }
    }
}

#[derive(Default)]
struct Done {
    blocks: u64,
    rows: u64,
    /// Blocks of tables that were dropped before they were exported.
    gone: u64,
}

/// Checks every archive, then writes their blocks back in order.
pub fn run(args: &ArchiveArgs) -> Result<Exit, Box<dyn Error>> {
    let settings = args.server.config([])?.settings;
    let key = match args.key_file.as_ref().or(settings.backup.key_file.as_ref()) {
        Some(path) => Some(Key::load(path)?),
        None => None,
    };
    let mut found = 0;
    for path in &args.archive {
        found += archive::verify(path, key.as_ref())?;
    }
    let connection = match args.check {
        true => None,
        false => Some(args.server.connect(&settings)?.1),
    };
    let mut done = Done::default();
    for path in &args.archive {
        let mut failed = None;
        archive::read(path, key.as_ref(), &mut |archived| {
            if failed.is_some() {
                return;
            }
            let one = || -> Result<Option<u64>, BlockRestoreError> {
                let rows = BlockRows::decode(&archived.data).map_err(|source| {
                    BlockRestoreError::NotRows {
                        block: archived.block,
                        source,
                    }
                })?;
                match &connection {
                    Some(connection) => blocks::write(connection, args.database.as_deref(), &rows),
                    None => Ok(rows.table.map(|_| rows.rows.len() as u64)),
                }
            };
            match one() {
                Ok(Some(rows)) => {
                    done.blocks += 1;
                    done.rows += rows;
                }
                Ok(None) => done.gone += 1,
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(format!("{}: {error}", path.display()).into());
        }
    }
    let verb = match args.check {
        true => "hold",
        false => "gave back",
    };
    let mut text = format!(
        "{} archives with {found} blocks {verb} {} rows in {} windows of tables\n",
        args.archive.len(),
        done.rows,
        done.blocks
    );
    if done.gone > 0 {
        text.push_str(&format!(
            "{} blocks are of tables that were dropped before they were exported\n",
            done.gone
        ));
    }
    stdout::print(text.as_bytes(), true)?;
    Ok(Exit::Done)
}
