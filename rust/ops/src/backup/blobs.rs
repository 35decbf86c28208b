//! BLOB values. For one that was updated in memory, queries of 3.3.7.5 give NULL until it is flushed, so a database that has
//! any is always flushed before its rows are read. (Every other type is read right from memory.)

use super::{BackupError, Done};
use crate::watermark::WatermarkError;
use capture::VnodeDir;
use plan::Plan;

/// Says that a database was flushed although the log was to be read.
pub(super) fn flushed(database: &str) -> String {
    format!(
        "database {database} was flushed all the same: it has BLOB columns, and the server gives NULL for a BLOB that was \
         updated in memory"
    )
}

/// Says that BLOB values may have been updated between the flush and the query that read them, if anything was written
/// in that time. The next link has them.
pub(super) fn note(
    done: &Done,
    vnodes: &[VnodeDir],
    plan: &Plan,
) -> Result<Option<String>, BackupError> {
    if !done.has_blobs {
        return Ok(None);
    }
    for vnode in vnodes {
        let newest = vnode.newest_logged().map_err(WatermarkError::from)?;
        let read = plan.vgroups.iter().find(|read| read.vgroup == vnode.vgroup);
        if read.is_some_and(|read| newest > read.to) {
            return Ok(Some(format!(
                "database {} was written to while it was dumped: a BLOB that was updated meanwhile may be NULL in this \
                 link, and is right in the next one",
                done.link.database.name
            )));
        }
    }
    Ok(None)
}
