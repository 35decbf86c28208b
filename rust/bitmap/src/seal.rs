//! Heads become runs: sorted by block for the records, by position for the indexes.

use crate::BlockId;
use crate::engine::{Inner, Trees};
use crate::head::Head;
use crate::memory::Charge;
use crate::place::SHARDS;
use crate::radix::{self, Pair};
use crate::row::{Entry, Record, Row};
use crate::run::RunBuilder;
use crate::shard::SnapshotId;
use crate::tree::Tree;
use std::mem::size_of;
use std::sync::atomic::Ordering::Relaxed;

/// A row of one of the heads: its number in the lower half.
fn row_number(head: usize, row: usize) -> u64 {
    (head as u64) << 32 | row as u64
}

/// The marks of heads, on their way into runs.
struct NewMarks {
    heads: Vec<Head>,
    /// Block and row number, sorted: marks of one block are in the order they were made.
    order: Vec<Pair>,
    /// Is every row the only mark of its block, ever?
    once: bool,
}

impl NewMarks {
    fn new(mut heads: Vec<Head>, spare: &mut Vec<Pair>) -> Self {
        heads.retain(|head| head.len() > 0);
        // Heads of marks in order: already sorted.
        heads.sort_by_key(|head| head.rows().next().map(|(block, _)| block));
        let mut order = Vec::with_capacity(heads.iter().map(Head::len).sum());
        for (number, head) in heads.iter().enumerate() {
            let rows = head.rows().enumerate();
            order.extend(rows.map(|(row, (block, _))| (block.0, row_number(number, row))));
        }
        radix::sort(&mut order, spare);
        let once = heads
            .iter()
            .flat_map(Head::rows)
            .all(|(_, kind)| kind.is_mark() && !kind.is_remarked());
        Self { heads, order, once }
    }

    /// What the rows say of each block, by block.
    fn records(&self) -> impl Iterator<Item = Record> {
        let row = |&(_, number): &Pair| {
            self.heads[(number >> 32) as usize].record(number as u32 as usize)
        };
        self.order.chunk_by(|a, b| a.0 == b.0).map(move |rows| {
            let first = row(&rows[0]);
            rows[1..]
                .iter()
                .fold(first, |older, newer| Record::fold(&row(newer), &older))
        })
    }

    /// The index entries, sorted.
    fn entries(&self, entry: fn(&Record) -> Entry, spare: &mut Vec<Pair>) -> Vec<Pair> {
        let mut entries = Vec::with_capacity(self.order.len());
        let mut add = |record: Record| {
            if record.kind.is_indexed() {
                entries.push(entry(&record).key());
            }
        };
        if self.once {
            // In the order they were made, which is nearly that of the index.
            for head in &self.heads {
                (0..head.len()).for_each(|row| add(head.record(row)));
            }
        } else {
            self.records().for_each(add);
        }
        radix::sort(&mut entries, spare);
        entries
    }
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
        let marks = NewMarks::new(heads, &mut spare);
        let (first, last) = (marks.order[0].0, marks.order[marks.order.len() - 1].0);
        self.add_runs(&mut trees.records, marks.records(), (first, last));
        for (tree, entry) in [
            (
                &mut trees.by_time,
                Record::time_entry as fn(&Record) -> Entry,
            ),
            (&mut trees.by_wal, Record::wal_entry),
        ] {
            let entries = marks.entries(entry, &mut spare);
            if let (Some(&(first, _)), Some(&(last, _))) = (entries.first(), entries.last()) {
                let entries = entries.into_iter().map(|(at, block)| Entry {
                    at,
                    block: BlockId(block),
                });
                self.add_runs(tree, entries, (first, last));
            }
        }
    }

    /// Adds sorted rows as runs without wide holes: threads that mark in order in different places then make runs
    /// that overlap nothing.
    fn add_runs<R: Row>(
        &self,
        tree: &mut Tree<R>,
        rows: impl Iterator<Item = R>,
        (first, last): (u64, u64),
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
        for row in rows {
            let at = row.key().0;
            if at - before > hole {
                finish(&mut builder);
            }
            builder.push(row);
            before = at;
        }
        finish(&mut builder);
    }
}
