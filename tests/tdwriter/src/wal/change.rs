//! Bodies of deletes and of records that change nothing.

use super::message;
use crate::bytes::Put;

/// A delete as the leader logs it.
#[derive(Clone, Debug, Default)]
pub struct Delete {
    /// Super table, or 0 for a normal table.
    pub suid: i64,
    /// Tables; for a delete on a super table all its children in the vgroup, touched or not.
    pub uids: Vec<i64>,
    /// First deleted timestamp.
    pub skey: i64,
    /// Last deleted timestamp, inclusive.
    pub ekey: i64,
    /// Deleted rows; the server ignores a delete of none.
    pub affected: i64,
    /// Name of the child, normal or super table.
    pub table: String,
    /// Name of the timestamp column.
    pub ts_column: String,
    /// Creation time in ms since 1970.
    pub created_ms: i64,
}

/// Body of a delete. `extra` stands for what a newer server might append.
pub fn delete(vg: i32, d: &Delete, extra: &[u8]) -> Vec<u8> {
    let mut b = Vec::new();
    b.i64(d.suid);
    b.ivar(d.uids.len() as i64);
    for &uid in &d.uids {
        b.i64(uid);
    }
    b.i64(d.skey);
    b.i64(d.ekey);
    b.ivar(d.affected);
    b.cstr(&d.table);
    b.cstr(&d.ts_column);
    b.i64(d.created_ms);
    b.u8(0);
    b.raw(extra);
    message(vg, &b)
}

/// One range of a batch delete.
#[derive(Clone, Debug, Default)]
pub struct BatchDelete {
    /// Table name.
    pub table: String,
    /// First deleted timestamp.
    pub skey: i64,
    /// Last deleted timestamp, inclusive.
    pub ekey: i64,
}

/// Body of a batch delete: ranges by table name below super table `suid`.
pub fn batch_delete(vg: i32, suid: i64, ranges: &[BatchDelete], created_ms: i64) -> Vec<u8> {
    let mut b = Vec::new();
    b.i64(suid);
    b.i32(ranges.len() as i32);
    for r in ranges {
        b.cstr(&r.table);
        b.i64(r.skey);
        b.i64(r.ekey);
    }
    b.i64(created_ms);
    b.u8(0);
    message(vg, &b)
}

/// Body of a commit record.
pub fn commit(vg: i32) -> Vec<u8> {
    message(vg, &[])
}

/// Body of the empty record a new raft term starts with.
pub fn sync_noop(vg: i32) -> Vec<u8> {
    message(vg, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_delete_is_reproduced() {
        let d = Delete {
            suid: 0x3ca3_0d9b_03a6_1edd,
            uids: vec![0x0615_1fcc_3d30_0023],
            skey: 1_704_068_200_000,
            ekey: 1_704_068_399_000,
            affected: 200,
            table: "d15".into(),
            ts_column: "ts".into(),
            created_ms: 1_795_242_174_762,
        };
        let recorded = "3d00000002000000dd1ea6039b0da33c022300303dcc1f1506403661c28c010000983f64c28c01000090030464313500\
                        037473002aa9c5fca101000000";
        assert_eq!(crate::hex(&delete(2, &d, &[])), recorded);
    }
}
