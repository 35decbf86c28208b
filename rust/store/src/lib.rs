//! Where what we write is kept: objects with names, in a directory or in an object store.
//!
//! | module | holds |
//! |---|---|
//! | `object` | the seam: what can be done with objects, wherever they are |
//! | `directory` | objects as files of a directory |
//! | `bucket` | objects of an object store: S3 and what speaks like it, Google's, Azure's |
//! | `location` | a place by its URL |
//! | `limited` | a place to which no more is sent per second than wanted |
//! | `staging` | a directory that is written as a whole |
//! | `entry` | an object's name, length and digest, and the check against them |
//! | [`atomic_file`] | files that are there whole or not at all |
//! | `error` | what can go wrong |
//!
//! Object stores are there with the feature `object-stores` only.

pub mod atomic_file;
#[cfg(feature = "object-stores")]
mod bucket;
mod directory;
mod entry;
mod error;
mod limited;
#[cfg(feature = "object-stores")]
mod location;
mod object;
mod staging;

#[cfg(feature = "object-stores")]
pub use bucket::Bucket;
pub use directory::Directory;
pub use entry::{FileEntry, Hashing, check, check_length, hex};
pub use error::StoreError;
pub use limited::Limited;
#[cfg(feature = "object-stores")]
pub use location::{Access, open};
pub use object::{Created, Found, Store, Upload, can_commit, is_plain};
pub use staging::{PARTIAL, Staging};
