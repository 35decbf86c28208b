//! What the recorded vnodes say, by every way of asking.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bitmap::BlockState;
use capture::{ReasonCode, SourceChoice};
use model::{Version, VgId};
use plan::{
    checkpoint::Checkpoint,
    detect::{self, Detection, Request, Since},
    report,
};
use recorded::{BASE, Truth, check_every_checksum, data_dir, find, live_keys, vnodes};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn request(dir: PathBuf, since: Since, source: SourceChoice) -> Request {
    Request {
        data_dirs: vec![dir],
        database: None,
        vgroup: None,
        since,
        source,
        window: None,
    }
}

fn detect(state: &str, source: SourceChoice) -> Detection {
    let since = Since::Version(BASE);
    detect::run(&request(data_dir(state), since, source), &()).unwrap()
}

#[test]
fn every_checksum_of_the_six_vnodes_is_valid() {
    for (state, records) in [
        ("base", 26 + 26),
        ("incr_wal", 40 + 39),
        ("incr_flushed", 42 + 41),
    ] {
        let (pages, found) = check_every_checksum(&data_dir(state)).unwrap();
        assert_eq!(found, records, "{state}");
        assert!(pages >= 2 * 186, "{state}: {pages} pages");
    }
}

#[test]
fn every_cell_in_the_committed_files_is_what_sql_showed() {
    for (state, truth) in [("base", "base"), ("incr_flushed", "incr")] {
        let cells = recorded::live_cells(&data_dir(state)).unwrap();
        are_those_of_sql(state, &cells, truth);
    }
}

#[test]
fn every_cell_in_files_and_log_together_is_what_sql_showed() {
    for (state, truth) in [
        ("base", "base"),
        ("incr_wal", "incr"),
        ("incr_flushed", "incr"),
    ] {
        let cells = recorded::live_cells_with_log(&data_dir(state)).unwrap();
        are_those_of_sql(state, &cells, truth);
    }
}

#[test]
fn the_log_alone_has_the_same_cells_as_the_files_that_were_made_of_it() {
    for state in ["base", "incr_wal", "incr_flushed"] {
        let dir = copied(state);
        for vnode in ["vnode2", "vnode3"] {
            let vnode = dir.path().join("vnode").join(vnode);
            let json = vnode.join("vnode.json");
            let text = std::fs::read_to_string(&json).unwrap();
            let at = text.find("\"commit version\"").unwrap();
            let end = at + text[at..].find(',').unwrap();
            let nothing = "\"commit version\": \"-1\"";
            std::fs::write(&json, text.replace(&text[at..end], nothing)).unwrap();
            let current = vnode.join("tsdb/current.json");
            let none = r#"{"fmtv":1,"fset":[]}"#;
            std::fs::write(current, none).unwrap();
        }
        let truth = if state == "base" { "base" } else { "incr" };
        let cells = recorded::live_cells_with_log(dir.path()).unwrap();
        are_those_of_sql(state, &cells, truth);
    }
}

fn are_those_of_sql(state: &str, cells: &recorded::Cells, truth: &str) {
    let truth = Truth::load(truth).unwrap();
    assert_eq!(cells.len(), truth.cells.len(), "{state}");
    for (uid, rows) in &truth.cells {
        for (key, row) in rows {
            let found = cells[uid].get(key).map(|found| &found[..row.len()]);
            assert_eq!(
                found,
                Some(row.as_slice()),
                "{state}: table {uid}, key {key}"
            );
        }
        assert_eq!(cells[uid].len(), rows.len(), "{state}: table {uid}");
    }
}

#[test]
fn files_and_log_name_the_same_rows_and_deletes() {
    let files = vnodes(&data_dir("incr_flushed")).unwrap();
    let log = vnodes(&data_dir("incr_wal")).unwrap();
    for ((files, log), (rows, deletes)) in files.iter().zip(&log).zip([(793, 1), (1_017, 0)]) {
        let by_files = find(files, BASE, SourceChoice::Tsdb).unwrap();
        let by_log = find(log, BASE, SourceChoice::Wal).unwrap();
        assert_eq!(by_files.rows, by_log.rows);
        assert_eq!(by_files.deletes, by_log.deletes);
        assert_eq!(
            (by_files.rows.len(), by_files.deletes.len()),
            (rows, deletes)
        );
    }
}

