//! The settings of every program and library here: one typed model, whatever they were written in.
//!
//! A setting comes from a flag, the environment, a file or its default, in this order. Anything that is not understood
//! is refused with its name, its value and what is allowed: an unknown key, a wrong type, a number out of range, a key
//! given twice. No setting is ignored silently: a program names in its log those that it has no use for.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | the typed settings and their defaults |
//! | [`table`] | each setting's key, other names, type, range and meaning; everything else follows from it |
//! | [`file`](mod@file) | JSON files, and the taosX table of TOML files |
//! | `layers` | putting settings together: default, file, environment, flags |
//! | [`live`] | settings that are read again while a program runs |
//! | `program` | which program reads which settings |
//!
//! ```
//! use config::{Config, Layers};
//!
//! let config = Config::from(
//!     &Layers::default()
//!         .text(r#"{"bitmap_engine": {"memory_limit_mb": 64}}"#)
//!         .env([("TD_CONNECT_IP", "db1")])
//!         .flag("backup.batch_size", "10"),
//! )?;
//! assert_eq!(config.settings.bitmap_engine.memory_limit_mb, 64);
//! assert_eq!(config.settings.source.host.as_deref(), Some("db1"));
//! assert_eq!(config.settings.backup.batch_size, 10);
//! assert_eq!(config.settings.backup.retry_count, 3);
//!
//! let wrong = Config::from(&Layers::default().text(r#"{"backup": {"batch_size": 0}}"#));
//! assert_eq!(
//!     wrong.unwrap_err().to_string(),
//!     "configuration: backup.batch_size is 0; allowed is a whole number from 1 to 1000000"
//! );
//! # Ok::<(), config::ConfigError>(())
//! ```

pub mod file;
mod layers;
pub mod live;
mod program;
pub mod settings;
pub mod table;

pub use layers::{Config, Layers, Origin};
pub use live::Live;
pub use program::Program;
pub use settings::Settings;

use std::{io, path::PathBuf};

/// Settings that can't be used. None of them took effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("{path}: {reason}; check the path given with --config or TDENGINE_CONFIG_PATH")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        reason: String,
    },
    /// A file is no JSON or TOML.
    #[error("{place}: {problem}")]
    Syntax {
        /// The file.
        place: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{place}: there is no setting {key} (its value is {value}); allowed {allowed}")]
    Unknown {
        /// The file or variable.
        place: String,
        /// The key, with those it lies in.
        key: String,
        /// Its value.
        value: String,
        /// The keys that exist.
        allowed: String,
    },
    /// A key that stands twice.
    #[error("{place}: {key} is given twice; give it once")]
    Twice {
        /// The file.
        place: String,
        /// The key.
        key: String,
    },
    /// A value of a wrong type or out of range.
    #[error("{place}: {key} is {value}; allowed is {allowed}")]
    Value {
        /// The file or variable.
        place: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Settings that do not go together.
    #[error("{place}: {problem}")]
    Together {
        /// Where the settings come from.
        place: String,
        /// What does not go together, and what to do.
        problem: String,
    },
}

impl ConfigError {
    fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Io {
            path: path.into(),
            reason: error.to_string(),
        }
    }
}
