//! Batches of changed blocks, read by whoever knows what a block holds, into archives. A cursor says how far that is;
//! it moves only past what lies safely on disk, so that whatever fails, the next pass has those blocks again.

use bitmap::{BlockId, BlockRecord, BlockState, Engine, EngineError, MarkedAt};
use parking_lot::Mutex;
use repository::archive::{ArchiveError, ArchiveWriter, Key};
use std::{
    collections::{HashMap, HashSet},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How a coordinator works.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Blocks in an archive, at most.
    pub batch_size: usize,
    /// How often a batch that failed is tried again.
    pub max_retries: u32,
    /// How long to wait before that.
    pub retry_interval: Duration,
    /// How long a batch may take with all its tries.
    pub timeout: Duration,
    /// Whether archives are compressed.
    pub compress: bool,
    /// What they are encrypted with.
    pub key: Option<Key>,
    /// Where they are written.
    pub backup_path: PathBuf,
    /// Where an estimate writes its archive; `None`: where archives are written.
    pub temp_path: Option<PathBuf>,
    /// Batches that are read and written at a time.
    pub workers: usize,
}

/// What a pass exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Blocks in archives.
    pub blocks: u64,
    /// The archives' bytes.
    pub bytes: u64,
}

/// Which marks a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    /// Those with a time up to the cursor's.
    Time,
    /// Those with a WAL position up to the cursor's.
    Wal,
    /// Those with both.
    Hybrid,
}

/// How far blocks are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// What it goes by.
    pub kind: CursorKind,
    /// Every block marked up to this time is exported; `None` before the first.
    pub time: Option<i64>,
    /// Every block marked up to this position is exported; `None` before the first.
    pub wal: Option<u64>,
    /// Blocks exported so far.
    pub blocks: u64,
    /// When it moved last, ns since 1970; 0 for never.
    pub updated: i64,
}

/// What passes did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "they are what their names say; times in ns since 1970"
)]
pub struct CoordinatorStats {
    pub total_blocks: u64,
    pub processed_blocks: u64,
    pub failed_blocks: u64,
    pub total_size: u64,
    pub start_time: i64,
    pub end_time: i64,
    pub retry_count: u32,
}

/// Reads what a block holds. With several workers it is called by several threads at once.
pub type Reader<'a> = dyn Fn(&BlockRecord) -> Result<Vec<u8>, String> + Sync + 'a;

/// A pass that ended early. The cursor stands behind the last batch that is safe.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The blocks can't be told.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An archive can't be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A block can't be read.
    #[error("block {block} can't be read: {problem}")]
    Read {
        /// The block.
        block: u64,
        /// The reader's words.
        problem: String,
    },
    /// A batch took too long.
    #[error(
        "a batch took longer than {timeout:?} after {tries} tries; the last problem was: {problem}"
    )]
    Timeout {
        /// How long it may take.
        timeout: Duration,
        /// How often it was tried.
        tries: u32,
        /// What went wrong last.
        problem: String,
    },
    /// Of some ranges nobody knows which blocks changed.
    #[error(
        "everything that is known is exported, but of {count} ranges, the first from block {first} to {last}, any block may \
         have changed, also those that were never marked: back them up whole, then acknowledge the damage"
    )]
    Ranges {
        /// How many there are.
        count: usize,
        /// The first block of the first of them.
        first: u64,
        /// Its last.
        last: u64,
    },
    /// Somebody wanted it so.
    #[error("the export was cancelled")]
    Cancelled,
}

/// Which blocks a pass has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Those behind the cursor: for marks whose position, or time, only ever grows.
    BehindCursor,
    /// All that are changed, but for those whose latest mark this coordinator has exported already: for marks in no order,
    /// as those of a server, where each vgroup counts for itself.
    NewMarks,
}

