//! A vnode that is written to like a real one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{TableInfo, Truth, VnodeConfig, WalKeep, file_sets::Sets};
use crate::{
    row::{PkType, Row},
    tsdb::{Release, StoredRow, Tomb},
    wal::{self, CreateTable, DropTable, Record, Segment, Stb, TableKind, TableRows},
};

/// A vnode being written.
///
/// Every change appends a record to the log, at once with the next version; a commit moves what is not yet in files to
/// `tsdb` and starts a new segment. Nothing reaches the disk completely before [`VnodeBuilder::save`].
pub struct VnodeBuilder {
    pub(super) config: VnodeConfig,
    pub(super) root: PathBuf,
    pub(super) truth: Truth,
    pub(super) stbs: BTreeMap<i64, Stb>,
    pub(super) next_id: i64,
    pub(super) term: i64,
    pub(super) commit_id: i64,
    pub(super) edit: i64,
    pub(super) segments: Vec<Segment>,
    pub(super) meta_saves: u32,
    pub(super) rows: Vec<StoredRow>,
    pub(super) tombs: Vec<Tomb>,
    pub(super) sets: Sets,
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

    pub(super) fn now_us(&self) -> i64 {
        self.config.start_us + (self.truth.last_version + self.edit) * 1000
    }

    pub(super) fn now_ms(&self) -> i64 {
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
                self.truth.write(uid, row, version);
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
                unset: sver as usize - 1,
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
}
