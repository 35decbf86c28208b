//! Rows straight from the committed files and the log, cell by cell against what SQL says: every type in every encoding, and
//! random histories, also of a server that was killed.
//!
//! `E2E_HISTORIES` sets the number of histories (default 4), `E2E_SEED` the seed of the first.

use bitmap::BlockState;
use capture::{DataDirs, RowView, Unread, WantedRows};
use e2e::{Cell, Connection, History, Installation, Server, Taosdump, Workbench, quoted, setting};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{ColumnId, Key, KeySpan, RowBatch, Suid, TableId, Uid, Value, catalogue::Column};
use rand::Rng;
use repository::link::Link;
use rows::stored::ShownCells;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use store::{Directory, Store as _};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    let skip = installation.is_err();
    let of_types = installation.clone();
    let tool = Taosdump::installed();
    let no_tool = tool.is_err();
    let recording = tool.clone();
    let trials = vec![
        Trial::test("bitmaps_name_the_blocks_that_a_link_changes", move || {
            let (installation, taosdump) = recording?;
            recorded_links(&installation, &taosdump)
        })
        .with_ignored_flag(no_tool),
        Trial::test("every_type_in_every_encoding", move || types(&of_types?))
            .with_ignored_flag(skip),
        Trial::test("random_histories", move || histories(&installation?)).with_ignored_flag(skip),
        Trial::test(
            "a_link_made_under_load_is_the_state_at_its_watermark",
            move || {
                let (installation, taosdump) = tool?;
                under_load(&installation, &taosdump)
            },
        )
        .with_ignored_flag(no_tool),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Types, the encodings that the server takes for them, and some values as SQL.
const TYPES: [(&str, &[&str], &[&str]); 18] = [
    ("bool", &["bit-packing"], &["true", "false"]),
    ("tinyint", &["simple8b"], &["-128", "127", "0"]),
    ("smallint", &["simple8b"], &["-32768", "32767", "5"]),
    ("int", &["simple8b"], &["-2147483648", "2147483647", "9"]),
    (
        "bigint",
        &["simple8b", "delta-i"],
        &["-9223372036854775808", "9223372036854775807", "1"],
    ),
    ("tinyint unsigned", &["simple8b"], &["0", "255", "200"]),
    ("smallint unsigned", &["simple8b"], &["0", "65535", "40000"]),
    (
        "int unsigned",
        &["simple8b"],
        &["0", "4294967295", "3000000000"],
    ),
    (
        "bigint unsigned",
        &["simple8b", "delta-i"],
        &["0", "18446744073709551615", "7"],
    ),
    ("float", &["delta-d"], &["0", "-0.5", "3.4e38", "1e-30"]),
    ("double", &["delta-d"], &["0", "-1.5e300", "3.25", "1e-300"]),
    ("timestamp", &["delta-i"], &["0", "1700000000000", "-5"]),
    (
        "varchar(70)",
        &["disabled"],
        &[
            "''",
            "'text'",
            "'\u{4e2d}\u{6587} and much more text than that, again and again'",
        ],
    ),
    (
        "nchar(20)",
        &["disabled"],
        &["''", "'\u{4e2d}\u{6587}'", "'\u{1f600}a'"],
    ),
    (
        "varbinary(20)",
        &["disabled"],
        &["'\\x'", "'\\x00ff00'", "'\\x0102'"],
    ),
    (
        "geometry(100)",
        &["disabled"],
        &[
            "'POINT (1 2)'",
            "'LINESTRING (0 0, 1 1)'",
            "'POINT (-3.5 4)'",
        ],
    ),
    (
        "decimal(12, 3)",
        &["disabled"],
        &["0", "-123456789.001", "999999999.999"],
    ),
    (
        "decimal(38, 10)",
        &["disabled"],
        &["0", "-1234567890123456789012345678.0123456789", "1.5"],
    ),
];

const COMPRESSORS: [&str; 6] = ["lz4", "zlib", "zstd", "xz", "tsz", "disabled"];

fn types(installation: &Installation) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let c = server.connect()?;
    c.execute(
        "create database types vgroups 1 duration 100d stt_trigger 2 minrows 10 maxrows 200",
    )?;
    let mut tables = Vec::new();
    for (number, (data_type, encoders, values)) in TYPES.iter().enumerate() {
        for (e, encoder) in encoders.iter().chain(["disabled"].iter()).enumerate() {
            for (k, compressor) in COMPRESSORS.iter().enumerate() {
                let table = format!("types.t{number}_{e}_{k}");
                let coding = format!("encode '{encoder}' compress '{compressor}' level 'high'");
                let made = c.execute(&format!(
                    "create table {table} (ts timestamp, v {data_type} {coding}, other int)"
                ));
                // The server says which encodings go with a type.
                if made.is_ok() {
                    tables.push((table, values));
                }
            }
        }
    }
    if tables.len() < 4 * TYPES.len() {
        return Err(format!("the server took only {} tables", tables.len()).into());
    }
    // Blocks of values only, of NULLs only, of both, with cells that are not set, and of no value at all.
    for round in 0..3 {
        for (table, values) in &tables {
            let mut insert = format!("insert into {table} (ts, v) values");
            let mut other = format!("insert into {table} (ts, other) values");
            for i in 0..420_i64 {
                let key = 1_700_000_000_000 + i * 1000 + round;
                let value = values[(i * 7 + round) as usize % values.len()];
                match (i / 200, round) {
                    (0, _) => insert.push_str(&format!("({key}, {value})")),
                    (1, 0) if i % 3 == 0 => insert.push_str(&format!("({key}, NULL)")),
                    (1, 0) => insert.push_str(&format!("({key}, {value})")),
                    (1, 1) if i % 2 == 0 => other.push_str(&format!("({key}, {i})")),
                    (1, 1) if i % 5 == 0 => insert.push_str(&format!("({key}, NULL)")),
                    (1, _) => insert.push_str(&format!("({key}, {value})")),
                    (_, 0) => insert.push_str(&format!("({key}, NULL)")),
                    _ => other.push_str(&format!("({key}, {i})")),
                }
            }
            for statement in [insert, other] {
                if statement.ends_with(')') {
                    c.execute(&statement)?;
                }
            }
        }
        // Before they are flushed, what was written is in the log only.
        let logged = compare(&server, &c, "types", &lossy(&tables), View::WithLog)?;
        if logged.left != 0 {
            return Err(format!("{} rows can't be read from the log", logged.left).into());
        }
        c.execute("flush database types")?;
    }
    let compared = compare_settled(&server, &c, "types", &lossy(&tables))?;
    println!(
        "{} tables, {compared} rows, every cell as SQL says",
        tables.len()
    );
    Ok(())
}

