//! `incremental_bitmap_tool --print-config`.

use crate::server::ServerArgs;
use clap::Args;
use std::error::Error;
use terminal::{Exit, stdout};

/// What `--print-config` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct PrintConfigArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print a file that gives the same settings instead of a list
    #[arg(long)]
    json: bool,
}

impl PrintConfigArgs {
    /// What is wrong with the settings, if anything.
    pub fn check(&self) -> Result<(), String> {
        let config = self.server.config([]).map_err(|error| error.to_string());
        config.map(|_| ())
    }
}

/// Prints every setting with its value and where it comes from.
pub fn run(args: &PrintConfigArgs) -> Result<Exit, Box<dyn Error>> {
    let config = args.server.config([])?;
    let text = match args.json {
        true => config.to_json(),
        false => config.to_text(),
    };
    stdout::print(text.as_bytes(), true)?;
    Ok(Exit::Done)
}
