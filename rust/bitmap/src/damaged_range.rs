//! A range of blocks that count as DIRTY as a whole.

use crate::BlockId;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// Was it told of, and nothing came into it since? Only then it can be acknowledged.
    #[serde(skip)]
    pub(crate) told: bool,
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
            told: false,
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
