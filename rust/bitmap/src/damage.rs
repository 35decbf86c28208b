//! Ranges of blocks whose records could not be read back.

use crate::BlockId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Blocks whose records were damaged on disk. All of them count as DIRTY until the damage is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DamagedRange {
    /// The first block of the range.
    #[serde(with = "block_id")]
    pub first: BlockId,
    /// The last block of the range.
    #[serde(with = "block_id")]
    pub last: BlockId,
    /// The damaged file.
    pub file: String,
    /// Where the damage was found in it, in bytes.
    pub offset: u64,
    /// What did not fit.
    pub what: String,
}

impl DamagedRange {
    /// Is `block` in the range?
    pub fn contains(&self, block: BlockId) -> bool {
        self.first <= block && block <= self.last
    }
}

impl fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
