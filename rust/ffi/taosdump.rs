//! `taosdump_engine.h`: the command line of a patched taosdump, from C to `cli::taosdump`.

use crate::boundary::{boundary, lent_array};
use crate::header::{STaosdumpEngine, STaosdumpOption, TAOSDUMP_ENGINE_ABI, TAOSDUMP_FAILED};
use cli::taosdump::Given;
use std::ffi::{CStr, OsStr, OsString, c_char};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

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
        Some(cli::taosdump::run(&given, password))
    });
    code.map_or_else(
        || {
            let _ = writeln!(
                io::stderr(),
                "taosdump: internal error in the backup engine: please report it"
            );
            TAOSDUMP_FAILED as i32
        },
        i32::from,
    )
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
