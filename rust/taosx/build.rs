//! Reads the plugin's header, as the engine's build does.

#[path = "../ffi/src/read_headers.rs"]
mod read_headers;

fn main() -> Result<(), read_headers::Failure> {
    read_headers::read_headers("../../c-shim/include", &["taosx_plugin_interface"])?;
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtaosx_incremental_bitmap_plugin.so");
    Ok(())
}
