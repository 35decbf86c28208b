//! Each exported function has the type its header declares; otherwise this file does not compile.
#![allow(dead_code, unused_assignments, clippy::all)]

use crate::header::*;

include!(concat!(env!("OUT_DIR"), "/backup_coordinator_functions.rs"));
include!(concat!(env!("OUT_DIR"), "/bitmap_engine_functions.rs"));
include!(concat!(
    env!("OUT_DIR"),
    "/incremental_backup_tool_functions.rs"
));
include!(concat!(env!("OUT_DIR"), "/plugin_api_functions.rs"));
include!(concat!(env!("OUT_DIR"), "/taosdump_engine_functions.rs"));
include!(concat!(env!("OUT_DIR"), "/event_interceptor_functions.rs"));
include!(concat!(env!("OUT_DIR"), "/observability_functions.rs"));
include!(concat!(env!("OUT_DIR"), "/ring_buffer_functions.rs"));
include!(concat!(
    env!("OUT_DIR"),
    "/storage_engine_interface_functions.rs"
));
