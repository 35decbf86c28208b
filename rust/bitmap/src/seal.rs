//! Heads become runs: sorted by block for the records, by position for the indexes.

use crate::{
    BlockId,
    head::Head,
    inner::Inner,
    memory::Charge,
    place::SHARDS,
    radix::{self, Pair},
    record::MarkedAt,
    row::{Entry, Key, Record, Row},
    run::RunBuilder,
    shard::SnapshotId,
    tree::Tree,
    trees::Trees,
};
use std::{mem::size_of, sync::atomic::Ordering::Relaxed};

/// A row of one of the heads: its number in the lower half.
fn row_number(head: usize, row: usize) -> u64 {
    (head as u64) << 32 | row as u64
}

/// The marks of heads, on their way into runs.
struct NewMarks {
    heads: Vec<Head>,
}

impl NewMarks {
    fn new(mut heads: Vec<Head>) -> Self {
        heads.retain(|head| head.len() > 0);
        // If blocks were marked in order, the heads are sorted now.
        heads.sort_by_key(|head| head.marks().next().map(|(block, _)| block));
        Self { heads }
    }

    /// Is every row the only mark of its block, ever?
    fn are_first(&self) -> bool {
        let mut kinds = self.heads.iter().flat_map(Head::kinds);
        kinds.all(|kind| kind.is_mark() && !kind.is_remarked())
    }

    /// What each row says, in the order they were made, head by head.
    fn as_made(&self) -> impl Iterator<Item = Record> {
        let head = |head| (0..Head::len(head)).map(|row| head.record(row));
        self.heads.iter().flat_map(head)
    }

    /// The block of each row, in the same order.
    fn blocks(&self) -> impl Iterator<Item = Key> {
        let marks = self.heads.iter().flat_map(Head::marks);
        marks.map(|(block, _)| (block.0, 0))
    }

    /// The index entry of each row that has one, in the same order.
    fn entries(&self, entry: impl Fn(BlockId, MarkedAt) -> Entry) -> impl Iterator<Item = Entry> {
        let rows = |head| Head::marks(head).zip(head.kinds());
        let rows = self.heads.iter().flat_map(rows);
        rows.filter(|(_, kind)| kind.is_indexed())
            .map(move |((block, marked), _)| entry(block, marked))
    }

    /// Block and row number of each row, sorted: marks of one block are in the order they were made.
    fn by_block(&self, spare: &mut Vec<Pair>) -> Vec<Pair> {
        let mut order = Vec::with_capacity(self.heads.iter().map(Head::len).sum());
        for (number, head) in self.heads.iter().enumerate() {
            let rows = head.marks().enumerate();
            order.extend(rows.map(|(row, (block, _))| (block.0, row_number(number, row))));
        }
        radix::sort(&mut order, spare);
        order
    }

    /// What the rows say of each block, by block.
    fn records(&self, order: &[Pair]) -> impl Iterator<Item = Record> {
        let row = |&(_, number): &Pair| {
            self.heads[(number >> 32) as usize].record(number as u32 as usize)
        };
        order.chunk_by(|a, b| a.0 == b.0).map(move |rows| {
            let first = row(&rows[0]);
            rows[1..]
                .iter()
                .fold(first, |older, newer| Record::fold(&row(newer), &older))
        })
    }
}

/// The first and the last of keys that ascend without repeats.
fn ends_of_ascending(mut keys: impl Iterator<Item = Key>) -> Option<(Key, Key)> {
    let first = keys.next()?;
    let mut last = first;
    let ascending = keys.all(|key| std::mem::replace(&mut last, key) < key);
    ascending.then_some((first, last))
}

impl Inner {
    /// Makes runs of all heads once they are full.
    pub(crate) fn seal_full(&self) {
        let limit = self.head_rows();
        {
            let mut trees = self.trees.write();
            let full = (0..SHARDS).any(|shard| self.lock(shard).head.len() >= limit);
            if !full && self.new_marks.load(Relaxed) < self.all_head_rows() {
                return;
            }
            self.seal_into(&mut trees, None);
        }
        if self.unsaved.load(Relaxed) >= self.full_run()
            && let Err(error) = self.persist()
        {
            *self.trouble.lock() = Some(error);
        }
        self.wake.notify();
        self.keep_pace();
    }

