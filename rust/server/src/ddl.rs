//! The statements that create and alter databases and tables, as text.

use crate::sql;
use model::{
    KeySpan,
    catalogue::{Coding, Column, Schema, SuperTable, Table, after_name},
    schema_change::Alter,
};

/// `CREATE DATABASE …` for another name, only if it does not exist.
pub fn create_database(create: &str, name: &str) -> Option<String> {
    let rest = create.strip_prefix("CREATE DATABASE ")?;
    let options = after_name(rest)?;
    Some(format!(
        "CREATE DATABASE IF NOT EXISTS {}{options}",
        sql::name(name)
    ))
}

/// The statement that creates a super table, only if it does not exist.
pub fn create_super_table(stable: &SuperTable, database: &str) -> String {
    format!(
        "CREATE STABLE IF NOT EXISTS {} {}{}",
        sql::table(database, &stable.name),
        definition(&stable.schema),
        comment_clause(stable.comment.as_deref())
    )
}

/// The statement that creates a normal table, only if it does not exist; `None` for a child table.
pub fn create_table(table: &Table, database: &str) -> Option<String> {
    Some(format!(
        "CREATE TABLE IF NOT EXISTS {} {}{}",
        sql::table(database, &table.name),
        definition(table.schema.as_ref()?),
        table_options(table)
    ))
}

/// The end of the statement that creates a table: comment and TTL.
pub fn table_options(table: &Table) -> String {
    let ttl = match table.ttl {
        1.. => format!(" TTL {}", table.ttl),
        _ => String::new(),
    };
    format!("{}{ttl}", comment_clause(table.comment.as_deref()))
}

/// The list of columns, and of tags where there are some, and the options of a CREATE.
fn definition(schema: &Schema) -> String {
    let list = |columns: &[Column]| {
        let columns: Vec<String> = columns.iter().map(column_definition).collect();
        columns.join(", ")
    };
    let tags = match &schema.tags[..] {
        [] => String::new(),
        tags => format!(" TAGS ({})", list(tags)),
    };
    format!("({}){tags} {}", list(&schema.columns), schema.options)
}

fn column_definition(column: &Column) -> String {
    let key = if column.key { " PRIMARY KEY" } else { "" };
    let coding = column
        .coding
        .as_ref()
        .map_or_else(String::new, coding_clause);
    let name = sql::name(&column.name);
    format!("{name} {}{coding}{key}", column.column_type)
}

fn coding_clause(coding: &Coding) -> String {
    format!(
        " ENCODE '{}' COMPRESS '{}' LEVEL '{}'",
        coding.encode, coding.compress, coding.level
    )
}

/// An ALTER statement, but for `ALTER TABLE name`.
pub fn alter_clause(alter: &Alter) -> String {
    match alter {
        Alter::AddColumn {
            name,
            column_type,
            coding,
        } => {
            // The server (3.3.7.5) takes none of a BLOB that is added.
            let is_blob = column_type.data_type.is_blob();
            let coding = coding.as_ref().filter(|_| !is_blob);
            let coding = coding.map_or_else(String::new, coding_clause);
            format!("ADD COLUMN {} {column_type}{coding}", sql::name(name))
        }
        Alter::DropColumn { name } => format!("DROP COLUMN {}", sql::name(name)),
        Alter::RenameColumn { from, to } => {
            format!("RENAME COLUMN {} {}", sql::name(from), sql::name(to))
        }
        Alter::ResizeColumn { name, column_type } => {
            format!("MODIFY COLUMN {} {column_type}", sql::name(name))
        }
        Alter::RecodeColumn { name, coding } => {
            format!("MODIFY COLUMN {}{}", sql::name(name), coding_clause(coding))
        }
        Alter::AddTag { name, column_type } => format!("ADD TAG {} {column_type}", sql::name(name)),
        Alter::DropTag { name } => format!("DROP TAG {}", sql::name(name)),
        Alter::RenameTag { from, to } => {
            format!("RENAME TAG {} {}", sql::name(from), sql::name(to))
        }
        Alter::ResizeTag { name, column_type } => {
            format!("MODIFY TAG {} {column_type}", sql::name(name))
        }
        Alter::Comment { text } => format!("COMMENT {}", comment_literal(text)),
        Alter::Ttl { days } => format!("TTL {days}"),
        Alter::Keep { span } => format!("KEEP {span}"),
    }
}