/// Exports an engine's blocks.
#[derive(Debug)]
pub struct Coordinator {
    engine: Arc<Engine>,
    config: CoordinatorConfig,
    key: Mutex<Option<Key>>,
    cursor: Mutex<Cursor>,
    /// The marks that passes over new marks exported, of blocks that are still changed.
    marks: Mutex<HashMap<BlockId, MarkedAt>>,
    stats: Mutex<CoordinatorStats>,
    cancelled: AtomicBool,
    /// One pass at a time.
    pass: Mutex<()>,
    archives: AtomicU64,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// How often a wait looks whether it was cancelled.
const PATIENCE: Duration = Duration::from_millis(20);

impl Coordinator {
    /// A coordinator that has exported nothing yet.
    pub fn new(engine: Arc<Engine>, config: CoordinatorConfig) -> Self {
        Self {
            engine,
            key: Mutex::new(config.key.clone()),
            config,
            cursor: Mutex::new(Cursor {
                kind: CursorKind::Wal,
                time: None,
                wal: None,
                blocks: 0,
                updated: 0,
            }),
            marks: Mutex::default(),
            stats: Mutex::default(),
            cancelled: AtomicBool::new(false),
            pass: Mutex::new(()),
            archives: AtomicU64::new(0),
        }
    }

    /// How far it is.
    pub fn cursor(&self) -> Cursor {
        *self.cursor.lock()
    }

    /// Goes on from elsewhere, once no pass is under way.
    pub fn set_cursor(&self, cursor: Cursor) {
        let _pass = self.pass.lock();
        *self.cursor.lock() = cursor;
    }

    /// What archives are encrypted with from now on.
    pub fn set_key(&self, key: Key) {
        *self.key.lock() = Some(key);
    }

    /// Waits until no pass is under way.
    pub fn wait(&self) {
        drop(self.pass.lock());
    }

    /// Somebody else exported every block up to this mark. The cursor never moves back.
    pub fn exported(&self, wal: u64, time: i64) {
        let mut cursor = self.cursor.lock();
        if cursor.kind != CursorKind::Time {
            cursor.wal = cursor.wal.max(Some(wal));
        }
        if cursor.kind != CursorKind::Wal {
            cursor.time = cursor.time.max(Some(time));
        }
        cursor.blocks += 1;
        cursor.updated = now();
    }

    /// What passes did.
    pub fn stats(&self) -> CoordinatorStats {
        *self.stats.lock()
    }

    /// Forgets what passes did.
    pub fn reset_stats(&self) {
        *self.stats.lock() = CoordinatorStats::default();
    }

    /// Ends the pass that is under way, and every later one until [`Self::resume`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Allows passes again.
    pub fn resume(&self) {
        self.cancelled.store(false, Ordering::SeqCst);
    }

    /// The blocks that a pass has to do, with their marks, in the cursor's order.
    fn pending(
        &self,
        cursor: &Cursor,
        selection: Selection,
    ) -> Result<Vec<BlockRecord>, EngineError> {
        let by_wal = |to: u64| match cursor.wal.map_or(Some(0), |wal| wal.checked_add(1)) {
            Some(first) if first <= to => all(self.engine.scan_by_wal(first..=to)?),
            _ => Ok(Vec::new()),
        };
        let by_time = |to: i64| match cursor.time.map_or(Some(i64::MIN), |at| at.checked_add(1)) {
            Some(first) if first <= to => all(self.engine.scan_by_time(first..=to)?),
            _ => Ok(Vec::new()),
        };
        let listed = |wal, time| match (selection, cursor.kind) {
            (Selection::NewMarks, _) => all(self.engine.scan_by_wal(0..=u64::MAX)?),
            (_, CursorKind::Wal) => by_wal(wal),
            (_, CursorKind::Time) => by_time(time),
            (_, CursorKind::Hybrid) => {
                // Behind the cursor in either way: one of the two may be out of order.
                let mut ids = by_wal(wal)?;
                ids.extend(by_time(time)?);
                Ok::<_, EngineError>(ids)
            }
        };
        let mut records = self.changed(listed(u64::MAX, i64::MAX)?)?;
        if selection == Selection::BehindCursor {
            // A block that was marked again since the list was made takes the cursor past others that were marked in
            // between. So these are looked for as well; what is marked even later comes with the next pass.
            let wal = records.iter().map(|record| record.marked.wal.0).max();
            let time = records.iter().map(|record| record.marked.time.0).max();
            if let (Some(wal), Some(time)) = (wal, time) {
                let known: HashSet<BlockId> = records.iter().map(|record| record.block).collect();
                let mut more = listed(wal, time)?;
                more.retain(|id| !known.contains(id));
                let mut more = self.changed(more)?;
                more.retain(|record| {
                    (cursor.kind == CursorKind::Time || record.marked.wal.0 <= wal)
                        && (cursor.kind == CursorKind::Wal || record.marked.time.0 <= time)
                });
                records.extend(more);
            }
        }
        if selection == Selection::NewMarks {
            let mut marks = self.marks.lock();
            let changed = records
                .iter()
                .map(|record| (record.block, record.marked))
                .filter(|(block, marked)| marks.get(block) == Some(marked))
                .collect();
            *marks = changed;
            records.retain(|record| !marks.contains_key(&record.block));
        }
        records.sort_by_key(|record| match cursor.kind {
            CursorKind::Time => (record.marked.time.0, 0, record.block),
            _ => (0, record.marked.wal.0, record.block),
        });
        Ok(records)
    }

