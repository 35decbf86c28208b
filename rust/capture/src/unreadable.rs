//! Blocks of committed files that can't be read row by row: their tables are dirty as a whole in the blocks' keys.

use crate::{CaptureError, Change, Reason, ReasonCode, change::Sink};
use model::{KeySpan, TableId, Version};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use tdfiles::Unreadable;

/// Why ranges of keys are dirty as a whole.
#[derive(Default)]
pub(crate) struct Reasons(pub(crate) Vec<Reason>);

impl Reasons {
    pub(crate) fn add(&mut self, code: ReasonCode, range: KeySpan, text: String) {
        self.0.push(Reason::widening(code, range, text));
    }
}

/// Blocks of one file set that could not be read. Filled while runs are merged, reported afterwards.
#[derive(Default)]
pub(crate) struct Unreadables {
    tables: RefCell<BTreeMap<TableId, (KeySpan, Version)>>,
    everything: Cell<bool>,
    blocks: Cell<u64>,
    span: Cell<Option<KeySpan>>,
    causes: RefCell<BTreeSet<String>>,
}

impl Unreadables {
    /// Notes a block that holds rows of `tables`, none later than `version`.
    pub(crate) fn block(
        &self,
        path: &Path,
        why: Unreadable,
        version: Version,
        tables: impl IntoIterator<Item = (TableId, KeySpan)>,
    ) {
        let mut known = self.tables.borrow_mut();
        let mut noted = false;
        for (table, span) in tables {
            if !std::mem::replace(&mut noted, true) {
                self.note(path, &why);
            }
            self.widen(span);
            let (hull, newest) = known.entry(table).or_insert((span, version));
            *hull = hull.hull(span);
            *newest = version.max(*newest);
        }
        self.blocks.set(self.blocks.get() + 1);
    }

    /// Notes a block that may hold rows of any table.
    pub(crate) fn all_tables(&self, path: &Path, why: Unreadable, span: KeySpan) {
        self.note(path, &why);
        self.widen(span);
        self.everything.set(true);
        self.blocks.set(self.blocks.get() + 1);
    }

    fn widen(&self, span: KeySpan) {
        let hull = self.span.get().map_or(span, |hull| hull.hull(span));
        self.span.set(Some(hull));
    }

    fn note(&self, path: &Path, why: &Unreadable) {
        let mut causes = self.causes.borrow_mut();
        if causes.len() < 3 {
            causes.insert(format!("{}: {why}", path.display()));
        }
    }

    /// Tells of the blocks of a file set, whose keys are `set`.
    pub(crate) fn report(
        self,
        set: KeySpan,
        sink: &mut Sink<'_>,
        reasons: &mut Reasons,
    ) -> Result<(), CaptureError> {
        for (table, (span, version)) in self.tables.into_inner() {
            sink(Change::Unknown {
                table,
                span,
                version,
            })?;
        }
        let blocks = self.blocks.get();
        if blocks > 0 {
            let span = if self.everything.get() {
                Some(set)
            } else {
                self.span.get()
            };
            let causes = self
                .causes
                .into_inner()
                .into_iter()
                .collect::<Vec<_>>()
                .join("; ");
            let text = format!("{blocks} blocks with changes can't be read row by row ({causes})");
            reasons.add(ReasonCode::UnreadableRows, span.unwrap_or(set), text);
        }
        Ok(())
    }
}
