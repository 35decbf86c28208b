//! Finding vnodes and their files in one or more data directories (tiers).

use crate::CaptureError;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use tdfiles::{FormatError, VgId, vnode_json::VnodeJson, vnodes_json};

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
        let mut dropped = Vec::new();
        for dir in &self.dirs {
            let root = dir.join("vnode");
            dropped.extend(dropped_vnodes(&root.join("vnodes.json"))?);
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
        tsdb.into_iter()
            .filter(|(vgroup, _)| !dropped.contains(vgroup))
            .map(|(vgroup, tsdb)| match primary.remove(&vgroup) {
                Some(primary) => Ok(VnodeDir {
                    vgroup,
                    primary,
                    tsdb,
                }),
                None => {
                    let path = tsdb
                        .first()
                        .and_then(|dir| dir.parent())
                        .unwrap_or(Path::new(""));
                    Err(CaptureError::NotAVnode { path: path.into() })
                }
            })
            .collect()
    }
}

impl VnodeDir {
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

/// The vnodes that `vnodes.json` marks as dropped; none where there is no such file.
fn dropped_vnodes(path: &Path) -> Result<Vec<VgId>, CaptureError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(CaptureError::io(path)(e)),
    };
    vnodes_json::dropped(&bytes).map_err(CaptureError::format(path))
}
