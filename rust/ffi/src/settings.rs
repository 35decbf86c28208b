//! The settings of this process, where a caller in C leaves something open.

use crate::{codes::Code, failure::Failure};
use config::{Config, Layers, Program, Settings};
use model::Retry;
use server::{Library, Login};
use std::time::Duration;

/// The environment over the file that it names.
pub(crate) fn layers() -> Layers {
    let layers = Layers::default().process_env();
    match config::file::path(None) {
        Some(path) => layers.file(path),
        None => layers,
    }
}

/// What the environment, and the file that it names, say.
pub(crate) fn environment(program: Program) -> Result<Settings, Failure> {
    let config = Config::from(&layers()).map_err(refused)?;
    logging::begin(&config, program);
    Ok(config.settings)
}

/// Settings that can't be used. Not every caller has a way to tell why, so it is logged as well.
pub(crate) fn refused(error: config::ConfigError) -> Failure {
    logging::set_if_unset();
    tracing::error!("{error}");
    Failure::new(Code::CONFIG, error)
}

/// The client library, and how to log in where settings say.
pub(crate) fn server(settings: &Settings) -> Result<(Library, Login), Failure> {
    let library = Library::find(None).map_err(|error| Failure::new(Code::SERVER, error))?;
    Ok((library, server::login(settings)))
}

/// What is done about an export that failed.
pub(crate) fn retry(settings: &Settings) -> Retry {
    let backup = &settings.backup;
    Retry {
        count: backup.retry_count,
        interval: Duration::from_millis(backup.retry_interval_ms.into()),
        timeout: Duration::from_millis(backup.timeout_ms.into()),
    }
}

/// [`Settings::must_be_plain`] with its code.
pub(crate) fn must_be_plain(settings: &Settings) -> Result<(), Failure> {
    settings
        .must_be_plain()
        .map_err(|problem| Failure::new(Code::CONFIG, problem))
}
