//! Batches of changed blocks, read by whoever knows what a block holds, into archives. A cursor says how far that is;
//! it moves only past what lies safely on disk, so that whatever fails, the next pass has those blocks again. A block that
//! fails holds up the cursor and nothing else: the blocks behind it are exported, and are not exported again because of it.
//!
//! | module | holds |
//! |---|---|
//! | `batch` | one batch into one archive: what is tried again, and what is left out |
//! | `cursor` | how far blocks are exported |
//! | `error` | why a pass did not export everything |

mod batch;
mod cursor;
mod error;

pub use batch::{FailedBlock, FailedStep, ReadFailure};
pub use cursor::{Cursor, CursorKind};
pub use error::{CoordinatorError, FailedBlocks};

use batch::{AddError, BatchResult, Tries};
use bitmap::{BlockId, BlockRecord, BlockState, Engine, EngineError, MarkedAt};
use cursor::{Reach, safe};
use parking_lot::Mutex;
use repository::archive::{self, ArchiveError, ArchiveWriter, BlockSink, Key};
use std::{
    collections::{HashMap, HashSet},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
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

/// Reads what a block holds, into the sink. With several workers it is called by several threads at once.
pub type Reader<'a> =
    dyn Fn(&BlockRecord, &mut BlockSink<'_>) -> Result<(), ReadFailure> + Sync + 'a;

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
    /// The marks that passes behind the cursor exported, of blocks that the cursor can't move past, as one before them
    /// failed.
    ahead: Mutex<HashMap<BlockId, MarkedAt>>,
    stats: Mutex<CoordinatorStats>,
    cancelled: AtomicBool,
    /// One pass at a time.
    pass: Mutex<()>,
    /// The number of the newest archive that this coordinator wrote. It may have been moved elsewhere since.
    newest: Mutex<Option<u64>>,
}

/// A pass on its way.
struct Pass {
    selection: Selection,
    exported: Exported,
    failed: FailedBlocks,
    /// The blocks that are in archives, of those that the pass found.
    done: Reach,
    /// The blocks that failed.
    open: Reach,
    /// Whether a batch is tried only once.
    once: bool,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

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
            ahead: Mutex::default(),
            stats: Mutex::default(),
            cancelled: AtomicBool::new(false),
            pass: Mutex::new(()),
            newest: Mutex::default(),
        }
    }

    /// How far it is.
    pub fn cursor(&self) -> Cursor {
        *self.cursor.lock()
    }

    /// Goes on from elsewhere, once no pass is under way.
    pub fn set_cursor(&self, cursor: Cursor) {
        let _pass = self.pass.lock();
        // What lies behind it is to be exported, whether it was before or not.
        self.ahead.lock().clear();
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

    /// The marks that were exported and that the cursor does not tell of.
    fn exported_marks(&self, selection: Selection) -> &Mutex<HashMap<BlockId, MarkedAt>> {
        match selection {
            Selection::BehindCursor => &self.ahead,
            Selection::NewMarks => &self.marks,
        }
    }

    /// The blocks that a pass has to do, with their marks, in the cursor's order; and how far those are marked that it
    /// need not do any more.
    fn pending(
        &self,
        cursor: &Cursor,
        selection: Selection,
    ) -> Result<(Vec<BlockRecord>, Reach), EngineError> {
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
        let mut done = Reach::default();
        let mut marks = self.exported_marks(selection).lock();
        let mut still = HashMap::new();
        records.retain(|record| {
            let is_done = marks.get(&record.block) == Some(&record.marked);
            if is_done {
                still.insert(record.block, record.marked);
                done.add(record);
            }
            !is_done
        });
        *marks = still;
        drop(marks);
        records.sort_by_key(|record| match cursor.kind {
            CursorKind::Time => (record.marked.time.0, 0, record.block),
            _ => (0, record.marked.wal.0, record.block),
        });
        Ok((records, done))
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
    /// All of [`CoordinatorError`]. With `Ranges`, every block that is known was exported, and the cursor moved; with `Blocks`,
    /// every other block, and the cursor stands before the first of those that were not.
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
        let (exported, failed) = result?;
        if failed.count > 0 {
            let ranges = damage.len();
            return Err(CoordinatorError::Blocks { failed, ranges });
        }
        match damage.first() {
            Some(range) => Err(CoordinatorError::Ranges {
                count: damage.len(),
                first: range.first.0,
                last: range.last.0,
            }),
            None => Ok(exported),
        }
    }

    fn pass(
        &self,
        selection: Selection,
        reader: &Reader<'_>,
    ) -> Result<(Exported, FailedBlocks), CoordinatorError> {
        let start = self.cursor();
        let (pending, done) = self.pending(&start, selection)?;
        self.stats.lock().total_blocks += pending.len() as u64;
        let mut state = Pass {
            selection,
            exported: Exported::default(),
            failed: FailedBlocks::default(),
            done,
            open: Reach::default(),
            once: false,
        };
        let mut rest = pending.as_slice();
        self.advance(&state, 0, rest);
        while !rest.is_empty() {
            let turn = rest
                .chunks(self.config.batch_size.max(1))
                .take(self.config.workers.max(1));
            for (batch, result) in self.batches(turn.collect(), reader, state.once) {
                match result {
                    Ok(result) => {
                        rest = rest.get(batch.len()..).unwrap_or_default();
                        self.take_in(&mut state, batch, result, rest);
                    }
                    Err(error) => {
                        // A batch behind this one may be safe as well. It does not count: it comes again.
                        self.stats.lock().failed_blocks += rest.len() as u64;
                        return Err(error);
                    }
                }
            }
        }
        Ok((state.exported, state.failed))
    }

    /// Counts what became of a batch, and moves the cursor as far as everything is safe.
    fn take_in(
        &self,
        state: &mut Pass,
        batch: &[BlockRecord],
        result: BatchResult,
        rest: &[BlockRecord],
    ) {
        let left_out = result.left_out();
        let (failed, safe): (Vec<_>, Vec<_>) = batch
            .iter()
            .partition(|record| left_out.contains(&record.block));
        tracing::debug!(
            "{} blocks are in an archive of {} bytes, {} are in none",
            safe.len(),
            result.bytes,
            failed.len()
        );
        failed.iter().for_each(|record| state.open.add(record));
        safe.iter().for_each(|record| state.done.add(record));
        // Where nothing could be exported, it may be the same with the next batch: it is not waited for.
        state.once = safe.is_empty();
        state.exported.blocks += safe.len() as u64;
        state.exported.bytes += result.bytes;
        state.failed.take_in(result.failed);
        let mut stats = self.stats.lock();
        stats.processed_blocks += safe.len() as u64;
        stats.failed_blocks += failed.len() as u64;
        stats.total_size += result.bytes;
        drop(stats);
        self.advance(state, safe.len(), rest);
        let cursor = self.cursor();
        let done = safe.iter().map(|record| (record.block, record.marked));
        let untold = done.filter(|(_, marked)| {
            state.selection == Selection::NewMarks || !cursor.covers(*marked)
        });
        self.exported_marks(state.selection).lock().extend(untold);
    }

    /// Archives for these batches, each by a thread of its own; a single one by the caller's.
    fn batches<'b>(
        &self,
        batches: Vec<&'b [BlockRecord]>,
        reader: &Reader<'_>,
        once: bool,
    ) -> Vec<(&'b [BlockRecord], Result<BatchResult, CoordinatorError>)> {
        if let [batch] = batches.as_slice() {
            return vec![(*batch, self.batch(batch, reader, once))];
        }
        thread::scope(|scope| {
            let started: Vec<_> = batches
                .into_iter()
                .map(|batch| (batch, scope.spawn(move || self.batch(batch, reader, once))))
                .collect();
            let ended = started.into_iter().map(|(batch, thread)| {
                // A reader's panic goes on in the caller, as it does without threads.
                let result = thread.join();
                (batch, result.unwrap_or_else(|panic| resume_unwind(panic)))
            });
            ended.collect()
        })
    }

    /// Moves the cursor past what is safe, but not past blocks that failed or come later.
    fn advance(&self, state: &Pass, count: usize, rest: &[BlockRecord]) {
        let mut open = state.open;
        rest.iter().for_each(|record| open.add(record));
        let mut cursor = self.cursor.lock();
        let before = *cursor;
        if cursor.kind != CursorKind::Time {
            let safe = safe(state.done.wal, open.wal, |next| next.checked_sub(1));
            cursor.wal = cursor.wal.max(safe);
        }
        if cursor.kind != CursorKind::Wal {
            let safe = safe(state.done.time, open.time, |next| next.checked_sub(1));
            cursor.time = cursor.time.max(safe);
        }
        cursor.blocks += count as u64;
        if *cursor != before {
            cursor.updated = now();
        }
    }

    /// One archive, tried again where that may help.
    fn batch(
        &self,
        batch: &[BlockRecord],
        reader: &Reader<'_>,
        once: bool,
    ) -> Result<BatchResult, CoordinatorError> {
        let is_cancelled = || self.cancelled.load(Ordering::SeqCst);
        let on_retry = || self.stats.lock().retry_count += 1;
        let tries = Tries::new(&self.config, once, &is_cancelled, &on_retry);
        batch::export(batch, reader, tries, &|| self.archive(&self.next_path()?))
    }

    /// The name of the next archive.
    fn next_path(&self) -> Result<PathBuf, ArchiveError> {
        let dir = &self.config.backup_path;
        let mut newest = self.newest.lock();
        let number = archive::next_number(dir, *newest, now())?;
        *newest = Some(number);
        Ok(dir.join(archive::file_name(number)))
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
                    let added = batch::add(&mut archive, &self.engine.block(*id)?, reader);
                    added.map_err(|error| match error {
                        AddError::Archive(error) => error.into(),
                        AddError::Read(
                            ReadFailure::Block(problem) | ReadFailure::Everything(problem),
                        ) => CoordinatorError::Read {
                            block: id.0,
                            problem,
                        },
                    })?;
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
    use rows::sink::{RowSink as _, RowsOf};
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicU64;

    /// A reader of bytes.
    fn bytes(
        read: impl Fn(&BlockRecord) -> Result<Vec<u8>, String> + Sync,
    ) -> impl Fn(&BlockRecord, &mut BlockSink<'_>) -> Result<(), ReadFailure> + Sync {
        move |record, sink| {
            let data = read(record).map_err(ReadFailure::Block)?;
            let _ = sink.bytes(&data);
            Ok(())
        }
    }

    /// The blocks that an export left out.
    fn left_out(result: Result<Exported, CoordinatorError>) -> Vec<(u64, FailedStep)> {
        match result {
            Err(CoordinatorError::Blocks { failed, .. }) => {
                assert_eq!(failed.count, failed.named.len() as u64);
                let named = failed.named.iter();
                named.map(|failed| (failed.block, failed.step)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

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
            let read = bytes(|record| Ok(record.block.0.to_le_bytes().to_vec()));
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
    fn a_block_that_fails_holds_up_the_cursor_and_nothing_else() {
        for kind in [CursorKind::Wal, CursorKind::Time, CursorKind::Hybrid] {
            for selection in [Selection::BehindCursor, Selection::NewMarks] {
                let bench = bench(4, 2);
                let cursor = Cursor {
                    kind,
                    ..bench.coordinator.cursor()
                };
                bench.coordinator.set_cursor(cursor);
                (0..20).for_each(|n| bench.mark(n, n, n as i64));
                let read = Mutex::new(Vec::new());
                let bad = AtomicU64::new(9);
                let export = || {
                    bench.coordinator.export(
                        selection,
                        &bytes(|record| {
                            read.lock().push(record.block.0);
                            match record.block.0 == bad.load(Ordering::Relaxed) {
                                true => Err("no".to_owned()),
                                false => Ok(vec![1]),
                            }
                        }),
                    )
                };
                let at = |wal: u64| {
                    let cursor = bench.coordinator.cursor();
                    let by_wal = (kind != CursorKind::Time).then_some(wal);
                    let by_time = (kind != CursorKind::Wal).then_some(wal as i64);
                    assert_eq!((cursor.wal, cursor.time), (by_wal, by_time), "{kind:?}");
                };
                assert_eq!(left_out(export()), [(9, FailedStep::Read)]);
                assert_eq!(read.lock().iter().filter(|block| **block == 9).count(), 3);
                assert_eq!(
                    read.lock().len(),
                    22,
                    "the others once, block 9 and two retries"
                );
                at(8);
                let stats = bench.coordinator.stats();
                assert_eq!(
                    (
                        stats.processed_blocks,
                        stats.failed_blocks,
                        stats.retry_count
                    ),
                    (19, 1, 2)
                );
                // Those behind it do not come again, whatever happens to it; what is new does.
                bench.mark(30, 30, 30);
                read.lock().clear();
                assert_eq!(left_out(export()), [(9, FailedStep::Read)]);
                assert_eq!(*read.lock(), [9, 30, 9, 9]);
                at(8);
                bench.mark(12, 31, 31);
                bad.store(99, Ordering::Relaxed);
                read.lock().clear();
                assert_eq!(export().unwrap().blocks, 2);
                assert_eq!(*read.lock(), [9, 12]);
                at(31);
                assert_eq!(export().unwrap().blocks, 0);
                assert!(bench.coordinator.ahead.lock().is_empty());
                let mut expected: BTreeSet<(u64, u64)> = (0..20).map(|n| (n, n)).collect();
                expected.extend([(30, 30), (12, 31)]);
                assert_eq!(bench.archived(), expected);
            }
        }
    }

    #[test]
    fn a_cursor_that_is_set_back_has_everything_exported_again() {
        let bench = bench(4, 0);
        (0..8).for_each(|n| bench.mark(n, n, 0));
        let cursor = bench.coordinator.cursor();
        let read = bytes(|record| match record.block.0 {
            0 => Err("no".to_owned()),
            _ => Ok(vec![1]),
        });
        let export = || bench.coordinator.export(Selection::BehindCursor, &read);
        assert_eq!(left_out(export()), [(0, FailedStep::Read)]);
        assert_eq!(bench.coordinator.cursor().wal, None);
        bench.coordinator.set_cursor(cursor);
        assert_eq!(bench.export().unwrap(), 8);
    }

    #[test]
    fn a_failed_block_that_is_cleared_lets_the_cursor_go() {
        let bench = bench(4, 0);
        (1..8).for_each(|n| bench.mark(n, n, 0));
        let read = bytes(|record| match record.block.0 {
            3 => Err("no".to_owned()),
            _ => Ok(vec![1]),
        });
        let export = || bench.coordinator.export(Selection::BehindCursor, &read);
        assert_eq!(left_out(export()), [(3, FailedStep::Read)]);
        assert_eq!(bench.coordinator.cursor().wal, Some(2));
        bench.engine.clear(BlockId(3)).unwrap();
        assert_eq!(export().unwrap().blocks, 0);
        assert_eq!(bench.coordinator.cursor().wal, Some(7));
    }

    #[test]
    fn very_many_failed_blocks_are_counted_and_the_first_are_named() {
        let bench = bench(10, 1);
        (0..100).for_each(|n| bench.mark(n, n, 0));
        let tries = AtomicU64::new(0);
        let read = bytes(|_| {
            tries.fetch_add(1, Ordering::Relaxed);
            Err("no".to_owned())
        });
        let result = bench.coordinator.export(Selection::BehindCursor, &read);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("100 blocks"), "{error}");
        assert!(
            error.contains("block 15 can't be read: no; and 84 more"),
            "{error}"
        );
        assert_eq!(
            tries.load(Ordering::Relaxed),
            110,
            "a batch behind one that failed whole is tried once"
        );
        assert_eq!(bench.coordinator.cursor().wal, None);
    }

    #[test]
    fn who_holds_all_blocks_and_does_not_answer_ends_the_pass() {
        let bench = bench(2, 1);
        (0..10).for_each(|n| bench.mark(n, n, 0));
        let tries = AtomicU64::new(0);
        let result = bench
            .coordinator
            .export(Selection::BehindCursor, &|record, _| match record.block.0 {
                0..4 => Ok(()),
                _ => {
                    tries.fetch_add(1, Ordering::Relaxed);
                    Err(ReadFailure::Everything("no server".to_owned()))
                }
            });
        assert!(matches!(result, Err(CoordinatorError::Source(problem)) if problem == "no server"));
        assert_eq!(tries.into_inner(), 2);
        assert_eq!(bench.coordinator.cursor().wal, Some(3));
        assert_eq!(bench.coordinator.stats().failed_blocks, 6);
        assert_eq!(bench.export().unwrap(), 6);
    }

    #[test]
    fn what_a_block_gave_before_it_failed_is_in_no_archive() {
        let bench = bench(4, 1);
        (0..4).for_each(|n| bench.mark(n, n, 0));
        let columns = vec![("ts".to_owned(), model::DataType::Timestamp)];
        let result = bench
            .coordinator
            .export(Selection::BehindCursor, &|record, sink| {
                let of = RowsOf {
                    block: record.block.0,
                    first: 0,
                    last: 999,
                    database: "d".to_owned(),
                    table: Some("t".to_owned()),
                    columns: columns.clone(),
                };
                let fail = |_| ReadFailure::Block("no".to_owned());
                sink.every_row_is_a_part();
                sink.begin(&of).map_err(fail)?;
                for key in 0..5 {
                    sink.row(&[model::Value::Int(key)]).map_err(fail)?;
                }
                match record.block.0 {
                    2 => Err(ReadFailure::Block("the connection is lost".to_owned())),
                    _ => Ok(()),
                }
            });
        assert_eq!(left_out(result), [(2, FailedStep::Read)]);
        assert_eq!(bench.archived(), [(0, 0), (1, 1), (3, 3)].into());
    }

    #[test]
    fn a_batch_that_can_not_be_written_does_not_stop_those_behind_it() {
        // Its archive would take the place of another one, once.
        let bench = bench(2, 0);
        (0..6).for_each(|n| bench.mark(n, n, 0));
        let far = i64::MAX as u64;
        std::fs::write(bench.dir.path().join(archive::file_name(far)), "").unwrap();
        let taken = bench.dir.path().join(archive::file_name(far + 1));
        let result = bench.coordinator.export(
            Selection::BehindCursor,
            &bytes(|record| {
                if record.block.0 == 0 {
                    std::fs::write(&taken, "").unwrap();
                }
                Ok(vec![1])
            }),
        );
        let failed = [(0, FailedStep::Write), (1, FailedStep::Write)];
        assert_eq!(left_out(result), failed);
        assert_eq!(bench.export().unwrap(), 2);
    }

    #[test]
    fn a_clock_that_steps_back_leaves_the_order_of_archives() {
        let bench = bench(2, 0);
        // Written while the clock was centuries ahead.
        let ahead = bench.dir.path().join("09000000000000000000-000003.blocks");
        std::fs::write(&ahead, "").unwrap();
        for n in 0..3 {
            bench.mark(n, n, 0);
            bench.export().unwrap();
        }
        let found = std::fs::read_dir(bench.dir.path()).unwrap();
        let found: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
        let ordered = archive::in_order(&found);
        assert_eq!(ordered[0], ahead);
        let blocks = ordered.iter().skip(1).map(|path| {
            let mut block = None;
            archive::read(path, None, &mut |found| block = Some(found.block)).unwrap();
            block
        });
        assert_eq!(blocks.collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn archives_that_are_moved_away_leave_the_order_where_the_clock_steps_back() {
        let bench = bench(2, 0);
        let archives = || {
            let found = std::fs::read_dir(bench.dir.path()).unwrap();
            found
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|ending| ending == "blocks"))
                .collect::<Vec<_>>()
        };
        // Written while the clock was centuries ahead.
        let ahead = bench.dir.path().join("09000000000000000000.blocks");
        std::fs::write(&ahead, "").unwrap();
        bench.mark(0, 0, 0);
        bench.export().unwrap();
        archives()
            .iter()
            .for_each(|path| std::fs::remove_file(path).unwrap());
        bench.mark(1, 1, 0);
        bench.export().unwrap();
        let names: Vec<_> = archives()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["09000000000000000002.blocks"]);
    }

    #[test]
    fn blocks_of_one_position_in_two_batches_are_not_skipped() {
        let bench = bench(3, 0);
        (0..8).for_each(|n| bench.mark(n, 5, 5));
        let read = AtomicU64::new(0);
        let result = bench.coordinator.export(
            Selection::BehindCursor,
            &bytes(|_| {
                if read.fetch_add(1, Ordering::Relaxed) >= 4 {
                    Err("no".to_owned())
                } else {
                    Ok(vec![])
                }
            }),
        );
        assert_eq!(left_out(result).len(), 4);
        assert_eq!(
            bench.coordinator.cursor().wal,
            Some(4),
            "position 5 is not done"
        );
        assert_eq!(bench.export().unwrap(), 4);
        assert_eq!(bench.archived().len(), 8);
        assert_eq!(bench.coordinator.cursor().wal, Some(5));
    }

    #[test]
    fn a_pass_is_cancelled_and_a_batch_given_up_in_time() {
        let bench = bench(5, 1_000);
        (0..20).for_each(|n| bench.mark(n, n, 0));
        let result = bench
            .coordinator
            .export(Selection::BehindCursor, &|record, _| {
                if record.block.0 == 7 {
                    bench.coordinator.cancel();
                }
                Ok(())
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
        let result = slow.export(
            Selection::BehindCursor,
            &bytes(|record| match record.block.0 {
                0..5 => Err("not now".to_owned()),
                _ => Ok(vec![]),
            }),
        );
        let error = result.as_ref().unwrap_err().to_string();
        assert!(error.contains("not now"), "{error}");
        let failed = left_out(result);
        assert_eq!(failed, [0, 1, 2, 3, 4].map(|n| (n, FailedStep::Timeout)));
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
        let result = nowhere.export(Selection::BehindCursor, &|_, _| Ok(()));
        assert_eq!(left_out(result), [(1, FailedStep::Write)]);
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
            let read = bytes(|record: &BlockRecord| {
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
            });
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
        let read = bytes(|record| {
            if record.block.0 < 12 && record.block.0 % 4 == 0 {
                together.wait();
            }
            match record.block.0 {
                // Of the second three the middle one.
                17 => Err("no".to_owned()),
                block => Ok(vec![block as u8]),
            }
        });
        let result = several.export(Selection::BehindCursor, &read);
        assert_eq!(left_out(result), [(17, FailedStep::Read)]);
        assert_eq!(several.cursor().wal, Some(16), "not past the hole");
        let stats = several.stats();
        assert_eq!((stats.processed_blocks, stats.failed_blocks), (39, 1));
        let done = several
            .export(Selection::BehindCursor, &|_, _| Ok(()))
            .unwrap();
        assert_eq!(done.blocks, 1);
        assert_eq!(several.cursor().wal, Some(39));
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
                coordinator.export(Selection::BehindCursor, &|record, _| {
                    assert!(record.block.0 != 5, "a reader's bug");
                    Ok(())
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
                    coordinator.export(Selection::BehindCursor, &|record, _| {
                        if record.block.0 == 4 {
                            hangs.send(()).unwrap();
                            freed.lock().recv().unwrap();
                        }
                        Ok(())
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
                .export(Selection::BehindCursor, &|_, _| Ok(()))
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
        let read = bytes(|_| {
            assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
            Ok(vec![1])
        });
        let size = coordinator.estimate(&[BlockId(1)], &read);
        assert!(size.unwrap() > 0);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn new_marks_are_found_whatever_their_positions() {
        let bench = bench(2, 0);
        let coordinator = &bench.coordinator;
        let read = bytes(|_| Ok(b"rows".to_vec()));
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
        let again = bytes(|_| {
            let marked = MarkedAt::new(6, 8);
            bench.engine.mark(BlockId(1), Mark::Dirty, marked).unwrap();
            Ok(vec![])
        });
        let coordinator = &bench.coordinator;
        assert_eq!(
            coordinator
                .export(Selection::NewMarks, &again)
                .unwrap()
                .blocks,
            1
        );
        let quiet = bytes(|_| Ok(vec![]));
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
        let read = bytes(|_| Ok(vec![]));
        let result = bench.coordinator.export(Selection::NewMarks, &read);
        assert!(
            matches!(result, Err(CoordinatorError::Ranges { count: 1, first, .. }) if first == range.0.0),
            "{result:?}"
        );
        // What is known was exported all the same.
        assert_eq!(bench.coordinator.stats().processed_blocks, 1);
        let list = bench.engine.list_damage(usize::MAX);
        bench.engine.acknowledge_damage(list.token).unwrap();
        let result = bench.coordinator.export(Selection::NewMarks, &read);
        assert_eq!(result.unwrap(), Exported::default());
    }

    #[test]
    fn a_range_that_comes_between_a_hosts_list_and_its_acknowledgement_stays_though_an_export_looked()
     {
        let bench = bench(10, 0);
        let marked = MarkedAt::new(1, 1);
        let mark = |first, last| {
            let (first, last) = (BlockId(first), BlockId(last));
            bench
                .engine
                .mark_range(first, last, marked, "a test")
                .unwrap();
        };
        mark(100, 109);
        let list = bench.engine.list_damage(usize::MAX);
        assert_eq!(list.ranges.len(), 1);
        mark(200, 209);
        let read = bytes(|_| Ok(vec![]));
        let result = bench.coordinator.export(Selection::NewMarks, &read);
        assert!(matches!(
            result,
            Err(CoordinatorError::Ranges { count: 2, .. })
        ));
        bench.engine.acknowledge_damage(list.token).unwrap();
        let left: Vec<u64> = bench.engine.damage().iter().map(|r| r.first.0).collect();
        assert_eq!(left, [200]);
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
            let exported = Mutex::new(BTreeSet::new());
            let read = bytes(|record| {
                exported.lock().insert(record.block.0);
                Ok(vec![])
            });
            let export = || {
                let result = bench.coordinator.export(Selection::BehindCursor, &read);
                result.unwrap();
            };
            thread::scope(|scope| {
                let marker = scope.spawn(|| {
                    // Marks come in order, and one block has ever new ones.
                    for n in 1..=BLOCKS {
                        bench.mark(n, 2 * n, 2 * n as i64);
                        bench.mark(0, 2 * n + 1, 2 * n as i64 + 1);
                    }
                });
                while !marker.is_finished() {
                    export();
                }
            });
            export();
            let exported = exported.lock();
            let missed = (0..=BLOCKS).filter(|block| !exported.contains(block));
            assert_eq!(missed.count(), 0, "{kind:?}");
        }
    }
}
