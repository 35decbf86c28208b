//! Settings that are read again while a program runs.
//!
//! A file that can't be used any more changes nothing: the settings stay, and the error says what is wrong. Settings
//! that take effect only at the start keep their old value, and are named.

use crate::{Config, ConfigError, Layers, table::Setting};
use parking_lot::{Mutex, RwLock};
use std::{sync::Arc, time::SystemTime};

/// Settings in use.
#[derive(Debug)]
pub struct Live {
    layers: Layers,
    current: RwLock<Arc<Config>>,
    /// What the file looked like when it was last read.
    seen: Mutex<Option<Stamp>>,
}

/// A file's length and time of change.
type Stamp = (u64, Option<SystemTime>);

/// What reading again changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys of settings that have their new values now.
    pub applied: Vec<&'static str>,
    /// Keys of settings that will have theirs when the program is started again.
    pub at_restart: Vec<&'static str>,
}

impl Live {
    /// Reads settings for the first time.
    pub fn open(layers: Layers) -> Result<Self, ConfigError> {
        let seen = stamp(&layers);
        let current = Config::from(&layers)?;
        Ok(Self {
            layers,
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(seen),
        })
    }

    /// The settings in use.
    pub fn current(&self) -> Arc<Config> {
        let current = self.current.read();
        Arc::clone(&current)
    }

    /// Reads again, if the file has another length or time of change than when it was last read.
    pub fn reload_if_changed(&self) -> Result<Reloaded, ConfigError> {
        let now = stamp(&self.layers);
        let seen = *self.seen.lock();
        match now == seen {
            true => Ok(Reloaded::default()),
            false => self.reload(),
        }
    }

    /// Reads again.
    pub fn reload(&self) -> Result<Reloaded, ConfigError> {
        *self.seen.lock() = stamp(&self.layers);
        let next = Config::from(&self.layers)?;
        let mut current = self.current.write();
        let (live, fixed): (Vec<&Setting>, Vec<&Setting>) = current
            .differences(&next)
            .into_iter()
            .partition(|setting| setting.live);
        let mut merged = (**current).clone();
        merged.take_over(&next, &live);
        *current = Arc::new(merged);
        let keys = |settings: Vec<&Setting>| settings.iter().map(|s| s.key).collect();
        Ok(Reloaded {
            applied: keys(live),
            at_restart: keys(fixed),
        })
    }
}

fn stamp(layers: &Layers) -> Option<Stamp> {
    let metadata = std::fs::metadata(layers.path()?).ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
