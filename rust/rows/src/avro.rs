//! Avro files as taosdump writes them: one table's rows, or the tags of a super table's children.
//!
//! A data file has the fields `tbname`, `ts`, `col0`, `col1`… by position; a tags file `stbname`, `tbname`,
//! `tag0`…. Every field may be null. Unsigned numbers are arrays of two numbers whose sum they are, the second one
//! being the largest signed number of their width. Text is a string, other bytes are bytes. Two things go beyond
//! taosdump: DECIMAL is a string, and a VARCHAR column that holds anything but UTF-8 is a column of bytes.

use crate::source::{Row, RowSource};
use apache_avro::{Codec, Reader, Schema, Writer, types::Value as Avro};
use model::{DataType, MayPass, OwnedValue, Value};
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeSeq, SerializeTupleStruct},
};
use std::{
    collections::BTreeSet,
    io::{BufReader, Read, Write},
};
use store::{FileEntry, Hashing, Store, StoreError};

/// A data or tags file that can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DataFileError {
    /// The file can't be created, opened, written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is not what was written.
    #[error("{place}: {problem}; the file is damaged: take it from another copy of the backup")]
    Corrupt {
        /// The file.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A VARCHAR is not UTF-8: its column has to be written as bytes.
    #[error("column {0} holds bytes that are not UTF-8")]
    NotText(usize),
    /// A record could not be written.
    #[error("{place}: {source}")]
    Write {
        /// The file.
        place: String,
        /// What the Avro library says.
        source: Box<apache_avro::Error>,
    },
}

impl MayPass for DataFileError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.may_pass(),
            Self::Write { .. } => true,
            Self::Corrupt { .. } | Self::NotText(_) => false,
        }
    }
}

/// How files are compressed: the codecs of taosdump's `-d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are Avro's codecs")]
pub enum Compression {
    Null,
    Deflate,
    #[default]
    Snappy,
    Lzma,
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Self::Null => Codec::Null,
            Self::Deflate => Codec::Deflate(apache_avro::DeflateSettings::default()),
            Self::Snappy => Codec::Snappy,
            Self::Lzma => Codec::Xz(apache_avro::XzSettings::default()),
        }
    }
}

/// What a file's fields are.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The record's name.
    record: &'static str,
    types: Vec<DataType>,
    /// Columns that would be text, but are written as bytes.
    as_bytes: BTreeSet<usize>,
    /// `tbname`, or `stbname` and `tbname`.
    leading: usize,
    schema: Schema,
}

impl Layout {
    /// Rows of a table of `database`: `types` are those of its columns, the timestamp first.
    pub fn rows(
        database: &str,
        types: Vec<DataType>,
        as_bytes: BTreeSet<usize>,
    ) -> Result<Self, String> {
        let count = types.len();
        let columns = (0..count).map(|at| match at {
            0 => "ts".to_owned(),
            at => format!("col{}", at - 1),
        });
        let names = std::iter::once("tbname".to_owned()).chain(columns);
        Self::new(database, "_record", names, types, as_bytes, 1)
    }

    /// Tags of tables of `database`.
    pub fn tags(
        database: &str,
        types: Vec<DataType>,
        as_bytes: BTreeSet<usize>,
    ) -> Result<Self, String> {
        let count = types.len();
        let tags = (0..count).map(|at| format!("tag{at}"));
        let leading = ["stbname", "tbname"].map(str::to_owned);
        let names = leading.into_iter().chain(tags);
        Self::new(database, "_stb", names, types, as_bytes, 2)
    }

    fn new(
        database: &str,
        record: &'static str,
        names: impl Iterator<Item = String>,
        types: Vec<DataType>,
        as_bytes: BTreeSet<usize>,
        leading: usize,
    ) -> Result<Self, String> {
        let field = |(at, name): (usize, String)| {
            let kind = match at
                .checked_sub(leading)
                .and_then(|at| Some((at, *types.get(at)?)))
            {
                None => "\"string\"",
                Some((at, _)) if as_bytes.contains(&at) => "\"bytes\"",
                Some((_, data_type)) => avro_type(data_type),
            };
            format!(r#"{{"name":"{name}","type":["null",{kind}]}}"#)
        };
        let fields: Vec<String> = names.enumerate().map(field).collect();
        let schema = record_schema(database, record, &fields.join(","))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            record,
            types,
            as_bytes,
            leading,
            schema,
        })
    }
}

