//! Links of another version of the server: what they say, in the words of the target server. What that has no word for is
//! left out and named, or, where rows would be missing, refused.

use super::RestoreError;
use model::{
    catalogue::{Schema, with_names},
    schema_change::Alter,
};
use repository::link::{DatabaseLink, Link, LinkError};
use server::{
    Connection, SqlError, cluster,
    dialect::{Dialect, version_number},
    sql,
};
use std::{borrow::Cow, collections::BTreeSet};

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

/// So many columns and tables are named that the server can't have.
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

    /// Refuses a link with tables that the server can't have: with columns of a type that it does not know, or with names
    /// that it does not find again.
    pub(super) fn must_be_possible(
        &self,
        link: &Link,
        database: &DatabaseLink,
        target: &str,
    ) -> Result<(), RestoreError> {
        let Some(dialect) = self.dialect(link) else {
            return Ok(());
        };
        if dialect.lacks.is_empty() && dialect.finds_backticks {
            return Ok(());
        }
        let mut impossible = Impossible::default();
        impossible.look_at_name(dialect, target, || "database".to_owned());
        for stable in &database.stables {
            impossible.look_at(dialect, "super table", &stable.name, &stable.schema);
        }
        link.tables(database, &mut |table| {
            match &table.schema {
                Some(schema) => impossible.look_at(dialect, "table", &table.name, schema),
                // A child has the columns of its super table.
                None => impossible.look_at_name(dialect, &table.name, || "table".to_owned()),
            }
            Ok::<_, LinkError>(())
        })?;
        match impossible.problem(&dialect.version, &link.manifest.server) {
            None => Ok(()),
            Some(problem) => Err(RestoreError::Target {
                place: link.place(),
                target: target.to_owned(),
                problem,
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

/// The first of some things, and how many there are.
#[derive(Debug, Default)]
struct Listed {
    named: Vec<String>,
    count: usize,
}

impl Listed {
    fn add(&mut self, thing: impl FnOnce() -> String) {
        if self.count < NAMED {
            self.named.push(thing());
        }
        self.count += 1;
    }

    fn text(&self) -> String {
        let more = match self.count - self.named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}", self.named.join(", "))
    }
}

/// What a server can't have.
#[derive(Debug, Default)]
struct Impossible {
    types: BTreeSet<String>,
    /// Columns of these types.
    columns: Listed,
    /// What has a name that the server does not find.
    names: Listed,
}

impl Impossible {
    fn look_at(&mut self, dialect: &Dialect, kind: &str, table: &str, schema: &Schema) {
        let of = || format!("{kind} {}", sql::name(table));
        self.look_at_name(dialect, table, || kind.to_owned());
        let columns = schema.columns.iter().map(|column| ("column", column));
        let tags = schema.tags.iter().map(|tag| ("tag", tag));
        for (what, column) in columns.chain(tags) {
            self.look_at_name(dialect, &column.name, || format!("{what} of {}:", of()));
            if dialect.lacks.contains(&column.column_type.data_type) {
                let data_type = column.column_type.to_string();
                let name = sql::name(&column.name);
                self.columns
                    .add(|| format!("{what} {name} {data_type} of {}", of()));
                self.types.insert(data_type);
            }
        }
    }

    fn look_at_name(&mut self, dialect: &Dialect, name: &str, what: impl FnOnce() -> String) {
        if !dialect.finds_backticks && name.contains('`') {
            self.names.add(|| format!("{} {}", what(), sql::name(name)));
        }
    }

    /// What the restore is refused for; `None` if nothing is impossible.
    fn problem(&self, version: &str, source: &str) -> Option<String> {
        let mut problems = Vec::new();
        if self.columns.count > 0 {
            let types: Vec<&str> = self.types.iter().map(String::as_str).collect();
            problems.push(format!(
                "has no type {} ({})",
                types.join(", "),
                self.columns.text()
            ));
        }
        if self.names.count > 0 {
            problems.push(format!(
                "does not find what has a backtick in its name ({})",
                self.names.text()
            ));
        }
        let source = version_number(source);
        let such = match source.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!(", such as one of the backup's version ({source})"),
            // It was made without a server.
            false => String::new(),
        };
        (!problems.is_empty()).then(|| {
            format!(
                "the server, version {version}, {}; restore it to a server that does{such}, or drop or rename these at the \
                 source and begin a new chain",
                problems.join(", and ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DataType, catalogue::Column};

    fn older() -> Dialect {
        let options = ["KEEP", "S3_COMPACT", "S3_KEEPLOCAL", "VGROUPS"];
        Dialect {
            version: "3.3.6.0".to_owned(),
            options: options.map(str::to_owned).into(),
            lacks: vec![DataType::Blob],
            has_super_table_keep: false,
            finds_backticks: false,
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
        let mut impossible = Impossible::default();
        let two = schema(&[("ts", "TIMESTAMP"), ("p", "BLOB"), ("q", "BLOB")]);
        impossible.look_at(&older(), "super table", "m", &two);
        assert_eq!(
            impossible.problem("3.3.6.0", "ver:3.3.7.5").unwrap(),
            "the server, version 3.3.6.0, has no type BLOB (column `p` BLOB of super table `m`, column `q` BLOB of super \
             table `m`); restore it to a server that does, such as one of the backup's version (3.3.7.5), or drop or \
             rename these at the source and begin a new chain"
        );
        for _ in 0..3 {
            impossible.look_at(&older(), "table", "n", &two);
        }
        let problem = impossible.problem("3.3.6.0", "ver:3.3.7.5").unwrap();
        assert!(problem.contains("of table `n` and 3 more); "), "{problem}");
        let offline = impossible
            .problem("3.3.6.0", "unknown: made from files")
            .unwrap();
        assert!(
            offline.contains("to a server that does, or drop "),
            "{offline}"
        );
    }

    #[test]
    fn names_that_the_server_does_not_find_are_named() {
        let odd = schema(&[("ts", "TIMESTAMP"), ("c`", "INT")]);
        let problem = |dialect: &Dialect| {
            let mut impossible = Impossible::default();
            impossible.look_at(dialect, "table", "a`b", &odd);
            impossible.look_at_name(dialect, "child`", || "table".to_owned());
            impossible.problem("3.3.6.0", "ver:3.3.7.5")
        };
        let refused = problem(&older()).unwrap();
        let named = "a backtick in its name (table `a``b`, column of table `a``b`: `c```, table `child```);";
        assert!(refused.contains(named), "{refused}");
        let finds_backticks = Dialect {
            finds_backticks: true,
            ..older()
        };
        assert_eq!(problem(&finds_backticks), None);
    }

    #[test]
    fn tables_that_the_server_can_have_are_not_named() {
        let mut impossible = Impossible::default();
        let plain = schema(&[("ts", "TIMESTAMP"), ("d", "DECIMAL(20, 2)")]);
        impossible.look_at(&older(), "table", "n", &plain);
        assert_eq!(impossible.problem("3.3.6.0", "ver:3.3.7.5"), None);
    }
}
