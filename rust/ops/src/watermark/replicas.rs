//! Which replica holds everything that was acknowledged before the run began.
//!
//! A replica's own files can't tell: a log that ends early looks like one that is complete. Two facts together prove it.
//! First, [`agreed`] finds a version that the vgroup's leader reported after the run began: every acknowledged request is
//! at or below it. Second, [`complete`] waits until the committed files of a replica, or what it reported itself, reach
//! that version: both only ever hold what the replicas agree on. `docs/architecture.md` says why the reports can be
//! trusted, and what else was tried.

use super::{
    Candidates, WatermarkError, moved_or,
    waiting::{Asker, Waiting},
};
use capture::{CaptureError, VnodeDir};
use model::{Progress, Version, VgId};
use server::{
    database as databases,
    vgroups::{self, Dnode, Vgroup},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How long a leader may take to report, and how long a replica may stand still while it is behind.
const STANDSTILL: Duration = Duration::from_secs(60);

/// So many new reports after a moment, and the last of them was taken down after that moment: a dnode gathers what it
/// reports in one thread and sends it in another, which waits for each answer, so the first three may be from before.
const REPORTS: u32 = 4;

/// How long a version must not have moved before a flush moves it.
const IDLE: Duration = Duration::from_millis(1_500);

/// How often the server is asked; it reports once a second.
const POLL: Duration = Duration::from_millis(50);

/// What a vgroup's leader has reported so far.
#[derive(Debug, Clone, Copy)]
struct Reported {
    leader: Dnode,
    version: Version,
    /// How many new reports came from this leader.
    news: u32,
    /// When the last came.
    at: Instant,
    /// Whether the last differs by one request, so that it is the flush that moved it.
    by_one: bool,
}

/// Whether the flush that was sent at `flushed` has moved what is reported, or was never sent, so that another one is
/// needed to get another report.
fn needs_flush(reported: &Reported, flushed: Option<Instant>, flush_first: bool) -> bool {
    let quiet = reported.at.elapsed() >= IDLE;
    match flushed {
        None => flush_first || quiet,
        Some(at) if reported.at > at => reported.by_one || quiet,
        Some(at) => quiet && at.elapsed() >= IDLE * 2,
    }
}

/// For each vgroup of these databases a version that is no lower than that of any request acknowledged before this call,
/// and that its replicas agree on.
///
/// Reports can be told apart only where the version moves. Where nobody writes, a flush moves it; `flush_first` says that
/// this is welcome at once.
pub(crate) fn agreed(
    asker: &Asker<'_>,
    names: &BTreeSet<String>,
    flush_first: bool,
    progress: &dyn Progress,
) -> Result<BTreeMap<VgId, Version>, WatermarkError> {
    let mut waiting = Waiting::new(progress, STANDSTILL);
    let mut reports: BTreeMap<VgId, Reported> = BTreeMap::new();
    let mut flushed: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let mut now = asker.ask(&mut waiting, "the list of vgroups", vgroups::all)?;
        now.retain(|vgroup| names.contains(&vgroup.database));
        for vgroup in &now {
            let lacked = reports
                .get(&vgroup.vgroup)
                .is_none_or(|known| known.news < REPORTS);
            // One that was complete before is not waited for.
            if take_down(vgroup, &mut reports) && lacked {
                waiting.has_moved();
            }
        }
        let lacks = |vgroup: &&Vgroup| {
            let known = reports.get(&vgroup.vgroup);
            known.is_none_or(|known| known.news < REPORTS)
        };
        let Some(lacking) = now.iter().find(lacks) else {
            return Ok(reports
                .iter()
                .map(|(vgroup, known)| (*vgroup, known.version))
                .collect());
        };
        for vgroup in now.iter().filter(lacks) {
            let sent = flushed.get(&vgroup.database).copied();
            let needed = reports
                .get(&vgroup.vgroup)
                .is_some_and(|known| needs_flush(known, sent, flush_first));
            if needed {
                flushed.insert(vgroup.database.clone(), Instant::now());
                flush(asker, &mut waiting, &vgroup.database)?;
            }
        }
        let what = || {
            format!(
                "the leader of vgroup {} of database {} to report ({})",
                lacking.vgroup,
                lacking.database,
                roles(lacking)
            )
        };
        if !waiting.pause(POLL, what)? {
            return Err(WatermarkError::NoReport {
                database: lacking.database.clone(),
                vgroup: lacking.vgroup,
                roles: roles(lacking),
                seconds: STANDSTILL.as_secs(),
            });
        }
    }
}

