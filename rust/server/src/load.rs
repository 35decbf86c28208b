//! Writing rows column by column, to several tables at a time.
//!
//! Values go to the client library from where they lie. Where the server refuses something, rows go to it
//! [one by one](crate::insert), in halves and halves of these, so that only those are left out that it does not take.

use crate::{
    Connection, SqlError,
    insert::{Batch, InsertError, Sent, Shape},
    sql,
};
use model::{DataType, Key, MayPass as _};
use rows::arrow::{ColumnRows, RowsError, TableRows, Values};
use std::{borrow::Cow, ops::Range};
use taos::statement2::{ColumnSlice, Inserter, TableSlice};

/// A load has about so many bytes at most, unless a single row takes more.
const LOAD_BYTES: usize = 4 << 20;

/// A load has so many tables at most: with more, the client takes longer for each.
const LOAD_TABLES: usize = 256;

/// Rows of one table on their way to it.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The rows.
    pub rows: TableRows<'a>,
    columns: Vec<ColumnRows<'a>>,
}

impl<'a> Part<'a> {
    /// These rows.
    ///
    /// # Errors
    /// They are not what their layout says.
    pub fn new(rows: TableRows<'a>) -> Result<Self, RowsError> {
        let columns = rows.columns()?;
        Ok(Self { rows, columns })
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(ColumnRows::value_bytes).sum()
    }

    fn slice(&self, rows: Range<usize>) -> Result<Self, RowsError> {
        Self::new(self.rows.slice(rows))
    }

    /// Adds the rows to `pieces`, cut so that none has more of them than `most`, or more bytes than a load.
    fn cut(self, most: usize, pieces: &mut Vec<Self>) -> Result<(), RowsError> {
        let rows = self.rows.len();
        if rows > most.max(1) || rows > 1 && self.bytes() > LOAD_BYTES {
            self.slice(0..rows / 2)?.cut(most, pieces)?;
            self.slice(rows / 2..rows)?.cut(most, pieces)?;
        } else if rows > 0 {
            pieces.push(self);
        }
        Ok(())
    }
}

/// Rows that go to the server in one call, `most` at most: the parts of tables with this shape in their order.
///
/// # Errors
/// Rows are not what their layout says.
pub fn loads<'a>(
    shape: &Shape,
    parts: impl IntoIterator<Item = Part<'a>>,
    most: usize,
) -> Result<Vec<Vec<Part<'a>>>, RowsError> {
    let most = most.min(shape.most_rows());
    let mut pieces = Vec::new();
    for part in parts {
        part.cut(most, &mut pieces)?;
    }
    let mut loads: Vec<Vec<Part<'a>>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for piece in pieces {
        rows += piece.rows.len();
        bytes += piece.bytes();
        match loads.last_mut() {
            Some(load) if rows <= most && bytes <= LOAD_BYTES && load.len() < LOAD_TABLES => {
                load.push(piece);
            }
            _ => {
                (rows, bytes) = (piece.rows.len(), piece.bytes());
                loads.push(vec![piece]);
            }
        }
    }
    Ok(loads)
}

/// A connection that loads go through to one database.
#[derive(Debug)]
pub struct Loader<'d> {
    inserter: Inserter,
    database: &'d str,
}

impl<'d> Loader<'d> {
    /// Takes a connection.
    pub fn new(connection: Connection, database: &'d str) -> Self {
        Self {
            inserter: Inserter::new(connection),
            database,
        }
    }

    /// Learns about tables that rows are going to be sent to for the first time: for many it is faster to ask for all of
    /// them at a time.
    pub fn meet(&self, tables: &[&str]) {
        if let Err(error) = self
            .inserter
            .connection()
            .meet_tables(self.database, tables)
        {
            tracing::debug!(
                "tables of {} are asked for one by one: {error}",
                self.database
            );
        }
    }