    /// Those of the blocks that are still changed, with their marks.
    fn changed(&self, mut ids: Vec<BlockId>) -> Result<Vec<BlockRecord>, EngineError> {
        ids.sort_unstable();
        ids.dedup();
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            match self.engine.block(id) {
                Ok(record) if is_changed(&record) => records.push(record),
                // Cleared since.
                Ok(_) | Err(EngineError::BlockNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Exports everything that `selection` says, batch by batch.
    ///
    /// # Errors
    /// All of [`CoordinatorError`]. With `Ranges`, every block that is known was exported, and the cursor moved.
    pub fn export(
        &self,
        selection: Selection,
        reader: &Reader<'_>,
    ) -> Result<Exported, CoordinatorError> {
        let _pass = self.pass.lock();
        self.stats.lock().start_time = now();
        // Before the blocks are listed: what is in a range from now on comes with the next pass.
        let damage = self.engine.damage();
        let result = self.pass(selection, reader);
        self.stats.lock().end_time = now();
        match damage.first() {
            Some(range) if result.is_ok() => Err(CoordinatorError::Ranges {
                count: damage.len(),
                first: range.first.0,
                last: range.last.0,
            }),
            _ => result,
        }
    }

    fn pass(
        &self,
        selection: Selection,
        reader: &Reader<'_>,
    ) -> Result<Exported, CoordinatorError> {
        let start = self.cursor();
        let pending = self.pending(&start, selection)?;
        self.stats.lock().total_blocks += pending.len() as u64;
        let mut exported = Exported::default();
        let mut rest = pending.as_slice();
        while !rest.is_empty() {
            let turn = rest
                .chunks(self.config.batch_size.max(1))
                .take(self.config.workers.max(1));
            // A batch behind one that failed may be safe as well. It does not count: it comes again.
            for (batch, result) in self.batches(turn.collect(), reader) {
                let after = rest.get(batch.len()..).unwrap_or_default();
                match result {
                    Ok(bytes) => {
                        tracing::debug!(
                            "{} blocks are in an archive of {bytes} bytes",
                            batch.len()
                        );
                        exported.blocks += batch.len() as u64;
                        exported.bytes += bytes;
                        let mut stats = self.stats.lock();
                        stats.processed_blocks += batch.len() as u64;
                        stats.total_size += bytes;
                    }
                    Err(error) => {
                        self.stats.lock().failed_blocks += rest.len() as u64;
                        return Err(error);
                    }
                }
                if selection == Selection::NewMarks {
                    let done = batch.iter().map(|record| (record.block, record.marked));
                    self.marks.lock().extend(done);
                }
                self.advance(batch, after);
                rest = after;
            }
        }
        Ok(exported)
    }

    /// Archives for these batches, each by a thread of its own; a single one by the caller's.
    fn batches<'b>(
        &self,
        batches: Vec<&'b [BlockRecord]>,
        reader: &Reader<'_>,
    ) -> Vec<(&'b [BlockRecord], Result<u64, CoordinatorError>)> {
        if let [batch] = batches.as_slice() {
            return vec![(*batch, self.batch(batch, reader))];
        }
        thread::scope(|scope| {
            let started: Vec<_> = batches
                .into_iter()
                .map(|batch| (batch, scope.spawn(move || self.batch(batch, reader))))
                .collect();
            let ended = started.into_iter().map(|(batch, thread)| {
                // A reader's panic goes on in the caller, as it does without threads.
                let result = thread.join();
                (batch, result.unwrap_or_else(|panic| resume_unwind(panic)))
            });
            ended.collect()
        })
    }

    /// Moves the cursor past a batch that is safe, but not past blocks that have its last position and come later.
    fn advance(&self, batch: &[BlockRecord], after: &[BlockRecord]) {
        let mut cursor = self.cursor.lock();
        cursor.blocks += batch.len() as u64;
        cursor.updated = now();
        if cursor.kind != CursorKind::Time {
            let position = |record: &BlockRecord| record.marked.wal.0;
            let safe = safe(batch, after, position, |next| next.checked_sub(1));
            cursor.wal = cursor.wal.max(safe);
        }
        if cursor.kind != CursorKind::Wal {
            let position = |record: &BlockRecord| record.marked.time.0;
            let safe = safe(batch, after, position, |next| next.checked_sub(1));
            cursor.time = cursor.time.max(safe);
        }
    }

    /// One archive, tried again where that may help. Returns its length.
    fn batch(&self, batch: &[BlockRecord], reader: &Reader<'_>) -> Result<u64, CoordinatorError> {
        let began = Instant::now();
        let mut tries = 0;
        let mut problem = "blocks were still being read".to_owned();
        loop {
            let go_on = || self.go_on(began, tries.max(1), &problem);
            let error = match self.try_batch(batch, reader, &go_on) {
                Ok(bytes) => return Ok(bytes),
                Err(error @ (CoordinatorError::Cancelled | CoordinatorError::Timeout { .. })) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            tries += 1;
            if tries > self.config.max_retries {
                return Err(error);
            }
            problem = error.to_string();
            self.stats.lock().retry_count += 1;
            tracing::warn!("a batch of {} blocks is tried again: {error}", batch.len());
            let until = Instant::now() + self.config.retry_interval;
            while Instant::now() < until {
                self.go_on(began, tries, &problem)?;
                thread::sleep(PATIENCE.min(until.saturating_duration_since(Instant::now())));
            }
            self.go_on(began, tries, &problem)?;
        }
    }

    fn go_on(&self, began: Instant, tries: u32, problem: &str) -> Result<(), CoordinatorError> {
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(CoordinatorError::Cancelled);
        }
        if began.elapsed() >= self.config.timeout {
            return Err(CoordinatorError::Timeout {
                timeout: self.config.timeout,
                tries,
                problem: problem.to_owned(),
            });
        }
        Ok(())
    }

    fn try_batch(
        &self,
        batch: &[BlockRecord],
        reader: &Reader<'_>,
        go_on: &dyn Fn() -> Result<(), CoordinatorError>,
    ) -> Result<u64, CoordinatorError> {
        let number = self.archives.fetch_add(1, Ordering::Relaxed);
        let path = self
            .config
            .backup_path
            .join(format!("{:020}-{number:06}.blocks", now()));
        let mut archive = self.archive(&path)?;
        for record in batch {
            go_on()?;
            add(&mut archive, record, reader)?;
        }
        Ok(archive.finish()?)
    }

    fn archive(&self, path: &Path) -> Result<ArchiveWriter, ArchiveError> {
        let key = self.key.lock().clone();
        ArchiveWriter::create(path, self.config.compress, key.as_ref())
    }

    /// How many bytes the archives of these blocks would have, from an archive of a few of them, which is removed.
    pub fn estimate(&self, ids: &[BlockId], reader: &Reader<'_>) -> Result<u64, CoordinatorError> {
        let place = self.config.temp_path.as_ref();
        let place = place.unwrap_or(&self.config.backup_path);
        let dir = tempfile::tempdir_in(place).map_err(|source| ArchiveError::Io {
            path: place.clone(),
            source,
        })?;
        // As many as lie in an archive together: the more do, the better they are compressed.
        let picked = SAMPLES.min(self.config.batch_size).min(ids.len());
        if picked == 0 {
            return Ok(0);
        }
        let sample = |count: usize, name: &str| {
            let path = dir.path().join(name);
            let mut archive = self.archive(&path)?;
            for n in 0..count {
                if let Some(id) = ids.get(pick(n, count, ids.len())) {
                    add(&mut archive, &self.engine.block(*id)?, reader)?;
                }
            }
            Ok::<u64, CoordinatorError>(archive.finish()?)
        };
        let (empty, some) = (sample(0, "empty")?, sample(picked, "some")?);
        let archives = ids.len().div_ceil(self.config.batch_size.max(1)) as u64;
        let blocks = some.saturating_sub(empty) as u128 * ids.len() as u128 / picked as u128;
        Ok(archives * empty + u64::try_from(blocks).unwrap_or(u64::MAX))
    }

    /// Where archives are written.
    pub fn backup_path(&self) -> &Path {
        &self.config.backup_path
    }
}

/// The last position that is done with `batch`, which blocks `after` it may have as well.
fn safe<P: Ord + Copy>(
    batch: &[BlockRecord],
    after: &[BlockRecord],
    position: impl Fn(&BlockRecord) -> P,
    before: impl Fn(P) -> Option<P>,
) -> Option<P> {
    let last = batch.iter().map(&position).max()?;
    match after.iter().map(&position).min() {
        Some(next) if next <= last => before(next),
        _ => Some(last),
    }
}

/// The place of the `n`th sample: scattered, as what blocks hold may repeat at any distance.
fn pick(n: usize, count: usize, of: usize) -> usize {
    if count == of {
        return n;
    }
    // Multiples of the golden ratio spread evenly, whatever their number.
    let fraction = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(fraction) * of as u128) >> 64) as usize
}

fn is_changed(record: &BlockRecord) -> bool {
    matches!(record.state, BlockState::Dirty | BlockState::New)
}

/// Blocks that an estimate reads.
const SAMPLES: usize = 256;

fn add(
    archive: &mut ArchiveWriter,
    record: &BlockRecord,
    reader: &Reader<'_>,
) -> Result<(), CoordinatorError> {
    let data = reader(record).map_err(|problem| CoordinatorError::Read {
        block: record.block.0,
        problem,
    })?;
    let marked = record.marked;
    Ok(archive.add(record.block.0, marked.wal.0, marked.time.0, &data)?)
}

fn all(mut cursor: bitmap::BlockCursor) -> Result<Vec<BlockId>, EngineError> {
    let mut ids = Vec::new();
    loop {
        let page = cursor.next_page(1 << 16)?;
        if page.is_empty() {
            return Ok(ids);
        }
        ids.extend(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitmap::{EngineConfig, Mark, MarkedAt};
    use repository::archive;
    use std::collections::BTreeSet;

    struct Bench {
        dir: tempfile::TempDir,
        engine: Arc<Engine>,
        coordinator: Coordinator,
    }

    fn bench(batch_size: usize, max_retries: u32) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let engine = Arc::new(Engine::open(&EngineConfig::default()).unwrap());
        let config = CoordinatorConfig {
            batch_size,
            max_retries,
            retry_interval: Duration::from_millis(1),
            timeout: Duration::from_secs(600),
            compress: true,
            key: None,
            backup_path: dir.path().into(),
            temp_path: None,
            workers: 1,
        };
        let coordinator = Coordinator::new(Arc::clone(&engine), config);
        Bench {
            dir,
            engine,
            coordinator,
        }
    }

    impl Bench {
        fn mark(&self, block: u64, wal: u64, time: i64) {
            let at = MarkedAt::new(wal, time);
            self.engine.mark(BlockId(block), Mark::Dirty, at).unwrap();
        }

        /// Blocks in the archives, with their WAL positions.
        fn archived(&self) -> BTreeSet<(u64, u64)> {
            let mut found = BTreeSet::new();
            for entry in std::fs::read_dir(self.dir.path()).unwrap() {
                let path = entry.unwrap().path();
                archive::read(&path, None, &mut |b| {
                    found.insert((b.block, b.wal));
                })
                .unwrap();
            }
            found
        }

        fn export(&self) -> Result<u64, CoordinatorError> {
            let read = |record: &BlockRecord| Ok(record.block.0.to_le_bytes().to_vec());
            Ok(self
                .coordinator
                .export(Selection::BehindCursor, &read)?
                .blocks)
        }
    }

    #[test]
    fn passes_go_on_from_each_other_and_lose_nothing() {
        for kind in [CursorKind::Wal, CursorKind::Time, CursorKind::Hybrid] {
            let bench = bench(7, 0);
            let cursor = Cursor {
                kind,
                ..bench.coordinator.cursor()
            };
            bench.coordinator.set_cursor(cursor);
            (0..50).for_each(|n| bench.mark(n, n / 3, n as i64 / 3));
            assert_eq!(bench.export().unwrap(), 50);
            assert_eq!(bench.export().unwrap(), 0, "{kind:?}: nothing is new");
            bench.mark(3, 90, 90);
            bench.mark(99, 91, 91);
            assert_eq!(bench.export().unwrap(), 2);
            let mut expected: BTreeSet<(u64, u64)> = (0..50).map(|n| (n, n / 3)).collect();
            expected.extend([(3, 90), (99, 91)]);
            assert_eq!(bench.archived(), expected);
            let stats = bench.coordinator.stats();
            assert_eq!((stats.total_blocks, stats.processed_blocks), (52, 52));
            assert_eq!(bench.coordinator.cursor().blocks, 52);
        }
    }

    #[test]
    fn the_cursor_stops_before_a_batch_that_fails_and_the_next_pass_has_it() {
        let bench = bench(4, 2);
        (0..20).for_each(|n| bench.mark(n, n, 0));
        let tries = AtomicU64::new(0);
        let result = bench
            .coordinator
            .export(Selection::BehindCursor, &|record| {
                if record.block.0 == 9 {
                    tries.fetch_add(1, Ordering::Relaxed);
                    return Err("no".to_owned());
                }
                Ok(vec![1])
            });
        assert!(matches!(
            result,
            Err(CoordinatorError::Read { block: 9, .. })
        ));
        assert_eq!(tries.into_inner(), 3, "once, and two retries");
        assert_eq!(bench.coordinator.cursor().wal, Some(7));
        let stats = bench.coordinator.stats();
        assert_eq!(
            (
                stats.processed_blocks,
                stats.failed_blocks,
                stats.retry_count
            ),
            (8, 12, 2)
        );
        assert_eq!(bench.export().unwrap(), 12);
        assert_eq!(bench.archived(), (0..20).map(|n| (n, n)).collect());
    }

    #[test]
    fn blocks_of_one_position_in_two_batches_are_not_skipped() {
        let bench = bench(3, 0);
        (0..8).for_each(|n| bench.mark(n, 5, 5));
        let read = AtomicU64::new(0);
        let result = bench.coordinator.export(Selection::BehindCursor, &|_| {
            if read.fetch_add(1, Ordering::Relaxed) >= 4 {
                Err("no".to_owned())
            } else {
                Ok(vec![])
            }
        });
        assert!(result.is_err());
        assert_eq!(
            bench.coordinator.cursor().wal,
            Some(4),
            "position 5 is not done"
        );
        assert_eq!(bench.export().unwrap(), 8);
        assert_eq!(bench.archived().len(), 8);
    }

    #[test]
    fn a_pass_is_cancelled_and_a_batch_given_up_in_time() {
        let bench = bench(5, 1_000);
        (0..20).for_each(|n| bench.mark(n, n, 0));
        let result = bench
            .coordinator
            .export(Selection::BehindCursor, &|record| {
                if record.block.0 == 7 {
                    bench.coordinator.cancel();
                }
                Ok(vec![])
            });
        assert!(matches!(result, Err(CoordinatorError::Cancelled)));
        assert_eq!(bench.coordinator.cursor().wal, Some(4));
        bench.coordinator.resume();
        assert_eq!(bench.export().unwrap(), 15);

        let config = CoordinatorConfig {
            timeout: Duration::from_secs(1),
            ..bench.coordinator.config.clone()
        };
        let slow = Coordinator::new(Arc::clone(&bench.engine), config);
        let result = slow.export(Selection::BehindCursor, &|_| Err("not now".to_owned()));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("not now"), "{error}");
        assert_eq!(slow.cursor().wal, None);
    }

    #[test]
    fn a_directory_that_can_not_be_written_leaves_the_cursor() {
        let bench = bench(5, 0);
        bench.mark(1, 1, 1);
        let config = CoordinatorConfig {
            backup_path: bench.dir.path().join("none"),
            ..bench.coordinator.config.clone()
        };
        let nowhere = Coordinator::new(Arc::clone(&bench.engine), config);
        let result = nowhere.export(Selection::BehindCursor, &|_| Ok(vec![]));
        assert!(matches!(result, Err(CoordinatorError::Archive(_))));
        assert_eq!(nowhere.cursor().wal, None);
    }

    #[test]
    fn an_estimate_is_near_what_is_written() {
        for compress in [false, true] {
            let bench = bench(100, 0);
            let config = CoordinatorConfig {
                compress,
                ..bench.coordinator.config.clone()
            };
            let coordinator = Coordinator::new(Arc::clone(&bench.engine), config);
            let ids: Vec<BlockId> = (0..1_000).map(BlockId).collect();
            ids.iter().for_each(|id| bench.mark(id.0, id.0, 0));
            // Rows with noise in them, of different lengths.
            let read = |record: &BlockRecord| {
                let mut seed = record.block.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let rows = 20 + record.block.0 % 30;
                Ok((0..rows)
                    .flat_map(|_| {
                        seed ^= seed << 13;
                        seed ^= seed >> 7;
                        seed ^= seed << 17;
                        format!("row,{},{}\n", seed % 100_000, seed % 7).into_bytes()
                    })
                    .collect())
            };
            let estimated = coordinator.estimate(&ids, &read).unwrap() as f64;
            coordinator.export(Selection::BehindCursor, &read).unwrap();
            let written = coordinator.stats().total_size as f64;
            assert!(
                (estimated / written - 1.0).abs() < 0.1,
                "estimated {estimated}, written {written}"
            );
        }
    }

    #[test]
    fn batches_are_read_at_the_same_time_and_the_cursor_has_no_holes() {
        let bench = bench(4, 0);
        (0..40).for_each(|n| bench.mark(n, n, 0));
        let config = CoordinatorConfig {
            workers: 3,
            ..bench.coordinator.config.clone()
        };
        let several = Coordinator::new(Arc::clone(&bench.engine), config);
        // Nobody gets on before three batches have begun.
        let together = std::sync::Barrier::new(3);
        let result = several.export(Selection::BehindCursor, &|record| {
            if record.block.0 < 12 && record.block.0 % 4 == 0 {
                together.wait();
            }
            match record.block.0 {
                // Of the second three the middle one.
                17 => Err("no".to_owned()),
                block => Ok(vec![block as u8]),
            }
        });
        assert!(matches!(
            result,
            Err(CoordinatorError::Read { block: 17, .. })
        ));
        assert_eq!(several.cursor().wal, Some(15), "not past the hole");
        let stats = several.stats();
        assert_eq!((stats.processed_blocks, stats.failed_blocks), (16, 24));
        let done = several
            .export(Selection::BehindCursor, &|_| Ok(vec![]))
            .unwrap();
        assert_eq!(done.blocks, 24);
        assert_eq!(bench.archived(), (0..40).map(|n| (n, n)).collect());
    }

    #[test]
    fn a_reader_that_panics_or_hangs_loses_nothing_and_answers_go_on() {
        for workers in [1, 2] {
            let bench = bench(2, 0);
            (0..8).for_each(|n| bench.mark(n, n, 0));
            let config = CoordinatorConfig {
                workers,
                ..bench.coordinator.config.clone()
            };
            let coordinator = Coordinator::new(Arc::clone(&bench.engine), config);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                coordinator.export(Selection::BehindCursor, &|record| {
                    assert!(record.block.0 != 5, "a reader's bug");
                    Ok(vec![])
                })
            }));
            assert!(panicked.is_err());
            assert_eq!(coordinator.cursor().wal, Some(3), "{workers} workers");

