//! `backup_coordinator.h`: exports of an engine's blocks, from C to `host::coordinator`.
//!
//! # Safety
//! Every function trusts its caller in what the header asks for: a handle is NULL or live, a pointer is NULL or
//! points to as much as the header says.
#![allow(clippy::missing_safety_doc)]

use crate::{
    binary_rows::Joined,
    bitmap_engine::{Handle, engine_of},
    boundary::{Place, Places, boundary, coded, lent, lent_array},
    codes::Code,
    failure::{self, Failure},
    header::{
        BACKUP_CURSOR_TYPE_HYBRID, BACKUP_CURSOR_TYPE_TIME, BACKUP_CURSOR_TYPE_WAL,
        BackupBlockReader, BackupBlockVisitor, ERR_SUCCESS, SBackupConfig, SBackupCursor,
        SBackupStats, SBitmapEngine, SIncrementalBlock,
    },
    incremental_backup_tool::processors,
    settings::environment,
    storage_engine::Followed,
    texts::text,
};
use bitmap::{BlockId, BlockRecord};
use config::Program;
use host::coordinator::{
    Coordinator, CoordinatorConfig, Cursor, CursorKind, ReadFailure, Selection,
};
use ops::block_rows;
use parking_lot::{Mutex, MutexGuard};
use repository::archive::{self, BlockSink, Key, LONGEST};
use std::{
    ffi::{c_char, c_void},
    path::Path,
    ptr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

pub use crate::header::{SBackupCoordinator, SBackupSink};

/// What a `SBackupCoordinator *` points to.
struct Shared {
    engine: Handle,
    coordinator: Coordinator,
    encrypt: bool,
    state: Mutex<State>,
}

struct State {
    started: bool,
    has_key: bool,
    reader: Option<CReader>,
}

/// A reader of the host's.
#[derive(Clone, Copy)]
struct CReader {
    call: unsafe extern "C" fn(u64, *mut SBackupSink, *mut c_void) -> i32,
    user_data: *mut c_void,
}

// SAFETY: the header asks for a reader that may be called from any thread that exports.
unsafe impl Send for CReader {}
// SAFETY: the same; with enable_parallel_processing by several at once.
unsafe impl Sync for CReader {}

/// What a `SBackupSink *` points to.
#[derive(Default)]
struct Sink {
    data: Vec<u8>,
    /// More was offered than a block may hold: what is here is not all.
    is_too_long: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn reader(&self) -> Result<BlockReader, Failure> {
        let state = self.state();
        if self.encrypt && !state.has_key {
            return Err(Failure::new(
                Code::KEY,
                "archives are to be encrypted, and there is no key: call backup_coordinator_set_key_file, or name the \
                 file as backup.key_file",
            ));
        }
        match state.reader {
            Some(reader) => Ok(BlockReader::Host(reader)),
            None => OfServer::begin().map(BlockReader::Followed),
        }
    }
}

/// Who knows what blocks hold.
enum BlockReader {
    Host(CReader),
    Followed(OfServer),
}

impl BlockReader {
    fn read(&self, record: &BlockRecord, sink: &mut BlockSink<'_>) -> Result<(), ReadFailure> {
        match self {
            Self::Host(reader) => {
                let data = reader.read(record).map_err(ReadFailure::Block)?;
                let refused = |refused: rows::sink::Refused| ReadFailure::Block(refused.0);
                sink.bytes(&data).map_err(refused)
            }
            Self::Followed(followed) => followed.read(record, sink),
        }
    }
}

/// The rows of the server that a storage engine of ours follows, for a host without a reader.
struct OfServer {
    followed: Mutex<Arc<Followed>>,
    /// Those that nobody uses at the moment.
    connections: Mutex<Vec<server::Connection>>,
    /// The server was seen to be the one that is followed.
    confirmed: AtomicBool,
}

impl OfServer {
    fn begin() -> Result<Self, Failure> {
        let followed = Followed::now().map_err(|failure| {
            let words = "no reader is set, and no server is followed whose rows could be read";
            Failure::new(
                Code::NOT_STARTED,
                format_args!("{words}: {}", failure.words),
            )
        })?;
        Ok(Self {
            followed: Mutex::new(Arc::new(followed)),
            connections: Mutex::default(),
            confirmed: AtomicBool::default(),
        })
    }

    /// Numbers among which the block's table is, if it has one by now.
    fn followed(&self, block: BlockId) -> Result<Arc<Followed>, Failure> {
        let mut followed = self.followed.lock();
        if !followed.numbering.knows(block) {
            *followed = Arc::new(Followed::now()?);
        }
        Ok(Arc::clone(&followed))
    }

    fn read(&self, record: &BlockRecord, sink: &mut BlockSink<'_>) -> Result<(), ReadFailure> {
        let no_server = |failure: Failure| ReadFailure::Everything(failure.words);
        let followed = self.followed(record.block).map_err(no_server)?;
        let idle = self.connections.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => followed.connect().map_err(no_server)?,
        };
        let (block, numbering) = (record.block.0, &followed.numbering);
        block_rows::read_or_gone(block, numbering, &connection, &self.confirmed, sink).map_err(
            |error| match error.concerns_everything(&connection) {
                true => ReadFailure::Everything(error.to_string()),
                false => ReadFailure::Block(error.to_string()),
            },
        )?;
        // One that failed is not used again.
        self.connections.lock().push(connection);
        Ok(())
    }
}

