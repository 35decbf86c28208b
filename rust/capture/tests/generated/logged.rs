//! Rows that only the log has: of which requests they are told, and which are left to others.

use crate::scanned::{rows_of, view_with_log, vnode};
use capture::{Change, RowView, SourceChoice, Start, Unread};
use model::{Key, KeySpan, Suid, TableId, Uid, Version};
use std::{collections::BTreeMap, fs, path::Path};
use tdwriter::{
    Row,
    vnode::{Truth, VnodeBuilder, VnodeConfig},
    wal::{self, BatchDelete, CreateTable, Form, TableKind, TableRows},
};

/// Values by table and key.
type Values = BTreeMap<(i64, i64), i32>;
/// A table, and the first and last of its keys that are left to others.
type Left = (i64, i64, i64);

struct Case {
    dir: tempfile::TempDir,
    builder: VnodeBuilder,
    suid: i64,
    /// Two tables of the super table.
    tables: [i64; 2],
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = VnodeBuilder::create(dir.path(), VnodeConfig::default()).unwrap();
        let suid = builder.create_stb("s", None);
        let tables = ["a", "b"].map(|name| builder.create_child(name, suid));
        let rows = |value| (0..5).map(|i| Row::new(i, value)).collect::<Vec<_>>();
        builder.write(&[(tables[0], rows(1))]);
        builder.write(&[(tables[1], rows(2))]);
        Self {
            dir,
            builder,
            suid,
            tables,
        }
    }

    fn part(&self, table: usize, sver: i32, rows: Vec<Row>) -> TableRows {
        TableRows {
            suid: self.suid,
            uid: self.tables[table],
            sver,
            rows,
            form: Form::ColumnsV1,
            ..TableRows::default()
        }
    }

    /// Logs a request that the truth does not know of.
    fn submit(&mut self, parts: &[TableRows]) {
        self.builder.raw(wal::SUBMIT, wal::submit(2, parts, &[]));
    }

    fn view(&mut self) -> Option<RowView> {
        self.builder.save().unwrap();
        view_with_log(self.dir.path())
    }

    /// The values by table and key, and what is left unread.
    fn read(&mut self) -> (Values, Vec<Left>) {
        let view = self.view().unwrap();
        self.read_view(&view)
    }

    fn read_view(&self, view: &RowView) -> (Values, Vec<Left>) {
        let truth: Truth = self.builder.truth().clone();
        let (rows, unread) = rows_of(view, &truth, &[KeySpan::ALL]);
        let rows = rows.into_iter();
        let values = rows.map(|(key, (_, row))| ((key.uid, key.ts), row.value.unwrap()));
        let unread = unread
            .into_iter()
            .map(|(table, span)| (table.uid.0, span.first.0, span.last.0));
        (values.collect(), unread.collect())
    }

    fn segment(&self) -> std::path::PathBuf {
        let wal = self.builder.path().join("wal");
        wal.join("00000000000000000000.log")
    }
}

fn at(keys: &[i64]) -> Vec<Row> {
    keys.iter().map(|ts| Row::new(*ts, 9)).collect()
}

/// What is left of each of two tables with keys 0 to 4 after keys 2 to 3 of both can't be told.
const LEFT: [i64; 3] = [0, 1, 4];

#[test]
fn a_request_for_other_columns_than_a_table_has_is_left_to_others_as_a_whole() {
    let mut case = Case::new();
    case.builder.alter_stb(case.suid);
    let (old, new) = (case.part(0, 1, at(&[2, 3])), case.part(1, 2, at(&[2, 3])));
    case.submit(&[old, new]);
    let (values, unread) = case.read();
    let [a, b] = case.tables;
    assert_eq!(unread, [(a, 2, 3), (b, 2, 3)]);
    let expected = |table, value| LEFT.map(|key| ((table, key), value));
    assert_eq!(
        values,
        expected(a, 1).into_iter().chain(expected(b, 2)).collect()
    );
}

