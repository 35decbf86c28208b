//! A file → rows, one by one.

use super::{
    ParquetError,
    reader::{Batches, ParquetFile, ReadRange, Selection},
};
use crate::{
    arrow::{FileColumn, TablesOf, shown},
    source::{Row, RowSource},
};
use arrow_array::ArrayRef;
use model::{DataType, OwnedValue, Value};
use std::ops::Range;

/// Gives the rows of a file as a server's answer would have them: NCHAR as UTF-8, DECIMAL as text.
#[derive(Debug)]
pub struct ParquetRows<R> {
    batches: Batches<R>,
    /// The columns that are given.
    columns: Vec<FileColumn>,
    /// Their values in the current batch.
    values: Vec<ArrayRef>,
    /// The tables of the batch whose rows are still to come, the last one first.
    tables: Vec<(String, Range<usize>)>,
    /// The table of the row that was given last.
    table: Option<String>,
}

impl<R: ReadRange> ParquetRows<R> {
    /// The rows of a selection. Of each row there are the columns of the selection, in the order of the layout.
    pub fn new(file: &ParquetFile<R>, mut selection: Selection) -> Self {
        selection.versions = false;
        let columns = file.layout().columns().iter().enumerate();
        let columns = columns.filter(|(at, column)| {
            let chosen = selection.columns.as_ref();
            *at == 0 || chosen.is_none_or(|chosen| chosen.contains(&column.id))
        });
        Self {
            columns: columns.map(|(_, column)| column.clone()).collect(),
            batches: file.read(selection),
            values: Vec::new(),
            tables: Vec::new(),
            table: None,
        }
    }

    /// The table of the row that was given last.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    fn take(&mut self, rows: &TablesOf) {
        // Behind the table's name; versions were not asked for.
        let arrays = rows.record_batch().columns().iter().skip(1);
        let columns = self.columns.iter().zip(arrays);
        self.values = columns
            .map(|(column, array)| shown::column(column, array))
            .collect();
        let tables = rows.tables();
        self.tables = tables
            .map(|table| (table.name.to_owned(), table.range()))
            .collect();
        self.tables.reverse();
    }
}

impl<R: ReadRange> RowSource for ParquetRows<R> {
    type Error = ParquetError;
    type Row<'r>
        = ParquetRow<'r>
    where
        R: 'r;

    fn types(&self) -> Vec<DataType> {
        let columns = self.columns.iter();
        columns.map(|column| column.column_type.data_type).collect()
    }

    fn next_row(&mut self) -> Result<Option<ParquetRow<'_>>, ParquetError> {
        let row = loop {
            match self.tables.last_mut() {
                Some((table, rows)) => match rows.next() {
                    Some(row) => {
                        if self.table.as_ref() != Some(table) {
                            self.table = Some(table.clone());
                        }
                        break row;
                    }
                    None => {
                        self.tables.pop();
                    }
                },
                None => match self.batches.next()? {
                    Some(batch) => self.take(&batch),
                    None => return Ok(None),
                },
            }
        };
        Ok(Some(ParquetRow {
            values: &self.values,
            row,
        }))
    }
}

/// A row of a file, until the next one is asked for.
#[derive(Debug)]
pub struct ParquetRow<'r> {
    values: &'r [ArrayRef],
    row: usize,
}

impl Row for ParquetRow<'_> {
    fn value(&self, column: usize) -> Value<'_> {
        let array = self.values.get(column);
        array.map_or(Value::Null, |array| shown::value(array, self.row))
    }

    fn into_owned(self) -> Vec<OwnedValue> {
        let columns = 0..self.values.len();
        columns.map(|column| self.value(column).into()).collect()
    }
}
