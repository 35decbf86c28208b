//! Changes from the write-ahead log.
//!
//! The newest segment may end in a record that is being written: reading stops there and the next scan goes
//! on. Anything wrong in an older segment is damage. A record this build can't take apart makes the whole
//! vgroup dirty, unless the committed files hold its rows anyway.

use crate::{
    CaptureError, Change, ChangeSource, Coverage, Reason, ReasonCode, RowChange, TableChange,
    VnodeDir,
    retry::{ATTEMPTS, pause},
    table_names::TableNames,
};
use model::{KeySpan, Suid, TableId, Version};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};
use tdfiles::{
    FormatError,
    vnode_json::VnodeJson,
    wal::{Message, Opaque, Record, SegmentEnd, SegmentName, SegmentReader},
};

/// The log of one vnode.
#[derive(Debug)]
pub struct WalSource {
    dir: PathBuf,
    /// The one before the first of `segments`, if a request in there may have been under way together with one after
    /// the start.
    before: Option<Segment>,
    segments: Vec<Segment>,
    encrypted: bool,
    /// Rows and deletes up to this version come from somewhere else; of older records only changes to tables
    /// are yielded.
    rows_after: Version,
    /// The last version that no replica can roll back; `None` with a single replica, where all are final.
    final_version: Option<Version>,
    /// What the committed files hold: the log must reach at least as far, or part of it is missing.
    committed: Version,
    /// Whether the committed files say when they were last compacted.
    compactions_show: bool,
    newest: Version,
    /// Whether the last scan had to stop before the end of the log.
    cut_short: bool,
}

#[derive(Debug)]
struct Segment {
    name: SegmentName,
    path: PathBuf,
    file: File,
}

impl WalSource {
    /// Opens the segments that can hold something later than `since`. `vnode` is the configuration;
    /// `rows_after` is `since`, or the committed version where the committed files are read as well.
    pub fn open(
        dir: &VnodeDir,
        vnode: &VnodeJson,
        since: Version,
        rows_after: Version,
    ) -> Result<Self, CaptureError> {
        let wal = dir.wal();
        for attempt in 0..ATTEMPTS {
            match open_all(&wal, vnode, since) {
                Ok(((before, segments), final_version)) => {
                    return Ok(Self {
                        dir: wal,
                        before,
                        segments,
                        encrypted: vnode.wal_encrypted,
                        rows_after,
                        final_version,
                        committed: vnode.committed,
                        compactions_show: true,
                        newest: Version::BEGINNING,
                        cut_short: false,
                    });
                }
                // A commit ended meanwhile and removed old segments.
                Err(e) if e.is_not_found() && attempt + 1 < ATTEMPTS => pause(attempt),
                Err(e) => return Err(e),
            }
        }
        Err(CaptureError::NeverStable {
            path: wal,
            attempts: ATTEMPTS,
        })
    }

    /// Says that the committed files do not tell of compactions, so that the log's records of them count.
    pub(crate) fn compactions_show(&mut self, show: bool) {
        self.compactions_show = show;
    }

    /// The first version in the opened segments, or the next one to come if they are empty.
    pub(crate) fn first(&self) -> Option<Version> {
        self.segments.first().map(|segment| segment.name.first)
    }

    /// The newest version that the last scan found in the log, wanted or not.
    pub(crate) fn newest(&self) -> Version {
        self.newest
    }

    /// Whether the last scan could not read the log to its end, so that there may be newer versions.
    pub(crate) fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// The version up to which every change was ingested before `time_us` (µs since the epoch, by this
    /// server's clock), so that a scan from there misses nothing that came at or after that time.
    pub fn version_before(&self, time_us: i64, vnode: &VnodeJson) -> Result<Version, CaptureError> {
        let refuse = |problem: String| {
            Err(CaptureError::TimeNotCovered {
                vgroup: vnode.vgroup,
                problem,
            })
        };
        let Some(segment) = self.segments.first() else {
            return refuse(format!("there is no WAL in {}", self.dir.display()));
        };
        let first = segment.name.first;
        let mut oldest = None;
        let mut next = first;
        for segment in &self.segments {
            // Versions before a gap are the last that are known to be old enough.
            if segment.name.first != next {
                break;
            }
            let mut reader = self.reader(segment)?;
            while let Ok(Record { header, .. }) = reader.next_record() {
                let oldest = *oldest.get_or_insert(header.ingest_us);
                if oldest >= time_us && first > Version(0) {
                    return refuse(format!(
                        "the WAL in {} begins at version {first}, ingested after the given time; older \
                         records are gone",
                        self.dir.display()
                    ));
                }
                if header.ingest_us >= time_us {
                    return Ok(self.no_later_than_final(header.version.previous()));
                }
            }
            next = reader.next_version();
        }
        match oldest {
            Some(_) => Ok(self.no_later_than_final(next.previous())),
            None => refuse(format!("the WAL in {} holds no record", self.dir.display())),
        }
    }

