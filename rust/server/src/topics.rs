//! Topics and consumer groups, as far as statements make and remove them.

use crate::{Connection, SqlError, sql};

/// A topic in the server's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The statement that made it.
    pub statement: String,
    /// The database it is of, if it is one of a whole database with changes of tables and rows.
    pub whole_database: Option<String>,
}

/// What the server says about a topic; `None` if there is none of this name.
pub fn find(connection: &Connection, topic: &str) -> Result<Option<Topic>, SqlError> {
    let mut rows = connection.query(&format!(
        "SELECT `db_name`, `meta`, `type`, `sql` FROM information_schema.ins_topics WHERE topic_name = {}",
        sql::text(topic)
    ))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let (database, meta, kind, statement) = (row.text(0), row.text(1), row.text(2), row.text(3));
    let words: Vec<String> = statement
        .split_whitespace()
        .map(str::to_lowercase)
        .collect();
    // ins_topics says "yes" for both kinds of meta.
    let only_meta = words.windows(2).any(|pair| pair == ["only", "meta"]);
    let whole = meta == "yes" && kind == "db" && !only_meta;
    Ok(Some(Topic {
        statement,
        whole_database: whole.then_some(database),
    }))
}

/// Makes a topic of a whole database with changes of tables and rows, if there is none of this name.
pub fn create(connection: &Connection, topic: &str, database: &str) -> Result<(), SqlError> {
    let statement = format!(
        "CREATE TOPIC IF NOT EXISTS {} WITH META AS DATABASE {}",
        sql::name(topic),
        sql::name(database)
    );
    connection.execute(&statement).map(drop)
}

/// Drops a consumer group of a topic with all that the server keeps for it, if it is there.
pub fn drop_group(connection: &Connection, group: &str, topic: &str) -> Result<(), SqlError> {
    let statement = format!(
        "DROP CONSUMER GROUP IF EXISTS {} ON {}",
        sql::name(group),
        sql::name(topic)
    );
    connection.execute(&statement).map(drop)
}
