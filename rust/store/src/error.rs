//! What can go wrong with objects.

use model::MayPass;
use std::io;

/// An object that can't be written or read, or that is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{place}: {source}")]
    Io {
        /// The object, or the directory.
        place: String,
        /// Its answer.
        source: io::Error,
    },
    /// A file could not be written. What stood at its place before still does, unless only the last step failed, which
    /// makes the new name durable.
    #[error("{place} could not be written: {source}")]
    Write {
        /// The file.
        place: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The object is not what was written.
    #[error("{place}: {problem}; the file is damaged: take it from another copy of the backup")]
    Differs {
        /// The object.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A name leads out of the place that it is to be in.
    #[error("{place}: it names a file outside of the link: {name:?}")]
    Outside {
        /// Where the name stands.
        place: String,
        /// The name.
        name: String,
    },
    /// A place can't be opened by what was given for it.
    #[error("{place}: {problem}")]
    Location {
        /// What was given.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The directory to write to is in use.
    #[error("{place} holds {found} already; give an empty directory")]
    NotEmpty {
        /// The directory.
        place: String,
        /// What is in it.
        found: String,
    },
    /// Another process is writing there.
    #[error("another dump is writing to {place}; wait for it, or give another directory")]
    Busy {
        /// The directory.
        place: String,
    },
}

impl StoreError {
    /// For `map_err`: an error of the operating system about this place.
    pub fn io(place: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let place = place.into();
        move |source| Self::Io { place, source }
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl MayPass for StoreError {
    /// What the system refuses may be otherwise in a moment, but for what is not there or not allowed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Write { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::Unsupported
            ),
            Self::Busy { .. } => true,
            Self::Differs { .. }
            | Self::Outside { .. }
            | Self::Location { .. }
            | Self::NotEmpty { .. } => false,
        }
    }
}
