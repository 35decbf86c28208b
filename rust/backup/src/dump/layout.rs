//! Where a dump puts its files, and the ones that only taosdump's own restore reads.
//!
//! ```text
//! OUT/dbs.sql                                   what was dumped, for people
//! OUT/taosdump.ID/dbs.sql                       the database, its super tables, and what changed as SQL
//! OUT/taosdump.ID/DB.S.avro-tbtags (+ .m)       tags of a super table's children
//! OUT/taosdump.ID/DB.ID.avro-ntb                statements that create normal tables
//! OUT/taosdump.ID/dataK-HASH/DB.N.0.avro        rows of one table
//! OUT/taosdump.ID/dataK-HASH/stbname            the super table's name; data0-0 holds normal tables
//! OUT/incremental/…                             see `link`
//! ```
//!
//! `S` numbers the super tables of the link. While a dump runs, all of it lies below `OUT/.partial-ID`.

use super::{Changes, DumpError};
use crate::{
    catalogue::{Catalogue, create_database},
    data_file::{self, FileEntry, Hashing},
    link::{MANIFEST, Manifest},
};
use apache_avro::{Writer, types::Record};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};
use taos::{DataType, sql};
use tdfiles::KeySpan;

/// What the names of directories begin with that dumps in progress write to.
pub(crate) const PARTIAL: &str = ".partial-";

/// The output directory while a dump runs.
pub(super) struct OutDir {
    out: PathBuf,
    /// Locked as long as the dump runs, and opened before anything is written: errors of writing that the system finds
    /// later are reported to who had it open.
    handle: File,
    partial: PathBuf,
    id: i64,
    directories: BTreeMap<String, String>,
}

impl OutDir {
    /// Takes an output directory into use. What an interrupted dump left there is removed; anything else is refused.
    pub(super) fn open(out: &Path) -> Result<Self, DumpError> {
        fs::create_dir_all(out).map_err(DumpError::io(out))?;
        let handle = File::open(out).map_err(DumpError::io(out))?;
        match rustix::fs::flock(
            &handle,
            rustix::fs::FlockOperation::NonBlockingLockExclusive,
        ) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DumpError::OutInUse { path: out.into() });
            }
            locked => locked.map_err(|error| DumpError::io(out)(error.into()))?,
        }
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(out).map_err(DumpError::io(out))? {
            let entry = entry.map_err(DumpError::io(out))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_leftover(out, &name) {
                leftovers.push(entry.path());
            } else {
                return Err(DumpError::OutNotEmpty {
                    path: out.into(),
                    found: name,
                });
            }
        }
        for path in leftovers {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(DumpError::io(&path))?;
        }
        let id = jiff::Timestamp::now().as_microsecond();
        let partial = out.join(format!("{PARTIAL}{id}"));
        let incremental = partial.join("incremental");
        fs::create_dir_all(&incremental).map_err(DumpError::io(&incremental))?;
        Ok(Self {
            out: out.into(),
            handle,
            partial,
            id,
            directories: BTreeMap::new(),
        })
    }

    /// Makes the directory for a database's files.
    pub(super) fn add_database(&mut self, catalogue: &Catalogue) -> Result<Layout, DumpError> {
        let database = &catalogue.database.name;
        let id = self.id + self.directories.len() as i64;
        let directory = format!("taosdump.{id}");
        let path = self.partial.join(&directory);
        fs::create_dir(&path).map_err(DumpError::io(&path))?;
        self.directories
            .insert(database.to_owned(), directory.clone());
        Ok(Layout {
            root: self.partial.clone(),
            directory,
            database: database.to_owned(),
            id,
            stables: catalogue.stables.keys().cloned().zip(1..).collect(),
        })
    }

    /// Writes the file that names the databases.
    pub(super) fn write_main_dbs_sql(&self, manifest: &Manifest) -> Result<FileEntry, DumpError> {
        let mut text = header(&manifest.server);
        for (database, directory) in &self.directories {
            text.push_str(&format!("#!dumpdb: {database}: {directory}\n"));
        }
        write_file(&self.partial, "dbs.sql".to_owned(), text.as_bytes())
    }

    /// Makes everything durable, moves it to its place, and makes it a link.
    pub(super) fn seal(self, manifest: &Manifest) -> Result<(), DumpError> {
        // One call for all files: a sync for each of 100 000 would take minutes. What is left to the one for each then
        // is to say whether its file could be written.
        rustix::fs::syncfs(self.handle.as_fd()).map_err(|error| DumpError::Io {
            path: self.partial.clone(),
            source: error.into(),
        })?;
        sync_all(&self.partial)?;
        let entries = fs::read_dir(&self.partial).map_err(DumpError::io(&self.partial))?;
        for entry in entries {
            let entry = entry.map_err(DumpError::io(&self.partial))?;
            fs::rename(entry.path(), self.out.join(entry.file_name()))
                .map_err(DumpError::io(&entry.path()))?;
        }
        fs::remove_dir(&self.partial).map_err(DumpError::io(&self.partial))?;
        self.handle.sync_all().map_err(DumpError::io(&self.out))?;
        manifest
            .save(&self.out)
            .map_err(|error| DumpError::Link(error.into()))
    }
}

