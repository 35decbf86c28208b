//! A tree: every row of one kind, as levels of disjoint runs, the oldest level first.
//!
//! A run that overlaps nothing in the newest level joins it, so rows that come in order cost no merging at all. Levels of
//! similar size are merged, so there are O(log n) of them.

use crate::BlockId;
use crate::chunk::Chunk;
use crate::disk::Serial;
use crate::error::EngineError;
use crate::row::{Key, Record, Row};
use crate::run::Run;
use std::collections::HashSet;
use std::sync::Arc;

/// Disjoint runs, ascending.
pub(crate) type Level<R> = Arc<Vec<Arc<Run<R>>>>;

/// Levels of one size class that are merged into one.
const FAN: usize = 8;
/// Rows of the smallest size class.
const SMALL_LEVEL: u64 = 1 << 14;
/// Small neighbours in a level that are joined into one run.
const JOIN: usize = 16;

/// All rows of one kind.
#[derive(Debug)]
pub(crate) struct Tree<R> {
    levels: Vec<Level<R>>,
}

impl<R> Clone for Tree<R> {
    fn clone(&self) -> Self {
        Self {
            levels: self.levels.clone(),
        }
    }
}

impl<R> Default for Tree<R> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

/// What is to be made into one level or one run.
#[derive(Debug)]
pub(crate) enum Work<R> {
    /// Merge these levels, oldest first.
    Merge(Vec<Level<R>>),
    /// Join these neighbours, which are disjoint and ascending.
    Join(Vec<Arc<Run<R>>>),
}

impl<R: Row> Tree<R> {
    /// A tree of `levels`, oldest first.
    pub(crate) fn new(levels: Vec<Vec<Arc<Run<R>>>>) -> Self {
        Self {
            levels: levels
                .into_iter()
                .filter(|level| !level.is_empty())
                .map(Arc::new)
                .collect(),
        }
    }

