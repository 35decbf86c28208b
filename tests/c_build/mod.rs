//! Builds and runs C programs against what `c-shim/install.sh` installs.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../c-shim/compile.rs"]
pub mod compile;

use compile::Language;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo put the libraries that belong to this test.
pub fn libraries() -> PathBuf {
    let deps = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_path_buf();
    let above = deps.parent().unwrap().to_path_buf();
    [deps, above]
        .into_iter()
        .find(|dir| dir.join("libincremental_bitmap.a").exists())
        .expect("cargo builds the static library for integration tests")
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Puts what is installed into `prefix`, as a packager would: it was installed in another place.
pub fn install(prefix: &Path) {
    std::fs::create_dir_all(prefix).unwrap();
    run(Command::new("cp")
        .arg("-R")
        .arg(installed().join("."))
        .arg(prefix));
}

/// Where these libraries are installed, once for all tests of all test programs: making one object of an archive, and
/// files of what is stripped, takes seconds.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
        std::fs::create_dir_all(&all).unwrap();
        let place = all.join(format!("{:x}", state_of_what_is_installed()));
        if place.exists() {
            return place;
        }
        for old in std::fs::read_dir(&all).unwrap() {
            let _ = std::fs::remove_dir_all(old.unwrap().path());
        }
        let unfinished = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        run(Command::new(root().join("c-shim/install.sh"))
            .arg(unfinished.path())
            .arg(libraries()));
        // Another test program may have been quicker.
        if std::fs::rename(unfinished.path(), &place).is_err() {
            assert!(place.exists());
        }
        place
    })
}

/// Changes with the libraries and with everything in `c-shim`.
fn state_of_what_is_installed() -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut directories = vec![root().join("c-shim")];
    let mut files = vec![root().join("Cargo.toml")];
    for library in ["incremental_bitmap.a", "incremental_bitmap.so"] {
        files.push(libraries().join(format!("lib{library}")));
    }
    files.push(libraries().join("libtaosx_incremental_bitmap_plugin.so"));
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    for file in files {
        let changed = std::fs::metadata(&file).map(|file| file.modified().unwrap());
        (file, changed.ok()).hash(&mut hasher);
    }
    hasher.finish()
}

/// The compiler and flags of the build script, for this machine.
pub fn cc_build(language: Language) -> cc::Build {
    let mut build = compile::build(root(), language);
    build
        .target(env!("C_TARGET"))
        .host(env!("C_TARGET"))
        .opt_level(1)
        .cargo_metadata(false);
    build
}

/// A compiler for a file below `tests/c`.
pub fn compiler(source: &str) -> Command {
    let language = match source.ends_with(".cpp") {
        true => Language::Cpp,
        false => Language::C,
    };
    let mut command = cc_build(language).get_compiler().to_command();
    command.arg(root().join("tests/c").join(source));
    command
}

/// Builds a program with the static and with the shared library of `prefix`, where everything is installed, and runs
/// both. `arguments` gives those of a run, which has a directory of its own.
pub fn build_and_run(source: &str, arguments: impl Fn(&Path) -> Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    for linkage in ["static", "shared"] {
        let own = dir.path().join(format!("{linkage}-run"));
        std::fs::create_dir(&own).unwrap();
        let mut command = Command::new(build(source, dir.path(), linkage));
        command
            .env("LD_LIBRARY_PATH", dir.path().join("lib"))
            .env_remove("IB_CALLBACK_THREADS")
            .env_remove("TD_DATABASE")
            .args(arguments(&own));
        run(&mut command);
    }
}

/// Builds a program with what is installed in `prefix`: linked with the static or the shared library, or with neither,
/// to load it.
pub fn build(source: &str, prefix: &Path, linkage: &str) -> PathBuf {
    let program = prefix.join(format!("{source}-{linkage}"));
    let lib = prefix.join("lib");
    let mut command = compiler(source);
    command
        .arg("-I")
        .arg(prefix.join("include/incremental_bitmap"))
        .arg("-o")
        .arg(&program);
    match linkage {
        "static" => command
            .arg(lib.join("libincremental_bitmap.a"))
            .args(["-ldl", "-lm"]),
        "shared" => command
            .arg("-L")
            .arg(&lib)
            .arg("-lincremental_bitmap_plugin"),
        _ => command.arg("-ldl"),
    };
    run(&mut command);
    program
}