    /// Makes runs of all heads. With `snapshot`, opens it at that moment and returns the trees as of then.
    pub(crate) fn seal(&self, snapshot: Option<SnapshotId>) -> Trees {
        let mut trees = self.trees.write();
        self.seal_into(&mut trees, snapshot);
        let sealed = trees.clone();
        drop(trees);
        self.wake.notify();
        sealed
    }

    fn seal_into(&self, trees: &mut Trees, snapshot: Option<SnapshotId>) {
        self.new_marks.store(0, Relaxed);
        let mut heads = Vec::with_capacity(SHARDS);
        for guard in &mut self.lock_all() {
            heads.push(std::mem::take(&mut guard.head));
            guard.account();
            if let Some(snapshot) = snapshot {
                guard.open_snapshot(snapshot);
            }
        }
        let rows: usize = heads.iter().map(Head::len).sum();
        if rows == 0 {
            return;
        }
        self.unsaved.fetch_add(rows as u64, Relaxed);
        let held: usize = heads.iter().map(Head::heap_bytes).sum();
        let _charge = Charge::new(&self.memory, held + rows * 3 * size_of::<Pair>());
        let mut spare = Vec::new();
        let marks = NewMarks::new(heads);
        // Set if a block may have several rows: the rows in the order of their blocks.
        let mut by_block = None;
        if let Some(ends) = ends_of_ascending(marks.blocks()) {
            self.add_runs(&mut trees.records, marks.as_made(), ends);
        } else {
            let order = marks.by_block(&mut spare);
            if let (Some(&first), Some(&last)) = (order.first(), order.last()) {
                self.add_runs(&mut trees.records, marks.records(&order), (first, last));
            }
            if !marks.are_first() {
                by_block = Some(order);
            }
        }
        let Trees {
            by_time, by_wal, ..
        } = trees;
        if let Some(order) = by_block {
            let indexed = || marks.records(&order).filter(|r| r.kind.is_indexed());
            self.add_entries(by_time, || indexed().map(|r| r.time_entry()), &mut spare);
            self.add_entries(by_wal, || indexed().map(|r| r.wal_entry()), &mut spare);
        } else {
            self.add_entries(by_time, || marks.entries(Entry::by_time), &mut spare);
            self.add_entries(by_wal, || marks.entries(Entry::by_wal), &mut spare);
        }
    }

    /// Adds index entries, which may come in any order.
    fn add_entries<E: Iterator<Item = Entry>>(
        &self,
        tree: &mut Tree<Entry>,
        entries: impl Fn() -> E,
        spare: &mut Vec<Pair>,
    ) {
        if let Some(ends) = ends_of_ascending(entries().map(|entry| entry.key())) {
            self.add_runs(tree, entries(), ends);
            return;
        }
        let mut pairs: Vec<Pair> = entries().map(|entry| entry.key()).collect();
        radix::sort(&mut pairs, spare);
        if let (Some(&first), Some(&last)) = (pairs.first(), pairs.last()) {
            let sorted = pairs.into_iter().map(|(at, block)| Entry {
                at,
                block: BlockId(block),
            });
            self.add_runs(tree, sorted, (first, last));
        }
    }

    /// Adds sorted rows as runs without wide holes: threads that mark in order in different places then make runs
    /// that overlap nothing.
    fn add_runs<R: Row>(
        &self,
        tree: &mut Tree<R>,
        rows: impl Iterator<Item = R>,
        ((first, _), (last, _)): (Key, Key),
    ) {
        let hole = ((last - first) / 16).max(1);
        let mut builder = RunBuilder::new();
        let mut before = first;
        let mut finish = |builder: &mut RunBuilder<R>| {
            let full = std::mem::replace(builder, RunBuilder::new());
            if let Some(run) = full.finish(self.serial(), &self.memory) {
                tree.add(run);
            }
        };
        rows.for_each(|row| {
            let at = row.key().0;
            if at - before > hole {
                finish(&mut builder);
            }
            builder.push(row);
            before = at;
        });
        finish(&mut builder);
    }
}
