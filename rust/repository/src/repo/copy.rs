//! Snapshots to another repository, under the key of that one.

use super::{
    RepoError,
    import::{self, Imported, Notes},
    open::Repository,
    snapshot::Snapshot,
};
use crate::link::Link;
use model::Progress;

/// Copies a snapshot with all that it is made of, the oldest link first. What is there already is not copied again. Labels and
/// host are those of the source, also of snapshots that were forgotten there.
///
/// # Errors
/// Something can't be read or written, or the other repository has a snapshot that follows the same base.
pub fn snapshot(
    from: &Repository,
    to: &Repository,
    snapshot: &Snapshot,
    progress: &dyn Progress,
) -> Result<Vec<Imported>, RepoError> {
    if from.id() == to.id() {
        return Err(RepoError::Refused(format!(
            "{} and {} are the same repository; give another one to copy to",
            from.place(),
            to.place()
        )));
    }
    let snapshots = from.snapshots()?;
    let mut copied = Vec::new();
    for part in snapshots.chain(snapshot)? {
        let link = Link::open(from.link(&part.link.id)?)?;
        let notes = Notes {
            host: part.host.clone(),
            labels: part.labels.clone(),
        };
        copied.push(import::link(to, &link, &notes, progress)?);
    }
    Ok(copied)
}
