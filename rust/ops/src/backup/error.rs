//! Why a backup did not make a link.

use crate::{watch::NoAnswer, watermark::WatermarkError};
use ::rows::{avro::DataFileError, parquet::ParquetError};
use capture::CaptureError;
use model::{Cancelled, MayPass, schema_change::NoWay};
use plan::{checkpoint::CheckpointError, detect::DetectError};
use repository::link::LinkError;
use server::{SqlError, catalogue::CatalogueError};
use store::StoreError;

/// A backup that did not make a link.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The server refused a statement.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The catalogue could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The base, or a file of the new link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The watermark could not be set.
    #[error(transparent)]
    Watermark(#[from] WatermarkError),
    /// What changed could not be told.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// A data file could not be written.
    #[error(transparent)]
    Data(#[from] DataFileError),
    /// A file of rows could not be written.
    #[error(transparent)]
    Rows(#[from] ParquetError),
    /// The server's files could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The output can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The base's checkpoint can't be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Nobody has answered for too long.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// A database was dropped while it was dumped.
    #[error("database {database} was dropped while it was dumped; run the dump again")]
    DatabaseGone {
        /// The database.
        database: String,
    },
    /// The base can't be followed.
    #[error("{place} can't be the base: {problem}")]
    Base {
        /// Where it is.
        place: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// A list of blocks does not fit the server.
    #[error("database {database}: {problem}; detect again on this server")]
    Blocks {
        /// The database.
        database: String,
        /// What does not fit.
        problem: String,
    },
    /// There is nothing to dump.
    #[error("there is no database to dump on the server")]
    NoDatabase,
    /// A database that is named and not there.
    #[error(
        "the server has no database {0:?} that can be dumped; SHOW DATABASES lists those that it has, and names are told apart by their case"
    )]
    UnknownDatabase(String),
    /// A server runs on a directory whose files were to be read without it.
    #[error(
        "a server runs on {path}, so --offline is not for it: leave --offline out, or stop the server"
    )]
    InUse {
        /// The data directory.
        path: std::path::PathBuf,
    },
    /// Nothing of what is wanted can be read.
    #[error("nothing that is wanted can be read from the data directories: {problems}")]
    NothingReadable {
        /// What is wrong.
        problems: String,
    },
    /// The link would be written into a data directory.
    #[error(
        "the output {out} lies in the data directory {path}, which is only read; give another directory"
    )]
    OutputInData {
        /// The output.
        out: std::path::PathBuf,
        /// The data directory.
        path: std::path::PathBuf,
    },
    /// The data directories hold nothing.
    #[error("the given data directories hold no database")]
    NoDatabaseHere,
    /// A database that is named, and of which the data directories have nothing.
    #[error(
        "the given data directories hold no vnode of database {database:?}; they hold: {found}"
    )]
    NotHere {
        /// The database.
        database: String,
        /// What there is.
        found: String,
    },
    /// The database that restores are recorded in.
    #[error(
        "database {0} holds the records of restores, which mean nothing on another server; it is not dumped"
    )]
    Records(String),
    /// A change of schema that can't be expressed.
    #[error(
        "super table {stable} of database {database}: {source}; take a new full backup (without --base)"
    )]
    Schema {
        /// The database.
        database: String,
        /// The super table.
        stable: String,
        /// What changed.
        source: NoWay,
    },
    /// A table is listed, but not among its super table's children.
    #[error("the server lists table {table}, but did not tell its tags; run the dump again")]
    NoTags {
        /// The table.
        table: String,
    },
    /// The connection was lost and did not come back.
    #[error(
        "the server went away while table {table} was read, and does not answer at {place}: {source}; the dump was given \
         up, run it again once the server is there"
    )]
    Disconnected {
        /// Where it was.
        place: String,
        /// The table.
        table: String,
        /// What the client library said.
        source: SqlError,
    },
}

impl MayPass for BackupError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Sql(error) => error.may_pass(),
            Self::Catalogue(error) => error.may_pass(),
            Self::Link(error) => error.may_pass(),
            Self::Watermark(error) => error.may_pass(),
            Self::Data(error) => error.may_pass(),
            Self::Rows(error) => error.may_pass(),
            Self::Store(error) => error.may_pass(),
            Self::NoAnswer(_)
            | Self::NoTags { .. }
            | Self::Disconnected { .. }
            | Self::DatabaseGone { .. } => true,
            Self::Detect(_)
            | Self::Checkpoint(_)
            | Self::Capture(_)
            | Self::Cancelled(_)
            | Self::Base { .. }
            | Self::Blocks { .. }
            | Self::NoDatabase
            | Self::NoDatabaseHere
            | Self::NotHere { .. }
            | Self::InUse { .. }
            | Self::NothingReadable { .. }
            | Self::OutputInData { .. }
            | Self::UnknownDatabase(_)
            | Self::Records(_)
            | Self::Schema { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(code: u32) -> SqlError {
        SqlError {
            code,
            text: "as the server says it".to_owned(),
            sql: None,
        }
    }

    #[test]
    fn a_lost_connection_is_tried_again_wherever_it_was_lost() {
        const UNABLE_TO_ESTABLISH_CONNECTION: u32 = 0x8000_000b;
        let lost = || sql(UNABLE_TO_ESTABLISH_CONNECTION);
        assert!(BackupError::Sql(lost()).may_pass());
        assert!(BackupError::Catalogue(CatalogueError::Sql(lost())).may_pass());
        assert!(BackupError::Watermark(WatermarkError::Sql(lost())).may_pass());
        let gone = BackupError::Disconnected {
            place: "localhost:6030".to_owned(),
            table: "t1".to_owned(),
            source: lost(),
        };
        assert!(gone.may_pass());
    }

    #[test]
    fn what_the_server_will_always_refuse_is_not_tried_again() {
        const SYNTAX_ERROR: u32 = 0x8000_0216;
        const AUTHENTICATION_FAILURE: u32 = 0x8000_0357;
        for code in [SYNTAX_ERROR, AUTHENTICATION_FAILURE] {
            assert!(!BackupError::Sql(sql(code)).may_pass());
            assert!(!BackupError::Catalogue(CatalogueError::Sql(sql(code))).may_pass());
            assert!(!BackupError::Watermark(WatermarkError::Sql(sql(code))).may_pass());
        }
    }
}
