//! Rows on their way between a server, files and links.
//!
//! | module | holds |
//! |---|---|
//! | [`sink`] | the seam: whoever reads rows gives them to a [`sink::RowSink`] |
//! | [`avro`] | rows and tags as Avro files, as taosdump writes them |
//! | [`block`] | the rows of a block, read back |

pub mod avro;
pub mod block;
pub mod sink;
