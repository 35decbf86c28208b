//! `incremental_bitmap_tool --generate-script`.

use crate::server::{ServerArgs, source_flags};
use clap::Args;
use ops::script::Script;
use std::{error::Error, path::PathBuf};
use terminal::{Exit, stdout};

/// What `--generate-script` takes.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ScriptArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The database
    #[arg(long, value_name = "DB")]
    database: Option<String>,

    /// A data directory of the server; repeat it for every tier [default: what the server says]
    #[arg(long = "data-dir", value_name = "DIR")]
    data_dirs: Vec<String>,

    /// Where the first run starts: a checkpoint file, epoch seconds, or RFC 3339
    #[arg(long, value_name = "FILE|TIME")]
    since: Option<String>,

    /// The directory that the script keeps its backups in
    #[arg(long, value_name = "DIR")]
    backup: Option<String>,

    /// The taosdump to run
    #[arg(long, value_name = "FILE", default_value = "taosdump")]
    taosdump: String,

    /// Write the script to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ScriptArgs {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Result<(), String> {
        self.script().map(|_| ())
    }

    fn script(&self) -> Result<Script, String> {
        let mut flags = source_flags(&self.data_dirs, self.database.as_ref(), self.since.as_ref());
        flags.extend(
            self.backup
                .iter()
                .map(|dir| ("backup.backup_path", dir.clone())),
        );
        let config = self
            .server
            .config(flags)
            .map_err(|error| error.to_string())?;
        config.settings.must_be_plain()?;
        let tool =
            std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        let tool = tool.to_string_lossy().into_owned();
        let mut script = Script::of(&config.settings, tool, self.taosdump.clone())?;
        if script.since.is_none() {
            return Err("no start is given (--since, source.since)".to_owned());
        }
        script.config_dir = self.server.config_dir();
        Ok(script)
    }
}

/// Writes the script.
pub fn run(args: &ScriptArgs) -> Result<Exit, Box<dyn Error>> {
    let script = args.script()?;
    match &args.output {
        Some(path) => script.save(path)?,
        None => stdout::print(script.text().as_bytes(), true)?,
    }
    Ok(Exit::Done)
}
