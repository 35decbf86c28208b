//! `incremental_bitmap_tool --diff` on links with known contents, and on pairs of links that are no pair.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use links::{Chain, entry};
use model::Uid;
use repository::{bitmaps::Bitmaps, link::Link};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Directory;

/// The exit code, and what was printed to standard output and error.
fn diff<P: AsRef<Path>>(links: &[P], options: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
    command.arg("--diff");
    for link in links {
        command.arg(link.as_ref());
    }
    let output = command.args(options).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A table's name, its state, and its numbers of new, dirty and deleted blocks.
type Found = (String, String, [u64; 3]);

/// The tables; the exit code; and what is inexact.
fn tables<P: AsRef<Path>>(links: &[P]) -> (Vec<Found>, i32, usize) {
    let (code, json, error) = diff(links, &["--json"]);
    assert_eq!(error, "");
    let json: Value = serde_json::from_str(&json).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let tables = list(&json["databases"])
        .iter()
        .flat_map(|database| list(&database["tables"]))
        .map(|table| {
            let text = |key: &str| table[key].as_str().unwrap_or("-").to_owned();
            let blocks =
                ["new", "dirty", "deleted"].map(|of| table["blocks"][of].as_u64().unwrap());
            (text("name"), text("state"), blocks)
        })
        .collect();
    (tables, code, list(&json["inexact"]).len())
}

fn table(name: &str, state: &str, blocks: [u64; 3]) -> Found {
    (name.to_owned(), state.to_owned(), blocks)
}

fn recorded(link: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(link)
}

#[test]
fn what_the_links_between_change_is_put_together() {
    let chain = Chain::with_bitmaps().unwrap();
    let [full, inc1, inc2] = chain.links();
    let c1 = table("c1", "dirty", [0, 1, 0]);
    let c2 = table("c2", "deleted", [0, 0, 0]);
    let c3 = table("c3", "new", [1, 0, 0]);
    let n = table("n", "dirty", [0, 1, 0]);
    let tags = table("c1", "dirty", [0, 0, 0]);
    assert_eq!(
        tables(&[&full, &inc1]),
        (vec![c1.clone(), c2.clone(), c3.clone()], 0, 0)
    );
    assert_eq!(tables(&[&inc1, &inc2]), (vec![tags, n.clone()], 0, 0));
    assert_eq!(tables(&[&full, &inc2]), (vec![c1, c2, c3, n], 0, 0));
}

#[test]
fn a_recorded_chain_says_what_was_done_between_its_links() {
    let links = [
        recorded("chain_parquet/full"),
        recorded("chain_parquet/inc"),
    ];
    let expected = vec![
        table("c1", "dirty", [0, 2, 0]),
        table("c3", "deleted", [0, 0, 0]),
        table("n", "dirty", [0, 1, 0]),
    ];
    assert_eq!(tables(&links), (expected, 0, 0));
    let (code, text, _) = diff(&links, &[]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    for (line, says) in [
        (0, ": one link"),
        (2, "database d2, precision ms, window 3600000 ms"),
        (4, "2023-11-14T22:00:00Z … 2023-11-15T22:59:59.999Z"),
        (
            7,
            "3 tables differ (0 new, 2 dirty, 1 deleted), in 3 blocks",
        ),
    ] {
        assert!(lines[line].contains(says), "{text}");
    }
}

#[test]
fn no_row_and_nothing_of_the_first_link_but_its_names_is_read() {
    let chain = Chain::with_bitmaps().unwrap();
    let [full, _, inc2] = chain.links();
    for link in ["full", "inc1", "inc2"] {
        for file in chain.files(link).unwrap() {
            let name = file.to_string_lossy().into_owned();
            let read = ["manifest.json", "tables.zst"]
                .iter()
                .any(|end| name.ends_with(end));
            let is_later = link != "full" && name.ends_with("bitmaps");
            if !read && !is_later {
                fs::remove_file(chain.path(link).join(file)).unwrap();
            }
        }
    }
    assert_eq!(tables(&[&full, &inc2]).1, 0);
}

#[test]
fn a_link_without_bitmaps_is_named_and_its_lists_say_what_they_can() {
    let chain = Chain::new().unwrap();
    let [full, inc1, inc2] = chain.links();
    let (found, code, inexact) = tables(&[&full, &inc2]);
    let expected = vec![
        table("c1", "dirty", [0, 1, 0]),
        table("c2", "deleted", [0, 0, 0]),
        table("c3", "new", [0, 0, 0]),
        table("n", "dirty", [0, 1, 0]),
    ];
    // Both links, and that it is not known where the new table has rows.
    assert_eq!((found, code, inexact), (expected, 3, 3));
    let (code, text, _) = diff(&[&full, &inc1], &[]);
    assert_eq!(code, 3);
    assert!(
        text.contains("inc1 is of format 1 and has no bitmaps of database db"),
        "{text}"
    );
}

#[test]
fn links_that_are_no_pair_are_refused_with_what_to_do() {
    let chain = Chain::with_bitmaps().unwrap();
    let other = Chain::with_bitmaps().unwrap();
    let [full, inc1, inc2] = chain.links();
    let copy = chain.path("copy");
    fs::create_dir_all(copy.join("incremental")).unwrap();
    fs::copy(
        full.join("incremental/manifest.json"),
        copy.join("incremental/manifest.json"),
    )
    .unwrap();
    chain
        .forge("inc2", |manifest| manifest.export = true)
        .unwrap();
    let away = other.path("elsewhere/inc1");
    let cases = [
        ([&inc1, &full], 1, "give the older link first"),
        ([&full, &other.links()[1]], 1, "are not of one chain"),
        ([&full, &copy], 1, "are the same link"),
        ([&full, &full], 2, "two different links"),
        ([&full, &inc2], 1, "is an export of blocks"),
        (
            [&full, &chain.path("nothing")],
            1,
            "is no link of a backup chain",
        ),
    ];
    for (links, code, says) in cases {
        let (found, text, error) = diff(&links, &[]);
        assert_eq!((found, text.as_str()), (code, ""), "{error}");
        assert!(error.contains(says), "{says}: {error}");
    }
    assert_eq!(diff(&[&full], &[]).0, 2);
    assert_eq!(diff(&[&full, &inc1, &inc2], &[]).0, 2);
    assert_eq!(diff(&[&full, &inc1], &["--verify"]).0, 2);
    // A link between that lies beside neither has to be given.
    let [full, inc1, inc2] = other.links();
    fs::create_dir_all(away.parent().unwrap()).unwrap();
    fs::rename(&inc1, &away).unwrap();
    let (code, _, error) = diff(&[&full, &inc2], &[]);
    assert_eq!(code, 1);
    assert!(error.contains("which lies beside neither"), "{error}");
    let away = away.to_str().unwrap();
    assert_eq!(diff(&[&full, &inc2], &["--backup", away]).0, 0);
    // Reversed, with a link between.
    let (code, _, error) = diff(&[&inc2, &full], &["--backup", away]);
    assert_eq!(code, 1);
    assert!(error.contains("give the older link first"), "{error}");
}

#[test]
fn damaged_bitmaps_are_an_error_and_no_answer() {
    let chain = Chain::with_bitmaps().unwrap();
    let [full, inc1, _] = chain.links();
    let path = inc1.join("incremental/0.bitmaps");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (code, text, error) = diff(&[&full, &inc1], &[]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(error.contains("0.bitmaps"), "{error}");
    fs::remove_file(&path).unwrap();
    assert_eq!(diff(&[&full, &inc1], &[]).0, 1);
}

#[test]
fn windows_that_are_cut_in_another_way_are_not_compared() {
    let chain = Chain::with_bitmaps().unwrap();
    let [full, inc1, _] = chain.links();
    rewrite(&chain, "inc1", |bitmaps| {
        bitmaps.window = plan::window::WindowWidth::from_ticks(7).unwrap();
    });
    let (code, _, error) = diff(&[&full, &inc1], &[]);
    assert_eq!(code, 1);
    assert!(error.contains("its windows have 7 ticks"), "{error}");
    chain
        .forge("inc1", |manifest| manifest.databases[0].window = 7)
        .unwrap();
    let (code, _, error) = diff(&[&full, &inc1], &[]);
    assert_eq!(code, 1);
    assert!(error.contains("can't be compared"), "{error}");
}

/// Writes other bitmaps into a link, as if they had been written so.
fn rewrite(chain: &Chain, name: &str, change: impl FnOnce(&mut Bitmaps)) {
    let root = chain.path(name);
    let link = Link::open(Arc::new(Directory::new(&root))).unwrap();
    let mut bitmaps = link.bitmaps(&link.manifest.databases[0]).unwrap().unwrap();
    change(&mut bitmaps);
    fs::write(
        root.join("incremental/0.bitmaps"),
        bitmaps.to_bytes().unwrap(),
    )
    .unwrap();
    let new = entry(&root, "incremental/0.bitmaps").unwrap();
    chain
        .forge(name, |manifest| manifest.databases[0].bitmaps = Some(new))
        .unwrap();
}

#[test]
fn verify_finds_bitmaps_that_say_something_else_than_the_lists() {
    let verify = |chain: &Chain| {
        let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
        command
            .arg("--verify")
            .arg("--backup")
            .arg(chain.path("full"));
        command.arg("--backup").arg(chain.path("inc1"));
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), printed)
    };
    assert_eq!(verify(&Chain::with_bitmaps().unwrap()).0, 0);
    type Change = fn(&mut Bitmaps);
    let cases: [(Change, &str); 3] = [
        (
            |bitmaps| drop(bitmaps.tables.remove(&Uid(1))),
            "\"c1\" is changed, and missing there",
        ),
        (
            |bitmaps| {
                let dropped = bitmaps.tables.remove(&Uid(2)).unwrap();
                bitmaps.tables.insert(Uid(9), dropped);
            },
            "the table with uid 9 is DELETED there",
        ),
        (
            |bitmaps| {
                let table = bitmaps.tables[&Uid(1)].clone();
                bitmaps.tables.insert(Uid(77), table);
            },
            "the table with uid 77 is DIRTY there",
        ),
    ];
    for (change, says) in cases {
        let chain = Chain::with_bitmaps().unwrap();
        rewrite(&chain, "inc1", change);
        let (code, printed) = verify(&chain);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains(says), "{says}: {printed}");
    }
}

#[test]
fn files_with_rows_of_many_tables_without_bitmaps_are_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let from = Directory::new(recorded("chain_parquet/full"));
    let mut manifest = Link::open(Arc::new(from)).unwrap().manifest;
    manifest.databases[0].bitmaps = None;
    fs::create_dir(dir.path().join("incremental")).unwrap();
    let path = dir.path().join("incremental/manifest.json");
    fs::write(path, manifest.to_bytes().unwrap()).unwrap();
    let error = Link::open(Arc::new(Directory::new(dir.path()))).unwrap_err();
    assert!(error.to_string().contains("and no bitmaps"), "{error}");
}
