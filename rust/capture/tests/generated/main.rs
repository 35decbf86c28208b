//! Vnodes with random histories, written by `tdwriter`: what a scan names is what was done, whatever the
//! format, and no damage to a file goes unnoticed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;
mod histories;
mod logged;
mod scanned;
mod stopped;
mod two_uids;