/// A record as taosdump writes it: in the namespace of its database, which its restore goes by when databases are
/// renamed. A name that Avro does not allow there is left out.
pub fn record_schema(
    database: &str,
    record: &str,
    fields: &str,
) -> Result<Schema, apache_avro::Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name =
        database.chars().all(plain) && !database.starts_with(|c: char| c.is_ascii_digit());
    let namespace = match is_name && !database.is_empty() {
        true => format!(r#""namespace":"{database}","#),
        false => String::new(),
    };
    Schema::parse_str(&format!(
        r#"{{"type":"record","name":"{record}",{namespace}"fields":[{fields}]}}"#
    ))
}

fn avro_type(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Bool => "\"boolean\"",
        DataType::TinyInt | DataType::SmallInt | DataType::Int => "\"int\"",
        DataType::BigInt | DataType::Timestamp => "\"long\"",
        DataType::UTinyInt | DataType::USmallInt | DataType::UInt => {
            r#"{"type":"array","items":"int"}"#
        }
        DataType::UBigInt => r#"{"type":"array","items":"long"}"#,
        DataType::Float => "\"float\"",
        DataType::Double => "\"double\"",
        DataType::Varchar | DataType::Decimal | DataType::Decimal64 => "\"string\"",
        DataType::Nchar
        | DataType::Json
        | DataType::Varbinary
        | DataType::Blob
        | DataType::MediumBlob
        | DataType::Geometry => "\"bytes\"",
    }
}

/// The second number of an unsigned value's array.
fn half(data_type: DataType) -> i64 {
    match data_type {
        DataType::UTinyInt => i8::MAX.into(),
        DataType::USmallInt => i16::MAX.into(),
        DataType::UInt => i32::MAX.into(),
        _ => i64::MAX,
    }
}

/// A value as a field of a record.
struct FieldOf<'a> {
    data_type: DataType,
    as_bytes: bool,
    value: Value<'a>,
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Halves<T>(T, T);

impl<T: Serialize> Serialize for Halves<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(2))?;
        seq.serialize_element(&self.0)?;
        seq.serialize_element(&self.1)?;
        seq.end()
    }
}

impl Serialize for FieldOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(serde::ser::Error::custom);
        match self.value {
            Value::Null => serializer.serialize_none(),
            Value::Bool(value) => serializer.serialize_some(&value),
            Value::Int(value) => match self.data_type {
                DataType::BigInt | DataType::Timestamp => serializer.serialize_some(&value),
                _ => serializer
                    .serialize_some(&i32::try_from(value).map_err(serde::ser::Error::custom)?),
            },
            Value::UInt(value) => {
                let second = half(self.data_type);
                let first = (value as i64).wrapping_sub(second);
                match self.data_type {
                    DataType::UBigInt => serializer.serialize_some(&Halves(first, second)),
                    // taosdump computes the first number in the signed type of the value's width, wrapping.
                    DataType::UTinyInt => {
                        serializer.serialize_some(&Halves((first as i8).into(), second as i32))
                    }
                    DataType::USmallInt => {
                        serializer.serialize_some(&Halves((first as i16).into(), second as i32))
                    }
                    _ => serializer.serialize_some(&Halves(first as i32, second as i32)),
                }
            }
            Value::Float(value) => serializer.serialize_some(&value),
            Value::Double(value) => serializer.serialize_some(&value),
            Value::Bytes(bytes) if self.as_bytes => serializer.serialize_some(&Bytes(bytes)),
            Value::Bytes(bytes) => match self.data_type {
                DataType::Varchar | DataType::Decimal | DataType::Decimal64 => {
                    serializer.serialize_some(text(bytes)?)
                }
                _ => serializer.serialize_some(&Bytes(bytes)),
            },
        }
    }
}

