//! The comparison that all restores are judged by notices every kind of single difference, and only differences.

use e2e::{Cell, Connection, Content, Installation, Server};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
};

/// What a change is called, the statement that makes it, and what the comparison must say.
const CHANGES: [(&str, &str, &str); 34] = [
    (
        "one_cell",
        "insert into $.c1 values (1, 1, 2.5, 'a', 'b', '\\x00', 1)",
        "row 1: cell 2 is",
    ),
    (
        "null_for_a_value",
        "insert into $.c1 (ts, i) values (2, NULL)",
        "row 2: cell 1 is 2, not NULL",
    ),
    (
        "empty_for_null",
        "insert into $.c1 (ts, v) values (3, '')",
        "cell 3 is NULL, not \"\"",
    ),
    (
        "one_cell_of_a_normal_table",
        "insert into $.n values (1, 8)",
        "table n, row 1: cell 1 is 1, not 8",
    ),
    (
        "missing_row",
        "delete from $.c1 where ts = 2",
        "table c1: row (2, 2,",
    ),
    (
        "missing_row_of_a_normal_table",
        "delete from $.n where ts = 2",
        "table n: row (2, 2) is missing",
    ),
    (
        "additional_row",
        "insert into $.c1 (ts, i) values (9, 9)",
        "should not be there",
    ),
    (
        "row_in_another_table",
        "insert into $.c2 (ts, i) values (9, 9)",
        "table c2: row (9, 9,",
    ),
    (
        "second_half_of_a_key",
        "insert into $.k1 values (1, 'z', 1)",
        "table k1: 3 rows, not 4",
    ),
    (
        "tag",
        "alter table $.c1 set tag t = 7",
        "table c1, tags: row (7, \"eins\") should not be there",
    ),
    (
        "tag_to_null",
        "alter table $.c1 set tag u = NULL",
        "table c1, tags",
    ),
    (
        "json_tag",
        "alter table $.j1 set tag j = '{\"a\":2}'",
        "table j1, tags",
    ),
    (
        "additional_table",
        "create table $.c9 using $.s tags (1, 'x')",
        "table c9 should not be there",
    ),
    ("missing_table", "drop table $.c2", "table c2 is missing"),
    (
        "missing_empty_table",
        "drop table $.e1",
        "table e1 is missing",
    ),
    (
        "additional_normal_table",
        "create table $.n9 (ts timestamp, v int)",
        "table n9 should not be there",
    ),
    (
        "additional_super_table",
        "create table $.s9 (ts timestamp, v int) tags (t int)",
        "super table s9 should not be there",
    ),
    (
        "missing_super_table",
        "drop stable $.lone",
        "super table lone is missing",
    ),
    (
        "super_table_of_a_child",
        "drop table $.c2; create table $.c2 using $.like_s tags (2, 'zwei')",
        "table c2, super table: \"s\", not \"like_s\"",
    ),
    (
        "additional_column",
        "alter stable $.s add column w int",
        "super table s",
    ),
    (
        "missing_column",
        "alter stable $.s drop column i",
        "super table s",
    ),
    (
        "column_width",
        "alter stable $.s modify column v varchar(11)",
        "VARCHAR(11)",
    ),
    (
        "column_width_of_a_normal_table",
        "alter table $.w modify column v varchar(11)",
        "table w: ",
    ),
    (
        "column_name",
        "alter table $.n rename column v x",
        "table n: ",
    ),
    (
        "column_compression",
        "alter stable $.s modify column v compress 'lz4'",
        "super table s, columns",
    ),
    (
        "column_level",
        "alter stable $.s modify column i level 'high'",
        "super table s, columns",
    ),
    (
        "tag_name",
        "alter stable $.s rename tag t t2",
        "super table s",
    ),
    (
        "additional_tag",
        "alter stable $.s add tag x int",
        "super table s",
    ),
    (
        "missing_tag",
        "alter stable $.s drop tag u",
        "super table s",
    ),
    (
        "tag_width",
        "alter stable $.s modify tag u varchar(11)",
        "super table s",
    ),
    (
        "comment_of_a_super_table",
        "alter stable $.s comment 'other'",
        "super table s",
    ),
    (
        "comment_of_a_child",
        "alter table $.c1 comment 'other'",
        "table c1, type, ttl and comment",
    ),
    ("ttl_of_a_normal_table", "alter table $.n ttl 77", "table n"),
    (
        "database_option",
        "alter database $ cachemodel 'both'",
        "database options: … CACHEMODEL 'none' …",
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let installation = Installation::find();
    if let Err(reason) = &installation {
        eprintln!("skipped: {reason}");
    }
    // One server for all, started by the first test that runs.
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    let trial = |name: &str, test: fn(&Connection, usize) -> Result<(), String>, n: usize| {
        let (installation, server) = (installation.clone(), server.clone());
        let skip = installation.is_err();
        let test = move || {
            let mut server = server.lock().map_err(|e| e.to_string())?;
            if server.is_none() {
                *server = Some(Server::start(&installation?)?);
            }
            let connection = server.as_ref().map(Server::connect).transpose()?;
            connection.map_or(Ok(()), |c| {
                let outcome = test(&c, n);
                for side in ["left", "right"] {
                    let _ = c.execute(&format!("drop database if exists {side}{n}"));
                }
                outcome.map_err(Failed::from)
            })
        };
        Trial::test(name, test).with_ignored_flag(skip)
    };
    let changes = CHANGES.iter().enumerate();
    let mut trials: Vec<Trial> = changes
        .map(|(n, (name, ..))| trial(&format!("notices_{name}"), notices, n))
        .collect();
    trials.push(trial("equal_databases_do_not_differ", equal, 100));
    trials.push(trial("notices_one_bit_of_a_float", bits, 101));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Two databases that differ in nothing but their names.
fn twins(c: &Connection, n: usize) -> Result<[String; 2], String> {
    let names = [format!("left{n}"), format!("right{n}")];
    for name in &names {
        run(c, name, "create database $ vgroups 1 keep 36500")?;
        run(
            c,
            name,
            "create table $.s (ts timestamp, i int, f float, v varchar(10), c nchar(5), b varbinary(4), d decimal(10, 2)) tags (t int, u varchar(10)) comment 'of s'",
        )?;
        run(
            c,
            name,
            "create table $.like_s (ts timestamp, i int, f float, v varchar(10), c nchar(5), b varbinary(4), d decimal(10, 2)) tags (t int, u varchar(10))",
        )?;
        run(
            c,
            name,
            "create table $.lone (ts timestamp, i int) tags (t int)",
        )?;
        run(
            c,
            name,
            "create table $.k (ts timestamp, p varchar(4) composite key, i int) tags (t int)",
        )?;
        run(
            c,
            name,
            "create table $.js (ts timestamp, i int) tags (j json)",
        )?;
        run(
            c,
            name,
            "create table $.c1 using $.s tags (1, 'eins') comment 'of c1'",
        )?;
        run(c, name, "create table $.c2 using $.s tags (2, 'zwei')")?;
        run(c, name, "create table $.e1 using $.s tags (3, NULL)")?;
        run(c, name, "create table $.k1 using $.k tags (1)")?;
        run(c, name, "create table $.j1 using $.js tags ('{\"a\":1}')")?;
        run(c, name, "create table $.n (ts timestamp, v int)")?;
        run(c, name, "create table $.w (ts timestamp, v varchar(10))")?;
        run(
            c,
            name,
            "insert into $.c1 values (1, 1, 1.5, 'a', 'b', '\\x00', 1) (2, 2, 2.5, 'a', 'b', '\\x00', 1)",
        )?;
        run(c, name, "insert into $.c1 (ts, i) values (3, 3)")?;
        run(
            c,
            name,
            "insert into $.k1 values (1, 'a', 1) (1, 'b', 1) (2, 'a', 1)",
        )?;
        run(c, name, "insert into $.n values (1, 1) (2, 2)")?;
    }
    Ok(names)
}

/// Statements, parted by semicolons; `$` is the database.
fn run(c: &Connection, database: &str, sql: &str) -> Result<(), String> {
    for statement in sql.split("; ") {
        let statement = statement.replace('$', database);
        c.execute(&statement).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn differences(c: &Connection, names: &[String; 2]) -> Result<Vec<String>, String> {
    let [left, right] = names.each_ref().map(|name| Content::read(c, name));
    let (left, right) = (
        left.map_err(|e| e.to_string())?,
        right.map_err(|e| e.to_string())?,
    );
    Ok(left.differences(&right, 5))
}

fn notices(c: &Connection, n: usize) -> Result<(), String> {
    let (_, change, says) = CHANGES[n];
    let names = twins(c, n)?;
    run(c, &names[1], change)?;
    let found = differences(c, &names)?;
    if !found.iter().any(|line| line.contains(says)) {
        return Err(format!("{says:?} is not in {found:#?}"));
    }
    Ok(())
}

fn equal(c: &Connection, n: usize) -> Result<(), String> {
    let names = twins(c, n)?;
    let found = differences(c, &names)?;
    if !found.is_empty() {
        return Err(format!("{found:#?}"));
    }
    Ok(())
}

/// Zero and minus zero, two NaNs, a text that goes on behind a NUL: equal in SQL's eyes or on paper, not in ours.
fn bits(c: &Connection, n: usize) -> Result<(), String> {
    let names = twins(c, n)?;
    let insert = |name: &str, float: u32, text: &[u8]| {
        let row = vec![Cell::Time(5), Cell::Float(float), Cell::Text(text.to_vec())];
        let sql = format!("insert into {name}.c1 (ts, f, v) values (?, ?, ?)");
        c.bind(&sql, &[9, 6, 8], &[row]).map_err(|e| e.to_string())
    };
    let nan = f32::NAN.to_bits();
    for [a, b] in [
        [(0, &b"x"[..]), (1 << 31, &b"x"[..])],
        [(nan, b"x"), (nan + 1, b"x")],
        [(0, b"x\0y"), (0, b"x\0z")],
        [(0, b"x"), (0, b"x\0")],
    ] {
        insert(&names[0], a.0, a.1)?;
        insert(&names[1], b.0, b.1)?;
        if differences(c, &names)?.is_empty() {
            return Err(format!("{a:?} passes for {b:?}"));
        }
        insert(&names[1], a.0, a.1)?;
        if !differences(c, &names)?.is_empty() {
            return Err(format!("{a:?} is not {a:?}"));
        }
    }
    Ok(())
}
