//! Repositories: what is taken in is read as it was, and nothing spoils it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod document;
mod kept;
mod secrets;

use links::Chain;
use repository::{
    chain,
    link::Link,
    repo::{
        ObjectId, RepoError, Repository,
        check::{self, Depth, Report},
        copy,
        import::{self, Imported, Notes},
        keys::{Recipient, Secret},
        prune,
        snapshot::Snapshot,
        stats,
    },
    verify,
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};
use store::{Directory, Store};
use tempfile::TempDir;

fn place(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Directory::new(dir))
}

fn secret() -> Secret {
    Secret::identities(
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n",
    )
    .unwrap()
}

fn open_link(path: &Path) -> Link {
    Link::open(place(path)).unwrap()
}

fn take(repository: &Repository, path: &Path) -> Result<Imported, RepoError> {
    import::link(repository, &open_link(path), &Notes::default(), &())
}

/// A repository in a directory of its own, and a chain.
struct Room {
    dir: TempDir,
    chain: Chain,
    repository: Repository,
}

impl Room {
    fn new(encrypted: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recipients = match encrypted {
            true => secret().recipients(),
            false => Vec::new(),
        };
        let repository = Repository::init(place(&dir.path().join("repo")), &recipients).unwrap();
        Self {
            dir,
            chain: Chain::with_bitmaps().unwrap(),
            repository,
        }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("repo")
    }

    fn take_all(&self) -> Vec<Snapshot> {
        let links = self.chain.links();
        let taken = links
            .iter()
            .map(|link| take(&self.repository, link).unwrap());
        taken.map(|taken| taken.snapshot().clone()).collect()
    }

    fn check(&self, depth: Depth) -> Report {
        check::run(&self.repository, None, depth, 2, &()).unwrap()
    }

    fn objects(&self) -> Vec<String> {
        let mut names = place(&self.root()).names().unwrap();
        names.sort();
        names
    }
}

#[test]
fn a_link_of_a_repository_is_read_as_a_directory_is() {
    for encrypted in [false, true] {
        let room = Room::new(encrypted);
        let taken = room.take_all();
        let snapshots = room.repository.snapshots().unwrap();
        let last = snapshots.get(&taken[2].id).unwrap();
        let stores = room.repository.chain(&snapshots, last).unwrap();
        assert_eq!(stores.len(), 3);
        let opened = chain::open(&stores).unwrap();
        for (link, path) in opened.iter().zip(room.chain.links()) {
            link.check_files(&()).unwrap();
            let directory = open_link(&path);
            assert_eq!(link.manifest, directory.manifest);
            let mut names = link.store.names().unwrap();
            names.sort();
            for name in &names {
                let bytes = directory.store.get(name).unwrap();
                assert_eq!(link.store.get(name).unwrap(), bytes, "{name}");
                assert_eq!(link.store.length(name).unwrap(), bytes.len() as u64);
                let half = bytes.len() / 2;
                let part = link.store.get_range(name, half as u64..bytes.len() as u64);
                assert_eq!(part.unwrap(), bytes[half..]);
            }
            assert!(!link.store.holds("nothing").unwrap());
            assert!(link.store.put("x", b"").is_err());
        }
        let job = verify::Job {
            links: stores,
            blocks: None,
            threads: 2,
        };
        let report = verify::run(&job, &()).unwrap();
        assert_eq!(
            report.result,
            verify::Verdict::Intact,
            "{:?}",
            report.problems
        );
    }
}

#[test]
fn a_recorded_chain_is_taken_in() {
    let room = Room::new(true);
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chain_parquet");
    for link in ["full", "inc"] {
        take(&room.repository, &recorded.join(link)).unwrap();
    }
    let report = room.check(Depth::Full);
    assert_eq!((report.links, report.problems.len()), (2, 0), "{report:?}");
}

