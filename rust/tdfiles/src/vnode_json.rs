//! `vnode.json`: a vnode's configuration and the version its files are committed up to.

use crate::{
    FormatError,
    json::{self, number, optional_number},
};
use model::{DbId, FileSetId, Key, KeySpan, Precision, Version, VgId};
use serde::Deserialize;

/// What a reader of the vnode's files needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VnodeJson {
    /// The vgroup.
    pub vgroup: VgId,
    /// The database's name, without the account id that stands before it in the file (`1.db` is `db`).
    pub database: String,
    /// The database's id.
    pub db_id: DbId,
    /// The unit of keys.
    pub precision: Precision,
    /// The length of a file set's key range, in minutes.
    pub minutes_per_file: i64,
    /// Bytes in a page of a TSDB file, checksum included.
    pub page_size: usize,
    /// Bytes in a page of the catalogue's file.
    pub meta_page_size: usize,
    /// The most rows a block may hold (MAXROWS).
    pub max_rows: usize,
    /// TSDB files are encrypted.
    pub tsdb_encrypted: bool,
    /// The catalogue's file is encrypted.
    pub meta_encrypted: bool,
    /// WAL bodies are encrypted.
    pub wal_encrypted: bool,
    /// WAL_LEVEL: 0 means that no WAL is written.
    pub wal_level: i64,
    /// Replicas of the vgroup.
    pub replicas: i64,
    /// The cluster's id, where the file says it: that of the first replica that has one.
    pub cluster: Option<String>,
    /// The part of the hash range of table names that the vgroup holds.
    pub hash_range: (i64, i64),
    /// The last version that the TSDB and meta files contain.
    pub committed: Version,
    /// How many commits the vnode has done.
    pub commit_id: i64,
    /// What else the database was created with.
    pub options: DatabaseOptions,
}

/// Options of CREATE DATABASE that only matter to whoever makes the database anew. Those that this server does not write
/// are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DatabaseOptions {
    /// BUFFER, in bytes.
    #[serde(rename = "szBuf", deserialize_with = "optional_number")]
    pub buffer: Option<i64>,
    /// PAGES.
    #[serde(rename = "szCache", deserialize_with = "optional_number")]
    pub pages: Option<i64>,
    /// CACHEMODEL: 0 for none, 1 for the last row, 2 for the last values, 3 for both.
    #[serde(rename = "cacheLast", deserialize_with = "optional_number")]
    pub cache_model: Option<i64>,
    /// CACHESIZE, in MB.
    #[serde(rename = "cacheLastSize", deserialize_with = "optional_number")]
    pub cache_size: Option<i64>,
    /// COMP.
    #[serde(rename = "compression", deserialize_with = "optional_number")]
    pub compression: Option<i64>,
    /// MINROWS.
    #[serde(rename = "minRows", deserialize_with = "optional_number")]
    pub min_rows: Option<i64>,
    /// The first part of KEEP, in minutes.
    #[serde(deserialize_with = "optional_number")]
    pub keep0: Option<i64>,
    /// The second part of KEEP, in minutes.
    #[serde(deserialize_with = "optional_number")]
    pub keep1: Option<i64>,
    /// The last part of KEEP, in minutes: what is older is deleted.
    #[serde(deserialize_with = "optional_number")]
    pub keep2: Option<i64>,
    /// KEEP_TIME_OFFSET, in hours.
    #[serde(rename = "keepTimeOffset", deserialize_with = "optional_number")]
    pub keep_time_offset: Option<i64>,
    /// STT_TRIGGER.
    #[serde(rename = "sstTrigger", deserialize_with = "optional_number")]
    pub stt_trigger: Option<i64>,
    /// WAL_FSYNC_PERIOD, in milliseconds.
    #[serde(rename = "wal.fsyncPeriod", deserialize_with = "optional_number")]
    pub wal_fsync_period: Option<i64>,
    /// WAL_RETENTION_PERIOD, in seconds.
    #[serde(rename = "wal.retentionPeriod", deserialize_with = "optional_number")]
    pub wal_retention_period: Option<i64>,
    /// WAL_RETENTION_SIZE, in KB.
    #[serde(rename = "wal.retentionSize", deserialize_with = "optional_number")]
    pub wal_retention_size: Option<i64>,
    /// TABLE_PREFIX.
    #[serde(rename = "hashPrefix", deserialize_with = "optional_number")]
    pub table_prefix: Option<i64>,
    /// TABLE_SUFFIX.
    #[serde(rename = "hashSuffix", deserialize_with = "optional_number")]
    pub table_suffix: Option<i64>,
}

