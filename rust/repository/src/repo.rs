//! A repository: a place with snapshots of databases and the links that they consist of.
//!
//! ```text
//! README               what this is, for people
//! config               the format's number, the repository's id, how it is encrypted
//! keys/ID              the repository's key, wrapped for one recipient
//! links/ID/index       what files a link has, and where their bytes are
//! links/ID/PACK        bytes of files, one after the other
//! snapshots/ID         a snapshot; that it is there is the commit
//! forgotten/ID         the snapshot of this id is forgotten, for ever
//! pins/ID              the snapshot of this id is never forgotten
//! log/                 reserved for the archive of the log
//! ```
//!
//! Objects are written once, and no object is ever changed. Several may write and read at a time without a lock: what
//! [commits](import) is that the snapshot's object was not there before. docs/repository-format.md describes every object.
//!
//! | module | holds |
//! |---|---|
//! | `open` | a repository that is made or opened |
//! | `config` | what a repository says about itself |
//! | [`keys`] | who can read it, and how the key is wrapped for each |
//! | `chunks` | the form of objects: chunks, each of which is authenticated or has a checksum |
//! | `object_id` | random names |
//! | `link_index` | what files a link has, and where their bytes are |
//! | `link_writer` | a link on its way into a repository |
//! | `link_view` | a link in a repository as a [`store::Store`], which is read as a directory is |
//! | [`snapshot`] | what is known of a snapshot |
//! | [`snapshots`] | all of them: lists, chains, and finding one |
//! | [`import`] | links taken in as snapshots |
//! | [`retention`] | which snapshots are kept |
//! | [`forget`] | forgetting and pinning |
//! | [`prune`] | removing what nothing needs |
//! | [`check`] | whether everything is there as it was written |
//! | [`copy`] | snapshots to another repository |
//! | [`stats`] | what takes how much space |
//! | `error` | what can go wrong |

pub mod check;
mod chunks;
mod config;
pub mod copy;
mod error;
pub mod forget;
pub mod import;
pub mod keys;
mod link_index;
mod link_view;
mod link_writer;
mod object_id;
mod open;
pub mod prune;
pub mod retention;
pub mod snapshot;
pub mod snapshots;
pub mod stats;

pub use error::RepoError;
pub use object_id::ObjectId;
pub use open::Repository;
