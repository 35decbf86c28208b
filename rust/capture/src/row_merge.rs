//! Merging the sorted runs of one file set into the rows that a query would show.
//!
//! Every run is sorted by table and key. A key can stand in several runs, and several times in one, each time with
//! another version. Of each column the newest version that set it counts; a version that a later delete hides counts for
//! nothing. Where only one run has rows, which is nearly everywhere, they are handed on in ranges, without a look at
//! their cells.

use crate::{
    CaptureError,
    row_batches::{Batches, MergedCell},
    row_choice::RowChoice,
};
use model::{Cell, Version};
use std::{cmp::Reverse, path::PathBuf};
use tdfiles::{
    FormatError,
    tsdb::{RowBlock, RowOrder, RowPlace},
};

/// The blocks of one file, one after the other.
pub(crate) struct RowRun<'a> {
    path: PathBuf,
    /// The next block; `None` after the last.
    next_block: Box<dyn FnMut() -> Result<Option<RowBlock>, CaptureError> + 'a>,
    block: Option<RowBlock>,
    /// Whether some key stands in the block more than once.
    repeating: bool,
    at: usize,
    /// The block that follows.
    next: Option<RowBlock>,
}

impl<'a> RowRun<'a> {
    pub(crate) fn new(
        path: PathBuf,
        next_block: impl FnMut() -> Result<Option<RowBlock>, CaptureError> + 'a,
    ) -> Self {
        Self {
            path,
            next_block: Box::new(next_block),
            block: None,
            repeating: false,
            at: 0,
            next: None,
        }
    }