/// The tables with the lossy form of tsz, which can't be read: only FLOAT and DOUBLE have it.
fn lossy(tables: &[(String, &&[&str])]) -> BTreeSet<String> {
    tables
        .iter()
        .map(|(table, _)| table.trim_start_matches("types.").to_owned())
        .filter(|table| {
            (table.starts_with("t9_") || table.starts_with("t10_")) && table.ends_with("_4")
        })
        .collect()
}

fn histories(installation: &Installation) -> Result<(), Failed> {
    let count: u64 = setting("E2E_HISTORIES", 4);
    let first = setting("E2E_SEED", rand::rng().random_range(0..1_000_000));
    let started = Instant::now();
    let mut server = Server::start(installation)?;
    let (mut compared, mut crashes, mut failed) = (0, 0, Vec::new());
    let (mut logged, mut kills) = (Compared::default(), 0);
    for seed in first..first + count {
        let database = format!("r{seed}");
        match history(&mut server, &database, seed, &mut logged) {
            Ok(rows) => {
                compared += rows;
                kills += 1;
            }
            Err(_) if server.has_crashed() => {
                crashes += 1;
                server.restart()?;
            }
            Err(problem) => {
                eprintln!("E2E_SEED={seed}: {problem:?}");
                failed.push(seed);
            }
        }
    }
    println!(
        "{count} histories from E2E_SEED={first} in {:.1} s: {compared} rows compared, with the log {}, and {} left to SQL; \
         {kills} servers killed; {crashes} cut short by a crash of the server; failed: {failed:?}",
        started.elapsed().as_secs_f64(),
        logged.rows,
        logged.left
    );
    if logged.left * 4 > logged.rows {
        return Err(format!(
            "{} of {} rows can't be read from the log",
            logged.left, logged.rows
        )
        .into());
    }
    match failed.is_empty() && crashes * 2 <= count {
        true => Ok(()),
        false => Err(format!("failed: seeds {failed:?}, {crashes} crashes").into()),
    }
}

