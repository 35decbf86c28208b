//! Links of another version of the server: what they say, in the words of the target server. What that has no word for is
//! left out and named, or, where rows would be missing, refused.

use super::RestoreError;
use model::{
    catalogue::{Column, Schema, with_names},
    schema_change::Alter,
};
use repository::link::{DatabaseLink, Link, LinkError};
use server::{
    Connection, SqlError, cluster,
    dialect::{Dialect, version_number},
    sql,
};
use std::{borrow::Cow, collections::BTreeMap};

/// Options that say nothing with these values: every server does so that does not have them.
const WITHOUT_EFFECT: [(&str, &str); 11] = [
    ("COMPACT_INTERVAL", "0d"),
    ("COMPACT_TIME_OFFSET", "0h"),
    ("COMPACT_TIME_RANGE", "0d,0d"),
    ("ENCRYPT_ALGORITHM", "'none'"),
    ("KEEP_TIME_OFFSET", "0"),
    ("S3_CHUNKPAGES", "131072"),
    ("S3_COMPACT", "1"),
    ("S3_KEEPLOCAL", "525600m"),
    ("SS_CHUNKPAGES", "131072"),
    ("SS_COMPACT", "1"),
    ("SS_KEEPLOCAL", "525600m"),
];

/// So many columns are named that the server has no type for.
const NAMED: usize = 5;

/// Says what links mean to the target server.
#[derive(Debug)]
pub(super) struct Translator {
    /// What the server says of its version.
    version: String,
    /// `None` where all links were made by servers of its own version.
    dialect: Option<Dialect>,
}

impl Translator {
    /// For these links and this server.
    pub(super) fn of(connection: &Connection, links: &[Link]) -> Result<Self, SqlError> {
        let version = cluster::version(connection);
        let is_other = links.iter().any(|link| link.manifest.server != version);
        let dialect = match is_other {
            true => Some(Dialect::of(connection)?),
            false => None,
        };
        Ok(Self { version, dialect })
    }

    /// The dialect, if the link was made by a server that may have another one.
    fn dialect(&self, link: &Link) -> Option<&Dialect> {
        let dialect = self.dialect.as_ref();
        dialect.filter(|_| link.manifest.server != self.version)
    }

    /// The statement that creates a database of a link, with the options that the server has.
    pub(super) fn create<'l>(&self, link: &Link, database: &'l DatabaseLink) -> Cow<'l, str> {
        let create = database.database.create.as_str();
        match self.dialect(link) {
            Some(dialect) => Cow::Owned(with_names(create, |option| dialect.option(option)).0),
            None => Cow::Borrowed(create),
        }
    }

    /// What a link has of a database, without what the server does not have.
    pub(super) fn database<'l>(
        &self,
        link: &Link,
        database: &'l DatabaseLink,
    ) -> Cow<'l, DatabaseLink> {
        let Some(dialect) = self.dialect(link) else {
            return Cow::Borrowed(database);
        };
        let mut database = database.clone();
        database.database.create = self.create(link, &database).into_owned();
        if !dialect.has_super_table_keep {
            for stable in &mut database.stables {
                stable.schema.take_keep();
            }
            for altered in &mut database.altered_stables {
                let keeps = |alter: &Alter| matches!(alter, Alter::Keep { .. });
                altered.alters.retain(|alter| !keeps(alter));
            }
        }
        Cow::Owned(database)
    }

    /// What is left out of a database, with what that means.
    pub(super) fn left_out(
        &self,
        link: &Link,
        database: &DatabaseLink,
        target: &str,
    ) -> Vec<String> {
        let Some(dialect) = self.dialect(link) else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        let options = options_left_out(dialect, &database.database.create);
        if !options.is_empty() {
            notes.push(format!(
                "database {target} is without {} of the backup: the server, version {}, does not have such options",
                options.join(", "),
                dialect.version
            ));
        }
        if !dialect.has_super_table_keep {
            let stables = database.stables.iter();
            let keeps: Vec<String> = stables
                .filter_map(|stable| Some((&stable.name, stable.schema.keep()?)))
                .map(|(name, keep)| format!("{keep} of {}", sql::name(name)))
                .collect();
            if !keeps.is_empty() {
                notes.push(format!(
                    "super tables of database {target} are without their KEEP ({}): on the server, version {}, super \
                     tables have none, and their rows are kept as long as the database keeps rows",
                    keeps.join(", "),
                    dialect.version
                ));
            }
        }
        notes
    }

    /// Refuses a link with columns of a type that the server does not have.
    pub(super) fn must_have_types(
        &self,
        link: &Link,
        database: &DatabaseLink,
        target: &str,
    ) -> Result<(), RestoreError> {
        let Some(dialect) = self.dialect(link).filter(|d| !d.lacks.is_empty()) else {
            return Ok(());
        };
        let mut lacking = Lacking::default();
        for stable in &database.stables {
            lacking.look_at(dialect, "super table", &stable.name, &stable.schema);
        }
        link.tables(database, &mut |table| {
            if let Some(schema) = &table.schema {
                lacking.look_at(dialect, "table", &table.name, schema);
            }
            Ok::<_, LinkError>(())
        })?;
        match lacking.of_types.is_empty() {
            true => Ok(()),
            false => Err(RestoreError::Target {
                place: link.place(),
                target: target.to_owned(),
                problem: lacking.problem(&dialect.version, &link.manifest.server),
            }),
        }
    }
}