#[test]
fn what_was_taken_in_is_known_and_what_has_no_base_is_refused() {
    let room = Room::new(false);
    let [full, inc1, inc2] = room.chain.links();
    let early = take(&room.repository, &inc1).unwrap_err().to_string();
    assert!(
        early.contains("import the links of a chain from its first one on"),
        "{early}"
    );
    let first = take(&room.repository, &full).unwrap();
    assert!(matches!(first, Imported::New(_)));
    let again = take(&room.repository, &full).unwrap();
    assert!(matches!(&again, Imported::Known(known) if known == first.snapshot()));
    take(&room.repository, &inc1).unwrap();
    let last = take(&room.repository, &inc2).unwrap().snapshot().clone();
    let snapshots = room.repository.snapshots().unwrap();
    let zone = jiff::tz::TimeZone::UTC;
    for what in [
        "latest",
        "latest:db",
        last.id.short(),
        last.id.as_str(),
        "2100-01-01",
    ] {
        assert_eq!(snapshots.find(what, &zone).unwrap().id, last.id, "{what}");
    }
    for what in [
        "",
        "latest:other",
        "zzzz",
        "ffffffffffff",
        "1999-01-01",
        "yesterday",
    ] {
        assert!(snapshots.find(what, &zone).is_err(), "{what}");
    }
}

#[test]
fn of_two_who_follow_the_same_base_one_learns_it() {
    let room = Room::new(false);
    let [full, inc1, _] = room.chain.links();
    take(&room.repository, &full).unwrap();
    // Another link with the same base.
    let other = room.dir.path().join("other");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&inc1, &other])
        .status();
    assert!(copied.unwrap().success());
    let store = Directory::new(&other);
    let mut manifest = open_link(&other).manifest;
    manifest.id = repository::link::new_id();
    store
        .put(repository::link::MANIFEST, &manifest.to_bytes().unwrap())
        .unwrap();
    let together = Barrier::new(2);
    let take_in = |path: &Path| {
        together.wait();
        take(&room.repository, path)
    };
    let both = thread::scope(|scope| {
        let first = scope.spawn(|| take_in(&inc1));
        let second = scope.spawn(|| take_in(&other));
        [first.join().unwrap(), second.join().unwrap()]
    });
    let lost = both
        .iter()
        .filter(|one| matches!(one, Err(RepoError::Followed { .. })))
        .count();
    let won = both
        .iter()
        .filter(|one| matches!(one, Ok(Imported::New(_))))
        .count();
    assert_eq!((won, lost), (1, 1), "{both:?}");
    assert_eq!(room.repository.snapshots().unwrap().listed().count(), 2);
    assert_eq!(room.check(Depth::Full).problems, []);
    // What the second one left is removed, and nothing else.
    let before = room.objects().len();
    let pruned = prune::run(&room.repository, Duration::ZERO, false, &()).unwrap();
    assert!(pruned.objects >= 1 && pruned.objects <= 3, "{pruned:?}");
    assert_eq!(room.objects().len(), before - pruned.objects);
    assert_eq!(room.check(Depth::Full).problems, []);
}

#[test]
fn the_same_link_twice_at_a_time_is_one_snapshot() {
    let room = Room::new(true);
    let [full, ..] = room.chain.links();
    let together = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                together.wait();
                take(&room.repository, &full).unwrap();
            });
        }
    });
    assert_eq!(room.repository.snapshots().unwrap().listed().count(), 1);
    prune::run(&room.repository, Duration::ZERO, false, &()).unwrap();
    let report = room.check(Depth::Full);
    assert_eq!((report.links, report.problems.len()), (1, 0));
}