    pub(crate) fn levels(&self) -> &[Level<R>] {
        &self.levels
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<Run<R>>> {
        self.levels.iter().flat_map(|level| level.iter())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.runs().map(|run| run.rows).sum()
    }

    /// Adds a run that is newer than everything here.
    pub(crate) fn add(&mut self, run: Run<R>) {
        self.add_shared(Arc::new(run));
    }

    /// As [`Self::add`], of a run that may be in use already.
    pub(crate) fn add_shared(&mut self, run: Arc<Run<R>>) {
        if let Some(level) = self.levels.last_mut() {
            let at = level.partition_point(|known| known.last < run.first());
            if level.get(at).is_none_or(|next| run.last < next.first()) {
                Arc::make_mut(level).insert(at, run);
                return;
            }
        }
        self.levels.push(Arc::new(vec![run]));
    }

    /// The next thing to do to keep the number of levels and runs small. Runs of `full_run` rows are not joined.
    pub(crate) fn work(&self, full_run: u64) -> Option<Work<R>> {
        let class = |level: &Level<R>| {
            let rows: u64 = level.iter().map(|run| run.rows).sum();
            (rows / SMALL_LEVEL + 1).ilog(FAN as u64)
        };
        let mut end = self.levels.len();
        while end >= FAN {
            let newest = class(&self.levels[end - 1]);
            let mut start = end - 1;
            while start > 0 && class(&self.levels[start - 1]) <= newest {
                start -= 1;
            }
            if end - start >= FAN {
                return Some(Work::Merge(self.levels[start..end].to_vec()));
            }
            end = start;
        }
        self.levels.iter().find_map(|level| {
            let mut start = 0;
            while start < level.len() {
                let small = level[start..]
                    .iter()
                    .take_while(|run| run.rows < full_run)
                    .count();
                if small >= JOIN {
                    let mut rows = 0;
                    let joined: Vec<_> = level[start..start + small]
                        .iter()
                        .take_while(|run| {
                            let fits = rows < full_run;
                            rows += run.rows;
                            fits
                        })
                        .map(Arc::clone)
                        .collect();
                    return (joined.len() > 1).then_some(Work::Join(joined));
                }
                start += small + 1;
            }
            None
        })
    }

    /// Puts `output` in the place of the runs `gone`. Runs added to their levels meanwhile stay above it.
    pub(crate) fn replace(&mut self, gone: &HashSet<Serial>, output: Vec<Arc<Run<R>>>) {
        let mut output = Some(output);
        let mut levels = Vec::with_capacity(self.levels.len() + 1);
        for level in self.levels.drain(..) {
            let (before, after): (Vec<_>, Vec<_>) = level
                .iter()
                .map(Arc::clone)
                .partition(|run| gone.contains(&run.serial));
            if before.is_empty() {
                levels.push(level);
                continue;
            }
            match output.take() {
                Some(mut output) => {
                    // A join, or a merge of disjoint neighbours, leaves one level as one level.
                    output.extend(after);
                    output.sort_unstable_by_key(|run| run.first());
                    if output.windows(2).all(|w| w[0].last < w[1].first()) {
                        levels.push(Arc::new(output));
                    } else {
                        let (new, old): (Vec<_>, Vec<_>) = output
                            .into_iter()
                            .partition(|run| level.iter().any(|known| known.serial == run.serial));
                        levels.push(Arc::new(old));
                        levels.push(Arc::new(new));
                    }
                }
                None if after.is_empty() => {}
                None => levels.push(Arc::new(after)),
            }
        }
        if let Some(output) = output {
            levels.insert(0, Arc::new(output));
        }
        levels.retain(|level| !level.is_empty());
        self.levels = levels;
    }

    /// Puts `base` in the place of the runs `gone`; what was added meanwhile stays above it.
    pub(crate) fn rebase(&mut self, gone: &HashSet<Serial>, base: Self) {
        let newer = self.levels.drain(..).map(|level| {
            let newer = level.iter().filter(|run| !gone.contains(&run.serial));
            Arc::new(newer.map(Arc::clone).collect::<Vec<_>>())
        });
        let newer: Vec<_> = newer.filter(|level| !level.is_empty()).collect();
        self.levels = base.levels;
        self.levels.extend(newer);
    }

    /// The rows from `from` on, ascending.
    pub(crate) fn cursor(&self, from: Key) -> Result<Cursor<R>, EngineError> {
        Cursor::new(&self.levels, from)
    }
}

impl Tree<Record> {
    /// As much as is needed to know the state and the latest mark of `block`.
    pub(crate) fn find(&self, block: BlockId) -> Result<Option<Record>, EngineError> {
        self.finder().find(block)
    }

    /// For looking up many blocks: one lookup near the last costs less.
    pub(crate) fn finder(&self) -> Finder<'_> {
        Finder {
            places: self.levels.iter().rev().map(Place::new).collect(),
        }
    }
}

/// Looks up records.
pub(crate) struct Finder<'a> {
    /// One per level, the newest first.
    places: Vec<Place<'a>>,
}

/// Where the last lookup in a level ended.
struct Place<'a> {
    level: &'a Level<Record>,
    chunk: Option<Chunk<Record>>,
    /// Keys from the first up to, but without, the second are in `chunk` if they are in the level at all.
    keys: (u64, u64),
    row: usize,
}

impl<'a> Place<'a> {
    fn new(level: &'a Level<Record>) -> Self {
        Self {
            level,
            chunk: None,
            keys: (1, 0),
            row: 0,
        }
    }

