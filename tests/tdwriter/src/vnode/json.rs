//! `vnode.json`.

/// Builder of `vnode.json`: options of the vnode and what it has committed. All values are strings in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VnodeJson {
    /// Vgroup id.
    pub vg: i32,
    /// Database name; the file has it behind the account id, as in `1.sdb`.
    pub db: String,
    /// Database id, new for every database created.
    pub db_id: i64,
    /// Precision of timestamps: 0 ms, 1 µs, 2 ns.
    pub precision: u8,
    /// Option COMP.
    pub compression: u8,
    /// Minutes a file set spans.
    pub minutes_per_file: i32,
    /// Least rows of a block.
    pub min_rows: i32,
    /// Most rows of a block.
    pub max_rows: i32,
    /// Minutes rows stay on storage levels 0, 1 and 2.
    pub keep_minutes: [i32; 3],
    /// Page size of TSDB files in bytes.
    pub tsdb_page_size: i32,
    /// Encryption of TSDB files: 0 none, 1 SM4.
    pub tsdb_encrypt: i32,
    /// Seconds WAL segments stay after their commit.
    pub wal_retention_s: i32,
    /// WAL level: 0 no WAL, 1 written, 2 synced.
    pub wal_level: u8,
    /// Encryption of WAL bodies: 0 none, 1 SM4.
    pub wal_encrypt: i32,
    /// Stt files that make a merge.
    pub stt_trigger: u32,
    /// First hash value of the vgroup.
    pub hash_begin: u32,
    /// Last hash value of the vgroup.
    pub hash_end: u32,
    /// Super tables, child tables, normal tables, columns of child tables, columns of normal tables.
    pub counts: [i64; 5],
    /// Last WAL index in the TSDB and meta files; -1 before the first commit.
    pub commit_version: i64,
    /// Number of the commit.
    pub commit_id: i64,
    /// Raft term of the commit.
    pub commit_term: i64,
}

impl Default for VnodeJson {
    fn default() -> Self {
        Self {
            vg: 2,
            db: "sdb".into(),
            db_id: 4_369_355_181_062_583_356,
            precision: 0,
            compression: 2,
            minutes_per_file: 14_400,
            min_rows: 100,
            max_rows: 4096,
            keep_minutes: [5_256_000; 3],
            tsdb_page_size: 4096,
            tsdb_encrypt: 0,
            wal_retention_s: 3600,
            wal_level: 1,
            wal_encrypt: 0,
            stt_trigger: 2,
            hash_begin: 0,
            hash_end: 2_147_483_646,
            counts: [0; 5],
            commit_version: -1,
            commit_id: 0,
            commit_term: 0,
        }
    }
}

