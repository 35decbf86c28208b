//! The registry of storage engines, WAL monitors and block data: documented in `storage_engine_interface.h`.
//!
//! # Safety
//! As in `bitmap_engine.rs`.
#![allow(clippy::missing_safety_doc)]

use crate::{
    boundary::{Place, Places, boundary},
    codes::Code,
    failure::{self, Failure, explained},
    followed_storage::{self, Kind},
    header::{SStorageEngineInterface, StorageEngineInterfaceFactory, WALChangeCallback},
    settings::{environment, server},
    tdengine_storage::{self, Files},
    tmq_storage::{self, Subscription},
};
use bitmap::BlockId;
use config::Program;
use follow::wal_growth::WalMonitor;
use ops::block_rows::{self, BlockRowsError};
use parking_lot::Mutex;
use plan::Numbering;
use server::{Library, Login};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char, c_void},
    path::{Path, PathBuf},
    ptr,
    sync::LazyLock,
    time::Duration,
};

/// A text that C lent.
///
/// # Safety
/// `text` is NULL or ends with a NUL.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    let refuse = |problem: &str| Failure::new(Code::INVALID_PARAM, format!("{what} is {problem}"));
    if text.is_null() {
        return Err(refuse("NULL"));
    }
    // SAFETY: not NULL; the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok("") => Err(refuse("empty")),
        Ok(text) => Ok(text),
        Err(_) => Err(refuse("not UTF-8")),
    }
}

/// A text that C lent, or NULL.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn optional<'a>(
    given: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    match given.is_null() {
        true => Ok(None),
        // SAFETY: the caller's promise.
        false => unsafe { text(given, what) }.map(Some),
    }
}

/// A factory; its name lives as long as the process, as C may hold it.
struct Registered {
    name: &'static CStr,
    factory: unsafe extern "C" fn() -> *mut SStorageEngineInterface,
}

static REGISTRY: LazyLock<Mutex<Vec<Registered>>> = LazyLock::new(|| {
    Mutex::new(vec![
        Registered {
            name: Files::NAME,
            factory: get_default_storage_engine_interface,
        },
        Registered {
            name: Subscription::NAME,
            factory: tmq_storage::factory,
        },
    ])
});

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_storage_engine_interface(
    name: *const c_char,
    factory: StorageEngineInterfaceFactory,
) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { text(name, "name") }?;
        let factory =
            factory.ok_or_else(|| Failure::new(Code::INVALID_PARAM, "the factory is NULL"))?;
        let mut registry = REGISTRY.lock();
        if registry
            .iter()
            .any(|known| known.name.to_bytes() == name.as_bytes())
        {
            let text = format!("there is a storage engine {name:?}: choose another name");
            return Err(Failure::new(Code::EXISTS, text));
        }
        let name = CString::new(name).map_err(|_| Failure::from(Code::INVALID_PARAM))?;
        registry.push(Registered {
            name: Box::leak(name.into_boxed_c_str()),
            factory,
        });
        Ok(())
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_storage_engine_interface(
    name: *const c_char,
) -> *mut SStorageEngineInterface {
    boundary(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let Ok(name) = (unsafe { text(name, "name") }) else {
            return ptr::null_mut();
        };
        let factory = REGISTRY
            .lock()
            .iter()
            .find(|known| known.name.to_bytes() == name.as_bytes())
            .map(|known| known.factory);
        // The factory is called without the lock: it may ask the registry.
        // SAFETY: the header's contract for factories.
        factory.map_or(ptr::null_mut(), |factory| unsafe { factory() })
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn get_default_storage_engine_interface() -> *mut SStorageEngineInterface {
    tdengine_storage::table()
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn list_storage_engine_interfaces(
    names: *mut *mut c_char,
    max_count: u32,
    count: *mut u32,
) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let (places, count) =
            unsafe { (Places::new(names, max_count as usize)?, Place::new(count)?) };
        let registry = REGISTRY.lock();
        places.fill(registry.iter().map(|known| known.name.as_ptr().cast_mut()));
        count.store(registry.len() as u32);
        Ok(())
    })
}

static MONITORS: LazyLock<Mutex<BTreeMap<PathBuf, WalMonitor>>> = LazyLock::new(Mutex::default);

