//! Which tables a database has at the watermark.
//!
//! The committed files of its vnodes say it, and of an incremental link only the tables that were altered since the base are
//! read: the others are what the base says of them. What only the server's mnode has, such as comments of super tables, is asked
//! for by SQL. What the files can't say for sure SQL says as a whole: where the watermark lies in the log, behind what is
//! committed, where a super table is being altered, and where there are virtual super tables.

use super::{Backup, BackupError, Known, found::Found};
use capture::{
    CaptureError, ReasonCode,
    catalogue::{Catalogue as VnodeCatalogue, UnlessAltered},
    database::{self, Before, FileTags},
};
use model::{
    TableId, Uid, Version, VgId,
    catalogue::{Catalogue, Column, Schema, SuperTable, Tables},
};
use plan::VgroupPlan;
use std::collections::HashMap;

/// What is told of a database's tables.
pub(super) struct Told {
    pub(super) catalogue: Catalogue,
    /// The tags of the children that are not what they were in the base, unless the server is to be asked for all of them.
    pub(super) tags: Option<FileTags>,
    pub(super) notes: Vec<String>,
}

impl Backup<'_> {
    /// Reads the catalogue.
    pub(super) fn catalogue(
        &self,
        database: &str,
        known: Option<&Known>,
        found: &Found,
    ) -> Result<Told, BackupError> {
        let mut notes = Vec::new();
        if !found.by_log {
            match self.by_files(database, known, found) {
                Ok(Some((catalogue, tags))) => {
                    return Ok(Told {
                        catalogue,
                        tags: Some(tags),
                        notes,
                    });
                }
                Ok(None) => {}
                Err(BackupError::Capture(error)) => notes.push(format!(
                    "database {database}: its tables could not be read from its files, so the server was asked for them: {error}"
                )),
                Err(error) => return Err(error),
            }
        }
        Ok(Told {
            catalogue: server::catalogue::read(self.connection, database)?,
            tags: None,
            notes,
        })
    }

    /// What the files say; `None` where that is not sure.
    fn by_files(
        &self,
        database: &str,
        known: Option<&Known>,
        found: &Found,
    ) -> Result<Option<(Catalogue, FileTags)>, BackupError> {
        let no_tables = Tables::new();
        let before = known.map_or(&no_tables, |known| &known.tables);
        let known = known_ids(before);
        let mut vnodes = Vec::new();
        for vnode in &found.vnodes {
            let mut plans = found.plan.vgroups.iter();
            let Some(plan) = plans.find(|plan| plan.vgroup == vnode.vgroup) else {
                return Ok(None);
            };
            let has = |id: TableId| {
                let is_child = id.suid.0 != 0;
                known.get(&id.uid) == Some(&(vnode.vgroup, is_child))
            };
            let unless_altered = UnlessAltered {
                since: self.known_since(plan),
                has: &has,
            };
            let catalogue = vnode.catalogue_but(&unless_altered)?;
            if catalogue.vnode.committed < plan.to {
                return Ok(None);
            }
            if let Some(problem) = catalogue.contradiction {
                let path = vnode.primary.join("meta");
                return Err(CaptureError::Contradiction { path, problem }.into());
            }
            vnodes.push((vnode.vgroup, catalogue));
        }
        let mut told = server::catalogue::read_but_tables(self.connection, database)?;
        let stables: Vec<SuperTable> = told.stables.values().cloned().collect();
        let joined = database::join(
            database,
            &vnodes,
            Some(Before {
                database: &told.database,
                stables: &stables,
                tables: before,
            }),
        );
        if !agree(&mut told, &joined.catalogue, &vnodes) {
            return Ok(None);
        }
        told.tables = joined.catalogue.tables;
        told.unreadable = joined.catalogue.unreadable;
        let more = vnodes.into_iter().flat_map(|(_, vnode)| vnode.not_covered);
        told.not_covered.extend(more);
        Ok(Some((told, joined.tags)))
    }

    /// The version at which the base knows the tables of a vgroup.
    fn known_since(&self, plan: &VgroupPlan) -> Version {
        // What could not be read is in its catalogue as an earlier link has it.
        let is_whole = self
            .base
            .is_some_and(|base| base.manifest.failures.is_empty());
        let is_another = plan.reasons.iter().any(|reason| {
            matches!(
                reason.code,
                ReasonCode::VgroupReplaced
                    | ReasonCode::VgroupUnknown
                    | ReasonCode::VgroupReshaped
                    | ReasonCode::BareVersion
            )
        });
        match is_whole && !is_another {
            true => plan.from,
            false => Version::BEGINNING,
        }
    }
}

/// The tables of the base, each with its vgroup and whether it is a child; without those of which it does not know everything.
fn known_ids(before: &Tables) -> HashMap<Uid, (VgId, bool)> {
    let known = before.values().filter(|table| match table.stable {
        Some(_) => table.tags.is_some(),
        None => table.schema.is_some(),
    });
    let ids = known.map(|table| (table.uid, (table.vgroup, table.stable.is_some())));
    ids.collect()
}

/// Whether SQL tells of the same super tables as the files; it is then given the ids of their columns, which only the files
/// have. One that was created behind the watermark is left to the next link.
fn agree(told: &mut Catalogue, files: &Catalogue, vnodes: &[(VgId, VnodeCatalogue)]) -> bool {
    let is_virtual = |(_, vnode): &(VgId, VnodeCatalogue)| {
        let mut stables = vnode.super_tables.values();
        stables.any(|stable| stable.is_virtual)
    };
    if !told.unreadable_stables.is_empty()
        || !files.unreadable_stables.is_empty()
        || vnodes.iter().any(is_virtual)
    {
        return false;
    }
    told.stables
        .retain(|name, _| files.stables.contains_key(name));
    files.stables.iter().all(|(name, stored)| {
        let told = told.stables.get_mut(name);
        told.is_some_and(|told| {
            told.suid == stored.suid && take_ids(&mut told.schema, &stored.schema)
        })
    })
}

/// Gives columns their ids, if all columns and tags are the same.
fn take_ids(told: &mut Schema, stored: &Schema) -> bool {
    let same = |a: &[Column], b: &[Column]| {
        let is_same = |(a, b): (&Column, &Column)| {
            (&a.name, a.column_type, a.key, &a.coding) == (&b.name, b.column_type, b.key, &b.coding)
        };
        a.len() == b.len() && a.iter().zip(b).all(is_same)
    };
    if !same(&told.columns, &stored.columns) || !same(&told.tags, &stored.tags) {
        return false;
    }
    for (told, stored) in told.columns.iter_mut().zip(&stored.columns) {
        told.id = stored.id;
    }
    true
}