impl std::fmt::Display for VnodeJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let vg = self.vg.to_string();
        let s = |v: i64| v.to_string();
        let config = [
            ("vgId", vg.clone()),
            ("mountVgId", s(0)),
            ("dbname", format!("1.{}", self.db)),
            ("dbId", s(self.db_id)),
            ("szPage", s(4096)),
            ("szCache", s(256)),
            ("cacheLast", s(0)),
            ("cacheLastSize", s(1)),
            ("szBuf", s(268_435_456)),
            ("isHeap", s(0)),
            ("isWeak", s(1)),
            ("isTsma", s(0)),
            ("isRsma", s(0)),
            ("precision", s(self.precision.into())),
            ("update", s(1)),
            ("compression", s(self.compression.into())),
            ("slLevel", s(5)),
            ("daysPerFile", s(self.minutes_per_file.into())),
            ("minRows", s(self.min_rows.into())),
            ("maxRows", s(self.max_rows.into())),
            ("keep0", s(self.keep_minutes[0].into())),
            ("keep1", s(self.keep_minutes[1].into())),
            ("keep2", s(self.keep_minutes[2].into())),
            ("keepTimeOffset", s(0)),
            ("ssChunkSize", s(131_072)),
            ("ssKeepLocal", s(525_600)),
            ("ssCompact", s(1)),
            ("tsdbPageSize", s(self.tsdb_page_size.into())),
            ("tsdb.encryptAlgorithm", s(self.tsdb_encrypt.into())),
            ("wal.vgId", vg),
            ("wal.fsyncPeriod", s(3000)),
            ("wal.retentionPeriod", s(self.wal_retention_s.into())),
            ("wal.rollPeriod", s(0)),
            ("wal.retentionSize", s(0)),
            ("wal.segSize", s(0)),
            ("wal.level", s(self.wal_level.into())),
            ("wal.clearFiles", s(0)),
            ("wal.encryptAlgorithm", s(self.wal_encrypt.into())),
            ("tdbEncryptAlgorithm", s(0)),
            ("sstTrigger", s(self.stt_trigger.into())),
            ("hashBegin", s(self.hash_begin.into())),
            ("hashEnd", s(self.hash_end.into())),
            ("hashChange", s(0)),
            ("hashMethod", s(1)),
            ("hashPrefix", s(0)),
            ("hashSuffix", s(0)),
            ("syncCfg.replicaNum", s(1)),
            ("syncCfg.myIndex", s(0)),
            ("syncCfg.changeVersion", s(1)),
            ("vndStats.stables", s(self.counts[0])),
            ("vndStats.ctables", s(self.counts[1])),
            ("vndStats.ntables", s(self.counts[2])),
            ("vndStats.timeseries", s(self.counts[3])),
            ("vndStats.ntimeseries", s(self.counts[4])),
        ];
        let node = [
            ("nodePort", s(6030)),
            ("nodeFqdn", "localhost".into()),
            ("nodeId", s(1)),
            ("clusterId", s(4_369_396_403_357_428_297)),
            ("isReplica", "true".into()),
        ];
        let state = [
            ("commit version", s(self.commit_version)),
            ("commit ID", s(self.commit_id)),
            ("commit term", s(self.commit_term)),
        ];
        let lines = |pairs: &[(&str, String)], tabs: &str| {
            pairs
                .iter()
                .map(|(k, v)| format!("{tabs}\"{k}\":\t\"{v}\""))
                .collect::<Vec<_>>()
                .join(",\n")
        };
        write!(
            f,
            "{{\n\t\"config\":\t{{\n{},\n\t\t\"syncCfg.nodeInfo\":\t[{{\n{}\n\t\t\t}}]\n\t}},\n\t\"state\":\t{{\n{}\n\t}}\n}}",
            lines(&config, "\t\t"),
            lines(&node, "\t\t\t\t"),
            lines(&state, "\t\t")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_shape_is_reproduced() {
        let json = VnodeJson {
            counts: [1, 10, 0, 40, 0],
            commit_version: 25,
            commit_id: 2,
            commit_term: 1,
            ..VnodeJson::default()
        };
        let text = json.to_string();
        assert!(text.starts_with(
            "{\n\t\"config\":\t{\n\t\t\"vgId\":\t\"2\",\n\t\t\"mountVgId\":\t\"0\",\n"
        ));
        assert!(text.ends_with(
            "\t\t\"syncCfg.nodeInfo\":\t[{\n\t\t\t\t\"nodePort\":\t\"6030\",\n\t\t\t\t\"nodeFqdn\":\t\"localhost\",\n\
             \t\t\t\t\"nodeId\":\t\"1\",\n\t\t\t\t\"clusterId\":\t\"4369396403357428297\",\n\
             \t\t\t\t\"isReplica\":\t\"true\"\n\t\t\t}]\n\t},\n\t\"state\":\t{\n\t\t\"commit version\":\t\"25\",\n\
             \t\t\"commit ID\":\t\"2\",\n\t\t\"commit term\":\t\"1\"\n\t}\n}"
        ));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["config"].as_object().unwrap().len(), 55);
    }
}
