//! `incremental_bitmap_tool --verify` on recorded links whose rows are Parquet files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use model::{OwnedValue, Value};
use repository::link::{Link, MANIFEST, Manifest};
use rows::{
    parquet::{ParquetFile, ParquetRows, Selection},
    source::{Row as _, RowSource as _},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{Directory, Store as _};
use tempfile::TempDir;

/// A copy of the recorded chain.
struct Chain(TempDir);

impl Chain {
    fn new() -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chain_parquet");
        let dir = tempfile::tempdir().unwrap();
        for link in ["full", "inc"] {
            let (from, to) = (Directory::new(from.join(link)), dir.path().join(link));
            for name in from.names().unwrap() {
                let path = to.join(&name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, from.get(&name).unwrap()).unwrap();
            }
        }
        Self(dir)
    }

    fn link(&self, name: &str) -> Link {
        Link::open(Arc::new(Directory::new(self.0.path().join(name)))).unwrap()
    }

    fn row_files(&self, name: &str) -> Vec<PathBuf> {
        let link = self.link(name);
        let files = link
            .manifest
            .databases
            .iter()
            .flat_map(|database| &database.row_files);
        files
            .map(|rows| self.0.path().join(name).join(&rows.file.path))
            .collect()
    }

    /// Makes another manifest, sealed as if it had been written so.
    fn forge(&self, name: &str, change: impl Fn(&mut Manifest)) {
        let mut manifest = self.link(name).manifest;
        change(&mut manifest);
        let path = self.0.path().join(name).join(MANIFEST);
        fs::write(path, manifest.to_bytes().unwrap()).unwrap();
    }

    /// The exit code and what is printed.
    fn verify(&self, links: &[&str]) -> (i32, String) {
        let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
        command.arg("--verify");
        for link in links {
            command.arg("--backup").arg(self.0.path().join(link));
        }
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), printed)
    }
}

#[test]
fn a_chain_of_row_files_is_intact_and_its_rows_are_counted() {
    let (code, printed) = Chain::new().verify(&["full", "inc"]);
    assert_eq!(code, 0, "{printed}");
    for says in [
        "10 rows read",
        "d2: everything: 7 rows of 4 changed and 0 dropped tables (of 4)",
        "d2: what changed: 2 rows of 2 changed and 1 dropped tables (of 3)",
    ] {
        assert!(printed.contains(says), "{printed}");
    }
}

#[test]
fn row_files_hold_what_sql_showed() {
    let chain = Chain::new();
    let mut found = Vec::new();
    for path in chain.row_files("full") {
        let file = ParquetFile::open(fs::File::open(&path).unwrap(), "rows").unwrap();
        let mut rows = ParquetRows::new(&file, Selection::ALL);
        while let Some(row) = rows.next_row().unwrap() {
            let row = row.into_owned();
            found.push((rows.table().unwrap().to_owned(), row));
        }
    }
    let text = |text: &str| OwnedValue::Bytes(text.as_bytes().to_vec());
    let (int, null) = (OwnedValue::Int, OwnedValue::Null);
    let first = 1_700_000_000_000;
    let row = |table: &str, values: &[OwnedValue]| (table.to_owned(), values.to_vec());
    let mut expected = vec![
        row(
            "c1",
            &[
                int(first),
                int(1),
                text("one"),
                text("1.25"),
                text("\u{4e00}"),
            ],
        ),
        row(
            "c1",
            &[
                int(first + 1_000),
                int(2),
                null.clone(),
                null.clone(),
                null.clone(),
            ],
        ),
        row(
            "c2",
            &[int(first), int(3), text("drei"), text("-0.50"), text("x")],
        ),
        row(
            "c3",
            &[int(first), int(4), text("gone"), text("0"), text("")],
        ),
        row(
            "n",
            &[
                int(first),
                OwnedValue::Double(0.5),
                OwnedValue::Bytes(vec![0, 0xff]),
            ],
        ),
        row("n", &[int(first + 1_000), null.clone(), null.clone()]),
        row(
            "n",
            &[
                int(first + 2_000),
                OwnedValue::Double(2.5),
                OwnedValue::Bytes(vec![1]),
            ],
        ),
    ];
    let key = |(table, row): &(String, Vec<OwnedValue>)| match row[0].as_value() {
        Value::Int(key) => (table.clone(), key),
        other => panic!("{other:?}"),
    };
    found.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(found, expected);
}

#[test]
fn a_flipped_byte_of_a_row_file_is_found() {
    let chain = Chain::new();
    for path in chain.row_files("inc") {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let (code, printed) = chain.verify(&["full", "inc"]);
            assert_eq!(code, 1, "byte {at}: {printed}");
            assert!(printed.contains("SHA-256"), "{printed}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(
            chain.verify(&["full", "inc"]).0,
            1,
            "without {}",
            path.display()
        );
    }
}

#[test]
fn a_manifest_that_says_something_else_than_its_row_files_is_found() {
    type Edit = fn(&mut Manifest);
    let cases: [(Edit, &str); 3] = [
        (
            |manifest| {
                let database = &mut manifest.databases[0];
                database.totals.bytes -= database.row_files.remove(0).file.bytes;
            },
            "the list of changes says",
        ),
        (
            |manifest| {
                for rows in &mut manifest.databases[0].row_files {
                    rows.stable = match rows.stable {
                        Some(_) => None,
                        None => Some("s".to_owned()),
                    };
                }
            },
            "it holds rows of",
        ),
        (
            |manifest| manifest.databases[0].row_files[0].file.path = "../x".to_owned(),
            "outside of the link",
        ),
    ];
    for (edit, says) in cases {
        let chain = Chain::new();
        chain.forge("full", edit);
        let (code, printed) = chain.verify(&["full"]);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains(says), "{says}: {printed}");
    }
}
