//! Changes from the write-ahead log.
//!
//! The newest segment may end in a record that is being written: reading stops there and the next scan goes
//! on. Anything wrong in an older segment is damage. A record this build can't take apart makes the whole
//! vgroup dirty, unless the committed files hold its rows anyway.

use crate::{
    CaptureError, Change, Coverage, ReasonCode, VnodeDir,
    retry::{ATTEMPTS, pause},
    wal_scan::Scan,
    wal_segments::{Segment, open_all},
};
use model::Version;
use std::{fs::File, io, path::PathBuf};
use tdfiles::{
    Beginning,
    vnode_json::VnodeJson,
    wal::{Record, SegmentEnd, SegmentReader},
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
            match open_all(&wal, vnode, dir.agreed, since) {
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

    /// The opened segments.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Calls `each` with every record later than `after` that no replica can roll back, each with the number of its segment,
    /// and tells whether these are all that there are: from there on without a gap up to the end of the log, where a record
    /// may be cut off. `each` may end it by `false`, which it tells as well.
    pub(crate) fn each_record(
        &self,
        after: Version,
        each: &mut dyn FnMut(usize, &Record<'_>) -> bool,
    ) -> Result<bool, CaptureError> {
        let holds_next = |segment: &Segment| segment.name.first <= after.next();
        let Some(from) = self.segments.iter().rposition(holds_next) else {
            return Ok(false);
        };
        for (i, segment) in self.segments.iter().enumerate().skip(from) {
            let mut reader = self.reader(segment)?;
            let end = loop {
                match reader.next_record() {
                    Ok(record) => {
                        let version = record.header.version;
                        let wanted = version > after
                            && self.final_version.is_none_or(|last| version <= last);
                        if wanted && !each(i, &record) {
                            return Ok(false);
                        }
                    }
                    Err(end) => break end,
                }
            };
            let next = self.segments.get(i + 1);
            let follows = next.is_none_or(|next| {
                matches!(end, SegmentEnd::Clean) && next.name.first == reader.next_version()
            });
            if !follows {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the log's tail survive a crash of the machine. With WAL_LEVEL 1 the server does not wait for the
    /// disk; if a crash took records that were already reported, the server would give their versions to other
    /// requests, and the next scan, which starts after them, would miss those.
    fn make_durable(&self) -> Result<(), CaptureError> {
        for segment in &self.segments {
            match segment.file.sync_data() {
                Ok(()) => {}
                // A read-only copy can't be synced and needs no syncing.
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

    fn reader<'a>(
        &self,
        segment: &'a Segment,
    ) -> Result<SegmentReader<Beginning<&'a File>>, CaptureError> {
        SegmentReader::new(segment.bytes(), segment.name, self.encrypted)
            .map_err(CaptureError::format(&segment.path))
    }

    /// Calls `sink` with every change later than `since` and returns what is proven about them. The first error of
    /// `sink` ends the scan.
    pub fn scan(
        &mut self,
        since: Version,
        sink: &mut dyn FnMut(Change<'_>) -> Result<(), CaptureError>,
    ) -> Result<Coverage, CaptureError> {
        let mut scan = Scan::new(since, self.rows_after, self.compactions_show);
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
            scan.segment(reader, &segment.path, next, self.final_version, sink)?;
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
