//! `plugin_api.h`: the table of functions, from C to `host::session`.
//!
//! # Safety
//! Every function trusts its caller in what the header asks for: a pointer is NULL or points to as much as the header
//! says.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, Places, boundary, coded, lent_array},
    codes::Code,
    failure::{self, Failure},
    header::{BACKUP_PLUGIN_ABI, SBackupPluginInterface, SBackupStats, SIncrementalBlock},
    incremental_backup_tool::processors,
    settings::{self, must_be_plain, refused, retry, server},
    texts::text,
};
use bitmap::BlockId;
use config::{Layers, Live, Program, Settings};
use host::session::{Session, advance, checkpoint_path, there_is};
use ops::detect::StartAt;
use parking_lot::{Mutex, MutexGuard};
use plan::{BlockPlan, Plan, checkpoint::Checkpoint, report::Blocks};
use repository::verify::{self, Verdict};
use rows::avro::Compression;
use std::{
    collections::{BTreeSet, HashSet},
    ffi::{CStr, CString, c_char},
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, atomic::AtomicU32},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use store::Directory;

/// The table that C gets. It never changes: C may only read it, though its type does not say so.
struct Table(SBackupPluginInterface);

// SAFETY: see `Table`; it holds numbers and functions.
unsafe impl Sync for Table {}

static TABLE: Table = Table(SBackupPluginInterface {
    init: Some(init),
    destroy: Some(destroy),
    get_dirty_blocks: Some(backup_plugin_get_dirty_blocks),
    get_incremental_blocks: Some(backup_plugin_get_incremental_blocks),
    estimate_backup_size: Some(backup_plugin_estimate_backup_size),
    get_stats: Some(backup_plugin_get_stats),
    reset_stats: Some(backup_plugin_reset_stats),
    get_plugin_name: Some(name),
    get_plugin_version: Some(version),
    detect_incremental_blocks: Some(detect),
    export_blocks: Some(export),
    restore_blocks: Some(restore),
    abi_version: BACKUP_PLUGIN_ABI,
    size: size_of::<SBackupPluginInterface>() as u32,
    free_blocks: Some(free_blocks),
    error: Some(error),
    taosdump: Some(taosdump),
});

/// See `plugin_api.h`.
#[unsafe(no_mangle)]
pub extern "C" fn backup_plugin_get_interface() -> *mut SBackupPluginInterface {
    (&raw const TABLE.0).cast_mut()
}

/// The plugin between init and destroy.
struct Plugin {
    live: Live,
    stats: SBackupStats,
    found: Option<Found>,
}

/// What the last detection found.
struct Found {
    blocks: Blocks,
    /// Indexes of `blocks.plan.blocks`, ascending by version.
    by_version: Vec<usize>,
    at: i64,
    next: Checkpoint,
}

static PLUGIN: Mutex<Option<Plugin>> = Mutex::new(None);

const NO_STATS: SBackupStats = SBackupStats {
    total_blocks: 0,
    processed_blocks: 0,
    failed_blocks: 0,
    total_size: 0,
    start_time: 0,
    end_time: 0,
    retry_count: 0,
};

fn plugin() -> MutexGuard<'static, Option<Plugin>> {
    PLUGIN.lock()
}