    /// A start that no rollback can take away.
    fn no_later_than_final(&self, version: Version) -> Version {
        self.final_version.map_or(version, |last| last.min(version))
    }

    /// Makes the log's tail survive a crash of the machine. With WAL_LEVEL 1 the server does not wait for the
    /// disk; if a crash took records that were already reported, the server would give their versions to other
    /// requests, and the next scan, which starts after them, would miss those.
    fn make_durable(&self) -> Result<(), CaptureError> {
        for segment in &self.segments {
            match segment.file.sync_data() {
                Ok(()) => {}
                // Nothing to wait for on a read-only copy.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::InvalidInput
                    ) => {}
                Err(e) => return Err(CaptureError::io(&segment.path)(e)),
            }
        }
        Ok(())
    }

    fn reader<'a>(&self, segment: &'a Segment) -> Result<SegmentReader<&'a File>, CaptureError> {
        SegmentReader::new(&segment.file, segment.name, self.encrypted)
            .map_err(CaptureError::format(&segment.path))
    }
}

impl ChangeSource for WalSource {
    fn scan(
        &mut self,
        since: Version,
        sink: &mut dyn FnMut(Change<'_>),
    ) -> Result<Coverage, CaptureError> {
        let mut scan = Scan {
            since,
            rows_after: self.rows_after.max(since),
            reasons: Reasons::default(),
            super_tables: Vec::new(),
            altered: Vec::new(),
            last: since,
            newest: Version::BEGINNING,
            compactions_show: self.compactions_show,
            cut_short: false,
            names: TableNames::default(),
        };
        match self.segments.first() {
            Some(first) if first.name.first > since.next() => scan.missing(
                ReasonCode::WalPruned,
                first.name.first.previous(),
                format!(
                    "the WAL in {} begins at version {}, after the start {since}",
                    self.dir.display(),
                    first.name.first
                ),
            ),
            _ => {}
        }
        if let Some(before) = &self.before {
            scan.learn_names_in(&mut self.reader(before)?);
        }
        for (i, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(i + 1).map(|next| next.name.first);
            let reader = self.reader(segment)?;
            scan.segment(reader, &segment.path, next, self.final_version, sink);
        }
        self.newest = scan.newest;
        self.cut_short = scan.cut_short;
        if scan.newest < self.committed && since < self.committed {
            scan.missing(
                ReasonCode::WalPruned,
                self.committed,
                format!(
                    "the WAL in {} does not reach version {}, which is committed (with WAL_LEVEL 0 none is kept)",
                    self.dir.display(),
                    self.committed
                ),
            );
        }
        if scan.last > self.committed {
            self.make_durable()?;
        }
        Ok(scan.finish())
    }
}

/// The state of one pass over the log.
struct Scan {
    since: Version,
    rows_after: Version,
    reasons: Reasons,
    super_tables: Vec<String>,
    altered: Vec<String>,
    last: Version,
    newest: Version,
    compactions_show: bool,
    cut_short: bool,
    names: TableNames,
}

impl Scan {
    fn segment(
        &mut self,
        mut reader: SegmentReader<&File>,
        path: &Path,
        next: Option<Version>,
        final_version: Option<Version>,
        sink: &mut dyn FnMut(Change<'_>),
    ) {
        let mut unconfirmed = false;
        let end = loop {
            match reader.next_record() {
                Ok(record) if final_version.is_some_and(|last| record.header.version > last) => {
                    unconfirmed = true;
                }
                Ok(record) => self.record(record, path, sink),
                Err(end) => break end,
            }
        };
        if unconfirmed {
            let text = "records that the other replicas have not confirmed were left out";
            self.reasons
                .add(ReasonCode::TailNotCommitted, None, text.to_owned());
        }
        let stopped_at = reader.next_version();
        self.newest = self.newest.max(stopped_at.previous());
        self.cut_short |= next.is_none() && !matches!(end, SegmentEnd::Clean);
        let place = path.display();
        match (end, next) {
            (SegmentEnd::Clean, None) => {}
            (SegmentEnd::Clean, Some(next)) if next == stopped_at => {}
            (SegmentEnd::Clean, Some(next)) => self.missing(
                ReasonCode::WalGap,
                next.previous(),
                format!("{place} ends before version {stopped_at}, the next segment begins at {next}"),
            ),
            (SegmentEnd::Short { offset }, None) => self.reasons.add(
                ReasonCode::TailNotCovered,
                None,
                format!("{place}: the record at offset {offset} is not complete; it belongs to the next run"),
            ),
            (SegmentEnd::Bad(error), None) => self.reasons.add(
                ReasonCode::WalCorrupt,
                None,
                format!("{place}: {error}; changes from version {stopped_at} on were left out"),
            ),
            (SegmentEnd::Short { offset }, Some(next)) => self.missing(
                ReasonCode::WalCorrupt,
                next.previous(),
                format!("{place}: the record at offset {offset} is cut off"),
            ),
            (SegmentEnd::Bad(error), Some(next)) => {
                self.missing(ReasonCode::WalCorrupt, next.previous(), format!("{place}: {error}"));
            }
        }
    }

    /// Records up to and including `last` can't be read. Their rows are in the committed files if those are
    /// read too, and reach that far; what they did to tables stays unknown.
    fn missing(&mut self, code: ReasonCode, last: Version, text: String) {
        self.last = self.last.max(last);
        if last > self.rows_after {
            self.reasons.add(code, Some(KeySpan::ALL), text);
            return;
        }
        if code != ReasonCode::WalPruned {
            self.reasons.add(code, None, text.clone());
        }
        let text =
            format!("{text}: created, dropped and altered tables before that are not listed");
        self.reasons.add(ReasonCode::TablesNotCovered, None, text);
    }

    fn record(&mut self, record: Record<'_>, path: &Path, sink: &mut dyn FnMut(Change<'_>)) {
        let version = record.header.version;
        if version <= self.since {
            return self.learn_names_of(&record);
        }
        self.last = version;
        let rows_wanted = version > self.rows_after;
        let Some(body) = record.body else {
            let range = rows_wanted.then_some(KeySpan::ALL);
            let code = if rows_wanted {
                ReasonCode::WalEncrypted
            } else {
                ReasonCode::TablesNotCovered
            };
            self.reasons.add(
                code,
                range,
                "the WAL is encrypted: only versions and times can be read".to_owned(),
            );
            return;
        };
        match Message::decode(record.header.message_type, body, record.offset) {
            Ok(message) => {
                self.learn_names(&message);
                self.message(message, version, rows_wanted, sink);
            }
            Err(error) => self.not_understood(rows_wanted, format!("{}: {error}", path.display())),
        }
    }

