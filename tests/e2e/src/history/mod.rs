//! Random histories of a database: every kind of change that SQL can make, in any order. A history is determined by
//! its seed; what the database then holds, the server itself says.

mod types;

use crate::{Cell, Connection, SqlError, client::patiently, quoted};
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use std::{collections::BTreeMap, fmt, fs, io, path::Path};
use types::DataType;

/// A database and what has been done to it so far.
#[derive(Debug)]
pub struct History {
    rng: StdRng,
    /// Its name.
    pub database: String,
    /// What has been done, by kind.
    pub tally: Tally,
    /// Every statement.
    statements: Vec<String>,
    /// Ticks in a second.
    second: i64,
    /// KEEP reaches back to before 1970.
    ancient: bool,
    dialect: Dialect,
    /// Whether its database writes a WAL.
    has_wal: bool,
    stables: Vec<Stable>,
    tables: Vec<Table>,
    /// Names that were dropped and may come back.
    former: Vec<String>,
    made: u32,
}

/// How often something was done.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Rows written, those that replaced others included.
    pub rows: u64,
    /// Changes by kind.
    pub changes: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    data_type: DataType,
}

/// Columns in order: the timestamp, perhaps the second half of the key, values.
#[derive(Debug, Clone)]
struct Schema {
    columns: Vec<Column>,
    keys: usize,
    /// Names of columns that were dropped and may come back.
    former: Vec<String>,
}

#[derive(Debug)]
struct Stable {
    name: String,
    schema: Schema,
    tags: Vec<Column>,
}

#[derive(Debug)]
struct Table {
    name: String,
    kind: Kind,
    /// Some of the times that were written.
    times: Vec<i64>,
    last: i64,
    /// Rows were deleted. From then on only whole rows are written: when a deleted row's key is written again with
    /// some columns only, server 3.3.7.5 fills the others now with NULL, now with the deleted values.
    deleted: bool,
}

#[derive(Debug)]
enum Kind {
    Child { stable: String },
    Normal { schema: Schema },
}

/// 2024-01-01 in seconds.
const START: i64 = 1_704_067_200;
const DAY: i64 = 86_400;
const MOST_TABLES: usize = 40;
const MOST_COLUMNS: usize = 14;
/// The server takes statements of 1 MiB.
const MOST_SQL: usize = 800_000;
/// Some times a table remembers, to write them again.
const MOST_TIMES: usize = 300;

const ODD_NAMES: [&str; 8] = [
    "It's",
    "a b",
    "表",
    "UPPER",
    "\"q\"",
    "b`t",
    "per%cent_",
    "select",
];
const APPEND: &str = "append";
const COMMENTS: [&str; 4] = ["", "plain", "注释 two words", "100%"];

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.rows)?;
        for (kind, count) in &self.changes {
            write!(f, ", {kind} {count}")?;
        }
        Ok(())
    }
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        for (kind, count) in &other.changes {
            *self.changes.entry(kind).or_default() += count;
        }
    }

    /// Counts one change.
    pub fn count(&mut self, kind: &'static str) {
        *self.changes.entry(kind).or_default() += 1;
    }
}

impl Table {
    fn remember(&mut self, times: &[i64], rng: &mut StdRng) {
        self.last = times.iter().fold(self.last, |last, time| last.max(*time));
        for time in times {
            if self.times.len() < MOST_TIMES {
                self.times.push(*time);
            } else if rng.random_ratio(1, 8) {
                let at = rng.random_range(0..self.times.len());
                self.times[at] = *time;
            }
        }
    }
}

impl Schema {
    fn random(rng: &mut StdRng, dialect: Dialect) -> Self {
        let ts = if rng.random_ratio(1, 6) {
            "Zeit punkt"
        } else {
            "ts"
        };
        let mut columns = vec![Column::new(ts, DataType::Timestamp)];
        if rng.random_ratio(1, 4) {
            columns.push(Column::new("k", DataType::random_key(rng, dialect)));
        }
        let keys = columns.len();
        for n in 0..rng.random_range(1..8) {
            let name = dialect.odd(rng, "c", n);
            columns.push(Column::new(&name, DataType::random(rng, false)));
        }
        Self {
            columns,
            keys,
            former: Vec::new(),
        }
    }