/// Does something with the plugin, once it is set up, with its settings as they are now.
fn with<T>(body: impl FnOnce(&mut Plugin) -> Result<T, Failure>) -> Result<T, Failure> {
    match plugin().as_mut() {
        Some(plugin) => {
            plugin.reload();
            body(plugin)
        }
        None => Err(Failure::new(Code::NOT_STARTED, "init was not called")),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// # Safety
/// `config` is NULL or ends with a NUL.
pub(crate) unsafe fn layers(config: *const c_char) -> Result<Layers, Failure> {
    if config.is_null() {
        return Ok(settings::layers());
    }
    // SAFETY: not NULL, and the caller promises the NUL.
    let given = unsafe { CStr::from_ptr(config) }
        .to_str()
        .map_err(|_| Failure::param("config is not UTF-8"))?;
    let layers = Layers::default().process_env();
    Ok(match given.trim_start().starts_with('{') {
        true => layers.text(given),
        false => layers.file(given),
    })
}

const NAME: &CStr = c"incremental_bitmap";

/// What the plugin reports as its name. A lock of its own: a backup holds that of the plugin for long.
fn name_now() -> MutexGuard<'static, &'static CStr> {
    static NOW: Mutex<&CStr> = Mutex::new(NAME);
    NOW.lock()
}

/// A name for C, which may keep it: it is never freed, and each is made only once.
fn kept(name: &str) -> &'static CStr {
    static NAMES: Mutex<BTreeSet<&'static CStr>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock();
    // Settings hold no NUL.
    let name = CString::new(name).unwrap_or_default();
    if let Some(known) = names.get(name.as_c_str()) {
        return known;
    }
    let name: &'static CStr = Box::leak(name.into_boxed_c_str());
    names.insert(name);
    name
}

/// Says if the plugin is another file than its configuration was made for.
fn compare(wanted: &config::settings::Plugin) {
    if let Some(path) = &wanted.library_path
        && let Some(own) = crate::taosdump::own_file()
        && path.canonicalize().ok() != own.canonicalize().ok()
    {
        let (path, own) = (path.display(), own.display());
        tracing::warn!("plugin.library_path is {path}, and the host loaded {own}");
    }
}

unsafe extern "C" fn init(config: *const c_char) -> i32 {
    coded(|| {
        failure::remember((|| {
            // SAFETY: the caller's promise.
            let live = Live::open(unsafe { layers(config) }?).map_err(refused)?;
            let config = live.current();
            logging::begin(&config, Program::Backups);
            must_be_plain(&config.settings)?;
            compare(&config.settings.plugin);
            *name_now() = kept(&config.settings.plugin.name);
            *plugin() = Some(Plugin {
                live,
                stats: NO_STATS,
                found: None,
            });
            Ok(())
        })())
    })
}

unsafe extern "C" fn destroy() {
    boundary((), || {
        *plugin() = None;
        *name_now() = NAME;
    });
}

unsafe extern "C" fn name() -> *const c_char {
    boundary(NAME, || *name_now()).as_ptr()
}

unsafe extern "C" fn version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

unsafe extern "C" fn error() -> *const c_char {
    failure::words()
}

unsafe extern "C" fn taosdump() -> *const crate::header::STaosdumpEngine {
    crate::taosdump_engine()
}

impl Plugin {
    fn settings(&self) -> Settings {
        self.live.current().settings.clone()
    }

    /// Reads a file of settings again that has changed. One that can't be used changes nothing.
    fn reload(&self) {
        match self.live.reload_if_changed() {
            Ok(done) => {
                if !done.applied.is_empty() {
                    logging::set(&self.live.current().settings.log);
                }
                for key in done.applied {
                    tracing::info!("{key} has a new value");
                }
                for key in done.at_restart {
                    tracing::warn!("{key} has a new value, which counts after the next init");
                }
            }
            Err(error) => tracing::error!("the settings stay as they were: {error}"),
        }
    }

    /// A session; with a server if the settings name one.
    fn session(&self) -> Result<Session, Failure> {
        let settings = &self.settings();
        let server = match settings.source.host {
            Some(_) => Some(server(settings)?),
            None => None,
        };
        Ok(Session {
            server,
            data_dirs: settings.source.data_dirs.clone(),
            threads: processors(),
            batch: settings.backup.batch_size as usize,
            compression: match settings.backup.compression {
                true => Compression::default(),
                false => Compression::Null,
            },
            retry: retry(settings),
            retried: AtomicU32::new(0),
        })
    }

    /// Where the next detection starts, if that is kept.
    fn checkpoint(&self, database: &str) -> Option<PathBuf> {
        let settings = self.settings();
        let dir = settings.bitmap_engine.state_dir()?;
        Some(checkpoint_path(dir, database))
    }

    fn since(&self, database: Option<&str>, time: i64) -> Result<StartAt, Failure> {
        if time < 0 {
            return Err(Failure::param(format_args!(
                "since_timestamp is {time}; allowed are ns since 1970, and 0"
            )));
        }
        if time > 0 {
            return Ok(StartAt::Time(time / 1_000));
        }
        if let Some(path) = database.and_then(|database| self.checkpoint(database)) {
            let problem =
                |error| Failure::new(Code::IO, format_args!("{}: {error}", path.display()));
            if there_is(&path).map_err(problem)? {
                return Ok(StartAt::File(path));
            }
        }
        match &self.settings().source.since {
            Some(since) => {
                StartAt::parse(since).map_err(|problem| Failure::new(Code::CONFIG, problem))
            }
            None => Ok(StartAt::Version(model::Version::BEGINNING)),
        }
    }

    fn detect(&mut self, database: Option<String>, time: i64) -> Result<bool, Failure> {
        let database = database.or_else(|| self.settings().source.database);
        let since = self.since(database.as_deref(), time)?;
        self.found = None;
        let detection = self.session()?.detect(database.as_deref(), since, &())?;
        let next = detection.checkpoint.clone();
        let blocks = Blocks::from(detection);
        let mut by_version: Vec<usize> = (0..blocks.plan.blocks.len()).collect();
        by_version.sort_by_key(|at| blocks.plan.blocks.get(*at).map(|b| (b.version, b.id)));
        self.stats.total_blocks += blocks.plan.blocks.len() as u64;
        let exact = blocks.plan.is_exact();
        self.found = Some(Found {
            blocks,
            by_version,
            at: now(),
            next,
        });
        Ok(exact)
    }

    fn found(&self) -> Result<&Found, Failure> {
        self.found.as_ref().ok_or_else(|| {
            Failure::new(
                Code::NOT_DETECTED,
                "detect_incremental_blocks was not called",
            )
        })
    }

    /// The time that something takes, for the statistics.
    fn timed<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let start = now();
        let result = body(self);
        self.stats.start_time = start;
        self.stats.end_time = now();
        result
    }

    fn export(&mut self, ids: &HashSet<BlockId>, out: &Path) -> Result<(), Failure> {
        let found = self.found()?;
        let known: HashSet<BlockId> = found.blocks.plan.blocks.iter().map(|b| b.id).collect();
        if let Some(unknown) = ids.difference(&known).next() {
            return Err(Failure::new(
                Code::NOT_DETECTED,
                format_args!("block {} is not of the last detection", unknown.0),
            ));
        }
        let all = ids.len() == known.len();
        let vgroups = found.blocks.plan.vgroups.clone();
        let blocks = Blocks {
            database: found.blocks.database.clone(),
            precision: found.blocks.precision,
            plan: found.blocks.plan.restricted_to(ids),
        };
        let (database, next) = (blocks.database.clone(), found.next.clone());
        let began = Instant::now();
        let result = self.session().and_then(|session| {
            let result = write(&session, blocks, out);
            self.stats.retry_count += session.retried.into_inner();
            result
        });
        match &result {
            Ok(bytes) => {
                metrics::global().backup_done(began.elapsed(), *bytes);
                tracing::info!(
                    "{} blocks of {database} are exported, {bytes} bytes",
                    ids.len()
                );
                self.stats.processed_blocks += ids.len() as u64;
                self.stats.total_size += bytes;
            }
            Err(failure) => {
                tracing::error!("{database} can't be exported: {}", failure.words);
                self.stats.failed_blocks += ids.len() as u64;
            }
        }
        result?;
        if all && let Some(path) = self.checkpoint(&database) {
            let io = |error: &dyn std::fmt::Display| Failure::new(Code::IO, error);
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).map_err(|error| io(&error))?;
            }
            advance(&path, &vgroups, &next).map_err(|error| io(&error))?;
        }
        Ok(())
    }

    fn restore(&self, path: &Path, target: &str) -> Result<(), Failure> {
        let outcome = self.session()?.restore(path, target, &())?;
        if let Some(failure) = outcome.failures.first() {
            return Err(Failure::new(Code::RESTORE, failure));
        }
        match outcome.incomplete.first() {
            Some(what) => Err(Failure::new(Code::BACKUP_INCOMPLETE, what)),
            None => Ok(()),
        }
    }
}

