//! Reading the catalogue: super tables, tables and columns of a database.

use crate::{Connection, SqlError, database, sql, tables::if_there, uncovered};
use model::{
    MayPass, Precision, Suid, Uid, Value, VgId,
    catalogue::{
        Catalogue, Coding, Column, ColumnSize, ColumnType, Database, Schema, SharedNames,
        SuperTable, Table, Tables, after_name, after_parenthesis, database_options,
    },
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

/// A catalogue that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The server refused a query.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// There is no such database.
    #[error("there is no database {0:?} on the server; SHOW DATABASES lists what there is")]
    NoDatabase(String),
    /// An answer is not what any known server says.
    #[error(
        "the server's answer about {what} is not understood: {answer:?}; this TDengine version may be too new"
    )]
    NotUnderstood {
        /// What was asked about.
        what: String,
        /// The answer.
        answer: String,
    },
}

impl MayPass for CatalogueError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Sql(error) if error.may_pass())
    }
}

/// Longer answers are cut in messages: one about a wide table would fill many screens.
const ANSWER_SHOWN: usize = 300;

fn not_understood(what: impl Into<String>, answer: impl Into<String>) -> CatalogueError {
    let mut answer = answer.into();
    if let Some((end, _)) = answer.char_indices().nth(ANSWER_SHOWN) {
        answer.truncate(end);
        answer.push('…');
    }
    CatalogueError::NotUnderstood {
        what: what.into(),
        answer,
    }
}

/// What concerns one table, and leaves the others as they are: what the server says of it, but no lost connection.
fn of_one_table(error: CatalogueError) -> Result<String, CatalogueError> {
    match error {
        CatalogueError::Sql(error) if error.may_pass() => Err(error.into()),
        error => Ok(format!(
            "its columns can't be read ({error}); repair or drop it"
        )),
    }
}

/// Reads a database's catalogue. Tag values are not read here.
pub fn read(connection: &Connection, database: &str) -> Result<Catalogue, CatalogueError> {
    let mut catalogue = read_but_tables(connection, database)?;
    let reader = Reader::new(connection, database);
    reader.tables(&mut catalogue)?;
    // The server looks through the columns of all tables for this.
    if let Some(ids) = reader.column_ids("SUPER_TABLE")? {
        for stable in catalogue.stables.values_mut() {
            set_ids(&mut stable.schema, ids.get(&stable.name));
        }
    }
    reader.normal_tables(&mut catalogue)?;
    Ok(catalogue)
}

/// Reads a database's catalogue without its child and normal tables, and without the ids of columns.
pub fn read_but_tables(
    connection: &Connection,
    database: &str,
) -> Result<Catalogue, CatalogueError> {
    let reader = Reader::new(connection, database);
    let info = reader.database()?;
    let mut not_covered = Vec::new();
    let (stables, unreadable_stables) = reader.stables(&mut not_covered)?;
    not_covered.extend(uncovered::of_database(connection, database, &stables)?);
    Ok(Catalogue {
        database: info,
        stables,
        tables: Tables::new(),
        not_covered,
        unreadable: Unreadable::new(),
        unreadable_stables,
    })
}

/// What can't be read, and why.
type Unreadable = BTreeMap<String, String>;

/// Column ids by table and column.
type Ids = HashMap<String, HashMap<String, i64>>;

fn set_ids(schema: &mut Schema, ids: Option<&HashMap<String, i64>>) {
    for column in &mut schema.columns {
        column.id = ids.and_then(|ids| ids.get(&column.name).copied());
    }
}

struct Reader<'a> {
    connection: &'a Connection,
    database: &'a str,
    /// Its name as a literal.
    in_database: String,
}

impl<'a> Reader<'a> {
    fn new(connection: &'a Connection, database: &'a str) -> Self {
        Self {
            connection,
            database,
            in_database: sql::text(database),
        }
    }

    fn database(&self) -> Result<Database, CatalogueError> {
        let create = match database::create_statement(self.connection, self.database) {
            Err(error) if error.is_no_database() => None,
            create => create?,
        };
        let create = create.ok_or_else(|| CatalogueError::NoDatabase(self.database.to_owned()))?;
        let options = database_options(&create);
        let precision: Option<Precision> = options.get("PRECISION").and_then(|p| p.parse().ok());
        let precision = precision
            .ok_or_else(|| not_understood(format!("database {}", self.database), create.clone()))?;
        Ok(Database {
            name: self.database.to_owned(),
            create,
            precision,
        })
    }

