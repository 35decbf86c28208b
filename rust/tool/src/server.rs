//! Settings of every job, and the connection that they lead to.

use clap::Args;
use config::{Config, ConfigError, Layers, Program, Settings};
use server::{Connection, Library, login};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Once,
};

/// Where settings come from, and where to connect.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ServerArgs {
    /// Settings from this file [default: what TDENGINE_CONFIG_PATH names]
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    config: Option<PathBuf>,

    /// The server's name or address
    #[arg(long, value_name = "HOST", help_heading = SERVER)]
    host: Option<String>,

    /// The server's port [default: the client library's]
    #[arg(long, value_name = "PORT", help_heading = SERVER)]
    port: Option<String>,

    /// The user; the password is taken from the environment, TD_PASSWORD
    #[arg(long, value_name = "USER", help_heading = SERVER)]
    user: Option<String>,

    /// The directory of taos.cfg
    #[arg(long, value_name = "DIR", help_heading = SERVER)]
    config_dir: Option<String>,
}

const SERVER: &str = "Settings and connection";

impl ServerArgs {
    /// The settings from file, environment and these flags, and those that the job has besides.
    pub(crate) fn config(
        &self,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Config, ConfigError> {
        let mut layers = Layers::default().process_env();
        if let Some(path) = config::file::path(self.config.clone()) {
            layers = layers.file(path);
        }
        let own = [
            ("source.host", &self.host),
            ("source.port", &self.port),
            ("source.user", &self.user),
        ];
        for (key, value) in own {
            if let Some(value) = value {
                layers = layers.flag(key, value);
            }
        }
        for (key, value) in more {
            layers = layers.flag(key, value);
        }
        let config = Config::from(&layers)?;
        // Settings are asked for more than once, and said once.
        static BEGUN: Once = Once::new();
        BEGUN.call_once(|| logging::begin(&config, Program::Tool));
        Ok(config)
    }

    /// Connects, as the settings say.
    pub(crate) fn connect(
        &self,
        settings: &Settings,
    ) -> Result<(Library, Connection), Box<dyn Error>> {
        let library = self.library()?;
        let connection = library.connect(&login(settings))?;
        Ok((library, connection))
    }

    pub(crate) fn library(&self) -> Result<Library, Box<dyn Error>> {
        Ok(Library::find(self.config_dir.as_deref().map(Path::new))?)
    }

    /// The directory of taos.cfg, where it was given.
    pub(crate) fn config_dir(&self) -> Option<String> {
        self.config_dir.clone()
    }
}

/// The flags of a job that say what it is about, as settings.
pub(crate) fn source_flags(
    data_dirs: &[String],
    database: Option<&String>,
    since: Option<&String>,
) -> Vec<(&'static str, String)> {
    let data_dirs = data_dirs.iter().map(|dir| ("source.data_dirs", dir));
    let database = database.map(|name| ("source.database", name));
    let since = since.map(|since| ("source.since", since));
    data_dirs
        .chain(database)
        .chain(since)
        .map(|(key, value)| (key, value.clone()))
        .collect()
}
