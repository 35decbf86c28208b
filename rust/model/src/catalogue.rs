//! The catalogue: what SQL says about a database's tables, and its form in a link.
//!
//! A table is known by its uid: a table that was dropped and created again has another one. Columns are known by
//! their ids where the server tells them (3.3.7 and later), so that a column that was dropped and added again
//! under its old name is not taken for the old one.

use crate::{DataType, Precision, Suid, Uid, VgId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

pub use tables::{SharedNames, Tables};

mod tables;

/// Everything SQL says about a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// The database.
    pub database: Database,
    /// Its super tables by name.
    pub stables: BTreeMap<String, SuperTable>,
    /// Its child and normal tables.
    pub tables: Tables,
    /// What it holds that a backup does not: virtual tables, topics, streams and the like.
    pub not_covered: Vec<String>,
    /// Tables that the server itself can't read any more, and why. They are not in `tables`.
    pub unreadable: BTreeMap<String, String>,
    /// Super tables of which the same is true. They are not in `stables`, their children are in `tables`.
    pub unreadable_stables: BTreeMap<String, String>,
}

/// A database's options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The statement that creates it with all its options.
    pub create: String,
    /// The unit of its keys.
    pub precision: Precision,
}

/// A super table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuperTable {
    /// Its name.
    pub name: String,
    /// Its id.
    pub suid: Suid,
    /// Its columns, tags and options.
    pub schema: Schema,
    /// Its comment, as it stood between the quotes of the statement that set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When the server last changed its schema, as text.
    pub updated: String,
}

/// Columns, tags and options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The columns, the timestamp first.
    pub columns: Vec<Column>,
    /// The tags; empty for a normal table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Column>,
    /// The options that follow the columns in the statement that creates it, comment and TTL aside: `SMA(…)`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
}

/// A column or tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type with its width.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Its id; `None` for tags, and on servers that do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Whether it is the second column of a composite key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
    /// Encoding, compression and level; `None` for tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coding: Option<Coding>,
}

/// A column's type with what it is declared with; as text what DESCRIBE and CREATE TABLE say: `VARCHAR(20)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnType {
    /// The type itself.
    pub data_type: DataType,
    /// What it is declared with.
    pub size: ColumnSize,
}

/// What a column's type is declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnSize {
    /// Nothing: the type has one width.
    Fixed,
    /// The most bytes of a value; characters for NCHAR.
    Length(u32),
    /// The digits of a DECIMAL, and how many of them stand behind the point.
    Digits {
        /// All digits.
        precision: u8,
        /// Those behind the point.
        scale: u8,
    },
}

impl ColumnType {
    /// A type that is declared with nothing.
    pub const fn fixed(data_type: DataType) -> Self {
        Self {
            data_type,
            size: ColumnSize::Fixed,
        }
    }

    /// The digits of a DECIMAL behind the point; 0 for other types.
    pub fn scale(self) -> u8 {
        match self.size {
            ColumnSize::Digits { scale, .. } => scale,
            _ => 0,
        }
    }

    /// Whether values of the two are stored the same way, however long they may be: one can be made the other by MODIFY.
    pub fn has_the_storage_of(self, other: Self) -> bool {
        let decimal = self.data_type.is_decimal() || other.data_type.is_decimal();
        match decimal {
            true => self == other,
            false => self.data_type == other.data_type,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            ColumnSize::Fixed => self.data_type.fmt(f),
            ColumnSize::Length(length) => write!(f, "{}({length})", self.data_type),
            ColumnSize::Digits { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
        }
    }
}

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown data type {text:?}");
        let Some((name, rest)) = text.split_once('(') else {
            return Ok(Self::fixed(text.parse()?));
        };
        let inner = rest.strip_suffix(')').ok_or_else(unknown)?;
        if name == "DECIMAL" {
            let mut digits = inner.split(',').map(|digits| digits.trim().parse::<u8>());
            let precision = digits.next().and_then(Result::ok).ok_or_else(unknown)?;
            let scale = match digits.next() {
                None => 0,
                Some(scale) => scale.map_err(|_| unknown())?,
            };
            return Ok(Self {
                data_type: match precision {
                    ..=18 => DataType::Decimal64,
                    _ => DataType::Decimal,
                },
                size: ColumnSize::Digits { precision, scale },
            });
        }
        Ok(Self {
            data_type: name.parse()?,
            size: ColumnSize::Length(inner.trim().parse().map_err(|_| unknown())?),
        })
    }
}

