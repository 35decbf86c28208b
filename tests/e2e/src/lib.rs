//! A real TDengine server for tests: found by `TDENGINE_HOME` or `PATH`, started in a directory of its own on a
//! free port, spoken to through its client library; and taosdump, which is run against it.

mod bound;
mod cell;
mod client;
mod cluster;
mod compare;
mod files;
mod history;
mod server;
mod setting;
mod tool;
mod workbench;

pub use bound::spawn_bound;
pub use cell::Cell;
pub use client::{Connection, SqlError};
pub use cluster::{Cluster, until};
pub use compare::{Content, quoted};
pub use files::{bytes_below, files_below, newest_below};
pub use history::{History, Tally};
pub use server::{Installation, Server};
pub use setting::setting;
pub use tool::{Run, Running, Taosdump};
pub use workbench::Workbench;
