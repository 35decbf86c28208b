//! Tags: every child's values are read and digested; those of tables that are new, or whose values changed, go to
//! a tags file.

use super::{BackupError, Changes, Known, Writing, changes::TagsMoved};
use ::rows::avro::{self, DataFileError, FileWriter};
use model::{
    DataType, OwnedValue, Value,
    catalogue::{Catalogue, Column, SuperTable, Table, TagsDigest},
};
use repository::{layout::Layout, link::TagFile};
use server::{
    Rows, SqlError,
    ddl::column_list,
    select, sql,
    tables::{self, if_there},
};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use store::{FileEntry, Store};

pub(super) fn copy(
    writing: &Writing<'_>,
    store: &dyn Store,
    layout: &Layout,
    catalogue: &mut Catalogue,
    changes: &mut Changes,
    known: Option<&Known>,
) -> Result<Vec<TagFile>, BackupError> {
    let mut files = Vec::new();
    for stable in catalogue.stables.clone().into_values() {
        if catalogue.unreadable_stables.contains_key(&stable.name) {
            continue;
        }
        let mut as_bytes = BTreeSet::new();
        let mut is_again = false;
        let file = loop {
            let copied = writing.patiently(|| {
                if std::mem::replace(&mut is_again, true) {
                    forget(catalogue, &stable.name);
                }
                store.remove(&layout.tags_name(&stable.name))?;
                one(
                    writing, store, layout, catalogue, changes, known, &stable, &as_bytes,
                )
            });
            match copied {
                // Only known once it is met: that tag is written as bytes then.
                Err(BackupError::Data(DataFileError::NotText(tag))) => {
                    as_bytes.insert(tag);
                    store.remove(&layout.tags_name(&stable.name))?;
                }
                Err(error) => return Err(error),
                Ok(file) => break file,
            }
        };
        files.extend(file.map(|file| TagFile {
            stable: stable.name.clone(),
            file,
        }));
    }
    let lacks_tags = |table: &&Table| {
        let readable = |stable| !catalogue.unreadable_stables.contains_key(stable);
        table.tags.is_none() && table.stable.as_deref().is_some_and(readable)
    };
    let without_tags: Vec<String> = catalogue
        .tables
        .values()
        .filter(lacks_tags)
        .map(|table| table.name.clone())
        .collect();
    // Where there is no server, the files that have a table have its tags.
    let Some(server) = writing.server.filter(|_| !without_tags.is_empty()) else {
        return Ok(files);
    };
    // Dropped since the catalogue was read.
    let listed = tables::uids(server.connection, &catalogue.database.name)?;
    for name in without_tags {
        let uid = catalogue.tables.get(&name).map(|table| table.uid);
        if listed.get(&name).copied() == uid {
            return Err(BackupError::NoTags {
                table: sql::table(&catalogue.database.name, &name),
            });
        }
        catalogue.tables.remove(&name);
        match known.is_some_and(|known| known.tables.contains(&name)) {
            true => changes.drop_table(&name),
            false => drop(changes.tables.remove(&name)),
        }
    }
    Ok(files)
}