/// Syncs every file and directory below a directory, and itself.
fn sync_all(directory: &Path) -> Result<(), DumpError> {
    for entry in fs::read_dir(directory).map_err(DumpError::io(directory))? {
        let path = entry.map_err(DumpError::io(directory))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            let file = File::open(&path).map_err(DumpError::io(&path))?;
            file.sync_all().map_err(DumpError::io(&path))?;
        }
    }
    let handle = File::open(directory).map_err(DumpError::io(directory))?;
    handle.sync_all().map_err(DumpError::io(directory))
}

/// Whether an interrupted dump left this: all it wrote, or what it had moved when it had no manifest yet.
fn is_leftover(out: &Path, name: &str) -> bool {
    if name.starts_with(PARTIAL) {
        return true;
    }
    // Stock dumps hold no `incremental` directory, finished links hold a manifest.
    let moved = name == "dbs.sql" || name == "incremental" || name.starts_with("taosdump.");
    let ours = out.join("incremental").is_dir() || has_partial(out);
    moved && ours && matches!(out.join(MANIFEST).try_exists(), Ok(false))
}

fn has_partial(out: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(out) else {
        return false;
    };
    entries.any(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(PARTIAL))
    })
}

/// Where one database's files go.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    directory: String,
    database: String,
    id: i64,
    /// The super tables' numbers, from 1.
    stables: BTreeMap<String, usize>,
}

/// Tables whose rows go to one directory.
const FILES_PER_DIRECTORY: u64 = 100_000;

impl Layout {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn directory(&self) -> &str {
        &self.directory
    }

    /// The database's name as part of a file's.
    fn file_prefix(&self) -> String {
        self.database.replace('/', "_")
    }

    fn number(&self, stable: Option<&str>) -> usize {
        stable
            .and_then(|stable| self.stables.get(stable).copied())
            .unwrap_or(0)
    }

    pub(super) fn tags_name(&self, stable: &str) -> String {
        format!(
            "{}/{}.{:X}.avro-tbtags",
            self.directory,
            self.file_prefix(),
            self.number(Some(stable))
        )
    }

    pub(super) fn tags_path(&self, stable: &str) -> PathBuf {
        self.root.join(self.tags_name(stable))
    }

