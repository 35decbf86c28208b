//! A database that is there, without tables, before anything was restored to it: it stays as whoever made it wanted it.

use model::catalogue::database_options;
use repository::link::DatabaseLink;
use server::{Connection, SqlError, database, restore_record::Target};

/// Says which options of such a database are not those of the backup.
pub(super) fn kept_options(
    connection: &Connection,
    state: &Target,
    link: &DatabaseLink,
) -> Result<Option<String>, SqlError> {
    if state.precision.is_none() || state.at.is_some() || link.incremental {
        return Ok(None);
    }
    let present = database::options(connection, &state.name)?;
    let wanted = database_options(&link.database.create);
    let differs = wanted.iter().filter_map(|(option, wanted)| {
        let present = present.get(option).filter(|present| *present != wanted)?;
        Some(format!("{option} {present} (the backup has {wanted})"))
    });
    let differs: Vec<String> = differs.collect();
    Ok((!differs.is_empty()).then(|| {
        format!(
            "database {} was there and keeps its {}; to have those of the backup, drop it first",
            state.name,
            differs.join(", ")
        )
    }))
}
