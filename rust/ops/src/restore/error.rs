//! Why a restore failed.

use crate::watch::NoAnswer;
use model::{Cancelled, MayPass};
use repository::{chain::ChainError, link::LinkError};
use server::{SqlError, catalogue::CatalogueError};

/// A restore that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A link can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server refused a statement that everything else needs.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The target can't be looked at.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The links do not follow each other.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The target is not where the first link starts.
    #[error("{place} can't be restored to database {target}: {problem}")]
    Target {
        /// The link.
        place: String,
        /// The database.
        target: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// A database to rename is in no link.
    #[error("-W renames database {name}, which no link holds; they hold {held}")]
    Rename {
        /// The database.
        name: String,
        /// Those there are.
        held: String,
    },
    /// A database to restore is in no link.
    #[error("-D names database {name}, which no link holds; they hold {held}")]
    NotHeld {
        /// The database.
        name: String,
        /// Those there are.
        held: String,
    },
    /// A database would get the name of the one that restores are recorded in.
    #[error(
        "restores are recorded in database {target}, so nothing is restored to it; give another name with -W"
    )]
    Reserved {
        /// The name.
        target: String,
    },
    /// It was cancelled.
    #[error("{0}; the same command goes on with it")]
    Cancelled(#[from] Cancelled),
    /// The server does not answer any more.
    #[error("{server} does not answer: {source}; the same command goes on once it does")]
    NoAnswer {
        /// Where it is.
        server: String,
        /// The client library's words.
        source: SqlError,
    },
    /// The server can't take a database.
    #[error("there is no room for database {target}: {problem}")]
    Room {
        /// The database.
        target: String,
        /// What is missing, and what to do.
        problem: String,
    },
    /// A database can't have the options that were given for it.
    #[error("database {target} can't be created: {problem}")]
    Options {
        /// The database.
        target: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// The server does something to a database that does not end.
    #[error(
        "{what} of database {target} did not end in {seconds} s; see SHOW TRANSACTIONS, and run this again once it is \
         done"
    )]
    Unsettled {
        /// The database.
        target: String,
        /// What the server does.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another restore writes to the target.
    #[error(
        "{owner} is restoring to database {target} now; run this again once that is done, or restore to another name \
         with -W"
    )]
    Busy {
        /// The target.
        target: String,
        /// Who restores to it.
        owner: String,
    },
    /// Another restore writes to the target now.
    #[error("another restore has taken over; the same command goes on with it")]
    Lost,
    /// Nobody has answered for too long.
    #[error(transparent)]
    Silent(#[from] NoAnswer),
    /// Two databases would get one name.
    #[error("two databases would be restored to {target}; give them different names with -W")]
    SameTarget {
        /// The name.
        target: String,
    },
}

impl MayPass for RestoreError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Link(error) | Self::Chain(ChainError::Link(error)) => error.may_pass(),
            Self::Sql(error) | Self::NoAnswer { source: error, .. } => error.may_pass(),
            Self::Catalogue(error) => error.may_pass(),
            Self::Silent(_) => true,
            _ => false,
        }
    }
}