/// Takes down what a vgroup's leader reports; true if it is new from the same leader.
fn take_down(vgroup: &Vgroup, reports: &mut BTreeMap<VgId, Reported>) -> bool {
    let Some(leader) = vgroup.leader() else {
        // Whoever leads next begins anew.
        reports.remove(&vgroup.vgroup);
        return false;
    };
    let fresh = Reported {
        leader: leader.dnode,
        version: leader.committed,
        news: 0,
        at: Instant::now(),
        by_one: false,
    };
    match reports.get_mut(&vgroup.vgroup) {
        Some(known) if known.leader == leader.dnode && known.version == leader.committed => false,
        Some(known) if known.leader == leader.dnode && known.version < leader.committed => {
            *known = Reported {
                news: known.news + 1,
                by_one: leader.committed == known.version.next(),
                ..fresh
            };
            true
        }
        _ => {
            reports.insert(vgroup.vgroup, fresh);
            false
        }
    }
}

fn flush(
    asker: &Asker<'_>,
    waiting: &mut Waiting<'_>,
    database: &str,
) -> Result<(), WatermarkError> {
    let name = database.to_owned();
    let what = format!("FLUSH DATABASE {database}");
    asker.ask(waiting, &what, move |connection| {
        databases::flush(connection, &name)
    })
}