#[test]
fn the_log_kept_after_a_flush_still_names_the_same_rows() {
    for vnode in vnodes(&data_dir("incr_flushed")).unwrap() {
        let by_files = find(&vnode, BASE, SourceChoice::Tsdb).unwrap();
        let by_log = find(&vnode, BASE, SourceChoice::Wal).unwrap();
        assert_eq!(by_files.rows, by_log.rows);
        assert_eq!(by_files.deletes, by_log.deletes);
    }
}

#[test]
fn live_keys_rebuilt_from_files_are_what_sql_found() {
    let base = Truth::load("base").unwrap();
    assert_eq!((base.keys.len(), base.rows()), (20, 100_000));
    assert!(live_keys(&data_dir("base")).unwrap() == base.keys);

    let incr = Truth::load("incr").unwrap();
    assert_eq!((incr.keys.len(), incr.rows()), (21, 95_610));
    assert!(live_keys(&data_dir("incr_flushed")).unwrap() == incr.keys);
}

/// The state of `incr_flushed`, as the commit that led to it from `base` leaves the directory when the server is killed before
/// the last rename.
fn cut_off() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let after = data_dir("incr_flushed");
    for entry in walkdir(&after) {
        let to = dir.path().join(entry.strip_prefix(&after).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&entry, to).unwrap();
    }
    for vnode in ["vnode2", "vnode3"] {
        let tsdb = Path::new("vnode").join(vnode).join("tsdb");
        let current = dir.path().join(&tsdb).join("current.json");
        fs::rename(&current, current.with_file_name("current.c.json")).unwrap();
        fs::copy(data_dir("base").join(&tsdb).join("current.json"), current).unwrap();
    }
    dir
}

