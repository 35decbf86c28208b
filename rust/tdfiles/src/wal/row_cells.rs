//! The values of rows in SUBMIT messages, collected column by column.
//!
//! A row is in one of two forms, which the upper half of its flag tells apart; the lower half has a bit for each kind of cell
//! that occurs, as [columns of files](crate::tsdb) have: 1 not set, 2 NULL, 4 a value. Behind the row's header and the
//! places of its primary key columns:
//!
//! - Tuple (upper half 0), for the columns behind the timestamp in the order of the schema: a bitmap (as in files; none for
//!   4), the fixed part, and the values of variable length as uvarint length and bytes. In the fixed part each value has its
//!   width; one of variable length has an i32 there, which says where it is among those, and BLOBs 8 bytes of which the
//!   first 4 say that. Without the bit 4 there is only the bitmap, and with 1 or 2 alone not even that.
//! - Key-value (1, 2, 4: with places of 1, 2, 4 bytes): i16 cells; a place in what follows for each; then for each that is
//!   set {varint column id, negative for NULL; the value's bytes, with a uvarint length in front where it varies}.
//!
//! In column format each column is {varint id, u8 type, varint rows, u8 kinds of cells, bitmap as in files; if there are
//! values: for variable length an i32 start per row, varint size, the values; else a value of its width per row; from format
//! version 1 on u8 column flag}.
//! (tRowBuild, tRowGet and tEncodeColData of server 3.3.7, checked on recorded logs and against SQL.)

use super::{
    SubmitTable,
    submit::{Columns, Layout, Row},
};
use crate::{
    FormatError, Unreadable,
    cursor::Cursor,
    schema::Schema,
    tsdb::{KeyRows, RowBlock},
};
use model::{
    Cell, Cells, ColumnId, DataType, Key, KeySpan, PkValue, SchemaVersion, TableId, TooLong,
    Version,
};

const UNSET: u8 = 1;
const NULL: u8 = 2;
const VALUE: u8 = 4;
const ALL_KINDS: u8 = UNSET | NULL | VALUE;

/// Rows of one table, from as many messages as there are.
#[derive(Debug)]
pub struct LoggedRows {
    table: TableId,
    keys: Vec<Key>,
    versions: Vec<Version>,
    pks: Vec<PkValue>,
    /// Ascending by id. A column is as long as it was when a row last set it.
    columns: Vec<Cells>,
    max_cells: usize,
}

impl LoggedRows {
    /// No rows yet. All rows times all columns may not become more than `max_cells`.
    pub fn new(table: TableId, max_cells: usize) -> Self {
        Self {
            table,
            keys: Vec::new(),
            versions: Vec::new(),
            pks: Vec::new(),
            columns: Vec::new(),
            max_cells,
        }
    }

    /// Adds those rows of a request that lie in a span. `schema` is the one that the request names.
    ///
    /// # Errors
    /// The rows are damaged, or in a form that is not known. What was collected is of no use then.
    pub fn add(
        &mut self,
        version: Version,
        request: &SubmitTable<'_>,
        schema: &Schema,
        span: KeySpan,
    ) -> Result<(), FormatError> {
        match request.rows.layout {
            Layout::ByRow { rows, offset } => {
                let tuple = Tuple::of(schema);
                let mut cursor = Cursor::new("row", rows, offset);
                for _ in 0..request.rows.len() {
                    let row = Row::parse(&mut cursor)?;
                    if !span.overlaps(KeySpan::at(row.key)) {
                        continue;
                    }
                    if row.schema != lower_half(request.schema) {
                        let detail = "a row is of other columns than its request says";
                        return Err(row.data.corrupt(detail));
                    }
                    let pk = row.primary_key()?;
                    self.row(row, &tuple, schema)?;
                    self.added(row.key, pk, version, row.data.offset())?;
                }
            }
            Layout::ByColumn { keys, pk, rest } => {
                let keys = keys.as_chunks::<8>().0.iter();
                let keys = keys.map(|key| Key(i64::from_le_bytes(*key)));
                let columns = parse_columns(rest, keys.len())?;
                for (i, key) in keys.enumerate() {
                    if !span.overlaps(KeySpan::at(key)) {
                        continue;
                    }
                    let pk = pk.map(|pk| pk.value(i)).transpose()?;
                    for (at, column) in columns.iter().enumerate() {
                        let cell = column.cell(i)?;
                        self.set(at, column.id, column.data_type, cell, rest.offset)?;
                    }
                    self.added(key, pk, version, rest.offset)?;
                }
            }
        }
        Ok(())
    }

