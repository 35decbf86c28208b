//! Rows on their way between a server, files and links.
//!
//! | module | holds |
//! |---|---|
//! | [`source`] | the seam to whoever has rows: a [`source::RowSource`] gives them |
//! | [`sink`] | the seam to whoever takes the rows of a block: a [`sink::RowSink`] |
//! | [`avro`] | rows and tags as Avro files, as taosdump writes them |
//! | [`stored`] | cells as the server's files hold them, as SQL gives them |
//! | [`arrow`] | row batches as Arrow record batches, and back |
//! | [`parquet`] | rows as Parquet files, as links of format 2 have them |
//! | [`block`] | the rows of a block, read back |

pub mod arrow;
pub mod avro;
pub mod block;
pub mod parquet;
pub mod sink;
pub mod source;
pub mod stored;
