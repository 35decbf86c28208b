//! The storage engine `"tdengine"`: documented in `storage_engine_interface.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::lent,
    codes::Code,
    failure::{Failure, explained},
    followed_storage::{self as followed, Engine, Follow, Host, Kind, Table},
    header::{SStorageEngineInterface, STdengineStorageConfig},
    storage_engine::{optional, text},
};
use capture::DataDirs;
use follow::files::{CatchUp, FollowConfig, FollowStats, Follower};
use metrics::Source;
use plan::Numbering;
use std::{
    ffi::CStr,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// A server's files.
pub(crate) struct Files;

static ENGINE: LazyLock<Engine<Files>> = LazyLock::new(Engine::new);

impl Kind for Files {
    type Config = FollowConfig;

    const NAME: &'static CStr = c"tdengine";
    const NOT_CONFIGURED: &'static str =
        "tdengine_storage_configure was not called: it says what to follow";

    fn engine() -> &'static Engine<Self> {
        &ENGINE
    }

    fn start(config: FollowConfig, host: Arc<Host>) -> Result<Box<dyn Follow>, Failure> {
        match Follower::start(config, host) {
            Ok(follower) => Ok(Box::new(follower)),
            Err(error) => Err(Failure::new(Code::IO, error)),
        }
    }

    fn is_supported(config: &FollowConfig) -> Result<(), Failure> {
        let vnodes = DataDirs::new(config.data_dirs.clone()).and_then(|dirs| dirs.vnodes());
        let vnodes = vnodes.map_err(|error| Failure::new(Code::NOT_SUPPORTED, error))?;
        if vnodes.is_empty() {
            let text = format!(
                "there is no vnode in {:?}: give every dataDir of the server, once it has a database",
                config.data_dirs
            );
            return Err(Failure::new(Code::NOT_SUPPORTED, text));
        }
        Ok(())
    }
}

impl Follow for Follower {
    fn ask(&self) -> CatchUp {
        self.ask()
    }

    fn stats(&self) -> FollowStats {
        self.stats()
    }

    fn gauges(&self) -> Arc<dyn Source> {
        self.gauges()
    }

    fn numbering(&self) -> Option<Numbering> {
        self.position().map(Numbering::from)
    }
}

pub(crate) fn table() -> *mut SStorageEngineInterface {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::of::<Files>);
    TABLE.0
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tdengine_storage_configure(config: *const STdengineStorageConfig) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let config = unsafe { lent(config) }?;
        // SAFETY: the caller's promise.
        let data_dirs = unsafe { text(config.data_dirs, "data_dirs") }?;
        let from_environment = || {
            std::env::var("TD_DATABASE")
                .ok()
                .filter(|name| !name.is_empty())
        };
        let poll_ms = match config.poll_interval_ms {
            0 => 1000,
            given => given,
        };
        // SAFETY: the caller's promise.
        let (database, position) = unsafe {
            (
                optional(config.database, "database")?,
                optional(config.position_path, "position_path")?,
            )
        };
        followed::configure::<Files>(FollowConfig {
            data_dirs: data_dirs.split(':').map(Into::into).collect(),
            database: database.map(str::to_owned).or_else(from_environment),
            position: position.map(Into::into),
            poll: Duration::from_millis(poll_ms.into()),
        });
        Ok(())
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn tdengine_storage_catch_up(timeout_ms: u32) -> i32 {
    explained(|| followed::catch_up::<Files>(timeout_ms))
}
