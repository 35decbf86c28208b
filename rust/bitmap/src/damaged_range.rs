//! The ranges of blocks that count as DIRTY as a whole, and the tokens that acknowledge them.

use crate::BlockId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

/// Blocks whose records were damaged on disk, or of which it is not known which changed. All of them count as DIRTY
/// until the damage is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DamagedRange {
    /// The first block of the range.
    #[serde(with = "block_id")]
    pub first: BlockId,
    /// The last block of the range.
    #[serde(with = "block_id")]
    pub last: BlockId,
    /// The damaged file; empty for a range that was marked as a whole.
    pub file: String,
    /// Where the damage was found in it, in bytes.
    pub offset: u64,
    /// What did not fit, or why the range was marked as a whole.
    pub what: String,
    /// Counts the changes of the ranges: when something came into this one last. No two ranges have the same.
    #[serde(skip)]
    changed: u64,
}

impl DamagedRange {
    pub(crate) fn new(
        first: BlockId,
        last: BlockId,
        file: String,
        offset: u64,
        what: impl Into<String>,
    ) -> Self {
        Self {
            first,
            last,
            file,
            offset,
            what: what.into(),
            changed: 0,
        }
    }

    /// Is `block` in the range?
    pub fn contains(&self, block: BlockId) -> bool {
        self.first <= block && block <= self.last
    }
}

impl fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            return write!(
                f,
                "{}: blocks {} to {} count as dirty; back them up whole, then acknowledge the damage",
                self.what, self.first, self.last
            );
        }
        write!(
            f,
            "{} is damaged at byte {} ({}): blocks {} to {} count as dirty; back them up whole, then acknowledge the damage",
            self.file, self.offset, self.what, self.first, self.last
        )
    }
}

/// More ranges than this become one.
const MOST_RANGES: usize = 1024;

/// Stands for the ranges of a list, as they were when it was made: whoever backed them up acknowledges these and nothing
/// else. It counts for the engine that gave it, until that is closed; the next one refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamageToken(pub u64);

/// Some of an engine's damaged ranges, for whoever backs them up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DamageList {
    /// The ranges.
    pub ranges: Vec<DamagedRange>,
    /// How many there are in all.
    pub count: usize,
    /// What acknowledges the ranges of this list.
    pub token: DamageToken,
}

/// All ranges of an engine.
#[derive(Debug)]
pub(crate) struct Damage {
    ranges: Vec<DamagedRange>,
    /// How often something came into one of them.
    changes: u64,
    /// The token of a list without ranges; random, so that the tokens of another engine are not taken for this one's.
    first_token: u64,
    /// The most changes that a list told of.
    listed: u64,
}

impl Default for Damage {
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            changes: 0,
            first_token: RandomState::new().hash_one(std::process::id()),
            listed: 0,
        }
    }
}

impl std::ops::Deref for Damage {
    type Target = [DamagedRange];

    fn deref(&self) -> &[DamagedRange] {
        &self.ranges
    }
}

impl Damage {
    /// Takes the ranges of a manifest.
    pub(crate) fn take_over(&mut self, ranges: Vec<DamagedRange>) {
        for range in ranges {
            self.push(range);
        }
    }

    fn push(&mut self, mut range: DamagedRange) {
        self.changes += 1;
        range.changed = self.changes;
        self.ranges.push(range);
    }

    pub(crate) fn add(&mut self, range: DamagedRange) {
        let inside = |a: &DamagedRange, b: &DamagedRange| b.first <= a.first && a.last <= b.last;
        if let Some(known) = self.ranges.iter_mut().find(|known| inside(&range, known)) {
            self.changes += 1;
            known.changed = self.changes;
            return;
        }
        self.ranges.retain(|known| !inside(known, &range));
        self.push(range);
        if self.ranges.len() > MOST_RANGES {
            let first = self.ranges.iter().map(|range| range.first).min();
            let last = self.ranges.iter().map(|range| range.last).max();
            let all = self.ranges.pop();
            if let (Some(first), Some(last), Some(mut all)) = (first, last, all) {
                all.first = first;
                all.last = last;
                self.ranges = vec![all];
            }
        }
    }

    /// Forgets the ranges of the list that `token` came with. False if no list came with it; then nothing is forgotten.
    pub(crate) fn acknowledge(&mut self, token: DamageToken) -> bool {
        let told = token.0.wrapping_sub(self.first_token);
        let known = told <= self.listed;
        if known {
            self.ranges.retain(|range| range.changed > told);
        }
        known
    }

    /// Those that were changed longest ago come first: so one number stands for all of them.
    pub(crate) fn list(&mut self, limit: usize) -> DamageList {
        let mut ranges = self.ranges.clone();
        ranges.sort_by_key(|range| range.changed);
        ranges.truncate(limit);
        let told = ranges.last().map_or(0, |range| range.changed);
        self.listed = self.listed.max(told);
        let token = DamageToken(self.first_token.wrapping_add(told));
        DamageList {
            ranges,
            count: self.ranges.len(),
            token,
        }
    }
}

mod block_id {
    use crate::BlockId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &BlockId, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BlockId, D::Error> {
        u64::deserialize(d).map(BlockId)
    }
}