    /// The rows in the order of key and version; `None` if there are none.
    ///
    /// # Errors
    /// A column has more than 2 GiB.
    pub fn into_block(mut self) -> Result<Option<RowBlock>, TooLong> {
        let rows = self.keys.len();
        if rows == 0 {
            return Ok(None);
        }
        for cells in &mut self.columns {
            let missing = rows - cells.len();
            if missing > 0 {
                cells.extend_with_unset(missing);
            }
        }
        let mut order: Vec<usize> = (0..rows).collect();
        let place = |i: &usize| (self.keys.get(*i), self.pks.get(*i), self.versions.get(*i));
        if !order.is_sorted_by(|a, b| place(a) <= place(b)) {
            order.sort_by(|a, b| place(a).cmp(&place(b)));
            let picked = self.columns.iter().map(|cells| cells.picked(&order));
            self.columns = picked.collect::<Result<_, _>>()?;
            self.keys = pick(&self.keys, &order);
            self.versions = pick(&self.versions, &order);
            self.pks = pick(&self.pks, &order);
        }
        Ok(Some(RowBlock {
            rows: KeyRows::of_table(self.table, self.keys, self.versions, self.pks),
            columns: self.columns,
        }))
    }

    /// Sets the cells of one row that is not counted yet.
    fn row(&mut self, row: Row<'_>, tuple: &Tuple, schema: &Schema) -> Result<(), FormatError> {
        let (form, kinds) = (row.flag >> 4, row.flag & 0xf);
        if !(UNSET..=ALL_KINDS).contains(&kinds) {
            let detail = format!("a row has kinds of cells {kinds}");
            return Err(row.data.corrupt(detail));
        }
        let mut data = row.data;
        for _ in 0..row.pk_columns {
            let (_type, _place) = (data.u8()?, data.uvarint()?);
        }
        match form {
            0 => self.tuple(kinds, data, tuple),
            1 | 2 | 4 => self.key_values(form, data, schema),
            _ => {
                let why = Unreadable::MessageLayout(form.into());
                Err(FormatError::unreadable("row", row.data.offset(), why))
            }
        }
    }

    fn tuple(&mut self, kinds: u8, mut data: Cursor<'_>, tuple: &Tuple) -> Result<(), FormatError> {
        let offset = data.offset();
        let n = tuple.columns.len();
        let bitmap = Bitmap::take(&mut data, kinds, n)?;
        let fixed = match kinds & VALUE {
            0 => data,
            _ => Cursor::new("row", data.take(tuple.fixed_size)?, data.offset()),
        };
        for (i, column) in tuple.columns.iter().enumerate() {
            let cell = match bitmap.kind(i, offset)? {
                Kind::Unset => continue,
                Kind::Null => Cell::Null,
                Kind::Value => {
                    let mut fixed = fixed;
                    fixed.take(column.place)?;
                    Cell::Value(match column.data_type.stored_width() {
                        Some(width) => fixed.take(width)?,
                        None => {
                            let place = fixed.u32()?;
                            let mut value = data;
                            value.take(place as usize)?;
                            text(&mut value, column.data_type)?
                        }
                    })
                }
            };
            self.set(i, column.id, column.data_type, cell, offset)?;
        }
        Ok(())
    }

    fn key_values(
        &mut self,
        width: u8,
        mut data: Cursor<'_>,
        schema: &Schema,
    ) -> Result<(), FormatError> {
        let count = i16::from_le_bytes(data.array()?);
        let count =
            usize::try_from(count).map_err(|_| data.corrupt(format!("a row has {count} cells")))?;
        let width = usize::from(width);
        let places = data.take(count * width)?;
        let mut last = ColumnId::KEY;
        // The columns of a row are in the order of the schema.
        let mut known = schema.columns.iter().enumerate();
        for place in places.chunks_exact(width) {
            let mut wide = [0; 4];
            wide.iter_mut()
                .zip(place)
                .for_each(|(byte, from)| *byte = *from);
            let mut value = data;
            value.take(u32::from_le_bytes(wide) as usize)?;
            let id = value.varint()?;
            let column = i16::try_from(id.unsigned_abs())
                .ok()
                .map(ColumnId)
                .filter(|column| *column > last)
                .ok_or_else(|| data.corrupt(format!("column {id} comes after {last}")))?;
            last = column;
            let (at, of) = known
                .find(|(_, known)| known.id == column)
                .ok_or_else(|| data.corrupt(format!("a row has column {column}, its table not")))?;
            let data_type = of.column_type.data_type;
            let cell = match (id < 0, data_type.stored_width()) {
                (true, _) => Cell::Null,
                (false, Some(width)) => Cell::Value(value.take(width)?),
                (false, None) => Cell::Value(text(&mut value, data_type)?),
            };
            self.set(at.saturating_sub(1), column, data_type, cell, data.offset())?;
        }
        Ok(())
    }

