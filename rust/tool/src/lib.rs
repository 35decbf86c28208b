//! `incremental_bitmap_tool`: arguments in, calls into `ops`, text and exit codes out.

pub mod archive;
pub mod detect;
pub mod diff;
pub mod export;
mod human;
pub mod script;
pub mod server;
pub mod settings;
pub mod verify;
