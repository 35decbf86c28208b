//! The server's own client library, loaded at run time: the few calls that tests need.

use crate::Cell;
use libloading::Library;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_ulong, c_void},
    fmt, io,
    path::Path,
    ptr,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

type Handle = *mut c_void;

/// A field's description, as taos.h lays it out: name, type, bytes.
#[repr(C)]
struct Field {
    name: [c_char; 65],
    data_type: i8,
    bytes: i32,
}

/// A column of values to bind, as taos.h lays it out.
#[repr(C)]
struct MultiBind {
    data_type: c_int,
    buffer: *const c_void,
    /// Bytes from one value to the next.
    width: usize,
    lengths: *const i32,
    is_null: *const c_char,
    count: c_int,
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
    stmt_init: unsafe extern "C" fn(Handle) -> Handle,
    stmt_prepare: unsafe extern "C" fn(Handle, *const c_char, c_ulong) -> c_int,
    stmt_bind: unsafe extern "C" fn(Handle, *const MultiBind) -> c_int,
    schemaless_insert:
        unsafe extern "C" fn(Handle, *const *const c_char, c_int, c_int, c_int) -> Handle,
    stmt_set_tbname_tags: unsafe extern "C" fn(Handle, *const c_char, *const MultiBind) -> c_int,
    stmt_add_batch: unsafe extern "C" fn(Handle) -> c_int,
    stmt_execute: unsafe extern "C" fn(Handle) -> c_int,
    stmt_error: unsafe extern "C" fn(Handle) -> *const c_char,
    stmt_close: unsafe extern "C" fn(Handle) -> c_int,
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
            stmt_init: function!("taos_stmt_init"),
            stmt_prepare: function!("taos_stmt_prepare"),
            stmt_bind: function!("taos_stmt_bind_param_batch"),
            schemaless_insert: function!("taos_schemaless_insert"),
            stmt_set_tbname_tags: function!("taos_stmt_set_tbname_tags"),
            stmt_add_batch: function!("taos_stmt_add_batch"),
            stmt_execute: function!("taos_stmt_execute"),
            stmt_error: function!("taos_stmt_errstr"),
            stmt_close: function!("taos_stmt_close"),
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
        self.with_result(sql.as_bytes(), |api, result| {
            Ok(i64::from(unsafe { (api.affected_rows)(result) }))
        })
    }

    /// Runs a statement that need not be UTF-8.
    pub fn execute_bytes(&self, sql: &[u8]) -> Result<(), SqlError> {
        self.with_result(sql, |_, _| Ok(()))
    }

    /// Writes a line of InfluxDB's protocol, with its time in ns, to the database that is in use.
    pub fn write_line(&self, line: &str) -> Result<(), SqlError> {
        const LINE_PROTOCOL: c_int = 1;
        const NANOSECONDS: c_int = 6;
        let text = CString::new(line).map_err(|_| SqlError {
            code: -1,
            text: "a line with a NUL".to_owned(),
        })?;
        let lines = [text.as_ptr()];
        let api = &self.api;
        // SAFETY: the connection is live, the line NUL-terminated; the result is freed once.
        unsafe {
            let result =
                (api.schemaless_insert)(self.handle, lines.as_ptr(), 1, LINE_PROTOCOL, NANOSECONDS);
            let outcome = match (api.errno)(result) {
                0 => Ok(()),
                _ => Err(api.error(result, line)),
            };
            (api.free_result)(result);
            outcome
        }
    }

    /// Runs a query and returns its rows as text; NULL is empty.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        let mut rows = Vec::new();
        self.each_row(sql, |row| rows.push(row.iter().map(Cell::text).collect()))?;
        Ok(rows)
    }

    /// Runs a query and returns its rows, every value bit for bit.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Cell>>, SqlError> {
        let mut rows = Vec::new();
        self.each_row(sql, |row| rows.push(row))?;
        Ok(rows)
    }

    fn each_row(&self, sql: &str, mut take: impl FnMut(Vec<Cell>)) -> Result<(), SqlError> {
        self.with_result(sql.as_bytes(), |api, result| {
            // SAFETY: the result is live; a row and its lengths live until the next fetch.
            unsafe {
                let columns = (api.num_fields)(result) as usize;
                let fields = std::slice::from_raw_parts((api.fetch_fields)(result), columns);
                let types: Vec<i8> = fields.iter().map(|field| field.data_type).collect();
                loop {
                    let row = (api.fetch_row)(result);
                    if row.is_null() {
                        break;
                    }
                    let row = std::slice::from_raw_parts(row, columns);
                    let lengths = std::slice::from_raw_parts((api.fetch_lengths)(result), columns);
                    let cells = types.iter().zip(row).zip(lengths);
                    take(
                        cells
                            .map(|((t, cell), len)| read(*t, *cell, *len))
                            .collect(),
                    );
                }
                if (api.errno)(result) != 0 {
                    return Err(api.error(result, sql));
                }
            }
            Ok(())
        })
    }

    /// Runs a prepared statement once with all rows. `types` are the codes of the bound columns' types. Values
    /// arrive as they are: a text may hold a NUL, a float be NaN.
    pub fn bind(&self, sql: &str, types: &[u8], rows: &[Vec<Cell>]) -> Result<(), SqlError> {
        self.bind_child(sql, None, types, rows)
    }

    /// The same for `INSERT INTO ? USING … TAGS (?, …) VALUES (?, …)`, with the child's name and its tags with the codes
    /// of their types.
    pub fn bind_child(
        &self,
        sql: &str,
        child: Option<(&str, &[(u8, Cell)])>,
        types: &[u8],
        rows: &[Vec<Cell>],
    ) -> Result<(), SqlError> {
        let name = CString::new(child.map_or("", |(name, _)| name)).unwrap_or_default();
        let tags = child.map_or(&[][..], |(_, tags)| tags);
        let values: Vec<BoundColumn> = tags
            .iter()
            .map(|(t, cell)| BoundColumn::new(*t, std::iter::once(cell)))
            .collect();
        let tags: Vec<MultiBind> = values.iter().map(BoundColumn::bind).collect();
        let columns: Vec<BoundColumn> = types
            .iter()
            .enumerate()
            .map(|(n, t)| BoundColumn::new(*t, rows.iter().map(|row| &row[n])))
            .collect();
        let binds: Vec<MultiBind> = columns.iter().map(BoundColumn::bind).collect();
        let api = &self.api;
        // SAFETY: the connection is live; all buffers outlive the statement, which is closed once.
        unsafe {
            let stmt = (api.stmt_init)(self.handle);
            let steps = || {
                let length = sql.len() as c_ulong;
                match (api.stmt_prepare)(stmt, sql.as_ptr().cast(), length) {
                    0 => (),
                    code => return code,
                }
                if child.is_some() {
                    match (api.stmt_set_tbname_tags)(stmt, name.as_ptr(), tags.as_ptr()) {
                        0 => (),
                        code => return code,
                    }
                }
                match (api.stmt_bind)(stmt, binds.as_ptr()) {
                    0 => (),
                    code => return code,
                }
                match (api.stmt_add_batch)(stmt) {
                    0 => (api.stmt_execute)(stmt),
                    code => code,
                }
            };
            let code = steps();
            let text = CStr::from_ptr((api.stmt_error)(stmt)).to_string_lossy();
            let outcome = if code == 0 {
                Ok(())
            } else {
                let text = format!("{text} ({sql:.200})");
                Err(SqlError { code, text })
            };
            (api.stmt_close)(stmt);
            outcome
        }
    }

    fn with_result<T>(
        &self,
        sql: &[u8],
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
                Err(self.api.error(result, &String::from_utf8_lossy(sql)))
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

/// The values of one column, laid out as the library reads them.
struct BoundColumn {
    data_type: u8,
    width: usize,
    values: Vec<u8>,
    lengths: Vec<i32>,
    nulls: Vec<c_char>,
}

impl BoundColumn {
    fn new<'a>(data_type: u8, cells: impl Iterator<Item = &'a Cell> + Clone) -> Self {
        let bytes: Vec<Vec<u8>> = cells.clone().map(|cell| cell.bytes(data_type)).collect();
        let width = bytes.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut values = vec![0; width * bytes.len()];
        for (place, bytes) in values.chunks_exact_mut(width).zip(&bytes) {
            place[..bytes.len()].copy_from_slice(bytes);
        }
        Self {
            data_type,
            width,
            values,
            lengths: bytes.iter().map(|bytes| bytes.len() as i32).collect(),
            nulls: cells
                .map(|cell| c_char::from(*cell == Cell::Null))
                .collect(),
        }
    }

    fn bind(&self) -> MultiBind {
        MultiBind {
            data_type: self.data_type.into(),
            buffer: self.values.as_ptr().cast(),
            width: self.width,
            lengths: self.lengths.as_ptr(),
            is_null: self.nulls.as_ptr(),
            count: self.nulls.len() as c_int,
        }
    }
}

