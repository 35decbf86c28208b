//! What every place does.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, SystemTime},
};
use store::{Created, Found, Store, StoreError};

/// What rclone's server is known not to do (1.75.2): it overwrites what must not be there yet, and it answers a request for
/// some bytes with status 200 where it has to be 206, which the client refuses.
pub(crate) fn unsupported(kind: &str, name: &str) -> bool {
    kind == "rclone"
        && [
            "of_two_writers_exactly_one_wins",
            "bytes_are_read_where_they_are",
        ]
        .contains(&name)
}

pub(crate) fn can_commit(store: &Arc<dyn Store>) {
    let can = store::can_commit(&**store, "probe").unwrap();
    assert_eq!(
        can,
        !store.place("").contains("rclone"),
        "{}",
        store.place("")
    );
    assert!(!store.holds("probe").unwrap());
}

fn listed(store: &dyn Store, folder: &str) -> Vec<Found> {
    let mut all = Vec::new();
    let mut add = |found| {
        all.push(found);
        Ok(())
    };
    store.list(folder, &mut add).unwrap();
    all
}

fn names_in(store: &dyn Store, folder: &str) -> BTreeSet<String> {
    let all = listed(store, folder).into_iter();
    all.map(|found| found.name).collect()
}

/// Bytes that show where they belong.
fn bytes(length: usize) -> Vec<u8> {
    let word = |n: usize| ((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let words = (0..length.div_ceil(4)).flat_map(|n| word(n).to_le_bytes());
    words.take(length).collect()
}

pub(crate) fn whole(store: &Arc<dyn Store>) {
    let began = SystemTime::now();
    let mut upload = store.upload("a/b").unwrap();
    upload.write_all(b"text").unwrap();
    upload.flush().unwrap();
    assert!(!store.holds("a/b").unwrap(), "not finished");
    upload.finish().unwrap();
    assert_eq!(store.get("a/b").unwrap(), b"text");
    assert_eq!(store.length("a/b").unwrap(), 4);
    let mut dropped = store.upload("a/c").unwrap();
    dropped.write_all(&bytes(20 << 20)).unwrap();
    drop(dropped);
    store.upload("a/empty").unwrap().finish().unwrap();
    assert_eq!(store.get("a/empty").unwrap(), b"");
    store.put("put", b"1").unwrap();
    store.put("put", b"2").unwrap();
    assert_eq!(store.get("put").unwrap(), b"2");
    let all = listed(&**store, "");
    let lengths: BTreeSet<(&str, u64)> = all
        .iter()
        .map(|found| (found.name.as_str(), found.bytes))
        .collect();
    assert_eq!(lengths, [("a/b", 4), ("a/empty", 0), ("put", 1)].into());
    // Stores tell whole seconds.
    let earliest = began - Duration::from_secs(2);
    assert!(
        all.iter().all(|found| found.modified >= earliest),
        "{all:?}"
    );
    store.remove("put").unwrap();
    store.remove("put").unwrap();
    assert!(!store.holds("put").unwrap());
}

pub(crate) fn parts(store: &Arc<dyn Store>) {
    // Three parts and a bit, in pieces that fit no part.
    let content = bytes((8 << 20) * 3 + 12_345);
    let mut upload = store.upload("large").unwrap();
    for piece in content.chunks(1_000_003) {
        upload.write_all(piece).unwrap();
    }
    upload.finish().unwrap();
    assert_eq!(store.length("large").unwrap(), content.len() as u64);
    let mut found = Vec::new();
    store
        .open("large")
        .unwrap()
        .read_to_end(&mut found)
        .unwrap();
    assert!(found == content);
    // Parts that are full to the last byte.
    let content = bytes(8 << 20);
    let mut upload = store.upload("full").unwrap();
    upload.write_all(&content).unwrap();
    upload.finish().unwrap();
    assert!(store.get("full").unwrap() == content);
}

pub(crate) fn thousand(store: &Arc<dyn Store>) {
    let all: BTreeSet<String> = (0..1_050).map(|n| format!("many/{n:04}")).collect();
    let names: Vec<&String> = all.iter().collect();
    thread::scope(|scope| {
        for some in names.chunks(300) {
            scope.spawn(|| some.iter().for_each(|name| store.put(name, b"x").unwrap()));
        }
    });
    store.put("many more", b"").unwrap();
    assert_eq!(names_in(&**store, "many"), all);
    assert_eq!(store.names().unwrap().len(), all.len() + 1);
}

pub(crate) fn names(store: &Arc<dyn Store>) {
    let all: BTreeSet<String> = [
        "a b",
        "50%",
        "%41",
        "a+b",
        "a&b=c",
        "数据/库",
        "ü",
        "#1",
        "q?",
        "~",
        "[x]{y}",
        "'",
        "a:b;c,d",
        "\\",
        "dot.d/.x",
    ]
    .map(str::to_owned)
    .into();
    for name in &all {
        store.put(name, name.as_bytes()).unwrap();
    }
    assert_eq!(names_in(&**store, ""), all);
    for name in &all {
        assert_eq!(store.get(name).unwrap(), name.as_bytes(), "{name}");
        assert_eq!(store.length(name).unwrap(), name.len() as u64, "{name}");
        store.remove(name).unwrap();
    }
    assert_eq!(names_in(&**store, ""), BTreeSet::new());
}

pub(crate) fn outside(store: &Arc<dyn Store>) {
    for name in ["", "/etc/passwd", "../x", "a/../../x", "./a"] {
        let refused = |error: Option<StoreError>| {
            assert!(matches!(error, Some(StoreError::Outside { .. })), "{name}");
        };
        refused(store.open(name).err());
        refused(store.put(name, b"").err());
        refused(store.put_new(name, b"").err());
        refused(store.upload(name).err());
        refused(store.remove(name).err());
    }
}

pub(crate) fn missing(store: &Arc<dyn Store>) {
    assert!(!store.holds("x").unwrap());
    for error in [
        store.get("x").unwrap_err(),
        store.length("x").unwrap_err(),
        store.get_range("x", 0..1).unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().contains(&store.place("x")), "{error}");
    }
    assert_eq!(listed(&**store, "x"), []);
    assert_eq!(listed(&**store, ""), []);
    store.remove("x").unwrap();
}

pub(crate) fn ranges(store: &Arc<dyn Store>) {
    store.put("a", b"0123456789").unwrap();
    assert_eq!(store.get_range("a", 0..10).unwrap(), b"0123456789");
    assert_eq!(store.get_range("a", 3..5).unwrap(), b"34");
    assert_eq!(store.get_range("a", 9..10).unwrap(), b"9");
    assert_eq!(store.get_range("a", 4..4).unwrap(), b"");
    // Where one part of a large object ends and the next begins.
    let content = bytes((8 << 20) + 100);
    let mut upload = store.upload("large").unwrap();
    upload.write_all(&content).unwrap();
    upload.finish().unwrap();
    let at = (8 << 20) - 3;
    let range = store.get_range("large", at..at + 7).unwrap();
    assert_eq!(range, content[at as usize..][..7]);
    for beyond in [8..11, 10..11, 20..21] {
        assert!(store.get_range("a", beyond).is_err());
    }
}

pub(crate) fn one_wins(store: &Arc<dyn Store>) {
    for round in 0..20 {
        let name = format!("commits/{round}");
        let together = Barrier::new(2);
        let write = |bytes: &'static [u8]| {
            together.wait();
            store.put_new(&name, bytes).unwrap()
        };
        let won = thread::scope(|scope| {
            let first = scope.spawn(|| write(b"first"));
            let second = scope.spawn(|| write(b"the second"));
            [first.join().unwrap(), second.join().unwrap()]
        });
        let expected: &[u8] = match won {
            [Created::Written, Created::AlreadyThere] => b"first",
            [Created::AlreadyThere, Created::Written] => b"the second",
            won => panic!("round {round}: {won:?}"),
        };
        assert_eq!(store.get(&name).unwrap(), expected);
        let third = store.put_new(&name, b"a third").unwrap();
        assert_eq!(third, Created::AlreadyThere);
        let again = store.put_new(&name, expected).unwrap();
        assert_eq!(
            again,
            Created::Written,
            "the answer was lost, so it is asked again"
        );
        assert_eq!(store.get(&name).unwrap(), expected);
    }
}

pub(crate) fn below(store: &Arc<dyn Store>) {
    store.put("links/1/a", b"1").unwrap();
    store.put("links/1/b/c", b"2").unwrap();
    store.put("links/10/a", b"3").unwrap();
    store.put("linksmore", b"4").unwrap();
    let of = |folder: &str| names_in(&**store, folder);
    assert_eq!(
        of("links/1"),
        ["links/1/a", "links/1/b/c"].map(str::to_owned).into()
    );
    assert_eq!(of("links").len(), 3);
    assert_eq!(of("").len(), 4);
    let error = store.list("links", &mut |found| {
        Err(StoreError::io(found.name)(ErrorKind::Other.into()))
    });
    assert!(error.is_err(), "whoever is told may end it");
}
