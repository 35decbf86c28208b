//! The output of a backup: a directory that becomes a link in one step, and the files in it that only taosdump's own
//! restore reads.

use super::{BackupError, Changes};
use apache_avro::{Writer, types::Record};
use model::catalogue::Catalogue;
use repository::{
    layout::{self, Layout, MAIN_DBS_SQL},
    link::{DatabaseLink, LinkError, MANIFEST, Manifest},
};
use rows::avro::{DataFileError, record_schema};
use server::ddl;
use std::{io::Write as _, path::Path};
use store::{Directory, FileEntry, Hashing, Staging, Store, StoreError};

/// The output directory while a backup runs.
pub(crate) struct Output {
    staging: Staging,
    id: i64,
    /// How many databases it has.
    databases: i64,
}

impl Output {
    /// Takes an output directory into use. What an interrupted backup left there is removed; anything else is refused.
    pub(crate) fn open(out: &Path) -> Result<Self, StoreError> {
        let id = jiff::Timestamp::now().as_microsecond();
        Ok(Self {
            staging: Staging::open(out, id, &layout::is_leftover)?,
            id,
            databases: 0,
        })
    }

    /// Where files are written.
    pub(crate) fn files(&self) -> &Directory {
        self.staging.files()
    }

    /// Names the files of a database.
    pub(crate) fn add_database(&mut self, catalogue: &Catalogue) -> Layout {
        let id = self.id + self.databases;
        self.databases += 1;
        Layout::new(&catalogue.database.name, id, catalogue.stables.keys())
    }

    /// Writes the file that names the databases to taosdump's own restore, if it can read any: it refuses a directory without
    /// this file.
    pub(crate) fn write_main_dbs_sql(
        &self,
        manifest: &Manifest,
    ) -> Result<Option<FileEntry>, StoreError> {
        let readable = |database: &&DatabaseLink| {
            let own = format!("{}/{MAIN_DBS_SQL}", database.directory);
            manifest.files.iter().any(|file| file.path == own)
        };
        let mut text = String::new();
        for database in manifest.databases.iter().filter(readable) {
            let (name, directory) = (&database.database.name, &database.directory);
            text.push_str(&format!("#!dumpdb: {name}: {directory}\n"));
        }
        if text.is_empty() {
            return Ok(None);
        }
        let text = layout::dbs_sql_header(&manifest.server) + &text;
        write_file(self.files(), MAIN_DBS_SQL.to_owned(), text.as_bytes()).map(Some)
    }

    /// Makes everything durable, moves it to its place, and makes it a link.
    pub(crate) fn seal(self, manifest: &Manifest) -> Result<(), LinkError> {
        let place = self.files().place(MANIFEST);
        let bytes = manifest
            .to_bytes()
            .map_err(|error| StoreError::io(place)(error.into()))?;
        Ok(self.staging.finish(MANIFEST, &bytes)?)
    }
}

/// Writes what taosdump's own restore reads besides rows and tags.
pub(super) fn write_stock_files(
    store: &dyn Store,
    layout: &Layout,
    catalogue: &Catalogue,
    changes: &Changes,
    full: bool,
) -> Result<Vec<FileEntry>, BackupError> {
    let text = dbs_sql(catalogue, changes, full);
    let mut files = vec![write_file(store, layout.dbs_sql_name(), text.as_bytes())?];
    files.extend(write_normal_tables(store, layout, catalogue, changes)?);
    for stable in catalogue.stables.values() {
        let name = layout.tags_name(&stable.name);
        if store.holds(&name)? {
            let json = layout::super_table_json(stable);
            files.push(write_file(store, format!("{name}.m"), json.as_bytes())?);
        }
    }
    Ok(files)
}

fn dbs_sql(catalogue: &Catalogue, changes: &Changes, full: bool) -> String {
    let database = &catalogue.database.name;
    let mut text = layout::dbs_sql_header("");
    let mut line = |sql: String| {
        text.push_str(&sql.replace('\n', " "));
        text.push_str(";\n");
    };
    if let Some(create) = ddl::create_database(&catalogue.database.create, database) {
        line(create);
    }
    if !full {
        for stable in &changes.dropped_stables {
            line(ddl::drop_super_table(database, stable));
        }
        for change in changes.tables.values().filter(|change| change.drop) {
            line(ddl::drop_table(database, &change.name));
        }
    }
    for stable in catalogue.stables.values() {
        line(ddl::create_super_table(stable, database));
    }
    for altered in &changes.altered_stables {
        for alter in &altered.alters {
            let what = ddl::Altered::SuperTable;
            line(ddl::alter(what, database, &altered.name, alter));
        }
    }
    for change in changes.tables.values() {
        for alter in &change.alters {
            line(ddl::alter(
                ddl::Altered::Table,
                database,
                &change.name,
                alter,
            ));
        }
        let key = catalogue
            .tables
            .get(&change.name)
            .and_then(|table| catalogue.schema_of(table))
            .and_then(|schema| schema.columns.first());
        if let Some(key) = key.filter(|_| !change.create) {
            for span in &change.deletes {
                line(ddl::delete(database, &change.name, &key.name, *span));
            }
        }
    }
    text
}

fn write_normal_tables(
    store: &dyn Store,
    layout: &Layout,
    catalogue: &Catalogue,
    changes: &Changes,
) -> Result<Option<FileEntry>, BackupError> {
    let database = &catalogue.database.name;
    let created = changes.tables.values().filter(|change| change.create);
    let tables = created.filter_map(|change| catalogue.tables.get(&change.name));
    let statements: Vec<(&str, String)> = tables
        .filter_map(|table| Some((table.name.as_str(), ddl::create_table(table, database)?)))
        .collect();
    if statements.is_empty() {
        return Ok(None);
    }
    let name = layout.normal_tables_name();
    let failed = |error: apache_avro::Error| DataFileError::Write {
        place: store.place(&name),
        source: Box::new(error),
    };
    let schema = record_schema(
        database,
        "_ntb",
        r#"{"name":"tbname","type":["null","string"]},{"name":"sql","type":["null","string"]}"#,
    )
    .map_err(failed)?;
    let mut writer = Writer::new(&schema, Vec::new()).map_err(failed)?;
    for (table, statement) in statements {
        if let Some(mut record) = Record::new(&schema) {
            record.put("tbname", Some(table));
            record.put("sql", Some(statement.as_str()));
            writer.append_value(record).map_err(failed)?;
        }
    }
    let bytes = writer.into_inner().map_err(failed)?;
    Ok(Some(write_file(store, name, &bytes)?))
}

/// Writes a file of the link. It is not yet durable.
pub(super) fn write_file(
    store: &dyn Store,
    name: String,
    bytes: &[u8],
) -> Result<FileEntry, StoreError> {
    let place = store.place(&name);
    let mut file = Hashing::new(store.create(&name)?);
    file.write_all(bytes)
        .and_then(|()| file.flush())
        .map_err(StoreError::io(place))?;
    Ok(file.finish(name, 0).1)
}
