//! Which table a name stands for, as far as the log tells.
//!
//! The leader gives a new table its uid before it logs the request. Two auto-creating inserts for one new table
//! that are under way together are both logged with a uid of their own; when they are applied, the first creates
//! the table and the rows of the second go to it (server 3.3.7, vnodePreprocessCreateTableReq and
//! vnodeProcessSubmitReq). Should the first fail, the second's uid counts. So rows of a second uid belong to
//! either table, and a scan yields them for both, so that none is missed.

use model::{Suid, TableId, Uid};
use std::collections::HashMap;

/// Names of tables that requests created, and uids that may stand for another.
#[derive(Debug, Default)]
pub(crate) struct TableNames {
    by_name: HashMap<Box<[u8]>, TableId>,
    earlier: HashMap<Uid, Uid>,
}

impl TableNames {
    /// A request creates the table unless the name is taken.
    pub(crate) fn created(&mut self, name: &[u8], table: TableId) {
        match self.by_name.get(name) {
            Some(first) if first.uid != table.uid => {
                self.earlier.insert(table.uid, first.uid);
            }
            Some(_) => {}
            None => {
                self.by_name.insert(name.into(), table);
            }
        }
    }

    /// A request drops a table by name.
    pub(crate) fn dropped(&mut self, name: &[u8]) {
        self.by_name.remove(name);
    }

    /// Tables are dropped by uid.
    pub(crate) fn expired(&mut self, uids: &[Uid]) {
        self.by_name.retain(|_, table| !uids.contains(&table.uid));
    }

    /// All tables of a super table are dropped.
    pub(crate) fn super_table_dropped(&mut self, suid: Suid) {
        self.by_name.retain(|_, table| table.suid != suid);
    }

    /// The table that a request's rows may belong to instead.
    pub(crate) fn may_also_be(&self, table: TableId) -> Option<TableId> {
        self.earlier
            .get(&table.uid)
            .map(|uid| TableId { uid: *uid, ..table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(uid: i64) -> TableId {
        TableId {
            suid: Suid(1),
            uid: Uid(uid),
        }
    }

    #[test]
    fn the_second_uid_of_a_name_may_be_the_first_until_the_table_is_dropped() {
        let mut names = TableNames::default();
        names.created(b"t", table(10));
        names.created(b"t", table(11));
        assert_eq!(names.may_also_be(table(11)), Some(table(10)));
        assert_eq!(names.may_also_be(table(10)), None);
        for drop in [
            |names: &mut TableNames| names.dropped(b"t"),
            |names: &mut TableNames| names.expired(&[Uid(12)]),
            |names: &mut TableNames| names.super_table_dropped(Suid(1)),
        ] {
            drop(&mut names);
            names.created(b"t", table(12));
            assert_eq!(names.may_also_be(table(12)), None, "created anew");
        }
    }
}