/// # Safety
/// `cell` is null or points to a value of the type, `len` bytes long if it is of variable length.
unsafe fn read(data_type: i8, cell: *const c_void, len: c_int) -> Cell {
    if cell.is_null() {
        return Cell::Null;
    }
    // SAFETY: as above; values need not be aligned.
    unsafe {
        let bytes = || std::slice::from_raw_parts(cell.cast::<u8>(), len.max(0) as usize).to_vec();
        match data_type {
            1 => Cell::Bool(cell.cast::<u8>().read() != 0),
            2 => Cell::Int(cell.cast::<i8>().read().into()),
            3 => Cell::Int(cell.cast::<i16>().read_unaligned().into()),
            4 => Cell::Int(cell.cast::<i32>().read_unaligned().into()),
            5 => Cell::Int(cell.cast::<i64>().read_unaligned()),
            6 => Cell::Float(cell.cast::<u32>().read_unaligned()),
            7 => Cell::Double(cell.cast::<u64>().read_unaligned()),
            9 => Cell::Time(cell.cast::<i64>().read_unaligned()),
            11 => Cell::Unsigned(cell.cast::<u8>().read().into()),
            12 => Cell::Unsigned(cell.cast::<u16>().read_unaligned().into()),
            13 => Cell::Unsigned(cell.cast::<u32>().read_unaligned().into()),
            14 => Cell::Unsigned(cell.cast::<u64>().read_unaligned()),
            16 | 18..=20 => Cell::Bytes(bytes()),
            17 | 21 => {
                let digits = CStr::from_ptr(cell.cast());
                Cell::Decimal(digits.to_string_lossy().into_owned())
            }
            _ => Cell::Text(bytes()),
        }
    }
}

/// A vgroup that is committing, or a transaction of the mnode that is not done, makes the server say so and ask for
/// another try.
pub(crate) fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    const BUSY: [i32; 4] = [
        0x8000_0117_u32 as i32, // invalid pointer: seen once, of a query that was answered when it was repeated
        0x8000_03d3_u32 as i32, // conflicting transaction
        0x8000_0530_u32 as i32, // vnode is stopped or not yet open
        0x8000_0904_u32 as i32, // sync is not leader yet
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt() {
            Err(e) if BUSY.contains(&e.code) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            outcome => return outcome,
        }
    }
}
