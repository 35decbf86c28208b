//! What a detection asks the server, where there is a connection: where its files are, and what its tables are called.

use crate::{
    dump::cluster_id,
    plan::Plan,
    watermark::{self, WatermarkError},
};
use std::{collections::HashMap, path::PathBuf};
use taos::{Connection, SqlError, sql};
use tdfiles::Uid;

/// The data directories that the server reports, or those given, once they are known to be the server's.
pub fn data_dirs(
    connection: &Connection,
    given: &[PathBuf],
) -> Result<Vec<PathBuf>, WatermarkError> {
    let cluster = cluster_id(connection)?;
    watermark::data_dirs(connection, &cluster, given)
}

/// Names the tables of a plan that have no name yet. Those that are gone stay without one.
pub fn name_tables(
    connection: &Connection,
    database: &str,
    plan: &mut Plan,
) -> Result<(), SqlError> {
    if plan.tables.iter().all(|table| table.name.is_some()) {
        return Ok(());
    }
    let mut names: HashMap<Uid, String> = HashMap::new();
    let query = format!(
        "SELECT uid, table_name FROM information_schema.ins_tables WHERE db_name = {}",
        sql::text(database)
    );
    connection.query(&query)?.for_each(|row| {
        if let Some(uid) = row.get(0).as_i64() {
            names.insert(Uid(uid), row.text(1));
        }
        Ok::<_, SqlError>(())
    })?;
    for table in plan.tables.iter_mut().filter(|table| table.name.is_none()) {
        table.name = names.remove(&table.table.uid);
    }
    Ok(())
}
