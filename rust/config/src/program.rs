//! Which program reads which settings, so that one file can serve all programs, and each can name the settings that it
//! has no use for.

use crate::{Config, Origin, table::TABLE};
use std::fmt;

/// Who reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `incremental_bitmap_tool`.
    Tool,
    /// `taosdump --incremental`, which has its own options for all the rest.
    Taosdump,
    /// Backups from C: the plugin's table, and `incremental_backup_tool.h`.
    Backups,
    /// The rest of the C API, where its caller leaves something open.
    Library,
    /// The plugin for taosX.
    TaosX,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Tool,
        Self::Taosdump,
        Self::Backups,
        Self::Library,
        Self::TaosX,
    ];

    /// What the documentation calls it.
    pub fn short(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Taosdump => "taosdump",
            Self::Backups => "backups",
            Self::Library => "library",
            Self::TaosX => "taosX",
        }
    }

    /// The settings that it reads: their keys, or a section's name and a dot for all of the section.
    fn reads(self) -> &'static [&'static str] {
        match self {
            Self::Tool => &[
                "backup.compression",
                "backup.encryption",
                "backup.backup_path",
                "backup.key_file",
                "source.",
            ],
            Self::Taosdump => &[
                "plugin.library_path",
                "backup.encryption",
                "source.password",
            ],
            Self::Backups => &[
                "plugin.",
                "bitmap_engine.persistence_enabled",
                "bitmap_engine.persistence_path",
                "backup.batch_size",
                "backup.compression",
                "backup.encryption",
                "backup.retry_count",
                "backup.retry_interval_ms",
                "backup.timeout_ms",
                "backup.temp_path",
                "source.",
            ],
            Self::Library => &[
                "bitmap_engine.type",
                "bitmap_engine.memory_limit_mb",
                "bitmap_engine.persistence_enabled",
                "bitmap_engine.persistence_path",
                "event_interceptor.",
                "backup.encryption",
                "backup.key_file",
                "backup.retry_count",
                "backup.retry_interval_ms",
                "backup.timeout_ms",
                "source.host",
                "source.port",
                "source.user",
                "source.password",
                "source.database",
                "tmq.",
            ],
            Self::TaosX => &["bitmap_engine.", "event_interceptor."],
        }
    }

    /// Whether it reads the setting with this key.
    pub fn uses(self, key: &str) -> bool {
        // All of them do.
        let all = ["plugin.version", "log."];
        let mut reads = self.reads().iter().chain(&all);
        reads.any(|read| *read == key || read.ends_with('.') && key.starts_with(read))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tool => "incremental_bitmap_tool",
            Self::Taosdump => "taosdump --incremental",
            Self::Backups => "backups from C",
            Self::Library => "the C API",
            Self::TaosX => "the plugin for taosX",
        })
    }
}

impl Config {
    /// Keys of settings that the file gives and that this program has no use for. The program names them in its log.
    pub fn unused_by(&self, program: Program) -> Vec<&'static str> {
        let keys = TABLE.iter().map(|setting| setting.key);
        keys.filter(|key| self.origin(key) == Origin::File && !program.uses(key))
            .collect()
    }
}
