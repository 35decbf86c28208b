//! What an interceptor gives events to.

use super::{event::BlockEvent, gap::Gap};
use std::time::Duration;

/// Where events go. Several threads call its functions at once, but only one at a time for the same block.
pub trait EventSink: Send + Sync + 'static {
    /// Takes an event in; false if that is not possible now. Then it becomes part of the gap.
    fn take(&self, event: &BlockEvent) -> bool;

    /// Takes in that blocks of a gap changed; false if that is not possible now. Then the interceptor tries again.
    fn take_gap(&self, gap: &Gap) -> bool;

    /// Takes in that any block of a gap may have changed. The interceptor calls this when it stops and
    /// [`Self::take_gap`] refused the gap. False if even this is not possible.
    fn take_whole(&self, gap: &Gap) -> bool {
        self.take_gap(gap)
    }

    /// Tells the host about an event that was taken in. This may take long and may raise events; a panic is caught.
    fn tell(&self, _event: &BlockEvent) {}

    /// A batch was taken in; `delays` are those of some of its events since they were raised.
    fn taken(&self, _events: u64, _delays: &[Duration]) {}

    /// Events were dropped.
    fn dropped(&self, _events: u64) {}
}
