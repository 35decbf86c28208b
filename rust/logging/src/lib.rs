//! What programs and plugins log: one line an event, on standard error, through `tracing`.
//!
//! Nothing is logged before the first [`set`]. Later ones change what is logged, in a running process too. A shared
//! library has a log of its own: it does not touch that of its host.

use config::{Config, Program, settings::Log};
use std::{io, sync::OnceLock};
use tracing_subscriber::{
    Registry,
    filter::LevelFilter,
    fmt,
    prelude::{__tracing_subscriber_Layer as _, __tracing_subscriber_SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

/// How the level is changed; `None` if a host in the same program logs for itself.
static LEVEL: OnceLock<Option<reload::Handle<LevelFilter, Registry>>> = OnceLock::new();

/// Logs from now on what these settings say.
pub fn set(log: &Log) {
    let level = level(log);
    let handle = LEVEL.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(level);
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false)
            .with_target(false)
            .with_filter(filter);
        let first = tracing_subscriber::registry().with(lines).try_init();
        first.is_ok().then_some(handle)
    });
    if let Some(handle) = handle {
        // It fails only for a subscriber that is gone, and this one stays.
        let _ = handle.modify(|filter| *filter = level);
    }
}

/// Logs as by default if nothing was [`set`] yet: for what goes wrong before settings are known.
pub fn set_if_unset() {
    if LEVEL.get().is_none() {
        set(&Log::default());
    }
}

/// Logs what these settings say, and names the settings of the file that have no effect in `program`, and a version that the file was not written for.
pub fn begin(config: &Config, program: Program) {
    set(&config.settings.log);
    let version = env!("CARGO_PKG_VERSION");
    if let Some(other) = &config.settings.plugin.version
        && other != version
    {
        tracing::warn!("plugin.version is {other}, and this is version {version}");
    }
    let unused = config.unused_by(program);
    if !unused.is_empty() {
        let keys = unused.join(", ");
        tracing::info!("the configuration sets what has no effect in {program}: {keys}");
    }
}

fn level(log: &Log) -> LevelFilter {
    let level = log.level.parse().unwrap_or(LevelFilter::INFO);
    match log.debug {
        true => level.max(LevelFilter::DEBUG),
        false => level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_logs_less() {
        let log = |level: &str, debug| {
            super::level(&Log {
                level: level.to_owned(),
                debug,
            })
        };
        assert_eq!(log("warn", false), LevelFilter::WARN);
        assert_eq!(log("warn", true), LevelFilter::DEBUG);
        assert_eq!(log("trace", true), LevelFilter::TRACE);
        for word in ["error", "warn", "info", "debug", "trace"] {
            assert_eq!(log(word, false).to_string(), word);
        }
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let log = |level: &str| Log {
            level: level.to_owned(),
            debug: false,
        };
        set(&log("warn"));
        assert!(!tracing::enabled!(tracing::Level::INFO));
        set(&log("debug"));
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        set(&log("error"));
        assert!(!tracing::enabled!(tracing::Level::WARN));
    }
}
