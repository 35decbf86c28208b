//! Every storage option that changes how a server writes keys: what the files and the log name is what SQL counts.

use capture::SourceChoice;
use e2e::{Installation, Server};
use libtest_mimic::{Arguments, Failed, Trial};
use model::{Uid, Version};
use plan::detect::{self, Request, Since};
use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    // One server for all, started by the first test that runs.
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let mut trials = Vec::new();
    for (n, case) in cases().into_iter().enumerate() {
        let (installation, server) = (installation.clone(), server.clone());
        let name = case.name.clone();
        let skip = installation.is_err();
        let test = move || {
            let mut server = server.lock().map_err(|e| e.to_string())?;
            if server.is_none() {
                *server = Some(Server::start(&installation?)?);
            }
            server
                .as_ref()
                .map_or(Ok(()), |server| run(server, &format!("f{n}"), &case))
        };
        trials.push(Trial::test(name, test).with_ignored_flag(skip));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[derive(Clone)]
struct Case {
    name: String,
    /// CREATE DATABASE options.
    database: String,
    /// Options of the timestamp column.
    timestamp: String,
    /// Type of the second half of the key.
    composite: Option<&'static str>,
    /// Written by the benchmark program's prepared statements, which log by column.
    by_column: bool,
}

fn cases() -> Vec<Case> {
    let case = |name: String, database: &str, timestamp: &str, composite| Case {
        name,
        database: database.to_owned(),
        timestamp: timestamp.to_owned(),
        composite,
        by_column: false,
    };
    let mut cases = Vec::new();
    for precision in ["ms", "us", "ns"] {
        for trigger in [1, 2] {
            let options = format!("precision '{precision}' stt_trigger {trigger}");
            cases.push(case(
                format!("precision_{precision}_trigger_{trigger}"),
                &options,
                "",
                None,
            ));
        }
    }
    for comp in 0..3 {
        cases.push(case(
            format!("comp_{comp}"),
            &format!("comp {comp} stt_trigger 1"),
            "",
            None,
        ));
    }
    for page in [1, 8, 64] {
        cases.push(case(
            format!("page_{page}k"),
            &format!("tsdb_pagesize {page} stt_trigger 1"),
            "",
            None,
        ));
    }
    for encode in ["delta-i", "disabled"] {
        for compress in ["lz4", "zlib", "zstd", "xz", "disabled"] {
            let options = format!("encode '{encode}' compress '{compress}' level 'high'");
            cases.push(case(
                format!("{encode}_{compress}"),
                "stt_trigger 1",
                &options,
                None,
            ));
        }
    }
    for (name, composite) in [
        ("int", "int"),
        ("bigint", "bigint"),
        ("int_unsigned", "int unsigned"),
        ("bigint_unsigned", "bigint unsigned"),
        ("varchar", "varchar(12)"),
    ] {
        for trigger in [1, 2] {
            let options = format!("stt_trigger {trigger}");
            cases.push(case(
                format!("composite_{name}_trigger_{trigger}"),
                &options,
                "",
                Some(composite),
            ));
        }
    }
    let by_column = case("prepared_statements".to_owned(), "stt_trigger 1", "", None);
    cases.push(Case {
        by_column: true,
        ..by_column
    });
    cases
}

/// 2024-01-01 in seconds.
const START: i64 = 1_704_067_200;

fn run(server: &Server, db: &str, case: &Case) -> Result<(), Failed> {
    let c = server.connect()?;
    if case.by_column {
        let options = [
            "-I", "stmt", "-t", "4", "-n", "3000", "-v", "1", "-y", "-d", db,
        ];
        if !server.benchmark(&options)? {
            eprintln!("skipped: no taosBenchmark beside taosd");
            return Ok(());
        }
        return compare(server, db);
    }
    c.execute(&format!(
        "create database {db} vgroups 1 duration 1d {}",
        case.database
    ))?;
    let key = case
        .composite
        .map_or(String::new(), |kind| format!("k {kind} composite key, "));
    let columns = format!("(ts timestamp {}, {key}v int)", case.timestamp);
    c.execute(&format!("create table {db}.s {columns} tags (t int)"))?;
    c.execute(&format!("create table {db}.n {columns}"))?;
    for i in 0..3 {
        c.execute(&format!("create table {db}.c{i} using {db}.s tags ({i})"))?;
    }
    let ticks = match &case.database {
        options if options.contains("'us'") => 1_000_000,
        options if options.contains("'ns'") => 1_000_000_000,
        _ => 1_000,
    };
    for (round, table) in ["c0", "c1", "c2", "n", "c0", "n"].iter().enumerate() {
        for part in 0..4i64 {
            // Regular and irregular keys, over two days, some written twice.
            let values: String = (0..400i64)
                .map(|i| {
                    let second = START + part * 30_000 + i * 7;
                    let tick = second * ticks
                        + if round % 2 == 0 {
                            0
                        } else {
                            i * i * 31 % ticks
                        };
                    let key = match case.composite {
                        None => String::new(),
                        Some(kind) if kind.starts_with("varchar") => format!("'k{}',", i % 3),
                        Some(_) => format!("{},", i % 5),
                    };
                    let tick = if case.composite.is_some() {
                        tick - i % 4 * 7 * ticks
                    } else {
                        tick
                    };
                    format!("({tick},{key}{round})")
                })
                .collect();
            c.execute(&format!("insert into {db}.{table} values {values}"))?;
        }
        if round == 3 {
            c.execute(&format!("flush database {db}"))?;
        }
    }
    compare(server, db)
}

/// Holds both sources against SQL, once everything is committed.
fn compare(server: &Server, db: &str) -> Result<(), Failed> {
    let c = server.connect()?;
    c.execute(&format!("flush database {db}"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let outcome = compare_once(server, db, SourceChoice::Tsdb);
        match outcome {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(200)),
            outcome => break outcome,
        }
    }?;
    compare_once(server, db, SourceChoice::Wal)
}

fn compare_once(server: &Server, db: &str, source: SourceChoice) -> Result<(), Failed> {
    let request = Request {
        data_dirs: vec![server.data_dir()],
        database: Some(db.to_owned()),
        vgroup: None,
        since: Since::Version(Version::BEGINNING),
        source,
        window: None,
    };
    let detection = detect::run(&request, &()).map_err(|e| e.to_string())?;
    if !detection.plan.is_complete() {
        return Err(format!("{source:?} is not complete: {:?}", detection.plan.vgroups).into());
    }
    let c = server.connect()?;
    let tables = c.query(&format!(
        "select table_name, uid from information_schema.ins_tables where db_name = '{db}'"
    ))?;
    for table in &tables {
        let (name, uid) = (&table[0], Uid(table[1].parse()?));
        let by_sql: u64 = c.query(&format!("select count(*) from {db}.{name}"))?[0][0].parse()?;
        let plan = detection
            .plan
            .tables
            .iter()
            .find(|table| table.table.uid == uid);
        let by_us = plan.and_then(|table| table.rows).unwrap_or(0);
        if by_sql != by_us || by_sql == 0 {
            return Err(
                format!("{source:?}, table {name}: {by_sql} rows by SQL, {by_us} by us").into(),
            );
        }
    }
    Ok(())
}