struct Record<'a, 'v> {
    layout: &'a Layout,
    leading: &'a [&'a str],
    values: &'a dyn Fn(usize) -> Value<'v>,
}

/// Fields are given in the schema's order and not by their names: to look the names up took a fifth of a dump's time.
impl Serialize for Record<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let layout = self.layout;
        let count = layout.leading + layout.types.len();
        let mut record = serializer.serialize_tuple_struct(layout.record, count)?;
        for text in self.leading {
            record.serialize_field(&Some(*text))?;
        }
        for (at, data_type) in layout.types.iter().enumerate() {
            record.serialize_field(&FieldOf {
                data_type: *data_type,
                as_bytes: layout.as_bytes.contains(&at),
                value: (self.values)(at),
            })?;
        }
        record.end()
    }
}

/// Writes a data or tags file.
pub struct FileWriter<'l, W: Write = Box<dyn Write + Send>> {
    layout: &'l Layout,
    name: String,
    place: String,
    writer: Writer<'l, Hashing<W>>,
    rows: u64,
}

impl<W: Write> std::fmt::Debug for FileWriter<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter")
            .field("place", &self.place)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<'l> FileWriter<'l> {
    /// Creates a file; there must be none of this name.
    pub fn create(
        store: &dyn Store,
        name: &str,
        layout: &'l Layout,
        compression: Compression,
    ) -> Result<Self, DataFileError> {
        let place = store.place(name);
        Self::over(store.create(name)?, name, place, layout, compression)
    }

    /// Finishes the file. It is not yet durable.
    pub fn finish(self) -> Result<FileEntry, DataFileError> {
        let place = self.place.clone();
        let (mut file, entry) = self.into_parts()?;
        file.flush().map_err(StoreError::io(place))?;
        Ok(entry)
    }
}

impl<'l, W: Write> FileWriter<'l, W> {
    /// Writes a file called `name` to something else than a store; errors name `place`.
    pub fn over(
        to: W,
        name: &str,
        place: String,
        layout: &'l Layout,
        compression: Compression,
    ) -> Result<Self, DataFileError> {
        let writer = Writer::with_codec(&layout.schema, Hashing::new(to), compression.codec())
            .map_err(|source| write_error(&place, source))?;
        Ok(Self {
            layout,
            name: name.to_owned(),
            place,
            writer,
            rows: 0,
        })
    }

    /// Adds a record: `leading` are the names that it begins with, `values` the values by column.
    pub fn append<'v>(
        &mut self,
        leading: &[&str],
        values: &dyn Fn(usize) -> Value<'v>,
    ) -> Result<(), DataFileError> {
        for (at, data_type) in self.layout.types.iter().enumerate() {
            if *data_type == DataType::Varchar
                && !self.layout.as_bytes.contains(&at)
                && let Value::Bytes(bytes) = values(at)
                && std::str::from_utf8(bytes).is_err()
            {
                return Err(DataFileError::NotText(at));
            }
        }
        let record = Record {
            layout: self.layout,
            leading,
            values,
        };
        self.writer
            .append_ser(record)
            .map_err(|source| write_error(&self.place, source))?;
        self.rows += 1;
        Ok(())
    }

    /// Ends what was written: where it was written to, and the entry for it.
    pub fn into_parts(self) -> Result<(W, FileEntry), DataFileError> {
        let hashing = self
            .writer
            .into_inner()
            .map_err(|source| write_error(&self.place, source))?;
        Ok(hashing.finish(self.name, self.rows))
    }
}

fn write_error(place: &str, source: apache_avro::Error) -> DataFileError {
    DataFileError::Write {
        place: place.to_owned(),
        source: Box::new(source),
    }
}

/// Reads a data or tags file.
pub struct FileReader<R: Read = BufReader<Box<dyn Read + Send>>> {
    place: String,
    types: Vec<DataType>,
    leading: usize,
    reader: Reader<'static, R>,
}

impl<R: Read> std::fmt::Debug for FileReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// A record: the names it begins with, and its values.
pub type OwnedRecord = (Vec<String>, Vec<OwnedValue>);

