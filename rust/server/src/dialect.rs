//! What the SQL of a server has and that of another version has not: options of databases, types of columns, the KEEP of
//! super tables, names with backticks. It is asked for without writing anything, and needs no database to be there.

use crate::{Connection, SqlError, cluster, sql};
use model::DataType;
use std::collections::BTreeSet;

/// Options of databases that are called otherwise in another version: up to 3.3.6 the only shared storage was S3.
const TWO_NAMES: [[&str; 2]; 3] = [
    ["S3_CHUNKPAGES", "SS_CHUNKPAGES"],
    ["S3_KEEPLOCAL", "SS_KEEPLOCAL"],
    ["S3_COMPACT", "SS_COMPACT"],
];

/// Types that not every server of TDengine 3 has, as SQL says them.
const LATER_TYPES: [(DataType, &str); 6] = [
    (DataType::Varbinary, "VARBINARY(8)"),
    (DataType::Geometry, "GEOMETRY(64)"),
    (DataType::Decimal64, "DECIMAL(10, 2)"),
    (DataType::Decimal, "DECIMAL(20, 2)"),
    (DataType::Blob, "BLOB"),
    (DataType::MediumBlob, "MEDIUMBLOB"),
];

/// "Syntax error".
const SYNTAX: u32 = 0x2600;

/// What a server's SQL has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// The server's version, such as `3.3.6.0`.
    pub version: String,
    /// The options of databases, in capitals.
    pub options: BTreeSet<String>,
    /// The types of columns that it lacks.
    pub lacks: Vec<DataType>,
    /// Whether super tables have a KEEP.
    pub has_super_table_keep: bool,
    /// Whether it finds what has a backtick in its name: 3.3.6 creates it under a name with two, and does not find it again.
    pub finds_backticks: bool,
}

impl Dialect {
    /// Asks a server.
    pub fn of(connection: &Connection) -> Result<Self, SqlError> {
        let mut lacks = Vec::new();
        for (data_type, sql) in LATER_TYPES {
            match connection.query(&format!("SELECT CAST(NULL AS {sql})")) {
                Err(error) if error.code & 0xffff == SYNTAX => lacks.push(data_type),
                // What is refused for any other reason is known.
                Err(error) if error.is_of_the_statement() => {}
                answer => drop(answer?),
            }
        }
        // Every option that SHOW CREATE DATABASE tells is a column of this list.
        let options = columns(connection, "ins_databases")?;
        Ok(Self {
            version: version_number(&cluster::version(connection)).to_owned(),
            options,
            lacks,
            has_super_table_keep: has_super_table_keep(connection)?,
            finds_backticks: finds_backticks(connection)?,
        })
    }

    /// What an option of databases is called here, whichever of its names is given; `None` if there is none like it.
    pub fn option<'n>(&self, name: &'n str) -> Option<&'n str> {
        if self.options.contains(name) {
            return Some(name);
        }
        let names = TWO_NAMES.into_iter().find(|names| names.contains(&name))?;
        names.into_iter().find(|name| self.options.contains(*name))
    }
}

/// Nothing is created, as no server lets anybody create a table there. Lists of super tables do not say it: that of 3.3.6 has no
/// KEEP, and its statements do.
fn has_super_table_keep(connection: &Connection) -> Result<bool, SqlError> {
    let statement =
        "CREATE STABLE information_schema.x (ts TIMESTAMP, v INT) TAGS (t INT) KEEP 400d";
    match connection.query(statement) {
        Err(error) if error.is_disconnected() => Err(error),
        Err(error) => Ok(error.code & 0xffff != SYNTAX),
        Ok(_) => Ok(true),
    }
}

fn finds_backticks(connection: &Connection) -> Result<bool, SqlError> {
    let name = "a`b";
    let rows = connection.query(&format!("SELECT 1 AS {}", sql::name(name)))?;
    Ok(rows.fields().iter().any(|field| field.name == name))
}

/// The number in what a server says of its version.
pub fn version_number(version: &str) -> &str {
    version.strip_prefix("ver:").unwrap_or(version)
}

/// The columns of a list of the server, in capitals.
fn columns(connection: &Connection, list: &str) -> Result<BTreeSet<String>, SqlError> {
    let mut columns = BTreeSet::new();
    let rows = connection.query(&format!("DESCRIBE information_schema.{list}"))?;
    rows.for_each(|row| {
        columns.insert(row.text(0).to_uppercase());
        Ok::<_, SqlError>(())
    })?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_under_either_of_its_names_and_under_no_other() {
        let with = |options: &[&str]| Dialect {
            version: "3.3.6.0".to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            lacks: Vec::new(),
            has_super_table_keep: false,
            finds_backticks: false,
        };
        let older = with(&["KEEP", "S3_COMPACT"]);
        assert_eq!(older.option("SS_COMPACT"), Some("S3_COMPACT"));
        assert_eq!(older.option("S3_COMPACT"), Some("S3_COMPACT"));
        assert_eq!(older.option("KEEP"), Some("KEEP"));
        let newer = with(&["SS_COMPACT", "COMPACT_INTERVAL"]);
        assert_eq!(newer.option("S3_COMPACT"), Some("SS_COMPACT"));
        let oldest = with(&["KEEP"]);
        assert_eq!(oldest.option("SS_COMPACT"), None);
        assert_eq!(oldest.option("COMPACT_INTERVAL"), None);
    }

    #[test]
    fn of_what_a_server_says_of_its_version_the_number_is_shown() {
        assert_eq!(version_number("ver:3.3.6.0"), "3.3.6.0");
        assert_eq!(version_number("unknown"), "unknown");
    }
}
