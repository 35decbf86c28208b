//! Range queries by time and by WAL position.
//!
//! A short query is answered under the locks, in well under a millisecond. A long one takes a snapshot: the heads
//! become runs, and while the snapshot is open every mark leaves behind the status its block had before. So
//! readers see one moment and marks never wait for a reader.

use crate::BlockId;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::head::Axis;
use crate::inner::Inner;
use crate::place::{SHARDS, shard_of};
use crate::row::{Entry, ordered};
use crate::shard::{Shard, SnapshotId};
use crate::status::Status;
use crate::tree::{Cursor, Finder, Tree};
use crate::trees::Trees;
use parking_lot::MutexGuard;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Index entries that are looked at under the locks before a query takes a snapshot.
const SHORT_QUERY: usize = 4096;
/// Index entries that a snapshot query checks at a time.
const PAGE: usize = 1024;

impl Engine {
    /// At most `limit` DIRTY or NEW blocks whose latest mark has a time in `range`, by time, then by id.
    /// Complete if fewer than `limit` are returned.
    ///
    /// # Errors
    /// `Io` and `Damaged`: a run on disk can't be read.
    pub fn find_by_time(
        &self,
        range: RangeInclusive<i64>,
        limit: usize,
    ) -> Result<Vec<BlockId>, EngineError> {
        let (low, high) = (ordered(*range.start()), ordered(*range.end()));
        find(&self.inner, Axis::Time, low, high, limit)
    }