/// How often a WAL directory is looked at without being told of a change.
const POLL: Duration = Duration::from_secs(1);

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn monitor_wal_changes(
    wal_path: *const c_char,
    callback: WALChangeCallback,
) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let path = Path::new(unsafe { text(wal_path, "wal_path") }?);
        let callback =
            callback.ok_or_else(|| Failure::new(Code::INVALID_PARAM, "the callback is NULL"))?;
        let told_path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Failure::from(Code::INVALID_PARAM))?;
        let mut monitors = MONITORS.lock();
        // One that its callback ended makes room for another.
        monitors.retain(|_, monitor| monitor.is_running());
        if monitors.contains_key(path) {
            let text = format!("{} is monitored already", path.display());
            return Err(Failure::new(Code::EXISTS, text));
        }
        let monitor = WalMonitor::start(path.into(), POLL, move |end| {
            // SAFETY: the header's contract for callbacks; the path is lent for the call.
            unsafe { callback(told_path.as_ptr(), end.version, end.offset) == 0 }
        });
        let monitor = monitor.map_err(|error| {
            let text = format!(
                "{}: {error}; give the wal directory of a vnode",
                path.display()
            );
            Failure::new(Code::IO, text)
        })?;
        monitors.insert(path.into(), monitor);
        Ok(())
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stop_monitoring_wal_changes(wal_path: *const c_char) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let path = Path::new(unsafe { text(wal_path, "wal_path") }?);
        let monitor = MONITORS.lock().remove(path);
        // Without the lock: the monitor is waited for, and its callback may want to stop another.
        monitor.map(drop).ok_or_else(|| {
            let text = format!("{} is not monitored", path.display());
            Failure::new(Code::NOT_RUNNING, text)
        })
    })
}

/// What block ids are made of, and where the rows are.
pub(crate) struct Followed {
    pub(crate) numbering: Numbering,
    /// `None`: the server that the settings name.
    login: Option<Login>,
}

impl Followed {
    /// The server that a storage engine of ours follows.
    pub(crate) fn now() -> Result<Self, Failure> {
        let files = followed_storage::followed::<Files>();
        let subscription = followed_storage::followed::<Subscription>();
        match (files, subscription) {
            (Some((numbering, _)), None) => Ok(Self {
                numbering,
                login: None,
            }),
            (None, Some((numbering, config))) => Ok(Self {
                numbering,
                login: Some(config.login),
            }),
            (None, None) => {
                let text = "neither the \"tdengine\" nor the \"tmq\" interception is installed: configure one, then install it";
                Err(Failure::new(Code::NOT_RUNNING, text))
            }
            (Some(_), Some(_)) => {
                let text = "both the \"tdengine\" and the \"tmq\" interception are installed, and a block id does not say whose it is: uninstall one";
                Err(Failure::new(Code::NOT_SUPPORTED, text))
            }
        }
    }

    /// Whether a storage engine of ours follows a server.
    pub(crate) fn is_any() -> bool {
        followed_storage::is_installed::<Files>()
            || followed_storage::is_installed::<Subscription>()
    }

    pub(crate) fn connect(&self) -> Result<server::Connection, Failure> {
        let (library, login) = match &self.login {
            Some(login) => {
                let library =
                    Library::find(None).map_err(|error| Failure::new(Code::SERVER, error))?;
                (library, login.clone())
            }
            None => server(&environment(Program::Library)?)?,
        };
        library
            .connect(&login)
            .map_err(|error| Failure::new(Code::SERVER, error))
    }
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read_data_block(
    block_id: u64,
    data: *mut *mut c_void,
    size: *mut u32,
) -> i32 {
    explained(|| {
        // SAFETY: the caller's promise.
        let (data, size) = unsafe { (Place::new(data)?, Place::new(size)?) };
        data.store(ptr::null_mut());
        size.store(0);
        let followed = Followed::now()?;
        if !followed.numbering.knows(BlockId(block_id)) {
            let error = BlockRowsError::UnknownBlock(block_id);
            return Err(Failure::new(Code::BLOCK_NOT_FOUND, error));
        }
        let bytes = block_rows::read(block_id, &followed.numbering, &followed.connect()?).map_err(
            |error| {
                let code = match error {
                    BlockRowsError::UnknownBlock(_) | BlockRowsError::TableGone { .. } => {
                        Code::BLOCK_NOT_FOUND
                    }
                    BlockRowsError::Sql(_) | BlockRowsError::OtherServer { .. } => Code::SERVER,
                    BlockRowsError::TooLarge(_) | BlockRowsError::LongName(_) => {
                        Code::NOT_SUPPORTED
                    }
                };
                Failure::new(code, error)
            },
        )?;
        // SAFETY: malloc takes any size.
        let memory = unsafe { libc::malloc(bytes.len()) };
        if memory.is_null() {
            let text = format!("no memory for {} bytes of block {block_id}", bytes.len());
            return Err(Failure::new(Code(crate::header::ERR_MEMORY_FULL), text));
        }
        // SAFETY: the memory is new and of that size.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len()) }
        data.store(memory);
        size.store(bytes.len() as u32);
        Ok(())
    })
}

/// See `storage_engine_interface.h`.
#[unsafe(no_mangle)]
pub extern "C" fn storage_engine_last_error() -> *const c_char {
    boundary(c"".as_ptr(), failure::words)
}
