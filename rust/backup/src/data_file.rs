//! Avro files as taosdump writes them: one table's rows, or the tags of a super table's children.
//!
//! A data file has the fields `tbname`, `ts`, `col0`, `col1`… by position; a tags file `stbname`, `tbname`,
//! `tag0`…. Every field may be null. Unsigned numbers are arrays of two numbers whose sum they are, the second one
//! being the largest signed number of their width. Text is a string, other bytes are bytes. Two things go beyond
//! taosdump: DECIMAL is a string, and a VARCHAR column that holds anything but UTF-8 is a column of bytes.

use apache_avro::{Codec, Reader, Schema, Writer, types::Value as Avro};
use parking_lot::Mutex;
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeSeq, SerializeStruct},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use taos::{DataType, Value};

/// A data or tags file that can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DataFileError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{path}: {problem}; the file is damaged: take it from another copy of the backup")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A VARCHAR is not UTF-8: its column has to be written as bytes.
    #[error("column {0} holds bytes that are not UTF-8")]
    NotText(usize),
    /// A record could not be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the Avro library says.
        source: Box<apache_avro::Error>,
    },
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

/// A file of a link, as its manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it is, from the link's directory.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, as hexadecimal digits.
    pub sha256: String,
    /// The rows in it, for data and tags files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Hexadecimal digits of a digest.
pub(crate) fn hex(digest: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

/// Counts and hashes what is written through it.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// What was written through, and the entry for it.
    pub(crate) fn finish(self, path: String, rows: u64) -> (W, FileEntry) {
        let sha256 = hex(&self.hash.finalize());
        (
            self.inner,
            FileEntry {
                path,
                bytes: self.bytes,
                sha256,
                rows,
            },
        )
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What a file's fields are.
#[derive(Debug, Clone)]
pub struct Layout {
    names: Vec<&'static str>,
    types: Vec<DataType>,
    /// Columns that would be text, but are written as bytes.
    as_bytes: BTreeSet<usize>,
    /// `tbname`, or `stbname` and `tbname`.
    leading: usize,
    schema: Schema,
}

/// Field names are `col0`, `tag17`…: few, and needed as long as the program runs, since serde wants them so.
fn static_name(kind: &'static str, number: usize) -> &'static str {
    static NAMES: Mutex<Option<HashMap<(&'static str, usize), &'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock();
    names
        .get_or_insert_default()
        .entry((kind, number))
        .or_insert_with(|| Box::leak(format!("{kind}{number}").into_boxed_str()))
}

impl Layout {
    /// Rows of a table of `database`: `types` are those of its columns, the timestamp first.
    pub fn rows(
        database: &str,
        types: Vec<DataType>,
        as_bytes: BTreeSet<usize>,
    ) -> Result<Self, String> {
        let columns = (0..types.len()).map(|at| match at {
            0 => "ts",
            at => static_name("col", at - 1),
        });
        let names = std::iter::once("tbname").chain(columns).collect();
        Self::new(database, "_record", names, types, as_bytes, 1)
    }

    /// Tags of tables of `database`.
    pub fn tags(
        database: &str,
        types: Vec<DataType>,
        as_bytes: BTreeSet<usize>,
    ) -> Result<Self, String> {
        let tags = (0..types.len()).map(|at| static_name("tag", at));
        let names = ["stbname", "tbname"].into_iter().chain(tags).collect();
        Self::new(database, "_stb", names, types, as_bytes, 2)
    }

    fn new(
        database: &str,
        record: &'static str,
        names: Vec<&'static str>,
        types: Vec<DataType>,
        as_bytes: BTreeSet<usize>,
        leading: usize,
    ) -> Result<Self, String> {
        let field = |at: usize, name: &&str| {
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
        let fields: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(at, name)| field(at, name))
            .collect();
        let schema = record_schema(database, record, &fields.join(","))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            names,
            types,
            as_bytes,
            leading,
            schema,
        })
    }
}

/// A record as taosdump writes it: in the namespace of its database, which its restore goes by when databases are
/// renamed. A name that Avro does not allow there is left out.
pub(crate) fn record_schema(
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

impl Serialize for Record<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("_record", self.layout.names.len())?;
        let (leading, columns) = self.layout.names.split_at(self.layout.leading);
        for (name, text) in leading.iter().zip(self.leading) {
            record.serialize_field(name, &Some(*text))?;
        }
        for (at, (name, data_type)) in columns.iter().zip(&self.layout.types).enumerate() {
            let field = FieldOf {
                data_type: *data_type,
                as_bytes: self.layout.as_bytes.contains(&at),
                value: (self.values)(at),
            };
            record.serialize_field(name, &field)?;
        }
        record.end()
    }
}

/// Writes a data or tags file.
pub struct FileWriter<'l, W: Write = BufWriter<File>> {
    layout: &'l Layout,
    path: PathBuf,
    writer: Writer<'l, Hashing<W>>,
    rows: u64,
}

impl<W: Write> std::fmt::Debug for FileWriter<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter")
            .field("path", &self.path)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<'l> FileWriter<'l> {
    /// Creates a file; there must be none.
    pub fn create(
        path: &Path,
        layout: &'l Layout,
        compression: Compression,
    ) -> Result<Self, DataFileError> {
        let file = File::create_new(path).map_err(|source| DataFileError::Io {
            path: path.into(),
            source,
        })?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Self::over(file, path, layout, compression)
    }

    /// Finishes the file; `name` is where it is from the link's directory. It is not yet durable.
    pub fn finish(self, name: String) -> Result<FileEntry, DataFileError> {
        let path = self.path.clone();
        let (mut file, entry) = self.into_parts(name)?;
        file.flush()
            .map_err(|source| DataFileError::Io { path, source })?;
        Ok(entry)
    }
}

