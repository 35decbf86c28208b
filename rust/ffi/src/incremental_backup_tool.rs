//! `incremental_backup_tool.h`: whole backups, from C to `host::session`.
//!
//! # Safety
//! Every function trusts its caller in what the header asks for: a handle is NULL or live, a pointer is NULL or
//! points to as much as the header says.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, boundary, coded, lent},
    codes::Code,
    failure::{self, Failure},
    header::SIncrementalBackupConfig,
    settings::{environment, must_be_plain, retry, server},
    texts::text,
};
use config::{Program, Settings};
use host::session::Session;
use ops::detect::StartAt;
use parking_lot::Mutex;
use rows::avro::Compression;
use std::{
    ffi::c_char,
    path::{Path, PathBuf},
    ptr,
    sync::atomic::AtomicU32,
    time::Instant,
};

pub use crate::header::SIncrementalBackupTool;

/// What a `SIncrementalBackupTool *` points to.
struct Tool {
    host: String,
    port: u16,
    database: String,
    backup_path: PathBuf,
    cache: PathBuf,
    first: i64,
    threads: usize,
    compression: Compression,
    /// `Some` between start and stop; held during a backup.
    session: Mutex<Option<Session>>,
    stats: Mutex<Stats>,
}

#[derive(Default, Clone, Copy)]
struct Stats {
    total: u64,
    processed: u64,
    failed: u64,
}

