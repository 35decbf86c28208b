//! The tables of the followed database: a name's uid, as far as the subscription has been read.

use model::{Suid, Uid};
use server::{Connection, SqlError, tables};
use std::collections::{BTreeSet, HashMap};

/// A live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) uid: Uid,
    /// Its super table, as far as that is known: by name from the server's list, by uid from a message.
    pub(super) stable: Stable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stable {
    Name(String),
    Uid(Suid),
}

/// The live tables by name.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_name: HashMap<String, Table>,
    uids: BTreeSet<Uid>,
}

impl Tables {
    /// Asks the server for them.
    pub(super) fn of_server(connection: &Connection, database: &str) -> Result<Self, SqlError> {
        let mut tables = Self::default();
        for listed in tables::list(connection, database)? {
            let stable = Stable::Name(listed.stable);
            let uid = listed.uid;
            tables.insert(listed.name, Table { uid, stable });
        }
        Ok(tables)
    }

    pub(super) fn uid(&self, name: &str) -> Option<Uid> {
        self.by_name.get(name).map(|table| table.uid)
    }

    pub(super) fn uids(&self) -> &BTreeSet<Uid> {
        &self.uids
    }

    /// Adds a table; returns the one that had its name, if that was another.
    pub(super) fn insert(&mut self, name: String, table: Table) -> Option<Uid> {
        let uid = table.uid;
        self.uids.insert(uid);
        let before = self.by_name.insert(name, table)?.uid;
        if before == uid {
            return None;
        }
        self.uids.remove(&before);
        Some(before)
    }

    /// Forgets which table has this name.
    pub(super) fn forget_name(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// Removes a table that was dropped.
    pub(super) fn remove(&mut self, name: &str, uid: Uid) {
        self.uids.remove(&uid);
        if self.uid(name) == Some(uid) {
            self.by_name.remove(name);
        }
    }

    /// Removes every table of a super table; returns them.
    pub(super) fn remove_stable(&mut self, name: &str, suid: Suid) -> Vec<Uid> {
        let of_stable = |table: &Table| match &table.stable {
            Stable::Name(stable) => stable == name,
            Stable::Uid(uid) => *uid == suid,
        };
        let gone = self.by_name.extract_if(|_, table| of_stable(table));
        let gone: Vec<Uid> = gone.map(|(_, table)| table.uid).collect();
        for uid in &gone {
            self.uids.remove(uid);
        }
        gone
    }
}
