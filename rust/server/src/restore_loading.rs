//! Options that a target has only while it is loaded, kept in the database of the record of restores: a restore that is
//! killed leaves word of what the next one has to put back.

use crate::{
    Connection, SqlError, database,
    restore_record::{self, DATABASE},
    sql,
};

/// An option of a database that is being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// Its value meanwhile.
    pub meanwhile: String,
    /// Its value at the end.
    pub then: String,
}

fn table(target: &str) -> String {
    let digits = restore_record::digits(target);
    sql::table(DATABASE, &format!("loading_{digits}"))
}

/// What has to be put back in a target; nothing if the database was made anew since.
pub fn read(connection: &Connection, target: &str) -> Result<Vec<Loaded>, SqlError> {
    let Some(created) = database::created(connection, target)? else {
        return Ok(Vec::new());
    };
    let query = format!(
        "SELECT name, meanwhile, later, created FROM {} WHERE created IN (0, {created}) ORDER BY ts",
        table(target)
    );
    let rows = match connection.query(&query) {
        Err(error) if error.is_missing() || error.is_no_database() => return Ok(Vec::new()),
        rows => rows?,
    };
    let (mut noted, mut is_sure) = (Vec::new(), false);
    rows.for_each(|row| {
        noted.push(Loaded {
            name: row.text(0),
            meanwhile: row.text(1),
            then: row.text(2),
        });
        is_sure |= row.get(3).as_i64() == Some(created);
        Ok::<_, SqlError>(())
    })?;
    if !is_sure && !noted.is_empty() {
        // The restore was killed while it made the database, or before and somebody else made one.
        let present = database::options(connection, target)?;
        let is_ours = |loaded: &Loaded| present.get(&loaded.name) == Some(&loaded.meanwhile);
        if !noted.iter().all(is_ours) {
            noted.clear();
        }
    }
    Ok(noted)
}

/// Notes what has to be put back in a target, in the place of what was noted before: also in one that is about to be made.
pub fn write(connection: &Connection, target: &str, options: &[Loaded]) -> Result<(), SqlError> {
    let table = table(target);
    let created = database::created(connection, target)?.unwrap_or_default();
    connection.execute(&format!(
        "CREATE TABLE IF NOT EXISTS {table} \
         (ts TIMESTAMP, created BIGINT, name VARCHAR(64), meanwhile VARCHAR(256), later VARCHAR(256))"
    ))?;
    let mut text = format!("INSERT INTO {table} VALUES");
    // An option has one row, which is replaced.
    for (key, loaded) in options.iter().enumerate() {
        text.push_str(&format!(
            " ({key}, {created}, {}, {}, {})",
            sql::text(&loaded.name),
            sql::text(&loaded.meanwhile),
            sql::text(&loaded.then),
        ));
    }
    if !options.is_empty() {
        connection.execute(&text)?;
    }
    connection
        .execute(&format!(
            "DELETE FROM {table} WHERE ts >= {}",
            options.len()
        ))
        .map(drop)
}

/// Nothing has to be put back in a target any more.
pub fn forget(connection: &Connection, target: &str) -> Result<(), SqlError> {
    connection
        .execute(&format!("DROP TABLE IF EXISTS {}", table(target)))
        .map(drop)
}
