//! Reads the public headers, so that the Rust side of the C ABI uses the headers' own types and every exported
//! function is checked against its declaration.

#[path = "rust/ffi/src/read_headers.rs"]
mod read_headers;

/// The headers whose functions are written in Rust.
const HEADERS: &[&str] = &[
    "backup_coordinator",
    "bitmap_engine",
    "event_interceptor",
    "incremental_backup_tool",
    "observability",
    "plugin_api",
    "ring_buffer",
    "storage_engine_interface",
    "taosdump_engine",
];

fn main() -> Result<(), read_headers::Failure> {
    read_headers::read_headers("c-shim/include", HEADERS)?;
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libincremental_bitmap_plugin.so");
    Ok(())
}
