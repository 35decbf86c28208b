//! Two inserts that create one table together: the log holds a uid each, and the server keeps the first.

use crate::scanned::scan;
use capture::SourceChoice;
use tdwriter::{
    Row,
    vnode::{VnodeBuilder, VnodeConfig},
};

/// Whether rows of the second insert are listed under the first's uid, with so many records in between that begin a new
/// segment, of which the scan starts behind the last.
fn listed_under_the_first(records_between: usize) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = VnodeBuilder::create(dir.path(), VnodeConfig::default()).unwrap();
    let stb = builder.create_stb("s", None);
    let first = builder.auto_create("t", stb, vec![Row::new(1_000, 1)]);
    builder.commit().unwrap();
    for _ in 0..records_between {
        builder.new_term();
    }
    let since = builder.truth().last_version;
    let second = builder.auto_create("t", stb, vec![Row::new(2_000, 2)]);
    builder.save().unwrap();
    let (scanned, _) = scan(dir.path(), since, SourceChoice::Wal).unwrap();
    let rows = |uid| {
        let keys = scanned.rows.keys().filter(move |key| key.uid == uid);
        keys.map(|key| key.ts).collect::<Vec<_>>()
    };
    assert_eq!(rows(second), [2_000]);
    rows(first) == [2_000]
}

#[test]
fn the_first_may_be_in_an_older_segment_than_the_start() {
    assert!(listed_under_the_first(0));
    assert!(listed_under_the_first(4_000));
    assert!(
        !listed_under_the_first(5_000),
        "no server has as many requests under way: the older segment is not read"
    );
}