impl<'l, W: Write> FileWriter<'l, W> {
    /// Writes to something else than a file of its own; errors name `path`.
    pub fn over(
        to: W,
        path: &Path,
        layout: &'l Layout,
        compression: Compression,
    ) -> Result<Self, DataFileError> {
        let writer = Writer::with_codec(&layout.schema, Hashing::new(to), compression.codec())
            .map_err(|source| write_error(path, source))?;
        Ok(Self {
            layout,
            path: path.into(),
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
            .map_err(|source| write_error(&self.path, source))?;
        self.rows += 1;
        Ok(())
    }

    /// Ends what was written: where it was written to, and the entry for it.
    pub fn into_parts(self, name: String) -> Result<(W, FileEntry), DataFileError> {
        let hashing = self
            .writer
            .into_inner()
            .map_err(|source| write_error(&self.path, source))?;
        Ok(hashing.finish(name, self.rows))
    }
}

fn write_error(path: &Path, source: apache_avro::Error) -> DataFileError {
    DataFileError::Write {
        path: path.into(),
        source: Box::new(source),
    }
}

/// A value read back.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in `Value`")]
pub enum OwnedValue {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
}

impl OwnedValue {
    /// The value, borrowed.
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::UInt(value) => Value::UInt(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::UInt(value) => Self::UInt(value),
            Value::Float(value) => Self::Float(value),
            Value::Double(value) => Self::Double(value),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

/// Reads a data or tags file.
pub struct FileReader<R: Read = BufReader<File>> {
    path: PathBuf,
    types: Vec<DataType>,
    leading: usize,
    reader: Reader<'static, R>,
}

impl<R: Read> std::fmt::Debug for FileReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A record: the names it begins with, and its values.
pub type OwnedRecord = (Vec<String>, Vec<OwnedValue>);

impl FileReader {
    /// Opens a file of a table's rows (`leading` 1) or of tags (`leading` 2), whose columns are of these types.
    pub fn open(path: &Path, types: Vec<DataType>, leading: usize) -> Result<Self, DataFileError> {
        let file = File::open(path).map_err(|source| DataFileError::Io {
            path: path.into(),
            source,
        })?;
        Self::over(
            BufReader::with_capacity(1 << 16, file),
            path,
            types,
            leading,
        )
    }
}

impl<R: Read> FileReader<R> {
    /// Reads from something else than a file of its own; errors name `path`.
    pub fn over(
        from: R,
        path: &Path,
        types: Vec<DataType>,
        leading: usize,
    ) -> Result<Self, DataFileError> {
        let reader = Reader::new(from).map_err(|error| DataFileError::Corrupt {
            path: path.into(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            path: path.into(),
            types,
            leading,
            reader,
        })
    }

    fn corrupt(&self, problem: impl Into<String>) -> DataFileError {
        DataFileError::Corrupt {
            path: self.path.clone(),
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

/// Refuses a pipe or a device: reading it may not end.
pub(crate) fn must_be_a_file(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Reads a whole file and checks it against its entry.
pub(crate) fn check(root: &Path, entry: &FileEntry) -> Result<(), DataFileError> {
    let path = root.join(&entry.path);
    let io = |source| DataFileError::Io {
        path: path.clone(),
        source,
    };
    must_be_a_file(&path).map_err(io)?;
    let mut file = File::open(&path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0_u64;
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
    let problem = if bytes != entry.bytes {
        format!("it has {bytes} bytes, the manifest says {}", entry.bytes)
    } else if hex(&hash.finalize()) != entry.sha256 {
        "its SHA-256 is not the one in the manifest".to_owned()
    } else {
        return Ok(());
    };
    Err(DataFileError::Corrupt { path, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (types, values): (Vec<_>, Vec<_>) = every_type().into_iter().unzip();
        for compression in [
            Compression::Null,
            Compression::Deflate,
            Compression::Snappy,
            Compression::Lzma,
        ] {
            let path = dir.path().join(format!("{compression:?}.avro"));
            let plain = Layout::rows("db", types.clone(), BTreeSet::new()).unwrap();
            let mut writer = FileWriter::create(&path, &plain, compression).unwrap();
            let refused = writer.append(&["t"], &|at| values[at]).unwrap_err();
            assert!(matches!(refused, DataFileError::NotText(13)), "{refused}");
            drop(writer);
            std::fs::remove_file(&path).unwrap();

            let layout = Layout::rows("db", types.clone(), [13].into()).unwrap();
            let mut writer = FileWriter::create(&path, &layout, compression).unwrap();
            for _ in 0..3 {
                writer.append(&["t'b"], &|at| values[at]).unwrap();
            }
            let entry = writer.finish(format!("{compression:?}.avro")).unwrap();
            assert_eq!(entry.rows, 3);
            check(dir.path(), &entry).unwrap();
            let mut reader = FileReader::open(&path, types.clone(), 1).unwrap();
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
        let path = dir.path().join("f");
        let layout = Layout::tags("测试", vec![DataType::Int], BTreeSet::new()).unwrap();
        let mut writer = FileWriter::create(&path, &layout, Compression::Null).unwrap();
        writer.append(&["s", "t"], &|_| Value::Int(5)).unwrap();
        let entry = writer.finish("f".to_owned()).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = check(dir.path(), &entry).unwrap_err().to_string();
            assert!(error.contains("SHA-256"), "{error}");
        }
        std::fs::write(&path, &good[1..]).unwrap();
        assert!(
            check(dir.path(), &entry)
                .unwrap_err()
                .to_string()
                .contains("bytes")
        );
    }
}
