//! `taosbackup`: arguments in, calls into `repository` and `ops`, text or JSON and exit codes out.
//!
//! | module | holds |
//! |---|---|
//! | `arguments` | the command line |
//! | `access` | the repository that is meant, and what opens it |
//! | `failure` | why a command failed, and the exit code for it |
//! | `output` | what is printed |
//! | `commands` | one file a command |

mod access;
mod arguments;
mod commands;
mod failure;
mod output;

use arguments::{Arguments, Command};
use clap::Parser as _;
use failure::Failure;
use std::{ffi::OsString, io::Write as _};
use terminal::Exit;

/// Does what a command line says.
pub fn run(line: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(line) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage,
                false => Exit::Done,
            };
        }
    };
    let json = arguments.global.json;
    let done = match &arguments.command {
        Command::Init(options) => commands::init::run(&arguments.global, options),
        Command::Import(options) => commands::import::run(&arguments.global, options),
        Command::List(options) => commands::list::run(&arguments.global, options),
        Command::Show(options) => commands::show::run(&arguments.global, options),
        Command::Verify(options) => commands::verify::run(&arguments.global, options),
        Command::Restore(options) => commands::restore::run(&arguments.global, options),
        Command::Forget(options) => commands::forget::run(&arguments.global, options),
        Command::Prune(options) => commands::prune::run(&arguments.global, options),
        Command::Copy(options) => commands::copy::run(&arguments.global, options),
        Command::Key(options) => commands::key::run(&arguments.global, options),
        Command::Stats => commands::stats::run(&arguments.global),
        Command::Completion(options) => commands::manuals::completion(options),
        Command::Man(options) => commands::manuals::man(options),
    };
    match done {
        Ok(exit) => exit,
        Err(failure) => {
            failure.print(json);
            failure.exit()
        }
    }
}

/// The result of a command.
type Done = Result<Exit, Failure>;

/// Flushes what was printed; a reader that went away is no failure.
fn flush() {
    let _ = std::io::stdout().flush();
}
