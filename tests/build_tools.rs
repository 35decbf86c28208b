//! What a user builds with besides a C compiler: C++, pkg-config and CMake. A machine that lacks one of them skips the
//! tests that need it, says so, and counts them as ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod c_build;

use c_build::compile::{self, Language};
use c_build::{build_and_run, cc_build, compiler, install, root, run};
use libtest_mimic::{Arguments, Trial};
use std::path::Path;
use std::process::{Command, ExitCode};

/// A test with the programs it needs.
type Test = (&'static str, &'static [&'static str], fn());

const TESTS: [Test; 6] = [
    ("the_tour_in_cpp_runs", &["c++"], tour_in_cpp),
    (
        "all_headers_together_are_cpp",
        &["c++"],
        all_headers_together,
    ),
    ("each_header_alone_is_cpp", &["c++"], each_header_alone),
    (
        "pkg_config_knows_how_to_build",
        &["pkg-config"],
        pkg_config_builds,
    ),
    ("the_cmake_package_builds", &["cmake", "make"], cmake_builds),
    (
        "the_cmake_package_makes_a_taosdump_incremental_whichever_way_it_links",
        &["cmake", "make"],
        cmake_makes_a_taosdump,
    ),
];

fn main() -> ExitCode {
    let trials = TESTS.into_iter().map(|(name, programs, test)| {
        let missing = programs.iter().find(|program| !is_there(program));
        if let Some(missing) = missing {
            eprintln!("skipped: {name}: no {missing}");
        }
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Whether a program can be run. The compiler is the one that the tests use.
fn is_there(program: &str) -> bool {
    let mut command = match program {
        "c++" => cc_build(Language::Cpp).get_compiler().to_command(),
        _ => Command::new(program),
    };
    command.arg("--version").output().is_ok()
}

fn tour_in_cpp() {
    build_and_run("engine_basics.cpp", |_| Vec::new());
}

fn all_headers_together() {
    build_and_run("all_headers.cpp", |_| Vec::new());
}

fn each_header_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut build = cc_build(Language::Cpp);
    compile::check_headers(
        build.out_dir(dir.path()),
        &root().join("c-shim/include"),
        dir.path(),
        Language::Cpp,
    )
    .unwrap();
}

fn pkg_config_builds() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let output = run(Command::new("pkg-config")
        .args(["--cflags", "--libs", "incremental_bitmap"])
        .env("PKG_CONFIG_PATH", dir.path().join("lib/pkgconfig")));
    let flags = String::from_utf8(output.stdout).unwrap();
    let program = dir.path().join("program");
    run(compiler("engine_misuse.c")
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&program));
    run(Command::new(&program).env("LD_LIBRARY_PATH", dir.path().join("lib")));
}

/// Builds what a directory below `tests/c` describes, with the package below `prefix`.
fn cmake(source: &str, prefix: &Path, build: &Path) {
    run(Command::new("cmake")
        .arg("-S")
        .arg(root().join("tests/c").join(source))
        .arg("-B")
        .arg(build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    run(Command::new("cmake").arg("--build").arg(build));
}

fn cmake_builds() {
    let dir = tempfile::tempdir().unwrap();
    let (prefix, build) = (dir.path().join("prefix"), dir.path().join("build"));
    install(&prefix);
    cmake("cmake", &prefix, &build);
    run(&mut Command::new(build.join("with_static")));
    run(&mut Command::new(build.join("with_shared")));
}

fn cmake_makes_a_taosdump() {
    let dir = tempfile::tempdir().unwrap();
    let (prefix, build) = (dir.path().join("prefix"), dir.path().join("build"));
    install(&prefix);
    cmake("cmake_taosdump", &prefix, &build);
    for program in ["plain", "keyword"] {
        let plugin = prefix.join("lib/libincremental_bitmap_plugin.so");
        for more in [vec![], vec!["--bitmap-plugin", plugin.to_str().unwrap()]] {
            // What the engine says of a command line that asks for nothing is not our business here.
            let output = Command::new(build.join(program))
                .arg("--incremental")
                .args(more)
                .output()
                .unwrap();
            assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(
                !said.contains("can't be loaded") && !said.contains("interface version"),
                "{said}"
            );
        }
        // Nothing of the archive may stand in for the libraries that libtaos brings along.
        let symbols = Command::new("nm")
            .arg("-D")
            .arg("--defined-only")
            .arg(build.join(program))
            .output();
        if let Ok(symbols) = symbols {
            let symbols = String::from_utf8(symbols.stdout).unwrap();
            assert!(
                !symbols.contains("ZSTD") && !symbols.contains("taosdump_engine"),
                "{symbols}"
            );
        }
    }
}