impl Serialize for ColumnType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How a column is compressed, in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are the words of CREATE TABLE")]
pub struct Coding {
    pub encode: String,
    pub compress: String,
    pub level: String,
}

/// A child or normal table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its id.
    pub uid: Uid,
    /// Its vgroup.
    pub vgroup: VgId,
    /// Its super table; `None` for a normal table. Children share the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Arc<str>>,
    /// A digest of its tag values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagsDigest>,
    /// A normal table's columns and options. In a box, as there are many more children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Box<Schema>>,
    /// Its TTL in days; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ttl: i64,
    /// Its comment, as it stood between the quotes of the statement that set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// The first half of the SHA-256 of a table's tag values. Written as hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TagsDigest(pub [u8; 16]);

impl From<TagsDigest> for String {
    fn from(digest: TagsDigest) -> Self {
        let halves = digest.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let digits = halves.filter_map(|half| char::from_digit(half.into(), 16));
        digits.collect()
    }
}

impl TryFrom<String> for TagsDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let pair = |pair: &[u8]| match *pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no digest of tags"))
    }
}

impl Schema {
    /// Whether any column is a DECIMAL.
    pub fn has_decimals(&self) -> bool {
        let is_decimal = |column: &Column| column.column_type.data_type.is_decimal();
        self.columns.iter().any(is_decimal)
    }

    /// Whether any column is a BLOB.
    pub fn has_blobs(&self) -> bool {
        let is_blob = |column: &Column| column.column_type.data_type == DataType::Blob;
        self.columns.iter().any(is_blob)
    }

    /// Whether the server has lost the precision of a DECIMAL: 3.3.7.5 does when the last column of a normal table is
    /// dropped.
    pub fn has_lost_precision(&self) -> bool {
        let lost = |column: &Column| {
            matches!(
                column.column_type.size,
                ColumnSize::Digits { precision: 0, .. }
            )
        };
        self.columns.iter().any(lost)
    }

    /// Whether the two look the same to who reads or writes rows; ids aside, which differ between databases.
    pub fn looks_like(&self, other: &Self) -> bool {
        let same = |a: &[Column], b: &[Column]| {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| {
                    (&a.name, a.column_type, a.key, &a.coding)
                        == (&b.name, b.column_type, b.key, &b.coding)
                })
        };
        same(&self.columns, &other.columns)
            && same(&self.tags, &other.tags)
            && self.fixed_options() == other.fixed_options()
            && self.keep() == other.keep()
    }

    /// The options but for SMA and KEEP: the one lists the columns which were there from the beginning, so it follows from
    /// adding and dropping columns; the other can be altered.
    pub fn fixed_options(&self) -> String {
        let (options, _) = self.options_and_keep();
        let Some((before, list)) = options.split_once("SMA(") else {
            return options;
        };
        let after = after_parenthesis(&format!("({list}"))
            .unwrap_or_default()
            .to_owned();
        format!("{}{}", before.trim_end(), after).trim().to_owned()
    }

    /// The KEEP of a super table, in the server's words.
    pub fn keep(&self) -> Option<&str> {
        self.options_and_keep().1
    }

    /// Takes away the KEEP of a super table, and returns it.
    pub fn take_keep(&mut self) -> Option<String> {
        let (options, keep) = self.options_and_keep();
        let keep = keep?.to_owned();
        self.options = options;
        Some(keep)
    }

    /// The options without KEEP, and KEEP. Names in the list of SMA may hold the word.
    fn options_and_keep(&self) -> (String, Option<&str>) {
        let (before, list) = match self.options.split_once("SMA(") {
            Some((before, _)) => self.options.split_at(before.len()),
            None => (self.options.as_str(), ""),
        };
        let after = list.strip_prefix("SMA").and_then(after_parenthesis);
        let after = after.unwrap_or_default();
        let list = list.strip_suffix(after).unwrap_or(list);
        let keep = [before, after].into_iter().find_map(|part| {
            let (_, rest) = part.split_once("KEEP ")?;
            rest.split(' ').next()
        });
        let shorn = |part: &str| match part.split_once("KEEP ") {
            Some((head, rest)) => {
                let tail = rest.split_once(' ').map_or("", |(_, tail)| tail);
                format!("{head}{tail}")
            }
            None => part.to_owned(),
        };
        let options = format!("{}{list}{}", shorn(before), shorn(after));
        (options.trim().to_owned(), keep)
    }
}

