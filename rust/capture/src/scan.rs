//! One vnode, start to end: which source is asked for what, and what the answer is worth.

use crate::{
    CaptureError, Change, Coverage, Reason, ReasonCode, RowView, SourceKind, TsdbSource, VnodeDir,
    WalSource,
    change::Sink,
    log_rows::{InLog, LogRows},
    retry::{ATTEMPTS, pause},
};
use model::{DbId, FileSetId, KeySpan, TableId, Version};
use std::collections::{BTreeMap, BTreeSet};
use tdfiles::{FormatError, vnode_json::VnodeJson};

/// Where a scan starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Changes later than this are wanted.
    pub version: Version,
    /// What the vnode was like then; `None` when only the version is known.
    pub known: Option<KnownVnode>,
}

/// What a later scan holds a vnode against, to notice that it is not the same one any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVnode {
    /// The database.
    pub db_id: DbId,
    /// The vgroup's part of the hash range.
    pub hash_range: (i64, i64),
    /// Its file sets and when each was last compacted (ms since the epoch, 0 for never).
    pub compactions: BTreeMap<FileSetId, i64>,
}

/// Which source to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceChoice {
    /// The committed files, then the log for what is later and for changes to tables.
    Auto,
    /// The committed files only.
    Tsdb,
    /// The log only.
    Wal,
}

/// Which committed files a scan opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// Those with something later than the start. What a commit adds meanwhile may be seen, too.
    Later,
    /// All of them, as they are after one commit and before the next one; and the log, if it is read, from there on.
    OfOneVersion,
}

/// What a scan reads.
struct Opened {
    tsdb: TsdbSource,
    wal: WalSource,
    rows: KeptRows,
}

/// Whether the files that are open tell which rows there are.
enum KeptRows {
    /// They need not.
    NotAsked,
    /// They do, together with these.
    Known(Option<LogRows>),
    /// They do not.
    Unknown,
}

impl Opened {
    fn into_view(self) -> Option<RowView> {
        match self.rows {
            KeptRows::Known(log) => Some(self.tsdb.into_view(log)),
            KeptRows::NotAsked | KeptRows::Unknown => None,
        }
    }
}

/// The outcome of a scan.
#[derive(Debug, Clone)]
pub struct ScanReport {
    /// The vnode's configuration.
    pub vnode: VnodeJson,
    /// What was read.
    pub source: SourceKind,
    /// What is proven.
    pub coverage: Coverage,
    /// What the next scan's start should know.
    pub known: KnownVnode,
}

impl ScanReport {
    /// Whether every change is named exactly; otherwise some ranges are wider, or the end is nearer, than they
    /// should be, and the reasons say why.
    pub fn is_complete(&self) -> bool {
        !self
            .coverage
            .reasons
            .iter()
            .any(|reason| reason.code.is_gap())
    }
}