impl CReader {
    fn read(self, record: &BlockRecord) -> Result<Vec<u8>, String> {
        let mut sink = Sink::default();
        // SAFETY: the host's function, with the sink that it may use until it returns.
        let code = unsafe { (self.call)(record.block.0, (&raw mut sink).cast(), self.user_data) };
        match code {
            ERR_SUCCESS if sink.is_too_long => Err("it holds more than 1 GiB".to_owned()),
            ERR_SUCCESS => Ok(sink.data),
            code => Err(format!("the reader returned {code}")),
        }
    }
}

/// # Safety
/// `coordinator` is NULL or a live handle.
unsafe fn shared<'a>(coordinator: *const SBackupCoordinator) -> Result<&'a Shared, Failure> {
    // SAFETY: handles are made of `Shared`, and the caller promises that this one is live.
    unsafe { lent(coordinator.cast::<Shared>()) }.map_err(|_| Failure::param("coordinator is NULL"))
}

/// Calls `body` with the coordinator behind a handle; its code, and its words kept.
///
/// # Safety
/// `coordinator` is NULL or a live handle.
unsafe fn on(
    coordinator: *const SBackupCoordinator,
    body: impl FnOnce(&Shared) -> Result<(), Failure>,
) -> i32 {
    // SAFETY: the caller's promise.
    coded(|| failure::remember(unsafe { shared(coordinator) }.and_then(body)))
}