impl Catalogue {
    /// A table's columns.
    pub fn schema_of<'a>(&'a self, table: &'a Table) -> Option<&'a Schema> {
        match &table.stable {
            Some(stable) => self.stables.get(&**stable).map(|stable| &stable.schema),
            None => table.schema.as_deref(),
        }
    }
}

/// What follows a name in backticks at the beginning of `text`.
pub fn after_name(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('`')?;
    loop {
        let (_, after) = rest.split_once('`')?;
        match after.strip_prefix('`') {
            Some(more) => rest = more,
            None => return Some(after),
        }
    }
}

/// What follows the parenthesis that `text` begins with. Parentheses within quotes or backticks do not count.
pub fn after_parenthesis(text: &str) -> Option<&str> {
    if !text.starts_with('(') {
        return None;
    }
    let mut depth = 0_usize;
    let mut quote: Option<char> = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '`' | '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return text.get(at + 1..);
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// How long the database keeps rows, from the statement that creates it.
pub fn keep_seconds(create: &str) -> Option<i64> {
    let options = database_options(create);
    seconds(options.get("KEEP")?.rsplit(',').next()?)
}

/// A length of time as options of databases have it, such as `10d`, in seconds.
pub fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    number.parse::<i64>().ok()?.checked_mul(match unit {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    })
}

/// A database's options by name, from the statement that creates it.
pub fn database_options(create: &str) -> BTreeMap<String, String> {
    let options = create
        .strip_prefix("CREATE DATABASE ")
        .and_then(after_name)
        .unwrap_or_default();
    let words: Vec<&str> = options.split_whitespace().collect();
    words
        .chunks_exact(2)
        .filter_map(|pair| Some((pair.first()?.to_string(), pair.get(1)?.to_string())))
        .collect()
}

/// A name in backticks, as SQL takes it.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The statement that creates a database, with some of its options replaced, or added.
pub fn with_options(create: &str, options: &BTreeMap<String, String>) -> String {
    let rest = create
        .strip_prefix("CREATE DATABASE ")
        .and_then(after_name)
        .unwrap_or_default();
    let head = create.strip_suffix(rest).unwrap_or(create);
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    for (option, value) in options {
        let at = words.iter().step_by(2).position(|word| word == option);
        match at.and_then(|at| words.get_mut(at * 2 + 1)) {
            Some(place) => *place = value,
            None => words.extend([option.as_str(), value.as_str()]),
        }
    }
    format!("{head} {}", words.join(" ")).trim_end().to_owned()
}

