//! What is forgotten goes, and what is kept stays whole.

use super::*;
use jiff::{Timestamp, tz::TimeZone};
use repository::repo::{
    retention::{self, Reason, Rules},
    snapshots::Snapshots,
};

#[test]
fn a_kept_snapshot_keeps_what_it_is_made_of() {
    let room = Room::new(true);
    let taken = room.take_all();
    let forget = |ids: &[&ObjectId]| {
        let snapshots = room.repository.snapshots().unwrap();
        let ids: Vec<ObjectId> = ids.iter().map(|id| (*id).clone()).collect();
        room.repository.forget(&snapshots, &ids)
    };
    let prune = |grace| prune::run(&room.repository, grace, false, &()).unwrap();
    forget(&[&taken[0].id, &taken[1].id]).unwrap();
    let pruned = prune(Duration::ZERO);
    assert_eq!(
        (pruned.snapshots, pruned.links, pruned.needed),
        (0, 0, 2),
        "{pruned:?}"
    );
    assert_eq!(room.repository.snapshots().unwrap().listed().count(), 1);
    assert_eq!(room.check(Depth::Full).links, 3);
    assert_eq!(room.check(Depth::Full).problems, []);
    // A pinned one is not forgotten.
    let snapshots = room.repository.snapshots().unwrap();
    room.repository.pin(&snapshots, &taken[2].id).unwrap();
    assert!(
        forget(&[&taken[2].id])
            .unwrap_err()
            .to_string()
            .contains("pinned")
    );
    room.repository.unpin(&taken[2].id).unwrap();
    forget(&[&taken[2].id]).unwrap();
    let young = prune(Duration::from_secs(3_600));
    assert_eq!((young.objects, young.snapshots), (0, 0), "{young:?}");
    let dry = prune::run(&room.repository, Duration::ZERO, true, &()).unwrap();
    let gone = prune(Duration::ZERO);
    assert_eq!(dry, gone);
    assert_eq!((gone.snapshots, gone.links), (3, 3));
    assert!(
        !room
            .objects()
            .iter()
            .any(|name| name.starts_with("links/") || name.starts_with("snapshots/"))
    );
    // The same links come again as other snapshots.
    let again = room.take_all();
    assert!(
        again
            .iter()
            .all(|new| taken.iter().all(|old| old.id != new.id))
    );
    assert_eq!(room.check(Depth::Full).problems, []);
}

#[test]
fn what_was_forgotten_is_not_followed_and_another_may_follow_its_base() {
    let room = Room::new(false);
    let [full, inc1, inc2] = room.chain.links();
    take(&room.repository, &full).unwrap();
    let wrong = take(&room.repository, &inc1).unwrap().snapshot().clone();
    let snapshots = room.repository.snapshots().unwrap();
    room.repository
        .forget(&snapshots, std::slice::from_ref(&wrong.id))
        .unwrap();
    let error = take(&room.repository, &inc2).unwrap_err();
    assert!(matches!(error, RepoError::NoBase { .. }), "{error}");
    let right = take(&room.repository, &inc1).unwrap().snapshot().clone();
    assert_ne!(right.id, wrong.id);
    take(&room.repository, &inc2).unwrap();
    prune::run(&room.repository, Duration::ZERO, false, &()).unwrap();
    let report = room.check(Depth::Full);
    assert_eq!(
        (report.snapshots, report.links, report.problems.len()),
        (3, 3, 0)
    );
}

#[test]
fn prune_beside_runs_that_write_spoils_nothing() {
    for _ in 0..5 {
        let room = Room::new(false);
        let [full, inc1, inc2] = room.chain.links();
        thread::scope(|scope| {
            let writes = scope.spawn(|| {
                for link in [&full, &inc1, &inc2] {
                    take(&room.repository, link).unwrap();
                }
            });
            while !writes.is_finished() {
                prune::run(&room.repository, Duration::from_secs(60), false, &()).unwrap();
            }
        });
        let report = room.check(Depth::Full);
        assert_eq!(
            (report.snapshots, report.problems.len()),
            (3, 0),
            "{report:?}"
        );
    }
}

