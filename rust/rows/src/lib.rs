//! Rows on their way between a server, files and links.
//!
//! | module | holds |
//! |---|---|
//! | [`avro`] | rows and tags as Avro files, as taosdump writes them |

pub mod avro;