    /// Names in records before the start. What is not understood there concerns nobody.
    fn learn_names_in(&mut self, reader: &mut SegmentReader<&File>) {
        while let Ok(record) = reader.next_record() {
            self.learn_names_of(&record);
        }
    }

    fn learn_names_of(&mut self, record: &Record<'_>) {
        if let Some(body) = record.body
            && let Ok(message) = Message::decode(record.header.message_type, body, record.offset)
        {
            self.learn_names(&message);
        }
    }

    fn learn_names(&mut self, message: &Message<'_>) {
        match message {
            Message::Submit(tables) => {
                for submit in tables {
                    if let Some(created) = &submit.created {
                        self.names.created(created.name.0, submit.table);
                    }
                }
            }
            Message::CreateTables(tables) => {
                for created in tables {
                    let table = TableId {
                        suid: created.suid,
                        uid: created.uid,
                    };
                    self.names.created(created.name.0, table);
                }
            }
            Message::DropTables(tables) => {
                tables
                    .iter()
                    .for_each(|dropped| self.names.dropped(dropped.name.0));
            }
            Message::DropExpired(uids) => self.names.expired(uids),
            Message::DropSuperTable(stable) => self.names.super_table_dropped(stable.suid),
            _ => {}
        }
    }

    fn not_understood(&mut self, rows_wanted: bool, text: String) {
        if rows_wanted {
            self.reasons
                .add(ReasonCode::WalUnknownMessage, Some(KeySpan::ALL), text);
        } else {
            self.reasons.add(ReasonCode::TablesNotCovered, None, text);
        }
    }

