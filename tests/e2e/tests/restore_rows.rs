//! Restoring links whose rows are in files of many tables: every type, whatever the server does not take, and many small
//! tables. The links are made here, value by value.

// Rows are made by hand here; whatever of them is wrong is a mistake of the test.
#![allow(clippy::expect_used)]

use e2e::{Cell, Connection, Installation, Server, quoted};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{
    Cells, ColumnId, DataType, FileSetId, Key, KeySpan, Precision, RowBatch, Suid, Uid, Value,
    Version, VgId,
    catalogue::{Column, Database, Schema, SuperTable, Table, TagsDigest},
};
use ops::restore::{RestoreError, RestoreJob, RestoreOutcome};
use plan::window::WindowWidth;
use repository::bitmaps::Bitmaps;
use repository::link::{
    DatabaseLink, Link, ListWriter, MANIFEST, Manifest, RowFile, TableChange, TagFile, Totals,
    VgroupLink,
};
use rows::{
    arrow::{Layout, Origin},
    avro,
    parquet::{FileWriter, RowsWriter},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
};
use store::{Directory, FileEntry, Hashing, Store};
use tempfile::TempDir;

type Story = fn(&Bench<'_>) -> Result<(), Failed>;

const STORIES: &[(&str, Story)] = &[
    ("values_of_every_type_come_back", types),
    ("what_fits_no_type_is_written_or_counted", raw),
    ("rows_past_keep_are_counted_and_the_others_written", keep),
    ("composite_keys_and_wide_rows_come_back", wide),
    (
        "only_rows_in_the_spans_of_changed_tables_are_written",
        spans,
    ),
    ("a_link_follows_another_one_and_tables_come_and_go", chain),
    ("fewer_rows_than_the_list_says_are_an_error", fewer),
    ("a_file_with_other_columns_fails_its_tables", other_columns),
    ("a_table_that_is_gone_fails_alone", gone),
    ("ten_thousand_small_tables_come_back", many),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    let skip = installation.is_err();
    let shared: Arc<Mutex<Option<Server>>> = Arc::default();
    let trials = STORIES.iter().map(|(name, story)| {
        let (installation, shared) = (installation.clone(), Arc::clone(&shared));
        let test = move || {
            let mut server = shared
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            let server = match &mut *server {
                Some(server) => server,
                none => none.insert(Server::start(&installation?)?),
            };
            let bench = Bench {
                server,
                c: server.connect()?,
                database: (*name).to_owned(),
                dir: tempfile::tempdir()?,
            };
            let outcome = story(&bench);
            let drop = format!("drop database if exists {}", quoted(&bench.database));
            bench.c.execute(&drop)?;
            outcome
        };
        Trial::test(*name, test).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A database that links are restored to.
struct Bench<'s> {
    server: &'s Server,
    c: Connection,
    database: String,
    dir: TempDir,
}

impl Bench<'_> {
    fn library(&self) -> Result<server::Library, Failed> {
        let library = self.server.installation().library_dir().join("libtaos.so");
        Ok(server::Library::load(
            &library,
            Some(&self.server.config_dir()),
        )?)
    }

    fn login(&self) -> server::Login {
        server::Login {
            host: Some("localhost".to_owned()),
            port: self.server.port(),
            ..server::Login::default()
        }
    }

    fn restore(&self, links: &[PathBuf]) -> Result<Result<RestoreOutcome, RestoreError>, Failed> {
        let store = |link: &PathBuf| Arc::new(Directory::new(link)) as Arc<dyn Store>;
        let job = RestoreJob {
            login: self.login(),
            links: links.iter().map(store).collect(),
            databases: Vec::new(),
            rename: BTreeMap::new(),
            options: BTreeMap::new(),
            threads: 2,
            batch: 16_384,
            worth_options: ops::restore::WORTH_ROWS,
        };
        Ok(ops::restore::run(&job, &self.library()?, &()))
    }

    /// Restores links, of which nothing may be missing; how many rows that wrote.
    fn restore_all(&self, links: &[PathBuf]) -> Result<u64, Failed> {
        let outcome = self.restore(links)??;
        match outcome.failures.is_empty() && outcome.incomplete.is_empty() {
            true => Ok(outcome.rows),
            false => Err(format!("{outcome:?}").into()),
        }
    }

    fn rows(&self, table: &str) -> Result<Vec<Vec<Cell>>, Failed> {
        self.c.execute("reset query cache")?;
        let path = format!("{}.{}", quoted(&self.database), quoted(table));
        let mut rows = self.c.rows(&format!("select * from {path}"))?;
        rows.sort();
        Ok(rows)
    }

    fn expect(&self, table: &str, rows: &[Vec<Cell>]) -> Result<(), Failed> {
        let found = self.rows(table)?;
        let mut rows = rows.to_vec();
        rows.sort();
        if found == rows {
            return Ok(());
        }
        let differs = found.iter().zip(&rows).find(|(a, b)| a != b);
        let (found, expected) = (found.len(), rows.len());
        Err(
            format!("{table}: {found} rows, not {expected}; the first that differs: {differs:?}")
                .into(),
        )
    }

    fn count(&self, table: &str) -> Result<String, Failed> {
        let path = format!("{}.{}", quoted(&self.database), quoted(table));
        let rows = self.c.query(&format!("select count(*) from {path}"))?;
        Ok(rows.concat().concat())
    }

    fn link(&self, name: &str) -> Result<Making, Failed> {
        Making::new(self.dir.path().join(name), &self.database)
    }
}

/// A link that is being made.
struct Making {
    root: PathBuf,
    database: String,
    create: String,
    base: Option<PathBuf>,
    versions: (i64, i64),
    stables: Vec<SuperTable>,
    tables: Vec<Table>,
    changes: Vec<TableChange>,
    row_files: Vec<RowFile>,
}

fn schema(columns: &[(&str, &str)]) -> Schema {
    let column = |((name, sql), id): (&(&str, &str), i64)| Column {
        name: (*name).to_owned(),
        column_type: sql
            .trim_end_matches(" key")
            .parse()
            .expect("a type of TDengine"),
        id: Some(id),
        key: sql.ends_with(" key"),
        coding: None,
    };
    Schema {
        columns: columns.iter().zip(1..).map(column).collect(),
        tags: Vec::new(),
        options: String::new(),
    }
}

impl Making {
    fn new(root: PathBuf, database: &str) -> Result<Self, Failed> {
        std::fs::create_dir_all(&root)?;
        Ok(Self {
            root,
            database: database.to_owned(),
            create: format!("CREATE DATABASE `{database}` VGROUPS 2 KEEP 36500"),
            base: None,
            versions: (0, 10),
            stables: Vec::new(),
            tables: Vec::new(),
            changes: Vec::new(),
            row_files: Vec::new(),
        })
    }

    fn store(&self) -> Directory {
        Directory::new(&self.root)
    }

    /// A super table with a tag, of which each child has its uid.
    fn stable(
        &mut self,
        bench: &Bench<'_>,
        name: &str,
        columns: &[(&str, &str)],
    ) -> Result<(), Failed> {
        // As the server would describe it.
        let scratch = "scratch";
        let table = format!("{scratch}.{}", quoted(name));
        let words = columns.iter();
        let words = words.map(|(name, sql)| format!("{} {sql}", quoted(name)));
        let words: Vec<String> = words.collect();
        bench
            .c
            .execute(&format!("create database if not exists {scratch}"))?;
        let create = format!("create stable {table} ({}) tags (nr int)", words.join(", "));
        bench.c.execute(&create)?;
        let connection = bench.library()?.connect(&bench.login())?;
        let described = server::catalogue::schema(&connection, scratch, name, None)?;
        bench.c.execute(&format!("drop stable {table}"))?;
        let mut schema = described.ok_or("the super table is gone")?;
        for (column, id) in schema.columns.iter_mut().zip(1..) {
            column.id = Some(id);
        }
        self.stables.push(SuperTable {
            name: name.to_owned(),
            suid: Suid(100),
            schema,
            comment: None,
            updated: String::new(),
        });
        Ok(())
    }

    fn table(&mut self, name: &str, uid: i64, stable: Option<&str>, columns: &[(&str, &str)]) {
        self.tables.push(Table {
            name: name.to_owned(),
            uid: Uid(uid),
            vgroup: VgId(2),
            stable: stable.map(Into::into),
            tags: stable.map(|_| TagsDigest([0; 16])),
            schema: stable.is_none().then(|| Box::new(schema(columns))),
            ttl: 0,
            comment: None,
        });
    }

    /// Creates a table with so many rows in the files.
    fn created(&mut self, name: &str, uid: i64, rows: usize) {
        self.changes.push(TableChange {
            uid: Some(Uid(uid)),
            create: true,
            spans: vec![KeySpan::ALL],
            rows: rows as u64,
            ..TableChange::named(name)
        });
    }

    /// A normal table with these rows.
    fn normal(
        &mut self,
        name: &str,
        columns: &[(&str, &str)],
        rows: &[Vec<Cell>],
    ) -> Result<(), Failed> {
        let uid = self.tables.len() as i64 + 1;
        self.table(name, uid, None, columns);
        self.created(name, uid, rows.len());
        self.rows(None, 1, columns, &[(name, uid, rows)])
    }

    /// Writes a file with rows of tables.
    fn rows(
        &mut self,
        stable: Option<&str>,
        file_set: i32,
        columns: &[(&str, &str)],
        tables: &[(&str, i64, &[Vec<Cell>])],
    ) -> Result<(), Failed> {
        let schema = schema(columns);
        let origin = Origin {
            stable: stable.map(str::to_owned),
            suid: Suid(stable.map_or(0, |_| 100)),
            vgroup: VgId(2),
            file_set: Some(FileSetId(file_set)),
            precision: Precision::Milliseconds,
        };
        let store = self.store();
        let before = self.row_files.len();
        let mut writer = RowsWriter::new(Layout::new(&schema, origin)?, |number, layout| {
            let name = format!("rows/{}.parquet", before + number);
            FileWriter::create(&store, &name, layout)
        });
        let names: BTreeMap<Uid, &str> = tables
            .iter()
            .map(|(name, uid, _)| (Uid(*uid), *name))
            .collect();
        for (_, uid, rows) in tables {
            for rows in rows.chunks(4_000) {
                writer.write(batch(&schema, Uid(*uid), rows), &|uid| {
                    names.get(&uid).copied()
                })?;
            }
        }
        for file in writer.finish()? {
            self.row_files.push(RowFile {
                stable: stable.map(str::to_owned),
                vgroup: VgId(2),
                file_set: Some(FileSetId(file_set)),
                file,
            });
        }
        Ok(())
    }

    fn finish(self) -> Result<PathBuf, Failed> {
        let store = self.store();
        let base = self.base.clone();
        let base = base.map(|base| Link::open(Arc::new(Directory::new(base))));
        let base = base.transpose()?.as_ref().map(Link::as_base);
        let mut manifest = Manifest::new("4242".into(), "3.3.7.5".into(), base);
        let mut tag_files = Vec::new();
        for stable in &self.stables {
            let layout = avro::Layout::tags(&self.database, vec![DataType::Int], BTreeSet::new())?;
            let name = format!("{}.avro-tbtags", stable.name);
            let compression = avro::Compression::Null;
            let mut writer = avro::FileWriter::create(&store, &name, &layout, compression)?;
            let children = self.tables.iter();
            for child in children.filter(|table| table.stable.as_deref() == Some(&*stable.name)) {
                let is_new = |change: &&TableChange| change.name == child.name && change.create;
                if self.changes.iter().any(|change| is_new(&change)) {
                    writer.append(&[&stable.name, &child.name], &|_| Value::Int(child.uid.0))?;
                }
            }
            tag_files.push(TagFile {
                stable: stable.name.clone(),
                file: writer.finish()?,
            });
        }
        let mut tables = ListWriter::create(&store, "incremental/0.tables.zst".into())?;
        self.tables.iter().try_for_each(|table| tables.add(table))?;
        let mut changes = ListWriter::create(&store, "incremental/0.changes.zst".into())?;
        self.changes
            .iter()
            .try_for_each(|change| changes.add(change))?;
        store.put("incremental/0.checkpoint", b"")?;
        let bitmaps = bitmaps(&store)?;
        manifest.databases.push(DatabaseLink {
            database: Database {
                name: self.database.clone(),
                create: self.create,
                precision: Precision::Milliseconds,
            },
            directory: "taosdump.1".to_owned(),
            incremental: manifest.base.is_some(),
            vgroups: vec![VgroupLink {
                vgroup: VgId(2),
                from: Version(self.versions.0),
                to: Version(self.versions.1),
                widened: Vec::new(),
            }],
            window: 3_600_000,
            stables: self.stables,
            dropped_stables: Vec::new(),
            altered_stables: Vec::new(),
            tag_files,
            row_files: self.row_files,
            bitmaps: Some(bitmaps),
            tables: tables.finish()?,
            changes: changes.finish()?,
            checkpoint: FileEntry {
                path: "incremental/0.checkpoint".to_owned(),
                bytes: 0,
                sha256: NOTHING.to_owned(),
                rows: 0,
            },
            totals: Totals::default(),
        });
        manifest.finish();
        store.put(MANIFEST, &manifest.to_bytes()?)?;
        Ok(self.root)
    }
}

/// Bitmaps of nothing, which a restore does not read.
fn bitmaps(store: &Directory) -> Result<FileEntry, Failed> {
    let window = WindowWidth::from_ticks(3_600_000).ok_or("no width")?;
    let name = "incremental/0.bitmaps".to_owned();
    let mut file = Hashing::new(store.create(&name)?);
    file.write_all(&Bitmaps::new(window).to_bytes()?)?;
    file.flush()?;
    Ok(file.finish(name, 0).1)
}

/// The SHA-256 of no bytes.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Rows as the server's files would have them.
fn batch(schema: &Schema, uid: Uid, rows: &[Vec<Cell>]) -> RowBatch {
    let key = |row: &Vec<Cell>| match row[0] {
        Cell::Time(key) => Key(key),
        _ => panic!("a row begins with its key"),
    };
    let columns = schema.columns.iter().enumerate().skip(1);
    let columns = columns.map(|(at, column)| {
        let data_type = column.column_type.data_type;
        let mut cells = Cells::new(
            ColumnId(column.id.expect("columns here have ids") as i16),
            data_type,
        );
        for row in rows {
            let stored = stored(&row[at], data_type, column.column_type.scale());
            let cell = stored
                .as_deref()
                .map_or(model::Cell::Null, model::Cell::Value);
            cells.push(cell).expect("short cells");
        }
        cells
    });
    RowBatch {
        suid: Suid(0),
        tables: vec![(uid, rows.len())],
        keys: rows.iter().map(key).collect(),
        versions: vec![Version(5); rows.len()],
        columns: columns.collect(),
    }
}

fn stored(cell: &Cell, data_type: DataType, scale: u8) -> Option<Vec<u8>> {
    let width = data_type.stored_width().unwrap_or(8);
    Some(match cell {
        Cell::Null => return None,
        Cell::Bool(value) => vec![(*value).into()],
        Cell::Int(value) | Cell::Time(value) => value.to_le_bytes()[..width].to_vec(),
        Cell::Unsigned(value) => value.to_le_bytes()[..width].to_vec(),
        Cell::Float(bits) => bits.to_le_bytes().to_vec(),
        Cell::Double(bits) => bits.to_le_bytes().to_vec(),
        Cell::Decimal(text) => {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            let digits = format!("{whole}{part:0<width$}", width = usize::from(scale));
            let digits: i128 = digits.parse().expect("digits");
            digits.to_le_bytes()[..width].to_vec()
        }
        Cell::Text(bytes) if data_type == DataType::Nchar => {
            let text = std::str::from_utf8(bytes).expect("UTF-8");
            text.chars()
                .flat_map(|c| u32::from(c).to_le_bytes())
                .collect()
        }
        // As they are, also if they are no characters.
        Cell::Text(bytes) | Cell::Bytes(bytes) => bytes.clone(),
    })
}

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

/// When rows begin.
const BEGIN: i64 = 1_700_000_000_000;

const TYPES: [(&str, &str); 21] = [
    ("ts", "TIMESTAMP"),
    ("b", "BOOL"),
    ("i8", "TINYINT"),
    ("i16", "SMALLINT"),
    ("i32", "INT"),
    ("i64", "BIGINT"),
    ("u8", "TINYINT UNSIGNED"),
    ("u16", "SMALLINT UNSIGNED"),
    ("u32", "INT UNSIGNED"),
    ("u64", "BIGINT UNSIGNED"),
    ("f", "FLOAT"),
    ("d", "DOUBLE"),
    ("t", "TIMESTAMP"),
    ("v?", "VARCHAR(40)"),
    ("nc", "NCHAR(20)"),
    ("vb", "VARBINARY(20)"),
    ("g`", "GEOMETRY(100)"),
    ("d64", "DECIMAL(12, 3)"),
    ("d128", "DECIMAL(38, 10)"),
    ("all_null", "BIGINT"),
    ("blob", "BLOB"),
];

/// A row of every type: of its smallest or largest values, or of NULLs here and there.
fn of_every_type(i: i64) -> Vec<Cell> {
    let point = [
        &[1, 1, 0, 0, 0][..],
        &1.5_f64.to_le_bytes(),
        &(-2.0_f64).to_le_bytes(),
    ]
    .concat();
    let pick = |a: Cell, b: Cell| match i % 3 {
        0 => a,
        1 => b,
        _ => Cell::Null,
    };
    let mut row = vec![
        Cell::Time(BEGIN + i),
        pick(Cell::Bool(true), Cell::Bool(false)),
        pick(Cell::Int(i8::MIN.into()), Cell::Int(i8::MAX.into())),
        pick(Cell::Int(i16::MIN.into()), Cell::Int(i16::MAX.into())),
        pick(Cell::Int(i32::MIN.into()), Cell::Int(i32::MAX.into())),
        pick(Cell::Int(i64::MIN), Cell::Int(i64::MAX)),
        pick(Cell::Unsigned(0), Cell::Unsigned(u8::MAX.into())),
        pick(Cell::Unsigned(0), Cell::Unsigned(u16::MAX.into())),
        pick(Cell::Unsigned(0), Cell::Unsigned(u32::MAX.into())),
        pick(Cell::Unsigned(0), Cell::Unsigned(u64::MAX)),
        pick(
            Cell::Float(f32::NAN.to_bits()),
            Cell::Float((-0.0_f32).to_bits()),
        ),
        pick(
            Cell::Double(f64::NEG_INFINITY.to_bits()),
            Cell::Double(1e300_f64.to_bits()),
        ),
        pick(Cell::Time(-5), Cell::Time(i)),
        pick(text(&format!("text {i}")), text("a\0b")),
        pick(text("\u{4e2d}\u{1f600}"), text("")),
        pick(Cell::Bytes(vec![0, 255]), Cell::Bytes(Vec::new())),
        pick(Cell::Bytes(point), Cell::Null),
        pick(
            Cell::Decimal("-123456789.001".into()),
            Cell::Decimal("0.500".into()),
        ),
        pick(
            Cell::Decimal("-1234567890123456789012345678.0123456789".into()),
            Cell::Decimal("1.5000000000".into()),
        ),
        Cell::Null,
        pick(Cell::Bytes(vec![7; 5_000]), Cell::Bytes(Vec::new())),
    ];
    // NULLs in some columns only.
    for (at, cell) in row.iter_mut().enumerate().skip(1) {
        if (i + at as i64) % 7 == 0 {
            *cell = Cell::Null;
        }
    }
    row
}

fn types(bench: &Bench<'_>) -> Result<(), Failed> {
    let rows: Vec<Vec<Cell>> = (0..1_000).map(of_every_type).collect();
    let mut link = bench.link("full")?;
    // With BLOBs and without, as normal tables and as children.
    link.normal("with", &TYPES, &rows)?;
    let without = |rows: &[Vec<Cell>]| -> Vec<Vec<Cell>> {
        rows.iter().map(|row| row[..20].to_vec()).collect()
    };
    link.normal("without", &TYPES[..20], &without(&rows))?;
    link.stable(bench, "s", &TYPES[..20])?;
    let (first, second) = (without(&rows[..10]), without(&rows[10..]));
    for (name, uid, rows) in [("c1", 11, &first), ("c2", 12, &second)] {
        link.table(name, uid, Some("s"), &[]);
        link.created(name, uid, rows.len());
    }
    link.rows(
        Some("s"),
        1,
        &TYPES[..20],
        &[("c1", 11, &first), ("c2", 12, &second)],
    )?;
    let link = link.finish()?;
    assert_eq!(bench.restore_all(&[link])?, 3_000);
    bench.expect("with", &rows)?;
    bench.expect("without", &without(&rows))?;
    bench.expect("c1", &first)?;
    bench.expect("c2", &second)
}

fn raw(bench: &Bench<'_>) -> Result<(), Failed> {
    let columns = [
        ("ts", "TIMESTAMP"),
        ("v", "VARCHAR(10)"),
        ("nc", "NCHAR(4)"),
        ("d", "DECIMAL(4, 1)"),
    ];
    let row = |i: i64, v: Cell, nc: Cell, d: Cell| vec![Cell::Time(BEGIN + i), v, nc, d];
    let plain = row(0, text("a"), text("\u{4e2d}"), Cell::Decimal("1.5".into()));
    let bytes = row(1, Cell::Text(vec![0xff, 0xfe]), text("b"), Cell::Null);
    let mut link = bench.link("full")?;
    link.normal("n", &columns, &[plain.clone(), bytes.clone()])?;
    // A value too long for its column, in the middle of many.
    let mut long: Vec<Vec<Cell>> = (0..3_000)
        .map(|i| row(i, text("fits"), Cell::Null, Cell::Null))
        .collect();
    long[1_234][1] = text("far too long");
    link.normal("long", &columns, &long)?;
    let link = link.finish()?;
    let outcome = bench.restore(&[link])??;
    assert_eq!(
        (outcome.failures.len(), outcome.rows),
        (0, 3_001),
        "{outcome:?}"
    );
    assert!(
        outcome
            .incomplete
            .concat()
            .contains("1 of its rows can't be written"),
        "{outcome:?}"
    );
    bench.expect("n", &[plain, bytes])?;
    long.remove(1_234);
    bench.expect("long", &long)
}

fn keep(bench: &Bench<'_>) -> Result<(), Failed> {
    let columns = [("ts", "TIMESTAMP"), ("i", "INT")];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let day = 86_400_000;
    // No row is near the day that is kept or not.
    let start = now.as_millis() as i64 - 2_000 * day - day / 2;
    let rows: Vec<Vec<Cell>> = (0..2_000)
        .map(|i| vec![Cell::Time(start + i * day), Cell::Int(i)])
        .collect();
    let mut link = bench.link("full")?;
    link.create = format!("CREATE DATABASE `{}` VGROUPS 2 KEEP 1000d", bench.database);
    link.stable(bench, "s", &columns)?;
    let recent = &rows[1_500..];
    let tables: [(&str, i64, &[Vec<Cell>]); 3] = [
        ("both", 1, &rows),
        ("old", 2, &rows[..500]),
        ("recent", 3, recent),
    ];
    for (name, uid, rows) in tables {
        link.table(name, uid, Some("s"), &[]);
        link.created(name, uid, rows.len());
    }
    link.rows(Some("s"), 1, &columns, &tables)?;
    let link = link.finish()?;
    let outcome = bench.restore(&[link])??;
    assert!(outcome.failures.is_empty(), "{outcome:?}");
    let (kept, recent_kept) = (bench.rows("both")?, bench.rows("recent")?);
    assert!((990..=1_010).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept, rows[rows.len() - kept.len()..]);
    assert_eq!(recent_kept, recent);
    assert_eq!(bench.count("old")?, "0");
    assert_eq!(outcome.rows, (kept.len() + recent.len()) as u64);
    let expired = 2_000 - kept.len() + 500;
    let said = format!("{expired} rows of ");
    assert!(
        outcome.incomplete.concat().starts_with(&said),
        "{outcome:?}"
    );
    Ok(())
}

fn wide(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut link = bench.link("full")?;
    let composite = [("ts", "TIMESTAMP"), ("k", "VARCHAR(10) key"), ("i", "INT")];
    let keyed: Vec<Vec<Cell>> = (0..100)
        .map(|i| {
            vec![
                Cell::Time(BEGIN + i / 4),
                text(&format!("k{}", i % 4)),
                Cell::Int(i),
            ]
        })
        .collect();
    link.normal("composite", &composite, &keyed)?;
    let wide = [
        ("ts", "TIMESTAMP"),
        ("v", "VARCHAR(60000)"),
        ("w", "NCHAR(1000)"),
    ];
    let long: Vec<Vec<Cell>> = (0..500)
        .map(|i| {
            let length = [60_000, 0, 30_000][i as usize % 3];
            vec![
                Cell::Time(BEGIN + i),
                text(&"x".repeat(length)),
                text(&"\u{4e2d}".repeat(1_000)),
            ]
        })
        .collect();
    link.normal("wide", &wide, &long)?;
    let link = link.finish()?;
    assert_eq!(bench.restore_all(&[link])?, 600);
    bench.expect("composite", &keyed)?;
    bench.expect("wide", &long)
}

const PLAIN: [(&str, &str); 2] = [("ts", "TIMESTAMP"), ("i", "INT")];

fn plain(keys: std::ops::Range<i64>) -> Vec<Vec<Cell>> {
    keys.map(|i| vec![Cell::Time(BEGIN + i), Cell::Int(i)])
        .collect()
}

fn keys(first: i64, last: i64) -> KeySpan {
    KeySpan {
        first: Key(BEGIN + first),
        last: Key(BEGIN + last),
    }
}

fn spans(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut link = bench.link("full")?;
    link.stable(bench, "s", &PLAIN)?;
    let rows = plain(0..100);
    for (name, uid) in [("a", 1), ("b", 2), ("c", 3)] {
        link.table(name, uid, Some("s"), &[]);
        link.created(name, uid, 0);
    }
    link.changes[0].spans = vec![keys(10, 19), keys(90, 200)];
    link.changes[0].rows = 20;
    link.changes[1].spans.clear();
    link.changes[2].rows = 100;
    let tables: Vec<(&str, i64, &[Vec<Cell>])> = vec![
        ("a", 1, &rows),
        ("b", 2, &rows),
        ("c", 3, &rows),
        ("unknown", 4, &rows),
    ];
    link.rows(Some("s"), 1, &PLAIN, &tables)?;
    let link = link.finish()?;
    assert_eq!(bench.restore_all(&[link])?, 120);
    bench.expect("a", &[&rows[10..20], &rows[90..]].concat())?;
    bench.expect("b", &[])?;
    bench.expect("c", &rows)
}

fn chain(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut full = bench.link("full")?;
    full.normal("stays", &PLAIN, &plain(0..100))?;
    full.normal("goes", &PLAIN, &plain(0..10))?;
    let full = full.finish()?;
    let mut next = bench.link("next")?;
    next.base = Some(full.clone());
    next.versions = (10, 20);
    next.table("stays", 1, None, &PLAIN);
    next.table("comes", 3, None, &PLAIN);
    next.changes.push(TableChange {
        drop: true,
        ..TableChange::named("goes")
    });
    next.created("comes", 3, 5);
    // Rows 0 to 9 are gone but for three, and there are new ones.
    next.changes.push(TableChange {
        uid: Some(Uid(1)),
        deletes: vec![keys(0, 9), keys(100, 109)],
        spans: vec![keys(0, 9), keys(100, 109)],
        rows: 13,
        ..TableChange::named("stays")
    });
    let (old, new) = (plain(3..6), plain(100..110));
    next.rows(
        None,
        2,
        &PLAIN,
        &[("stays", 1, &new), ("comes", 3, &plain(0..5))],
    )?;
    next.rows(None, 1, &PLAIN, &[("stays", 1, &old)])?;
    let next = next.finish()?;
    assert_eq!(bench.restore_all(&[full, next])?, 128);
    bench.expect("stays", &[plain(3..6), plain(10..110)].concat())?;
    bench.expect("comes", &plain(0..5))?;
    assert!(bench.rows("goes").is_err());
    Ok(())
}

/// The one failure of a restore.
fn failure(bench: &Bench<'_>, link: PathBuf) -> Result<String, Failed> {
    let outcome = bench.restore(&[link])??;
    match outcome.failures.as_slice() {
        [failure] => Ok(failure.clone()),
        _ => Err(format!("{outcome:?}").into()),
    }
}

fn says(failure: &str, words: &[&str]) -> Result<(), Failed> {
    match words.iter().all(|word| failure.contains(word)) {
        true => Ok(()),
        false => Err(failure.to_owned().into()),
    }
}

fn fewer(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut link = bench.link("full")?;
    link.normal("whole", &PLAIN, &plain(0..7))?;
    link.normal("lacks", &PLAIN, &plain(0..7))?;
    link.changes[1].rows = 8;
    let failure = failure(bench, link.finish()?)?;
    says(&failure, &["lacks", "hold 7 rows of it", "says 8"])?;
    bench.expect("whole", &plain(0..7))
}

fn other_columns(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut link = bench.link("full")?;
    link.normal("right", &PLAIN, &plain(0..7))?;
    link.normal("wrong", &PLAIN, &plain(0..7))?;
    link.tables[1].schema = Some(Box::new(schema(&[("ts", "TIMESTAMP"), ("j", "INT")])));
    let failure = failure(bench, link.finish()?)?;
    says(&failure, &["wrong", "other columns"])?;
    bench.expect("right", &plain(0..7))?;
    bench.expect("wrong", &[])
}

fn gone(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut full = bench.link("full")?;
    full.stable(bench, "s", &PLAIN)?;
    let names = ["a", "b", "c"];
    for (name, uid) in names.iter().zip(1..) {
        full.table(name, uid, Some("s"), &[]);
        full.created(name, uid, 0);
    }
    let full = full.finish()?;
    bench.restore_all(std::slice::from_ref(&full))?;
    bench
        .c
        .execute(&format!("drop table {}.b", quoted(&bench.database)))?;
    let mut next = bench.link("next")?;
    next.base = Some(full);
    next.versions = (10, 20);
    next.stable(bench, "s", &PLAIN)?;
    let rows = plain(0..50);
    for (name, uid) in names.iter().zip(1..) {
        next.table(name, uid, Some("s"), &[]);
        next.created(name, uid, 50);
    }
    for change in &mut next.changes {
        change.create = false;
    }
    let tables: Vec<(&str, i64, &[Vec<Cell>])> = names
        .iter()
        .zip(1..)
        .map(|(name, uid)| (*name, uid, rows.as_slice()))
        .collect();
    next.rows(Some("s"), 1, &PLAIN, &tables)?;
    let failure = failure(bench, next.finish()?)?;
    says(&failure, &["b"])?;
    bench.expect("a", &rows)?;
    bench.expect("c", &rows)
}

fn many(bench: &Bench<'_>) -> Result<(), Failed> {
    let mut link = bench.link("full")?;
    link.stable(bench, "s", &PLAIN)?;
    let rows: Vec<Vec<Vec<Cell>>> = (0..10_000).map(|i| plain(i..i + 1 + i % 5)).collect();
    let names: Vec<String> = (0..10_000).map(|i| format!("t{i}")).collect();
    let mut tables: Vec<(&str, i64, &[Vec<Cell>])> = Vec::new();
    for ((name, uid), rows) in names.iter().zip(1..).zip(&rows) {
        link.table(name, uid, Some("s"), &[]);
        link.created(name, uid, rows.len());
        tables.push((name, uid, rows));
    }
    link.rows(Some("s"), 1, &PLAIN, &tables)?;
    let link = link.finish()?;
    assert_eq!(bench.restore_all(&[link])?, 30_000);
    assert_eq!(bench.count("s")?, "30000");
    for i in [0, 1, 4_999, 9_999] {
        bench.expect(&names[i], &rows[i])?;
    }
    Ok(())
}
