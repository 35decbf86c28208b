//! A vnode that is written to, committed and merged like a real one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file_sets::{Edit, Set, Sets};
use super::{TableInfo, Truth, VnodeJson};
use crate::row::{PkType, Row};
use crate::tsdb::{CurrentJson, Format, Release, StoredRow, Tomb};
use crate::wal::{
    self, CreateTable, DropTable, Form, Record, Segment, Stb, TableKind, TableRows, WalFile,
};

/// Precision of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Milliseconds.
    #[default]
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Precision {
    /// Ticks per minute.
    pub fn per_minute(self) -> i64 {
        60_000 * [1, 1000, 1_000_000][self as usize]
    }
}

/// Which WAL segments are left after a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalKeep {
    /// All: their retention has not passed.
    #[default]
    All,
    /// This many committed segments.
    Last(usize),
    /// No log at all (`wal_level 0`): files 0 exist and stay empty. What is not committed cannot be read.
    Off,
}

/// Options of a vnode.
#[derive(Clone, Debug)]
pub struct VnodeConfig {
    /// Vgroup id.
    pub vg: i32,
    /// Database name.
    pub db: String,
    /// Database id.
    pub db_id: i64,
    /// Precision of timestamps.
    pub precision: Precision,
    /// Minutes a file set spans; 14400 are the default 10 days.
    pub minutes_per_file: i32,
    /// Format of TSDB files.
    pub format: Format,
    /// Server release, which decides JSON keys and whether drops name uids.
    pub release: Release,
    /// With 1 commits go straight to the data files; else each makes an stt file. Merges are up to the caller.
    pub stt_trigger: u32,
    /// Layout of submits.
    pub form: Form,
    /// Retention of the log.
    pub wal: WalKeep,
    /// Shapes WAL bodies as an encrypting server would.
    pub wal_encrypted: bool,
    /// Clock of the first record in µs since 1970; one more ms for every record.
    pub start_us: i64,
}

impl Default for VnodeConfig {
    fn default() -> Self {
        Self {
            vg: 2,
            db: "sdb".into(),
            db_id: 4_369_355_181_062_583_356,
            precision: Precision::Ms,
            minutes_per_file: 14_400,
            format: Format::default(),
            release: Release::V337,
            stt_trigger: 2,
            form: Form::Tuple,
            wal: WalKeep::All,
            wal_encrypted: false,
            start_us: 1_704_067_200_000_000,
        }
    }
}

/// A vnode being written.
///
/// Every change appends a record to the log, at once with the next version; a commit moves what is not yet in files to
/// `tsdb` and starts a new segment. Nothing reaches the disk completely before [`VnodeBuilder::save`].
pub struct VnodeBuilder {
    config: VnodeConfig,
    root: PathBuf,
    truth: Truth,
    stbs: BTreeMap<i64, Stb>,
    next_id: i64,
    term: i64,
    commit_id: i64,
    edit: i64,
    segments: Vec<Segment>,
    meta_saves: u32,
    rows: Vec<StoredRow>,
    tombs: Vec<Tomb>,
    sets: Sets,
}

impl VnodeBuilder {
    /// A new vnode `dir/vnode/vnodeN`; its first record is the start of a raft term.
    pub fn create(dir: &Path, config: VnodeConfig) -> io::Result<Self> {
        let root = dir.join(format!("vnode/vnode{}", config.vg));
        fs::create_dir_all(root.join("wal"))?;
        fs::create_dir_all(root.join("tsdb"))?;
        let mut builder = Self {
            root,
            truth: Truth {
                commit_version: -1,
                last_version: -1,
                ..Truth::default()
            },
            stbs: BTreeMap::new(),
            next_id: i64::from(config.vg) << 40 | 1,
            term: 0,
            commit_id: 0,
            edit: 0,
            segments: vec![Segment {
                encrypted: config.wal_encrypted,
                ..Segment::default()
            }],
            meta_saves: 0,
            rows: Vec::new(),
            tombs: Vec::new(),
            sets: Sets::new(),
            config,
        };
        builder.new_term();
        Ok(builder)
    }

    /// The vnode's directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What was done so far.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Appends any record; answers its version.
    pub fn raw(&mut self, msg_type: i16, body: Vec<u8>) -> i64 {
        self.truth.last_version += 1;
        let version = self.truth.last_version;
        if self.config.wal != WalKeep::Off {
            let record = Record {
                version,
                ingest_us: self.now_us(),
                msg_type,
                term: self.term,
                body,
            };
            self.segments.last_mut().unwrap().records.push(record);
        }
        version
    }

