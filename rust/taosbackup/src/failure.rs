//! Why a command failed, and the exit code for it.

use ops::restore::RestoreError;
use repository::{link::LinkError, repo::RepoError};
use std::fmt;
use store::StoreError;
use terminal::{Exit, say};

/// Why a command failed, in words for people.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// It could not be done.
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Failed,
            text: text.to_string(),
        }
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Usage,
            text: text.to_string(),
        }
    }

    /// Somebody else was first.
    pub(crate) fn busy(text: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Busy,
            text: text.to_string(),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it: as JSON on standard output, too, where that is wanted.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let result = match self.exit {
                Exit::Usage => "usage",
                Exit::Busy => "busy",
                _ => "failed",
            };
            let object = serde_json::json!({"result": result, "error": self.text});
            let _ = terminal::stdout::print(format!("{object}\n").as_bytes(), true);
        }
        say(&format!("taosbackup: {}", self.text));
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        match &error {
            RepoError::Followed { .. } | RepoError::BaseForgotten { .. } => Self::busy(error),
            RepoError::Store(StoreError::Location { .. }) => Self::usage(error),
            _ => Self::new(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        RepoError::from(error).into()
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::new(error)
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match &error {
            RestoreError::Busy { .. } => Self::busy(error),
            _ => Self::new(error),
        }
    }
}