    /// Sets a cell of the row that comes next; its column is probably the one at `guess`.
    fn set(
        &mut self,
        guess: usize,
        id: ColumnId,
        data_type: DataType,
        cell: Cell<'_>,
        offset: u64,
    ) -> Result<(), FormatError> {
        if cell == Cell::Unset {
            return Ok(());
        }
        let rows = self.keys.len();
        let at = match self.columns.get(guess) {
            Some(cells) if cells.column == id => guess,
            _ => match self.columns.binary_search_by_key(&id, |cells| cells.column) {
                Ok(at) => at,
                Err(at) => {
                    self.columns.insert(at, Cells::new(id, data_type));
                    at
                }
            },
        };
        let Some(cells) = self.columns.get_mut(at) else {
            return Ok(());
        };
        if cells.data_type != data_type || cells.len() > rows {
            let detail = format!("column {id} comes twice or has two types");
            return Err(FormatError::corrupt("row", offset, detail));
        }
        let missing = rows - cells.len();
        if missing > 0 {
            cells.extend_with_unset(missing);
        }
        cells.keep(cell).map_err(|_| self.too_many(offset))
    }

    /// Counts a row whose cells have been set.
    fn added(
        &mut self,
        key: Key,
        pk: Option<PkValue>,
        version: Version,
        offset: u64,
    ) -> Result<(), FormatError> {
        if !self.keys.is_empty() && pk.is_some() == self.pks.is_empty() {
            let detail = "only some rows of a table have composite keys";
            return Err(FormatError::corrupt("row", offset, detail));
        }
        self.keys.push(key);
        self.versions.push(version);
        self.pks.extend(pk);
        match self.keys.len().saturating_mul(self.columns.len()) <= self.max_cells {
            true => Ok(()),
            false => Err(self.too_many(offset)),
        }
    }

    fn too_many(&self, offset: u64) -> FormatError {
        let why = Unreadable::TooManyRows {
            rows: self.keys.len() as u64,
            limit: self.max_cells / self.columns.len().max(1),
        };
        FormatError::unreadable("rows of a table", offset, why)
    }
}

fn lower_half(version: SchemaVersion) -> u16 {
    (version.0 & 0xffff) as u16
}

fn pick<T: Clone>(all: &[T], order: &[usize]) -> Vec<T> {
    let picked = order.iter().filter_map(|i| all.get(*i));
    picked.cloned().collect()
}

/// A value of variable length.
fn text<'a>(cursor: &mut Cursor<'a>, data_type: DataType) -> Result<&'a [u8], FormatError> {
    if matches!(data_type, DataType::Blob | DataType::MediumBlob) {
        let why = Unreadable::ColumnType(data_type as u8);
        return Err(FormatError::unreadable("row", cursor.offset(), why));
    }
    let length = usize::try_from(cursor.uvarint()?).unwrap_or(usize::MAX);
    cursor.take(length)
}

/// Where the columns of a schema lie in tuples.
struct Tuple {
    columns: Vec<TupleColumn>,
    fixed_size: usize,
}

struct TupleColumn {
    id: ColumnId,
    data_type: DataType,
    place: usize,
}

impl Tuple {
    fn of(schema: &Schema) -> Self {
        let mut fixed_size = 0;
        let columns = schema.columns.iter().skip(1);
        let columns = columns.map(|column| {
            let data_type = column.column_type.data_type;
            let place = fixed_size;
            fixed_size += match data_type {
                DataType::Blob | DataType::MediumBlob => 8,
                other => other.stored_width().unwrap_or(4),
            };
            TupleColumn {
                id: column.id,
                data_type,
                place,
            }
        });
        Self {
            columns: columns.collect(),
            fixed_size,
        }
    }
}

/// A column of a message in column format.
struct LoggedColumn<'a> {
    id: ColumnId,
    data_type: DataType,
    bitmap: Bitmap<'a>,
    /// Where each value begins, for types of variable length.
    starts: &'a [u8],
    values: &'a [u8],
    offset: u64,
}

