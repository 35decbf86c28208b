//! Vnode directories made by random changes, read back by a decoder of their own.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tdwriter::tsdb::{Format, Release};
use tdwriter::vnode::{Op, Precision, Truth, VnodeBuilder, VnodeConfig, WalKeep, big_irregular};
use tdwriter::wal::Form;
use tdwriter::{Pk, PkType, Row};

/// A generator good enough to mix things up.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn ts(&mut self) -> i64 {
        // Around zero and over five file sets of ten minutes.
        (self.below(300) as i64 - 60) * 10_000
    }

    fn rows(&mut self) -> Vec<Row> {
        (0..1 + self.below(40))
            .map(|_| {
                Row::new(self.ts(), self.below(4) as i32).with_pk(Pk::Int(self.below(3) as i32))
            })
            .collect()
    }

    fn pk(&mut self) -> Option<PkType> {
        [
            None,
            None,
            Some(PkType::Int),
            Some(PkType::BigInt),
            Some(PkType::VarChar),
        ][self.below(5) as usize]
    }

    fn op(&mut self) -> Op {
        let (table, stb) = (self.below(20) as usize, self.below(3) as usize);
        let skey = self.ts();
        let ekey = skey + self.below(80) as i64 * 10_000;
        match self.below(60) {
            0 => Op::CreateStb { pk: self.pk() },
            1..=3 => Op::CreateChild { stb },
            4 => Op::CreateNormal { pk: self.pk() },
            5 | 6 => Op::AutoCreate {
                stb,
                rows: self.rows(),
            },
            7..=30 => Op::Write(
                (0..1 + self.below(3))
                    .map(|_| (self.below(20) as usize, self.rows()))
                    .collect(),
            ),
            31..=36 => Op::Delete { table, skey, ekey },
            37 => Op::DeleteInStb { stb, skey, ekey },
            38 => Op::BatchDelete { table, skey, ekey },
            39 => Op::Drop { table },
            40 => Op::TtlDrop { table },
            41 if self.below(8) == 0 => Op::DropStb { stb },
            42 => Op::SetTag { table, value: 5 },
            43 => Op::AlterStb { stb },
            44 => Op::NewTerm,
            45..=49 => Op::Commit,
            50 => Op::CommitSilently,
            51 | 52 => Op::MergeStt,
            53..=55 => Op::MergeToData,
            _ => Op::Write(vec![(table, self.rows())]),
        }
    }
}

/// (uid, version, ts).
type Rows = Vec<(i64, i64, i64)>;
/// (suid, uid, version, first, last).
type Tombs = Vec<[i64; 5]>;

