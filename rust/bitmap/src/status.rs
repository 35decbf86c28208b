//! What is known of a block without looking at its records.

use crate::BlockState;

/// A block's state, and whether it was marked at all and more than once, in four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Status(u8);

impl Status {
    /// Bits of a status.
    pub(crate) const BITS: usize = 4;
    const KNOWN: u8 = 1 << 2;
    const REMARKED: u8 = 1 << 3;

    /// Never marked.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Marked, and in `state` now. `remarked`: more than once, so that old index entries of it may exist.
    pub(crate) fn known(state: BlockState, remarked: bool) -> Self {
        Self(state as u8 | Self::KNOWN | if remarked { Self::REMARKED } else { 0 })
    }

    pub(crate) fn state(self) -> BlockState {
        match self.0 & 0b11 {
            0 => BlockState::Clean,
            1 => BlockState::Dirty,
            2 => BlockState::New,
            _ => BlockState::Deleted,
        }
    }

    pub(crate) fn is_known(self) -> bool {
        self.0 & Self::KNOWN != 0
    }

    pub(crate) fn is_remarked(self) -> bool {
        self.0 & Self::REMARKED != 0
    }

    /// Do range queries find such a block?
    pub(crate) fn is_found(self) -> bool {
        matches!(self.state(), BlockState::Dirty | BlockState::New)
    }

    /// The four bits.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// The status with these bits; higher ones are ignored.
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }
}