    /// Sends a load; the tables have this shape. For each part it says how many rows that came to, or why it was not
    /// written. Rows that the server does not keep, as they are older than `oldest`, and those that are refused for what
    /// they hold, are left out and counted.
    pub fn send(
        &mut self,
        shape: &Shape,
        load: &[Part<'_>],
        oldest: Option<Key>,
    ) -> Vec<Result<Sent, InsertError>> {
        if !self.inserter.is_able() {
            let parts = load.iter();
            return parts
                .map(|part| self.send_rows(shape, part, oldest))
                .collect();
        }
        let error = match self.insert(shape, load) {
            Ok(()) => {
                return load
                    .iter()
                    .map(|part| Ok(Sent::written(part.rows.len())))
                    .collect();
            }
            Err(error) => error,
        };
        let expired = match oldest.filter(|_| error.is_out_of_range()) {
            Some(oldest) => load.iter().map(|part| older(part, oldest)).collect(),
            None => Vec::new(),
        };
        match load {
            _ if expired.iter().any(|rows| *rows > 0) => {
                self.send_kept(shape, load, &expired, oldest)
            }
            _ if error.may_pass() => load.iter().map(|_| Err(error.clone())).collect(),
            [part] => vec![self.send_rows(shape, part, oldest)],
            // The others may be taken.
            _ => {
                let parts = load.iter();
                parts
                    .flat_map(|part| self.send(shape, std::slice::from_ref(part), oldest))
                    .collect()
            }
        }
    }

    /// Sends what is left without the first `expired` rows of each part.
    fn send_kept(
        &mut self,
        shape: &Shape,
        load: &[Part<'_>],
        expired: &[usize],
        oldest: Option<Key>,
    ) -> Vec<Result<Sent, InsertError>> {
        let kept: Result<Vec<Part<'_>>, RowsError> = load
            .iter()
            .zip(expired)
            .map(|(part, expired)| part.slice(*expired..part.rows.len()))
            .collect();
        let sent = match kept {
            Ok(kept) => self.send(shape, &kept, oldest),
            Err(error) => {
                let error = SqlError::local(error.to_string());
                load.iter().map(|_| Err(error.clone().into())).collect()
            }
        };
        let sent = sent.into_iter().zip(expired);
        sent.map(|(sent, expired)| {
            let mut sent = sent?;
            sent.expired += *expired as u64;
            Ok(sent)
        })
        .collect()
    }

    fn insert(&mut self, shape: &Shape, load: &[Part<'_>]) -> Result<(), InsertError> {
        let parts = load.iter().filter(|part| !part.rows.is_empty());
        let tables = parts.map(|part| {
            let columns = part.columns.iter();
            let columns = columns.map(|column| slice(column, part.rows.len()));
            let misfit = || InsertError::Value("a value does not fit its column".to_owned());
            let columns: Option<Vec<ColumnSlice<'_>>> = columns.collect();
            let columns = columns.ok_or_else(misfit)?;
            let table = sql::table(self.database, part.rows.name);
            Ok(TableSlice::new(&table, columns)?)
        });
        let tables = tables.collect::<Result<Vec<_>, InsertError>>()?;
        Ok(self.inserter.insert(&shape.insert(), &tables)?)
    }

    /// Sends rows one by one, as far as the server lets.
    fn send_rows(
        &self,
        shape: &Shape,
        part: &Part<'_>,
        oldest: Option<Key>,
    ) -> Result<Sent, InsertError> {
        let connection = self.inserter.connection();
        let mut batch = Batch::new(shape, self.database, part.rows.name);
        let mut sent = Sent::default();
        for row in part.rows.shown() {
            batch.add(row);
            if batch.is_full() {
                sent += batch.send(connection, oldest)?;
            }
        }
        sent += batch.send(connection, oldest)?;
        Ok(sent)
    }
}

/// How many of the rows, whose keys ascend, are older than this.
fn older(part: &Part<'_>, oldest: Key) -> usize {
    part.rows.keys().take_while(|key| *key < oldest).count()
}

/// Cells as the client library reads them; `None` if a value is none of its column's type.
fn slice<'a>(column: &'a ColumnRows<'_>, rows: usize) -> Option<ColumnSlice<'a>> {
    let data_type = column.column.column_type.data_type;
    let valid = column.valid.as_ref();
    let nulls = valid.filter(|valid| valid.null_count() > 0);
    let nulls = nulls.map(|valid| valid.iter().map(|valid| !valid).collect());
    let fixed = |values| ColumnSlice::fixed(data_type, rows, values, nulls.clone());
    match (&column.values, data_type.stored_width()) {
        (Values::Bits(bits), _) => {
            let bytes: Vec<u8> = bits.iter().map(u8::from).collect();
            fixed(Cow::Owned(bytes))
        }
        (Values::Fixed { bytes, .. }, _) => fixed(Cow::Borrowed(*bytes)),
        (Values::Decimal(digits), Some(8)) => {
            let mut bytes = Vec::with_capacity(8 * rows);
            for (row, digits) in digits.iter().enumerate() {
                match i64::try_from(*digits) {
                    Ok(digits) => bytes.extend_from_slice(&digits.to_le_bytes()),
                    Err(_) if column.is_null(row) => bytes.extend_from_slice(&[0; 8]),
                    Err(_) => return None,
                }
            }
            fixed(Cow::Owned(bytes))
        }
        (Values::Decimal(digits), _) => {
            let bytes = digits.iter().flat_map(|digits| digits.to_le_bytes());
            fixed(Cow::Owned(bytes.collect()))
        }
        // DECIMALs as the server stores them.
        (Values::Variable { .. }, Some(width)) => {
            let mut bytes = Vec::with_capacity(width * rows);
            for row in 0..rows {
                match column.bytes(row) {
                    Some(value) if value.len() == width => bytes.extend_from_slice(value),
                    _ if column.is_null(row) => bytes.resize(bytes.len() + width, 0),
                    _ => return None,
                }
            }
            fixed(Cow::Owned(bytes))
        }
        (Values::Variable { starts, bytes }, None) => {
            let there = |row: &usize| !column.is_null(*row);
            let is_text = !column.column.raw || data_type != DataType::Nchar;
            let lengths = starts.iter().zip(starts.iter().skip(1));
            let lengths: Vec<i32> = lengths.map(|(start, end)| end - start).collect();
            let no_others = |(row, length): (usize, &i32)| *length == 0 || !column.is_null(row);
            if is_text && lengths.iter().enumerate().all(no_others) {
                let (first, last) = (starts.first()?, starts.last()?);
                let bytes =
                    bytes.get(usize::try_from(*first).ok()?..usize::try_from(*last).ok()?)?;
                return ColumnSlice::variable(data_type, lengths, Cow::Borrowed(bytes), nulls);
            }
            let (mut lengths, mut bytes) = (vec![0; rows], Vec::new());
            for (row, length) in lengths.iter_mut().enumerate().filter(|(row, _)| there(row)) {
                let before = bytes.len();
                bytes.extend_from_slice(&column.text(row)?);
                *length = i32::try_from(bytes.len() - before).ok()?;
            }
            ColumnSlice::variable(data_type, lengths, Cow::Owned(bytes), nulls)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        Cell, Cells, Precision, RowBatch, Suid, Uid, Version, VgId,
        catalogue::{Column, Schema},
    };
    use rows::arrow::{Layout, Origin, TablesOf, encode};
    use std::sync::Arc;

    /// Tables with so many rows each, of a key and a column of this type, that has these values one after the other.
    fn tables(column_type: &str, rows: &[usize], values: &[Option<&[u8]>]) -> TablesOf {
        let column = |(name, sql, id): (&str, &str, i64)| Column {
            name: name.to_owned(),
            column_type: sql.parse().unwrap(),
            id: Some(id),
            key: false,
            coding: None,
        };
        let schema = Schema {
            columns: [("ts", "TIMESTAMP", 1), ("v", column_type, 2)]
                .map(column)
                .into(),
            tags: Vec::new(),
            options: String::new(),
        };
        let origin = Origin {
            stable: None,
            suid: Suid(0),
            vgroup: VgId(2),
            file_set: None,
            precision: Precision::Milliseconds,
        };
        let all = rows.iter().sum();
        let data_type = schema.columns[1].column_type.data_type;
        let mut cells = Cells::new(model::ColumnId(2), data_type);
        for value in values.iter().cycle().take(all) {
            cells.push(value.map_or(Cell::Null, Cell::Value)).unwrap();
        }
        let batch = RowBatch {
            suid: Suid(0),
            tables: (0..).map(Uid).zip(rows.iter().copied()).collect(),
            keys: rows
                .iter()
                .flat_map(|rows| (0..*rows as i64).map(Key))
                .collect(),
            versions: vec![Version(1); all],
            columns: vec![cells],
        };
        let layout = Layout::new(&schema, origin).unwrap();
        let names: Vec<String> = (0..rows.len()).map(|number| format!("t{number}")).collect();
        let name_of = |uid: Uid| names.get(uid.0 as usize).map(String::as_str);
        let encoded = encode(&layout, batch, &name_of).unwrap();
        TablesOf::new(Arc::new(layout.with_raw(&encoded.raw)), encoded.batch).unwrap()
    }

    /// How many rows of which tables go to the server together.
    fn cut(of: &TablesOf, most: usize) -> Vec<Vec<(&str, usize)>> {
        let shape = Shape::of_file(of.layout().columns());
        let parts = of.tables().map(|rows| Part::new(rows).unwrap());
        let loads = loads(&shape, parts, most).unwrap();
        let parts = |load: &Vec<Part<'_>>| -> Vec<(usize, usize)> {
            let parts = load.iter();
            parts
                .map(|part| (part.rows.range().start, part.rows.len()))
                .collect()
        };
        let name = |row: usize| {
            let mut tables = of.tables();
            tables
                .find(|rows| rows.range().contains(&row))
                .map_or("", |rows| rows.name)
        };
        let named = |load| parts(load).into_iter().map(|(row, rows)| (name(row), rows));
        loads.iter().map(|load| named(load).collect()).collect()
    }

    #[test]
    fn small_tables_go_together_and_large_ones_in_pieces() {
        let one = [Some(&[1_u8][..])];
        let of = tables("TINYINT", &[3, 2, 9, 1, 1], &one);
        assert_eq!(
            cut(&of, 5),
            [
                vec![("t0", 3), ("t1", 2)],
                vec![("t2", 4)],
                vec![("t2", 5)],
                vec![("t3", 1), ("t4", 1)],
            ]
        );
        let many = tables("TINYINT", &[1; LOAD_TABLES + 1], &one);
        let loads = cut(&many, 10_000);
        assert_eq!((loads.len(), loads[1].len()), (2, 1));
        let large = tables("TINYINT", &[100_000], &one);
        assert!(
            cut(&large, 1_000_000)
                .concat()
                .iter()
                .all(|(_, rows)| *rows <= 32_767)
        );
    }

    #[test]
    fn long_values_make_small_pieces() {
        let long = vec![0; 50_000];
        let of = tables("VARBINARY(60000)", &[300], &[Some(&long)]);
        let pieces = cut(&of, 16_384).concat();
        let rows: usize = pieces.iter().map(|(_, rows)| rows).sum();
        assert_eq!(rows, 300);
        assert!(pieces.iter().all(|(_, rows)| rows * 50_000 <= LOAD_BYTES));
        let longest = vec![0; LOAD_BYTES + 1];
        let of = tables("BLOB", &[3], &[Some(&longest)]);
        assert_eq!(cut(&of, 16_384).len(), 3);
        // What matters to the client library is how long an NCHAR may be.
        let of = tables("NCHAR(16000)", &[3_000], &[None]);
        let pieces = cut(&of, 16_384).concat();
        assert!(pieces.iter().all(|(_, rows)| rows * 4 * 16_000 <= 64 << 20));
    }

    #[test]
    fn cells_are_what_the_client_library_reads() {
        let sent = |column_type: &str, values: &[Option<&[u8]>], expected: &ColumnSlice<'_>| {
            let of = tables(column_type, &[values.len()], values);
            let rows = of.tables().next().unwrap();
            let columns = rows.columns().unwrap();
            let found = slice(&columns[1], rows.len()).unwrap();
            assert_eq!(&found, expected, "{column_type}");
        };
        let fixed = |data_type, rows, values: &[u8], nulls| {
            ColumnSlice::fixed(data_type, rows, values.to_vec().into(), nulls).unwrap()
        };
        let variable = |data_type, lengths: &[i32], values: &str, nulls| {
            let values = values.as_bytes().to_vec().into();
            ColumnSlice::variable(data_type, lengths.to_vec(), values, nulls).unwrap()
        };
        let bits = [Some(&[1_u8][..]), Some(&[0]), Some(&[1])];
        sent("BOOL", &bits, &fixed(DataType::Bool, 3, &[1, 0, 1], None));
        let small = 0x0102_i16.to_le_bytes();
        let nulls = Some(vec![false, true]);
        let expected = fixed(DataType::SmallInt, 2, &[2, 1, 0, 0], nulls.clone());
        sent("SMALLINT", &[Some(&small), None], &expected);
        // A DECIMAL is wider in the file, or raw if it has more digits than it may.
        for value in [-5_i64, 99_999] {
            let bytes = value.to_le_bytes();
            let padded = [bytes, [0; 8]].concat();
            let expected = fixed(DataType::Decimal64, 2, &padded, nulls.clone());
            sent("DECIMAL(4, 1)", &[Some(&bytes), None], &expected);
        }
        let wide = 7_i128.to_le_bytes();
        let expected = fixed(DataType::Decimal, 1, &wide, None);
        sent("DECIMAL(20, 1)", &[Some(&wide)], &expected);
        let expected = variable(DataType::Varchar, &[2, 0, 1], "abc", None);
        sent(
            "VARCHAR(9)",
            &[Some(b"ab"), Some(b""), Some(b"c")],
            &expected,
        );
        let nchar = |text: &str| -> Vec<u8> {
            text.chars()
                .flat_map(|c| u32::from(c).to_le_bytes())
                .collect()
        };
        let (text, surrogate) = (nchar("\u{e9}"), 0xd800_u32.to_le_bytes());
        let nulls = Some(vec![false, true]);
        let expected = variable(DataType::Nchar, &[2, 0], "\u{e9}", nulls);
        sent("NCHAR(9)", &[Some(&text), None], &expected);
        let bytes = [0xc3, 0xa9, 0xed, 0xa0, 0x80];
        let expected =
            ColumnSlice::variable(DataType::Nchar, vec![2, 3], bytes.to_vec().into(), None);
        sent(
            "NCHAR(9)",
            &[Some(&text), Some(&surrogate)],
            &expected.unwrap(),
        );
    }
}
