//! The storage engine `"tmq"`: documented in `storage_engine_interface.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::lent,
    codes::Code,
    failure::{Failure, explained},
    followed_storage::{self as followed, Engine, Follow, Host, Kind, Table},
    header::{SStorageEngineInterface, STmqStorageConfig},
    plugin,
    settings::refused,
    storage_engine::optional,
};
use config::{Config, Program};
use follow::tmq::{CatchUp, DEFAULT_GROUP, FollowStats, TmqConfig, TmqError, TmqFollower};
use metrics::Source;
use plan::Numbering;
use std::{
    ffi::CStr,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// A subscription.
pub(crate) struct Subscription;

static ENGINE: LazyLock<Engine<Subscription>> = LazyLock::new(Engine::new);

/// The width of windows if nobody says one.
const WINDOW: Duration = Duration::from_secs(3600);

impl Kind for Subscription {
    type Config = TmqConfig;

    const NAME: &'static CStr = c"tmq";
    const NOT_CONFIGURED: &'static str =
        "tmq_storage_configure was not called: it says what to follow";

    fn engine() -> &'static Engine<Self> {
        &ENGINE
    }

    fn start(config: TmqConfig, host: Arc<Host>) -> Result<Box<dyn Follow>, Failure> {
        match TmqFollower::start(config, host) {
            Ok(follower) => Ok(Box::new(follower)),
            Err(error) => {
                let code = match error {
                    TmqError::Position(_) | TmqError::Save(_) | TmqError::Io(_) => Code::IO,
                    TmqError::TopicName { .. } | TmqError::Window(_) => Code::CONFIG,
                    _ => Code::SERVER,
                };
                Err(Failure::new(code, error))
            }
        }
    }

    fn is_supported(config: &TmqConfig) -> Result<(), Failure> {
        let library = match &config.library {
            Some(path) => server::Library::load(path, None),
            None => server::Library::find(None),
        };
        let tmq = library.and_then(|library| library.tmq());
        tmq.map(drop)
            .map_err(|error| Failure::new(Code::NOT_SUPPORTED, error))
    }
}

impl Follow for TmqFollower {
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
        Some(self.numbering())
    }
}

pub(crate) fn table() -> *mut SStorageEngineInterface {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::of::<Subscription>);
    TABLE.0
}

pub(crate) unsafe extern "C" fn factory() -> *mut SStorageEngineInterface {
    table()
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tmq_storage_configure(config: *const STmqStorageConfig) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let config = unsafe { lent(config) }?;
        // SAFETY: the caller's promise.
        let (layers, position) = unsafe {
            (
                plugin::layers(config.config)?,
                optional(config.position_path, "position_path")?,
            )
        };
        let all = Config::from(&layers).map_err(refused)?;
        logging::begin(&all, Program::Library);
        let settings = all.settings;
        let missing = || {
            let text =
                "source.database is not set: name the database to follow, there or in TD_DATABASE";
            Failure::new(Code::CONFIG, text)
        };
        let window = match config.window_seconds {
            0 => WINDOW,
            seconds => Duration::from_secs(seconds.into()),
        };
        let login = server::login(&settings);
        let (source, tmq, backup) = (settings.source, settings.tmq, settings.backup);
        followed::configure::<Subscription>(TmqConfig {
            library: None,
            login,
            database: source.database.ok_or_else(missing)?,
            topic: tmq.topic,
            group: tmq.group_id.unwrap_or_else(|| DEFAULT_GROUP.to_owned()),
            connect_timeout_key: tmq.connect_timeout_key,
            request_timeout_key: tmq.request_timeout_key,
            timeout: Duration::from_millis(backup.timeout_ms.into()),
            retries: backup.retry_count,
            retry_interval: Duration::from_millis(backup.retry_interval_ms.into()),
            position: position.map(Into::into),
            window,
        });
        Ok(())
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn tmq_storage_catch_up(timeout_ms: u32) -> i32 {
    explained(|| followed::catch_up::<Subscription>(timeout_ms))
}
