//! `incremental_bitmap_tool --verify` on links with known contents, whole, damaged and mixed up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use links::{Chain, entry, rows};
use model::Version;
use predicates::prelude::*;
use serde_json::Value;
use std::sync::Arc;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use store::Directory;

fn verify<P: AsRef<Path>>(links: &[P]) -> Command {
    let mut command = Command::cargo_bin("incremental_bitmap_tool").unwrap();
    command.arg("--verify");
    for link in links {
        command.arg("--backup").arg(link.as_ref());
    }
    command
}

/// The exit code, the report, and the codes of its problems.
fn report(command: &mut Command) -> (i32, Value, Vec<String>) {
    let output = command.arg("--json").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let codes = report["problems"].as_array().unwrap().iter();
    let codes = codes.map(|p| p["code"].as_str().unwrap().to_owned());
    (
        output.status.code().unwrap(),
        report.clone(),
        codes.collect(),
    )
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_chain_is_intact_and_its_rows_are_counted() {
    let chain = Chain::new().unwrap();
    verify(&chain.links())
        .assert()
        .code(0)
        .stderr("")
        .stdout(predicate::str::contains("intact: everything"))
        .stdout(predicate::str::contains(
            "db: everything: 300 rows of 3 changed and 0 dropped tables (of 3)",
        ));
    let (code, report, codes) = report(&mut verify(&chain.links()));
    assert_eq!((code, codes), (0, vec![]));
    assert_eq!(report["result"], "intact");
    let read = |link: usize| report["links"][link]["rows"].as_u64().unwrap();
    // Rows and tags: 300 + 2, 20 + 1, 3 + 1.
    assert_eq!([read(0), read(1), read(2)], [302, 21, 4]);
    for (number, name) in ["full", "inc1", "inc2"].into_iter().enumerate() {
        let files = chain.files(name).unwrap().len() as u64;
        let link = &report["links"][number];
        assert_eq!(link["files"], files - 1, "{name}: all but the manifest");
    }
    assert_eq!(report["notes"], serde_json::json!([]));
}

#[test]
fn a_single_later_link_is_intact_and_says_what_it_follows() {
    let chain = Chain::new().unwrap();
    verify(&[chain.path("inc1")])
        .assert()
        .code(0)
        .stdout(predicate::str::contains("which was not given"));
}

#[test]
fn a_flipped_byte_in_any_file_is_found_and_the_file_named() {
    let chain = Chain::new().unwrap();
    for name in ["full", "inc1", "inc2"] {
        for file in chain.files(name).unwrap() {
            let path = chain.path(name).join(&file);
            let good = fs::read(&path).unwrap();
            for at in [0, good.len() / 2, good.len() - 1] {
                flip(&path, at);
                let (code, report, codes) = report(&mut verify(&chain.links()));
                assert_eq!(code, 1, "{}", path.display());
                assert_eq!(report["result"], "failed");
                let kind = match file.ends_with("manifest.json") {
                    true => "manifest_damaged",
                    false => "file_damaged",
                };
                assert_eq!(codes[0], kind, "{}: {report}", path.display());
                assert_eq!(report["problems"][0]["file"], file.to_str().unwrap());
                assert_eq!(
                    report["problems"][0]["link"],
                    chain.path(name).to_str().unwrap()
                );
                fs::write(&path, &good).unwrap();
            }
        }
    }
    assert_eq!(report(&mut verify(&chain.links())).0, 0);
}

#[test]
fn a_file_cut_at_any_place_is_found() {
    let chain = Chain::new().unwrap();
    for file in chain.files("inc2").unwrap() {
        let path = chain.path("inc2").join(&file);
        let good = fs::read(&path).unwrap();
        for length in [0, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            let (code, _, codes) = report(&mut verify(&[chain.path("inc2")]));
            assert_eq!(code, 1, "{} cut at {length}", path.display());
            assert!(
                codes[0] == "file_damaged" || codes[0] == "manifest_damaged",
                "{codes:?}"
            );
        }
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn a_missing_file_is_found_whatever_its_kind() {
    let chain = Chain::new().unwrap();
    for file in chain.files("inc1").unwrap() {
        let path = chain.path("inc1").join(&file);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (code, _, codes) = report(&mut verify(&chain.links()));
        let kind = match file.ends_with("manifest.json") {
            true => "not_a_link",
            false => "file_missing",
        };
        assert_eq!((code, codes[0].as_str()), (1, kind), "{}", path.display());
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn all_problems_are_named_not_only_the_first() {
    let chain = Chain::new().unwrap();
    for file in ["dbs.sql", "taosdump.1/data0-1/db.c1.0.avro"] {
        flip(&chain.path("full").join(file), 3);
        fs::remove_file(chain.path("inc1").join(file)).unwrap();
    }
    let (code, _, codes) = report(&mut verify(&chain.links()));
    let expected = [
        "file_damaged",
        "file_damaged",
        "file_missing",
        "file_missing",
    ];
    assert_eq!((code, codes), (1, expected.map(String::from).to_vec()));
}

#[test]
fn links_that_do_not_follow_each_other_are_refused() {
    let chain = Chain::new().unwrap();
    let other = Chain::new().unwrap();
    let [full, inc1, inc2] = chain.links();
    let mixed = [other.path("full"), inc1.clone()];
    let orders: [(&str, &[PathBuf]); 5] = [
        ("a link is missing", &[full.clone(), inc2.clone()]),
        ("the wrong way round", &[inc1.clone(), full.clone()]),
        ("the last two swapped", &[full.clone(), inc2, inc1.clone()]),
        ("two first links", &[full.clone(), other.path("full")]),
        ("a parent of another chain", &mixed),
    ];
    for (what, links) in orders {
        let (code, report, codes) = report(&mut verify(links));
        assert_eq!(code, 1, "{what}");
        assert!(
            codes.contains(&"wrong_order".to_owned()),
            "{what}: {report}"
        );
    }
}

#[test]
fn a_parent_that_was_replaced_under_the_same_id_is_found() {
    let chain = Chain::new().unwrap();
    chain
        .forge("full", |manifest| manifest.server = "another".to_owned())
        .unwrap();
    let (code, _, codes) = report(&mut verify(&chain.links()));
    assert_eq!((code, codes), (1, vec!["parent_changed".to_owned()]));
}

/// Changes a link so that its manifest fits its files, but something in it is wrong.
fn forged(change: impl FnOnce(&Chain)) -> Vec<String> {
    let chain = Chain::new().unwrap();
    change(&chain);
    let (code, _, codes) = report(&mut verify(&[chain.path("full"), chain.path("inc1")]));
    assert_eq!(code, 1, "{codes:?}");
    codes
}

#[test]
fn versions_that_are_in_no_link_are_a_gap() {
    let codes = forged(|chain| {
        chain
            .forge("inc1", |manifest| {
                manifest.databases[0].vgroups[0].from = Version(11);
            })
            .unwrap();
    });
    assert_eq!(codes, ["gap"]);
}

#[test]
fn counts_that_do_not_fit_are_found() {
    let codes = forged(|chain| {
        chain
            .forge("inc1", |manifest| manifest.databases[0].totals.rows += 1)
            .unwrap();
    });
    assert_eq!(codes, ["contradiction"]);
}

#[test]
fn a_checkpoint_of_another_version_is_found() {
    let codes = forged(|chain| {
        chain
            .forge("inc1", |manifest| {
                manifest.databases[0].vgroups[0].to = Version(21);
            })
            .unwrap();
    });
    assert_eq!(codes, ["contradiction"]);
}

#[test]
fn rows_of_another_table_or_another_count_are_found_in_files_with_the_right_checksum() {
    let c1 = "taosdump.1/data0-1/db.c1.0.avro";
    for (other, rows, expected) in [
        ("taosdump.1/data0-1/db.c2.0.avro", 100, "content_differs"),
        ("taosdump.1/data0-1/db.c1.0.avro", 99, "content_differs"),
        ("taosdump.1/dbs.sql", 100, "content_unreadable"),
    ] {
        let chain = Chain::new().unwrap();
        let root = chain.path("full");
        let bytes = fs::read(root.join(other)).unwrap();
        fs::write(root.join(c1), bytes).unwrap();
        let mut file = entry(&root, c1).unwrap();
        file.rows = rows;
        replace_change_list(&chain, &file);
        let (code, report, codes) = report(&mut verify(&[root]));
        assert_eq!(code, 1);
        assert!(codes.contains(&expected.to_owned()), "{other}: {report}");
    }
}

/// Writes the full link's list of changes anew, with another file for `c1`.
fn replace_change_list(chain: &Chain, file: &store::FileEntry) {
    let root = chain.path("full");
    let link = repository::link::Link::open(Arc::new(Directory::new(&root))).unwrap();
    let name = "incremental/1.changes.zst";
    let mut list =
        repository::link::ListWriter::create(&Directory::new(&root), name.to_owned()).unwrap();
    link.changes(&link.manifest.databases[0], &mut |mut change| {
        if change.name == "c1" {
            change.file = Some(file.clone());
        }
        list.add(&change)
    })
    .unwrap();
    let list = list.finish().unwrap();
    chain
        .forge("full", |manifest| {
            manifest.databases[0].changes = list;
        })
        .unwrap();
}

/// Writes the full link's list of changes anew, as `edit` makes it, with the sums that fit it.
fn edit_changes(chain: &Chain, edit: impl FnOnce(&mut Vec<repository::link::TableChange>)) {
    let root = chain.path("full");
    let link = repository::link::Link::open(Arc::new(Directory::new(&root))).unwrap();
    let mut changes = Vec::new();
    link.changes(&link.manifest.databases[0], &mut |change| {
        changes.push(change);
        Ok(())
    })
    .unwrap();
    edit(&mut changes);
    let name = "incremental/1.changes.zst";
    let mut list =
        repository::link::ListWriter::create(&Directory::new(&root), name.to_owned()).unwrap();
    for change in &changes {
        list.add(change).unwrap();
    }
    let list = list.finish().unwrap();
    chain
        .forge("full", |manifest| {
            let database = &mut manifest.databases[0];
            database.totals.tables_changed = changes.len() as u64;
            let files = || changes.iter().filter_map(|change| change.file.as_ref());
            database.totals.rows = files().map(|file| file.rows).sum();
            database.totals.bytes = files().map(|file| file.bytes).sum();
            database.changes = list;
        })
        .unwrap();
}

#[test]
fn changes_that_a_restore_would_leave_out_or_do_twice_are_found() {
    let verified = |edit: fn(&mut Vec<repository::link::TableChange>)| {
        let chain = Chain::new().unwrap();
        edit_changes(&chain, edit);
        report(&mut verify(&[chain.path("full")]))
    };
    let (code, report, _) = verified(|_| ());
    assert_eq!(code, 0, "{report}");
    for (edit, says) in [
        (
            (|changes| {
                let mut again = changes[0].clone();
                again.file = None;
                changes.push(again);
            }) as fn(&mut Vec<repository::link::TableChange>),
            "twice",
        ),
        (
            |changes| {
                let mut unlisted = changes[2].clone();
                unlisted.name = "unlisted".to_owned();
                unlisted.file = None;
                changes.push(unlisted);
            },
            "not listed",
        ),
        (|changes| drop(changes.remove(1)), "not created"),
        // It has one tag.
        (
            |changes| {
                let child = changes.iter_mut().find(|change| change.name == "c1");
                let child = child.unwrap();
                (child.set_tags, child.kept_tags) = (true, 1);
            },
            "all of them kept",
        ),
    ] {
        let (code, report, codes) = verified(edit);
        assert_eq!(
            (code, codes),
            (1, vec!["contradiction".to_owned()]),
            "{says}"
        );
        assert!(report.to_string().contains(says), "{report}");
    }
}

#[test]
fn a_child_whose_tags_are_in_no_file_is_found() {
    // A restore would not create it.
    for keep_file in [true, false] {
        let chain = Chain::new().unwrap();
        let root = chain.path("full");
        chain
            .forge("full", |manifest| {
                let files = &mut manifest.databases[0].tag_files;
                if !keep_file {
                    files.clear();
                    return;
                }
                let types = vec![model::DataType::Int];
                let layout = rows::avro::Layout::tags("db", types, Default::default()).unwrap();
                let name = "taosdump.1/db.2.avro-tbtags";
                let mut writer = rows::avro::FileWriter::create(
                    &Directory::new(&root),
                    name,
                    &layout,
                    rows::avro::Compression::Null,
                )
                .unwrap();
                writer
                    .append(&["s", "c1"], &|_| model::Value::Int(1))
                    .unwrap();
                files[0].file = writer.finish().unwrap();
            })
            .unwrap();
        let (code, report, _) = report(&mut verify(&[root]));
        assert_eq!(code, 1, "{report}");
        assert!(report.to_string().contains("are in no file"), "{report}");
    }
}

#[test]
fn a_manifest_that_names_a_file_outside_of_the_link_is_refused() {
    for path in ["../x", "/etc/passwd", "a/../../b"] {
        let chain = Chain::new().unwrap();
        chain
            .forge("full", |manifest| {
                manifest.files[0].path = path.to_owned();
            })
            .unwrap();
        let (code, _, codes) = report(&mut verify(&[chain.path("full")]));
        assert_eq!((code, codes), (1, vec!["manifest_damaged".to_owned()]));
    }
}

#[test]
fn files_of_a_newer_format_are_named_as_such() {
    let chain = Chain::new().unwrap();
    chain.forge("full", |manifest| manifest.format = 3).unwrap();
    let blocks = chain.path("blocks.json");
    let newer = serde_json::json!({"format": 2, "vgroups": "of another kind"});
    fs::write(&blocks, model::sealed::seal(&newer).unwrap()).unwrap();
    let mut command = verify(&[chain.path("full")]);
    let (code, report, codes) = report(command.arg("--blocks").arg(blocks));
    assert_eq!((code, codes), (1, vec!["newer_format".to_owned(); 2]));
    let text = report.to_string();
    assert_eq!(text.matches("use that one").count(), 2, "{report}");
    assert!(!text.contains("damaged"), "{report}");
}

#[test]
fn a_manifest_with_two_databases_of_one_name_is_refused() {
    // A restore would take the first one only.
    let chain = Chain::new().unwrap();
    chain
        .forge("full", |manifest| {
            let again = manifest.databases[0].clone();
            manifest.databases.push(again);
        })
        .unwrap();
    let (code, report, codes) = report(&mut verify(&[chain.path("full")]));
    assert_eq!(
        (code, codes),
        (1, vec!["manifest_damaged".to_owned()]),
        "{report}"
    );
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let chain = Chain::new().unwrap();
    for file in ["taosdump.1/dbs.sql", "incremental/manifest.json"] {
        let path = chain.path("full").join(file);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        verify(&[chain.path("full")])
            .timeout(std::time::Duration::from_secs(30))
            .assert()
            .code(1)
            .stdout(predicate::str::contains("no file"));
    }
}

#[test]
fn what_the_dump_left_out_makes_it_incomplete() {
    let chain = Chain::new().unwrap();
    chain
        .forge("inc2", |manifest| {
            manifest.failures.push("table `db`.`x`: no".to_owned());
        })
        .unwrap();
    verify(&chain.links())
        .assert()
        .code(3)
        .stdout(predicate::str::contains("table `db`.`x`: no"))
        .stdout(predicate::str::contains("INCOMPLETE"));
    let (_, report, codes) = report(&mut verify(&chain.links()));
    assert_eq!(codes, ["dump_incomplete"]);
    assert_eq!(report["result"], "incomplete");
}

#[test]
fn a_file_that_does_not_belong_there_is_noted() {
    let chain = Chain::new().unwrap();
    fs::write(chain.path("full").join("taosdump.1/x.avro"), "x").unwrap();
    verify(&[chain.path("full")])
        .assert()
        .code(0)
        .stdout(predicate::str::contains("taosdump.1/x.avro"));
}

#[test]
fn blocks_are_looked_for_in_the_links() {
    let chain = Chain::new().unwrap();
    let run = |links: &[PathBuf], blocks: &Path| report(verify(links).arg("--blocks").arg(blocks));
    let blocks = chain.blocks(30, 59).unwrap();
    let (code, held, codes) = run(&chain.links(), &blocks);
    assert_eq!((code, codes), (0, vec![]));
    assert_eq!(held["blocks"]["tables"], 3);
    assert_eq!(held["blocks"]["tables_covered"], 3);

    // The two later links alone hold all that changed since version 10.
    let (code, ..) = run(&[chain.path("inc1"), chain.path("inc2")], &blocks);
    assert_eq!(code, 0);

    // The last one alone does not hold the rows of c1.
    let (code, held, codes) = run(&[chain.path("inc2")], &blocks);
    assert_eq!((code, codes), (1, vec!["not_covered".to_owned()]));
    let text = held["problems"][0]["text"].as_str().unwrap();
    let span = rows(50, 59);
    assert!(
        text.contains(&format!("{} to {}", span.first, span.last)),
        "{text}"
    );

    // The first two end before the deletes of n: neither the version nor the deletes are in them.
    let (code, _, codes) = run(&[chain.path("full"), chain.path("inc1")], &blocks);
    assert_eq!((code, codes), (1, vec!["not_covered".to_owned(); 2]));

    // A row that no link holds, and a version that none reaches.
    let (code, _, codes) = run(
        &[chain.path("inc1"), chain.path("inc2")],
        &chain.blocks(30, 60).unwrap(),
    );
    assert_eq!((code, codes), (1, vec!["not_covered".to_owned()]));
    let (code, _, codes) = run(&chain.links(), &chain.blocks(31, 59).unwrap());
    assert_eq!((code, codes), (1, vec!["not_covered".to_owned()]));

    // The first link holds every row of c1, but as it was at version 10.
    let (code, _, codes) = run(&chain.links(), &chain.blocks(30, 60).unwrap());
    assert_eq!((code, codes), (1, vec!["not_covered".to_owned()]));

    // A list that was damaged.
    let blocks = chain.blocks(30, 59).unwrap();
    flip(&blocks, 30);
    let (code, _, codes) = run(&chain.links(), &blocks);
    assert_eq!((code, codes), (1, vec!["blocks_unusable".to_owned()]));
}

#[test]
fn the_report_follows_the_published_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify-report.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let chain = Chain::new().unwrap();
    let blocks = chain.blocks(30, 59).unwrap();
    let good = report(verify(&chain.links()).arg("--blocks").arg(&blocks)).1;
    flip(&chain.path("full/incremental/0.tables.zst"), 9);
    fs::remove_file(chain.path("inc1/incremental/manifest.json")).unwrap();
    let bad = report(verify(&chain.links()).arg("--blocks").arg(&blocks)).1;
    for report in [good, bad] {
        let wrong: Vec<_> = schema.iter_errors(&report).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?} in {report}");
    }
    assert!(!schema.is_valid(&serde_json::json!({"format": 1})));
}

#[test]
fn the_report_is_written_whole_and_a_failure_to_write_it_is_one() {
    let chain = Chain::new().unwrap();
    let path = chain.path("report.json");
    verify(&chain.links())
        .arg("--report")
        .arg(&path)
        .assert()
        .code(0);
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(written["result"], "intact");
    assert!(written["checksum"].as_str().unwrap().starts_with("crc32c:"));
    verify(&chain.links())
        .args(["--report", "/nonexistent/report.json"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("/nonexistent/report.json"));
}

#[test]
fn a_directory_that_can_not_be_read_is_named() {
    if fs::read("/etc/shadow").is_ok() {
        println!("skipped: this user reads everything");
        return;
    }
    let chain = Chain::new().unwrap();
    let dir = chain.path("full/taosdump.1");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o000)).unwrap();
    let (code, _, codes) = report(&mut verify(&[chain.path("full")]));
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(code, 1);
    assert!(codes.contains(&"file_unreadable".to_owned()), "{codes:?}");
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    for (arguments, says) in [
        (&["--verify"][..], "--backup"),
        (&["--verify", "--detect"], "cannot be used with"),
        (&["--verify", "--backup", "a", "--backup", "a"], "twice"),
        (
            &[
                "--verify", "--backup", "a", "--blocks", "b", "--report", "b",
            ],
            "same file",
        ),
        (&["--verify", "--backup", "a", "--threads", "0"], "1..=1024"),
        (&[], "--detect|--export|--verify"),
    ] {
        Command::cargo_bin("incremental_bitmap_tool")
            .unwrap()
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(predicate::str::contains(says));
    }
}

/// A copy of recorded files that a test may damage.
fn copy(name: &str) -> tempfile::TempDir {
    fn copy_tree(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy_tree(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&recorded::data_dir(name), dir.path());
    dir
}

#[test]
fn a_chain_that_a_real_dump_made_is_intact() {
    let dir = copy("chain");
    let links = [dir.path().join("full"), dir.path().join("inc")];
    let (code, report, codes) = report(&mut verify(&links));
    assert_eq!((code, codes), (0, vec![]));
    // 7 rows and 2 tag records; 1 and 1.
    assert_eq!(report["links"][0]["rows"], 9);
    assert_eq!(report["links"][1]["rows"], 2);
}

#[test]
fn a_dump_of_an_unpatched_taosdump_is_decoded_and_blocks_are_looked_for_in_it() {
    let dir = copy("stock_dump");
    let (dump, blocks) = (dir.path().join("dump"), dir.path().join("blocks.json"));
    let run = || report(verify(&[&dump]).arg("--blocks").arg(&blocks));
    let (code, good, codes) = run();
    assert_eq!((code, codes), (0, vec![]));
    assert_eq!(good["links"][0]["kind"], "taosdump");
    assert_eq!(
        good["links"][0]["rows"], 10,
        "6 rows, 3 children, 1 normal table"
    );
    assert_eq!(good["blocks"]["tables_covered"], 3);

    let data = dump.join("taosdump.3590539759447");
    for lost in [
        "data0-73/d1.3590539759459.1.avro",
        "data0-0/d1.3590539759502.0.avro",
    ] {
        let good = fs::read(data.join(lost)).unwrap();
        fs::remove_file(data.join(lost)).unwrap();
        let (code, report, codes) = run();
        if lost.contains("data0-0") {
            assert_eq!(
                (code, codes),
                (1, vec!["not_covered".to_owned()]),
                "{report}"
            );
        }
        let mut cut = good.clone();
        cut.truncate(good.len() - 5);
        fs::write(data.join(lost), cut).unwrap();
        let (code, report, codes) = run();
        assert_eq!(code, 1, "{report}");
        assert!(codes.contains(&"content_unreadable".to_owned()), "{report}");
        fs::write(data.join(lost), good).unwrap();
    }
    let tags = data.join("d1.73.avro-tbtags");
    let good = fs::read(&tags).unwrap();
    fs::remove_file(&tags).unwrap();
    let (code, _, codes) = run();
    assert_eq!(
        (code, codes),
        (1, vec!["not_covered".to_owned(), "not_covered".to_owned()]),
        "the children are not there"
    );
    fs::write(&tags, good).unwrap();
    assert_eq!(run().0, 0);

    // A list of another database, and a link's list with a drop and a delete.
    let chain = Chain::new().unwrap();
    let other = chain.blocks(30, 59).unwrap();
    let (code, report, _) = report(verify(&[&dump]).arg("--blocks").arg(&other));
    assert_eq!(code, 1);
    let text = report.to_string();
    assert!(
        text.contains("holds no database") && text.contains("was dropped"),
        "{text}"
    );
}

#[test]
fn a_link_without_its_manifest_is_no_dump_of_an_unpatched_taosdump() {
    // So it is when the manifest is lost, or the dump was killed while it moved its files to their place.
    for partial in [false, true] {
        let dir = copy("chain");
        let link = dir.path().join("full");
        fs::remove_file(link.join("incremental/manifest.json")).unwrap();
        if partial {
            fs::create_dir(link.join(".partial-1")).unwrap();
            fs::rename(
                link.join("incremental"),
                link.join(".partial-1/incremental"),
            )
            .unwrap();
        }
        let (code, report, codes) = report(&mut verify(&[link]));
        assert_eq!(
            (code, codes),
            (1, vec!["not_a_link".to_owned()]),
            "{report}"
        );
    }
}

#[test]
fn a_dump_that_lacks_a_database_it_names_is_refused() {
    let dir = copy("stock_dump");
    let dump = dir.path().join("dump");
    let (main, own) = (
        dump.join("dbs.sql"),
        dump.join("taosdump.3590539759447/dbs.sql"),
    );
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, format!("{text}#!dumpdb: d2: \n")).unwrap();
    let (code, found, codes) = report(&mut verify(&[&dump]));
    assert_eq!((code, codes), (1, vec!["file_unreadable".to_owned()]));
    assert!(found.to_string().contains("d2"));
    fs::write(&main, text).unwrap();
    assert_eq!(report(&mut verify(&[&dump])).0, 0);
    fs::remove_file(own).unwrap();
    assert_eq!(report(&mut verify(&[&dump])).0, 1);
}