fn walkdir(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(walkdir(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn a_commit_that_a_killed_server_left_half_done_is_read_as_done() {
    let dir = cut_off();
    let committed = || recorded::live_cells(dir.path()).unwrap();
    assert!(committed() == recorded::live_cells(&data_dir("incr_flushed")).unwrap());

    // The rename of vnode.json had not come yet: the server takes such a commit back.
    for vnode in ["vnode2", "vnode3"] {
        let vnode = Path::new("vnode").join(vnode);
        let here = dir.path().join(&vnode);
        let config = here.join("vnode.json");
        fs::rename(&config, here.join("vnode_tmp.json")).unwrap();
        fs::copy(data_dir("base").join(&vnode).join("vnode.json"), config).unwrap();
    }
    assert!(committed() == recorded::live_cells(&data_dir("incr_wal")).unwrap());
}

#[test]
fn a_commit_that_a_server_is_ending_is_not_read() {
    let dir = cut_off();
    let lock = fs::File::create(dir.path().join(".running")).unwrap();
    lock.lock().unwrap();
    let error = live_keys(dir.path()).unwrap_err().to_string();
    assert!(error.contains("current.c.json"), "{error}");
}

#[test]
fn every_key_that_sql_sees_differently_lies_in_a_span_or_a_delete() {
    let (base, incr) = (Truth::load("base").unwrap(), Truth::load("incr").unwrap());
    let plan = detect("incr_flushed", SourceChoice::Auto).plan;
    let empty = BTreeSet::new();
    let uids: BTreeSet<_> = base.keys.keys().chain(incr.keys.keys()).collect();
    for uid in uids {
        let (before, after) = (base.keys.get(uid), incr.keys.get(uid));
        let changed: BTreeSet<_> = before
            .unwrap_or(&empty)
            .symmetric_difference(after.unwrap_or(&empty))
            .collect();
        let table = plan.tables.iter().find(|table| table.table.uid == *uid);
        for key in &changed {
            let table = table.unwrap_or_else(|| panic!("{uid} changed and is not in the plan"));
            let deletes = table.deletes.iter().map(|(span, _)| span);
            let named = table
                .spans
                .iter()
                .chain(deletes)
                .any(|span| span.first <= **key && **key <= span.last);
            let dropped = table.state == BlockState::Deleted;
            assert!(named || dropped, "{uid} {key}");
        }
    }
}

#[test]
fn both_sources_give_the_same_plan() {
    let by_files = detect("incr_flushed", SourceChoice::Tsdb).plan;
    let by_log = detect("incr_wal", SourceChoice::Wal).plan;
    let spans = |plan: &plan::Plan| {
        plan.tables
            .iter()
            .filter(|table| table.state != BlockState::Deleted)
            .map(|table| {
                (
                    table.table,
                    table.rows,
                    table.spans.clone(),
                    table.deletes.clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(spans(&by_files), spans(&by_log));
    assert_eq!((by_files.rows(), by_log.rows()), (1_810, 1_810));
    let states = |state| {
        by_log
            .tables
            .iter()
            .filter(|table| table.state == state)
            .count()
    };
    assert_eq!(
        (states(BlockState::New), states(BlockState::Deleted)),
        (2, 1),
        "new0, new1; d16"
    );
}

#[test]
fn files_and_the_logs_tail_together_count_an_overwritten_key_once() {
    // In incr_wal the committed files hold base, the log the rest: from the beginning on, 1 000 keys of d10,
    // d11 and d12 stand in both.
    let since = Since::Version(Version::BEGINNING);
    let plan = detect::run(
        &request(data_dir("incr_wal"), since, SourceChoice::Auto),
        &(),
    )
    .unwrap()
    .plan;
    let live = Truth::load("incr").unwrap();
    for (name, (uid, _)) in &live.tables {
        let table = plan
            .tables
            .iter()
            .find(|table| table.table.uid == *uid)
            .unwrap();
        let deleted = if name == "d15" { 200 } else { 0 };
        assert_eq!(
            table.rows,
            Some(live.keys[uid].len() as u64 + deleted),
            "{name}"
        );
    }
}

#[test]
fn a_checkpoint_carries_the_next_run_to_the_changes_and_no_further() {
    let since = Since::Version(Version::BEGINNING);
    let first = detect::run(&request(data_dir("base"), since, SourceChoice::Auto), &()).unwrap();
    let mut checkpoint = first.checkpoint.clone();

    let mut next = |state| {
        let bytes = checkpoint.to_bytes().unwrap();
        let read = Checkpoint::parse(&bytes, "c").unwrap();
        let since = Since::Checkpoint(Box::new(read));
        let found = detect::run(&request(data_dir(state), since, SourceChoice::Auto), &()).unwrap();
        checkpoint = found.checkpoint.clone();
        found
    };
    let second = next("incr_flushed");
    assert_eq!(second.plan.rows(), 1_810);
    assert_eq!(second.plan.window, first.plan.window);
    for block in &second.plan.blocks {
        let earlier = first.plan.blocks.iter().find(|b| b.uid == block.uid);
        assert!(
            earlier.is_none_or(|b| b.id.table() == block.id.table()),
            "a table keeps its number"
        );
    }
    let third = next("incr_flushed");
    assert!(third.plan.tables.is_empty());
    assert!(third.plan.is_complete());
}

#[test]
fn a_start_the_log_does_not_reach_back_to_makes_the_vgroup_dirty_as_a_whole() {
    let dir = copied("incr_flushed");
    for vnode in ["vnode2", "vnode3"] {
        for old in ["00000000000000000000.log", "00000000000000000015.log"] {
            std::fs::remove_file(dir.path().join("vnode").join(vnode).join("wal").join(old))
                .unwrap();
        }
    }
    let since = Since::Version(Version(20));
    let wal = detect::run(
        &request(dir.path().into(), since.clone(), SourceChoice::Wal),
        &(),
    )
    .unwrap();
    assert!(!wal.plan.is_complete());
    for vgroup in &wal.plan.vgroups {
        let reason = vgroup
            .reasons
            .iter()
            .find(|reason| reason.code == ReasonCode::WalPruned)
            .unwrap();
        assert_eq!(reason.range, Some(model::KeySpan::ALL));
    }
    for table in &wal.plan.tables {
        if table.state != BlockState::Deleted && table.state != BlockState::New {
            assert_eq!(table.spans, [model::KeySpan::ALL]);
            assert_eq!(table.rows, None);
        }
    }
    // The committed files prove the same range row by row.
    let auto = detect::run(&request(dir.path().into(), since, SourceChoice::Auto), &()).unwrap();
    assert!(auto.plan.is_complete());
}

#[test]
fn blocks_that_can_not_be_read_make_their_tables_dirty_where_the_index_says() {
    let dir = copied("incr_flushed");
    for vnode in ["vnode2", "vnode3"] {
        let json = dir.path().join("vnode").join(vnode).join("vnode.json");
        let text = std::fs::read_to_string(&json).unwrap();
        assert!(text.contains("\"4096\""));
        // No block may be larger than that, so every block with changes counts as unreadable.
        std::fs::write(
            &json,
            text.replace("\"maxRows\":\t\"4096\"", "\"maxRows\":\t\"40\""),
        )
        .unwrap();
    }
    let since = Since::Version(BASE);
    let widened = detect::run(&request(dir.path().into(), since, SourceChoice::Tsdb), &()).unwrap();
    assert!(!widened.plan.is_complete());
    let exact = detect("incr_flushed", SourceChoice::Tsdb);
    for table in exact
        .plan
        .tables
        .iter()
        .filter(|table| table.rows != Some(0))
    {
        let wide = widened
            .plan
            .tables
            .iter()
            .find(|wide| wide.table == table.table)
            .unwrap();
        assert_eq!(wide.rows, None);
        for span in &table.spans {
            assert!(
                wide.spans
                    .iter()
                    .any(|wide| wide.first <= span.first && span.last <= wide.last)
            );
        }
    }
}

#[test]
fn another_database_of_the_same_name_is_not_taken_for_the_old_one() {
    let dir = copied("base");
    let first = detect::run(
        &request(
            dir.path().into(),
            Since::Version(Version::BEGINNING),
            SourceChoice::Auto,
        ),
        &(),
    )
    .unwrap();
    let json = dir.path().join("vnode/vnode2/vnode.json");
    let text = std::fs::read_to_string(&json).unwrap();
    std::fs::write(
        &json,
        text.replace("4369355181062583356", "4369355181062583357"),
    )
    .unwrap();

    let since = Since::Checkpoint(Box::new(first.checkpoint));
    let next = detect::run(&request(dir.path().into(), since, SourceChoice::Auto), &()).unwrap();
    let vgroup = next
        .plan
        .vgroups
        .iter()
        .find(|v| v.vgroup == VgId(2))
        .unwrap();
    assert_eq!(vgroup.reasons[0].code, ReasonCode::VgroupReplaced);
    assert_eq!(vgroup.from, Version::BEGINNING);
    assert!(!vgroup.complete);
}

#[test]
fn a_time_is_resolved_to_the_last_version_before_it() {
    let vnode = &vnodes(&data_dir("incr_wal")).unwrap()[0];
    let before_all = vnode.version_before(0).unwrap();
    assert_eq!(
        before_all,
        Version::BEGINNING,
        "the log reaches back to version 0"
    );
    let after_all = vnode.version_before(i64::MAX).unwrap();
    assert_eq!(after_all, Version(39));

    let dir = copied("incr_wal");
    let wal = dir.path().join("vnode/vnode2/wal");
    std::fs::remove_file(wal.join("00000000000000000000.log")).unwrap();
    let error = vnodes(dir.path()).unwrap()[0]
        .version_before(0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("begins at version 15"), "{error}");
}

#[test]
fn the_report_is_sealed_and_keeps_64_bits() {
    let json = report::to_json(&detect("incr_flushed", SourceChoice::Auto)).unwrap();
    let text = std::str::from_utf8(&json).unwrap();
    assert!(
        text.contains(r#""uid":"438291500798836771""#),
        "ids are strings"
    );
    assert!(text.contains(
        r#""deletes":[{"first":"1704068200000","last":"1704068399000","version":"35"}]"#
    ));
    assert!(text.trim_end().ends_with("\"}"), "the checksum comes last");
}

fn copied(state: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&data_dir(state), dir.path());
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