fn history(
    server: &mut Server,
    database: &str,
    seed: u64,
    logged: &mut Compared,
) -> Result<u64, Failed> {
    let mut c = server.connect()?;
    let mut history = History::create(&c, database, seed)?;
    let mut compared = 0;
    for round in 0..4 {
        for _ in 0..25 {
            history.step(&c)?;
        }
        if history.has_wal() {
            logged.add(compare(
                server,
                &c,
                database,
                &BTreeSet::new(),
                View::WithLog,
            )?);
            if round == 2 {
                logged.add(killed(server, &c, database)?);
                c = server.connect()?;
            }
        }
        c.execute(&format!("flush database {}", quoted(database)))?;
        compared += compare_settled(server, &c, database, &BTreeSet::new())?;
    }
    c.execute(&format!("drop database {}", quoted(database)))?;
    Ok(compared)
}

/// Kills the server, and holds what it left against what it said before.
fn killed(server: &mut Server, c: &Connection, database: &str) -> Result<Compared, Failed> {
    let tables = Tables::read(server, database)?;
    let by_sql = tables.by_sql(c)?;
    server.kill();
    let dirs = DataDirs::new(vec![server.data_dir()])?;
    let by_files = tables.by_files(&dirs, View::WithLog)?;
    let outcome = tables.compare(by_sql, by_files, &BTreeSet::new());
    server.restart()?;
    outcome
}

/// Compares once everything is committed, which is not at once.
fn compare_settled(
    server: &Server,
    c: &Connection,
    database: &str,
    lossy: &BTreeSet<String>,
) -> Result<u64, Failed> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match compare(server, c, database, lossy, View::Committed) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(300)),
            outcome => return Ok(outcome?.rows),
        }
    }
}

/// What is read.
#[derive(Clone, Copy, PartialEq)]
enum View {
    Committed,
    WithLog,
}

/// How many rows there are, and how many of them were left to SQL.
#[derive(Clone, Copy, Default)]
struct Compared {
    rows: u64,
    left: u64,
}

impl Compared {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.left += other.left;
    }
}

/// Holds every cell of every table against SQL. Of the committed files only tables of `lossy` may be left out.
fn compare(
    server: &Server,
    c: &Connection,
    database: &str,
    lossy: &BTreeSet<String>,
    view: View,
) -> Result<Compared, Failed> {
    let tables = Tables::read(server, database)?;
    let dirs = DataDirs::new(vec![server.data_dir()])?;
    let by_files = tables.by_files(&dirs, view)?;
    let left = by_files.left.iter().map(|(table, _)| table.uid);
    let unexpected = left
        .filter_map(|uid| tables.tables.get(&uid))
        .find(|(name, _)| !lossy.contains(name));
    if let (View::Committed, Some((name, _))) = (view, unexpected) {
        return Err(format!("{database}: {name} can't be read").into());
    }
    tables.compare(tables.by_sql(c)?, by_files, lossy)
}

/// The tables of a database.
struct Tables {
    database: String,
    wanted: WantedRows,
    /// Name and columns.
    tables: BTreeMap<Uid, (String, Vec<Column>)>,
}

type Rows = BTreeMap<Uid, Vec<Vec<Cell>>>;

/// What files and log say.
#[derive(Default)]
struct ByFiles {
    rows: Rows,
    left: Vec<(TableId, KeySpan)>,
}

impl Tables {
    fn read(server: &Server, database: &str) -> Result<Self, Failed> {
        let own = connected(server)?;
        let catalogue = server::catalogue::read(&own, database)?;
        let mut wanted = WantedRows::new();
        let mut tables = BTreeMap::new();
        for table in catalogue.tables.values() {
            let suid = table
                .stable
                .as_ref()
                .map_or(Suid(0), |stable| catalogue.stables[&**stable].suid);
            let Some(schema) = catalogue.schema_of(table) else {
                return Err(format!("table {} has no schema", table.name).into());
            };
            let uid = table.uid;
            wanted.insert(TableId { suid, uid }, vec![KeySpan::ALL]);
            tables.insert(uid, (table.name.clone(), schema.columns.clone()));
        }
        Ok(Self {
            database: database.to_owned(),
            wanted,
            tables,
        })
    }

    fn by_files(&self, dirs: &DataDirs, view: View) -> Result<ByFiles, Failed> {
        let mut by_files = ByFiles::default();
        for vnode in dirs.vnodes()? {
            if vnode.config()?.database != self.database {
                continue;
            }
            let view = match view {
                View::Committed => RowView::open(&vnode)?,
                View::WithLog => RowView::open_with_log(&vnode)?
                    .ok_or_else(|| format!("{vnode:?}: the log can't be read"))?,
            };
            for (set, _) in view.file_sets() {
                let unread = view.read(set, &self.wanted, &mut |batch| {
                    self.take(&batch, &mut by_files.rows);
                    Ok(())
                })?;
                match unread {
                    Unread::Spans(spans) => by_files.left.extend(spans),
                    Unread::Everything => {
                        let database = &self.database;
                        return Err(format!("{database}: file set {set} can't be read").into());
                    }
                }
            }
        }
        Ok(by_files)
    }