    fn now_us(&self) -> i64 {
        self.config.start_us + (self.truth.last_version + self.edit) * 1000
    }

    fn now_ms(&self) -> i64 {
        self.now_us() / 1000
    }

    fn new_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// Starts a raft term, as every server start does.
    pub fn new_term(&mut self) -> i64 {
        self.term += 1;
        self.raw(wal::SYNC_NOOP, wal::sync_noop(self.config.vg))
    }

    /// Creates a super table; answers its suid.
    pub fn create_stb(&mut self, name: &str, pk: Option<PkType>) -> i64 {
        let suid = self.new_id();
        let stb = Stb::of_rows(name, suid, pk);
        self.raw(wal::CREATE_STB, wal::create_stb(self.config.vg, &stb, &[]));
        self.stbs.insert(suid, stb);
        suid
    }

    /// Adds an INT column that stays NULL to a super table.
    pub fn alter_stb(&mut self, suid: i64) -> Option<i64> {
        let stb = self.stbs.get_mut(&suid)?;
        stb.version += 1;
        let id = stb.columns.len() as i16 + 1;
        stb.columns.push(wal::Column::new(
            id,
            &format!("extra{id}"),
            crate::codec::INT,
            0,
            4,
        ));
        let body = wal::alter_stb(self.config.vg, stb, b"alter table", &[]);
        Some(self.raw(wal::ALTER_STB, body))
    }

    /// Super tables ever created.
    pub(super) fn stb_count(&self) -> usize {
        self.stbs.len() + self.truth.dropped_stbs.len()
    }

    /// The super table with this number, counting those that exist.
    pub(super) fn stb(&self, number: usize) -> Option<i64> {
        self.stbs
            .keys()
            .nth(number.checked_rem(self.stbs.len())?)
            .copied()
    }

    /// Type of the second part of the keys of a super table's tables.
    pub(super) fn stb_pk(&self, suid: i64) -> Option<PkType> {
        let columns = &self.stbs[&suid].columns;
        columns
            .iter()
            .find(|c| c.flags & 4 != 0)
            .map(|c| match c.kind {
                crate::codec::INT => PkType::Int,
                crate::codec::BIGINT => PkType::BigInt,
                _ => PkType::VarChar,
            })
    }

    fn new_table(&mut self, name: &str, kind: TableKind) -> CreateTable {
        CreateTable {
            uid: self.new_id(),
            name: name.into(),
            created_ms: self.now_ms(),
            ttl_days: 0,
            comment: None,
            kind,
            extra: Vec::new(),
        }
    }

    fn child_of(&self, suid: i64) -> TableKind {
        TableKind::Child {
            stb: self.stbs[&suid].name.clone(),
            suid,
            group: self.truth.tables.len() as i32,
        }
    }

    fn table_created(&mut self, table: &CreateTable, version: i64) -> i64 {
        let (suid, pk) = match &table.kind {
            TableKind::Child { suid, .. } => (*suid, self.stb_pk(*suid)),
            TableKind::Normal { pk } => (0, *pk),
        };
        let info = TableInfo {
            suid,
            name: table.name.clone(),
            pk,
            created: version,
            dropped: None,
            altered: None,
        };
        self.truth.tables.insert(table.uid, info);
        table.uid
    }

    fn log_create(&mut self, table: &CreateTable) -> i64 {
        let version = self.raw(
            wal::CREATE_TABLE,
            wal::create_tables(self.config.vg, std::slice::from_ref(table), &[]),
        );
        self.table_created(table, version)
    }

    /// Creates a child table of a super table that exists; answers its uid.
    pub fn create_child(&mut self, name: &str, suid: i64) -> i64 {
        let table = self.new_table(name, self.child_of(suid));
        self.log_create(&table)
    }

    /// Creates a normal table; answers its uid.
    pub fn create_normal(&mut self, name: &str, pk: Option<PkType>) -> i64 {
        let table = self.new_table(name, TableKind::Normal { pk });
        self.log_create(&table)
    }

    /// Writes rows of tables that exist in one submit; answers its version. The rows must have the keys their tables have.
    pub fn write(&mut self, parts: &[(i64, Vec<Row>)]) -> i64 {
        self.submit(
            parts
                .iter()
                .map(|(uid, rows)| (*uid, rows.clone(), None))
                .collect(),
        )
    }

