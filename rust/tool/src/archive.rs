//! `incremental_bitmap_tool --restore-archive`: archives of a coordinator, checked and written back.

use crate::server::ServerArgs;
use clap::Args;
use ops::{
    block_rows::BlockRows,
    restore::blocks::{BlockRestoreError, BlockWriter},
};
use repository::archive::{self, Key};
use std::{
    error::Error,
    path::{Path, PathBuf},
};
use terminal::{Exit, stdout};

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
    /// Rows that the server does not keep any more.
    expired: u64,
}

/// Checks every archive, then writes their blocks back in order.
pub fn run(args: &ArchiveArgs) -> Result<Exit, Box<dyn Error>> {
    let settings = args.server.config([])?.settings;
    let key = match args.key_file.as_ref().or(settings.backup.key_file.as_ref()) {
        Some(path) => Some(Key::load(path)?),
        None => None,
    };
    let mut found = 0;
    let mut done = Done::default();
    for path in &args.archive {
        found += each_block(path, key.as_ref(), |block| {
            match block.table {
                Some(_) => {
                    done.blocks += 1;
                    done.rows += block.count();
                }
                None => done.gone += 1,
            }
            Ok(())
        })?;
    }
    if !args.check {
        let (_, connection) = args.server.connect(&settings)?;
        let mut writer = BlockWriter::new(&connection, args.database.as_deref());
        (done.rows, done.expired) = (0, 0);
        for path in &args.archive {
            each_block(path, key.as_ref(), |block| {
                let written = writer.write(block)?.unwrap_or_default();
                done.rows += written.rows;
                done.expired += written.expired;
                Ok(())
            })?;
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
    if done.expired > 0 {
        text.push_str(&format!(
            "{} rows are older than the server's KEEP, and were left out\n",
            done.expired
        ));
    }
    stdout::print(text.as_bytes(), true)?;
    Ok(match done.expired {
        0 => Exit::Done,
        _ => Exit::Incomplete,
    })
}

/// Calls `then` with each block of an archive until one fails; returns how many there are.
fn each_block(
    path: &Path,
    key: Option<&Key>,
    mut then: impl FnMut(&BlockRows<'_>) -> Result<(), BlockRestoreError>,
) -> Result<u64, Box<dyn Error>> {
    let mut failed = None;
    let mut found = 0;
    archive::read(path, key, &mut |archived| {
        found += 1;
        if failed.is_some() {
            return;
        }
        let rows = BlockRows::decode(&archived.data).map_err(|source| BlockRestoreError::NotRows {
            block: archived.block,
            source,
        });
        failed = rows.and_then(|rows| then(&rows)).err();
    })?;
    match failed {
        Some(error) => Err(format!("{}: {error}", path.display()).into()),
        None => Ok(found),
    }
}
