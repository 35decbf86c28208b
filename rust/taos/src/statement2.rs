//! Prepared INSERTs by the library's newer functions, which not every 3.3 has. They take rows of several tables at a time,
//! BLOBs too, and read values where they lie.

use crate::{
    Column, Connection, SqlError,
    api::{Handle, RawBind2, RawBinds2, RawOption2, Stmt2Functions},
    connection::text_at,
    statement::table_name,
};
use model::DataType;
use std::{
    borrow::Cow,
    ffi::{CString, c_char, c_int, c_ulong},
    ptr,
    sync::Arc,
};

/// The most rows of a table that the library takes at a time.
pub const MOST_ROWS: usize = i16::MAX as usize;

/// Cells of one column, as the library reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSlice<'a> {
    data_type: DataType,
    rows: usize,
    values: Cow<'a, [u8]>,
    /// Of values of variable length.
    lengths: Option<Vec<i32>>,
    /// Which rows have no value; `None`: none of them.
    nulls: Option<Vec<bool>>,
}

impl<'a> ColumnSlice<'a> {
    /// `rows` cells whose values have a fixed width, also those of rows without one. A DECIMAL is the integer that the server
    /// stores. `None` if there are fewer or more values or marks than rows, or for a type that has no such values.
    pub fn fixed(
        data_type: DataType,
        rows: usize,
        values: Cow<'a, [u8]>,
        nulls: Option<Vec<bool>>,
    ) -> Option<Self> {
        let width = data_type.stored_width()?;
        // The library makes another byte of a BOOL one, where it lies.
        let whole = data_type != DataType::Bool || values.iter().all(|byte| *byte <= 1);
        let slice = Self {
            data_type,
            rows,
            values,
            lengths: None,
            nulls,
        };
        (whole && Some(slice.values.len()) == rows.checked_mul(width) && slice.is_marked())
            .then_some(slice)
    }

    /// Cells whose values have these lengths and stand one behind the other; a row without a value has length 0. NCHAR is
    /// UTF-8. `None` if that does not add up, or for a type whose values have one width.
    pub fn variable(
        data_type: DataType,
        lengths: Vec<i32>,
        values: Cow<'a, [u8]>,
        nulls: Option<Vec<bool>>,
    ) -> Option<Self> {
        let add = |sum: usize, length: &i32| sum.checked_add(usize::try_from(*length).ok()?);
        let bytes = lengths.iter().try_fold(0, add)?;
        let slice = Self {
            data_type,
            rows: lengths.len(),
            values,
            lengths: Some(lengths),
            nulls,
        };
        let nothing = |(null, length): (&bool, &i32)| !null || *length == 0;
        let marks = slice.nulls.iter().flatten();
        let nulls_are_empty = marks.zip(slice.lengths.iter().flatten()).all(nothing);
        let fits = data_type.stored_width().is_none() && slice.values.len() == bytes;
        (fits && nulls_are_empty && slice.is_marked()).then_some(slice)
    }

    fn is_marked(&self) -> bool {
        let marks = self.nulls.as_ref();
        marks.is_none_or(|nulls| nulls.len() == self.rows)
    }

    fn of(column: &'a Column) -> Option<Self> {
        let values = Cow::Borrowed(column.bytes.as_slice());
        let nulls = column.lengths.iter().map(Option::is_none).collect();
        let length = |length: &Option<usize>| i32::try_from(length.unwrap_or(0)).ok();
        match column.width() {
            Some(_) => Self::fixed(column.data_type, column.len(), values, Some(nulls)),
            None => {
                let lengths = column.lengths.iter().map(length).collect::<Option<_>>()?;
                Self::variable(column.data_type, lengths, values, Some(nulls))
            }
        }
    }

    fn bind(&self) -> RawBind2 {
        let lengths = self.lengths.as_ref();
        let nulls = self.nulls.as_ref();
        RawBind2 {
            buffer_type: self.data_type as c_int,
            buffer: self.values.as_ptr().cast(),
            length: lengths.map_or(ptr::null(), |lengths| lengths.as_ptr()),
            is_null: nulls.map_or(ptr::null(), |nulls| nulls.as_ptr().cast::<c_char>()),
            num: self.rows as c_int,
        }
    }
}

/// Rows of one table on their way to it.
#[derive(Debug, Clone)]
pub struct TableSlice<'a> {
    table: CString,
    rows: usize,
    columns: Vec<ColumnSlice<'a>>,
}

