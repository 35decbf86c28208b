//! What an engine does with the files it finds: states are rebuilt from the records, damaged records make their
//! range dirty, damaged indexes are rebuilt.

use crate::BlockId;
use crate::chunk::CHUNK_ROWS;
use crate::damage::DamagedRange;
use crate::disk::{Disk, ReadRun, TreeKind};
use crate::engine::Inner;
use crate::error::EngineError;
use crate::manifest::{Found, Manifest, RunEntry};
use crate::memory::Charge;
use crate::place::{Place, SHARDS, shard_of};
use crate::record::MarkedAt;
use crate::row::{Entry, Key, Record, Row, signed};
use crate::run::{Run, Serial};
use crate::tree::Tree;
use crate::{BlockState, Timestamp, WalOffset};
use std::collections::{BTreeMap, HashSet};
use std::mem::size_of;
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
            inner.damaged.write().push(everything);
            inner.persist()?;
            return disk.remove_leftovers(&HashSet::new());
        }
    };
    inner.generation.store(manifest.generation, Relaxed);
    inner.next_serial.store(manifest.next_serial, Relaxed);
    *inner.damaged.write() = manifest.damaged.clone();
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
                    // It counts when a manifest names it, together with the damage.
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
        // Reads each page once, not once a record.
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
    let mut suspects: BTreeMap<BlockId, MarkedAt> = BTreeMap::new();
    for shard in 0..SHARDS {
        let all = (BlockId(0), BlockId(u64::MAX));
        let known = inner.lock(shard).states.known_in(all.0, all.1)?;
        let known = known.into_iter().filter(|&block| is_lost(block));
        suspects.extend(known.map(|block| (block, UNKNOWN)));
    }
    let trees = inner.trees().clone();
    for_each(&trees.by_time, |entry| {
        if is_lost(entry.block) {
            let at = suspects.entry(entry.block).or_insert(UNKNOWN);
            at.time = at.time.max(Timestamp(signed(entry.at)));
        }
    })?;
    for_each(&trees.by_wal, |entry| {
        if is_lost(entry.block) {
            let at = suspects.entry(entry.block).or_insert(UNKNOWN);
            at.wal = at.wal.max(WalOffset(entry.at));
        }
    })?;
    for (&block, at) in &mut suspects {
        if let Some(record) = trees.records.find(block)?.filter(|r| r.kind.is_mark()) {
            at.wal = at.wal.max(record.marked.wal);
            at.time = at.time.max(record.marked.time);
        }
        let mut shard = inner.lock(shard_of(block));
        shard.clear(block, false)?;
        shard.mark(block, |_| Ok(BlockState::Dirty), *at, None)?;
    }
    Ok(())
}

/// The same ranges, those that meet as one, ascending.
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

fn for_each(tree: &Tree<Entry>, mut visit: impl FnMut(&Entry)) -> Result<(), EngineError> {
    let mut cursor = tree.cursor((0, 0))?;
    while let Some(entry) = cursor.next()? {
        visit(&entry);
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