impl FileReader {
    /// Opens a file of a table's rows (`leading` 1) or of tags (`leading` 2), whose columns are of these types.
    pub fn open(
        store: &dyn Store,
        name: &str,
        types: Vec<DataType>,
        leading: usize,
    ) -> Result<Self, DataFileError> {
        let place = store.place(name);
        let file = BufReader::with_capacity(1 << 16, store.open(name)?);
        Self::over(file, &place, types, leading)
    }
}

impl<R: Read> FileReader<R> {
    /// Reads from something else than a store; errors name `place`.
    pub fn over(
        from: R,
        place: &str,
        types: Vec<DataType>,
        leading: usize,
    ) -> Result<Self, DataFileError> {
        let reader = Reader::new(from).map_err(|error| DataFileError::Corrupt {
            place: place.to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            place: place.to_owned(),
            types,
            leading,
            reader,
        })
    }

    fn corrupt(&self, problem: impl Into<String>) -> DataFileError {
        DataFileError::Corrupt {
            place: self.place.clone(),
            problem: problem.into(),
        }
    }

    /// The next record.
    #[expect(
        clippy::should_implement_trait,
        reason = "errors end a file, they do not repeat"
    )]
    pub fn next(&mut self) -> Result<Option<OwnedRecord>, DataFileError> {
        let record = match self.reader.next() {
            None => return Ok(None),
            Some(Err(error)) => return Err(self.corrupt(error.to_string())),
            Some(Ok(Avro::Record(fields))) => fields,
            Some(Ok(_)) => return Err(self.corrupt("it holds something else than records")),
        };
        if record.len() != self.leading + self.types.len() {
            return Err(self.corrupt(format!(
                "a record has {} fields, {} were expected",
                record.len(),
                self.leading + self.types.len()
            )));
        }
        let mut fields = record.into_iter().map(|(_, value)| match value {
            Avro::Union(_, value) => *value,
            value => value,
        });
        let mut names = Vec::with_capacity(self.leading);
        for field in fields.by_ref().take(self.leading) {
            match field {
                Avro::String(name) => names.push(name),
                _ => return Err(self.corrupt("a record has no table name")),
            }
        }
        let mut values = Vec::with_capacity(self.types.len());
        for (field, data_type) in fields.zip(&self.types) {
            match owned(field, *data_type) {
                Some(value) => values.push(value),
                None => return Err(self.corrupt(format!("a value is no {data_type}"))),
            }
        }
        Ok(Some((names, values)))
    }
}

/// A record of a file: its values, without the names that it begins with.
#[derive(Debug)]
pub struct FileRow(Vec<OwnedValue>);

impl Row for FileRow {
    fn value(&self, column: usize) -> Value<'_> {
        self.0.get(column).map_or(Value::Null, OwnedValue::as_value)
    }

    fn into_owned(self) -> Vec<OwnedValue> {
        self.0
    }
}

impl<R: Read> RowSource for FileReader<R> {
    type Error = DataFileError;
    type Row<'r>
        = FileRow
    where
        R: 'r;

    fn types(&self) -> Vec<DataType> {
        self.types.clone()
    }

    fn next_row(&mut self) -> Result<Option<FileRow>, DataFileError> {
        Ok(self.next()?.map(|(_, values)| FileRow(values)))
    }
}

