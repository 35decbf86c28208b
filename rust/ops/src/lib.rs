//! What can be done: one file a verb.
//!
//! | module | does |
//! |---|---|
//! | [`backup`] | makes a link of what changed |
//! | [`export`] | copies the rows of a list of blocks |
//! | [`restore`] | applies links to a server |
//! | [`verify`] | checks links without a server |
//! | [`diff`] | says what differs between two links of a chain |
//! | [`detect`] | finds what changed, with what only the server knows |
//! | [`script`] | writes the shell script that detects, dumps and verifies with an unpatched taosdump |
//! | [`block_rows`] | reads the rows of a block |

pub mod backup;
pub mod block_rows;
pub mod detect;
pub mod diff;
pub mod export;
pub mod restore;
pub mod script;
pub mod verify;
mod watch;
mod watermark;

pub use watch::NoAnswer;
