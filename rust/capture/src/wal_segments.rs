//! The segments of a vnode's log: which of them a scan needs, and up to where their records are final.

use crate::CaptureError;
use model::Version;
use serde::Deserialize;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tdfiles::{Beginning, FormatError, vnode_json::VnodeJson, wal::SegmentName};

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// How long it was when it was opened. What is appended later is left for the next reader, so that everything that is
    /// read of a log is of one and the same moment.
    pub(crate) size: u64,
}

impl Segment {
    /// Its bytes at the moment when it was opened.
    pub(crate) fn bytes(&self) -> Beginning<&File> {
        Beginning::new(&self.file, self.size)
    }
}

/// The segment before, and those that are needed.
pub(crate) type Opened = (Option<Segment>, Vec<Segment>);

/// Opens the segments, and finds the last version that can't be rolled back; `None` where every record is final.
pub(crate) fn open_all(
    wal: &Path,
    vnode: &VnodeJson,
    agreed: Option<Version>,
    since: Version,
) -> Result<(Opened, Option<Version>), CaptureError> {
    let segments = open_segments(wal, since)?;
    let final_version = if vnode.replicas > 1 {
        // What is committed to files can't be rolled back either.
        let known = committed_by_raft(wal)?.max(vnode.committed);
        Some(agreed.map_or(known, |agreed| agreed.max(known)))
    } else {
        None
    };
    Ok((segments, final_version))
}

/// Requests that a server has under way together are at most so many versions apart: as many as its queue of logged
/// requests holds (TSDB_SYNC_LOG_BUFFER_SIZE).
const UNDER_WAY: i64 = 4096;

/// The segments that there are, in their order.
pub(crate) fn segment_names(wal: &Path) -> Result<Vec<(SegmentName, PathBuf)>, CaptureError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(wal).map_err(CaptureError::io(wal))? {
        let entry = entry.map_err(CaptureError::io(wal))?;
        if let Some(name) = entry.file_name().to_str().and_then(SegmentName::parse) {
            names.push((name, entry.path()));
        }
    }
    names.sort();
    Ok(names)
}

/// Opens the segments from the one that can hold `since + 1` on, and the one before if requests in there may have been
/// under way at that time.
fn open_segments(wal: &Path, since: Version) -> Result<Opened, CaptureError> {
    let names = segment_names(wal)?;
    let first_needed = names
        .iter()
        .rposition(|(name, _)| name.first <= since.next())
        .unwrap_or_default();
    let open = |(name, path): &(SegmentName, PathBuf)| {
        let (name, path) = (*name, path.clone());
        let file = File::open(&path).map_err(CaptureError::io(&path))?;
        let size = file.metadata().map_err(CaptureError::io(&path))?.len();
        Ok(Segment {
            name,
            path,
            file,
            size,
        })
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
        // If the server has replaced the file meanwhile, the caller opens everything anew.
        Err(e) => Err(CaptureError::io(path)(e)),
    }
}
