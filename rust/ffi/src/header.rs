//! The types and codes of the public headers, as the C compiler sees them.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/backup_coordinator.rs"));
include!(concat!(env!("OUT_DIR"), "/bitmap_engine.rs"));
include!(concat!(env!("OUT_DIR"), "/incremental_backup_tool.rs"));
include!(concat!(env!("OUT_DIR"), "/plugin_api.rs"));
include!(concat!(env!("OUT_DIR"), "/taosdump_engine.rs"));
include!(concat!(env!("OUT_DIR"), "/event_interceptor.rs"));
include!(concat!(env!("OUT_DIR"), "/observability.rs"));
include!(concat!(env!("OUT_DIR"), "/ring_buffer.rs"));
include!(concat!(env!("OUT_DIR"), "/storage_engine_interface.rs"));