#[test]
fn what_a_killed_writer_left_is_removed_after_the_grace_period() {
    let room = Room::new(false);
    room.take_all();
    let store = place(&room.root());
    for name in [
        "links/0123/x.AbC.tmp",
        "links/0123/pack",
        "snapshots/1.2.tmp",
        "probe-1",
        "keys/1.tmp",
    ] {
        store.put(name, b"x").unwrap();
    }
    assert_eq!(room.repository.snapshots().unwrap().listed().count(), 3);
    let young = prune::run(&room.repository, prune::GRACE, false, &()).unwrap();
    assert_eq!((young.objects, young.too_young), (0, 5));
    let pruned = prune::run(&room.repository, Duration::ZERO, false, &()).unwrap();
    assert_eq!(pruned.objects, 5, "{pruned:?}");
    assert_eq!(room.check(Depth::Full).problems, []);
}

/// Snapshots of these times, each by itself.
fn at(times: &[&str]) -> (Room, Snapshots) {
    let room = Room::new(false);
    let [full, ..] = room.chain.links();
    for time in times {
        room.chain
            .forge("full", |manifest| {
                manifest.id = repository::link::new_id();
                manifest.finished = (*time).to_owned();
            })
            .unwrap();
        take(&room.repository, &full).unwrap();
    }
    let snapshots = room.repository.snapshots().unwrap();
    (room, snapshots)
}

#[test]
fn rules_keep_the_last_of_each_period_in_the_operators_time_zone() {
    let (_room, snapshots) = at(&[
        "2025-12-31T23:00:00Z",
        "2026-11-01T10:00:00Z",
        "2026-11-29T10:00:00Z",
        "2026-11-30T15:30:00Z",
        "2026-11-30T16:30:00Z",
        "2026-12-01T01:00:00Z",
        "2026-12-01T01:30:00Z",
    ]);
    let now: Timestamp = "2026-12-01T02:00:00Z".parse().unwrap();
    let kept = |rules: Rules, zone: &TimeZone| -> Vec<String> {
        let fates = rules.fates(&snapshots, now, zone).unwrap();
        let kept = fates.iter().filter(|fate| !fate.reasons.is_empty());
        kept.map(|fate| fate.snapshot.finished.replace(":00Z", ""))
            .collect()
    };
    let utc = TimeZone::UTC;
    let rules = Rules::default;
    let last = Rules { last: 2, ..rules() };
    assert_eq!(kept(last, &utc), ["2026-12-01T01:00", "2026-12-01T01:30"]);
    let hourly = Rules {
        hourly: 2,
        ..rules()
    };
    assert_eq!(kept(hourly, &utc), ["2026-11-30T16:30", "2026-12-01T01:30"]);
    let daily = || Rules {
        daily: 2,
        ..rules()
    };
    assert_eq!(
        kept(daily(), &utc),
        ["2026-11-30T16:30", "2026-12-01T01:30"]
    );
    // In Shanghai 16:30 of the 30th is the 1st.
    let shanghai = TimeZone::fixed(jiff::tz::offset(8));
    assert_eq!(
        kept(daily(), &shanghai),
        ["2026-11-30T15:30", "2026-12-01T01:30"]
    );
    let weekly = Rules {
        weekly: 2,
        ..rules()
    };
    assert_eq!(kept(weekly, &utc), ["2026-11-29T10:00", "2026-12-01T01:30"]);
    let monthly = Rules {
        monthly: 2,
        ..rules()
    };
    assert_eq!(
        kept(monthly, &utc),
        ["2026-11-30T16:30", "2026-12-01T01:30"]
    );
    let yearly = || Rules {
        yearly: 5,
        ..rules()
    };
    assert_eq!(
        kept(yearly(), &utc),
        ["2025-12-31T23:00", "2026-12-01T01:30"]
    );
    assert_eq!(kept(yearly(), &shanghai), ["2026-12-01T01:30"]);
    let within = Rules {
        within: Some(retention::span("10h").unwrap()),
        ..rules()
    };
    assert_eq!(
        kept(within, &utc),
        ["2026-11-30T16:30", "2026-12-01T01:00", "2026-12-01T01:30"]
    );
    // The newest stays, whatever the rules say.
    let within = Rules {
        within: Some(retention::span("1m").unwrap()),
        ..rules()
    };
    assert_eq!(kept(within, &utc), ["2026-12-01T01:30"]);
    assert!(rules().fates(&snapshots, now, &utc).is_err(), "no rule");
    let all = Rules {
        last: 1,
        daily: 1,
        ..rules()
    }
    .fates(&snapshots, now, &utc)
    .unwrap();
    assert_eq!(
        all.last().unwrap().reasons,
        [Reason::Newest, Reason::Last, Reason::Daily]
    );
    for wrong in ["", "30", "-3d", "0d", "soon"] {
        assert!(retention::span(wrong).is_err(), "{wrong}");
    }
}