/// The statement that drops a super table with its children, if it is there.
pub fn drop_super_table(database: &str, name: &str) -> String {
    format!("DROP STABLE IF EXISTS {}", sql::table(database, name))
}

/// The statement that drops a table, if it is there.
pub fn drop_table(database: &str, name: &str) -> String {
    format!("DROP TABLE IF EXISTS {}", sql::table(database, name))
}

/// What an ALTER statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Altered {
    /// A super table.
    SuperTable,
    /// A child or normal table.
    Table,
}

/// The statement that alters a table.
pub fn alter(what: Altered, database: &str, name: &str, alter: &Alter) -> String {
    let kind = match what {
        Altered::SuperTable => "STABLE",
        Altered::Table => "TABLE",
    };
    let target = sql::table(database, name);
    format!("ALTER {kind} {target} {}", alter_clause(alter))
}

/// The statement that sets tags of a child table to literals. There are servers that take only one tag at a time.
pub fn set_tags<'t>(
    database: &str,
    table: &str,
    tags: impl IntoIterator<Item = (&'t Column, &'t Vec<u8>)>,
) -> Vec<u8> {
    let mut statement =
        format!("ALTER TABLE {} SET TAG ", sql::table(database, table)).into_bytes();
    for (number, (tag, literal)) in tags.into_iter().enumerate() {
        let separator = if number > 0 { ", " } else { "" };
        statement.extend(format!("{separator}{} = ", sql::name(&tag.name)).into_bytes());
        statement.extend_from_slice(literal);
    }
    statement
}

/// The statement that deletes the rows of a table whose keys lie in `span`; `key` is the name of its first column.
pub fn delete(database: &str, table: &str, key: &str, span: KeySpan) -> String {
    format!(
        "DELETE FROM {}{}",
        sql::table(database, table),
        where_clause(key, span)
    )
}

/// The names of columns or tags, as a list in a statement.
pub fn column_list(columns: &[Column]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|column| sql::name(&column.name))
        .collect();
    names.join(", ")
}

const CREATE_CHILD: &[u8] = b"CREATE TABLE";

/// A statement that creates children is sent when it holds this many bytes. Longer ones create no more children a second, and
/// the client library needs many times their length to read them.
const CREATE_BYTES: usize = 128 << 10;

/// Children of a super table to be created, as many as fit into one statement.
#[derive(Debug)]
pub struct CreateChildren {
    using: String,
    /// Their names, and their parts of the statement.
    children: Vec<(String, Vec<u8>)>,
    bytes: usize,
}

impl CreateChildren {
    /// Children of this super table.
    pub fn of(database: &str, stable: &SuperTable) -> Self {
        let target = sql::table(database, &stable.name);
        let tags = column_list(&stable.schema.tags);
        Self {
            using: format!("USING {target} ({tags})"),
            children: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a child, with its tags as literals. It is created unless it exists.
    pub fn add(&mut self, database: &str, child: &Table, tags: &[Vec<u8>]) {
        let mut part = format!(
            " IF NOT EXISTS {} {} TAGS (",
            sql::table(database, &child.name),
            self.using
        )
        .into_bytes();
        part.extend(tags.join(&b", "[..]));
        part.push(b')');
        part.extend(table_options(child).into_bytes());
        self.bytes += part.len();
        self.children.push((child.name.clone(), part));
    }

    /// Whether the statement should be sent before another child is added.
    pub fn is_full(&self) -> bool {
        self.bytes >= CREATE_BYTES
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.children.len()
    }

    /// The statement for all of them; there is none if there are no children.
    pub fn statement(&self) -> Vec<u8> {
        let parts = self.children.iter().map(|(_, part)| part.as_slice());
        let statement: Vec<&[u8]> = std::iter::once(CREATE_CHILD).chain(parts).collect();
        statement.concat()
    }

    /// Each of them by its name, with a statement of its own.
    pub fn each(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        let children = self.children.iter();
        children.map(|(name, part)| (name.as_str(), [CREATE_CHILD, part].concat()))
    }

    /// Takes them out.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            using: self.using.clone(),
            children: std::mem::take(&mut self.children),
            bytes: std::mem::take(&mut self.bytes),
        }
    }
}

