//! What host processes drive.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | backups one after the other: detect, export, verify, then move on |
//! | [`link_bitmaps`] | what a link changes, as marks in an engine |
//! | [`coordinator`] | batches of blocks into archives, with a cursor that moves only past what is safe |

pub mod coordinator;
pub mod link_bitmaps;
pub mod session;