    fn stables(
        &self,
        not_covered: &mut Vec<String>,
    ) -> Result<(BTreeMap<String, SuperTable>, Unreadable), CatalogueError> {
        let query = format!(
            "SELECT stable_name, uid, CAST(last_update AS BIGINT), table_comment \
             FROM information_schema.ins_stables WHERE db_name = {}",
            self.in_database
        );
        let mut found = Vec::new();
        self.connection.query(&query)?.for_each(|row| {
            let name = row.text(0);
            let suid = row
                .get(1)
                .as_i64()
                .ok_or_else(|| not_understood(format!("super table {name}"), "no uid"))?;
            let updated = row
                .get(2)
                .as_i64()
                .map(|time| time.to_string())
                .unwrap_or_default();
            let comment = comment(row.get(3), &format!("super table {name}"), not_covered);
            found.push((name, Suid(suid), updated, comment));
            Ok::<_, CatalogueError>(())
        })?;
        let mut stables = BTreeMap::new();
        let mut unreadable = Unreadable::new();
        for (name, suid, updated, comment) in found {
            let schema = match schema(self.connection, self.database, &name, comment.as_deref()) {
                Ok(schema) => schema,
                Err(error) => {
                    unreadable.insert(name, of_one_table(error)?);
                    continue;
                }
            };
            // One that was dropped meanwhile is not there.
            if let Some(schema) = schema {
                stables.insert(
                    name.clone(),
                    SuperTable {
                        name,
                        suid,
                        schema,
                        comment,
                        updated,
                    },
                );
            }
        }
        Ok((stables, unreadable))
    }

    fn tables(&self, catalogue: &mut Catalogue) -> Result<(), CatalogueError> {
        let Catalogue {
            tables,
            not_covered,
            unreadable,
            ..
        } = catalogue;
        let mut stables = SharedNames::default();
        let query = format!(
            "SELECT table_name, stable_name, uid, vgroup_id, `ttl`, table_comment, type \
             FROM information_schema.ins_tables WHERE db_name = {}",
            self.in_database
        );
        self.connection.query(&query)?.for_each(|row| {
            let name = row.text(0);
            if row.get(0).as_str().is_none() {
                unreadable.insert(name, "its name is not UTF-8".to_owned());
                return Ok(());
            }
            let kind = row.text(6);
            let stable = match kind.as_str() {
                "CHILD_TABLE" => Some(stables.get(&row.text(1))),
                "NORMAL_TABLE" => None,
                _ => {
                    not_covered.push(format!("{} {name}", kind.to_lowercase().replace('_', " ")));
                    return Ok(());
                }
            };
            let number = |column: usize, what| {
                row.get(column)
                    .as_i64()
                    .ok_or_else(|| not_understood(format!("table {name}"), format!("no {what}")))
            };
            let vgroup = i32::try_from(number(3, "vgroup_id")?)
                .map_err(|_| not_understood(format!("table {name}"), "a vgroup_id out of range"))?;
            let table = Table {
                uid: Uid(number(2, "uid")?),
                vgroup: VgId(vgroup),
                stable,
                tags: None,
                schema: None,
                ttl: row.get(4).as_i64().unwrap_or(0),
                comment: comment(row.get(5), &format!("table {name}"), not_covered),
                name,
            };
            tables.insert(table);
            Ok::<_, CatalogueError>(())
        })
    }

    fn normal_tables(&self, catalogue: &mut Catalogue) -> Result<(), CatalogueError> {
        if !catalogue
            .tables
            .values()
            .any(|table| table.stable.is_none())
        {
            return Ok(());
        }
        let ids = self.column_ids("NORMAL_TABLE")?;
        let normal = catalogue
            .tables
            .values()
            .filter(|table| table.stable.is_none());
        let normal: Vec<(String, Option<String>)> = normal
            .map(|table| (table.name.clone(), table.comment.clone()))
            .collect();
        for (name, comment) in normal {
            let schema = schema(self.connection, self.database, &name, comment.as_deref());
            let unreadable = match schema {
                Err(error) => Some(of_one_table(error)?),
                Ok(None) => None,
                Ok(Some(schema)) if schema.has_lost_precision() => {
                    let reason = "the server has lost the precision of its DECIMAL columns when a column was dropped, \
                                  and can't read their values any more; copy what is left of it into a new table and \
                                  drop this one";
                    Some(reason.to_owned())
                }
                Ok(Some(mut schema)) => {
                    if let Some(ids) = &ids {
                        set_ids(&mut schema, ids.get(&name));
                    }
                    let change = |table: &mut Table| table.schema = Some(Box::new(schema));
                    catalogue.tables.change(&name, change);
                    continue;
                }
            };
            catalogue.tables.remove(&name);
            if let Some(reason) = unreadable {
                catalogue.unreadable.insert(name, reason);
            }
        }
        Ok(())
    }