/// # Safety
/// `tool` is NULL or a live handle.
unsafe fn tool_of<'a>(tool: *const SIncrementalBackupTool) -> Result<&'a Tool, Failure> {
    // SAFETY: handles are made of `Tool`, and the caller promises that this one is live.
    unsafe { lent(tool.cast::<Tool>()) }.map_err(|_| Failure::param("tool is NULL"))
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// The most tables that are read at a time.
const MOST_THREADS: u32 = 1_024;

/// # Safety
/// `config` is NULL or points to a configuration whose strings are NULL or end with a NUL.
unsafe fn create(config: *const SIncrementalBackupConfig) -> Result<Tool, Failure> {
    if config.is_null() {
        return Err(Failure::param("config is NULL"));
    }
    // SAFETY: not NULL, and the caller promises the rest. C may have left any byte in the bools.
    let (c, compression, encryption) = unsafe {
        (
            &raw const *config,
            (&raw const (*config).enable_compression)
                .cast::<u8>()
                .read()
                != 0,
            (&raw const (*config).enable_encryption).cast::<u8>().read() != 0,
        )
    };
    // SAFETY: as above.
    let (port, since, batch) = unsafe { ((*c).source_port, (*c).since_timestamp, (*c).batch_size) };
    let port = u16::try_from(port).map_err(|_| {
        Failure::param(format_args!("source_port is {port}; allowed is 0 to 65535"))
    })?;
    if since < 0 {
        return Err(Failure::param(format_args!(
            "since_timestamp is {since}; allowed are ns since 1970, and 0 for the very beginning"
        )));
    }
    if batch > MOST_THREADS {
        return Err(Failure::param(format_args!(
            "batch_size is {batch}; allowed is 0 to {MOST_THREADS}"
        )));
    }
    if encryption {
        return Err(Failure::param(
            "enable_encryption is true, which is not offered here",
        ));
    }
    // SAFETY: as above.
    unsafe {
        Ok(Tool {
            host: text((*c).source_host, "source_host")?.to_owned(),
            port,
            database: text((*c).database, "database")?.to_owned(),
            backup_path: text((*c).backup_path, "backup_path")?.into(),
            cache: text((*c).bitmap_cache_path, "bitmap_cache_path")?.into(),
            first: since,
            threads: match batch {
                0 => processors(),
                batch => batch as usize,
            },
            compression: match compression {
                true => Compression::default(),
                false => Compression::Null,
            },
            session: Mutex::default(),
            stats: Mutex::default(),
        })
    }
}

impl Tool {
    /// The settings: the environment's, and over them those of the configuration.
    fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = environment(Program::Backups)?;
        settings.source.host = Some(self.host.clone());
        settings.source.port = self.port.into();
        settings.source.database = Some(self.database.clone());
        settings.backup.backup_path = Some(self.backup_path.clone());
        // Seconds, rounded down: earlier is never a loss.
        settings.source.since = (self.first > 0).then(|| (self.first / 1_000_000_000).to_string());
        Ok(settings)
    }

    fn start(&self) -> Result<(), Failure> {
        let mut session = self.session.lock();
        if session.is_some() {
            return Ok(());
        }
        let settings = self.settings()?;
        must_be_plain(&settings)?;
        let (library, login) = server(&settings)?;
        let connection = library
            .connect(&login)
            .map_err(|error| Failure::new(Code::SERVER, error))?;
        ops::detect::check_data_dirs(&connection, &settings.source.data_dirs)
            .map_err(|error| Failure::new(Code::SERVER, error))?;
        *session = Some(Session {
            server: Some((library, login)),
            data_dirs: settings.source.data_dirs.clone(),
            threads: self.threads,
            batch: settings.backup.batch_size as usize,
            compression: self.compression,
            retry: retry(&settings),
            retried: AtomicU32::new(0),
        });
        Ok(())
    }

    fn backup(&self, since: i64) -> Result<(), Failure> {
        if since < 0 {
            return Err(Failure::param(format_args!(
                "since_timestamp is {since}; allowed are ns since 1970, and 0"
            )));
        }
        let session = self.session.lock();
        let session = session.as_ref().ok_or_else(|| {
            Failure::new(Code::NOT_STARTED, "incremental_backup_tool_start first")
        })?;
        let time = |ns: i64| StartAt::Time(ns / 1_000);
        let first = match self.first {
            0 => StartAt::Version(model::Version::BEGINNING),
            ns => time(ns),
        };
        let began = Instant::now();
        let done = session.backup(
            &self.database,
            (since > 0).then(|| time(since)),
            first,
            &self.cache,
            &self.backup_path,
            &(),
        )?;
        let mut stats = self.stats.lock();
        stats.total += done.blocks;
        stats.failed += done.failed;
        stats.processed += done.blocks.saturating_sub(done.failed);
        if done.failed == 0 {
            metrics::global().backup_done(began.elapsed(), done.bytes);
            tracing::info!("{} is backed up in {}", self.database, done.run.display());
        }
        if done.failed > 0 || !done.exact {
            return Err(Failure::new(Code::BACKUP_INCOMPLETE, done.notes.join("; ")));
        }
        Ok(())
    }

    fn script(&self, path: &Path) -> Result<(), Failure> {
        let settings = self.settings()?;
        must_be_plain(&settings)?;
        let tool = "incremental_bitmap_tool".to_owned();
        ops::script::Script::of(&settings, tool, "taosdump".to_owned())
            .map_err(Failure::param)?
            .save(path)
            .map_err(|error| Failure::new(Code::IO, error))
    }
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_create(
    config: *const SIncrementalBackupConfig,
) -> *mut SIncrementalBackupTool {
    boundary(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let tool = failure::remember(unsafe { create(config) });
        tool.map_or(ptr::null_mut(), |tool| Box::into_raw(Box::new(tool)).cast())
    })
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_destroy(tool: *mut SIncrementalBackupTool) {
    boundary((), || {
        if !tool.is_null() {
            // SAFETY: made by `create`, and the caller gives it back only once.
            drop(unsafe { Box::from_raw(tool.cast::<Tool>()) });
        }
    });
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_start(tool: *mut SIncrementalBackupTool) -> i32 {
    // SAFETY: the caller's promise.
    coded(|| failure::remember(unsafe { tool_of(tool) }.and_then(Tool::start)))
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_backup(
    tool: *mut SIncrementalBackupTool,
    since_timestamp: i64,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let tool = unsafe { tool_of(tool) };
        failure::remember(tool.and_then(|tool| tool.backup(since_timestamp)))
    })
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_generate_taosdump_script(
    tool: *mut SIncrementalBackupTool,
    script_path: *const c_char,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let tool = unsafe { tool_of(tool) };
        failure::remember(tool.and_then(|tool| {
            // SAFETY: the caller's promise.
            let path = unsafe { text(script_path, "script_path") }?;
            tool.script(Path::new(&path))
        }))
    })
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_get_stats(
    tool: *mut SIncrementalBackupTool,
    total_blocks: *mut u64,
    processed_blocks: *mut u64,
    failed_blocks: *mut u64,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let tool = failure::remember(unsafe { tool_of(tool) })?;
        let stats = *tool.stats.lock();
        for (place, value) in [
            (total_blocks, stats.total),
            (processed_blocks, stats.processed),
            (failed_blocks, stats.failed),
        ] {
            // SAFETY: the caller's promise; NULL is left out.
            if let Ok(place) = unsafe { Place::new(place) } {
                place.store(value);
            }
        }
        Ok(())
    })
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn incremental_backup_tool_stop(tool: *mut SIncrementalBackupTool) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let tool = failure::remember(unsafe { tool_of(tool) })?;
        *tool.session.lock() = None;
        Ok(())
    })
}

/// See `incremental_backup_tool.h`.
#[unsafe(no_mangle)]
pub extern "C" fn incremental_backup_tool_error() -> *const c_char {
    failure::words()
}
