//! What feeds the bitmap beside a backup's own scan: a host's block events, a server's files as they
//! grow, and a subscription to a server.
//!
//! | module | holds |
//! |---|---|
//! | [`bitmap_sink`] | events → marks |
//! | [`follow`] | a server's data directories → block events, again and again |
//! | [`tmq`] | a subscription to a server → block events |
//! | [`ring`] | a bounded queue for hosts |
//! | [`wal_growth`] | a WAL directory → "there are records up to here" |

pub mod bitmap_sink;
pub mod follow;
pub mod ring;
mod teller;
pub mod tmq;
mod turns;
pub mod wal_growth;
mod watch;
