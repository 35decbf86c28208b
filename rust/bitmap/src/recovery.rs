//! What an engine does with the files it finds: states are rebuilt from the records, damaged records make their
//! range dirty, damaged indexes are rebuilt.

use crate::BlockId;
use crate::chunk::CHUNK_ROWS;
use crate::damaged_range::DamagedRange;
use crate::disk::{Disk, Serial};
use crate::error::EngineError;
use crate::inner::Inner;
use crate::manifest::{Found, Manifest};
use crate::memory::Charge;
use crate::place::{Place, shard_of};
use crate::record::MarkedAt;
use crate::row::{Key, Record, Row, ordered, signed};
use crate::run::{Run, RunBuilder};
use crate::stored_run::{ReadRun, RunEntry, TreeKind};
use crate::tree::{Cursor, Tree, Work};
use crate::{BlockState, Timestamp, WalOffset};
use std::collections::HashSet;
use std::mem::size_of;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A run that could not be read back whole.
struct Lost {
    range: (Key, Key),
    file: String,
    offset: u64,
    what: &'static str,
}

/// Takes over the state in the engine's directory.
pub(crate) fn recover(inner: &Arc<Inner>) -> Result<(), EngineError> {
    let Some(disk) = &inner.disk else {
        return Ok(());
    };
    let manifest = match disk.read_manifest()? {
        Found::Nothing => return inner.persist(),
        Found::State(manifest) => manifest,
        Found::Damaged(what) => {
            let file = disk.path().join("MANIFEST").display().to_string();
            let everything = DamagedRange::new(BlockId(0), BlockId(u64::MAX), file, 0, what);
            inner.add_damage(everything);
            inner.persist()?;
            return disk.remove_leftovers(&HashSet::new());
        }
    };
    inner.generation.store(manifest.generation, Relaxed);
    inner.next_serial.store(manifest.next_serial, Relaxed);
    inner.damaged.write().take_over(manifest.damaged.clone());
    let named = serials(&manifest);
    disk.remove_leftovers(&named)?;
    *inner.committed.lock() = named;

    let mut lost_records = Vec::new();
    let mut lost_entries = Vec::new();
    {
        let mut trees = inner.trees.write();
        trees.records = read_tree(
            inner,
            disk,
            &manifest.records,
            TreeKind::Records,
            &mut lost_records,
        )?;
        trees.by_time = read_tree(
            inner,
            disk,
            &manifest.by_time,
            TreeKind::ByTime,
            &mut lost_entries,
        )?;
        trees.by_wal = read_tree(
            inner,
            disk,
            &manifest.by_wal,
            TreeKind::ByWal,
            &mut lost_entries,
        )?;
    }
    // What is left of a damaged index has a file of its own, until the index is rebuilt.
    let read = inner.trees().serials();
    inner.committed.lock().extend(read);
    rebuild_states(inner)?;
    if lost_records.is_empty() && lost_entries.is_empty() {
        return Ok(());
    }
    mark_lost_dirty(inner, &lost_records)?;
    let sealed = inner.seal(None);
    if lost_entries.is_empty() {
        inner.persist()
    } else {
        inner.rebuild_indexes(sealed)
    }
}

fn serials(manifest: &Manifest) -> HashSet<Serial> {
    let trees = [&manifest.records, &manifest.by_time, &manifest.by_wal];
    let runs = trees.into_iter().flatten().flatten();
    runs.map(|run| Serial(run.serial)).collect()
}

fn read_tree<R: Row>(
    inner: &Inner,
    disk: &Disk,
    levels: &[Vec<RunEntry>],
    kind: TreeKind,
    lost: &mut Vec<Lost>,
) -> Result<Tree<R>, EngineError> {
    let mut tree = Vec::with_capacity(levels.len());
    for level in levels {
        let mut runs: Vec<Arc<Run<R>>> = Vec::with_capacity(level.len());
        for entry in level {
            match disk.read_run(entry, kind, &inner.memory)? {
                ReadRun::Whole(run) => runs.push(Arc::new(run)),
                ReadRun::Damaged {
                    intact,
                    lost: ranges,
                    offset,
                    what,
                } => {
                    lost.extend(ranges.into_iter().map(|range| Lost {
                        range,
                        file: format!("run-{:016x}", entry.serial),
                        offset,
                        what,
                    }));
                    // The manifest that names this run names the damage as well.
                    runs.extend(inner.finish(intact, kind)?);
                }
            }
        }
        tree.push(runs);
    }
    Ok(Tree::new(tree))
}

