//! How the C and C++ of this project is compiled. The build script compiles what goes into a user's build, so that a
//! fault in it fails `cargo build` and not the user's CMake run. The tests build their programs with the same compiler
//! and flags, and so does `ci/c-programs.sh`, which reads the same files below `c-shim/flags`.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// What a source is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    /// Only in tests: a build needs no C++ compiler.
    #[allow(dead_code)]
    Cpp,
}

/// Why sources can't be used.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The compiler refuses them; what it said is on standard error.
    Compiler(cc::Error),
    /// A file could not be read or written.
    File(PathBuf, io::Error),
}

/// The compiler, which `CC` or `CXX` may name, with the flags. A build script adds nothing; anybody else says for which
/// target and where its objects go.
pub(crate) fn build(root: &Path, language: Language) -> cc::Build {
    let (is_cpp, file) = match language {
        Language::C => (false, "c"),
        Language::Cpp => (true, "c++"),
    };
    let flags = root.join("c-shim/flags").join(file);
    let mut build = cc::Build::new();
    build.cpp(is_cpp).flag(format!("@{}", flags.display()));
    build
}

/// Compiles the glue for taosdump, as it stands in `directory`, into objects that nobody links.
pub(crate) fn check_glue(build: &mut cc::Build, directory: &Path) -> Result<(), Failure> {
    build.include(directory);
    for source in files(directory, "c")? {
        build.file(source);
    }
    objects(build)
}

/// Compiles each header of `include` alone: whoever includes one needs no other before it.
pub(crate) fn check_headers(
    build: &mut cc::Build,
    include: &Path,
    out: &Path,
    language: Language,
) -> Result<(), Failure> {
    let end = match language {
        Language::C => "c",
        Language::Cpp => "cpp",
    };
    build.include(include);
    for header in files(include, "h")? {
        let source = out.join(header.with_extension(end).file_name().unwrap_or_default());
        // A source must declare something, which a header of macros does not.
        let text = format!("#include \"{}\"\ntypedef int declared;\n", header.display());
        fs::write(&source, text).map_err(|error| Failure::File(source.clone(), error))?;
        build.file(source);
    }
    objects(build)
}

/// Objects, and no archive: an archive would be one that cargo is told to link, and the glue belongs into taosdump, where
/// the user's own build compiles it. In the library it would export its functions beside those of the headers.
fn objects(build: &cc::Build) -> Result<(), Failure> {
    build
        .try_compile_intermediates()
        .map(|_| ())
        .map_err(Failure::Compiler)
}

fn files(directory: &Path, end: &str) -> Result<Vec<PathBuf>, Failure> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut files = read().map_err(|error| Failure::File(directory.to_owned(), error))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == end));
    files.sort();
    Ok(files)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(error) => write!(
                f,
                "the C that goes into a user's build does not compile without warnings: {error}"
            ),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Failure {}
