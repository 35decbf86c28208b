//! Chains of links with known contents, made by the writers that backups use, for tests without a server.
//!
//! [`Chain::new`] makes a first link and two that follow it, of a database `db` with one vgroup:
//!
//! | link | versions | holds |
//! |---|---|---|
//! | `full` | up to 10 | children `c1` and `c2` of super table `s`, normal table `n`, 100 rows each |
//! | `inc1` | 10 to 20 | rows 50 to 59 of `c1`; `c2` is dropped; `c3` is new with 10 rows |
//! | `inc2` | 20 to 30 | rows 0 to 5 of `n` are deleted and 3 of them written again; new tags of `c1` |
//!
//! Row `i` has the key `1000 × i`.
//!
//! [`Chain::with_bitmaps`] makes the same links with bitmaps, which belong to format 2.

use bitmap::BlockState;
use capture::{KnownVnode, SourceKind};
use model::{
    DataType, DbId, Key, KeySpan, Precision, Suid, TableId, Uid, Value, Version, VgId,
    catalogue::{Column, ColumnSize, ColumnType, Database, Schema, SuperTable, Table, TagsDigest},
};
use plan::{
    Ordinals, Plan, TablePlan, VgroupPlan, checkpoint::Checkpoint, detect::Detection, report,
    window::WindowWidth,
};
use repository::bitmaps::{Bitmaps, TableBlocks};
use repository::link::{
    DatabaseLink, Link, ListWriter, MANIFEST, Manifest, TableChange, TagFile, Totals, VgroupLink,
};
use rows::avro::{Compression, FileWriter, Layout};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{Directory, FileEntry, Store};
use tempfile::TempDir;

/// What can go wrong while writing.
pub type Failure = Box<dyn Error>;

/// A chain in a directory of its own.
#[derive(Debug)]
pub struct Chain {
    dir: TempDir,
}

/// The uid of a table: 1 to 3 for `c1` to `c3`, 9 for `n`.
fn uid(table: &str) -> Uid {
    Uid(table[1..].parse().unwrap_or(9))
}

/// Rows `first` to `last` as a range of keys.
pub fn rows(first: i64, last: i64) -> KeySpan {
    KeySpan {
        first: Key(first * 1_000),
        last: Key(last * 1_000),
    }
}

impl Chain {
    /// `full`, `inc1` and `inc2`.
    pub fn new() -> Result<Self, Failure> {
        Self::make(false)
    }

    /// `full`, `inc1` and `inc2`, with bitmaps.
    pub fn with_bitmaps() -> Result<Self, Failure> {
        Self::make(true)
    }

    fn make(with_bitmaps: bool) -> Result<Self, Failure> {
        let chain = Self {
            dir: tempfile::tempdir()?,
        };
        let mut full = Maker::new(chain.path("full"), None, (-1, 10), &["c1", "c2", "n"])?;
        full.tags(&["c1", "c2"])?;
        for table in ["c1", "c2", "n"] {
            full.rows(created(table), 0..100)?;
        }
        full.finish(with_bitmaps)?;

        let mut inc = Maker::new(
            chain.path("inc1"),
            Some(chain.path("full")),
            (10, 20),
            &["c1", "c3", "n"],
        )?;
        inc.tags(&["c3"])?;
        let change = TableChange {
            spans: vec![rows(50, 59)],
            ..changed("c1")
        };
        inc.rows(change, 50..60)?;
        inc.rows(created("c3"), 0..10)?;
        inc.changes.push(TableChange {
            uid: None,
            drop: true,
            ..changed("c2")
        });
        inc.finish(with_bitmaps)?;

        let mut inc = Maker::new(
            chain.path("inc2"),
            Some(chain.path("inc1")),
            (20, 30),
            &["c1", "c3", "n"],
        )?;
        inc.tags(&["c1"])?;
        inc.changes.push(TableChange {
            set_tags: true,
            ..changed("c1")
        });
        let change = TableChange {
            deletes: vec![rows(0, 5)],
            spans: vec![rows(0, 5)],
            ..changed("n")
        };
        inc.rows(change, 0..3)?;
        inc.finish(with_bitmaps)?;
        Ok(chain)
    }

