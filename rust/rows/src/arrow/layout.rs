//! Which columns a file has, and how that is said in Arrow's schema.

use arrow_schema::{
    DataType as Arrow, Field, Metadata, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use model::{
    ColumnId, DataType, FileSetId, Precision, Suid, VgId,
    catalogue::{ColumnSize, ColumnType, Schema},
};
use std::{collections::BTreeSet, str::FromStr, sync::Arc};

/// The number of the format of links whose rows are laid out as told here.
pub(crate) const FORMAT: u32 = 2;

/// The table's name.
pub(super) const TABLE: &str = "tbname";
/// The version that last wrote to the row.
pub(super) const VERSION: &str = "_version";
/// How many columns stand before the table's own.
pub(crate) const LEADING: usize = 2;

/// Field ids of the two columns that no table has. Ids of a table's columns end at 32767.
const TABLE_ID: i32 = 1 << 16;
const VERSION_ID: i32 = TABLE_ID + 1;

/// Arrow's and Parquet's own key for the id of a field.
const FIELD_ID: &str = "PARQUET:field_id";
/// The type as CREATE TABLE says it: `VARCHAR(20)`.
const TYPE: &str = "tdengine.type";
/// The column's name, where the field has another.
const NAME: &str = "tdengine.name";
/// `raw` where values are bytes as the server stores them.
const STORED: &str = "tdengine.stored";
const RAW: &str = "raw";
/// Of the file: where its rows come from.
const FORMAT_KEY: &str = "tdengine.format";
const STABLE: &str = "tdengine.stable";
const SUID: &str = "tdengine.suid";
const VGROUP: &str = "tdengine.vgroup";
const FILE_SET: &str = "tdengine.file_set";
const PRECISION: &str = "tdengine.precision";

/// Where the rows of a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The super table's name; `None` for normal tables.
    pub stable: Option<String>,
    /// The super table's id, 0 for normal tables.
    pub suid: Suid,
    /// The vgroup.
    pub vgroup: VgId,
    /// The file set; `None` if the rows are not those of a single one.
    pub file_set: Option<FileSetId>,
    /// The unit of keys and timestamps.
    pub precision: Precision,
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileColumn {
    /// Its id in the table.
    pub id: ColumnId,
    /// Its name in the table.
    pub name: String,
    /// Its type in the table.
    pub column_type: ColumnType,
    /// Whether values are bytes as the server stores them.
    pub raw: bool,
}

/// The columns of a file, and where its rows come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    origin: Origin,
    columns: Vec<FileColumn>,
    schema: SchemaRef,
}

/// Columns that can't be laid out, or a schema that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A column without an id.
    #[error("the id of column {0:?} is not known")]
    NoId(String),
    /// Two columns with one id, or no timestamp at the beginning.
    #[error("column {0:?} does not fit the columns before it")]
    Misplaced(String),
    /// The schema of a file that a later version wrote.
    #[error("it has format {0}, and this version reads up to {FORMAT}; use a newer version")]
    NewerFormat(u32),
    /// A schema that is none of ours.
    #[error("its schema is not that of rows of TDengine: {0}")]
    Foreign(String),
}

impl Layout {
    /// The layout of rows of tables with this schema.
    ///
    /// # Errors
    /// The schema does not tell the ids of its columns, or it does not begin with a timestamp.
    pub fn new(schema: &Schema, origin: Origin) -> Result<Self, LayoutError> {
        let column = |column: &model::catalogue::Column| {
            let id = column.id.and_then(|id| i16::try_from(id).ok());
            let id = id.ok_or_else(|| LayoutError::NoId(column.name.clone()))?;
            Ok(FileColumn {
                id: ColumnId(id),
                name: column.name.clone(),
                column_type: column.column_type,
                // The server may have lost a DECIMAL's precision; Arrow has none with 0 digits.
                raw: decimal_of(column.column_type).is_none()
                    && column.column_type.data_type.is_decimal(),
            })
        };
        let columns = schema.columns.iter().map(column);
        Self::of(origin, columns.collect::<Result<_, _>>()?)
    }

    fn of(origin: Origin, columns: Vec<FileColumn>) -> Result<Self, LayoutError> {
        let mut ids = BTreeSet::new();
        for (at, column) in columns.iter().enumerate() {
            let is_timestamp = column.column_type.data_type == DataType::Timestamp;
            if !ids.insert(column.id) || at == 0 && !is_timestamp {
                return Err(LayoutError::Misplaced(column.name.clone()));
            }
        }
        if columns.is_empty() {
            return Err(LayoutError::Misplaced(String::new()));
        }
        let fields = fields(&columns, origin.precision);
        let schema = ArrowSchema::new_with_metadata(fields, metadata(&origin));
        Ok(Self {
            origin,
            columns,
            schema: Arc::new(schema),
        })
    }