    /// Creates a child table while writing its first rows; answers its uid.
    pub fn auto_create(&mut self, name: &str, suid: i64, rows: Vec<Row>) -> i64 {
        let table = self.new_table(name, self.child_of(suid));
        let uid = table.uid;
        self.submit(vec![(uid, rows, Some(table))]);
        uid
    }

    fn submit(&mut self, parts: Vec<(i64, Vec<Row>, Option<CreateTable>)>) -> i64 {
        let version = self.truth.last_version + 1;
        let mut tables = Vec::new();
        for (uid, rows, create) in parts {
            if let Some(create) = &create {
                self.table_created(create, version);
            }
            let suid = self.truth.tables[&uid].suid;
            let sver = self.stbs.get(&suid).map_or(1, |s| s.version);
            for row in &rows {
                self.truth.write(uid, row.ts, row.pk.clone(), version);
                self.rows.push(StoredRow {
                    suid,
                    uid,
                    version,
                    row: row.clone(),
                });
            }
            let form = self.config.form;
            tables.push(TableRows {
                suid,
                uid,
                sver,
                rows,
                form,
                create,
                flags: 0,
                requested_ms: self.now_ms(),
                extra: Vec::new(),
            });
        }
        self.raw(wal::SUBMIT, wal::submit(self.config.vg, &tables, &[]))
    }

    /// Deletes the rows of a table from `skey` to `ekey` inclusive. As the leader does, logs the first and last row hit,
    /// or, where there is none, a delete without effect.
    pub fn delete(&mut self, uid: i64, skey: i64, ekey: i64) -> i64 {
        let info = &self.truth.tables[&uid];
        let (suid, name) = (info.suid, info.name.clone());
        self.delete_in(suid, &[uid], name, skey, ekey)
    }

    /// Deletes a range in all tables of a super table; every one of them gets the delete, hit or not.
    pub fn delete_in_stb(&mut self, suid: i64, skey: i64, ekey: i64) -> i64 {
        let uids = self.children(suid);
        let name = self.stbs[&suid].name.clone();
        self.delete_in(suid, &uids, name, skey, ekey)
    }

    fn children(&self, suid: i64) -> Vec<i64> {
        let tables = self.truth.tables.iter();
        tables
            .filter(|(_, t)| t.suid == suid && t.dropped.is_none())
            .map(|(&uid, _)| uid)
            .collect()
    }

    fn delete_in(&mut self, suid: i64, uids: &[i64], table: String, skey: i64, ekey: i64) -> i64 {
        let hits: Vec<_> = uids
            .iter()
            .filter_map(|&uid| self.truth.matching(uid, skey, ekey))
            .collect();
        let affected = hits.iter().map(|h| h.2).sum();
        let skey = hits.iter().map(|h| h.0).min().unwrap_or(skey);
        let ekey = hits.iter().map(|h| h.1).max().unwrap_or(ekey);
        let d = wal::Delete {
            suid,
            uids: uids.to_vec(),
            skey,
            ekey,
            affected,
            table,
            ts_column: "ts".into(),
            created_ms: self.now_ms(),
        };
        let version = self.raw(wal::DELETE, wal::delete(self.config.vg, &d, &[]));
        if affected > 0 {
            for &uid in uids {
                self.entomb(Tomb {
                    suid,
                    uid,
                    version,
                    skey,
                    ekey,
                });
            }
        }
        version
    }

    /// Deletes a range of a table by name, as streams do.
    pub fn batch_delete(&mut self, uid: i64, skey: i64, ekey: i64) -> i64 {
        let info = &self.truth.tables[&uid];
        let (suid, range) = (
            info.suid,
            wal::BatchDelete {
                table: info.name.clone(),
                skey,
                ekey,
            },
        );
        let body = wal::batch_delete(self.config.vg, suid, &[range], self.now_ms());
        let version = self.raw(wal::BATCH_DELETE, body);
        self.entomb(Tomb {
            suid,
            uid,
            version,
            skey,
            ekey,
        });
        version
    }

    fn entomb(&mut self, tomb: Tomb) {
        self.truth.delete(tomb);
        self.tombs.push(tomb);
    }

    /// Drops a table that exists.
    pub fn drop_table(&mut self, uid: i64) -> i64 {
        let info = &self.truth.tables[&uid];
        let names_uid = self.config.release != Release::V331;
        let d = DropTable {
            name: info.name.clone(),
            suid: info.suid,
            uid: names_uid.then_some(uid),
            extra: Vec::new(),
        };
        let version = self.raw(wal::DROP_TABLE, wal::drop_tables(self.config.vg, &[d], &[]));
        self.truth.drop_table(uid, version);
        version
    }