    /// A path in the chain's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The links, the oldest first.
    pub fn links(&self) -> [PathBuf; 3] {
        ["full", "inc1", "inc2"].map(|name| self.path(name))
    }

    /// Every file of a link, from its directory.
    pub fn files(&self, link: &str) -> Result<Vec<PathBuf>, Failure> {
        let root = self.path(link);
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => open.push(path),
                    false => found.push(path.strip_prefix(&root)?.to_owned()),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads a link's manifest, lets it be changed, and seals it again.
    pub fn forge(&self, link: &str, change: impl FnOnce(&mut Manifest)) -> Result<(), Failure> {
        let root = self.path(link);
        let store = Directory::new(root);
        let mut manifest = Link::open(Arc::new(store.clone()))?.manifest;
        change(&mut manifest);
        Ok(store.put(MANIFEST, &manifest.to_bytes()?)?)
    }

    /// Writes the list of blocks that a detection from version 10 to `to` would: rows 50 to `last` of `c1`, the
    /// deleted rows of `n`, the dropped `c2`.
    pub fn blocks(&self, to: i64, last: i64) -> Result<PathBuf, Failure> {
        let table = |name: &str, state| TablePlan {
            vgroup: VgId(2),
            table: TableId {
                suid: Suid(if name == "n" { 0 } else { 100 }),
                uid: uid(name),
            },
            name: Some(name.to_owned()),
            state,
            rows: Some(0),
            spans: Vec::new(),
            deletes: Vec::new(),
        };
        let detection = Detection {
            database: "db".to_owned(),
            precision: Precision::Milliseconds,
            plan: Plan {
                window: window()?,
                vgroups: vec![VgroupPlan {
                    vgroup: VgId(2),
                    db_id: Some(DbId(77)),
                    from: Version(10),
                    to: Version(to),
                    source: SourceKind::TsdbAndWal,
                    complete: true,
                    reasons: Vec::new(),
                }],
                tables: vec![
                    TablePlan {
                        rows: Some((last - 49).try_into()?),
                        spans: vec![rows(50, last)],
                        ..table("c1", BlockState::Dirty)
                    },
                    table("c2", BlockState::Deleted),
                    TablePlan {
                        deletes: vec![(rows(0, 5), Version(22))],
                        ..table("n", BlockState::Dirty)
                    },
                ],
                blocks: Vec::new(),
                super_tables_dropped: false,
            },
            checkpoint: checkpoint(to)?,
        };
        let path = self.path("blocks.json");
        fs::write(&path, report::to_json(&detection)?)?;
        Ok(path)
    }
}

fn changed(table: &str) -> TableChange {
    TableChange {
        uid: Some(uid(table)),
        ..TableChange::named(table)
    }
}

fn created(table: &str) -> TableChange {
    TableChange {
        create: true,
        spans: vec![KeySpan::ALL],
        ..changed(table)
    }
}

fn window() -> Result<WindowWidth, Failure> {
    Ok(WindowWidth::from_ticks(3_600_000).ok_or("no width")?)
}

fn checkpoint(version: i64) -> Result<Checkpoint, Failure> {
    let known = KnownVnode {
        db_id: DbId(77),
        hash_range: (0, u32::MAX.into()),
        compactions: [].into(),
    };
    Ok(Checkpoint {
        database: "db".to_owned(),
        precision: Precision::Milliseconds,
        window: window()?,
        vgroups: [(VgId(2), (Version(version), known))].into(),
        ordinals: Ordinals::default(),
    })
}

fn schema() -> Schema {
    let column = |name: &str, column_type: ColumnType, id| Column {
        name: name.to_owned(),
        column_type,
        id,
        key: false,
        coding: None,
    };
    let text = ColumnType {
        data_type: DataType::Varchar,
        size: ColumnSize::Length(20),
    };
    Schema {
        columns: vec![
            column("ts", ColumnType::fixed(DataType::Timestamp), Some(1)),
            column("i", ColumnType::fixed(DataType::Int), Some(2)),
            column("v", text, Some(3)),
        ],
        tags: vec![column("t", ColumnType::fixed(DataType::Int), None)],
        options: String::new(),
    }
}

/// Writes one link.
struct Maker {
    root: PathBuf,
    manifest: Manifest,
    versions: (i64, i64),
    tables: Vec<Table>,
    changes: Vec<TableChange>,
    tag_files: Vec<TagFile>,
}

impl Maker {
    fn new(
        root: PathBuf,
        base: Option<PathBuf>,
        versions: (i64, i64),
        tables: &[&str],
    ) -> Result<Self, Failure> {
        fs::create_dir_all(root.join("incremental"))?;
        fs::create_dir_all(root.join("taosdump.1/data0-0"))?;
        fs::create_dir_all(root.join("taosdump.1/data0-1"))?;
        let parent = base
            .map(|base| Link::open(Arc::new(Directory::new(base))))
            .transpose()?;
        let parent = parent.as_ref().map(Link::as_base);
        let manifest = Manifest::new("4242".into(), "3.3.7.5".into(), parent);
        let table = |name: &&str| Table {
            name: (*name).to_owned(),
            uid: uid(name),
            vgroup: VgId(2),
            stable: (*name != "n").then(|| "s".into()),
            tags: (*name != "n").then_some(TagsDigest([0; 16])),
            schema: (*name == "n").then(|| {
                Box::new(Schema {
                    tags: Vec::new(),
                    ..schema()
                })
            }),
            ttl: 0,
            comment: None,
        };
        Ok(Self {
            root,
            manifest,
            versions,
            tables: tables.iter().map(table).collect(),
            changes: Vec::new(),
            tag_files: Vec::new(),
        })
    }

