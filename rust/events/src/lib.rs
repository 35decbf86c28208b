//! Block events of a host on their way into the bitmap.
//!
//! | module | holds |
//! |---|---|
//! | [`intercept`] | the interceptor: queues, workers and gaps between a host's events and a sink |
//! | [`bitmap_sink`] | the sink that turns events into marks |
//! | [`ring`] | a bounded queue for hosts |

pub mod bitmap_sink;
pub mod intercept;
pub mod ring;
