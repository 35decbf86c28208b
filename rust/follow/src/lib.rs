//! Follows a server and tells what changed, block by block.
//!
//! | module | holds |
//! |---|---|
//! | [`files`] | a server's data directories → block events, again and again |
//! | [`tmq`] | a subscription to a server → block events |
//! | [`wal_growth`] | a WAL directory → "there are records up to here" |
//! | `teller` | blocks and ranges, told to a listener one after the other |
//! | `turns` | the turns of a follower, and who waits for them |
//! | `watch` | files that change, as the system reports them |

pub mod files;
mod teller;
pub mod tmq;
mod turns;
pub mod wal_growth;
mod watch;
