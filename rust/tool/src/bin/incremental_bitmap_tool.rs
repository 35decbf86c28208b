//! `incremental_bitmap_tool`: finds what changed in a TDengine database and checks backups, next to an unpatched
//! taosdump.

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind};
use std::{
    env,
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use terminal::Exit;
use tool::{
    archive::ArchiveArgs,
    detect::DetectArgs,
    diff::DiffArgs,
    export::{ExportArgs, RangeArgs},
    script::ScriptArgs,
    settings::PrintConfigArgs,
    verify::VerifyArgs,
};

/// Incremental backup of a TDengine database next to an unpatched taosdump: finds what changed, exports it, and checks
/// backups.
///
/// The options depend on the job: see, for example, --detect --help. With --config and no job, the job is --detect.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = EXIT_CODES)]
#[command(group = ArgGroup::new("job").required(true).args(JOBS))]
struct Overview {
    /// List every row range that changed since a start
    #[arg(long)]
    detect: bool,

    /// Read the rows that a list of blocks names from the server
    #[arg(long)]
    export: bool,

    /// Check a link, a chain of links, an export or a dump, without a server
    #[arg(long)]
    verify: bool,

    /// Show which tables and blocks differ between two links of one chain, without a server and without reading rows
    #[arg(long, value_names = ["LINK", "LINK"], num_args = 0..=2)]
    diff: Option<Vec<PathBuf>>,

    /// Write a shell script that detects, dumps with taosdump and verifies
    #[arg(long)]
    generate_script: bool,

    /// Check archives of a coordinator, and write their rows back
    #[arg(long)]
    restore_archive: bool,

    /// Print the first and last key that a list of blocks names
    #[arg(long)]
    print_range: bool,

    /// Print every setting with its value and where it comes from
    #[arg(long)]
    print_config: bool,
}

const JOBS: [&str; 8] = [
    "detect",
    "export",
    "verify",
    "diff",
    "generate_script",
    "restore_archive",
    "print_range",
    "print_config",
];

/// Finds what changed in a TDengine database since the last backup, from the server's own files.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = DETECT_HELP)]
struct Detect {
    /// The job: list every row range that changed since the start
    #[arg(long)]
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

/// Shows which tables, and which blocks of them, differ between the states that two links of one chain lead to: by the
/// bitmaps of the links after the older one, up to the newer one. The links between are looked for beside the two.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = DIFF_HELP)]
struct Diff {
    #[command(flatten)]
    options: DiffArgs,
}

/// Reads the rows that a list of blocks names from the server, into a directory that a restore can apply to a database
/// which is as the source was when the list begins.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = EXPORT_HELP)]
struct Export {
    /// The job: read the rows of a list of blocks
    #[arg(long, required = true)]
    export: bool,

    #[command(flatten)]
    options: ExportArgs,
}

/// Writes a shell script that detects what changed, dumps it with an unpatched taosdump, and verifies the dump.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = SCRIPT_HELP)]
struct GenerateScript {
    /// The job: write a script
    #[arg(long, required = true)]
    generate_script: bool,

    #[command(flatten)]
    options: ScriptArgs,
}

/// Checks archives that a coordinator wrote, and makes what their blocks' windows hold what it was when they were
/// exported. Tables are not created: they must exist. Nothing is written before every archive was checked.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = ARCHIVE_HELP)]
struct RestoreArchive {
    /// The job: check archives, and write their rows back
    #[arg(long, required = true)]
    restore_archive: bool,

    #[command(flatten)]
    options: ArchiveArgs,
}

/// Prints the first and the last key of everything that a list of blocks names, for taosdump's -S and -E; `-` for one
/// that is open, nothing if there is nothing to copy.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = EXIT_CODES)]
struct PrintRange {
    /// The job: print the range
    #[arg(long, required = true)]
    print_range: bool,

    #[command(flatten)]
    options: RangeArgs,
}

/// Prints every setting with its value and where it comes from.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = EXIT_CODES)]
struct PrintConfig {
    /// The job: print settings
    #[arg(long, required = true)]
    print_config: bool,

    #[command(flatten)]
    options: PrintConfigArgs,
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
  0  done: every changed row and delete is named exactly, and every dropped table
  1  failed: of the files asked for, each is whole or not there
  2  wrong usage: nothing was tried
  3  done, but some ranges are dirty as a whole, or dropped tables may be missing; the reasons say which and why

Examples:
  incremental_bitmap_tool --detect --data-dir /var/lib/taos --database db --since-version -1 --checkpoint db.ckpt
  incremental_bitmap_tool --detect --data-dir /var/lib/taos --database db --since db.ckpt --output changes.json \\
      --checkpoint db.ckpt.next";

const EXPORT_HELP: &str = "\
Exit codes:
  0  done
  1  failed: the directory can't be taken for an export
  2  wrong usage: nothing was tried
  3  done, but some tables could not be read, or the list of blocks is wider than the changes or may lack dropped
     tables; the notes say which

Example:
  incremental_bitmap_tool --export --host db1 --blocks changes.json --output export";

const ARCHIVE_HELP: &str = "\
Exit codes:
  0  done
  1  failed: an archive or the key can't be used, or the server refused; it may be repeated
  2  wrong usage: nothing was tried
  3  done, but rows that are older than the server's KEEP were left out

Example:
  incremental_bitmap_tool --restore-archive --host db1 --key-file key --archive 1.blocks --archive 2.blocks";

const SCRIPT_HELP: &str = "\
Exit codes:
  0  done
  1  the script could not be written
  2  wrong usage: nothing was tried

Example:
  incremental_bitmap_tool --generate-script --host db1 --database db --since 2026-01-31T00:00:00Z \\
      --backup /backup/db --output nightly.sh";

const VERIFY_HELP: &str = "\
Exit codes:
  0  intact: everything is there as it was written
  1  failed: something is missing, damaged or does not belong together, or the report could not be written
  2  wrong usage: nothing was tried
  3  everything is there as it was written, but the dump itself had left something out

Examples:
  incremental_bitmap_tool --verify --backup full --backup inc1 --backup inc2
  incremental_bitmap_tool --verify --backup inc2 --blocks changes.json --report report.json";

const DIFF_HELP: &str = "\
Exit codes:
  0  done: every table and block that differs is named, and no other
  1  failed: a link can't be used, or they are not of one chain
  2  wrong usage: nothing was tried
  3  done, but some tables or blocks may not differ, or are not named one by one: the output says why

Example:
  incremental_bitmap_tool --diff backup/monday backup/friday";

/// Whether an option stands in the command line, before a `--`.
fn given(option: &str) -> bool {
    env::args_os()
        .skip(1)
        .take_while(|arg| arg != "--")
        .filter_map(|arg| arg.into_string().ok())
        .any(|arg| {
            arg == option
                || arg
                    .strip_prefix(option)
                    .is_some_and(|rest| rest.starts_with('='))
        })
}

/// The jobs in the command line. With settings and no job, it is detection.
fn jobs() -> Vec<&'static str> {
    let flag = |job: &&str| given(&format!("--{}", job.replace('_', "-")));
    let jobs: Vec<&str> = JOBS.into_iter().filter(flag).collect();
    match jobs.is_empty() && given("--config") {
        true => vec!["detect"],
        false => jobs,
    }
}

fn main() -> ExitCode {
    let done = match jobs().as_slice() {
        ["detect"] => {
            let args = Detect::parse();
            refuse::<Detect>(args.options.check());
            // Every needed file of a vnode is held open at once.
            let _ = rlimit::increase_nofile_limit(u64::MAX);
            tool::detect::run(&args.options)
        }
        ["export"] => {
            let args = Export::parse();
            refuse::<Export>(args.options.check());
            tool::export::run(&args.options)
        }
        ["verify"] => {
            let args = Verify::parse();
            refuse::<Verify>(args.options.check());
            tool::verify::run(&args.options)
        }
        ["diff"] => {
            let args = Diff::parse();
            refuse::<Diff>(args.options.check());
            tool::diff::run(&args.options)
        }
        ["generate_script"] => {
            let args = GenerateScript::parse();
            refuse::<GenerateScript>(args.options.check());
            tool::script::run(&args.options)
        }
        ["restore_archive"] => {
            let args = RestoreArchive::parse();
            refuse::<RestoreArchive>(args.options.check());
            tool::archive::run(&args.options)
        }
        ["print_range"] => tool::export::print_range(&PrintRange::parse().options),
        ["print_config"] => {
            let args = PrintConfig::parse();
            refuse::<PrintConfig>(args.options.check());
            tool::settings::run(&args.options)
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