/// Forgets the tags of a super table's children: what an earlier try has seen may be gone.
fn forget(catalogue: &mut Catalogue, stable: &str) {
    let is_child = |table: &&Table| table.stable.as_deref() == Some(stable);
    let tables = catalogue.tables.values().filter(is_child);
    let read = tables.filter(|table| !catalogue.unreadable.contains_key(&table.name));
    let names: Vec<String> = read.map(|table| table.name.clone()).collect();
    for name in names {
        catalogue.tables.change(&name, |table| table.tags = None);
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one step of one function, repeated when a tag is not text"
)]
fn one(
    writing: &Writing<'_>,
    store: &dyn Store,
    layout: &Layout,
    catalogue: &mut Catalogue,
    changes: &mut Changes,
    known: Option<&Known>,
    stable: &SuperTable,
    as_bytes: &BTreeSet<usize>,
) -> Result<Option<FileEntry>, BackupError> {
    let Catalogue {
        database, tables, ..
    } = catalogue;
    let database = &database.name;
    let tags = &stable.schema.tags;
    let mut children = match (writing.tags, &writing.server) {
        (Some(kept), _) => Children::Kept(kept.of(&stable.name).iter()),
        (None, None) => return Ok(None),
        (None, Some(server)) => {
            let list = column_list(tags);
            let told = if_there(
                server.connection,
                database,
                &stable.name,
                writing.progress,
                || select::tags(server.connection, database, &stable.name, &list),
            )?;
            match told {
                Some(rows) => Children::Told(rows),
                None => return Ok(None),
            }
        }
    };
    let types = children.types(tags);
    let file_layout = avro::Layout::tags(database, types, as_bytes.clone()).map_err(|problem| {
        DataFileError::Corrupt {
            place: store.place(&layout.tags_name(&stable.name)),
            problem,
        }
    })?;
    let mut writer: Option<FileWriter<'_>> = None;
    let mut unwritable = Unwritable::default();
    let moved = changes.tags_moved.get(&stable.name).copied();
    while let Some((name, values)) = children.next(tags.len())? {
        let value = |tag: usize| values.get(tag).copied().unwrap_or(Value::Null);
        let digest = digest(values.iter().copied());
        tables.change(&name, |table| table.tags = Some(digest));
        let Some(table) = tables.get(&name) else {
            continue;
        };
        let before = known
            .and_then(|known| known.tables.get(&name))
            .filter(|before| before.uid == table.uid);
        let created = changes
            .tables
            .get(&name)
            .is_some_and(|change| change.create);
        // So many of its tags are what they were.
        let kept = match (before.and_then(|before| before.tags.as_ref()), moved) {
            (None, _) | (_, Some(TagsMoved::Replaced)) => 0,
            (Some(before), None) if *before == digest => tags.len(),
            (Some(before), Some(TagsMoved::Added(from)))
                if *before == self::digest((0..from).map(value)) =>
            {
                // A restore adds the tags, too, and they are NULL there.
                match (from..tags.len()).any(|tag| value(tag) != Value::Null) {
                    true => from,
                    false => tags.len(),
                }
            }
            (Some(_), _) => 0,
        };
        if !created && kept == tags.len() {
            // An earlier try may have seen others.
            if let Some(change) = changes.tables.get_mut(&name) {
                change.set_tags = false;
                change.kept_tags = 0;
            }
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(FileWriter::create(
                store,
                &layout.tags_name(&stable.name),
                &file_layout,
                writing.job.compression,
            )?),
        };
        writer.append(&[&stable.name, &name], &value)?;
        let values = tags.iter().zip(values.iter().copied());
        unwritable.look(&sql::table(database, &name), values);
        if !created {
            let change = changes.of(table);
            change.set_tags = true;
            change.kept_tags = kept;
        }
    }
    let file = writer.map(FileWriter::finish).transpose()?;
    changes.notes.extend(unwritable.note());
    Ok(file)
}

/// The children of a super table, with their tags.
enum Children<'c> {
    /// As a server tells them.
    Told(Rows<'c>),
    /// As files have them.
    Kept(std::slice::Iter<'c, (String, Vec<OwnedValue>)>),
}

impl Children<'_> {
    /// The types of the tags.
    fn types(&self, tags: &[Column]) -> Vec<DataType> {
        match self {
            Self::Told(rows) => {
                let fields = rows.fields().iter().skip(1);
                fields.map(|field| field.data_type).collect()
            }
            Self::Kept(_) => tags.iter().map(|tag| tag.column_type.data_type).collect(),
        }
    }

    /// The next child and its tags.
    fn next(&mut self, tags: usize) -> Result<Option<(String, Vec<Value<'_>>)>, SqlError> {
        Ok(match self {
            Self::Told(rows) => rows.next()?.map(|row| {
                let values = (1..=tags).map(|column| row.get(column));
                (row.text(0), values.collect())
            }),
            Self::Kept(children) => children.next().map(|(name, values)| {
                let values = values.iter().map(OwnedValue::as_value);
                (name.clone(), values.collect())
            }),
        })
    }
}

/// Children with tags that a restore can't write.
#[derive(Default)]
struct Unwritable {
    children: u64,
    /// The first of them, and what is wrong with it.
    first: Option<String>,
}

impl Unwritable {
    fn look<'v>(&mut self, child: &str, values: impl Iterator<Item = (&'v Column, Value<'v>)>) {
        let problem = values.into_iter().find_map(|(tag, value)| {
            let written = sql::must_have_literal(tag.column_type.data_type, value);
            Some(format!(
                "tag {} of {child}: {}",
                sql::name(&tag.name),
                written.err()?
            ))
        });
        if let Some(problem) = problem {
            self.children += 1;
            self.first.get_or_insert(problem);
        }
    }

    fn note(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!(
            "{} tables have tags that can't be restored: a restore sets them to NULL, and names the tables; the first is \
             {first}; the value is in the link",
            self.children
        ))
    }
}

/// A digest that two rows of tag values share only if they are the same.
fn digest<'v>(values: impl Iterator<Item = Value<'v>>) -> TagsDigest {
    let mut hash = Sha256::new();
    for value in values {
        let mut add = |kind: u8, bytes: &[u8]| {
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        match value {
            Value::Null => add(0, &[]),
            Value::Bool(value) => add(1, &[value.into()]),
            Value::Int(value) => add(2, &value.to_le_bytes()),
            Value::UInt(value) => add(3, &value.to_le_bytes()),
            Value::Float(value) => add(4, &value.to_le_bytes()),
            Value::Double(value) => add(5, &value.to_le_bytes()),
            Value::Bytes(bytes) => add(6, bytes),
        }
    }
    let mut half = [0; 16];
    half.iter_mut()
        .zip(hash.finalize())
        .for_each(|(to, from)| *to = from);
    TagsDigest(half)
}
