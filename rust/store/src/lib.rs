//! Where what we write is kept: objects with names, today the files of a directory.
//!
//! | module | holds |
//! |---|---|
//! | `object` | the seam: what can be done with objects, wherever they are |
//! | `directory` | objects as files of a directory |
//! | `staging` | a directory that is written as a whole |
//! | `entry` | an object's name, length and digest, and the check against them |
//! | [`atomic_file`] | files that are there whole or not at all |
//! | `error` | what can go wrong |

pub mod atomic_file;
mod directory;
mod entry;
mod error;
mod object;
mod staging;

pub use directory::Directory;
pub use entry::{FileEntry, Hashing, check, check_length, hex};
pub use error::StoreError;
pub use object::{Store, is_plain};
pub use staging::{PARTIAL, Staging};
