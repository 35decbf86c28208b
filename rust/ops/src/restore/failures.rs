//! What went wrong while a link was applied.

use model::{KeySpan, catalogue::Tables};
use parking_lot::Mutex;
use repository::link::TableChange;
use server::restore_lacks::{Lack, Lacking, Lacks};

/// What went wrong.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// What failed, with the server's words. The link has to be applied again.
    pub(super) failed: Mutex<Vec<String>>,
    /// The tables that lack what the server takes from nobody. The next link can be applied all the same.
    pub(super) lacking: Mutex<Lacking>,
}

/// Failures beyond this many are not kept.
const FAILURES_KEPT: usize = 100;

impl Failures {
    pub(super) fn add(&self, failure: String) {
        let mut failures = self.failed.lock();
        match failures.len() {
            ..FAILURES_KEPT => failures.push(failure),
            FAILURES_KEPT => failures.push("and more".to_owned()),
            _ => {}
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.failed.lock())
    }

    /// A table that lacks something. Of several things, one that is not there at all counts.
    pub(super) fn lacks(&self, table: &str, what: Lacks, problem: String) {
        let mut lacking = self.lacking.lock();
        match lacking.get(table) {
            Some(before) if before.what == Lacks::Itself => {}
            _ => drop(lacking.insert(table.to_owned(), Lack { what, problem })),
        }
    }

    /// Whether a table is not there, as the server took it from nobody.
    pub(super) fn is_absent(&self, table: &str) -> bool {
        let lacking = self.lacking.lock();
        lacking
            .get(table)
            .is_some_and(|lack| lack.what == Lacks::Itself)
    }

    /// The tables that lack nothing any more once these changes are made.
    pub(super) fn made_whole(&self, tables: &Tables, changes: &[TableChange]) {
        let mut lacking = self.lacking.lock();
        // What was dropped with its super table is in no change.
        lacking.retain(|name, _| tables.contains(name));
        for change in changes {
            let whole = lacking
                .get(&change.name)
                .is_some_and(|lack| match lack.what {
                    _ if change.create || change.drop => true,
                    Lacks::Itself => false,
                    Lacks::Tags => change.set_tags && change.kept_tags == 0,
                    Lacks::Rows => change.deletes.contains(&KeySpan::ALL),
                });
            if whole {
                lacking.remove(&change.name);
            }
        }
    }
}
