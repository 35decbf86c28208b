//! Which of the stored rows are handed on: those of wanted tables and keys that no delete hides.

use crate::CaptureError;
use model::{Key, KeySpan, TableId, Version};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BinaryHeap},
    ops::Range,
};
use tdfiles::tsdb::{RowBlock, TombRecord};

/// Which rows are wanted: by table, spans of keys in ascending order that do not touch each other.
pub type WantedRows = BTreeMap<TableId, Vec<KeySpan>>;

/// Which rows of one file set are handed on.
pub(crate) struct RowChoice<'a> {
    wanted: &'a WantedRows,
    /// The keys of the file set; what else is wanted is not in it.
    range: KeySpan,
    deletes: BTreeMap<TableId, Vec<Deleted>>,
    /// What can't be read, which is found out while the rest is read.
    unreadable: RefCell<BTreeMap<TableId, Vec<KeySpan>>>,
    /// The spans of the table that was last asked for.
    last: RefCell<Option<(TableId, Vec<KeySpan>)>>,
}

/// Keys of a table, and the newest delete that hides rows there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deleted {
    span: KeySpan,
    version: Version,
}

/// Deletes that may overlap as spans that do not, ascending, each with the newest delete of its keys.
fn newest_deletes(mut deletes: Vec<Deleted>) -> Vec<Deleted> {
    deletes.sort_unstable_by_key(|delete| delete.span);
    let mut apart: Vec<Deleted> = Vec::with_capacity(deletes.len());
    // The deletes that reach the current key, the newest on top.
    let mut open: BinaryHeap<(Version, Key)> = BinaryHeap::new();
    let mut begin = |from: Key, to: Key, open: &mut BinaryHeap<(Version, Key)>| {
        let mut at = from;
        while let Some((version, last)) = open.peek().copied() {
            if last < at {
                open.pop();
                continue;
            }
            let span = KeySpan {
                first: at,
                last: last.min(to),
            };
            let joined = match apart.last_mut() {
                Some(before) if before.version == version => before.span.join_touching(span),
                _ => false,
            };
            if !joined {
                apart.push(Deleted { span, version });
            }
            if last >= to {
                break;
            }
            at = Key(last.0 + 1);
        }
    };
    let mut at: Option<Key> = None;
    for Deleted { span, version } in deletes {
        if let Some(from) = at
            && from < span.first
        {
            begin(from, Key(span.first.0 - 1), &mut open);
        }
        open.push((version, span.last));
        at = Some(span.first);
    }
    if let Some(from) = at {
        begin(from, Key(i64::MAX), &mut open);
    }
    apart
}

impl<'a> RowChoice<'a> {
    pub(crate) fn new(wanted: &'a WantedRows, range: KeySpan, tombs: Vec<TombRecord>) -> Self {
        let mut deletes: BTreeMap<TableId, Vec<Deleted>> = BTreeMap::new();
        for TombRecord {
            table,
            span,
            version,
        } in tombs
        {
            if span.first <= span.last && wanted.contains_key(&table) {
                deletes
                    .entry(table)
                    .or_default()
                    .push(Deleted { span, version });
            }
        }
        for spans in deletes.values_mut() {
            *spans = newest_deletes(std::mem::take(spans));
        }
        Self {
            wanted,
            range,
            deletes,
            unreadable: RefCell::default(),
            last: RefCell::default(),
        }
    }

    /// Whether anything of a table in a span is wanted.
    pub(crate) fn wants_some(&self, table: TableId, span: KeySpan) -> bool {
        let spans = self
            .wanted
            .get(&table)
            .map(Vec::as_slice)
            .unwrap_or_default();
        spans.iter().any(|wanted| wanted.overlaps(span))
    }

    /// Whether anything of the tables between two is wanted.
    pub(crate) fn wants_between(&self, first: TableId, last: TableId) -> bool {
        first <= last && self.wanted.range(first..=last).next().is_some()
    }

    /// Whether anything of the tables between two in a span is wanted.
    pub(crate) fn wants_some_between(&self, first: TableId, last: TableId, span: KeySpan) -> bool {
        first <= last
            && self
                .wanted
                .range(first..=last)
                .any(|(_, spans)| spans.iter().any(|wanted| wanted.overlaps(span)))
    }

    /// Whether all rows of a table in a span are wanted, and no delete hides one of them.
    pub(crate) fn wants_all(&self, table: TableId, span: KeySpan) -> bool {
        let whole = |wanted: &KeySpan| wanted.first <= span.first && span.last <= wanted.last;
        self.deletes_from(table, span.first)
            .first()
            .is_none_or(|delete| delete.span.first > span.last)
            && self.with_spans(table, |spans| spans.iter().any(whole))
    }

    pub(crate) fn wants(&self, table: TableId, key: Key) -> bool {
        self.with_spans(table, |spans| {
            let at = spans.partition_point(|span| span.last < key);
            spans.get(at).is_some_and(|span| span.first <= key)
        })
    }

    /// Whether a delete hides what a version wrote.
    pub(crate) fn deleted(&self, table: TableId, key: Key, version: Version) -> bool {
        self.deletes_from(table, key)
            .first()
            .is_some_and(|delete| delete.span.first <= key && version <= delete.version)
    }