/// The options of a database that a server does not have, unless they would do nothing.
fn options_left_out(dialect: &Dialect, create: &str) -> Vec<String> {
    let (_, left_out) = with_names(create, |option| dialect.option(option));
    let options = left_out.into_iter();
    let options = options
        .filter(|(option, value)| !WITHOUT_EFFECT.contains(&(option.as_str(), value.as_str())));
    options
        .map(|(option, value)| format!("{option} {value}"))
        .collect()
}

/// Columns whose types a server does not have.
#[derive(Debug, Default)]
struct Lacking {
    /// How many columns there are of each type.
    of_types: BTreeMap<String, u64>,
    /// The first of them.
    named: Vec<String>,
}

impl Lacking {
    fn look_at(&mut self, dialect: &Dialect, kind: &str, table: &str, schema: &Schema) {
        let columns = schema.columns.iter().map(|column| ("column", column));
        let tags = schema.tags.iter().map(|tag| ("tag", tag));
        let is_lacking =
            |(_, column): &(_, &Column)| dialect.lacks.contains(&column.column_type.data_type);
        for (what, column) in columns.chain(tags).filter(is_lacking) {
            let data_type = column.column_type.to_string();
            if self.named.len() < NAMED {
                self.named.push(format!(
                    "{what} {} {data_type} of {kind} {}",
                    sql::name(&column.name),
                    sql::name(table)
                ));
            }
            *self.of_types.entry(data_type).or_default() += 1;
        }
    }

    fn problem(&self, version: &str, source: &str) -> String {
        let types: Vec<&str> = self.of_types.keys().map(String::as_str).collect();
        let more = self.of_types.values().sum::<u64>() - self.named.len() as u64;
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "the server, version {version}, has no type {}: {}{more}; restore it to a server that has it, such as one of \
             the backup's version ({}), or drop these columns or tables at the source and begin a new chain",
            types.join(", "),
            self.named.join(", "),
            version_number(source)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DataType;

    fn older() -> Dialect {
        let options = ["KEEP", "S3_COMPACT", "S3_KEEPLOCAL", "VGROUPS"];
        Dialect {
            version: "3.3.6.0".to_owned(),
            options: options.map(str::to_owned).into(),
            lacks: vec![DataType::Blob],
            has_super_table_keep: false,
        }
    }

    fn schema(columns: &[(&str, &str)]) -> Schema {
        let columns = columns.iter().map(|(name, kind)| Column {
            name: (*name).to_owned(),
            column_type: kind.parse().unwrap(),
            id: None,
            key: false,
            coding: None,
        });
        Schema {
            columns: columns.collect(),
            tags: Vec::new(),
            options: String::new(),
        }
    }

    #[test]
    fn an_option_that_the_server_lacks_is_named_unless_it_does_nothing() {
        let create = |compact: &str| {
            format!("CREATE DATABASE `a` KEEP 5d SS_COMPACT 0 COMPACT_INTERVAL {compact}")
        };
        let none: [&str; 0] = [];
        assert_eq!(options_left_out(&older(), &create("0d")), none);
        assert_eq!(
            options_left_out(&older(), &create("10d")),
            ["COMPACT_INTERVAL 10d"]
        );
    }

    #[test]
    fn columns_of_a_type_that_the_server_lacks_are_named_with_table_type_and_versions() {
        let mut lacking = Lacking::default();
        let two = schema(&[("ts", "TIMESTAMP"), ("p`", "BLOB"), ("q", "BLOB")]);
        lacking.look_at(&older(), "super table", "m", &two);
        assert_eq!(
            lacking.problem("3.3.6.0", "ver:3.3.7.5"),
            "the server, version 3.3.6.0, has no type BLOB: column `p``` BLOB of super table `m`, column `q` BLOB of \
             super table `m`; restore it to a server that has it, such as one of the backup's version (3.3.7.5), or drop \
             these columns or tables at the source and begin a new chain"
        );
        for _ in 0..3 {
            lacking.look_at(&older(), "table", "n", &two);
        }
        let problem = lacking.problem("3.3.6.0", "ver:3.3.7.5");
        assert!(problem.contains("of table `n` and 3 more; "), "{problem}");
    }

    #[test]
    fn tables_of_types_that_the_server_has_are_not_named() {
        let mut lacking = Lacking::default();
        let plain = schema(&[("ts", "TIMESTAMP"), ("d", "DECIMAL(20, 2)")]);
        lacking.look_at(&older(), "table", "n", &plain);
        assert!(lacking.of_types.is_empty());
    }
}
