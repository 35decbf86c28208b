//! The formats of what we store, and how links follow each other. It knows no server.
//!
//! | module | holds |
//! |---|---|
//! | [`link`] | a link: its manifest and its lists |
//! | [`layout`] | where the files of a link lie |
//! | [`chain`] | links that follow each other |
//! | [`local`] | single files that an operator names: checkpoints and lists of blocks |
//! | [`archive`] | exported blocks in one file, compressed and encrypted |
//! | [`verify`] | links checked offline, and the report of it |

pub mod archive;
pub mod chain;
pub mod layout;
pub mod link;
pub mod local;
pub mod verify;