    /// The layout that a schema of ours says.
    ///
    /// # Errors
    /// It is of a newer format, or none of ours.
    pub fn from_arrow(schema: &ArrowSchema) -> Result<Self, LayoutError> {
        let origin = origin(schema.metadata())?;
        let leading = [TABLE, VERSION];
        let begins = schema.fields().iter().map(|field| field.name().as_str());
        if !begins.take(LEADING).eq(leading) {
            let problem = format!("it does not begin with {TABLE} and {VERSION}");
            return Err(LayoutError::Foreign(problem));
        }
        let own = schema.fields().iter().skip(LEADING);
        let columns = own.map(|field| {
            let (name, metadata) = (field.name(), field.metadata());
            let foreign = |what| LayoutError::Foreign(format!("column {name:?} has no {what}"));
            let id = metadata.get(FIELD_ID).and_then(|id| id.parse().ok());
            let column_type = metadata.get(TYPE).and_then(|text| text.parse().ok());
            Ok(FileColumn {
                id: ColumnId(id.ok_or_else(|| foreign("id"))?),
                name: metadata.get(NAME).unwrap_or(name).clone(),
                column_type: column_type.ok_or_else(|| foreign("type"))?,
                raw: metadata.get(STORED).is_some_and(|stored| stored == RAW),
            })
        });
        let layout = Self::of(origin, columns.collect::<Result<_, LayoutError>>()?)?;
        let same = |(a, b): (&Arc<Field>, &Arc<Field>)| {
            (a.name(), a.data_type(), a.is_nullable()) == (b.name(), b.data_type(), b.is_nullable())
        };
        if !layout.schema.fields().iter().zip(schema.fields()).all(same) {
            let problem = "a column is not stored as its type says".to_owned();
            return Err(LayoutError::Foreign(problem));
        }
        Ok(layout)
    }

    /// The same with these columns raw.
    #[must_use]
    pub fn with_raw(&self, raw: &[ColumnId]) -> Self {
        let mut columns = self.columns.clone();
        for column in &mut columns {
            column.raw |= raw.contains(&column.id) && can_be_raw(column.column_type.data_type);
        }
        let fields = fields(&columns, self.origin.precision);
        let schema = ArrowSchema::new_with_metadata(fields, self.schema.metadata().clone());
        Self {
            origin: self.origin.clone(),
            columns,
            schema: Arc::new(schema),
        }
    }

    /// Where the rows come from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The columns of the table, the key first.
    pub fn columns(&self) -> &[FileColumn] {
        &self.columns
    }

    /// The schema of record batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl FileColumn {
    /// How the column's values are kept in Arrow.
    pub(super) fn arrow_type(&self, precision: Precision) -> Arrow {
        let decimal = decimal_of(self.column_type);
        match self.column_type.data_type {
            data_type if self.raw && can_be_raw(data_type) => Arrow::Binary,
            DataType::Bool => Arrow::Boolean,
            DataType::TinyInt => Arrow::Int8,
            DataType::SmallInt => Arrow::Int16,
            DataType::Int => Arrow::Int32,
            DataType::BigInt => Arrow::Int64,
            DataType::UTinyInt => Arrow::UInt8,
            DataType::USmallInt => Arrow::UInt16,
            DataType::UInt => Arrow::UInt32,
            DataType::UBigInt => Arrow::UInt64,
            DataType::Float => Arrow::Float32,
            DataType::Double => Arrow::Float64,
            DataType::Timestamp => timestamp(precision),
            DataType::Varchar | DataType::Nchar | DataType::Json => Arrow::Utf8,
            DataType::Varbinary | DataType::Blob | DataType::MediumBlob | DataType::Geometry => {
                Arrow::Binary
            }
            DataType::Decimal | DataType::Decimal64 => decimal
                .map_or(Arrow::Binary, |(precision, scale)| {
                    Arrow::Decimal128(precision, scale)
                }),
        }
    }
}

/// Whether there are values of the type that Arrow's type for it can't hold.
fn can_be_raw(data_type: DataType) -> bool {
    data_type.is_text() || data_type.is_decimal()
}

