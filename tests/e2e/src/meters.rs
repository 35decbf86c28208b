//! A database of meters for benches: 100 tables of one super table, a row a second.

use crate::{Connection, SqlError};
use std::ops::Range;

/// 2024-01-01 in ms, the time of each table's first row.
pub const START: i64 = 1_704_067_200_000;

/// How many tables there are.
pub const TABLES: i64 = 100;

/// Creates database `b` with so many rows in each table, all of them committed.
pub fn create(c: &Connection, rows: i64) -> Result<(), SqlError> {
    create_every(c, "b", rows, 1_000)
}

/// Creates a database with so many rows in each table, one every so many ms, all of them committed.
pub fn create_every(c: &Connection, name: &str, rows: i64, step: i64) -> Result<(), SqlError> {
    c.execute(&format!("create database {name} vgroups 2 stt_trigger 1"))?;
    c.execute(&format!(
        "create table {name}.s (ts timestamp, current float, voltage int, phase float) tags (t int)"
    ))?;
    for table in 0..TABLES {
        c.execute(&format!(
            "create table {name}.d{table} using {name}.s tags ({table})"
        ))?;
    }
    // Period by period, as meters write. The server takes far longer for rows that are years apart in turns.
    let piece = (10 * 86_400_000 / step).clamp(500, 5_000);
    for first in (0..rows).step_by(piece as usize) {
        for table in 0..TABLES {
            write_pieces(c, name, table, first..rows.min(first + piece), step)?;
        }
    }
    c.execute(&format!("flush database {name}"))?;
    Ok(())
}

/// Writes so many rows of each table again, half of them at its end and half in the middle, and commits them. Returns
/// when the first row at the end is, in ms.
pub fn write_again(c: &Connection, rows: i64, dirty: i64) -> Result<i64, SqlError> {
    for table in 0..TABLES {
        write(c, table, rows - dirty / 2, dirty / 2)?;
        write(c, table, rows / 3, dirty / 2)?;
    }
    c.execute("flush database b")?;
    Ok(START + (rows - dirty / 2) * 1_000)
}

fn write(c: &Connection, table: i64, first: i64, count: i64) -> Result<(), SqlError> {
    write_pieces(c, "b", table, first..first + count, 1_000)
}

fn write_pieces(
    c: &Connection,
    database: &str,
    table: i64,
    rows: Range<i64>,
    step: i64,
) -> Result<(), SqlError> {
    for first in rows.clone().step_by(5_000) {
        let row = |n: i64| {
            let (ts, a, b, c) = (START + n * step, n % 20, n % 300, n * 7 % 1_000);
            format!("({ts},{a}.25,{b},0.{c})")
        };
        let values: String = (first..rows.end.min(first + 5_000)).map(row).collect();
        c.execute(&format!("insert into {database}.d{table} values {values}"))?;
    }
    Ok(())
}