    /// Column ids of all super or normal tables; `None` where the server does not tell them.
    fn column_ids(&self, kind: &str) -> Result<Option<Ids>, CatalogueError> {
        let query = format!(
            "SELECT table_name, col_name, col_id FROM information_schema.ins_columns \
             WHERE db_name = {} AND table_type = '{kind}'",
            self.in_database
        );
        let rows = match self.connection.query(&query) {
            // No such column before 3.3.7.
            Err(error)
                if error.code & 0xffff == INVALID_COLUMN || is_refused_for_decimals(&error) =>
            {
                return Ok(None);
            }
            rows => rows?,
        };
        let mut ids = Ids::new();
        rows.for_each(|row| {
            if let Some(id) = row.get(2).as_i64() {
                ids.entry(row.text(0)).or_default().insert(row.text(1), id);
            }
            Ok::<_, CatalogueError>(())
        })?;
        Ok(Some(ids))
    }
}

/// Whether a table of the database has a BLOB column; also where the server does not tell. While a value of such a column
/// has been updated in memory, queries give NULL for it, in 3.3.7.5: only a flush brings it back.
pub fn may_have_blobs(connection: &Connection, database: &str) -> Result<bool, SqlError> {
    for kind in ["SUPER_TABLE", "NORMAL_TABLE"] {
        let query = format!(
            "SELECT col_name FROM information_schema.ins_columns WHERE db_name = {} AND table_type = '{kind}' \
             AND col_type = 'BLOB' LIMIT 1",
            sql::text(database)
        );
        match connection.query(&query) {
            Err(error) if is_refused_for_decimals(&error) => return Ok(true),
            rows => {
                if rows?.next()?.is_some() {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// 3.3.7.5 tells no columns while there is a table whose DECIMALs have lost their precision.
fn is_refused_for_decimals(error: &SqlError) -> bool {
    error.code & 0xffff == INVALID_PARAMETERS
}

/// "Invalid column name" and "Invalid parameters".
const INVALID_COLUMN: u32 = 0x2602;
const INVALID_PARAMETERS: u32 = 0x0118;

/// A comment. One that is not UTF-8 is backed up as far as it is, and named.
fn comment(value: Value<'_>, of: &str, not_covered: &mut Vec<String>) -> Option<String> {
    let Value::Bytes(bytes) = value else {
        return None;
    };
    let comment = String::from_utf8_lossy(bytes);
    if matches!(comment, Cow::Owned(_)) {
        not_covered.push(format!("bytes that are not UTF-8 in the comment of {of}"));
    }
    Some(comment.into_owned())
}

/// A table's or super table's columns, tags and options, without column ids; `None` if there is no such table.
pub fn schema(
    connection: &Connection,
    database: &str,
    table: &str,
    comment: Option<&str>,
) -> Result<Option<Schema>, CatalogueError> {
    let target = sql::table(database, table);
    let mut columns = Vec::new();
    let mut tags = Vec::new();
    let ask = |statement: &str| {
        if_there(connection, database, table, &(), || {
            connection.query(&format!("{statement} {target}"))
        })
    };
    let Some(rows) = ask("DESCRIBE")? else {
        return Ok(None);
    };
    let coded = rows.fields().len() >= 7;
    rows.for_each(|row| {
        let (name, kind, note) = (row.text(0), row.text(1), row.text(3));
        if row.get(0).as_str().is_none() {
            return Err(not_understood(
                format!("column {name} of {target}"),
                "its name is not UTF-8",
            ));
        }
        let width = row.get(2).as_i64().unwrap_or(0);
        let not_known = || not_understood(format!("column {name} of {target}"), kind.clone());
        let column_type = match kind.as_str() {
            "VARCHAR" | "BINARY" | "NCHAR" | "VARBINARY" | "GEOMETRY" => ColumnType {
                data_type: kind.parse().map_err(|_| not_known())?,
                size: ColumnSize::Length(u32::try_from(width).map_err(|_| not_known())?),
            },
            kind => kind.parse().map_err(|_| not_known())?,
        };
        let is_tag = note == "TAG";
        let coding = (coded && !is_tag).then(|| Coding {
            encode: row.text(4),
            compress: row.text(5),
            level: row.text(6),
        });
        let key = note == "COMPOSITE KEY" || note == "PRIMARY KEY";
        let column = Column {
            name,
            column_type,
            id: None,
            key,
            coding,
        };
        if is_tag {
            tags.push(column)
        } else {
            columns.push(column)
        }
        Ok::<_, CatalogueError>(())
    })?;
    let Some(mut rows) = ask("SHOW CREATE TABLE")? else {
        return Ok(None);
    };
    let create = rows.next()?.map(|row| row.text(1)).unwrap_or_default();
    drop(rows);
    let options = match options_of(&create)
        .and_then(|options| without_comment(options, comment))
        .and_then(|options| with_escaped_sma(options, &columns))
    {
        Some(options) if create.len() < CUT => options,
        None if create.len() < CUT => {
            return Err(not_understood(format!("table {target}"), create));
        }
        _ => listed_options(connection, database, table)?,
    };
    Ok(Some(Schema {
        columns,
        tags,
        options,
    }))
}

/// SHOW CREATE of a wide table is cut at 65 535 bytes, and what it ends with there may be part of a number.
const CUT: usize = 65_500;

/// The options of a table whose SHOW CREATE is cut: KEEP of a super table, which a list has. SMA stands nowhere else; a
/// table without it has the default, which queries see no difference of.
fn listed_options(
    connection: &Connection,
    database: &str,
    table: &str,
) -> Result<String, CatalogueError> {
    let query = format!(
        "SELECT `keep` FROM information_schema.ins_stables WHERE db_name = {} AND stable_name = {}",
        sql::text(database),
        sql::text(table)
    );
    let mut rows = match connection.query(&query) {
        // Releases without the option have no such column.
        Err(error) if error.code & 0xffff == INVALID_COLUMN => return Ok(String::new()),
        rows => rows?,
    };
    let keep = rows.next()?.and_then(|row| row.get(0).as_i64());
    let keep = keep.filter(|minutes| *minutes > 0);
    Ok(keep.map_or_else(String::new, |minutes| format!("KEEP {minutes}m")))
}

/// What follows columns and tags in the statement that creates a super or normal table.
fn options_of(create: &str) -> Option<&str> {
    let rest = create
        .strip_prefix("CREATE STABLE ")
        .or_else(|| create.strip_prefix("CREATE TABLE "))?;
    let rest = after_parenthesis(after_name(rest)?.trim_start())?.trim_start();
    let rest = match rest.strip_prefix("TAGS ") {
        Some(tags) => after_parenthesis(tags)?,
        None => rest,
    };
    Some(rest.trim())
}

/// The options without the comment, and without the TTL, which only tables have, and always last.
fn without_comment(options: &str, comment: Option<&str>) -> Option<String> {
    let options = match comment {
        Some(comment) => options.strip_prefix(&format!("COMMENT '{comment}'"))?,
        None => options,
    };
    let ttl = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let options = match options.rsplit_once("TTL ") {
        Some((before, digits)) if ttl(digits) => before,
        _ => options,
    };
    Some(options.trim().to_owned())
}

/// The server does not escape names in the list of SMA.
fn with_escaped_sma(options: String, columns: &[Column]) -> Option<String> {
    let Some((before, rest)) = options.split_once("SMA(`") else {
        return Some(options);
    };
    // The list is as long as it has to be for all names in it to be columns.
    let ends = rest.match_indices("`)").map(|(end, _)| end);
    for end in ends {
        let names: Vec<&str> = rest.get(..end)?.split("`,`").collect();
        if names
            .iter()
            .all(|name| columns.iter().any(|column| column.name == *name))
        {
            let names: Vec<String> = names.into_iter().map(sql::name).collect();
            return Some(format!(
                "{before}SMA({}){}",
                names.join(","),
                rest.get(end + 2..)?
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DataType;

    #[test]
    fn options_follow_columns_and_tags() {
        for (create, options) in [
            (
                "CREATE STABLE `m` (`ts` TIMESTAMP, `c(` DECIMAL(10,3)) TAGS (`t)` INT) COMMENT 'h(i'",
                "COMMENT 'h(i'",
            ),
            (
                "CREATE TABLE `a``b` (`ts` TIMESTAMP, `k` INT COMPOSITE KEY)",
                "",
            ),
            (
                "CREATE STABLE `m` (`ts` TIMESTAMP) TAGS (`t` INT) SMA(`x`) KEEP 5d",
                "SMA(`x`) KEEP 5d",
            ),
        ] {
            assert_eq!(options_of(create), Some(options), "{create}");
        }
        let shown = "COMMENT 'a'b' SMA(`c`) TTL 20";
        assert_eq!(without_comment(shown, Some("a'b")).unwrap(), "SMA(`c`)");
        assert_eq!(without_comment("SMA(`c`)", None).unwrap(), "SMA(`c`)");
        assert_eq!(without_comment(shown, Some("other")), None);
        let column = |name: &str| Column {
            name: name.into(),
            column_type: ColumnType::fixed(DataType::Int),
            id: None,
            key: false,
            coding: None,
        };
        let columns = [column("a"), column("b`t`)")];
        let escaped = with_escaped_sma("SMA(`a`,`b`t`)`) KEEP 5d".into(), &columns);
        assert_eq!(escaped.unwrap(), "SMA(`a`,`b``t``)`) KEEP 5d");
        assert_eq!(options_of("CREATE VIEW `v` AS SELECT 1"), None);
        assert_eq!(options_of("CREATE TABLE `a` (`ts` TIMESTAMP"), None);
    }
}