/// Digits and scale of a DECIMAL that Arrow can have.
pub(super) fn decimal_of(column_type: ColumnType) -> Option<(u8, i8)> {
    match column_type.size {
        ColumnSize::Digits { precision, scale }
            if column_type.data_type.is_decimal()
                && (1..=38).contains(&precision)
                && scale <= precision =>
        {
            Some((precision, i8::try_from(scale).ok()?))
        }
        _ => None,
    }
}

/// The type of a timestamp: a moment, not the reading of a clock somewhere.
fn timestamp(precision: Precision) -> Arrow {
    let unit = match precision {
        Precision::Milliseconds => TimeUnit::Millisecond,
        Precision::Microseconds => TimeUnit::Microsecond,
        Precision::Nanoseconds => TimeUnit::Nanosecond,
    };
    Arrow::Timestamp(unit, Some("UTC".into()))
}

fn fields(columns: &[FileColumn], precision: Precision) -> Vec<Field> {
    let with_id =
        |field: Field, id: i32| field.with_metadata(Metadata::from([(FIELD_ID, id.to_string())]));
    let names = Arrow::Dictionary(Box::new(Arrow::Int32), Box::new(Arrow::Utf8));
    let leading = [
        with_id(Field::new(TABLE, names, false), TABLE_ID),
        with_id(Field::new(VERSION, Arrow::Int64, false), VERSION_ID),
    ];
    let own = columns.iter().zip(field_names(columns)).enumerate();
    let own = own.map(|(at, (column, name))| {
        let mut metadata = Metadata::from([
            (FIELD_ID, column.id.to_string()),
            (TYPE, column.column_type.to_string()),
        ]);
        if name != column.name {
            metadata.insert(NAME, column.name.clone());
        }
        if column.raw {
            metadata.insert(STORED, RAW);
        }
        Field::new(name, column.arrow_type(precision), at > 0).with_metadata(metadata)
    });
    leading.into_iter().chain(own).collect()
}

/// A name for each column that no other has, not even in other letters, as many readers do not tell `a` from `A`. It is the
/// column's own if it can be, else that with the first number, from 2 on, with which nobody has it.
fn field_names(columns: &[FileColumn]) -> Vec<String> {
    let own: BTreeSet<String> = columns
        .iter()
        .map(|column| column.name.to_lowercase())
        .collect();
    let mut taken = BTreeSet::from([TABLE.to_owned(), VERSION.to_owned()]);
    let name = |column: &FileColumn| {
        if taken.insert(column.name.to_lowercase()) {
            return column.name.clone();
        }
        let mut number = 2;
        loop {
            let name = format!("{}_{number}", column.name);
            let letters = name.to_lowercase();
            if !own.contains(&letters) && taken.insert(letters) {
                return name;
            }
            number += 1;
        }
    };
    columns.iter().map(name).collect()
}

fn metadata(origin: &Origin) -> Metadata {
    let mut metadata = Metadata::from([
        (FORMAT_KEY, FORMAT.to_string()),
        (SUID, origin.suid.to_string()),
        (VGROUP, origin.vgroup.to_string()),
        (PRECISION, origin.precision.to_string()),
    ]);
    metadata.extend(origin.stable.clone().map(|name| (STABLE, name)));
    metadata.extend(origin.file_set.map(|set| (FILE_SET, set.to_string())));
    metadata
}

fn origin(metadata: &Metadata) -> Result<Origin, LayoutError> {
    match required(metadata, FORMAT_KEY)? {
        FORMAT => {}
        newer @ FORMAT.. => return Err(LayoutError::NewerFormat(newer)),
        older => return Err(LayoutError::Foreign(format!("there is no format {older}"))),
    }
    Ok(Origin {
        stable: metadata.get(STABLE).cloned(),
        suid: Suid(required(metadata, SUID)?),
        vgroup: VgId(required(metadata, VGROUP)?),
        file_set: optional(metadata, FILE_SET)?.map(FileSetId),
        precision: required(metadata, PRECISION)?,
    })
}

fn optional<T: FromStr>(metadata: &Metadata, key: &str) -> Result<Option<T>, LayoutError> {
    let wrong = |_| LayoutError::Foreign(format!("its {key} can't be read"));
    let text = metadata.get(key);
    text.map(|text| text.parse().map_err(wrong)).transpose()
}

fn required<T: FromStr>(metadata: &Metadata, key: &str) -> Result<T, LayoutError> {
    let missing = || LayoutError::Foreign(format!("it has no {key}"));
    optional(metadata, key)?.ok_or_else(missing)
}