fn rebuild_states(inner: &Inner) -> Result<(), EngineError> {
    let trees = inner.trees().clone();
    let most = inner.full_run() as usize / 2;
    let _charge = Charge::new(&inner.memory, most * size_of::<Record>());
    let mut batch = Vec::with_capacity(most);
    for level in trees.records.levels() {
        for run in level.iter() {
            for index in 0..run.fences.len() {
                let Some(chunk) = run.chunk(index)? else {
                    continue;
                };
                batch.extend((0..chunk.len()).map(|row| chunk.row(row)));
                if batch.len() + CHUNK_ROWS > most {
                    recover_batch(inner, &mut batch)?;
                }
            }
        }
        recover_batch(inner, &mut batch)?;
    }
    Ok(())
}

/// Takes over records of different blocks.
fn recover_batch(inner: &Inner, batch: &mut Vec<Record>) -> Result<(), EngineError> {
    if inner.is_spilled() {
        // Sorted by place, the records of one page come together, so the page is read once.
        batch.sort_by_key(|record| Place::of(record.block));
    }
    for records in batch.chunk_by(|a, b| shard_of(a.block) == shard_of(b.block)) {
        let mut shard = inner.lock(shard_of(records[0].block));
        for record in records {
            shard.recover(record)?;
        }
    }
    batch.clear();
    // Nothing is sealed or named here: the damage is not in the manifest yet.
    inner.evict(inner.memory.comfortable());
    Ok(())
}

/// Makes every block that may have been in a lost record DIRTY, at the latest position any file knows of it.
fn mark_lost_dirty(inner: &Inner, lost: &[Lost]) -> Result<(), EngineError> {
    if lost.is_empty() {
        return Ok(());
    }
    for lost in lost {
        let (first, last) = (BlockId(lost.range.0.0), BlockId(lost.range.1.0));
        let file = lost.file.clone();
        inner.add_damage(DamagedRange::new(first, last, file, lost.offset, lost.what));
    }
    let ranges = disjoint(lost.iter().map(|lost| (lost.range.0.0, lost.range.1.0)));
    let is_lost = |block: BlockId| {
        let at = ranges.partition_point(|&(_, last)| last < block.0);
        ranges.get(at).is_some_and(|&(first, _)| first <= block.0)
    };
    let trees = inner.trees().clone();
    let mut suspects = Suspects::new(inner);
    for &(first, last) in &ranges {
        let records = &trees.records;
        for_each(records, (first, 0)..=(last, 0), |record| {
            let marked = record.kind.is_mark().then_some(record.marked);
            suspects.add(record.block, marked.unwrap_or(UNKNOWN))
        })?;
    }
    for_each(&trees.by_time, EVERYTHING, |entry| {
        if !is_lost(entry.block) {
            return Ok(());
        }
        let time = Timestamp(signed(entry.at));
        suspects.add(entry.block, MarkedAt { time, ..UNKNOWN })
    })?;
    for_each(&trees.by_wal, EVERYTHING, |entry| {
        if !is_lost(entry.block) {
            return Ok(());
        }
        let wal = WalOffset(entry.at);
        suspects.add(entry.block, MarkedAt { wal, ..UNKNOWN })
    })?;
    drop(trees);
    suspects.mark_dirty()
}

/// Blocks that may have been in a lost record, sorted outside of memory: they may be all blocks.
struct Suspects<'a> {
    inner: &'a Inner,
    rows: Vec<Suspect>,
    tree: Tree<Suspect>,
    _charge: Charge,
}

impl<'a> Suspects<'a> {
    fn new(inner: &'a Inner) -> Self {
        let rows = inner.full_run() as usize;
        Self {
            inner,
            rows: Vec::new(),
            tree: Tree::default(),
            _charge: Charge::new(&inner.memory, rows * size_of::<Suspect>()),
        }
    }

    fn add(&mut self, block: BlockId, marked: MarkedAt) -> Result<(), EngineError> {
        self.rows.push(Suspect { block, marked });
        if self.rows.len() as u64 >= self.inner.full_run() {
            self.write()?;
        }
        Ok(())
    }

