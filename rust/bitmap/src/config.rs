//! How an engine is set up.

use crate::error::EngineError;
use std::path::PathBuf;

/// The settings of an engine.
///
/// ```
/// let config = bitmap::EngineConfig::default();
/// assert_eq!((config.max_memory_mb, config.persistence_path), (1024, None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// The most memory the engine may hold, in MB of 2^20 bytes; at least 1.
    pub max_memory_mb: u32,
    /// The directory that state is kept in, created where it is missing; `None` keeps state in memory only.
    pub persistence_path: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_memory_mb: 1024,
            persistence_path: None,
        }
    }
}

impl EngineConfig {
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        check_limit(self.max_memory_mb)?;
        match &self.persistence_path {
            Some(path) if path.as_os_str().is_empty() => Err(EngineError::InvalidConfig {
                what: "persistence_path",
                value: "empty".into(),
                allowed: "name a directory",
            }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn check_limit(megabytes: u32) -> Result<(), EngineError> {
    if megabytes == 0 {
        return Err(EngineError::InvalidConfig {
            what: "max_memory_mb",
            value: "0".into(),
            allowed: "at least 1 MB is needed",
        });
    }
    Ok(())
}