impl<'a> TableSlice<'a> {
    /// Rows of this table, which is SQL text that is escaped.
    ///
    /// # Errors
    /// The name holds a NUL, there is no row, the library takes fewer at a time, or columns differ in length.
    pub fn new(table: &str, columns: Vec<ColumnSlice<'a>>) -> Result<Self, SqlError> {
        let rows = columns.first().map_or(0, |column| column.rows);
        if columns.iter().any(|column| column.rows != rows) {
            return Err(SqlError::local("the columns of a batch differ in length"));
        }
        if !(1..=MOST_ROWS).contains(&rows) {
            let problem = format!("{rows} rows at a time are none, or more than {MOST_ROWS}");
            return Err(SqlError::local(problem));
        }
        Ok(Self {
            table: table_name(table)?,
            rows,
            columns,
        })
    }
}

/// A connection that rows are written through. The INSERT that it prepared last is used again as long as it is the same.
pub struct Inserter {
    // Closed before its connection.
    statement: Option<Statement2>,
    functions: Option<Arc<Stmt2Functions>>,
    connection: Connection,
}

impl std::fmt::Debug for Inserter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inserter")
    }
}

impl Inserter {
    /// Takes a connection.
    pub fn new(connection: Connection) -> Self {
        Self {
            statement: None,
            functions: connection.newer_functions().ok().map(Arc::new),
            connection,
        }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the client library has the functions for it.
    pub fn is_able(&self) -> bool {
        self.functions.is_some()
    }

    /// Runs `INSERT INTO ? … VALUES (?, …)` once, with all of these rows. Where it fails, some may have been written.
    ///
    /// # Errors
    /// What the server or the library says; the library has no function for it.
    pub fn insert(&mut self, sql: &str, tables: &[TableSlice<'_>]) -> Result<(), SqlError> {
        if tables.is_empty() {
            return Ok(());
        }
        let prepared = self.statement.take().filter(|prepared| prepared.sql == sql);
        let statement = match (prepared, &self.functions) {
            (Some(prepared), _) => prepared,
            (None, Some(functions)) => {
                Statement2::prepare(&self.connection, Arc::clone(functions), sql)?
            }
            (None, None) => return self.connection.newer_functions().map(drop),
        };
        statement.run(tables)?;
        // After an error, nobody knows what is still bound to it.
        self.statement = Some(statement);
        Ok(())
    }
}

/// A statement of the newer functions, of a connection that is closed later. Closed when dropped.
struct Statement2 {
    functions: Arc<Stmt2Functions>,
    handle: Handle,
    sql: String,
    /// How many `?` it has.
    marks: usize,
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
        if columns.iter().all(Column::is_empty) {
            return Ok(());
        }
        let slices: Option<Vec<ColumnSlice<'_>>> = columns.iter().map(ColumnSlice::of).collect();
        let too_long = || SqlError::local("a value of more than 2^31 bytes");
        let slice = TableSlice::new(table, slices.ok_or_else(too_long)?)?;
        let functions = Arc::new(self.newer_functions()?);
        Statement2::prepare(self, functions, sql)?.run(&[slice])
    }

    fn newer_functions(&self) -> Result<Stmt2Functions, SqlError> {
        // SAFETY: only libtaos exports all of these names, and the connection keeps it.
        let functions = unsafe { Stmt2Functions::look_up(&self.api.library) };
        functions.map_err(|function| {
            SqlError::local(format!(
                "the client library has no function {function}, which rows with BLOBs need; use that of TDengine 3.3.7"
            ))
        })
    }
}

impl Statement2 {
    fn prepare(
        connection: &Connection,
        functions: Arc<Stmt2Functions>,
        sql: &str,
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
            sql: sql.to_owned(),
            marks: marks(sql),
        };
        // SAFETY: the statement is live, the text as long as said.
        let code = unsafe {
            (statement.functions.prepare)(handle, sql.as_ptr().cast(), sql.len() as c_ulong)
        };
        statement.check(code)?;
        Ok(statement)
    }

