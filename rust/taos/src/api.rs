//! The functions of taos.h that are used, and its structs. Types and numbers are those of TDengine 3.3's header.

use libloading::os::unix::Library;
use std::{
    ffi::{c_char, c_int, c_ulong, c_void},
    ops::Deref,
};

pub(crate) type Handle = *mut c_void;

/// `__taos_async_fn_t`: what was given with a statement, its result, and 0 or the code of its error.
pub(crate) type Answered = unsafe extern "C" fn(*mut c_void, Handle, c_int);

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

macro_rules! functions {
    ($(#[$about:meta])* $name:ident $($(#[$doc:meta])* $field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(#[$about])*
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl $name {
            /// Looks every function up; the error is the name of the one that is missing.
            ///
            /// # Safety
            /// `library` is TDengine's client library, version 3, and outlives what is returned.
            pub(crate) unsafe fn look_up(library: &Library) -> Result<Self, &'static str> {
                // SAFETY: the types are those of taos.h.
                unsafe {
                    Ok(Self {
                        $($field: *library.get($symbol.as_bytes()).map_err(|_| $symbol)?,)*
                    })
                }
            }
        }
    };
}

/// The library, and its functions for statements.
pub(crate) struct Api {
    functions: Functions,
    pub(crate) options: unsafe extern "C" fn(c_int, *const c_void, ...) -> c_int,
    /// Where it was looked for.
    pub(crate) place: String,
    /// Keeps the functions in place.
    pub(crate) library: Library,
}

impl Api {
    /// Looks every function up; the error is the name of the one that is missing.
    ///
    /// # Safety
    /// `library` is TDengine's client library, version 3.
    pub(crate) unsafe fn resolve(library: Library, place: &str) -> Result<Self, &'static str> {
        // SAFETY: the types are those of taos.h; the library is kept with its functions.
        unsafe {
            Ok(Self {
                functions: Functions::look_up(&library)?,
                options: *library.get(b"taos_options").map_err(|_| "taos_options")?,
                place: place.to_owned(),
                library,
            })
        }
    }
}

impl Deref for Api {
    type Target = Functions;

    fn deref(&self) -> &Functions {
        &self.functions
    }
}

functions! {
    /// Statements and their results.
    Functions
    client_info = "taos_get_client_info": fn() -> *const c_char;
    connect = "taos_connect": fn(*const c_char, *const c_char, *const c_char, *const c_char, u16) -> Handle;
    close = "taos_close": fn(Handle);
    server_info = "taos_get_server_info": fn(Handle) -> *const c_char;
    query = "taos_query": fn(Handle, *const c_char) -> Handle;
    query_a = "taos_query_a": fn(Handle, *const c_char, Answered, *mut c_void);
    errno = "taos_errno": fn(Handle) -> c_int;
    errstr = "taos_errstr": fn(Handle) -> *const c_char;
    free_result = "taos_free_result": fn(Handle);
    load_table_info = "taos_load_table_info": fn(Handle, *const c_char) -> c_int;
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

/// `TAOS_STMT2_OPTION`.
#[repr(C)]
pub(crate) struct RawOption2 {
    pub(crate) request: i64,
    pub(crate) one_super_table: bool,
    pub(crate) each_table_once: bool,
    pub(crate) when_executed: *const c_void,
    pub(crate) argument: *mut c_void,
}

/// `TAOS_STMT2_BIND`: one column of a batch. Values of variable length stand one behind the other.
#[repr(C)]
pub(crate) struct RawBind2 {
    pub(crate) buffer_type: c_int,
    pub(crate) buffer: *const c_void,
    pub(crate) length: *const i32,
    pub(crate) is_null: *const c_char,
    pub(crate) num: c_int,
}

/// `TAOS_STMT2_BINDV`: the rows of several tables.
#[repr(C)]
pub(crate) struct RawBinds2 {
    pub(crate) count: c_int,
    pub(crate) tables: *const *const c_char,
    pub(crate) tags: *const *const RawBind2,
    pub(crate) columns: *const *const RawBind2,
}

functions! {
    /// Prepared statements that take BLOBs and rows of several tables, of 3.3.5 and later.
    Stmt2Functions
    init = "taos_stmt2_init": fn(Handle, *const RawOption2) -> Handle;
    prepare = "taos_stmt2_prepare": fn(Handle, *const c_char, c_ulong) -> c_int;
    bind_param = "taos_stmt2_bind_param": fn(Handle, *const RawBinds2, i32) -> c_int;
    exec = "taos_stmt2_exec": fn(Handle, *mut c_int) -> c_int;
    error = "taos_stmt2_error": fn(Handle) -> *const c_char;
    close = "taos_stmt2_close": fn(Handle) -> c_int;
}

/// `tmq_topic_assignment`.
#[repr(C)]
pub(crate) struct RawAssignment {
    pub(crate) vgroup: i32,
    pub(crate) current: i64,
    pub(crate) begin: i64,
    pub(crate) end: i64,
}

/// `tmq_raw_data`.
#[repr(C)]
pub(crate) struct RawMeta {
    pub(crate) bytes: *const c_void,
    pub(crate) length: u32,
    pub(crate) message_type: u16,
}

functions! {
    /// Subscriptions.
    TmqFunctions
    conf_new = "tmq_conf_new": fn() -> Handle;
    conf_set = "tmq_conf_set": fn(Handle, *const c_char, *const c_char) -> c_int;
    conf_destroy = "tmq_conf_destroy": fn(Handle);
    list_new = "tmq_list_new": fn() -> Handle;
    list_append = "tmq_list_append": fn(Handle, *const c_char) -> i32;
    list_destroy = "tmq_list_destroy": fn(Handle);
    consumer_new = "tmq_consumer_new": fn(Handle, *mut c_char, i32) -> Handle;
    consumer_close = "tmq_consumer_close": fn(Handle) -> i32;
    consumer_poll = "tmq_consumer_poll": fn(Handle, i64) -> Handle;
    subscribe = "tmq_subscribe": fn(Handle, Handle) -> i32;
    topic_assignment = "tmq_get_topic_assignment": fn(Handle, *const c_char, *mut *mut RawAssignment, *mut i32) -> i32;
    free_assignment = "tmq_free_assignment": fn(*mut RawAssignment);
    offset_seek = "tmq_offset_seek": fn(Handle, *const c_char, i32, i64) -> i32;
    position = "tmq_position": fn(Handle, *const c_char, i32) -> i64;
    err2str = "tmq_err2str": fn(i32) -> *const c_char;
    res_type = "tmq_get_res_type": fn(Handle) -> c_int;
    table_name = "tmq_get_table_name": fn(Handle) -> *const c_char;
    vgroup_id = "tmq_get_vgroup_id": fn(Handle) -> i32;
    fetch_block = "taos_fetch_block": fn(Handle, *mut *const *const c_void) -> c_int;
    column_offsets = "taos_get_column_data_offset": fn(Handle, c_int) -> *const c_int;
    raw = "tmq_get_raw": fn(Handle, *mut RawMeta) -> i32;
}
