//! What it costs to write and read rows as Parquet: CPU time, bytes and peak memory, against hashing the same bytes.
//!
//! `cargo bench -p rows --bench parquet`. Each line is the median of five rounds in a process of its own, so that peaks don't
//! mix. Rows come in batches of 4096, as from the server's files; their making is not counted.

#![allow(missing_docs, clippy::unwrap_used)]

use model::{
    Bits, CellValues, Cells, ColumnId, DataType, FileSetId, Key, Precision, RowBatch, Suid, Uid,
    Version, VgId,
    catalogue::{Column, Schema},
};
use rows::{
    arrow::{Layout, Origin},
    parquet::{FileWriter, ParquetFile, RowsWriter, Selection},
};
use std::{collections::BTreeMap, env, fs, hint::black_box, process::Command, time::Instant};

const BATCH: usize = 4096;
const ROUNDS: usize = 5;

fn main() {
    match env::var("ROWS_CASE") {
        Ok(case) => run(&case),
        Err(_) => compare(),
    }
}

fn compare() {
    println!(
        "{:>22} {:>11} {:>8} {:>8} {:>8} {:>9}",
        "case", "rows", "CPU s", "wall s", "MB", "peak MB"
    );
    for data in ["meters", "mixed", "texts"] {
        for what in ["make", "write", "read", "one-table"] {
            let output = Command::new(env::current_exe().unwrap())
                .env("ROWS_CASE", format!("{data} {what}"))
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{error}");
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

/// Rows of many tables.
struct Data {
    schema: Schema,
    tables: usize,
    rows_per_table: usize,
    /// Values of one column for `BATCH` rows or more, from which batches take theirs.
    pool: Vec<Cells>,
    pool_rows: usize,
}

/// Random numbers that are the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn column(id: usize, name: &str, column_type: &str) -> Column {
    Column {
        name: name.to_owned(),
        column_type: column_type.parse().unwrap(),
        id: Some(id as i64),
        key: false,
        coding: None,
    }
}

fn data(name: &str) -> Data {
    let (types, tables, rows_per_table, pool_rows): (&[&str], _, _, _) = match name {
        // As taosBenchmark writes them: the same 10 000 rows again and again.
        "meters" => (&["FLOAT", "INT", "FLOAT"], 10_000, 1_000, 10_000),
        "mixed" => (
            &[
                "BOOL",
                "TINYINT",
                "SMALLINT",
                "INT",
                "BIGINT",
                "TINYINT UNSIGNED",
                "SMALLINT UNSIGNED",
                "INT UNSIGNED",
                "BIGINT UNSIGNED",
                "FLOAT",
                "DOUBLE",
                "VARCHAR(20)",
                "NCHAR(10)",
                "TIMESTAMP",
            ],
            2_000,
            1_000,
            1 << 18,
        ),
        _ => (&["VARCHAR(16000)"], 10, 3_000, 3_000),
    };
    let mut random = Random(88_172_645_463_325_252);
    let mut columns = vec![column(1, "ts", "TIMESTAMP")];
    let mut pool = Vec::new();
    for (at, text) in types.iter().enumerate() {
        columns.push(column(at + 2, &format!("c{at}"), text));
        let data_type = columns.last().unwrap().column_type.data_type;
        let mut values = Cells::new(ColumnId(at as i16 + 2), data_type);
        let mut valid = Bits::default();
        for _ in 0..pool_rows {
            let number = random.next();
            let bytes = match data_type {
                DataType::Bool => vec![(number & 1) as u8],
                DataType::Float if name == "meters" => (9.0 + (number % 30_000) as f32 / 10_000.0)
                    .to_le_bytes()
                    .to_vec(),
                DataType::Int if name == "meters" => {
                    (200 + (number % 30) as i32).to_le_bytes().to_vec()
                }
                DataType::Varchar if name == "texts" => {
                    let letter = |_| b'a' + (random.next() % 26) as u8;
                    (0..16_000).map(letter).collect()
                }
                DataType::Varchar => format!("{number:016x}").into_bytes(),
                DataType::Nchar => (0..8)
                    .flat_map(|i| (0x4e00 + (number >> (8 * i) & 0xff) as u32).to_le_bytes())
                    .collect(),
                DataType::Double => ((number % 1_000_000) as f64 / 1_000.0)
                    .to_le_bytes()
                    .to_vec(),
                DataType::Float => ((number % 100_000) as f32 / 100.0).to_le_bytes().to_vec(),
                // Up to 10 000 different ones, as far as the type has them.
                other => (number % 10_000).to_le_bytes()[..other.stored_width().unwrap()].to_vec(),
            };
            values.push(model::Cell::Value(&bytes)).unwrap();
            valid.push(name != "mixed" || !number.is_multiple_of(10));
        }
        if name == "mixed" {
            values.valid = Some(valid);
        }
        pool.push(values);
    }
    Data {
        schema: Schema {
            columns,
            tags: Vec::new(),
            options: String::new(),
        },
        tables,
        rows_per_table,
        pool,
        pool_rows,
    }
}

impl Data {
    fn rows(&self) -> usize {
        self.tables * self.rows_per_table
    }

    fn layout(&self) -> Layout {
        let origin = Origin {
            stable: Some("meters".to_owned()),
            suid: Suid(7),
            vgroup: VgId(2),
            file_set: Some(FileSetId(1972)),
            precision: Precision::Milliseconds,
        };
        Layout::new(&self.schema, origin).unwrap()
    }

    fn names(&self) -> BTreeMap<Uid, String> {
        (0..self.tables)
            .map(|table| (Uid(table as i64), format!("d{table}")))
            .collect()
    }

    fn batch(&self, from: usize) -> RowBatch {
        let rows = BATCH.min(self.rows() - from);
        let mut batch = RowBatch {
            suid: Suid(7),
            tables: Vec::new(),
            keys: Vec::with_capacity(rows),
            versions: Vec::with_capacity(rows),
            columns: Vec::new(),
        };
        for row in from..from + rows {
            let (table, at) = (row / self.rows_per_table, row % self.rows_per_table);
            match batch.tables.last_mut() {
                Some((uid, count)) if uid.0 == table as i64 => *count += 1,
                _ => batch.tables.push((Uid(table as i64), 1)),
            }
            batch.keys.push(Key(1_700_000_000_000 + at as i64));
            batch
                .versions
                .push(Version((table / 10 * 7919 % 10_000) as i64));
        }
        for pool in &self.pool {
            let mut cells = Cells::new(pool.column, pool.data_type);
            let mut done = 0;
            while done < rows {
                let at = (from + done) % self.pool_rows;
                let count = (rows - done).min(self.pool_rows - at);
                cells.extend(pool, at, count).unwrap();
                done += count;
            }
            if let CellValues::Variable { bytes, .. } = &cells.values {
                black_box(bytes.len());
            }
            batch.columns.push(cells);
        }
        batch
    }
}

fn run(case: &str) {
    let (name, what) = case.split_once(' ').unwrap();
    let data = data(name);
    let names = data.names();
    let name_of = |uid: Uid| names.get(&uid).map(String::as_str);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.parquet");
    let mut rounds = Vec::new();
    let mut size = 0;
    let mut peak = 0.0;
    if what == "read" || what == "one-table" {
        // Another process writes the file, so that its memory does not count.
        let output = Command::new(env::current_exe().unwrap())
            .env("ROWS_CASE", format!("{name} file"))
            .env("ROWS_FILE", &path)
            .status()
            .unwrap();
        assert!(output.success());
    }
    let rounds_wanted = if what == "file" { 1 } else { ROUNDS };
    for _ in 0..rounds_wanted {
        let (mut cpu, mut wall) = (0.0, 0.0);
        let mut seen = 0;
        match what {
            "make" => {
                let from = (cpu_seconds(), Instant::now());
                for at in (0..data.rows()).step_by(BATCH) {
                    seen += black_box(data.batch(at)).len();
                }
                (cpu, wall) = (cpu_seconds() - from.0, from.1.elapsed().as_secs_f64());
            }
            "write" | "file" => {
                let path = env::var_os("ROWS_FILE").map_or(path.clone(), Into::into);
                let create = |_, layout| {
                    let file = fs::File::create(&path).unwrap();
                    FileWriter::over(file, "rows.parquet", "rows.parquet".to_owned(), layout)
                };
                let mut writer = RowsWriter::new(data.layout(), create);
                for at in (0..data.rows()).step_by(BATCH) {
                    let batch = data.batch(at);
                    seen += batch.len();
                    let from = (cpu_seconds(), Instant::now());
                    writer.write(batch, &name_of).unwrap();
                    cpu += cpu_seconds() - from.0;
                    wall += from.1.elapsed().as_secs_f64();
                }
                let from = (cpu_seconds(), Instant::now());
                let entries = writer.finish().unwrap();
                cpu += cpu_seconds() - from.0;
                wall += from.1.elapsed().as_secs_f64();
                size = entries.iter().map(|entry| entry.bytes).sum();
            }
            _ => {
                let from = (cpu_seconds(), Instant::now());
                let file = ParquetFile::open(fs::File::open(&path).unwrap(), "rows").unwrap();
                let mut selection = Selection::ALL;
                if what == "one-table" {
                    selection.tables = Some([format!("d{}", data.tables / 2)].into());
                }
                let mut batches = file.read(selection);
                while let Some(rows) = batches.next().unwrap() {
                    for table in rows.tables() {
                        seen += table.len();
                        black_box(table.columns().unwrap());
                    }
                }
                (cpu, wall) = (cpu_seconds() - from.0, from.1.elapsed().as_secs_f64());
                size = fs::metadata(&path).unwrap().len();
            }
        }
        let expected = match what {
            "one-table" => data.rows_per_table,
            _ => data.rows(),
        };
        assert_eq!(seen, expected);
        rounds.push((cpu, wall));
        peak = peak_mib();
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (cpu, wall) = rounds[rounds.len() / 2];
    if what != "file" {
        println!(
            "{case:>22} {:>11} {cpu:>8.3} {wall:>8.3} {:>8.2} {peak:>9.1}",
            data.rows(),
            size as f64 / 1e6
        );
    }
}

/// The CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024.0
}
