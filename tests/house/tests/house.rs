//! docs/architecture.md and the workspace agree, and the check would notice if they did not.

#![allow(clippy::unwrap_used)]

use house::{House, Workspace};
use serde_json::json;
use std::{path::Path, process::Command};

#[test]
fn every_arrow_between_crates_is_in_the_table_of_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let workspace = Workspace::parse(&output.stdout).unwrap();
    let problems = House::parse(&document).unwrap().problems(&workspace);
    assert!(
        problems.is_empty(),
        "docs/architecture.md: {}",
        problems.join("\n")
    );
}

/// A house of three floors: `top` uses `store` and `words`, `store` uses `words`; `top` may never reach `clap`.
const DOCUMENT: &str = "
<!-- crates: tests/house reads this table -->
| floor | crate | uses | does |
|---|---|---|---|
| 0 | `words` | – | speaks |
| 1 | `store` | `words` | keeps |
| 2 | `top` | `words`, `store` | stands |
<!-- end -->
<!-- never: tests/house reads this table -->
| crate | never reaches | why |
|---|---|---|
| `top` | `clap` | it has no `arguments` |
<!-- end -->
";

/// The workspace that the document describes, with more dependencies: crate, dependency, kind.
fn workspace(more: &[(&str, &str, Option<&str>)]) -> Workspace {
    let fits = [
        ("store", "words", None),
        ("top", "words", None),
        ("top", "store", Some("build")),
        ("top", "tool", Some("dev")),
        ("tool", "top", None),
    ];
    let packages = [
        ("words", "rust/words"),
        ("store", "rust/store"),
        ("top", "rust/top"),
        ("tool", "tests/tool"),
    ];
    let packages = packages.map(|(name, place)| {
        let own = fits.iter().chain(more).filter(|(from, ..)| *from == name);
        let dependencies = own.map(|(_, to, kind)| json!({"name": to, "kind": kind}));
        json!({
            "name": name,
            "manifest_path": format!("/w/{place}/Cargo.toml"),
            "dependencies": dependencies.collect::<Vec<_>>(),
        })
    });
    let metadata = json!({"workspace_root": "/w", "packages": packages});
    Workspace::parse(metadata.to_string().as_bytes()).unwrap()
}

fn problems(document: &str, more: &[(&str, &str, Option<&str>)]) -> Vec<String> {
    House::parse(document).unwrap().problems(&workspace(more))
}

#[test]
fn a_workspace_that_the_document_describes_has_no_problem() {
    assert_eq!(problems(DOCUMENT, &[]), [""; 0]);
    let dev = [("words", "top", Some("dev")), ("store", "clap", None)];
    assert_eq!(
        problems(&DOCUMENT.replace("`clap`", "`argh`"), &dev),
        [""; 0]
    );
}

#[test]
fn an_arrow_that_no_row_allows_is_found() {
    let document = DOCUMENT.replace("`words`, `store`", "`store`");
    assert_eq!(
        problems(&document, &[]),
        ["top uses words, which its row does not allow: does words belong there?"]
    );
    for kind in [None, Some("build")] {
        assert_eq!(
            problems(DOCUMENT, &[("words", "store", kind)]),
            [
                "words uses store, which its row does not allow: does store belong there?",
                "words on floor 0 uses store on floor 1: arrows go to lower floors only",
            ]
        );
    }
}

#[test]
fn an_arrow_that_goes_to_the_same_floor_is_found_though_its_row_allows_it() {
    let document = DOCUMENT.replace("| 2 | `top`", "| 1 | `top`");
    assert_eq!(
        problems(&document, &[]),
        ["top on floor 1 uses store on floor 1: arrows go to lower floors only"]
    );
}

#[test]
fn an_allowed_arrow_that_nothing_uses_is_found() {
    let document = DOCUMENT.replace(
        "| 2 | `top` | `words`, `store`",
        "| 2 | `top` | `words`, `store`, `gone`",
    );
    assert_eq!(
        problems(&document, &[]),
        ["top does not use gone: take it out of its row"]
    );
}

#[test]
fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
    let document = DOCUMENT.replace("| 0 | `words` |", "| 0 | `terms` |");
    let found = problems(&document, &[]);
    assert!(found.contains(&"words has no row: give it a floor".to_owned()));
    assert!(found.contains(&"terms has a row and is no crate of the house".to_owned()));
    let document = DOCUMENT.replace("| `top` | `clap`", "| `roof` | `clap`");
    assert_eq!(
        problems(&document, &[]),
        ["roof is in \"never\" and has no row"]
    );
}

#[test]
fn what_a_crate_may_never_reach_is_found_over_other_crates() {
    assert_eq!(
        problems(DOCUMENT, &[("words", "clap", None)]),
        ["top must never reach clap, and does: top → words → clap"]
    );
    assert_eq!(problems(DOCUMENT, &[("top", "clap", Some("dev"))]), [""; 0]);
}

#[test]
fn a_crate_of_the_tests_may_be_used_by_tests_only() {
    let found = problems(DOCUMENT, &[("words", "tool", None)]);
    assert!(found.contains(
        &"words uses tool, which only tests may use: make it a dev-dependency".to_owned()
    ));
}

#[test]
fn a_document_without_its_tables_is_refused() {
    for (cut, with) in [
        ("<!-- crates", "<!-- rooms"),
        ("<!-- never", "<!-- seldom"),
        ("<!-- end -->", ""),
        ("| 1 | `store`", "| first | `store`"),
        ("| 1 | `store`", "| 1 | store"),
        ("| 1 | `store`", "| 1 | `top`"),
    ] {
        assert!(
            House::parse(&DOCUMENT.replace(cut, with)).is_err(),
            "{with}"
        );
    }
}
