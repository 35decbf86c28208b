//! Many deletes in one table. Each is a statement of its own in a restore, and costs there as much as writing hundreds of
//! rows, so deletes between which few rows are left become one: a wider range is deleted, and what is left in it is in the
//! link.

use super::{BackupError, Changes, Writing};
use model::{KeySpan, catalogue::Catalogue, pool};
use parking_lot::Mutex;
use server::{Connection, SqlError, select, tables::if_there};
use std::collections::HashMap;

/// A table with fewer deletes keeps them as they are.
const MANY: usize = 64;

/// So many deletes become one, if at all.
const JOINED: usize = 1_024;

/// A delete that is saved may cost this many rows.
const ROWS_FOR_A_DELETE: u64 = 64;

/// Joins the deletes of every table that has many.
pub(super) fn join(
    writing: &Writing<'_>,
    catalogue: &Catalogue,
    changes: &mut Changes,
) -> Result<(), BackupError> {
    // What can't be counted stays as it is.
    let Some(server) = &writing.server else {
        return Ok(());
    };
    let tables = changes.tables.values().filter_map(|change| {
        let table = catalogue.tables.get(&change.name)?;
        let key = catalogue.schema_of(table)?.columns.first()?;
        let many = change.deletes.len() >= MANY;
        many.then_some((change.name.as_str(), key.name.as_str(), &*change.deletes))
    });
    let mut pieces = Vec::new();
    for (name, key, deletes) in tables {
        pieces.extend(deletes.chunks(JOINED).map(|piece| (name, key, piece)));
    }
    let joined: Mutex<HashMap<String, Vec<KeySpan>>> = Mutex::default();
    let no_connection = || None;
    pool::run(
        &pieces,
        writing.job.threads,
        no_connection,
        |slot: &mut Option<Connection>, (name, key, piece)| {
            writing.progress.go_on()?;
            let Some(hull) = hull(piece) else {
                return Ok(());
            };
            let connection = match slot {
                Some(connection) => connection,
                None => slot.insert(server.library.connect(&writing.job.login)?),
            };
            let database = &catalogue.database.name;
            // What can't be counted stays as it is.
            let rows: Result<_, SqlError> =
                if_there(connection, database, name, writing.progress, || {
                    select::count(connection, database, name, key, hull)
                });
            let worth = ROWS_FOR_A_DELETE * piece.len() as u64;
            if matches!(rows, Ok(Some(rows)) if rows <= worth) {
                joined
                    .lock()
                    .entry((*name).to_owned())
                    .or_default()
                    .push(hull);
            }
            Ok::<_, BackupError>(())
        },
    )?;
    for (name, hulls) in joined.into_inner() {
        if let Some(change) = changes.tables.get_mut(&name) {
            change.deletes.extend_from_slice(&hulls);
            change.deletes = KeySpan::joined(std::mem::take(&mut change.deletes));
            change.spans.extend(hulls);
            change.spans = KeySpan::joined(std::mem::take(&mut change.spans));
        }
    }
    Ok(())
}

fn hull(piece: &[KeySpan]) -> Option<KeySpan> {
    Some(piece.first()?.hull(*piece.last()?))
}
