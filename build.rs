//! Reads the public headers, so that the Rust side of the C ABI uses the headers' own types and every exported
//! function is checked against its declaration. Compiles what C there is, so that it can't reach a user broken.

#[path = "c-shim/compile.rs"]
mod compile;
#[path = "rust/ffi/src/read_headers.rs"]
mod read_headers;

use compile::Language;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

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

fn main() -> ExitCode {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libincremental_bitmap_plugin.so");
    let done = read_headers::read_headers("c-shim/include", HEADERS).and_then(|()| compile_c());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("cargo::error={failure}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles the public headers and the glue for taosdump as C. A test compiles the headers as C++.
fn compile_c() -> Result<(), read_headers::Failure> {
    for watched in ["c-shim/include", "c-shim/taosdump", "c-shim/flags"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    // The tests compile their programs for the same target.
    println!("cargo:rustc-env=C_TARGET={}", env::var("TARGET")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = Path::new(&env::var("OUT_DIR")?).join("headers");
    fs::create_dir_all(&out)?;
    let include = root.join("c-shim/include");
    let mut build = compile::build(&root, Language::C);
    compile::check_headers(&mut build, &include, &out, Language::C)?;
    // taosdump, and so its glue, parses its command line with argp, which is glibc's.
    if env::var("CARGO_CFG_TARGET_ENV")? == "gnu" {
        let mut build = compile::build(&root, Language::C);
        compile::check_glue(build.include(include), &root.join("c-shim/taosdump"))?;
    }
    Ok(())
}
