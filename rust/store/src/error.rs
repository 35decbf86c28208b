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
            Self::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::AlreadyExists
            ),
            Self::Busy { .. } => true,
            Self::Differs { .. } | Self::Outside { .. } | Self::NotEmpty { .. } => false,
        }
    }
}