            // While a reader hangs, everything but another export answers, and the export can be cancelled.
            let (hangs, hanging) = std::sync::mpsc::channel();
            let (free, freed) = std::sync::mpsc::channel();
            let freed = Mutex::new(freed);
            thread::scope(|scope| {
                let export = scope.spawn(|| {
                    coordinator.export(Selection::BehindCursor, &|record| {
                        if record.block.0 == 4 {
                            hangs.send(()).unwrap();
                            freed.lock().recv().unwrap();
                        }
                        Ok(vec![])
                    })
                });
                hanging.recv().unwrap();
                assert_eq!(coordinator.cursor().wal, Some(3));
                assert_eq!(coordinator.stats().processed_blocks, 4);
                coordinator.cancel();
                free.send(()).unwrap();
                let result = export.join().unwrap();
                assert!(matches!(result, Err(CoordinatorError::Cancelled)));
            });
            coordinator.resume();
            coordinator
                .export(Selection::BehindCursor, &|_| Ok(vec![]))
                .unwrap();
            assert_eq!(bench.archived(), (0..8).map(|n| (n, n)).collect());
        }
    }

    #[test]
    fn an_estimate_leaves_the_backups_directory_alone_if_there_is_another_for_it() {
        let bench = bench(5, 0);
        bench.mark(1, 1, 1);
        let temporary = tempfile::tempdir().unwrap();
        let config = CoordinatorConfig {
            backup_path: bench.dir.path().join("not made yet"),
            temp_path: Some(temporary.path().into()),
            ..bench.coordinator.config.clone()
        };
        let coordinator = Coordinator::new(Arc::clone(&bench.engine), config);
        let size = coordinator.estimate(&[BlockId(1)], &|_| {
            assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
            Ok(vec![1])
        });
        assert!(size.unwrap() > 0);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn new_marks_are_found_whatever_their_positions() {
        let bench = bench(2, 0);
        let coordinator = &bench.coordinator;
        let read = |_: &BlockRecord| Ok(b"rows".to_vec());
        let export = || coordinator.export(Selection::NewMarks, &read).unwrap();
        let mark = |block, wal, time| {
            let marked = MarkedAt::new(wal, time);
            bench
                .engine
                .mark(BlockId(block), Mark::Dirty, marked)
                .unwrap();
        };
        // One vgroup is at 10 000, another at 100.
        mark(1, 10_000, 5);
        mark(2, 100, 5);
        mark(3, 99, 5);
        assert_eq!(export().blocks, 3);
        assert_eq!(export().blocks, 0);
        mark(4, 101, 5);
        mark(2, 101, 5);
        assert_eq!(export().blocks, 2);
        // One that was cleared and comes again.
        bench.engine.clear(BlockId(3)).unwrap();
        assert_eq!(export().blocks, 0);
        mark(3, 99, 5);
        assert_eq!(export().blocks, 1);
    }

    #[test]
    fn a_mark_made_while_its_block_is_read_is_exported_next() {
        let bench = bench(10, 0);
        bench
            .engine
            .mark(BlockId(1), Mark::Dirty, MarkedAt::new(7, 7))
            .unwrap();
        let again = |_: &BlockRecord| {
            let marked = MarkedAt::new(6, 8);
            bench.engine.mark(BlockId(1), Mark::Dirty, marked).unwrap();
            Ok(vec![])
        };
        let coordinator = &bench.coordinator;
        assert_eq!(
            coordinator
                .export(Selection::NewMarks, &again)
                .unwrap()
                .blocks,
            1
        );
        let quiet = |_: &BlockRecord| Ok(vec![]);
        assert_eq!(
            coordinator
                .export(Selection::NewMarks, &quiet)
                .unwrap()
                .blocks,
            1
        );
        assert_eq!(
            coordinator
                .export(Selection::NewMarks, &quiet)
                .unwrap()
                .blocks,
            0
        );
    }

    #[test]
    fn an_export_is_incomplete_while_there_are_ranges() {
        let bench = bench(10, 0);
        let marked = MarkedAt::new(1, 1);
        bench.engine.mark(BlockId(5), Mark::Dirty, marked).unwrap();
        let range = (BlockId(7 << 32), BlockId(7 << 32 | 0xffff_ffff));
        let mark = || bench.engine.mark_range(range.0, range.1, marked, "a test");
        mark().unwrap();
        let read = |_: &BlockRecord| Ok(vec![]);
        let result = bench.coordinator.export(Selection::NewMarks, &read);
        assert!(
            matches!(result, Err(CoordinatorError::Ranges { count: 1, first, .. }) if first == range.0.0),
            "{result:?}"
        );
        // What is known was exported all the same.
        assert_eq!(bench.coordinator.stats().processed_blocks, 1);
        bench.engine.acknowledge_damage().unwrap();
        let result = bench.coordinator.export(Selection::NewMarks, &read);
        assert_eq!(result.unwrap(), Exported::default());
    }

    #[test]
    fn blocks_marked_while_others_are_listed_are_not_skipped() {
        const BLOCKS: u64 = 100_000;
        for kind in [CursorKind::Wal, CursorKind::Time, CursorKind::Hybrid] {
            let bench = bench(1 << 20, 0);
            let cursor = Cursor {
                kind,
                ..bench.coordinator.cursor()
            };
            bench.coordinator.set_cursor(cursor);
            thread::scope(|scope| {
                let marker = scope.spawn(|| {
                    // Marks come in order, and one block has ever new ones.
                    for n in 1..=BLOCKS {
                        bench.mark(n, 2 * n, 2 * n as i64);
                        bench.mark(0, 2 * n + 1, 2 * n as i64 + 1);
                    }
                });
                while !marker.is_finished() {
                    bench.export().unwrap();
                }
            });
            bench.export().unwrap();
            let archived: BTreeSet<u64> = bench.archived().iter().map(|(b, _)| *b).collect();
            let missed = (0..=BLOCKS).filter(|block| !archived.contains(block));
            assert_eq!(missed.count(), 0, "{kind:?}");
        }
    }
}
