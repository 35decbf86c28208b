//! The C ABI of the engine: a static and a shared library. Headers are in `c-shim/include`.
//!
//! Nothing is decided here: each function checks what C gave it, calls the crate that knows, and turns the result
//! into a code. The types come from the headers, and the build checks each function against its declaration.

mod agreement;
mod backup_coordinator;
mod bitmap_cursor;
mod bitmap_engine;
mod boundary;
mod codes;
mod event_interceptor;
mod failure;
mod followed_storage;
pub mod header;
mod incremental_backup_tool;
mod observability;
mod plugin;
mod ring_buffer;
mod settings;
mod storage_engine;
mod taosdump;
mod tdengine_storage;
mod tmq_storage;

pub use backup_coordinator::*;
pub use bitmap_cursor::*;
pub use bitmap_engine::*;
pub use codes::*;
pub use event_interceptor::*;
pub use incremental_backup_tool::*;
pub use observability::*;
pub use plugin::*;
pub use ring_buffer::*;
pub use storage_engine::*;
pub use taosdump::*;
pub use tdengine_storage::*;
pub use tmq_storage::*;
