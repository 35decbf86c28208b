//! One batch of blocks into one archive: what is tried again, and what is left out.
//!
//! A block that can't be read, or for which no time is left, is left out of the archive, and so does not hold up the
//! others. Which blocks come when, and how far the cursor moves, is not decided here.

use super::{CoordinatorConfig, CoordinatorError, Reader};
use bitmap::{BlockId, BlockRecord};
use repository::archive::{ArchiveError, ArchiveWriter, BlockSink};
use std::{
    collections::HashSet,
    fmt, thread,
    time::{Duration, Instant},
};

/// Why a reader did not read a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFailure {
    /// This block can't be read; others may be.
    Block(String),
    /// No block can be read now: whoever holds them does not answer.
    Everything(String),
}

/// What kept a block out of the archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedStep {
    /// It could not be read.
    Read,
    /// Its archive could not be written.
    Write,
    /// Its batch took too long.
    Timeout,
}

/// A block that a pass left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedBlock {
    /// The block.
    pub block: u64,
    /// What failed.
    pub step: FailedStep,
    /// What went wrong, in words.
    pub problem: String,
}

impl fmt::Display for FailedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            FailedStep::Read => write!(f, "block {} can't be read: {}", self.block, self.problem),
            _ => write!(f, "block {}: {}", self.block, self.problem),
        }
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct BatchResult {
    /// Its archive's length; 0 if no block could be read, and there is none.
    pub(super) bytes: u64,
    /// The blocks that are in no archive.
    pub(super) failed: Vec<FailedBlock>,
}

impl BatchResult {
    /// Which blocks are in no archive.
    pub(super) fn left_out(&self) -> HashSet<BlockId> {
        let failed = self.failed.iter();
        failed.map(|failed| BlockId(failed.block)).collect()
    }
}

/// Whether, and how often, a batch may be tried.
pub(super) struct Tries<'a> {
    config: &'a CoordinatorConfig,
    is_cancelled: &'a dyn Fn() -> bool,
    on_retry: &'a dyn Fn(),
    began: Instant,
    most: u32,
    done: u32,
    problem: String,
}

/// Why a batch is not tried any more.
enum Stop {
    Cancelled,
    /// The time is over; in words.
    OutOfTime(String),
}

/// How often a wait looks whether it was cancelled.
const PATIENCE: Duration = Duration::from_millis(20);

impl<'a> Tries<'a> {
    /// Tries as the configuration says; a single one if `once`.
    pub(super) fn new(
        config: &'a CoordinatorConfig,
        once: bool,
        is_cancelled: &'a dyn Fn() -> bool,
        on_retry: &'a dyn Fn(),
    ) -> Self {
        Self {
            config,
            is_cancelled,
            on_retry,
            began: Instant::now(),
            most: if once { 0 } else { config.max_retries },
            done: 0,
            problem: "blocks were still being read".to_owned(),
        }
    }

    fn check(&self) -> Result<(), Stop> {
        if (self.is_cancelled)() {
            return Err(Stop::Cancelled);
        }
        if self.began.elapsed() >= self.config.timeout {
            return Err(Stop::OutOfTime(format!(
                "its batch took longer than {:?} after {} tries; the last problem was: {}",
                self.config.timeout,
                self.done.max(1),
                self.problem
            )));
        }
        Ok(())
    }

    /// After a problem: waits, and says whether there is another try.
    fn again(&mut self, problem: &str) -> Result<bool, Stop> {
        self.done += 1;
        if self.done > self.most {
            return Ok(false);
        }
        self.problem = problem.to_owned();
        (self.on_retry)();
        tracing::warn!("a batch is tried again: {problem}");
        let until = Instant::now() + self.config.retry_interval;
        while Instant::now() < until {
            self.check()?;
            thread::sleep(PATIENCE.min(until.saturating_duration_since(Instant::now())));
        }
        self.check().map(|()| true)
    }
}

/// Why a try gave no archive.
enum TryError {
    Cancelled,
    Archive(ArchiveError),
    Everything(String),
}

