//! Finding vnodes and their files in one or more data directories (tiers).

use crate::CaptureError;
use model::VgId;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use tdfiles::{FormatError, vnode_json::VnodeJson, vnodes_json::VnodesJson};

/// The data directories of one server, as in `dataDir` of its taos.cfg.
#[derive(Debug, Clone)]
pub struct DataDirs {
    dirs: Vec<PathBuf>,
}

/// The directories of one vnode: the primary one with WAL and metadata, and its TSDB directories on every tier.
#[derive(Debug, Clone)]
pub struct VnodeDir {
    /// The vgroup it serves.
    pub vgroup: VgId,
    /// `…/vnode/vnode<N>`, where `vnode.json` is.
    pub primary: PathBuf,
    /// `…/vnode/vnode<N>/tsdb` in every data directory that has one, the primary one first.
    pub tsdb: Vec<PathBuf>,
}

impl DataDirs {
    /// Takes the directories; each must hold a `vnode` directory.
    pub fn new(dirs: Vec<PathBuf>) -> Result<Self, CaptureError> {
        for dir in &dirs {
            let not = |problem: &str| {
                Err(CaptureError::NotADataDir {
                    path: dir.clone(),
                    problem: problem.to_owned(),
                })
            };
            match fs::metadata(dir) {
                Ok(meta) if !meta.is_dir() => return not("not a directory"),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return not("no such directory"),
                Err(e) => return Err(CaptureError::io(dir)(e)),
            }
            match fs::metadata(dir.join("vnode")) {
                Ok(meta) if meta.is_dir() => {}
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(CaptureError::io(dir.join("vnode"))(e));
                }
                _ => return not("no vnode directory in it"),
            }
        }
        Ok(Self { dirs })
    }

    /// The vnodes in them, ascending by vgroup. Those that the server is about to drop are left out.
    pub fn vnodes(&self) -> Result<Vec<VnodeDir>, CaptureError> {
        let mut primary: BTreeMap<VgId, PathBuf> = BTreeMap::new();
        let mut tsdb: BTreeMap<VgId, Vec<PathBuf>> = BTreeMap::new();
        let mut known: Option<VnodesJson> = None;
        for dir in &self.dirs {
            let root = dir.join("vnode");
            if let Some(file) = vnodes_json(&root.join("vnodes.json"))? {
                let known = known.get_or_insert_default();
                known.live.extend(file.live);
                known.dropped.extend(file.dropped);
            }
            for entry in fs::read_dir(&root).map_err(CaptureError::io(&root))? {
                let path = entry.map_err(CaptureError::io(&root))?.path();
                let Some(vgroup) = vgroup_of(&path) else {
                    continue;
                };
                if exists(&path.join("vnode.json"))? {
                    if let Some(other) = primary.insert(vgroup, path.clone()) {
                        return Err(CaptureError::SameVnodeTwice {
                            first: other,
                            second: path,
                        });
                    }
                    tsdb.entry(vgroup).or_default().insert(0, path.join("tsdb"));
                } else {
                    tsdb.entry(vgroup).or_default().push(path.join("tsdb"));
                }
            }
        }
        let is_dropped = |vgroup: &VgId| {
            known
                .as_ref()
                .is_some_and(|known| known.dropped.contains(vgroup))
        };
        // One that the server does not count among its vnodes is being created or removed, or a leftover.
        let must_be_there = |vgroup: &VgId| {
            known
                .as_ref()
                .is_none_or(|known| known.live.contains(vgroup))
        };
        let mut vnodes = Vec::new();
        for (vgroup, tsdb) in tsdb.into_iter().filter(|(vgroup, _)| !is_dropped(vgroup)) {
            match primary.remove(&vgroup) {
                Some(primary) => vnodes.push(VnodeDir {
                    vgroup,
                    primary,
                    tsdb,
                }),
                None if must_be_there(&vgroup) => {
                    let path = tsdb
                        .first()
                        .and_then(|dir| dir.parent())
                        .unwrap_or(Path::new(""));
                    return Err(CaptureError::NotAVnode { path: path.into() });
                }
                None => {}
            }
        }
        Ok(vnodes)
    }
}

impl VnodeDir {
    /// Whether the vnode went away since it was found.
    pub fn is_gone(&self) -> bool {
        matches!(self.primary.join("vnode.json").try_exists(), Ok(false))
    }

    /// Reads `vnode.json`.
    pub fn config(&self) -> Result<VnodeJson, CaptureError> {
        let path = self.primary.join("vnode.json");
        let config = read(&path)
            .and_then(|bytes| VnodeJson::parse(&bytes).map_err(CaptureError::format(&path)))?;
        if config.vgroup != self.vgroup {
            let detail = format!("it is of vgroup {}", config.vgroup).into();
            let source = FormatError::Corrupt {
                what: "vnode.json",
                offset: 0,
                detail,
            };
            return Err(CaptureError::Format { path, source });
        }
        Ok(config)
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.primary.join("wal")
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CaptureError> {
    fs::read(path).map_err(CaptureError::io(path))
}

pub(crate) fn exists(path: &Path) -> Result<bool, CaptureError> {
    path.try_exists().map_err(CaptureError::io(path))
}

/// `vnode12` is of vgroup 12.
fn vgroup_of(path: &Path) -> Option<VgId> {
    let digits = path.file_name()?.to_str()?.strip_prefix("vnode")?;
    (digits.bytes().all(|b| b.is_ascii_digit()) && path.is_dir())
        .then(|| digits.parse().ok().map(VgId))
        .flatten()
}

/// `vnodes.json`, where there is one.
fn vnodes_json(path: &Path) -> Result<Option<VnodesJson>, CaptureError> {
    match fs::read(path) {
        Ok(bytes) => VnodesJson::parse(&bytes)
            .map(Some)
            .map_err(CaptureError::format(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(CaptureError::io(path)(e)),
    }
}
