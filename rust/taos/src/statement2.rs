//! Prepared INSERTs of rows with BLOBs, which [`Statement`](crate::Statement) does not take: by the library's newer
//! functions, which not every 3.3 has.

use crate::{
    Column, Connection, SqlError,
    api::{Handle, RawBind2, RawBinds2, RawOption2, Stmt2Functions},
    connection::text_at,
    statement::{row_count, table_name},
};
use std::{
    ffi::{CString, c_char, c_int, c_ulong},
    ptr,
};

/// A statement of the newer functions. Closed when dropped.
struct Statement2<'c> {
    functions: &'c Stmt2Functions,
    handle: Handle,
    sql: &'c str,
}

/// What the library wants of a column besides its bytes.
struct Marks {
    lengths: Vec<i32>,
    nulls: Vec<c_char>,
}

impl Marks {
    fn of(column: &Column) -> Self {
        let length = |length: &Option<usize>| length.unwrap_or(0) as i32;
        let null = |length: &Option<usize>| c_char::from(length.is_none());
        Self {
            lengths: column.lengths.iter().map(length).collect(),
            nulls: column.lengths.iter().map(null).collect(),
        }
    }
}

impl Connection {
    /// Runs `INSERT INTO ? … VALUES (?, …)` once, with these rows and this table, which is SQL text that is escaped. All
    /// columns are of one length.
    pub fn insert_with_blobs(
        &self,
        sql: &str,
        table: &str,
        columns: &[Column],
    ) -> Result<(), SqlError> {
        let count = row_count(columns)?;
        if count == 0 {
            return Ok(());
        }
        let table = table_name(table)?;
        // SAFETY: only libtaos exports all of these names.
        let functions = unsafe { Stmt2Functions::look_up(&self.api.library) };
        let functions = functions.map_err(|function| {
            SqlError::local(format!(
                "the client library has no function {function}, which rows with BLOBs need; use that of TDengine 3.3.7"
            ))
        })?;
        let statement = Statement2::prepare(self, &functions, sql)?;
        let written = statement.run(&table, columns, count)?;
        match written == count {
            true => Ok(()),
            false => Err(SqlError::local(format!(
                "{count} rows were sent, the server took {written}"
            ))
            .in_sql(sql)),
        }
    }
}

impl<'c> Statement2<'c> {
    fn prepare(
        connection: &Connection,
        functions: &'c Stmt2Functions,
        sql: &'c str,
    ) -> Result<Self, SqlError> {
        let option = RawOption2 {
            request: 0,
            one_super_table: false,
            each_table_once: false,
            when_executed: ptr::null(),
            argument: ptr::null_mut(),
        };
        // SAFETY: the connection is live; the library copies the options.
        let handle = unsafe { (functions.init)(connection.handle, &raw const option) };
        if handle.is_null() {
            return Err(crate::connection::last_error(&connection.api, sql));
        }
        let statement = Self {
            functions,
            handle,
            sql,
        };
        // SAFETY: the statement is live, the text as long as said.
        let code =
            unsafe { (functions.prepare)(handle, sql.as_ptr().cast(), sql.len() as c_ulong) };
        statement.check(code)?;
        Ok(statement)
    }

    /// Sends `count` rows; returns how many the server took.
    fn run(&self, table: &CString, columns: &[Column], count: c_int) -> Result<c_int, SqlError> {
        let marks: Vec<Marks> = columns.iter().map(Marks::of).collect();
        let binds: Vec<RawBind2> = columns
            .iter()
            .zip(&marks)
            .map(|(column, marks)| RawBind2 {
                buffer_type: column.data_type as c_int,
                buffer: column.bytes.as_ptr().cast(),
                length: match column.width() {
                    Some(_) => ptr::null(),
                    None => marks.lengths.as_ptr(),
                },
                is_null: marks.nulls.as_ptr(),
                num: count,
            })
            .collect();
        let (table, columns) = (table.as_ptr(), binds.as_ptr());
        let rows = RawBinds2 {
            count: 1,
            tables: &raw const table,
            tags: ptr::null(),
            columns: &raw const columns,
        };
        let mut written = 0;
        // SAFETY: the statement is live; each bind's buffers hold `count` values, and all of it outlives the calls.
        unsafe {
            self.check((self.functions.bind_param)(
                self.handle,
                &raw const rows,
                -1,
            ))?;
            self.check((self.functions.exec)(self.handle, &raw mut written))?;
        }
        Ok(written)
    }

    fn check(&self, code: c_int) -> Result<(), SqlError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the statement is live; the text lives until its next call.
        let text = unsafe { text_at((self.functions.error)(self.handle)) };
        Err(SqlError {
            code: code as u32,
            text,
            sql: None,
        }
        .in_sql(self.sql))
    }
}

impl Drop for Statement2<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live and closed once.
        unsafe {
            (self.functions.close)(self.handle);
        }
    }
}
