//! A full dump and, after every kind of change, a dump of the newer rows by stock taosdump (`-S`), against a full and an
//! incremental link: what a restore of each brings back. Prints a table in Markdown.
//!
//! `TDENGINE_HOME=… TAOSDUMP=… cargo run --release -p e2e --example stock_comparison`; `ROWS` is the number of rows a
//! table (default 10000), in 100 tables.

#![allow(clippy::unwrap_used)]

use e2e::{Connection, Content, Installation, Run, Server, Taosdump, bytes_below};
use std::{env, fs};

const START: i64 = 1_704_067_200_000;
const TABLES: i64 = 100;

/// What was done, and a query that tells.
const CHECKS: [(&str, &str); 8] = [
    (
        "rows appended",
        "select count(*) from $.s where v = 'appended'",
    ),
    (
        "rows updated",
        "select count(*) from $.s where v = 'updated'",
    ),
    ("late rows", "select count(*) from $.s where v = 'late'"),
    (
        "rows of a deleted range",
        "select count(*) from $.d5 where ts < 1704067300000",
    ),
    (
        "tables with the name of a dropped one",
        "select count(*) from information_schema.ins_tables where db_name = '$' and table_name = 'd6'",
    ),
    ("values in a new column", "select count(extra) from $.s"),
    (
        "tables with the new value of a tag",
        "select count(*) from (select tags tbname, place from $.s) where place = 'moved'",
    ),
    ("rows in all", "select count(*) from $.s"),
];

fn main() {
    let found =
        Installation::find().and_then(|i| Ok((Taosdump::stock(&i)?, Taosdump::find(&i)?, i)));
    let (stock, patched, installation) = match found {
        Ok(found) => found,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let rows = env::var("ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(10_000);
    let server = Server::start(&installation).unwrap();
    let c = server.connect().unwrap();
    fill(&c, rows);
    let dir = tempfile::tempdir().unwrap();
    let [full, newer, link0, link1] =
        ["full", "newer", "link0", "link1"].map(|n| dir.path().join(n));
    fs::create_dir(&full).unwrap();
    fs::create_dir(&newer).unwrap();
    let done = |what: &str, run: Run| {
        let run = run.expect_code(0).unwrap();
        eprintln!(
            "{what}: {:.2} s, {:.2} s CPU",
            run.wall.as_secs_f64(),
            run.cpu.as_secs_f64()
        );
    };
    let full_dir = full.display().to_string();
    let run = stock.run(&server, dir.path(), ["-D", "db", "-o", &full_dir]);
    done("stock full", run.unwrap());
    let run = Run::of(&mut patched.link_command(&server, &["db"], None, &link0));
    done("full link", run.unwrap());
    change(&c, rows);
    let (newer_dir, last) = (
        newer.display().to_string(),
        (START + rows * 1_000).to_string(),
    );
    let run = stock.run(
        &server,
        dir.path(),
        ["-D", "db", "-S", &last, "-o", &newer_dir],
    );
    done("stock -S", run.unwrap());
    let run = Run::of(&mut patched.link_command(&server, &["db"], Some(&link0), &link1));
    done("incremental link", run.unwrap());
    for dir_of_dump in [&full_dir, &newer_dir] {
        let run = stock.run(
            &server,
            dir.path(),
            ["-i", dir_of_dump, "-W", "db=by_stock"],
        );
        done("stock restore", run.unwrap());
    }
    let mut command = patched.restore_command(&server, &[&link0, &link1], &[("db", "by_links")]);
    done("restore of the links", Run::of(&mut command).unwrap());
    println!("| | database | stock full + `-S` | full + incremental link |\n|---|---|---|---|");
    for (what, sql) in CHECKS {
        let [source, by_stock, by_links] =
            ["db", "by_stock", "by_links"].map(|db| count(&c, sql, db));
        println!("| {what} | {source} | {by_stock} | {by_links} |");
    }
    let (full, newer, link0, link1) = (
        bytes_below(&full),
        bytes_below(&newer),
        bytes_below(&link0),
        bytes_below(&link1),
    );
    println!("| bytes, full and second dump | | {full}, {newer} | {link0}, {link1} |");
    let content = |name| Content::read(&c, name).unwrap();
    let source = content("db");
    let verdict = |name| match source.differences(&content(name), 3) {
        differences if differences.is_empty() => "equal".to_owned(),
        differences => format!("differs: {}", differences.join("; ")),
    };
    println!(
        "| every cell, tag and schema | | {} | {} |",
        verdict("by_stock"),
        verdict("by_links")
    );
}

fn count(c: &Connection, sql: &str, database: &str) -> String {
    match c.query(&sql.replace('$', database)) {
        Ok(rows) => rows.concat().concat(),
        Err(e) => e.text.split(" (").next().unwrap_or_default().to_owned(),
    }
}

fn insert(c: &Connection, table: &str, rows: impl Iterator<Item = i64>, note: &str) {
    let rows: Vec<i64> = rows.collect();
    for rows in rows.chunks(5_000) {
        let row = |n: &i64| format!("({}, {n}, '{note}')", START + n);
        let rows: String = rows.iter().map(row).collect();
        c.execute(&format!("insert into db.{table} (ts, i, v) values {rows}"))
            .unwrap();
    }
}

fn fill(c: &Connection, rows: i64) {
    c.execute("create database db vgroups 2 stt_trigger 1")
        .unwrap();
    c.execute(
        "create table db.s (ts timestamp, i bigint, v varchar(10)) tags (t int, place varchar(10))",
    )
    .unwrap();
    for n in 0..TABLES {
        c.execute(&format!(
            "create table db.d{n} using db.s tags ({n}, 'here')"
        ))
        .unwrap();
        insert(c, &format!("d{n}"), (0..rows).map(|n| n * 1_000), "first");
    }
    c.execute("flush database db").unwrap();
}

fn change(c: &Connection, rows: i64) {
    for n in 0..TABLES {
        insert(
            c,
            &format!("d{n}"),
            (rows..rows + 100).map(|n| n * 1_000),
            "appended",
        );
    }
    insert(c, "d1", (0..1_000).map(|n| n * 2_000), "updated");
    insert(c, "d2", (0..500).map(|n| n * 1_000 + 500), "late");
    insert(
        c,
        "d3",
        (0..50).map(|n| n * 1_000 - 30 * 86_400_000),
        "late",
    );
    c.execute("delete from db.d5 where ts < 1704067300000")
        .unwrap();
    c.execute("drop table db.d6").unwrap();
    c.execute("alter stable db.s add column extra int").unwrap();
    c.execute(&format!(
        "insert into db.d7 (ts, extra) values ({START}, 7)"
    ))
    .unwrap();
    c.execute("alter table db.d8 set tag place = 'moved'")
        .unwrap();
}