/// Exports, and checks what was written; returns its bytes.
fn write(session: &Session, blocks: Blocks, out: &Path) -> Result<u64, Failure> {
    let outcome = session.export(blocks, out, &())?;
    let report = verify::run(
        &verify::Job {
            links: vec![Arc::new(Directory::new(out))],
            blocks: None,
            threads: processors(),
        },
        &(),
    )
    .map_err(|error| Failure::new(Code::VERIFY, error))?;
    let problem = || {
        let first = report.problems.first();
        first.map_or(String::new(), |problem| problem.text.clone())
    };
    match report.result {
        Verdict::Intact => Ok(outcome.link.bytes()),
        Verdict::Incomplete => Err(Failure::new(Code::BACKUP_INCOMPLETE, problem())),
        Verdict::Failed => Err(Failure::new(Code::VERIFY, problem())),
    }
}

impl Found {
    /// Blocks with a version in a range, ascending by version.
    fn between(&self, first: u64, last: u64) -> impl Iterator<Item = &BlockPlan> {
        let plan: &Plan = &self.blocks.plan;
        let blocks = self.by_version.iter().filter_map(|at| plan.blocks.get(*at));
        blocks.filter(move |block| (first..=last).contains(&version_of(block)))
    }

    fn for_c(&self, block: &BlockPlan) -> SIncrementalBlock {
        SIncrementalBlock {
            block_id: block.id.0,
            wal_offset: version_of(block),
            timestamp: self.at,
            data_size: u32::try_from(block.rows).unwrap_or(u32::MAX),
            data: ptr::null_mut(),
        }
    }
}