/// Where a vgroup's replicas are and what they do, for messages.
fn roles(vgroup: &Vgroup) -> String {
    let role = |replica: &vgroups::Replica| format!("dnode {} is {}", replica.dnode, replica.role);
    vgroup
        .replicas
        .iter()
        .map(role)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The replica of each vgroup that holds everything up to the version `wanted` of it. It is waited for one that gets
/// there; by its committed files, or, with `by_log`, by its log.
pub(crate) fn complete(
    asker: &Asker<'_>,
    database: &str,
    candidates: &BTreeMap<VgId, Candidates>,
    wanted: &BTreeMap<VgId, Version>,
    by_log: bool,
    progress: &dyn Progress,
) -> Result<Vec<VnodeDir>, WatermarkError> {
    let mut waiting = Waiting::new(progress, STANDSTILL);
    let mut reached: BTreeMap<VgId, Version> = BTreeMap::new();
    let mut flushed: Option<Instant> = None;
    loop {
        let reports = match by_log {
            true => {
                let name = database.to_owned();
                let ask = move |connection: &server::Connection| vgroups::of(connection, &name);
                asker.ask(&mut waiting, "the list of vgroups", ask)?
            }
            false => Vec::new(),
        };
        let (mut chosen, mut behind) = (Vec::new(), None);
        for (vgroup, candidates) in candidates {
            let wanted = wanted.get(vgroup).copied().unwrap_or(Version::BEGINNING);
            let (version, dnode, vnode) =
                best(database, *vgroup, candidates, wanted, by_log, &reports)?;
            let before = reached.insert(*vgroup, version);
            // One that was complete before is not waited for.
            if before.is_none_or(|before| before < version && before < wanted) {
                waiting.has_moved();
            }
            match version >= wanted {
                true => chosen.push(vnode),
                false => behind = Some((*vgroup, dnode, version, wanted)),
            }
        }
        let Some((vgroup, dnode, version, wanted)) = behind else {
            return Ok(chosen);
        };
        if !by_log && flushed.is_none_or(|at| at.elapsed() >= STANDSTILL / 4) {
            flushed = Some(Instant::now());
            flush(asker, &mut waiting, database)?;
            continue;
        }
        let what = || {
            format!(
                "the replica of vgroup {vgroup} of database {database} on dnode {dnode}, which has version {version} of \
                 {wanted}"
            )
        };
        if !waiting.pause(POLL, what)? {
            return Err(WatermarkError::ReplicaBehind {
                database: database.to_owned(),
                vgroup,
                dnode,
                version,
                wanted,
                seconds: STANDSTILL.as_secs(),
            });
        }
    }
}

/// The replica that is furthest, with how far it is.
fn best(
    database: &str,
    vgroup: VgId,
    candidates: &Candidates,
    wanted: Version,
    by_log: bool,
    reports: &[Vgroup],
) -> Result<(Version, Dnode, VnodeDir), WatermarkError> {
    let mut best: Option<(Version, Dnode, VnodeDir)> = None;
    let mut moved = None;
    let report = reports.iter().find(|report| report.vgroup == vgroup);
    for (dnode, vnode) in &candidates.0 {
        let reported = report
            .and_then(|report| report.on(*dnode))
            .map(|report| report.committed);
        let mut vnode = vnode.clone();
        vnode.agreed = reported.filter(|_| by_log);
        let version = match reached(&vnode, wanted).map_err(moved_or(database, &vnode)) {
            Ok(version) => version,
            Err(error @ WatermarkError::Moved { .. }) => {
                moved = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        // Of those that are complete the first one is taken.
        let is_further = |before: Version| before.min(wanted) < version.min(wanted);
        if best
            .as_ref()
            .is_none_or(|(before, _, _)| is_further(*before))
        {
            best = Some((version, *dnode, vnode));
        }
    }
    best.ok_or_else(|| {
        moved.unwrap_or_else(|| WatermarkError::NoReport {
            database: database.to_owned(),
            vgroup,
            roles: "no replica is given".to_owned(),
            seconds: 0,
        })
    })
}

/// Up to which version a vnode holds what the replicas agree on. Its log is read only if it can hold what is wanted.
fn reached(vnode: &VnodeDir, wanted: Version) -> Result<Version, CaptureError> {
    let committed = vnode.config()?.committed;
    Ok(match vnode.agreed {
        Some(agreed) if agreed >= wanted => vnode.newest_logged()?.min(agreed).max(committed),
        Some(agreed) => agreed.max(committed),
        None => committed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::vgroups::Replica;

    fn vgroup(replicas: &[(i64, &str, i64)]) -> Vgroup {
        let replicas = replicas.iter().map(|(dnode, role, version)| Replica {
            dnode: Dnode(*dnode),
            role: (*role).to_owned(),
            applied: Version(*version),
            committed: Version(*version),
        });
        Vgroup {
            vgroup: VgId(2),
            database: "d".to_owned(),
            replicas: replicas.collect(),
        }
    }

    fn news(reports: &BTreeMap<VgId, Reported>) -> Option<u32> {
        reports.get(&VgId(2)).map(|known| known.news)
    }

    #[test]
    fn a_flush_is_sent_where_nobody_writes_and_not_before_the_last_one_is_reported() {
        let now = Instant::now();
        let before = now.checked_sub(Duration::from_secs(9)).unwrap();
        let reported = |at, by_one| Reported {
            leader: Dnode(1),
            version: Version(7),
            news: 0,
            at,
            by_one,
        };
        assert!(needs_flush(&reported(now, false), None, true));
        assert!(
            !needs_flush(&reported(now, false), None, false),
            "not known to be idle"
        );
        assert!(needs_flush(&reported(before, false), None, false), "idle");
        assert!(
            !needs_flush(&reported(before, true), Some(now), true),
            "not reported yet"
        );
        assert!(
            needs_flush(&reported(now, true), Some(before), false),
            "only the flush was"
        );
        assert!(
            !needs_flush(&reported(now, false), Some(before), true),
            "somebody writes"
        );
        assert!(
            needs_flush(&reported(before, true), Some(before), true),
            "it was lost"
        );
    }

    #[test]
    fn only_new_reports_of_one_and_the_same_leader_count() {
        let mut reports = BTreeMap::new();
        let mut take = |replicas: &[(i64, &str, i64)]| {
            take_down(&vgroup(replicas), &mut reports);
            news(&reports)
        };
        let follower = (2, "follower", 99);
        assert_eq!(
            take(&[(1, "leader", 5), follower]),
            Some(0),
            "what was known before"
        );
        assert_eq!(
            take(&[(1, "leader", 5), follower]),
            Some(0),
            "the same again"
        );
        assert_eq!(take(&[(1, "leader", 6), follower]), Some(1));
        assert_eq!(take(&[(1, "leader", 9), follower]), Some(2));
        assert_eq!(
            take(&[(1, "follower", 9), (2, "leader", 9)]),
            Some(0),
            "another leader"
        );
        assert_eq!(take(&[(1, "follower", 9), (2, "leader", 10)]), Some(1));
        assert_eq!(
            take(&[(1, "leader", 9), (2, "leader", 11)]),
            None,
            "two leaders"
        );
        assert_eq!(
            take(&[(1, "offline", 9), (2, "leader*", 11)]),
            None,
            "not ready yet"
        );
        assert_eq!(take(&[(1, "offline", 9), (2, "leader", 11)]), Some(0));
        assert_eq!(
            take(&[(1, "offline", 9), (2, "leader", 3)]),
            Some(0),
            "started anew"
        );
    }
}
