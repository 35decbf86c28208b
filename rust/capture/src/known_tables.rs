//! What the catalogue says about the tables that a log writes to: which there are, and their columns in every version.

use crate::{CaptureError, VnodeDir};
use model::{SchemaVersion, Suid, TableId, Uid, Version};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
};
use tdfiles::{FormatError, meta::Meta, schema::Schema};

/// A name as it is stored.
pub(crate) type TableName = Box<[u8]>;

/// What has to be known of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The tables that these names stand for.
    pub(crate) names: HashSet<TableName>,
    /// The columns of these normal tables; those of super tables are always wanted.
    pub(crate) normal_tables: HashSet<Uid>,
}

/// The tables that there are at one version.
#[derive(Debug)]
pub(crate) struct KnownTables {
    /// That version.
    pub(crate) at: Version,
    /// The super table of each table: its own id for a super table, 0 for a normal table.
    suids: HashMap<Uid, Suid>,
    /// The tables that some names stand for.
    names: HashMap<TableName, Uid>,
    schemas: HashMap<(Uid, SchemaVersion), Schema>,
    /// Which columns super tables and normal tables have now.
    newest: HashMap<Uid, SchemaVersion>,
}

impl KnownTables {
    /// None at all.
    pub(crate) fn none(at: Version) -> Self {
        Self {
            at,
            suids: HashMap::new(),
            names: HashMap::new(),
            schemas: HashMap::new(),
            newest: HashMap::new(),
        }
    }

    /// Reads what is wanted from the catalogue as it was last committed.
    pub(crate) fn read(dir: &VnodeDir, wanted: &Wanted) -> Result<Self, CaptureError> {
        dir.read_catalogue(&|vnode, meta| Self::collect(vnode.committed, meta, wanted))
    }

    fn collect(at: Version, meta: &mut Meta<File>, wanted: &Wanted) -> Result<Self, FormatError> {
        let mut known = Self {
            suids: meta
                .ids()
                .map(|(table, _)| (table.uid, table.suid))
                .collect(),
            ..Self::none(at)
        };
        let suids = &known.suids;
        let schemas = &mut known.schemas;
        let newest = &mut known.newest;
        meta.schemas(|uid, schema| -> Result<(), FormatError> {
            let is_super = suids.get(&uid).is_some_and(|suid| suid.0 == uid.0);
            if is_super || wanted.normal_tables.contains(&uid) {
                let newest = newest.entry(uid).or_insert(schema.version);
                *newest = schema.version.max(*newest);
                schemas.insert((uid, schema.version), schema);
            }
            Ok(())
        })?;
        meta.names(|name, uid| -> Result<(), FormatError> {
            if wanted.names.contains(name.0) {
                known.names.insert(name.0.into(), uid);
            }
            Ok(())
        })?;
        Ok(known)
    }

    /// Whether there is this table.
    pub(crate) fn has(&self, table: TableId) -> bool {
        self.suids.get(&table.uid) == Some(&table.suid)
    }

    /// Whether there is this super table.
    pub(crate) fn has_super(&self, suid: Suid) -> bool {
        self.has(super_table(suid))
    }

    /// The table that a name stands for.
    pub(crate) fn named(&self, name: &[u8]) -> Option<Uid> {
        let uid = self.names.get(name)?;
        self.suids.contains_key(uid).then_some(*uid)
    }

    /// The columns of a table in one version.
    pub(crate) fn schema(&self, table: TableId, version: SchemaVersion) -> Option<&Schema> {
        self.schemas.get(&(owner(table), version))
    }

    /// Which columns a table has now; `None` where that is not known.
    pub(crate) fn newest(&self, table: TableId) -> Option<SchemaVersion> {
        self.newest.get(&owner(table)).copied()
    }

    pub(crate) fn add(&mut self, name: &[u8], table: TableId) {
        self.names.insert(name.into(), table.uid);
        self.suids.insert(table.uid, table.suid);
    }

    pub(crate) fn add_super(&mut self, suid: Suid) {
        self.suids.insert(Uid(suid.0), suid);
    }

    pub(crate) fn drop_table(&mut self, uid: Uid) {
        self.suids.remove(&uid);
    }

    pub(crate) fn drop_super(&mut self, suid: Suid) {
        self.suids.retain(|_, of| *of != suid);
    }

    /// The columns of a super table or normal table change; `None`: to what is not known.
    pub(crate) fn set_columns(&mut self, owner: Uid, schema: Option<Schema>) {
        match schema {
            Some(schema) => {
                self.newest.insert(owner, schema.version);
                self.schemas.insert((owner, schema.version), schema);
            }
            None => drop(self.newest.remove(&owner)),
        }
    }
}

fn super_table(suid: Suid) -> TableId {
    TableId {
        suid,
        uid: Uid(suid.0),
    }
}

/// The table that has the columns: the super table of a child, otherwise itself.
pub(crate) fn owner(table: TableId) -> Uid {
    match table.suid {
        Suid(0) => table.uid,
        Suid(suid) => Uid(suid),
    }
}
