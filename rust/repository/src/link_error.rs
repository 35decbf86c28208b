//! Why a link can't be used or written.

use crate::manifest::MANIFEST;
use model::{Cancelled, MayPass, sealed::NewerFormat};
use rows::{avro::DataFileError, parquet::ParquetError};
use store::StoreError;

/// A link that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no manifest.
    #[error(
        "{place} is no link of a backup chain: it has no {MANIFEST}; give the directory that a dump with --incremental finished"
    )]
    NotALink {
        /// Where it was looked for.
        place: String,
    },
    /// A file is not what was written.
    #[error("{place}: {problem}; take the link from another copy, or take a new full backup")]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A file is of a newer format.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
    /// A data file can't be written or read.
    #[error(transparent)]
    Data(#[from] DataFileError),
    /// A file with rows of many tables can't be read.
    #[error(transparent)]
    Rows(#[from] ParquetError),
    /// A file can't be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl MayPass for LinkError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Data(error) => error.may_pass(),
            Self::Rows(error) => error.may_pass(),
            Self::Store(error) => error.may_pass(),
            Self::NotALink { .. } | Self::Damaged { .. } | Self::Newer(_) | Self::Cancelled(_) => {
                false
            }
        }
    }
}