    fn take(&self, batch: &RowBatch, found: &mut Rows) {
        let mut at = 0;
        for (uid, count) in &batch.tables {
            let (_, columns) = &self.tables[uid];
            let shown: Vec<Option<ShownCells>> = columns
                .iter()
                .map(|column| {
                    let id = ColumnId(column.id.unwrap_or_default() as i16);
                    let cells = batch.columns.iter().find(|cells| cells.column == id)?;
                    ShownCells::of(cells.clone(), column.column_type).ok()
                })
                .collect();
            let rows = found.entry(*uid).or_default();
            for row in at..at + count {
                let key = Cell::Time(batch.keys[row].0);
                let cells = shown.iter().zip(columns).skip(1).map(|(shown, column)| {
                    let value = shown.as_ref().map_or(Value::Null, |cells| cells.value(row));
                    cell(value, column)
                });
                rows.push(std::iter::once(key).chain(cells).collect());
            }
            at += count;
        }
    }

    fn by_sql(&self, c: &Connection) -> Result<Rows, Failed> {
        let mut all = Rows::new();
        for (uid, (name, columns)) in &self.tables {
            let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
            let keys = match columns.get(1) {
                Some(column) if column.key => 2,
                _ => 1,
            };
            let rows = c.rows(&format!(
                "select {} from {}.{} order by {}",
                list.join(", "),
                quoted(&self.database),
                quoted(name),
                list[..keys].join(", "),
            ))?;
            all.insert(*uid, rows);
        }
        Ok(all)
    }

    fn compare(
        &self,
        mut by_sql: Rows,
        mut by_files: ByFiles,
        lossy: &BTreeSet<String>,
    ) -> Result<Compared, Failed> {
        let mut compared = Compared::default();
        for (uid, (name, _)) in &self.tables {
            if lossy.contains(name) {
                continue;
            }
            let left: Vec<KeySpan> = by_files
                .left
                .iter()
                .filter(|(table, _)| table.uid == *uid)
                .map(|(_, span)| *span)
                .collect();
            let is_left = |row: &Vec<Cell>| match row.first() {
                Some(Cell::Time(key)) => left
                    .iter()
                    .any(|span| span.overlaps(KeySpan::at(Key(*key)))),
                _ => false,
            };
            // A VARCHAR as second half of a key is ordered in another way by SQL than in the files.
            let mut by_files = by_files.rows.remove(uid).unwrap_or_default();
            let mut by_sql = by_sql.remove(uid).unwrap_or_default();
            compared.rows += by_sql.len() as u64;
            if let Some(row) = by_files.iter().find(|row| is_left(row)) {
                return Err(format!("{name}: {row:?} came although it can't be read").into());
            }
            let all = by_sql.len();
            by_sql.retain(|row| !is_left(row));
            compared.left += (all - by_sql.len()) as u64;
            by_files.sort();
            by_sql.sort();
            if by_files != by_sql {
                let differs = by_files.iter().zip(&by_sql).find(|(a, b)| a != b);
                return Err(format!(
                    "table {}.{name}: {} rows by files, {} by SQL; the first that differs: {differs:?}",
                    self.database,
                    by_files.len(),
                    by_sql.len()
                )
                .into());
            }
        }
        Ok(compared)
    }
}

