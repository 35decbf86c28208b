//! TDengine's client library (libtaos), as much of it as a backup needs, behind safe types.
//!
//! The library is not linked: inside taosdump it is there already, elsewhere it is loaded at run time. Values are
//! handed over as the server stores them: text and binary values with their exact length, NULs included,
//! timestamps in the database's precision.
//!
//! | module | holds |
//! |---|---|
//! | [`library`] | finding the library's functions |
//! | [`connection`] | statements and their results |
//! | `together` | statements that do not wait for each other |
//! | [`statement`] | prepared INSERTs |
//! | [`statement2`] | prepared INSERTs by the newer functions: of several tables, also with BLOBs |
//! | [`tmq`] | subscriptions |
//! | `api` | the functions as C declares them |
//! | `umask` | the process's umask, kept from the library |

mod api;
pub mod connection;
pub mod library;
pub mod statement;
pub mod statement2;
pub mod tmq;
mod together;
mod umask;

pub use connection::{Connection, Field, Rows, SqlError};
pub use library::{Library, LoadError, Login};
pub use statement::{Column, Statement};