    /// Drops tables because their time to live passed.
    pub fn ttl_drop(&mut self, uids: &[i64]) -> i64 {
        let now_s = (self.now_us() / 1_000_000) as i32;
        let version = self.raw(wal::TTL_DROP, wal::ttl_drop(self.config.vg, now_s, uids));
        for &uid in uids {
            self.truth.drop_table(uid, version);
        }
        version
    }

    /// Drops a super table with all its children.
    pub fn drop_stb(&mut self, suid: i64) -> Option<i64> {
        let stb = self.stbs.remove(&suid)?;
        let version = self.raw(
            wal::DROP_STB,
            wal::drop_stb(self.config.vg, &stb.name, suid, &[]),
        );
        for uid in self.children(suid) {
            self.truth.drop_table(uid, version);
        }
        self.truth.dropped_stbs.insert(suid, version);
        Some(version)
    }

    /// Changes the tag of a child table.
    pub fn set_tag(&mut self, uid: i64, value: i32) -> i64 {
        let alter = wal::Alter::SetTag {
            id: 100,
            name: "groupid".into(),
            kind: crate::codec::INT,
            value: Some(value.to_le_bytes().to_vec()),
        };
        let name = self.truth.tables[&uid].name.clone();
        let version = self.raw(
            wal::ALTER_TABLE,
            wal::alter_table(self.config.vg, &name, &alter, self.now_ms(), &[]),
        );
        self.truth.tables.get_mut(&uid).unwrap().altered = Some(version);
        version
    }

    fn fid(&self, ts: i64) -> i32 {
        let span = self.config.precision.per_minute() * i64::from(self.config.minutes_per_file);
        ts.div_euclid(span) as i32
    }

    /// First and last timestamp of a file set.
    pub fn range_of(&self, fid: i32) -> (i64, i64) {
        let span = self.config.precision.per_minute() * i64::from(self.config.minutes_per_file);
        (i64::from(fid) * span, (i64::from(fid) + 1) * span - 1)
    }

    /// Runs `f` on every file set as one edit.
    fn edit_sets(
        &mut self,
        mut f: impl FnMut(&Edit, i32, &mut Set) -> io::Result<()>,
    ) -> io::Result<()> {
        self.edit += 1;
        let dir = self.root.join("tsdb");
        let truth = &self.truth;
        let exists = |uid| truth.exists(uid);
        let edit = Edit {
            dir: &dir,
            vg: self.config.vg,
            cid: self.edit,
            format: self.config.format,
            now_ms: self.now_ms(),
            exists: &exists,
        };
        for (&fid, set) in &mut self.sets {
            f(&edit, fid, set)?;
        }
        Ok(())
    }

    /// Commits by a COMMIT record, as `FLUSH DATABASE` does.
    pub fn commit(&mut self) -> io::Result<()> {
        self.raw(wal::COMMIT, wal::commit(self.config.vg));
        self.commit_silently()
    }

    /// Commits without a record, as a server with full buffers does.
    pub fn commit_silently(&mut self) -> io::Result<()> {
        let mut rows: BTreeMap<i32, Vec<StoredRow>> = BTreeMap::new();
        for row in std::mem::take(&mut self.rows)
            .into_iter()
            .filter(|r| self.truth.exists(r.uid))
        {
            rows.entry(self.fid(row.row.ts)).or_default().push(row);
        }
        for &fid in rows.keys() {
            self.sets.entry(fid).or_insert_with(|| Set::new(fid));
        }
        let mut tombs = std::mem::take(&mut self.tombs);
        tombs.retain(|t| self.truth.exists(t.uid));
        let ranges: BTreeMap<_, _> = self
            .sets
            .keys()
            .map(|&fid| (fid, self.range_of(fid)))
            .collect();
        let straight = self.config.stt_trigger <= 1;
        self.edit_sets(|edit, fid, set| {
            let (first, last) = ranges[&fid];
            let clipped: Vec<_> = tombs
                .iter()
                .filter(|t| t.skey <= last && t.ekey >= first)
                .map(|t| Tomb {
                    skey: t.skey.max(first),
                    ekey: t.ekey.min(last),
                    ..*t
                })
                .collect();
            let rows = rows.remove(&fid).unwrap_or_default();
            match (rows.is_empty() && clipped.is_empty(), straight) {
                (true, _) => Ok(()),
                (false, true) => edit.merge_to_data(set, rows, clipped),
                (false, false) => edit.add_stt(set, 0, rows, clipped),
            }
        })?;
        self.truth.commit_version = self.truth.last_version;
        self.commit_id += 1;
        self.roll();
        Ok(())
    }

