//! A connection, statements and their results.

use crate::{
    Statement,
    api::{Api, Handle, RawField},
};
use model::{DataType, MayPass, Progress, Value, retry::while_busy};
use std::{
    ffi::{CStr, CString, c_char},
    fmt,
    marker::PhantomData,
    ptr,
    sync::Arc,
};

/// A connection to the server. Closed when dropped.
pub struct Connection {
    pub(crate) api: Arc<Api>,
    pub(crate) handle: Handle,
}

// SAFETY: the library locks its connection objects; one may be used from any thread, one thread at a time.
unsafe impl Send for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// What the server or the client library answered instead of a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (0x{code:08x}){}", .sql.as_ref().map(|sql| format!(" in: {sql}")).unwrap_or_default())]
pub struct SqlError {
    /// The error code, as in TDengine's list of error codes; 0xffff for errors of this crate.
    pub code: u32,
    /// What is wrong, in the server's words.
    pub text: String,
    /// The statement, cut if it is long.
    pub sql: Option<String>,
}

/// Longer statements are cut in messages.
const SQL_SHOWN: usize = 300;

impl SqlError {
    /// An error that comes from this crate, not from a server.
    pub fn local(text: impl Into<String>) -> Self {
        Self {
            code: 0xffff,
            text: text.into(),
            sql: None,
        }
    }

    pub(crate) fn in_sql(mut self, sql: &str) -> Self {
        let mut shown: String = sql.chars().take(SQL_SHOWN).collect();
        if shown.len() < sql.len() {
            shown.push('…');
        }
        self.sql = Some(shown);
        self
    }

    /// Whether the table, super table or database is not there (any more).
    pub fn is_missing(&self) -> bool {
        // Table does not exist: 0x2603 from the client's catalogue, 0x0362 from the mnode, 0x0618 from the vnode.
        matches!(self.code & 0xffff, 0x2603 | 0x0362 | 0x0618 | 0x2662)
    }

    /// Whether a table of this name is there already.
    pub fn is_there_already(&self) -> bool {
        // 0x0603 from the vnode, 0x0360 from the mnode.
        matches!(self.code & 0xffff, 0x0603 | 0x0360)
    }

    /// Whether the statement, or a value in it, is refused for what it is: tried again, it is refused again, whatever is
    /// done to the server.
    pub fn is_of_the_statement(&self) -> bool {
        // What the client's parser refuses; a statement of more than 1 MiB.
        matches!(self.code & 0xffff, 0x2600..=0x26ff | 0x0219) && !self.is_missing()
    }

    /// Whether a row is refused for a value that it holds.
    pub fn is_of_a_value(&self) -> bool {
        // A statement of more than 1 MiB, which every row but a very long one fits into; a value that is too long; a BLOB
        // that is too long.
        matches!(self.code & 0xffff, 0x0219 | 0x2653 | 0x6303)
    }

    /// Whether there is no such database.
    pub fn is_no_database(&self) -> bool {
        self.code & 0xffff == 0x0388
    }

    /// Whether the server is busy with something else that ends soon.
    pub fn is_busy(&self) -> bool {
        // A server that starts, a database in creating, a conflicting transaction; no leader yet, one that is not ready,
        // restoring after a start; a vnode that is closed, not there, stopped or not open yet, as while its vgroup is moved to another dnode.
        matches!(
            self.code & 0xffff,
            0x0130 | 0x0396 | 0x03d3 | 0x0503 | 0x0520 | 0x0529 | 0x0530 | 0x090c | 0x0911 | 0x0914
        )
    }

    /// Whether what a query needs is about to be there: a database is being created, or a vnode was closed, as its vgroup
    /// gets other replicas, and another one answers, or this one soon does.
    fn is_about_to_be_there(&self) -> bool {
        matches!(self.code & 0xffff, 0x0396 | 0x0503)
    }

    /// Whether the server can't be reached, as opposed to having refused the statement.
    pub fn is_disconnected(&self) -> bool {
        // RPC_NETWORK_UNAVAIL, RPC_TIMEOUT, RPC_SOMENODE_NOT_CONNECTED, RPC_BROKEN_LINK and their like.
        matches!(
            self.code & 0xffff,
            0x000b | 0x0015 | 0x0018 | 0x0019 | 0x0020..=0x0024
        )
    }
}

