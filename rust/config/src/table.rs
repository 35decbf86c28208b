//! The list of all settings. Parsing, printing, the environment and the documentation follow from this table.

use crate::settings::Settings;
use std::{ops::RangeInclusive, path::PathBuf};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.name` in JSON.
    pub key: &'static str,
    /// Its name in taosX' table of a TOML file.
    pub taosx: Option<&'static str>,
    /// Environment variables; the first one that is set counts.
    pub env: &'static [&'static str],
    /// Whether a change takes effect in a running program.
    pub live: bool,
    /// Whether it may stand in a file. A password may not.
    pub in_file: bool,
    /// Type, range and place.
    pub field: Field,
    /// What it is for.
    pub about: &'static str,
}

/// A setting's type and range, and where it is kept.
#[derive(Debug)]
#[expect(missing_docs, reason = "they are types")]
pub enum Field {
    Flag(fn(&mut Settings) -> &mut bool),
    Number(RangeInclusive<u32>, fn(&mut Settings) -> &mut u32),
    /// One of these words.
    Word(&'static [&'static str], fn(&mut Settings) -> &mut String),
    /// Text of at least one character.
    Name(fn(&mut Settings) -> &mut String),
    Text(fn(&mut Settings) -> &mut Option<String>),
    Path(fn(&mut Settings) -> &mut Option<PathBuf>),
    Paths(fn(&mut Settings) -> &mut Vec<PathBuf>),
}

impl Field {
    /// What its value may be, in words.
    pub fn allowed(&self) -> String {
        match self {
            Self::Flag(_) => "true or false".to_owned(),
            Self::Number(range, _) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Self::Word(words, _) => words
                .iter()
                .map(|word| format!("{word:?}"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Name(_) | Self::Text(_) => {
                "a text of 1 to 4096 bytes without control characters".to_owned()
            }
            Self::Path(_) => "a path of 1 to 4096 bytes without control characters".to_owned(),
            Self::Paths(_) => "a list of paths".to_owned(),
        }
    }
}

const fn setting(key: &'static str, field: Field, about: &'static str) -> Setting {
    Setting {
        key,
        taosx: None,
        env: &[],
        live: false,
        in_file: true,
        field,
        about,
    }
}

impl Setting {
    const fn taosx(self, name: &'static str) -> Self {
        Self {
            taosx: Some(name),
            ..self
        }
    }

    const fn env(self, env: &'static [&'static str]) -> Self {
        Self { env, ..self }
    }

    const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    const fn secret(self) -> Self {
        Self {
            in_file: false,
            ..self
        }
    }
}

/// The range of a share.
const PERCENT: RangeInclusive<u32> = 1..=100;

/// Every setting, in the order in which they are printed.
pub static TABLE: &[Setting] = &[
    setting(
        "plugin.name",
        Field::Name(|s| &mut s.plugin.name),
        "The name that the plugin reports",
    ),
    setting(
        "plugin.version",
        Field::Text(|s| &mut s.plugin.version),
        "The version that the configuration was written for; another one is said in the log",
    ),
    setting(
        "plugin.library_path",
        Field::Path(|s| &mut s.plugin.library_path),
        "The shared library that taosdump uses instead of the engine that is linked in",
    )
    .env(&["TDENGINE_PLUGIN_PATH"]),
    setting(
        "bitmap_engine.type",
        Field::Word(&["roaring"], |s| &mut s.bitmap_engine.engine),
        "It is checked and has no other effect: there is one kind of engine",
    ),
    setting(
        "bitmap_engine.memory_limit_mb",
        Field::Number(1..=1_048_576, |s| &mut s.bitmap_engine.memory_limit_mb),
        "The most memory for blocks' states, in MB of 2^20 bytes",
    )
    .taosx("memory_limit_mb"),
    setting(
        "bitmap_engine.persistence_enabled",
        Field::Flag(|s| &mut s.bitmap_engine.persistence_enabled),
        "Whether states are kept in persistence_path, if that is given",
    )
    .taosx("enable_persistence"),
    setting(
        "bitmap_engine.persistence_path",
        Field::Path(|s| &mut s.bitmap_engine.persistence_path),
        "The directory that states are kept in; without it they are in memory only",
    )
    .taosx("persist_path"),
    setting(
        "bitmap_engine.max_blocks",
        Field::Number(0..=u32::MAX, |s| &mut s.bitmap_engine.max_blocks),
        "The most blocks to hold; 0: as many as the memory limit allows",
    )
    .taosx("max_blocks"),
    setting(
        "bitmap_engine.memory_monitor",
        Field::Flag(|s| &mut s.bitmap_engine.memory_monitor),
        "Whether memory in use is watched against lru_cleanup_threshold",
    )
    .taosx("enable_memory_monitor"),
    setting(
        "bitmap_engine.lru_cleanup_threshold",
        Field::Number(PERCENT, |s| &mut s.bitmap_engine.lru_cleanup_threshold),
        "The share of the memory limit, in percent, from which on the coldest states go to disk",
    )
    .taosx("lru_cleanup_threshold"),
    setting(
        "event_interceptor.enable",
        Field::Flag(|s| &mut s.event_interceptor.enable),
        "Whether storage events are taken",
    )
    .taosx("enable"),
    setting(
        "event_interceptor.buffer_size",
        Field::Number(1..=16_777_216, |s| &mut s.event_interceptor.buffer_size),
        "How many events wait at most",
    )
    .taosx("event_buffer_size"),
    setting(
        "event_interceptor.callback_threads",
        Field::Number(0..=64, |s| &mut s.event_interceptor.callback_threads),
        "How many threads work events off; 0: twice the processors, 64 at most",
    )
    .taosx("callback_threads")
    .env(&["IB_CALLBACK_THREADS"]),
    setting(
        "backup.batch_size",
        Field::Number(1..=1_000_000, |s| &mut s.backup.batch_size),
        "How many rows are restored at a time",
    )
    .live(),
    setting(
        "backup.compression",
        Field::Flag(|s| &mut s.backup.compression),
        "Whether the rows of exports are compressed (with Avro's codec snappy)",
    ),
    setting(
        "backup.encryption",
        Field::Flag(|s| &mut s.backup.encryption),
        "Whether backups must be encrypted, as archives of a coordinator are; refused where they can't be",
    ),
    setting(
        "backup.key_file",
        Field::Path(|s| &mut s.backup.key_file),
        "The key file of coordinators that were given none: a passphrase on its first line, or an age identity; readable by its owner alone",
    ),
    setting(
        "backup.retry_count",
        Field::Number(0..=1_000, |s| &mut s.backup.retry_count),
        "How often an export or a subscription that failed is tried again",
    )
    .live(),
    setting(
        "backup.retry_interval_ms",
        Field::Number(0..=3_600_000, |s| &mut s.backup.retry_interval_ms),
        "How long to wait before that, in ms",
    )
    .live(),
    setting(
        "backup.timeout_ms",
        Field::Number(1..=86_400_000, |s| &mut s.backup.timeout_ms),
        "After this time no further try of an export begins, in ms; for a subscription, the client library's timeouts, where it has keys for them",
    )
    .live(),
    setting(
        "backup.backup_path",
        Field::Path(|s| &mut s.backup.backup_path),
        "The directory that backups are written to",
    ),
    setting(
        "backup.temp_path",
        Field::Path(|s| &mut s.backup.temp_path),
        "The directory in which estimates are made; without it the system's for temporary files",
    )
    .env(&["TDENGINE_TEMP_PATH"]),
    setting(
        "source.host",
        Field::Text(|s| &mut s.source.host),
        "The server's name or address",
    )
    .env(&["TD_CONNECT_IP"]),
    setting(
        "source.port",
        Field::Number(0..=65_535, |s| &mut s.source.port),
        "The server's port; 0: the client library's default",
    )
    .env(&["TD_CONNECT_PORT"]),
    setting(
        "source.user",
        Field::Text(|s| &mut s.source.user),
        "The user to connect as",
    )
    .env(&["TD_USERNAME"]),
    setting(
        "source.password",
        Field::Text(|s| &mut s.source.password),
        "The user's password",
    )
    .env(&["TD_PASSWORD"])
    .secret(),
    setting(
        "source.database",
        Field::Text(|s| &mut s.source.database),
        "The database to back up",
    )
    .env(&["TD_DATABASE"]),
    setting(
        "source.data_dirs",
        Field::Paths(|s| &mut s.source.data_dirs),
        "Every dataDir of the server; without them the server is asked",
    ),
    setting(
        "source.since",
        Field::Text(|s| &mut s.source.since),
        "Where detection starts: a checkpoint file, epoch seconds, or RFC 3339",
    ),
    setting(
        "tmq.topic",
        Field::Text(|s| &mut s.tmq.topic),
        "The topic to subscribe to, made where it is missing; without it, incremental_bitmap_ and the name of the database",
    )
    .env(&["TD_TOPIC_NAME"]),
    setting(
        "tmq.group_id",
        Field::Text(|s| &mut s.tmq.group_id),
        "The consumer group, which nobody else may use; without it, incremental_bitmap",
    )
    .env(&["TD_GROUP_ID"]),
    setting(
        "tmq.connect_timeout_key",
        Field::Text(|s| &mut s.tmq.connect_timeout_key),
        "The client library's key for the connection timeout; without it known ones are tried",
    )
    .env(&["TMQ_KEY_CONNECT_TIMEOUT"]),
    setting(
        "tmq.request_timeout_key",
        Field::Text(|s| &mut s.tmq.request_timeout_key),
        "The client library's key for the request timeout; without it known ones are tried",
    )
    .env(&["TMQ_KEY_REQUEST_TIMEOUT"]),
    setting(
        "log.level",
        Field::Word(&["error", "warn", "info", "debug", "trace"], |s| {
            &mut s.log.level
        }),
        "What is logged to standard error",
    )
    .env(&["TDENGINE_LOG_LEVEL"])
    .live(),
    setting(
        "log.debug",
        Field::Flag(|s| &mut s.log.debug),
        "Whether details are logged: as level debug, at least",
    )
    .env(&["TDENGINE_DEBUG", "BITMAP_DEBUG", "TAOS_BITMAP_DEBUG"])
    .live(),
];

/// The setting with this key.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == key)
}

/// The setting with this name in taosX' table.
pub fn by_taosx(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.taosx == Some(name))
}
