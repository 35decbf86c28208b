//! `incremental_bitmap_tool`: finds what changed in a TDengine database and checks backups, next to an unpatched
//! taosdump.

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind};
use cli::{Exit, detect::DetectArgs, verify::VerifyArgs};
use std::{
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

/// Incremental backup of a TDengine database next to an unpatched taosdump: finds what changed, and checks backups.
///
/// The options depend on the job: see --detect --help and --verify --help.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = EXIT_CODES)]
#[command(group = ArgGroup::new("job").required(true).args(["detect", "verify"]))]
struct Overview {
    /// List every row range that changed since a start
    #[arg(long)]
    detect: bool,

    /// Check a link or a chain of links, without a server
    #[arg(long)]
    verify: bool,
}

/// Finds what changed in a TDengine database since the last backup, from the server's own files.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = DETECT_HELP)]
struct Detect {
    /// The job: list every row range that changed since the start
    #[arg(long, required = true)]
    detect: bool,

    #[command(flatten)]
    options: DetectArgs,
}

/// Checks a link or a chain of links without a server: every file is there as it was written, can be read by a
/// restore, and the links follow each other.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = VERIFY_HELP)]
struct Verify {
    /// The job: check a link or a chain of links
    #[arg(long, required = true)]
    verify: bool,

    #[command(flatten)]
    options: VerifyArgs,
}

const NAME: &str = "incremental_bitmap_tool";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage: nothing was tried
  3  done, with a result that is wider than the changes, or that lacks something: the output says what";

const DETECT_HELP: &str = "\
Exit codes:
  0  done: every changed row and delete is named exactly
  1  failed: of the files asked for, each is whole or not there
  2  wrong usage: nothing was tried
  3  done, but some ranges are dirty as a whole; the reasons say which and why

Examples:
  incremental_bitmap_tool --detect --data-dir /var/lib/taos --database db --since-version -1 --checkpoint db.ckpt
  incremental_bitmap_tool --detect --data-dir /var/lib/taos --database db --since db.ckpt --output changes.json \\
      --checkpoint db.ckpt.next";

const VERIFY_HELP: &str = "\
Exit codes:
  0  intact: everything is there as it was written
  1  failed: something is missing, damaged or does not belong together, or the report could not be written
  2  wrong usage: nothing was tried
  3  everything is there as it was written, but the dump itself had left something out

Examples:
  incremental_bitmap_tool --verify --backup full --backup inc1 --backup inc2
  incremental_bitmap_tool --verify --backup inc2 --blocks changes.json --report report.json";

/// Whether a word stands in the command line, before a `--`.
fn given(word: &str) -> bool {
    env::args_os()
        .skip(1)
        .take_while(|arg| arg != "--")
        .any(|arg| arg == word)
}

fn main() -> ExitCode {
    let done = match (given("--detect"), given("--verify")) {
        (true, false) => {
            let args = Detect::parse();
            refuse::<Detect>(args.options.check());
            // Every needed file of a vnode is held open at once.
            let _ = rlimit::increase_nofile_limit(u64::MAX);
            cli::detect::run(&args.options)
        }
        (false, true) => {
            let args = Verify::parse();
            refuse::<Verify>(args.options.check());
            cli::verify::run(&args.options)
        }
        _ => {
            // Ends the program unless the command line holds exactly one job.
            Overview::parse();
            Ok(Exit::Usage)
        }
    };
    done.unwrap_or_else(|error: Box<dyn Error>| {
        // If standard error is gone too, the exit code still says it.
        let _ = writeln!(io::stderr(), "{NAME}: {error}");
        Exit::Failed
    })
    .into()
}

/// Ends the program if the values make no sense.
fn refuse<C: CommandFactory>(checked: Result<(), String>) {
    if let Err(problem) = checked {
        C::command()
            .error(ErrorKind::ValueValidation, problem)
            .exit();
    }
}