impl MayPass for SqlError {
    fn may_pass(&self) -> bool {
        self.is_disconnected() || self.is_busy()
    }
}

/// The error of the last failed call of this thread that has no result to ask.
pub(crate) fn last_error(api: &Api, doing: &str) -> SqlError {
    // SAFETY: null asks for the thread's last error.
    unsafe { result_error(api, ptr::null_mut()) }.in_sql(doing)
}

/// # Safety
/// `result` is null or a live result.
pub(crate) unsafe fn result_error(api: &Api, result: Handle) -> SqlError {
    // SAFETY: as above; the text lives as long as the result.
    unsafe {
        SqlError {
            code: (api.errno)(result) as u32,
            text: text_at((api.errstr)(result)),
            sql: None,
        }
    }
}

/// # Safety
/// `text` is null or NUL-terminated.
pub(crate) unsafe fn text_at(text: *const c_char) -> String {
    if text.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// Whether a name needs no quotes and is the same in lower case.
fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_plain)
}

impl Connection {
    pub(crate) fn new(api: Arc<Api>, handle: Handle) -> Self {
        Self { api, handle }
    }

    /// The server's version.
    pub fn server_version(&self) -> String {
        // SAFETY: the connection is live, and keeps the text.
        unsafe { text_at((self.api.server_info)(self.handle)) }
    }

    /// Has the library learn all at a time what it would else ask the server for table by table. Those whose names are not
    /// plain are left out, as the list has no escapes that every version reads.
    ///
    /// # Errors
    /// What the server answered. The tables can be used all the same: the library asks again.
    pub fn meet_tables(&self, database: &str, tables: &[&str]) -> Result<(), SqlError> {
        let plain = tables.iter().filter(|table| is_plain(table));
        let list: Vec<String> = plain.map(|table| format!("{database}.{table}")).collect();
        if list.is_empty() || !is_plain(database) {
            return Ok(());
        }
        let list = crate::statement::table_name(&list.join(","))?;
        // SAFETY: the connection is live; the library reads the text during the call.
        match unsafe { (self.api.load_table_info)(self.handle, list.as_ptr()) } {
            0 => Ok(()),
            _ => Err(last_error(&self.api, "")),
        }
    }

    /// Runs a statement that has no rows to return, and says how many it affected. While the server says that it is
    /// busy with something that the statement needs, it is asked again, for a minute. The statement may hold bytes
    /// that are not UTF-8.
    ///
    /// # Errors
    /// What the server or the client library answered last; a NUL in the statement.
    pub fn execute<S: AsRef<[u8]> + ?Sized>(&self, sql: &S) -> Result<u64, SqlError> {
        self.execute_until_cancelled(sql, &())
    }

    /// As [`Connection::execute`], but the wait for a busy server ends when the work is cancelled.
    ///
    /// # Errors
    /// As [`Connection::execute`].
    pub fn execute_until_cancelled<S: AsRef<[u8]> + ?Sized>(
        &self,
        sql: &S,
        progress: &dyn Progress,
    ) -> Result<u64, SqlError> {
        let rows = self.patiently(sql.as_ref(), SqlError::is_busy, progress)?;
        // SAFETY: the result is live.
        Ok(unsafe { (self.api.affected_rows)(rows.result) }.max(0) as u64)
    }

    /// Runs a query. While a database that it needs is being created, or a vgroup moves, it is asked again, for a
    /// minute.
    pub fn query(&self, sql: &str) -> Result<Rows<'_>, SqlError> {
        self.patiently(sql.as_bytes(), SqlError::is_about_to_be_there, &())
    }

    fn patiently(
        &self,
        sql: &[u8],
        is_over_soon: fn(&SqlError) -> bool,
        progress: &dyn Progress,
    ) -> Result<Rows<'_>, SqlError> {
        // A lost connection is not tried again: nobody knows whether the statement was run.
        while_busy(progress, is_over_soon, || self.run(sql))
    }

    fn run(&self, sql: &[u8]) -> Result<Rows<'_>, SqlError> {
        let shown = || String::from_utf8_lossy(sql);
        let text = CString::new(sql).map_err(|_| {
            SqlError::local("a statement can't hold a NUL").in_sql(&shown().replace('\0', "\\0"))
        })?;
        // SAFETY: the connection is live, the statement NUL-terminated; `Rows` frees the result.
        let mut rows = unsafe {
            let result = (self.api.query)(self.handle, text.as_ptr());
            let rows = Rows {
                api: &self.api,
                result,
                fields: Vec::new(),
                connection: PhantomData,
            };
            if result.is_null() || (self.api.errno)(result) != 0 {
                return Err(result_error(&self.api, result).in_sql(&shown()));
            }
            rows
        };
        rows.fields = rows.describe().map_err(|error| error.in_sql(&shown()))?;
        Ok(rows)
    }

    /// Prepares `INSERT INTO ? … VALUES (?, …)`.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>, SqlError> {
        Statement::prepare(self, sql)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle is live and closed once.
        unsafe { (self.api.close)(self.handle) }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