    fn store(&self) -> Directory {
        Directory::new(&self.root)
    }

    fn rows(&mut self, mut change: TableChange, rows: std::ops::Range<i64>) -> Result<(), Failure> {
        let types = vec![DataType::Timestamp, DataType::Int, DataType::Varchar];
        let layout = Layout::rows("db", types, BTreeSet::new())?;
        let directory = if change.name == "n" {
            "data0-0"
        } else {
            "data0-1"
        };
        let name = format!("taosdump.1/{directory}/db.{}.0.avro", change.name);
        let mut writer = FileWriter::create(&self.store(), &name, &layout, Compression::Snappy)?;
        for row in rows {
            let text = format!("row {row}");
            writer.append(&[&change.name], &|column| match column {
                0 => Value::Int(row * 1_000),
                1 => Value::Int(row),
                _ => Value::Bytes(text.as_bytes()),
            })?;
        }
        change.file = Some(writer.finish()?);
        self.changes.push(change);
        Ok(())
    }

    fn tags(&mut self, tables: &[&str]) -> Result<(), Failure> {
        let layout = Layout::tags("db", vec![DataType::Int], BTreeSet::new())?;
        let name = "taosdump.1/db.1.avro-tbtags".to_owned();
        let mut writer = FileWriter::create(&self.store(), &name, &layout, Compression::Null)?;
        for table in tables {
            writer.append(&["s", table], &|_| Value::Int(uid(table).0))?;
        }
        self.tag_files.push(TagFile {
            stable: "s".to_owned(),
            file: writer.finish()?,
        });
        Ok(())
    }

