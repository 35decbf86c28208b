//! C99 and C++ programs against `bitmap_engine.h`: compiled with all warnings, linked with the static and the shared
//! library, and run. Also through pkg-config and the CMake package, where those tools are installed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod c_build;

use c_build::{build_and_run, compiler, install, root, run};
use std::process::Command;

#[test]
fn the_tour_in_c_runs() {
    build_and_run("engine_basics.c", |own| vec![own.join("state")]);
}

#[test]
fn the_tour_in_cpp_runs() {
    build_and_run("engine_basics.cpp", |_| Vec::new());
}

#[test]
fn misuse_gets_the_documented_codes() {
    build_and_run("engine_misuse.c", |_| Vec::new());
}

#[test]
fn many_threads_of_c_lose_nothing() {
    build_and_run("engine_threads.c", |_| Vec::new());
}

#[test]
fn pkg_config_knows_how_to_build() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let output = Command::new("pkg-config")
        .args(["--cflags", "--libs", "incremental_bitmap"])
        .env("PKG_CONFIG_PATH", dir.path().join("lib/pkgconfig"))
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no pkg-config");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let flags = String::from_utf8(output.stdout).unwrap();
    let program = dir.path().join("program");
    run(compiler("engine_misuse.c")
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&program));
    run(Command::new(&program).env("LD_LIBRARY_PATH", dir.path().join("lib")));
}

#[test]
fn the_cmake_package_builds() {
    let dir = tempfile::tempdir().unwrap();
    install(&dir.path().join("prefix"));
    if Command::new("cmake").arg("--version").output().is_err() {
        eprintln!("skipped: no cmake");
        return;
    }
    let build = dir.path().join("build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(root().join("tests/c/cmake"))
        .arg("-B")
        .arg(&build)
        .arg(format!(
            "-DCMAKE_PREFIX_PATH={}",
            dir.path().join("prefix").display()
        )));
    run(Command::new("cmake").arg("--build").arg(&build));
    run(&mut Command::new(build.join("with_static")));
    run(&mut Command::new(build.join("with_shared")));
}