    /// Makes a run of the rows, and merges the runs when there are many.
    fn write(&mut self) -> Result<(), EngineError> {
        self.rows.sort_unstable_by_key(|row| row.block);
        self.rows.dedup_by(|row, kept| {
            let same = row.block == kept.block;
            if same {
                *kept = Suspect::fold(row, kept);
            }
            same
        });
        let mut builder = RunBuilder::new();
        builder.push_all(&self.rows);
        self.rows.clear();
        if let Some(run) = self.inner.finish(builder, TreeKind::Records)? {
            self.tree.add_shared(run);
        }
        while let Some(Work::Merge(levels)) = self.tree.work(0) {
            let merged = self
                .inner
                .merge(Cursor::new(&levels, (0, 0))?, TreeKind::Records)?;
            let gone: Vec<_> = levels.iter().flat_map(|level| level.iter()).collect();
            let serials = gone.iter().map(|run| run.serial).collect();
            self.tree.replace(&serials, merged);
            self.remove(gone.into_iter())?;
        }
        Ok(())
    }

    fn remove<'r>(
        &self,
        mut runs: impl Iterator<Item = &'r Arc<Run<Suspect>>>,
    ) -> Result<(), EngineError> {
        match &self.inner.disk {
            Some(disk) => runs.try_for_each(|run| disk.remove_run(run.serial)),
            None => Ok(()),
        }
    }

    /// Makes them DIRTY. The marks go to disk on the way, but no manifest names them before all are made.
    fn mark_dirty(mut self) -> Result<(), EngineError> {
        self.write()?;
        let inner = self.inner;
        let mut cursor = self.tree.cursor((0, 0))?;
        let mut marks = 0;
        while let Some(Suspect { block, marked }) = cursor.next()? {
            let mut shard = inner.lock(shard_of(block));
            shard.clear(block, false)?;
            shard.mark(block, |_| Ok(BlockState::Dirty), marked)?;
            drop(shard);
            marks += 1;
            if marks % inner.all_head_rows() == 0 {
                inner.seal(None);
                inner.write_runs()?;
                inner.evict(inner.memory.comfortable());
            }
        }
        drop(cursor);
        self.remove(self.tree.runs())
    }
}

/// A block, and the latest positions that are known of it.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    block: BlockId,
    marked: MarkedAt,
}

impl Row for Suspect {
    const COLUMNS: usize = 3;

    fn column(&self, c: usize) -> u64 {
        match c {
            0 => self.block.0,
            1 => self.marked.wal.0,
            _ => ordered(self.marked.time.0),
        }
    }

    fn from_columns(column: impl Fn(usize) -> u64) -> Self {
        Self {
            block: BlockId(column(0)),
            marked: MarkedAt::new(column(1), signed(column(2))),
        }
    }

    fn key(&self) -> Key {
        (self.block.0, 0)
    }

    fn fold(newer: &Self, older: &Self) -> Self {
        let marked = MarkedAt {
            wal: newer.marked.wal.max(older.marked.wal),
            time: newer.marked.time.max(older.marked.time),
        };
        Self { marked, ..*newer }
    }
}

/// The same ranges in ascending order; ranges that meet become one.
fn disjoint(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let meets = next.0 <= before.1;
        if meets {
            before.1 = before.1.max(next.1);
        }
        meets
    });
    ranges
}

/// Lower than any position.
const UNKNOWN: MarkedAt = MarkedAt {
    wal: WalOffset(0),
    time: Timestamp(i64::MIN),
};

const EVERYTHING: RangeInclusive<Key> = (0, 0)..=(u64::MAX, u64::MAX);

fn for_each<R: Row>(
    tree: &Tree<R>,
    keys: RangeInclusive<Key>,
    mut visit: impl FnMut(&R) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut cursor = tree.cursor(*keys.start())?;
    while let Some(row) = cursor.next()?.filter(|row| row.key() <= *keys.end()) {
        visit(&row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::disjoint;

    #[test]
    fn ranges_that_meet_become_one() {
        let ranges = [(5, 9), (0, 2), (7, 20), (8, 9), (2, 3), (30, u64::MAX)];
        let expected = [(0, 3), (5, 20), (30, u64::MAX)];
        assert_eq!(disjoint(ranges.into_iter()), expected);
        assert!(disjoint([].into_iter()).is_empty());
    }
}