    /// At most `limit` DIRTY or NEW blocks whose latest mark has a WAL position in `range`, by position, then by id.
    /// Complete if fewer than `limit` are returned.
    ///
    /// # Errors
    /// `Io` and `Damaged`: a run on disk can't be read.
    pub fn find_by_wal(
        &self,
        range: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<BlockId>, EngineError> {
        find(&self.inner, Axis::Wal, *range.start(), *range.end(), limit)
    }

    /// A cursor over all blocks that [`Engine::find_by_time`] would find now, page by page.
    ///
    /// # Errors
    /// `Io` and `Damaged`.
    pub fn scan_by_time(&self, range: RangeInclusive<i64>) -> Result<BlockCursor, EngineError> {
        let (low, high) = (ordered(*range.start()), ordered(*range.end()));
        BlockCursor::open(&self.inner, Axis::Time, low, high)
    }

    /// A cursor over all blocks that [`Engine::find_by_wal`] would find now, page by page.
    ///
    /// ```
    /// use bitmap::{BlockId, Engine, EngineConfig, Mark, MarkedAt};
    /// let engine = Engine::open(&EngineConfig::default())?;
    /// engine.mark(BlockId(1), Mark::Dirty, MarkedAt::new(5, 0))?;
    /// let mut cursor = engine.scan_by_wal(0..=u64::MAX)?;
    /// engine.mark(BlockId(2), Mark::Dirty, MarkedAt::new(6, 0))?;
    /// assert_eq!(cursor.next_page(100)?, [BlockId(1)]);
    /// assert!(cursor.next_page(100)?.is_empty());
    /// # Ok::<(), bitmap::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// `Io` and `Damaged`.
    pub fn scan_by_wal(&self, range: RangeInclusive<u64>) -> Result<BlockCursor, EngineError> {
        BlockCursor::open(&self.inner, Axis::Wal, *range.start(), *range.end())
    }
}

fn tree(trees: &Trees, axis: Axis) -> &Tree<Entry> {
    match axis {
        Axis::Time => &trees.by_time,
        Axis::Wal => &trees.by_wal,
    }
}

/// Is `entry`, of a block marked more than once, its block's latest mark according to the runs?
fn is_latest(finder: &mut Finder<'_>, axis: Axis, entry: &Entry) -> Result<bool, EngineError> {
    let record = finder.find(entry.block)?;
    Ok(record.is_some_and(|record| {
        record.kind.is_mark()
            && entry.at
                == match axis {
                    Axis::Time => record.time_entry().at,
                    Axis::Wal => record.wal_entry().at,
                }
    }))
}

fn find(
    inner: &Arc<Inner>,
    axis: Axis,
    low: u64,
    high: u64,
    limit: usize,
) -> Result<Vec<BlockId>, EngineError> {
    if low > high || limit == 0 {
        return Ok(Vec::new());
    }
    if let Some(found) = find_short(inner, axis, low, high, limit)? {
        return Ok(found);
    }
    BlockCursor::open(inner, axis, low, high)?.next_page(limit)
}

/// Answers a query that looks at few entries; `None` if it looks at more.
fn find_short(
    inner: &Inner,
    axis: Axis,
    low: u64,
    high: u64,
    limit: usize,
) -> Result<Option<Vec<BlockId>>, EngineError> {
    let trees = inner.trees();
    let mut shards = inner.lock_all();
    let Some(newest) = newest_entries(&mut shards, axis, low, high)? else {
        return Ok(None);
    };
    let mut cursor = tree(&trees, axis).cursor((low, 0))?;
    let mut found = Vec::new();
    let mut looked_at = 0;
    loop {
        // Reads in one go as many entries as the answer still lacks, within bounds.
        let wanted = (limit - found.len()).clamp(16, PAGE);
        let page = next_entries(&mut cursor, high, wanted)?;
        looked_at += page.len();
        if looked_at > SHORT_QUERY {
            return Ok(None);
        }
        std::hint::black_box(page.iter().fold(0, |all, entry| {
            all ^ shards[shard_of(entry.block)].states.touch(entry.block)
        }));
        let statuses: Vec<Status> = page
            .iter()
            .map(|entry| shards[shard_of(entry.block)].states.get(entry.block))
            .collect::<Result<_, _>>()?;
        let mut finder = trees.records.finder();
        for (&entry, status) in page.iter().zip(statuses) {
            if status.is_found()
                && (!status.is_remarked()
                    || !shards[shard_of(entry.block)].head.has_mark(entry.block)
                        && is_latest(&mut finder, axis, &entry)?)
            {
                found.push(entry);
            }
        }
        if page.len() < wanted || found.len() >= limit {
            break;
        }
    }
    if !newest.is_empty() {
        found.extend(newest);
        found.sort();
    }
    found.truncate(limit);
    Ok(Some(found.into_iter().map(|entry| entry.block).collect()))
}

/// Up to `count` entries that are not above `high`.
fn next_entries(
    cursor: &mut Cursor<Entry>,
    high: u64,
    count: usize,
) -> Result<Vec<Entry>, EngineError> {
    let mut entries = Vec::with_capacity(count);
    while entries.len() < count {
        match cursor.next()? {
            Some(entry) if entry.at <= high => entries.push(entry),
            _ => break,
        }
    }
    Ok(entries)
}

/// The entries in the heads, sorted; `None` if they are many.
fn newest_entries(
    shards: &mut [MutexGuard<'_, Shard>; SHARDS],
    axis: Axis,
    low: u64,
    high: u64,
) -> Result<Option<Vec<Entry>>, EngineError> {
    let mut newest = Vec::new();
    for shard in shards.iter_mut() {
        let Shard { states, head, .. } = &mut **shard;
        let remarked = |block| {
            let status = states.get(block)?;
            Ok(status.is_found().then_some(status.is_remarked()))
        };
        head.entries(axis, low, high, remarked, &mut newest)?;
        if newest.len() > SHORT_QUERY {
            return Ok(None);
        }
    }
    newest.sort_unstable();
    Ok(Some(newest))
}

/// A range query as of one moment, read page by page. Marks made while it is open cost memory until it is dropped.
pub struct BlockCursor {
    inner: Arc<Inner>,
    snapshot: SnapshotId,
    trees: Trees,
    axis: Axis,
    entries: Cursor<Entry>,
    high: u64,
    /// Entries that were found but did not fit the page.
    ready: std::collections::VecDeque<BlockId>,
    done: bool,
    /// A page failed, so its blocks are missing: later pages would not be a complete answer.
    failed: bool,
}

impl BlockCursor {
    fn open(inner: &Arc<Inner>, axis: Axis, low: u64, high: u64) -> Result<Self, EngineError> {
        let snapshot = inner.new_snapshot();
        let trees = inner.seal(Some(snapshot));
        let entries = match tree(&trees, axis).cursor((low, 0)) {
            Ok(entries) => entries,
            Err(error) => {
                close(inner, snapshot);
                return Err(error);
            }
        };
        Ok(Self {
            inner: Arc::clone(inner),
            snapshot,
            trees,
            axis,
            entries,
            high,
            ready: std::collections::VecDeque::new(),
            done: low > high,
            failed: false,
        })
    }

    /// The next blocks, at most `limit` of them; none after the last.
    ///
    /// # Errors
    /// `Io` and `Damaged`; from then on always `CursorFailed`.
    pub fn next_page(&mut self, limit: usize) -> Result<Vec<BlockId>, EngineError> {
        if self.failed {
            return Err(EngineError::CursorFailed);
        }
        // The cursor counts as failed while it reads: the boundary to C survives a panic in here.
        self.failed = true;
        let page = self.read_page(limit);
        self.failed = page.is_err();
        page
    }

    fn read_page(&mut self, limit: usize) -> Result<Vec<BlockId>, EngineError> {
        let mut page = Vec::new();
        while page.len() < limit {
            match self.ready.pop_front() {
                Some(block) => page.push(block),
                None if self.done => break,
                None => self.look_at_more()?,
            }
        }
        Ok(page)
    }

    fn look_at_more(&mut self) -> Result<(), EngineError> {
        let candidates = next_entries(&mut self.entries, self.high, PAGE)?;
        self.done = candidates.len() < PAGE;
        let mut statuses: Vec<Status> = Vec::with_capacity(candidates.len());
        let mut held: Option<(usize, MutexGuard<'_, Shard>)> = None;
        for entry in &candidates {
            let wanted = shard_of(entry.block);
            if held.as_ref().is_some_and(|(at, _)| *at != wanted) {
                held = None;
            }
            let mut guard = match held.take() {
                Some((_, guard)) => guard,
                None => self.inner.lock(wanted),
            };
            statuses.push(guard.status_at(self.snapshot, entry.block)?);
            held = Some((wanted, guard));
        }
        drop(held);
        let mut finder = self.trees.records.finder();
        for (entry, status) in candidates.iter().zip(statuses) {
            if status.is_found()
                && (!status.is_remarked() || is_latest(&mut finder, self.axis, entry)?)
            {
                self.ready.push_back(entry.block);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for BlockCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCursor")
            .field("axis", &self.axis)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl Drop for BlockCursor {
    fn drop(&mut self) {
        close(&self.inner, self.snapshot);
    }
}

fn close(inner: &Inner, snapshot: SnapshotId) {
    for shard in 0..SHARDS {
        inner.lock(shard).close_snapshot(snapshot);
    }
}
