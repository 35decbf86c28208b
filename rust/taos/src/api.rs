//! The functions of taos.h that are used, and its structs. Types and numbers are those of TDengine 3.3's header.

use libloading::os::unix::Library;
use std::ffi::{c_char, c_int, c_ulong, c_void};

pub(crate) type Handle = *mut c_void;

/// `TAOS_FIELD`.
#[repr(C)]
pub(crate) struct RawField {
    pub(crate) name: [c_char; 65],
    pub(crate) data_type: i8,
    pub(crate) bytes: i32,
}

/// `TAOS_MULTI_BIND`: one column of a batch.
#[repr(C)]
pub(crate) struct RawBind {
    pub(crate) buffer_type: c_int,
    pub(crate) buffer: *mut c_void,
    pub(crate) buffer_length: usize,
    pub(crate) length: *mut i32,
    pub(crate) is_null: *mut c_char,
    pub(crate) num: c_int,
}

/// `TSDB_OPTION_LOCALE`, `_CHARSET` and `_CONFIGDIR`.
pub(crate) const OPTION_LOCALE: c_int = 0;
pub(crate) const OPTION_CHARSET: c_int = 1;
pub(crate) const OPTION_CONFIG_DIR: c_int = 3;

macro_rules! api {
    ($($(#[$doc:meta])* $field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        pub(crate) struct Api {
            $(pub(crate) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            pub(crate) options: unsafe extern "C" fn(c_int, *const c_void, ...) -> c_int,
            /// Keeps the functions in place.
            _library: Library,
        }

        impl Api {
            /// Looks every function up; the error is the name of the one that is missing.
            ///
            /// # Safety
            /// `library` is TDengine's client library, version 3.
            pub(crate) unsafe fn resolve(library: Library) -> Result<Self, &'static str> {
                // SAFETY: the types are those of taos.h.
                unsafe {
                    Ok(Self {
                        $($field: *library.get($symbol.as_bytes()).map_err(|_| $symbol)?,)*
                        options: *library.get(b"taos_options").map_err(|_| "taos_options")?,
                        _library: library,
                    })
                }
            }
        }
    };
}

api! {
    client_info = "taos_get_client_info": fn() -> *const c_char;
    connect = "taos_connect": fn(*const c_char, *const c_char, *const c_char, *const c_char, u16) -> Handle;
    close = "taos_close": fn(Handle);
    server_info = "taos_get_server_info": fn(Handle) -> *const c_char;
    query = "taos_query": fn(Handle, *const c_char) -> Handle;
    errno = "taos_errno": fn(Handle) -> c_int;
    errstr = "taos_errstr": fn(Handle) -> *const c_char;
    free_result = "taos_free_result": fn(Handle);
    affected_rows = "taos_affected_rows": fn(Handle) -> c_int;
    num_fields = "taos_num_fields": fn(Handle) -> c_int;
    fetch_fields = "taos_fetch_fields": fn(Handle) -> *const RawField;
    fetch_row = "taos_fetch_row": fn(Handle) -> *const *const c_void;
    fetch_lengths = "taos_fetch_lengths": fn(Handle) -> *const c_int;
    stmt_init = "taos_stmt_init": fn(Handle) -> Handle;
    stmt_prepare = "taos_stmt_prepare": fn(Handle, *const c_char, c_ulong) -> c_int;
    stmt_set_tbname = "taos_stmt_set_tbname": fn(Handle, *const c_char) -> c_int;
    stmt_bind_param_batch = "taos_stmt_bind_param_batch": fn(Handle, *const RawBind) -> c_int;
    stmt_add_batch = "taos_stmt_add_batch": fn(Handle) -> c_int;
    stmt_execute = "taos_stmt_execute": fn(Handle) -> c_int;
    stmt_affected_rows_once = "taos_stmt_affected_rows_once": fn(Handle) -> c_int;
    stmt_errstr = "taos_stmt_errstr": fn(Handle) -> *const c_char;
    stmt_close = "taos_stmt_close": fn(Handle) -> c_int;
}