/// Makes the recorded links with row files, and holds their bitmaps against what was done. With `RECORD_LINKS`, a directory,
/// they are recorded there anew.
fn recorded_links(installation: &Installation, taosdump: &Taosdump) -> Result<(), Failed> {
    const FIRST: i64 = 1_700_000_000_000;
    const DAY: i64 = 86_400_000;
    let server = Server::start(installation)?;
    let mut bench = Workbench::new(&server, taosdump, "d2")?;
    bench
        .sql("create database $ vgroups 1 duration 10d stt_trigger 2 wal_retention_period 3600")?;
    bench.sql(
        "create table $.s (ts timestamp, i int, v varchar(20), d decimal(10, 2), c nchar(8)) tags (t int)",
    )?;
    for table in 1..=3 {
        bench.sql(&format!("create table $.c{table} using $.s tags ({table})"))?;
    }
    bench.sql("create table $.n (ts timestamp, d double, b varbinary(8))")?;
    let second = FIRST + 1_000;
    bench.sql(&format!(
        "insert into $.c1 values ({FIRST}, 1, 'one', 1.25, '\u{4e00}') ({second}, 2, null, null, null) \
         $.c2 values ({FIRST}, 3, 'drei', -0.5, 'x') $.c3 values ({FIRST}, 4, 'gone', 0, '') \
         $.n values ({FIRST}, 0.5, '\\x00ff') ({second}, null, null) ({}, 2.5, '\\x01')",
        FIRST + 2_000
    ))?;
    bench.link(&["--format", "parquet"])?;
    bench.sql(&format!(
        "insert into $.c1 values ({second}, 20, 'two', 2, null) ({}, 5, 'later', null, null)",
        FIRST + DAY
    ))?;
    bench.sql("alter table $.c1 set tag t = 10")?;
    bench.sql(&format!("delete from $.n where ts = {second}"))?;
    bench.sql("drop table $.c3")?;
    bench.link(&["--format", "parquet"])?;
    bench.restore(0..2)?;

    let (new, dirty) = (BlockState::New, BlockState::Dirty);
    let of_rows = |state, days: &[i64]| -> (BlockState, Vec<_>) {
        let blocks = days.iter().map(|day| (FIRST + day * DAY, state));
        (state, blocks.collect())
    };
    let gone = (BlockState::Deleted, Vec::new());
    let expected = [
        vec![
            ("c1", of_rows(new, &[0])),
            ("c2", of_rows(new, &[0])),
            ("c3", of_rows(new, &[0])),
            ("n", of_rows(new, &[0])),
        ],
        vec![
            ("c1", of_rows(dirty, &[0, 1])),
            ("c3", gone),
            ("n", of_rows(dirty, &[0])),
        ],
    ];
    let mut names = BTreeMap::new();
    for (path, expected) in bench.links.iter().zip(expected) {
        let link = Link::open(Arc::new(Directory::new(path)))?;
        let database = link.database("d2").ok_or("no database")?;
        link.tables(database, &mut |table| {
            names.insert(table.uid, table.name);
            Ok(())
        })?;
        let bitmaps = link.bitmaps(database)?.ok_or("no bitmaps")?;
        let newest = database
            .vgroups
            .first()
            .map(|vgroup| (vgroup.from, vgroup.to));
        let (from, to) = newest.ok_or("no vgroup")?;
        let mut found = BTreeMap::new();
        for (uid, table) in &bitmaps.tables {
            let known = expected
                .iter()
                .find(|(name, _)| Some(*name) == names.get(uid).map(String::as_str));
            let (name, (state, keys)) = known.ok_or("an unknown table")?;
            let blocks: Vec<_> = keys
                .iter()
                .map(|(key, state)| (bitmaps.window.window_of(model::Key(*key)), *state))
                .collect();
            let is = table.blocks.iter().map(|block| (block.window, block.state));
            let versions = table.blocks.iter().map(|block| block.version);
            // The first link begins where it ends, as it does not ask what changed.
            let fits = |version| version <= to && (version > from || from == to);
            if table.state != *state
                || is.collect::<Vec<_>>() != blocks
                || !versions.clone().all(fits)
            {
                return Err(format!("{name}: {table:?}, versions {from} to {to}").into());
            }
            found.insert(*name, ());
        }
        if found.len() != expected.len() {
            return Err(format!("{}: only {:?} are there", path.display(), found.keys()).into());
        }
    }
    if let Some(dir) = std::env::var_os("RECORD_LINKS").map(PathBuf::from) {
        for (path, name) in bench.links.iter().zip(["full", "inc"]) {
            let (from, to) = (Directory::new(path), dir.join(name));
            if to.exists() {
                fs::remove_dir_all(&to)?;
            }
            for name in from.names()? {
                let path = to.join(&name);
                fs::create_dir_all(path.parent().ok_or("no directory")?)?;
                fs::write(path, from.get(&name)?)?;
            }
        }
    }
    Ok(())
}

/// How many keys each table has, which are written over and over again.
const SLOTS: u64 = 50;
const TABLES: u64 = 7;