/// The rows of a result, fetched as they are asked for. Freed when dropped.
pub struct Rows<'c> {
    api: &'c Api,
    result: Handle,
    fields: Vec<Field>,
    connection: PhantomData<&'c Connection>,
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl Rows<'_> {
    fn describe(&self) -> Result<Vec<Field>, SqlError> {
        // SAFETY: the result is live; its fields are as many as it says and live as long as it does.
        let raw = unsafe {
            let count = (self.api.num_fields)(self.result);
            let fields = (self.api.fetch_fields)(self.result);
            match usize::try_from(count) {
                Ok(count @ 1..) if !fields.is_null() => std::slice::from_raw_parts(fields, count),
                _ => return Ok(Vec::new()),
            }
        };
        raw.iter().map(field).collect()
    }

    /// The columns.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The next row.
    #[expect(
        clippy::should_implement_trait,
        reason = "a row borrows from the result"
    )]
    pub fn next(&mut self) -> Result<Option<Row<'_>>, SqlError> {
        // SAFETY: the result is live; a row and its lengths live until the next fetch, and are as many as the
        // fields.
        unsafe {
            let row = (self.api.fetch_row)(self.result);
            if row.is_null() {
                return match (self.api.errno)(self.result) {
                    0 => Ok(None),
                    _ => Err(result_error(self.api, self.result)),
                };
            }
            let lengths = (self.api.fetch_lengths)(self.result);
            if lengths.is_null() {
                return Err(result_error(self.api, self.result));
            }
            Ok(Some(Row {
                fields: &self.fields,
                cells: std::slice::from_raw_parts(row, self.fields.len()),
                lengths: std::slice::from_raw_parts(lengths, self.fields.len()),
            }))
        }
    }

    /// Calls `each` with every remaining row.
    pub fn for_each<E: From<SqlError>>(
        mut self,
        mut each: impl FnMut(Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(row) = self.next()? {
            each(row)?;
        }
        Ok(())
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if !self.result.is_null() {
            // SAFETY: the result is live and freed once.
            unsafe { (self.api.free_result)(self.result) }
        }
    }
}

fn field(raw: &RawField) -> Result<Field, SqlError> {
    let bytes = raw
        .name
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| *byte as u8);
    let name = String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned();
    match DataType::from_code(raw.data_type) {
        Some(data_type) => Ok(Field { name, data_type }),
        None => Err(SqlError::local(format!(
            "column {name} has data type {}, which this version does not know",
            raw.data_type
        ))),
    }
}

/// A row of a result.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    fields: &'a [Field],
    cells: &'a [*const std::ffi::c_void],
    lengths: &'a [i32],
}

impl<'a> Row<'a> {
    /// The value of a column; NULL for one that is not there.
    pub fn get(&self, column: usize) -> Value<'a> {
        let (Some(field), Some(cell), Some(length)) = (
            self.fields.get(column),
            self.cells.get(column),
            self.lengths.get(column),
        ) else {
            return Value::Null;
        };
        if cell.is_null() {
            return Value::Null;
        }
        let length = match field.data_type.width() {
            Some(width) => width,
            None => usize::try_from(*length).unwrap_or(0),
        };
        // SAFETY: the library says that so many bytes are there; they live until the next fetch.
        let bytes = unsafe { std::slice::from_raw_parts(cell.cast::<u8>(), length) };
        Value::read(field.data_type, bytes).unwrap_or(Value::Null)
    }

    /// The text of a column; empty when it is NULL or not text.
    pub fn text(&self, column: usize) -> String {
        match self.get(column) {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }
}