    fn message(
        &mut self,
        message: Message<'_>,
        version: Version,
        rows_wanted: bool,
        sink: &mut dyn FnMut(Change<'_>),
    ) {
        let mut table = |change: TableChange<'_>| sink(Change::Table { version, change });
        match message {
            Message::Submit(tables) => {
                for submit in tables {
                    let either = [Some(submit.table), self.names.may_also_be(submit.table)];
                    for id in either.into_iter().flatten() {
                        if let Some(created) = &submit.created {
                            let name = &created.name.to_str();
                            sink(Change::Table {
                                version,
                                change: TableChange::Created { table: id, name },
                            });
                        }
                        if rows_wanted
                            && let Some(rows) = RowChange::from_request(id, version, submit.rows)
                        {
                            sink(Change::Rows(rows));
                        }
                    }
                }
            }
            Message::Delete(delete) if rows_wanted && delete.affected != 0 => {
                for uid in delete.uids {
                    let table = TableId {
                        suid: delete.suid,
                        uid,
                    };
                    sink(Change::Delete {
                        table,
                        span: delete.span,
                        version,
                    });
                }
            }
            Message::Delete(_) => {}
            Message::BatchDelete(batch) => {
                for (name, span) in batch.deletes.iter().filter(|_| rows_wanted) {
                    let name = name.to_str();
                    table(TableChange::DeletedByName {
                        name: &name,
                        span: *span,
                    });
                }
            }
            Message::CreateTables(created) => {
                for created in created {
                    let id = TableId {
                        suid: created.suid,
                        uid: created.uid,
                    };
                    table(TableChange::Created {
                        table: id,
                        name: &created.name.to_str(),
                    });
                }
            }
            Message::DropTables(dropped) => {
                for dropped in dropped {
                    let name = dropped.name.to_str();
                    let (uid, suid) = (dropped.uid, dropped.suid);
                    table(TableChange::Dropped {
                        uid,
                        suid,
                        name: Some(&name),
                    });
                }
            }
            Message::DropExpired(uids) => {
                for uid in uids {
                    table(TableChange::Dropped {
                        uid: Some(uid),
                        suid: Suid(0),
                        name: None,
                    });
                }
            }
            Message::AlterTable(altered) => {
                let name = altered.name.to_str();
                table(if altered.changes_tags() {
                    TableChange::TagsAltered { name: &name }
                } else {
                    TableChange::SchemaAltered { name: &name }
                });
                self.altered.push(name.into_owned());
            }
            Message::CreateSuperTable(stable) => {
                let (suid, name) = (stable.suid, stable.name.to_str());
                table(TableChange::SuperTableCreated { suid, name: &name });
                self.super_tables.push(format!("{name} created"));
            }
            Message::AlterSuperTable(stable) => {
                let (suid, name) = (stable.suid, stable.name.to_str());
                table(TableChange::SuperTableAltered { suid, name: &name });
                self.super_tables.push(format!("{name} altered"));
            }
            Message::DropSuperTable(stable) => {
                let (suid, name) = (stable.suid, stable.name.to_str());
                table(TableChange::SuperTableDropped { suid, name: &name });
                self.super_tables
                    .push(format!("{name} (id {suid}) dropped with all its tables"));
            }
            // Which file sets it removed shows in the committed files, which compaction it was as well where
            // they have the time of the last one.
            Message::Trim | Message::Ignored(_) => {}
            Message::Opaque(Opaque::Compact) if self.compactions_show => {}
            Message::Opaque(Opaque::Compact) => {
                let text = format!(
                    "version {version} compacted files, which may have applied and forgotten deletes"
                );
                self.reasons
                    .add(ReasonCode::FileSetCompacted, Some(KeySpan::ALL), text);
            }
            Message::Opaque(Opaque::HashRangeChanged | Opaque::MembersChanged) => {
                let text = format!("version {version} split the vgroup or changed its members");
                self.reasons
                    .add(ReasonCode::VgroupReshaped, Some(KeySpan::ALL), text);
            }
            Message::Opaque(Opaque::Unknown(number)) => {
                let text = format!("version {version} is a message of unknown type {number}");
                self.not_understood(rows_wanted, text);
            }
        }
    }

    fn finish(mut self) -> Coverage {
        let listed = |names: &[String]| {
            let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > 5 {
                format!("{shown} and {} more", names.len() - 5)
            } else {
                shown
            }
        };
        if !self.super_tables.is_empty() {
            let text = format!("super tables: {}", listed(&self.super_tables));
            self.reasons.add(ReasonCode::SuperTablesChanged, None, text);
        }
        if !self.altered.is_empty() {
            let text = format!(
                "columns, tags or options of tables changed: {}",
                listed(&self.altered)
            );
            self.reasons.add(ReasonCode::TablesAltered, None, text);
        }
        Coverage {
            from: self.since,
            to: self.last,
            reasons: self.reasons.finish(),
        }
    }
}

/// Reasons, one per code and range: a thousand records of one kind make one reason.
#[derive(Default)]
struct Reasons(BTreeMap<(u8, bool), (Reason, u64)>);

impl Reasons {
    fn add(&mut self, code: ReasonCode, range: Option<KeySpan>, text: String) {
        self.0
            .entry((code as u8, range.is_some()))
            .and_modify(|(_, more)| *more += 1)
            .or_insert((Reason { code, text, range }, 0));
    }