    /// The deletes of a table that do not end before a key.
    fn deletes_from(&self, table: TableId, key: Key) -> &[Deleted] {
        let deletes = self
            .deletes
            .get(&table)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let at = deletes.partition_point(|delete| delete.span.last < key);
        deletes.get(at..).unwrap_or_default()
    }

    /// Notes that rows of a table can't be read, so that none of them are handed on, in whichever file they lie.
    pub(crate) fn cant_read(&self, table: TableId, span: KeySpan) {
        let mut unreadable = self.unreadable.borrow_mut();
        unreadable.entry(table).or_default().push(span);
        self.last.take();
    }

    /// Nothing of the tables between two can be read in a span.
    pub(crate) fn cant_read_between(&self, first: TableId, last: TableId, span: KeySpan) {
        if first <= last {
            for (table, _) in self.wanted.range(first..=last) {
                self.cant_read(*table, span);
            }
        }
    }

    /// The wanted spans that can't be read.
    pub(crate) fn unread(self) -> Vec<(TableId, KeySpan)> {
        let mut unread = Vec::new();
        for (table, spans) in self.unreadable.into_inner() {
            let wanted = self
                .wanted
                .get(&table)
                .map(Vec::as_slice)
                .unwrap_or_default();
            for span in KeySpan::joined(spans) {
                for wanted in wanted.iter().filter(|wanted| wanted.overlaps(span)) {
                    let first = wanted.first.max(span.first);
                    let last = wanted.last.min(span.last);
                    unread.push((table, KeySpan { first, last }));
                }
            }
        }
        unread
    }

    /// Calls `each` with the ranges among `rows` that are handed on, each of one table.
    pub(crate) fn each_range(
        &self,
        block: &RowBlock,
        rows: Range<usize>,
        mut each: impl FnMut(TableId, Range<usize>) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        let (of, mut at) = (&block.rows, rows.start);
        while at < rows.end {
            let table = of.table(at);
            let end = match of.only_table() {
                Some(_) => rows.end,
                None => (at..rows.end)
                    .find(|i| of.table(*i) != table)
                    .unwrap_or(rows.end),
            };
            let keys = of.keys.get(at..end).unwrap_or_default();
            self.with_spans(table, |spans| {
                let (Some(low), Some(high)) = (keys.first(), keys.last()) else {
                    return Ok(());
                };
                let from = spans.partition_point(|span| span.last < *low);
                let spans = spans.get(from..).unwrap_or_default().iter();
                for span in spans.take_while(|span| span.first <= *high) {
                    let first = at + keys.partition_point(|key| *key < span.first);
                    let last = at + keys.partition_point(|key| *key <= span.last);
                    self.each_kept(block, table, first..last, &mut each)?;
                }
                Ok(())
            })?;
            at = end;
        }
        Ok(())
    }

    /// Calls `each` with the ranges among `rows`, all of one table, that no delete hides.
    fn each_kept(
        &self,
        block: &RowBlock,
        table: TableId,
        rows: Range<usize>,
        each: &mut impl FnMut(TableId, Range<usize>) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        if rows.is_empty() {
            return Ok(());
        }
        if !self.deletes.contains_key(&table) {
            return each(table, rows);
        }
        let of = &block.rows;
        let hidden = |i: usize| match (of.keys.get(i), of.versions.get(i)) {
            (Some(key), Some(version)) => self.deleted(table, *key, *version),
            _ => true,
        };
        let mut from = rows.start;
        for i in rows.clone() {
            if hidden(i) {
                if from < i {
                    each(table, from..i)?;
                }
                from = i + 1;
            }
        }
        if from < rows.end {
            each(table, from..rows.end)?;
        }
        Ok(())
    }

    /// Calls `of` with the spans of a table that are handed on, ascending.
    fn with_spans<R>(&self, table: TableId, of: impl FnOnce(&[KeySpan]) -> R) -> R {
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(known, _)| *known != table) {
            *last = Some((table, self.spans(table)));
        }
        of(last
            .as_ref()
            .map(|(_, spans)| spans.as_slice())
            .unwrap_or_default())
    }

    fn spans(&self, table: TableId) -> Vec<KeySpan> {
        let wanted = self
            .wanted
            .get(&table)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let in_range = wanted.iter().filter(|span| span.overlaps(self.range));
        let mut spans: Vec<KeySpan> = in_range.copied().collect();
        for unreadable in self.unreadable.borrow().get(&table).into_iter().flatten() {
            spans = unreadable.cut_from(&spans);
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn deletes_taken_apart_hide_what_they_hid_together(
            deletes in prop::collection::vec((0i64..40, 0i64..12, 0i64..9), 0..12)
        ) {
            let deletes: Vec<Deleted> = deletes.into_iter().map(|(first, length, version)| Deleted {
                span: KeySpan { first: Key(first), last: Key(first + length) },
                version: Version(version),
            }).collect();
            let apart = newest_deletes(deletes.clone());
            prop_assert!(apart.is_sorted_by(|a, b| a.span.last < b.span.first));
            for key in 0..60 {
                let newest = |deletes: &[Deleted]| deletes.iter()
                    .filter(|delete| delete.span.overlaps(KeySpan::at(Key(key))))
                    .map(|delete| delete.version).max();
                prop_assert_eq!(newest(&apart), newest(&deletes), "key {}", key);
            }
        }
    }
}