#[test]
fn a_request_for_a_table_that_is_gone_is_left_to_others_as_a_whole() {
    for drop in 0..2 {
        let mut case = Case::new();
        let gone = case.tables[1];
        match drop {
            0 => case.builder.drop_table(gone),
            _ => case.builder.ttl_drop(&[gone]),
        };
        let parts = [case.part(0, 1, at(&[2, 3])), case.part(1, 1, at(&[2, 3]))];
        case.submit(&parts);
        let (values, unread) = case.read();
        assert_eq!(unread, [(case.tables[0], 2, 3)]);
        assert_eq!(values, LEFT.map(|key| ((case.tables[0], key), 1)).into());
    }
}

#[test]
fn rows_that_are_not_in_order_are_left_to_others() {
    for keys in [[3, 2], [2, 2]] {
        let mut case = Case::new();
        let part = case.part(0, 1, at(&keys));
        case.submit(&[part]);
        let (values, unread) = case.read();
        let (first, last) = (keys[1], keys[0]);
        assert_eq!(unread, [(case.tables[0], first, last)]);
        let hit = |key: &i64| (first..=last).contains(key);
        let expected = (0..5)
            .filter(|key| !hit(key))
            .map(|key| ((case.tables[0], key), 1));
        let of_other = (0..5).map(|key| ((case.tables[1], key), 2));
        assert_eq!(values, expected.chain(of_other).collect());
    }
}

#[test]
fn a_request_with_a_row_that_is_past_keep_is_left_to_others_as_a_whole() {
    let mut case = Case::new();
    case.builder.save().unwrap();
    let vnode = vnode(case.dir.path()).unwrap();
    // Those of the first two requests begin at 0.
    let view = RowView::open_with_whole_log(&vnode, Key(1))
        .unwrap()
        .unwrap();
    let [a, b] = case.tables;
    let (values, unread) = case.read_view(&view);
    assert_eq!(
        (values, unread),
        (Values::new(), vec![(a, 0, 4), (b, 0, 4)])
    );
    let view = RowView::open_with_whole_log(&vnode, Key(0))
        .unwrap()
        .unwrap();
    let (values, unread) = case.read_view(&view);
    assert_eq!((values.len(), unread), (10, vec![]));
}

#[test]
fn rows_for_a_new_table_whose_name_is_taken_may_be_those_of_the_other_one() {
    let mut case = Case::new();
    let create = CreateTable {
        uid: 77,
        name: "a".into(),
        created_ms: 5,
        ttl_days: 0,
        comment: None,
        kind: TableKind::Child {
            stb: "s".into(),
            suid: case.suid,
            group: 1,
        },
        extra: Vec::new(),
    };
    let part = TableRows {
        uid: 77,
        create: Some(create),
        ..case.part(0, 1, at(&[2, 3]))
    };
    case.submit(&[part]);
    let (values, unread) = case.read();
    let [a, b] = case.tables;
    assert_eq!(unread, [(a, 2, 3)]);
    let of_b = (0..5).map(|key| ((b, key), 2));
    assert_eq!(
        values,
        LEFT.map(|key| ((a, key), 1))
            .into_iter()
            .chain(of_b)
            .collect()
    );
}

#[test]
fn a_table_that_a_request_creates_has_its_rows() {
    let mut case = Case::new();
    let uid = case.builder.auto_create("new", case.suid, at(&[7]));
    // As every later insert with USING does.
    let view = case.view().unwrap();
    let truth = case.builder.truth().clone();
    let (rows, unread) = rows_of(&view, &truth, &[KeySpan::ALL]);
    assert_eq!(unread, []);
    assert_eq!(rows.keys().filter(|key| key.uid == uid).count(), 1);
}

#[test]
fn a_log_that_this_build_does_not_understand_says_nothing_for_sure() {
    let ranges = [BatchDelete {
        table: "a".into(),
        skey: 1,
        ekey: 2,
    }];
    let unknown: [(i16, Vec<u8>); 4] = [
        (wal::BATCH_DELETE, wal::batch_delete(2, 1, &ranges, 0)),
        (wal::SYNC_CONFIG_CHANGE, vec![0; 8]),
        (999, vec![0; 8]),
        (wal::SUBMIT, vec![1; 40]),
    ];
    for (number, body) in unknown {
        let mut case = Case::new();
        assert!(case.view().is_some());
        case.builder.raw(number, body);
        assert!(case.view().is_none(), "message {number}");
    }
}

