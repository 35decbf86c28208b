//! Databases, super tables, tables and tags.

use super::{Apply, RestoreError, literal::literal};
use crate::{
    catalogue::{
        self, Alter, Schema, SuperTable, Table, database_options, read::schema, schema_change,
    },
    data_file::{FileReader, OwnedValue},
    link::{TableChange, needs_tags},
};
use std::collections::{BTreeMap, BTreeSet};
use taos::{Connection, DataType, SqlError, sql};

/// Options that ALTER DATABASE can change.
const ALTERABLE: [&str; 12] = [
    "BUFFER",
    "CACHEMODEL",
    "CACHESIZE",
    "KEEP",
    "MINROWS",
    "PAGES",
    "REPLICA",
    "STT_TRIGGER",
    "WAL_FSYNC_PERIOD",
    "WAL_LEVEL",
    "WAL_RETENTION_PERIOD",
    "WAL_RETENTION_SIZE",
];

/// Gives the target the options of `create`. An option that can't be changed is reported.
pub(super) fn alter_database(
    connection: &Connection,
    target: &str,
    create: &str,
    fail: &mut dyn FnMut(String),
) -> Result<(), SqlError> {
    let mut rows = connection.query(&format!("SHOW CREATE DATABASE {}", sql::name(target)))?;
    let present = database_options(&rows.next()?.map(|row| row.text(1)).unwrap_or_default());
    drop(rows);
    for (option, value) in database_options(create) {
        if !ALTERABLE.contains(&option.as_str()) || present.get(&option) == Some(&value) {
            continue;
        }
        let statement = format!("ALTER DATABASE {} {option} {value}", sql::name(target));
        if let Err(error) = connection.execute(&statement) {
            fail(error.to_string());
        }
    }
    Ok(())
}

/// Statements are sent when they hold this many bytes; the server takes 1 MiB.
const STATEMENT_BYTES: usize = 512 << 10;