fn version_of(block: &BlockPlan) -> u64 {
    u64::try_from(block.version.0).unwrap_or(0)
}

/// See `plugin_api.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_plugin_get_dirty_blocks(
    start_wal: u64,
    end_wal: u64,
    block_ids: *mut u64,
    max_count: u32,
) -> u32 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        let places = unsafe { Places::new(block_ids, max_count as usize) };
        let stored = with(|plugin| {
            let places = places.map_err(|_| Failure::param("block_ids is NULL"))?;
            let blocks = plugin.found()?.between(start_wal, end_wal);
            Ok(places.fill(blocks.map(|block| block.id.0)))
        });
        failure::remember(stored).map_or(0, |stored| stored as u32)
    })
}

/// See `plugin_api.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_plugin_get_incremental_blocks(
    start_wal: u64,
    end_wal: u64,
    blocks: *mut SIncrementalBlock,
    max_count: u32,
) -> u32 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        let places = unsafe { Places::new(blocks, max_count as usize) };
        let stored = with(|plugin| {
            let places = places.map_err(|_| Failure::param("blocks is NULL"))?;
            let found = plugin.found()?;
            let blocks = found.between(start_wal, end_wal);
            Ok(places.fill(blocks.map(|block| found.for_c(block))))
        });
        failure::remember(stored).map_or(0, |stored| stored as u32)
    })
}

/// See `plugin_api.h`.
#[unsafe(no_mangle)]
pub extern "C" fn backup_plugin_estimate_backup_size(start_wal: u64, end_wal: u64) -> u64 {
    boundary(0, || {
        let size = with(|plugin| {
            let found = plugin.found()?;
            let ids: HashSet<BlockId> = found.between(start_wal, end_wal).map(|b| b.id).collect();
            let blocks = Blocks {
                database: found.blocks.database.clone(),
                precision: found.blocks.precision,
                plan: found.blocks.plan.restricted_to(&ids),
            };
            let temporary = plugin.settings().backup.temp_path;
            let temporary = temporary.unwrap_or_else(std::env::temp_dir);
            Ok(plugin.session()?.estimate(&blocks, &temporary)?)
        });
        failure::remember(size).unwrap_or(0)
    })
}

