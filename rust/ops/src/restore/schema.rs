//! Databases, super tables, tables and tags.

use super::{
    Apply, RestoreError,
    tables::{self as restore_tables, Child, Few, Give, Job},
};
use ::rows::avro::{DataFileError, FileReader};
use model::{
    DataType, FailedId, OwnedValue, Unit,
    catalogue::{Column, Schema, SuperTable, Tables},
    schema_change::{Alter, alters},
};
use repository::link::{LinkError, TableChange, needs_tags};
use server::{
    catalogue::schema,
    ddl::{self, Altered, CreateChildren},
    restore_lacks::Lacks,
    sql, tables,
};
use std::collections::{BTreeMap, HashMap, HashSet};

impl Apply<'_> {
    pub(super) fn stables(&self) -> Result<(), RestoreError> {
        let present = tables::super_tables(self.connection, self.target)?;
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
                self.try_sql(&ddl::create_super_table(stable, self.target));
            } else if !alters.is_empty() {
                self.alter(
                    Altered::SuperTable,
                    &stable.name,
                    stable.comment.as_deref(),
                    alters,
                )?;
            } else if self.link.manifest.export {
                let comment = stable.comment.as_deref();
                self.follow(
                    Altered::SuperTable,
                    FailedId::SuperTable(stable.suid),
                    &stable.name,
                    comment,
                    &stable.schema,
                )?;
            } else if self.database.incremental {
                continue;
            }
            self.check_stable(stable)?;
        }
        Ok(())
    }

    fn alter(
        &self,
        what: Altered,
        name: &str,
        comment: Option<&str>,
        alters: &[Alter],
    ) -> Result<(), RestoreError> {
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
                self.try_sql(&ddl::alter(what, self.target, name, alter));
            }
        }
        Ok(())
    }

    /// Gives a table of the target the source's columns and tags. An export does not say what changed about them, as
    /// nobody knows what they were: what has to change shows only here.
    fn follow(
        &self,
        what: Altered,
        id: FailedId,
        name: &str,
        comment: Option<&str>,
        wanted: &Schema,
    ) -> Result<(), RestoreError> {
        let Some(present) = self.present(name, comment)? else {
            return Ok(());
        };
        match alters(&present, wanted) {
            Ok(alters) => self.alter(what, name, comment, &alters)?,
            Err(problem) => self.fail(
                name,
                id,
                format_args!(
                    "it can't get the source's columns: {problem}; drop it, and take a full backup of the source"
                ),
            ),
        }
        Ok(())
    }

    /// The schema of a table of the target. Its comment may be the old or the new one.
    fn present(&self, name: &str, comment: Option<&str>) -> Result<Option<Schema>, RestoreError> {
        let present = match tables::comment(self.connection, self.target, name)? {
            Some(present) => present,
            None => comment.map(str::to_owned),
        };
        Ok(schema(
            self.connection,
            self.target,
            name,
            present.as_deref(),
        )?)
    }

    /// A super table that does not look like the source's would take rows wrongly.
    fn check_stable(&self, stable: &SuperTable) -> Result<(), RestoreError> {
        let id = FailedId::SuperTable(stable.suid);
        match self.present(&stable.name, stable.comment.as_deref())? {
            Some(schema) if schema.looks_like(&stable.schema) => {}
            Some(schema) => self.fail(
                &stable.name,
                id,
                format_args!(
                    "the super table was to get the columns ({}) and tags ({}), and has ({}) and ({})",
                    described(&stable.schema.columns),
                    described(&stable.schema.tags),
                    described(&schema.columns),
                    described(&schema.tags),
                ),
            ),
            None => self.fail(&stable.name, id, "it is not there after it was created"),
        }
        Ok(())
    }

    pub(super) fn tables_and_tags(
        &self,
        tables: &Tables,
        changes: &[TableChange],
    ) -> Result<(), RestoreError> {
        let by_name: HashMap<&str, &TableChange> = changes
            .iter()
            .map(|change| (change.name.as_str(), change))
            .collect();
        let (mut children, mut normal) = (0, Vec::new());
        for change in changes {
            let table = tables.get(&change.name).filter(|_| change.create);
            children += u64::from(needs_tags(tables, change));
            normal.extend(table.and_then(|table| ddl::create_table(table, self.target)));
        }
        let total = children + normal.len() as u64;
        if total > 0 {
            let step = format!("creating tables of {} and setting tags", self.target);
            self.progress.step(&step, Unit::Tables, total);
        }
        let mut tagged = HashSet::new();
        restore_tables::run(self, |give| {
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
                self.children(stable, &file.file.path, tables, &by_name, &mut tagged, give)?;
            }
            let mut waiting = Few::none();
            for create in normal {
                let bytes = create.len();
                if let Some(many) = waiting.add(create, bytes)
                    && !give(Job::Tables(many))
                {
                    return Ok(());
                }
            }
            give(Job::Tables(waiting.take()));
            Ok(())
        })?;
        for change in changes {
            if needs_tags(tables, change) && !tagged.contains(change.name.as_str()) {
                let id = change.uid.map_or(FailedId::Unknown, FailedId::Table);
                self.fail(&change.name, id, "its tags are in no file of the link");
            }
        }
        for change in changes {
            let Some(table) = tables.get(&change.name) else {
                continue;
            };
            if self.link.manifest.export
                && !change.create
                && let Some(wanted) = &table.schema
            {
                let id = FailedId::Table(table.uid);
                let comment = table.comment.as_deref();
                self.follow(Altered::Table, id, &table.name, comment, wanted)?;
            }
            if !change.alters.is_empty() && !self.failures.is_absent(&change.name) {
                self.alter(
                    Altered::Table,
                    &table.name,
                    table.comment.as_deref(),
                    &change.alters,
                )?;
            }
        }
        Ok(())
    }

    /// Children that are to be created, or whose tags are to be set.
    fn children<'a>(
        &'a self,
        stable: &'a SuperTable,
        file: &str,
        tables: &Tables,
        changes: &HashMap<&'a str, &'a TableChange>,
        tagged: &mut HashSet<&'a str>,
        give: Give<'_, 'a>,
    ) -> Result<(), RestoreError> {
        let tags = &stable.schema.tags;
        let types: Vec<DataType> = tags.iter().map(|tag| tag.column_type.data_type).collect();
        let failed = |error: DataFileError| LinkError::from(error);
        let mut reader =
            FileReader::open(&*self.link.store, file, types.clone(), 2).map_err(failed)?;
        let mut create = CreateChildren::of(self.target, stable);
        // By how many of their tags stay as they are.
        let mut set: BTreeMap<usize, Few<Child>> = BTreeMap::new();
        while let Some((names, values)) = reader.next().map_err(failed)? {
            let Some(name) = names.get(1) else { continue };
            let (Some((name, change)), Some(table)) =
                (changes.get_key_value(name.as_str()), tables.get(name))
            else {
                continue;
            };
            self.progress.go_on()?;
            tagged.insert(name);
            let (literals, problems) = literals(tags, &types, &values);
            if !problems.is_empty() {
                let problem = format!("its tags {}; they are NULL", problems.join(", "));
                self.failures.lacks(name, Lacks::Tags, problem);
            }
            let job = if change.create {
                create.add(self.target, table, &literals);
                create.is_full().then(|| Job::Children(create.take()))
            } else if change.set_tags && !self.failures.is_absent(name) {
                let kept = change.kept_tags.min(tags.len());
                let child = Child {
                    name: (*name).to_owned(),
                    literals: literals.into_iter().skip(kept).collect(),
                };
                let bytes = child.bytes();
                let waiting = set.entry(kept).or_insert_with(Few::none);
                let many = waiting.add(child, bytes);
                many.map(|many| Job::Tags(tags.get(kept..).unwrap_or_default(), many))
            } else {
                self.progress.advance(1, 0);
                None
            };
            if job.is_some_and(|job| !give(job)) {
                return Ok(());
            }
        }
        give(Job::Children(create));
        for (kept, mut waiting) in set {
            give(Job::Tags(
                tags.get(kept..).unwrap_or_default(),
                waiting.take(),
            ));
        }
        Ok(())
    }
}

/// The literals of a child's tags. Of a value that no literal stands for it is NULL, and it is said why.
fn literals(
    tags: &[Column],
    types: &[DataType],
    values: &[OwnedValue],
) -> (Vec<Vec<u8>>, Vec<String>) {
    let mut problems = Vec::new();
    let literals = tags.iter().zip(types).zip(values);
    let literals = literals.map(|((tag, data_type), value)| {
        sql::literal(*data_type, value.as_value()).unwrap_or_else(|error| {
            problems.push(format!("{}: {error}", sql::name(&tag.name)));
            b"NULL".to_vec()
        })
    });
    (literals.collect(), problems)
}

fn described(columns: &[Column]) -> String {
    columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.column_type))
        .collect::<Vec<_>>()
        .join(", ")
}
