//! The catalogue: what SQL says about a database's tables, and its form in a link.
//!
//! A table is known by its uid: a table that was dropped and created again has another one. Columns are known by
//! their ids where the server tells them (3.3.7 and later), so that a column that was dropped and added again
//! under its old name is not taken for the old one.

pub(crate) mod read;
pub(crate) mod schema_change;

pub use read::{CatalogueError, read};
pub use schema_change::{Alter, NoWay};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use taos::{DataType, sql};
use tdfiles::{Precision, Suid, Uid, VgId};

/// Everything SQL says about a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// The database.
    pub database: Database,
    /// Its super tables by name.
    pub stables: BTreeMap<String, SuperTable>,
    /// Its child and normal tables by name.
    pub tables: BTreeMap<String, Table>,
    /// What it holds that a backup does not: virtual tables.
    pub not_covered: Vec<String>,
    /// Tables that the server itself can't read any more, and why. They are not in `tables`.
    pub unreadable: BTreeMap<String, String>,
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
    /// Its type with its width: `VARCHAR(20)`.
    #[serde(rename = "type")]
    pub sql_type: String,
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
    /// Its super table; `None` for a normal table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// A digest of its tag values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagsDigest>,
    /// A normal table's columns and options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
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

/// The first half of the SHA-256 of a table's tag values, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TagsDigest(pub String);

impl Column {
    /// Its type, without its width.
    pub fn data_type(&self) -> Result<DataType, String> {
        let name = match self.sql_type.split_once('(') {
            Some((name, _)) if name != "DECIMAL" => name,
            _ => &self.sql_type,
        };
        name.parse()
    }

    /// The digits of a DECIMAL behind the point; 0 for other types.
    pub fn scale(&self) -> u8 {
        let scale = self
            .sql_type
            .strip_prefix("DECIMAL(")
            .and_then(|rest| rest.trim_end_matches(')').rsplit_once(','));
        scale
            .and_then(|(_, scale)| scale.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Its definition in a CREATE or ADD.
    fn definition(&self) -> String {
        let key = if self.key { " PRIMARY KEY" } else { "" };
        format!(
            "{} {}{}{key}",
            sql::name(&self.name),
            self.sql_type,
            self.coding_clause()
        )
    }

    fn coding_clause(&self) -> String {
        self.coding
            .as_ref()
            .map_or_else(String::new, Coding::clause)
    }
}

impl Coding {
    fn clause(&self) -> String {
        format!(
            " ENCODE '{}' COMPRESS '{}' LEVEL '{}'",
            self.encode, self.compress, self.level
        )
    }
}

impl Schema {
    /// Whether any column is a DECIMAL.
    pub fn has_decimals(&self) -> bool {
        let is_decimal = |column: &Column| column.sql_type.starts_with("DECIMAL");
        self.columns.iter().any(is_decimal)
    }

    /// Whether the server has lost the precision of a DECIMAL: 3.3.7.5 does when the last column of a normal table is
    /// dropped.
    fn has_lost_precision(&self) -> bool {
        let lost = |column: &Column| column.sql_type.starts_with("DECIMAL(0");
        self.columns.iter().any(lost)
    }

    /// The list of columns, and of tags where there are some, and the options of a CREATE.
    fn definition(&self) -> String {
        let list = |columns: &[Column]| {
            columns
                .iter()
                .map(Column::definition)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let tags = match &self.tags[..] {
            [] => String::new(),
            tags => format!(" TAGS ({})", list(tags)),
        };
        format!("({}){tags} {}", list(&self.columns), self.options)
    }

    /// Whether the two look the same to who reads or writes rows; ids aside, which differ between databases.
    pub fn looks_like(&self, other: &Self) -> bool {
        let same = |a: &[Column], b: &[Column]| {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| {
                    (&a.name, &a.sql_type, a.key, &a.coding)
                        == (&b.name, &b.sql_type, b.key, &b.coding)
                })
        };
        same(&self.columns, &other.columns)
            && same(&self.tags, &other.tags)
            && self.fixed_options() == other.fixed_options()
    }

    /// The options but for SMA: that one lists the columns which were there from the beginning, so it follows from
    /// adding and dropping columns.
    pub(crate) fn fixed_options(&self) -> String {
        let Some((before, list)) = self.options.split_once("SMA(") else {
            return self.options.clone();
        };
        let after = read::after_parenthesis(&format!("({list}"))
            .unwrap_or_default()
            .to_owned();
        format!("{}{}", before.trim_end(), after)
    }
}

impl SuperTable {
    /// The statement that creates it.
    pub fn create(&self, database: &str) -> String {
        let target = sql::table(database, &self.name);
        let comment = comment_clause(self.comment.as_deref());
        format!(
            "CREATE STABLE IF NOT EXISTS {target} {}{comment}",
            self.schema.definition()
        )
    }
}

impl Table {
    /// The statement that creates it, for a normal table.
    pub fn create(&self, database: &str) -> Option<String> {
        let target = sql::table(database, &self.name);
        let definition = self.schema.as_ref()?.definition();
        Some(format!(
            "CREATE TABLE IF NOT EXISTS {target} {definition}{}",
            self.options_clause()
        ))
    }

    /// The end of the statement that creates it as a child table.
    pub fn options_clause(&self) -> String {
        let ttl = if self.ttl > 0 {
            format!(" TTL {}", self.ttl)
        } else {
            String::new()
        };
        format!("{}{ttl}", comment_clause(self.comment.as_deref()))
    }
}

fn comment_clause(comment: Option<&str>) -> String {
    comment.map_or_else(String::new, |comment| {
        format!(" COMMENT {}", comment_literal(comment))
    })
}

/// A comment as a literal. The server keeps a comment as it was written, escapes included, so it is written as it
/// is, in the quotes that it does not hold.
pub(crate) fn comment_literal(comment: &str) -> String {
    let mut bare_quote = false;
    let mut chars = comment.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '\'' if chars.peek() == Some(&'\'') => drop(chars.next()),
            '\'' => bare_quote = true,
            _ => {}
        }
    }
    if bare_quote {
        format!("\"{comment}\"")
    } else {
        format!("'{comment}'")
    }
}