    fn sql(&self) -> String {
        let columns = self.columns.iter().enumerate().map(|(n, column)| {
            let key = if n == 1 && self.keys == 2 {
                " composite key"
            } else {
                ""
            };
            format!("{}{key}", column.sql())
        });
        columns.collect::<Vec<_>>().join(", ")
    }
}

impl Column {
    fn new(name: &str, data_type: DataType) -> Self {
        Self {
            name: name.to_owned(),
            data_type,
        }
    }

    fn sql(&self) -> String {
        format!("{} {}", quoted(&self.name), self.data_type.sql())
    }
}

/// What a server can do.
#[derive(Debug, Clone, Copy)]
struct Dialect {
    /// 3.3.6 does not find what has a backtick in its name, and gives a row with a VARCHAR key twice when it was
    /// written twice.
    before_3_3_7: bool,
}

impl Dialect {
    fn of(c: &Connection) -> Result<Self, SqlError> {
        let version = c.query("select server_version()")?.concat().concat();
        let mut numbers = version.trim_matches('\'').split('.').map(str::parse::<u32>);
        let mut number = || numbers.next().and_then(Result::ok).unwrap_or(u32::MAX);
        Ok(Self {
            before_3_3_7: (number(), number(), number()) < (3, 3, 7),
        })
    }

    /// A name, now and then one that needs care.
    fn odd(self, rng: &mut StdRng, plain: &str, n: u32) -> String {
        match ODD_NAMES.choose(rng) {
            Some(odd) if odd.contains('`') && self.before_3_3_7 => format!("{plain}{n}"),
            Some(odd) if rng.random_ratio(1, 6) => format!("{odd}{n}"),
            _ => format!("{plain}{n}"),
        }
    }
}

impl History {
    /// Creates a database with random options and its first tables.
    pub fn create(c: &Connection, database: &str, seed: u64) -> Result<Self, SqlError> {
        Self::create_with(c, database, seed, 1)
    }

    /// The same with nothing that a server of another version could not have.
    pub fn create_for_any_version(
        c: &Connection,
        database: &str,
        seed: u64,
    ) -> Result<Self, SqlError> {
        let dialect = Dialect { before_3_3_7: true };
        Self::create_in(dialect, c, database, seed, 1)
    }

    /// The same as [`Self::create`] with so many replicas.
    pub fn create_with(
        c: &Connection,
        database: &str,
        seed: u64,
        replicas: u64,
    ) -> Result<Self, SqlError> {
        Self::create_in(Dialect::of(c)?, c, database, seed, replicas)
    }