fn owned(field: Avro, data_type: DataType) -> Option<OwnedValue> {
    Some(match field {
        Avro::Null => OwnedValue::Null,
        Avro::Boolean(value) => OwnedValue::Bool(value),
        Avro::Int(value) => OwnedValue::Int(value.into()),
        Avro::Long(value) => OwnedValue::Int(value),
        Avro::Float(value) => OwnedValue::Float(value),
        Avro::Double(value) => OwnedValue::Double(value),
        Avro::String(text) => OwnedValue::Bytes(text.into_bytes()),
        Avro::Bytes(bytes) => OwnedValue::Bytes(bytes),
        Avro::Array(halves) => {
            let number = |half: &Avro| match half {
                Avro::Int(value) => Some(i64::from(*value)),
                Avro::Long(value) => Some(*value),
                _ => None,
            };
            let [first, second] = halves.as_slice() else {
                return None;
            };
            let sum = number(first)?.wrapping_add(number(second)?) as u64;
            let unused_bits = 64 - 8 * u32::try_from(data_type.width()?).ok()?;
            OwnedValue::UInt(sum << unused_bits >> unused_bits)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Directory, check};

    fn every_type() -> Vec<(DataType, Value<'static>)> {
        vec![
            (DataType::Timestamp, Value::Int(i64::MIN)),
            (DataType::Bool, Value::Bool(true)),
            (DataType::TinyInt, Value::Int(-128)),
            (DataType::SmallInt, Value::Int(i16::MAX.into())),
            (DataType::Int, Value::Int(i32::MIN.into())),
            (DataType::BigInt, Value::Int(i64::MAX)),
            (DataType::UTinyInt, Value::UInt(255)),
            (DataType::USmallInt, Value::UInt(0)),
            (DataType::UInt, Value::UInt(u32::MAX.into())),
            (DataType::UBigInt, Value::UInt(u64::MAX)),
            (DataType::Float, Value::Float(f32::MIN_POSITIVE)),
            (DataType::Double, Value::Double(-0.0)),
            (DataType::Varchar, Value::Bytes(b"a\0b")),
            (DataType::Varchar, Value::Bytes(b"\xff\xfe")),
            (DataType::Nchar, Value::Bytes("风".as_bytes())),
            (DataType::Varbinary, Value::Bytes(b"\x00\xff")),
            (DataType::Geometry, Value::Bytes(b"\x01")),
            (DataType::Blob, Value::Bytes(b"")),
            (
                DataType::Decimal,
                Value::Bytes(b"-12345678901234567890.123"),
            ),
            (DataType::Int, Value::Null),
        ]
    }

    #[test]
    fn every_value_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let (types, values): (Vec<_>, Vec<_>) = every_type().into_iter().unzip();
        for compression in [
            Compression::Null,
            Compression::Deflate,
            Compression::Snappy,
            Compression::Lzma,
        ] {
            let name = format!("{compression:?}.avro");
            let plain = Layout::rows("db", types.clone(), BTreeSet::new()).unwrap();
            let mut writer = FileWriter::create(&store, &name, &plain, compression).unwrap();
            let refused = writer.append(&["t"], &|at| values[at]).unwrap_err();
            assert!(matches!(refused, DataFileError::NotText(13)), "{refused}");
            drop(writer);
            store.remove(&name).unwrap();

            let layout = Layout::rows("db", types.clone(), [13].into()).unwrap();
            let mut writer = FileWriter::create(&store, &name, &layout, compression).unwrap();
            for _ in 0..3 {
                writer.append(&["t'b"], &|at| values[at]).unwrap();
            }
            let entry = writer.finish().unwrap();
            assert_eq!(entry.rows, 3);
            check(&store, &entry).unwrap();
            let mut reader = FileReader::open(&store, &name, types.clone(), 1).unwrap();
            let mut rows = 0;
            while let Some((names, read)) = reader.next().unwrap() {
                assert_eq!(names, ["t'b"]);
                let read: Vec<Value<'_>> = read.iter().map(OwnedValue::as_value).collect();
                assert_eq!(read, values);
                rows += 1;
            }
            assert_eq!(rows, 3);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let path = dir.path().join("f");
        let layout = Layout::tags("测试", vec![DataType::Int], BTreeSet::new()).unwrap();
        let mut writer = FileWriter::create(&store, "f", &layout, Compression::Null).unwrap();
        writer.append(&["s", "t"], &|_| Value::Int(5)).unwrap();
        let entry = writer.finish().unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = check(&store, &entry).unwrap_err().to_string();
            assert!(error.contains("SHA-256"), "{error}");
        }
        std::fs::write(&path, &good[1..]).unwrap();
        assert!(
            check(&store, &entry)
                .unwrap_err()
                .to_string()
                .contains("bytes")
        );
    }
}