/// See `plugin_api.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_plugin_get_stats(stats: *mut SBackupStats) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(stats) };
        let found = failure::remember(match place {
            Ok(place) => with(|plugin| Ok((place, plugin.stats))),
            Err(_) => Err(Failure::param("stats is NULL")),
        });
        let (place, stats) = found?;
        place.store(stats);
        Ok(())
    })
}

/// See `plugin_api.h`.
#[unsafe(no_mangle)]
pub extern "C" fn backup_plugin_reset_stats() -> i32 {
    coded(|| {
        failure::remember(with(|plugin| {
            plugin.stats = NO_STATS;
            Ok(())
        }))
    })
}

unsafe extern "C" fn detect(
    database: *const c_char,
    since_timestamp: i64,
    blocks: *mut *mut SIncrementalBlock,
    count: *mut u32,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let places = unsafe { (Place::new(blocks), Place::new(count)) };
        let (Ok(blocks), Ok(count)) = places else {
            return failure::remember(Err(Failure::param("blocks or count is NULL")));
        };
        blocks.store(ptr::null_mut());
        count.store(0);
        failure::remember(with(|plugin| {
            let database = match database.is_null() {
                true => None,
                // SAFETY: the caller's promise.
                false => Some(unsafe { text(database, "database") }?.to_owned()),
            };
            let exact = plugin.timed(|plugin| plugin.detect(database, since_timestamp))?;
            let found = plugin.found()?;
            let list: Vec<SIncrementalBlock> = {
                let list = found.blocks.plan.blocks.iter();
                list.map(|block| found.for_c(block)).collect()
            };
            let number = u32::try_from(list.len())
                .map_err(|_| Failure::new(Code::DETECT, "there are more than 2^32 blocks"))?;
            if number > 0 {
                count.store(number);
                blocks.store(Box::into_raw(list.into_boxed_slice()).cast());
            }
            match exact {
                true => Ok(()),
                false => {
                    let vgroups = found.blocks.plan.vgroups.iter();
                    let reasons = vgroups.flat_map(|vgroup| &vgroup.reasons);
                    let words: Vec<&str> = reasons.map(|r| r.text.as_str()).collect();
                    Err(Failure::new(Code::BACKUP_INCOMPLETE, words.join("; ")))
                }
            }
        }))
    })
}

unsafe extern "C" fn free_blocks(blocks: *mut SIncrementalBlock, count: u32) {
    boundary((), || {
        if !blocks.is_null() {
            let list = ptr::slice_from_raw_parts_mut(blocks, count as usize);
            // SAFETY: made by `detect` with this length, and the caller gives it back only once.
            drop(unsafe { Box::from_raw(list) });
        }
    });
}

unsafe extern "C" fn export(
    blocks: *const SIncrementalBlock,
    count: u32,
    output_path: *const c_char,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise.
        let blocks = unsafe { lent_array(blocks, count as usize) };
        failure::remember(with(|plugin| {
            let blocks = blocks.map_err(|_| Failure::param("blocks is NULL"))?;
            // SAFETY: the caller's promise.
            let out = unsafe { text(output_path, "output_path") }?;
            let ids = blocks.iter().map(|block| BlockId(block.block_id)).collect();
            plugin.timed(|plugin| plugin.export(&ids, Path::new(&out)))
        }))
    })
}

unsafe extern "C" fn restore(backup_path: *const c_char, target_database: *const c_char) -> i32 {
    coded(|| {
        failure::remember(with(|plugin| {
            // SAFETY: the caller's promise.
            let (path, target) = unsafe {
                (
                    text(backup_path, "backup_path")?,
                    text(target_database, "target_database")?,
                )
            };
            plugin.timed(|plugin| plugin.restore(Path::new(&path), target))
        }))
    })
}
