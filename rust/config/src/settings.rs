//! The settings, typed. [`crate::table`] says what each is for.

use std::path::PathBuf;

/// Every setting.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the sections of the file")]
pub struct Settings {
    pub plugin: Plugin,
    pub bitmap_engine: BitmapEngine,
    pub event_interceptor: EventInterceptor,
    pub backup: Backup,
    pub source: Source,
    pub tmq: Tmq,
    pub log: Log,
}

impl Settings {
    /// Refuses a job whose output can't be encrypted, if the settings want backups encrypted: taosdump restores links,
    /// exports and the dumps of scripts as they are.
    ///
    /// # Errors
    /// `backup.encryption` is true; the error says so in words.
    pub fn must_be_plain(&self) -> Result<(), String> {
        match self.backup.encryption {
            true => Err(
                "backup.encryption is true, and exports and dumps can't be encrypted, as taosdump restores them as \
                 they are: write them to an encrypted file system and set it to false, or use the archives of a \
                 coordinator"
                    .to_owned(),
            ),
            false => Ok(()),
        }
    }
}

/// The plugin itself.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "see `table`")]
pub struct Plugin {
    pub name: String,
    pub version: Option<String>,
    pub library_path: Option<PathBuf>,
}

/// The engine that holds the blocks' states.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "see `table`")]
pub struct BitmapEngine {
    pub engine: String,
    pub memory_limit_mb: u32,
    pub persistence_enabled: bool,
    pub persistence_path: Option<PathBuf>,
    pub max_blocks: u32,
    pub memory_monitor: bool,
    pub lru_cleanup_threshold: u32,
}

/// The event interceptor.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "see `table`")]
pub struct EventInterceptor {
    pub enable: bool,
    pub buffer_size: u32,
    /// 0: as many as the machine's processors suggest.
    pub callback_threads: u32,
}

/// Backups.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "see `table`")]
pub struct Backup {
    pub batch_size: u32,
    pub compression: bool,
    pub encryption: bool,
    pub key_file: Option<PathBuf>,
    pub retry_count: u32,
    pub retry_interval_ms: u32,
    pub timeout_ms: u32,
    pub backup_path: Option<PathBuf>,
    pub temp_path: Option<PathBuf>,
}

/// The database to back up.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `table`")]
pub struct Source {
    pub host: Option<String>,
    pub port: u32,
    pub user: Option<String>,
    /// Never in a file, never printed.
    pub password: Option<String>,
    pub database: Option<String>,
    pub data_dirs: Vec<PathBuf>,
    pub since: Option<String>,
}

/// Without the password.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("database", &self.database)
            .field("data_dirs", &self.data_dirs)
            .field("since", &self.since)
            .finish()
    }
}

/// The subscription that changes may be read from.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "see `table`")]
pub struct Tmq {
    pub topic: Option<String>,
    pub group_id: Option<String>,
    pub connect_timeout_key: Option<String>,
    pub request_timeout_key: Option<String>,
}

/// What is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "see `table`")]
pub struct Log {
    pub level: String,
    pub debug: bool,
}

impl Default for Plugin {
    fn default() -> Self {
        Self {
            name: "incremental_bitmap".to_owned(),
            version: None,
            library_path: None,
        }
    }
}

impl Default for BitmapEngine {
    fn default() -> Self {
        Self {
            engine: "roaring".to_owned(),
            memory_limit_mb: 1_024,
            persistence_enabled: true,
            persistence_path: None,
            max_blocks: 0,
            memory_monitor: true,
            lru_cleanup_threshold: 80,
        }
    }
}

impl Default for EventInterceptor {
    fn default() -> Self {
        Self {
            enable: true,
            buffer_size: 10_000,
            callback_threads: 0,
        }
    }
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            batch_size: 1_000,
            compression: true,
            encryption: false,
            key_file: None,
            retry_count: 3,
            retry_interval_ms: 1_000,
            timeout_ms: 60_000,
            backup_path: None,
            temp_path: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            debug: false,
        }
    }
}

impl BitmapEngine {
    /// The directory that state is kept in, if it is kept.
    pub fn state_dir(&self) -> Option<&std::path::Path> {
        self.persistence_path
            .as_deref()
            .filter(|_| self.persistence_enabled)
    }
}
