//! Every question and statement to a TDengine server. Nothing above this crate writes SQL.
//!
//! | module | holds |
//! |---|---|
//! | [`cluster`] | the cluster, its version and its data directories |
//! | [`database`] | databases and their options |
//! | [`dialect`] | what the SQL of this version has and that of another has not |
//! | [`vgroups`] | where the vgroups of a database are, and how far |
//! | [`catalogue`] | reading super tables, tables and columns |
//! | [`tables`] | which tables there are, and what they are called |
//! | [`ddl`] | the statements that create, alter and drop |
//! | [`select`] | reading rows and tags |
//! | [`insert`] | writing rows |
//! | [`load`] | writing rows column by column, to several tables at a time |
//! | [`topics`] | topics and consumer groups |
//! | [`restore_claim`] | who restores to a database |
//! | [`restore_lacks`] | which tables of a restored database lack something |
//! | [`restore_record`] | which link a restored database is at |
//! | [`uncovered`] | what a database has that no backup holds |
//! | [`sql`] | names and values as SQL text |

pub mod catalogue;
pub mod cluster;
pub mod database;
pub mod ddl;
pub mod dialect;
pub mod insert;
pub mod load;
mod login;
pub mod restore_claim;
pub mod restore_lacks;
pub mod restore_loading;
pub mod restore_record;
pub mod select;
pub mod sql;
pub mod tables;
pub mod topics;
pub mod uncovered;
pub mod vgroups;

pub use login::login;
pub use taos::{Connection, Field, Library, LoadError, Login, Rows, SqlError, tmq};