/// The rows of a range as the end of a statement.
pub fn where_clause(key: &str, span: KeySpan) -> String {
    let key = sql::name(key);
    let mut conditions = Vec::new();
    if span.first != KeySpan::ALL.first {
        conditions.push(format!("{key} >= {}", span.first));
    }
    if span.last != KeySpan::ALL.last {
        conditions.push(format!("{key} <= {}", span.last));
    }
    match conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" WHERE {}", conditions.join(" AND ")),
    }
}

fn comment_clause(comment: Option<&str>) -> String {
    comment.map_or_else(String::new, |comment| {
        format!(" COMMENT {}", comment_literal(comment))
    })
}

/// A comment as a literal. The server keeps a comment as it was written, escapes included, so it is written as it
/// is, in the quotes that it does not hold.
pub fn comment_literal(comment: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::schema_change::alters;

    #[test]
    fn a_database_is_created_under_another_name_with_the_same_options() {
        let create = "CREATE DATABASE `a``b` BUFFER 256 CACHEMODEL 'none' KEEP 3650d,3650d,3650d";
        assert_eq!(
            create_database(create, "c").unwrap(),
            "CREATE DATABASE IF NOT EXISTS `c` BUFFER 256 CACHEMODEL 'none' KEEP 3650d,3650d,3650d"
        );
        assert_eq!(create_database("DROP DATABASE x", "c"), None);
    }

    #[test]
    fn a_comment_is_quoted_as_it_was_written() {
        assert_eq!(comment_literal(r#"it''s "x" \' y"#), r#"'it''s "x" \' y'"#);
        assert_eq!(comment_literal("it's"), "\"it's\"");
    }

    fn column(id: i64, name: &str, sql_type: &str) -> Column {
        let id = (id > 0).then_some(id);
        Column {
            name: name.into(),
            column_type: sql_type.parse().unwrap(),
            id,
            key: false,
            coding: None,
        }
    }

    fn schema(columns: &[(i64, &str, &str)], tags: &[(&str, &str)]) -> Schema {
        Schema {
            columns: columns
                .iter()
                .map(|(id, name, kind)| column(*id, name, kind))
                .collect(),
            tags: tags
                .iter()
                .map(|(name, kind)| column(0, name, kind))
                .collect(),
            options: String::new(),
        }
    }

    fn clauses(old: &Schema, new: &Schema) -> Vec<String> {
        alters(old, new).unwrap().iter().map(alter_clause).collect()
    }

    #[test]
    fn columns_are_told_apart_by_their_ids() {
        let old = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (2, "a", "INT"),
                (3, "b", "VARCHAR(5)"),
            ],
            &[],
        );
        let same = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (2, "a", "INT"),
                (3, "b", "VARCHAR(5)"),
            ],
            &[],
        );
        assert!(clauses(&old, &same).is_empty());
        let readded = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (3, "b", "VARCHAR(9)"),
                (4, "a", "INT"),
            ],
            &[],
        );
        assert_eq!(
            clauses(&old, &readded),
            [
                "DROP COLUMN `a`",
                "MODIFY COLUMN `b` VARCHAR(9)",
                "ADD COLUMN `a` INT"
            ]
        );
        let took_its_name = [(1, "ts", "TIMESTAMP"), (3, "a", "VARCHAR(5)")];
        assert!(alters(&old, &schema(&took_its_name, &[])).is_err());
        let renamed = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (2, "c", "INT"),
                (3, "b", "VARCHAR(5)"),
            ],
            &[],
        );
        assert_eq!(clauses(&old, &renamed), ["RENAME COLUMN `a` `c`"]);
    }

    #[test]
    fn the_coding_of_a_blob_that_is_added_is_set_once_it_is_there() {
        let old = schema(&[(1, "ts", "TIMESTAMP"), (2, "a", "INT")], &[]);
        let mut new = schema(
            &[(1, "ts", "TIMESTAMP"), (2, "a", "INT"), (3, "b", "BLOB")],
            &[],
        );
        let coding = |word: &str| word.to_owned();
        new.columns[2].coding = Some(Coding {
            encode: coding("disabled"),
            compress: coding("zstd"),
            level: coding("high"),
        });
        assert_eq!(
            clauses(&old, &new),
            [
                "ADD COLUMN `b` BLOB",
                "MODIFY COLUMN `b` ENCODE 'disabled' COMPRESS 'zstd' LEVEL 'high'"
            ]
        );
    }

    #[test]
    fn a_column_without_an_id_is_another_one_when_its_type_is() {
        let old = [(0, "ts", "TIMESTAMP"), (0, "a", "INT"), (0, "b", "INT")];
        let old = schema(&old, &[]);
        let new = [(0, "ts", "TIMESTAMP"), (0, "b", "INT"), (0, "a", "BIGINT")];
        assert_eq!(
            clauses(&old, &schema(&new, &[])),
            ["DROP COLUMN `a`", "ADD COLUMN `a` BIGINT"]
        );
        // One that moved to the end was dropped and added again.
        let new = [(0, "ts", "TIMESTAMP"), (0, "b", "INT"), (0, "a", "INT")];
        assert_eq!(
            clauses(&old, &schema(&new, &[])),
            ["DROP COLUMN `a`", "ADD COLUMN `a` INT"]
        );
    }

    #[test]
    fn a_table_keeps_a_column_beside_its_timestamp() {
        let old = schema(&[(1, "ts", "TIMESTAMP"), (2, "a", "INT")], &[]);
        let new = schema(&[(1, "ts", "TIMESTAMP"), (3, "b", "INT")], &[]);
        assert_eq!(
            clauses(&old, &new),
            ["ADD COLUMN `b` INT", "DROP COLUMN `a`"]
        );
        let same_name = schema(&[(1, "ts", "TIMESTAMP"), (3, "a", "INT")], &[]);
        assert!(alters(&old, &same_name).is_err());
    }

    #[test]
    fn tags_of_a_child_are_set_together() {
        let tags = schema(&[], &[("a", "INT"), ("b`", "VARCHAR(5)")]).tags;
        let literals = [b"NULL".to_vec(), b"'x'".to_vec()];
        let statement = set_tags("d", "t", tags.iter().zip(&literals));
        assert_eq!(
            statement,
            b"ALTER TABLE `d`.`t` SET TAG `a` = NULL, `b``` = 'x'"
        );
        let one = set_tags("d", "t", tags.iter().zip(&literals[..1]));
        assert_eq!(one, b"ALTER TABLE `d`.`t` SET TAG `a` = NULL");
    }

    #[test]
    fn tags_end_in_the_order_of_the_source() {
        let old = schema(&[], &[("a", "INT"), ("b", "INT"), ("c", "BOOL")]);
        for (new, expected) in [
            (
                vec![("a", "INT"), ("x", "INT"), ("c", "BOOL")],
                vec!["RENAME TAG `b` `x`"],
            ),
            (vec![("a", "INT"), ("c", "BOOL")], vec!["DROP TAG `b`"]),
            (
                vec![("x", "INT"), ("b", "INT"), ("c", "BOOL")],
                vec!["RENAME TAG `a` `x`"],
            ),
            (
                vec![("b", "INT"), ("z", "BOOL"), ("a", "INT")],
                vec!["DROP TAG `a`", "RENAME TAG `c` `z`", "ADD TAG `a` INT"],
            ),
            (
                vec![("c", "INT")],
                vec![
                    "ADD TAG `taosdump_incremental_placeholder` INT",
                    "DROP TAG `a`",
                    "DROP TAG `b`",
                    "DROP TAG `c`",
                    "ADD TAG `c` INT",
                    "DROP TAG `taosdump_incremental_placeholder`",
                ],
            ),
        ] {
            assert_eq!(clauses(&old, &schema(&[], &new)), expected);
        }
    }

    #[test]
    fn a_change_that_is_there_already_is_not_made_again() {
        let now = schema(&[(1, "ts", "TIMESTAMP"), (2, "a", "INT")], &[("t", "INT")]);
        let add = Alter::AddColumn {
            name: "a".into(),
            column_type: model::catalogue::ColumnType::fixed(model::DataType::Int),
            coding: None,
        };
        assert!(!add.is_needed(&now));
        assert!(Alter::DropColumn { name: "a".into() }.is_needed(&now));
        assert!(!Alter::DropTag { name: "x".into() }.is_needed(&now));
    }
}
