//! `incremental_bitmap_tool`: finds what changed in a TDengine database, next to an unpatched taosdump.

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind};
use cli::{Exit, detect::DetectArgs};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Finds what changed in a TDengine database since the last backup, from the server's own files.
#[derive(Debug, Parser)]
#[command(name = "incremental_bitmap_tool", version, after_help = EXIT_CODES)]
#[command(group = ArgGroup::new("job").required(true).args(["detect"]))]
struct Args {
    /// List every row range that changed since the start
    #[arg(long)]
    detect: bool,

    #[command(flatten)]
    options: DetectArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done: every changed row and delete is named exactly
  1  failed: of the files asked for, each is whole or not there
  2  wrong usage: nothing was tried
  3  done, but some ranges are dirty as a whole; the reasons say which and why

Examples:
  incremental_bitmap_tool --detect --data-dir /var/lib/taos --database db --since-version -1 --checkpoint db.ckpt
  incremental_bitmap_tool --detect --data-dir /var/lib/taos --database db --since db.ckpt --output changes.json \\
      --checkpoint db.ckpt.next";

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(problem) = args.options.check() {
        Args::command()
            .error(ErrorKind::ValueValidation, problem)
            .exit();
    }
    // Every needed file of a vnode is held open at once.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match cli::detect::run(&args.options) {
        Ok(exit) => exit,
        Err(error) => {
            // If standard error is gone too, the exit code still says it.
            let _ = writeln!(io::stderr(), "incremental_bitmap_tool: {error}");
            Exit::Failed
        }
    }
    .into()
}