impl VnodeDir {
    /// Yields every change later than `start`. Changes of the log come before those of the committed files. The first
    /// error of `sink` ends the scan.
    pub fn scan(
        &self,
        start: &Start,
        choice: SourceChoice,
        sink: &mut dyn FnMut(Change<'_>) -> Result<(), FormatError>,
    ) -> Result<ScanReport, CaptureError> {
        let (report, _) = self.scan_files(start, choice, Files::Later, sink)?;
        Ok(report)
    }

    /// Does the same, and gives the rows at the version up to which it says everything; `None` where the files can't tell
    /// for sure which rows these are.
    pub fn scan_and_keep(
        &self,
        start: &Start,
        choice: SourceChoice,
        sink: &mut dyn FnMut(Change<'_>) -> Result<(), FormatError>,
    ) -> Result<(ScanReport, Option<RowView>), CaptureError> {
        let (report, opened) = self.scan_files(start, choice, Files::OfOneVersion, sink)?;
        let to = report.coverage.to;
        let view = opened.into_view().filter(|view| view.version() <= to);
        Ok((report, view))
    }

    /// The rows at the end of the log; `None` where the files can't tell for sure which rows these are.
    pub(crate) fn rows_with_log(&self) -> Result<Option<RowView>, CaptureError> {
        let (choice, files) = (SourceChoice::Auto, Files::OfOneVersion);
        // Of what is committed nothing is looked for in the log.
        let since = Version(i64::MAX);
        Ok(self.open_sources(since, None, choice, files)?.into_view())
    }

    fn scan_files(
        &self,
        start: &Start,
        choice: SourceChoice,
        files: Files,
        sink: &mut dyn FnMut(Change<'_>) -> Result<(), FormatError>,
    ) -> Result<(ScanReport, Opened), CaptureError> {
        let vgroup = self.vgroup;
        let sink: &mut Sink<'_> =
            &mut |change| sink(change).map_err(|source| CaptureError::Rows { vgroup, source });
        let config = self.config()?;
        let mut reasons = Vec::new();
        let since = match replaced(start, &config) {
            None => start.version,
            Some(text) => {
                reasons.push(Reason::widening(
                    ReasonCode::VgroupReplaced,
                    KeySpan::ALL,
                    text,
                ));
                Version::BEGINNING
            }
        };
        if start.known.is_none() && since > Version::BEGINNING {
            reasons.push(Reason::remark(
                ReasonCode::BareVersion,
                "the start is a bare version, so a database created anew, or file sets that went with \
                 retention, can't be noticed; a checkpoint can do that",
            ));
        }
        let known_compactions = start.known.as_ref().map(|known| known.compactions.clone());
        let mut opened = match self.open_sources(since, known_compactions.clone(), choice, files) {
            // What changed may be found without those files that are older than the start.
            Err(
                CaptureError::Io { .. }
                | CaptureError::Format { .. }
                | CaptureError::NeverStable { .. },
            ) if files == Files::OfOneVersion && choice == SourceChoice::Auto => {
                self.open_sources(since, known_compactions, choice, Files::Later)?
            }
            opened => opened?,
        };
        let Opened { tsdb, wal, .. } = &mut opened;
        let committed = tsdb.snapshot().vnode.committed;

        let (source, mut coverage) = match choice {
            SourceChoice::Tsdb => (SourceKind::Tsdb, tsdb.scan(since, sink)?),
            SourceChoice::Wal => (SourceKind::Wal, wal.scan(since, sink)?),
            SourceChoice::Auto => {
                let log = wal.scan(since, sink)?;
                if tsdb.snapshot().vnode.tsdb_encrypted {
                    (SourceKind::Wal, log)
                } else {
                    let files = tsdb.scan(since, sink)?;
                    let reasons = files.reasons.into_iter().chain(log.reasons).collect();
                    let to = files.to.max(log.to);
                    (
                        SourceKind::TsdbAndWal,
                        Coverage {
                            from: since,
                            to,
                            reasons,
                        },
                    )
                }
            }
        };
        if choice == SourceChoice::Tsdb && since > committed {
            // Only the log can tell whether the start is merely not committed yet.
            wal.scan(since, &mut |_| Ok(()))?;
        }
        let newest = committed.max(wal.newest());
        // A log that can't be read to its end may well hold the start; its reason says what is wrong.
        if since > newest && !wal.cut_short() {
            return Err(CaptureError::StartInTheFuture {
                vgroup: self.vgroup,
                since,
                newest,
                path: self.primary.clone(),
            });
        }
        if choice != SourceChoice::Wal
            && let Some(known) = &start.known
        {
            reasons.extend(gone(known, tsdb));
        }
        reasons.append(&mut coverage.reasons);
        coverage.reasons = reasons;
        self.widen(&coverage, sink)?;
        let vnode = tsdb.snapshot().vnode.clone();
        let known = KnownVnode {
            db_id: vnode.db_id,
            hash_range: vnode.hash_range,
            compactions: tsdb.compactions(),
        };
        let report = ScanReport {
            vnode,
            source,
            coverage,
            known,
        };
        Ok((report, opened))
    }

    /// The version up to which everything was ingested before `time_us` (µs since the epoch), by the log.
    pub fn version_before(&self, time_us: i64) -> Result<Version, CaptureError> {
        let config = self.config()?;
        WalSource::open(self, &config, Version::BEGINNING, Version::BEGINNING)?
            .version_before(time_us, &config)
    }

    /// The newest version in the log; [`Version::BEGINNING`] when it holds none.
    pub fn newest_logged(&self) -> Result<Version, CaptureError> {
        let config = self.config()?;
        let mut log = WalSource::open(self, &config, config.committed, config.committed)?;
        log.scan(config.committed, &mut |_| Ok(()))?;
        Ok(log.newest())
    }

    /// How densely tables are filled: for up to `limit` pieces of tables, newest first, the distinct keys in it
    /// and their span.
    pub fn row_density(&self, limit: usize) -> Result<Vec<(u64, KeySpan)>, CaptureError> {
        if self.config()?.tsdb_encrypted {
            return Ok(Vec::new());
        }
        let mut pieces = Vec::new();
        TsdbSource::open(self, Version::BEGINNING, None)?.pieces(&mut |piece| {
            pieces.push((piece.distinct, piece.span));
            pieces.len() < limit
        })?;
        Ok(pieces)
    }

    /// Opens both sources so that they meet: the log begins no later than where the committed files end. A
    /// commit that ends in between can remove the log's part; then both are opened anew.
    fn open_sources(
        &self,
        since: Version,
        compactions: Option<BTreeMap<FileSetId, i64>>,
        choice: SourceChoice,
        files: Files,
    ) -> Result<Opened, CaptureError> {
        let with_log = files == Files::OfOneVersion && choice == SourceChoice::Auto;
        for attempt in 0..ATTEMPTS {
            let files_since = match (choice, files) {
                // Where only the log is asked for, no committed file has to be opened.
                (SourceChoice::Wal, _) => Version(i64::MAX),
                (_, Files::Later) => since,
                (_, Files::OfOneVersion) => Version::BEGINNING,
            };
            let tsdb = TsdbSource::open(self, files_since, compactions.clone())?;
            let vnode = &tsdb.snapshot().vnode;
            if files == Files::OfOneVersion && !tsdb.snapshot().is_exact(self)? {
                pause(attempt);
                continue;
            }
            let rows_after = match choice {
                SourceChoice::Auto if !vnode.tsdb_encrypted => vnode.committed.max(since),
                _ => since,
            };
            // Rows are in the files or in the log, whatever the start is.
            let log_since = if with_log {
                since.min(vnode.committed)
            } else {
                since
            };
            let mut wal = WalSource::open(self, vnode, log_since, rows_after)?;
            wal.compactions_show(tsdb.compactions_show());
            let begins = if with_log {
                vnode.committed
            } else {
                vnode.committed.max(since)
            };
            let meet = wal.first().is_none_or(|first| first <= begins.next());
            if meet || self.config()?.committed == vnode.committed {
                let rows = match (files, choice) {
                    (Files::Later, _) => Some(KeptRows::NotAsked),
                    (Files::OfOneVersion, SourceChoice::Auto) => self.kept_rows(&tsdb, &wal)?,
                    (Files::OfOneVersion, SourceChoice::Tsdb) => Some(KeptRows::Known(None)),
                    (Files::OfOneVersion, SourceChoice::Wal) => Some(KeptRows::Unknown),
                };
                if let Some(rows) = rows {
                    return Ok(Opened { tsdb, wal, rows });
                }
            }
            pause(attempt);
        }
        Err(CaptureError::NeverStable {
            path: self.primary.clone(),
            attempts: ATTEMPTS,
        })
    }

    /// The rows that only the log has; `None` if the vnode was committed meanwhile.
    fn kept_rows(
        &self,
        tsdb: &TsdbSource,
        wal: &WalSource,
    ) -> Result<Option<KeptRows>, CaptureError> {
        let vnode = &tsdb.snapshot().vnode;
        if vnode.tsdb_encrypted {
            return Ok(Some(KeptRows::Unknown));
        }
        Ok(match LogRows::read(self, wal, vnode)? {
            InLog::Rows(log) => Some(KeptRows::Known(Some(log))),
            InLog::Unknown => Some(KeptRows::Unknown),
            InLog::Committed => None,
        })
    }

    /// Reports the ranges that are dirty as a whole for every table that has rows on disk. Tables without any
    /// are covered by the reason alone.
    fn widen(&self, coverage: &Coverage, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        // Unreadable rows name their tables themselves; in a file set that is gone no table has rows.
        let names_no_tables = |reason: &&Reason| {
            !matches!(
                reason.code,
                ReasonCode::UnreadableRows | ReasonCode::FileSetGone
            )
        };
        let ranges = coverage
            .reasons
            .iter()
            .filter(names_no_tables)
            .filter_map(|r| r.range);
        let ranges = KeySpan::joined(ranges.collect());
        if ranges.is_empty() {
            return Ok(());
        }
        let everything = TsdbSource::open(self, Version::BEGINNING, None)?;
        let mut tables: BTreeSet<TableId> = BTreeSet::new();
        everything.pieces(&mut |piece| {
            tables.insert(piece.table);
            true
        })?;
        for span in ranges {
            for table in &tables {
                sink(Change::Unknown {
                    table: *table,
                    span,
                    version: coverage.to,
                })?;
            }
        }
        Ok(())
    }
}

/// Why the vnode is not the one the start was taken from, if it is not.
fn replaced(start: &Start, config: &VnodeJson) -> Option<String> {
    let known = start.known.as_ref()?;
    if known.db_id != config.db_id {
        Some(format!(
            "the start is of database id {}, the vnode now is of {}: the database was dropped and created again",
            known.db_id, config.db_id
        ))
    } else if known.hash_range != config.hash_range {
        Some("the vgroup's hash range is not what it was at the start: it was split".to_owned())
    } else {
        None
    }
}

/// File sets that the start knows and the vnode has no more.
fn gone(known: &KnownVnode, tsdb: &TsdbSource) -> Vec<Reason> {
    let now = tsdb.compactions();
    known
        .compactions
        .keys()
        .filter(|fid| !now.contains_key(fid))
        .map(|fid| {
            Reason::widening(
                ReasonCode::FileSetGone,
                tsdb.snapshot().vnode.key_range(*fid),
                format!("file set {fid} is gone, as file sets past the database's KEEP are"),
            )
        })
        .collect()
}
