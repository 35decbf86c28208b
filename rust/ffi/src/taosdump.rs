//! `taosdump_engine.h`: the command line of a patched taosdump, from C to the crate `taosdump`.

use crate::{
    boundary::{boundary, lent_array},
    header::{
        STaosdumpEngine, STaosdumpOption, TAOSDUMP_ENGINE_ABI, TAOSDUMP_FAILED,
        TAOSDUMP_OPTION_BITMAP_PLUGIN, TAOSDUMP_USAGE,
    },
    settings,
};
use config::{Config, Program, Settings};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::{
    ffi::{CStr, CString, OsStr, OsString, c_char},
    io::{self, Write},
    mem::{ManuallyDrop, MaybeUninit},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};
use taosdump::Given;

/// The table that C gets. It never changes, and its pointers are to statics.
struct Table(STaosdumpEngine);

// SAFETY: see `Table`.
unsafe impl Sync for Table {}

static ENGINE: Table = Table(STaosdumpEngine {
    abi_version: TAOSDUMP_ENGINE_ABI,
    size: size_of::<STaosdumpEngine>() as u32,
    version: concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast(),
    run: Some(run),
});

/// See `taosdump_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn taosdump_engine() -> *const STaosdumpEngine {
    &raw const ENGINE.0
}

/// # Safety
/// `options` points to `count` options; every string is NULL or ends with a NUL.
unsafe extern "C" fn run(
    options: *const STaosdumpOption,
    count: u32,
    password: *const c_char,
) -> i32 {
    let code = boundary(None, || {
        // SAFETY: the caller's promise.
        let options = unsafe { lent_array(options, count as usize) }.ok()?;
        let refused = |problem: &dyn std::fmt::Display| {
            let _ = writeln!(io::stderr(), "taosdump: {problem}");
            Some(TAOSDUMP_USAGE as i32)
        };
        let settings = match Config::from(&settings::layers()) {
            Ok(config) => {
                logging::begin(&config, Program::Taosdump);
                config.settings
            }
            Err(error) => return refused(&error),
        };
        let said = |option: &STaosdumpOption| option.key == TAOSDUMP_OPTION_BITMAP_PLUGIN as i32;
        if !options.iter().any(said) {
            // SAFETY: the caller's promise.
            match unsafe { by_another_engine(&settings, options, password) } {
                Ok(None) => {}
                Ok(Some(code)) => return Some(code),
                Err(problem) => return refused(&problem),
            }
        }
        let given: Vec<Given> = options
            .iter()
            .map(|option| Given {
                key: option.key,
                // SAFETY: the caller's promise.
                arg: unsafe { text(option.arg) },
            })
            .collect();
        // SAFETY: the caller's promise.
        let password = unsafe { text(password) };
        Some(taosdump::run(&given, password, &settings).into())
    });
    code.unwrap_or_else(|| {
        let _ = writeln!(
            io::stderr(),
            "taosdump: internal error in the backup engine: please report it"
        );
        TAOSDUMP_FAILED as i32
    })
}

/// Has the job done by the engine that settings name, if they name one. It is told by the option that names it on the
/// command line, so that it does not look for another one.
///
/// # Safety
/// Every string is NULL or ends with a NUL.
unsafe fn by_another_engine(
    settings: &Settings,
    options: &[STaosdumpOption],
    password: *const c_char,
) -> Result<Option<i32>, String> {
    let Some(path) = &settings.plugin.library_path else {
        return Ok(None);
    };
    let refuse = |problem: &dyn std::fmt::Display| {
        let path = path.display();
        format!(
            "{path} (plugin.library_path, TDENGINE_PLUGIN_PATH) can't be used: {problem}; give the path of \
             libincremental_bitmap_plugin.so, or none to use the built-in engine"
        )
    };
    // SAFETY: whoever gives the path answers for what the library does when it is loaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    // It stays loaded: its threads may outlive the job.
    let library = ManuallyDrop::new(library.map_err(|error| refuse(&error))?);
    // SAFETY: every version of the header declares the function so.
    let engine = unsafe {
        library.get::<unsafe extern "C" fn() -> *const STaosdumpEngine>(b"taosdump_engine\0")
    };
    let engine = engine.map_err(|error| refuse(&error))?;
    // SAFETY: the header says that the table lives as long as the library, and begins with version and size.
    let engine = unsafe { engine().as_ref() }.ok_or_else(|| refuse(&"it gives no engine"))?;
    if engine.abi_version != TAOSDUMP_ENGINE_ABI {
        let versions = (engine.abi_version, TAOSDUMP_ENGINE_ABI);
        return Err(refuse(&format_args!(
            "its interface has version {}, not {}",
            versions.0, versions.1
        )));
    }
    let whole = engine.size as usize >= size_of::<STaosdumpEngine>();
    let Some(run) = engine.run.filter(|_| whole) else {
        return Err(refuse(&"its engine is not whole"));
    };
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| refuse(&error))?;
    let mut all = options.to_vec();
    all.push(STaosdumpOption {
        key: TAOSDUMP_OPTION_BITMAP_PLUGIN as i32,
        arg: name.as_ptr(),
    });
    let count = u32::try_from(all.len()).map_err(|error| refuse(&error))?;
    // SAFETY: the header's contract; everything lives until it returns.
    Ok(Some(unsafe { run(all.as_ptr(), count, password) }))
}

/// The file that this code was loaded from.
pub(crate) fn own_file() -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    let here = (&raw const ENGINE).cast();
    // SAFETY: any address may be asked about, and the place may be written.
    let known = unsafe { libc::dladdr(here, found.as_mut_ptr()) } != 0;
    // SAFETY: filled if it is known.
    let name = known.then(|| unsafe { found.assume_init() }.dli_fname)?;
    if name.is_null() {
        return None;
    }
    // SAFETY: not NULL, and it ends with a NUL and lives as long as the library.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_owned())
}

/// # Safety
/// `text` is NULL or ends with a NUL.
unsafe fn text(text: *const c_char) -> Option<OsString> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and the caller promises the NUL.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    Some(OsStr::from_bytes(bytes).to_owned())
}