    fn create_in(
        dialect: Dialect,
        c: &Connection,
        database: &str,
        seed: u64,
        replicas: u64,
    ) -> Result<Self, SqlError> {
        let mut rng = StdRng::seed_from_u64(seed);
        let (precision, second) = *[("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)]
            .choose(&mut rng)
            .unwrap_or(&("ms", 1_000));
        let ancient = rng.random();
        let mut history = Self {
            database: database.to_owned(),
            tally: Tally::default(),
            statements: Vec::new(),
            second,
            ancient,
            has_wal: true,
            dialect,
            stables: Vec::new(),
            tables: Vec::new(),
            former: Vec::new(),
            made: 0,
            rng: StdRng::seed_from_u64(seed ^ 1),
        };
        let mut options = format!("precision '{precision}' buffer 3");
        let mut option = |name: &str, values: &[&str]| {
            if rng.random() {
                let value = values.choose(&mut rng).unwrap_or(&"");
                options.push_str(&format!(" {name} {value}"));
            }
        };
        option("vgroups", &["1", "2", "3", "4"]);
        option("stt_trigger", &["1", "2", "4", "8"]);
        option("comp", &["0", "1", "2"]);
        option("duration", &["1d", "3d", "10d", "600m"]);
        option("wal_retention_period", &["0", "3600"]);
        option("wal_level", &["0", "1", "1", "2"]);
        option(
            "cachemodel",
            &["'none'", "'last_row'", "'last_value'", "'both'"],
        );
        option("minrows", &["10", "200"]);
        option("tsdb_pagesize", &["1", "4", "16"]);
        option("pages", &["64", "512"]);
        option("table_prefix", &["1", "-2"]);
        if replicas > 1 {
            // Replicas need a log.
            options = options.replace(" wal_level 0", "");
            options.push_str(&format!(" replica {replicas}"));
        }
        history.has_wal = !options.contains(" wal_level 0");
        let keep = if ancient { 36_500 } else { 7_300 };
        options.push_str(&format!(" keep {keep}"));
        history.sql(
            c,
            &format!("create database {} {options}", quoted(database)),
        )?;
        for _ in 0..history.rng.random_range(1..4) {
            history.create_stable(c)?;
        }
        history.create_normal(c)?;
        for _ in 0..6 {
            history.create_child(c)?;
        }
        Ok(history)
    }

    /// Whether the database writes a WAL; without one, a dump has to flush.
    pub fn has_wal(&self) -> bool {
        self.has_wal
    }

    /// Makes one random change.
    pub fn step(&mut self, c: &Connection) -> Result<(), SqlError> {
        match self.rng.random_range(0..100) {
            0..40 => self.insert(c),
            40..44 => self.bind(c),
            44..48 => self.auto_create(c),
            48..57 => self.delete(c),
            57..62 => self.create_child(c),
            62..64 => self.create_normal(c),
            64..66 => self.create_stable(c),
            66..70 => self.drop_table(c),
            70..71 => self.drop_stable(c),
            71..79 => self.alter_columns(c),
            79..83 => self.alter_tags(c),
            83..89 => self.set_tag(c),
            89..93 => self.alter_properties(c),
            93..98 => self.flush(c, 1),
            _ => self.flush(c, 4),
        }
    }

    /// Writes rows: what can go on while a backup runs.
    pub fn write(&mut self, c: &Connection) -> Result<(), SqlError> {
        if self.rng.random_ratio(1, 10) {
            self.delete(c)
        } else {
            self.insert(c)
        }
    }

    /// Writes every statement to a file, for whoever has to find out what went wrong.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join("statements.sql"), self.script())
    }

    /// Its statements.
    pub fn script(&self) -> String {
        self.statements.join(";\n")
    }

    fn sql(&mut self, c: &Connection, sql: &str) -> Result<(), SqlError> {
        self.statements.push(sql.to_owned());
        patiently(|| c.execute(sql)).map(|_| ())
    }

    fn path(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.database), quoted(name))
    }

    /// A name for something new, now and then one that something dropped had.
    fn name(&mut self, plain: &str) -> String {
        if !self.former.is_empty() && self.rng.random_ratio(1, 2) {
            let at = self.rng.random_range(0..self.former.len());
            return self.former.swap_remove(at);
        }
        self.made += 1;
        self.dialect.odd(&mut self.rng, plain, self.made)
    }

    fn random_table(&mut self) -> Option<usize> {
        (!self.tables.is_empty()).then(|| self.rng.random_range(0..self.tables.len()))
    }

    fn random_stable(&mut self) -> Option<usize> {
        (!self.stables.is_empty()).then(|| self.rng.random_range(0..self.stables.len()))
    }

    fn stable(&self, name: &str) -> Option<&Stable> {
        self.stables.iter().find(|stable| stable.name == name)
    }

    fn schema(&self, table: usize) -> Schema {
        let empty = || Schema {
            columns: Vec::new(),
            keys: 0,
            former: Vec::new(),
        };
        match &self.tables[table].kind {
            Kind::Normal { schema } => schema.clone(),
            Kind::Child { stable } => self
                .stable(stable)
                .map_or_else(empty, |stable| stable.schema.clone()),
        }
    }

    fn create_stable(&mut self, c: &Connection) -> Result<(), SqlError> {
        if self.stables.len() >= 6 {
            return Ok(());
        }
        let name = self.name("s");
        let schema = Schema::random(&mut self.rng, self.dialect);
        let tags = if self.rng.random_ratio(1, 8) {
            vec![Column::new("j", DataType::Json)]
        } else {
            (100..self.rng.random_range(101..106))
                .map(|n| {
                    let name = self.dialect.odd(&mut self.rng, "t", n);
                    Column::new(&name, DataType::random(&mut self.rng, true))
                })
                .collect()
        };
        let comment = self.comment();
        let sql = format!(
            "create stable {} ({}) tags ({}){comment}",
            self.path(&name),
            schema.sql(),
            tags.iter().map(Column::sql).collect::<Vec<_>>().join(", ")
        );
        self.sql(c, &sql)?;
        self.tally.count("create super table");
        self.stables.push(Stable { name, schema, tags });
        Ok(())
    }

    fn comment(&mut self) -> String {
        match COMMENTS.choose(&mut self.rng) {
            Some(comment) if self.rng.random_ratio(1, 4) => format!(" comment '{comment}'"),
            _ => String::new(),
        }
    }

    /// `USING stable [(tags)] TAGS (…)`.
    fn using(&mut self, stable: usize) -> String {
        let Stable { name, tags, .. } = &self.stables[stable];
        let mut given: Vec<&Column> = tags.iter().collect();
        let some = given.len() > 1 && self.rng.random_ratio(1, 5);
        if some {
            given.remove(self.rng.random_range(0..given.len()));
        }
        let values: Vec<String> = given
            .iter()
            .map(|tag| tag.data_type.literal(&tag.data_type.value(&mut self.rng)))
            .collect();
        let names: Vec<String> = given.iter().map(|tag| quoted(&tag.name)).collect();
        let names = if some {
            format!(" ({})", names.join(", "))
        } else {
            String::new()
        };
        let path = self.path(name);
        format!("using {path}{names} tags ({})", values.join(", "))
    }

    fn new_table(&mut self, name: String, kind: Kind) {
        self.tables.push(Table {
            name,
            kind,
            times: Vec::new(),
            last: START * self.second,
            deleted: false,
        });
    }

    fn create_child(&mut self, c: &Connection) -> Result<(), SqlError> {
        let Some(stable) = self
            .random_stable()
            .filter(|_| self.tables.len() < MOST_TABLES)
        else {
            return Ok(());
        };
        let (name, using, comment) = (self.name("d"), self.using(stable), self.comment());
        let sql = format!("create table {} {using}{comment}", self.path(&name));
        self.sql(c, &sql)?;
        self.tally.count("create child");
        let stable = self.stables[stable].name.clone();
        self.new_table(name, Kind::Child { stable });
        Ok(())
    }

    fn create_normal(&mut self, c: &Connection) -> Result<(), SqlError> {
        if self.tables.len() >= MOST_TABLES {
            return Ok(());
        }
        let (name, schema, comment) = (
            self.name("n"),
            Schema::random(&mut self.rng, self.dialect),
            self.comment(),
        );
        let sql = format!(
            "create table {} ({}){comment}",
            self.path(&name),
            schema.sql()
        );
        self.sql(c, &sql)?;
        self.tally.count("create normal table");
        self.new_table(name, Kind::Normal { schema });
        Ok(())
    }

    /// Times to write: behind the last, late, between others, over others, or far away.
    fn times(&mut self, table: usize) -> (&'static str, Vec<i64>) {
        let second = self.second;
        let count = *[1, 2, 20, 100, 400].choose(&mut self.rng).unwrap_or(&1);
        let interval = *[1, second / 1_000, second, 60 * second]
            .choose(&mut self.rng)
            .unwrap_or(&1);
        let Table { times, last, .. } = &self.tables[table];
        let (kind, first) = match self.rng.random_range(0..20) {
            0..8 => (APPEND, last + interval),
            8..12 => ("late rows", {
                START * second + self.rng.random_range(0..5 * DAY) * second
            }),
            12..14 => (
                "rows between",
                times.choose(&mut self.rng).unwrap_or(last) + 1,
            ),
            14..18 if !times.is_empty() => {
                let mut times = times.clone();
                times.shuffle(&mut self.rng);
                times.truncate(count);
                return ("overwrite", times);
            }
            18 => ("far future", 3_786_912_000 * second),
            19 if self.ancient => (
                "before 1970",
                -self.rng.random_range(1..DAY * 9_000) * second,
            ),
            _ => ("far past", (START - 30 * DAY) * second),
        };
        let mut times: Vec<i64> = (0..count as i64).map(|n| first + n * interval).collect();
        if self.rng.random_ratio(1, 4) {
            times.shuffle(&mut self.rng);
        }
        (kind, times)
    }

    /// Which columns a statement writes: all, or the key and some others.
    fn columns(&mut self, table: usize, schema: &Schema) -> Vec<Column> {
        let mut columns = schema.columns.clone();
        if !self.tables[table].deleted && self.rng.random_ratio(1, 4) {
            for at in (schema.keys..columns.len()).rev() {
                if self.rng.random() {
                    columns.remove(at);
                }
            }
        }
        columns
    }

    /// NULL only where there was nothing: server 3.3.7.5 now and then loses a NULL that was written over a value,
    /// long after the write, when it merges files.
    fn row(&mut self, schema: &Schema, columns: &[Column], time: i64, kind: &str) -> Vec<Cell> {
        let mut cell = |(n, column): (usize, &Column)| match (n, column.data_type) {
            (0, _) => Cell::Time(time),
            (1, DataType::Varchar(_)) if schema.keys == 2 => {
                let any = ["", "a", "b", "键", "'"];
                Cell::Text((*any.choose(&mut self.rng).unwrap_or(&"")).into())
            }
            (1, _) if schema.keys == 2 => Cell::Int(self.rng.random_range(0..4)),
            (_, data_type) if kind == APPEND => data_type.value(&mut self.rng),
            (_, data_type) => data_type.no_null(&mut self.rng),
        };
        columns.iter().enumerate().map(&mut cell).collect()
    }

    /// `(columns) VALUES (…) (…)` for a table that exists or will.
    fn values(&mut self, table: usize, room: usize) -> String {
        let schema = self.schema(table);
        let columns = self.columns(table, &schema);
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let (kind, mut times) = self.times(table);
        let mut sql = format!("({}) values", names.join(", "));
        for n in 0..times.len() {
            let row = self.row(&schema, &columns, times[n], kind);
            let cells: Vec<String> = row
                .iter()
                .zip(&columns)
                .map(|(cell, column)| column.data_type.literal(cell))
                .collect();
            sql.push_str(&format!(" ({})", cells.join(", ")));
            if sql.len() > room {
                times.truncate(n + 1);
                break;
            }
        }
        self.tally.count(kind);
        self.tally.rows += times.len() as u64;
        self.tables[table].remember(&times, &mut self.rng);
        sql
    }

    fn insert(&mut self, c: &Connection) -> Result<(), SqlError> {
        let count = *[1, 1, 1, 3].choose(&mut self.rng).unwrap_or(&1);
        let tables: Vec<usize> = (0..count).filter_map(|_| self.random_table()).collect();
        let mut sql = "insert into".to_owned();
        for table in &tables {
            let values = self.values(*table, MOST_SQL / tables.len());
            let path = self.path(&self.tables[*table].name);
            sql.push_str(&format!(" {path} {values}"));
        }
        if tables.is_empty() {
            Ok(())
        } else {
            self.sql(c, &sql)
        }
    }

    fn auto_create(&mut self, c: &Connection) -> Result<(), SqlError> {
        let Some(stable) = self
            .random_stable()
            .filter(|_| self.tables.len() < MOST_TABLES)
        else {
            return Ok(());
        };
        let (name, using) = (self.name("a"), self.using(stable));
        let path = self.path(&name);
        let stable = self.stables[stable].name.clone();
        self.new_table(name, Kind::Child { stable });
        let values = self.values(self.tables.len() - 1, MOST_SQL);
        self.tally.count("auto-create");
        self.sql(c, &format!("insert into {path} {using} {values}"))
    }

    /// Rows as a program writes them, with values that SQL has no words for.
    fn bind(&mut self, c: &Connection) -> Result<(), SqlError> {
        let Some(table) = self.random_table() else {
            return Ok(());
        };
        let schema = self.schema(table);
        // A DECIMAL can't be bound. Rows without it must not follow a delete: the server brings deleted values back then.
        let is_decimal = |column: &Column| matches!(column.data_type, DataType::Decimal(..));
        if self.tables[table].deleted && schema.columns.iter().any(is_decimal) {
            return Ok(());
        }
        let mut columns = self.columns(table, &schema);
        columns.retain(|column| !is_decimal(column));
        let (kind, times) = self.times(table);
        let mut rows = Vec::new();
        for time in &times {
            let mut row = self.row(&schema, &columns, *time, kind);
            for (cell, column) in row.iter_mut().zip(&columns).skip(schema.keys) {
                if self.rng.random_ratio(1, 3)
                    && let Some(value) = column.data_type.unspeakable(&mut self.rng)
                {
                    *cell = value;
                }
            }
            rows.push(row);
        }
        self.tables[table].remember(&times, &mut self.rng);
        self.tally.count("prepared statement");
        self.tally.rows += times.len() as u64;
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!(
            "insert into {} ({}) values ({})",
            self.path(&self.tables[table].name),
            names.join(", "),
            vec!["?"; columns.len()].join(", ")
        );
        let types: Vec<u8> = columns
            .iter()
            .map(|column| column.data_type.code())
            .collect();
        self.statements
            .push(format!("-- {} rows: {sql}", rows.len()));
        patiently(|| c.bind(&sql, &types, &rows))
    }

    fn delete(&mut self, c: &Connection) -> Result<(), SqlError> {
        let Some(table) = self.random_table() else {
            return Ok(());
        };
        let schema = self.schema(table);
        let Table {
            name, kind, times, ..
        } = &self.tables[table];
        let some = *times
            .choose(&mut self.rng)
            .unwrap_or(&(START * self.second));
        let width = *[0, 1_000, 3_600, DAY, 400 * DAY]
            .choose(&mut self.rng)
            .unwrap_or(&0);
        let last = some + width * self.second;
        let ts = schema.columns.first().map(|column| quoted(&column.name));
        let ts = ts.unwrap_or_default();
        let (what, from) = match kind {
            Kind::Child { stable } if self.rng.random_ratio(1, 4) => {
                ("delete from a super table", stable)
            }
            Kind::Child { .. } => ("delete from a child", name),
            Kind::Normal { .. } => ("delete from a normal table", name),
        };
        let range = match self.rng.random_range(0..10) {
            0 => String::new(),
            1 => format!(" where {ts} < {some}"),
            2 => format!(" where {ts} > {last}"),
            3 => format!(" where {ts} = {some}"),
            _ => format!(" where {ts} >= {some} and {ts} <= {last}"),
        };
        let sql = format!("delete from {}{range}", self.path(from));
        let from = from.clone();
        for table in &mut self.tables {
            let below = matches!(&table.kind, Kind::Child { stable } if *stable == from);
            table.deleted |= table.name == from || below;
        }
        self.tally.count(what);
        self.sql(c, &sql)
    }

    fn drop_table(&mut self, c: &Connection) -> Result<(), SqlError> {
        if self.tables.len() < 4 {
            return Ok(());
        }
        let at = self.rng.random_range(0..self.tables.len());
        let table = self.tables.swap_remove(at);
        self.tally.count("drop table");
        let sql = format!("drop table if exists {}", self.path(&table.name));
        self.former.push(table.name);
        self.sql(c, &sql)
    }

    fn drop_stable(&mut self, c: &Connection) -> Result<(), SqlError> {
        if self.stables.len() < 2 {
            return Ok(());
        }
        let at = self.rng.random_range(0..self.stables.len());
        let gone = self.stables.swap_remove(at).name;
        let of_gone =
            |table: &Table| matches!(&table.kind, Kind::Child { stable } if *stable == gone);
        let names = self.tables.iter().filter(|table| of_gone(table));
        self.former.extend(names.map(|table| table.name.clone()));
        self.tables.retain(|table| !of_gone(table));
        // It may be dropped and not acknowledged, where a dnode is killed, and is then tried again.
        let sql = format!("drop stable if exists {}", self.path(&gone));
        self.former.push(gone);
        self.tally.count("drop super table");
        self.sql(c, &sql)?;
        self.forget_schemas(c)
    }

    fn alter_columns(&mut self, c: &Connection) -> Result<(), SqlError> {
        let normal = self.tables.iter().position(|table| {
            matches!(table.kind, Kind::Normal { .. }) && self.rng.random_ratio(1, 3)
        });
        let stable = self.random_stable();
        let (path, mut schema, word) = match (normal, stable) {
            (Some(table), _) => (
                self.path(&self.tables[table].name),
                self.schema(table),
                "table",
            ),
            (None, Some(stable)) => {
                let Stable { name, schema, .. } = &self.stables[stable];
                (self.path(name), schema.clone(), "stable")
            }
            (None, None) => return Ok(()),
        };
        let values = schema.keys..schema.columns.len();
        let at = self.rng.random_range(values.clone());
        let column = schema.columns[at].clone();
        let name = quoted(&column.name);
        // 3.3.7.5 then makes a DECIMAL(0, 0) of the column before it, and can't read it any more.
        let loses_precision = normal.is_some()
            && at + 1 == schema.columns.len()
            && at > 0
            && matches!(schema.columns[at - 1].data_type, DataType::Decimal(..));
        let (kind, sql) = match self.rng.random_range(0..8) {
            0..3 if schema.columns.len() < MOST_COLUMNS => {
                self.made += 1;
                let name = match schema.former.pop() {
                    Some(former) if self.rng.random_ratio(2, 3) => former,
                    _ => self.dialect.odd(&mut self.rng, "x", self.made),
                };
                let column = Column::new(&name, DataType::random(&mut self.rng, false));
                let sql = format!("add column {}", column.sql());
                schema.columns.push(column);
                ("add column", sql)
            }
            3..5 if values.len() > 1 && !loses_precision => {
                schema.columns.remove(at);
                schema.former.push(column.name);
                ("drop column", format!("drop column {name}"))
            }
            5 if normal.is_some() => {
                self.made += 1;
                let to = self.dialect.odd(&mut self.rng, "r", self.made);
                let sql = format!("rename column {name} {}", quoted(&to));
                schema.columns[at].name = to;
                ("rename column", sql)
            }
            _ => {
                let Some(wider) = column.data_type.wider() else {
                    return Ok(());
                };
                schema.columns[at].data_type = wider;
                (
                    "widen column",
                    format!("modify column {name} {}", wider.sql()),
                )
            }
        };
        match (normal, stable) {
            (Some(table), _) => self.tables[table].kind = Kind::Normal { schema },
            (None, Some(stable)) => self.stables[stable].schema = schema,
            (None, None) => (),
        }
        self.tally.count(kind);
        self.sql(c, &format!("alter {word} {path} {sql}"))?;
        self.forget_schemas(c)
    }

    /// Client library 3.3.7.5 remembers the children of a dropped super table, and after an ALTER TABLE it takes the
    /// table's DECIMAL columns to have no precision.
    fn forget_schemas(&mut self, c: &Connection) -> Result<(), SqlError> {
        self.sql(c, "reset query cache")
    }

    fn alter_tags(&mut self, c: &Connection) -> Result<(), SqlError> {
        let Some(stable) = self.random_stable() else {
            return Ok(());
        };
        let path = self.path(&self.stables[stable].name);
        let tags = &mut self.stables[stable].tags;
        if tags.iter().any(|tag| tag.data_type == DataType::Json) {
            return Ok(());
        }
        let at = self.rng.random_range(0..tags.len());
        let name = quoted(&tags[at].name);
        self.made += 1;
        let (kind, sql) = match self.rng.random_range(0..5) {
            0 if tags.len() < 10 => {
                let name = self.dialect.odd(&mut self.rng, "g", self.made);
                let tag = Column::new(&name, DataType::random(&mut self.rng, true));
                let sql = format!("add tag {}", tag.sql());
                tags.push(tag);
                ("add tag", sql)
            }
            1 if tags.len() > 1 => {
                tags.remove(at);
                ("drop tag", format!("drop tag {name}"))
            }
            2 | 3 => {
                let to = self.dialect.odd(&mut self.rng, "h", self.made);
                let sql = format!("rename tag {name} {}", quoted(&to));
                tags[at].name = to;
                ("rename tag", sql)
            }
            _ => {
                let Some(wider) = tags[at].data_type.wider() else {
                    return Ok(());
                };
                tags[at].data_type = wider;
                ("widen tag", format!("modify tag {name} {}", wider.sql()))
            }
        };
        self.tally.count(kind);
        self.sql(c, &format!("alter stable {path} {sql}"))
    }

    fn set_tag(&mut self, c: &Connection) -> Result<(), SqlError> {
        let Some(table) = self.random_table() else {
            return Ok(());
        };
        let Kind::Child { stable } = &self.tables[table].kind else {
            return Ok(());
        };
        let tags = self.stable(stable).map(|stable| stable.tags.clone());
        let Some(tag) = tags.as_ref().and_then(|tags| tags.choose(&mut self.rng)) else {
            return Ok(());
        };
        let value = tag.data_type.literal(&tag.data_type.value(&mut self.rng));
        let path = self.path(&self.tables[table].name);
        self.tally.count("set tag");
        self.sql(
            c,
            &format!("alter table {path} set tag {} = {value}", quoted(&tag.name)),
        )
    }

    fn alter_properties(&mut self, c: &Connection) -> Result<(), SqlError> {
        let comment = COMMENTS.choose(&mut self.rng).unwrap_or(&"");
        if self.rng.random_ratio(1, 3) {
            let Some(stable) = self.random_stable() else {
                return Ok(());
            };
            let path = self.path(&self.stables[stable].name);
            self.tally.count("comment of a super table");
            return self.sql(c, &format!("alter stable {path} comment '{comment}'"));
        }
        let Some(table) = self.random_table() else {
            return Ok(());
        };
        let path = self.path(&self.tables[table].name);
        let (kind, sql) = if self.rng.random() {
            ("comment of a table", format!("comment '{comment}'"))
        } else {
            ("ttl", format!("ttl {}", self.rng.random_range(100..9_000)))
        };
        self.tally.count(kind);
        self.sql(c, &format!("alter table {path} {sql}"))?;
        self.forget_schemas(c)
    }

    fn flush(&mut self, c: &Connection, times: usize) -> Result<(), SqlError> {
        let sql = format!("flush database {}", quoted(&self.database));
        for n in 0..times {
            if n > 0 {
                self.insert(c)?;
            }
            self.tally.count("flush");
            self.sql(c, &sql)?;
        }
        Ok(())
    }
}
