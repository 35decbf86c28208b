//! The server's own client library, loaded at run time: the few calls that tests need.

use libloading::Library;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt, io,
    path::Path,
    ptr,
    sync::{Arc, OnceLock},
};

type Handle = *mut c_void;

/// A field's description, as taos.h lays it out: name, type, bytes.
#[repr(C)]
struct Field {
    name: [c_char; 65],
    data_type: i8,
    bytes: i32,
}

/// The functions of taos.h that are used here.
struct Api {
    connect: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const c_char,
        *const c_char,
        u16,
    ) -> Handle,
    close: unsafe extern "C" fn(Handle),
    query: unsafe extern "C" fn(Handle, *const c_char) -> Handle,
    errno: unsafe extern "C" fn(Handle) -> c_int,
    errstr: unsafe extern "C" fn(Handle) -> *const c_char,
    free_result: unsafe extern "C" fn(Handle),
    fetch_row: unsafe extern "C" fn(Handle) -> *mut *mut c_void,
    fetch_fields: unsafe extern "C" fn(Handle) -> *mut Field,
    num_fields: unsafe extern "C" fn(Handle) -> c_int,
    fetch_lengths: unsafe extern "C" fn(Handle) -> *mut c_int,
    affected_rows: unsafe extern "C" fn(Handle) -> c_int,
    /// Keeps the functions in place. Never unloaded: the library has threads of its own.
    _library: Library,
}

static API: OnceLock<Result<Arc<Api>, String>> = OnceLock::new();

/// TSDB_OPTION_CONFIGDIR.
const OPTION_CONFIG_DIR: c_int = 3;

/// The loaded library.
#[derive(Clone)]
pub(crate) struct Client(Arc<Api>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// A connection to the server. Closed when dropped.
pub struct Connection {
    api: Arc<Api>,
    handle: Handle,
}

// SAFETY: the library locks its connection objects; one may be used from any thread.
unsafe impl Send for Connection {}

/// What the server answered instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// Its error code.
    pub code: i32,
    /// Its words, and the statement.
    pub text: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x} {}", self.code, self.text)
    }
}

impl std::error::Error for SqlError {}

impl Client {
    /// Loads the library once per process; its configuration directory is the first caller's.
    pub(crate) fn load(library: &Path, config_dir: &Path) -> io::Result<Self> {
        API.get_or_init(|| load(library, config_dir).map(Arc::new))
            .clone()
            .map(Self)
            .map_err(io::Error::other)
    }

    pub(crate) fn connect(&self, port: u16) -> Result<Connection, SqlError> {
        let api = &self.0;
        // SAFETY: all strings are NUL-terminated literals; a null database is allowed.
        let handle = unsafe {
            let (host, user, password) = (c"localhost", c"root", c"taosdata");
            (api.connect)(
                host.as_ptr(),
                user.as_ptr(),
                password.as_ptr(),
                ptr::null(),
                port,
            )
        };
        if handle.is_null() {
            // SAFETY: null asks for the thread's last error.
            return Err(unsafe { api.error(ptr::null_mut(), "connect") });
        }
        Ok(Connection {
            api: api.clone(),
            handle,
        })
    }
}

