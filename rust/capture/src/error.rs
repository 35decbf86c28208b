//! Why a scan could not be done at all.
//!
//! Rules: every message names the file (and offset) and says what the operator can do. What merely makes a
//! result wider is a [`Reason`](crate::Reason), not an error.

use model::{TooLong, Version, VgId};
use std::{io, path::PathBuf};
use tdfiles::FormatError;

/// A scan that could not be done. Nothing it yielded before may be used.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A data directory is not there or holds no vnodes.
    #[error("{path}: {problem}; give the dataDir of taos.cfg (the directory that holds vnode/)")]
    NotADataDir {
        /// The directory as given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A directory below `vnode/` is no vnode.
    #[error(
        "{path}: no vnode.json, so this is not the primary directory of a vnode; if the server keeps \
             data on several disks, give every dataDir"
    )]
    NotAVnode {
        /// The directory.
        path: PathBuf,
    },
    /// The lists of tables of a vnode contradict each other.
    #[error("{path}: the catalogue is damaged: {problem}")]
    Contradiction {
        /// The directory of the catalogue.
        path: PathBuf,
        /// In what.
        problem: String,
    },
    /// Two data directories hold the same vnode.
    #[error(
        "{first} and {second} are the same vnode, of two servers or of a server and a copy; \
             give the data directories of one server"
    )]
    SameVnodeTwice {
        /// The vnode's directory.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// The operating system refused something.
    #[error("{path}: {source}{}", hint(.source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A file contradicts its format.
    #[error("{path}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: FormatError,
    },
    /// Whoever took the rows wants no more.
    #[error("the reading of rows was ended by whoever took them")]
    Stopped,
    /// Rows can't be kept in memory as they have to be.
    #[error("{0}; rows as long as these can't be read from the files")]
    TooLong(TooLong),
    /// A change was found whose rows can't be taken apart.
    #[error("vgroup {vgroup}: {source}")]
    Rows {
        /// The vgroup.
        vgroup: VgId,
        /// What is wrong with them.
        source: FormatError,
    },
    /// The server replaced files faster than they could be opened.
    #[error(
        "{path}: the files of the vnode kept changing during {attempts} attempts to open them; \
             run again when fewer merges are going on"
    )]
    NeverStable {
        /// The vnode's directory.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// The server died between the two renames that end a commit.
    #[error(
        "{path}: a commit was cut off before its last step; start the server on this directory \
         again, or let it commit by a write and FLUSH DATABASE, which both complete the commit, then run again"
    )]
    CommitCutOff {
        /// `current.c.json`.
        path: PathBuf,
    },
    /// The start lies beyond everything the vnode holds.
    #[error(
        "vgroup {vgroup}: the start is version {since}, but the newest version in {path} is {newest}; \
             check that the start was taken from this server"
    )]
    StartInTheFuture {
        /// The vgroup.
        vgroup: VgId,
        /// The start.
        since: Version,
        /// The newest version on disk.
        newest: Version,
        /// The vnode's directory.
        path: PathBuf,
    },
    /// A time could not be turned into a version.
    #[error("vgroup {vgroup}: {problem}; give a version or a checkpoint instead")]
    TimeNotCovered {
        /// The vgroup.
        vgroup: VgId,
        /// Why.
        problem: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (run as a user that may read the server's data directory)"
        }
        io::ErrorKind::NotFound => "",
        _ if error.raw_os_error() == Some(EMFILE) => " (raise the limit on open files: ulimit -n)",
        _ => "",
    }
}

/// "Too many open files", the same number on Linux and macOS.
const EMFILE: i32 = 24;

impl CaptureError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: impl Into<PathBuf>) -> impl FnOnce(FormatError) -> Self {
        let path = path.into();
        move |source| match source {
            FormatError::Io { source, .. } => Self::Io { path, source },
            source => Self::Format { path, source },
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
