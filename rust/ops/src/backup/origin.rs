//! Super tables that no CREATE STABLE makes as they are.

use super::Known;
use model::catalogue::Catalogue;
use server::{Connection, SqlError, tables};

/// Names the super tables that a restore makes otherwise than they are, of those that are new in this link. What differs
/// has no influence on any row.
pub(super) fn note(
    connection: &Connection,
    catalogue: &Catalogue,
    known: Option<&Known>,
) -> Result<Option<String>, SqlError> {
    let mut found = tables::not_made_by_create(connection, &catalogue.database.name)?;
    found.retain(|stable| {
        let Some(now) = catalogue.stables.get(&stable.name) else {
            return false;
        };
        let mut before = known.iter().flat_map(|known| &known.link.stables);
        // Where there are retentions, CREATE STABLE takes what is told of it.
        !now.schema.options.contains("WATERMARK") && !before.any(|before| before.suid == now.suid)
    });
    let named: Vec<String> = found
        .iter()
        .map(|stable| {
            format!(
                "{} (watermark {}, max_delay {})",
                stable.name, stable.watermark, stable.max_delay
            )
        })
        .collect();
    Ok((!named.is_empty()).then(|| {
        format!(
            "super tables that schemaless writing, a stream or a TSMA made get the watermark, max_delay and SMA of CREATE \
             STABLE when they are restored, which changes no row: {}",
            named.join(", ")
        )
    }))
}