    fn finish(mut self, with_bitmaps: bool) -> Result<(), Failure> {
        let other = |name: &str, text: &str| {
            fs::write(self.root.join(name), text)?;
            entry(&self.root, name)
        };
        let files = vec![
            other("dbs.sql", "#!dumpdb: db: taosdump.1\n")?,
            other(
                "taosdump.1/dbs.sql",
                "CREATE DATABASE IF NOT EXISTS `db`;\n",
            )?,
            other("taosdump.1/data0-1/stbname", "s")?,
        ];
        let store = self.store();
        let mut tables = ListWriter::create(&store, "incremental/0.tables.zst".into())?;
        for table in &self.tables {
            tables.add(table)?;
        }
        let mut changes = ListWriter::create(&self.store(), "incremental/0.changes.zst".into())?;
        let mut totals = Totals {
            tables: self.tables.len() as u64,
            ..Totals::default()
        };
        for change in &self.changes {
            changes.add(change)?;
            totals.tables_dropped += u64::from(change.uid.is_none());
            totals.tables_changed += u64::from(change.uid.is_some());
            totals.rows += change.file.as_ref().map_or(0, |file| file.rows);
            totals.bytes += change.file.as_ref().map_or(0, |file| file.bytes);
        }
        let bitmaps = match with_bitmaps {
            false => None,
            true => {
                let name = "incremental/0.bitmaps";
                self.store().put(name, &self.bitmaps()?.to_bytes()?)?;
                Some(entry(&self.root, name)?)
            }
        };
        let checkpoint_name = "incremental/0.checkpoint";
        let bytes = checkpoint(self.versions.1)?.to_bytes()?;
        self.store().put(checkpoint_name, &bytes)?;
        self.manifest.files = files;
        self.manifest.databases.push(DatabaseLink {
            database: Database {
                name: "db".to_owned(),
                create: "CREATE DATABASE `db` VGROUPS 1".to_owned(),
                precision: Precision::Milliseconds,
            },
            directory: "taosdump.1".to_owned(),
            incremental: self.manifest.base.is_some(),
            vgroups: vec![VgroupLink {
                vgroup: VgId(2),
                from: Version(self.versions.0),
                to: Version(self.versions.1),
                widened: Vec::new(),
            }],
            window: 3_600_000,
            stables: vec![SuperTable {
                name: "s".to_owned(),
                suid: Suid(100),
                schema: schema(),
                comment: None,
                updated: String::new(),
            }],
            dropped_stables: Vec::new(),
            altered_stables: Vec::new(),
            tag_files: self.tag_files,
            row_files: Vec::new(),
            bitmaps,
            tables: tables.finish()?,
            changes: changes.finish()?,
            checkpoint: entry(&self.root, checkpoint_name)?,
            totals,
        });
        self.manifest.finish();
        Ok(store.put(MANIFEST, &self.manifest.to_bytes()?)?)
    }

    /// What the changes say. What is not there any more is `c2`, which `inc1` drops.
    fn bitmaps(&self) -> Result<Bitmaps, Failure> {
        let mut bitmaps = Bitmaps::new(window()?);
        let version = Version(self.versions.1);
        for change in &self.changes {
            let state = match (change.uid, change.create) {
                (None, _) => BlockState::Deleted,
                (Some(_), true) => BlockState::New,
                (Some(_), false) => BlockState::Dirty,
            };
            let mut table = TableBlocks::new(VgId(2), state);
            // All rows lie in the window of key 0.
            if change.file.is_some() {
                table.rows_in(window()?.window_of(Key(0)), version);
            }
            bitmaps.tables.insert(uid(&change.name), table);
        }
        Ok(bitmaps)
    }
}

/// The entry of a file as it is.
pub fn entry(root: &Path, name: &str) -> Result<FileEntry, Failure> {
    let bytes = fs::read(root.join(name))?;
    let digest = Sha256::digest(&bytes);
    Ok(FileEntry {
        path: name.to_owned(),
        bytes: bytes.len() as u64,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        rows: 0,
    })
}