#[derive(Deserialize)]
struct File {
    config: Config,
    state: State,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "vgId", deserialize_with = "number")]
    vgroup: i32,
    dbname: String,
    #[serde(rename = "dbId", deserialize_with = "number")]
    db_id: i64,
    #[serde(deserialize_with = "number")]
    precision: i64,
    #[serde(rename = "daysPerFile", deserialize_with = "number")]
    minutes_per_file: i64,
    #[serde(rename = "tsdbPageSize", default, deserialize_with = "optional_number")]
    page_size: Option<i64>,
    #[serde(rename = "szPage", default, deserialize_with = "optional_number")]
    meta_page_size: Option<i64>,
    #[serde(rename = "maxRows", deserialize_with = "number")]
    max_rows: i64,
    #[serde(
        rename = "tsdb.encryptAlgorithm",
        default,
        deserialize_with = "optional_number"
    )]
    tsdb_encryption: Option<i64>,
    #[serde(
        rename = "tdbEncryptAlgorithm",
        default,
        deserialize_with = "optional_number"
    )]
    meta_encryption: Option<i64>,
    #[serde(
        rename = "wal.encryptAlgorithm",
        default,
        deserialize_with = "optional_number"
    )]
    wal_encryption: Option<i64>,
    #[serde(rename = "wal.level", deserialize_with = "number")]
    wal_level: i64,
    #[serde(
        rename = "syncCfg.replicaNum",
        default,
        deserialize_with = "optional_number"
    )]
    replicas: Option<i64>,
    #[serde(rename = "syncCfg.nodeInfo", default)]
    nodes: Vec<Node>,
    #[serde(rename = "hashBegin", deserialize_with = "number")]
    hash_begin: i64,
    #[serde(rename = "hashEnd", deserialize_with = "number")]
    hash_end: i64,
    #[serde(flatten)]
    options: DatabaseOptions,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "clusterId", default, deserialize_with = "optional_number")]
    cluster: Option<i64>,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "commit version", deserialize_with = "number")]
    committed: i64,
    #[serde(rename = "commit ID", default, deserialize_with = "optional_number")]
    commit_id: Option<i64>,
}

const WHAT: &str = "vnode.json";
/// Limits of the server's own CREATE DATABASE options (TSDB_PAGESIZE in KiB, MAXROWS).
const PAGE_SIZES: std::ops::RangeInclusive<i64> = 1024..=16 * 1024 * 1024;
const MAX_ROWS: std::ops::RangeInclusive<i64> = 1..=10_000_000;

