//! A detection as text for people.

use bitmap::BlockState;
use model::{Key, KeySpan, Precision};
use plan::{TablePlan, detect::Detection, report::state_name};
use std::{fmt::Write, time::Duration};

/// Tables shown; `--json` lists all.
const SHOWN: usize = 50;

/// Vgroups, tables, totals.
pub(crate) fn table(detection: &Detection, taken: Duration) -> String {
    let plan = &detection.plan;
    let mut out = String::new();
    let w = &mut out; // writing to a string can't fail
    let _ = writeln!(
        w,
        "database {}, precision {}, window {} {}",
        detection.database,
        detection.precision,
        plan.window.ticks(),
        detection.precision
    );
    let _ = writeln!(
        w,
        "\n{:>7}  {:>12}  {:>12}  {:<9}  complete",
        "vgroup", "from version", "to version", "source"
    );
    for vgroup in &plan.vgroups {
        let source = match vgroup.source {
            capture::SourceKind::Tsdb => "tsdb",
            capture::SourceKind::Wal => "wal",
            capture::SourceKind::TsdbAndWal => "tsdb+wal",
        };
        let complete = if vgroup.complete { "yes" } else { "NO" };
        let _ = writeln!(
            w,
            "{:>7}  {:>12}  {:>12}  {source:<9}  {complete}",
            vgroup.vgroup.0, vgroup.from.0, vgroup.to.0
        );
        for reason in &vgroup.reasons {
            let _ = writeln!(w, "         - {}", reason.text);
            if let Some(range) = reason.range {
                let _ = writeln!(
                    w,
                    "           every table is dirty {}",
                    span(range, detection.precision)
                );
            }
        }
    }
    let mut tables: Vec<&TablePlan> = plan.tables.iter().collect();
    if tables.is_empty() {
        let known = if plan.is_complete() {
            "nothing changed"
        } else {
            "no changed table is known by its id"
        };
        let _ = writeln!(w, "\n{known}");
    } else {
        tables.sort_by_key(|table| std::cmp::Reverse(table.rows.unwrap_or(u64::MAX)));
        let names: Vec<String> = tables.iter().take(SHOWN).map(|table| name(table)).collect();
        let width = names
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        let _ = writeln!(
            w,
            "\n{:<width$}  {:>6}  {:<7}  {:>10}  {:>5}  {:>7}  changed keys",
            "table", "vgroup", "state", "rows", "spans", "deletes"
        );
        for (table, name) in tables.iter().zip(&names) {
            let rows = table.rows.map_or("?".to_owned(), |rows| rows.to_string());
            let hull = table.spans.iter().copied().reduce(KeySpan::hull);
            let _ = writeln!(
                w,
                "{name:<width$}  {:>6}  {:<7}  {rows:>10}  {:>5}  {:>7}  {}",
                table.vgroup.0,
                state_name(table.state),
                table.spans.len(),
                table.deletes.len(),
                hull.map_or(String::new(), |hull| span(hull, detection.precision)),
            );
        }
        if tables.len() > SHOWN {
            let _ = writeln!(
                w,
                "… and {} more tables (--json lists them all)",
                tables.len() - SHOWN
            );
        }
    }
    for why in plan.unseen_drops() {
        let _ = writeln!(w, "\nincomplete: {why}");
    }
    let count = |state| {
        plan.tables
            .iter()
            .filter(|table| table.state == state)
            .count()
    };
    let _ = writeln!(
        w,
        "\n{} rows in {} tables ({} new, {} dirty, {} deleted), {} spans, {} deletes, {} blocks; {:.3} s",
        plan.rows(),
        plan.tables.len(),
        count(BlockState::New),
        count(BlockState::Dirty),
        count(BlockState::Deleted),
        plan.tables
            .iter()
            .map(|table| table.spans.len())
            .sum::<usize>(),
        plan.tables
            .iter()
            .map(|table| table.deletes.len())
            .sum::<usize>(),
        plan.blocks.len(),
        taken.as_secs_f64()
    );
    out
}

fn name(table: &TablePlan) -> String {
    match &table.name {
        Some(name) => name.clone(),
        None => format!("uid {}", table.table.uid.0),
    }
}

pub(crate) fn span(span: KeySpan, precision: Precision) -> String {
    if span == KeySpan::ALL {
        return "at every key".to_owned();
    }
    format!(
        "{} … {}",
        time(span.first, precision),
        time(span.last, precision)
    )
}

/// UTC, or the bare number where a key is no representable time.
fn time(key: Key, precision: Precision) -> String {
    let timestamp = match precision {
        Precision::Milliseconds => jiff::Timestamp::from_millisecond(key.0),
        Precision::Microseconds => jiff::Timestamp::from_microsecond(key.0),
        Precision::Nanoseconds => jiff::Timestamp::from_nanosecond(key.0.into()),
    };
    timestamp.map_or_else(|_| key.0.to_string(), |timestamp| timestamp.to_string())
}