/// Names of columns as a list.
fn names(columns: &[catalogue::Column]) -> String {
    columns
        .iter()
        .map(|column| sql::name(&column.name))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Apply<'_> {
    pub(super) fn stables(&self) -> Result<(), RestoreError> {
        let mut present = BTreeSet::new();
        let query = format!(
            "SELECT stable_name FROM information_schema.ins_stables WHERE db_name = {}",
            sql::text(self.target)
        );
        self.connection.query(&query)?.for_each(|row| {
            present.insert(row.text(0));
            Ok::<_, SqlError>(())
        })?;
        let altered: BTreeMap<&str, &[Alter]> = self
            .database
            .altered_stables
            .iter()
            .map(|altered| (altered.name.as_str(), altered.alters.as_slice()))
            .collect();
        for stable in &self.database.stables {
            let alters = altered
                .get(stable.name.as_str())
                .copied()
                .unwrap_or_default();
            if !present.contains(&stable.name) {
                self.try_sql(&stable.create(self.target));
            } else if !alters.is_empty() {
                self.alter("STABLE", &stable.name, stable.comment.as_deref(), alters)?;
            } else if self.link.manifest.export {
                let comment = stable.comment.as_deref();
                self.follow("STABLE", &stable.name, comment, &stable.schema)?;
            } else if self.database.incremental {
                continue;
            }
            self.check_stable(stable)?;
        }
        Ok(())
    }

    fn alter(
        &self,
        kind: &str,
        name: &str,
        comment: Option<&str>,
        alters: &[Alter],
    ) -> Result<(), RestoreError> {
        let target = sql::table(self.target, name);
        for alter in alters {
            let needed = match alter {
                Alter::Comment { .. } | Alter::Ttl { .. } => true,
                // Columns are looked at anew each time: the change before may have changed them.
                alter => match self.present(name, comment)? {
                    Some(schema) => alter.is_needed(&schema),
                    None => true,
                },
            };
            if needed {
                self.try_sql(&format!("ALTER {kind} {target} {}", alter.clause()));
            }
        }
        Ok(())
    }

    /// Gives a table of the target the source's columns and tags. An export does not say what changed about them, as
    /// nobody knows what they were: what has to change shows only here.
    fn follow(
        &self,
        kind: &str,
        name: &str,
        comment: Option<&str>,
        wanted: &Schema,
    ) -> Result<(), RestoreError> {
        let Some(present) = self.present(name, comment)? else {
            return Ok(());
        };
        match schema_change::alters(&present, wanted) {
            Ok(alters) => self.alter(kind, name, comment, &alters)?,
            Err(problem) => self.failures.add(format!(
                "table {} can't get the source's columns: {problem}; drop it, and take a full backup of the source",
                sql::table(self.target, name)
            )),
        }
        Ok(())
    }

    /// The schema of a table of the target. Its comment may be the old or the new one.
    fn present(&self, name: &str, comment: Option<&str>) -> Result<Option<Schema>, RestoreError> {
        let query = |list, column| {
            format!(
                "SELECT table_comment FROM information_schema.{list} WHERE db_name = {} AND {column} = {}",
                sql::text(self.target),
                sql::text(name)
            )
        };
        let mut present = comment.map(str::to_owned);
        for query in [
            query("ins_stables", "stable_name"),
            query("ins_tables", "table_name"),
        ] {
            let mut rows = self.connection.query(&query)?;
            if let Some(row) = rows.next()? {
                present = row.get(0).as_str().map(str::to_owned);
            }
        }
        Ok(schema(
            self.connection,
            self.target,
            name,
            present.as_deref(),
        )?)
    }

    /// A super table that does not look like the source's would take rows wrongly.
    fn check_stable(&self, stable: &SuperTable) -> Result<(), RestoreError> {
        match self.present(&stable.name, stable.comment.as_deref())? {
            Some(schema) if schema.looks_like(&stable.schema) => {}
            Some(schema) => self.failures.add(format!(
                "super table {} was to get the columns ({}) and tags ({}), and has ({}) and ({})",
                sql::table(self.target, &stable.name),
                described(&stable.schema.columns),
                described(&stable.schema.tags),
                described(&schema.columns),
                described(&schema.tags),
            )),
            None => self.failures.add(format!(
                "super table {} is not there after it was created",
                sql::table(self.target, &stable.name)
            )),
        }
        Ok(())
    }

    pub(super) fn tables_and_tags(
        &self,
        tables: &BTreeMap<String, Table>,
        changes: &[TableChange],
    ) -> Result<(), RestoreError> {
        let by_name: BTreeMap<&str, &TableChange> = changes
            .iter()
            .map(|change| (change.name.as_str(), change))
            .collect();
        let mut tagged = BTreeSet::new();
        for file in &self.database.tag_files {
            let Some(stable) = self
                .database
                .stables
                .iter()
                .find(|stable| stable.name == file.stable)
            else {
                self.failures.add(format!(
                    "{}: it is of a super table that the link does not know",
                    file.file.path
                ));
                continue;
            };
            self.children(stable, &file.file.path, tables, &by_name, &mut tagged)?;
        }
        for change in changes {
            if needs_tags(tables, change) && !tagged.contains(&change.name) {
                self.failures.add(format!(
                    "table {}: its tags are in no file of the link",
                    sql::table(self.target, &change.name)
                ));
            }
        }
        for change in changes {
            let Some(table) = tables.get(&change.name) else {
                continue;
            };
            if change.create
                && let Some(create) = table.create(self.target)
            {
                self.try_sql(&create);
            }
            if self.link.manifest.export
                && !change.create
                && let Some(wanted) = &table.schema
            {
                self.follow("TABLE", &table.name, table.comment.as_deref(), wanted)?;
            }
            if !change.alters.is_empty() {
                self.alter(
                    "TABLE",
                    &table.name,
                    table.comment.as_deref(),
                    &change.alters,
                )?;
            }
        }
        Ok(())
    }

    /// Creates children, or sets their tags.
    fn children(
        &self,
        stable: &SuperTable,
        file: &str,
        tables: &BTreeMap<String, Table>,
        changes: &BTreeMap<&str, &TableChange>,
        tagged: &mut BTreeSet<String>,
    ) -> Result<(), RestoreError> {
        let tags = &stable.schema.tags;
        let types: Vec<DataType> = tags.iter().filter_map(|tag| tag.data_type().ok()).collect();
        let mut reader = FileReader::open(&self.path(file)?, types.clone(), 2)
            .map_err(crate::link::LinkError::from)?;
        let using = format!(
            "USING {} ({})",
            sql::table(self.target, &stable.name),
            names(tags)
        );
        let mut create = String::new();
        let flush = |create: &mut String| {
            if !create.is_empty() {
                self.try_sql(&format!("CREATE TABLE{create}"));
                create.clear();
            }
        };
        while let Some((names, values)) = reader.next().map_err(crate::link::LinkError::from)? {
            let Some(name) = names.get(1) else { continue };
            let (Some(change), Some(table)) = (changes.get(name.as_str()), tables.get(name)) else {
                continue;
            };
            tagged.insert(name.clone());
            let literals = match literals(&types, &values) {
                Ok(literals) => literals,
                Err(problem) => {
                    self.failures.add(format!(
                        "table {}: its tags: {problem}",
                        sql::table(self.target, name)
                    ));
                    continue;
                }
            };
            let target = sql::table(self.target, name);
            if change.create {
                create.push_str(&format!(
                    " IF NOT EXISTS {target} {using} TAGS ({}){}",
                    literals.join(", "),
                    table.options_clause()
                ));
                if create.len() >= STATEMENT_BYTES {
                    flush(&mut create);
                }
            } else if change.set_tags {
                for (tag, literal) in tags.iter().zip(&literals) {
                    self.try_sql(&format!(
                        "ALTER TABLE {target} SET TAG {} = {literal}",
                        sql::name(&tag.name)
                    ));
                }
            }
        }
        flush(&mut create);
        Ok(())
    }
}

fn literals(types: &[DataType], values: &[OwnedValue]) -> Result<Vec<String>, String> {
    types
        .iter()
        .zip(values)
        .map(|(data_type, value)| literal(*data_type, value.as_value()))
        .collect()
}

fn described(columns: &[catalogue::Column]) -> String {
    columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.sql_type))
        .collect::<Vec<_>>()
        .join(", ")
}