#[test]
fn a_record_that_is_cut_off_at_the_end_is_the_end() {
    let mut case = Case::new();
    let before = case.view().unwrap().version();
    let size = fs::metadata(case.segment()).unwrap().len();
    let tables = case.tables;
    case.builder.write(&[(tables[0], at(&[2]))]);
    case.builder.save().unwrap();
    let whole = fs::read(case.segment()).unwrap();
    for end in [size, size + 1, size + 60, whole.len() as u64 - 1] {
        cut(&case.segment(), &whole, end);
        let view = view_with_log(case.dir.path()).unwrap();
        assert_eq!(view.version(), before, "cut to {end} bytes");
        let wanted = TableId {
            suid: Suid(case.suid),
            uid: Uid(tables[0]),
        };
        let (set, _) = view.file_sets()[0];
        let mut keys = Vec::new();
        let wanted = [(wanted, vec![KeySpan::ALL])].into();
        view.read(set, &wanted, &mut |batch| {
            keys.extend(batch.keys);
            Ok(())
        })
        .unwrap();
        assert_eq!(keys, (0..5).map(Key).collect::<Vec<_>>());
    }
    cut(&case.segment(), &whole, whole.len() as u64);
    let view = view_with_log(case.dir.path()).unwrap();
    assert_eq!(view.version(), before.next());
}

fn cut(path: &Path, whole: &[u8], end: u64) {
    fs::write(path, &whole[..end as usize]).unwrap();
}

#[test]
fn a_log_with_a_hole_says_nothing_for_sure() {
    let mut case = Case::new();
    case.builder.commit_silently().unwrap();
    let tables = case.tables;
    case.builder.write(&[(tables[0], at(&[2]))]);
    assert!(case.view().is_some());
    let path = case.segment();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(view_with_log(case.dir.path()).is_none());
}

#[test]
fn what_changed_is_found_without_files_that_only_its_rows_need() {
    let mut case = Case::new();
    case.builder.commit().unwrap();
    let since = case.builder.truth().commit_version;
    let tables = case.tables;
    case.builder.write(&[(tables[0], at(&[2]))]);
    case.builder.save().unwrap();
    let tsdb = case.builder.path().join("tsdb");
    for file in fs::read_dir(tsdb).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension != "json")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let start = Start {
        version: Version(since),
        known: None,
    };
    let mut named = Vec::new();
    let vnode = vnode(case.dir.path()).unwrap();
    let (report, view) = vnode
        .scan_and_keep(&start, SourceChoice::Auto, &mut |change| {
            if let Change::Rows(rows) = change {
                rows.for_each(|key, _, _| named.push((rows.table.uid.0, key)))?;
            }
            Ok(())
        })
        .unwrap();
    assert!(view.is_none());
    assert!(report.is_complete(), "{:?}", report.coverage);
    assert_eq!(named, [(tables[0], Key(2))]);
}

#[test]
fn many_rows_of_one_table_are_handed_on_piece_by_piece() {
    const MANY: i64 = 150_000;
    let mut case = Case::new();
    let uid = case.tables[0];
    for first in (0..MANY).step_by(10_000) {
        let rows = (first..first + 10_000).map(|ts| Row::new(ts, 1)).collect();
        case.builder.write(&[(uid, rows)]);
    }
    let view = case.view().unwrap();
    let table = TableId {
        suid: Suid(case.suid),
        uid: Uid(uid),
    };
    let wanted = [(table, vec![KeySpan::ALL])].into();
    let mut keys = Vec::new();
    for (set, _) in view.file_sets() {
        let unread = view.read(set, &wanted, &mut |batch| {
            assert!(batch.len() <= 1 << 16, "{} rows at once", batch.len());
            keys.extend(batch.keys);
            Ok(())
        });
        assert_eq!(unread.unwrap(), Unread::Spans(Vec::new()));
    }
    assert!(keys.iter().copied().eq((0..MANY).map(Key)));
}