fn parse_columns(columns: Columns<'_>, rows: usize) -> Result<Vec<LoggedColumn<'_>>, FormatError> {
    let mut cursor = Cursor::new("submit message", columns.bytes, columns.offset);
    let mut parsed: Vec<LoggedColumn<'_>> = Vec::with_capacity(cursor.plausible(columns.count, 4));
    for _ in 0..columns.count {
        let column = LoggedColumn::parse(&mut cursor, rows)?;
        if columns.with_flag {
            cursor.u8()?;
        }
        let last = parsed.last().map_or(ColumnId::KEY, |last| last.id);
        if column.id <= last {
            return Err(cursor.corrupt("columns are not ascending by their ids"));
        }
        parsed.push(column);
    }
    Ok(parsed)
}

impl<'a> LoggedColumn<'a> {
    fn parse(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self, FormatError> {
        let offset = cursor.offset();
        let id = cursor.varint()?;
        let id = i16::try_from(id)
            .map(ColumnId)
            .map_err(|_| cursor.corrupt(format!("{id} is no column")))?;
        let code = cursor.u8()?;
        let unknown =
            || FormatError::unreadable("submit message", offset, Unreadable::ColumnType(code));
        let data_type = DataType::from_code(code as i8)
            .filter(|data_type| !matches!(data_type, DataType::Blob | DataType::MediumBlob))
            .ok_or_else(unknown)?;
        let count = cursor.length()?;
        if count != rows {
            return Err(cursor.corrupt(format!("a column has {count} rows, the first {rows}")));
        }
        let kinds = cursor.u8()?;
        if !(UNSET..=ALL_KINDS).contains(&kinds) {
            return Err(cursor.corrupt(format!("a column has kinds of cells {kinds}")));
        }
        let bitmap = Bitmap::take(cursor, kinds, rows)?;
        let (starts, values) = match (kinds & VALUE != 0, data_type.stored_width()) {
            (false, _) => (&[][..], &[][..]),
            (true, Some(width)) => (&[][..], cursor.take(rows.saturating_mul(width))?),
            (true, None) => {
                let starts = cursor.take(rows.saturating_mul(4))?;
                let size = cursor.length()?;
                (starts, cursor.take(size)?)
            }
        };
        Ok(Self {
            id,
            data_type,
            bitmap,
            starts,
            values,
            offset,
        })
    }

    fn cell(&self, i: usize) -> Result<Cell<'a>, FormatError> {
        let value = match self.bitmap.kind(i, self.offset)? {
            Kind::Unset => return Ok(Cell::Unset),
            Kind::Null => return Ok(Cell::Null),
            Kind::Value => match self.data_type.stored_width() {
                Some(width) => self.values.get(i * width..(i + 1) * width),
                None => {
                    let starts = self.starts.as_chunks::<4>().0;
                    let start = |i: usize| starts.get(i).map(|at| u32::from_le_bytes(*at) as usize);
                    let end = start(i + 1).unwrap_or(self.values.len());
                    start(i).and_then(|start| self.values.get(start..end))
                }
            },
        };
        value.map(Cell::Value).ok_or_else(|| {
            let detail = "places of values lead out of their column";
            FormatError::corrupt("submit message", self.offset, detail)
        })
    }
}

/// Which kind of cell each is.
enum Bitmap<'a> {
    All(Kind),
    /// A bit for each: the lower or the higher kind.
    Two(Kind, Kind, &'a [u8]),
    /// Two bits for each.
    Three(&'a [u8]),
}

#[derive(Clone, Copy)]
enum Kind {
    Unset,
    Null,
    Value,
}

impl<'a> Bitmap<'a> {
    /// Takes the bitmap of `n` cells, among which there are these kinds.
    fn take(cursor: &mut Cursor<'a>, kinds: u8, n: usize) -> Result<Self, FormatError> {
        Ok(match kinds {
            UNSET => Self::All(Kind::Unset),
            NULL => Self::All(Kind::Null),
            VALUE => Self::All(Kind::Value),
            ALL_KINDS => Self::Three(cursor.take(n.div_ceil(4))?),
            _ => {
                let lower = if kinds & UNSET != 0 {
                    Kind::Unset
                } else {
                    Kind::Null
                };
                let higher = if kinds & VALUE != 0 {
                    Kind::Value
                } else {
                    Kind::Null
                };
                Self::Two(lower, higher, cursor.take(n.div_ceil(8))?)
            }
        })
    }

    fn kind(&self, i: usize, offset: u64) -> Result<Kind, FormatError> {
        let bits = |bytes: &[u8], width: usize| {
            let byte = bytes.get(i * width / 8).copied().unwrap_or_default();
            byte >> (i * width % 8) & ((1 << width) - 1)
        };
        match self {
            Self::All(kind) => Ok(*kind),
            Self::Two(lower, higher, bytes) => Ok(match bits(bytes, 1) {
                0 => *lower,
                _ => *higher,
            }),
            Self::Three(bytes) => match bits(bytes, 2) {
                0 => Ok(Kind::Unset),
                1 => Ok(Kind::Null),
                2 => Ok(Kind::Value),
                _ => Err(FormatError::corrupt(
                    "row",
                    offset,
                    "a cell is of no known kind",
                )),
            },
        }
    }
}
