//! A real TDengine server for tests: found by `TDENGINE_HOME` or `PATH`, started in a directory of its own on a
//! free port, spoken to through its client library.

mod client;
mod server;

pub use client::{Connection, SqlError};
pub use server::{Installation, Server};