    fn finish(self) -> Vec<Reason> {
        self.0
            .into_values()
            .map(|(mut reason, more)| {
                if more > 0 {
                    reason.text += &format!(" (and {more} more of this kind)");
                }
                reason
            })
            .collect()
    }
}

/// The segment before, and those that are needed.
type Opened = (Option<Segment>, Vec<Segment>);

/// Opens the segments, and finds the last version that can't be rolled back; `None` where every record is final.
fn open_all(
    wal: &Path,
    vnode: &VnodeJson,
    since: Version,
) -> Result<(Opened, Option<Version>), CaptureError> {
    let segments = open_segments(wal, since)?;
    let final_version = if vnode.replicas > 1 {
        // What is committed to files can't be rolled back either.
        Some(committed_by_raft(wal)?.max(vnode.committed))
    } else {
        None
    };
    Ok((segments, final_version))
}

/// Requests that a server has under way together are at most so many versions apart: as many as its queue of logged
/// requests holds (TSDB_SYNC_LOG_BUFFER_SIZE).
const UNDER_WAY: i64 = 4096;

/// Opens the segments from the one that can hold `since + 1` on, and the one before if requests in there may have been
/// under way at that time.
fn open_segments(wal: &Path, since: Version) -> Result<Opened, CaptureError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(wal).map_err(CaptureError::io(wal))? {
        let entry = entry.map_err(CaptureError::io(wal))?;
        if let Some(name) = entry.file_name().to_str().and_then(SegmentName::parse) {
            names.push((name, entry.path()));
        }
    }
    names.sort();
    let first_needed = names
        .iter()
        .rposition(|(name, _)| name.first <= since.next())
        .unwrap_or_default();
    let open = |(name, path): &(SegmentName, PathBuf)| {
        let (name, path) = (*name, path.clone());
        let file = File::open(&path).map_err(CaptureError::io(&path))?;
        Ok(Segment { name, path, file })
    };
    let (before, needed) = names.split_at(first_needed);
    let is_near = |first: Version| since.0.saturating_sub(first.0) < UNDER_WAY;
    let before = match (before.last(), needed.first()) {
        (Some(before), Some((needed, _))) if is_near(needed.first) => Some(open(before)?),
        _ => None,
    };
    Ok((before, needed.iter().map(open).collect::<Result<_, _>>()?))
}

#[derive(Deserialize)]
struct MetaVer {
    meta: MetaState,
}

#[derive(Deserialize)]
struct MetaState {
    #[serde(rename = "commitVer")]
    committed: String,
}

/// The version that the replicas agreed on when the log's metadata was last saved: a lower bound.
fn committed_by_raft(wal: &Path) -> Result<Version, CaptureError> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(wal).map_err(CaptureError::io(wal))? {
        let entry = entry.map_err(CaptureError::io(wal))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix("meta-ver"))
            .and_then(|n| n.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(max, _)| number > *max)
        {
            newest = Some((number, entry.path()));
        }
    }
    let Some((_, path)) = newest else {
        return Ok(Version::BEGINNING);
    };
    match fs::read(&path) {
        Ok(bytes) => {
            let committed = serde_json::from_slice::<MetaVer>(&bytes)
                .map_err(|e| e.to_string())
                .and_then(|parsed| {
                    parsed
                        .meta
                        .committed
                        .parse()
                        .map_err(|_| "commitVer".to_owned())
                });
            committed.map(Version).map_err(|detail| {
                let source = FormatError::Corrupt {
                    what: "WAL metadata",
                    offset: 0,
                    detail: detail.into(),
                };
                CaptureError::Format { path, source }
            })
        }
        // If it was replaced by the next one meanwhile, all is opened anew.
        Err(e) => Err(CaptureError::io(path)(e)),
    }
}
