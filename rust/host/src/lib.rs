//! What host processes drive.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | backups one after the other: detect, export, verify, then move on |
//! | [`coordinator`] | batches of blocks into archives, with a cursor that moves only past what is safe |

pub mod coordinator;
pub mod session;