    pub(super) fn remove_tags(&self, stable: &str) -> Result<(), DumpError> {
        let path = self.tags_path(stable);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DumpError::io(&path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The directory for the `number`th table's rows.
    pub(super) fn data_directory(&self, stable: Option<&str>, number: u64) -> String {
        // taosdump's restore takes exactly data0-0 for the directory of normal tables.
        let part = if stable.is_some() {
            number / FILES_PER_DIRECTORY
        } else {
            0
        };
        format!("{}/data{part}-{:X}", self.directory, self.number(stable))
    }

    pub(super) fn data_name(&self, directory: &str, number: u64) -> String {
        format!(
            "{directory}/{}.{}.0.avro",
            self.file_prefix(),
            self.id + number as i64
        )
    }

    /// Makes a directory for rows; the file in it that names the super table is returned.
    pub(super) fn make_data_directory(
        &self,
        directory: &str,
        stable: Option<&str>,
    ) -> Result<Option<FileEntry>, DumpError> {
        let path = self.root.join(directory);
        fs::create_dir(&path).map_err(DumpError::io(&path))?;
        stable
            .map(|stable| {
                write_file(
                    &self.root,
                    format!("{directory}/stbname"),
                    stable.as_bytes(),
                )
            })
            .transpose()
    }

    /// The entry of a file that another module wrote.
    pub(super) fn entry_of(&self, name: &str) -> Result<FileEntry, DumpError> {
        let path = self.root.join(name);
        let bytes = fs::read(&path).map_err(DumpError::io(&path))?;
        let mut hashing = Hashing::new(std::io::sink());
        hashing.write_all(&bytes).map_err(DumpError::io(&path))?;
        Ok(hashing.finish(name.to_owned(), 0).1)
    }

    /// Writes what taosdump's own restore reads besides rows and tags.
    pub(super) fn write_stock_files(
        &self,
        catalogue: &Catalogue,
        changes: &Changes,
        full: bool,
    ) -> Result<Vec<FileEntry>, DumpError> {
        let mut files = vec![self.write_dbs_sql(catalogue, changes, full)?];
        files.extend(self.write_normal_tables(catalogue, changes)?);
        for stable in catalogue.stables.values() {
            let name = self.tags_name(&stable.name);
            if self.root.join(&name).exists() {
                let json = stable_json(stable);
                files.push(write_file(
                    &self.root,
                    format!("{name}.m"),
                    json.as_bytes(),
                )?);
            }
        }
        Ok(files)
    }

    fn write_dbs_sql(
        &self,
        catalogue: &Catalogue,
        changes: &Changes,
        full: bool,
    ) -> Result<FileEntry, DumpError> {
        let database = &catalogue.database.name;
        let mut text = header("");
        let mut line = |sql: String| {
            text.push_str(&sql.replace('\n', " "));
            text.push_str(";\n");
        };
        if let Some(create) = create_database(&catalogue.database.create, database) {
            line(create);
        }
        if !full {
            for stable in &changes.dropped_stables {
                line(format!(
                    "DROP STABLE IF EXISTS {}",
                    sql::table(database, stable)
                ));
            }
            for change in changes.tables.values().filter(|change| change.drop) {
                line(format!(
                    "DROP TABLE IF EXISTS {}",
                    sql::table(database, &change.name)
                ));
            }
        }
        for stable in catalogue.stables.values() {
            line(stable.create(database));
        }
        for altered in &changes.altered_stables {
            for alter in &altered.alters {
                line(format!(
                    "ALTER STABLE {} {}",
                    sql::table(database, &altered.name),
                    alter.clause()
                ));
            }
        }
        for change in changes.tables.values() {
            let target = sql::table(database, &change.name);
            for alter in &change.alters {
                line(format!("ALTER TABLE {target} {}", alter.clause()));
            }
            let key = catalogue
                .tables
                .get(&change.name)
                .and_then(|table| catalogue.schema_of(table))
                .and_then(|schema| schema.columns.first());
            if let Some(key) = key.filter(|_| !change.create) {
                for span in &change.deletes {
                    line(format!(
                        "DELETE FROM {target}{}",
                        where_clause(&key.name, *span)
                    ));
                }
            }
        }
        write_file(
            &self.root,
            format!("{}/dbs.sql", self.directory),
            text.as_bytes(),
        )
    }

    fn write_normal_tables(
        &self,
        catalogue: &Catalogue,
        changes: &Changes,
    ) -> Result<Option<FileEntry>, DumpError> {
        let created = changes.tables.values().filter(|change| change.create);
        let tables = created.filter_map(|change| catalogue.tables.get(&change.name));
        let statements: Vec<(&str, String)> = tables
            .filter_map(|table| {
                Some((table.name.as_str(), table.create(&catalogue.database.name)?))
            })
            .collect();
        if statements.is_empty() {
            return Ok(None);
        }
        let name = format!(
            "{}/{}.{}.avro-ntb",
            self.directory,
            self.file_prefix(),
            self.id
        );
        let path = self.root.join(&name);
        let failed = |error: apache_avro::Error| {
            DumpError::Data(data_file::DataFileError::Write {
                path: path.clone(),
                source: Box::new(error),
            })
        };
        let schema = data_file::record_schema(
            &self.database,
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
        write_file(&self.root, name, &bytes).map(Some)
    }
}

/// The rows of a range as the end of a statement.
pub(crate) fn where_clause(key: &str, span: KeySpan) -> String {
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

/// The first lines of a dbs.sql.
fn header(server: &str) -> String {
    format!(
        "#!server_ver: {server}\n#!taosdump_ver: incremental-bitmap {}\n#!os_id: LINUX\n#!escape_char: true\n\
         #!loose_mode: false\n#!charset: UTF-8\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A super table's columns and tags, as taosdump's restore wants them.
fn stable_json(stable: &crate::catalogue::SuperTable) -> String {
    let list = |columns: &[crate::catalogue::Column]| {
        let columns = columns.iter().map(|column| {
            let code = column
                .data_type()
                .map_or(0, |data_type: DataType| data_type as i8);
            serde_json::json!({"name": column.name, "type": code})
        });
        serde_json::Value::Array(columns.collect())
    };
    serde_json::json!({
        "version": 1,
        "name": stable.name,
        "cols": list(&stable.schema.columns),
        "tags": list(&stable.schema.tags),
    })
    .to_string()
}

fn write_file(root: &Path, name: String, bytes: &[u8]) -> Result<FileEntry, DumpError> {
    let path = root.join(&name);
    let mut file = Hashing::new(File::create_new(&path).map_err(DumpError::io(&path))?);
    file.write_all(bytes).map_err(DumpError::io(&path))?;
    Ok(file.finish(name, 0).1)
}
