//! Tables of a target that lack something, kept in the database of the record of restores: later links go on with
//! them, and say so until one makes them whole.

use crate::{
    Connection, SqlError, database,
    insert::STATEMENT_BYTES,
    restore_record::{self, DATABASE},
    sql,
};
use std::collections::BTreeMap;

/// What a table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// Everything: it is not there.
    Itself,
    /// Values of tags, which are NULL.
    Tags,
    /// Some of its rows.
    Rows,
}

/// A table that lacks something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What it lacks.
    pub what: Lacks,
    /// Why.
    pub problem: String,
}

/// Tables that lack something, by name.
pub type Lacking = BTreeMap<String, Lack>;

impl Lacks {
    const ALL: [Self; 3] = [Self::Itself, Self::Tags, Self::Rows];

    fn word(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::Tags => "tags",
            Self::Rows => "rows",
        }
    }
}

/// So many characters of a problem are kept.
const PROBLEM_CHARS: usize = 1_000;

fn table(target: &str) -> String {
    let digits = restore_record::digits(target);
    sql::table(DATABASE, &format!("lacking_{digits}"))
}

/// The tables of a target that lack something. None, if the database was made anew since.
pub fn read(connection: &Connection, target: &str) -> Result<Lacking, SqlError> {
    let Some(created) = database::created(connection, target)? else {
        return Ok(Lacking::new());
    };
    let query = format!(
        "SELECT name, what, problem FROM {} WHERE created = {created} ORDER BY ts",
        table(target)
    );
    let mut lacking = Lacking::new();
    let rows = match connection.query(&query) {
        Err(error) if error.is_missing() || error.is_no_database() => return Ok(lacking),
        rows => rows?,
    };
    // Of two rows of one table the later one holds: a restore was killed before it deleted the first.
    rows.for_each(|row| {
        let word = row.text(1);
        let mut all = Lacks::ALL.into_iter();
        // What a later version wrote is taken for the worst.
        let what = all
            .find(|what| what.word() == word)
            .unwrap_or(Lacks::Itself);
        let problem = row.text(2);
        lacking.insert(row.text(0), Lack { what, problem });
        Ok::<_, SqlError>(())
    })?;
    Ok(lacking)
}

/// Notes which tables of a target lack something, in the place of all that was noted of it before. What was noted
/// before goes last, so that nothing is forgotten where this is cut short.
pub fn write(connection: &Connection, target: &str, lacking: &Lacking) -> Result<(), SqlError> {
    let table = table(target);
    let created = database::created(connection, target)?.unwrap_or_default();
    let before = match last_key(connection, &table) {
        Err(error) if error.is_missing() && lacking.is_empty() => return Ok(()),
        Err(error) if error.is_missing() => {
            connection.execute(&format!(
                "CREATE TABLE IF NOT EXISTS {table} (ts TIMESTAMP, created BIGINT, name VARCHAR(800), \
                 what VARCHAR(16), problem VARCHAR(4000))"
            ))?;
            None
        }
        before => before?,
    };
    let head = format!("INSERT INTO {table} VALUES");
    let mut text = head.clone();
    for (key, (name, lack)) in (before.map_or(0, |key| key.saturating_add(1))..).zip(lacking) {
        text.push_str(&format!(
            " ({key}, {created}, {}, '{}', {})",
            sql::text(name),
            lack.what.word(),
            sql::text(&lack.problem.chars().take(PROBLEM_CHARS).collect::<String>()),
        ));
        if text.len() >= STATEMENT_BYTES {
            connection.execute(&text)?;
            text.clone_from(&head);
        }
    }
    if text.len() > head.len() {
        connection.execute(&text)?;
    }
    if let Some(before) = before {
        connection.execute(&format!("DELETE FROM {table} WHERE ts <= {before}"))?;
    }
    Ok(())
}

/// The last key of what was noted before.
fn last_key(connection: &Connection, table: &str) -> Result<Option<i64>, SqlError> {
    let query = format!("SELECT CAST(ts AS BIGINT) FROM {table} ORDER BY ts DESC LIMIT 1");
    let mut rows = connection.query(&query)?;
    Ok(rows.next()?.and_then(|row| row.get(0).as_i64()))
}