/// One writer numbers its rows, and writes them one after the other to the next key of the next table of one vgroup. So
/// the newest number in a restored database says what every other key must hold.
fn under_load(installation: &Installation, taosdump: &Taosdump) -> Result<(), Failed> {
    let server = Server::start(installation)?;
    let mut bench = Workbench::new(&server, taosdump, "load")?;
    bench.sql("create database $ vgroups 1 stt_trigger 1 buffer 3")?;
    bench.sql("create table $.s (ts timestamp, v bigint, text varchar(400)) tags (t int)")?;
    for table in 0..TABLES {
        bench.sql(&format!("create table $.t{table} using $.s tags ({table})"))?;
    }
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let c = server.connect().map_err(|e| e.to_string())?;
            let filler = "x".repeat(300);
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (table, key) = (number % TABLES, number / TABLES % SLOTS);
                let key = 1_700_000_000_000 + key * 1000;
                c.execute(&format!(
                    "insert into load.t{table} values ({key}, {number}, '{filler}')"
                ))
                .map_err(|e| e.to_string())?;
                written.store(number, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        });
        let outcome = (|| {
            while written.load(Ordering::Relaxed) < 2 * TABLES * SLOTS {
                thread::sleep(Duration::from_millis(50));
            }
            let flush = [&[][..], &["--no-flush"]];
            for (format, how) in [
                ("avro", 0),
                ("parquet", 1),
                ("avro", 1),
                ("parquet", 0),
                ("parquet", 1),
                ("avro", 0),
                ("avro", 1),
            ] {
                let flags = flush[how];
                let before = written.load(Ordering::Relaxed);
                let out = bench.path(&format!("link{}", bench.links.len()));
                bench
                    .try_link(&out, &[&["--format", format], flags].concat())?
                    .expect_code(0)?;
                bench.links.push(out);
                let last = bench.links.len() - 1;
                bench.try_restore(&bench.links[last..])?.expect_code(0)?;
                let newest = state_of(&bench.c, &bench.target())?;
                println!(
                    "{format} {flags:?}: {before} rows were written before it, {newest} are in it"
                );
                if newest < before {
                    return Err(format!(
                        "{format} {flags:?}: {before} rows were written, it has {newest}"
                    ));
                }
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let wrote = writer
            .join()
            .unwrap_or_else(|_| Err("the writer panicked".to_owned()));
        outcome.and(wrote)
    })?;
    Ok(())
}

/// The newest number that a database holds, if every key holds what it did when that one was written.
fn state_of(c: &Connection, database: &str) -> Result<u64, String> {
    let mut held = BTreeMap::new();
    for table in 0..TABLES {
        let rows = c
            .query(&format!(
                "select cast(ts as bigint), v from {database}.t{table}"
            ))
            .map_err(|e| e.to_string())?;
        for row in rows {
            let number = |text: &String| text.parse::<u64>().map_err(|e| e.to_string());
            let slot = (number(&row[0])? - 1_700_000_000_000) / 1000;
            held.insert((table, slot), number(&row[1])?);
        }
    }
    let newest = held.values().copied().max().unwrap_or(0);
    let mut expected = BTreeMap::new();
    for number in newest.saturating_sub(TABLES * SLOTS) + 1..=newest {
        expected.insert((number % TABLES, number / TABLES % SLOTS), number);
    }
    match held == expected {
        true => Ok(newest),
        false => {
            let differs = held
                .iter()
                .find(|(key, number)| expected.get(key) != Some(number));
            Err(format!(
                "{database} is a mixture: with {newest} there can't be {differs:?}"
            ))
        }
    }
}

/// A value of a column as the client library gives it.
fn cell(value: Value<'_>, column: &Column) -> Cell {
    let data_type = column.column_type.data_type;
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(value),
        Value::Int(value) if data_type == model::DataType::Timestamp => Cell::Time(value),
        Value::Int(value) => Cell::Int(value),
        Value::UInt(value) => Cell::Unsigned(value),
        Value::Float(value) => Cell::Float(value.to_bits()),
        Value::Double(value) => Cell::Double(value.to_bits()),
        Value::Bytes(bytes) if data_type.is_decimal() => {
            Cell::Decimal(String::from_utf8_lossy(bytes).into_owned())
        }
        Value::Bytes(bytes) if data_type.is_text() => Cell::Text(bytes.to_vec()),
        Value::Bytes(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

/// A connection of the program's own kind.
fn connected(server: &Server) -> Result<server::Connection, Failed> {
    let library = server.installation().library_dir().join("libtaos.so");
    let library = server::Library::load(&library, Some(&server.config_dir()))?;
    let login = server::Login {
        host: Some("localhost".to_owned()),
        port: server.port(),
        ..server::Login::default()
    };
    Ok(library.connect(&login)?)
}