impl Catalogue {
    /// A table's columns.
    pub fn schema_of<'a>(&'a self, table: &'a Table) -> Option<&'a Schema> {
        match &table.stable {
            Some(stable) => self.stables.get(stable).map(|stable| &stable.schema),
            None => table.schema.as_ref(),
        }
    }
}

/// `CREATE DATABASE …` for another name, only if it does not exist.
pub fn create_database(create: &str, name: &str) -> Option<String> {
    let rest = create.strip_prefix("CREATE DATABASE ")?;
    let options = after_name(rest)?;
    Some(format!(
        "CREATE DATABASE IF NOT EXISTS {}{options}",
        sql::name(name)
    ))
}

/// What follows a name in backticks at the beginning of `text`.
pub(crate) fn after_name(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('`')?;
    loop {
        let (_, after) = rest.split_once('`')?;
        match after.strip_prefix('`') {
            Some(more) => rest = more,
            None => return Some(after),
        }
    }
}

/// A database's options by name, from the statement that creates it.
pub(crate) fn database_options(create: &str) -> BTreeMap<String, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_created_under_another_name_with_the_same_options() {
        let create = "CREATE DATABASE `a``b` BUFFER 256 CACHEMODEL 'none' KEEP 3650d,3650d,3650d";
        assert_eq!(
            create_database(create, "c").unwrap(),
            "CREATE DATABASE IF NOT EXISTS `c` BUFFER 256 CACHEMODEL 'none' KEEP 3650d,3650d,3650d"
        );
        let options = database_options(create);
        assert_eq!(options["KEEP"], "3650d,3650d,3650d");
        assert_eq!(options.len(), 3);
        assert_eq!(create_database("DROP DATABASE x", "c"), None);
    }

    #[test]
    fn a_comment_is_quoted_as_it_was_written() {
        assert_eq!(comment_literal(r#"it''s "x" \' y"#), r#"'it''s "x" \' y'"#);
        assert_eq!(comment_literal("it's"), "\"it's\"");
    }

    #[test]
    fn a_column_knows_its_type() {
        let column = |sql_type: &str| Column {
            name: "c".into(),
            sql_type: sql_type.into(),
            id: None,
            key: false,
            coding: None,
        };
        assert_eq!(column("VARCHAR(20)").data_type(), Ok(DataType::Varchar));
        assert_eq!(column("DECIMAL(20, 3)").data_type(), Ok(DataType::Decimal));
        assert_eq!(column("INT UNSIGNED").data_type(), Ok(DataType::UInt));
        assert!(column("QUATERNION").data_type().is_err());
    }
}
