//! What block ids are made of: the numbers of tables, and of the windows of their keys.

use crate::{checkpoint::Checkpoint, window::WindowWidth};
use bitmap::{BlockId, TableOrdinal};
use model::Uid;
use std::collections::HashMap;

/// The dense numbers of a backup set's tables. They stay the same along a chain, so that a block keeps its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ordinals {
    uids: Vec<Uid>,
    by_uid: HashMap<Uid, TableOrdinal>,
}

impl Ordinals {
    /// The table's number; a table without one gets the next.
    pub fn of(&mut self, uid: Uid) -> TableOrdinal {
        *self.by_uid.entry(uid).or_insert_with(|| {
            // 2^32 tables would need 32 GiB for this vector alone.
            let ordinal = TableOrdinal(u32::try_from(self.uids.len()).unwrap_or(u32::MAX));
            self.uids.push(uid);
            ordinal
        })
    }

    /// Whether the table has a number.
    pub fn contains(&self, uid: Uid) -> bool {
        self.by_uid.contains_key(&uid)
    }

    /// The tables by number.
    pub fn uids(&self) -> &[Uid] {
        &self.uids
    }
}

impl FromIterator<Uid> for Ordinals {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut ordinals = Self::default();
        for uid in uids {
            ordinals.of(uid);
        }
        ordinals
    }
}

/// What a follower makes block ids of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    /// The database.
    pub database: String,
    /// The width of its windows.
    pub window: WindowWidth,
    /// The numbers of its tables.
    pub ordinals: Ordinals,
}

impl Numbering {
    /// Whether a table has the block's number.
    pub fn knows(&self, block: BlockId) -> bool {
        (block.table().0 as usize) < self.ordinals.uids().len()
    }
}

impl From<Checkpoint> for Numbering {
    fn from(position: Checkpoint) -> Self {
        Self {
            database: position.database,
            window: position.window,
            ordinals: position.ordinals,
        }
    }
}