    /// Closes the open segment unless it is empty, and drops what retention allows.
    fn roll(&mut self) {
        if self.segments.last().is_some_and(|s| !s.records.is_empty()) {
            self.segments.push(Segment {
                first_version: self.truth.last_version + 1,
                records: Vec::new(),
                encrypted: self.config.wal_encrypted,
            });
        }
        if let WalKeep::Last(n) = self.config.wal {
            let closed = self.segments.len() - 1;
            self.segments.drain(..closed.saturating_sub(n));
        }
    }

    /// Merges the stt files of level 0 in every file set into one of level 1.
    pub fn merge_stt(&mut self) -> io::Result<()> {
        self.edit_sets(|edit, _, set| edit.merge_stt(set))
    }

    /// Merges all stt files into the data and tomb files.
    pub fn merge_to_data(&mut self) -> io::Result<()> {
        self.edit_sets(|edit, _, set| {
            if set.files.stt.is_empty() {
                Ok(())
            } else {
                edit.merge_to_data(set, Vec::new(), Vec::new())
            }
        })
    }

    /// The `current.json` of this moment.
    pub fn current(&self) -> CurrentJson {
        let sets = self.sets.values().map(|s| s.files.clone());
        let sets = sets.filter(|s| s.head.is_some() || s.tomb.is_some() || !s.stt.is_empty());
        CurrentJson {
            release: self.config.release,
            sets: sets.collect(),
        }
    }

    /// The `vnode.json` of this moment.
    pub fn vnode_json(&self) -> VnodeJson {
        let exist = || self.truth.tables.values().filter(|t| t.dropped.is_none());
        let children = exist().filter(|t| t.suid != 0).count() as i64;
        let normal = exist().count() as i64 - children;
        VnodeJson {
            vg: self.config.vg,
            db: self.config.db.clone(),
            db_id: self.config.db_id,
            precision: self.config.precision as u8,
            compression: self.config.format.comp,
            minutes_per_file: self.config.minutes_per_file,
            max_rows: self.config.format.max_rows as i32,
            tsdb_page_size: self.config.format.page_size as i32,
            wal_level: (self.config.wal != WalKeep::Off).into(),
            wal_encrypt: self.config.wal_encrypted.into(),
            stt_trigger: self.config.stt_trigger,
            counts: [
                self.stbs.len() as i64,
                children,
                normal,
                2 * children,
                2 * normal,
            ],
            commit_version: self.truth.commit_version,
            commit_id: self.commit_id,
            commit_term: self.term,
            ..VnodeJson::default()
        }
    }

    /// Makes the directory whole: log, `meta-ver`, `current.json`, `vnode.json`. May be called again after more changes.
    pub fn save(&mut self) -> io::Result<Truth> {
        let dir = self.root.join("wal");
        for entry in fs::read_dir(&dir)? {
            fs::remove_file(entry?.path())?;
        }
        let mut files = Vec::new();
        for (i, segment) in self.segments.iter().enumerate() {
            wal::write_segment(&dir, segment)?;
            let open = i + 1 == self.segments.len();
            let seconds = |v: i64| (self.config.start_us + v * 1000) / 1_000_000;
            let next = self.segments.get(i + 1).map(|s| s.first_version);
            files.push(WalFile {
                first: segment.first_version,
                last: next.map_or(-1, |v| v - 1),
                created_s: seconds(segment.first_version),
                closed_s: next.map_or(-1, seconds),
                size: match open {
                    true => 0,
                    false => fs::metadata(dir.join(format!("{:020}.log", segment.first_version)))?
                        .len() as i64,
                },
            });
        }
        self.meta_saves += 1;
        let committed = self.truth.commit_version;
        wal::write_meta(
            &dir,
            self.meta_saves,
            files[0].first,
            committed,
            committed,
            &files,
        )?;
        fs::write(
            self.root.join("tsdb/current.json"),
            self.current().to_string(),
        )?;
        fs::write(self.root.join("vnode.json"), self.vnode_json().to_string())?;
        Ok(self.truth.clone())
    }
}
