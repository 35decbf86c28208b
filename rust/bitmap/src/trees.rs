//! All runs of an engine: a tree of records and two trees of index entries.

use crate::disk::Serial;
use crate::row::{Entry, Record};
use crate::tree::Tree;
use std::collections::HashSet;

/// All runs of the engine.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trees {
    pub(crate) records: Tree<Record>,
    pub(crate) by_time: Tree<Entry>,
    pub(crate) by_wal: Tree<Entry>,
}

impl Trees {
    pub(crate) fn serials(&self) -> HashSet<Serial> {
        let records = self.records.runs().map(|run| run.serial);
        let by_time = self.by_time.runs().map(|run| run.serial);
        let by_wal = self.by_wal.runs().map(|run| run.serial);
        records.chain(by_time).chain(by_wal).collect()
    }
}