impl VnodeJson {
    /// Parses the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let File { config, state } = json::parse(WHAT, bytes)?;
        let wrong = |what: &str, value: i64| {
            Err(FormatError::corrupt(
                WHAT,
                0,
                format!("{what} is {value}, which no server writes"),
            ))
        };
        let page_size = config.page_size.unwrap_or(4096);
        if !PAGE_SIZES.contains(&page_size) {
            return wrong("tsdbPageSize", page_size);
        }
        let meta_page_size = config.meta_page_size.unwrap_or(4096);
        if !PAGE_SIZES.contains(&meta_page_size) {
            return wrong("szPage", meta_page_size);
        }
        if !MAX_ROWS.contains(&config.max_rows) {
            return wrong("maxRows", config.max_rows);
        }
        // Far above the server's limit of 10 years; keeps key arithmetic in range.
        if !(1..=100_000_000).contains(&config.minutes_per_file) {
            return wrong("daysPerFile", config.minutes_per_file);
        }
        if config.hash_begin > config.hash_end {
            return wrong("hashBegin", config.hash_begin);
        }
        let precision = match config.precision {
            0 => Precision::Milliseconds,
            1 => Precision::Microseconds,
            2 => Precision::Nanoseconds,
            other => return wrong("precision", other),
        };
        // The file counts the database's name and a point with it, as names of tables are hashed with them in front.
        let mut options = config.options;
        let named = config.dbname.len() as i64 + 1;
        options.table_prefix = options
            .table_prefix
            .map(|stored| stored.saturating_sub(named * stored.signum()));
        let database = match config.dbname.split_once('.') {
            Some((account, name)) if account.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
            _ => config.dbname,
        };
        Ok(Self {
            vgroup: VgId(config.vgroup),
            database,
            db_id: DbId(config.db_id),
            precision,
            minutes_per_file: config.minutes_per_file,
            page_size: page_size as usize,
            meta_page_size: meta_page_size as usize,
            max_rows: config.max_rows as usize,
            tsdb_encrypted: config.tsdb_encryption.unwrap_or(0) != 0,
            meta_encrypted: config.meta_encryption.unwrap_or(0) != 0,
            wal_encrypted: config.wal_encryption.unwrap_or(0) != 0,
            wal_level: config.wal_level,
            replicas: config.replicas.unwrap_or(1),
            cluster: config
                .nodes
                .iter()
                .find_map(|node| node.cluster.filter(|id| *id != 0))
                .map(|id| id.to_string()),
            hash_range: (config.hash_begin, config.hash_end),
            committed: Version(state.committed),
            commit_id: state.commit_id.unwrap_or(0),
            options,
        })
    }

    /// The most records of an index entry: at most MAXROWS, but no less than a server's own 256 or 4096.
    pub fn max_records(&self) -> usize {
        self.max_rows.max(4096)
    }

    /// The ticks in `minutes_per_file`.
    fn ticks_per_file(&self) -> i128 {
        i128::from(self.minutes_per_file) * 60 * i128::from(self.precision.ticks_per_second())
    }

    /// The file set that holds a key.
    pub fn file_set_of(&self, key: Key) -> FileSetId {
        let fid = i128::from(key.0).div_euclid(self.ticks_per_file());
        FileSetId(fid.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
    }

    /// The keys that file set `fid` can hold: `[fid·m, (fid+1)·m − 1]`, m = ticks in `minutes_per_file`.
    pub fn key_range(&self, fid: FileSetId) -> KeySpan {
        let length = self.ticks_per_file();
        let clamp = |key: i128| Key(key.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
        let first = i128::from(fid.0) * length;
        KeySpan {
            first: clamp(first),
            last: clamp(first + length - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(changes: &[(&str, &str)]) -> String {
        let mut text = r#"{"config":{"vgId":"2","dbname":"1.my.db","dbId":"9","precision":"1","maxRows":"4096",
            "daysPerFile":"14400","wal.level":"1","hashBegin":"0","hashEnd":"10","later key":[1]},
            "state":{"commit version":"25","commit ID":"2"}}"#
            .to_owned();
        for (from, to) in changes {
            assert!(text.contains(from));
            text = text.replace(from, to);
        }
        text
    }

    #[test]
    fn options_that_older_servers_leave_out_have_the_servers_defaults() {
        let parsed = VnodeJson::parse(text(&[]).as_bytes()).unwrap();
        assert_eq!(
            (parsed.page_size, parsed.meta_page_size, parsed.replicas),
            (4096, 4096, 1)
        );
        assert_eq!(
            (parsed.tsdb_encrypted, parsed.meta_encrypted),
            (false, false)
        );
        assert_eq!(
            (parsed.database.as_str(), parsed.committed),
            ("my.db", Version(25))
        );
    }

    #[test]
    fn the_cluster_is_told_where_the_file_says_it() {
        assert_eq!(
            VnodeJson::parse(text(&[]).as_bytes()).unwrap().cluster,
            None
        );
        let nodes = r#""precision":"1","syncCfg.nodeInfo":[{"nodeId":"1","clusterId":"0"},{"clusterId":"-7"}]"#;
        let text = text(&[(r#""precision":"1""#, nodes)]);
        let parsed = VnodeJson::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.cluster.as_deref(), Some("-7"));
    }

    #[test]
    fn a_table_prefix_is_told_as_it_was_given() {
        // The name with its account has 7 bytes.
        for (stored, given) in [("10", 2), ("-10", -2), ("0", 0)] {
            let with = format!(r#""precision":"1","hashPrefix":"{stored}""#);
            let text = text(&[(r#""precision":"1""#, &with)]);
            let parsed = VnodeJson::parse(text.as_bytes()).unwrap();
            assert_eq!(parsed.options.table_prefix, Some(given));
            assert_eq!(parsed.options.table_suffix, None);
        }
    }

    #[test]
    fn values_no_server_writes_are_refused_by_name() {
        for (from, to, name) in [
            (r#""precision":"1""#, r#""precision":"3""#, "precision"),
            (r#""maxRows":"4096""#, r#""maxRows":"0""#, "maxRows"),
            (
                r#""daysPerFile":"14400""#,
                r#""daysPerFile":"-1""#,
                "daysPerFile",
            ),
            (r#""vgId":"2""#, r#""vgId":"99999999999""#, "out of range"),
            (
                r#""commit version":"25""#,
                r#""commit version":"x""#,
                "not a number",
            ),
        ] {
            let error = VnodeJson::parse(text(&[(from, to)]).as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_file_set_before_the_epoch_ends_where_the_next_begins() {
        let vnode = VnodeJson::parse(text(&[]).as_bytes()).unwrap();
        let length = 14_400 * 60 * 1_000_000;
        assert_eq!(
            vnode.key_range(FileSetId(-1)),
            KeySpan {
                first: Key(-length),
                last: Key(-1)
            }
        );
        assert_eq!(vnode.key_range(FileSetId(0)).first, Key(0));
    }
}
