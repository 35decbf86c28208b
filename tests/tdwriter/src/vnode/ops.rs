//! Changes as plain data, for generated tests.

use std::io;

use super::VnodeBuilder;
use crate::row::{PkType, Row};

/// One change. Tables and super tables are named by the order of their creation, modulo their number; what names none,
/// or one that was dropped, does nothing.
#[derive(Clone, Debug)]
pub enum Op {
    /// A new super table.
    CreateStb {
        /// Type of the second part of its tables' keys.
        pk: Option<PkType>,
    },
    /// A new child table.
    CreateChild {
        /// Super table.
        stb: usize,
    },
    /// A new normal table.
    CreateNormal {
        /// Type of the second part of its key.
        pk: Option<PkType>,
    },
    /// A new child table made by its first rows.
    AutoCreate {
        /// Super table.
        stb: usize,
        /// Rows; their keys are made to fit.
        rows: Vec<Row>,
    },
    /// Rows of several tables in one submit.
    Write(Vec<(usize, Vec<Row>)>),
    /// A deleted range.
    Delete {
        /// Table.
        table: usize,
        /// First timestamp.
        skey: i64,
        /// Last timestamp.
        ekey: i64,
    },
    /// A range deleted in all tables of a super table.
    DeleteInStb {
        /// Super table.
        stb: usize,
        /// First timestamp.
        skey: i64,
        /// Last timestamp.
        ekey: i64,
    },
    /// A range deleted by name, as streams do.
    BatchDelete {
        /// Table.
        table: usize,
        /// First timestamp.
        skey: i64,
        /// Last timestamp.
        ekey: i64,
    },
    /// A dropped table.
    Drop {
        /// Table.
        table: usize,
    },
    /// A table whose time to live passed.
    TtlDrop {
        /// Table.
        table: usize,
    },
    /// A dropped super table.
    DropStb {
        /// Super table.
        stb: usize,
    },
    /// A new tag value.
    SetTag {
        /// Table.
        table: usize,
        /// Value.
        value: i32,
    },
    /// A new column of a super table.
    AlterStb {
        /// Super table.
        stb: usize,
    },
    /// A server start.
    NewTerm,
    /// A commit with its record.
    Commit,
    /// A commit without.
    CommitSilently,
    /// A merge of stt files into the next level.
    MergeStt,
    /// A merge of stt files into the data files.
    MergeToData,
}

impl VnodeBuilder {
    /// Does one change.
    pub fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::CreateStb { pk } => {
                let name = format!("stb{}", self.stb_count());
                self.create_stb(&name, *pk);
            }
            Op::CreateChild { stb } => {
                if let Some(suid) = self.stb(*stb) {
                    let name = format!("c{}", self.truth().tables.len());
                    self.create_child(&name, suid);
                }
            }
            Op::CreateNormal { pk } => {
                let name = format!("n{}", self.truth().tables.len());
                self.create_normal(&name, *pk);
            }
            Op::AutoCreate { stb, rows } => {
                if let Some(suid) = self.stb(*stb) {
                    let name = format!("a{}", self.truth().tables.len());
                    let rows = fitted(rows, self.stb_pk(suid));
                    self.auto_create(&name, suid, rows);
                }
            }
            Op::Write(parts) => {
                let parts: Vec<_> = parts
                    .iter()
                    .filter_map(|(table, rows)| self.table(*table).map(|uid| (uid, rows)))
                    .map(|(uid, rows)| (uid, fitted(rows, self.truth().tables[&uid].pk)))
                    .collect();
                if !parts.is_empty() {
                    self.write(&parts);
                }
            }
            Op::Delete { table, skey, ekey } => {
                if let Some(uid) = self.table(*table) {
                    self.delete(uid, *skey, *ekey);
                }
            }
            Op::DeleteInStb { stb, skey, ekey } => {
                if let Some(suid) = self.stb(*stb) {
                    self.delete_in_stb(suid, *skey, *ekey);
                }
            }
            Op::BatchDelete { table, skey, ekey } => {
                if let Some(uid) = self.table(*table) {
                    self.batch_delete(uid, *skey, *ekey);
                }
            }
            Op::Drop { table } => {
                if let Some(uid) = self.table(*table) {
                    self.drop_table(uid);
                }
            }
            Op::TtlDrop { table } => {
                if let Some(uid) = self.table(*table) {
                    self.ttl_drop(&[uid]);
                }
            }
            Op::DropStb { stb } => {
                if let Some(suid) = self.stb(*stb) {
                    self.drop_stb(suid);
                }
            }
            Op::SetTag { table, value } => {
                if let Some(uid) = self
                    .table(*table)
                    .filter(|uid| self.truth().tables[uid].suid != 0)
                {
                    self.set_tag(uid, *value);
                }
            }
            Op::AlterStb { stb } => {
                if let Some(suid) = self.stb(*stb) {
                    self.alter_stb(suid);
                }
            }
            Op::NewTerm => {
                self.new_term();
            }
            Op::Commit => self.commit()?,
            Op::CommitSilently => self.commit_silently()?,
            Op::MergeStt => self.merge_stt()?,
            Op::MergeToData => self.merge_to_data()?,
        }
        Ok(())
    }

    /// The table with this number, if it exists. Uids grow with every creation.
    fn table(&self, number: usize) -> Option<i64> {
        let tables = &self.truth().tables;
        let uid = *tables.keys().nth(number.checked_rem(tables.len())?)?;
        self.truth().exists(uid).then_some(uid)
    }
}

/// The rows with keys as the table has them, sorted and without duplicates, as a server gets them.
fn fitted(rows: &[Row], pk: Option<PkType>) -> Vec<Row> {
    use crate::row::Pk;
    let mut rows: Vec<_> = rows
        .iter()
        .cloned()
        .map(|row| {
            let n = match &row.pk {
                Some(Pk::Int(n)) => i64::from(*n),
                Some(Pk::BigInt(n)) => *n,
                Some(Pk::VarChar(s)) => s.len() as i64,
                None => i64::from(row.value.unwrap_or(0)),
            };
            let pk = pk.map(|kind| match (kind, &row.pk) {
                (PkType::VarChar, Some(Pk::VarChar(s))) => Pk::VarChar(s.clone()),
                (PkType::VarChar, _) => Pk::VarChar(n.to_string().into_bytes()),
                (PkType::Int, _) => Pk::Int(n as i32),
                (PkType::BigInt, _) => Pk::BigInt(n),
            });
            Row { pk, ..row }
        })
        .collect();
    rows.sort_by(|a, b| (a.ts, &a.pk).cmp(&(b.ts, &b.pk)));
    rows.dedup_by(|a, b| (a.ts, &a.pk) == (b.ts, &b.pk));
    rows
}
