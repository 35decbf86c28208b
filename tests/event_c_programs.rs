//! C99 programs against the headers for events, storage engines, queues and metrics. Each calls every function
//! of its header and fails if one did nothing.
#![allow(clippy::unwrap_used, missing_docs)]

mod c_build;

use c_build::{build_and_run, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

fn no_arguments(_: &Path) -> Vec<PathBuf> {
    Vec::new()
}

/// Where the recorded server's data directory is, before and after changes, and a directory to work in.
fn recorded(own: &Path) -> Vec<PathBuf> {
    let data = own.join("data");
    run(Command::new("cp")
        .arg("-r")
        .arg(root().join("tests/data/base"))
        .arg(&data));
    vec![data, root().join("tests/data/incr_wal"), own.into()]
}

#[test]
fn every_function_of_the_interceptor_works() {
    build_and_run("event_interceptor.c", no_arguments);
}

#[test]
fn many_threads_raise_events_while_it_starts_and_stops() {
    build_and_run("event_threads.c", no_arguments);
}

#[test]
fn every_function_of_the_ring_buffer_works() {
    build_and_run("ring_buffer.c", no_arguments);
}

#[test]
fn every_function_of_the_metrics_works() {
    build_and_run("observability.c", no_arguments);
}

#[test]
fn a_host_registers_its_own_storage_engine_and_follows_a_server_with_ours() {
    build_and_run("storage_engine.c", recorded);
}

#[test]
fn every_function_of_the_taosx_plugin_works() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("taosx_plugin");
    run(c_build::compiler("taosx_plugin.c")
        .arg("-I")
        .arg(root().join("c-shim/include"))
        .args(["-ldl", "-o"])
        .arg(&program));
    run(Command::new(&program)
        .env_remove("IB_CALLBACK_THREADS")
        .arg(c_build::libraries().join("libtaosx_incremental_bitmap_plugin.so"))
        .arg(dir.path()));
}

#[test]
fn the_example_of_the_guide_runs() {
    let guide = std::fs::read_to_string(root().join("docs/c-api.md")).unwrap();
    let example = guide
        .split("```c\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("example.c");
    std::fs::write(&source, example).unwrap();
    // An absolute path below tests/c is that path.
    build_and_run(source.to_str().unwrap(), no_arguments);
}
