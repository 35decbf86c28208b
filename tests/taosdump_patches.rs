//! `patches/`: the patch files hold nothing but our own lines, and `apply` changes only what it knows, all or nothing.
//! `tests/e2e/tests/published_sources.rs` does it with published sources.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const IN_TREE: &str = "tools/taos-tools/src";
const STANDALONE: &str = "src";
const FILES: [&str; 2] = ["taosdump.c", "CMakeLists.txt"];

fn patches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("patches")
}

fn releases(patches: &Path) -> Vec<PathBuf> {
    let releases: Vec<_> = fs::read_dir(patches)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(!releases.is_empty());
    releases
}

fn apply_of(patches: &Path, arguments: &[&str]) -> Output {
    Command::new(patches.join("apply"))
        .args(arguments)
        .output()
        .unwrap()
}

fn apply(arguments: &[&str]) -> Output {
    apply_of(&patches(), arguments)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Every file of a tree with its contents.
fn contents(tree: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![tree.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.push((path.strip_prefix(tree).unwrap().to_path_buf(), bytes));
            }
        }
    }
    found.sort();
    found
}

/// A tree with the two files that get patched.
fn tree(directory: &str, texts: [&str; 2]) -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let dir = tree.path().join(directory);
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in FILES.iter().zip(texts) {
        fs::write(dir.join(file), text).unwrap();
    }
    tree
}

/// An invented release beside a copy of `apply`, and its pristine tree. The patch of 2 lines behind line 1 of taosdump.c
/// and of 1 line behind line 2 of CMakeLists.txt.
struct Invented {
    patches: TempDir,
    tree: TempDir,
    pristine: [String; 2],
    patched: [String; 2],
}

impl Invented {
    fn new() -> Self {
        let pristine = ["one\ntwo\n".to_owned(), "a\nb\n".to_owned()];
        let patched = ["one\nX\nY\ntwo\n".to_owned(), "a\nb\nZ\n".to_owned()];
        let patches = tempfile::tempdir().unwrap();
        fs::copy(self::patches().join("apply"), patches.path().join("apply")).unwrap();
        let release = patches.path().join("9.9");
        fs::create_dir(&release).unwrap();
        fs::write(
            release.join("incremental.patch"),
            format!(
                "--- a/{IN_TREE}/taosdump.c\n+++ b/{IN_TREE}/taosdump.c\n@@ -1,0 +2,2 @@\n+X\n+Y\n\
                 --- a/{IN_TREE}/CMakeLists.txt\n+++ b/{IN_TREE}/CMakeLists.txt\n@@ -2,0 +3,1 @@\n+Z\n"
            ),
        )
        .unwrap();
        let sums: String = (0..2)
            .map(|i| {
                format!(
                    "{} {} {IN_TREE}/{} 9.9.1\n",
                    sum(pristine[i].as_bytes()),
                    sum(patched[i].as_bytes()),
                    FILES[i]
                )
            })
            .collect();
        fs::write(release.join("sums"), sums).unwrap();
        let tree = tree(IN_TREE, [&pristine[0], &pristine[1]]);
        Self {
            patches,
            tree,
            pristine,
            patched,
        }
    }

    fn apply(&self, options: &[&str]) -> Output {
        let mut arguments = options.to_vec();
        arguments.push(self.tree.path().to_str().unwrap());
        apply_of(self.patches.path(), &arguments)
    }

    fn path(&self, file: usize) -> PathBuf {
        self.tree.path().join(IN_TREE).join(FILES[file])
    }

    fn holds(&self, texts: [&String; 2]) {
        let expected: BTreeSet<_> = (0..2)
            .map(|i| {
                (
                    Path::new(IN_TREE).join(FILES[i]),
                    texts[i].clone().into_bytes(),
                )
            })
            .collect();
        let found: BTreeSet<_> = contents(self.tree.path()).into_iter().collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_patch_holds_only_our_own_lines_and_only_insertions() {
    for release in releases(&patches()) {
        let name = release.display().to_string();
        let patch = fs::read_to_string(release.join("incremental.patch")).unwrap();
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        let mut file = "";
        for line in patch.lines() {
            if let Some(added) = line.strip_prefix("+++ b/") {
                file = added;
            } else if line.starts_with("--- a/") {
            } else if let Some(inserted) = line.strip_prefix('+') {
                groups.last_mut().expect("a hunk").1.push(inserted);
            } else {
                // Nothing else but hunk headers: no context, no removed line, no text behind the second @@.
                let numbers = line
                    .strip_prefix("@@ -")
                    .and_then(|rest| rest.strip_suffix(" @@"))
                    .expect(line);
                assert!(numbers.contains(",0 +"), "{name}: {line}");
                assert!(
                    numbers
                        .chars()
                        .all(|c| c.is_ascii_digit() || ", +".contains(c)),
                    "{name}: {line}"
                );
                groups.push((file.to_owned(), Vec::new()));
            }
        }
        let (code, cmake): (Vec<_>, Vec<_>) =
            groups.iter().partition(|(file, _)| file.ends_with(".c"));
        assert_eq!((code.len(), cmake.len()), (5, 1), "{name}");
        for (_, lines) in code {
            assert_eq!(lines.len(), 3, "{name}: {lines:?}");
            assert_eq!(lines[0], "#ifdef INCREMENTAL", "{name}");
            assert_eq!(lines[2], "#endif", "{name}");
            assert!(
                lines[1].to_lowercase().contains("taosdump_incremental"),
                "{name}: {lines:?}"
            );
        }
        for (_, lines) in cmake {
            let lines: Vec<_> = lines
                .iter()
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .collect();
            assert!(lines[0].starts_with("option(INCREMENTAL "), "{name}");
            assert_eq!(*lines[1], "if(INCREMENTAL)", "{name}");
            assert_eq!(*lines[lines.len() - 1], "endif()", "{name}");
        }
    }
}

#[test]
fn every_release_has_sums_for_both_files_and_the_readme_lists_them() {
    let readme = fs::read_to_string(patches().join("README.md")).unwrap();
    for release in releases(&patches()) {
        let sums = fs::read_to_string(release.join("sums")).unwrap();
        let mut files = BTreeSet::new();
        for line in sums.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let [before, after, path, versions] = fields[..] else {
                unreachable!("{line}");
            };
            for sum in [before, after] {
                assert!(
                    sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit()),
                    "{line}"
                );
            }
            assert_ne!(before, after);
            let row = format!("| {versions} | `{path}` | `{before}` | `{after}` |");
            assert!(readme.contains(&row), "patches/README.md lacks {row}");
            files.insert(path.rsplit('/').next().unwrap().to_owned());
        }
        assert_eq!(files, FILES.map(str::to_owned).into_iter().collect());
    }
}