/// # Safety
/// `config` is NULL or points to a configuration whose strings are NULL or end with a NUL.
unsafe fn create(engine: &Handle, config: *const SBackupConfig) -> Result<Shared, Failure> {
    if config.is_null() {
        return Err(Failure::param("config is NULL"));
    }
    // SAFETY: not NULL, and the caller promises the rest. C may have left any byte in the bools.
    let (batch, retries, interval, timeout, compress, encrypt, parallel, path, temporary) = unsafe {
        (
            (*config).batch_size,
            (*config).max_retries,
            (*config).retry_interval_ms,
            (*config).timeout_ms,
            (&raw const (*config).enable_compression)
                .cast::<u8>()
                .read()
                != 0,
            (&raw const (*config).enable_encryption).cast::<u8>().read() != 0,
            (&raw const (*config).enable_parallel_processing)
                .cast::<u8>()
                .read()
                != 0,
            text((*config).backup_path, "backup_path")?,
            match (*config).temp_path.is_null() {
                true => None,
                false => Some(text((*config).temp_path, "temp_path")?),
            },
        )
    };
    for (name, value) in [("batch_size", batch), ("timeout_ms", timeout)] {
        if value == 0 {
            return Err(Failure::param(format_args!(
                "{name} is 0; at least 1 is allowed"
            )));
        }
    }
    for (name, path) in [
        ("backup_path", Some(&path)),
        ("temp_path", temporary.as_ref()),
    ] {
        if let Some(path) = path.filter(|path| !Path::new(path).is_dir()) {
            return Err(Failure::param(format_args!(
                "{name} {path} is no directory"
            )));
        }
    }
    let settings = environment(Program::Library)?.backup;
    let encrypt = encrypt || settings.encryption;
    let key = match settings.key_file.filter(|_| encrypt) {
        Some(file) => Some(Key::load(&file)?),
        None => None,
    };
    let has_key = key.is_some();
    let config = CoordinatorConfig {
        batch_size: batch as usize,
        max_retries: retries,
        retry_interval: Duration::from_millis(interval.into()),
        timeout: Duration::from_millis(timeout.into()),
        compress,
        key,
        backup_path: path.into(),
        temp_path: temporary.map(Into::into),
        workers: match parallel {
            true => processors(),
            false => 1,
        },
    };
    Ok(Shared {
        engine: Handle::clone(engine),
        coordinator: Coordinator::new(Handle::clone(engine), config),
        encrypt,
        state: Mutex::new(State {
            started: true,
            has_key,
            reader: None,
        }),
    })
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_init(
    engine: *mut SBitmapEngine,
    config: *const SBackupConfig,
) -> *mut SBackupCoordinator {
    boundary(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let engine = unsafe { engine_of(engine) }.map_err(|_| Failure::param("engine is NULL"));
        // SAFETY: the caller's promise.
        let made = engine.and_then(|engine| unsafe { create(engine, config) });
        failure::remember(made).map_or(ptr::null_mut(), |made| Box::into_raw(Box::new(made)).cast())
    })
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_destroy(coordinator: *mut SBackupCoordinator) {
    boundary((), || {
        if !coordinator.is_null() {
            // SAFETY: made by `backup_coordinator_init`, and the caller gives it back only once.
            drop(unsafe { Box::from_raw(coordinator.cast::<Shared>()) });
        }
    });
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_sink_write(
    sink: *mut SBackupSink,
    data: *const c_void,
    size: u32,
) -> i32 {
    coded(|| {
        // SAFETY: the caller's promise; only the reader that was given the sink uses it.
        let sink = unsafe { sink.cast::<Sink>().as_mut() }.ok_or(Code::INVALID_PARAM)?;
        if sink.data.len() + size as usize > LONGEST as usize {
            sink.is_too_long = true;
            return Err(Code::INVALID_PARAM);
        }
        // SAFETY: the caller's promise.
        let data = unsafe { lent_array(data.cast::<u8>(), size as usize) }?;
        sink.data.extend_from_slice(data);
        Ok(())
    })
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_set_reader(
    coordinator: *mut SBackupCoordinator,
    reader: BackupBlockReader,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            // An export that is under way goes on with the one that it has.
            shared.state().reader = reader.map(|call| CReader { call, user_data });
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_set_key_file(
    coordinator: *mut SBackupCoordinator,
    path: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            let path = text(path, "path")?;
            if !shared.encrypt {
                return Err(Failure::param(
                    "archives are not encrypted, so no key is used: set enable_encryption, or do not call this",
                ));
            }
            shared.coordinator.set_key(Key::load(Path::new(&path))?);
            shared.state().has_key = true;
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_start(coordinator: *mut SBackupCoordinator) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            shared.state().started = true;
            shared.coordinator.resume();
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_cancel(coordinator: *mut SBackupCoordinator) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            shared.state().started = false;
            shared.coordinator.cancel();
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_stop(coordinator: *mut SBackupCoordinator) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            shared.state().started = false;
            shared.coordinator.cancel();
            shared.coordinator.wait();
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_export(coordinator: *mut SBackupCoordinator) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            if !shared.state().started {
                return Err(Failure::new(
                    Code::NOT_STARTED,
                    "it was stopped; start it first",
                ));
            }
            let reader = shared.reader()?;
            let began = Instant::now();
            // The positions of a server with several vgroups are in no order, whoever reads its blocks.
            let selection = match &reader {
                BlockReader::Host(_) if !Followed::is_any() => Selection::BehindCursor,
                _ => Selection::NewMarks,
            };
            let done = shared
                .coordinator
                .export(selection, &|record, sink| reader.read(record, sink))?;
            metrics::global().backup_done(began.elapsed(), done.bytes);
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_get_dirty_blocks(
    coordinator: *mut SBackupCoordinator,
    start_wal: u64,
    end_wal: u64,
    block_ids: *mut u64,
    max_count: u32,
) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        dirty_blocks(coordinator, block_ids, max_count, |engine, limit| {
            engine.find_by_wal(start_wal..=end_wal, limit)
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_get_dirty_blocks_by_time(
    coordinator: *mut SBackupCoordinator,
    start_time: i64,
    end_time: i64,
    block_ids: *mut u64,
    max_count: u32,
) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        dirty_blocks(coordinator, block_ids, max_count, |engine, limit| {
            engine.find_by_time(start_time..=end_time, limit)
        })
    }
}

/// # Safety
/// `coordinator` is NULL or a live handle, `block_ids` NULL or with room for `max_count`.
unsafe fn dirty_blocks(
    coordinator: *mut SBackupCoordinator,
    block_ids: *mut u64,
    max_count: u32,
    find: impl FnOnce(&Handle, usize) -> Result<Vec<BlockId>, bitmap::EngineError>,
) -> u32 {
    let limit = max_count as usize;
    boundary(0, || {
        // SAFETY: the caller's promise.
        let (shared, places) = unsafe { (shared(coordinator), Places::new(block_ids, limit)) };
        let found = shared.and_then(|shared| {
            let ids = find(&shared.engine, limit);
            let places = places.map_err(|_| Failure::param("block_ids is NULL"))?;
            let ids = ids.map_err(engine_failure)?;
            Ok(places.fill(ids.into_iter().map(|id| id.0)) as u32)
        });
        failure::remember(found).unwrap_or(0)
    })
}

fn engine_failure(error: bitmap::EngineError) -> Failure {
    let words = error.to_string();
    Failure::new(error.into(), words)
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_get_incremental_blocks(
    coordinator: *mut SBackupCoordinator,
    start_wal: u64,
    end_wal: u64,
    blocks: *mut SIncrementalBlock,
    max_count: u32,
) -> u32 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        let (shared, places) =
            unsafe { (shared(coordinator), Places::new(blocks, max_count as usize)) };
        let found = shared.and_then(|shared| {
            let places = places.map_err(|_| Failure::param("blocks is NULL"))?;
            let ids = shared
                .engine
                .find_by_wal(start_wal..=end_wal, max_count as usize);
            let mut found = Vec::new();
            for id in ids.map_err(engine_failure)? {
                let record = shared.engine.block(id).map_err(engine_failure)?;
                found.push(SIncrementalBlock {
                    block_id: id.0,
                    wal_offset: record.marked.wal.0,
                    timestamp: record.marked.time.0,
                    data_size: 0,
                    data: ptr::null_mut(),
                });
            }
            Ok(places.fill(found) as u32)
        });
        failure::remember(found).unwrap_or(0)
    })
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_estimate_backup_size(
    coordinator: *mut SBackupCoordinator,
    start_wal: u64,
    end_wal: u64,
) -> u64 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        let size = unsafe { shared(coordinator) }.and_then(|shared| {
            let reader = shared.reader()?;
            let ids = shared
                .engine
                .find_by_wal(start_wal..=end_wal, usize::MAX)
                .map_err(engine_failure)?;
            let size = shared
                .coordinator
                .estimate(&ids, &|record, sink| reader.read(record, sink))?;
            Ok(size)
        });
        failure::remember(size).unwrap_or(0)
    })
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_get_stats(
    coordinator: *mut SBackupCoordinator,
    stats: *mut SBackupStats,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            let place = Place::new(stats).map_err(|_| Failure::param("stats is NULL"))?;
            let found = shared.coordinator.stats();
            place.store(SBackupStats {
                total_blocks: found.total_blocks,
                processed_blocks: found.processed_blocks,
                failed_blocks: found.failed_blocks,
                total_size: found.total_size,
                start_time: found.start_time,
                end_time: found.end_time,
                retry_count: found.retry_count,
            });
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_reset_stats(
    coordinator: *mut SBackupCoordinator,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            shared.coordinator.reset_stats();
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_get_cursor(
    coordinator: *mut SBackupCoordinator,
    cursor: *mut SBackupCursor,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            let place = Place::new(cursor).map_err(|_| Failure::param("cursor is NULL"))?;
            let found = shared.coordinator.cursor();
            let nothing = found.time.is_none() && found.wal.is_none();
            place.store(SBackupCursor {
                type_: match found.kind {
                    CursorKind::Time => BACKUP_CURSOR_TYPE_TIME,
                    CursorKind::Wal => BACKUP_CURSOR_TYPE_WAL,
                    CursorKind::Hybrid => BACKUP_CURSOR_TYPE_HYBRID,
                },
                time_cursor: found.time.unwrap_or(0),
                wal_cursor: found.wal.unwrap_or(0),
                // With blocks and no position yet, what was exported comes again: nothing counts as done.
                block_count: if nothing { 0 } else { found.blocks.max(1) },
                last_update_time: found.updated,
            });
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_set_cursor(
    coordinator: *mut SBackupCoordinator,
    cursor: *const SBackupCursor,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            let cursor = lent(cursor).map_err(|_| Failure::param("cursor is NULL"))?;
            let kind = match cursor.type_ {
                BACKUP_CURSOR_TYPE_TIME => CursorKind::Time,
                BACKUP_CURSOR_TYPE_WAL => CursorKind::Wal,
                BACKUP_CURSOR_TYPE_HYBRID => CursorKind::Hybrid,
                other => return Err(Failure::param(format_args!("cursor type is {other}"))),
            };
            let moved = cursor.block_count > 0;
            shared.coordinator.set_cursor(Cursor {
                kind,
                time: (moved && kind != CursorKind::Wal).then_some(cursor.time_cursor),
                wal: (moved && kind != CursorKind::Time).then_some(cursor.wal_cursor),
                blocks: cursor.block_count,
                updated: cursor.last_update_time,
            });
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_coordinator_update_cursor(
    coordinator: *mut SBackupCoordinator,
    block_id: u64,
    wal_offset: u64,
    timestamp: i64,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on(coordinator, |shared| {
            shared
                .engine
                .block(BlockId(block_id))
                .map_err(engine_failure)?;
            shared.coordinator.exported(wal_offset, timestamp);
            Ok(())
        })
    }
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backup_archive_read(
    path: *const c_char,
    key_file: *const c_char,
    visitor: BackupBlockVisitor,
    user_data: *mut c_void,
) -> i32 {
    coded(|| {
        failure::remember((|| {
            // SAFETY: the caller's promise.
            let path = unsafe { text(path, "path") }?;
            let key = match key_file.is_null() {
                true => None,
                false => {
                    // SAFETY: the caller's promise.
                    let file = unsafe { text(key_file, "key_file") }?;
                    Some(Key::load(Path::new(&file))?)
                }
            };
            let path = Path::new(&path);
            let Some(visitor) = visitor else {
                archive::verify(path, key.as_ref())?;
                return Ok(());
            };
            let mut visit = |(block_id, wal_offset, timestamp), data: &[u8]| {
                let block = SIncrementalBlock {
                    block_id,
                    wal_offset,
                    timestamp,
                    data_size: data.len() as u32,
                    data: ptr::null_mut(),
                };
                // SAFETY: the host's function; both pointers live until it returns.
                unsafe {
                    visitor(
                        &raw const block,
                        data.as_ptr().cast(),
                        block.data_size,
                        user_data,
                    );
                }
            };
            let (mut joined, mut unreadable) = (Joined::default(), None);
            archive::read(path, key.as_ref(), &mut |part| {
                if unreadable.is_none() {
                    unreadable = joined.add(&part, &mut visit).err();
                }
            })?;
            if let Some(error) = unreadable {
                let words = format_args!("{}: {error}", path.display()).to_string();
                return Err(Failure::new(Code::ARCHIVE, words));
            }
            joined.end(&mut visit);
            Ok(())
        })())
    })
}

/// See `backup_coordinator.h`.
#[unsafe(no_mangle)]
pub extern "C" fn backup_coordinator_error() -> *const c_char {
    failure::words()
}
