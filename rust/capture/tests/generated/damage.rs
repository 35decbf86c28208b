//! Damage to the files of a vnode: noticed, or in a part that no answer came from.

use crate::scanned::{Scanned, scan};
use capture::{ReasonCode, ScanReport, SourceChoice};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tdwriter::{
    Row,
    vnode::{Truth, VnodeBuilder, VnodeConfig},
};

/// Where the scans start: after the first commit.
struct Sample {
    dir: tempfile::TempDir,
    since: i64,
    truth: Truth,
}

/// A small vnode with every kind of file: merged and unmerged rows, deletes in both, and a log with a tail.
fn sample() -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = VnodeBuilder::create(dir.path(), VnodeConfig::default()).unwrap();
    let stb = builder.create_stb("s", None);
    let tables: Vec<i64> = (0..3)
        .map(|i| builder.create_child(&format!("t{i}"), stb))
        .collect();
    let rows = |from: i64, n: i64| -> Vec<Row> {
        (0..n)
            .map(|i| Row::new((from + i) * 1_000, i as i32))
            .collect()
    };
    for table in &tables {
        builder.write(&[(*table, rows(0, 60))]);
    }
    builder.commit().unwrap();
    builder.merge_to_data().unwrap();
    let since = builder.truth().commit_version;
    builder.write(&[(tables[0], rows(50, 20))]);
    builder.delete(tables[1], 5_000, 9_000);
    builder.commit().unwrap();
    builder.merge_to_data().unwrap();
    builder.write(&[(tables[1], rows(30, 5)), (tables[2], rows(100, 7))]);
    builder.delete(tables[2], 1_000, 2_000);
    builder.commit().unwrap();
    builder.write(&[(tables[0], rows(200, 9))]);
    builder.delete(tables[0], 0, 3_000);
    let truth = builder.save().unwrap();
    Sample { dir, since, truth }
}

fn files(dir: &Path, keep: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, keep));
        } else if keep(&path) && fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| wanted.contains(&e))
}

/// Runs `damage` on a copy of every byte position of a file, and `check` on what a scan says then.
fn for_each_damage(
    path: &Path,
    step: usize,
    damage: impl Fn(&[u8], usize) -> Vec<u8>,
    mut check: impl FnMut(usize),
) {
    let good = fs::read(path).unwrap();
    for at in (0..good.len()).step_by(step) {
        fs::write(path, damage(&good, at)).unwrap();
        check(at);
    }
    fs::write(path, good).unwrap();
}