    /// Sends the rows, all of which the server has to take.
    fn run(&self, tables: &[TableSlice<'_>]) -> Result<(), SqlError> {
        // The library reads as many columns as there are marks behind that of the table.
        let fits = |table: &TableSlice<'_>| table.columns.len() + 1 == self.marks;
        if !tables.iter().all(fits) {
            let problem = "a batch has not one column for each mark";
            return Err(SqlError::local(problem).in_sql(&self.sql));
        }
        let too_many = |_| SqlError::local("more than 2^31 tables or rows at a time");
        let count = c_int::try_from(tables.len()).map_err(too_many)?;
        let rows: usize = tables.iter().map(|table| table.rows).sum();
        let rows = c_int::try_from(rows).map_err(too_many)?;
        let names: Vec<*const c_char> = tables.iter().map(|table| table.table.as_ptr()).collect();
        let columns = tables.iter().flat_map(|table| &table.columns);
        let binds: Vec<RawBind2> = columns.map(ColumnSlice::bind).collect();
        let mut of_table = binds.as_slice();
        let mut columns: Vec<*const RawBind2> = Vec::with_capacity(tables.len());
        for table in tables {
            columns.push(of_table.as_ptr());
            of_table = of_table.get(table.columns.len()..).unwrap_or_default();
        }
        let all = RawBinds2 {
            count,
            tables: names.as_ptr(),
            tags: ptr::null(),
            columns: columns.as_ptr(),
        };
        let mut written = 0;
        // SAFETY: the statement is live; there are `count` names and pointers to columns, each bind's buffers hold as many
        // values as it says, and all of it outlives the calls.
        unsafe {
            self.check((self.functions.bind_param)(self.handle, &raw const all, -1))?;
            self.check((self.functions.exec)(self.handle, &raw mut written))?;
        }
        match written == rows {
            true => Ok(()),
            false => Err(SqlError::local(format!(
                "{rows} rows were sent, the server took {written}"
            ))
            .in_sql(&self.sql)),
        }
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
        .in_sql(&self.sql))
    }
}

/// How many `?` a statement has that are not in names or texts.
fn marks(sql: &str) -> usize {
    let mut quoted_by = None;
    let mut marks = 0;
    for byte in sql.bytes() {
        match (quoted_by, byte) {
            (None, b'?') => marks += 1,
            (None, b'`' | b'\'' | b'"') => quoted_by = Some(byte),
            (Some(quote), byte) if quote == byte => quoted_by = None,
            _ => {}
        }
    }
    marks
}

impl Drop for Statement2 {
    fn drop(&mut self) {
        // SAFETY: the handle is live and closed once.
        unsafe {
            (self.functions.close)(self.handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_do_not_add_up_are_refused() {
        let fixed = |data_type, rows, values: &'static [u8], nulls| {
            ColumnSlice::fixed(data_type, rows, values.into(), nulls).is_some()
        };
        assert!(fixed(DataType::SmallInt, 2, &[1, 0, 2, 0], None));
        assert!(fixed(DataType::Decimal, 1, &[0; 16], Some(vec![true])));
        assert!(fixed(DataType::Bool, 2, &[0, 1], None));
        assert!(!fixed(DataType::Bool, 2, &[0, 2], None));
        assert!(!fixed(DataType::SmallInt, 2, &[1, 0, 2], None));
        assert!(!fixed(DataType::Int, usize::MAX, &[], None));
        assert!(!fixed(DataType::TinyInt, 2, &[1, 2], Some(vec![true])));
        assert!(!fixed(DataType::Varchar, 0, &[], None));
        let variable = |data_type, lengths: &[i32], values: &'static [u8], nulls| {
            ColumnSlice::variable(data_type, lengths.to_vec(), values.into(), nulls).is_some()
        };
        assert!(variable(DataType::Nchar, &[2, 0, 1], b"abc", None));
        assert!(variable(
            DataType::Blob,
            &[0, 1],
            b"a",
            Some(vec![true, false])
        ));
        assert!(!variable(
            DataType::Blob,
            &[1, 0],
            b"a",
            Some(vec![true, false])
        ));
        assert!(!variable(DataType::Varchar, &[2], b"abc", None));
        assert!(!variable(DataType::Varchar, &[-1, 2], b"a", None));
        assert!(!variable(DataType::Varchar, &[1], b"a", Some(vec![])));
        assert!(!variable(DataType::Int, &[4], &[0; 4], None));
    }

    #[test]
    fn marks_in_names_are_none() {
        assert_eq!(marks("INSERT INTO ? (`a?`, `b``?`) VALUES (?, ?)"), 3);
        assert_eq!(marks("?"), 1);
        assert_eq!(marks(""), 0);
    }

    #[test]
    fn rows_of_a_table_have_as_many_cells_in_each_column_and_are_not_too_many() {
        let column = |rows: usize| {
            ColumnSlice::fixed(DataType::TinyInt, rows, vec![0; rows].into(), None).unwrap()
        };
        let slice = |columns| TableSlice::new("`d`.`t`", columns);
        assert!(slice(vec![column(2), column(2)]).is_ok());
        assert!(slice(vec![column(2), column(3)]).is_err());
        assert!(slice(vec![column(0)]).is_err());
        assert!(slice(vec![column(MOST_ROWS)]).is_ok());
        assert!(slice(vec![column(MOST_ROWS + 1)]).is_err());
        assert!(TableSlice::new("a\0b", vec![column(1)]).is_err());
    }
}
