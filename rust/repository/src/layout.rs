//! Where the files of a link lie, as taosdump's own restore expects them.
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
//! `S` numbers the super tables of the link. While a link is written, all of it lies below `OUT/.partial-ID`.

use crate::link::MANIFEST;
use model::catalogue::{Column, SuperTable};
use std::{collections::BTreeMap, fs};
use store::{Directory, PARTIAL, Store};

/// Where one database's files go.
#[derive(Debug)]
pub struct Layout {
    directory: String,
    database: String,
    id: i64,
    /// The super tables' numbers, from 1.
    stables: BTreeMap<String, usize>,
}

/// Tables whose rows go to one directory.
const FILES_PER_DIRECTORY: u64 = 100_000;

impl Layout {
    /// The files of a database with these super tables; `id` tells them from those of every other database.
    pub fn new<'s>(database: &str, id: i64, stables: impl IntoIterator<Item = &'s String>) -> Self {
        Self {
            directory: format!("taosdump.{id}"),
            database: database.to_owned(),
            id,
            stables: stables.into_iter().cloned().zip(1..).collect(),
        }
    }

    /// The directory of the database's files.
    pub fn directory(&self) -> &str {
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

    /// The statements that create the database and its super tables.
    pub fn dbs_sql_name(&self) -> String {
        format!("{}/dbs.sql", self.directory)
    }

    /// The tags of a super table's children.
    pub fn tags_name(&self, stable: &str) -> String {
        format!(
            "{}/{}.{:X}.avro-tbtags",
            self.directory,
            self.file_prefix(),
            self.number(Some(stable))
        )
    }

    /// The statements that create normal tables.
    pub fn normal_tables_name(&self) -> String {
        let prefix = self.file_prefix();
        format!("{}/{prefix}.{}.avro-ntb", self.directory, self.id)
    }

    /// The directory for the `number`th table's rows.
    pub fn data_directory(&self, stable: Option<&str>, number: u64) -> String {
        // taosdump's restore takes exactly data0-0 for the directory of normal tables.
        let part = if stable.is_some() {
            number / FILES_PER_DIRECTORY
        } else {
            0
        };
        format!("{}/data{part}-{:X}", self.directory, self.number(stable))
    }

    /// The rows of the `number`th table.
    pub fn data_name(&self, directory: &str, number: u64) -> String {
        format!(
            "{directory}/{}.{}.0.avro",
            self.file_prefix(),
            self.id + number as i64
        )
    }
}

/// The main `dbs.sql`, which names the databases with their directories.
pub const MAIN_DBS_SQL: &str = "dbs.sql";

/// The first lines of a dbs.sql.
pub fn dbs_sql_header(server: &str) -> String {
    format!(
        "#!server_ver: {server}\n#!taosdump_ver: incremental-bitmap {}\n#!os_id: LINUX\n#!escape_char: true\n\
         #!loose_mode: false\n#!charset: UTF-8\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A super table's columns and tags, as taosdump's restore wants them beside the file of its tags.
pub fn super_table_json(stable: &SuperTable) -> String {
    let list = |columns: &[Column]| {
        let columns = columns.iter().map(|column| {
            serde_json::json!({"name": column.name, "type": column.column_type.data_type as i8})
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

/// Whether an interrupted writer of links left this name in a directory: what it had moved to its place when there was
/// no manifest yet.
pub fn is_leftover(out: &Directory, name: &str) -> bool {
    // Dumps of an unpatched taosdump hold no `incremental` directory, finished links hold a manifest.
    let moved = name == MAIN_DBS_SQL || name == "incremental" || name.starts_with("taosdump.");
    let ours = out.path().join("incremental").is_dir() || has_partial(out);
    moved && ours && matches!(out.holds(MANIFEST), Ok(false))
}

fn has_partial(out: &Directory) -> bool {
    let Ok(mut entries) = fs::read_dir(out.path()) else {
        return false;
    };
    entries.any(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(PARTIAL))
    })
}
