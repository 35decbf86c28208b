//! The link that a backup follows, and what it says about a database.

use super::BackupError;
use crate::watermark::WatermarkError;
use capture::VnodeDir;
use model::{Progress, Unit, catalogue};
use plan::checkpoint::Checkpoint;
use repository::link::{DatabaseLink, Link, LinkError};
use std::sync::Arc;
use store::Store;

/// Opens the base, if it can be followed: a link on a base that can't be restored could not be restored either. That
/// each of its files is there and has its length is always checked, what the files hold only with `whole`.
pub(super) fn open(
    store: &Arc<dyn Store>,
    cluster: &str,
    whole: bool,
    progress: &dyn Progress,
) -> Result<Link, BackupError> {
    let link = Link::open(Arc::clone(store))?;
    let refuse = |problem: String| {
        Err(BackupError::Base {
            place: store.place(""),
            problem,
        })
    };
    if let Some(failure) = link.manifest.failures.first() {
        return refuse(format!(
            "it is incomplete ({failure}); use the link before it, or take a new full backup"
        ));
    }
    if link.manifest.export {
        return refuse(
            "it is an export of blocks, which is no part of a chain; give a link of a dump"
                .to_owned(),
        );
    }
    if link.manifest.cluster != cluster {
        return refuse(format!(
            "it is of cluster {}, the server is cluster {cluster}; take a new full backup of this one",
            link.manifest.cluster
        ));
    }
    progress.step(
        "checking the base",
        Unit::Bytes,
        if whole { link.bytes() } else { 0 },
    );
    let checked = match whole {
        true => link.check_files(progress),
        false => link.check_lengths(progress),
    };
    match checked {
        Ok(()) => Ok(link),
        Err(LinkError::Cancelled(cancelled)) => Err(cancelled.into()),
        Err(LinkError::Newer(newer)) => Err(LinkError::Newer(newer).into()),
        Err(error) => refuse(format!(
            "{error}. Without this file no restore gets past it, nor to a link that follows it; bring the file back, \
             or take a new full backup (without --base)"
        )),
    }
}

/// A base must know at least one of the databases.
pub(super) fn must_know_one_of(
    base: Option<&Link>,
    databases: &[String],
) -> Result<(), BackupError> {
    let Some(base) = base else { return Ok(()) };
    if databases.iter().any(|name| base.database(name).is_some()) {
        return Ok(());
    }
    let held: Vec<&str> = base
        .manifest
        .databases
        .iter()
        .map(|link| link.database.name.as_str())
        .collect();
    Err(BackupError::Base {
        place: base.place(),
        problem: format!(
            "it holds database {}, and not {}; give a base of this database, or take a new full backup",
            held.join(", "),
            databases.join(", ")
        ),
    })
}

/// Where the next link of a database starts, checked against the manifest.
pub(super) fn read_checkpoint(base: &Link, link: &DatabaseLink) -> Result<Checkpoint, BackupError> {
    let entry = &link.checkpoint;
    store::check(&*base.store, entry)?;
    let bytes = base.store.get(&entry.path)?;
    Ok(Checkpoint::parse(&bytes, &base.store.place(&entry.path))?)
}

/// A database that was dropped and created again has another id.
pub(super) fn check_ids(
    base: &Link,
    database: &str,
    checkpoint: &Checkpoint,
    vnodes: &[VnodeDir],
) -> Result<(), BackupError> {
    for vnode in vnodes {
        let now = vnode.config().map_err(WatermarkError::from)?.db_id;
        let mut known = checkpoint.vgroups.values();
        if known.all(|(_, known)| known.db_id != now) {
            return Err(BackupError::Base {
                place: base.place(),
                problem: format!(
                    "database {database} was dropped and created again since; take a new full backup (without \
                     --base)"
                ),
            });
        }
    }
    Ok(())
}

/// What the base says about a database.
pub(crate) struct Known {
    pub(crate) link: DatabaseLink,
    pub(crate) tables: catalogue::Tables,
}
