//! Tables that could not be copied or written.

use crate::{Suid, Uid};
use std::fmt;

/// A table, or a super table with all its children, that could not be copied or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTable {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Which one it is.
    pub id: FailedId,
    /// Why, with what to do.
    pub problem: String,
}

/// Which table failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedId {
    /// One table.
    Table(Uid),
    /// A super table, and with it every child.
    SuperTable(Suid),
    /// One whose id is not known.
    Unknown,
}

impl fmt::Display for FailedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        write!(
            f,
            "table {}.{}: {}",
            quoted(&self.database),
            quoted(&self.name),
            self.problem
        )
    }
}