#[test]
fn every_damaged_or_missing_object_is_found_and_names_the_snapshots() {
    for encrypted in [false, true] {
        let room = Room::new(encrypted);
        let taken = room.take_all();
        let intact = room.check(Depth::Full);
        assert_eq!(
            (intact.snapshots, intact.links, intact.problems.len()),
            (3, 3, 0)
        );
        assert!(intact.bytes > 0);
        assert_eq!(room.check(Depth::Quick).problems, []);
        assert_eq!(room.check(Depth::Sample(50.0)).problems, []);
        for name in room.objects() {
            if !name.starts_with("links/") && !name.starts_with("snapshots/") {
                continue;
            }
            let path = room.root().join(&name);
            let bytes = fs::read(&path).unwrap();
            let mut flipped = bytes.clone();
            let middle = flipped.len() - 20;
            flipped[middle] ^= 4;
            let cut = &bytes[..bytes.len() - 1];
            for (how, wrong) in [
                ("flipped", Some(flipped.as_slice())),
                ("cut", Some(cut)),
                ("gone", None),
            ] {
                match wrong {
                    Some(wrong) => fs::write(&path, wrong).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
                let report = room.check(Depth::Full);
                let lacks = how == "gone" && name == format!("snapshots/{}", taken[2].id);
                // That a snapshot is not there is all that makes it none.
                assert_eq!(
                    report.problems.is_empty(),
                    lacks,
                    "{how} {name}: {report:?}"
                );
                if how != "flipped" && name.starts_with("links/") {
                    assert!(
                        !room.check(Depth::Quick).problems.is_empty(),
                        "{how} {name}"
                    );
                }
                fs::write(&path, &bytes).unwrap();
            }
        }
        // A damaged first link makes all three useless.
        let link = format!("links/{}/index", taken[0].link.id);
        fs::write(room.root().join(link), b"").unwrap();
        let report = room.check(Depth::Full);
        assert_eq!(report.problems.len(), 1);
        assert_eq!(report.problems[0].snapshots.len(), 3);
    }
}

#[test]
fn snapshots_are_copied_under_the_key_of_the_other_repository() {
    let room = Room::new(true);
    let taken = room.take_all();
    let passphrase = Secret::passphrase("a long passphrase\n").unwrap();
    let root = room.dir.path().join("copy");
    let to = Repository::init(place(&root), &passphrase.recipients()).unwrap();
    let copied = copy::snapshot(&room.repository, &to, &taken[1], &()).unwrap();
    assert_eq!(copied.len(), 2);
    let again = copy::snapshot(&room.repository, &to, &taken[2], &()).unwrap();
    assert!(matches!(
        again.as_slice(),
        [Imported::Known(_), Imported::Known(_), Imported::New(_)]
    ));
    let to = Repository::open(place(&root), Some(&passphrase)).unwrap();
    let report = check::run(&to, None, Depth::Full, 1, &()).unwrap();
    assert_eq!((report.snapshots, report.problems.len()), (3, 0));
    let same = copy::snapshot(&room.repository, &room.repository, &taken[0], &());
    assert!(
        same.unwrap_err()
            .to_string()
            .contains("the same repository")
    );
    assert_eq!(stats::of(&to).unwrap().snapshots, 3);
}

#[test]
fn a_place_is_made_a_repository_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repo");
    let missing = Repository::open(place(&root), None).unwrap_err();
    assert!(matches!(missing, RepoError::NotThere { .. }), "{missing}");
    let together = Barrier::new(4);
    let made = thread::scope(|scope| {
        let init = || {
            together.wait();
            Repository::init(place(&root), &[])
        };
        let all: Vec<_> = (0..4).map(|_| scope.spawn(init)).collect();
        let made = all.into_iter().map(|one| one.join().unwrap());
        made.filter(Result::is_ok).count()
    });
    assert_eq!(made, 1);
    assert!(matches!(
        Repository::init(place(&root), &[]),
        Err(RepoError::Exists { .. })
    ));
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "x").unwrap();
    let refused = Repository::init(place(&other), &[])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("thesis.tex"), "{refused}");
}

#[test]
fn a_newer_format_is_said_to_be_newer() {
    let room = Room::new(false);
    let config = room.root().join("config");
    let newer = serde_json::json!({"format": 2, "id": 7});
    fs::write(&config, model::sealed::seal(&newer).unwrap()).unwrap();
    let error = Repository::open(place(&room.root()), None).unwrap_err();
    assert!(matches!(error, RepoError::Newer(_)), "{error}");
}

#[test]
fn hostile_objects_are_refused() {
    let room = Room::new(false);
    let taken = room.take_all();
    // A snapshot that follows itself, a config of a gigabyte, an index that names files elsewhere.
    let config = room.root().join("config");
    let was = fs::read(&config).unwrap();
    fs::File::options()
        .write(true)
        .open(&config)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let error = Repository::open(place(&room.root()), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than it can have"), "{error}");
    fs::write(&config, was).unwrap();
    let huge = room.root().join(format!("snapshots/{}", taken[0].id));
    fs::File::options()
        .write(true)
        .open(&huge)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert!(room.repository.snapshots().is_err());
    assert!(ObjectId::try_from("../../etc".to_owned()).is_err());
}
