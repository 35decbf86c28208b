//! What can go wrong with a repository.

use crate::{chain::ChainError, link::LinkError};
use model::{Cancelled, sealed::NewerFormat};
use store::StoreError;

/// A repository that can't be used, or something that can't be done with it.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// An object can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A link can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Links do not follow each other.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An object is of a newer format.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
    /// It was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// There is no repository.
    #[error(
        "{place} is no repository: it has no object \"config\"; make one there by init, or give another place"
    )]
    NotThere {
        /// Where it was looked for.
        place: String,
    },
    /// There is a repository already.
    #[error("{place} is a repository already; use it as it is, or give another place")]
    Exists {
        /// The place.
        place: String,
    },
    /// The place holds something else.
    #[error("{place} holds {found} already; give an empty place")]
    NotEmpty {
        /// The place.
        place: String,
        /// An object in it.
        found: String,
    },
    /// The place can't commit.
    #[error(
        "{place} replaces objects that must not be replaced: it does not know the header \"If-None-Match\", without which two \
         writers would overwrite each other's snapshots; give a place on another store, or a newer version of this one"
    )]
    CanNotCommit {
        /// The place.
        place: String,
    },
    /// An object is not what was written.
    #[error(
        "{place}: {problem}; the object is damaged or was exchanged: take it from a copy of the repository"
    )]
    Damaged {
        /// The object.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A key is needed.
    #[error("{place} is encrypted; give its passphrase or an identity that can read it")]
    NoKey {
        /// The repository.
        place: String,
    },
    /// The given key opens nothing.
    #[error(
        "the given key opens none of the {keys} keys of {place}; give a passphrase or an identity that it was made for"
    )]
    WrongKey {
        /// The repository.
        place: String,
        /// How many keys it has.
        keys: usize,
    },
    /// A key was given, and what is written would not be encrypted.
    #[error(
        "{place} is not encrypted, and a key was given: nothing is written that others could read; leave the key away if that \
         is what you want"
    )]
    NotEncrypted {
        /// The repository.
        place: String,
    },
    /// A key can't be used.
    #[error("{0}")]
    Key(String),
    /// What was asked for is not there.
    #[error("{place} has no {what}; list says what there is")]
    Unknown {
        /// The repository.
        place: String,
        /// What was looked for.
        what: String,
    },
    /// Several things are meant.
    #[error("{what} may be any of {found}; give more of it")]
    Ambiguous {
        /// What was looked for.
        what: String,
        /// What it may be.
        found: String,
    },
    /// The base of a link is not there.
    #[error(
        "{link} follows link {base}, of which the repository has no snapshot that is not forgotten; import the links of a chain \
         from its first one on"
    )]
    NoBase {
        /// The link.
        link: String,
        /// The one that it follows.
        base: String,
    },
    /// Somebody else was first.
    #[error(
        "{link} was not taken in: snapshot {by} follows the same base already, and only one may; the next backup has to follow \
         that one"
    )]
    Followed {
        /// The link.
        link: String,
        /// The snapshot that is there.
        by: String,
    },
    /// The base of what was to be committed was forgotten meanwhile.
    #[error("snapshot {base} was forgotten while {link} was taken in; import again")]
    BaseForgotten {
        /// The link.
        link: String,
        /// Its base.
        base: String,
    },
    /// It is asked for what makes no sense.
    #[error("{0}")]
    Refused(String),
}