    fn find(&mut self, block: BlockId) -> Result<Option<Record>, EngineError> {
        let key = (block.0, 0);
        if block.0 < self.keys.0 || block.0 >= self.keys.1 {
            let at = self.level.partition_point(|run| run.last < key);
            let Some(run) = self.level.get(at).filter(|run| run.first() <= key) else {
                return Ok(None);
            };
            let index = run.chunk_of(key);
            self.chunk = run.chunk(index)?;
            let first = run.fences.get(index).map_or(0, |fence| fence.first.0);
            let end = run.fences.get(index + 1).map_or(run.last.0, |f| f.first.0);
            // The block at the end of a run is looked up anew: its key may be the largest there is.
            self.keys = (first, end);
            self.row = 0;
        }
        let Some(chunk) = &self.chunk else {
            return Ok(None);
        };
        let next = self.row + 1;
        let row = if next < chunk.len() && chunk.first_column(next) == block.0 {
            next
        } else {
            chunk.seek(key)
        };
        if row == chunk.len() || chunk.first_column(row) != block.0 {
            return Ok(None);
        }
        self.row = row;
        Ok(Some(chunk.row(row)))
    }
}

impl Finder<'_> {
    /// As much as is needed to know the state and the latest mark of `block`.
    pub(crate) fn find(&mut self, block: BlockId) -> Result<Option<Record>, EngineError> {
        let mut found: Option<Record> = None;
        for place in &mut self.places {
            let Some(row) = place.find(block)? else {
                continue;
            };
            let folded = found.map_or(row, |newer| Record::fold(&newer, &row));
            if folded.kind.is_mark() {
                return Ok(Some(folded));
            }
            found = Some(folded);
        }
        Ok(found)
    }
}

/// Walks one level.
struct LevelCursor<R> {
    level: Level<R>,
    run: usize,
    index: usize,
    chunk: Option<Chunk<R>>,
    row: usize,
    head: Option<R>,
}

impl<R: Row> LevelCursor<R> {
    fn new(level: Level<R>, from: Key) -> Result<Self, EngineError> {
        let run = level.partition_point(|run| run.last < from);
        let index = level.get(run).map_or(0, |run| run.chunk_of(from));
        let mut cursor = Self {
            level,
            run,
            index,
            chunk: None,
            row: 0,
            head: None,
        };
        cursor.load()?;
        if let Some(chunk) = &cursor.chunk {
            cursor.row = chunk.seek(from);
            cursor.settle()?;
        }
        Ok(cursor)
    }

    fn load(&mut self) -> Result<(), EngineError> {
        self.row = 0;
        self.chunk = None;
        while let Some(run) = self.level.get(self.run) {
            self.chunk = run.chunk(self.index)?;
            if self.chunk.is_some() {
                break;
            }
            self.run += 1;
            self.index = 0;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), EngineError> {
        while let Some(chunk) = &self.chunk {
            if self.row < chunk.len() {
                self.head = Some(chunk.row(self.row));
                return Ok(());
            }
            self.index += 1;
            self.load()?;
        }
        self.head = None;
        Ok(())
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        self.row += 1;
        self.settle()
    }
}

/// Walks levels together in the order of the keys, folding rows of equal keys.
pub(crate) struct Cursor<R> {
    levels: Vec<LevelCursor<R>>,
}

impl<R: Row> Cursor<R> {
    /// A cursor over `levels`, oldest first.
    pub(crate) fn new(levels: &[Level<R>], from: Key) -> Result<Self, EngineError> {
        let levels = levels
            .iter()
            .map(|level| LevelCursor::new(Arc::clone(level), from))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .filter(|cursor| cursor.head.is_some())
            .collect();
        Ok(Self { levels })
    }

    /// The next row; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<R>, EngineError> {
        if let [only] = self.levels.as_mut_slice() {
            let head = only.head;
            if head.is_some() {
                only.advance()?;
            }
            return Ok(head);
        }
        let Some(key) = self
            .levels
            .iter()
            .filter_map(|cursor| cursor.head.map(|row| row.key()))
            .min()
        else {
            return Ok(None);
        };
        let mut folded: Option<R> = None;
        for cursor in self.levels.iter_mut().rev() {
            let Some(row) = cursor.head.filter(|row| row.key() == key) else {
                continue;
            };
            folded = Some(folded.map_or(row, |newer| R::fold(&newer, &row)));
            cursor.advance()?;
        }
        Ok(folded)
    }
}
