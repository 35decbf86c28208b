//! What feeds the bitmap beside a backup's own scan: a host's block events, and a server's files as they grow.
//!
//! | module | holds |
//! |---|---|
//! | [`bitmap_sink`] | events → marks |
//! | [`follow`] | a server's data directories → block events, again and again |
//! | [`ring`] | a bounded queue for hosts |
//! | [`wal_growth`] | a WAL directory → "there are records up to here" |

pub mod bitmap_sink;
pub mod follow;
pub mod ring;
pub mod wal_growth;
mod watch;