fn load(library: &Path, config_dir: &Path) -> Result<Api, String> {
    // SAFETY: the library is TDengine's client; the types are those of its taos.h.
    unsafe {
        let library = Library::new(library).map_err(|e| e.to_string())?;
        macro_rules! function {
            ($name:literal) => {
                *library.get($name).map_err(|e| e.to_string())?
            };
        }
        let options: unsafe extern "C" fn(c_int, *const c_void, ...) -> c_int =
            function!("taos_options");
        let dir =
            CString::new(config_dir.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        options(OPTION_CONFIG_DIR, dir.as_ptr().cast());
        Ok(Api {
            connect: function!("taos_connect"),
            close: function!("taos_close"),
            query: function!("taos_query"),
            errno: function!("taos_errno"),
            errstr: function!("taos_errstr"),
            free_result: function!("taos_free_result"),
            fetch_row: function!("taos_fetch_row"),
            fetch_fields: function!("taos_fetch_fields"),
            num_fields: function!("taos_num_fields"),
            fetch_lengths: function!("taos_fetch_lengths"),
            affected_rows: function!("taos_affected_rows"),
            _library: library,
        })
    }
}

impl Api {
    /// # Safety
    /// `result` is null or a live result.
    unsafe fn error(&self, result: Handle, doing: &str) -> SqlError {
        // SAFETY: as above; the string lives as long as the result.
        unsafe {
            let text = CStr::from_ptr((self.errstr)(result)).to_string_lossy();
            SqlError {
                code: (self.errno)(result),
                text: format!("{text} ({doing:.200})"),
            }
        }
    }
}

impl Connection {
    /// Runs a statement and returns how many rows it affected.
    pub fn execute(&self, sql: &str) -> Result<i64, SqlError> {
        // SAFETY: the result is live until it is freed when the closure has returned.
        self.with_result(sql, |api, result| {
            Ok(i64::from(unsafe { (api.affected_rows)(result) }))
        })
    }

    /// Runs a query and returns its rows as text; NULL is empty.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        self.with_result(sql, |api, result| {
            let mut rows = Vec::new();
            // SAFETY: the result is live; a row and its lengths live until the next fetch.
            unsafe {
                let columns = (api.num_fields)(result) as usize;
                let fields = std::slice::from_raw_parts((api.fetch_fields)(result), columns);
                loop {
                    let row = (api.fetch_row)(result);
                    if row.is_null() {
                        break;
                    }
                    let row = std::slice::from_raw_parts(row, columns);
                    let lengths = std::slice::from_raw_parts((api.fetch_lengths)(result), columns);
                    let cells = fields.iter().zip(row).zip(lengths);
                    rows.push(
                        cells
                            .map(|((f, cell), len)| text(f.data_type, *cell, *len))
                            .collect(),
                    );
                }
                if (api.errno)(result) != 0 {
                    return Err(api.error(result, sql));
                }
            }
            Ok(rows)
        })
    }

    fn with_result<T>(
        &self,
        sql: &str,
        take: impl FnOnce(&Api, Handle) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let text = CString::new(sql).map_err(|_| SqlError {
            code: -1,
            text: "a statement with a NUL".to_owned(),
        })?;
        // SAFETY: the connection is live, the statement NUL-terminated, the result freed once.
        unsafe {
            let result = (self.api.query)(self.handle, text.as_ptr());
            let outcome = if (self.api.errno)(result) == 0 {
                take(&self.api, result)
            } else {
                Err(self.api.error(result, sql))
            };
            (self.api.free_result)(result);
            outcome
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle is live and closed once.
        unsafe { (self.api.close)(self.handle) }
    }
}

/// A cell as text, for the types that tests ask for.
///
/// # Safety
/// `cell` is null or points to a value of the type, `len` bytes long if it is of variable length.
unsafe fn text(data_type: i8, cell: *const c_void, len: c_int) -> String {
    if cell.is_null() {
        return String::new();
    }
    // SAFETY: as above; values need not be aligned.
    unsafe {
        match data_type {
            1 => cell.cast::<u8>().read().to_string(),
            2 => cell.cast::<i8>().read().to_string(),
            3 => cell.cast::<i16>().read_unaligned().to_string(),
            4 => cell.cast::<i32>().read_unaligned().to_string(),
            5 | 9 => cell.cast::<i64>().read_unaligned().to_string(),
            6 => cell.cast::<f32>().read_unaligned().to_string(),
            7 => cell.cast::<f64>().read_unaligned().to_string(),
            _ => {
                let bytes = std::slice::from_raw_parts(cell.cast::<u8>(), len.max(0) as usize);
                String::from_utf8_lossy(bytes).into_owned()
            }
        }
    }
}