/// The statement that creates a database, with each option under the name that `name` gives it. Those that get none are left
/// out of it, and are returned with their values.
pub fn with_names<'o>(
    create: &'o str,
    name: impl Fn(&'o str) -> Option<&'o str>,
) -> (String, BTreeMap<String, String>) {
    let rest = create
        .strip_prefix("CREATE DATABASE ")
        .and_then(after_name)
        .unwrap_or_default();
    let mut statement = create.strip_suffix(rest).unwrap_or(create).to_owned();
    let mut left_out = BTreeMap::new();
    let mut words = rest.split_whitespace();
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        match name(option) {
            Some(name) => statement.push_str(&format!(" {name} {value}")),
            None => drop(left_out.insert(option.to_owned(), value.to_owned())),
        }
    }
    (statement, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_tags_is_read_as_it_was_written_and_nothing_else_is_one() {
        let digest = TagsDigest(std::array::from_fn(|n| n as u8 * 17));
        let text = String::from(digest);
        assert_eq!(text, "00112233445566778899aabbccddeeff");
        assert_eq!(TagsDigest::try_from(text.clone()), Ok(digest));
        for broken in [
            "",
            "00",
            &text[1..],
            &format!("{text}00"),
            &text.replace('f', "g"),
        ] {
            assert!(TagsDigest::try_from(broken.to_owned()).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_keep_of_a_super_table_is_told_from_its_other_options() {
        let schema = |options: &str| Schema {
            columns: Vec::new(),
            tags: Vec::new(),
            options: options.to_owned(),
        };
        for (options, keep, fixed) in [
            ("", None, ""),
            ("KEEP 1440m", Some("1440m"), ""),
            ("KEEP 1440m SMA(`KEEP 1d`)", Some("1440m"), ""),
            ("SMA(`a`,`b) KEEP 2d`)", None, ""),
            (
                "WATERMARK 5a KEEP 2d SMA(`a`) VIRTUAL 1",
                Some("2d"),
                "WATERMARK 5a VIRTUAL 1",
            ),
            ("SMA(`a`) KEEP 5d", Some("5d"), ""),
            ("SMA(`a`) VIRTUAL 1", None, "VIRTUAL 1"),
        ] {
            let mut schema = schema(options);
            assert_eq!(schema.keep(), keep, "{options}");
            assert_eq!(schema.fixed_options(), fixed, "{options}");
            assert_eq!(schema.take_keep().as_deref(), keep, "{options}");
            assert_eq!(schema.keep(), None, "{options}");
            assert_eq!(schema.fixed_options(), fixed, "{options}");
        }
    }

    #[test]
    fn the_options_of_a_database_are_read_from_the_statement_that_creates_it() {
        let create = "CREATE DATABASE `a``b` BUFFER 256 CACHEMODEL 'none' KEEP 3650d,3650d,3650d";
        let options = database_options(create);
        assert_eq!(options["KEEP"], "3650d,3650d,3650d");
        assert_eq!(options.len(), 3);
        assert_eq!(keep_seconds(create), Some(3650 * 86_400));
        let other = [("KEEP", "5d"), ("VGROUPS", "2")];
        let other = other.map(|(option, value)| (option.to_owned(), value.to_owned()));
        assert_eq!(
            with_options(create, &other.into()),
            "CREATE DATABASE `a``b` BUFFER 256 CACHEMODEL 'none' KEEP 5d VGROUPS 2"
        );
        assert_eq!(with_options(create, &BTreeMap::new()), create);
    }

    #[test]
    fn options_of_a_database_get_other_names_and_those_without_one_are_told() {
        let create = "CREATE DATABASE `a``b` SS_COMPACT 1 KEEP 5d NEWEST 'x'";
        let name = |option| match option {
            "SS_COMPACT" => Some("S3_COMPACT"),
            "NEWEST" => None,
            option => Some(option),
        };
        let (statement, left_out) = with_names(create, name);
        assert_eq!(statement, "CREATE DATABASE `a``b` S3_COMPACT 1 KEEP 5d");
        let newest = ("NEWEST".to_owned(), "'x'".to_owned());
        assert_eq!(left_out, [newest].into());
        assert_eq!(with_names(create, Some).0, create);
    }

    #[test]
    fn a_column_type_is_read_once_and_written_as_the_server_says_it() {
        for (text, data_type, scale) in [
            ("VARCHAR(20)", DataType::Varchar, 0),
            ("DECIMAL(20, 3)", DataType::Decimal, 3),
            ("DECIMAL(18, 2)", DataType::Decimal64, 2),
            ("INT UNSIGNED", DataType::UInt, 0),
            ("GEOMETRY(512)", DataType::Geometry, 0),
        ] {
            let parsed: ColumnType = text.parse().unwrap();
            assert_eq!((parsed.data_type, parsed.scale()), (data_type, scale));
            assert_eq!(parsed.to_string(), text);
        }
        let spaced: ColumnType = "DECIMAL(20,3)".parse().unwrap();
        assert_eq!(Ok(spaced), "DECIMAL(20, 3)".parse());
        assert_eq!("BINARY(8)".parse::<ColumnType>(), "VARCHAR(8)".parse());
        for wrong in ["QUATERNION", "VARCHAR(x)", "VARCHAR(3", "DECIMAL()", "("] {
            assert!(wrong.parse::<ColumnType>().is_err(), "{wrong}");
        }
    }
}
