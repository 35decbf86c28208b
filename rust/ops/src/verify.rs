//! Checking links: what a restore would read, read and held against what was written. It needs no server, so
//! [`repository::verify`] does it all.

pub use repository::verify::{Job, Report, run};
