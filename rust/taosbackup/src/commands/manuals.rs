//! `completion` and `man`: what shells and manuals are told, made of the same options that the program reads.

use crate::{Done, Failure, arguments::Arguments};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::PathBuf;
use terminal::{Exit, stdout};

/// What `completion` takes.
#[derive(Debug, Args)]
pub(crate) struct CompletionOptions {
    /// The shell
    shell: Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
pub(crate) struct ManOptions {
    /// Write a page for each command to this directory instead of printing the first one
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn completion(options: &CompletionOptions) -> Done {
    let mut text = Vec::new();
    clap_complete::generate(
        options.shell,
        &mut Arguments::command(),
        "taosbackup",
        &mut text,
    );
    stdout::print(&text, false).map_err(Failure::new)?;
    Ok(Exit::Done)
}

pub(crate) fn man(options: &ManOptions) -> Done {
    match &options.out {
        Some(directory) => {
            let written = clap_mangen::generate_to(Arguments::command(), directory);
            written.map_err(|error| {
                Failure::new(format!(
                    "{}: {error}; give a directory that is there and can be written to",
                    directory.display()
                ))
            })?;
        }
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            rendered.map_err(Failure::new)?;
            stdout::print(&page, false).map_err(Failure::new)?;
        }
    }
    Ok(Exit::Done)
}
