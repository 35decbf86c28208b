//! Published sources of taosdump are patched, and restored byte by byte: every tree in the directory that
//! `TAOSDUMP_SOURCES` names.

use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const DIRECTORIES: [&str; 2] = ["tools/taos-tools/src", "src"];
const FILES: [&str; 2] = ["taosdump.c", "CMakeLists.txt"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trees = trees();
    if let Err(reason) = &trees {
        eprintln!("skipped: {reason}");
    }
    let trials = match trees {
        Ok(trees) => trees
            .into_iter()
            .map(|tree| {
                let name = tree.file_name().unwrap_or_default().display().to_string();
                Trial::test(name, move || patch_and_restore(&tree))
            })
            .collect(),
        Err(_) => vec![Trial::test("published_sources", || Ok(())).with_ignored_flag(true)],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trees() -> Result<Vec<PathBuf>, String> {
    let dir = env::var_os("TAOSDUMP_SOURCES")
        .ok_or("TAOSDUMP_SOURCES names no directory with published source trees")?;
    let entries = fs::read_dir(&dir).map_err(|e| format!("TAOSDUMP_SOURCES: {e}"))?;
    let trees: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|tree| directory(tree).is_some())
        .collect();
    if trees.is_empty() {
        return Err("TAOSDUMP_SOURCES holds no source tree with a taosdump.c".to_owned());
    }
    Ok(trees)
}

fn directory(tree: &Path) -> Option<&'static str> {
    DIRECTORIES
        .into_iter()
        .find(|directory| tree.join(directory).join(FILES[0]).exists())
}

fn patch_and_restore(tree: &Path) -> Result<(), Failed> {
    let directory = directory(tree).ok_or("the tree is gone")?;
    let copy = tempfile::tempdir()?;
    let place = copy.path().join(directory);
    fs::create_dir_all(&place)?;
    for file in FILES {
        fs::copy(tree.join(directory).join(file), place.join(file))?;
    }
    let contents = || -> Result<Vec<Vec<u8>>, Failed> {
        let mut contents = Vec::new();
        for file in FILES {
            contents.push(fs::read(place.join(file))?);
        }
        if fs::read_dir(&place)?.count() != FILES.len() {
            return Err("a file was left behind".into());
        }
        Ok(contents)
    };
    let published = contents()?;
    for (option, word, is_published) in [
        (Some("--check"), "would change", true),
        (None, "now patched", false),
        (None, "already patched", false),
        (Some("--reverse"), "now pristine", true),
    ] {
        let output =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../patches/apply"))
                .args(option)
                .arg(copy.path())
                .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !said.contains(word) {
            return Err(format!("{option:?}: {output:?}").into());
        }
        if (contents()? == published) != is_published {
            return Err(format!("{word}, but the files are others").into());
        }
    }
    Ok(())
}
