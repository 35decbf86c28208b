//! What a backup has to copy, and the files that remember where the last one ended.
//!
//! | module | holds |
//! |---|---|
//! | [`detect`] | the whole run: checkpoint and data directories in, plan and next checkpoint out |
//! | [`names`] | what a detection asks the server |
//! | [`plan`] | changes → blocks → merged spans of keys per table |
//! | [`window`] | how wide a block is |
//! | [`checkpoint`] | where the next run starts |
//! | [`report`] | the plan as JSON, format 1 |
//! | [`session`] | backups that a host process drives: detect, export, verify, then move on |
//! | [`verify`] | links checked offline, and the report of it |
//! | [`coordinator`] | batches of blocks into archives, with a cursor that moves only past what is safe |
//! | [`block_rows`] | a block's id → its rows, and the rows of archives read back |
//! | [`archive`] | exported blocks in one file, compressed and encrypted |
//! | [`atomic_file`] | files that are there whole or not at all |
//! | [`sealed`] | JSON files with a checksum |

pub mod archive;
pub mod atomic_file;
pub mod block_rows;
pub mod catalogue;
pub mod checkpoint;
pub mod coordinator;
pub mod data_file;
pub mod detect;
pub mod dump;
pub mod link;
pub mod names;
pub mod plan;
pub mod report;
pub mod restore;
pub mod sealed;
pub mod session;
pub mod verify;
mod watermark;
pub mod window;
