//! The formats of what we store, and how links follow each other. It knows no server.
//!
//! | module | holds |
//! |---|---|
//! | [`link`] | a link that is opened for reading |
//! | `manifest` | the manifest of a link, and what its lists hold |
//! | `list` | the lists of a link |
//! | [`bitmaps`] | which blocks a link changes |
//! | `link_error` | why a link can't be used |
//! | [`layout`] | where the files of a link lie |
//! | [`chain`] | links that follow each other |
//! | [`local`] | single files that an operator names: checkpoints and lists of blocks |
//! | [`archive`] | exported blocks in one file, compressed and encrypted |
//! | [`repo`] | repositories: snapshots and their links in a directory or an object store, encrypted |
//! | [`verify`] | links checked offline, and the report of it |

pub mod archive;
pub mod bitmaps;
pub mod chain;
pub mod layout;
pub mod link;
mod link_error;
mod list;
pub mod local;
mod manifest;
pub mod repo;
pub mod verify;