fn flip(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

fn cut(bytes: &[u8], at: usize) -> Vec<u8> {
    bytes[..at].to_vec()
}

/// How closely positions are tried; `DAMAGE_STEP=1` tries every one.
fn step(default: usize) -> usize {
    std::env::var("DAMAGE_STEP")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

#[test]
fn a_flipped_byte_in_a_committed_file_is_an_error_or_was_not_read() {
    let Sample { dir, since, .. } = sample();
    let (good, _) = scan(dir.path(), since, SourceChoice::Tsdb).unwrap();
    let kinds = ["head", "data", "tomb", "stt"];
    let all = files(dir.path(), &|path| has_extension(path, &kinds));
    for kind in kinds {
        assert!(
            all.iter().any(|path| has_extension(path, &[kind])),
            "the sample has a .{kind}"
        );
    }
    let mut noticed = 0;
    for path in all {
        for_each_damage(&path, step(7), flip, |at| {
            match scan(dir.path(), since, SourceChoice::Tsdb) {
                Err(error) => {
                    noticed += 1;
                    assert!(
                        error.to_string().contains(path.to_str().unwrap()),
                        "{error}"
                    );
                }
                Ok((scanned, _)) => assert_eq!(scanned, good, "{} at {at}", path.display()),
            }
        });
    }
    assert!(noticed > 100);
}

#[test]
fn a_committed_file_that_was_cut_is_an_error() {
    let Sample { dir, since, .. } = sample();
    for path in files(dir.path(), &|path| {
        has_extension(path, &["head", "tomb", "stt", "data"])
    }) {
        for_each_damage(&path, step(97), cut, |at| {
            let error = scan(dir.path(), since, SourceChoice::Tsdb)
                .unwrap_err()
                .to_string();
            assert!(error.contains(path.to_str().unwrap()), "{at}: {error}");
        });
    }
}

/// A log that was damaged: nothing is missing up to where the result says it reaches, or it is not complete.
fn check_log(sample: &Sample, source: SourceChoice, place: &str) {
    let (scanned, report): (Scanned, ScanReport) =
        scan(sample.dir.path(), sample.since, source).unwrap();
    let to = report.coverage.to.0;
    let widened = report
        .coverage
        .reasons
        .iter()
        .any(|reason| reason.range.is_some());
    let scanned = scanned.of_existing_tables(&sample.truth);
    for (key, version) in &sample.truth.newest {
        if *version > sample.since && *version <= to && !widened {
            assert_eq!(scanned.rows.get(key), Some(version), "{place}: {key:?}");
        }
    }
    for delete in sample.truth.deletes_since(sample.since) {
        if delete.version <= to && !widened {
            let named = scanned
                .deletes
                .iter()
                .any(|(uid, _, _, by)| (*uid, *by) == (delete.uid, delete.version));
            assert!(named, "{place}: {delete:?}");
        }
    }
    if to < sample.truth.last_version {
        let said = report.coverage.reasons.iter().any(|reason| {
            matches!(
                reason.code,
                ReasonCode::WalCorrupt
                    | ReasonCode::TailNotCovered
                    | ReasonCode::WalPruned
                    | ReasonCode::TablesNotCovered
                    | ReasonCode::WalGap
            )
        });
        let at_a_record = !report
            .coverage
            .reasons
            .iter()
            .any(|reason| reason.code.is_gap());
        assert!(said || at_a_record, "{place}: ends at {to} without a word");
    }
}

#[test]
fn a_flipped_byte_in_the_log_never_hides_a_change() {
    let sample = sample();
    for path in files(sample.dir.path(), &|path| has_extension(path, &["log"])) {
        for_each_damage(&path, step(11), flip, |at| {
            for source in [SourceChoice::Auto, SourceChoice::Wal] {
                let (_, report) = scan(sample.dir.path(), sample.since, source).unwrap();
                check_log(&sample, source, &format!("{} at {at}", path.display()));
                let (good, _) = scan(sample.dir.path(), sample.since, source).unwrap();
                if report.is_complete() && report.coverage.to.0 == sample.truth.last_version {
                    // Not read, then: the byte lies in a segment before the start.
                    assert!(good.rows.len() > 10);
                }
            }
        });
    }
}

#[test]
fn a_log_that_was_cut_never_hides_a_change() {
    let sample = sample();
    for path in files(sample.dir.path(), &|path| has_extension(path, &["log"])) {
        for_each_damage(&path, step(13), cut, |at| {
            for source in [SourceChoice::Auto, SourceChoice::Wal] {
                check_log(&sample, source, &format!("{} cut at {at}", path.display()));
            }
        });
    }
}

#[test]
fn damaged_json_is_an_error_with_the_files_name_or_still_parses() {
    // These two files carry no checksum, so a flip that leaves valid JSON with plausible values can't be told.
    let sample = sample();
    for path in files(sample.dir.path(), &|path| has_extension(path, &["json"])) {
        for_each_damage(&path, step(5), cut, |_| {
            let error = scan(sample.dir.path(), sample.since, SourceChoice::Tsdb)
                .unwrap_err()
                .to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        });
    }
}

#[test]
fn an_encrypted_log_hides_tables_and_makes_its_tail_dirty_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = VnodeConfig {
        wal_encrypted: true,
        ..VnodeConfig::default()
    };
    let mut builder = VnodeBuilder::create(dir.path(), config).unwrap();
    let table = builder.create_normal("t", None);
    builder.write(&[(table, vec![Row::new(1, 1), Row::new(2, 2)])]);
    builder.commit().unwrap();
    builder.save().unwrap();
    let (scanned, report) = scan(dir.path(), -1, SourceChoice::Auto).unwrap();
    assert_eq!(scanned.rows.len(), 2);
    assert!(report.is_complete(), "the committed files have the rows");
    assert!(has(&report, ReasonCode::TablesNotCovered));

    builder.write(&[(table, vec![Row::new(3, 3)])]);
    let truth = builder.save().unwrap();
    let (scanned, report) = scan(dir.path(), -1, SourceChoice::Auto).unwrap();
    assert!(has(&report, ReasonCode::WalEncrypted) && !report.is_complete());
    assert_eq!(scanned.unknown, [table].into());
    assert_eq!(
        report.coverage.to.0, truth.last_version,
        "versions can be read without the key"
    );
}

#[test]
fn a_message_of_unknown_type_makes_the_vgroup_dirty_unless_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = VnodeBuilder::create(dir.path(), VnodeConfig::default()).unwrap();
    let table = builder.create_normal("t", None);
    builder.write(&[(table, vec![Row::new(1, 1)])]);
    builder.raw(777, vec![0; 20]);
    builder.save().unwrap();
    let (_, report) = scan(dir.path(), -1, SourceChoice::Auto).unwrap();
    assert!(has(&report, ReasonCode::WalUnknownMessage) && !report.is_complete());

    builder.commit().unwrap();
    builder.save().unwrap();
    let (_, report) = scan(dir.path(), -1, SourceChoice::Auto).unwrap();
    assert!(
        report.is_complete(),
        "what it did to rows is in the committed files"
    );
    assert!(has(&report, ReasonCode::TablesNotCovered));
}

fn has(report: &ScanReport, code: ReasonCode) -> bool {
    report
        .coverage
        .reasons
        .iter()
        .any(|reason| reason.code == code)
}