/// Makes an archive of those blocks of a batch that can be read.
///
/// # Errors
/// `Cancelled`, `Source`, `Timeout` (while no block can be read): nothing was written. What concerns single blocks, or this archive alone, is in the result.
pub(super) fn export(
    batch: &[BlockRecord],
    reader: &Reader<'_>,
    mut tries: Tries<'_>,
    archive: &dyn Fn() -> Result<ArchiveWriter, ArchiveError>,
) -> Result<BatchResult, CoordinatorError> {
    let all = |step, problem: String| BatchResult {
        bytes: 0,
        failed: batch
            .iter()
            .map(|record| failed(record, step, problem.clone()))
            .collect(),
    };
    loop {
        let error = match try_once(batch, reader, &mut tries, archive) {
            Ok(result) => return Ok(result),
            Err(TryError::Cancelled) => return Err(CoordinatorError::Cancelled),
            Err(error) => error,
        };
        let problem = match &error {
            TryError::Archive(error) => error.to_string(),
            TryError::Everything(problem) => problem.clone(),
            TryError::Cancelled => return Err(CoordinatorError::Cancelled),
        };
        match (tries.again(&problem), error) {
            (Ok(true), _) => {}
            (Err(Stop::Cancelled), _) => return Err(CoordinatorError::Cancelled),
            (Err(Stop::OutOfTime(words)), TryError::Archive(_)) => {
                return Ok(all(FailedStep::Timeout, words));
            }
            (Ok(false), TryError::Archive(_)) => return Ok(all(FailedStep::Write, problem)),
            (Err(Stop::OutOfTime(words)), _) => return Err(CoordinatorError::Timeout(words)),
            (Ok(false), _) => return Err(CoordinatorError::Source(problem)),
        }
    }
}

fn failed(record: &BlockRecord, step: FailedStep, problem: String) -> FailedBlock {
    FailedBlock {
        block: record.block.0,
        step,
        problem,
    }
}

/// Reads the blocks, those that failed again, as often as `tries` allow, and ends the archive.
fn try_once(
    batch: &[BlockRecord],
    reader: &Reader<'_>,
    tries: &mut Tries<'_>,
    archive: &dyn Fn() -> Result<ArchiveWriter, ArchiveError>,
) -> Result<BatchResult, TryError> {
    let mut archive = archive().map_err(TryError::Archive)?;
    let mut left: Vec<BlockRecord> = batch.to_vec();
    loop {
        let (mut rest, mut problems) = (Vec::new(), Vec::new());
        for record in left {
            let problem = match tries.check() {
                Err(Stop::Cancelled) => return Err(TryError::Cancelled),
                Err(Stop::OutOfTime(words)) => Some((FailedStep::Timeout, words)),
                Ok(()) => {
                    read(&mut archive, &record, reader)?.map(|words| (FailedStep::Read, words))
                }
            };
            if let Some((step, words)) = problem {
                rest.push(record);
                problems.push(failed(&record, step, words));
            }
        }
        let again = match problems.last() {
            None => Ok(false),
            Some(problem) => tries.again(&problem.to_string()),
        };
        match again {
            Ok(true) => left = rest,
            Err(Stop::Cancelled) => return Err(TryError::Cancelled),
            // Each block keeps its own problem; that there was no time for more tries is added.
            Err(Stop::OutOfTime(words)) => {
                problems.iter_mut().for_each(|problem| {
                    problem.step = FailedStep::Timeout;
                    problem.problem = format!("{}; {words}", problem.problem);
                });
                return finish(archive, problems);
            }
            Ok(false) => return finish(archive, problems),
        }
    }
}

fn finish(archive: ArchiveWriter, failed: Vec<FailedBlock>) -> Result<BatchResult, TryError> {
    let bytes = match archive.blocks() {
        0 => 0,
        _ => archive.finish().map_err(TryError::Archive)?,
    };
    Ok(BatchResult { bytes, failed })
}

/// Why a block could not be read, if it could not.
fn read(
    archive: &mut ArchiveWriter,
    record: &BlockRecord,
    reader: &Reader<'_>,
) -> Result<Option<String>, TryError> {
    match add(archive, record, reader) {
        Ok(()) => Ok(None),
        Err(AddError::Archive(ArchiveError::Block { problem, .. })) => Ok(Some(problem.to_owned())),
        Err(AddError::Archive(error)) => Err(TryError::Archive(error)),
        Err(AddError::Read(ReadFailure::Block(problem))) => Ok(Some(problem)),
        Err(AddError::Read(ReadFailure::Everything(problem))) => Err(TryError::Everything(problem)),
    }
}

/// Why a block is not in an archive.
pub(super) enum AddError {
    Archive(ArchiveError),
    Read(ReadFailure),
}

/// Reads a block into an archive.
pub(super) fn add(
    archive: &mut ArchiveWriter,
    record: &BlockRecord,
    reader: &Reader<'_>,
) -> Result<(), AddError> {
    let marked = record.marked;
    let mut sink = BlockSink::new(archive, record.block.0, marked.wal.0, marked.time.0);
    let read = reader(record, &mut sink);
    // A sink that could not write is the cause of whatever the reader says.
    match (sink.failure(), read) {
        (Some(error), _) => Err(AddError::Archive(error)),
        (None, Err(failure)) => Err(AddError::Read(failure)),
        (None, Ok(())) => sink.finish().map_err(AddError::Archive),
    }
}