    fn place(&self) -> Option<RowPlace<'_>> {
        self.block.as_ref()?.rows.place(self.at)
    }

    /// Makes sure that the run stands at a row, if it has any left. Where the last key of a block is the first of the
    /// next one, the next one is put aside into a run of its own, so that rows with one key never lie in two blocks
    /// of a run.
    fn settle(&mut self, aside: &mut Vec<Self>) -> Result<(), CaptureError> {
        while self
            .block
            .as_ref()
            .is_none_or(|block| self.at >= block.rows.len())
        {
            let next = match self.next.take() {
                Some(block) => Some(block),
                None => self.load()?,
            };
            let Some(block) = next else {
                self.block = None;
                return Ok(());
            };
            self.repeating = block.rows.order() == RowOrder::Repeating;
            while let Some(next) = self.load()? {
                let last = block
                    .rows
                    .len()
                    .checked_sub(1)
                    .and_then(|last| block.rows.place(last));
                let first = next.rows.place(0);
                if last > first && first.is_some() {
                    return Err(self.out_of_order());
                }
                if last != first {
                    self.next = Some(next);
                    break;
                }
                let mut only = Some(next);
                aside.push(Self::new(self.path.clone(), move || Ok(only.take())));
            }
            (self.block, self.at) = (Some(block), 0);
        }
        Ok(())
    }

    /// The next block that has rows.
    fn load(&mut self) -> Result<Option<RowBlock>, CaptureError> {
        while let Some(block) = (self.next_block)()? {
            // The server itself searches blocks by halves: rows out of order mean a damaged file.
            if block.rows.order() == RowOrder::None {
                return Err(self.out_of_order());
            }
            if !block.rows.is_empty() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn out_of_order(&self) -> CaptureError {
        let source = FormatError::Corrupt {
            what: "row block",
            offset: 0,
            detail: "rows are not in the order of table and key".into(),
        };
        CaptureError::Format {
            path: self.path.clone(),
            source,
        }
    }
}

/// Hands on every row of the runs that `choice` wants, each key once.
pub(crate) fn merge_rows(
    mut runs: Vec<RowRun<'_>>,
    choice: &RowChoice<'_>,
    batches: &mut Batches<'_>,
) -> Result<(), CaptureError> {
    let mut aside = Vec::new();
    let mut settle = runs.iter_mut().collect::<Vec<_>>();
    for run in &mut settle {
        run.settle(&mut aside)?;
    }
    loop {
        while let Some(mut run) = aside.pop() {
            run.settle(&mut aside)?;
            runs.push(run);
        }
        let Some(first) = lowest(&runs, None) else {
            break;
        };
        match lowest(&runs, Some(first)) {
            Some(second) if runs[first].place() == runs[second].place() => {
                one_key(&mut runs, first, choice, batches)?;
            }
            second => stretch(&mut runs, first, second, choice, batches)?,
        }
        for run in &mut runs {
            run.settle(&mut aside)?;
        }
        runs.retain(|run| run.block.is_some());
    }
    batches.flush()
}

/// The run with the lowest row, aside from one of them.
fn lowest(runs: &[RowRun<'_>], but: Option<usize>) -> Option<usize> {
    let others = runs.iter().enumerate().filter(|(i, _)| Some(*i) != but);
    let rows = others.filter_map(|(i, run)| Some((i, run.place()?)));
    rows.min_by_key(|(_, place)| *place).map(|(i, _)| i)
}

/// The most rows handed on at once. Blocks of files have fewer; what the log has of a table is one block, however long.
const MOST: usize = 1 << 16;

/// Hands on the rows of one run up to where another one has a row, or to where a key repeats.
fn stretch(
    runs: &mut [RowRun<'_>],
    of: usize,
    other: Option<usize>,
    choice: &RowChoice<'_>,
    batches: &mut Batches<'_>,
) -> Result<(), CaptureError> {
    let run = &runs[of];
    let Some(block) = &run.block else {
        return Ok(());
    };
    let rows = &block.rows;
    let bound = other.and_then(|other| runs[other].place());
    let mut end = rows.len().min(run.at + MOST);
    if let Some(bound) = bound
        && rows.place(end - 1).is_some_and(|last| last >= bound)
    {
        end = first_from(run.at, end, |i| {
            rows.place(i).is_some_and(|place| place >= bound)
        });
    }
    if run.repeating {
        let repeats = (run.at + 1..end).find(|i| rows.place(i - 1) == rows.place(*i));
        match repeats {
            Some(i) if i - 1 == run.at => return one_key(runs, of, choice, batches),
            Some(i) => end = i - 1,
            None => {}
        }
    }
    let (from, whole) = (run.at, run.at == 0 && end == rows.len());
    let run = &mut runs[of];
    run.at = end;
    if whole
        && let Some(table) = block_of_one(run.block.as_ref(), choice)
        && let Some(block) = run.block.take()
    {
        return batches.whole(table, block);
    }
    match &run.block {
        Some(block) => choice.each_range(block, from..end, |table, range| {
            batches.range(table, block, range)
        }),
        None => Ok(()),
    }
}

/// The table of a block that is wanted as it is.
fn block_of_one(block: Option<&RowBlock>, choice: &RowChoice<'_>) -> Option<model::TableId> {
    let rows = &block?.rows;
    let table = rows.only_table()?;
    let span = model::KeySpan {
        first: *rows.keys.first()?,
        last: *rows.keys.last()?,
    };
    choice.wants_all(table, span).then_some(table)
}

/// The first number from `from` on, below `end`, of which `is` is true; it is true of all that follow. Looks near
/// `from` first, as runs often take turns.
fn first_from(from: usize, end: usize, is: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (from, 1);
    while low + step < end && !is(low + step) {
        low += step;
        step *= 2;
    }
    let mut high = end.min(low + step);
    while low < high {
        let middle = low.midpoint(high);
        if is(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Hands on one row, merged of every version of the key at which `of` stands.
fn one_key(
    runs: &mut [RowRun<'_>],
    of: usize,
    choice: &RowChoice<'_>,
    batches: &mut Batches<'_>,
) -> Result<(), CaptureError> {
    let Some(place) = runs[of].place() else {
        return Ok(());
    };
    let (table, key) = (place.table, place.key);
    let mut ends = Vec::with_capacity(runs.len());
    let mut versions: Vec<(Version, &RowBlock, usize)> = Vec::new();
    for run in runs.iter() {
        let Some(block) = &run.block else {
            ends.push(run.at);
            continue;
        };
        let same = |i: &usize| block.rows.place(*i) == Some(place);
        let rows = (run.at..block.rows.len()).take_while(same);
        let found = rows.filter_map(|i| Some((*block.rows.versions.get(i)?, block, i)));
        let before = versions.len();
        versions.extend(found);
        ends.push(run.at + versions.len() - before);
    }
    versions.retain(|(version, ..)| !choice.deleted(table, key, *version));
    versions.sort_by_key(|(version, ..)| Reverse(*version));
    if choice.wants(table, key)
        && let Some((newest, ..)) = versions.first()
    {
        let mut cells: Vec<MergedCell<'_>> = Vec::new();
        for (_, block, i) in &versions {
            for column in &block.columns {
                let cell = column.cell(*i);
                if cell == Cell::Unset {
                    continue;
                }
                if let Err(at) = cells.binary_search_by_key(&column.column, |(id, ..)| *id) {
                    cells.insert(at, (column.column, column.data_type, cell));
                }
            }
        }
        batches.row(table, key, *newest, &cells)?;
    }
    for (run, end) in runs.iter_mut().zip(ends) {
        run.at = end;
    }
    Ok(())
}