#[test]
fn applying_twice_and_taking_it_out_again() {
    let release = Invented::new();
    let (pristine, patched) = (
        [&release.pristine[0], &release.pristine[1]],
        [&release.patched[0], &release.patched[1]],
    );

    let output = release.apply(&["--check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("9.9, would change"), "{output:?}");
    release.holds(pristine);

    let output = release.apply(&["--reverse"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("nothing to do"), "{output:?}");
    release.holds(pristine);

    let output = release.apply(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    release.holds(patched);

    for options in [&[][..], &["--check"]] {
        let output = release.apply(options);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(said(&output).contains("already patched"), "{output:?}");
        release.holds(patched);
    }

    let output = release.apply(&["--reverse"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    release.holds(pristine);
}

#[test]
fn a_run_that_was_cut_off_between_two_files_is_completed_either_way() {
    for (options, half) in [(&[][..], 0), (&["--reverse"][..], 1)] {
        let release = Invented::new();
        fs::write(release.path(half), &release.patched[half]).unwrap();
        assert_eq!(release.apply(options).status.code(), Some(0));
        release.holds(if options.is_empty() {
            [&release.patched[0], &release.patched[1]]
        } else {
            [&release.pristine[0], &release.pristine[1]]
        });
    }
}

#[test]
fn one_unknown_file_and_nothing_is_changed() {
    for (changed, file) in FILES.iter().enumerate() {
        let release = Invented::new();
        let text = "somebody's own change\n".to_owned();
        fs::write(release.path(changed), &text).unwrap();
        let before = contents(release.tree.path());
        let output = release.apply(&[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = said(&output);
        assert!(said.contains(&format!("{IN_TREE}/{}", file)), "{said}");
        assert!(said.contains(&sum(text.as_bytes())), "{said}");
        assert!(
            said.contains(&sum(release.pristine[changed].as_bytes())),
            "{said}"
        );
        assert_eq!(contents(release.tree.path()), before);
    }
}

#[test]
fn a_damaged_patch_changes_nothing() {
    let release = Invented::new();
    let patch = release.patches.path().join("9.9/incremental.patch");
    // The second file's: the first one's result is fine, and must not be put in place either.
    let damaged = fs::read_to_string(&patch).unwrap().replace("+Z\n", "+z\n");
    fs::write(&patch, damaged).unwrap();
    for options in [&[][..], &["--check"]] {
        let output = release.apply(options);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains("is damaged"), "{output:?}");
        release.holds([&release.pristine[0], &release.pristine[1]]);
    }
}

#[test]
fn files_keep_their_mode() {
    use std::os::unix::fs::PermissionsExt;
    let release = Invented::new();
    fs::set_permissions(release.path(0), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(release.apply(&[]).status.code(), Some(0));
    let mode = fs::metadata(release.path(0)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_tree_of_no_known_release_is_refused_with_all_sums() {
    for directory in [IN_TREE, STANDALONE] {
        let tree = tree(directory, ["int main(void);\n", "project(x)\n"]);
        let before = contents(tree.path());
        for option in [None, Some("--check"), Some("--reverse")] {
            let mut arguments: Vec<_> = option.into_iter().collect();
            arguments.push(tree.path().to_str().unwrap());
            let output = apply(&arguments);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = said(&output);
            assert!(said.contains(&format!("{directory}/taosdump.c")), "{said}");
            assert!(said.contains(&sum(b"int main(void);\n")), "{said}");
            assert!(said.contains("nothing was changed"), "{said}");
            let release = if directory == IN_TREE {
                "3.3.7"
            } else {
                "3.3.5"
            };
            let sums = fs::read_to_string(patches().join(release).join("sums")).unwrap();
            for line in sums.lines() {
                assert!(said.contains(&line[..64]), "{said}");
            }
            assert_eq!(contents(tree.path()), before);
        }
    }
}

#[test]
fn wrong_usage_says_how_it_goes() {
    for arguments in [
        &[][..],
        &["--chek", "."],
        &["--check"],
        &["--check", "--reverse", "."],
        &["a", "b"],
    ] {
        let output = apply(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(said(&output).contains("usage: patches/apply"), "{output:?}");
    }
    let output = apply(&["/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("no such directory"), "{output:?}");
    let empty = tempfile::tempdir().unwrap();
    let output = apply(&[empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("is there"), "{output:?}");
}