/// Everything the files named by `current.json` hold: rows (uid, version, ts) and deletes.
fn files(vnode: &Path, page_size: usize) -> (Rows, Tombs) {
    let (mut rows, mut tombs) = (Vec::new(), Vec::new());
    let text = std::fs::read_to_string(vnode.join("tsdb/current.json")).unwrap();
    let current: Value = serde_json::from_str(&text).unwrap();
    let mut named = BTreeSet::from(["current.json".to_owned()]);
    for set in current["fset"].as_array().unwrap() {
        let mut file = |entry: &Value, ext: &str| {
            let name = format!("v2f{}ver{}.{ext}", entry["fid"], entry["cid"]);
            named.insert(name.clone());
            (
                vnode.join("tsdb").join(name),
                entry["size"].as_i64().unwrap(),
            )
        };
        if set["head"].is_object() {
            let (path, size) = file(&set["head"], "head");
            let head = support::head(&path, page_size, size);
            let (path, size) = file(&set["data"], "data");
            let data = support::logical(&path, page_size, size as usize);
            let (path, size) = file(&set["sma"], "sma");
            support::logical(&path, page_size, size as usize);
            rows.extend(support::data_rows(&head, &data));
            assert!(head.is_sorted_by_key(|r| (r[0], r[1], r[2])));
        }
        if set["tomb"].is_object() {
            let (path, size) = file(&set["tomb"], "tomb");
            tombs.extend(support::tomb(&path, page_size, size));
        }
        for level in set["stt lvl"].as_array().unwrap() {
            for entry in level["files"].as_array().unwrap() {
                let (path, size) = file(entry, "stt");
                let stt = support::stt(&path, page_size, size);
                assert_eq!(
                    entry["maxVer"].as_i64(),
                    stt.rows
                        .iter()
                        .map(|r| r.1)
                        .chain(stt.tombs.iter().map(|t| t[2]))
                        .max()
                );
                rows.extend(stt.rows);
                tombs.extend(stt.tombs);
            }
        }
    }
    let there: BTreeSet<_> = std::fs::read_dir(vnode.join("tsdb"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, named);
    (rows, tombs)
}

/// Versions in the log, whose headers, bodies and index are checked.
fn log_versions(vnode: &Path) -> Vec<i64> {
    let mut out = Vec::new();
    let mut logs: Vec<_> = std::fs::read_dir(vnode.join("wal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    logs.retain(|p| p.extension().is_some_and(|e| e == "log"));
    logs.sort();
    for path in logs {
        let (log, idx) = (
            std::fs::read(&path).unwrap(),
            std::fs::read(path.with_extension("idx")).unwrap(),
        );
        let mut at = 0;
        for entry in idx.chunks(16) {
            let header = &log[at..at + 56];
            let len = support::i32_at(header, 32) as usize;
            let body = &log[at + 56..at + 56 + len];
            assert_eq!(crc32c::crc32c(&header[16..]).to_le_bytes(), header[8..12]);
            assert_eq!(crc32c::crc32c(body).to_le_bytes(), header[12..16]);
            let version = support::i64_at(header, 16);
            assert_eq!(
                (support::i64_at(entry, 0), support::i64_at(entry, 8)),
                (version, at as i64)
            );
            out.push(version);
            at += 56 + len;
        }
        assert_eq!(at, log.len());
    }
    out
}

/// Live rows (uid, ts) of tables without composite keys, from files alone.
fn live_in_files(
    rows: &[(i64, i64, i64)],
    tombs: &[[i64; 5]],
    truth: &Truth,
) -> BTreeSet<(i64, i64)> {
    let mut newest = BTreeMap::new();
    for &(uid, version, ts) in rows.iter().filter(|r| plain(truth, r.0)) {
        let v = newest.entry((uid, ts)).or_insert(version);
        *v = version.max(*v);
    }
    let covered = |uid, ts, v| {
        tombs
            .iter()
            .any(|t| t[1] == uid && t[2] > v && t[3] <= ts && ts <= t[4])
    };
    newest
        .into_iter()
        .filter(|&((uid, ts), v)| !covered(uid, ts, v))
        .map(|(k, _)| k)
        .collect()
}

fn plain(truth: &Truth, uid: i64) -> bool {
    truth.exists(uid) && truth.tables[&uid].pk.is_none()
}

#[test]
fn random_vnodes_hold_what_the_truth_says() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let page_size = [4096, 8192, 16384][random.below(3) as usize];
        let config = VnodeConfig {
            precision: Precision::Ms,
            minutes_per_file: 10,
            format: Format {
                page_size,
                max_rows: 30,
                comp: random.below(3) as u8,
                ..Format::default()
            },
            release: [Release::V331, Release::V336, Release::V337][random.below(3) as usize],
            stt_trigger: 1 + random.below(2) as u32,
            form: [
                Form::Tuple,
                Form::KeyValue,
                Form::ColumnsV0,
                Form::ColumnsV1,
            ][random.below(4) as usize],
            wal: [
                WalKeep::All,
                WalKeep::Last(1),
                WalKeep::Last(0),
                WalKeep::Off,
            ][random.below(4) as usize],
            ..VnodeConfig::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let mut vnode = VnodeBuilder::create(dir.path(), config.clone()).unwrap();
        for op in [
            Op::CreateStb { pk: None },
            Op::CreateChild { stb: 0 },
            Op::CreateChild { stb: 0 },
        ] {
            vnode.apply(&op).unwrap();
        }
        let mut at_commit = vnode.truth().clone();
        for i in 0..150 {
            let op = random.op();
            vnode.apply(&op).unwrap();
            if matches!(op, Op::Commit | Op::CommitSilently) {
                at_commit = vnode.truth().clone();
            }
            if i % 50 != 49 {
                continue;
            }
            let truth = vnode.save().unwrap();
            assert_eq!(truth.commit_version, at_commit.commit_version);
            let (rows, tombs) = files(vnode.path(), page_size);
            let set: BTreeSet<_> = rows.iter().copied().collect();
            for (key, &version) in truth
                .newest
                .iter()
                .filter(|&(_, &v)| v <= truth.commit_version)
            {
                assert!(
                    set.contains(&(key.uid, version, key.ts)),
                    "seed {seed}: {key:?} {version}"
                );
            }
            let live: BTreeSet<_> = at_commit
                .live
                .keys()
                .filter(|k| plain(&truth, k.uid))
                .map(|k| (k.uid, k.ts))
                .collect();
            assert_eq!(live_in_files(&rows, &tombs, &truth), live, "seed {seed}");

            let versions = log_versions(vnode.path());
            assert!(versions.windows(2).all(|w| w[1] == w[0] + 1));
            match config.wal {
                WalKeep::Off => assert!(versions.is_empty()),
                WalKeep::All => assert_eq!(versions, (0..=truth.last_version).collect::<Vec<_>>()),
                WalKeep::Last(_) => assert!(
                    versions
                        .first()
                        .is_none_or(|&v| v <= truth.commit_version + 1)
                ),
            }
        }
    }
}

#[test]
fn big_vnodes_hold_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let truth = big_irregular(dir.path(), 5, 3000, 1_000_000, 999_999, 0.1).unwrap();
    assert_eq!(truth.vnodes.iter().map(|v| v.rows).sum::<i64>(), 15_000);
    let v = &truth.vnodes[0];
    let (rows, _) = files(&dir.path().join("vnode/vnode2"), 4096);
    let dirty = rows.iter().filter(|r| r.1 > v.since).count() as i64;
    assert_eq!(
        (dirty, rows.len() as i64 - dirty),
        (v.dirty_flushed, v.rows)
    );
    assert_eq!((v.dirty_flushed, v.dirty_in_wal), (600, 300));
    assert_eq!(
        log_versions(&dir.path().join("vnode/vnode2")),
        (v.since + 1..=v.last).collect::<Vec<_>>()
    );
    let loaded: BTreeSet<_> = rows
        .iter()
        .filter(|r| r.1 <= v.since)
        .map(|r| (r.0, r.2))
        .collect();
    assert_eq!(loaded.len() as i64, v.rows);
}
